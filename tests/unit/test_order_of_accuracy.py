"""How errors fall with the time step and the spacing. Slopes are printed (pytest -s) and must be those of the methods within 0.1.

Against manufactured solutions where a solver takes another chemical potential, otherwise against the spectral solver's, whose errors
are of another kind and smaller by far.
"""

import numpy as np
import pytest

from ostwald.app.phasefield import (
    CahnHilliard,
    Elasticity,
    FiniteDifference,
    HeterogeneousElasticity,
    Implicit,
    SecondOrder,
    cubic,
    double_well,
)


def rms(a):
    return float(np.sqrt(np.mean(np.square(a))))


def slope(steps, errors, what):
    """Of log error over log step, by least squares; printed with the slopes between neighbours."""
    x, y = np.log(steps), np.log(errors)
    found = np.polyfit(x, y, 1)[0]
    between = ", ".join(f"{s:.3f}" for s in np.diff(y) / np.diff(x))
    print(f"{what}: slope {found:.3f} ({between}); errors {', '.join(f'{e:.2e}' for e in errors)}")
    return found


class Manufactured:
    """φ = m + ∇²ψ, ψ = Σ A(t) exp(cos θ) of two phases θ(x, z), so that all waves take part: ∂φ/∂t = M ∇²(g' - ε∇²φ + Yφ + X) for
    X = ∂ψ/∂t / M - g' + ε∇²φ - Yφ. Each phase is one direction of waves, for which Y is one number.
    """

    LENGTH, WELL, EPSILON, MOBILITY = 18.0, double_well(3.0), 2.0, 0.7
    DIRECTIONS = (1, 0), (1, -1)

    def __init__(self, n, moduli):
        self.factors = (
            [0.0, 0.0] if moduli is None else [float(moduli.factor(*map(np.float64, d))) for d in self.DIRECTIONS]
        )
        k, places = 2 * np.pi / self.LENGTH, np.arange(n) * self.LENGTH / n
        x, z = np.meshgrid(places, places, indexing="ij")
        self.waves = []  # exp(cos θ), its Laplacian, and the Laplacian of that
        for a, b in self.DIRECTIONS:
            q2 = k * k * (a * a + b * b)
            c, s = np.cos(k * (a * x + b * z)), np.sin(k * (a * x + b * z))
            fourth = 3 * c**2 - 4 * s**2 + c - 6 * s**2 * c + s**4
            self.waves.append(np.exp(c) * np.array([np.ones((n, n)), q2 * (s**2 - c), q2**2 * fourth]))

    def sum(self, derivative, sizes):
        return sum(size * wave[derivative] for size, wave in zip(sizes, self.waves))

    def sizes(self, t):
        return np.array([0.7 * np.cos(5 * t), 0.2 * np.sin(8 * t)])

    def field(self, t):
        return 0.45 + self.sum(1, self.sizes(t))

    def potential(self, t):
        """X"""
        rates = -3.5 * np.sin(5 * t), 1.6 * np.cos(8 * t)
        elastic = self.sum(1, self.factors * self.sizes(t))
        return (
            self.sum(0, rates) / self.MOBILITY
            - self.WELL.energy(self.field(t), 1)
            + self.EPSILON * self.sum(2, self.sizes(t))
            - elastic
        )


def follow(world, cls, n, dt, time, moduli=None):
    """Error at `time` of steps dt on n × n points."""
    exact = Manufactured(n, moduli)
    solver = cls(world, (n, n), exact.WELL, exact.EPSILON, exact.MOBILITY, exact.LENGTH / n, elasticity=moduli)
    other = CahnHilliard(
        world, (n, n), exact.WELL, exact.EPSILON
    )  # a transform writes over the planes of its own solver
    solver.extra = solver.fourier.spectrum()
    solver.set_field(exact.field(0.0))
    for _ in range(round(time / dt)):
        other.fourier.forward(exact.potential(solver.time), solver.extra, 1 / solver.points)
        solver.step(dt)
    return rms(solver.field() - exact.field(time))


MODULI = {"no elasticity": None, "elastic": Elasticity(cubic(30.0, 15.0, 30.0), 0.3, 2)}


@pytest.mark.parametrize("elastic", MODULI)
@pytest.mark.parametrize(("cls", "order"), [(CahnHilliard, 1), (SecondOrder, 2)])
def test_manufactured_solution_in_time(world, cls, order, elastic):
    steps = np.array([0.005, 0.0025, 0.00125, 0.000625])
    errors = [follow(world, cls, 24, dt, 0.5, MODULI[elastic]) for dt in steps]
    assert slope(steps, errors, f"{cls.__name__}, {elastic}, dt") == pytest.approx(order, abs=0.1)
    assert errors[-1] < (1e-3, 1e-6)[order - 1]


@pytest.mark.parametrize("elastic", MODULI)
def test_manufactured_solution_in_space(world, elastic):
    """Spectral: by far faster than any power of the spacing, down to what the steps leave."""
    sizes = np.array([8, 10, 12, 14, 16, 32, 40])
    errors = [follow(world, SecondOrder, n, 0.0002, 0.04, MODULI[elastic]) for n in sizes]
    slope(1 / sizes[:5], errors[:5], f"spectral, {elastic}, h")
    powers = -np.diff(np.log(errors[:5])) / np.diff(np.log(sizes[:5]))
    assert (np.diff(powers) > 0).all() and powers[-1] > 15
    assert errors[-2] == pytest.approx(errors[-1], rel=1e-3) and errors[-1] < 1e-7, errors


@pytest.mark.parametrize(("cls", "order"), [(CahnHilliard, 1), (SecondOrder, 2)])
def test_two_phases_in_time(world, cls, order):
    """Elastic constants that depend on φ, found by iteration: against much shorter steps."""
    x = 2 * np.pi * np.arange(24) / 24
    phi = 0.5 + 0.2 * np.cos(x)[:, None] * np.cos(2 * x) + 0.1 * np.sin(x)
    low, high = cubic(30.0, 15.0, 30.0), cubic(90.0, 45.0, 90.0)
    moduli = HeterogeneousElasticity(low, high, 0.1, 2, tolerance=1e-10)

    def end(cls, count):
        solver = cls(world, phi.shape, double_well(3.0), 3.0, elasticity=moduli)
        solver.set_field(phi)
        solver.step(0.2 / count, count)
        return solver.field()

    exact, counts = end(SecondOrder, 1600), np.array([100, 200, 400])
    errors = [rms(end(cls, count) - exact) for count in counts]
    assert slope(0.2 / counts, errors, f"{cls.__name__}, two phases, dt") == pytest.approx(order, abs=0.1)


def between_walls(n, length=12.0):
    x = (np.arange(n) + 0.5) * np.pi / n
    return 0.5 + 0.2 * np.cos(x)[:, None] * np.cos(2 * x) + 0.1 * np.cos(x)[:, None], length / n


@pytest.mark.parametrize("method", [FiniteDifference, Implicit])
def test_differences_in_space(world, method):
    """A box with walls against the spectral solution of the box and its mirror images, at the same points."""
    if method is Implicit:
        pytest.importorskip("petsc4py")
    time, sizes, errors = 0.2, (24, 48, 96), []
    for n in sizes:
        phi, h = between_walls(n)
        mirrored = SecondOrder(world, (2 * n, 2 * n), double_well(3.0), 3.0, spacing=h)
        mirrored.set_field(np.pad(phi, (0, n), mode="symmetric"))
        mirrored.step(time / 1000, 1000)
        solver = method(world, phi.shape, double_well(3.0), 3.0, spacing=h, boundaries="mirror")
        solver.set_field(phi)
        count = 40 if method is Implicit else 2 * int(np.ceil(time / solver.longest_step))
        solver.step(time / count, count)
        errors.append(rms(solver.field() - mirrored.field()[:n, :n]))
        solver.close()
    found = slope(12.0 / np.array(sizes), errors, f"{method.__name__} between walls, h")
    assert found == pytest.approx(2, abs=0.1)


def test_implicit_steps_in_time(world):
    pytest.importorskip("petsc4py")
    phi, h = between_walls(24)

    def end(count):
        solver = Implicit(world, phi.shape, double_well(3.0), 3.0, (0.2, 3.0, -3.0), h, "mirror")
        solver.set_field(phi)
        solver.step(0.4 / count, count)
        solver.close()
        return solver.field()

    exact, counts = end(512), np.array([16, 32, 64])
    errors = [rms(end(count) - exact) for count in counts]
    assert slope(0.4 / counts, errors, "Implicit, M(φ), dt") == pytest.approx(2, abs=0.1)
