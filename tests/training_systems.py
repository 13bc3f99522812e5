"""Random potentials and labelled structures for tests of training."""

import numpy as np
from ase.build import bulk
from hdnnp_reference import make_model, random_atoms

from ostwald.app.potentials import load
from ostwald.app.potentials.hdnnp import HDNNP
from ostwald.io.datasets import LabelledStructure, open_dataset, write_dataset

RUN = """
[job]
kind = "train"
[data]
file = "set.h5"
fraction = 0.2
[[radial]]
cutoff = 5.0
centred = 1
shifted = 5
first = 2.0
[[angular]]
cutoff = 4.5
narrow = false
zetas = [1, 2]
centred = 1
first = 2.0
[network]
nodes = [6]
[optimiser]
"""
"""A run file up to the keys of its optimiser; set.h5: what nickel() makes."""


def structures(seed, model, count=6, teacher=None):
    """LabelledStructures of random atoms of the model's elements; labels of `teacher` (a Model), else of the model."""
    calculator, found = HDNNP(teacher or model).ase(), []
    for k in range(count):
        atoms = random_atoms((seed, k), model.species, count=6 + 2 * (k % 3), length=6.0 + 0.3 * (k % 2))
        if k == 1:  # far smaller than the cutoff
            atoms = random_atoms((seed, k), model.species, count=3, length=3.4, nearest=1.3)
        atoms.calc = calculator
        labels = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
        found.append(
            LabelledStructure(
                atoms.positions, atoms.numbers, np.array(atoms.cell), atoms.pbc, *labels, group=f"g{k % 2}"
            )
        )
    return found


def dataset(path, *args, **options):
    write_dataset(path, structures(*args, **options))
    return open_dataset(path)


def small_model(seed, **options):
    options = dict(kinds=(2, 3, 9), cutoff=4.0, count=1, nodes=(5, 4)) | options
    return make_model(seed, **options)


def nickel() -> list[LabelledStructure]:
    """30 strained and rattled crystals of nickel, labelled by Zhou's potential."""
    rng, calculator, found = np.random.default_rng(1), load("zhou:Ni").ase(), []
    for k in range(30):
        atoms = bulk("Ni", cubic=True, a=3.52) * ((2, 2, 2) if k % 3 == 2 else (2, 1, 1))
        strain = rng.normal(0, 0.015, (3, 3)) + rng.normal(0, 0.02) * np.eye(3)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        atoms.rattle(0.03 + 0.04 * (k % 4), seed=k)
        atoms.calc = calculator
        labels = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
        cell = atoms.cell.array
        found.append(LabelledStructure(atoms.positions, atoms.numbers, cell, True, *labels, group=f"g{k % 3}"))
    return found
