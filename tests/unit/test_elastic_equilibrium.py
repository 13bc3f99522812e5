"""Elastic equilibrium of crystals whose moduli depend on φ, against exact solutions; the chemical potential against its energy."""

import numpy as np
import pytest
from elastic_crystals import CUBIC, HARD, VOIGT, smooth, solver_of, tensors, triclinic

from ostwald.app.phasefield import (
    AllenCahn,
    CahnHilliard,
    Elasticity,
    HeterogeneousElasticity,
    NoEquilibrium,
    Spheres,
    cubic,
    double_well,
    elastic_field,
)

MISFIT = np.array([[0.01, 0.003, -0.002], [0.003, -0.004, 0.001], [-0.002, 0.001, 0.006]])
LOAD = np.array([[0.002, 0.001, 0.0005], [0.001, -0.003, 0.002], [0.0005, 0.002, 0.001]])


def isotropic(bulk, shear):
    return cubic(bulk + 4 * shear / 3, bulk - 2 * shear / 3, shear)


def weight(phi, smooth_moduli):
    u = np.clip(phi, 0, 1) if smooth_moduli else phi
    return u**3 * (10 - 15 * u + 6 * u**2) if smooth_moduli else u


@pytest.mark.parametrize("shape", [(15, 9, 21), (27, 35)])
@pytest.mark.parametrize("constants", [CUBIC, triclinic()], ids=["cubic", "triclinic"])
def test_equal_moduli_are_the_closed_form(world, shape, constants):
    """One iteration finds it, and steps are the same."""
    d, phi = len(shape), smooth(shape, (1.0,) * len(shape), modes=3)
    for load in ({}, dict(mean_strain=LOAD), dict(mean_stress=LOAD * constants.max())):
        one = solver_of(world, phi, Elasticity(constants, MISFIT, d, **load), 1.1)
        two = solver_of(world, phi, HeterogeneousElasticity(constants, constants, MISFIT, d, **load), 1.1)
        assert two.measure()["elastic"] == pytest.approx(one.measure()["elastic"], rel=1e-12)
        assert two.equilibrium.iterations == 1
        for name in ("stress_xy", "strain_xx", "strain_xy", "elastic_energy"):
            assert elastic_field(two, name) == pytest.approx(elastic_field(one, name), abs=1e-13 * constants.max())
        one.step(0.01, 5)
        two.step(0.01, 5)
        assert np.abs(one.field() - two.field()).max() < 1e-14


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("load", ["free", "strain", "stress"])
def test_laminate(world, axis, load, dtype):
    """Layers along an axis: stresses across them and strains along them are uniform, so ordinary algebra solves each layer."""
    low, high, n = triclinic(3), 3 * triclinic(4), 45
    shape, normal = [6, 5, 7], [k for k in range(6) if axis in VOIGT[k]]
    shape[axis], along = n, [k for k in range(6) if k not in normal]
    profile = 0.5 + 0.45 * np.sin(2 * np.pi * np.arange(n) / n)
    phi = np.broadcast_to(np.moveaxis(profile[:, None, None], 0, axis), shape)
    load = {} if load == "free" else {f"mean_{load}": LOAD if load == "strain" else LOAD * 3}
    found = HeterogeneousElasticity(
        low, high, MISFIT, smooth=False, tolerance=1e-12 if dtype == np.float64 else 1e-6, **load
    )
    solver = solver_of(world, phi, found, 1.1, dtype)
    strain, stress = tensors(solver, "strain"), tensors(solver, "stress")

    # with C and ε* of a layer: σ = C (ε - ε*); unknown uniform: σ_normal, ε_along
    free = np.array([MISFIT[i] * (1 if i[0] == i[1] else 2) for i in VOIGT])
    layers = [low + p * (high - low) for p in profile]
    given = np.array([LOAD[i] * (1 if i[0] == i[1] else 2) for i in VOIGT])

    def average(strain_along, stress_across):
        """Mean ε and σ of all layers, and those of each."""
        each = []
        for p, c in zip(profile, layers):
            eps = np.zeros(6)
            eps[along] = strain_along
            known = c[np.ix_(normal, along)] @ (strain_along - free[along] * (p - 0.5))
            inner = np.linalg.solve(c[np.ix_(normal, normal)], stress_across - known)
            eps[normal] = inner + free[normal] * (p - 0.5)
            each.append((eps, c @ (eps - free * (p - 0.5))))
        return np.mean([e for e, _ in each], 0), np.mean([s for _, s in each], 0), each

    def missing(x):
        eps, sigma, _ = average(x[:3], x[3:])
        return eps - given if "mean_strain" in load else sigma - 3 * given / [1, 1, 1, 2, 2, 2] * bool(load)

    base = missing(np.zeros(6))
    matrix = np.stack([missing(u) - base for u in np.eye(6)], 1)
    x = np.linalg.lstsq(matrix, -base, rcond=None)[0]
    _, _, each = average(x[:3], x[3:])
    for a, (i, j) in enumerate(VOIGT):
        lines = [np.moveaxis(t[i, j], axis, 0).reshape(n, -1) for t in (strain, stress)]
        for line, value in zip(lines, ([e[a] * (1 if a < 3 else 0.5) for e, _ in each], [s[a] for _, s in each])):
            scale = np.abs(stress).max() if value[0] == each[0][1][a] else np.abs(strain).max()
            close = (1e-10 if dtype == np.float64 else 2e-4) * scale
            assert np.abs(line - np.array(value)[:, None]).max() < close
    density = np.mean([0.5 * (e - free * (p - 0.5)) @ s for (e, s), p in zip(each, profile)]) * solver.volume
    work = 3 * (LOAD * strain.mean((2, 3, 4))).sum() * solver.volume if "mean_stress" in load else 0.0
    assert solver.measure()["elastic"] == pytest.approx(density - work, rel=1e-10 if dtype == np.float64 else 1e-5)


def test_patch(world):
    """A uniform crystal in another load: the strain is uniform, σ = C(φ):E."""
    for smooth_moduli in (True, False):
        e = HeterogeneousElasticity(CUBIC, 3 * HARD, MISFIT, smooth=smooth_moduli, mean_strain=LOAD, tolerance=1e-10)
        solver = solver_of(world, np.full((8, 10, 12), 0.3), e, 1.0)
        h = weight(0.3, smooth_moduli)
        c = (1 - h) * CUBIC + h * 3 * HARD
        for name, i in zip(e.components, VOIGT):
            stress = c[VOIGT.index(i)] @ [LOAD[k] * (1 if k[0] == k[1] else 2) for k in VOIGT]
            assert elastic_field(solver, f"strain_{name}") == pytest.approx(LOAD[i], abs=1e-16)
            assert elastic_field(solver, f"stress_{name}") == pytest.approx(stress, rel=1e-13, abs=1e-11)


@pytest.mark.parametrize("smooth_moduli", [True, False])
@pytest.mark.parametrize("load", ["free", "strain", "stress"])
def test_the_chemical_potential_is_the_derivative_of_the_energy(world, load, smooth_moduli):
    shape, h = (15, 9, 7), 1e-4
    load = {} if load == "free" else {f"mean_{load}": LOAD if load == "strain" else LOAD * 3}
    e = HeterogeneousElasticity(triclinic(3), 3 * triclinic(4), MISFIT, smooth=smooth_moduli, tolerance=1e-12, **load)
    phi, change = 0.5 + 0.3 * smooth(shape, (1.0,) * 3, modes=3), smooth(shape, (1.0,) * 3, seed=5, modes=3)
    if load:
        change = change - change.mean()  # strains are measured from the lattice of the mean
    solver = CahnHilliard(world, shape, double_well(3.0), 3.0, elasticity=e)
    energies = []
    for k in (-1, 1):
        solver.set_field(phi + k * h * change)
        energies.append(solver.measure()["elastic"])
    solver.set_field(phi)
    solver.equilibrium.update()
    f = solver.fourier
    mu = f.another().backward(solver.equilibrium.potential)
    part = np.fft.rfftn(phi - phi.mean())
    q = np.stack(np.meshgrid(*(np.fft.fftfreq(n) for n in shape[:2]), np.fft.rfftfreq(shape[2]), indexing="ij"))
    q[:, 0, 0, 0] = 1.0
    factor = e.reference.factor(*q)
    factor[0, 0, 0] = 0.0
    mu += np.fft.irfftn(factor * part, shape, axes=(0, 1, 2))
    slope = (energies[1] - energies[0]) / (2 * h)
    assert (mu * change).sum() == pytest.approx(slope, rel=1e-6)


def radial(bulk, shear, misfit, r):
    """Pressure (σ_rr + σ_θθ + σ_φφ)/3 at the centre of a medium of spherical symmetry, infinite and free; K, G, ε* at midpoints of r."""
    h, middle = np.diff(r), 0.5 * (r[1:] + r[:-1])
    lam = bulk - 2 * shear / 3
    along, across = np.stack([-1 / h, 1 / h], 1), np.repeat(0.5 / middle, 2).reshape(-1, 2)
    volume = 4 * np.pi * middle**2 * h
    trace = along + 2 * across
    size = len(r)
    k, f = np.zeros((size, size)), np.zeros(size)
    for i, (a, t, b) in enumerate(zip(along, across, trace)):
        k[i : i + 2, i : i + 2] += volume[i] * (
            lam[i] * np.outer(b, b) + 2 * shear[i] * (np.outer(a, a) + 2 * np.outer(t, t))
        )
        f[i : i + 2] += volume[i] * 3 * bulk[i] * misfit[i] * b
    k[-1, -1] += 16 * np.pi * shear[-1] * r[-1]  # u = A/r² beyond
    u = np.linalg.solve(k[1:, 1:], f[1:])
    return bulk[0] * (3 * u[0] / r[1] - 3 * misfit[0])


def test_eshelby_sphere(world):
    """A stiffer, or softer, isotropic sphere that is too large, and one in a remote shear. Eshelby, Proc. R. Soc. A 241, 376 (1957):

        p = 12 G0 K1 η/(3 K1 + 4 G0);  σ_in = σ G1/(G0 + β (G1 - G0)), β = 6 (K0 + 2 G0)/(5 (3 K0 + 4 G0)).

    The interface is diffuse: the pressure is also compared with the radial equation for that profile, which a sharp one takes to p.
    """
    n, radius, eta, k0, g0 = 72, 10.0, 0.01, 5.0, 3.0
    x = np.arange(n) - n / 2
    inside = np.add.outer(np.add.outer(x**2, x**2), x**2) < 0.3 * radius**2
    phi = Spheres((n, n, n), 1.0, [[n / 2] * 3], radius, epsilon=2.0).box((0, 0, 0), (n, n, n))
    share, r = phi.mean(), np.linspace(0, 60, 1201)
    middle = 0.5 * (r[1:] + r[:-1])
    for k1, g1 in [(15.0, 9.0), (1.5, 1.0)]:
        sharp = -12 * g0 * k1 * eta / (3 * k1 + 4 * g0)
        pressures = []
        for width in (1e-6, 2.0):
            u = 0.5 * (1 + np.tanh(3 * (radius - middle) / width))
            pressures.append(radial(k0 + u * (k1 - k0), g0 + u * (g1 - g0), eta * u, r))
        assert pressures[0] == pytest.approx(sharp, rel=2e-3)
        e = HeterogeneousElasticity(isotropic(k0, g0), isotropic(k1, g1), eta, smooth=False, tolerance=1e-5)
        solver = solver_of(world, phi, e, 1.0)
        found = np.mean([elastic_field(solver, f"stress_{a}")[inside].mean() for a in ("xx", "yy", "zz")])
        assert found == pytest.approx(
            pressures[1] * (1 - share), rel=5e-3
        )  # images and free box: to first order in the share
        assert abs(elastic_field(solver, "stress_xy")[inside]).max() < 0.02 * abs(found)

        load = np.zeros((3, 3))
        load[0, 1] = load[1, 0] = 1e-3
        e = HeterogeneousElasticity(
            isotropic(k0, g0), isotropic(k1, g1), 0.0, smooth=False, mean_stress=load, tolerance=1e-5
        )
        solver = solver_of(world, phi, e, 1.0)
        beta = 6 * (k0 + 2 * g0) / (5 * (3 * k0 + 4 * g0))
        wanted = 1e-3 * g1 / (g0 + beta * (g1 - g0))
        assert elastic_field(solver, "stress_xy")[inside].mean() == pytest.approx(wanted, rel=0.03)


def test_allen_cahn_takes_the_mean_of_the_potential(world):
    """The mean of φ moves with <g' + μ>: stiff and soft phases of equal bulk energy do not stay in balance under a load."""
    e = HeterogeneousElasticity(CUBIC, 2 * CUBIC, 0.01, smooth=True, tolerance=1e-8)
    solver = AllenCahn(world, (15, 9, 21), double_well(3.0), 3.0, elasticity=e)
    solver.set_field(smooth((15, 9, 21), (1.0,) * 3, modes=3))
    before, mean, dt = solver.measure(), solver.mean, 1e-5
    phi = solver.field()
    solver.step(dt)
    moved = (solver.field() - phi) / dt
    assert solver.mean != mean
    # ∂F/∂t = -∫ (∂φ/∂t)² dx / L
    assert (solver.measure()["energy"] - before["energy"]) / dt == pytest.approx(-(moved**2).sum(), rel=1e-3)


def test_moduli_that_cannot_be(world):
    for load in (dict(mean_strain=LOAD), dict(mean_stress=LOAD)):
        for e in (Elasticity(CUBIC, 0.01, **load), HeterogeneousElasticity(CUBIC, CUBIC, 0.01, **load)):
            with pytest.raises(ValueError, match="conserved"):
                AllenCahn(world, (8, 8, 8), double_well(3.0), 3.0, elasticity=e)
    with pytest.raises(ValueError, match="ascend"):
        HeterogeneousElasticity(CUBIC, CUBIC, 0.01, between=(1, 0))
    with pytest.raises(ValueError, match="positive definite"):
        HeterogeneousElasticity(CUBIC, -CUBIC, 0.01)
    linear = HeterogeneousElasticity(CUBIC, 0.1 * CUBIC, 0.01, smooth=False)
    assert linear.range() == pytest.approx((-np.inf, 1 / 0.9))
    solver = solver_of(world, np.linspace(0, 1.2, 64).reshape(8, 8, 1) * np.ones(8), linear, 1.0)
    with pytest.raises(NoEquilibrium, match=r"positive definite between φ = -inf and 1.11"):
        solver.step(0.01)


def test_energy_falls_and_restart_is_bitwise(world):
    e = HeterogeneousElasticity(CUBIC, 3 * HARD, 0.02, tolerance=1e-6)
    phi = smooth((16, 18, 20), (1.0,) * 3)
    solver = solver_of(world, phi, e, 1.0)
    energies, iterations = [], []
    for _ in range(20):
        energies.append(solver.measured_step(0.02)["energy"])
        iterations.append(solver.equilibrium.iterations)
    assert np.all(np.diff(energies) < 0)
    assert 0 < iterations[0] < 30 and max(iterations[10:]) <= iterations[0] // 2, (
        "steps begin where the last ones ended"
    )
    arrays, _, numbers = solver.state()
    saved = {name: a.copy() for name, a in arrays.items()}
    solver.step(0.02, 5)
    other = solver_of(world, np.zeros_like(phi), e, 1.0)
    for name, (_, target) in other.targets().items():
        target[:] = saved[name]
    other.restore(numbers)
    other.measure()  # looks only
    other.step(0.02, 5)
    assert np.array_equal(other.field(), solver.field())
