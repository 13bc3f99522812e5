"""HDF5 files made in memory and put on the disk afterwards.

HDF5 does not survive a full disk: a failed flush leaves it with a file that it can neither write nor close, and the
process dies of that. So files that are created here are first an image in memory; only its bytes are written, by calls
whose failure is an exception and nothing worse.
"""

import io

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
        """Writes the file; holes that nobody filled stay holes. OSError where the disk is full."""
        with open(path, "wb", buffering=0) as file:
            for offset, data in self.pieces:
                file.seek(offset)
                done = 0
                while done < len(data):
                    done += file.write(data[done:])
            file.truncate(self.size)
