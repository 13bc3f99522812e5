"""The ASE calculator: small cells, open directions, the kept neighbour list, changes between calls."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from ostwald.app.potentials import PotentialError, load

SW = "Si Si Si 2.1683 2.0951 1.80 21.0 1.20 -0.333333333333 7.049556277 0.6022245584 4.0 0.0 0.0\n"
LJ = 'potential = "lennard-jones"\ncutoff = 8.5\nshifted = true\n[pairs]\nAr-Ar = { epsilon = 0.01034, sigma = 3.40 }\n'


@pytest.fixture(scope="module", params=["sw", "lj"])
def case(request, tmp_path_factory):
    """A many-body potential, whose forces come home from ghosts, and a pair potential on half lists."""
    path = tmp_path_factory.mktemp("potential")
    if request.param == "sw":
        (path / "Si.sw").write_text(SW)
        return load(path / "Si.sw"), bulk("Si", "diamond", a=5.431)
    (path / "Ar.toml").write_text(LJ)
    return load(path / "Ar.toml"), bulk("Ar", "fcc", a=5.26)


def everything(atoms, potential):
    atoms.calc = potential.ase()
    return results(atoms)


def results(atoms):
    return dict(
        energy=atoms.get_potential_energy(),
        forces=atoms.get_forces(),
        energies=atoms.get_potential_energies(),
        stress=atoms.get_stress(),
        stresses=atoms.get_stresses(),
    )


def rattle(atoms, amplitude=0.1, seed=0):
    atoms.positions += np.random.default_rng(seed).normal(0, amplitude, atoms.positions.shape)
    return atoms


def same(a, b, tolerance=1e-10):
    for name in a:
        assert np.abs(np.asarray(a[name]) - np.asarray(b[name])).max() < tolerance, name


def test_a_primitive_cell_is_its_supercell(case):
    potential, atoms = case
    rattle(atoms := atoms.copy())
    atoms.set_cell(atoms.cell.array @ [[1.02, 0, 0], [0.05, 0.97, 0.0], [0, 0.04, 1]], scale_atoms=True)
    small = everything(atoms, potential)
    matrix = np.array([[2, 0, 1], [0, 3, 0], [-1, 1, 2]])
    copies = round(np.linalg.det(matrix))
    large_atoms = make_supercell(atoms, matrix)
    large = everything(large_atoms, potential)
    assert large["energy"] == pytest.approx(copies * small["energy"], rel=1e-11)
    assert np.abs(large["stress"] - small["stress"]).max() < 1e-11
    # every atom of the supercell has the force of the one whose image it is
    scaled = np.linalg.solve(atoms.cell.array.T, large_atoms.positions.T).T
    for k, origin in enumerate(np.linalg.solve(atoms.cell.array.T, atoms.positions.T).T):
        d = scaled - origin
        images = np.abs(d - np.round(d)).max(axis=1) < 1e-8
        assert images.sum() == copies
        assert np.abs(large["forces"][images] - small["forces"][k]).max() < 1e-10


def test_turned_shifted_and_left_handed(case):
    potential, atoms = case
    atoms = rattle(atoms.copy() * (2, 1, 1))
    before = everything(atoms, potential)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ rotation)
    turned.positions = atoms.positions @ rotation
    # anywhere: other images of the atoms, far from the cell
    turned.positions += np.random.default_rng(2).integers(-5, 6, (len(atoms), 3)) @ turned.cell.array + [
        3.0,
        -40.0,
        7.0,
    ]
    after = everything(turned, potential)
    assert after["energy"] == pytest.approx(before["energy"], abs=1e-9)
    assert np.abs(after["forces"] - before["forces"] @ rotation).max() < 1e-9
    full = atoms.get_stress(voigt=False)
    assert np.abs(turned.get_stress(voigt=False) - rotation.T @ full @ rotation).max() < 1e-11
    swapped = atoms.copy()
    swapped.set_cell(atoms.cell.array[[1, 0, 2]])  # left-handed
    same(before, everything(swapped, potential))


@pytest.mark.parametrize("pbc", [(False, False, False), (True, False, True), (False, False, True)])
def test_open_directions_are_vacuum(case, pbc):
    potential, atoms = case
    atoms = rattle(atoms.copy() * (2, 2, 2))
    atoms.pbc = pbc
    opened = everything(atoms, potential)
    padded = atoms.copy()
    cell = padded.cell.array
    for axis in np.flatnonzero(~np.array(pbc)):  # much vacuum instead
        cell[axis] *= 10
    padded.set_cell(cell)
    padded.pbc = True
    closed = everything(padded, potential)
    assert closed["energy"] == pytest.approx(opened["energy"], abs=1e-10)
    assert np.abs(closed["forces"] - opened["forces"]).max() < 1e-10
    ratio = padded.get_volume() / atoms.get_volume()
    assert np.abs(closed["stress"] * ratio - opened["stress"]).max() < 1e-10


def test_no_cell(case):
    potential, _ = case
    symbol = potential.species[0]
    atoms = Atoms(f"{symbol}3", [[0, 0, 0], [2.4, 0, 0], [0, 2.5, 0.1]])
    atoms.calc = potential.ase()
    assert np.abs(atoms.get_forces().sum(axis=0)).max() < 1e-12 * np.abs(atoms.get_forces()).max()
    assert atoms.get_potential_energies().sum() == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()
    alone = Atoms(symbol)
    alone.calc = potential.ase()
    assert alone.get_potential_energy() == 0 and not alone.get_forces().any()


def test_the_list_is_kept_and_renewed(case):
    potential, atoms = case
    atoms = rattle(atoms.copy() * (3, 3, 3))
    atoms.calc = calculator = potential.ase(skin=0.8)
    atoms.get_potential_energy()
    rng = np.random.default_rng(3)
    for _ in range(30):  # a walk to well beyond the skin
        atoms.positions += rng.normal(0, 0.06, atoms.positions.shape)
        fresh = atoms.copy()
        same(results(atoms), everything(fresh, potential), 1e-9)
    assert 1 < calculator.builds < 20
    builds = calculator.builds
    atoms.get_forces()
    assert calculator.builds == builds


def test_changes_between_calls(case):
    potential, atoms = case
    atoms = rattle(atoms.copy() * (2, 2, 2))
    calculator = potential.ase()

    def check(changed):
        changed.calc = calculator
        got = results(changed)
        same(got, everything(changed.copy(), potential))
        return got["energy"]

    energies = [check(atoms)]
    strained = atoms.copy()
    strained.set_cell(atoms.cell.array * [1.0, 1.01, 0.99], scale_atoms=True)
    energies.append(check(strained))
    strained.pbc = (True, True, False)
    energies.append(check(strained))
    energies.append(check(atoms * (1, 2, 1)))
    shorter = atoms.copy()
    del shorter[3]
    energies.append(check(shorter))
    assert len(set(np.round(energies, 6))) == len(energies)


def test_species(case, tmp_path):
    potential, atoms = case
    water = molecule("H2O", vacuum=3.0, calculator=potential.ase())
    with pytest.raises(PotentialError, match=rf"the potential has no species O \(it has {potential.species[0]}\)"):
        water.get_potential_energy()
    lost = atoms.copy() * 2
    lost.positions[2, 0] = np.nan
    lost.calc = potential.ase()
    with pytest.raises(PotentialError, match="position of atom 2 is not finite"):
        lost.get_forces()
    with pytest.raises(PotentialError, match="no atoms"):
        Atoms(calculator=potential.ase()).get_potential_energy()


def test_types_follow_the_species(tmp_path):
    text = 'potential = "lennard-jones"\ncutoff = 8.0\n[pairs]\nAr-Ar = { epsilon = 0.01034, sigma = 3.40 }\n'
    (tmp_path / "lj.toml").write_text(text + "Kr-Kr = { epsilon = 0.01405, sigma = 3.65 }\n")
    atoms = rattle(bulk("Ar", cubic=True) * 2)
    atoms.symbols[::3] = "Kr"
    a = everything(atoms, load(tmp_path / "lj.toml", ["Ar", "Kr"]))
    same(a, everything(atoms, load(tmp_path / "lj.toml", ["Kr", "Ar"])))
    atoms.symbols[::3] = "Ar"
    assert abs(everything(atoms, load(tmp_path / "lj.toml", ["Kr", "Ar"]))["energy"] - a["energy"]) > 1e-3


def test_relaxation_with_the_cell(case):
    potential, atoms = case
    atoms = rattle(atoms.copy() * (2, 1, 1), 0.05)
    atoms.set_cell(atoms.cell.array * 1.02, scale_atoms=True)
    atoms.calc = potential.ase()
    start = atoms.get_potential_energy()
    assert BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-4, steps=200)
    assert atoms.get_potential_energy() < start
    assert np.abs(atoms.get_stress()).max() < 1e-4
    if potential.species == ("Si",):
        assert atoms.get_volume() / len(atoms) == pytest.approx(5.43095**3 / 8, rel=1e-4)  # of Stillinger and Weber


def test_a_left_handed_cell(case):
    potential, atoms = case
    atoms = rattle(atoms.repeat((2, 1, 1)))
    left = atoms.copy()
    left.set_cell(atoms.cell.array[[1, 0, 2]])
    assert left.cell.handedness * atoms.cell.handedness == -1
    same(everything(atoms, potential), everything(left, potential))
