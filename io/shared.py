"""One file written by all ranks: each writes its bytes at offsets agreed beforehand, with plain POSIX calls.

Every rank has the file open itself; there is no MPI-IO in between. So a full disk is an OSError with its reason on the
rank that met it, the same code serves one rank and many, and a parallel build of HDF5 is not needed. The file system
must show one rank's bytes to the others (local disks, Lustre, GPFS, BeeGFS; NFS only within one node).
"""

import os
from pathlib import Path

import numpy as np


class SharedFile:
    """The file at `path`, open on this rank for reading and writing at offsets."""

    def __init__(self, path):
        self.path = str(path)
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)

    def write(self, offset: int, data) -> None:
        """Writes all bytes of `data` (bytes or a C-contiguous array) at `offset`; OSError where that fails."""
        view = memoryview(data.reshape(-1).view(np.uint8) if isinstance(data, np.ndarray) else data)
        done = 0
        while done < len(view):
            # 64 MiB at a time: a write of more than 2 GiB would be cut short
            done += os.pwrite(self.descriptor, view[done : done + (64 << 20)], offset + done)

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`; ValueError where the file ends before."""
        data = os.pread(self.descriptor, length, offset)
        if len(data) != length:
            raise ValueError(f"{self.path}: ends before byte {offset + length}")
        return data

    @property
    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def resize(self, size: int) -> None:
        os.ftruncate(self.descriptor, size)

    def sync(self) -> None:
        """Waits until everything that any process wrote to the file is on the disk."""
        os.fsync(self.descriptor)

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def replace_file(path, data: bytes) -> None:
    """Writes a file of one rank beside its place, flushes and renames it: a reader never sees half of it. OSError."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def sync_directory(directory) -> None:
    """Waits until the names in a directory are on the disk (a rename survives a power failure only after this)."""
    descriptor = os.open(str(directory), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sentence(error: BaseException) -> str:
    """What went wrong, as one line for a person: 'PATH: No space left on device' for an OSError."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def agree(world, error, path, what: str, failure: type) -> None:
    """Collective: where a rank has an error every rank raises it (world.agree), as a failure of one sentence: the file, what did not
    go, and why. A failure that names the file already stays as it is.
    """
    if error is not None and not (isinstance(error, failure) and str(path) in str(error)):
        reason = error.strerror if isinstance(error, OSError) and error.strerror else sentence(error)
        error = failure(reason if reason.startswith(str(path)) else f"{path}: {what}: {reason}")
    world.agree(error)


class Alone:
    """What writing a file needs of a world, of this process only and without MPI."""

    rank, size, root = 0, 1, True

    def allgather(self, thing):
        return [thing]

    gather = allgather

    def bcast(self, thing):
        return thing

    def agree(self, error):
        if error is not None:
            raise error
