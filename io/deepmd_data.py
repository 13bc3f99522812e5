"""Data sets of DeePMD-kit: directories of numpy arrays or of text.

    type.raw               types of the atoms, from 0                type_map.raw    their symbols
    set.*/coord.npy        (frames, 3 atoms) Å                       set.*/box.npy   (frames, 9) Å
    set.*/energy.npy       (frames,) eV                              set.*/force.npy (frames, 3 atoms) eV/Å
    set.*/virial.npy       (frames, 9) eV, −volume · stress          nopbc           a file: not periodic
    set.*/real_atom_types.npy  (frames, atoms), mixed types: the frames have the same number of atoms, −1 is none

or the same as text: coord.raw, box.raw, energy.raw, force.raw, virial.raw. A directory may hold many such systems.
Source: https://docs.deepmodeling.com/projects/deepmd/en/stable/data/system.html
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

from ostwald.io.datasets import DataSetError, LabelledStructure, matrix_of, voigt
from ostwald.io.structures import boxed

_ARRAYS = ("coord", "box", "energy", "force", "virial")
_SET = 5000
"""Frames of a set that is written."""


def frames(path, species=()):
    """The structures of all systems in a directory; the group of each is its system's folder.

    species: symbols of the types where there is no type_map.raw. DataSetError names the file.
    """
    root = Path(path)
    systems = sorted(file.parent for file in root.rglob("type.raw"))
    if not systems:
        raise DataSetError(f"{root}: no type.raw in this directory or below: not a data set of DeePMD-kit")
    for system in systems:
        relative = system.relative_to(root).as_posix()
        yield from _system(system, root.resolve().name if relative == "." else relative, tuple(species))


def _system(system, group, species):
    types = _types(system / "type.raw")
    numbers = _numbers(system, species)
    periodic = not (system / "nopbc").exists()
    sets = sorted(system.glob("set.*"))
    for arrays in [_of_set(folder) for folder in sets] if sets else [_of_text(system)]:
        count = len(arrays["coord"])
        every = arrays.pop("types", None)
        every = np.broadcast_to(types, (count, len(types))) if every is None else every.reshape(count, -1)
        if every.max(initial=-1) >= len(numbers):
            raise DataSetError(f"{system}: types up to {every.max()}, but {len(numbers)} species")
        widths = {"coord": 3 * len(types), "force": 3 * len(types), "box": 9, "virial": 9, "energy": 1}
        for name, array in arrays.items():
            if array.size != count * widths[name]:
                raise DataSetError(
                    f"{system}: {name} has {array.size} numbers, not {widths[name]} for each of {count} frames"
                )
            arrays[name] = array.reshape(count, widths[name])
        if periodic and "box" not in arrays:
            raise DataSetError(f"{system}: no box, and no file nopbc either")
        for k in range(count):
            real = every[k] >= 0
            yield _structure({name: a[k] for name, a in arrays.items()}, real, numbers[every[k][real]], periodic, group)


def _structure(row, real, numbers, periodic, group):
    positions = row["coord"].reshape(-1, 3)[real].astype(float)
    cell = row["box"].reshape(3, 3).astype(float) if periodic else None
    if not periodic:
        cell, origin = boxed(positions, np.zeros((3, 3)))
        positions -= origin
    stress = None
    if periodic and "virial" in row:
        stress = -voigt(row["virial"]) / abs(np.linalg.det(cell))
    return LabelledStructure(
        positions=positions,
        numbers=numbers,
        cell=cell,
        periodic=periodic,
        energy=row["energy"][0] if "energy" in row else None,
        forces=row["force"].reshape(-1, 3)[real] if "force" in row else None,
        stress=stress,
        group=group,
    )


def _types(path):
    try:
        types = np.array(path.read_text().split(), np.int64)
    except (OSError, ValueError) as error:
        raise DataSetError(f"{path}: {getattr(error, 'strerror', None) or 'whole numbers expected'}") from None
    if not len(types) or types.min() < 0:
        raise DataSetError(f"{path}: types from 0 expected")
    return types


def _numbers(system, species):
    from ase.data import atomic_numbers

    file = system / "type_map.raw"
    names = tuple(file.read_text().split()) if file.exists() else species
    if not names:
        raise DataSetError(f"{system}: no type_map.raw says which elements the types are; give their species")
    unknown = [name for name in names if name not in atomic_numbers]
    if unknown:
        raise DataSetError(f"{file if file.exists() else system}: '{unknown[0]}' is not a chemical symbol")
    return np.array([atomic_numbers[name] for name in names], np.uint8)


def _of_set(folder):
    arrays = {name: _load(folder / f"{name}.npy") for name in _ARRAYS if (folder / f"{name}.npy").exists()}
    if (folder / "real_atom_types.npy").exists():
        arrays["types"] = _load(folder / "real_atom_types.npy")
    if "coord" not in arrays:
        raise DataSetError(f"{folder}: no coord.npy")
    return arrays


def _of_text(system):
    arrays = {}
    for name in _ARRAYS:
        file = system / f"{name}.raw"
        if file.exists():
            try:
                arrays[name] = np.loadtxt(file, ndmin=2)
            except ValueError as error:
                raise DataSetError(f"{file}: {error}") from None
    if "coord" not in arrays:
        raise DataSetError(f"{system}: neither set.* nor coord.raw")
    return arrays


def _load(file):
    try:
        return np.load(file)
    except (OSError, ValueError, EOFError) as error:
        raise DataSetError(f"{file}: cannot be read as an array ({error})") from None


def write(path, structures) -> None:
    """Writes structures as systems (folders named by group and formula) of double-precision arrays with sets of up to 5000
    frames. Every system has the same type map. DataSetError for missing energies or forces, or partial periodicity."""
    from ase.data import chemical_symbols

    root = Path(path)
    if root.exists() and any(root.iterdir()):
        raise DataSetError(f"{root}: a directory that is not empty")
    systems = {}
    for number, s in enumerate(structures):
        if np.isnan(s.energy) or np.isnan(s.forces).any():
            raise DataSetError(f"{root}: structure {number} has no energy or forces, which this format cannot say")
        if s.periodic.any() != s.periodic.all():
            raise DataSetError(
                f"{root}: structure {number} is periodic along some axes only, which this format cannot say"
            )
        # frames of a system share the order of types, the periodicity and the arrays that they have
        order = np.argsort(s.numbers, kind="stable")
        virial = bool(s.periodic.all() and not np.isnan(s.stress).any())
        key = s.group, s.numbers[order].tobytes(), bool(s.periodic.all()), virial
        systems.setdefault(key, []).append((s, order))
    elements = sorted({int(z) for (_, numbers, _, _) in systems for z in numbers})
    part = root.with_name(f".{os.getpid()}.{root.name}")
    names = set()
    try:
        for (group, numbers, periodic, virial), members in systems.items():
            name = "".join(c if c.isalnum() or c in "-_.+" else "_" for c in group) + f".{len(numbers)}"
            name = next(n for n in (name, *(f"{name}.{k}" for k in range(2, len(systems) + 2))) if n not in names)
            names.add(name)
            folder = part / name
            folder.mkdir(parents=True)
            (folder / "type.raw").write_text("".join(f"{elements.index(z)}\n" for z in numbers))
            (folder / "type_map.raw").write_text("".join(f"{chemical_symbols[z]}\n" for z in elements))
            if not periodic:
                (folder / "nopbc").touch()
            for k in range(0, len(members), _SET):
                _write_set(folder / f"set.{k // _SET:03d}", members[k : k + _SET], virial)
        if root.exists():
            root.rmdir()
        os.replace(part, root)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_set(folder, members, virial):
    folder.mkdir()
    arrays = {
        "coord": [s.positions[order].ravel() for s, order in members],
        "box": [s.cell.ravel() for s, _ in members],
        "energy": [s.energy for s, _ in members],
        "force": [s.forces[order].ravel() for s, order in members],
    }
    if virial:
        arrays["virial"] = [-s.volume * matrix_of(s.stress).ravel() for s, _ in members]
    for name, rows in arrays.items():
        np.save(folder / f"{name}.npy", np.array(rows))
