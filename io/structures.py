"""Atomic structures in the formats that people have: one dataclass, read_structure, write_structure, convert.

| format | file names | |
| --- | --- | --- |
| lammps-data | data.*, *.data, *.lmp, *.lammps | io/lammps_data.py |
| lammps-dump | dump.*, *.dump, *.lammpstrj | io/lammps_dump.py |
| extxyz | *.xyz, *.extxyz | io/extxyz.py |
| h5md | *.h5md, *.h5 | io/h5md.py |
| ase | everything else that ASE knows | |

All of them also with .gz or .xz at the end, except h5md. n2p2's input.data and data sets: io/labelled.py.
"""

import gzip
import lzma
import os
import re
import sys
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np

from ostwald.io.datasets import matrix_of, voigt


class StructureError(ValueError):
    """A structure file cannot be read or written; one sentence that names the file, and the line where there is one."""


@dataclass
class Structure:
    """Atoms in a cell.

    positions (n, 3) Å; matrix (3, 3) Å, rows a, b, c; origin (3,) Å; periodic (3,) bool.
    species: the chemical symbols (or type labels); types (n,) int32: index into species.
    velocities (n, 3) Å/ps; ids (n,) int64: the file's own numbers.
    images (n, 3) int32: unwrapped = positions + images @ matrix; masses (len(species),) amu.
    arrays: whatever else the file had per atom; info: what it had per frame (step, time, ...).
    """

    positions: np.ndarray
    matrix: np.ndarray
    species: tuple
    types: np.ndarray
    origin: np.ndarray = field(default_factory=lambda: np.zeros(3))
    periodic: np.ndarray = field(default_factory=lambda: np.ones(3, bool))
    velocities: np.ndarray | None = None
    ids: np.ndarray | None = None
    images: np.ndarray | None = None
    masses: np.ndarray | None = None
    arrays: dict = field(default_factory=dict)
    info: dict = field(default_factory=dict)

    def __post_init__(self):
        self.positions = np.ascontiguousarray(self.positions, float).reshape(-1, 3)
        self.matrix = np.ascontiguousarray(self.matrix, float).reshape(3, 3)
        self.origin = np.array(self.origin, float).reshape(3)
        self.periodic = np.array(np.broadcast_to(self.periodic, 3), bool)
        self.types = np.ascontiguousarray(self.types, np.int32)
        self.species = tuple(self.species)

    def __len__(self):
        return len(self.positions)

    @property
    def symbols(self) -> np.ndarray:
        """(n,) str: the species of each atom."""
        return np.array(self.species, dtype=str)[self.types] if len(self) else np.empty(0, "U1")

    def to_ase(self):
        """The same as ase.Atoms (velocities in ASE's units; the origin becomes ASE's celldisp; an energy is a result of its
        calculator, with forces and stress)."""
        import ase
        from ase import units
        from ase.calculators.singlepoint import SinglePointCalculator

        symbols = self.symbols
        known = set(self.species[t] for t in np.unique(self.types)) <= set(ase.data.chemical_symbols)
        atoms = ase.Atoms(
            symbols=symbols if known else None,
            numbers=None if known else self.types + 1,
            positions=self.positions,
            cell=self.matrix,
            pbc=self.periodic,
            celldisp=self.origin,
            info=dict(self.info),
        )
        if self.masses is not None:
            atoms.set_masses(self.masses[self.types])
        if self.velocities is not None:
            atoms.set_velocities(self.velocities / (1000 * units.fs))
        for name, array in self.arrays.items():
            atoms.set_array(name, np.asarray(array))
        for name in ("ids", "images"):
            if getattr(self, name) is not None:
                atoms.set_array({"ids": "id", "images": "image"}[name], getattr(self, name))
        if "energy" in self.info:
            labels = {"energy": float(self.info["energy"])}
            if "forces" in self.arrays:
                labels["forces"] = np.asarray(self.arrays["forces"])
            if "stress" in self.info:
                labels["stress"] = voigt(self.info["stress"])
            atoms.calc = SinglePointCalculator(atoms, **labels)
        return atoms

    @classmethod
    def from_ase(cls, atoms) -> "Structure":
        """From ase.Atoms. A cell without volume gets a box around the atoms on its open axes."""
        from ase import units

        names, types = species_of(np.array(atoms.get_chemical_symbols(), dtype=str))
        arrays = {
            k: v.copy()
            for k, v in atoms.arrays.items()
            if k not in ("numbers", "positions", "momenta", "masses", "tags")
        }
        if atoms.has("tags") and np.any(atoms.get_tags()):
            arrays["tags"] = atoms.get_tags()
        results = getattr(atoms.calc, "results", {})
        arrays |= {key: np.array(results[key]) for key in ("forces", "energies") if key in results}
        labels = {key: results[key] for key in ("energy", "free_energy") if key in results}
        if "stress" in results:
            labels["stress"] = matrix_of(voigt(results["stress"]))  # nine numbers, as other programs expect them
        matrix, origin = np.array(atoms.cell), np.array(atoms.get_celldisp()).reshape(3)
        lengths = np.linalg.norm(matrix, axis=1)
        if np.any(lengths < 1e-10) or abs(np.linalg.det(matrix)) < 1e-10:
            if np.any(atoms.pbc & (lengths < 1e-10)):
                raise StructureError("a periodic axis has no cell vector")
            matrix, origin = boxed(atoms.positions, matrix)
        masses = None
        if atoms.has("masses"):
            all_masses = atoms.get_masses()
            masses = np.array([all_masses[types == t].mean() for t in range(len(names))])
        return cls(
            positions=atoms.positions.copy(),
            matrix=matrix,
            origin=origin,
            periodic=atoms.pbc,
            species=names,
            types=types,
            velocities=atoms.get_velocities() * (1000 * units.fs) if atoms.has("momenta") else None,
            ids=arrays.pop("id").astype(np.int64) if "id" in arrays else None,
            images=arrays.pop("image").astype(np.int32) if "image" in arrays else None,
            masses=masses,
            arrays=arrays,
            info=dict(atoms.info) | labels,
        )


def species_of(symbols) -> tuple[tuple, np.ndarray]:
    """(n,) words -> the different ones in the order of their first appearance, and (n,) int32 indices into them."""
    names, first, inverse = np.unique(symbols, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    texts = [n.decode() if isinstance(n, bytes) else str(n) for n in names[order]]
    return tuple(texts), rank[inverse.ravel()]


def with_species(structure: Structure, species) -> Structure:
    """The same atoms with types as indices into `species`; StructureError where one is missing there."""
    index = {name: k for k, name in enumerate(species)}
    present = np.unique(structure.types)
    missing = [structure.species[t] for t in present if structure.species[t] not in index]
    if missing:
        raise StructureError(f"species {', '.join(missing)} is not among {', '.join(species)}")
    table = np.array([index.get(name, -1) for name in structure.species], np.int32)
    masses = structure.masses
    if masses is not None:
        known = dict(zip(structure.species, masses))
        masses = np.array([known[s] for s in species]) if all(s in known for s in species) else None
    return replace(structure, species=tuple(species), types=table[structure.types], masses=masses)


def named_types(structure: Structure, species) -> Structure:
    """Where the file has types without a name ("1", "2", ...): type k is species[k - 1]. A file's own names stay."""
    if not any(name.isdigit() for name in structure.species):
        return structure
    # a LAMMPS data file, whose masses tell some of its elements: the places count for all of them
    numbers = [int(name) if name.isdigit() else k for k, name in enumerate(structure.species, 1)]
    if not 1 <= min(numbers) <= max(numbers) <= len(species):
        raise StructureError(f"{len(species)} species given ({', '.join(species)}) for atom types up to {max(numbers)}")
    return replace(structure, species=tuple(species[k - 1] for k in numbers))


def right_handed_axes(matrix) -> list:
    """The order of the axes in which the cell is right-handed: [0, 1, 2], or [1, 0, 2] for a left-handed one."""
    return [0, 1, 2] if np.linalg.det(matrix) >= 0 else [1, 0, 2]


# --- files


def format_of(path, writing: bool = False) -> str:
    """The format of a file, from its name and, where that says nothing, from its first lines."""
    path = Path(path)
    name = path.name.lower()
    name = name[:-3] if name.endswith((".gz", ".xz")) else name
    suffix = Path(name).suffix
    if suffix in (".h5md", ".h5", ".hdf5"):
        return "h5md"
    if suffix in (".xyz", ".extxyz"):
        return "extxyz"
    if name == "input.data":
        return "n2p2"
    if suffix in (".lmp", ".lammps", ".data") or name.startswith("data."):
        return "lammps-data"
    if suffix in (".dump", ".lammpstrj") or name.startswith("dump."):
        return "lammps-dump"
    if not writing and path.is_file():
        with opened(path) as file:
            head = file.read(4096)
        if head.startswith(b"\x89HDF"):
            return "h5md"
        if head.startswith(b"ITEM:"):
            return "lammps-dump"
        if re.search(rb"^\s*\d+\s+atoms\s*$", head, re.M) and re.search(rb"xlo\s+xhi", head):
            return "lammps-data"
        if re.match(rb"\s*begin\s*\n", head):
            return "n2p2"
        if re.match(rb"\s*\d+\s*\n.*Properties=", head):
            return "extxyz"
    return "ase"


def iterate_structures(path, format: str | None = None, **options) -> Iterator[Structure]:
    """The frames of a file one after another, one in memory at a time where the format allows it."""
    path = Path(path)
    format = format or format_of(path)
    try:
        if not path.exists():
            raise StructureError(f"{path}: no such file")
        if format == "lammps-data":
            from ostwald.io.lammps_data import read

            yield read(path, **options)
        elif format == "lammps-dump":
            from ostwald.io.lammps_dump import frames

            yield from frames(path, **options)
        elif format == "extxyz":
            from ostwald.io.extxyz import frames

            yield from frames(path, **options)
        elif format == "h5md":
            from ostwald.io.h5md import frames

            yield from frames(path, **options)
        else:
            import ase.io

            try:
                for atoms in ase.io.iread(str(path), index=":", **options):
                    yield Structure.from_ase(atoms)
            except StructureError as error:
                raise StructureError(f"{path}: {error}") from None
            except Exception as error:  # whatever a reader of ASE stumbles over
                raise StructureError(f"{path}: ASE cannot read it ({type(error).__name__}: {error})") from error
    except OSError as error:
        raise StructureError(f"{path}: {error.strerror or error}") from error
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise StructureError(f"{path}: the compressed file is truncated or damaged") from error
    except StructureError:
        raise
    except ValueError as error:
        raise StructureError(str(error)) from error


def read_structure(path, index: int = -1, world=None, format: str | None = None, **options) -> Structure:
    """Frame `index` (negative: from the end) of a file. With a world it is collective: rank 0 reads, all ranks get it.

    format: one of the table above, where the name does not tell. options go to the format's reader; species=(...) names
    the types of a LAMMPS file. StructureError names file and line.
    """
    result = error = None
    if world is None or world.root:
        try:
            result = _frame(path, index, format, options)
        except (StructureError, OSError) as caught:
            error = caught
    if world is None:
        if error:
            raise error
        return result
    world.agree(error)
    return world.bcast(result)


def _frame(path, index, format, options):
    format = format or format_of(path)
    if format in ("extxyz", "lammps-dump", "h5md"):
        options = dict(options, index=index)
        found = list(iterate_structures(path, format, **options))
        if found:
            return found[0]
    else:
        found = list(iterate_structures(path, format, **options))
        if -len(found) <= index < len(found):
            return found[index]
    raise StructureError(f"{path}: has no frame {index}")


def write_structure(path, structure: Structure, format: str | None = None, **options) -> None:
    """Writes one structure (or a list of them, in formats with frames); the file appears whole or not at all."""
    structures = [structure] if isinstance(structure, Structure) else structure
    _write(path, iter(structures), format or format_of(path, writing=True), options)


def convert(source, target, index=None, *, format: str | None = None, to: str | None = None, **options) -> int:
    """Copies frames of a file into another format; the number of frames that were written.

    index: a frame, a slice, or either as ASE writes it ("-1", "::10"); None is all frames. A target that holds one
    frame only gets the last of them. options go to the reader (species=...).
    """
    to = to or format_of(target, writing=True)
    if isinstance(index, str):
        try:
            numbers = [int(word) if word.strip() else None for word in index.split(":")]
            index = numbers[0] if len(numbers) == 1 else slice(*numbers)
        except (ValueError, TypeError):
            raise StructureError(f"index '{index}' is neither a frame nor a slice") from None
    if index is None and to == "lammps-data":
        index = -1
    if isinstance(index, int):
        structures = iter([read_structure(source, index, format=format, **options)])
    else:
        structures = iterate_structures(source, format, **options)
        if index is not None:
            limits = [value for value in (index.start, index.stop, index.step) if value is not None]
            forward = all(value >= 0 for value in limits)
            structures = islice(structures, *index.indices(sys.maxsize)) if forward else iter(list(structures)[index])
        if to == "lammps-data":
            structures = iter(deque(structures, maxlen=1))
    return _write(target, structures, to, {})


def _write(path, structures, format, options) -> int:
    path = Path(path)
    part = path.with_name(f".{os.getpid()}.{path.name}")  # the suffix stays: ASE goes by it
    count = 0

    def counted():
        nonlocal count
        for structure in structures:
            count += 1
            yield structure

    try:
        if format == "h5md":
            from ostwald.io.h5md import write_frames

            write_frames(part, counted(), **options)
        elif format == "ase":
            import ase.io

            try:
                ase.io.write(str(part), [s.to_ase() for s in counted()], **options)
            except StructureError:
                raise
            except Exception as error:
                raise StructureError(f"{path}: ASE cannot write it ({type(error).__name__}: {error})") from error
        else:
            if format == "lammps-data":
                from ostwald.io.lammps_data import formatted
            elif format == "lammps-dump":
                from ostwald.io.lammps_dump import formatted
            elif format == "extxyz":
                from ostwald.io.extxyz import formatted
            else:
                raise StructureError(f"{path}: '{format}' is not a format that is written here")
            with opened(part, "wb") as file:
                for structure in counted():
                    if format == "lammps-data" and count > 1:
                        raise StructureError(f"{path}: a LAMMPS data file holds one frame")
                    file.write(formatted(structure, **options))
        if count == 0:
            raise StructureError(f"{path}: no frame to write")
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StructureError(f"{path}: {error.strerror or error}") from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return count


def opened(path, mode="rb"):
    """A binary file, packed and unpacked by its suffix (.gz, .xz)."""
    return {".gz": gzip.open, ".xz": lzma.open}.get(Path(path).suffix, open)(path, mode)


def boxed(positions, matrix):
    """(matrix (3, 3), origin (3,)) Å: a cell with a box around the atoms (n, 3) on the axes that have no vector, 1 Å wider
    than they are on either side."""
    from ase.geometry import complete_cell

    matrix = np.array(matrix, float)
    lengths = np.linalg.norm(matrix, axis=1)
    matrix[lengths < 1e-10] = 0
    full = complete_cell(matrix)
    s = positions @ np.linalg.inv(full)
    low, high = (s.min(axis=0), s.max(axis=0)) if len(s) else (np.zeros(3), np.ones(3))
    origin = np.zeros(3)
    for axis in np.flatnonzero(lengths < 1e-10):
        margin = 1.0 / np.linalg.norm(full[axis])  # 1 Å to either side
        origin += (low[axis] - margin) * full[axis]
        full[axis] *= high[axis] - low[axis] + 2 * margin
    return full, origin
