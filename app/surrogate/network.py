"""A surrogate network in torch: for training, on GPUs, and as the reference of native inference. Equations: architecture.py.

All parameters are one flat tensor `theta`, so that gradients of all ranks are added up in one piece.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ostwald.app.surrogate.architecture import CONSERVING, Architecture
from ostwald.parallel import philox_generator


class Network(torch.nn.Module):
    """architecture: Architecture. dtype: of φ, hidden states and parameters, torch.float32 or float64. compute: of what
    convolutions read and give, e.g. torch.bfloat16; None: dtype. The last layer, of whose output only differences matter, and what
    changes φ are in dtype always, so that a head that conserves the mean of φ does so to the rounding of dtype. seed: of the
    parameters at the start."""

    def __init__(self, architecture: Architecture, dtype=torch.float32, device="cpu", compute=None, seed: int = 0):
        super().__init__()
        self.architecture, self.dtype, self.compute = architecture, dtype, compute or dtype
        self.layers = {layer.name: layer for layer in architecture.layers()}
        self.shapes = architecture.shapes()
        self.theta = torch.nn.Parameter(torch.empty(architecture.count, dtype=dtype, device=device))
        self.load(initial_arrays(architecture, seed))

    # ---- parameters -------------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Numbers that are trained."""
        return self.theta.numel()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Parameters by name, views of theta through which gradients flow: made once for a sequence."""
        pieces = self.theta.split([math.prod(shape) for shape in self.shapes.values()])
        return {name: piece.view(shape) for (name, shape), piece in zip(self.shapes.items(), pieces)}

    def arrays(self) -> dict[str, np.ndarray]:
        """Parameters by name, copies."""
        with torch.no_grad():
            return {name: tensor.cpu().numpy().copy() for name, tensor in self.tensors().items()}

    def load(self, arrays) -> None:
        """Takes parameters by name. ValueError where they are another network's."""
        self.architecture.check(arrays)
        flat = np.concatenate([np.asarray(arrays[name]).reshape(-1) for name in self.shapes])
        with torch.no_grad():
            self.theta.copy_(torch.as_tensor(flat))

    # ---- one step ---------------------------------------------------------------------------------------------------

    def start(self, phi) -> list[torch.Tensor]:
        """Hidden states before the first step of φ (b, 1, *n): zeros (b, C, *n), one for each block."""
        shape = (len(phi), self.architecture.channels, *phi.shape[2:])
        return [phi.new_zeros(shape, dtype=self.dtype) for _ in range(self.architecture.blocks)]

    def step(self, phi, hidden, parameters=None, tensors=None):
        """φ one interval later.

        phi (b, 1, *n); hidden: from `start` or the last step; parameters (b, p) or (b, p, *n), scaled as in the training;
        tensors: from `tensors`, where many steps share them. Returns φ (b, 1, *n), hidden, and what the head gave: the flux
        (b, d, *n), the potential or whatever it is (b, 1, *n), up to a constant.
        """
        tensors = self.tensors() if tensors is None else tensors
        x, cell = self._input(phi, parameters), self._deep if self.architecture.cell == "deep" else self._gru
        new = []
        for block, state in enumerate(hidden):
            x = cell(f"block{block}", x, state, tensors)
            new.append(x)
        for name in self.layers:
            if name.startswith("head"):
                x = self._convolve(x, name, tensors)
        return self._update(phi, x), new, x

    def _input(self, phi, parameters):
        count = len(self.architecture.parameters)
        if (0 if parameters is None else parameters.shape[1]) != count:
            raise ValueError(f"the network is given {', '.join(self.architecture.parameters) or 'no parameters'}")
        if not count:
            return phi
        if parameters.ndim == 2:
            parameters = parameters.reshape(*parameters.shape, *[1] * (phi.ndim - 2)).expand(-1, -1, *phi.shape[2:])
        return torch.cat([phi, parameters], 1)

    def _deep(self, block, x, h, tensors):
        channels = self.architecture.channels
        a = self._twice(x, f"{block}.input", tensors)
        b = self._twice(h, f"{block}.hidden", tensors)
        gates = torch.sigmoid(a[:, : 2 * channels] + b)
        r, z = gates[:, :channels], gates[:, channels:]
        n = torch.tanh(a[:, 2 * channels :] + self._twice(r * h, f"{block}.candidate", tensors))
        return n + z * (h - n)

    def _gru(self, block, x, h, tensors):
        channels = self.architecture.channels
        gates = torch.sigmoid(self._convolve(torch.cat([h, x], 1), f"{block}.gates", tensors))
        z, r = gates[:, :channels], gates[:, channels:]
        n = torch.tanh(self._convolve(torch.cat([r * h, x], 1), f"{block}.candidate", tensors))
        return h + z * (n - h)

    def _twice(self, x, name, tensors):
        return self._convolve(self._convolve(x, name, tensors), f"{name}.mix", tensors)

    def _convolve(self, x, name, tensors):
        layer, convolve = self.layers[name], functional.conv2d if x.ndim == 4 else functional.conv3d
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        kind = self.dtype if name == "head.output" else self.compute
        padded = pad(x.to(kind), layer.kernel // 2, self.architecture.padding)
        x = convolve(padded, weight.to(kind), bias.to(kind)).to(self.dtype)
        return torch.tanh(x) if layer.activation == "tanh" else x

    def _update(self, phi, u):
        head, periodic = self.architecture.head, self.architecture.padding == "circular"
        if head == "sigmoid":
            return torch.sigmoid(u)
        if head == "allen-cahn":
            return phi + u
        if head == "potential":
            return phi + laplacian(u, periodic)
        change = sum(flux_balance(u[:, a : a + 1], 2 + a, periodic, head == "flux") for a in range(u.shape[1]))
        return phi + change

    # ---- sequences --------------------------------------------------------------------------------------------------

    def roll_out(self, given, steps, parameters=None, segment=None):
        """Predictions (b, steps, *n) of frames 1 … steps.

        given (b, g, *n): what the first g steps begin with; later steps begin with what was predicted. segment: None, or
        how many steps are kept for the backward pass at a time; of other steps only the states at the ends of segments are kept,
        and their insides computed again.
        """
        tensors = self.tensors()

        def run(first, last, phi, *hidden):
            found = []
            for t in range(first, last):
                phi = given[:, t : t + 1] if t < given.shape[1] else phi
                phi, hidden, _ = self.step(phi, hidden, parameters, tensors)
                found.append(phi)
            return torch.cat(found, 1), phi, *hidden

        phi = given[:, :1]
        state = [phi, *self.start(phi)]
        segment, found = segment or steps, []
        for first in range(0, steps, segment):
            last = min(first + segment, steps)
            if segment < steps and last < steps and torch.is_grad_enabled():  # the last one is needed at once
                out = checkpoint(run, first, last, *state, use_reentrant=False, preserve_rng_state=False)
            else:
                out = run(first, last, *state)
            found.append(out[0])
            state = out[1:]
        return torch.cat(found, 1)

    @property
    def conserves(self) -> bool:
        """Whether the mean of φ stays what it is."""
        return self.architecture.head in CONSERVING


def initial_arrays(architecture: Architecture, seed: int) -> dict[str, np.ndarray]:
    """Parameters to begin with, name -> float32: weights uniform within ±√(3 / (inputs × points of the kernel)), so that what goes
    through a layer keeps its variance (Y. LeCun et al., Efficient BackProp, 1998), biases within a √3rd of that; those of the
    head's last layer a tenth (not of the sigmoid's), so that φ hardly moves in a first step."""
    rng, found, shapes = philox_generator(seed, "surrogate", 0), {}, architecture.shapes()
    for layer in architecture.layers():
        bound = 1 / math.sqrt(layer.inputs * layer.kernel**architecture.dimensions)
        if layer.name == "head.output" and architecture.head != "sigmoid":
            bound *= 0.1
        for part, factor in (("weight", math.sqrt(3)), ("bias", 1.0)):
            name = f"{layer.name}.{part}"
            found[name] = rng.uniform(-factor * bound, factor * bound, shapes[name]).astype(np.float32)
    return found


def pad(x, width: int, padding: str):
    """x (b, c, *n) with `width` more points at every end. ValueError where an axis has fewer points than that."""
    if not width:
        return x
    if min(x.shape[2:]) < width:
        raise ValueError(
            f"a grid of {' × '.join(map(str, x.shape[2:]))} points is too small for a kernel of {2 * width + 1}"
        )
    if padding == "zero":
        return functional.pad(x, (width, width) * (x.ndim - 2))
    if padding == "circular":
        return functional.pad(x, (width, width) * (x.ndim - 2), mode="circular")
    for axis in range(2, x.ndim):  # torch's "reflect" leaves out the last point: its walls lie on points
        n = x.shape[axis]
        x = torch.cat([x.narrow(axis, 0, width).flip(axis), x, x.narrow(axis, n - width, width).flip(axis)], axis)
    return x


def shifted(u, axis: int, by: int, periodic: bool, wall: float):
    """u[i + by] at i along an axis, by 1 or -1; beyond a wall there is what lies before it, times `wall`."""
    n = u.shape[axis]
    if periodic:
        return u.roll(-by, axis)
    ends = [u.narrow(axis, 1, n - 1), wall * u.narrow(axis, n - 1, 1)]
    if by < 0:
        ends = [wall * u.narrow(axis, 0, 1), u.narrow(axis, 0, n - 1)]
    return torch.cat(ends, axis)


def flux_balance(u, axis: int, periodic: bool, centred: bool):
    """What flows into each point less what flows out of it, along one axis. Nothing flows through a wall."""
    if centred:
        return shifted(u, axis, -1, periodic, -1.0) - shifted(u, axis, 1, periodic, -1.0)
    if not periodic:  # u[n - 1] would go through the wall
        n = u.shape[axis]
        u = torch.cat([u.narrow(axis, 0, n - 1), torch.zeros_like(u.narrow(axis, 0, 1))], axis)
    return shifted(u, axis, -1, periodic, 0.0) - u


def laplacian(u, periodic: bool):
    """Sum of the differences to the next neighbours, (b, c, *n)."""
    axes = range(2, u.ndim)
    around = sum(shifted(u, axis, by, periodic, 1.0) for axis in axes for by in (-1, 1))
    return around - 2 * len(axes) * u
