"""What a high-dimensional neural-network potential consists of, as plain data.

J. Behler, M. Parrinello, Phys. Rev. Lett. 98, 146401 (2007); A. Singraber, J. Behler, C. Dellago, J. Chem. Theory Comput.
15, 1827 (2019); compact functions: M. P. Bircher, A. Singraber, C. Dellago, Mach. Learn.: Sci. Technol. 2, 035026 (2021);
weighted functions: M. Gastegger et al., J. Chem. Phys. 148, 241709 (2018).

Numbers are those of the files, in the files' units: `length_unit` Å and `energy_unit` eV per unit. Energy of an atom, eV:

    energy_unit * (network(factor * (G - shift)) / conv_energy + mean_energy + offset)

G are its symmetry functions of distances in file units. They have no unit, so `conv_length`, the unit of length in which
the set was trained, changes none of them, and forces are the derivative of this energy.
"""

import math
from dataclasses import dataclass, field, fields

import numpy as np

BOHR = 0.529177210903  # Å, CODATA 2018
HARTREE = 27.211386245988  # eV, CODATA 2018

RADIAL = (2, 12, 20, 23)
ANGULAR = (3, 9, 13, 21, 22, 24, 25)
WEIGHTED = (12, 13, 23, 24, 25)
COMPACT = (20, 21, 22, 23, 24, 25)
NARROW = (3, 13, 21, 24)
"""Angular kinds whose triplets must have all three sides within the cutoff (factor of r_jk); 9, 22 and 25 are wide."""
KINDS = (2, 3, 9, 12, 13, 20, 21, 22, 23, 24, 25)

SUBTYPES = ("p1", "p2", "p3", "p4", "p1a", "p2a", "p3a", "p4a", "e")
ACTIVATIONS = {
    "l": "linear",
    "t": "tanh",
    "s": "logistic",
    "p": "softplus",
    "r": "relu",
    "g": "gaussian",
    "c": "cos",
    "S": "revlogistic",
    "e": "exp",
    "h": "harmonic",
}
"""Letter of the file -> name. x; tanh x; 1/(1+e^-x); ln(1+e^x); max(0,x); e^(-x²/2); cos x; 1 - 1/(1+e^-x); e^-x; x²."""

CUTOFF_NAMES = {
    0: "hard",
    1: "cos",
    2: "tanh3, not 1 at zero",
    3: "tanh3",
    4: "exp",
    5: "polynomial 1",
    6: "polynomial 2",
    7: "polynomial 3",
    8: "polynomial 4",
}
"""fc(r), zero from r_c on. r_i = cutoff_inner * r_c, x = (r - r_i)/(r_c - r_i); types 1 and 4 to 8 are 1 for r < r_i.

    0  1                                      1  (cos(pi x) + 1) / 2
    2  tanh³(1 - r/r_c)                       3  tanh³(1 - r/r_c) / tanh³(1), both without r_i
    4  exp(1 + 1/(x² - 1))                    5  (2x - 3)x² + 1
    6  ((15 - 6x)x - 10)x³ + 1                7  (x(x(20x - 70) + 84) - 35)x⁴ + 1
    8  (x(x((315 - 70x)x - 540) + 420) - 126)x⁵ + 1
"""

SCALINGS = ("none", "scale", "center", "scale_center", "sigma")


class _ByValue:
    """Equal where all fields are, arrays bit by bit."""

    def __eq__(self, other):
        if type(self) is not type(other):
            return NotImplemented
        return all(_same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self) if f.compare)

    __hash__ = None


def _same(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.shape == b.shape and a.tobytes() == b.tobytes()
    return a == b


@dataclass(frozen=True)
class SymmetryFunction:
    """One symmetry function of atoms of element `centre`.

    kind: number of the type in input.nn. Sums run over neighbours j, or over pairs j < k of neighbours, that are of the
    elements `neighbours` (in any order); Z_j = 1 except for weighted kinds, whose `neighbours` is () and Z_j the atomic number.
    theta is the angle at the centre; a triplet in one line counts with its limit (n2p2 leaves it out of kinds 21 to 25 where
    rounding gives a cosine of exactly 1 or -1). Terms are zero where one of their distances is not below `cutoff`.

        2, 12       Z_j exp(-eta (r_ij - shift)²) fc(r_ij)
        3, 13       2^(1-zeta) Z_j Z_k (1 + lam cos theta)^zeta exp(-eta ((r_ij - shift)² + (r_ik - shift)² + (r_jk - shift)²))
                    fc(r_ij) fc(r_ik) fc(r_jk)
        9           the same without r_jk and fc(r_jk)
        20, 23      Z_j C(r_ij; r_low, cutoff)
        21, 24      Z_j Z_k C(r_ij) C(r_ik) C(r_jk) C'(theta; angle_low, angle_high)
        22, 25      the same without C(r_jk)

    (1 + lam cos theta) counts as zero where it is negative. C(a; low, high) of the compact kinds is the function `subtype` of
    x = |a - (low + high)/2| / ((high - low)/2), 0 for x >= 1: "p1".."p4" the polynomials of cutoff types 5 to 8, "e" that of
    type 4; with "a" (asymmetric) C takes x(2 - x) for x, C' always x itself. r_low may be negative (a function that is not
    zero at zero distance); angles are in degrees, and C' is centred at 0 or 180 where it reaches beyond these.
    eta in 1/length², shift, cutoff, r_low in lengths; what a kind does not have is 0 or "".
    """

    kind: int
    centre: str
    neighbours: tuple[str, ...] = ()
    cutoff: float = 0.0
    eta: float = 0.0
    shift: float = 0.0
    lam: float = 0.0
    zeta: float = 0.0
    r_low: float = 0.0
    angle_low: float = 0.0
    angle_high: float = 0.0
    subtype: str = ""


def sort_key(function: SymmetryFunction, species) -> tuple:
    """What functions of one centre are ordered by, in scaling.data and in the networks' inputs.

    species: the potential's symbols by atomic number. Neighbours of one function must be in this order too.
    """
    f = function
    elements = tuple(species.index(symbol) for symbol in f.neighbours)
    if f.kind in COMPACT:
        return (f.kind, f.subtype, *elements, f.cutoff, f.r_low, f.angle_low, f.angle_high)
    return (f.kind, f.cutoff, f.eta, f.shift, f.zeta, f.lam, *elements)


@dataclass(eq=False)
class Layer(_ByValue):
    """activation(weights @ input + bias); weights (n_out, n_in), bias (n_out,) float64; activation: a name of ACTIVATIONS."""

    weights: np.ndarray
    bias: np.ndarray
    activation: str


@dataclass(eq=False)
class Element(_ByValue):
    """Functions and network of one element.

    functions in the order of sort_key; minimum, maximum, mean, sigma (nf,) of the training set, from scaling.data
    (sigma is nan where the file has none); layers from the inputs to the output of one number; offset: atom_energy.
    """

    symbol: str
    functions: list[SymmetryFunction]
    minimum: np.ndarray
    maximum: np.ndarray
    mean: np.ndarray
    sigma: np.ndarray
    layers: list[Layer]
    offset: float = 0.0


@dataclass(eq=False)
class Model(_ByValue):
    """A whole potential.

    elements by atomic number; cutoff_type a key of CUTOFF_NAMES, cutoff_inner the fraction of a cutoff within which fc is 1;
    scaling one of SCALINGS, of inputs to [scale_min, scale_max]; normalize_nodes: what enters an activation is divided by
    the number of the layer's inputs (weights are those of the file, network() folds the division into them).
    keywords: lines of input.nn of which the above says nothing (of training), as (name, arguments), in order.
    units_stated: False where nobody said the units and Å and eV were assumed.
    """

    elements: list[Element]
    cutoff_type: int = 1
    cutoff_inner: float = 0.0
    scaling: str = "none"
    scale_min: float = 0.0
    scale_max: float = 1.0
    normalize_nodes: bool = False
    mean_energy: float = 0.0
    conv_energy: float = 1.0
    conv_length: float = 1.0
    length_unit: float = 1.0
    energy_unit: float = 1.0
    keywords: list[tuple[str, str]] = field(default_factory=list)
    units_stated: bool = field(default=True, compare=False)

    @property
    def species(self) -> tuple[str, ...]:
        return tuple(element.symbol for element in self.elements)

    @property
    def cutoff(self) -> float:
        """Å, the largest of all functions."""
        return self.length_unit * max(f.cutoff for element in self.elements for f in element.functions)

    def scale_and_shift(self, element: Element) -> tuple[np.ndarray, np.ndarray]:
        """(factor, shift), both (nf,): the network's inputs are factor * (G - shift)."""
        width = self.scale_max - self.scale_min
        one, zero = np.ones(len(element.functions)), np.zeros(len(element.functions))
        if self.scaling == "none":
            return one, zero
        if self.scaling == "center":
            return one, element.mean.copy()
        spread = element.sigma if self.scaling == "sigma" else element.maximum - element.minimum
        factor = width / spread
        origin = element.minimum if self.scaling == "scale" else element.mean
        return factor, origin - self.scale_min / factor

    def network(self, element: Element) -> list[Layer]:
        """The element's layers, normalize_nodes folded into weights and biases."""
        if not self.normalize_nodes:
            return element.layers
        return [
            Layer(a.weights / a.weights.shape[1], a.bias / a.weights.shape[1], a.activation) for a in element.layers
        ]

    def atom_energy(self, element: Element) -> float:
        """eV, of what is added to the network's part: offset and mean_energy."""
        return self.energy_unit * (element.offset + self.mean_energy)

    @property
    def network_energy(self) -> float:
        """eV per unit of the networks' output."""
        return self.energy_unit / self.conv_energy

    def check(self):
        """ValueError in one sentence where the parts do not fit together."""
        for element in self.elements:
            count = len(element.functions)
            for name in ("minimum", "maximum", "mean", "sigma"):
                if getattr(element, name).shape != (count,):
                    raise ValueError(
                        f"{element.symbol}: {count} functions but {getattr(element, name).size} values of {name}"
                    )
            size = count
            for k, layer in enumerate(element.layers, 1):
                if layer.weights.shape != (len(layer.bias), size):
                    raise ValueError(f"{element.symbol}: layer {k} has weights {layer.weights.shape} for {size} inputs")
                if layer.activation not in ACTIVATIONS.values():
                    raise ValueError(f"{element.symbol}: unknown activation {layer.activation!r}")
                size = len(layer.bias)
            if size != 1 or not element.layers:
                raise ValueError(f"{element.symbol}: the network must end in one number")
            if list(element.functions) != sorted(element.functions, key=lambda f: sort_key(f, self.species)):
                raise ValueError(f"{element.symbol}: functions are not in the order of sort_key")
        if self.scaling not in SCALINGS or self.cutoff_type not in CUTOFF_NAMES or not 0 <= self.cutoff_inner < 1:
            raise ValueError("scaling, cutoff type or inner cutoff is none of those that exist")
        if not (math.isfinite(self.conv_energy) and self.conv_energy != 0):
            raise ValueError("conv_energy must be a number other than zero")
