"""The body within a triangle mesh as an initial field."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ostwald.app.phasefield.initial import InitialField

CLOSE = 1e-6
"""Corners that are this close, over the size of the mesh, are one where a mesh is not closed otherwise."""


@dataclass(frozen=True)
class Mesh(InitialField):
    """`inside` within a closed mesh, `outside` elsewhere, and between them in the cells that its surface cuts, by volume.

    triangles (m, 3, 3): corners; 3-D grids only. scale: lengths of the grid over those of the mesh; size: instead of it, the
    mesh's longest extent in the grid. position: where the middle of its bounding box goes; default: the middle of the box. What
    lies beyond the box comes in on the other side.
    samples: a cell is crossed by samples² lines along the last axis, whose lengths inside count.

    A point is inside where the mesh winds around it, so shells may overlap, and a shell turned inside out is a cavity. Where facets
    are not turned alike it is inside where a line crosses the mesh an odd number of times. Neighbouring facets meet a
    line in the same bits, so none slips through between them. ValueError where the mesh is not closed.
    """

    shape: Sequence[int]
    spacing: float | Sequence[float] = 1.0
    triangles: np.ndarray = ()
    scale: float | None = None
    size: float | None = None
    position: Sequence[float] | None = None
    inside: float = 1.0
    outside: float = 0.0
    samples: int = 2

    def __post_init__(self):
        super().__post_init__()
        if len(self.shape) != 3:
            raise ValueError("a mesh needs a grid of three dimensions")
        if self.scale is not None and self.size is not None:
            raise ValueError("give either the scale of a mesh or its size")
        if self.position is not None and len(self.position) != 3:
            raise ValueError(f"the position of a mesh has three coordinates, not {len(self.position)}")
        if self.samples < 1:
            raise ValueError(f"a cell needs one sample or more, not {self.samples}")
        corners = np.asarray(self.triangles, float)
        low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
        extent = float((high - low).max())
        scale = self.size / extent if self.size is not None and extent > 0 else self.scale or 1.0
        corners, turned = _closed(corners)
        middle = np.array(self.lengths) / 2 if self.position is None else np.asarray(self.position, float)
        corners = (corners - (low + high) / 2) * scale + middle
        object.__setattr__(self, "_winding", turned)
        object.__setattr__(self, "_corners", self._images(corners))

    def _images(self, corners):
        """The mesh and those of its periodic images that reach into the cells of the grid, sorted by their beginnings in x."""
        lengths, h = np.array(self.lengths), np.array(self.spacing)
        low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
        shifts = [
            range(math.ceil((-0.5 * d - b) / n), math.floor((n - 0.5 * d - a) / n) + 1)
            for a, b, n, d in zip(low, high, lengths, h)
        ]
        if math.prod(len(s) for s in shifts) * len(corners) > 1 << 25:
            raise ValueError("the mesh is so much larger than the box that too many of its images lie in it")
        images = np.concatenate([corners + np.array(shift) * lengths for shift in product(*shifts)])
        return images[np.argsort(images[..., 0].min(axis=1), kind="stable")]

    def _block(self, lo, hi):
        out = np.zeros(tuple(b - a for a, b in zip(lo, hi)))
        s, (hx, hy, _) = self.samples, self.spacing
        first, last = self._corners[..., 0].min(axis=1), self._corners[..., 0].max(axis=1)
        rows = (np.arange(lo[1] * s, hi[1] * s) + 0.5) / s * hy - 0.5 * hy
        for i in range(lo[0], hi[0]):
            for k in range(s):
                x = ((i * s + k) + 0.5) / s * hx - 0.5 * hx
                near = self._corners[: np.searchsorted(first, x, "right")]
                near = near[last[: len(near)] > x]
                if len(near):
                    shares = self._along(*_cut(near, x), rows)
                    out[i - lo[0]] += shares.reshape(hi[1] - lo[1], s, -1).sum(axis=1)[:, lo[2] : hi[2]]
        out *= (self.inside - self.outside) / s**2
        out += self.outside
        return out

    def _along(self, begin, end, rows):
        """(rows, n) shares of the cells of lines along the last axis that lie inside the polygons of segments begin -> end."""
        n = self.shape[2]
        up = end[:, 0] > begin[:, 0]
        low, high = np.where(up[:, None], begin, end), np.where(up[:, None], end, begin)
        start = np.searchsorted(rows, low[:, 0])
        counts = np.searchsorted(rows, high[:, 0]) - start
        which = np.repeat(np.arange(len(counts)), counts)
        row = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts) + start[which]
        a, b = low[which], high[which]
        t = (rows[row] - a[:, 0]) / (b[:, 0] - a[:, 0])
        u = (a[:, 1] + t * (b[:, 1] - a[:, 1])) / self.spacing[2] + 0.5  # cell k is k … k + 1
        order = np.lexsort((u, row))
        row, u, sign = row[order], np.clip(u[order], 0, n), np.where(up[which[order]], 1, -1)
        after = np.cumsum(sign)  # 0 again behind each line
        if not self._winding:
            after = np.cumsum(np.ones_like(sign)) % 2
        within = (after != 0).astype(float)
        change = np.diff(within, prepend=0.0)  # 1 where a stretch inside begins, -1 where it ends
        cell = np.minimum(u.astype(np.int64), n - 1)
        part = cell + 1 - u
        slots = row * (n + 1) + cell
        size = len(rows) * (n + 1)
        steps = np.bincount(slots, change * part, size) + np.bincount(slots + 1, change * (1 - part), size)
        return np.cumsum(steps.reshape(len(rows), n + 1), axis=1)[:, :n]


def _cut(corners, x):
    """Begins and ends (m, 2), in y and z, of the segments in which triangles (m, 3, 3) meet a plane, turned as these are.

    An edge is met from its lower to its upper end, whichever triangle it is of: its point is the same for all of them.
    """
    points = []
    nexts = np.roll(corners, -1, axis=1)
    below, after = corners[..., 0] <= x, nexts[..., 0] <= x
    for rising in (True, False):
        edge = np.argmax(below & ~after if rising else ~below & after, axis=1)
        here = np.arange(len(corners)), edge
        low, high = (corners[here], nexts[here]) if rising else (nexts[here], corners[here])
        t = (x - low[:, 0]) / (high[:, 0] - low[:, 0])
        points.append(low[:, 1:] + t[:, None] * (high[:, 1:] - low[:, 1:]))
    return points


def _closed(corners):
    """(corners, whether all facets are turned alike) of a closed mesh. ValueError where it is not closed."""
    extent = float(np.ptp(corners, axis=(0, 1)).max())
    if not extent > 0:
        raise ValueError("the mesh has no extent")
    for digits in (None, CLOSE * extent):
        points = corners.reshape(-1, 3) if digits is None else np.round(corners.reshape(-1, 3) / digits) * digits
        points, names = np.unique(points + 0.0, axis=0, return_inverse=True)
        faces = names.reshape(-1, 3)
        faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]  # those without an area
        a, b = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
        low, high = np.minimum(a, b), np.maximum(a, b)
        edges, which = np.unique(low * len(points) + high, return_inverse=True)
        uses = np.bincount(which)
        if not (uses % 2).any():
            return points[faces], not np.bincount(which, np.where(a < b, 1, -1)).any()
    odd = np.flatnonzero(uses % 2)
    place = " ".join(f"{x:.6g}" for x in points[edges[odd[0]] // len(points)])
    raise ValueError(
        f"the mesh is not closed: {len(odd)} of its edges belong to an odd number of facets, the first at {place}"
    )
