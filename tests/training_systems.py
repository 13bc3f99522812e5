"""Random potentials and labelled structures for tests of training."""

import numpy as np
from hdnnp_reference import make_model, random_atoms

from ostwald.app.potentials.hdnnp import HDNNP
from ostwald.io.datasets import LabelledStructure, open_dataset, write_dataset


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
