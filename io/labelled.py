"""Labelled structures in the formats that reference data come in, one after another.

| format | files | |
| --- | --- | --- |
| dataset | *.dataset | io/datasets.py |
| extxyz | *.xyz, *.extxyz | io/extxyz.py; labels as below |
| n2p2 | input.data | io/n2p2_data.py; energy, forces |
| deepmd | a directory | io/deepmd_data.py; npy, raw and mixed types; energy, forces, virial |
| ase | everything else: VASP's OUTCAR and vasprun.xml, databases (*.db), … | results of ASE's calculator |

Text files also with .gz or .xz at the end. Energies are totals in eV, forces in eV/Å, stresses in eV/Å³, positive in tension; a
virial (eV) is −volume · stress.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ostwald.io.datasets import (
    DataSetError,
    LabelledStructure,
    is_dataset,
    matrix_of,
    open_dataset,
    voigt,
    write_dataset,
)
from ostwald.io.structures import Structure, StructureError, format_of, iterate_structures, write_structure

FORMATS = ("dataset", "extxyz", "n2p2", "deepmd", "ase")
ONLY_LABELLED = ("dataset", "n2p2", "deepmd")
"""Formats that hold nothing but labelled structures."""
LABELS = ("energy", "forces", "stress", "virial", "weight", "group")
_KEYS = {
    "energy": ("energy",),
    "forces": ("forces", "force"),
    "stress": ("stress",),
    "virial": ("virial", "virials"),
    "weight": ("weight", "config_weight"),
    "group": ("group", "config_type"),
}


@dataclass(frozen=True)
class Reading:
    """How files are to be understood.

    labels: label (energy, forces, stress, virial, weight, group) -> its name in an extended XYZ file or ASE's results, where
    it is not the label's own. group: the name of the group of all structures. length, energy: Å and eV per unit of the file.
    species: chemical symbols of the types of a DeePMD set without type_map.raw.
    """

    labels: dict = field(default_factory=dict)
    group: str | None = None
    length: float = 1.0
    energy: float = 1.0
    species: tuple = ()


def labelled_format(path) -> str:
    """The format of a source, from its name or its content."""
    path = Path(path)
    if path.is_dir():
        return "deepmd"
    if path.is_file() and is_dataset(path):
        return "dataset"
    found = format_of(path)
    return found if found in ("n2p2", "extxyz") else "ase"


def target_format(path) -> str | None:
    """The format of a target that holds nothing but labelled structures, from its name; None for others."""
    name = Path(path).name
    if name.endswith(".dataset"):
        return "dataset"
    if name == "input.data":
        return "n2p2"
    return "deepmd" if str(path).endswith("/") or Path(path).is_dir() else None


def iterate_labelled(path, format: str | None = None, how: Reading | None = None) -> Iterator[LabelledStructure]:
    """The structures of a file or directory. A group that the file does not name is the file's own name.

    DataSetError or StructureError: one sentence that names the file, and the line or the frame.
    """
    path, how = Path(path), how or Reading()
    if not path.exists():
        raise DataSetError(f"{path}: no such file")
    format = format or labelled_format(path)
    name = path.name.split(".")[0] or path.name
    if format == "dataset":
        found = iter(open_dataset(path))
    elif format == "n2p2":
        from ostwald.io.n2p2_data import frames

        found = frames(path, name)
    elif format == "deepmd":
        from ostwald.io.deepmd_data import frames

        found = frames(path, how.species)
    elif format == "extxyz":
        found = _from_structures(path, iterate_structures(path, "extxyz"), how, name)
    elif format == "ase":
        found = _from_structures(path, iterate_structures(path, "ase"), how, name)
    else:
        raise DataSetError(f"{path}: '{format}' is not a format of labelled structures ({', '.join(FORMATS)})")
    for structure in found:
        yield _scaled(structure, how)


def read_starts(path) -> list:
    """All structures of a file of any format, labelled or not, as ase.Atoms without labels."""
    format = labelled_format(path)
    if format in ONLY_LABELLED:
        found = [structure.to_ase() for structure in iterate_labelled(path, format)]
    else:
        found = [structure.to_ase() for structure in iterate_structures(path)]
    if not found:
        raise DataSetError(f"{path}: no structure")
    for atoms in found:
        atoms.calc, atoms.info = None, {}
    return found


def labelled(structure: Structure, how: Reading, group: str) -> LabelledStructure:
    """A structure with the labels among its arrays and info. ValueError for one of a wrong shape."""
    labels = {name: _find(structure, name, how) for name in LABELS}
    if (numbers := _atomic_numbers(structure)) is None:
        raise ValueError(f"species {', '.join(structure.species)} are not all chemical elements")
    volume = abs(np.linalg.det(structure.matrix))
    stress = labels["stress"]
    if stress is None and labels["virial"] is not None:
        stress = -np.asarray(labels["virial"], float) / volume
    return LabelledStructure(
        positions=structure.positions - structure.origin,
        numbers=numbers,
        cell=structure.matrix,
        periodic=structure.periodic,
        energy=labels["energy"],
        forces=labels["forces"],
        stress=None if stress is None else voigt(stress),
        weight=1.0 if labels["weight"] is None else labels["weight"],
        group=group if labels["group"] is None else str(labels["group"]),
    )


def write_labelled(path, structures, format: str | None = None, provenance=None) -> int:
    """Writes labelled structures in a format of the table above; their number. The file appears whole or not at all."""
    format = format or target_format(path) or "structures"
    structures = list(structures)
    if format == "dataset":
        write_dataset(path, structures, provenance=provenance)
    elif format == "n2p2":
        from ostwald.io.n2p2_data import write

        write(path, structures)
    elif format == "deepmd":
        from ostwald.io.deepmd_data import write

        write(path, structures)
    else:
        write_structure(path, map(plain, structures), None if format == "structures" else format)
    return len(structures)


def plain(structure: LabelledStructure) -> Structure:
    """The same with the labels that are there as arrays and info."""
    from ase.data import chemical_symbols

    from ostwald.io.structures import species_of

    species, types = species_of(np.array(chemical_symbols)[structure.numbers])
    info = {"energy": structure.energy, "stress": matrix_of(structure.stress)}
    info = {name: value for name, value in info.items() if not np.isnan(value).any()}
    info |= {"group": structure.group} | ({"weight": structure.weight} if structure.weight != 1 else {})
    arrays = {} if np.isnan(structure.forces).any() else {"forces": structure.forces}
    return Structure(
        structure.positions, structure.cell, species, types, periodic=structure.periodic, arrays=arrays, info=info
    )


# --- inside


def _from_structures(path, structures, how, name):
    for number, structure in enumerate(structures):
        try:
            if number == 0:
                _check_names(structure, how)
            yield labelled(structure, how, name)
        except (StructureError, DataSetError):
            raise
        except ValueError as error:
            raise DataSetError(f"{path}, frame {number}: {error}") from None


def _find(structure, label, how):
    for name in (how.labels[label],) if label in how.labels else _KEYS[label]:
        for place in (structure.info, structure.arrays):
            if name in place:
                return place[name]
    return None


def _check_names(structure, how):
    """A first frame without labels, whose names are like labels, is a misunderstanding."""
    there = [*structure.info, *structure.arrays]
    for label in ("energy", "forces"):
        if label in how.labels and how.labels[label] not in there:
            raise ValueError(f"has no '{how.labels[label]}' for the {label}; it has {', '.join(there) or 'nothing'}")
        alike = [
            name for name in there if label.rstrip("s") in name.lower() and name not in ("energies", "free_energy")
        ]
        if label not in how.labels and alike and not set(alike) & set(_KEYS[label]):
            raise ValueError(f"has no '{label}', but {', '.join(alike)}: name it, as in {label}={alike[0]}")


def _atomic_numbers(structure):
    from ase.data import atomic_numbers

    if not set(structure.species) <= set(atomic_numbers):
        return None
    return np.array([atomic_numbers[symbol] for symbol in structure.species], np.uint8)[structure.types]


def _scaled(structure, how):
    group = how.group or structure.group
    if how.length == how.energy == 1.0:
        return structure if group == structure.group else replace(structure, group=group)
    return replace(
        structure,
        positions=structure.positions * how.length,
        cell=structure.cell * how.length,
        energy=structure.energy * how.energy,
        forces=structure.forces * (how.energy / how.length),
        stress=structure.stress * (how.energy / how.length**3),
        group=group,
    )
