"""Triangle meshes from STL (binary and text) and OBJ files."""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np


class MeshError(ValueError):
    """A mesh cannot be read; one sentence that names the file, the line or the facet, and the reason."""


def read_mesh(path) -> np.ndarray:
    """Corners (m, 3, 3) of the triangles of a file, in its units and order. Polygons of an OBJ become fans of triangles.

    The kind is told by content, OBJ by its suffix. MeshError where it is none of these or damaged.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MeshError(f"{path}: cannot be read ({error.strerror})") from None
    if path.suffix.lower() == ".obj":
        triangles = _read_obj(path, data)
    elif len(data) >= 84 and len(data) == 84 + 50 * int.from_bytes(data[80:84], "little"):
        triangles = _read_binary(path, data)
    elif data.lstrip()[:5].lower() == b"solid":
        triangles = _read_text(path, data)
    elif len(data) >= 84 and (count := int.from_bytes(data[80:84], "little")) * 50 < 4 * len(data) and b"\0" in data:
        raise MeshError(f"{path}: a binary STL of {count} facets has {84 + 50 * count} bytes, this file {len(data)}")
    else:
        raise MeshError(f"{path}: neither an STL nor, by its suffix, an OBJ file")
    if not len(triangles):
        raise MeshError(f"{path}: there are no facets")
    return triangles


def _read_binary(path, data):
    facets = np.frombuffer(
        data, np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("bytes", "<u2")]), offset=84
    )
    triangles = facets["corners"].astype(float)
    bad = np.flatnonzero(~np.isfinite(triangles).all(axis=(1, 2)))
    if len(bad):
        raise MeshError(f"{path}: facet {bad[0] + 1} has a coordinate that is not finite")
    return triangles


def _numbers(path, lines, places, first) -> np.ndarray:
    """(n, 3) numbers: three words from word `first` on of the lines at these places."""
    words = [lines[place].split()[first : first + 3] for place in places]
    try:
        out = np.array(words, float).reshape(-1, 3)
    except ValueError:
        out = None
    if out is None or not np.isfinite(out).all():
        for place, three in zip(places, words):
            try:
                good = len(three) == 3 and np.isfinite([float(word) for word in three]).all()
            except ValueError:
                good = False
            if not good:
                raise MeshError(f"{path}, line {place + 1}: three coordinates expected, got '{_shown(lines[place])}'")
    return out


def _shown(line: bytes) -> str:
    return line.decode(errors="replace").strip()[:60]


def _read_text(path, data):
    lines = data.splitlines()
    loop = [b"facet", b"outer", b"vertex", b"vertex", b"vertex", b"endloop", b"endfacet"]
    at, vertices = 0, []
    for place, line in enumerate(lines):
        word = line.split(None, 1)[0].lower() if line.strip() else b""
        if not word or (at == 0 and word in (b"solid", b"endsolid")):
            continue
        if word != loop[at]:
            raise MeshError(f"{path}, line {place + 1}: '{loop[at].decode()}' expected, got '{_shown(line)}'")
        if word == b"vertex":
            vertices.append(place)
        at = (at + 1) % len(loop)
    if at:
        raise MeshError(f"{path}, line {len(lines)}: the file ends within a facet")
    return _numbers(path, lines, vertices, 1).reshape(-1, 3, 3)


_INDEX = re.compile(rb"^(-?\d+)(?:/-?\d*)*$")


def _read_obj(path, data):
    lines = data.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ").splitlines()
    places, faces = [], []
    for place, line in enumerate(lines):
        if line.startswith((b"v ", b"v\t")):
            places.append(place)
        elif line.startswith((b"f ", b"f\t")):
            faces.append((place, len(places)))
    vertices = _numbers(path, lines, places, 1)
    corners = []
    for place, known in faces:
        face = []
        for word in lines[place].split()[1:]:
            match = _INDEX.match(word)
            number = int(match[1]) if match else 0
            number = known + number if number < 0 else number - 1
            if not match or match[1] == b"0" or not 0 <= number < len(vertices):
                raise MeshError(f"{path}, line {place + 1}: there is no vertex '{word.decode(errors='replace')}'")
            face.append(number)
        if len(face) < 3:
            raise MeshError(
                f"{path}, line {place + 1}: a face has three vertices or more, got '{_shown(lines[place])}'"
            )
        corners += [(face[0], a, b) for a, b in pairwise(face[1:])]
    return vertices[np.array(corners, np.int64).reshape(-1, 3)]
