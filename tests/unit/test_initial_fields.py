"""Initial fields: every box of one is the same, whoever asks for it, and they are what they say."""

import math
from pathlib import Path

import numpy as np
import pytest

from ostwald.app.cli import main
from ostwald.app.jobs.phasefield_schema import TABLES
from ostwald.app.jobs.phasefield_setup import initial_field
from ostwald.app.jobs.runfiles import read_run_file
from ostwald.app.phasefield import (
    CahnHilliard,
    Constant,
    GaussianNoise,
    Given,
    Layers,
    Perlin,
    PFHub,
    Spheres,
    UniformNoise,
    Within,
    double_well,
    quartic_well,
)
from ostwald.parallel import CollectiveError, Fourier, World, philox_normal, philox_uniform


@pytest.fixture(scope="module")
def world():
    return World()


def whole(field):
    return field.box((0,) * len(field.shape), field.shape)


def fields(shape):
    spacing = (0.5, 1.0, 0.8)[: len(shape)]
    lengths = np.array(shape) * spacing
    yield UniformNoise(shape, spacing, 3)
    yield GaussianNoise(shape, spacing, 3)
    yield GaussianNoise(shape, spacing, 3, correlation=0.7)
    yield GaussianNoise(shape, spacing, 3, correlation=6.0)  # the kernel is longer than the box
    yield Perlin(shape, spacing, 3, cells=3, octaves=2)
    yield Spheres(shape, spacing, [0.1 * lengths, 0.6 * lengths], [3.0, 2.0], 0.7)
    yield Layers(shape, spacing, len(shape) - 1, 2, 0.3)
    yield Within(Perlin(shape, spacing), 0, 0.2, 0.5, 0.1)
    yield Constant(shape, spacing, 0.2) + UniformNoise(shape, spacing)
    yield Given(np.random.default_rng(1).normal(size=shape).astype(np.float32), spacing)
    if len(shape) == 2:
        yield PFHub(shape, spacing)


@pytest.mark.parametrize("shape", [(21, 12, 40), (36, 50)])
def test_boxes_are_parts_of_the_whole(shape):
    rng = np.random.default_rng(0)
    for field in fields(shape):
        everything = whole(field)
        assert everything.shape == shape and np.isfinite(everything).all() and everything.dtype == np.float64
        assert np.array_equal(whole(field), everything)
        for _ in range(12):
            lo = rng.integers(0, shape)
            hi = [int(rng.integers(a, n + 1)) for a, n in zip(lo, shape)]
            part = tuple(slice(a, b) for a, b in zip(lo, hi))
            assert np.array_equal(field.box(lo, hi), everything[part]), field
        with pytest.raises(ValueError, match="no box"):
            field.box((0,) * len(shape), tuple(n + 1 for n in shape))


def test_white_noise():
    shape = (40, 50, 60)
    uniform = whole(UniformNoise(shape, seed=5, mean=0.4, amplitude=0.2))
    assert 0.2 < uniform.min() < 0.2001 and 0.5999 < uniform.max() < 0.6
    assert uniform.std() == pytest.approx(0.2 / math.sqrt(3), rel=0.01)
    gaussian = whole(GaussianNoise(shape, seed=5, mean=0.4, amplitude=0.2))
    assert gaussian.mean() == pytest.approx(0.4, abs=4 * 0.2 / math.sqrt(gaussian.size))
    assert gaussian.std() == pytest.approx(0.2, rel=0.01)
    for axis in range(3):
        assert abs(np.corrcoef(gaussian.ravel(), np.roll(gaussian, 1, axis).ravel())[0, 1]) < 0.015
    assert not np.any(gaussian == whole(GaussianNoise(shape, seed=6, mean=0.4, amplitude=0.2)))


@pytest.mark.parametrize(
    "shape, correlation", [((30, 24, 36), 1.5), ((16, 10, 20), 9.0), ((64, 49), 2.5), ((15, 64), 8.0)]
)
def test_correlated_noise_is_white_noise_convolved(shape, correlation):
    spacing = (1.0, 0.7, 1.2)[: len(shape)]
    white = philox_normal(4, "normal field", np.arange(math.prod(shape))).reshape(shape)
    expected = white
    for axis, (n, h) in enumerate(zip(shape, spacing)):
        width = correlation / math.sqrt(2)
        line, taps = np.zeros(n), np.arange(-20 * n, 20 * n + 1)
        np.add.at(line, taps % n, np.exp(-0.5 * (taps * h / width) ** 2))
        line /= math.sqrt((line**2).sum())
        expected = sum(w * np.roll(expected, k, axis) for k, w in enumerate(line))
    found = whole(GaussianNoise(shape, spacing, 4, 0.0, 1.0, correlation))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_correlation_length():
    noise = whole(GaussianNoise((80, 96, 100), 0.5, 2, 0.3, 0.1, 2.0))
    assert noise.std() == pytest.approx(0.1, rel=0.03)
    for axis in range(3):
        for steps in (2, 4, 6):
            c = np.mean((noise - 0.3) * (np.roll(noise, steps, axis) - 0.3)) / 0.01
            assert c == pytest.approx(math.exp(-0.5 * (0.5 * steps / 2.0) ** 2), abs=0.05)


def perlin_slowly(shape, cells, seed, octave=0):
    """Perlin noise point by point, as it is defined."""
    d = len(shape)
    ids = np.arange(math.prod(cells))
    u, v = philox_uniform(seed, "perlin", ids, octave, 2).T
    z = 2 * v - 1 if d == 3 else np.zeros_like(v)
    r = np.sqrt(1 - z**2)
    vectors = np.stack([r * np.cos(2 * np.pi * u), r * np.sin(2 * np.pi * u), z], -1)[:, :d].reshape(*cells, d)
    out = np.zeros(shape)
    for point in np.ndindex(*shape):
        x = np.array(point) * cells / shape
        cell = np.floor(x + 1e-12).astype(int)
        t = x - cell
        fade = 6 * t**5 - 15 * t**4 + 10 * t**3
        for corner in np.ndindex(*(2,) * d):
            weight = np.prod(np.where(corner, fade, 1 - fade))
            out[point] += weight * (vectors[tuple((cell + corner) % cells)] @ (t - corner))
    return out


@pytest.mark.parametrize(
    "shape, cells", [((12, 8, 15), (3, 4, 5)), ((10, 9, 14), (4, 2, 3)), ((24, 35), (4, 6)), ((8, 8), (1, 2))]
)
def test_perlin_noise(shape, cells):
    found = whole(Perlin(shape, 1.0, 7, 0.25, 2.0, cells))
    np.testing.assert_allclose(found, 0.25 + 2.0 * perlin_slowly(shape, cells, 7), atol=1e-13)
    octaves = whole(Perlin(shape, 1.0, 7, 0.25, 2.0, cells, 2, 0.6))
    twice = tuple(2 * c for c in cells)
    np.testing.assert_allclose(octaves, found + 1.2 * perlin_slowly(shape, twice, 7, 1), atol=1e-13)


def test_perlin_noise_is_smooth_and_isotropic():
    noise = whole(Perlin((96, 96, 96), seed=1, cells=12, mean=0.0, amplitude=1.0))
    assert np.abs(noise).max() <= math.sqrt(3) / 2 and np.all(noise[::8, ::8, ::8] == 0)
    for axis in range(3):  # periodic: the step across the edge is like the others
        steps = np.abs(np.diff(noise, axis=axis, append=noise.take([0], axis))).max(
            axis=tuple(a for a in range(3) if a != axis)
        )
        assert steps[-1] < 1.3 * steps[:-1].max() < 0.4
        assert np.diff(noise, axis=axis).std() == pytest.approx(np.diff(noise, axis=0).std(), rel=0.05)
    assert not np.array_equal(noise, whole(Perlin((96, 96, 96), seed=2, cells=12, mean=0.0, amplitude=1.0)))


def test_spheres_and_layers(world):
    shape, h = (48, 40, 50), 0.8
    sharp = whole(Spheres(shape, h, [[0.0, 1.0, 39.0]], 9.0, 0.0, 0.9, 0.1))
    assert set(np.unique(sharp)) == {0.1, 0.9}
    assert (sharp == 0.9).sum() * h**3 == pytest.approx(4 / 3 * np.pi * 9**3, rel=0.01)
    smooth = whole(Spheres(shape, h, [[0.0, 0.8, 39.2]], 9.0, 2.0, 0.9, 0.1))
    assert smooth[0, 1, 49] == pytest.approx(0.9) and smooth[24, 20, 20] == 0.1
    for i in (8, 11, 14, -8, -14):  # across the periodic boundary
        assert smooth[i, 1, 49] == pytest.approx(0.1 + 0.4 * (1 - math.tanh(1.5 * (abs(i) * h - 9))))
    assert np.array_equal(whole(Spheres(shape, h)), np.zeros(shape))

    layers = Layers((64, 8, 8), axis=0, count=2, fraction=0.5, epsilon=3.0)
    line = whole(layers)[:, 0, 0]
    assert line.mean() == pytest.approx(0.5) and line[32] > 0.999 and line[0] > 0.999 and line[16] < 0.001
    solver = CahnHilliard(world, (64, 8, 8), double_well(3.0), 3.0)
    solver.set_field(layers.source(solver.parts))
    assert solver.measure()["energy"] == pytest.approx(4 * 64, rel=0.01)  # four interfaces of energy 1
    slab = whole(Layers((10, 10), axis=1, fraction=0.3, centre=0.0, epsilon=0.0, inside=2.0))
    assert np.array_equal(slab[3], [2, 2, 0, 0, 0, 0, 0, 0, 0, 2])


@pytest.mark.parametrize("n, energy", [(200, 319.200), (400, 319.366)])
def test_pfhub(world, n, energy):
    """Its free energy as another Fourier solver finds it; FiPy and PRISMS-PF publish 319.03 with differences."""
    field = PFHub((n, n), 200 / n)
    solver = CahnHilliard(world, (n, n), quartic_well(5, 0.3, 0.7), 2.0, 5.0, 200 / n)
    solver.set_field(field.source(solver.parts))
    assert solver.measure()["energy"] == pytest.approx(energy, rel=1e-5)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_exact_mean(world, dtype):
    solver = CahnHilliard(world, (36, 30, 40), double_well(3.0), 3.0, dtype=dtype)
    for field in (GaussianNoise((36, 30, 40), seed=8, mean=7.0, correlation=2.0), Perlin((36, 30, 40), mean=0.1)):
        solver.set_field(field.with_mean(0.3, solver.parts).source(solver.fourier))
        assert abs(solver.mean - 0.3) < 2e-15
    with pytest.raises(CollectiveError, match="not finite"):
        Given(np.full((36, 30, 40), np.inf)).with_mean(0.5, solver.parts)


def test_wrong_input(world):
    for wrong in (
        lambda: Perlin((16, 16), cells=0),
        lambda: Perlin((16, 16), cells=8, octaves=3),
        lambda: GaussianNoise((16, 16), correlation=-1.0),
        lambda: UniformNoise((16,)),
        lambda: UniformNoise((16, 16), spacing=0.0),
        lambda: Spheres((16, 16), centres=[[1, 2]], radii=9.0),
        lambda: Layers((16, 16), axis=2),
        lambda: Within(UniformNoise((16, 16)), 0, 0.5, 0.4),
        lambda: PFHub((16, 16, 16)),
        lambda: UniformNoise((16, 16)) + UniformNoise((16, 18)),
        lambda: UniformNoise((16, 16)).source(Fourier(world, (16, 18))),
    ):
        with pytest.raises(ValueError):
            wrong()


TESTS = {"larger-box": (128, 100), "rabbit": (64, 100), "central-slab": (128, 2000), "stationary": (128, 80000), "long": (128, 72000)}  # fmt: skip


@pytest.mark.parametrize("name", TESTS)
def test_run_files_of_the_tests_of_a_network(name, capsys):
    """examples/crnn-tests: valid, and as long as they say; their fields at the start."""
    path, (n, intervals) = Path(__file__).parents[2] / f"examples/crnn-tests/{name}.toml", TESTS[name]
    assert main(["check", str(path)]) == 0
    out = capsys.readouterr().out
    assert f"{n} × {n} × {n} points, float32" in out and f"time         {400 * intervals} steps" in out
    values = read_run_file(World(), path, TABLES)
    field = initial_field(values, path, (n, n, n), (1.0,) * 3)
    (stage,) = values["stage"]
    assert stage["steps"] * stage["timestep"] == pytest.approx(0.5 * intervals, rel=1e-12)
    phi = field.box((0, 0, 0), (n, n, n))
    if name == "rabbit":
        high = np.argwhere(phi > 0.5)
        assert 0.05 < phi.mean() < 0.15 and (np.ptp(high, axis=0).max() == pytest.approx(49, abs=2))
        ears = phi[:, :, high[:, 2].max() - 4] > 0.5  # two of them, apart
        assert (np.abs(np.diff(ears.any(axis=0).astype(int))).sum(), phi.max()) == (4, 1.0)
    elif name == "central-slab":
        assert np.ptp(phi[:48]) == np.ptp(phi[80:]) == 0 and phi[50:78].std() > 0.03
    else:
        assert 0.2 < phi.min() < 0.4 and 0.6 < phi.max() < 0.8


def test_noise_in_a_part_of_the_box_from_a_run_file(tmp_path, capsys):
    path = tmp_path / "job.toml"
    text = '[job]\nkind = "phasefield"\n[grid]\nshape = [16, 20]\n[model]\nepsilon = 3.0\n[[stage]]\ntimestep = 0.1\nsteps = 1\n'
    noise = '[initial]\nkind = "uniform"\nmean = 0.4\nwithin = [0.25, 0.5]\naxis = 1\noutside = 0.1\n'
    path.write_text(text + noise)
    phi = initial_field(read_run_file(World(), path, TABLES), path, (16, 20), (1.0, 1.0)).box((0, 0), (16, 20))
    wanted = UniformNoise((16, 20), seed=1, mean=0.4).box((0, 0), (16, 20))
    assert np.array_equal(phi[:, 5:10], wanted[:, 5:10])
    assert np.all(phi[:, :5] == 0.1) and np.all(phi[:, 10:] == 0.1)
    for old, new, word in (
        ("within = [0.25, 0.5]\n", "", "[initial] axis: has no effect without within"),
        ("[0.25, 0.5]", "[0.5, 0.25]", "0 <= start < stop <= 1"),
        ("axis = 1", "axis = 2", "a part of the box has an axis of the grid"),
    ):
        path.write_text(text + noise.replace(old, new))
        assert main(["check", str(path)]) == 1 and word in capsys.readouterr().err
