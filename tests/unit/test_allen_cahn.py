"""The Allen–Cahn step against plain NumPy and closed forms."""

import numpy as np
import pytest

from ostwald.app.phasefield import AllenCahn, Elasticity, RegularSolution, Spheres, cubic, double_well, quartic_well

EPSILON = 3.0


def numpy_step(phi, dt, well, epsilon, mobility, spacing, elasticity=None):
    axes = [2 * np.pi * np.fft.fftfreq(n, h) for n, h in zip(phi.shape[:-1], spacing)]
    axes.append(2 * np.pi * np.fft.rfftfreq(phi.shape[-1], spacing[-1]))
    q = np.meshgrid(*axes, indexing="ij")
    q2 = sum(a**2 for a in q)
    stiff = epsilon * q2
    if elasticity is not None:
        stiff = stiff + np.where(q2 == 0, 0.0, elasticity.factor(*[np.where(q2 == 0, 1.0, a) for a in q]))
    new = (np.fft.rfftn(phi) - dt * mobility * np.fft.rfftn(well.energy(phi, 1))) / (1 + dt * mobility * stiff)
    return np.fft.irfftn(new, phi.shape, axes=range(phi.ndim))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("well", [double_well(EPSILON), quartic_well(5.0, 0.3, 0.7), RegularSolution(3.0, 1.2)])
@pytest.mark.parametrize("shape", [(16, 20, 18), (40, 30), (7, 9, 15)])
def test_steps_are_those_of_numpy(world, shape, well, dtype):
    spacing, mobility, dt = (0.8, 1.1, 0.9)[: len(shape)], 0.7, 0.03
    phi = np.random.default_rng(1).normal(0.43, 0.1, shape).astype(dtype).astype(float)
    solver = AllenCahn(world, shape, well, 1.9, mobility, spacing, dtype)
    solver.set_field(phi.astype(dtype))
    start = phi.mean()
    close = 1e-13 if dtype == np.float64 else 3e-6
    for _ in range(20):
        phi = numpy_step(phi, dt, well, 1.9, mobility, spacing)
        before = solver.measure()
        again = solver.measured_step(dt)
        assert again == pytest.approx(before, rel=max(close, 1e-12)), "the state before the step, its mean too"
        assert solver.mean == pytest.approx(phi.mean(), abs=close)
        origin = solver._origin()
        assert (solver.spectrum[origin, 0, 0] == 0).all()
    assert np.abs(solver.field() - phi).max() < close
    assert abs(solver.mean - start) > 1e-3


@pytest.mark.parametrize("dimensions", [2, 3])
def test_elastic_steps_are_those_of_numpy(world, dimensions):
    shape, moduli = (20, 24, 30)[:dimensions], Elasticity(cubic(3e4, 1.5e4, 3e4), 0.011, dimensions)
    phi = np.random.default_rng(2).normal(0.5, 0.05, shape)
    solver = AllenCahn(world, shape, double_well(5.0), 5.0, elasticity=moduli)
    solver.set_field(phi)
    for _ in range(10):
        phi = numpy_step(phi, 0.05, double_well(5.0), 5.0, 1.0, (1.0,) * dimensions, moduli)
        solver.step(0.05)
    assert np.abs(solver.field() - phi).max() < 1e-13


def test_another_potential_drives_the_mean_too(world):
    """`extra` is the spectrum of a potential, its mean included: that of q = 0 moves the mean."""
    shape = (12, 16, 20)
    phi, force = np.random.default_rng(3).normal(0.5, 0.05, (2, *shape))
    solver = AllenCahn(world, shape, double_well(3.0), 3.0)
    solver.extra = solver.fourier.forward(force, None, 1 / phi.size)
    solver.set_field(phi)
    solver.step(0.02)
    wanted = numpy_step(phi, 0.02, double_well(3.0), 3.0, 1.0, (1, 1, 1))
    axes = [2 * np.pi * np.fft.fftfreq(n) for n in shape[:-1]] + [2 * np.pi * np.fft.rfftfreq(shape[-1])]
    q2 = sum(a**2 for a in np.meshgrid(*axes, indexing="ij"))
    wanted -= 0.02 * np.fft.irfftn(np.fft.rfftn(force) / (1 + 0.02 * 3.0 * q2), shape, axes=range(3))
    assert np.abs(solver.field() - wanted).max() < 1e-14


def test_a_uniform_field_rolls_down_the_well(world):
    """dφ/dt = -L g'(φ), step by step, to the nearest minimum."""
    well, mobility, dt = double_well(3.0), 0.8, 0.05
    for start, end in ((0.6, 1.0), (0.45, 0.0)):
        solver = AllenCahn(world, (8, 12, 10), well, 3.0, mobility)
        solver.set_field(np.full((8, 12, 10), start))
        phi = start
        for _ in range(200):
            solver.step(dt)
            phi -= dt * mobility * float(well.energy(phi, 1))
        assert solver.mean == pytest.approx(phi, abs=1e-13) and phi == pytest.approx(end, abs=1e-9)
        assert np.abs(solver.field() - phi).max() < 1e-14


@pytest.mark.parametrize("axis", [0, 2])
def test_flat_interfaces_stay(world, axis):
    """φ = ½ (1 + tanh 3x/ε) solves g' = ε φ''."""
    shape, h, x = [8, 8, 8], 0.25, (np.arange(160) - 40) * 0.25
    shape[axis] = 160
    profile = 0.5 * (np.tanh(3 * x / EPSILON) - np.tanh(3 * (x - 20) / EPSILON))
    phi = np.broadcast_to(np.moveaxis(profile[:, None, None], 0, axis), shape)
    solver = AllenCahn(world, shape, double_well(EPSILON), EPSILON, spacing=h)
    solver.set_field(phi)
    solver.step(0.02, 500)
    assert np.abs(solver.field() - phi).max() < 1e-4
    assert solver.measure()["energy"] / (2 * (8 * h) ** 2) == pytest.approx(1, abs=2e-6)


@pytest.mark.parametrize(("shape", "radius", "time"), [((96, 96), 36.0, 60.0), ((64, 64, 64), 24.0, 16.0)])
def test_spheres_shrink_by_their_curvature(world, shape, radius, time):
    """A circle or sphere moves by L ε times its curvature: R² falls by 2 (d - 1) L ε t. The implicit gradient slows a step of dt
    by 1 + dt L ε ∫φ"²/∫φ'², which is 1 + dt L (36/5)/ε for the profile ½ (1 + tanh 3x/ε).
    """
    d, mobility, dt, epsilon = len(shape), 0.9, 0.02, 4.0
    solver = AllenCahn(world, shape, double_well(epsilon), epsilon, mobility)
    field = Spheres(shape, centres=[n / 2 for n in shape], radii=radius, epsilon=epsilon)
    solver.set_field(field.source(solver.fourier))
    squares, energies = [], []
    for _ in range(7):
        content = solver.mean * solver.volume
        squares.append((content / np.pi) if d == 2 else (0.75 * content / np.pi) ** (2 / 3))
        energies.append(solver.measure()["energy"])
        solver.step(dt, round(time / 6 / dt))
    slopes = np.diff(squares) / (time / 6)
    assert slopes * (1 + dt * mobility * 7.2 / epsilon) == pytest.approx(-2 * (d - 1) * mobility * epsilon, rel=0.002)
    assert (np.diff(energies) < 0).all()
    # the energy is the area of the interface, but for terms of the order of (ε/R)²
    areas = [(2 if d == 2 else 4) * np.pi * s ** ((d - 1) / 2) for s in squares]
    assert energies == pytest.approx(areas, rel=0.008)


def test_energy_never_rises(world):
    for dtype, close in ((np.float64, 1e-14), (np.float32, 1e-7)):
        solver = AllenCahn(world, (32, 32, 32), double_well(EPSILON), EPSILON, dtype=dtype)
        solver.set_field(np.random.default_rng(4).normal(0.5, 0.2, (32, 32, 32)).astype(dtype))
        last = np.inf
        for _ in range(300):
            now = solver.measured_step(0.05)["energy"]
            assert now <= last * (1 + close)
            last = now


def test_restarts_bit_for_bit(world):
    def fresh():
        solver = AllenCahn(world, (18, 12, 40), double_well(3.0), 3.0)
        solver.set_field(np.random.default_rng(5).normal(0.45, 0.1, (18, 12, 40)))
        return solver

    whole, first, second = fresh(), fresh(), fresh()
    whole.step(0.05, 20)
    first.step(0.05, 8)
    arrays, _, numbers = first.state()
    for name, (_, target) in second.targets().items():
        target[:] = arrays[name]
    second.restore(numbers)
    second.step(0.05, 12)
    assert np.array_equal(second.spectrum, whole.spectrum) and second.mean == whole.mean
    assert (second.time, second.steps) == (whole.time, whole.steps)
