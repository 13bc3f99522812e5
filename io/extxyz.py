"""Extended XYZ, read and written a million atoms in seconds: whole columns instead of ASE's loop over atoms.

Format: https://github.com/libAtoms/extxyz. The comment line is parsed by ASE (ase.io.extxyz.key_val_str_to_dict).
Positions in Å; a column `velo` is in Å/ps, `velocities` and ASE's own `momenta` are in ASE's units.
"""

from collections import deque

import numpy as np
from ase import units
from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict

from ostwald.io.structures import Structure, StructureError, boxed, opened, species_of
from ostwald.io.table import LineReader, format_table, parse_table

_ASE_VELOCITY = 1000 * units.fs  # Å/ps per ASE's unit of velocity


def frames(path, index=None):
    """The frames of a file, one in memory at a time; only frame `index` where given. StructureError names file, line."""
    kept = deque(maxlen=-index if index is not None and index < 0 else 1)
    with opened(path) as file:
        for number, frame in enumerate(_blocks(LineReader(file), path)):
            if index is None or number == index:
                yield _structure(*frame, path)
                if index is not None:
                    return
            elif index < 0:
                kept.append(frame)
    if index is not None and index < 0 and len(kept) == -index:
        yield _structure(*kept[0], path)


def _blocks(lines, path):
    """For each frame: its comment and atom lines, its atoms, the number of the comment line."""
    while not lines.at_end():
        text = lines.line()
        start = lines.number
        try:
            count = int(text)
        except ValueError:
            raise StructureError(f"{path}, line {start}: the number of atoms expected, not '{text[:40]}'") from None
        block = lines.lines(1 + count)
        if block is None:
            raise StructureError(f"{path}, line {start}: {count} atoms announced, but the file ends before")
        yield block, count, start + 1


def _structure(data, count, line, path):
    comment, _, block = data.partition(b"\n")
    text = comment.decode(errors="replace").strip()
    try:
        info = key_val_str_to_dict(text) if "=" in text else {"comment": text} if text else {}
    except Exception as error:
        raise StructureError(f"{path}, line {line}: the comment line cannot be parsed ({error})") from None
    properties = info.pop("Properties", "species:S:1:pos:R:3")
    fields, kinds = _fields(properties, path, line)
    columns = parse_table(block, kinds, count, str(path), line + 1)
    arrays = {}
    for name, kind, width in fields:
        taken, columns = columns[:width], columns[width:]
        array = taken[0] if width == 1 else np.stack(taken, axis=1)
        if kind == "L":
            array = np.isin(np.char.upper(array.astype("S")), (b"T", b"TRUE", b"1"))
        elif kind == "S":
            array = array.astype(str) if array.dtype.kind != "S" else np.char.decode(array)
        arrays[name] = array
    if "pos" not in arrays:
        raise StructureError(f"{path}, line {line}: no positions among Properties={properties}")
    positions = arrays.pop("pos")
    if "species" in arrays:
        species, types = species_of(arrays.pop("species"))
    elif "Z" in arrays:
        from ase.data import chemical_symbols

        species, types = species_of(np.array(chemical_symbols)[arrays.pop("Z")])
    else:
        species, types = ("X",), np.zeros(count, np.int32)
    velocities = None
    for name, factor in (("velo", 1.0), ("velocities", _ASE_VELOCITY)):
        if name in arrays:
            velocities = arrays.pop(name) * factor
            break
    masses = None
    if "momenta" in arrays or "masses" in arrays:
        from ase.data import atomic_masses, atomic_numbers

        each = arrays.pop("masses", None)
        if each is None:
            each = np.array([atomic_masses[atomic_numbers.get(s, 0)] for s in species])[types]
        else:
            sums = np.bincount(types, each, len(species)) / np.maximum(np.bincount(types, minlength=len(species)), 1)
            masses = sums
        if "momenta" in arrays:
            velocities = arrays.pop("momenta") / each[:, None] * _ASE_VELOCITY
    matrix = info.pop("Lattice", None)
    origin = np.array(info.pop("Origin", np.zeros(3)), float)
    periodic = info.pop("pbc", [matrix is not None] * 3)
    if matrix is None:
        periodic = np.zeros(3, bool)
        matrix, origin = boxed(positions, np.zeros((3, 3)))
    else:
        matrix = np.array(matrix, float).reshape(3, 3).T  # ASE parses nine numbers in Fortran order
    for name in ("step", "time"):
        for key in (name, name.capitalize()):
            if key in info and name not in info:
                info[name] = info.pop(key)
    ids = arrays.pop("id", None)
    images = arrays.pop("image", None)
    return Structure(
        positions,
        matrix,
        species,
        types,
        origin,
        np.broadcast_to(np.array(periodic, bool), 3),
        velocities,
        None if ids is None else ids.astype(np.int64),
        None if images is None else images.astype(np.int32),
        masses,
        arrays,
        info,
    )


def _fields(properties, path, line):
    words = str(properties).split(":")
    fields, kinds = [], ""
    try:
        for name, kind, width in zip(words[::3], words[1::3], words[2::3], strict=True):
            letter = {"S": "s", "R": "f", "I": "i", "L": "s"}[kind]
            fields.append((name, kind, int(width)))
            kinds += letter * int(width)
    except (KeyError, ValueError):
        raise StructureError(f"{path}, line {line}: Properties={properties} cannot be understood") from None
    return fields, kinds


def formatted(structure: Structure) -> bytes:
    """One frame. Velocities are the column `velo` in Å/ps, ids `id`, images `image`."""
    s = structure
    columns = [("species:S:1", s.symbols), ("pos:R:3", s.positions)]
    if s.velocities is not None:
        columns.append(("velo:R:3", s.velocities))
    if s.ids is not None:
        columns.append(("id:I:1", s.ids))
    if s.images is not None:
        columns.append(("image:I:3", s.images))
    if s.masses is not None:
        columns.append(("masses:R:1", np.asarray(s.masses)[s.types]))
    for name, array in s.arrays.items():
        array = np.asarray(array)
        kind = {"f": "R", "i": "I", "u": "I", "b": "L", "U": "S", "S": "S"}.get(array.dtype.kind)
        if kind is None or array.ndim > 2:
            continue
        width = 1 if array.ndim == 1 else array.shape[1]
        if kind == "L":
            array = np.where(array, "T", "F")
        elif array.dtype.kind == "S":
            array = np.char.decode(array)
        columns.append((f"{name}:{kind}:{width}", array))
    lattice = " ".join(map(repr, s.matrix.ravel().tolist()))
    pbc = " ".join("T" if p else "F" for p in s.periodic)
    comment = f'Lattice="{lattice}" Properties={":".join(c[0] for c in columns)} pbc="{pbc}"'
    if np.any(s.origin):
        comment += ' Origin="' + " ".join(map(repr, s.origin.tolist())) + '"'
    info = {k: v for k, v in s.info.items() if isinstance(v, (str, bool, int, float, np.generic, np.ndarray, list))}
    if info:
        comment += " " + key_val_dict_to_str(info)
    table = format_table([c[1] for c in columns]) if len(s) else b""
    return f"{len(s)}\n{comment}\n".encode() + table
