"""Profiles of a phase field over time, in one HDF5 file that is whole at every instant (io/growing.py).

profiles.h5: dataset `profiles` (rows,) of a compound type: step, time and each profile, several numbers; beside it datasets of
what the profiles are over, `wave_number` (shells,) and `modes` (shells,), the wave vectors in each shell. Written by rank 0.
"""

import h5py
import numpy as np

from ostwald.io.tables import TableFile


class ProfilesError(RuntimeError):
    """A file of profiles cannot be written, continued or read; one sentence that names it and the reason."""


class ProfileFile(TableFile):
    """The profiles of a run: `create` or `resume`, then append(step, time, name=values) row by row. Collective; rank 0 writes."""

    names = ("profiles",)
    failure = ProfilesError

    @classmethod
    def create(cls, path, world, over, profiles) -> "ProfileFile":
        """A new, empty file. over: name -> array, what profiles are over; profiles: name -> how many numbers each has."""
        dtype = np.dtype([("step", "i8"), ("time", "f8"), *((name, "f8", (size,)) for name, size in profiles.items())])
        return cls.make(path, world, {"profiles": dtype}, fixed=over)

    def append(self, step: int, time: float, **profiles) -> None:
        """One row; the values of rank 0 count. All ranks raise the same error."""
        fields = [
            ("step", "i8"),
            ("time", "f8"),
            *((name, "f8", np.shape(values)) for name, values in profiles.items()),
        ]
        row = np.zeros(1, fields)
        for name, values in dict(step=step, time=time, **profiles).items():
            row[name][0] = values
        self.append_rows(profiles=row)


def read_profiles(path):
    """(rows, over) of a profiles.h5: a structured array, and name -> array of what its profiles are over. Any time."""
    try:
        with h5py.File(path, "r") as file:
            rows = file["profiles"][:]
            return rows, {name: file[name][:] for name in file if name != "profiles"}
    except OSError as error:
        raise ProfilesError(f"{path}: {error.strerror or error}") from error
    except (KeyError, ValueError) as error:
        raise ProfilesError(f"{path}: not a file of profiles ({error})") from error


def profiles_info(path) -> str | None:
    """One line about a profiles.h5; None where it is another kind of HDF5 file."""
    with h5py.File(path, "r") as file:
        table = file.get("profiles")
        if not isinstance(table, h5py.Dataset) or not table.dtype.names:
            return None
        names = ", ".join(f"{name} ({table.dtype[name].shape[0]})" for name in table.dtype.names[2:])
        span = ""
        if len(table):
            first, last = table[0], table[len(table) - 1]
            span = f", steps {first['step']} to {last['step']}, time {last['time']:.6g}"
        return f"profiles, {len(table)} rows{span}; {names}"
