"""Cahn–Hilliard with a mobility M(φ) against plain NumPy, closed forms, and what must never change."""

import numpy as np
import pytest

from ostwald.app.phasefield import (
    CahnHilliard,
    Elasticity,
    Noise,
    RegularSolution,
    VariableMobility,
    cubic,
    double_well,
)

DEGENERATE = (0.1, 3.6, -3.6)  # 0.1 + 3.6 φ (1 - φ): 1 in the middle, 0.1 in the phases


def wave_vectors(shape, spacing):
    axes = [2 * np.pi * np.fft.fftfreq(n, h) for n, h in zip(shape[:-1], spacing)]
    axes.append(2 * np.pi * np.fft.rfftfreq(shape[-1], spacing[-1]))
    return np.meshgrid(*axes, indexing="ij")


def derivative_vectors(shape, spacing):
    """Zero at the Nyquist wave number of each axis."""
    q = wave_vectors(shape, spacing)
    for a, n, h in zip(q, shape, spacing):
        a[np.isclose(np.abs(a), np.pi / h) & (n % 2 == 0)] = 0
    return q


def back(spectrum, shape):
    return np.fft.irfftn(spectrum, shape, axes=range(len(shape)))


def potential(phi, well, epsilon, spacing, elasticity=None):
    """The transform of μ, and ε q² + Y."""
    q = wave_vectors(phi.shape, spacing)
    q2 = sum(a**2 for a in q)
    stiff = epsilon * q2
    if elasticity is not None:
        stiff = stiff + np.where(q2 == 0, 0.0, elasticity.factor(*[np.where(q2 == 0, 1.0, a) for a in q]))
    return np.fft.rfftn(well.energy(phi, 1)) + stiff * np.fft.rfftn(phi), q2, stiff


def numpy_step(phi, dt, well, epsilon, mobility, split, spacing, elasticity=None, extra=0.0):
    mu, q2, stiff = potential(phi, well, epsilon, spacing, elasticity)
    mu = mu + np.fft.rfftn(extra + np.zeros_like(phi))
    rest = mobility(phi) - split
    flux = sum(
        1j * q * np.fft.rfftn(rest * back(1j * q * mu, phi.shape)) for q in derivative_vectors(phi.shape, spacing)
    )
    new = np.fft.rfftn(phi) - dt * (split * q2 * mu - flux) / (1 + dt * split * q2 * stiff)
    return back(new, phi.shape)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [(16, 20, 18), (9, 15, 35), (40, 30), (7, 9)])
@pytest.mark.parametrize("case", ["double", "regular", "elastic"])
def test_steps_are_those_of_numpy(world, shape, case, dtype):
    spacing, dt = (0.8, 1.1, 0.9)[: len(shape)], 0.02
    well = RegularSolution(3.0, 1.1, cut=0.1) if case == "regular" else double_well(3.0)
    moduli = Elasticity(cubic(30.0, 15.0, 30.0), 0.3, len(shape)) if case == "elastic" else None
    phi = np.random.default_rng(1).normal(0.45, 0.2, shape).astype(dtype).astype(float)
    solver = VariableMobility(world, shape, well, 1.9, (0.0, 4.0, -4.0), 0.7, spacing, dtype, moduli)
    solver.set_field(phi.astype(dtype))
    assert (phi < 0).any(), "where M is cut at 0"
    for _ in range(15):
        phi = numpy_step(phi, dt, well, 1.9, solver.mobility_at, solver.split, spacing, moduli)
        solver.step(dt)
    assert np.abs(solver.field() - phi).max() < (1e-13 if dtype == np.float64 else 2e-5)
    plain = CahnHilliard(world, shape, well, 1.9, 0.7, spacing, dtype, moduli)
    plain.set_field(solver.field())
    found, wanted = solver.measured_step(dt), plain.measure()
    assert found == pytest.approx(wanted, rel=1e-12 if dtype == np.float64 else 2e-6)


def test_mobility(world):
    solver = VariableMobility(world, (8, 8), double_well(3.0), 3.0, (0.0, 4.0, -4.0), 0.5)
    assert solver.mobility_at([0.5, 0.0, 0.25, -0.1, 1.2]) == pytest.approx([0.5, 0, 0.375, 0, 0])
    assert solver.split == pytest.approx(0.5)
    for coefficients in [(), (np.nan,), (-1.0,), np.ones(14), (0.0,)]:
        with pytest.raises(ValueError, match="mobility"):
            VariableMobility(world, (8, 8), double_well(3.0), 3.0, coefficients)
    with pytest.raises(ValueError, match="noise"):
        VariableMobility(world, (8, 8), double_well(3.0), 3.0, (1.0,), noise=Noise(1, 0.1))


@pytest.mark.parametrize("shape", [(12, 16, 10), (24, 30)])
def test_a_constant_mobility_is_that_of_cahn_hilliard(world, shape):
    phi = np.random.default_rng(2).normal(0.45, 0.1, shape)
    plain = CahnHilliard(world, shape, double_well(3.0), 3.0, 0.7)
    other = VariableMobility(world, shape, double_well(3.0), 3.0, (1.0,), 0.7)
    for solver in (plain, other):
        solver.set_field(phi)
        solver.step(0.02, 30)
    assert np.abs(plain.field() - other.field()).max() < 1e-14


@pytest.mark.parametrize("shape", [(32, 24, 20), (48, 40)])
@pytest.mark.parametrize("mean", [0.5, 0.2])
def test_growth_of_small_waves(world, shape, mean):
    """A wave about <φ> grows with M(<φ>): one step multiplies it by 1 - dt M q² (g'' + ε q²)/(1 + dt A ε q⁴)."""
    well, epsilon, dt, amplitude = double_well(3.0), 3.0, 0.01, 1e-7
    x = np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij"), -1)
    for k in [(1, 0, 0), (0, 2, 1), (3, -4, 2), (0, 0, 5)]:
        k = np.array(k[-len(shape) :])
        wave = np.cos(2 * np.pi * (x @ k))
        q2 = ((2 * np.pi * k / shape) ** 2).sum()
        if q2 == 0:
            continue
        solver = VariableMobility(world, shape, well, epsilon, DEGENERATE, 1.3)
        solver.set_field(mean + amplitude * wave)
        solver.step(dt, 5)
        m = 1.3 * (0.1 + 3.6 * mean * (1 - mean))
        growth = 1 - dt * m * q2 * (well.energy(mean, 2) + epsilon * q2) / (1 + dt * solver.split * epsilon * q2**2)
        found = ((solver.field() - mean) * wave).sum() / (amplitude * (wave**2).sum())
        assert found == pytest.approx(growth**5, rel=1e-6)


def manufactured(world, n, dt, end):
    """The largest error at `end` where `extra` makes φ = ½ + 0.2 e^-t sin(2πx/L) + 0.1 e^-2t cos(4πx/L) the solution.

    M ∂(μ + extra)/∂x must be J with ∂J/∂x = ∂φ/∂t: extra = ∫ J/M dx - μ, and J's constant makes J/M periodic.
    """
    length, well, epsilon = 12.0, double_well(3.0), 3.0
    h, k = length / n, 2 * np.pi / length
    x = np.arange(n) * h

    def exact(t):
        return 0.5 + 0.2 * np.exp(-t) * np.sin(k * x) + 0.1 * np.exp(-2 * t) * np.cos(2 * k * x)

    solver = VariableMobility(world, (n, 4), well, epsilon, DEGENERATE, 0.8, h)
    solver.set_field(np.repeat(exact(0)[:, None], 4, 1))
    q = 2 * np.pi * np.fft.rfftfreq(n, h)
    inverse = np.zeros_like(q)
    inverse[1:] = 1 / q[1:]
    for step in range(round(end / dt)):
        t = step * dt
        phi, m = exact(t), solver.mobility_at(exact(t))
        flux = 0.2 * np.exp(-t) * np.cos(k * x) / k - 0.1 * np.exp(-2 * t) * np.sin(2 * k * x) / k
        flux -= (flux / m).mean() / (1 / m).mean()
        psi = np.fft.irfft(-1j * inverse * np.fft.rfft(flux / m), n)
        mu = well.energy(phi, 1) + epsilon * k**2 * (
            0.2 * np.exp(-t) * np.sin(k * x) + 0.4 * np.exp(-2 * t) * np.cos(2 * k * x)
        )
        extra = np.repeat((psi - mu)[:, None], 4, 1)
        solver.extra = spectrum_of(solver, extra)
        solver.step(dt)
    return np.abs(solver.field() - exact(end)[:, None]).max()


def spectrum_of(solver, field):
    """A field's spectrum, made by a solver of its own: a transform overwrites the planes."""
    from ostwald.parallel import Fourier

    fourier = Fourier(solver.world, solver.fourier.shape)
    return fourier.forward(field, None, 1 / solver.points)


def test_manufactured_solution(world):
    """First order in dt; in space, what is left at dt → 0 falls faster than any power."""
    errors = [manufactured(world, 48, dt, 0.4) for dt in (0.02, 0.01, 0.005)]
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.15) and errors[1] / errors[2] == pytest.approx(2, abs=0.08)
    in_space = []
    for n in (10, 16, 24):
        coarse, fine = (manufactured(world, n, dt, 0.1) for dt in (0.002, 0.001))
        in_space.append(abs(2 * fine - coarse))
    assert in_space[0] > 30 * in_space[1] and in_space[2] < 2e-6 and errors[2] < 1e-2


def test_energy_falls_as_fluxes_tell(world):
    """dF/dt = -∫ M |∇μ|² dx."""
    shape, well, epsilon = (24, 30, 27), double_well(3.0), 3.0
    rng = np.random.default_rng(3)
    smooth = np.exp(-2 * sum(a**2 for a in wave_vectors(shape, (1, 1, 1))))
    phi = back(np.fft.rfftn(rng.normal(0, 1.5, shape)) * smooth, shape) + 0.45
    solver = VariableMobility(world, shape, well, epsilon, DEGENERATE)
    mu, _, _ = potential(phi, well, epsilon, (1, 1, 1))
    squares = sum(back(1j * q * mu, shape) ** 2 for q in derivative_vectors(shape, (1, 1, 1)))
    power = (solver.mobility_at(phi) * squares).sum()
    rates = []
    for dt in (4e-4, 2e-4):
        solver.set_field(phi)
        before = solver.measured_step(dt)["energy"]
        rates.append((before - solver.measure()["energy"]) / dt)
    assert 2 * rates[1] - rates[0] == pytest.approx(power, rel=1e-3)


def test_mass_never_changes_and_energy_never_rises(world):
    for dtype in (np.float64, np.float32):
        solver = VariableMobility(world, (32, 32, 32), double_well(3.0), 3.0, (0.0, 4.0, -4.0), dtype=dtype)
        phi = np.random.default_rng(4).normal(0.41, 0.2, (32, 32, 32))
        solver.set_field(phi)
        mean, start, last = solver.mean, solver.field().mean(dtype=float), np.inf
        for _ in range(200):
            now = solver.measured_step(0.02)["energy"]
            assert now <= last * (1 + 1e-14 if dtype == np.float64 else 1 + 1e-7)
            last = now
        assert solver.mean == mean == pytest.approx(phi.mean(), abs=1e-15)
        assert abs(solver.field().mean(dtype=float) - start) < (1e-15 if dtype == np.float64 else 1e-7)
        origin = solver._origin()
        assert (solver.spectrum[origin][:, 0, [0, solver.fourier.lanes]] == 0).all()


@pytest.mark.parametrize("shape", [(18, 12, 40), (36, 50)])
def test_restarts_bit_for_bit_with_any_threads(world, shape):
    def fresh(threads):
        world.threads = threads
        solver = VariableMobility(world, shape, double_well(3.0), 3.0, DEGENERATE)
        solver.set_field(np.random.default_rng(5).normal(0.45, 0.1, shape))
        return solver

    whole = fresh(1)
    whole.step(0.02, 20)
    first = fresh(2)
    first.step(0.02, 8)
    second = fresh(2)
    arrays, _, numbers = first.state()
    for name, (_, target) in second.targets().items():
        target[:] = arrays[name]
    second.restore(numbers)
    second.step(0.02, 12)
    assert np.array_equal(second.spectrum, whole.spectrum)
