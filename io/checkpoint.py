"""Checkpoints: the whole state of a run in one HDF5 file that is either complete and verified or not used.

Layout of `checkpoint-<step>.h5`:

    /data/<name>     (rows, ...)    the arrays of all ranks one after another, in rank order, contiguous
    /manifest        JSON           step, meta, and for each array dtype, rows of each rank, CRC-32 of each rank's bytes
    manifest_crc     attribute      CRC-32 of the manifest

Arrays inside `meta` are written into the manifest as base64, bit for bit. The file is written under a temporary name,
flushed to the disk and renamed; the directory is flushed; then all but the newest two are removed. So whatever happens,
and whenever, at least the last complete checkpoint stays.
"""

import base64
import errno
import json
import os
import re
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ostwald.io.image import Image
from ostwald.io.shared import SharedFile, sentence, sync_directory

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


@dataclass(frozen=True)
class Checkpoint:
    path: Path
    step: int
    ranks: int  # that wrote it
    same_ranks: bool  # True: `arrays` are bit for bit what this rank wrote, in its order
    arrays: dict  # name -> this rank's rows
    meta: dict
    messages: tuple  # why newer checkpoints were passed over


def write_checkpoint(directory, world, arrays: dict, meta: dict, step: int) -> Path:
    """Collective: writes `arrays` (name -> this rank's rows, the same names and row shapes on every rank) and `meta`.

    meta: numbers, strings, None, lists, dicts and small arrays, the same on every rank (rank 0's is written).
    Returns the path. Where any rank fails, every rank raises the same error (world.agree), nothing of the new
    checkpoint is left and the older ones are untouched.
    """
    directory = Path(directory)
    path = directory / f"checkpoint-{int(step):012d}.h5"
    part = path.with_name(f".{path.name}.part")
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    mine = [(name, a.dtype.str, a.shape[1:], a.shape[0], zlib.crc32(_bytes(a))) for name, a in arrays.items()]
    everyone = world.allgather(mine)
    error = None
    offsets = None
    if world.root:
        try:
            offsets = _create(part, _manifest(everyone, meta, int(step)))
        except Exception as caught:
            error = caught
    try:
        _agree(world, error, path)
        offsets = world.bcast(offsets)
        try:
            file = SharedFile(part)
            try:
                for column, (name, array) in enumerate(arrays.items()):
                    before = sum(ranks[column][3] for ranks in everyone[: world.rank])
                    file.write(offsets[name] + before * _row_bytes(array), array)
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


def read_checkpoint(directory, world, path=None) -> Checkpoint:
    """Collective: the newest valid checkpoint of a directory (or the file `path`, which then must be valid).

    On the rank count that wrote it every rank gets exactly its rows, in their order; on another one the rows are split
    evenly. Every byte is verified first. A damaged checkpoint is passed over for the one before, which `messages`
    tells. CheckpointError on every rank where none is left.
    """
    candidates = world.bcast([str(p) for p in ([path] if path else _files(directory)[::-1])] if world.root else None)
    messages = []
    for candidate in candidates:
        candidate = Path(candidate)
        reason, found = None, None
        try:
            found = _load(candidate, world)
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
        return CheckpointInfo(path, manifest["step"], meta.get("time"), rows, manifest["ranks"], size, True, "")
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
    if error is not None and not isinstance(error, CheckpointError):
        error = CheckpointError(f"{path}: the checkpoint was not written: {_reason(error)}")
    world.agree(error)


def _reason(error) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    text = sentence(error)  # HDF5 wraps the errno in its own text
    for code in (errno.ENOSPC, errno.EACCES, errno.EDQUOT, errno.ENOENT, errno.EROFS):
        if f"errno = {code}" in text or os.strerror(code).lower() in text.lower():
            return os.strerror(code)
    return text


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
        }
        for i, (name, dtype, shape) in enumerate(signature)
    }
    return {"format": FORMAT, "step": step, "ranks": len(everyone), "arrays": arrays, "meta": _encode(meta)}


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
            properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            properties.set_layout(h5py.h5d.CONTIGUOUS)
            properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            dtype = h5py.h5t.py_create(np.dtype(entry["dtype"]))
            space = h5py.h5s.create_simple(shape)
            dataset = h5py.h5d.create(data.id, name.encode(), dtype, space, properties)
            offsets[name] = dataset.get_offset() or 0  # None where there are no rows
    disk = os.statvfs(part.parent)
    if disk.f_bavail * disk.f_frsize < image.size:  # noticed before anything is written
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(part))
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
        dataset = file["data"][name]
        if dataset.shape != (sum(entry["rows"]), *entry["shape"]) or dataset.dtype.str != entry["dtype"]:
            raise CheckpointError(f"{path}: {name} is not as the manifest says")
        end = (dataset.id.get_offset() or 0) + dataset.id.get_storage_size()
        if end > path.stat().st_size:
            raise CheckpointError(f"{path}: the file is truncated")
    return manifest


def _verify(file, path, name, entry, rank):
    """Reads a rank's rows of an array block by block and compares the checksum."""
    dataset = file["data"][name]
    start = sum(entry["rows"][:rank])
    stop = start + entry["rows"][rank]
    block = max(1, _BLOCK // max(1, dataset.dtype.itemsize * int(np.prod(dataset.shape[1:], dtype=np.int64))))
    crc = 0
    for lo in range(start, stop, block):
        crc = zlib.crc32(_bytes(dataset[lo : min(stop, lo + block)]), crc)
    if crc != entry["crc"][rank]:
        raise CheckpointError(f"{path}: {name} is damaged (checksum of rank {rank})")


def _load(path, world):
    with h5py.File(path, "r") as file:
        manifest = _read_manifest(file, path)
        same = manifest["ranks"] == world.size
        arrays = {}
        for name, entry in manifest["arrays"].items():
            dataset = file["data"][name]
            if same:
                start = sum(entry["rows"][: world.rank])
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
    return manifest["step"], manifest["ranks"], same, arrays, manifest["meta"]


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
