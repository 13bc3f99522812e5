"""Roughness and isotropy: closed forms, and counts by a program that does nothing but count."""

import numpy as np
import pytest

from ostwald.app.phasefield import Boundary, CahnHilliard, Isotropy, double_well
from ostwald.parallel import World


def solver_of(phi, spacing=1.0):
    solver = CahnHilliard(World(), phi.shape, double_well(3.0), 3.0, spacing=spacing)
    solver.set_field(phi)
    return solver


def dimension(phi):
    (value,) = Boundary().measure(solver_of(phi))[0].values()
    return value


def counted(phi, level=0.5):
    """The same by loops over boxes."""
    phase = phi > level
    marks = np.zeros(phi.shape, bool)
    for axis in range(phi.ndim):
        marks |= phase != np.roll(phase, -1, axis)
    sizes = [s for s in (1, 2, 4, 8, 16, 32, 64) if s == 1 or s <= max(min(phi.shape) // 4, 2)]
    counts = [len(np.unique(np.argwhere(marks) // s, axis=0)) for s in sizes]
    return -np.polyfit(np.log(sizes), np.log(counts), 1)[0]


@pytest.mark.parametrize("shape", [(48, 60), (50, 42), (20, 18, 28), (15, 9, 25)])
def test_boxes_are_counted(shape):
    for seed in range(3):
        phi = np.random.default_rng(seed).random(shape)
        for axis in range(len(shape)):
            phi = phi + np.roll(phi, 1, axis) + np.roll(phi, 2, axis)
        phi -= phi.mean() - 0.5
        assert dimension(phi) == pytest.approx(counted(phi), rel=1e-12)


def test_dimensions_of_flat_round_and_rough_boundaries():
    x = np.arange(128)
    assert dimension(np.broadcast_to((x < 64)[:, None], (128, 128)).astype(float)) == pytest.approx(1)
    cube = np.broadcast_to((np.arange(32) < 16)[:, None, None], (32, 32, 32)).astype(float)
    assert dimension(cube) == pytest.approx(2) == dimension(np.moveaxis(cube, 0, 2).copy())
    disc = (np.hypot(x[:, None] - 63.5, x - 63.5) < 40).astype(float)
    assert 0.9 < dimension(disc) < 1.15
    noise = (np.random.default_rng(1).random((128, 128)) < 0.5).astype(float)
    assert dimension(noise) > 1.8
    assert np.isnan(dimension(np.full((16, 16), 0.2)))


def isotropy(phi):
    (value,) = Isotropy().measure(solver_of(phi))[0].values()
    return value


def test_isotropy():
    x, y = np.meshgrid(np.arange(120), np.arange(96), indexing="ij")
    along = 0.5 + 0.4 * np.sin(2 * np.pi * x / 12)
    assert isotropy(along) < 0.01
    checks = 0.5 + 0.4 * np.sign(np.sin(2 * np.pi * (x + 0.5) / 24)) * np.sign(np.sin(2 * np.pi * (y + 0.5) / 24))
    assert isotropy(checks) < 0.2
    oblique = 0.5 + 0.4 * np.sin(2 * np.pi * (x / 12 + y / 12))
    assert isotropy(oblique) > 10
    values = []
    for seed in range(8):  # waves of all directions
        q, phase = np.random.default_rng(seed).normal(size=(2, 400)), np.random.default_rng(seed + 50).random(400)
        q *= 14 / np.hypot(*q)
        q = np.rint(q)
        phi = sum(np.cos(2 * np.pi * (a * x / 120 + b * y / 120 + c)) for a, b, c in zip(*q, phase))
        phi = np.tile(phi[:, :60], (1, 2))[:, :96]
        values.append(isotropy(0.5 + 0.02 * phi))
    assert 0.85 < np.mean(values) < 1.15, values
    assert np.isnan(isotropy(np.full((16, 16), 0.3)))
    with pytest.raises(ValueError, match="two dimensions"):
        Isotropy().measure(solver_of(np.zeros((8, 8, 8))))


def test_isotropy_is_that_of_histograms_made_point_by_point():
    rng = np.random.default_rng(3)
    phi, h = rng.random((18, 25)), (0.7, 1.1)
    cells = np.zeros((4, 6, 10))
    for i in range(16):
        for j in range(24):
            a = (phi[(i + 1) % 18, j] - phi[i - 1, j]) / (2 * h[0])
            b = (phi[i, (j + 1) % 25] - phi[i, j - 1]) / (2 * h[1])
            cells[i // 4, j // 4, int(np.degrees(np.arctan2(a, b)) % 180 // 18)] += np.hypot(a, b) / 16
    total = np.zeros(10)
    for i in range(3):
        for j in range(5):
            block = cells[i : i + 2, j : j + 2]
            block = np.minimum(block / np.sqrt((block**2).sum() + 1e-10), 0.2)
            total += (block / np.sqrt((block**2).sum() + 1e-10)).sum(axis=(0, 1))
    wanted = total[[1, 2, 3, 6, 7, 8]].mean() / total[[0, 4, 5, 9]].mean()
    (found,) = Isotropy().measure(solver_of(phi, h))[0].values()
    assert found == pytest.approx(wanted, rel=1e-9)
