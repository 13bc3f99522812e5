"""A picture of the surface φ = level of a field in its box: the part above it as a solid body."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np

from ostwald.app import picture

POINTS = 64
"""Along an axis, at most: finer fields are averaged."""
AT_A_TIME = 200_000
"""Points that are drawn together."""
BODY = (0.28, 0.47, 0.72)
LIGHT = np.array([-0.42, 0.50, 0.757])
_TETRAHEDRA = [
    np.cumsum(np.vstack([np.zeros(3, int), np.eye(3, dtype=int)[list(p)]]), axis=0) for p in permutations(range(3))
]
"""The corners of six that fill a cell, around its diagonal."""


def coarse(field, points: int = POINTS) -> np.ndarray:
    """Averages of a field of three axes (an array, or an io.fields.FieldFrame, read plane by plane) over blocks: at most
    `points` along each axis."""
    edges = [np.linspace(0, n, min(n, points) + 1).astype(int) for n in field.shape]
    x, y, z = edges
    out = np.empty([len(e) - 1 for e in edges])
    area = np.diff(y)[:, None] * np.diff(z)
    for i, (a, b) in enumerate(pairwise(x)):
        plane = np.asarray(field[a:b], float).mean(axis=0)
        out[i] = np.add.reduceat(np.add.reduceat(plane, y[:-1], axis=0), z[:-1], axis=1) / area
    return out


def triangles(phi, level):
    """Of the surface φ = level of a periodic field, closed where it meets the faces of the box, by marching tetrahedra.

    Returns corners (m, 3, 3) in units of grid points, 0 … n; normals (m, 3, 3) out of the body φ > level, not of unit
    length; values (m, 3): φ on a face of the box, NaN on the surface.
    """
    phi = np.pad(np.asarray(phi, float), ((0, 1),) * 3, mode="wrap")
    slope = np.pad(np.stack([-g for g in np.gradient(phi)], axis=-1), ((1, 1),) * 3 + ((0, 0),), mode="edge")
    size = np.array(phi.shape)
    deep = level - 1e9 * max(np.ptp(phi), 1e-30)  # so that the body ends on the last points
    phi = np.pad(phi, 1, constant_values=deep)
    above = phi > level
    some, every = np.zeros(size + 1, bool), np.ones(size + 1, bool)
    for corner in np.ndindex(2, 2, 2):
        here = above[tuple(slice(c, c + n + 1) for c, n in zip(corner, size))]
        some |= here
        every &= here
    cells = np.argwhere(some & ~every)
    found = []
    for corners in _TETRAHEDRA:
        points = cells[:, None] + corners
        v = phi[tuple(np.moveaxis(points, -1, 0))]
        order = np.argsort(-v, axis=1)
        points = np.take_along_axis(points, order[..., None], axis=1)
        v = np.take_along_axis(v, order, axis=1)
        inside = (v > level).sum(axis=1)
        for count, faces in (
            (1, [((0, 1), (0, 2), (0, 3))]),
            (2, [((0, 2), (0, 3), (1, 3)), ((0, 2), (1, 3), (1, 2))]),
            (3, [((0, 3), (1, 3), (2, 3))]),
        ):
            chosen = inside == count
            found += [_corners(points[chosen], v[chosen], slope, size, level, face) for face in faces]
    return tuple(np.concatenate(a) for a in zip(*found))


def _corners(points, v, slope, size, level, face):
    """Of a triangle in each of some tetrahedra; face: the three edges it has its corners on, from above to below."""
    out = []
    for a, b in face:
        pa, pb, t = points[:, a], points[:, b], (v[:, a] - level) / (v[:, a] - v[:, b])
        t = t[:, None]
        beyond = (pb > size).astype(int) - (pb < 1)
        cap = beyond.any(axis=1)
        normal = (1 - t) * slope[tuple(pa.T)] + t * slope[tuple(pb.T)]
        normal[cap] = beyond[cap]
        out.append((pa + t * (pb - pa) - 1, normal, np.where(cap, v[:, a], np.nan)))
    return tuple(np.stack(a, axis=1) for a in zip(*out))


def image(phi, level, spacing, *, width=520, azimuth=28.0, elevation=22.0) -> str:
    """An HTML image of the body φ > level; where it meets the faces of the box it shows φ. spacing: of the points (3,)."""
    from matplotlib import colormaps

    corners, normals, values = triangles(phi, level)
    view = picture.camera(np.eye(3), azimuth, elevation)
    box = np.array(list(np.ndindex(2, 2, 2))) * np.array(phi.shape) * spacing @ view.T
    low, high = box.min(axis=0), box.max(axis=0)
    fine = 2
    scale = fine * (width - 8) / (high[0] - low[0])
    shape = round((high[1] - low[1]) * scale) + 8 * fine, fine * width
    seen = corners * spacing @ view.T
    normals = normals / spacing @ view.T
    normals /= np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-300)
    colours = colormaps["cividis"](np.clip((values - level) / max(np.max(phi) - level, 1e-30), 0, 1))[..., :3]
    colours = np.where(np.isnan(values)[..., None], BODY, colours)
    shown = np.flatnonzero((normals[..., 2] > 0).any(axis=1))  # the rest looks away
    shown = shown[np.argsort(seen[shown, :, 2].max(axis=1), kind="stable")]  # in a pixel, the nearer comes last
    pixels = (seen[shown] - (low[0], high[1], 0)) * (scale, -scale, scale) + (4 * fine, 4 * fine, 0)
    lit = np.clip(normals[shown] @ LIGHT, 0, 1)[..., None]
    picked, front = _rasterised(pixels, colours[shown] * (0.42 + 0.68 * lit) + 0.25 * lit**24, shape)
    front = np.where(np.isfinite(front), front, low[2] * scale)
    picked[..., :3] = (picked[..., :3] * picture.relief_of(front, shape, 3.0 * fine, 0.8)).astype(np.uint8)
    size = width, round(shape[0] / fine)
    return f'<img class="slice" alt="surface of the field" src="{picture.png(picked, size)}">'


def _rasterised(pixels, colours, shape):
    """(image (height, width, 4) uint8, depth of each pixel) of triangles (m, 3, 3) with colours (m, 3, 3) in 0 … 1.

    Triangles are drawn as points less than a pixel apart, those of about one size together.
    """
    front, out = np.full(shape[0] * shape[1], -np.inf), np.zeros((shape[0] * shape[1], 4), np.uint8)
    longest = np.linalg.norm(pixels[..., :2] - np.roll(pixels[..., :2], 1, axis=1), axis=2).max(axis=1, initial=0.0)
    parts = np.maximum(np.ceil(1.2 * longest), 1).astype(int)
    for n in np.unique(parts):
        mine = np.flatnonzero(parts == n)
        i, j = (k.ravel() for k in np.mgrid[: n + 1, : n + 1])
        weights = np.stack([i, j, n - i - j], 1)[i + j <= n] / n
        some = max(AT_A_TIME // len(weights), 1)
        for first in range(0, len(mine), some):
            few = mine[first : first + some]
            x, y, depth = np.moveaxis(weights @ pixels[few], -1, 0).reshape(3, -1)
            column, row = np.rint(x).astype(int), np.rint(y).astype(int)
            pixel = np.clip(row, 0, shape[0] - 1) * shape[1] + np.clip(column, 0, shape[1] - 1)
            shade = (weights @ colours[few]).reshape(-1, 3)
            nearer = np.flatnonzero(depth > front[pixel])
            pixel = pixel[nearer]
            front[pixel] = depth[nearer]
            out[pixel, :3] = np.clip(255 * shade[nearer], 0, 255)
    out[np.isfinite(front), 3] = 255
    return out.reshape(*shape, 4), front
