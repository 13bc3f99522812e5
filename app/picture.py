"""Pictures of atoms as shaded spheres, coloured by label: a slice through a structure, or its solid atoms in the cell."""

from __future__ import annotations

import base64
from io import BytesIO
from math import ceil, log10

import numpy as np

from ostwald.app.analysis.structure import LABELS

# The colours most programs give these structures, in hues and lightnesses that the colour-blind can tell apart.
COLOURS = {
    "fcc": "#22a884",
    "hcp": "#dd5f20",
    "bcc": "#3a72d8",
    "ico": "#e6c229",
    "crystal": "#93d8b8",
    "sc": "#9467bd",
    "cubic_diamond": "#56b4e9",
    "hexagonal_diamond": "#c9789f",
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


def rgb_of(labels):
    """(n, 3) in 0 … 1: colours of labels (n,)."""
    table = np.array([[int(COLOURS[name][k : k + 2], 16) / 255 for k in (1, 3, 5)] for name in LABELS])
    return table[np.asarray(labels)]


def spheres(x, y, depth, radius, colours, shape, scale, *, relief=0.0, between=None):
    """(height, width, 4) uint8 RGBA of shaded spheres on a transparent background.

    x, y, depth (n,): centres, Å, larger depth is nearer to the eye, y upwards from the lower edge; radius: Å;
    colours (n, 3) in 0 … 1; shape: (height, width) in pixels; scale: pixels per Å. relief: how much darker, 0 … 1, what
    lies behind its surroundings is drawn (unsharp masking of the depth: Luft, Colditz, Deussen, ACM Trans. Graph. 25,
    1206 (2006)). between: depths, Å, between which the far is drawn darker than the near; default: those of the atoms.
    """
    height, width = shape
    r = radius * scale
    column, row = np.rint(x * scale).astype(int), np.rint(height - 1 - y * scale).astype(int)
    order = np.argsort(depth, kind="stable")  # where two meet in a pixel at once, the nearer is written last
    column, row, depth, colours = column[order], row[order], depth[order] * scale, colours[order]
    if not len(depth):
        return np.zeros((height, width, 4), np.uint8)
    far, near = (depth.min(), depth.max()) if between is None else np.asarray(between) * scale
    fog = 0.72 + 0.28 * (depth - far) / max(near - far, 1e-9)
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
    image = image.reshape(height, width, 4)
    if relief and len(depth):
        image[..., :3] = image[..., :3] * relief_of(
            np.where(np.isfinite(front), front, depth.min() - r), shape, r, relief
        )
    return image


def relief_of(front, shape, r, strength):
    """(height, width, 1) factors below 1 where the depth `front` (pixels) lies behind its blurred self."""
    from scipy.ndimage import gaussian_filter, zoom

    front = front.reshape(shape).astype(np.float32)
    factor = np.ones(shape, np.float32)
    for width in (2.0 * r, 8.0 * r):
        step = max(int(width / 6), 1)  # what is blurred needs no more points
        padded = np.pad(front, [(0, -side % step) for side in shape], mode="edge")
        coarse = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step).mean(axis=(1, 3))
        smooth = zoom(gaussian_filter(coarse, width / step), step, order=1, grid_mode=True, mode="nearest")
        factor *= 1 - 0.5 * strength * np.clip((smooth[: shape[0], : shape[1]] - front) / width, 0, 1)
    return factor[..., None]


def png(image, size):
    """A data URI of the picture, scaled down to size (width, height) and to 256 colours."""
    from PIL import Image as Picture

    picture = Picture.fromarray(image).resize(size, Picture.Resampling.BOX)
    buffer = BytesIO()
    picture.quantize(255, method=Picture.Quantize.FASTOCTREE).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def field_image(shade, size) -> str:
    """An HTML image, size (width, height) in pixels, of a plane of numbers in 0 … 1: dark blue to bright yellow."""
    from matplotlib import colormaps
    from PIL import Image as Picture

    image = Picture.fromarray((255 * colormaps["cividis"](shade)[..., :3]).astype(np.uint8)).resize(
        size, Picture.Resampling.BICUBIC
    )
    return f'<img class="slice" alt="slice of the field" src="{png(np.asarray(image), size)}">'


def _round_length(x):
    """The largest of 1, 2, 5 × 10^k that is not above x."""
    power = 10.0 ** np.floor(log10(x))
    return max(step * power for step in (1, 2, 5) if step * power <= x * (1 + 1e-9))


def _spacing(frame, total=None):
    """Å: cube root of the volume of an atom; total: atoms of the cell, where the frame holds only some of them."""
    return (abs(np.linalg.det(frame.matrix)) / max(total or len(frame.positions), 1)) ** (1 / 3)


def slice_svg(frame, labels, *, axis=2, middle=0.5, thickness=None, width=760, total=None):
    """An SVG element: the atoms of a slab seen along its normal, the cell's outline and a scale bar.

    The slab lies across cell axis `axis` at the fraction `middle`, `thickness` (Å) thick; None: four layers of atoms.
    labels (n,): colour of each atom; total: atoms of the cell, if there are more than in the frame. Colours of lines and text come from the page (--ink, --muted).
    """
    matrix = np.asarray(frame.matrix, float)
    first, second = matrix[(axis + 1) % 3], matrix[(axis + 2) % 3]
    ex = first / np.linalg.norm(first)
    normal = np.cross(first, second)
    normal /= np.linalg.norm(normal)
    ey = np.cross(normal, ex)
    height = abs(matrix[axis] @ normal)
    spacing = _spacing(frame, total)
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
    fine = 2 if radius * scale < 24 else 1  # edges of small spheres are smoothed by drawing them twice as large
    image = spheres(
        x - low[0],
        y - low[1],
        depth,
        radius,
        rgb_of(np.asarray(labels)[chosen]),
        (size[1] * fine, size[0] * fine),
        scale * fine,
    )
    outline = " ".join(f"{(p[0] - low[0]) * scale:.1f},{size[1] - (p[1] - low[1]) * scale:.1f}" for p in corners)
    left = (corners[:, 0].min() - low[0]) * scale
    below = 34
    return (
        f'<svg class="slice" viewBox="0 0 {size[0]} {size[1] + below}" role="img" aria-label="slice of the structure">'
        f'<image href="{png(image, size)}" width="{size[0]}" height="{size[1]}"/>'
        f'<polygon points="{outline}" fill="none" stroke="var(--muted)" stroke-width="1.5"/>'
        f"{_scale_bar(left, size[1] + 14, 0.25 * extent[0], scale)}</svg>"
    )


def _scale_bar(left, top, longest, scale, size=26):
    """A bar of a round length of at most `longest` Å with its label, at (left, top) pixels."""
    bar = _round_length(longest)
    text = f"{bar / 10:g} nm" if bar >= 10 else f"{bar:g} Å"
    return (
        f'<path d="M{left:.1f} {top} h{bar * scale:.1f}" stroke="var(--ink)" stroke-width="{size / 6.5:.1f}"/>'
        f'<text x="{left + bar * scale + 0.4 * size:.1f}" y="{top + 0.35 * size:.0f}" '
        f'font-size="{size}" fill="var(--ink)">{text}</text>'
    )


def camera(matrix, azimuth, elevation):
    """Rows (right, up, towards the eye) of a view; the cell's a axis is to the right for azimuth 0, c upwards. Degrees."""
    azimuth, elevation = np.radians(azimuth), np.radians(elevation)
    a = matrix[0] / np.linalg.norm(matrix[0])
    up = np.cross(matrix[0], matrix[1])
    up /= np.linalg.norm(up)
    front = -np.cross(up, a)
    right = np.cos(azimuth) * a - np.sin(azimuth) * front
    front = np.sin(azimuth) * a + np.cos(azimuth) * front
    eye = np.cos(elevation) * front + np.sin(elevation) * up
    return np.array([right, np.cross(eye, right), eye])


def _visible(x, y, depth, spacing):
    """(n,) bool: False for atoms that lie so far behind others that nothing of them can be seen. Lengths in Å."""
    from scipy.ndimage import minimum_filter

    column = ((x - x.min()) / spacing).astype(int)
    row = ((y - y.min()) / spacing).astype(int)
    front = np.full((row.max() + 1, column.max() + 1), -np.inf)
    np.maximum.at(front, (row, column), depth)
    return depth >= minimum_filter(front, 3, mode="constant", cval=-np.inf)[row, column] - 3 * spacing


_EDGES = [(a, b) for a in range(8) for b in (a | 1, a | 2, a | 4) if b > a]
"""The edges of a cell between its corners, whose number has bit k set where the corner lies at the end of axis k."""


def solid_svg(frame, labels, solid, *, width=640, azimuth=28.0, elevation=16.0, total=None):
    """An SVG element: the solid atoms alone, coloured by label, in the outline of the cell, and a scale bar.

    labels (n,), solid (n,) bool; total: as of `slice_svg`. A cell of a million atoms takes about a second: what is hidden is not drawn.
    """
    matrix, origin = np.asarray(frame.matrix, float), np.asarray(frame.origin, float)
    view = camera(matrix, azimuth, elevation)
    spacing = _spacing(frame, total)
    s = (np.asarray(frame.positions)[solid] - origin) @ np.linalg.inv(matrix)
    s -= np.where(frame.periodic, np.floor(s), 0.0)
    x, y, depth = view @ (s @ matrix).T
    corners = np.array([[k & 1, k >> 1 & 1, k >> 2] for k in range(8)]) @ matrix @ view.T
    shown = np.asarray(labels)[solid]
    if len(x):
        seen = _visible(x, y, depth, spacing)
        x, y, depth, shown = x[seen], y[seen], depth[seen], shown[seen]
    flat = np.concatenate([corners[:, :2], np.column_stack([x, y])])
    low, high = flat.min(axis=0) - 0.8 * spacing, flat.max(axis=0) + 0.8 * spacing
    scale = width / (high[0] - low[0])
    size = width, max(1, round((high[1] - low[1]) * scale))
    fine = 2 if spacing * scale < 40 else 1
    image = spheres(
        x - low[0],
        y - low[1],
        depth,
        0.56 * spacing,
        rgb_of(shown),
        (size[1] * fine, size[0] * fine),
        scale * fine,
        relief=0.7,
        between=(corners[:, 2].min(), corners[:, 2].max()),
    )
    far = corners[:, 2].argmin()

    def lines(behind):
        drawn = ""
        for a, b in _EDGES:
            if (far in (a, b)) == behind:
                ends = [((corners[k, 0] - low[0]) * scale, size[1] - (corners[k, 1] - low[1]) * scale) for k in (a, b)]
                drawn += "M" + " L".join(f"{u:.1f} {v:.1f}" for u, v in ends)
        dash = ' stroke-dasharray="5 4"' if behind else ""
        return f'<path d="{drawn}" fill="none" stroke="var(--muted)" stroke-width="1.2" stroke-linecap="round"{dash}/>'

    picture = f'<image href="{png(image, size)}" width="{size[0]}" height="{size[1]}"/>' if len(x) else ""
    return (
        f'<svg class="slice" viewBox="0 0 {size[0]} {size[1] + 30}" role="img" aria-label="solid atoms in the cell">'
        f"{lines(True)}{picture}{lines(False)}"
        f"{_scale_bar(8, size[1] + 14, 0.25 * (high[0] - low[0]), scale, 20)}</svg>"
    )


def cluster_svg(frame, positions, labels, *, width=480, azimuth=28.0, elevation=16.0, reach=None, total=None):
    """An SVG element: atoms at `positions` (m, 3) Å alone, seen from near, with a scale bar.

    frame: of the cell they are from, for the view and (total: as of `slice_svg`) the size of an atom. reach: Å from their centre to the edges of the
    picture; default: all of them.
    """
    view = camera(np.asarray(frame.matrix, float), azimuth, elevation)
    spacing = _spacing(frame, total)
    x, y, depth = view @ (positions - positions.mean(axis=0)).T
    reach = max(np.abs(x).max(), np.abs(y).max()) + spacing if reach is None else reach
    scale = width / (2 * reach)
    fine = 2 if spacing * scale < 40 else 1
    image = spheres(
        x + reach, y + reach, depth, 0.56 * spacing, rgb_of(labels), (width * fine,) * 2, scale * fine, relief=0.7
    )
    return (
        f'<svg class="slice" viewBox="0 0 {width} {width + 30}" role="img" aria-label="a nucleus">'
        f'<image href="{png(image, (width, width))}" width="{width}" height="{width}"/>'
        f"{_scale_bar(8, width + 14, 0.5 * reach, scale, 20)}</svg>"
    )
