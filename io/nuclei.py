"""Nuclei of a run over time, in one HDF5 file that is whole at every instant (io/growing.py).

nuclei.h5: dataset `nuclei` (rows,), one row for each nucleus at each analysis, and dataset `events` (rows,), both of
compound types. The attributes of each say the unit of every field; those of the file are what the run noted (method,
cutoff, labels …). Written by rank 0.
"""

import h5py
import numpy as np

from ostwald.io.tables import TableFile

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


class NucleiFile(TableFile):
    """The nuclei of a run: `create` or `resume`, then append(rows, events) at every analysis. Collective; rank 0 writes."""

    names = ("nuclei", "events")
    failure = NucleiError

    @classmethod
    def create(cls, path, world, rows, events, notes=None) -> "NucleiFile":
        """A new, empty file. rows, events: the dtypes of the two tables; notes: name -> text or number or list of them."""
        return cls.make(path, world, {"events": events, "nuclei": rows}, UNITS, notes)

    def append(self, rows, events) -> None:
        """Adds the rows and events of an analysis; those of rank 0 count. All ranks raise the same error."""
        self.append_rows(events=events, nuclei=rows)


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
