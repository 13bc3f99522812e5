"""Checkpoints: the whole state of a run in one HDF5 file that is either complete and verified or not used.

Layout of `checkpoint-<step>.h5`:

    /data/<name>     (rows, ...)    the arrays of all ranks one after another, contiguous: in rank order, or in the
                                    order of the first rows that the ranks give (`starts`)
    /manifest        JSON           step, meta, and for each array dtype, rows of each rank and the first of them, CRC-32 of
                                    each rank's bytes
    manifest_crc     attribute      CRC-32 of the manifest

Arrays inside `meta` are written into the manifest as base64, bit for bit. The file is written under a temporary name,
flushed to the disk and renamed; the directory is flushed; then all but the newest two are removed. So whatever happens,
and whenever, at least the last complete checkpoint stays.
"""

import base64
import json
import os
import re
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ostwald.io.image import Image, contiguous
from ostwald.io.shared import SharedFile, agree, sentence, sync_directory

FORMAT = 1
KEEP = 2  # generations
_NAME = re.compile(r"checkpoint-(\d+)\.h5$")
_BLOCK = 64 << 20  # bytes read at a time while verifying


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; the message is one sentence that names the file and the reason."""


@dataclass(frozen=True)
class CheckpointInfo:
    """What is known of a checkpoint without loading it."""

    path: Path
    step: int
    time: float | None  # meta["time"], where the writer gave it
    rows: int  # of the first array: the number of atoms
    ranks: int
    size: int  # bytes on disk
    valid: bool
    reason: str  # why it is not valid, or ""
    grid: tuple | None = None  # meta["grid"]: the points along each axis, where it holds fields instead of atoms


@dataclass(frozen=True)
class Checkpoint:
    path: Path
    step: int
    ranks: int  # that wrote it
    same_ranks: bool  # True: `arrays` are bit for bit what this rank wrote, in its order
    arrays: dict  # name -> this rank's rows
    meta: dict
    messages: tuple  # why newer checkpoints were passed over


def write_checkpoint(directory, world, arrays: dict, meta: dict, step: int, starts: dict | None = None) -> Path:
    """Collective: writes `arrays` (name -> this rank's rows, the same names and row shapes on every rank) and `meta`.

    meta: numbers, strings, None, lists, dicts and small arrays, the same on every rank (rank 0's is written).
    starts: name -> the place of this rank's first row among the rows of all ranks, which together must be all rows once;
    for arrays whose rows have an order of their own. Other arrays are kept in rank order.
    Returns the path. Where any rank fails, every rank raises the same error (world.agree), nothing of the new
    checkpoint is left and the older ones are untouched.
    """
    directory = Path(directory)
    path = directory / f"checkpoint-{int(step):012d}.h5"
    part = path.with_name(f".{path.name}.part")
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    mine = [
        (name, a.dtype.str, a.shape[1:], a.shape[0], zlib.crc32(_bytes(a)), (starts or {}).get(name))
        for name, a in arrays.items()
    ]
    everyone = world.allgather(mine)
    error = None
    offsets = begins = None
    if world.root:
        try:
            manifest = _manifest(everyone, meta, int(step))
            offsets = _create(part, manifest)
            begins = {name: entry["starts"] for name, entry in manifest["arrays"].items()}
        except Exception as caught:
            error = caught
    try:
        _agree(world, error, path)
        offsets, begins = world.bcast((offsets, begins))
        try:
            file = SharedFile(part)
            try:
                for name, array in arrays.items():
                    file.write(offsets[name] + begins[name][world.rank] * _row_bytes(array), array)
                file.sync()
            finally:
                file.close()
        except Exception as caught:
            error = caught
        _agree(world, error, path)
        if world.root:
            try:
                os.replace(part, path)
                sync_directory(directory)
            except Exception as caught:
                error = caught
        _agree(world, error, path)
    except BaseException:
        if world.root:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        raise
    if world.root:
        _prune(directory, path)
    return path


def read_checkpoint(directory, world, path=None, targets=None, convert=None) -> Checkpoint:
    """Collective: the newest valid checkpoint of a directory (or the file `path`, which then must be valid).

    On the rank count that wrote it every rank gets exactly its rows, in their order; on another one the rows are split
    evenly. Every byte is verified first. A damaged checkpoint is passed over for the one before, which `messages`
    tells. CheckpointError on every rank where none is left.
    targets: name -> (first, array): rows first, first + 1, … of all ranks' are read into this array, on any rank count and
    without a copy; it is not among `arrays`.
    convert: function (target, read, shape) that fills a target whose rows have another shape than those of the array, which
    is `shape` as a whole and whose rows first ... last - 1 are read(first, last) (parallel.Fourier.fill_columns).
    """
    candidates = world.bcast([str(p) for p in ([path] if path else _files(directory)[::-1])] if world.root else None)
    messages = []
    for candidate in candidates:
        candidate = Path(candidate)
        reason, found = None, None
        try:
            found = _load(candidate, world, targets or {}, convert)
        except Exception as error:
            reason = sentence(error)
        reasons = [r for r in world.allgather(reason) if r]
        if not reasons:
            return Checkpoint(candidate, *found, messages=tuple(messages))
        text = reasons[0] if str(candidate) in reasons[0] else f"{candidate}: {reasons[0]}"
        messages.append(f"{text}; checkpoint not used")
    if not candidates:
        raise CheckpointError(f"{directory}: there is no checkpoint")
    raise CheckpointError(f"{directory}: no valid checkpoint ({'; '.join(messages)})" if not path else messages[0])


def checkpoint_info(path, verify: bool = False) -> CheckpointInfo:
    """Step, time, size and validity of one checkpoint, from its manifest; `verify` also reads every array."""
    path = Path(path)
    match = _NAME.search(path.name)
    size = path.stat().st_size if path.exists() else 0
    try:
        with h5py.File(path, "r") as file:
            manifest = _read_manifest(file, path)
            if verify:
                for name, entry in manifest["arrays"].items():
                    for rank in range(manifest["ranks"]):
                        _verify(file, path, name, entry, rank)
        rows = sum(next(iter(manifest["arrays"].values()))["rows"]) if manifest["arrays"] else 0
        meta = manifest["meta"]
        grid = tuple(meta["grid"]) if "grid" in meta else None
        return CheckpointInfo(path, manifest["step"], meta.get("time"), rows, manifest["ranks"], size, True, "", grid)
    except Exception as error:
        return CheckpointInfo(path, int(match[1]) if match else -1, None, 0, 0, size, False, sentence(error))


def list_checkpoints(directory, verify: bool = False) -> list[CheckpointInfo]:
    """The checkpoints of a directory, oldest first. Not collective."""
    return [checkpoint_info(path, verify) for path in _files(directory)]


# --- inside


def _files(directory) -> list[Path]:
    found = [(int(match[1]), p) for p in Path(directory).glob("checkpoint-*.h5") if (match := _NAME.match(p.name))]
    return [path for _, path in sorted(found)]


def _bytes(array):
    return memoryview(array.reshape(-1).view(np.uint8)) if array.size else b""


def _row_bytes(array) -> int:
    return array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))


def _agree(world, error, path):
    agree(world, error, path, "the checkpoint was not written", CheckpointError)


def _manifest(everyone, meta, step) -> dict:
    signature = [entry[:3] for entry in everyone[0]]
    for rank, entries in enumerate(everyone):
        if [entry[:3] for entry in entries] != signature:
            raise CheckpointError(f"rank {rank} gives other arrays to the checkpoint than rank 0")
    arrays = {
        name: {
            "dtype": dtype,
            "shape": list(shape),
            "rows": [entries[i][3] for entries in everyone],
            "crc": [entries[i][4] for entries in everyone],
            "starts": _starts(name, [entries[i][3] for entries in everyone], [entries[i][5] for entries in everyone]),
        }
        for i, (name, dtype, shape) in enumerate(signature)
    }
    return {"format": FORMAT, "step": step, "ranks": len(everyone), "arrays": arrays, "meta": _encode(meta)}


def _starts(name, rows, given) -> list[int]:
    """The first row of each rank; those that are given must put all rows in their places once."""
    if given[0] is None:
        return [sum(rows[:rank]) for rank in range(len(rows))]
    starts, end = [int(start) for start in given], 0
    for start, count in sorted(zip(starts, rows)):
        if start != end and count:
            raise CheckpointError(f"the rows of {name} that the ranks give to the checkpoint overlap or leave gaps")
        end += count
    return starts


def _create(part: Path, manifest: dict) -> dict:
    """An empty checkpoint with all space allocated. Returns name -> offset of the array's bytes in the file."""
    text = np.frombuffer(json.dumps(manifest).encode(), np.uint8)
    offsets = {}
    image = Image()
    # the newest metadata format, because it carries checksums
    with h5py.File(image, "w", libver="latest") as file:
        file.attrs["manifest_crc"] = zlib.crc32(text)
        file["manifest"] = text
        data = file.create_group("data")
        for name, entry in manifest["arrays"].items():
            shape = (sum(entry["rows"]), *entry["shape"])
            dataset = contiguous(data, name, shape, entry["dtype"])
            offsets[name] = dataset.id.get_offset() or 0  # None where there are no rows
    image.save(part)
    return offsets


def _prune(directory: Path, newest: Path) -> None:
    """Keeps the new checkpoint and the newest before it. Later steps belong to a future that the run went back from."""
    older = [path for path in _files(directory) if path.name < newest.name]
    keep = {newest, *older[-(KEEP - 1) :]}
    for path in [p for p in _files(directory) if p not in keep] + list(directory.glob(".checkpoint-*.part")):
        with suppress(OSError):  # an old file that stays does no harm
            path.unlink()


def _read_manifest(file, path) -> dict:
    text = file["manifest"][()].tobytes()
    if zlib.crc32(text) != int(file.attrs["manifest_crc"]):
        raise CheckpointError(f"{path}: the manifest is damaged")
    manifest = json.loads(text)
    if manifest["format"] > FORMAT:
        raise CheckpointError(f"{path}: written by a newer version (format {manifest['format']}, known {FORMAT})")
    manifest["meta"] = _decode(manifest["meta"])
    for name, entry in manifest["arrays"].items():
        entry.setdefault("starts", [sum(entry["rows"][:rank]) for rank in range(manifest["ranks"])])
        dataset = file["data"][name]
        if dataset.shape != (sum(entry["rows"]), *entry["shape"]) or dataset.dtype.str != entry["dtype"]:
            raise CheckpointError(f"{path}: {name} is not as the manifest says")
        end = (dataset.id.get_offset() or 0) + dataset.id.get_storage_size()
        if end > path.stat().st_size:
            raise CheckpointError(f"{path}: the file is truncated")
    return manifest


def _verify(file, path, name, entry, rank, target=None):
    """Reads a rank's rows of an array block by block, into `target` where given, and compares the checksum."""
    dataset = file["data"][name]
    start = entry["starts"][rank]
    stop = start + entry["rows"][rank]
    crc = 0
    for lo, hi in _blocks(dataset, start, stop):
        block = dataset[lo:hi] if target is None else _read(dataset, lo, target[lo - start : hi - start])
        crc = zlib.crc32(_bytes(block), crc)
    if crc != entry["crc"][rank]:
        raise CheckpointError(f"{path}: {name} is damaged (checksum of rank {rank})")


def _blocks(dataset, start, stop):
    """(lo, hi) of rows that are read at a time."""
    block = max(1, _BLOCK // max(1, dataset.dtype.itemsize * int(np.prod(dataset.shape[1:], dtype=np.int64))))
    return [(lo, min(stop, lo + block)) for lo in range(start, stop, block)]


def _read(dataset, first, target):
    if len(target):
        dataset.read_direct(target, np.s_[first : first + len(target)])
    return target


def _load(path, world, targets, convert=None):
    with h5py.File(path, "r") as file:
        manifest = _read_manifest(file, path)
        same = manifest["ranks"] == world.size
        arrays = {}
        for name, entry in manifest["arrays"].items():
            dataset = file["data"][name]
            if name in targets:
                _fill(file, path, name, entry, world, same, *targets[name], convert)
                continue
            if same:
                start = entry["starts"][world.rank]
                array = dataset[start : start + entry["rows"][world.rank]]
                if zlib.crc32(_bytes(array)) != entry["crc"][world.rank]:
                    raise CheckpointError(f"{path}: {name} is damaged (checksum of rank {world.rank})")
            else:
                for rank in range(world.rank, manifest["ranks"], world.size):
                    _verify(file, path, name, entry, rank)
                total = dataset.shape[0]
                lo, hi = (total * r // world.size for r in (world.rank, world.rank + 1))
                array = dataset[lo:hi]
            arrays[name] = array
        if absent := [name for name in targets if name not in manifest["arrays"]]:
            raise CheckpointError(f"{path}: {absent[0]} is missing")
    return manifest["step"], manifest["ranks"], same, arrays, manifest["meta"]


def _fill(file, path, name, entry, world, same, first, target, convert):
    """Reads rows of an array into the target. Where they are not just those that this rank wrote, its share of all is
    verified first.
    """
    dataset = file["data"][name]
    other = convert is not None and dataset.shape[1:] != target.shape[1:] and dataset.dtype == target.dtype
    if not other and (
        dataset.shape[1:] != target.shape[1:] or dataset.dtype != target.dtype or first + len(target) > len(dataset)
    ):
        raise CheckpointError(
            f"{path}: {name} is {dataset.shape} {dataset.dtype}, not of the rows {target.shape[1:]} {target.dtype} wanted"
        )
    if same and not other and entry["starts"][world.rank] == first and entry["rows"][world.rank] == len(target):
        _verify(file, path, name, entry, world.rank, target)
        return
    for rank in range(world.rank, len(entry["rows"]), world.size):
        _verify(file, path, name, entry, rank)
    if other:
        convert(target, lambda lo, hi: dataset[lo:hi], dataset.shape)
        return
    for lo, hi in _blocks(dataset, first, first + len(target)):
        _read(dataset, lo, target[lo - first : hi - first])


def _encode(value):
    if isinstance(value, np.ndarray):
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"__array__": data, "dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, np.generic):
        return _encode(np.asarray(value))
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise CheckpointError("the keys of a checkpoint's meta data must be strings")
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode(item) for item in value]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise CheckpointError(f"a {type(value).__name__} cannot be stored in a checkpoint's meta data")


def _decode(value):
    if isinstance(value, dict):
        if "__array__" in value:
            data = base64.b64decode(value["__array__"])
            array = np.frombuffer(data, np.dtype(value["dtype"])).reshape(value["shape"]).copy()
            return array[()] if array.ndim == 0 else array
        return {key: _decode(item) for key, item in value.items()}
    return [_decode(item) for item in value] if isinstance(value, list) else value
