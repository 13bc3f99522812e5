"""Fields that are handed over plane by plane."""

from __future__ import annotations

import math

import numpy as np


class GivenPlanes:
    """A field as it is given to a solver: checked while it comes, its mean found on the way.

    phi: the brick of this rank, shape parts.local, or a function (first, last) -> its planes first ... last - 1, so that the whole
    field need not exist. Called with (first, last) this gives φ - base in `dtype`; zeros where something is wrong, so that
    all ranks come to the end. Then mean() is called, once.
    """

    def __init__(self, parts, phi, base: float, dtype):
        self.parts, self.base, self.dtype = parts, base, dtype
        self._give = phi if callable(phi) else lambda first, last: phi[first:last]
        self._error, self._sums = None, []
        if not callable(phi) and np.shape(phi) != parts.local:
            error = f"a field of shape {parts.local} is wanted on rank {parts.world.rank}, not {np.shape(phi)}"
            self._error = error
        parts.world.agree(self._error)

    def __call__(self, first: int, last: int) -> np.ndarray:
        planes, shape = np.asarray(self._give(first, last)), (last - first, *self.parts.local[1:])
        if planes.shape != shape:
            self._error = self._error or f"planes {first} to {last} of a field came in the shape {planes.shape}"
        elif not np.isfinite(planes).all():
            self._error = self._error or "the field must be finite"
        if self._error:
            return np.zeros(shape, self.dtype)
        planes = np.subtract(planes, self.base, dtype=np.float64)
        self._sums.append(float(planes.sum()))
        return planes.astype(self.dtype, copy=False)

    def mean(self) -> float:
        """Collective. <φ> over the grid; CollectiveError where a rank was given something wrong."""
        world = self.parts.world
        world.agree(self._error)
        return self.base + world.allreduce(math.fsum(self._sums)) / math.prod(self.parts.shape)
