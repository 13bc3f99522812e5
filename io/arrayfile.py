"""Large arrays in one HDF5 file, each in one piece: made by rank 0, filled by all ranks, mapped into memory by any process."""

import json
import os
from pathlib import Path

import h5py
import numpy as np

from ostwald.io.image import Image, contiguous
from ostwald.io.shared import SharedFile


class ArrayFile:
    """A file under way. Collective: `with ArrayFile(path, world, arrays, meta) as file: file.write(name, first, rows)`.

    arrays: name -> (shape, dtype). meta: JSON-able. The file appears under its name when the block ends without an error, on
    any rank; else nothing of it is left and every rank raises.
    """

    def __init__(self, path, world, arrays: dict, meta=None):
        self.path, self.world = Path(path), world
        self.part = self.path.with_name(f".{self.path.name}.part")
        self._places, error = None, None
        if world.root:
            try:
                self._places = self._create(arrays, meta)
            except Exception as caught:
                error = caught
        world.agree(error)
        self._places = world.bcast(self._places)

    def _create(self, arrays, meta):
        image, places = Image(), {}
        with h5py.File(image, "w") as file:
            file["meta"] = json.dumps(meta or {})
            for name, (shape, dtype) in arrays.items():
                places[name] = contiguous(file, name, shape, dtype).id.get_offset() or 0  # None of an empty array
        image.save(self.part)
        return places

    def __enter__(self):
        self._file = SharedFile(self.part)
        return self

    def write(self, name: str, first: int, rows: np.ndarray) -> None:
        """Rows of an array from row `first` on; C-contiguous and of its dtype."""
        width = rows.dtype.itemsize * int(np.prod(rows.shape[1:], dtype=np.int64))
        self._file.write(self._places[name] + first * width, rows)

    def __exit__(self, kind, error, _):
        self._file.close()
        whole = False
        try:
            self.world.agree(error)
            whole = True
        finally:
            if self.world.root:
                if whole:
                    os.replace(self.part, self.path)
                else:
                    self.part.unlink(missing_ok=True)
        self.world.barrier()


def open_arrays(path) -> tuple[dict, dict]:
    """(name -> array mapped read-only, meta). OSError or ValueError where the file is none of these."""
    with h5py.File(path, "r") as file:
        if "meta" not in file:
            raise ValueError(f"{path}: not a file of arrays")
        meta, arrays = json.loads(file["meta"][()]), {}
        for name, dataset in file.items():
            if name == "meta":
                continue
            place = dataset.id.get_offset()
            if place is None or not dataset.size:
                arrays[name] = np.zeros(dataset.shape, dataset.dtype)
            else:
                arrays[name] = np.memmap(path, dataset.dtype, "r", place, dataset.shape).view(np.ndarray)
    return arrays, meta
