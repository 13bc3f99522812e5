"""Minimisation against lattice sums, finite differences and known minima."""

import numpy as np
import pytest
from model_systems import SmoothLennardJones, fcc, make_system
from scipy.optimize import minimize_scalar

from ostwald.app.atoms.units import GPA
from ostwald.app.dynamics import minimise
from ostwald.app.dynamics.barostat import CellModes
from ostwald.app.dynamics.minimise import _Surface

LJ = SmoothLennardJones()


def lattice_energy(a, pressure=0.0):
    """Enthalpy of one atom of the fcc lattice of constant a (Å) at a pressure (GPa), by direct summation."""
    k = np.arange(-4, 5)
    cells = np.stack(np.meshgrid(k, k, k, indexing="ij"), -1).reshape(-1, 1, 3)
    r = np.linalg.norm(((cells + np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])) * a), axis=-1)
    r = r[(r > 1e-9) & (r < LJ.cutoff)]
    return 0.5 * LJ.pair(r)[0].sum() + pressure / GPA * a**3 / 4


def lattice_constant(pressure=0.0):
    return minimize_scalar(lattice_energy, bracket=(4.9, 5.3), args=(pressure,), tol=1e-14).x


def rattled(world, constant=5.31, cells=2, amplitude=0.1, shear=0.0, seed=4, **options):
    positions, matrix = fcc(cells, constant)
    deformation = np.eye(3) + shear * np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [0.5, 0.0, 0.0]])
    positions = positions + amplitude * np.random.default_rng(seed).normal(size=positions.shape)
    return make_system(world, LJ, positions @ deformation.T, matrix @ deformation.T, **options)


@pytest.mark.parametrize("method", ("lbfgs", "fire"))
def test_a_rattled_crystal_relaxes_to_its_lattice(world, method):
    system = rattled(world, constant=5.3)
    found = minimise(system, method=method, force_tolerance=1e-7)
    assert found.converged and found.force <= 1e-7, found.describe()
    assert np.isclose(found.energy / system.total, lattice_energy(5.3), rtol=1e-11)
    system.compute()
    assert np.isclose(system.potential_energy(), found.energy, rtol=1e-13)
    assert not system.atoms.extra
    assert (system.atoms.velocities == 0.0).all()


@pytest.mark.parametrize("pressure", (0.0, 0.5))
@pytest.mark.parametrize("modes", ("isotropic", "anisotropic", "triclinic"))
@pytest.mark.parametrize("method", ("lbfgs", "fire"))
def test_the_cell_relaxes_to_the_lattice_constant(world, method, modes, pressure):
    shear = 0.02 if modes == "triclinic" else 0.0
    system = rattled(world, shear=shear, amplitude=0.05)
    found = minimise(system, method=method, cell=modes, pressure=pressure, force_tolerance=1e-6, stress_tolerance=1e-6)
    constant = lattice_constant(pressure)
    assert found.converged, found.describe()
    assert np.allclose(system.cell.lengths, 2 * constant, rtol=1e-6)
    assert np.allclose(system.cell.angles, 90.0, atol=1e-4)
    assert np.isclose(found.enthalpy / system.total, lattice_energy(constant, pressure), rtol=1e-10)
    system.compute()
    assert np.allclose(system.virial / system.cell.volume * GPA, [pressure] * 3 + [0.0] * 3, rtol=0, atol=2e-6)


@pytest.mark.parametrize("method", ("lbfgs", "fire"))
def test_any_stress_can_be_the_target(world, method):
    target = np.array([0.1, 0.15, 0.2, 0.02, -0.01, 0.03])
    system = rattled(world, constant=5.2, amplitude=0.02)
    found = minimise(
        system, method=method, cell="triclinic", pressure=target, force_tolerance=1e-6, stress_tolerance=1e-5
    )
    system.compute()
    assert found.converged, found.describe()
    assert np.allclose(system.virial / system.cell.volume * GPA, target, rtol=0, atol=1e-5)


def test_some_strains_alone(world):
    """x and a shear free, y and z held: their stress stays where it is."""
    system = rattled(world, shear=0.03)
    found = minimise(system, cell=("xx", "xy"), pressure=0.1, force_tolerance=1e-6, stress_tolerance=1e-6)
    system.compute()
    pressure = system.virial / system.cell.volume * GPA
    assert found.converged and np.allclose(pressure[[0, 5]], [0.1, 0.0], rtol=0, atol=1e-6)
    assert np.abs(pressure[[1, 2, 3, 4]]).min() > 1e-3


@pytest.mark.parametrize("target", (0.3, [0.1, 0.5, -0.2, 0.1, 0.05, -0.15]))
def test_the_gradient_is_that_of_the_enthalpy(world, target):
    """∂H/∂(u, ε) at a strained cell, along random directions, by finite differences."""
    system = rattled(world, shear=0.05)
    surface = _Surface(system, CellModes("triclinic"), np.asarray(target), 1e-9, 1e-9, 0.1)
    r = np.random.default_rng(8)
    surface.vector("direction")
    surface.cells["direction"] = 0.2 * r.normal(size=6) * surface.length
    surface.rows("direction")[:] = 0.05 * r.normal(size=(system.atoms.n, 3))
    surface.evaluate()
    surface.move("direction", 1.0)
    for _ in range(3):
        surface.cells["direction"] = r.normal(size=6)
        surface.rows("direction")[:] = r.normal(size=(system.atoms.n, 3)) / system.atoms.n**0.5
        slope = surface.evaluate(along=(("gradient", "direction"),))[0]
        ends = []
        for amount in (1e-4, -2e-4):
            surface.move("direction", amount)
            surface.evaluate()
            ends.append(surface.enthalpy)
        surface.move("direction", 1e-4)
        assert np.isclose((ends[0] - ends[1]) / 2e-4, slope, rtol=1e-6, atol=1e-8)
    surface.close()


def test_frozen_atoms_stay(world):
    system = rattled(world)
    atoms = system.atoms
    mask = atoms.group_mask("wall")
    atoms.groups[atoms.ids[: atoms.n] < 10] |= np.uint32(mask)
    system.frozen_mask = mask
    before = dict(zip(atoms.ids, atoms.positions[: atoms.n] + atoms.images @ system.cell.matrix))
    found = minimise(system, force_tolerance=1e-6)
    system.compute()
    held = atoms.ids[: atoms.n] < 10
    assert found.converged
    now = atoms.positions[: atoms.n] + atoms.images @ system.cell.matrix
    assert all(np.allclose(before[i], x, rtol=0, atol=1e-13) for i, x, h in zip(atoms.ids, now, held) if h)
    forces = np.abs(atoms.forces[: atoms.n]).max(1)
    assert forces[held].max() > 1e-3 and forces[~held].max() <= 1e-6


def test_limits_and_mistakes(world):
    system = rattled(world)
    reports = []
    found = minimise(system, max_iterations=3, report=reports.append)
    assert not found.converged and found.iterations == 3 and "number of iterations" in found.reason
    assert [at.iterations for at in reports] == [1, 2, 3]
    assert reports[0].enthalpy > reports[2].enthalpy == found.enthalpy
    with pytest.raises(ValueError, match="lbfgs"):
        minimise(system, method="newton")
    system.atoms.positions[1] = system.atoms.positions[0]
    system.invalidate()
    with pytest.raises(ValueError, match="not finite"), np.errstate(all="ignore"):
        minimise(system)


def test_it_ends_at_the_floor_of_rounding(world):
    """A tolerance that arithmetic cannot meet ends the search with a word, at the minimum."""
    for method in ("lbfgs", "fire"):
        system = rattled(world, constant=5.3)
        found = minimise(system, method=method, force_tolerance=0.0, max_iterations=400)
        assert found.force < 1e-11
        assert np.isclose(found.energy / system.total, lattice_energy(5.3), rtol=1e-12)


def test_a_bad_start_is_survived(world):
    """Atoms that sit almost on each other: steps are capped, the energy comes down."""
    for method in ("lbfgs", "fire"):
        system = rattled(world, amplitude=0.6, cells=2, seed=9)
        start = system.potential_energy()
        found = minimise(system, method=method, force_tolerance=1e-5, max_iterations=3000)
        assert found.converged and found.energy < start and np.isfinite(found.energy)
