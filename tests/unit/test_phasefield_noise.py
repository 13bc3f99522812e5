"""Noise of phase fields: the numbers themselves, conservation, fluctuations in equilibrium, restarts."""

import numpy as np
import pytest

from ostwald.app.phasefield import AllenCahn, CahnHilliard, Elasticity, Noise, StructureFactor, Well, cubic, double_well
from ostwald.parallel import philox_normal


def noise_field(shape, variance, seed, step):
    """The real field of the numbers of all wave vectors: those of the lower number of k and -k, real where k is -k."""
    n = np.array(shape)
    k = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    number, opposite = (np.ravel_multi_index(np.moveaxis(a, -1, 0), shape) for a in (k, -k % n))
    normal = philox_normal(seed, "phase-field noise", np.minimum(number, opposite).ravel(), step, 2).reshape(*shape, 2)
    turned = number > opposite
    # a spectrum holds k_z up to n/2: of these k and their opposites, that with the lower k_z counts unless both have the same
    both = (2 * k[..., -1]) % n[-1] != 0
    upper = 2 * k[..., -1] > n[-1]
    held = np.where(upper, opposite, number).ravel()
    inner = philox_normal(seed, "phase-field noise", held, step, 2).reshape(*shape, 2)
    normal, turned = np.where(both[..., None], inner, normal), np.where(both, upper, turned)
    spectrum = (normal[..., 0] + 1j * normal[..., 1] * np.where(turned, -1, 1)) * np.sqrt(variance / 2)
    alone = number == opposite
    spectrum[alone] = (normal[..., 0] * np.sqrt(variance))[alone]
    spectrum.flat[0] = 0
    field = np.fft.ifftn(spectrum) * np.prod(shape)
    assert np.abs(field.imag).max() < 1e-12 * np.abs(field.real).max()
    return field.real


def step_of(equation, phi, dt, well, epsilon, mobility, spacing, elasticity, noise, step):
    q = np.meshgrid(*(2 * np.pi * np.fft.fftfreq(n, h) for n, h in zip(phi.shape, spacing)), indexing="ij")
    q2 = sum(a**2 for a in q)
    stiff = epsilon * q2
    if elasticity is not None:
        stiff = stiff + np.where(q2 == 0, 0.0, elasticity.factor(*[np.where(q2 == 0, 1.0, a) for a in q]))
    m = dt * mobility * (q2 if equation is CahnHilliard else 1.0)
    new = (np.fft.fftn(phi) - m * np.fft.fftn(well.energy(phi, 1))) / (1 + m * stiff)
    x = m * stiff
    thermal = 2 * noise.temperature / (phi.size * np.prod(spacing)) * m * (1 + x / 2) / (1 + x) ** 2
    variance = thermal + noise.amplitude**2 / phi.size
    return np.fft.ifftn(new).real + noise_field(phi.shape, variance, noise.seed, step)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("equation", [CahnHilliard, AllenCahn])
@pytest.mark.parametrize("shape", [(16, 20, 18), (9, 15, 35), (40, 30), (7, 9, 40)])
def test_every_mode_gets_its_own_numbers(world, shape, equation, dtype):
    spacing, mobility, dt = (0.8, 1.1, 0.9)[: len(shape)], 0.7, 0.05
    noise = Noise(2**40 + 3, 0.02, 0.01)
    moduli = Elasticity(cubic(30.0, 15.0, 30.0), 0.3, len(shape))
    phi = np.random.default_rng(1).normal(0.5, 0.05, shape).astype(dtype).astype(float)
    solver = equation(world, shape, double_well(3.0), 1.9, mobility, spacing, dtype, moduli, noise=noise)
    solver.set_field(phi.astype(dtype), steps=5)
    close = 1e-13 if dtype == np.float64 else 3e-4
    for step in range(5, 9):
        phi = step_of(equation, phi, dt, double_well(3.0), 1.9, mobility, spacing, moduli, noise, step)
        if equation is AllenCahn:  # the mean gets noise of its own
            variance = 2 * noise.temperature * mobility * dt / solver.volume + noise.amplitude**2 / phi.size
            phi += np.sqrt(variance) * philox_normal(noise.seed, "phase-field noise", np.zeros(1, np.int64), step)[0, 0]
        solver.step(dt)
        assert solver.mean == pytest.approx(phi.mean(), abs=close)
    error = np.abs(solver.field() - phi)
    assert error.max() < close and np.sqrt((error**2).mean()) < (close if dtype == np.float64 else 2e-6)


def test_mass_never_changes(world):
    for dtype in (np.float64, np.float32):
        solver = CahnHilliard(world, (18, 20, 32), double_well(3.0), 3.0, dtype=dtype, noise=Noise(1, 0.5, 0.05))
        solver.set_field(np.random.default_rng(1).normal(0.43, 0.05, (18, 20, 32)).astype(dtype))
        mean, before = solver.mean, solver.field()
        solver.step(0.01, 200)
        assert solver.mean == mean
        after = solver.field()
        assert np.abs(after - before).max() > 0.3
        close = 1e-15 if dtype == np.float64 else 1e-7
        assert abs(after.mean(dtype=float) - before.mean(dtype=float)) < close
        origin = solver._origin()
        assert (solver.spectrum[origin][:, 0, [0, solver.fourier.lanes]] == 0).all()


def test_noise_of_each_step_has_its_amplitude(world):
    """With no force and no time to speak of, a step adds uncorrelated Gaussian numbers of the amplitude; steps are independent."""
    solver = CahnHilliard(world, (48, 40, 64), Well(0.5, (0.0, 1e-9)), 1e-9, noise=Noise(3, amplitude=7.5e-4))
    solver.set_field(np.full((48, 40, 64), 0.5))
    fields = []
    for _ in range(2):
        before = solver.field()
        solver.step(1e-3)
        fields.append(solver.field() - before)
    a, b = fields
    n = a.size
    for field in fields:
        assert field.std() == pytest.approx(7.5e-4, rel=5 / np.sqrt(2 * n)) and abs(field.mean()) < 1e-18
        assert (field**4).mean() / field.var() ** 2 == pytest.approx(3, abs=5 * np.sqrt(24 / n))
        for axis in range(3):
            assert abs((field * np.roll(field, 1, axis)).mean()) < 5 * field.var() / np.sqrt(n)
    assert abs((a * b).mean()) < 5 * a.var() / np.sqrt(n)


def expected(k, kt, curvature, epsilon, m):
    """Variance of an Ornstein–Uhlenbeck mode under steps with the implicit part εk²: tends to kT/(g'' + εk²) as m does to 0."""
    f = 1 / (1 + m * epsilon * k**2)
    return kt / (curvature + epsilon * k**2) / (1 - m * curvature * f / (1 + f))


@pytest.mark.parametrize("equation", [CahnHilliard, AllenCahn])
def test_fluctuations_in_equilibrium(world, equation):
    """A stable phase has S(q) = kT/(g'' + εq²), each shell of wave vectors within its statistical error."""
    kt, curvature, epsilon, dt, mobility = 0.3, 2.0, 1.5, 0.025, 0.8
    shape, spacing, samples = (24, 32), 1.5, 120
    well = Well(0.4, (0.0, 0.0, curvature / 2))
    solver = equation(world, shape, well, epsilon, mobility, spacing, noise=Noise(11, kt))
    solver.set_field(np.full(shape, 0.4))
    scale = {CahnHilliard: 1.0, AllenCahn: 0.0}[equation]
    q0 = 2 * np.pi / (32 * spacing)
    slowest = 1 / (mobility * curvature * (q0**2 if scale else 1.0))
    apart = round((0.35 if scale else 2.0) * slowest / dt)
    solver.step(dt, round(4 * slowest / dt))
    sums, analysis = 0, StructureFactor()
    for _ in range(samples):
        solver.step(dt, apart)
        profile = analysis.measure(solver)[1]
        sums = sums + profile["structure_factor"]
    k, modes, found = profile["wave_number"], profile["modes"], sums / samples
    m = dt * mobility * (k**2 if scale else 1.0)
    theory = expected(k, kt, curvature, epsilon, m)
    assert theory == pytest.approx(kt / (curvature + epsilon * k**2), rel=0.09), "the step is short enough"
    # k and -k are one sample of an exponential law; samples that follow by t share exp(-2t/τ) of their variance
    tau = 1 / (mobility * (k**2 if scale else 1.0) * (curvature + epsilon * k**2))
    shared = np.exp(-2 * apart * dt / tau)
    independent = 0.5 * modes * samples * (1 - shared) / (1 + shared)
    deviation = (found / theory - 1) * np.sqrt(independent)
    assert np.abs(deviation).max() < 4.5 and np.sqrt((deviation**2).mean()) == pytest.approx(1, abs=0.4)
    assert (found * modes).sum() == pytest.approx((theory * modes).sum(), rel=0.02)


def test_a_phase_of_the_double_well_fluctuates(world):
    """About φ = 1, where g'' = 12, with the equation as it is: not linear."""
    kt = 1e-3
    solver = CahnHilliard(world, (24, 24, 24), double_well(3.0), 3.0, spacing=1.2, noise=Noise(5, kt))
    solver.set_field(np.full((24, 24, 24), 1.0))
    solver.step(0.01, 3000)
    sums, analysis = 0, StructureFactor(width=0.25)
    for _ in range(60):
        solver.step(0.01, 50)
        profile = analysis.measure(solver)[1]
        sums = sums + profile["structure_factor"]
    k = profile["wave_number"]
    found, theory = sums / 60, expected(k, kt, 12.0, 3.0, 0.01 * k**2)
    assert found == pytest.approx(theory, rel=0.1)
    assert (found * profile["modes"]).sum() == pytest.approx((theory * profile["modes"]).sum(), rel=0.01)


def test_restarts_bit_for_bit(world):
    def fresh():
        solver = CahnHilliard(world, (18, 12, 40), double_well(3.0), 3.0, noise=Noise(2, 0.01, 1e-3))
        solver.set_field(np.random.default_rng(5).normal(0.45, 0.1, (18, 12, 40)))
        return solver

    whole, first, second = fresh(), fresh(), fresh()
    whole.step(0.02, 20)
    first.step(0.02, 8)
    arrays, _, numbers = first.state()
    for name, (_, target) in second.targets().items():
        target[:] = arrays[name]
    second.restore(numbers)
    second.step(0.02, 12)
    assert np.array_equal(second.spectrum, whole.spectrum)


def test_threads_and_seeds(world):
    fields = []
    for seed, threads in ((1, 1), (1, 2), (2, 1)):
        world.threads = threads
        solver = CahnHilliard(world, (18, 12, 40), double_well(3.0), 3.0, noise=Noise(seed, 0.01))
        solver.set_field(np.full((18, 12, 40), 0.5))
        solver.step(0.02, 3)
        fields.append(solver.field())
    assert np.array_equal(fields[0], fields[1]) and not np.array_equal(fields[0], fields[2])
    for bad in [dict(temperature=-1), dict(amplitude=np.nan), dict(temperature=np.inf)]:
        with pytest.raises(ValueError, match="noise is a finite number"):
            Noise(1, **bad)
