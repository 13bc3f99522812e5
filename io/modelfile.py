"""Trained models in one file each: what the project learns, with all that is needed to use it and to know where it came from.

The first 512 bytes (the user block of HDF5) are text: "Ostwald model" and a line of JSON with

    format   version of this layout              hash     SHA-256 of kind, description and arrays
    kind     what it holds ("hdnnp", …)          sha256   of all bytes behind these 512

The rest is an HDF5 file:

    /description      JSON         what the arrays mean: sizes, names, settings
    /provenance       JSON         how the model was made; says nothing that the model depends on
    /arrays/<name>    any shape    parameters

The hash covers nothing of provenance: the same model has the same one, whoever made it. Both sums are compared whenever a
file is read, the one of all bytes before HDF5 sees them, which may crash over a damaged file.
"""

import hashlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ostwald.io.shared import replace_file, sentence

FORMAT = 1
SUFFIX = ".ostwald"
_HEADER = 512  # bytes
_MARK = b"Ostwald model\n"


class ModelFileError(ValueError):
    """A model could not be written or read; one sentence that names the file and the reason."""


@dataclass(frozen=True)
class ModelFile:
    """What a file holds. description, provenance: as given, through JSON; arrays: name -> array, bit for bit; hash: 64
    hexadecimal digits."""

    path: Path
    kind: str
    description: dict
    arrays: dict[str, np.ndarray]
    provenance: dict
    hash: str


def write_model(path, kind: str, description: dict, arrays: dict, provenance: dict) -> str:
    """Writes a model, whole or not at all, in place of an earlier file; returns its hash. For one rank.

    description, provenance: numbers, strings, None, lists, dicts with names of text. arrays: of numbers, names without "/".
    ModelFileError where they are not, or where the file cannot be written (what was there then stays).
    """
    path = Path(path)
    try:
        texts = {name: _json(value) for name, value in (("description", description), ("provenance", provenance))}
        arrays = {name: _array(name, arrays[name]) for name in sorted(arrays)}
        found = _hash(kind, texts["description"], arrays)
        body = _body(texts, arrays)
        header = {"format": FORMAT, "kind": kind, "hash": found, "sha256": hashlib.sha256(body).hexdigest()}
        first = (_MARK + _json(header) + b"\n").ljust(_HEADER, b"\0")
        if len(first) != _HEADER:
            raise ValueError(f"its kind has a name of {len(kind)} letters")
        replace_file(path, first + body)
    except (OSError, TypeError, ValueError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else sentence(error)
        raise ModelFileError(f"{path}: the model was not written: {reason}") from error
    return found


def read_model(path) -> ModelFile:
    """Reads a model and verifies it. ModelFileError where it is not a model, or damaged."""
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(sentence(error)) from error
    header, body = _header(content), content[_HEADER:]
    if header is None:
        raise ModelFileError(f"{path}: not a model file of Ostwald, or damaged at its beginning")
    if header["format"] > FORMAT:
        raise ModelFileError(f"{path}: written by a newer version (format {header['format']}, known {FORMAT})")
    if hashlib.sha256(body).hexdigest() != header["sha256"]:
        raise ModelFileError(f"{path}: the file is damaged or cut short")
    with h5py.File(io.BytesIO(content), "r") as file:
        description, provenance = (file[name][()].tobytes() for name in ("description", "provenance"))
        arrays = {name: dataset[()] for name, dataset in file["arrays"].items()}
    found = _hash(header["kind"], description, arrays)
    if found != header["hash"]:
        raise ModelFileError(f"{path}: the file is damaged at its beginning")
    return ModelFile(path, header["kind"], json.loads(description), arrays, json.loads(provenance), found)


def model_kind(path) -> str | None:
    """The kind of a model file; None of any other file."""
    try:
        with open(path, "rb") as file:
            header = _header(file.read(_HEADER))
    except OSError:
        return None
    return header and header["kind"]


def _header(content: bytes) -> dict | None:
    """The line of JSON at the beginning, complete; None where there is none."""
    if not content.startswith(_MARK):
        return None
    try:
        header = json.loads(content[len(_MARK) : _HEADER].rstrip(b"\0"))
        types = {"format": int, "kind": str, "hash": str, "sha256": str}
        return header if all(type(header[name]) is type_ for name, type_ in types.items()) else None
    except (ValueError, KeyError, TypeError):
        return None


def _body(texts: dict, arrays: dict) -> bytes:
    """The HDF5 file, all but its user block."""
    image = io.BytesIO()
    with h5py.File(image, "w", userblock_size=_HEADER) as file:
        for name, text in texts.items():
            file[name] = np.frombuffer(text, np.uint8)
        group = file.create_group("arrays")
        for name, array in arrays.items():
            group[name] = array
    return image.getvalue()[_HEADER:]


def _json(value) -> bytes:
    """The same bytes for the same content, in whatever order a dict was filled."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_number).encode()


def _number(value):
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__} has no place in its description or provenance")


def _array(name, values) -> np.ndarray:
    array = np.asarray(values)
    if not name or "/" in name or name in (".", ".."):
        raise ValueError(f"an array cannot be named '{name}'")
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name} is not an array of numbers")
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)


def _hash(kind: str, description: bytes, arrays: dict) -> str:
    digest = hashlib.sha256(json.dumps([kind, len(description)]).encode())
    digest.update(description)
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
