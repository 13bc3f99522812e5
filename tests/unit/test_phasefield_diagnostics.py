"""Diagnostics of phase fields against closed forms and against NumPy."""

import numpy as np
import pytest

from ostwald.app.phasefield import (
    CahnHilliard,
    FiniteDifference,
    Morphology,
    StructureFactor,
    Well,
    amplitudes,
    double_well,
    quartic_well,
)
from ostwald.parallel import World


def solver_of(phi, spacing=1.0, dtype=np.float64, well=None):
    solver = CahnHilliard(World(), phi.shape, well or double_well(3.0), 3.0, spacing=spacing, dtype=dtype)
    solver.set_field(phi)
    return solver


def grid(*shape):
    """Coordinates from the middle, on no symmetry plane of the grid."""
    return [x - n / 2 + 0.31 for x, n in zip(np.indices(shape, float), shape)]


def measure(phi, spacing=1.0, dtype=np.float64, **options):
    solver = solver_of(phi, spacing, dtype)
    numbers, profiles = Morphology(**options).measure(solver)
    solver.close()
    return numbers, profiles


def profile(distance):
    return 0.5 * (1 - np.tanh(distance))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape, spacing", [((20, 24, 36), (0.5, 0.8, 1.1)), ((40, 28), (0.5, 1.3))])
def test_one_cosine(shape, spacing, dtype):
    mode = (2, 3, 4)[: len(shape)]
    phase = sum(2 * np.pi * m * x / n for m, x, n in zip(mode, np.indices(shape), shape))
    solver = solver_of(0.4 + 0.06 * np.cos(phase + 0.7), spacing, dtype)
    close = 1e-12 if dtype == "float64" else 1e-5
    analysis = StructureFactor()
    numbers, profiles = analysis.measure(solver)
    assert set(numbers) == set(analysis.columns)
    assert numbers["variance"] == pytest.approx(0.06**2 / 2, rel=close)
    k = np.linalg.norm([2 * np.pi * m / (n * h) for m, n, h in zip(mode, shape, spacing)])
    assert profiles["modes"].sum() == np.prod(shape) - 1
    power = profiles["structure_factor"] * profiles["modes"] / solver.volume
    peak = int(power.argmax())
    assert power[peak] == pytest.approx(0.06**2 / 2, rel=close) and np.delete(power, peak).max() < close * 1e-3
    assert abs(profiles["wave_number"][peak] - k) < 2 * np.pi / max(n * h for n, h in zip(shape, spacing))
    assert numbers["length"] == pytest.approx(2 * np.pi / profiles["wave_number"][peak], rel=10 * close)
    opposite = [-m for m in mode]
    asked = np.array([mode, opposite, [0] * len(shape), [1] * len(shape)])
    wanted = 0.03 * np.exp(0.7j)
    assert amplitudes(solver, asked) == pytest.approx([wanted, wanted.conj(), 0, 0], abs=0.03 * close)
    solver.close()


def test_shells_are_those_of_numpy():
    shape, spacing = (12, 10, 18), (1.0, 0.7, 0.9)
    phi = np.random.default_rng(1).normal(size=shape)
    solver = solver_of(phi, spacing)
    numbers, profiles = StructureFactor(width=0.4).measure(solver)
    axes = (2 * np.pi * np.fft.fftfreq(n, h) for n, h in zip(shape, spacing))
    k = np.sqrt(sum(q**2 for q in np.meshgrid(*axes, indexing="ij")))
    power = np.abs(np.fft.fftn(phi) / phi.size).ravel() ** 2
    bins = np.floor(k.ravel() / 0.4 + 0.5).astype(int)
    bins[0] = bins.max() + 1  # the mean
    count, k, power = (np.bincount(bins, w)[:-1] for w in (None, k.ravel(), power))
    there = count > 0
    assert (profiles["modes"] == count[there]).all()
    assert profiles["wave_number"] == pytest.approx(k[there] / count[there])
    assert profiles["structure_factor"] == pytest.approx(solver.volume * power[there] / count[there])
    assert numbers["variance"] == pytest.approx(phi.var())
    s, k = profiles["structure_factor"], profiles["wave_number"]
    assert numbers["length"] == pytest.approx(2 * np.pi * s.sum() / (s * k).sum())
    modes = np.array(list(np.ndindex(shape))) - 5
    wanted = (np.fft.fftn(phi - phi.mean()) / phi.size)[tuple(modes.T % np.array(shape)[:, None])]
    assert np.abs(amplitudes(solver, modes) - wanted).max() < 1e-15
    with pytest.raises(ValueError, match="integers"):
        amplitudes(solver, [[1, 2]])
    solver.close()


def test_growth_rates():
    """Two spectra tell the growth that the step's formula gives to small waves."""
    solver = solver_of(0.5 + 1e-7 * np.random.default_rng(4).normal(size=(24, 20, 16)), 0.7)
    modes = np.array([(1, 2, 3), (2, 0, -1), (0, 1, 0), (5, -7, 2)])
    before = amplitudes(solver, modes)
    solver.step(0.01, 10)
    rates = np.log(np.abs(amplitudes(solver, modes) / before)) / solver.time
    q = ((2 * np.pi * modes / (np.array([24, 20, 16]) * 0.7)) ** 2).sum(axis=1)
    curvature = double_well(3.0).energy(0.5, 2)
    assert rates == pytest.approx(np.log((1 - 0.01 * q * curvature) / (1 + 0.01 * 3 * q**2)) / 0.01, rel=1e-6)
    solver.close()


def test_uniform():
    numbers, _ = StructureFactor().measure(solver_of(np.full((8, 6, 10), 0.5)))
    assert numbers["variance"] == 0 and np.isnan(numbers["length"])
    numbers, profiles = measure(np.full((8, 6, 10), 0.3))
    assert numbers["interface"] == 0 and numbers["interface_length"] == np.inf and numbers["fraction"] == 0
    assert (numbers["domains_high"], numbers["domains_low"], numbers["spans_low"], numbers["largest_high"]) == (
        0,
        1,
        3,
        0,
    )
    assert numbers["euler_high"] == numbers["euler_low"] == 0, "a three-dimensional torus"
    assert profiles["sizes_low"].tolist() == [480] and len(profiles["sizes_high"]) == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_lamellae(axis):
    """Three periods across a periodic box: flat interfaces have their exact area by both estimates."""
    shape, spacing = (48, 54, 60), (0.8, 1.1, 0.9)
    x = np.indices(shape)[axis] / shape[axis]
    phi = np.clip(0.5 + 1.5 * np.sin(2 * np.pi * (3 * x + 0.01)), 0, 1)
    numbers, profiles = measure(phi, spacing)
    volume, across = np.prod(shape) * np.prod(spacing), shape[axis] * spacing[axis]
    assert numbers["interface"] == pytest.approx(6 * volume / across, rel=1e-12)
    assert numbers["interface_gradient"] == pytest.approx(6 * volume / across, rel=1e-9)
    assert numbers["interface_length"] == pytest.approx(across / 3, rel=1e-12)
    assert (numbers["domains_high"], numbers["domains_low"], numbers["euler_high"], numbers["euler_low"]) == (
        3,
        3,
        0,
        0,
    )
    assert numbers["spans_high"] == 2 and profiles["numbers_high"].sum() == 3
    assert profiles["sizes_high"] @ profiles["numbers_high"] == (phi > 0.5).sum()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_layers_between_walls(axis):
    """Flat interfaces end at the walls, half a spacing beyond the outermost points: their area is that of the box, exactly."""
    shape, spacing = (12, 15, 17), (0.8, 1.1, 0.9)
    x = (np.indices(shape)[axis] + 0.5) / shape[axis]
    phi = np.clip(0.5 + 1.5 * np.cos(3 * np.pi * x + 0.02), 0, 1)
    solver = FiniteDifference(World(), shape, double_well(3.0), 3.0, 1.0, spacing, boundaries="mirror")
    solver.set_field(phi)
    numbers, profiles = Morphology().measure(solver)
    area = solver.volume / (shape[axis] * spacing[axis])
    assert numbers["interface"] == pytest.approx(3 * area, rel=1e-12)
    assert numbers["interface_gradient"] == pytest.approx(3 * area, rel=1e-9)
    assert (numbers["domains_high"], numbers["domains_low"]) == (2, 2) == (numbers["euler_high"], numbers["euler_low"])
    assert numbers["spans_high"] == numbers["spans_low"] == 0
    assert profiles["sizes_high"] @ profiles["numbers_high"] == (phi > 0.5).sum()


def test_a_ball_in_a_corner():
    """An eighth of a ball whose middle is where three walls meet."""
    r = np.linalg.norm([i + 0.5 for i in np.indices((32, 32, 32))], axis=0)
    solver = FiniteDifference(World(), r.shape, double_well(3.0), 3.0, boundaries="mirror")
    solver.set_field(profile(r - 20.0))
    numbers, _ = Morphology().measure(solver)
    assert numbers["interface"] == pytest.approx(np.pi * 20.0**2 / 2, rel=0.01)
    assert numbers["domains_high"] == numbers["euler_high"] == numbers["domains_low"] == numbers["euler_low"] == 1


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_balls(dtype):
    """Two balls, one across the corner of the box."""
    spacing = np.array([1.0, 0.9, 1.15])
    x = np.array(grid(64, 72, 56)) * spacing[:, None, None, None]
    box = np.array([64, 72, 56]) * spacing
    corner = x - box[:, None, None, None] * np.rint(x / box[:, None, None, None] - 0.5) - 0.5 * box[:, None, None, None]
    one, two = profile(np.linalg.norm(x, axis=0) - 17.4), profile(np.linalg.norm(corner, axis=0) - 13.2)
    numbers, profiles = measure(one + two, spacing, dtype)
    area = 4 * np.pi * (17.4**2 + 13.2**2)
    assert numbers["interface"] == pytest.approx(area, rel=0.012)
    assert numbers["interface_gradient"] == pytest.approx(area + 4 * np.pi * 2 * np.pi**2 / 12, rel=0.004)
    assert numbers["domains_high"] == numbers["euler_high"] == 2 and numbers["domains_low"] == 1
    assert numbers["euler_low"] == 2 and numbers["spans_high"] == 0 and numbers["spans_low"] == 3
    volumes = 4 / 3 * np.pi * np.array([13.2, 17.4]) ** 3 / spacing.prod()
    assert profiles["sizes_high"] == pytest.approx(volumes, rel=0.01) and profiles["numbers_high"].tolist() == [1, 1]
    assert numbers["largest_high"] == pytest.approx(volumes[1] / volumes.sum(), rel=0.01)


def test_area_converges():
    """Marching tetrahedra are second order in the spacing."""
    errors = []
    for n in (32, 64):
        r = np.linalg.norm(grid(n, n, n), axis=0) / n
        numbers, _ = measure(0.35 - r, 1 / n, level=0.0, phases=(-0.5, 0.5), domains=False)
        errors.append(numbers["interface"] / (4 * np.pi * 0.35**2) - 1)
        assert "domains_high" not in numbers
    assert abs(errors[1]) < 0.002 and abs(errors[0]) > 3 * abs(errors[1])


def test_topology():
    x, y, z = grid(60, 60, 60)
    ring = np.hypot(np.hypot(x, y) - 18, z)
    kinds = {
        "torus": (profile(ring - 6), 0, 1, 0),
        "hollow ball": (profile(np.abs(np.sqrt(x**2 + y**2 + z**2) - 18) - 5), 2, 1, 0),
        "rod": (profile(np.hypot(x, z) - 7), 0, 1, 1),
        "slab": (profile(np.abs(z) - 7), 0, 1, 2),
    }
    turn = 2 * np.pi / 60
    kinds["Schwarz P"] = 0.5 + np.cos(turn * x) + np.cos(turn * y) + np.cos(turn * z), -2, 1, 3
    s, c = np.sin, np.cos
    gyroid = s(turn * x) * c(turn * y) + s(turn * y) * c(turn * z) + s(turn * z) * c(turn * x)
    kinds["gyroid"] = 0.5 + gyroid, -4, 1, 3
    for name, (phi, euler, domains, spans) in kinds.items():
        numbers, _ = measure(phi)
        found = numbers["euler_high"], numbers["domains_high"], numbers["spans_high"]
        assert found == (euler, domains, spans), name
    assert numbers["euler_low"] == -4 and numbers["domains_low"] == 1, "the two sides of a gyroid are alike"


def test_two_dimensions():
    x, y = grid(96, 80)
    r = np.hypot(x, 0.7 * y)
    numbers, _ = measure(profile(r - 20), (1.0, 0.7))
    assert numbers["interface"] == pytest.approx(2 * np.pi * 20, rel=0.005)
    assert numbers["interface_gradient"] == pytest.approx(2 * np.pi * 20, rel=0.005)
    assert (numbers["euler_high"], numbers["euler_low"], numbers["domains_high"], numbers["spans_low"]) == (1, -1, 1, 2)
    assert measure(profile(np.abs(r - 20) - 4), (1.0, 0.7))[0]["euler_high"] == 0, "a ring"
    i, j = np.indices((60, 60))
    numbers, _ = measure(((i + j) % 60 < 20) * 1.0)
    assert (numbers["domains_high"], numbers["spans_high"], numbers["euler_high"]) == (1, 2, 0), "a stripe that winds"
    i, j = np.indices((64, 64))
    numbers, _ = measure(((i + j) % 2) * 1.0)
    assert (numbers["domains_high"], numbers["euler_high"]) == (2048, 2048), "corners do not join"


def test_phases_of_a_well():
    assert double_well(2.0).minima() == pytest.approx([0, 1])
    assert quartic_well(5, 0.3, 0.7).minima() == pytest.approx([0.3, 0.7])
    x = np.indices((48, 12, 16))[0] / 48
    phi = 0.5 + 0.2 * np.clip(1.5 * np.sin(2 * np.pi * (x + 0.01)), -1, 1)
    solver = solver_of(phi, well=quartic_well(5, 0.3, 0.7))
    assert Morphology().measure(solver)[0]["interface_gradient"] == pytest.approx(2 * 12 * 16)
    solver.close()
    solver = solver_of(phi, well=Well(0.5, (0.0, 0.0, 1.0)))
    with pytest.raises(ValueError, match="minima"):
        Morphology().measure(solver)
    assert Morphology(phases=(0.3, 0.7)).measure(solver)[0]["interface"] == pytest.approx(2 * 12 * 16)
    solver.close()
    for wrong in (lambda: Morphology(phases=(1, 0)), lambda: StructureFactor(width=0.0)):
        with pytest.raises(ValueError):
            wrong()
