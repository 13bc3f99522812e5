"""Ghost layers of fields on parts of a grid: copies of what neighbours own, of any width, for stencils and convolutions."""

from __future__ import annotations

import numpy as np

from ostwald.parallel.parts import Parts, aligned

GHOSTS = 31  # message tag
BOUNDARIES = ("periodic", "mirror")


class Ghosts:
    """The ghost layers of fields whose inner points are parts of a grid.

    parts: Parts (a Fourier is one). width: layers on every side of axes 0 and, in three dimensions, 1; they may be wider than
    a part. dtype, channels: of the fields; channels None is a field without an axis of channels.
    row: elements of a line along the last axis, which is never divided. None: its n points with `width` ghosts before and behind,
    filled like the others. A number: lines of that length, which are left as they are.
    boundaries: what lies beyond the ends of the grid, one for all axes or one for each: "periodic"; or "mirror", which repeats
    the points before a wall that lies half a spacing behind the last: a field without slope, and without flux, there.

    The array of a field has the shape `shape`: ([channels,] n0 + 2 width, [n1 + 2 width,] row), C-contiguous.

    All ghosts, edges and corners too, come in one round of messages, one to each neighbour; ghosts whose owner is the
    rank itself are copied. Between start() and finish() the inner points may be read: those that are `width` or more away from
    every side can be worked on meanwhile, into another array. Collective over the world.
    """

    def __init__(self, parts: Parts, width: int, dtype=np.float64, channels=None, row=None, boundaries="periodic"):
        self.parts, self.width, self.dtype = parts, int(width), np.dtype(dtype)
        self.boundaries = (boundaries,) * len(parts.shape) if isinstance(boundaries, str) else tuple(boundaries)
        if self.width < 0:
            raise ValueError(f"ghost layers must not be fewer than none, not {width}")
        if len(self.boundaries) != len(parts.shape) or not set(self.boundaries) <= set(BOUNDARIES):
            raise ValueError(f"boundaries are {' or '.join(BOUNDARIES)}, one for each axis, not {boundaries}")
        n, w, three = parts.shape[-1], self.width, len(parts.shape) == 3
        self._ends = row is None
        self._row = n + 2 * w if row is None else int(row)
        self._w1 = w if three else 0
        lines = parts.local[1] + 2 * w if three else 1
        lead = () if channels is None else (int(channels),)
        self._whole = (*(lead or (1,)), parts.local[0] + 2 * w, lines, self._row)
        self.shape = (*lead, parts.local[0] + 2 * w, *((lines,) if three else ()), self._row)
        first = w if self._ends else 0
        inner = [slice(w, w + length) for length in parts.local[:-1]]
        self._inner = (..., *inner, slice(first, first + n))
        self._plan()
        self._under_way = None

    # --- arrays

    def empty(self) -> np.ndarray:
        """An uninitialised array of `shape`, which begins on a cache line."""
        return aligned(int(np.prod(self.shape)), self.dtype).reshape(self.shape)

    def inner(self, array) -> np.ndarray:
        """The points of this rank, ([channels,] *parts.local), of an array: a view."""
        return array[self._inner]

    # --- the exchange

    def exchange(self, array) -> None:
        """Fills the ghosts of an array."""
        self.start(array)
        self.finish()

    def start(self, array) -> None:
        """Fills the ghosts that this rank owns itself and sends off the others."""
        if array.shape != self.shape or array.dtype != self.dtype or not array.flags.c_contiguous:
            raise ValueError(f"an array {self.shape} {self.dtype.name} is wanted here, not {array.shape} {array.dtype}")
        if self._under_way is not None:
            raise RuntimeError("an exchange is under way: finish() it first")
        whole, comm = array.reshape(self._whole), self.parts.world.comm
        if self._ends:
            self._fill_ends(whole)
        memory = whole.reshape(-1).view(np.uint8)
        self._under_way = [comm.Irecv([memory, 1, kind], rank, GHOSTS) for rank, kind in self._incoming]
        self._under_way += [comm.Isend([memory, 1, kind], rank, GHOSTS) for rank, kind in self._outgoing]
        for target, source in self._copies:
            whole[target] = whole[source]

    def finish(self) -> None:
        """Returns when the ghosts of the array that start() was given are there."""
        self.parts._mpi.Request.Waitall(self._under_way)
        self._under_way = None

    def _fill_ends(self, whole):
        """Ghosts of the lines of this rank's own points."""
        w, n = self.width, self.parts.shape[-1]
        own = whole[:, w : w + self.parts.local[0], self._w1 : whole.shape[2] - self._w1]
        for target, source, count, step in pieces(0, n, w, [(0, n)], self.boundaries[-1]):
            if target != w:
                own[..., target : target + count] = own[..., w + source :][..., : count * step : step] if step > 0 else (
                    own[..., w + source - count + 1 : w + source + 1][..., ::-1]
                )  # fmt: skip

    # --- the plan

    def _plan(self):
        parts, w = self.parts, self.width
        p1, (i, j) = parts.ranks[1], parts.place
        along = [self._pieces_of(0, k) for k in range(parts.ranks[0])], [self._pieces_of(1, k) for k in range(p1)]
        self._copies, incoming, outgoing = [], {}, {}
        for x in along[0][i]:
            for y in along[1][j]:
                owner = x.owner * p1 + y.owner
                if owner != parts.world.rank:
                    incoming.setdefault(owner, []).append(self._kind(x.target, x.count, 1, y.target, y.count, 1))
                elif x.ghost or y.ghost:
                    target = slice(None), slice(x.target, x.target + x.count), slice(y.target, y.target + y.count)
                    self._copies.append((target, (slice(None), x.taken(w), y.taken(self._w1))))
        for k, xs in enumerate(along[0]):
            for m, ys in enumerate(along[1]):
                kinds = [
                    self._kind(w + x.source, x.count, x.step, self._w1 + y.source, y.count, y.step)
                    for x in xs if x.owner == i for y in ys if y.owner == j
                ]  # fmt: skip
                if kinds and (k, m) != (i, j):
                    outgoing[k * p1 + m] = kinds
        together = parts._mpi.Datatype.Create_struct
        self._incoming, self._outgoing = (
            [(rank, together([1] * len(kinds), [0] * len(kinds), kinds).Commit()) for rank, kinds in sorted(of.items())]
            for of in (incoming, outgoing)
        )
        self.neighbours = len(self._incoming)

    def _pieces_of(self, axis: int, part: int):
        """What the layers of a part along axis 0 or 1 consist of."""
        cuts = (self.parts._x, self.parts._y)[axis]
        if axis == 1 and not self._w1:
            return [Piece(part, 0, 0, cuts[part][1] - cuts[part][0], 1, False)]
        lo, hi = cuts[part]
        found = []
        for target, source, count, step in pieces(lo, hi, self.width, cuts, self.boundaries[axis]):
            owner = next(k for k, (a, b) in enumerate(cuts) if a <= source < b)
            ghost = not self.width <= target < self.width + hi - lo
            found.append(Piece(owner, target, source - cuts[owner][0], count, step, ghost))
        return found

    def _kind(self, x, nx, step_x, y, ny, step_y):
        """The message type of a box of all channels: planes x, x + step_x, …, of each the lines y, y + step_y, …"""
        mpi, (channels, planes, lines, row) = self.parts._mpi, self._whole
        line = row * self.dtype.itemsize
        kind = mpi.BYTE.Create_contiguous(line).Create_hvector(ny, 1, step_y * line)
        kind = kind.Create_hvector(nx, 1, step_x * lines * line).Create_hvector(channels, 1, planes * lines * line)
        return kind.Create_hindexed([1], [(x * lines + y) * line])


class Piece:
    """Some layers of a part along an axis: `count` from `target` on in its array are those of `owner` from its point `source` on,
    backwards where step is -1."""

    __slots__ = ("count", "ghost", "owner", "source", "step", "target")

    def __init__(self, owner, target, source, count, step, ghost):
        self.owner, self.target, self.source = owner, target, source
        self.count, self.step, self.ghost = count, step, ghost

    def taken(self, width: int) -> slice:
        """The layers in the array of the owner."""
        first = width + self.source
        if self.step > 0:
            return slice(first, first + self.count)
        end = first - self.count
        return slice(first, end if end >= 0 else None, -1)


def pieces(lo: int, hi: int, width: int, cuts, boundary: str):
    """The layers lo - width … hi + width - 1 of an axis that is cut into parts [(begin, end), …], as runs of points of one part:
    (target, source, count, step): the layers target, target + 1, … from lo - width on are the points source, source + step, …
    """
    n = cuts[-1][1]
    found = []
    at = lo - width
    while at < hi + width:
        period, place = divmod(at, n)
        backwards = boundary == "mirror" and period % 2 != 0
        source, step = (n - 1 - place, -1) if backwards else (place, 1)
        begin, end = next((a, b) for a, b in cuts if a <= source < b)
        count = source - begin + 1 if backwards else end - source
        edge = lo if at < lo else hi if at < hi else hi + width  # ghosts and inner points apart
        count = min(count, edge - at)
        found.append((at - lo + width, source, count, step))
        at += count
    return found
