"""Tables of a run that grow by rows, several in one HDF5 file that is whole at every instant (io/growing.py)."""

from pathlib import Path

import h5py
import numpy as np

from ostwald.io.growing import GrowingFile, create_file, on_root


class TableFile:
    """Datasets (rows,) of compound types with a field `step`: make() or resume(), then append() rows. Collective; rank 0 writes.

    A subclass says the names of its tables and the error that its failures are.
    """

    names: tuple = ()
    failure: type = RuntimeError

    def __init__(self, path, world):
        self.path, self.world = Path(path), world
        self._growing = None

    @classmethod
    def make(cls, path, world, tables, units=None, notes=None, fixed=None):
        """A new file. tables: name -> dtype; units: field -> unit; notes: name -> text or number or list
        of them, attributes of the file; fixed: name -> array, datasets that stay as they are.
        """
        self = cls(path, world)
        self._on_root(lambda: self._create(tables, units or {}, notes or {}, fixed or {}), "was not created")
        return self

    @classmethod
    def resume(cls, path, world, step: int):
        """Continues a file behind `step`: rows of later steps, from before an interruption, are removed."""
        self = cls(path, world)
        self._on_root(lambda: self._resume(step), "cannot be continued")
        return self

    def append_rows(self, **rows) -> None:
        """Adds rows to tables, in the order given; those of rank 0 count. All ranks raise the same error."""
        self._on_root(lambda: self._append(rows), "did not get its rows")

    def sync(self) -> None:
        """Waits until everything is on the disk."""
        self._on_root(lambda: self._growing.sync(), "was not flushed")

    def close(self) -> None:
        if self._growing:
            self._growing.close()
            self._growing = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # --- inside, rank 0

    def _on_root(self, action, what):
        on_root(self.world, self.path, action, what, self.failure)

    def _create(self, tables, units, notes, fixed):
        def build(file):
            text = h5py.string_dtype()
            for name, dtype in tables.items():
                table = file.create_dataset(
                    name, (0,), dtype, maxshape=(None,), chunks=(max(1, 65536 // dtype.itemsize),), track_times=False
                )
                table.attrs["fields"] = np.array(dtype.names, dtype=text)
                table.attrs["units"] = np.array([units.get(field, "") for field in dtype.names], dtype=text)
            for name, values in fixed.items():
                file.create_dataset(name, data=values, track_times=False)
            for name, value in notes.items():
                words = isinstance(value, (list, tuple)) and any(isinstance(word, str) for word in value)
                file.attrs[name] = np.array(value, dtype=text) if words else value

        create_file(self.path, build)
        self._growing = GrowingFile(self.path)

    def _resume(self, step):
        with h5py.File(self.path, "r") as file:
            keep = {name: int(np.searchsorted(file[name].fields("step")[:], step, side="right")) for name in self.names}
        self._growing = GrowingFile(self.path)
        self._growing.truncate(keep)

    def _append(self, tables):
        try:
            for name, rows in tables.items():
                if rows.dtype != self._growing.datasets[name].dtype:
                    raise ValueError(f"the {name} do not have the fields that the file was made for")
                self._growing.extend(name, rows)
        except OSError:
            self._growing.abandon()
            raise
