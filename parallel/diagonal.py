"""Functions of the discrete Laplacian on a grid of ranks, through its eigenvectors along each axis."""

from __future__ import annotations

import math

import numpy as np

from ostwald.parallel.migration import block_range
from ostwald.parallel.parts import Parts, extents


class Diagonal:
    """Functions of -∇²_h, the second-order Laplacian of 5 or 7 points with a minus sign, of boxes with periodic or mirrored ends.

    Its eigenvectors are products of real waves along the axes (sines and cosines, or cosines alone), so that a function of it is a dense
    product with these waves along one axis after another, a factor, and the products back: exact, at 4 n flops a point and axis (fast
    diagonalisation: Lynch, Rice and Thomas, Numer. Math. 6, 185 (1964)). Axes that are divided among ranks are made whole by an exchange.

    parts: Parts. spacing: one number an axis. boundaries: "periodic" or "mirror", one an axis (parallel.Ghosts).
    """

    def __init__(self, parts: Parts, spacing, boundaries):
        self.parts = parts
        self._n = extents(parts.shape)
        middle = len(parts.shape) == 2
        spacing = [spacing[0], 1.0, spacing[1]] if middle else spacing
        boundaries = [boundaries[0], "mirror", boundaries[1]] if middle else boundaries
        pairs = [waves(n, h, kind) for n, h, kind in zip(self._n, spacing, boundaries)]
        self._waves = [wave for _, wave in pairs]
        y0, y1 = (0, 1) if middle else (parts.lo[1], parts.hi[1])
        self._local = parts.local[0], y1 - y0, self._n[2]
        z0, z1 = block_range(self._n[2], parts.place[0], parts.ranks[0])
        x, y, z = (values for values, _ in pairs)
        self._values = x[:, None, None] + y[y0:y1, None] + z[z0:z1]

    def apply(self, field, function) -> np.ndarray:
        """Collective. function(eigenvalues) applied to a field of this rank's part: an array of its shape."""
        x, y, z = self._waves
        a = field.reshape(self._local) @ z
        a = self._along(1, a, lambda whole: y.T @ whole)

        def middle(whole):
            whole = _first(x.T, whole)
            whole *= function(self._values)
            return _first(x, whole)

        a = self._along(0, a, middle)
        a = self._along(1, a, lambda whole: y @ whole)
        return (a @ z.T).reshape(field.shape)

    def _along(self, axis: int, a, work):
        """`work` on what is whole along an axis; the last axis is divided for it."""
        line = (self.parts._group, self.parts._line)[axis]
        size = self.parts.ranks[axis]
        if size == 1:
            return work(a)
        shares = [block_range(self._n[2], k, size) for k in range(size)]
        whole = np.concatenate(line.alltoall([np.ascontiguousarray(a[..., b:c]) for b, c in shares]), axis=axis)
        whole = work(whole)
        cuts = (self.parts._x, self.parts._y)[axis]
        back = [whole[b:c] if axis == 0 else whole[:, b:c] for b, c in cuts]
        return np.concatenate(line.alltoall([np.ascontiguousarray(part) for part in back]), axis=-1)


def _first(matrix, a):
    """Along the first axis."""
    return (matrix @ a.reshape(len(a), -1)).reshape(a.shape)


def waves(n: int, spacing: float, boundary: str) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (n,) of -d²/dx² in differences, and its orthonormal eigenvectors, the columns of (n, n)."""
    j = np.arange(n)
    if boundary == "mirror":
        angle, shift = math.pi * j / n, (j + 0.5)[:, None]
        vectors = np.cos(angle * shift)
    else:
        angle, shift = 2 * math.pi * ((j + 1) // 2) / n, j[:, None]
        vectors = np.where(j % 2 == 1, np.cos(angle * shift), np.sin(angle * shift))
        vectors[:, 0] = 1
    return 4 * np.sin(0.5 * angle) ** 2 / spacing**2, vectors / np.linalg.norm(vectors, axis=0)
