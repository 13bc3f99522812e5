"""Structures with energies and forces as n2p2 and RuNNer have them: `input.data`.

Each structure is a block of lines

    begin
    comment …
    lattice ax ay az          three of them, or none: not periodic
    atom x y z symbol charge energy fx fy fz
    energy E
    charge Q
    end

Source: https://compphysvienna.github.io/n2p2/topics/cfg_file.html. Charges and energies of atoms are not read, and written as 0.
The file does not say its units (often Bohr and Hartree); here they are written as Å and eV.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ostwald.io.datasets import DataSetError, LabelledStructure
from ostwald.io.structures import boxed, opened
from ostwald.io.table import format_table, parse_table


def frames(path, group):
    """The structures of a file, numbers as they are in it. DataSetError names the line."""
    from ase.data import atomic_numbers

    with opened(path) as file:
        lines = file.read().split(b"\n")
    begin = None
    for k, line in enumerate(lines):
        word = line.split(None, 1)[:1]
        if word == [b"begin"]:
            if begin is not None:
                raise DataSetError(f"{path}, line {k + 1}: begin, but the structure of line {begin + 1} has not ended")
            begin = k
        elif word == [b"end"]:
            if begin is None:
                raise DataSetError(f"{path}, line {k + 1}: end without begin")
            yield _structure(path, lines[begin + 1 : k], begin + 2, group, atomic_numbers)
            begin = None
    if begin is not None:
        raise DataSetError(f"{path}: ends inside the structure that begins in line {begin + 1}")


def _structure(path, lines, first, group, atomic_numbers):
    lattice, energy, where = [], None, []
    for k, line in enumerate(lines):
        word, _, rest = line.strip().partition(b" ")
        if word == b"atom":
            where.append(k)
        elif word == b"comment" and rest.startswith(b"group="):  # as written below
            group = rest[6:].decode(errors="replace")
        elif word in (b"lattice", b"energy"):
            try:
                values = [float(x) for x in rest.split()]
                if len(values) != (3 if word == b"lattice" else 1):
                    raise ValueError
            except ValueError:
                raise DataSetError(f"{path}, line {first + k}: '{line.decode(errors='replace').strip()}'") from None
            if word == b"lattice":
                lattice.append(values)
            else:
                energy = values[0]
    if not where or len(lattice) not in (0, 3):
        what = "no atom" if not where else f"{len(lattice)} lattice vectors"
        raise DataSetError(f"{path}, line {first - 1}: a structure with {what}")
    block = b"\n".join(lines[k] for k in where) + b"\n"
    x, y, z, symbols, *forces = parse_table(block, "-fffs--fff", len(where), str(path), first + where[0])
    names, types = np.unique(symbols, return_inverse=True)
    unknown = [name.decode(errors="replace") for name in names if name.decode(errors="replace") not in atomic_numbers]
    if unknown:
        raise DataSetError(f"{path}, line {first + where[0]}: '{unknown[0]}' is not a chemical symbol")
    positions, cell = np.stack([x, y, z], axis=1), np.array(lattice)
    if not lattice:
        cell, origin = boxed(positions, np.zeros((3, 3)))
        positions = positions - origin
    return LabelledStructure(
        positions=positions,
        numbers=np.array([atomic_numbers[name.decode()] for name in names], np.uint8)[types],
        cell=cell,
        periodic=bool(lattice),
        energy=energy,
        forces=np.stack(forces, axis=1),
        group=group,
    )


def write(path, structures) -> None:
    """Writes structures in Å and eV. n2p2 knows no missing labels and no partial periodicity: DataSetError."""
    path = Path(path)
    part = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with opened(part, "wb") as file:
            for number, structure in enumerate(structures):
                file.write(_formatted(path, number, structure))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _formatted(path, number, s) -> bytes:
    from ase.data import chemical_symbols

    if np.isnan(s.energy) or np.isnan(s.forces).any():
        raise DataSetError(f"{path}: structure {number} has no energy or forces, which this format cannot say")
    if s.periodic.any() != s.periodic.all():
        raise DataSetError(f"{path}: structure {number} is periodic along some axes only, which this format cannot say")
    zeros = np.zeros(len(s))
    words = np.full(len(s), b"atom"), s.positions, np.array(chemical_symbols)[s.numbers], zeros, zeros, s.forces
    lattice = format_table([np.full(3, b"lattice"), s.cell]) if s.periodic.all() else b""
    head = f"begin\ncomment group={s.group}\n".encode()
    return head + lattice + format_table(words) + f"energy {s.energy!r}\ncharge 0.0\nend\n".encode()
