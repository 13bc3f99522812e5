"""Structures that repeat a smaller cell are cut down to it, with the labels of the same atoms."""

import numpy as np
import pytest
from ase.build import bulk

from ostwald.app.cli import main
from ostwald.app.potentials import load
from ostwald.app.training.primitive import primitive
from ostwald.io.datasets import LabelledStructure, open_dataset
from ostwald.io.labelled import write_labelled

SHEAR = np.array([[0.03, 0.02, -0.01], [0.02, -0.02, 0.015], [-0.01, 0.015, 0.01]])


def labelled(atoms):
    atoms = atoms.copy()
    atoms.calc = load("zhou:Ni-Al").ase()
    return LabelledStructure(
        atoms.positions,
        atoms.numbers,
        atoms.cell.array,
        atoms.pbc,
        atoms.get_potential_energy(),
        atoms.get_forces(),
        atoms.get_stress(),
        weight=2.0,
        group="elastic",
    )


def strained(atoms, repeat):
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + SHEAR), scale_atoms=True)
    return atoms * repeat


def l12():
    atoms = bulk("Ni", cubic=True, a=3.57)
    atoms.numbers[0] = 13
    return atoms


@pytest.mark.parametrize(
    "cell, repeat, left",
    [
        (bulk("Ni", cubic=True, a=3.5), (3, 3, 3), 1),
        (l12(), (2, 1, 2), 4),
        (bulk("Ni", cubic=True, a=3.5), (1, 1, 1), 1),
    ],
)
def test_labels_are_those_of_the_smaller_cell(cell, repeat, left):
    whole = labelled(strained(cell, repeat))
    found = primitive(whole)
    assert len(found) == left and (found.weight, found.group) == (2.0, "elastic")
    assert found.volume / left == pytest.approx(whole.volume / len(whole), rel=1e-12)
    assert np.linalg.det(found.cell) > 0
    again = labelled(found.to_ase())
    assert again.energy == pytest.approx(found.energy, abs=1e-9)
    np.testing.assert_allclose(again.forces, found.forces, atol=1e-9)
    np.testing.assert_allclose(again.stress, found.stress, atol=1e-11)


def test_displacements_that_repeat_stay():
    """Two atoms of a larger cell are moved apart; the doubled cell is cut down to it, forces and all."""
    small = strained(bulk("Ni", cubic=True, a=3.5), (1, 1, 1))
    small.positions[1] += [0.1, -0.05, 0.08]
    found = primitive(labelled(small * (2, 2, 1)))
    assert len(found) == 4
    again = labelled(found.to_ase())
    assert np.abs(found.forces).max() > 0.3
    np.testing.assert_allclose(again.forces, found.forces, atol=1e-9)


def test_what_does_not_repeat_is_left_alone():
    crystal = strained(bulk("Ni", cubic=True, a=3.5), (2, 2, 2))
    rattled, slab, forced = crystal.copy(), crystal.copy(), labelled(crystal)
    rattled.rattle(0.05, seed=1)
    slab.pbc = (True, True, False)
    forced.forces[3] += 0.1
    for structure in (labelled(rattled), labelled(slab), forced):
        assert primitive(structure) is structure
    unlabelled = LabelledStructure(crystal.positions, crystal.numbers, crystal.cell.array, energy=3.2)
    found = primitive(unlabelled)
    assert len(found) == 1 and found.energy == pytest.approx(0.1) and np.isnan(found.forces).all()


def test_command(tmp_path):
    crystal = strained(bulk("Ni", cubic=True, a=3.5), (2, 2, 2))
    rattled = crystal.copy()
    rattled.rattle(0.05, seed=1)
    write_labelled(tmp_path / "a.xyz", [labelled(crystal), labelled(rattled)])
    assert main(["convert", "--primitive", str(tmp_path / "a.xyz"), str(tmp_path / "a.dataset")]) == 0
    found = open_dataset(tmp_path / "a.dataset")
    assert found.counts.tolist() == [1, 32] and found.provenance["reading"]["primitive"]
