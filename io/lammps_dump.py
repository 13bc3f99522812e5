"""LAMMPS text dumps (dump custom, dump atom), read and written, orthogonal, triclinic and general triclinic cells.

Format: https://docs.lammps.org/dump.html. Units: metal.
"""

import numpy as np

from ostwald.io.structures import Structure, StructureError, species_of
from ostwald.io.table import LineReader, format_table, parse_table

_INTEGERS = {"id", "type", "ix", "iy", "iz", "mol", "proc", "procp1"}
_WORDS = {"element", "typelabel"}
_POSITIONS = (("x", "y", "z"), ("xu", "yu", "zu"), ("xs", "ys", "zs"), ("xsu", "ysu", "zsu"))


def frames(path, index=None, species=None):
    """The frames of a dump, one in memory at a time; only frame `index` where given. Atoms are sorted by id.

    species: the symbols of types 1, 2, ...; otherwise from the column element or typelabel, or the type numbers.
    A frame cut short at the end of the file, as a killed job leaves it, is left out.
    """
    from ostwald.io.structures import opened

    kept = []
    with opened(path) as file:
        lines = LineReader(file)
        number = -1
        while (frame := _frame(lines, path, species, skip=index is not None and 0 <= index != number + 1)) is not False:
            number += 1
            if index is None:
                yield frame()
            elif index < 0:
                kept = [*kept, frame][index:]
            elif number == index:
                yield frame()
                return
    if index is not None and index < 0 and len(kept) == -index:
        yield kept[0]()


def _frame(lines, path, species, skip):
    """A function that makes the next frame's Structure; False at the end of the file."""
    info, count, matrix, origin, periodic = {}, None, None, None, np.ones(3, bool)
    while (line := lines.line()) is not None:
        at = lines.number
        if not line and lines.at_end():
            return False
        if not line.startswith("ITEM:"):
            raise StructureError(f"{path}, line {at}: 'ITEM: ...' expected, not '{line[:40]}'")
        item = line[5:].strip()
        try:
            if item == "TIMESTEP":
                info["step"] = int(_next(lines))
            elif item == "TIME":
                info["time"] = float(_next(lines))
            elif item == "UNITS":
                info["units"] = _next(lines)
            elif item == "NUMBER OF ATOMS":
                count = int(_next(lines))
            elif item.startswith("BOX BOUNDS"):
                rows = [[float(word) for word in _next(lines).split()] for _ in range(3)]
                matrix, origin, periodic = _box(item[10:].split(), rows)
            elif item.startswith("ATOMS"):
                if count is None or matrix is None:
                    raise ValueError("ATOMS before NUMBER OF ATOMS and BOX BOUNDS")
                first = lines.number + 1
                block = lines.lines(count)
                if block is None or (count and not block.endswith(b"\n")):
                    return False
                if skip:
                    return lambda: None
                names = item.split()[1:]
                return lambda: _structure(path, block, names, count, first, info, matrix, origin, periodic, species)
            else:
                raise ValueError(f"unknown item '{item[:40]}'")
        except (ValueError, IndexError) as error:
            if lines.at_end():  # the file ends inside a header
                return False
            raise (
                error if isinstance(error, StructureError) else StructureError(f"{path}, line {at}: {error}")
            ) from None
    return False


def _next(lines) -> str:
    line = lines.line()
    if line is None:
        raise ValueError("the file ends")
    return line


def _box(words, rows):
    """Cell, origin and periodicity from BOX BOUNDS; triclinic cells are given by their bounding box."""
    flags = [w for w in words if len(w) == 2 and set(w) <= set("pfsm")]
    periodic = np.array([flag == "pp" for flag in flags] or [True] * 3)
    if "abc" in words and "origin" in words:  # general triclinic: a, b, c and the origin
        rows = np.array(rows)
        return rows[:, :3], rows[:, 3], periodic
    lo, hi = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    if "xy" in words:
        xy, xz, yz = (row[2] for row in rows)
        lo[0] -= min(0.0, xy, xz, xy + xz)
        hi[0] -= max(0.0, xy, xz, xy + xz)
        lo[1] -= min(0.0, yz)
        hi[1] -= max(0.0, yz)
        matrix = np.diag(hi - lo)
        matrix[1, 0], matrix[2, 0], matrix[2, 1] = xy, xz, yz
        return matrix, lo, periodic
    return np.diag(hi - lo), lo, periodic


def _structure(path, block, names, count, first, info, matrix, origin, periodic, species):
    kinds = "".join("i" if n in _INTEGERS else "s" if n in _WORDS else "f" for n in names)
    columns = dict(zip(names, parse_table(block, kinds, count, str(path), first)))
    if "id" in columns:
        order = np.argsort(columns["id"], kind="stable")
        columns = {name: column[order] for name, column in columns.items()}
    for triple in _POSITIONS:
        if set(triple) <= set(columns):
            x = _take(columns, triple)
            break
    else:
        raise StructureError(f"{path}, line {first - 1}: no positions among the columns {' '.join(names)}")
    if triple[0].startswith("xs"):
        x = x @ matrix + origin
    types = columns.pop("type", None)
    labels = columns.pop("element", None)
    labels = columns.pop("typelabel", None) if labels is None else labels
    if types is not None and species is not None:
        if types.max(initial=0) > len(species):
            raise StructureError(f"{path}: type {types.max()} but {len(species)} species given")
        kinds, names_of = types - 1, tuple(species)
    elif labels is not None:
        names_of, kinds = species_of(labels)
    elif types is not None:
        kinds, names_of = types - 1, tuple(str(k) for k in range(1, int(types.max(initial=1)) + 1))
    else:
        kinds, names_of = np.zeros(count, np.int32), tuple(species or "1")[:1]
    images = None
    if {"ix", "iy", "iz"} <= set(columns):
        images = _take(columns, ("ix", "iy", "iz")).astype(np.int32)
        images = None if triple[0] in ("xu", "xsu") else images
    velocities = _take(columns, ("vx", "vy", "vz")) if {"vx", "vy", "vz"} <= set(columns) else None
    ids = columns.pop("id", None)
    arrays = {}
    if {"fx", "fy", "fz"} <= set(columns):
        arrays["forces"] = _take(columns, ("fx", "fy", "fz"))
    arrays |= columns
    return Structure(x, matrix, names_of, kinds, origin, periodic, velocities, ids, images, None, arrays, dict(info))


def _take(columns, names):
    return np.stack([columns.pop(name) for name in names], axis=1)


def formatted(structure: Structure) -> bytes:
    """One frame. A cell that LAMMPS cannot hold as it stands is rotated, with all vectors, as in a data file."""
    from ostwald.io.lammps_data import lower_triangular

    s = structure
    lower, rotation = lower_triangular(s.matrix)
    turn = (lambda a: a) if np.array_equal(rotation, np.eye(3)) else (lambda a: a @ rotation)
    origin = s.origin @ rotation
    lengths = lower.diagonal()
    xy, xz, yz = lower[1, 0], lower[2, 0], lower[2, 1]
    flags = " ".join("pp" if p else "ff" for p in s.periodic)
    lo, hi = origin.copy(), origin + lengths
    out = [f"ITEM: TIMESTEP\n{int(s.info.get('step', 0))}"]
    if "time" in s.info:
        out.append(f"ITEM: TIME\n{float(s.info['time'])!r}")
    out.append(f"ITEM: NUMBER OF ATOMS\n{len(s)}")
    if np.any((xy, xz, yz)):
        lo[0] += min(0.0, xy, xz, xy + xz)
        hi[0] += max(0.0, xy, xz, xy + xz)
        lo[1] += min(0.0, yz)
        hi[1] += max(0.0, yz)
        out.append(f"ITEM: BOX BOUNDS xy xz yz {flags}")
        out += [f"{float(a)!r} {float(b)!r} {float(t)!r}" for a, b, t in zip(lo, hi, (xy, xz, yz))]
    else:
        out.append(f"ITEM: BOX BOUNDS {flags}")
        out += [f"{float(a)!r} {float(b)!r}" for a, b in zip(lo, hi)]
    ids = s.ids if s.ids is not None else np.arange(1, len(s) + 1)
    columns = [("id", ids), ("type", s.types + 1), ("element", s.symbols)]
    columns.append(("x y z", turn(s.positions)))
    if s.images is not None:
        columns.append(("ix iy iz", s.images))
    if s.velocities is not None:
        columns.append(("vx vy vz", turn(s.velocities)))
    for name, array in s.arrays.items():
        array = np.asarray(array)
        if array.ndim > 2 or array.dtype.kind not in "fiub":
            continue
        if name == "forces":
            columns.append(("fx fy fz", turn(array)))
        elif array.ndim == 1:
            columns.append((name, array))
        else:
            columns.append((" ".join(f"{name}[{k}]" for k in range(1, array.shape[1] + 1)), array))
    out.append("ITEM: ATOMS " + " ".join(c[0] for c in columns) + "\n")
    return "\n".join(out).encode() + (format_table([c[1] for c in columns]) if len(s) else b"")
