"""Second-order steps: orders of convergence, steps of any lengths, tolerances, what must never change (manufactured solutions:
test_order_of_accuracy.py)."""

import numpy as np
import pytest

from ostwald.app.phasefield import (
    Adaptive,
    CahnHilliard,
    Elasticity,
    PFHub,
    SecondOrder,
    cubic,
    double_well,
    quartic_well,
)


def rms(a):
    return float(np.sqrt(np.mean(np.square(a))))


def smooth(shape, seed=3, mean=0.5, amplitude=0.2):
    """A few long waves."""
    x = np.stack(np.meshgrid(*(2 * np.pi * np.arange(n) / n for n in shape), indexing="ij"), -1)
    rng = np.random.default_rng(seed)
    waves = [np.cos(x @ k + rng.uniform(0, 6)) for k in rng.integers(-2, 3, size=(4, len(shape))) if k.any()]
    return mean + amplitude * sum(waves) / len(waves)


def made(cls, world, phi, **more):
    solver = cls(world, phi.shape, double_well(3.0), 3.0, 1.3, 0.9, **more)
    solver.set_field(phi)
    return solver


@pytest.mark.parametrize("elastic", [False, True])
def test_orders(world, elastic):
    """Errors at one time: halved steps leave half of that of first-order steps, a quarter or less of second-order ones."""
    shape = (24, 20, 18)
    moduli = Elasticity(cubic(30.0, 15.0, 30.0), 0.1) if elastic else None
    phi, time = smooth(shape), 0.4
    exact = made(SecondOrder, world, phi, elasticity=moduli)
    exact.step(time / 1280, 1280)
    exact = exact.field()
    for cls, order in ((CahnHilliard, 1), (SecondOrder, 2)):
        errors = []
        for steps in (20, 40, 80):
            solver = made(cls, world, phi, elasticity=moduli)
            solver.step(time / steps, steps)
            errors.append(rms(solver.field() - exact))
        orders = np.log2(np.divide(errors[:-1], errors[1:]))
        assert (orders > order - 0.15).all() and (order == 2 or orders[-1] < 1.15), (cls, errors)
    assert errors[-1] < 1e-4 * rms(exact - phi)


def test_steps_of_any_lengths(world):
    """Lengths that vary by ± 25 % are as good as equal ones, and a repeated step is the step that it should have been."""
    phi, rng = smooth((24, 20, 18)), np.random.default_rng(1)
    exact, equal, varied = (made(SecondOrder, world, phi) for _ in range(3))
    exact.step(0.4 / 640, 640)
    equal.step(0.01, 40)
    lengths = rng.uniform(0.75, 1.25, 40)
    for dt in 0.4 * lengths / lengths.sum():
        varied.step(dt)
    one, other = (rms(s.field() - exact.field()) for s in (equal, varied))
    assert other < 2 * one
    for s, first in ((equal, 0.02), (varied, 0.013)):
        s.set_field(phi)
        s.step(first)
        s.step(0.011)
    equal.set_field(phi)
    equal.step(0.05)
    equal.repeat(0.013)
    equal.step(0.03)
    equal.repeat(0.011)
    assert equal.time == pytest.approx(varied.time, abs=1e-15) and equal.steps == varied.steps == 2
    assert np.abs(equal.field() - varied.field()).max() < 1e-14
    equal.step(0.01), varied.step(0.01)
    assert equal.changes() == pytest.approx(varied.changes(), rel=1e-9)


def test_estimate_of_the_error(world):
    """What the correction changes is about the error of the step: against the same step in a hundred parts."""
    phi = smooth((24, 24))
    solver = made(SecondOrder, world, phi)
    solver.step(0.002, 5)
    for dt in (0.01, 0.02):
        solver.set_field(phi)
        solver.step(0.0002, 20)
        start = solver.state()
        kept = {name: a.copy() for name, a in start[0].items()}
        solver.step(dt)
        coarse = solver.field()
        solver.step(1e-6)
        told = solver.changes()["error"]
        for name, (_, a) in solver.targets().items():
            a[:] = kept[name]
        solver.restore(start[2])
        solver.step(dt / 100, 100)
        assert 0.5 < told / rms(coarse - solver.field()) < 2
        assert told > 1e-9


def test_long_steps_are_stable(world):
    """A hundred times what first-order steps bear: the energy falls to that of a flat interface and φ stays between its minima."""
    rng = np.random.default_rng(2)
    solver = made(SecondOrder, world, 0.5 + 0.05 * rng.normal(size=(48, 48)))
    solver.step(0.01, 200)
    before = solver.measure()["energy"]
    solver.step(30.0, 400)  # at once 3000 times as long
    after = solver.measure()
    assert after["energy"] < before and -0.1 < after["low"] and after["high"] < 1.1


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_adaptive_steps(world, dtype):
    n, tolerance = 64, 0.005
    field = PFHub((n, n), 200 / n)

    def solver():
        new = SecondOrder(world, (n, n), quartic_well(5.0, 0.3, 0.7), 2.0, 5.0, 200 / n, dtype)
        new.set_field(field.source(new.fourier))
        return new

    adaptive = solver()
    steps, times, last = Adaptive(adaptive, tolerance), [], np.inf
    for until in (1.0, 10.0, 30.0, 100.0):
        while adaptive.time < until:
            numbers = steps.step(until)
            times.append(adaptive.time)
            assert numbers["energy"] < last * (1 + 1e-6)
            last = numbers["energy"]
        assert adaptive.time == until
    fine = solver()
    fine.step(0.02, 5000)
    found, exact = adaptive.measure(), fine.measure()
    assert found["energy"] == pytest.approx(exact["energy"], rel=2e-3)
    assert rms(adaptive.field() - fine.field()) < 0.01
    assert adaptive.steps == len(times) < 1000 and np.all(np.diff(times) > 0)
    assert np.diff(times).max() > 10 * np.diff(times).min()
    assert steps.rises == steps.turns == steps.exceeded == 0
    assert found["mean"] == exact["mean"]


def test_tighter_tolerances_give_smaller_errors(world):
    phi = smooth((32, 32), amplitude=0.3)
    exact = made(SecondOrder, world, phi)
    exact.step(0.0005, 8000)
    errors, counts = [], []
    for tolerance in (0.04, 0.01, 0.0025):
        solver = made(SecondOrder, world, phi)
        steps = Adaptive(solver, tolerance)
        while solver.time < 4.0:
            steps.step(4.0)
        errors.append(rms(solver.field() - exact.field()) / rms(exact.field() - phi))
        counts.append(solver.steps)
    assert errors[0] > errors[1] > errors[2] and counts[0] < counts[1] < counts[2]
    assert errors[2] < 0.0025


def test_a_step_that_was_too_long_is_repeated(world):
    phi = 0.5 + 0.05 * np.random.default_rng(5).normal(size=(32, 32))
    solver = made(SecondOrder, world, phi)
    steps = Adaptive(solver, 0.005, first=0.5)
    while solver.time < 1.0:
        steps.step(1.0)
    assert steps.repeated >= 1 and solver.time == 1.0
    bounded = made(SecondOrder, world, phi)
    steps = Adaptive(bounded, 1e-9, first=0.5, shortest=0.05, longest=0.1)
    assert steps.dt == 0.1
    lengths = []
    while bounded.time < 1.0:
        before = bounded.time
        steps.step(1.0)
        lengths.append(bounded.time - before)
    assert steps.exceeded > 0 and max(lengths) < 0.1 + 1e-12 and min(lengths[:-2]) > 0.05 - 1e-12


def test_states_continue_bit_for_bit(world):
    phi = smooth((24, 20, 18))
    whole = made(SecondOrder, world, phi)
    steps = Adaptive(whole, 0.01)
    for _ in range(12):
        steps.step(5.0)
    arrays, starts, numbers = whole.state()
    kept, control = {name: a.copy() for name, a in arrays.items()}, steps.state()
    again = SecondOrder(world, phi.shape, double_well(3.0), 3.0, 1.3, 0.9)
    assert starts.keys() == arrays.keys() == again.targets().keys()
    for name, (_, target) in again.targets().items():
        target[:] = kept[name]
    again.restore(numbers)
    resumed = Adaptive(again, 0.01)
    resumed.restore(control)
    for _ in range(10):
        assert steps.step(5.0) == resumed.step(5.0)
    assert np.array_equal(whole.field(), again.field()) and whole.time == again.time


def test_bad_arguments(world):
    solver = made(SecondOrder, world, smooth((8, 8)))
    with pytest.raises(ValueError, match="no step to repeat"):
        solver.repeat(0.1)
    with pytest.raises(ValueError, match="stabiliser"):
        SecondOrder(world, (8, 8), double_well(3.0), 3.0, stabiliser=0.0)
    for bad in (dict(tolerance=0.0), dict(tolerance=0.1, shortest=2.0, longest=1.0)):
        with pytest.raises(ValueError, match="tolerance"):
            Adaptive(solver, **bad)
    with pytest.raises(ValueError, match="not after"):
        Adaptive(solver, 0.1).step(0.0)
