"""Structures that repeat a smaller cell, cut down to it: the same labels of an atom from fewer atoms."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np

from ostwald.io.datasets import LabelledStructure

PLACES = 0.02
"""Å: atoms that a translation brings this near to others of their kind lie upon them."""
FORCES = 0.02
"""eV/Å: so much may the forces on atoms that lie upon each other differ."""


def primitive(structure: LabelledStructure) -> LabelledStructure:
    """The primitive cell of a structure: its part of the energy, mean forces of the atoms that lie upon each other, its stress.

    The structure itself where it is not periodic in all directions, or no translation maps it with its forces upon itself but
    those of its cell.
    """
    if not structure.periodic.all() or not len(structure):
        return structure
    shifts, images = _translations(structure)
    count = len(images)
    if count == 1:
        return structure
    first = np.unique(images.min(axis=0))  # of each set of atoms that lie upon each other
    return replace(
        structure,
        positions=structure.positions[first],
        numbers=structure.numbers[first],
        cell=_basis(structure.cell, shifts),
        energy=structure.energy / count,
        forces=structure.forces[images[:, first]].mean(axis=0),
    )


def _translations(structure):
    """Fractional shifts (m, 3), the first zero, that map a structure upon itself, and where the atoms come by them (m, n)."""
    places, forces = structure.positions @ np.linalg.inv(structure.cell), np.nan_to_num(structure.forces)
    kinds = structure.numbers
    origin = int(np.argmin(np.bincount(kinds)[kinds]))  # of the rarest element
    alike = (kinds == kinds[origin]) & (np.abs(forces - forces[origin]).max(axis=1) < FORCES)
    shifts, images = [np.zeros(3)], [np.arange(len(kinds))]
    for atom in np.flatnonzero(alike):
        shift = places[atom] - places[origin]
        if atom != origin and _image(structure, places, shift, np.arange(min(3, len(kinds)))) is not None:
            image = _image(structure, places, shift, np.arange(len(kinds)))
            if image is not None and np.abs(forces[image] - forces).max() < FORCES:
                shifts.append(shift)
                images.append(image)
    return np.array(shifts), np.array(images)


def _image(structure, places, shift, atoms):
    """Where some atoms come by a shift; None where one does not lie upon an atom of its kind, or two on the same."""
    between = (places[atoms] + shift)[:, None] - places
    distance = np.linalg.norm((between - np.round(between)) @ structure.cell, axis=-1)
    image = distance.argmin(axis=1)
    near = distance[np.arange(len(atoms)), image].max() < PLACES
    same = np.array_equal(structure.numbers[image], structure.numbers[atoms])
    return image if near and same and len(np.unique(image)) == len(atoms) else None


def _basis(cell, shifts):
    """(3, 3) the shortest basis, right-handed, of the lattice of a cell's translations and some fractional ones."""
    around = np.array(list(product((-1, 0, 1), repeat=3)))
    vectors = ((shifts - np.round(shifts))[:, None] + around).reshape(-1, 3) @ cell
    vectors = vectors[np.argsort(np.linalg.norm(vectors, axis=1), kind="stable")][1:]
    volume, basis = abs(np.linalg.det(cell)) / len(shifts), vectors[:1]
    for vector in vectors[1:]:
        if len(basis) == 1:
            flat = np.linalg.norm(np.cross(basis[0], vector)) < 1e-3 * np.linalg.norm(basis[0]) * np.linalg.norm(vector)
        else:
            flat = abs(np.linalg.det(np.vstack([basis, vector]))) < 0.5 * volume
        if not flat:
            basis = np.vstack([basis, vector])
            if len(basis) == 3:
                break
    if np.linalg.det(basis) < 0:
        basis[2] *= -1
    return basis
