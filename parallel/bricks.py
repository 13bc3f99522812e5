"""Brick decomposition: the cell cut into one parallelepiped per rank, and the cuts moved to even the cost.

The cuts are nested: x cuts the cell into slabs, y cuts each slab into columns, z cuts each column into bricks. At first
they form a regular grid; balancing moves each family on its own, so any distribution of cost can be evened.
"""

from __future__ import annotations

import numpy as np

from ostwald.app.kernels import _halo

BINS = 1024  # histogram resolution of the balancer along one axis, refined once around each cut


class Bricks:
    """One brick per rank of a cell.

    periodic: (3,) bool, the axes of the cell that repeat; bricks at an open face reach to infinity.
    grid: (3,) bricks along a, b, c, product = number of ranks; None chooses the least surface.
    lengths: (3,) Å, the perpendicular widths of the cell (only their ratios matter).
    cuts: [x (gx+1,), y (gx, gy+1), z (gx, gy, gz+1)] fractional, 0 ... 1; three (g+1,) arrays are a plain grid; None is
    evenly spaced.

    rank = (i * gy + j) * gz + k of the brick (i, j, k). `lo`, `hi` (3,) are this rank's fractional bounds, `coords` its
    place in the grid. Raises ValueError where the grid does not match the ranks or the cuts do not rise.
    """

    def __init__(self, world, periodic, grid=None, lengths=(1.0, 1.0, 1.0), cuts=None):
        self.world = world
        self.periodic = np.array(periodic, bool).reshape(3)
        self.lengths = np.array(lengths, float).reshape(3)
        self.fixed_grid = grid is not None
        if grid is None and cuts is not None:
            grid = [np.shape(c)[-1] - 1 for c in cuts]
        self._set(choose_grid(world.size, self.lengths, self.periodic) if grid is None else grid, cuts)

    def _set(self, grid, cuts=None):
        grid = np.array(grid, int).reshape(3)
        if (grid < 1).any() or grid.prod() != self.world.size:
            raise ValueError(f"a grid of {' x '.join(map(str, grid))} bricks does not match {self.world.size} ranks")
        gx, gy, gz = self.grid = grid
        shapes = (gx + 1,), (gx, gy + 1), (gx, gy, gz + 1)
        if cuts is None:
            cuts = [np.arange(g + 1) / g for g in grid]
        self.cuts = []
        for axis, (cut, shape) in enumerate(zip(cuts, shapes)):
            cut = np.asarray(cut, float)
            if cut.shape[-1:] != shape[-1:]:
                raise ValueError(
                    f"axis {axis} has {shape[-1] - 1} bricks and needs {shape[-1]} cuts, not {cut.shape[-1:]}"
                )
            cut = np.ascontiguousarray(np.broadcast_to(cut, shape))
            if (cut[..., 0] != 0).any() or (cut[..., -1] != 1).any() or (np.diff(cut, axis=-1) < 0).any():
                raise ValueError(f"the cuts of axis {axis} must rise from 0 to 1")
            self.cuts.append(cut)
        self.coords = np.array(np.unravel_index(self.world.rank, tuple(grid)))
        x, y, z = self.cuts
        self._boxes = []
        for end in (slice(None, -1), slice(1, None)):
            sides = x[end][:, None, None], y[:, end][:, :, None], z[:, :, end]
            self._boxes.append(np.stack([np.broadcast_to(side, tuple(grid)).ravel() for side in sides], axis=1))
        self.lo, self.hi = (corner[self.world.rank] for corner in self._boxes)

    def boxes(self):
        """Fractional bounds of every rank's brick: lo (P, 3), hi (P, 3), not to be changed."""
        return self._boxes

    def owners(self, s):
        """Rank (n,) int32 that owns each fractional position (n, 3); beyond a face of the cell: the edge brick."""
        return _halo.owners(np.ascontiguousarray(s, float), *self.cuts)

    def rebalance(self, s, cost=None, *, tolerance: float = 0.05, min_width=0.0) -> bool:
        """Collective. Moves the cuts so that every brick carries about the same cost; True when they moved.

        s: (n, 3) fractional positions of this rank's atoms. cost: what this rank's atoms cost, as a total
        (measured seconds, spread over its atoms) or per atom (n,), e.g. neighbours; None counts atoms. Measured times
        make a run depend on the machine's mood; the other two keep it reproducible.
        Does nothing while max / mean over ranks is within 1 + tolerance. Without a grid set by the user, the grid is
        chosen anew by the least surface of the occupied part of the cell. min_width: (3,) or a number, the least
        fractional width of a brick. Atoms are not moved: migrate() does.
        """
        world, n = self.world, len(s)
        if cost is None:
            weight = np.ones(n)
        else:
            weight = np.asarray(cost, float)
            weight = np.full(n, float(weight) / max(n, 1)) if weight.ndim == 0 else weight
        if weight.shape != (n,):
            raise ValueError(f"cost must be a number or ({n},), not {weight.shape}")
        if world.size == 1:
            return False
        s = np.asarray(s, float)
        s = np.clip(np.where(self.periodic, s - np.floor(s), s), 0.0, np.nextafter(1.0, 0.0))
        load = world.allreduce(_sums(self.owners(s), weight, world.size))  # by place: atoms may not have migrated yet
        total = load.sum()
        if not total > 0 or load.max() * world.size <= total * (1 + tolerance):
            return False
        grid = self.grid
        if not self.fixed_grid:
            grid = self._grid_of_occupied(s, weight, total)
        min_width = np.minimum(np.broadcast_to(np.asarray(min_width, float), 3), 0.5 / grid)
        cuts, parent = [], np.zeros(n, np.int64)  # parent: the slab, then the column, that holds each atom
        for axis in range(3):
            parents = int(np.prod(grid[:axis]))
            cut = _even_cuts(world, s[:, axis], weight, parent, parents, int(grid[axis]), min_width[axis])
            cuts.append(cut.reshape(*grid[:axis], grid[axis] + 1))
            inner = cut[:, 1:-1]
            cell = (s[:, axis, None] >= inner[parent]).sum(axis=1) if inner.shape[1] else 0
            parent = parent * grid[axis] + cell
        even = world.allreduce(_sums(parent, weight, world.size))
        if even.max() >= load.max():
            return False
        self._set(grid, cuts)
        return True

    def _grid_of_occupied(self, s, weight, total):
        """The grid of least surface for the part of the cell that holds cost; the present one unless clearly better."""
        bins = 256
        occupied = np.empty(3)
        for axis in range(3):
            histogram = self.world.allreduce(_sums((s[:, axis] * bins).astype(np.int64), weight, bins))
            occupied[axis] = max(1, (histogram > 0.02 * total / bins).sum()) / bins
        lengths = occupied * self.lengths
        periodic = self.periodic & (occupied > 0.9)
        best = choose_grid(self.world.size, lengths, periodic)
        better = _surface(best, lengths, periodic) < 0.9 * _surface(self.grid, lengths, periodic)
        return np.array(best) if better else self.grid


def choose_grid(ranks: int, lengths, periodic=(True, True, True)) -> tuple[int, int, int]:
    """The factorisation of `ranks` whose bricks have the least surface to exchange; ties cut the last axis least."""
    choices = [
        (x, y, ranks // (x * y))
        for x in range(1, ranks + 1)
        if ranks % x == 0
        for y in range(1, ranks // x + 1)
        if ranks // x % y == 0
    ]
    return min(choices, key=lambda grid: (round(_surface(grid, lengths, periodic), 9), grid[::-1]))


def _surface(grid, lengths, periodic) -> float:
    """Relative face area that a brick exchanges: two faces an axis, those of an uncut open axis excepted.

    An uncut periodic axis is exchanged too, but with itself by a copy, which is cheaper than a message: half weight.
    """
    area = 0.0
    side = [length / g for length, g in zip(lengths, grid)]
    volume = side[0] * side[1] * side[2]
    for g, a, repeats in zip(grid, side, periodic):
        faces = 2.0 if g > 1 and repeats else 2.0 * (g - 1) / g if g > 1 else 1.0 if repeats else 0.0
        area += faces * volume / a
    return area / (lengths[0] * lengths[1] * lengths[2]) ** (2.0 / 3.0)


def _even_cuts(world, x, weight, parent, parents: int, parts: int, min_width: float):
    """Cuts (parents, parts + 1) of [0, 1] that split the cost of each parent evenly along one axis.

    Two histograms over all ranks: a coarse one, then one of the coarse bins that hold a cut, which places the cuts to
    1 / BINS^2 of the axis.
    """
    cuts = np.tile(np.arange(parts + 1) / parts, (parents, 1))
    if parts == 1:
        return cuts
    coarse = np.minimum((x * BINS).astype(np.int64), BINS - 1)
    histogram = _sums(parent * BINS + coarse, weight, parents * BINS).reshape(parents, BINS)
    running = np.cumsum(world.allreduce(histogram), axis=1)
    total = running[:, -1:]
    goal = total * np.arange(1, parts) / parts  # (parents, parts - 1)
    holder = np.array([np.searchsorted(run, want) for run, want in zip(running, goal)]).clip(0, BINS - 1)
    before = np.where(holder > 0, np.take_along_axis(running, np.maximum(holder - 1, 0), 1), 0.0)
    fine = np.zeros((parents, parts - 1, BINS))
    for cut in range(parts - 1):
        inside = coarse == holder[parent, cut]
        bin_ = ((x[inside] * BINS - coarse[inside]) * BINS).astype(np.int64).clip(0, BINS - 1)
        fine[:, cut] = _sums(parent[inside] * BINS + bin_, weight[inside], parents * BINS).reshape(parents, BINS)
    fine = np.cumsum(world.allreduce(fine), axis=2) + before[..., None]
    place = (fine < goal[..., None]).sum(axis=2).clip(0, BINS - 1)
    # Where an empty stretch follows the goal, cut in its middle: no atom sits at a cut for nothing.
    reached = np.take_along_axis(fine, place[..., None], 2)[..., 0]
    low = (holder + (place + 1) / BINS) / BINS
    first_after = np.array(
        [np.searchsorted(run, want * (1 + 1e-12), side="right") for run, want in zip(running, reached)]
    )
    high = np.where(first_after > holder, first_after / BINS, low)
    cuts[:, 1:-1] = np.where(total > 0, 0.5 * (low + np.clip(high, low, 1.0)), cuts[:, 1:-1])
    for k in range(1, parts):  # keep bricks at least min_width wide, from both ends
        cuts[:, k] = np.maximum(cuts[:, k], cuts[:, k - 1] + min_width)
    for k in range(parts - 1, 0, -1):
        cuts[:, k] = np.minimum(cuts[:, k], cuts[:, k + 1] - min_width)
    return cuts


def _sums(bins, weight, size: int):
    """The weight in each of `size` bins, float64 (bincount gives integers where there is nothing to count)."""
    return np.bincount(bins, weight, minlength=size).astype(np.float64)
