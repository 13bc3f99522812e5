"""Pictures of atoms: a slice through a structure as shaded spheres, coloured by label."""

from __future__ import annotations

import base64
from io import BytesIO
from math import ceil, log10

import numpy as np

from ostwald.app.analysis import structure as analysis
from ostwald.app.potentials.base import Neighbourhoods
from ostwald.app.potentials.images import Images

COLOURS = {
    "fcc": "#41ab5d",
    "hcp": "#e0524a",
    "bcc": "#4a7fe0",
    "ico": "#e8b030",
    "crystal": "#a6d8ae",
    "sc": "#9467bd",
    "cubic_diamond": "#2f8fd0",
    "hexagonal_diamond": "#f08a3c",
    "other": "#d3d8e0",
}
MEANING = {
    "fcc": "fcc",
    "hcp": "hcp, stacking fault",
    "bcc": "bcc",
    "ico": "icosahedral",
    "crystal": "crystal, distorted",
    "sc": "simple cubic",
    "cubic_diamond": "cubic diamond",
    "hexagonal_diamond": "hexagonal diamond",
    "other": "liquid, disordered",
}


def labels_of(frame, method="q6", threshold=None, templates=analysis.METALS):
    """(n,) int8 labels (`analysis.structure.LABELS`) of a whole structure on one process, without ranks.

    frame: positions (n, 3) Å, matrix, origin, periodic. method, threshold, templates: as of `analysis.structure.structure`.
    """
    n = len(frame.positions)
    if n == 0:
        return np.zeros(0, np.int8)
    volume = abs(np.linalg.det(frame.matrix))
    reach = 4 / 3 * (15 * volume / (4.18879 * n)) ** (1 / 3)
    positions = np.asarray(frame.positions, float) - frame.origin
    images = Images(positions, frame.matrix, frame.periodic, reach)
    rows = np.ascontiguousarray(images.rows(positions))
    no_list = np.zeros(n + 1, np.int64), np.zeros(0, np.int32)
    nb = Neighbourhoods(rows, np.zeros(len(rows), np.int32), n, *no_list, "full", images.forward, images.reverse)
    return analysis.labelled(nb, reach, method, threshold, (), templates).labels


def spheres(x, y, depth, radius, colours, shape, scale):
    """(height, width, 4) uint8 RGBA of shaded spheres on a transparent background.

    x, y, depth (n,): centres, Å, larger depth is nearer to the eye, y upwards from the lower edge; radius: Å;
    colours (n, 3) in 0 … 1; shape: (height, width) in pixels; scale: pixels per Å.
    """
    height, width = shape
    r = radius * scale
    column, row = np.rint(x * scale).astype(int), np.rint(height - 1 - y * scale).astype(int)
    order = np.argsort(depth, kind="stable")  # where two meet in a pixel at once, the nearer is written last
    column, row, depth, colours = column[order], row[order], depth[order] * scale, colours[order]
    span = max(depth.max() - depth.min(), 1e-9) if len(depth) else 1.0
    fog = 0.72 + 0.28 * (depth - depth.min()) / span if len(depth) else depth
    front = np.full(height * width, -np.inf)
    image = np.zeros((height * width, 4), np.uint8)
    light = np.array([-0.42, 0.50, 0.757])
    reach = ceil(r)
    offsets = np.stack(np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1)), -1).reshape(-1, 2)
    for dx, dy in offsets[(offsets**2).sum(axis=1) <= r * r]:
        nz = np.sqrt(max(r * r - dx * dx - dy * dy, 0.0)) / r
        lit = max(float(np.dot((dx / r, -dy / r, nz), light)), 0.0)
        shade = (0.50 + 0.55 * lit) * min(1.0, 0.55 + 1.3 * nz)  # the rim is dark, so that atoms stand apart
        shine = 0.45 * lit**24
        i, j = row + dy, column + dx
        seen = (i >= 0) & (i < height) & (j >= 0) & (j < width)
        pixel, here = i[seen] * width + j[seen], depth[seen] + nz * r
        nearer = here > front[pixel]
        pixel = pixel[nearer]
        front[pixel] = here[nearer]
        rgb = colours[seen][nearer] * (shade * fog[seen][nearer])[:, None] + shine
        image[pixel, :3] = np.minimum(rgb * 255, 255)
        image[pixel, 3] = 255
    return image.reshape(height, width, 4)


def _png(image, size):
    """A data URI of the picture, scaled down to size (width, height) and to 256 colours."""
    from PIL import Image as Picture

    picture = Picture.fromarray(image).resize(size, Picture.Resampling.BOX)
    buffer = BytesIO()
    picture.quantize(255, method=Picture.Quantize.FASTOCTREE).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _round_length(x):
    """The largest of 1, 2, 5 × 10^k that is not above x."""
    power = 10.0 ** np.floor(log10(x))
    return max(step * power for step in (1, 2, 5) if step * power <= x * (1 + 1e-9))


def slice_svg(frame, labels, *, axis=2, middle=0.5, thickness=None, width=760):
    """An SVG element: the atoms of a slab seen along its normal, the cell's outline and a scale bar.

    The slab lies across cell axis `axis` at the fraction `middle`, `thickness` (Å) thick; None: four layers of atoms.
    labels (n,): colour of each atom. Colours of lines and text come from the page (--ink, --muted).
    """
    matrix = np.asarray(frame.matrix, float)
    first, second = matrix[(axis + 1) % 3], matrix[(axis + 2) % 3]
    ex = first / np.linalg.norm(first)
    normal = np.cross(first, second)
    normal /= np.linalg.norm(normal)
    ey = np.cross(normal, ex)
    height = abs(matrix[axis] @ normal)
    spacing = (abs(np.linalg.det(matrix)) / max(len(frame.positions), 1)) ** (1 / 3)
    thickness = min(height, 3.2 * spacing if thickness is None else thickness)

    s = (frame.positions - frame.origin) @ np.linalg.inv(matrix)
    s -= np.where(frame.periodic, np.floor(s), 0.0)
    away = s[:, axis] - middle
    if frame.periodic[axis]:
        away -= np.rint(away)
    chosen = np.abs(away) * height <= thickness / 2
    flat = s[chosen].copy()
    flat[:, axis] = 0.0  # seen along the normal, the slab's own shear plays no part
    flat = flat @ matrix
    x, y, depth = flat @ ex, flat @ ey, away[chosen] * height

    corners = np.array([[0, 0], first @ np.array([ex, ey]).T, (first + second) @ np.array([ex, ey]).T])
    corners = np.concatenate([corners, [second @ np.array([ex, ey]).T]])
    radius = 0.5 * spacing
    low = np.minimum(corners.min(axis=0), (x.min(initial=0), y.min(initial=0))) - 1.2 * radius
    high = np.maximum(corners.max(axis=0), (x.max(initial=0), y.max(initial=0))) + 1.2 * radius
    extent = high - low
    scale = width / extent[0]
    size = (width, max(1, round(extent[1] * scale)))
    colours = np.array([[int(COLOURS[n][k : k + 2], 16) / 255 for k in (1, 3, 5)] for n in analysis.LABELS])
    fine = 2 if radius * scale < 24 else 1  # edges of small spheres are smoothed by drawing them twice as large
    image = spheres(
        x - low[0],
        y - low[1],
        depth,
        radius,
        colours[np.asarray(labels)[chosen]],
        (size[1] * fine, size[0] * fine),
        scale * fine,
    )
    outline = " ".join(f"{(p[0] - low[0]) * scale:.1f},{size[1] - (p[1] - low[1]) * scale:.1f}" for p in corners)
    left = (corners[:, 0].min() - low[0]) * scale
    bar = _round_length(0.25 * extent[0])
    text = f"{bar / 10:g} nm" if bar >= 10 else f"{bar:g} Å"
    below = 34
    return (
        f'<svg class="slice" viewBox="0 0 {size[0]} {size[1] + below}" role="img" aria-label="slice of the structure">'
        f'<image href="{_png(image, size)}" width="{size[0]}" height="{size[1]}"/>'
        f'<polygon points="{outline}" fill="none" stroke="var(--muted)" stroke-width="1.5"/>'
        f'<path d="M{left:.1f} {size[1] + 14} h{bar * scale:.1f}" stroke="var(--ink)" '
        f'stroke-width="4"/><text x="{left + bar * scale + 10:.1f}" y="{size[1] + 23}" '
        f'font-size="26" fill="var(--ink)">{text}</text></svg>'
    )
