"""Neural-network potentials: any number of ranks gives what one process gives."""

import numpy as np
import pytest
from hdnnp_reference import make_model, random_atoms

from ostwald.app.atoms.atoms import Atoms
from ostwald.app.atoms.cell import Cell
from ostwald.app.atoms.system import System
from ostwald.app.potentials.hdnnp import HDNNP

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize("periodic", [(True, True, True), (True, False, True)])
@pytest.mark.parametrize("length", [5.0, 14.0])
@pytest.mark.parametrize("precision", ["double", "mixed"])
def test_ranks_agree_with_one_process(world, length, periodic, precision):
    potential = HDNNP(make_model(31, kinds=(2, 3, 9, 21, 25), cutoff=3.6, count=1), precision=precision)
    atoms = random_atoms(17, count=8 if length < 10 else 120, length=length)
    atoms.pbc = periodic
    atoms.calc = potential.ase()
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    energies, stresses = atoms.get_potential_energies(), atoms.get_stresses()

    mine = np.arange(world.rank, len(atoms), world.size)
    types = np.array([potential.species.index(s) for s in atoms.get_chemical_symbols()], np.int32)
    rows = Atoms(potential.species, np.ones(len(potential.species)), atoms.positions[mine], types[mine], mine)
    system = System(world, Cell(atoms.cell.array, periodic=atoms.pbc), rows, potential, skin=0.5)
    system.update()
    shares, virials = np.zeros(rows.n + rows.nghost), np.zeros((rows.n + rows.nghost, 6))
    system.compute(energies=shares, virials=virials)
    tight = 1e-10 if precision == "double" else 2e-5
    scale, volume = max(1.0, abs(forces).max()), atoms.get_volume()
    ids = rows.ids[: rows.n]
    assert world.allreduce(rows.n) == len(atoms)
    assert abs(system.potential_energy() - energy) < tight * len(atoms)
    assert np.abs(world.allreduce(system.virial) + stress * volume).max() < 10 * tight * len(atoms) * scale
    assert np.abs(rows.forces[: rows.n] - forces[ids]).max(initial=0) < tight * scale
    assert np.abs(shares[: rows.n] - energies[ids]).max(initial=0) < tight
    assert np.abs(virials[: rows.n] + stresses[ids] * volume).max(initial=0) < 10 * tight * scale
