"""Curves of crystals and pairs, and what an evaluation costs."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hdnnp_reference import make_model

from ostwald.app.potentials import load
from ostwald.app.potentials.hdnnp import HDNNP
from ostwald.app.training.appraisal import CRYSTALS, dimers, energy_volume, evaluation_cost
from ostwald.io.datasets import LabelledStructure, open_dataset, write_dataset


@pytest.fixture
def labelled(tmp_path):
    """Labels of nickel: strained crystals, two of them not at rest, and pairs in large boxes, in a vacuum and in a small box."""
    calculator, found = load("zhou:Ni").ase(), []

    def add(atoms, group):
        atoms.calc = calculator
        labels = atoms.get_potential_energy(), atoms.get_forces()
        found.append(
            LabelledStructure(atoms.positions, atoms.numbers, np.array(atoms.cell), atoms.pbc, *labels, group=group)
        )

    for a in np.linspace(3.3, 3.8, 7):
        add(bulk("Ni", "fcc", a=a, cubic=True), "fcc")
    for seed in (1, 2):
        atoms = bulk("Ni", "fcc", a=3.5, cubic=True)
        atoms.rattle(0.1, seed=seed)
        add(atoms, "rattled")
    for r, box in ((2.1, 30), (2.5, 30), (2.3, 6)):
        add(Atoms("Ni2", [(0, 0, 0), (r, 0, 0)], cell=[box] * 3, pbc=True), "pair")
    add(Atoms("Ni2", [(0, 0, 0), (0, 3.0, 0)], cell=[30] * 3), "pair")
    write_dataset(tmp_path / "set.h5", found)
    return open_dataset(tmp_path / "set.h5")


def test_energy_and_volume(labelled):
    """Of the labelling potential itself: its points lie on its curve."""
    potential = load("zhou:Ni")
    (found,) = energy_volume(potential, labelled, points=60)
    assert found["element"] == "Ni" and set(found["crystals"]) == set(CRYSTALS)
    known = found["set"]
    assert known["group"] == ["fcc"] * 7
    curve = np.interp(known["volume"], found["volume"], found["crystals"]["fcc"]["energy"])
    np.testing.assert_allclose(curve, known["energy"], atol=3e-3)
    lowest = {name: min(crystal["energy"]) for name, crystal in found["crystals"].items()}
    assert sorted(lowest, key=lowest.get)[:2] == ["fcc", "hcp"]
    middle = found["volume"][30]
    for name in CRYSTALS:  # the volume of an atom is what the axis says
        atoms = bulk(
            "Ni", name, a=(CRYSTALS[name] * middle) ** (1 / 3), **({"covera": np.sqrt(8 / 3)} if name == "hcp" else {})
        )
        assert atoms.get_volume() / len(atoms) == pytest.approx(middle)


def test_pairs(labelled):
    (found,) = dimers(load("zhou:Ni"), labelled, points=300)
    assert found["pair"] == "Ni-Ni" and found["set"]["distance"] == pytest.approx([2.1, 2.5, 3.0])
    curve = np.interp(found["set"]["distance"], found["distance"], found["energy"])
    np.testing.assert_allclose(curve, found["set"]["energy"], atol=2e-3)
    assert all(found["inside"]) and abs(found["energy"][-1]) < 1e-3


def test_what_is_beyond_the_training_range_is_told(labelled):
    """A network whose range is that of random atoms does not know pairs that nearly touch."""
    potential = HDNNP(make_model(3, elements=("Ni",), kinds=(2, 9), cutoff=4.5))
    (found,) = dimers(potential, labelled)
    assert not found["inside"][0] and len(found["energy"]) == len(found["inside"]) == 90


def test_cost(labelled):
    """More functions cost more."""
    costs = []
    for kinds, count in (((2,), 1), ((2, 3, 9), 4)):
        potential = HDNNP(make_model(3, elements=("Ni",), kinds=kinds, cutoff=4.5, count=count))
        costs.append(evaluation_cost(potential, labelled[7]))
    assert 0 < costs[0] < costs[1] < 1e4
