"""HDF5 files made in memory and put on the disk afterwards.

HDF5 does not survive a full disk: a failed flush leaves it with a file that it can neither write nor close, and the
process dies of that. So files that are created here are first an image in memory; only its bytes are written, by calls
whose failure is an exception and nothing worse.
"""

import errno
import io
import os

import h5py
import numpy as np


class Image(io.RawIOBase):
    """A sparse file in memory for h5py.File(Image(), "w"): only what was written takes space, holes read as zeros."""

    def __init__(self):
        self.pieces: list[tuple[int, bytes]] = []  # in the order of writing: later ones cover earlier ones
        self.size = 0
        self.position = 0

    def readable(self):
        return True

    def writable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=io.SEEK_SET):
        self.position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        return self.position

    def tell(self):
        return self.position

    def truncate(self, size=None):
        self.size = self.position if size is None else size
        return self.size

    def write(self, data):
        data = bytes(data)
        self.pieces.append((self.position, data))
        self.position += len(data)
        self.size = max(self.size, self.position)
        return len(data)

    def readinto(self, buffer):
        length = max(0, min(len(buffer), self.size - self.position))
        out = np.zeros(length, np.uint8)
        for offset, data in self.pieces:
            lo, hi = max(offset, self.position), min(offset + len(data), self.position + length)
            if lo < hi:
                out[lo - self.position : hi - self.position] = np.frombuffer(data, np.uint8)[lo - offset : hi - offset]
        buffer[:length] = out.tobytes()
        self.position += length
        return length

    def save(self, path) -> None:
        """Writes the file; holes that nobody filled stay holes. OSError where the disk has no room for it, holes included."""
        with open(path, "wb", buffering=0) as file:
            disk = os.fstatvfs(file.fileno())
            if disk.f_bavail * disk.f_frsize < self.size:  # noticed before anything is written
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            for offset, data in self.pieces:
                file.seek(offset)
                done = 0
                while done < len(data):
                    done += file.write(data[done:])
            file.truncate(self.size)


def contiguous(group, name, shape, dtype):
    """An h5py dataset in one piece, its space allocated at once: its bytes may be written past HDF5."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    kind, space = h5py.h5t.py_create(np.dtype(dtype), logical=True), h5py.h5s.create_simple(tuple(shape))
    return h5py.Dataset(h5py.h5d.create(group.id, name.encode(), kind, space, properties))
