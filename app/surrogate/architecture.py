"""What a convolutional recurrent network consists of: its layers, their order, their parameters, how far a step reaches.

Blocks of gated recurrent units whose maps are convolutions follow one another: block 0 sees φ and one constant channel for
each parameter, each further block the hidden state of the one before; a head turns the last hidden state into what φ changes by.

Cell "deep" (Lanzoni et al., Mach. Learn.: Sci. Technol. 5 (2024) 045017), x input of the block, h its hidden state, C channels:

    (a_r, a_z, a_n) = mix(tanh(conv(x)))      conv: kernel k; mix: kernel 1; both of A give 3 C channels,
    (b_r, b_z)      = mix(tanh(conv(h)))      of B 2 C,
    c(y)            = mix(tanh(conv(y)))      of the candidate C
    r = σ(a_r + b_r)    z = σ(a_z + b_z)    n = tanh(a_n + c(r h))    h' = (1 - z) n + z h

Cell "gru" (Lanzoni, thesis, section 7.1): one convolution gives both gates, [·, ·] puts channels side by side:

    (z, r) = σ(conv([h, x]))    n = tanh(conv([r h, x]))    h' = (1 - z) h + z n

The head has, for "deep", two layers of kernel 1 with tanh and one of kernel k; for "gru", one of kernel k with tanh and
one of kernel k. What it gives, u, is turned into the next field by

    "flux"             φ' = φ + Σ_a (u_a[i - 1] - u_a[i + 1])       a component for each axis; centred differences
    "staggered-flux"   φ' = φ + Σ_a (u_a[i - 1] - u_a[i])           u_a[i] is the flux from point i to the next along axis a
    "potential"        φ' = φ + ∇²u                                  of nearest neighbours
    "sigmoid"          φ' = σ(u)                                     does not conserve the mean of φ
    "allen-cahn"       φ' = φ + u                                    a change that conserves nothing

Centred differences leave the mean of φ on each of the 2^d sub-lattices of every second point (of an even grid) as it is; the others
only that of the whole. Paddings: "circular": periodic. "reflect": walls half a spacing behind the last points, where what
lies before them is repeated; "zero": the same walls, zeros behind them. No flux goes through a wall.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import NamedTuple

CELLS = ("deep", "gru")
HEADS = ("flux", "staggered-flux", "potential", "sigmoid", "allen-cahn")
CONSERVING = HEADS[:3]
PADDINGS = ("circular", "reflect", "zero")


class Layer(NamedTuple):
    """A convolution with bias. Its parameters are the arrays <name>.weight (outputs, inputs, kernel, …) and <name>.bias
    (outputs,). activation: "tanh", or "none" where the cell or the head goes on by itself."""

    name: str
    inputs: int
    outputs: int
    kernel: int
    activation: str


@dataclass(frozen=True)
class Architecture:
    """dimensions: of space. blocks, channels (of each hidden state), kernel (points along an axis, odd). parameters: names of
    the parameters that follow φ among the inputs. ValueError where it is none."""

    dimensions: int
    blocks: int
    channels: int
    kernel: int
    cell: str = "deep"
    head: str = "flux"
    parameters: tuple[str, ...] = ()
    padding: str = "circular"

    def __post_init__(self):
        object.__setattr__(self, "parameters", tuple(self.parameters))
        for name, choices in (("dimensions", (2, 3)), ("cell", CELLS), ("head", HEADS), ("padding", PADDINGS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is one of {', '.join(map(str, choices))}, not {getattr(self, name)!r}")
        for name in ("blocks", "channels", "kernel"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name} is a whole number from 1 on, not {getattr(self, name)!r}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is odd, not {self.kernel}")
        if len(set(self.parameters)) < len(self.parameters):
            raise ValueError(f"parameters: a name stands twice among {', '.join(self.parameters)}")

    @property
    def inputs(self) -> int:
        """Channels that block 0 sees: φ and the parameters."""
        return 1 + len(self.parameters)

    @property
    def outputs(self) -> int:
        """Channels of the head."""
        return self.dimensions if self.head in ("flux", "staggered-flux") else 1

    def layers(self) -> list[Layer]:
        """All convolutions, in the order in which they are applied and their parameters are kept."""
        c, k, found = self.channels, self.kernel, []
        for block in range(self.blocks):
            x, name = (self.inputs if block == 0 else c), f"block{block}"
            if self.cell == "deep":
                for part, inputs, width in (("input", x, 3 * c), ("hidden", c, 2 * c), ("candidate", c, c)):
                    found.append(Layer(f"{name}.{part}", inputs, width, k, "tanh"))
                    found.append(Layer(f"{name}.{part}.mix", width, width, 1, "none"))
            else:
                found.append(Layer(f"{name}.gates", c + x, 2 * c, k, "none"))
                found.append(Layer(f"{name}.candidate", c + x, c, k, "none"))
        kernels = (1, 1) if self.cell == "deep" else (k,)
        found += [Layer(f"head.{n}", c, c, size, "tanh") for n, size in enumerate(kernels)]
        found.append(Layer("head.output", c, self.outputs, k, "none"))
        return found

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all arrays of parameters, in their order."""
        found = {}
        for layer in self.layers():
            found[f"{layer.name}.weight"] = (layer.outputs, layer.inputs, *(layer.kernel,) * self.dimensions)
            found[f"{layer.name}.bias"] = (layer.outputs,)
        return found

    @property
    def count(self) -> int:
        """Numbers that are trained."""
        return sum(layer.outputs * (layer.inputs * layer.kernel**self.dimensions + 1) for layer in self.layers())

    @property
    def operations(self) -> int:
        """Floating-point operations of the convolutions for one point and one step: two for each weight."""
        return sum(2 * layer.outputs * layer.inputs * layer.kernel**self.dimensions for layer in self.layers())

    @property
    def halo(self) -> tuple[int, ...]:
        """How many points away φ, then the hidden state of each block, matter for φ after one step."""
        radius = self.kernel // 2
        head = radius * sum(layer.kernel > 1 for layer in self.layers() if layer.name.startswith("head"))
        reach = head + (self.head in CONSERVING)
        states = [reach + 2 * radius * (self.blocks - block) for block in range(self.blocks)]
        return (states[0], *states)

    def check(self, arrays) -> None:
        """ValueError unless arrays (name -> array) are the parameters of this network."""
        for name, shape in self.shapes().items():
            if name not in arrays:
                raise ValueError(f"parameters of another network: it has no {name}")
            if tuple(arrays[name].shape) != shape:
                raise ValueError(f"parameters of another network: {name} is {tuple(arrays[name].shape)}, not {shape}")
        if extra := set(arrays) - set(self.shapes()):
            raise ValueError(f"parameters of another network: {min(extra)} has no place in it")

    def describe(self) -> str:
        """One line."""
        given = f", given {', '.join(self.parameters)}" if self.parameters else ""
        return (
            f"{self.blocks} {self.cell} blocks of {self.channels} channels, kernel {'×'.join([str(self.kernel)] * self.dimensions)}, "
            f"{self.head} head, {self.padding} padding{given}; {self.count} parameters"
        )

    def as_dict(self) -> dict:
        return asdict(self) | {"parameters": list(self.parameters)}

    @classmethod
    def from_dict(cls, values: dict) -> Architecture:
        """The inverse of as_dict; other keys are passed over. ValueError where one is missing or wrong."""
        try:
            return cls(**{field.name: values[field.name] for field in fields(cls)})
        except KeyError as error:
            raise ValueError(f"the description of a network lacks {error}") from None

    def with_head(self, head: str) -> Architecture:
        """The same with another head."""
        return replace(self, head=head)


PRESETS = {
    "crane-3d": Architecture(dimensions=3, blocks=2, channels=10, kernel=3),
    "misfit-2d": Architecture(2, 2, 24, 5, cell="gru", head="potential", parameters=("misfit",)),
}
"""The networks of the two papers: 29 183 and 148 369 parameters. The thesis says "about 150 000" and leaves the head open."""
