"""Implicit finite differences: the equation, the order, the other solvers, mobilities that depend on φ."""

import numpy as np
import pytest

from ostwald.app.phasefield import (
    Adaptive,
    FiniteDifference,
    Implicit,
    PFHub,
    VariableMobility,
    double_well,
    quartic_well,
)

pytest.importorskip("petsc4py")

MODES = {"periodic": "wrap", "mirror": "symmetric"}
MOBILITY = (0.2, 3.0, -3.0)
DEGENERATE = (0.0, 4.0, -4.0)


def noise(shape, spread=0.1):
    return 0.5 + spread * np.random.default_rng(1).normal(size=shape)


def divergence(a, m, spacing, boundaries):
    """∇·(m ∇a), m between two points the mean of theirs."""
    out = 0
    for axis, (h, kind) in enumerate(zip(spacing, boundaries)):
        around = [(0, 0)] * a.ndim
        around[axis] = 1, 1
        p, q = (np.moveaxis(np.pad(f, around, MODES[kind]), axis, 0) for f in (a, m))
        flow = 0.5 * (q[1:] + q[:-1]) * np.diff(p, axis=0) / h
        out = out + np.moveaxis(np.diff(flow, axis=0) / h, 0, axis)
    return out


def tendency(phi, solver, mobility):
    one = np.ones_like(phi)
    mu = solver.well.energy(phi, 1) - solver.epsilon * divergence(phi, one, solver.spacing, solver.boundaries)
    m = np.maximum(np.polynomial.Polynomial(mobility)(phi), 0)
    return divergence(mu, m, solver.spacing, solver.boundaries)


@pytest.mark.parametrize("shape", [(6, 7, 11), (3, 4, 16), (9, 13)])
@pytest.mark.parametrize("mobility", [(0.7,), MOBILITY, DEGENERATE])
def test_right_hand_side_and_derivative(world, shape, mobility):
    spacing, kinds = (0.9, 1.1, 1.3)[: len(shape)], ("periodic", "mirror", "mirror")
    for boundaries in (kinds[: len(shape)], ("periodic",) * len(shape), ("mirror",) * len(shape)):
        for threads in (1, 3):
            world.threads = threads
            solver = Implicit(world, shape, double_well(3.0), 3.0, mobility, spacing, boundaries)
            phi, v = noise(shape, 0.4), noise(shape) - 0.4
            solver.set_field(phi)
            solver._ghosts.exchange(solver._u)
            wanted = tendency(phi, solver, mobility)
            scale = np.abs(wanted).max()
            assert np.abs(solver._tendency(None).reshape(shape) - wanted).max() < 1e-13 * scale
            solver._ghosts.inner(solver._v)[:] = v
            solver._ghosts.exchange(solver._v)
            h = 1e-5
            slope = (tendency(phi + h * v, solver, mobility) - tendency(phi - h * v, solver, mobility)) / (2 * h)
            found = solver._tendency(solver._v).reshape(shape)
            assert np.abs(found - slope).max() < 1e-7 * np.abs(slope).max()
            solver.close()
    world.threads = 1


def smooth(n, length=12.0):
    x = (np.arange(n) + 0.5) * np.pi / n
    return 0.5 + 0.2 * np.cos(x)[:, None] * np.cos(2 * x) + 0.1 * np.cos(x)[:, None], length / n


def test_second_order_in_the_step_and_explicit_steps_agree(world):
    phi, h = smooth(24)
    explicit = FiniteDifference(world, phi.shape, double_well(3.0), 3.0, spacing=h, boundaries="mirror")
    ends = []
    for count in (4000, 8000):
        explicit.set_field(phi)
        explicit.step(0.4 / count, count)
        ends.append(explicit.field())
    exact, errors = 2 * ends[1] - ends[0], []  # Euler's error is proportional to its step
    for count in (8, 16, 32):
        solver = Implicit(world, phi.shape, double_well(3.0), 3.0, 1.0, h, "mirror")
        solver.set_field(phi)
        begin = solver.measure()
        solver.step(0.4 / count, count)
        end = solver.measure()
        assert end["mean"] == pytest.approx(begin["mean"], abs=1e-14) and end["energy"] < begin["energy"]
        errors.append(np.abs(solver.field() - exact).max())
        solver.close()
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.25), errors
    assert np.log2(errors[1] / errors[2]) == pytest.approx(2, abs=0.15), errors


def test_long_steps_and_iterations(world):
    """The preconditioner keeps iterations nearly as few on finer grids and with longer steps."""
    linear = {}
    for n, dt in ((24, 0.1), (48, 0.1), (48, 0.5)):
        phi, h = smooth(n)
        solver = Implicit(world, phi.shape, double_well(3.0), 3.0, MOBILITY, h, "mirror")
        solver.set_field(phi)
        begin = solver.measure()
        solver.step(dt)
        linear[n, dt] = solver.linear / solver.newton
        assert solver.measure()["energy"] < begin["energy"]
        assert solver.measure()["mean"] == pytest.approx(begin["mean"], abs=1e-13)
        solver.close()
    assert linear[48, 0.1] < 1.5 * linear[24, 0.1] + 2 and linear[48, 0.5] < 30, linear


def test_what_cannot_be_is_refused(world):
    with pytest.raises(ValueError, match="nowhere positive"):
        Implicit(world, (8, 8), double_well(3.0), 3.0, (0.0, -1.0, 1.0))
    solver = Implicit(world, (8, 8), double_well(3.0), 3.0)
    with pytest.raises(ValueError, match="positive"):
        solver.step(0.0)
    solver.close()


def test_a_step_without_a_solution_changes_nothing(world):
    phi, h = smooth(48)
    solver = Implicit(world, phi.shape, double_well(3.0), 3.0, MOBILITY, h, "mirror")
    solver.set_field(phi)
    with pytest.raises(RuntimeError, match=r"step 1 of 10 at time 0: .* too long"):
        solver.step(10.0)
    assert np.abs(solver.field() - phi).max() < 1e-15 and solver.steps == 0
    solver.close()


def test_a_degenerate_mobility_beside_the_spectral_solver(world):
    """4 φ (1 - φ): the difference is of second order in the spacing, and the mean stays."""
    apart = []
    for n in (32, 64):
        h = 24.0 / n
        x = 2 * np.pi * (np.arange(n) + 0.5) / n
        phi = 0.5 + 0.3 * np.cos(x)[:, None] * np.cos(2 * x) + 0.15 * np.sin(x)
        spectral = VariableMobility(world, phi.shape, double_well(3.0), 3.0, DEGENERATE, 1.0, h)
        solver = Implicit(world, phi.shape, double_well(3.0), 3.0, DEGENERATE, h)
        for each, count in ((spectral, 1000), (solver, 40)):
            each.set_field(phi)
            each.step(0.3 / count, count)
        assert solver.measure()["mean"] == pytest.approx(spectral.mean, abs=1e-13)
        apart.append(np.sqrt(np.mean((solver.field() - spectral.field()) ** 2)))
        solver.close()
    assert np.log2(apart[0] / apart[1]) == pytest.approx(2, abs=0.2), apart


def benchmark(world, n=50):
    """PFHub's benchmark 1b in a box half as long."""
    solver = Implicit(world, (n, n), quartic_well(5.0, 0.3, 0.7), 2.0, 5.0, 100 / n, "mirror")
    solver.set_field(PFHub((n, n), 100 / n, offset=0.5).source(solver.parts))
    return solver


def test_estimate_of_the_error(world):
    """Against the same step in forty parts."""
    solver = benchmark(world)
    solver.step(0.2, 100)
    phi = solver.field()
    for dt in (0.1, 0.4):
        solver.set_field(phi)
        solver.step(dt)
        coarse, told = solver.field(), solver.changes()
        solver.set_field(phi)
        solver.step(dt / 40, 40)
        error = np.sqrt(np.mean((coarse - solver.field()) ** 2))
        assert 0.7 < told["error"] / error < 1.4
        assert told["moved"] == pytest.approx(np.sqrt(np.mean((coarse - phi) ** 2)), rel=1e-9)
    solver.close()


def test_adaptive_steps(world):
    ends = []
    for tolerance in (None, 0.01, 0.002):
        solver = benchmark(world)
        if tolerance is None:
            solver.step(0.05, 1200)
        else:
            steps, lengths = Adaptive(solver, tolerance), []
            while solver.time < 60.0:
                before = solver.time
                steps.step(60.0)
                lengths.append(solver.time - before)
            assert solver.time == 60.0 and solver.steps == len(lengths) < 150
            assert max(lengths) > 10 * min(lengths) and steps.rises == 0
        ends.append((solver.measure()["energy"], solver.field()))
        solver.close()
    (exact, phi), *found = ends
    errors = [np.sqrt(np.mean((field - phi) ** 2)) for _, field in found]
    assert errors[1] < errors[0] < 2e-3 and errors[1] < 5e-4
    assert found[1][0] == pytest.approx(exact, rel=2e-3)


def test_steps_without_a_solution_are_halved(world):
    phi, h = smooth(48)
    solver = Implicit(world, phi.shape, double_well(3.0), 3.0, MOBILITY, h, "mirror")
    solver.set_field(phi)
    steps = Adaptive(solver, 0.01, first=10.0)
    begin = solver.measure()
    steps.step(20.0)
    assert steps.repeated > 0 and 0 < solver.time < 5.0 and solver.steps == 1
    assert solver.measure()["mean"] == pytest.approx(begin["mean"], abs=1e-13)
    with pytest.raises(RuntimeError, match="too long"):
        solver.set_field(phi)
        Adaptive(solver, 0.01, first=10.0, shortest=10.0).step(20.0)
    solver.close()


def test_repeated_steps_are_the_steps_that_they_should_have_been(world):
    one, other = benchmark(world), benchmark(world)
    one.step(0.5)
    one.repeat(0.3)
    other.step(0.3)
    assert np.array_equal(one.field(), other.field()) and one.time == other.time and one.steps == other.steps == 1
    assert one.changes() == pytest.approx(other.changes(), nan_ok=True)
    with pytest.raises(ValueError, match="no step to repeat"):
        benchmark(world).repeat(0.1)
