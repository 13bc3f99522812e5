"""Potentials whose forces come home from ghosts: any number of ranks gives what one process gives."""

import numpy as np
import pytest
from ase.build import bulk

from ostwald.app.atoms.atoms import Atoms
from ostwald.app.atoms.cell import Cell
from ostwald.app.atoms.system import System
from ostwald.app.potentials import load

pytestmark = pytest.mark.mpi

TERSOFF_SIC = """
C   C   C   3 1 0 38049  4.3484 -0.57058 0.72751 1.5724e-7 2.2119  346.7   1.95 0.15 3.4879 1393.6
Si  Si  Si  3 1 0 100390 16.217 -0.59825 0.78734 1.1e-6    1.73222 471.18  2.85 0.15 2.4799 1830.8
Si  Si  C   3 1 0 100390 16.217 -0.59825 0 0 0 0 2.36 0.15 0 0
Si  C   C   3 1 0 100390 16.217 -0.59825 0.78734 1.1e-6    1.97205 395.126 2.36 0.15 2.9839 1597.3111
C   Si  Si  3 1 0 38049  4.3484 -0.57058 0.72751 1.5724e-7 1.97205 395.126 2.36 0.15 2.9839 1597.3111
C   Si  C   3 1 0 38049  4.3484 -0.57058 0 0 0 0 1.95 0.15 0 0
C   C   Si  3 1 0 38049  4.3484 -0.57058 0 0 0 0 2.36 0.15 0 0
Si  C   Si  3 1 0 100390 16.217 -0.59825 0 0 0 0 2.85 0.15 0 0
"""
SUM = 'potential = "overlay"\n[[terms]]\nfile = "SiC.tersoff"\n[[terms]]\npotential = "zbl"\ninner = 1.0\nouter = 3.5\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("potentials")
    (path / "SiC.tersoff").write_text(TERSOFF_SIC)
    (path / "sum.toml").write_text(SUM)
    return path


def crystal(symbols, repeat, periodic):
    atoms = (
        bulk("Si", "diamond", a=5.431, cubic=True) if symbols == "Si" else bulk("SiC", "zincblende", a=4.4, cubic=True)
    )
    atoms = atoms * repeat
    atoms.set_cell(atoms.cell.array @ [[1, 0, 0], [0.15, 1.0, 0], [-0.1, 0.2, 1.02]], scale_atoms=True)
    atoms.positions += np.random.default_rng(4).normal(0, 0.1, atoms.positions.shape)
    atoms.pbc = periodic
    return atoms


@pytest.mark.parametrize("periodic", [(True, True, True), (True, False, True)])
@pytest.mark.parametrize("repeat", [(3, 3, 4), (1, 1, 5)])
@pytest.mark.parametrize("name, symbols", [("Si.sw", "Si"), ("SiC.tersoff", "SiC"), ("sum.toml", "SiC")])
def test_ranks_agree_with_one_process(world, folder, name, symbols, repeat, periodic):
    path = name if name == "Si.sw" else folder / name
    potential = load(path, ("Si",) if symbols == "Si" else ("Si", "C"))
    atoms = crystal(symbols, repeat, periodic)
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
    ids = rows.ids[: rows.n]
    assert world.allreduce(rows.n) == len(atoms)
    assert system.potential_energy() == pytest.approx(energy, rel=1e-12)
    assert np.abs(world.allreduce(system.virial) + stress * atoms.get_volume()).max() < 1e-9
    assert np.abs(rows.forces[: rows.n] - forces[ids]).max(initial=0) < 1e-10
    assert np.abs(shares[: rows.n] - energies[ids]).max(initial=0) < 1e-11
    assert np.abs(virials[: rows.n] + stresses[ids] * atoms.get_volume()).max(initial=0) < 1e-10
