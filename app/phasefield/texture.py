"""How rough the interfaces of a phase field are, and whether they prefer the axes. Analyses as in diagnostics.py."""

from __future__ import annotations

import math

import numpy as np

from ostwald.app.phasefield.diagnostics import phases_of


class Boundary:
    """The fractal dimension of the boundary between the phases φ > level and φ <= level, by counting boxes.

    A point is on the boundary where the next one along some axis (periodic) is of the other phase. N(L) boxes of L points along
    each axis hold such points, L = 1, 2, 4 … up to a quarter of the shortest axis; fractal_dimension = -d log N/d log L, by least
    squares: 1 for smooth lines in two dimensions, 2 for smooth surfaces in three, NaN without a boundary.
    Source: the descriptor of 2-D phase fields of Lanzoni et al.; box sizes and boundary points are our choice.
    """

    columns = {"fractal_dimension": "1"}

    def __init__(self, level: float | None = None):
        self.level = level

    def measure(self, solver) -> tuple[dict, dict]:
        world, shape = solver.world, solver.parts.shape
        level = 0.5 * sum(phases_of(solver.well)) if self.level is None else self.level
        count, boxes = _boundary(solver, level)
        boxes = world.allreduce(boxes, "max")
        counts, size = [int(world.allreduce(float(count)))], 2
        while size <= max(min(shape) // 4, 2):
            counts.append(int(boxes.sum()))
            boxes, size = _doubled(boxes), 2 * size
        dimension = math.nan
        if counts[0]:
            dimension = -float(np.polyfit(np.arange(len(counts)), np.log2(counts), 1)[0])
        return dict(fractal_dimension=dimension), {}


def _boundary(solver, level) -> tuple[int, np.ndarray]:
    """(how many points of this rank are on the boundary, whether boxes of two points an axis of the whole grid hold one)."""
    parts, count = solver.parts, 0
    boxes = np.zeros([-(-n // 2) for n in parts.shape], np.uint8)
    here = tuple(slice(a // 2, -(-b // 2)) for a, b in zip(parts.lo[1:], parts.hi[1:]))
    margin = [(a % 2, b % 2) for a, b in zip(parts.lo[1:], parts.hi[1:])]  # to whole boxes
    sides = _sides(solver, level) if len(parts.shape) == 3 else None
    for x, phase, beyond in _in_turn(solver, level):
        marks = phase != beyond
        marks |= phase != np.roll(phase, -1, axis=-1)
        if sides is not None:
            line = phase[0] if sides is PERIODIC else sides[x - parts.lo[0]]
            marks[:-1] |= phase[:-1] != phase[1:]
            marks[-1] |= phase[-1] != line
        count += int(np.count_nonzero(marks))
        boxes[(x // 2, *here)] |= _doubled(np.pad(marks, margin))
    return count, boxes


PERIODIC = object()


def _sides(solver, level):
    """The phases of the lines behind the last one of each plane, along axis 1, or PERIODIC where that is the plane's first one."""
    parts = solver.parts
    if parts.ranks[1] == 1:
        return PERIODIC
    return parts.from_next(np.concatenate([planes[:, 0] > level for _, _, planes in solver.pieces()]), 1)


def _in_turn(solver, level):
    """(x, phases of this rank's plane x, those of the next plane), one after another. Collective at its end."""
    parts, before, x = solver.parts, None, solver.parts.lo[0]
    for _, _, planes in solver.pieces():
        for phase in planes > level:
            if before is None:
                begin = phase
            else:
                yield x, before, phase
                x += 1
            before = phase
    yield x, before, parts.from_next(begin, 0)


def _doubled(boxes):
    """Boxes of twice the length."""
    boxes = np.pad(boxes.astype(np.uint8), [(0, n % 2) for n in boxes.shape])
    for axis in range(boxes.ndim):
        halves = [boxes.take(range(k, boxes.shape[axis], 2), axis) for k in (0, 1)]
        boxes = halves[0] | halves[1]
    return boxes


class Isotropy:
    """Whether interfaces in two dimensions prefer the axes: from histograms of oriented gradients.

    Gradients (central differences, periodic) of cells of 4 × 4 points go by their magnitude into 10 bins of direction over 180°;
    blocks of 2 × 2 cells are normalised (L2-Hys: length 1, cut at 0.2, length 1 again), and the mean over all blocks is taken.
    isotropy = mean of the bins away from the axes over the mean of those on either side of 0° and 90° (0-18, 72-90, 90-108, 162-180):
    1 where no direction is preferred, towards 0 where all interfaces lie along axes, NaN for a uniform field.
    Source: Dalal, Triggs, CVPR 2005, doi:10.1109/CVPR.2005.177; as a descriptor of phase fields, Lanzoni et al., Eq. 7.7.
    """

    columns = {"isotropy": "1"}
    CELL, BINS, AXIAL = 4, 10, (0, 4, 5, 9)

    def measure(self, solver) -> tuple[dict, dict]:
        parts = solver.parts
        if len(parts.shape) != 2:
            raise ValueError("the isotropy is that of a field of two dimensions")
        (n0, n1), (h0, h1) = parts.shape, solver.spacing
        phi = np.concatenate([planes.astype(float) for _, _, planes in solver.pieces()])
        one = parts.from_next(phi[0].copy(), 0)
        two = parts.from_next(phi[1].copy() if len(phi) > 1 else one, 0)
        phi = np.vstack([phi, one, two])
        row = (parts.lo[0] + 1 + np.arange(len(phi) - 2)) % n0  # of the middle of three
        along0 = (phi[2:] - phi[:-2]) / (2 * h0)
        along1 = (np.roll(phi[1:-1], -1, axis=1) - np.roll(phi[1:-1], 1, axis=1)) / (2 * h1)
        turn = np.degrees(np.arctan2(along0, along1)) % 180
        bins = np.minimum((turn * (self.BINS / 180)).astype(int), self.BINS - 1)
        m0, m1 = n0 // self.CELL, n1 // self.CELL
        y, x = np.broadcast_arrays((row // self.CELL)[:, None], np.arange(n1) // self.CELL)
        whole = (y < m0) & (x < m1)
        places = ((y * m1 + x) * self.BINS + bins)[whole]
        cells = np.bincount(places, np.hypot(along0, along1)[whole], m0 * m1 * self.BINS)
        cells = solver.world.allreduce(cells).reshape(m0, m1, self.BINS) / self.CELL**2
        blocks = np.stack([cells[a : m0 - 1 + a, b : m1 - 1 + b] for a in (0, 1) for b in (0, 1)], axis=2)
        for cut in (0.2, np.inf):
            size = np.sqrt((blocks**2).sum(axis=(2, 3), keepdims=True) + 1e-10)
            blocks = np.minimum(blocks / size, cut)
        mean = blocks.mean(axis=(0, 1, 2)) if blocks.size else np.zeros(self.BINS)
        axial = np.isin(np.arange(self.BINS), self.AXIAL)
        value = float(mean[~axial].mean() / mean[axial].mean()) if mean[axial].any() else math.nan
        return dict(isotropy=value), {}
