"""The Cahn–Hilliard step against plain NumPy, closed forms, and what must never change."""

import numpy as np
import pytest

from ostwald.app.phasefield import CahnHilliard, Elasticity, RegularSolution, Well, cubic, double_well, quartic_well

EPSILON = 3.0


def noise(shape, mean=0.5, spread=0.1, seed=1):
    return mean + spread * np.random.default_rng(seed).normal(size=shape)


def wave_vectors(shape, spacing):
    axes = [2 * np.pi * np.fft.fftfreq(n, h) for n, h in zip(shape[:-1], spacing)]
    axes.append(2 * np.pi * np.fft.rfftfreq(shape[-1], spacing[-1]))
    return np.meshgrid(*axes, indexing="ij")


def numpy_step(phi, dt, well, epsilon, mobility, spacing, elasticity=None, extra=0.0):
    """Equation 6.8 as it is written; extra: another chemical potential."""
    q = wave_vectors(phi.shape, spacing)
    q2 = sum(a**2 for a in q)
    stiff = epsilon * q2
    if elasticity is not None:
        some = [np.where(q2 == 0, 1.0, a) for a in q]
        stiff = stiff + np.where(q2 == 0, 0.0, elasticity.factor(*some))
    slope = np.fft.rfftn(well.energy(phi, 1) + extra)
    new = (np.fft.rfftn(phi) - dt * mobility * q2 * slope) / (1 + dt * mobility * q2 * stiff)
    return np.fft.irfftn(new, phi.shape, axes=range(phi.ndim))


WELLS = {
    "double": double_well(EPSILON),
    "pfhub": quartic_well(5.0, 0.3, 0.7),
    "regular": RegularSolution(2.9, 1.1),
    "cut": RegularSolution(3.0, 1.0, cut=0.15),  # the noise lies beyond the cuts, too
    "sixth": Well(0.4, (0.1, 0.02, -1.5, 0.3, 4.0, -0.7, 2.0)),
}


@pytest.mark.parametrize("well", WELLS)
@pytest.mark.parametrize("shape", [(16, 20, 18), (12, 36, 50), (40, 30), (7, 9, 15)])
def test_steps_are_those_of_numpy(world, shape, well):
    well, phi, mobility, dt = WELLS[well], noise(shape, 0.45), 0.7, 0.03
    spacing = (0.8, 1.1, 0.9)[: len(shape)]
    solver = CahnHilliard(world, shape, well, 1.9, mobility, spacing)
    solver.set_field(phi)
    for _ in range(20):
        phi = numpy_step(phi, dt, well, 1.9, mobility, spacing)
        solver.step(dt)
    assert np.abs(solver.field() - phi).max() < 1e-13 * np.abs(phi).max()
    assert solver.steps == 20 and solver.time == pytest.approx(0.6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("elastic", [False, True])
def test_extra_chemical_potential(world, elastic, dtype):
    shape, spacing, well = (12, 20, 18), (0.8, 1.1, 0.9), double_well(EPSILON)
    moduli = Elasticity(cubic(30.0, 15.0, 30.0), 0.3) if elastic else None
    phi, potential = noise(shape), noise(shape, 0.0, 1.0, seed=2)
    solver = CahnHilliard(world, shape, well, 1.9, 0.7, spacing, dtype=dtype, elasticity=moduli)
    solver.extra = solver.fourier.forward(potential.astype(dtype), scale=1 / phi.size)
    solver.set_field(phi)
    for k in range(10):
        phi = numpy_step(phi, 0.03, well, 1.9, 0.7, spacing, moduli, potential)
        solver.step(0.03) if k % 2 else solver.measured_step(0.03)
    assert np.abs(solver.field() - phi).max() < (1e-13 if dtype == np.float64 else 1e-5) * np.abs(phi).max()


def test_single_precision_follows_double(world):
    shape, phi = (24, 32, 40), noise((24, 32, 40))
    fields = []
    for dtype in (np.float64, np.float32):
        solver = CahnHilliard(world, shape, double_well(EPSILON), EPSILON, dtype=dtype)
        solver.set_field(phi)
        solver.step(0.05, 40)
        fields.append(solver.field())
        assert solver.measure()["mean"] == pytest.approx(phi.mean(), abs=1e-15)
    assert fields[1].dtype == np.float32
    assert 0 < np.abs(fields[1] - fields[0]).max() < 1e-4


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_energy_is_that_of_the_definition(world, dtype):
    shape, spacing = (18, 20, 32), (0.5, 0.7, 0.6)
    phi = noise(shape, 0.5, 0.2)
    moduli = Elasticity(cubic(30.0, 15.0, 30.0), 0.3)
    solver = CahnHilliard(world, shape, double_well(2.0), 2.0, spacing=spacing, dtype=dtype, elasticity=moduli)
    solver.set_field(phi)
    found = solver.measure()
    cell, q = np.prod(spacing), wave_vectors(shape, spacing)
    spectrum = np.fft.rfftn(phi)
    count = np.full(shape[2] // 2 + 1, 2.0)
    count[[0, -1]] = 1
    q2 = sum(a**2 for a in q)
    power = count * np.abs(spectrum / phi.size) ** 2
    bulk = (9 * phi**2 * (1 - phi) ** 2).sum() * cell
    gradient = 0.5 * 2.0 * (q2 * power).sum() * cell * phi.size
    factor = np.where(q2 == 0, 0, moduli.factor(*[np.where(q2 == 0, 1.0, a) for a in q]))
    elastic = 0.5 * (factor * power).sum() * cell * phi.size
    close = 1e-12 if dtype == np.float64 else 2e-6
    for name, value in dict(bulk=bulk, gradient=gradient, elastic=elastic, energy=bulk + gradient + elastic).items():
        assert found[name] == pytest.approx(value, rel=close), name
    assert found["low"] == pytest.approx(phi.min(), abs=1e-6) and found["high"] == pytest.approx(phi.max(), abs=1e-6)
    again = solver.measured_step(0.01)
    for name, value in found.items():
        assert again[name] == pytest.approx(value, rel=1e-12 if dtype == np.float64 else 1e-6), name
    assert solver.steps == 1 and solver.measure()["energy"] != found["energy"]


@pytest.mark.parametrize("shape", [(32, 32, 32), (48, 24, 20), (64, 48)])
def test_growth_of_single_waves(world, shape):
    """One step multiplies a small wave by (1 - dt M q² g'') / (1 + dt M ε q⁴), whatever its direction."""
    dt, mobility, amplitude, well = 0.02, 1.3, 1e-7, double_well(EPSILON)
    x = np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij"), -1)
    for k in [(1, 0, 0), (0, 2, 1), (3, -4, 5), (0, 0, 7)]:
        k = np.array(k[-len(shape) :])
        if not k.any():
            continue
        wave = np.cos(2 * np.pi * (x @ k))
        q2 = ((2 * np.pi * k / shape) ** 2).sum()
        for mean in (0.5, 0.3):
            solver = CahnHilliard(world, shape, well, EPSILON, mobility)
            solver.set_field(mean + amplitude * wave)
            solver.step(dt, 5)
            growth = (1 - dt * mobility * q2 * well.energy(mean, 2)) / (1 + dt * mobility * EPSILON * q2**2)
            measured = ((solver.field() - mean) * wave).sum() / (amplitude * (wave**2).sum())
            assert measured == pytest.approx(growth**5, rel=2e-7)


def test_rates_tend_to_those_of_the_equation(world):
    """s = M q² (6 - 3 q²) about φ = ½ at ε = 3, linearly in dt."""
    n, k, amplitude = 64, 10, 1e-8
    q2 = (2 * np.pi * k / n) ** 2
    errors = []
    for dt in (0.01, 0.005):
        solver = CahnHilliard(world, (n, 4, 4), double_well(3.0), 3.0)
        wave = np.broadcast_to(np.cos(2 * np.pi * k * np.arange(n) / n)[:, None, None], (n, 4, 4))
        solver.set_field(0.5 + amplitude * wave)
        solver.step(dt, round(0.2 / dt))
        size = 2 * ((solver.field() - 0.5) * wave).mean() / amplitude
        errors.append(np.log(size) / 0.2 - q2 * (6 - 3 * q2))
    assert abs(errors[0]) < 0.2 and errors[0] / errors[1] == pytest.approx(2, abs=0.1)


def test_mass_never_changes_and_energy_never_rises(world):
    for dtype in (np.float64, np.float32):
        solver = CahnHilliard(world, (32, 32, 32), double_well(EPSILON), EPSILON, dtype=dtype)
        phi = noise((32, 32, 32), 0.41, 0.2)
        solver.set_field(phi)
        mean = solver.field().mean(dtype=np.float64)
        last = np.inf
        for _ in range(300):
            now = solver.measured_step(0.02)["energy"]
            assert now <= last * (1 + 1e-14 if dtype == np.float64 else 1 + 1e-7)
            last = now
        assert solver.mean == pytest.approx(phi.mean(), abs=1e-16)
        assert abs(solver.field().mean(dtype=np.float64) - mean) < (1e-15 if dtype == np.float64 else 1e-7)
        origin = (solver.fourier.ky == 0) & (solver.fourier.kz[:, 0] == 0)
        W = solver.fourier.lanes
        assert (solver.spectrum[origin][:, 0, [0, W]] == 0).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flat_interfaces_have_energy_one(world, axis):
    """φ = ½ (1 + tanh 3x/ε): energy 1 per area, half of it in the gradient, and it stays."""
    shape = [8, 8, 8]
    shape[axis] = 160
    h = 0.25
    x = (np.arange(160) - 40) * h
    profile = 0.5 * (np.tanh(3 * x / EPSILON) - np.tanh(3 * (x - 20) / EPSILON))
    phi = np.broadcast_to(np.moveaxis(profile[:, None, None], 0, axis), shape)
    solver = CahnHilliard(world, shape, double_well(EPSILON), EPSILON, spacing=h)
    solver.set_field(phi)
    area = 2 * (8 * h) ** 2
    before = solver.measure()
    assert before["energy"] / area == pytest.approx(1, abs=2e-6)
    assert before["gradient"] / area == pytest.approx(0.5, abs=2e-6)
    solver.step(0.01, 200)
    assert solver.measure()["energy"] / area == pytest.approx(1, abs=2e-6)
    assert np.abs(solver.field() - phi).max() < 1e-5


def test_wells():
    well = double_well(3.0)
    phi = np.linspace(-0.5, 1.5, 41)
    assert well.energy(phi) == pytest.approx(6 * phi**2 * (1 - phi) ** 2, abs=1e-14)
    assert well.energy(phi, 1) == pytest.approx(12 * phi * (1 - phi) * (1 - 2 * phi), abs=1e-13)
    assert well.energy(phi, 2) == pytest.approx(12 * (1 - 6 * phi + 6 * phi**2), abs=1e-13)
    assert well.spinodal() == pytest.approx([0.5 - 0.5 / np.sqrt(3), 0.5 + 0.5 / np.sqrt(3)])
    assert quartic_well(5, 0.3, 0.7).energy(0.45) == pytest.approx(5 * 0.15**2 * 0.25**2)
    for bad in [
        lambda: Well(0, (1,)),
        lambda: Well(0, range(14)),
        lambda: Well(0, (1, np.nan)),
        lambda: double_well(0),
    ]:
        with pytest.raises(ValueError, match=r"well|width"):
            bad()


# --- elasticity

C = cubic(3e4, 1.5e4, 3e4)


def test_elastic_factor_in_two_dimensions():
    """tr B of the cubic crystal with Zener ratio 4, tensors of two dimensions."""
    moduli = Elasticity(C, 1.0, dimensions=2)
    angle = np.deg2rad([0, 90, 22.5, 45])
    assert moduli.factor(np.cos(angle), np.sin(angle)) == pytest.approx([2.25e4, 2.25e4, 3.130e4, 5.143e4], rel=2e-4)
    # decomposition at φ = ½, ε = 5 stops at a misfit of 1.265 %
    closing = np.sqrt(-double_well(5.0).energy(0.5, 2) / moduli.factor(1.0, 0.0))
    assert closing == pytest.approx(0.01265, abs=5e-6)


def test_elastic_factor_of_a_cubic_crystal():
    """Along <100>: (C11 + 2 C12)(C11 - C12) 2 / C11 · η²; <110> and <111> from their longitudinal moduli."""
    c11, c12, c44 = 3e4, 1.5e4, 3e4
    moduli, k = Elasticity(C, 0.01), (c11 + 2 * c12) * 0.01
    for n, m in [((1, 0, 0), c11), ((1, 1, 0), (c11 + c12 + 2 * c44) / 2), ((1, 1, 1), (c11 + 2 * c12 + 4 * c44) / 3)]:
        assert moduli.factor(*n) == pytest.approx(3 * k * 0.01 - k**2 / m, rel=1e-12)
    isotropic = Elasticity(cubic(3.0, 1.0, 1.0), 0.1)
    n = np.random.default_rng(1).normal(size=(3, 50))
    assert np.ptp(isotropic.factor(*n)) < 1e-15


@pytest.mark.parametrize("dimensions", [2, 3])
def test_elastic_steps_are_those_of_numpy(world, dimensions):
    shape = (20, 24, 30)[:dimensions]
    shear = np.array([[0.01, 0.004, 0.0], [0.004, -0.006, 0.002], [0.0, 0.002, 0.008]])
    rotated = C + np.diag([0, 4e3, -3e3, 5e3, 0, 2e3])  # orthorhombic: even in every component of q
    for moduli in (Elasticity(C, 0.011, dimensions), Elasticity(rotated, np.diag(np.diag(shear)), dimensions)):
        phi = noise(shape, 0.5, 0.05)
        solver = CahnHilliard(world, shape, double_well(5.0), 5.0, elasticity=moduli)
        solver.set_field(phi)
        for _ in range(10):
            phi = numpy_step(phi, 0.05, double_well(5.0), 5.0, 1.0, (1.0,) * dimensions, moduli)
            solver.step(0.05)
        assert np.abs(solver.field() - phi).max() < 1e-13


@pytest.mark.parametrize("shape", [(48, 48), (32, 32, 32)])
def test_elastic_growth_depends_on_direction(world, shape):
    eta, dt, dimensions = 0.006, 0.01, len(shape)
    moduli, well = Elasticity(C, eta, dimensions), double_well(5.0)
    x = np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij"), -1)
    rates = []
    for k in np.array([(4, 0, 0), (0, 4, 0), (3, 3, 0)])[:, :dimensions]:
        wave = np.cos(2 * np.pi * (x @ k))
        solver = CahnHilliard(world, shape, well, 5.0, elasticity=moduli)
        solver.set_field(0.5 + 1e-7 * wave)
        solver.step(dt, 3)
        q2 = ((2 * np.pi * k / shape) ** 2).sum()
        stiff = 5.0 * q2**2 + q2 * moduli.factor(*k.astype(float))
        growth = (1 - dt * q2 * well.energy(0.5, 2)) / (1 + dt * stiff)
        assert ((solver.field() - 0.5) * wave).sum() / (1e-7 * (wave**2).sum()) == pytest.approx(growth**3, rel=1e-6)
        rates.append(-q2 * well.energy(0.5, 2) - stiff)
    assert rates[0] == pytest.approx(rates[1]) and rates[0] > rates[2], "<10> is soft"


def test_bad_elasticity():
    for constants, strain in [(np.eye(3), 1), (-C, 1), (C, np.ones((2, 2))), (C, np.arange(9.0).reshape(3, 3))]:
        with pytest.raises(ValueError, match=r"elastic|eigenstrain"):
            Elasticity(constants, strain)


def test_bad_arguments(world):
    well = double_well(3.0)
    for arguments in [dict(epsilon=0), dict(epsilon=1, mobility=-1), dict(epsilon=1, spacing=0)]:
        with pytest.raises(ValueError, match="positive"):
            CahnHilliard(world, (8, 8, 8), well, **arguments)
    with pytest.raises(ValueError, match="dimensions"):
        CahnHilliard(world, (8, 8), well, 3.0, elasticity=Elasticity(C, 0.1))
    solver = CahnHilliard(world, (8, 8, 8), well, 3.0)
    for bad in (np.zeros((8, 8)), np.full((8, 8, 8), np.nan)):
        with pytest.raises(RuntimeError, match="field"):
            solver.set_field(bad)
    for dt in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="time step"):
            solver.step(dt)


@pytest.mark.parametrize("shape", [(30, 16, 20), (200, 18)])
def test_pieces_make_the_whole(world, shape, monkeypatch):
    """Set and read in pieces of a few planes: bit for bit the same."""
    phi = noise(shape)
    whole = CahnHilliard(world, shape, double_well(3.0), 3.0)
    whole.set_field(phi)
    monkeypatch.setattr("ostwald.parallel.fourier.PIECE", 4 * phi[0].nbytes)
    parts = CahnHilliard(world, shape, double_well(3.0), 3.0)
    asked = []
    parts.set_field(lambda first, last: asked.append((first, last)) or phi[first:last])
    assert len(asked) > 5 and asked[0][0] == 0 and asked[-1][1] == shape[0]
    assert np.array_equal(parts.spectrum, whole.spectrum) and parts.mean == pytest.approx(phi.mean(), abs=1e-16)
    field = whole.field()
    for first, last, piece in parts.pieces():
        assert np.array_equal(piece, field[first:last])
    assert np.array_equal(parts.field(), field)
    with pytest.raises(RuntimeError, match="shape"):
        parts.set_field(lambda first, last: phi[first:first])


def test_divergence_is_told(world):
    solver = CahnHilliard(world, (16, 16, 16), double_well(3.0), 3.0)
    solver.set_field(noise((16, 16, 16), 0.5, 2.0))
    with pytest.raises(RuntimeError, match="no longer finite at step"):
        for _ in range(50):
            solver.measured_step(5.0)
