"""What a trained potential is like, beside its errors: curves of simple crystals and of pairs, and what it costs."""

from __future__ import annotations

import time
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, chemical_symbols, covalent_radii

CRYSTALS = {"fcc": 4.0, "bcc": 2.0, "hcp": 2**0.5, "diamond": 8.0, "sc": 1.0}
"""Of each crystal a³ over the volume of an atom (hcp: of spheres)."""
WIDTH = 0.25
"""How far E(V) goes to both sides of the median volume of the set."""
AT_REST = 0.1
"""eV/Å: the largest force of a structure that is compared with perfect crystals."""
EVALUATION_ATOMS, EVALUATION_SECONDS = 500, 0.25


def energy_volume(potential, dataset, points=29) -> list[dict]:
    """E(V) of crystals of each element that has structures of its own in a data set, Å³ and eV an atom.

    A list of {element, crystals: {name: {energy (points,), inside (points,)}}, volume (points,), set: {volume, energy, group}}: inside: no
    atom is beyond the training range; set: the structures of that element that are at rest.
    """
    found, volumes = [], dataset.volume / dataset.counts
    bulky = dataset.periodic.all(axis=1) & np.isfinite(dataset.energy)
    rest = np.maximum.reduceat(np.nan_to_num(np.abs(dataset.forces)).max(axis=1), dataset.offsets[:-1]) < AT_REST
    for k, z in enumerate(dataset.elements):
        pure = bulky & (dataset.composition[:, k] == dataset.counts)
        symbol = chemical_symbols[z]
        if not pure.any() or symbol not in potential.species:
            continue
        median = float(np.median(volumes[pure]))
        volume, calculator = median * np.linspace(1 - WIDTH, 1 + WIDTH, points), potential.ase()
        crystals = {name: _curve(calculator, [_crystal(symbol, name, v) for v in volume]) for name in CRYSTALS}
        still = pure & rest
        known = dict(
            volume=volumes[still].tolist(),
            energy=(dataset.energy / dataset.counts)[still].tolist(),
            group=[dataset.groups[g] for g in np.asarray(dataset.group)[still]],
        )
        found.append(dict(element=symbol, volume=volume.tolist(), crystals=crystals, set=known))
    return found


def dimers(potential, dataset, points=90) -> list[dict]:
    """Energies of two atoms alone, eV, over their distance, Å, for each two elements, and those in a data set.

    A list of {pair, distance (points,), energy (points,), inside (points,), set: {distance, energy}}.
    """
    found = []
    alone = [i for i in np.flatnonzero(dataset.counts == 2) if _is_alone(dataset[i], potential.cutoff)]
    known = {}
    for i in alone:
        atoms = dataset[i].to_ase()
        pair = "-".join(sorted(atoms.get_chemical_symbols(), key=atomic_numbers.get))
        known.setdefault(pair, []).append((atoms.get_distance(0, 1, mic=atoms.pbc.any()), float(dataset.energy[i])))
    for one, two in combinations_with_replacement(sorted(potential.species, key=atomic_numbers.get), 2):
        shortest = 0.6 * (covalent_radii[atomic_numbers[one]] + covalent_radii[atomic_numbers[two]])
        distance = np.linspace(shortest, potential.cutoff + 0.2, points)
        curve = _curve(potential.ase(), [Atoms([one, two], [(0, 0, 0), (r, 0, 0)]) for r in distance], an_atom=False)
        distances, energies = zip(*sorted(known.get(f"{one}-{two}", []))) if f"{one}-{two}" in known else ((), ())
        there = dict(distance=list(distances), energy=list(energies))
        found.append(dict(pair=f"{one}-{two}", distance=distance.tolist(), **curve, set=there))
    return found


def evaluation_cost(potential, structure) -> float:
    """Microseconds of processor time an atom that energy and forces take on one core of this machine: the least of many.

    structure: LabelledStructure, repeated to some hundreds of atoms. The neighbour list is not counted.
    """
    atoms = structure.to_ase()
    while len(atoms) < EVALUATION_ATOMS and atoms.pbc.any():
        axis = min(np.flatnonzero(atoms.pbc), key=lambda k: np.linalg.norm(atoms.cell[k]))
        atoms = atoms.repeat([2 if k == axis else 1 for k in range(3)])
    given = potential.ase().neighbourhoods(atoms)
    potential.watch(False)
    forces, least, begun = np.zeros((given.nall, 3)), np.inf, time.monotonic()
    while time.monotonic() - begun < EVALUATION_SECONDS:
        before = time.process_time()
        potential.compute(given, forces)
        least = min(least, time.process_time() - before)
    return 1e6 * least / len(atoms)


def _crystal(symbol, name, volume) -> Atoms:
    a = (CRYSTALS[name] * volume) ** (1 / 3)
    return bulk(symbol, name, a=a, **(dict(covera=np.sqrt(8 / 3)) if name == "hcp" else {}))


def _curve(calculator, structures, an_atom=True) -> dict:
    """Energies, of an atom or of the whole, and whether all atoms are within the training range."""
    energy, inside = [], []
    for atoms in structures:
        atoms.calc = calculator
        energy.append(atoms.get_potential_energy() / (len(atoms) if an_atom else 1))
        beyond = calculator.results.get("extrapolation")
        inside.append(bool(beyond is None or not beyond.any()))
    return dict(energy=energy, inside=inside)


def _is_alone(structure, cutoff) -> bool:
    """Whether no image of an atom is within reach of another."""
    if not np.isfinite(structure.energy):
        return False
    lengths = np.linalg.norm(structure.cell, axis=1)[np.asarray(structure.periodic)]
    return bool((lengths > 2 * cutoff).all())
