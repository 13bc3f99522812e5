"""The picture of a body in its box: a closed surface of the right area and volume, and pixels where it is."""

import base64
import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from ostwald.app import surface


def ball(n, radius, centre):
    x = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1) - centre
    return radius - np.linalg.norm(x, axis=-1)


def measures(corners, normals):
    """(area, volume) of triangles turned as their normals say."""
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    across *= np.sign((across * normals.sum(axis=1)).sum(axis=1))[:, None]
    return np.linalg.norm(across, axis=1).sum() / 2, (across * corners[:, 0]).sum() / 6


def test_a_ball():
    corners, normals, values = surface.triangles(ball(40, 14.0, (20, 19, 21)), 0.0)
    area, volume = measures(corners, normals)
    assert area == pytest.approx(4 * np.pi * 14**2, rel=0.01) and volume == pytest.approx(
        4 / 3 * np.pi * 14**3, rel=0.01
    )
    assert np.isnan(values).all()
    out = corners - (20, 19, 21)
    cosine = (out * normals).sum(axis=2) / np.linalg.norm(out, axis=2) / np.linalg.norm(normals, axis=2)
    assert cosine.min() > 0.99


def test_a_body_that_leaves_the_box_is_closed_on_its_faces():
    phi = np.sin(2 * np.pi * np.arange(24) / 24)[:, None, None] + np.zeros(
        (24, 20, 16)
    )  # a slab 0 < x < 12 across the box
    corners, normals, values = surface.triangles(phi, 0.1)
    depth = 24 * (1 - 2 * np.arcsin(0.1) / np.pi) / 2
    area, volume = measures(corners, normals)
    assert volume == pytest.approx(depth * 20 * 16, rel=0.01) and area == pytest.approx(
        2 * (20 * 16 + depth * (20 + 16)), rel=0.01
    )
    caps = ~np.isnan(values)
    assert (
        0 < caps.mean() < 1 and np.nanmax(values) == 1 and corners.min() > -1e-6 and corners[..., 1].max() < 20 + 1e-6
    )


def test_averages():
    field = np.random.default_rng(1).random((50, 33, 20))
    small = surface.coarse(field, 25)
    assert small.shape == (25, 25, 20) and small[3, 0, 7] == pytest.approx(field[6:8, :1, 7].mean())
    assert np.array_equal(surface.coarse(field[:20, :20, :20], 25), field[:20, :20, :20])


def test_pixels_are_where_the_body_is():
    phi = ball(32, 9.0, (16, 16, 16))
    page = surface.image(phi, 0.0, np.ones(3), width=300, azimuth=0.0, elevation=0.0)
    data = base64.b64decode(re.search('base64,([^"]+)', page)[1])
    alpha = np.asarray(Image.open(BytesIO(data)).convert("RGBA"))[..., 3] > 128
    scale = (300 - 8) / 32
    assert alpha.sum() == pytest.approx(np.pi * (9 * scale) ** 2, rel=0.03)  # without holes
    rows, columns = np.nonzero(alpha)
    assert columns.mean() == pytest.approx(150, abs=2) and rows.mean() == pytest.approx(alpha.shape[0] / 2, abs=2)
