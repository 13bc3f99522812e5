"""What a training needs of a data set beside its arrays: splits, folds, reference energies of the elements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from ostwald.io.datasets import DataSet, DataSetError
from ostwald.parallel import philox_uniform


def split(ds: DataSet, parts, seed: int, block: int = 1, together=None) -> list[np.ndarray]:
    """Parts a data set at random, each group in the same proportions: ascending numbers of the structures of each part.

    parts: fractions that sum to 1. block: this many structures that follow each other in a group stay together, as
    snapshots of one trajectory should. together (n,): structures with equal numbers stay together, as duplicates must
    (checks.duplicates). The same on any number of ranks; DataSetError where a part gets nothing.
    """
    parts = np.asarray(parts, float)
    if (parts < 0).any() or abs(parts.sum() - 1) > 1e-9:
        raise DataSetError(f"the parts of a data set must be positive and sum to 1, not to {parts.sum():g}")
    units, order = _shuffled(ds, block, together, seed)
    which = np.empty(len(order), np.int64)
    lacking = np.zeros(len(parts))
    for unit in order:  # group after group: what one group has too little of a part, the next makes up for
        lacking += parts
        which[unit] = chosen = lacking.argmax()
        lacking[chosen] -= 1
    found = [np.flatnonzero(which[units] == k) for k in range(len(parts))]
    for part, fraction in zip(found, parts):
        if fraction > 0 and not len(part):
            raise DataSetError(f"{ds.path}: {len(order)} structures or blocks are too few for a part of {fraction:g}")
    return found


def folds(ds: DataSet, k: int, seed: int, block: int = 1, together=None) -> list[tuple[np.ndarray, np.ndarray]]:
    """k-fold cross-validation: (training, validation) numbers of each fold; every structure is in one validation part.

    Groups are spread evenly over the folds; block, together: as for split. DataSetError for fewer structures than folds.
    """
    units, order = _shuffled(ds, block, together, seed)
    if not 2 <= k <= len(order):
        raise DataSetError(f"{ds.path}: {len(order)} structures or blocks cannot make {k} folds; 2 or more are needed")
    fold = np.empty(len(order), np.int64)
    fold[order] = np.arange(len(order)) % k  # dealt like cards, group after group
    fold = fold[units]
    return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(k)]


@dataclass(frozen=True)
class References:
    """Energies of the elements, eV/atom. rank: of the fit, which is unique where it equals the number of elements."""

    energies: dict[int, float]
    rank: int

    @property
    def unique(self) -> bool:
        return self.rank == len(self.energies)

    def of(self, ds: DataSet) -> np.ndarray:
        """(n,) eV: the sum of the references of the atoms of each structure."""
        return ds.composition @ np.array([self.energies[int(z)] for z in ds.elements])


def reference_energies(ds: DataSet, given: dict[str, float] | None = None) -> References:
    """Reference energies that leave the least squares of (energy − sum of references) / atoms; the smallest where the
    compositions do not tell the elements apart.

    given: symbol -> eV/atom, fixed; the rest is fitted. DataSetError where an element is not in the set, or nothing has an energy.
    """
    given = {atomic_numbers.get(symbol, symbol): float(energy) for symbol, energy in (given or {}).items()}
    for z in given:
        if z not in ds.elements:
            raise DataSetError(f"{ds.path}: a reference energy of {_symbol(z)} is given, which is not in the set")
    free = np.array([int(z) not in given for z in ds.elements])
    energies = np.array([given.get(int(z), 0.0) for z in ds.elements])
    if not free.any():
        return References(dict(zip(map(int, ds.elements), energies.tolist())), len(energies))
    known = np.isfinite(ds.energy)
    if not known.any():
        raise DataSetError(f"{ds.path}: no structure has an energy")
    fractions = ds.composition[known] / ds.counts[known, None]
    rest = ds.energy[known] / ds.counts[known] - fractions @ energies
    energies[free], _, rank, _ = np.linalg.lstsq(fractions[:, free], rest, rcond=1e-10)
    return References(dict(zip(map(int, ds.elements), energies.tolist())), int(rank) + int((~free).sum()))


def seen(ds: DataSet) -> dict:
    """What a training on this data set has seen, for the model's file: numbers of structures and of atoms by element,
    groups, and min, max and mean of energies and volumes per atom (eV, Å³; of structures that have one) and of the lengths of forces
    (eV/Å); None where nothing is known. digest: of the data set.
    """
    counts = ds.counts
    total = dict(zip(map(_symbol, ds.elements.tolist()), ds.composition.sum(axis=0).astype(int).tolist()))
    periodic = np.asarray(ds.periodic).all(axis=1)
    return {
        "structures": len(ds),
        "atoms": total,
        "groups": [ds.groups[k] for k in np.unique(ds.group)],
        "energy": _range(ds.energy / counts),
        "volume": _range(np.where(periodic, ds.volume / counts, np.nan)),
        "force": _range(np.sqrt((np.asarray(ds.forces) ** 2).sum(axis=1))),
        "digest": ds.digest(),
    }


# --- inside


def _range(values) -> dict | None:
    known = np.asarray(values)[np.isfinite(values)]
    return dict(min=float(known.min()), max=float(known.max()), mean=float(known.mean())) if len(known) else None


def _symbol(z):
    return chemical_symbols[z] if isinstance(z, int) else z


def _shuffled(ds, block, together, seed):
    """The unit of each structure (n,), and the units group after group, in each in random order."""
    group = np.asarray(ds.group)
    units = _units(group, block, together)
    first = np.unique(units, return_index=True)[1]
    keys = philox_uniform(seed, "split", ds.indices[first], 0, 1)[:, 0]
    return units, np.lexsort((keys, group[first]))


def _units(group, block, together):
    """(n,) whole numbers from 0, ascending with the first structure of each unit: what must not be torn apart."""
    if together is not None:
        keys = np.asarray(together, np.int64)
        if block > 1:
            raise DataSetError("a split keeps either blocks or duplicates together, not both")
    elif block > 1:
        order = np.argsort(group, kind="stable")
        starts = np.searchsorted(group[order], group[order], side="left")
        number = np.empty(len(group), np.int64)
        number[order] = (np.arange(len(group)) - starts) // block
        keys = group.astype(np.int64) * (len(group) + 1) + number
    else:
        return np.arange(len(group))
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]
