"""LAMMPS data files, read and written: atomic and charge styles, masses, triclinic cells, velocities, images, labels.

Format: https://docs.lammps.org/read_data.html, https://docs.lammps.org/Howto_triclinic.html. Units: metal (Å, ps, amu).
"""

import re

import numpy as np

from ostwald.io.structures import Structure, StructureError
from ostwald.io.table import format_table, parse_table

_SECTIONS = (
    "Atoms|Velocities|Masses|Atom Type Labels|Bond Type Labels|Angle Type Labels|Dihedral Type Labels|"
    "Improper Type Labels|Bonds|Angles|Dihedrals|Impropers|Ellipsoids|Lines|Triangles|Bodies|"
    "Pair Coeffs|PairIJ Coeffs|Bond Coeffs|Angle Coeffs|Dihedral Coeffs|Improper Coeffs"
)
_SECTION = re.compile(rf"[ \t]*({_SECTIONS})[ \t]*(?:#[ \t]*([^\n]*?))?[ \t\r]*$".encode(), re.M)
_CAPITAL = re.compile(rb"\n[ \t]*[A-Z]")
_NUMBER = r"([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)"
_STYLES = {"atomic": "ii", "charge": "iif"}  # columns before x y z


def read(path, species=None) -> Structure:
    """The atoms of a data file, sorted by id.

    species: the symbols of types 1, 2, ...; otherwise taken from Atom Type Labels, from the comments behind the masses,
    from the masses themselves, or else the type numbers as words. StructureError names file and line.
    """
    from ostwald.io.structures import opened

    with opened(path) as file:
        data = file.read()
    data = data.replace(b"\r\n", b"\n") if b"\r" in data[:4096] else data
    # lines that begin with a capital are few; only those are looked at closely
    found = [match for start in _CAPITAL.finditer(data) if (match := _SECTION.match(data, start.start() + 1))]
    header_end = found[0].start() if found else len(data)
    header = _header(data[:header_end].decode(errors="replace"), path)
    sections = {}
    for match, following in zip(found, [*found[1:], None]):
        name = match[1].decode()
        if name in sections:
            raise StructureError(f"{path}, line {_line(data, match.start())}: a second section {name}")
        sections[name] = (match.end() + 1, following.start() if following else len(data), (match[2] or b"").decode())
    if "Atoms" not in sections and header["atoms"]:
        raise StructureError(f"{path}: has no section Atoms")

    count, ntypes = header["atoms"], header["types"]
    labels = _labels(data, sections, path, ntypes)
    start, end, style = sections.get("Atoms", (0, 0, ""))
    block, first = _block(data, start, end)
    style = (style.split() or [""])[0] or _guess_style(block)
    if style not in _STYLES:
        raise StructureError(
            f"{path}, line {_line(data, start) - 1}: atom style '{style}' is not known (atomic, charge)"
        )
    block = _expand_labels(block, labels)
    lead = _STYLES[style]
    width = len(block.split(b"\n", 1)[0].split())
    kinds = lead + "fff" + ("iii" if width >= len(lead) + 6 else "")
    columns = parse_table(block, kinds, count, str(path), first)
    ids, types = columns[0], columns[1]
    if count and not (types.min() >= 1 and types.max() <= ntypes):
        row = int(np.flatnonzero((types < 1) | (types > ntypes))[0])
        raise StructureError(f"{path}, line {first + row}: type {types[row]} of {ntypes} atom types")
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    twice = ids[:-1][ids[1:] == ids[:-1]]
    if len(twice):
        raise StructureError(f"{path}: atom id {twice[0]} occurs twice")
    x = np.stack(columns[len(lead) : len(lead) + 3], axis=1)[order]
    images = np.stack(columns[-3:], axis=1)[order].astype(np.int32) if len(kinds) > len(lead) + 3 else None
    arrays = {"charges": columns[2][order]} if style == "charge" else {}

    velocities = None
    if "Velocities" in sections:
        block, first = _block(data, *sections["Velocities"][:2])
        vid, *v = parse_table(block, "ifff", count, str(path), first)
        by_id = np.argsort(vid, kind="stable")
        if not np.array_equal(vid[by_id], ids):
            raise StructureError(f"{path}: the ids of the sections Velocities and Atoms differ")
        velocities = np.stack(v, axis=1)[by_id]
    masses, comments = _masses(data, sections, path, ntypes, labels)
    names = _species(species, labels, comments, masses, ntypes, path)
    return Structure(
        positions=x,
        matrix=header["matrix"],
        origin=header["origin"],
        species=names,
        types=types[order] - 1,
        velocities=velocities,
        ids=ids,
        images=images,
        masses=masses,
        arrays=arrays,
    )


def formatted(structure: Structure, title: str = "written by Ostwald") -> bytes:
    """A data file, atom style atomic (charge where arrays has "charges"), with masses, labels as comments, images,
    velocities. A cell that LAMMPS cannot hold as it stands (a not along x, or b not in the xy plane) is rotated, and
    positions and velocities with it."""
    s = structure
    lower, rotation = lower_triangular(s.matrix)
    origin = s.origin @ rotation
    x, v = s.positions, s.velocities
    if not np.array_equal(rotation, np.eye(3)):
        x, v = x @ rotation, None if v is None else v @ rotation
    lx, ly, lz = lower.diagonal()
    xy, xz, yz = lower[1, 0], lower[2, 0], lower[2, 1]
    head = [f"LAMMPS data file, {title}", "", f"{len(s)} atoms", f"{len(s.species)} atom types", ""]
    for lo, length, axis in zip(origin, (lx, ly, lz), "xyz"):
        head.append(f"{float(lo)!r} {float(lo + length)!r} {axis}lo {axis}hi")
    if np.any((xy, xz, yz)):
        head.append(f"{float(xy)!r} {float(xz)!r} {float(yz)!r} xy xz yz")
    masses = s.masses if s.masses is not None else _standard_masses(s.species)
    if masses is not None:
        head += ["", "Masses", ""] + [f"{k} {m:.10g}  # {n}" for k, (m, n) in enumerate(zip(masses, s.species), 1)]
    charges = s.arrays.get("charges")
    head += ["", f"Atoms  # {'atomic' if charges is None else 'charge'}", "", ""]
    ids = s.ids if s.ids is not None else np.arange(1, len(s) + 1)
    if len(ids) and ids.min() == 0:
        ids = ids + 1
    columns = [ids, s.types + 1]
    if charges is not None:
        columns.append(charges)
    columns.append(x)
    if s.images is not None:
        columns.append(s.images)
    out = "\n".join(head).encode() + (format_table(columns) if len(s) else b"")
    if v is not None:
        out += b"\nVelocities\n\n" + format_table([ids, v])
    return out


def lower_triangular(matrix) -> tuple[np.ndarray, np.ndarray]:
    """The cell as LAMMPS wants it (a along x, b in the xy plane, positive diagonal) and R: matrix @ R = that cell."""
    if np.linalg.det(matrix) <= 0:
        raise StructureError("the cell is left-handed or flat; LAMMPS needs a right-handed one")
    if not np.any(np.triu(matrix, 1)) and np.all(matrix.diagonal() > 0):
        return np.array(matrix, float), np.eye(3)
    q, r = np.linalg.qr(np.asarray(matrix, float).T)  # matrix.T = q r, so matrix q = r.T
    signs = np.sign(r.diagonal())
    return np.tril((r * signs[:, None]).T), q * signs


# --- inside


def _line(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1


def _header(text, path):
    out = {"atoms": 0, "types": 0}
    bounds, tilt, vectors = {}, None, {}
    for number, line in enumerate(text.splitlines()[1:], 2):
        line = line.split("#")[0].strip()
        if not line:
            continue
        try:
            if match := re.fullmatch(r"(\d+)\s+(atoms|atom types)", line):
                out[match[2].split()[-1]] = int(match[1])
            elif match := re.fullmatch(rf"{_NUMBER}\s+{_NUMBER}\s+([xyz])lo\s+\3hi", line):
                bounds[match[3]] = (float(match[1]), float(match[2]))
            elif match := re.fullmatch(rf"{_NUMBER}\s+{_NUMBER}\s+{_NUMBER}\s+xy\s+xz\s+yz", line):
                tilt = [float(g) for g in match.groups()]
            elif match := re.fullmatch(rf"{_NUMBER}\s+{_NUMBER}\s+{_NUMBER}\s+([abc]vec|abc\s+origin)", line):
                vectors[match[4].split()[0]] = [float(g) for g in match.groups()[:3]]
            elif not re.fullmatch(r"[-+0-9.eE\s]+[A-Za-z][A-Za-z /]*", line):
                raise StructureError(
                    f"{path}, line {number}: '{line[:60]}' is neither a header line nor a known section"
                )
        except ValueError as error:
            raise (
                error if isinstance(error, StructureError) else StructureError(f"{path}, line {number}: {error}")
            ) from None
    if {"avec", "bvec", "cvec"} <= set(vectors):
        out["matrix"] = np.array([vectors["avec"], vectors["bvec"], vectors["cvec"]])
        out["origin"] = np.array(vectors.get("abc", [0.0, 0.0, 0.0]))
    else:
        missing = [axis for axis in "xyz" if axis not in bounds]
        if missing:
            raise StructureError(f"{path}: no line '{missing[0]}lo {missing[0]}hi' in the header")
        out["origin"] = np.array([bounds[axis][0] for axis in "xyz"])
        out["matrix"] = np.diag([bounds[axis][1] - bounds[axis][0] for axis in "xyz"])
        if tilt:
            out["matrix"][1, 0], out["matrix"][2, 0], out["matrix"][2, 1] = tilt
    if np.linalg.det(out["matrix"]) <= 0:
        raise StructureError(f"{path}: the box has no volume or is left-handed")
    if out["types"] < 1:
        raise StructureError(f"{path}: no line 'N atom types' in the header")
    return out


def _block(data, start, end):
    """The lines of a section without the blank ones around it and without comments; the number of its first line."""
    while start < end and (stop := data.find(b"\n", start, end)) >= 0 and not data[start:stop].strip():
        start = stop + 1
    block = data[start:end].rstrip()
    if b"#" in block:
        block = re.sub(rb"#[^\n]*", b"", block)
    return block + b"\n" if block else b"", _line(data, start)


def _small(data, sections, name):
    """The lines of a small section: (line number, words, comment)."""
    if name not in sections:
        return
    start, end, _ = sections[name]
    first = _line(data, start)
    for number, line in enumerate(data[start:end].decode(errors="replace").splitlines(), first):
        text, _, comment = line.partition("#")
        if text.strip():
            yield number, text.split(), comment.strip()


def _labels(data, sections, path, ntypes):
    labels = {}
    for number, words, _ in _small(data, sections, "Atom Type Labels"):
        if len(words) < 2 or not words[0].isdigit() or not 1 <= int(words[0]) <= ntypes:
            raise StructureError(f"{path}, line {number}: 'TYPE LABEL' expected with a type from 1 to {ntypes}")
        labels[words[1]] = int(words[0])
    return labels


def _expand_labels(block, labels):
    """Type labels in the Atoms section become numbers."""
    if not labels or not (words := block.split(b"\n", 1)[0].split()) or len(words) < 2:
        return block
    if re.fullmatch(rb"\d+", words[1]):
        return block
    return re.sub(
        rb"^(\s*\d+\s+)(\S+)",
        lambda m: m[1] + str(labels.get(m[2].decode(errors="replace"), 0)).encode(),
        block,
        flags=re.M,
    )


def _guess_style(block):
    """Without a comment behind 'Atoms': by the number of columns. atomic has 5 or 8, charge 6 or 9."""
    width = len(block.split(b"\n", 1)[0].split())
    return "charge" if width in (6, 9) else "atomic"


def _masses(data, sections, path, ntypes, labels):
    masses, comments = {}, {}
    for number, words, comment in _small(data, sections, "Masses"):
        try:
            kind = int(words[0]) if words[0].isdigit() else labels[words[0]]
            masses[kind] = float(words[1])
        except (ValueError, IndexError, KeyError):
            raise StructureError(f"{path}, line {number}: 'TYPE MASS' expected, not '{' '.join(words)[:40]}'") from None
        if not 1 <= kind <= ntypes or not masses[kind] > 0:
            raise StructureError(f"{path}, line {number}: type {kind} of {ntypes}, mass {masses[kind]}")
        comments[kind] = comment
    if masses and len(masses) != ntypes:
        raise StructureError(f"{path}: {len(masses)} masses for {ntypes} atom types")
    return (np.array([masses[k] for k in range(1, ntypes + 1)]) if masses else None), comments


def _species(given, labels, comments, masses, ntypes, path):
    from ase.data import atomic_masses, chemical_symbols

    if given is not None:
        if len(given) < ntypes:
            raise StructureError(f"{path}: {len(given)} species given for {ntypes} atom types")
        return tuple(given)[:ntypes]
    by_type = {kind: label for label, kind in labels.items()}
    out = []
    for kind in range(1, ntypes + 1):
        words = comments.get(kind, "").split()
        if kind in by_type:
            out.append(by_type[kind])
        elif words and words[0] in chemical_symbols:
            out.append(words[0])
        elif (
            masses is not None
            and (z := int(np.abs(atomic_masses[1:] - masses[kind - 1]).argmin()) + 1)
            and (abs(atomic_masses[z] - masses[kind - 1]) < 0.02)
        ):
            out.append(chemical_symbols[z])
        else:
            out.append(str(kind))
    return tuple(out) if len(set(out)) == len(out) else tuple(str(k) for k in range(1, ntypes + 1))


def _standard_masses(species):
    from ase.data import atomic_masses, atomic_numbers

    return [atomic_masses[atomic_numbers[s]] for s in species] if all(s in atomic_numbers for s in species) else None
