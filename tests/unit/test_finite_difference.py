"""Explicit finite differences against plain NumPy, the spectral solver and what must never change."""

import numpy as np
import pytest

from ostwald.app.phasefield import (
    CahnHilliard,
    FiniteDifference,
    Morphology,
    RegularSolution,
    StructureFactor,
    Well,
    double_well,
)

MODES = {"periodic": "wrap", "mirror": "symmetric"}
WELLS = {
    "double": double_well(3.0),
    "sixth": Well(0.4, (0.1, 0.02, -1.5, 0.3, 4.0, -0.7, 2.0)),
    "regular": RegularSolution(3.0, 1.0),
}


def noise(shape, spread=0.1):
    return 0.5 + spread * np.random.default_rng(1).normal(size=shape)


def neighbours(a, axis, kind):
    around = [(0, 0)] * a.ndim
    around[axis] = 1, 1
    p = np.moveaxis(np.pad(a, around, MODES[kind]), axis, 0)
    return np.moveaxis(p[:-2], 0, axis), np.moveaxis(p[2:], 0, axis)


def laplacian(a, spacing, boundaries):
    pairs = (neighbours(a, axis, kind) for axis, kind in enumerate(boundaries))
    return sum((low - 2 * a + high) / h**2 for (low, high), h in zip(pairs, spacing))


@pytest.mark.parametrize("well", WELLS)
@pytest.mark.parametrize("shape", [(12, 10, 16), (7, 9, 13), (4, 5, 3), (1, 2, 2), (20, 33), (9, 64)])
def test_steps_and_energies_are_those_of_numpy(world, shape, well):
    well, spacing, epsilon, mobility = WELLS[well], (0.9, 1.1, 1.3)[: len(shape)], 3.0, 0.7
    kinds = ("mirror", "periodic", "mirror")
    for boundaries in (kinds[: len(shape)], ("periodic",) * len(shape), kinds[-len(shape) + 1 :] + kinds[:1]):
        for threads in (1, 3):
            world.threads = threads
            phi = noise(shape)
            solver = FiniteDifference(world, shape, well, epsilon, mobility, spacing, boundaries=boundaries)
            solver.set_field(phi)
            for _ in range(4):
                mu = well.energy(phi, 1) - epsilon * laplacian(phi, spacing, boundaries)
                phi = phi + 1e-3 * mobility * laplacian(mu, spacing, boundaries)
                solver.step(1e-3)
            assert np.abs(solver.field() - phi).max() < 1e-14
            told, cell = solver.measure(), np.prod(spacing)
            slope = sum(
                (((neighbours(phi, axis, kind)[1] - phi) / h) ** 2).sum()
                for axis, (kind, h) in enumerate(zip(boundaries, spacing))
            )
            bulk = well.energy(phi).sum() * cell
            assert told["bulk"] == pytest.approx(bulk, rel=1e-12)
            assert told["gradient"] == pytest.approx(0.5 * epsilon * slope * cell, rel=1e-12)
            assert told["energy"] == pytest.approx(told["bulk"] + told["gradient"], rel=1e-14)
            extremes = told["low"], told["high"], told["mean"]
            assert extremes == pytest.approx((phi.min(), phi.max(), phi.mean()), abs=1e-14)
            again = solver.measured_step(1e-3)
            assert again == told
            assert solver.steps == 5 and solver.time == pytest.approx(5e-3)
    world.threads = 1


def test_second_order_in_the_spacing(world):
    """Against the spectral solver on the same grid, both with steps so short that only the differences count."""
    errors, length = [], 12.0
    for n in (40, 80):
        x = np.arange(n) * length / n * 2 * np.pi / length
        phi = 0.5 + 0.2 * np.cos(x)[:, None] * np.sin(2 * x) + 0.1 * np.sin(x)[:, None]
        spectral = CahnHilliard(world, (n, n), double_well(3.0), 3.0, spacing=length / n)
        explicit = FiniteDifference(world, (n, n), double_well(3.0), 3.0, spacing=length / n)
        for solver in (spectral, explicit):
            solver.set_field(phi)
            solver.step(4e-6, 2500)  # stable at the finest spacing; Euler's errors are alike to O(dt)
        errors.append(np.abs(explicit.field() - spectral.field()).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1), errors


def test_a_flat_interface_has_the_energy_of_the_grid(world):
    """0.943 per unit area at h = 1 with one-sided differences (a continuous one has 1), and mass stays."""
    shape = (4, 4, 64)
    z = np.arange(64)
    phi = np.broadcast_to(0.5 * (np.tanh(z - 15.5) - np.tanh(z - 47.5)), shape)
    solver = FiniteDifference(world, shape, double_well(3.0), 3.0)
    solver.set_field(phi)
    begin = solver.measure()
    solver.step(2.5e-3, 4000)
    end = solver.measure()
    assert end["energy"] / (2 * 16) == pytest.approx(0.943, abs=5e-4)
    assert end["energy"] < begin["energy"] and end["mean"] == pytest.approx(begin["mean"], abs=1e-14)


def test_the_longest_step_is_where_stability_ends(world):
    shape, limits = (16, 16, 16), []
    for factor in (0.98, 1.02):
        solver = FiniteDifference(world, shape, double_well(3.0), 3.0)
        assert solver.longest_step == pytest.approx(2 / (12 * (12 + 3 * 12)), rel=1e-12)
        solver.set_field(1e-8 * noise(shape))  # about a minimum, where g'' is largest
        solver.step(factor * solver.longest_step, 500)
        limits.append(np.ptp(solver.field()))
    assert limits[0] < 1e-8 < limits[1]


def test_walls_let_nothing_through(world):
    shape = (24, 18)
    solver = FiniteDifference(world, shape, double_well(3.0), 3.0, boundaries="mirror")
    doubled = FiniteDifference(world, (48, 36), double_well(3.0), 3.0)
    phi = noise(shape)
    solver.set_field(phi)
    doubled.set_field(np.pad(phi, ((0, 24), (0, 18)), "symmetric"))
    for each in (solver, doubled):
        each.step(2e-3, 300)
    assert np.abs(doubled.field()[:24, :18] - solver.field()).max() < 1e-13
    told, twice = solver.measure(), doubled.measure()
    assert told["mean"] == pytest.approx(phi.mean(), abs=1e-14)
    assert 4 * told["energy"] == pytest.approx(twice["energy"], rel=1e-12)
    with pytest.raises(ValueError, match="walls"):
        StructureFactor().measure(solver)


def test_single_precision_and_diagnostics(world):
    shape, fields = (16, 18, 20), []
    phi = noise(shape)
    spectral = CahnHilliard(world, shape, double_well(3.0), 3.0)
    for dtype in (np.float64, np.float32):
        solver = FiniteDifference(world, shape, double_well(3.0), 3.0, dtype=dtype)
        solver.set_field(phi)
        solver.step(1.25e-3, 400)
        fields.append(solver.field())
        assert solver.measure()["mean"] == pytest.approx(phi.mean(), abs=1e-13 if dtype == np.float64 else 1e-8)
        assert np.array_equal(np.concatenate([piece for _, _, piece in solver.pieces()]), solver.field())
    assert fields[1].dtype == np.float32 and 0 < np.abs(fields[1] - fields[0]).max() < 1e-4
    spectral.set_field(solver.field())
    for analysis in (StructureFactor(), Morphology()):
        for given, wanted in zip(analysis.measure(solver), analysis.measure(spectral)):
            for name, value in wanted.items():
                assert given[name] == pytest.approx(value, rel=1e-5), name


def test_what_cannot_be_is_refused(world):
    well = double_well(3.0)
    for arguments, word in [
        (dict(epsilon=-1.0), "positive"),
        (dict(spacing=0.0), "spacings"),
        (dict(boundaries="open"), "boundaries"),
        (dict(ranks=(2, 1)), "process grid"),
    ]:
        with pytest.raises(ValueError, match=word):
            FiniteDifference(world, (8, 8), well, **(dict(epsilon=3.0) | arguments))
    solver = FiniteDifference(world, (8, 8), well, 3.0)
    with pytest.raises(ValueError, match="positive"):
        solver.step(-1.0)
    with pytest.raises(RuntimeError, match="finite"):
        solver.set_field(np.full((8, 8), np.nan))
    with pytest.raises(RuntimeError, match="shape"):
        solver.set_field(np.zeros((8, 9)))
    solver.set_field(noise((8, 8)))
    solver.step(1.0, 40)
    with pytest.raises(RuntimeError, match="no longer finite"):
        solver.measure()
