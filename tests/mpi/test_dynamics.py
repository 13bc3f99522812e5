"""Dynamics on any number of ranks is what it is on one."""

import numpy as np
import pytest
from model_systems import SmoothLennardJones, argon, fcc, make_system, run

from ostwald.app.dynamics import (
    MTK,
    NVE,
    Bussi,
    Langevin,
    NoseHoover,
    diagnose,
    initialise_velocities,
    minimise,
    remove_momentum,
)

pytestmark = pytest.mark.mpi

INTEGRATORS = {
    "NVE": lambda: NVE(0.004),
    "Nosé-Hoover": lambda: NoseHoover(0.004, 80.0, 0.1),
    "Langevin": lambda: Langevin(0.004, 80.0, 0.2, seed=7),
    "Bussi": lambda: Bussi(0.004, 80.0, 0.1, seed=7),
    "NPT": lambda: MTK(0.004, [0.1, 0.2, 0.1, 0.02, 0.0, -0.01], 0.5, temperature=80.0, tau=0.1, modes="triclinic"),
    "NPH": lambda: MTK(0.004, 0.2, 0.5),
}


@pytest.fixture
def alone():
    """A world of this rank by itself."""
    from mpi4py import MPI

    from ostwald.parallel import World

    return World(MPI.COMM_SELF)


def by_id(system, array):
    """Rows of all ranks in the order of ids."""
    atoms = system.atoms
    parts = system.world.allgather((np.array(atoms.ids[: atoms.n]), np.array(array[: atoms.n])))
    order = np.argsort(np.concatenate([ids for ids, _ in parts]))
    return np.concatenate([rows for _, rows in parts])[order]


def test_velocities_have_the_same_bits_before_anything_is_summed(world, alone):
    drawn = []
    for w in (world, alone):
        system = argon(w)
        initialise_velocities(system, 300.0, seed=9, zero_momentum=False, exact=False)
        drawn.append(by_id(system, system.atoms.velocities))
    assert (drawn[0] == drawn[1]).all()
    assert np.abs(drawn[0]).min() > 0.0


@pytest.mark.parametrize("name", INTEGRATORS)
def test_a_trajectory_does_not_depend_on_the_ranks(world, alone, name):
    ends = []
    for w in (world, alone):
        system = argon(w, temperature=100.0, skin=0.5)
        integrator = INTEGRATORS[name]()
        run(system, integrator, 60)
        system.compute()
        atoms = system.atoms
        fractional = system.cell.fractional(atoms.positions[: atoms.n] + atoms.images @ system.cell.matrix)
        ends.append(
            (
                by_id(system, fractional),
                by_id(system, atoms.velocities),
                system.cell.matrix,
                system.potential_energy() + system.kinetic_energy() + integrator.conserved(system),
            )
        )
        assert system.builds > 1
    for a, b in zip(*ends):
        assert np.allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["Langevin", "NPT"])
def test_a_restored_integrator_goes_on_with_the_same_bits(world, name):
    def trajectory(stop):
        system, integrator = argon(world, temperature=100.0), INTEGRATORS[name]()
        for step in range(20):
            if step == stop:
                state = integrator.state()
                arrays, meta = system.checkpoint()
                arrays = {k: np.array(v) for k, v in arrays.items()}
                system = type(system).restore(world, arrays, meta, system.potential, exact=True)
                system.compute()
                integrator = INTEGRATORS[name]()
                integrator.restore(state)
            integrator.step(system, step)
        return system.atoms.positions.tobytes(), system.atoms.velocities.tobytes(), integrator.conserved(system)

    assert trajectory(None) == trajectory(11)


@pytest.mark.parametrize("cell", (None, "triclinic"))
@pytest.mark.parametrize("method", ("lbfgs", "fire"))
def test_minimisation_does_not_depend_on_the_ranks(world, alone, method, cell):
    """Also where atoms change rank on the way: they start far from the sites, in a sheared cell."""
    positions, matrix = fcc(3, 5.4)
    positions = positions + 0.25 * np.random.default_rng(2).normal(size=positions.shape)
    shear = np.eye(3) + 0.03 * np.eye(3)[[1, 2, 0]]
    found = []
    for w in (world, alone):
        system = make_system(w, SmoothLennardJones(), positions @ shear, matrix @ shear, skin=0.4)
        builds = system.builds
        result = minimise(system, method=method, cell=cell, pressure=0.05, force_tolerance=1e-6, stress_tolerance=1e-5)
        assert result.converged and not system.atoms.extra and system.builds > builds
        found.append((result.enthalpy, system.cell.volume, np.sort(system.cell.lengths)))
    for a, b in zip(*found):
        assert np.allclose(a, b, rtol=1e-6)


def test_the_worst_atom_is_named_on_every_rank(world):
    system = argon(world, temperature=50.0)
    assert diagnose(system, 1000.0) is None
    atoms = system.atoms
    owner = int(world.allreduce(world.rank if 77 in atoms.ids[: atoms.n] else -1, op="max"))
    if world.rank == owner:
        atoms.velocities[np.flatnonzero(atoms.ids[: atoms.n] == 77)[0], 1] = np.nan
    fault = diagnose(system, 1000.0)
    assert (fault.id, fault.rank) == (77, owner)
    if world.rank == owner:
        atoms.velocities[np.flatnonzero(atoms.ids[: atoms.n] == 77)[0], 1] = 1e4
    fault = diagnose(system, 1000.0)
    assert (fault.id, fault.rank) == (77, owner) and "temperature" in fault.what


def test_momentum_of_all_ranks_is_removed(world):
    system = argon(world, temperature=50.0)
    system.atoms.velocities[:] += [1.0, -2.0, 0.5]
    remove_momentum(system)
    assert np.abs(world.allreduce(system.atoms.velocities.sum(0))).max() < 1e-9
