"""Nuclei of a run over time, in one HDF5 file that is whole at every instant (io/growing.py).

nuclei.h5: dataset `nuclei` (rows,), one row for each nucleus at each analysis, and dataset `events` (rows,), both of
compound types. The attributes of each say the unit of every field; those of the file are what the run noted (method,
cutoff, labels …). Written by rank 0.
"""

from pathlib import Path

import h5py
import numpy as np

from ostwald.io.growing import GrowingFile, create_file, on_root

UNITS = {
    "time": "ps",
    "seen": "ps",
    "centre": "Angstrom",
    "gyration": "Angstrom^2",
    "radius": "Angstrom",
    "asphericity": "Angstrom^2",
    "spread": "degree",
}


class NucleiError(RuntimeError):
    """A file of nuclei cannot be written, continued or read; one sentence that names it and the reason."""


class NucleiFile:
    """The nuclei of a run: `create` or `resume`, then append(rows, events) at every analysis. Collective; rank 0 writes."""

    def __init__(self, path, world):
        self.path, self.world = Path(path), world
        self._growing = None

    @classmethod
    def create(cls, path, world, rows, events, notes=None) -> "NucleiFile":
        """A new, empty file. rows, events: the dtypes of the two tables; notes: name -> text or number or list of them."""
        self = cls(path, world)
        self._on_root(lambda: self._create(rows, events, notes or {}), "was not created")
        return self

    @classmethod
    def resume(cls, path, world, step: int) -> "NucleiFile":
        """Continues a file behind `step`: rows and events of later steps, from before an interruption, are removed."""
        self = cls(path, world)
        self._on_root(lambda: self._resume(step), "cannot be continued")
        return self

    def append(self, rows, events) -> None:
        """Adds the rows and events of an analysis; those of rank 0 count. All ranks raise the same error."""
        self._on_root(lambda: self._append(rows, events), "did not get its rows")

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
        on_root(self.world, self.path, action, what, NucleiError)

    def _create(self, rows, events, notes):
        def build(file):
            text = h5py.string_dtype()
            for name, dtype in (("nuclei", rows), ("events", events)):
                table = file.create_dataset(
                    name, (0,), dtype, maxshape=(None,), chunks=(max(1, 65536 // dtype.itemsize),), track_times=False
                )
                table.attrs["fields"] = np.array(dtype.names, dtype=text)
                table.attrs["units"] = np.array([UNITS.get(field, "") for field in dtype.names], dtype=text)
            for name, value in notes.items():
                words = isinstance(value, (list, tuple)) and any(isinstance(word, str) for word in value)
                file.attrs[name] = np.array(value, dtype=text) if words else value

        create_file(self.path, build)
        self._growing = GrowingFile(self.path)

    def _resume(self, step):
        with h5py.File(self.path, "r") as file:
            keep = {
                name: int(np.searchsorted(file[name].fields("step")[:], step, side="right"))
                for name in ("nuclei", "events")
            }
        self._growing = GrowingFile(self.path)
        self._growing.truncate(keep)

    def _append(self, rows, events):
        try:
            for name, values in (("events", events), ("nuclei", rows)):
                if values.dtype != self._growing.datasets[name].dtype:
                    raise ValueError(f"the {name} do not have the fields that the file was made for")
                self._growing.extend(name, values)
        except OSError:
            self._growing.abandon()
            raise


def read_nuclei(path):
    """(rows, events, notes) of a nuclei.h5: structured arrays, and name -> value. Any time, also of a run that writes."""
    try:
        with h5py.File(path, "r") as file:
            return file["nuclei"][:], file["events"][:], {name: _plain(value) for name, value in file.attrs.items()}
    except OSError as error:
        raise NucleiError(f"{path}: {error.strerror or error}") from error
    except (KeyError, ValueError) as error:
        raise NucleiError(f"{path}: not a file of nuclei ({error})") from error


def _plain(value):
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def nuclei_info(path) -> str | None:
    """One line about a nuclei.h5; None where it is another kind of HDF5 file."""
    with h5py.File(path, "r") as file:
        tables = file.get("nuclei"), file.get("events")
        if not all(isinstance(table, h5py.Dataset) and table.dtype.names for table in tables):
            return None
        rows, events = tables
        text = f"nuclei, {len(rows)} rows, {len(events)} events"
        if len(rows):
            size, number, step = (rows.fields(name)[:] for name in ("size", "number", "step"))
            now = step == step[-1]
            text += (
                f"; {len(np.unique(number))} nuclei in steps {step[0]} to {step[-1]}, "
                f"{now.sum()} in the last, the largest of {size[now].max()} atoms"
            )
        return text
