"""A grid spread over ranks: which box of it is whose."""

from __future__ import annotations

import numpy as np

from ostwald.parallel.migration import block_range

LINE = 128  # bytes that arrays are aligned to


class Parts:
    """The boxes of a grid that ranks own: axis 0 is dealt to p0 of them and, in three dimensions, axis 1 to p1.

    shape: two or three lengths. ranks: (p0, p1) with p0 p1 = the number of ranks; None takes slabs (p1 = 1) while
    they suffice, and the fewest p1 beyond. Parts may be uneven. The last axis is never divided.

    A field is the C-contiguous box of this rank, shape `local`, from index `lo` to `hi` (exclusive) of the grid. Rank r has the
    place divmod(r, p1) among the parts.
    """

    def __init__(self, world, shape, ranks=None):
        n0, n1, n2 = extents(shape)
        self.world, self.shape = world, tuple(int(n) for n in shape)
        self.ranks = p0, p1 = deal(self.shape, world.size, n1, ranks)
        i, j = self.place = divmod(world.rank, p1)
        self._x = [block_range(n0, k, p0) for k in range(p0)]
        self._y = [block_range(n1, k, p1) for k in range(p1)]
        (x0, x1), (y0, y1) = self._x[i], self._y[j]
        three = len(self.shape) == 3
        self.lo, self.hi = ((x0, y0, 0), (x1, y1, n2)) if three else ((x0, 0), (x1, n2))
        self.local = tuple(b - a for a, b in zip(self.lo, self.hi))
        self._mpi = world._mpi
        self._group = world.comm if p1 == 1 else world.comm.Split(j, i)  # all parts of axis 0
        self._line = world.comm.Split(i, j) if p1 > 1 else None  # all parts of axis 1

    def from_next(self, face, axis: int):
        """Collective. What the next rank along axis 0 or 1 gives here as its own `face`, an array or any object; periodic."""
        line = (self._group, self._line)[axis]
        if line is None or line.Get_size() == 1:
            return face
        place, size = line.Get_rank(), line.Get_size()
        return line.sendrecv(face, (place - 1) % size, 0, None, (place + 1) % size)

    def to_planes(self, field) -> np.ndarray:
        """Collective. Whole planes of axis 0 in place of this rank's part `field`, from the plane `first_plane` on: the planes of
        all ranks follow one another, in a file for instance."""
        if self._line is None:
            return field
        shares = [field[a:b] for a, b in self._planes_of_line()]
        return np.concatenate(self._line.alltoall(shares), axis=1)

    def from_planes(self, planes) -> np.ndarray:
        """Collective. This rank's part of a field, of which the ranks have whole planes as to_planes() gives them."""
        if self._line is None:
            return planes
        return np.concatenate(self._line.alltoall([planes[:, a:b] for a, b in self._y]))

    @property
    def first_plane(self) -> int:
        return self.lo[0] + self._planes_of_line()[self.place[1]][0]

    @property
    def planes_shape(self) -> tuple[int, ...]:
        """Of the whole planes that to_planes() gives this rank."""
        a, b = self._planes_of_line()[self.place[1]]
        return (b - a, *self.shape[1:])

    def _planes_of_line(self):
        """The planes, counted in the part, of each of the ranks that have parts of the same planes."""
        return [block_range(self.local[0], k, self.ranks[1]) for k in range(self.ranks[1])]

    def brick(self, array) -> np.ndarray:
        """This rank's part of an array of the whole grid: a view."""
        return array[tuple(slice(a, b) for a, b in zip(self.lo, self.hi))]


def extents(shape) -> tuple[int, int, int]:
    """(n0, n1, n2) of a grid: n1 = 1 in two dimensions. ValueError where it has no two or three positive lengths."""
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ValueError(f"a grid has two or three positive lengths, not {shape}")
    n0, *middle, n2 = (int(n) for n in shape)
    return n0, *(middle or [1]), n2


def deal(shape, size: int, most: int, ranks=None) -> tuple[int, int]:
    """(p0, p1) of `size` ranks on a grid whose second axis takes at most `most` parts: `ranks` if given, else the fewest
    p1. ValueError where none fits."""
    n0 = shape[0]
    if ranks is None:
        fitting = [p for p in range(1, size + 1) if size % p == 0 and size // p <= n0 and p <= most]
        if not fitting:
            raise ValueError(
                f"{size} ranks are too many for a grid of {' x '.join(map(str, shape))}, or have no suitable "
                f"factors: at most {n0} x {most} of them can be used"
            )
        ranks = size // fitting[0], fitting[0]
    p0, p1 = (int(p) for p in ranks)
    if p0 < 1 or p1 < 1 or p0 * p1 != size:
        raise ValueError(f"a process grid of {p0} x {p1} is not {size} ranks")
    if p0 > n0 or p1 > most:
        raise ValueError(f"a process grid may have at most {n0} x {most} ranks, not {p0} x {p1}")
    return p0, p1


def aligned(size: int, dtype) -> np.ndarray:
    """An uninitialised array (size,) that begins on a cache line."""
    dtype = np.dtype(dtype)
    raw = np.empty(size * dtype.itemsize + LINE, np.uint8)
    return raw[-raw.ctypes.data % LINE :][: size * dtype.itemsize].view(dtype)
