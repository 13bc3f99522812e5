"""Symmetry functions of labelled structures with their derivatives: what a network is trained on.

Numbers come from the native evaluator. With G_if function f of atom i of one element, x_j the places of the structure's n
atoms and e the strain of the cell, positions following it,

    forces    F_j = -sum over centres i of sum_f dE_i/dG_if dG_if/dx_j       (3,), eV/Å
    strain    dE/de = sum_i sum_f dE_i/dG_if dG_if/de = volume * stress      (6,), eV; order xx yy zz yz xz xy

Derivatives of periodic images are added to those of their atom, those of a centre by its own place are included.
"""

from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from ostwald.app.atoms.neighbours import NeighbourList

from ..base import PotentialError
from ..images import Images
from .model import Model
from .potential import functions_kernel

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@dataclass
class Part:
    """The centres of one element in one structure of n atoms.

    atoms (r,) i4: which atoms they are; values (r, f): G; strain (r, 6, f): dG/de, off-diagonal elements of the symmetric
    part; counts (n,) i4: how many centres see each atom; centres (m,) i4 rows of `values`, in the order of the atoms they see;
    derivatives (m, 3, f): dG of that centre by that atom's place, 1/Å.
    """

    atoms: np.ndarray
    values: np.ndarray
    strain: np.ndarray
    counts: np.ndarray
    centres: np.ndarray
    derivatives: np.ndarray


class Descriptors:
    """The symmetry functions of a model, whose networks and statistics do not matter.

    widths: by element (in the model's order) the number of functions.
    """

    def __init__(self, model: Model):
        self.model = model
        self.species = model.species
        self.cutoff = model.cutoff
        self.widths = [len(element.functions) for element in model.elements]
        self._kernel = functions_kernel(model, model.species)
        self._type = np.full(len(chemical_symbols), -1, np.int32)
        self._type[[atomic_numbers[symbol] for symbol in self.species]] = np.arange(len(self.species))
        self._list = NeighbourList()

    def types(self, numbers) -> np.ndarray:
        """(n,) i4 the elements of atoms by atomic number. PotentialError where the model has none for one."""
        types = self._type[numbers]
        if (types < 0).any():
            missing = chemical_symbols[int(np.asarray(numbers)[np.argmin(types)])]
            raise PotentialError(f"no symmetry functions for {missing}: there are some for {', '.join(self.species)}")
        return types

    def pairs(self, structure) -> list[int]:
        """By element: the number of rows of `derivatives` that a structure has."""
        _, images, _, i, j = self._neighbours(structure)
        own = np.arange(images.n)
        keys = np.unique(np.concatenate([images.owners[j], own]) * np.int64(images.n) + np.concatenate([i, own]))
        types = self.types(structure.numbers)
        return np.bincount(types[keys % images.n], minlength=len(self.species)).tolist()

    def describe(self, structure) -> list[Part]:
        """By element. structure: positions (n, 3), numbers (n,), cell (3, 3), periodic (3,), Å."""
        positions, images, types, i, j = self._neighbours(structure)
        n, width = images.n, max(self.widths)
        values = np.zeros((n, width))
        slopes = np.empty((len(j), 3, width))
        self._kernel.functions(positions, types, n, self._list.offsets, self._list.indices, values, 1, slopes)
        distance = positions[j] - positions[i]
        strain = np.zeros((n, 6, width))
        offsets = self._list.offsets
        seen = np.flatnonzero(np.diff(offsets))
        own = np.zeros((n, 3, width))
        if len(j):
            begins = offsets[seen]
            own[seen] = -np.add.reduceat(slopes, begins)
            for k, (a, b) in enumerate(VOIGT):
                rows = distance[:, a, None] * slopes[:, b]
                if a != b:
                    rows = 0.5 * (rows + distance[:, b, None] * slopes[:, a])
                strain[seen, k] = np.add.reduceat(rows, begins)
        centre = np.concatenate([i, np.arange(n)])
        keys = np.concatenate([images.owners[j], np.arange(n)]) * np.int64(n) + centre
        slopes = np.concatenate([slopes, own])
        kinds, parts = types[:n], []
        for element, count in enumerate(self.widths):
            atoms = np.flatnonzero(kinds == element).astype(np.int32)
            row_of = np.zeros(n, np.int32)
            row_of[atoms] = np.arange(len(atoms), dtype=np.int32)
            mine = np.flatnonzero(kinds[centre] == element)
            mine = mine[np.argsort(keys[mine], kind="stable")]
            unique, begins = np.unique(keys[mine], return_index=True)
            rows = slopes[mine, :, :count]
            parts.append(
                Part(
                    atoms,
                    values[atoms, :count],
                    strain[atoms, :, :count],
                    np.bincount(unique // n, minlength=n).astype(np.int32),
                    row_of[unique % n],
                    np.add.reduceat(rows, begins) if len(mine) else rows,
                )
            )
        return parts

    def _neighbours(self, structure):
        """(positions (n+nghost, 3), images, types (n+nghost,), i, j): rows of the centre and the neighbour of each pair."""
        types = self.types(structure.numbers)
        images = Images(structure.positions, structure.cell, structure.periodic, self.cutoff)
        positions = np.ascontiguousarray(images.rows(structure.positions))
        self._list.build(positions, images.n, images.nghost, self.cutoff)
        i = np.repeat(np.arange(images.n), np.diff(self._list.offsets))
        return positions, images, types[images.owners], i, self._list.indices
