"""Steps of a surrogate network on a processor, without torch: the kernel `_convgru` and what it is given."""

from __future__ import annotations

import numpy as np

from ostwald.app.kernels import _convgru
from ostwald.app.surrogate.architecture import Architecture

PRECISIONS = ("float32", "bfloat16", "double")
FAR = 1 << 24
"""Points beyond a brick along a divided periodic axis."""
ROW = 16
"""Lines of arrays are filled up to a multiple of this."""


class Inference:
    """A network ready for steps on bricks of a grid, in place.

    arrays: its parameters, name -> array (Architecture.shapes). precision: of convolutions and hidden states. "bfloat16" rounds what
    convolutions read to bfloat16, adds up their products in float32 and keeps hidden states in float32; on processors that do not
    multiply bfloat16 it is float32. φ is in double precision always, and what a conserving head takes from a point it gives to
    another, so the mean stays to the rounding of double precision. ValueError where the parameters are another network's.

    The same bits on any number of threads, and of bricks with ghosts.
    """

    def __init__(self, architecture: Architecture, arrays, precision: str = "float32", threads: int = 1):
        if precision not in PRECISIONS:
            raise ValueError(f"precision is one of {', '.join(PRECISIONS)}, not {precision!r}")
        architecture.check(arrays)
        self.architecture, self.precision, self.threads = architecture, precision, int(threads)
        self.dtype = np.dtype(np.float64 if precision == "double" else np.float32)
        a = architecture
        blocks, head = layers(a, arrays)
        self._step = _convgru.Step(
            precision, a.dimensions, a.kernel, a.channels, a.cell, a.head, a.padding, blocks, head
        )

    def empty(self, points) -> tuple[np.ndarray, list[np.ndarray]]:
        """φ, uninitialised, and hidden states as they are at the start, zeros, for a whole grid of `points`."""
        shape = (*points[:-1], -(-points[-1] // ROW) * ROW)
        states = [np.zeros((self.architecture.channels, *shape), self.dtype) for _ in range(self.architecture.blocks)]
        return np.empty(shape), states

    def step(self, phi, hidden, points, parameters=(), beyond=(0, 0, 0, 0)) -> None:
        """One step, in place.

        points: of the brick, along each axis. phi: float64, (n0 + 2 w, [n1 + 2 w,] row) with w ≥ Architecture.halo[0] ghost layers;
        hidden: one for each block, (channels, n0 + 2 w, [n1 + 2 w,] row) of `dtype`, w ≥ Architecture.halo[1 + block]; row: n2 or more
        elements, a multiple of ROW. parameters: numbers, scaled as in the training.
        beyond: how far the box goes on below and above the brick along axis 0, then along axis 1 (FAR: periodic and divided). So many
        layers, or w, are copies of what others own; layers beyond the box are not read.
        """
        points = (points[0], 1, points[1]) if len(points) == 2 else tuple(points)
        self._step.run(phi, hidden, list(parameters), points, beyond, self.threads)

    @property
    def nbytes(self) -> int:
        """Of the planes under way, after a first step."""
        return self._step.bytes


def layers(architecture: Architecture, arrays):
    """The parameters as the kernel takes them: layers of each block, layers of the head; a layer is (weights of its parts, bias)."""
    c = architecture.channels

    def given(name):
        return np.asarray(arrays[f"{name}.weight"], np.float64), np.asarray(arrays[f"{name}.bias"], np.float64)

    def whole(name):
        weight, bias = given(name)
        return [weight], bias

    def deep(block):
        (mix_x, bias_x), (mix_h, bias_h) = given(f"{block}.input.mix"), given(f"{block}.hidden.mix")
        gates = [mix_x[: 2 * c], mix_h], bias_x[: 2 * c] + bias_h
        share = [mix_x[2 * c :]], bias_x[2 * c :]
        return [
            whole(f"{block}.input"), whole(f"{block}.hidden"), gates, share, whole(f"{block}.candidate"),
            whole(f"{block}.candidate.mix"),
        ]  # fmt: skip

    def gru(block):
        weight, bias = given(f"{block}.gates")
        # r, then the gate of the old state: 1 - z = σ(-…)
        weight, bias = np.concatenate([weight[c:], -weight[:c]]), np.concatenate([bias[c:], -bias[:c]])
        candidate, last = given(f"{block}.candidate")
        return [([weight[:, :c], weight[:, c:]], bias), ([candidate[:, :c], candidate[:, c:]], last)]

    make = deep if architecture.cell == "deep" else gru
    blocks = [make(f"block{k}") for k in range(architecture.blocks)]
    return blocks, [whole(layer.name) for layer in architecture.layers() if layer.name.startswith("head")]
