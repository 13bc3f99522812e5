"""Data sets: labelled structures of different sizes in one HDF5 file, for training and checking potentials.

| dataset | shape | type | unit | |
| --- | --- | --- | --- | --- |
| offsets | (n+1,) | i8 | | atoms of structure i: rows offsets[i] … offsets[i+1] of the arrays with N rows |
| positions | (N, 3) | f8 | Å | |
| numbers | (N,) | u1 | | atomic numbers |
| cell | (n, 3, 3) | f8 | Å | rows a, b, c; never singular, on open axes a box around the atoms |
| periodic | (n, 3) | bool | | |
| energy | (n,) | f8 | eV | of the whole structure |
| forces | (N, 3) | f8 | eV/Å | |
| stress | (n, 6) | f8 | eV/Å³ | xx yy zz yz xz xy; positive in tension: (1/V) dE/dε |
| weight | (n,) | f8 | | in the loss of a training |
| group | (n,) | i4 | | index into `groups` |
| groups, provenance | | text | | JSON: the names of the groups; what is known of the origin |

A label that is missing is nan. The arrays are contiguous and little-endian, so that they can be mapped into memory.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from ostwald.io.image import Image, contiguous
from ostwald.io.shared import Alone, SharedFile, agree, sentence, sync_directory

FORMAT = 1
COLUMNS = {  # name -> row shape, type, unit; True: a row an atom
    "positions": ((3,), "<f8", "Angstrom", True),
    "numbers": ((), "u1", "", True),
    "cell": ((3, 3), "<f8", "Angstrom", False),
    "periodic": ((3,), "?", "", False),
    "energy": ((), "<f8", "eV", False),
    "forces": ((3,), "<f8", "eV/Angstrom", True),
    "stress": ((6,), "<f8", "eV/Angstrom^3", False),
    "weight": ((), "<f8", "", False),
    "group": ((), "<i4", "", False),
}


class DataSetError(ValueError):
    """A data set cannot be written, read or imported; one sentence that names the file and the reason."""


@dataclass
class LabelledStructure:
    """One structure and what a reference method says of it; units and signs as in the file, above.

    positions (n, 3); numbers (n,); cell (3, 3); periodic (3,); energy; forces (n, 3); stress (6,). None: missing (nan).
    group: the name of its group.
    """

    positions: np.ndarray
    numbers: np.ndarray
    cell: np.ndarray
    periodic: np.ndarray | bool = True
    energy: float | None = None
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    weight: float = 1.0
    group: str = "all"

    def __post_init__(self):
        self.positions = np.array(self.positions, float).reshape(-1, 3)
        self.numbers = np.array(self.numbers, np.uint8)
        self.cell = np.array(self.cell, float).reshape(3, 3)
        self.periodic = np.array(np.broadcast_to(self.periodic, 3), bool)
        self.energy = np.nan if self.energy is None else float(self.energy)
        shape = self.positions.shape
        self.forces = np.full(shape, np.nan) if self.forces is None else np.array(self.forces, float).reshape(shape)
        self.stress = np.full(6, np.nan) if self.stress is None else np.array(self.stress, float).reshape(6)
        self.weight = float(self.weight)
        if len(self.numbers) != len(self.positions):
            raise DataSetError(f"{len(self.positions)} positions, but {len(self.numbers)} atomic numbers")

    def __len__(self):
        return len(self.positions)

    @property
    def volume(self) -> float:
        """Å³."""
        return abs(float(np.linalg.det(self.cell)))

    def to_ase(self):
        """ase.Atoms with the labels that are there as its results."""
        import ase
        from ase.calculators.singlepoint import SinglePointCalculator

        atoms = ase.Atoms(self.numbers, self.positions, cell=self.cell, pbc=self.periodic)
        labels = {"energy": self.energy, "forces": self.forces, "stress": self.stress}
        labels = {name: value for name, value in labels.items() if not np.isnan(value).any()}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        atoms.info.update(group=self.group, weight=self.weight)
        return atoms


class DataSet:
    """Structures of a file, or some of them; every name of the table above is an attribute.

    Arrays of a whole file are mapped into memory read-only: only what is looked at is read. len() is the number of
    structures; `ds[i]` is one of them, a LabelledStructure; `select` and `shard` give views with the same attributes.
    path: the file; provenance: what its writer noted; groups: list of names.
    """

    def __init__(self, path, arrays: dict, offsets, groups: list[str], provenance: dict, chosen=None):
        self.path, self.groups, self.provenance = path, groups, provenance
        self._arrays, self._offsets, self._chosen = arrays, offsets, chosen

    def __len__(self):
        return len(self._offsets) - 1 if self._chosen is None else len(self._chosen)

    @cached_property
    def indices(self) -> np.ndarray:
        """(n,) the numbers of the structures in the file."""
        return np.arange(len(self)) if self._chosen is None else self._chosen

    @cached_property
    def counts(self) -> np.ndarray:
        """(n,) the number of atoms of each structure."""
        counts = np.diff(self._offsets)
        return counts if self._chosen is None else counts[self._chosen]

    @cached_property
    def offsets(self) -> np.ndarray:
        """(n+1,) the first row of each structure in the arrays with a row an atom, and their end."""
        return self._offsets if self._chosen is None else np.concatenate([[0], np.cumsum(self.counts)])

    @cached_property
    def volume(self) -> np.ndarray:
        """(n,) Å³."""
        return np.abs(np.linalg.det(self.cell))

    @cached_property
    def elements(self) -> np.ndarray:
        """The atomic numbers that occur, ascending."""
        return np.unique(self.numbers)

    @cached_property
    def composition(self) -> np.ndarray:
        """(n, len(elements)) how many atoms of each element are in each structure."""
        types = np.searchsorted(self.elements, self.numbers)
        owners = np.repeat(np.arange(len(self)), self.counts)
        shape = len(self), len(self.elements)
        return np.bincount(owners * shape[1] + types, minlength=shape[0] * shape[1]).reshape(shape)

    def select(self, indices) -> DataSet:
        """The structures of these numbers (or of a mask (n,) bool), in this order; arrays are gathered when first used."""
        chosen = np.arange(len(self))[indices] if isinstance(indices, slice) else np.asarray(indices)
        if chosen.dtype == bool:
            chosen = np.flatnonzero(chosen)
        chosen = self.indices[chosen.astype(np.int64).reshape(-1)]
        return DataSet(self.path, self._arrays, self._offsets, self.groups, self.provenance, chosen)

    def shard(self, rank: int, size: int) -> DataSet:
        """The part of one of `size` ranks: consecutive structures, evened by atoms."""
        ends = self.offsets[-1] * np.arange(1, size) // size
        cuts = np.concatenate([[0], np.searchsorted(self.offsets[1:], ends, side="left"), [len(self)]])
        return self.select(np.arange(cuts[rank], cuts[rank + 1]))

    def __getitem__(self, index: int) -> LabelledStructure:
        i = self.indices[index]
        rows = slice(self._offsets[i], self._offsets[i + 1])
        found = {name: self._arrays[name][rows if COLUMNS[name][3] else i] for name in COLUMNS if name != "group"}
        return LabelledStructure(**found, group=self.groups[self._arrays["group"][i]])

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getattr__(self, name):
        if name not in COLUMNS:
            raise AttributeError(f"a data set has no '{name}'")
        array = self._arrays[name]
        if self._chosen is not None:
            array = array[self._rows if COLUMNS[name][3] else self._chosen]
        self.__dict__[name] = array
        return array

    @cached_property
    def _rows(self):
        """The rows of the chosen structures; a slice, hence no copy, where they follow each other."""
        begins = self._offsets[self._chosen]
        if len(begins) and np.all(np.diff(self._chosen) == 1):
            return slice(begins[0], self._offsets[self._chosen[-1] + 1])
        return np.repeat(begins - self.offsets[:-1], self.counts) + np.arange(self.offsets[-1])

    def digest(self) -> str:
        """SHA-256 of structures, labels, weights and groups: the same for the same data, whatever file they are in."""
        found = hashlib.sha256(json.dumps(self.groups).encode())
        for array in (self.offsets, *(getattr(self, name) for name in COLUMNS)):
            found.update(np.ascontiguousarray(array).data.cast("B"))
        return found.hexdigest()


def write_dataset(path, structures, world=None, provenance=None) -> None:
    """Writes LabelledStructures (an iterable, or a DataSet) as a data set; it appears whole or not at all.

    With a world it is collective: each rank gives its structures, which follow each other in the order of the ranks, and
    writes them itself. provenance: what is to be known of the set (source, method, units of the source …), JSON-able.
    DataSetError, on every rank, where it cannot be written or has no structure.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    world = world or Alone()
    mine, groups, error = None, [], None
    try:
        mine, groups = _columns(structures)
    except Exception as caught:
        error = caught
    _agree(world, error, path)
    everyone = world.allgather((len(mine["energy"]), len(mine["numbers"]), groups))
    names = list(dict.fromkeys(name for _, _, given in everyone for name in given))
    mine["group"] = np.array([names.index(name) for name in groups], np.int32)[mine["group"]]
    first, first_atom = (sum(entry[k] for entry in everyone[: world.rank]) for k in (0, 1))
    total, atoms = (sum(entry[k] for entry in everyone) for k in (0, 1))
    mine["offsets"] = np.concatenate([[0], np.cumsum(mine.pop("counts"))]).astype(np.int64) + first_atom
    places = None
    try:
        if world.root:
            try:
                if not total:
                    raise DataSetError(f"{path}: no structure to write")
                places = _create(part, total, atoms, names, provenance or {})
            except Exception as caught:
                error = caught
        _agree(world, error, path)
        places = world.bcast(places)
        try:
            _fill(part, mine, places, first, first_atom)
        except Exception as caught:
            error = caught
        _agree(world, error, path)
        if world.root:
            try:
                os.replace(part, path)
                sync_directory(path.parent)
            except Exception as caught:
                error = caught
        _agree(world, error, path)
    except BaseException:
        if world.root:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        raise


def open_dataset(path) -> DataSet:
    """The data set of a file. DataSetError where it is none, or truncated."""
    path = Path(path)
    try:
        with h5py.File(path, "r") as file:
            if "offsets" not in file or "groups" not in file:
                raise DataSetError(f"{path}: an HDF5 file, but not a data set of Ostwald")
            if file.attrs["format"] > FORMAT:
                raise DataSetError(
                    f"{path}: written by a newer version (format {file.attrs['format']}, known {FORMAT})"
                )
            groups, provenance = (json.loads(file[name][()]) for name in ("groups", "provenance"))
            offsets = file["offsets"][()]
            rows = {True: int(offsets[-1]), False: len(offsets) - 1}
            arrays = {}
            for name, (shape, dtype, _, each_atom) in COLUMNS.items():
                dataset = file[name]
                if dataset.shape != (rows[each_atom], *shape) or dataset.dtype != dtype:
                    raise DataSetError(
                        f"{path}: {name} is {dataset.shape} {dataset.dtype}, which does not fit the others"
                    )
                place = dataset.id.get_offset()
                arrays[name] = np.memmap(path, dataset.dtype, "r", place, dataset.shape).view(np.ndarray)
    except KeyError as error:
        raise DataSetError(f"{path}: a data set without {str(error).strip(chr(34))}") from None
    except DataSetError:
        raise
    except (OSError, ValueError) as error:
        if not path.exists():
            raise DataSetError(f"{path}: no such file") from None
        raise DataSetError(f"{path}: cannot be read as a data set ({sentence(error)})") from error
    return DataSet(path, arrays, offsets, groups, provenance)


def is_dataset(path) -> bool:
    """Whether a file is a data set."""
    try:
        with h5py.File(path, "r") as file:
            return "offsets" in file and "groups" in file
    except OSError:
        return False


def voigt(tensor) -> np.ndarray:
    """(6,) xx yy zz yz xz xy of a (3, 3) matrix, nine numbers, or these six."""
    tensor = np.asarray(tensor, float).reshape(-1)
    if tensor.size == 6:
        return tensor
    if tensor.size != 9:
        raise ValueError(f"a stress or virial has 6 or 9 numbers, not {tensor.size}")
    matrix = tensor.reshape(3, 3)
    return (0.5 * (matrix + matrix.T)).reshape(-1)[[0, 4, 8, 5, 2, 1]]


def matrix_of(stress) -> np.ndarray:
    """(…, 3, 3) of (…, 6) numbers xx yy zz yz xz xy."""
    return np.asarray(stress)[..., [0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(*np.shape(stress)[:-1], 3, 3)


# --- inside


def _columns(structures: Iterable[LabelledStructure] | DataSet) -> tuple[dict, list[str]]:
    """The arrays of some structures, `counts` for the offsets, and the names of their groups."""
    if isinstance(structures, DataSet):
        arrays = {name: np.ascontiguousarray(getattr(structures, name)) for name in COLUMNS}
        return arrays | {"counts": structures.counts}, structures.groups
    structures = list(structures)
    groups = list(dict.fromkeys(s.group for s in structures))
    index = {name: k for k, name in enumerate(groups)}
    arrays = {"counts": np.array([len(s) for s in structures], np.int64)}
    for name, (shape, dtype, _, each_atom) in COLUMNS.items():
        if name == "group":
            rows = [index[s.group] for s in structures]
        else:
            rows = [getattr(s, name) for s in structures]
        if each_atom:
            arrays[name] = np.concatenate([np.zeros((0, *shape), dtype), *rows]).astype(dtype, copy=False)
        else:
            arrays[name] = np.array(rows, dtype).reshape(-1, *shape)
    return arrays, groups


def _create(part: Path, total: int, atoms: int, groups, provenance) -> dict:
    """An empty data set with all space allocated; name -> the place of the dataset's bytes in the file."""
    image, places = Image(), {}
    with h5py.File(image, "w") as file:
        file.attrs["format"] = FORMAT
        file["groups"], file["provenance"] = json.dumps(groups), json.dumps(provenance)
        places["offsets"] = contiguous(file, "offsets", (total + 1,), "<i8").id.get_offset()
        for name, (shape, dtype, unit, each_atom) in COLUMNS.items():
            dataset = contiguous(file, name, (atoms if each_atom else total, *shape), dtype)
            places[name] = dataset.id.get_offset()
            if unit:
                dataset.attrs["unit"] = unit
    image.save(part)
    return places


def _fill(part, mine, places, first, first_atom):
    file = SharedFile(part)
    try:
        for name, place in places.items():
            array = np.ascontiguousarray(mine[name])
            row = first_atom if name in COLUMNS and COLUMNS[name][3] else first
            file.write(place + row * array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64)), array)
        file.sync()
    finally:
        file.close()


def _agree(world, error, path):
    agree(world, error, path, "the data set was not written", DataSetError)
