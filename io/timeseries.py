"""Time series of a run's scalars, in HDF5 and CSV side by side: rows appear whole, survive a kill, are never doubled.

series.h5: one dataset `series` (rows,) of a compound type, a field a column; attributes `columns` and `units`. It grows
as io/growing.py does, so it can be read at any time. series.csv: the same as text; a column of several numbers becomes
several, `pressure_xx` ... `cell_cz`. Both are written by rank 0.
"""

import os
from pathlib import Path

import h5py
import numpy as np

from ostwald.io.growing import GrowingFile, new_file, on_root
from ostwald.io.shared import sync_directory

_TENSOR = ("xx", "yy", "zz", "yz", "xz", "xy")
_CELL = ("ax", "ay", "az", "bx", "by", "bz", "cx", "cy", "cz")

# name -> unit, of what every run of molecular dynamics writes
COLUMNS = {
    "step": "",
    "time": "ps",
    "temperature": "K",
    "potential_energy": "eV",
    "kinetic_energy": "eV",
    "conserved": "eV",
    "enthalpy": "eV",
    "pressure": "GPa",  # 6 numbers
    "cell": "Angstrom",  # 9 numbers, rows a, b, c
    "density": "g/cm^3",
    "atom_steps_per_second": "1/s",
}
_SHAPES = {"pressure": (6,), "cell": (9,)}


class SeriesError(RuntimeError):
    """A time series cannot be written, continued or read; one sentence that names the file and the reason."""


class TimeSeries:
    """The series of a run: `create` or `resume`, then append(step=..., ...) row by row. Collective; rank 0 writes."""

    def __init__(self, path, world, columns, notes=None):
        self.path, self.csv = Path(path), Path(path).with_suffix(".csv")
        self.notes = notes or {}
        self.world = world
        self.columns = columns  # name -> unit
        self.dtype = np.dtype([(n, "i8" if n == "step" else "f8", _SHAPES.get(n, ())) for n in columns])
        self._growing = None
        self._text = -1

    @classmethod
    def create(cls, path, world, extra=None, notes=None, columns=COLUMNS) -> "TimeSeries":
        """New, empty files path (.h5) and the same with .csv. columns: name -> unit, `step` first; extra: further ones.
        notes: name -> text, attributes of the series."""
        self = cls(path, world, {**columns, **(extra or {})}, notes)
        self._on_root(self._create, "was not created")
        return self

    @classmethod
    def resume(cls, path, world, step: int) -> "TimeSeries":
        """Continues existing files behind `step`: rows of later steps, from before an interruption, are removed."""
        columns = error = None
        if world.root:
            try:
                with h5py.File(path, "r") as file:
                    series = file["series"]
                    columns = dict(zip(series.attrs["columns"].tolist(), series.attrs["units"].tolist()))
            except (OSError, KeyError) as caught:
                error = SeriesError(f"{path}: not a time series of this program ({caught})")
        world.agree(error)
        self = cls(path, world, world.bcast(columns))
        self._on_root(lambda: self._resume(step), "cannot be continued")
        return self

    def append(self, **values) -> None:
        """One row: a value for every column; pressure (6,) in the order xx, yy, zz, yz, xz, xy; cell (3, 3) or (9,).

        The values of rank 0 count. All ranks raise the same error where the row could not be written.
        """
        self._on_root(lambda: self._append(values), "did not get a row")

    def sync(self) -> None:
        """Waits until all rows are on the disk."""

        def sync():
            self._growing.sync()
            os.fsync(self._text)

        self._on_root(sync, "was not flushed")

    def close(self) -> None:
        if self._growing:
            self._growing.close()
            os.close(self._text)
            self._growing, self._text = None, -1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # --- inside, rank 0

    def _on_root(self, action, what):
        on_root(self.world, self.path, action, f"the time series {what}", SeriesError)

    def _create(self):
        def build(file):
            series = file.create_dataset(
                "series",
                (0,),
                self.dtype,
                maxshape=(None,),
                chunks=(max(1, 32768 // self.dtype.itemsize),),
                track_times=False,
            )
            text = h5py.string_dtype()
            series.attrs["columns"] = np.array(list(self.columns), dtype=text)
            series.attrs["units"] = np.array(list(self.columns.values()), dtype=text)
            series.attrs.update(self.notes)

        part = self.path.with_name(f".{self.path.name}.part")
        header = ",".join(_labels(self.columns)) + "\n"
        text = self.csv.with_name(f".{self.csv.name}.part")
        try:
            new_file(build).save(part)
            text.write_text(header, encoding="utf-8")
            os.replace(text, self.csv)
            os.replace(part, self.path)
        finally:
            part.unlink(missing_ok=True)
            text.unlink(missing_ok=True)
        sync_directory(self.path.parent)
        self._open()

    def _open(self):
        self._growing = GrowingFile(self.path)
        self._text = os.open(self.csv, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def _resume(self, step):
        with h5py.File(self.path, "r") as file:
            steps = file["series"]["step"] if len(file["series"]) else np.empty(0, np.int64)
        keep = int(np.searchsorted(steps, step, side="right"))
        self._open()
        self._growing.truncate({"series": keep})
        # the text is made anew from the table: whatever a kill left of it, both agree again
        rows = read_series(self.path)
        part = self.csv.with_name(f".{self.csv.name}.part")
        lines = [",".join(_labels(self.columns)), *(_line(row) for row in rows)]
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
        os.close(self._text)
        os.replace(part, self.csv)
        self._text = os.open(self.csv, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def _append(self, values):
        unknown = [name for name in values if name not in self.columns]
        missing = [name for name in self.columns if name not in values]
        if unknown or missing:
            raise SeriesError(f"column '{(unknown or missing)[0]}' is {'not declared' if unknown else 'missing'}")
        row = np.zeros((), self.dtype)
        for name, value in values.items():
            row[name] = np.reshape(value, _SHAPES.get(name, ()))
        try:
            dataset = self._growing.datasets["series"]
            (place,) = self._growing.plan("series")
            self._growing.file.write(place + dataset.length % dataset.frames * self.dtype.itemsize, row.tobytes())
            self._growing.commit(["series"])
        except OSError:
            self._growing.abandon()
            raise
        line = (_line(row) + "\n").encode()
        size = os.fstat(self._text).st_size
        try:
            if os.write(self._text, line) != len(line):
                raise OSError(28, os.strerror(28), str(self.csv))
        except OSError:
            os.ftruncate(self._text, size)
            raise


def read_series(path) -> np.ndarray:
    """The rows of a series.h5 or series.csv as a structured array; its names are the columns. Any time, also of a run
    that is writing; an unfinished last line of a CSV file is left out. SeriesError where it is not one."""
    path = Path(path)
    try:
        if path.suffix == ".csv":
            return _read_csv(path)
        with h5py.File(path, "r") as file:
            return file["series"][:]
    except OSError as error:
        raise SeriesError(f"{path}: {error.strerror or error}") from error
    except (KeyError, ValueError) as error:
        raise SeriesError(f"{path}: not a time series ({error})") from error


def series_info(path) -> str | None:
    """One line about a series.h5; None where it is another kind of HDF5 file."""
    with h5py.File(path, "r") as file:
        if not isinstance(file.get("series"), h5py.Dataset) or not file["series"].dtype.names:
            return None
        rows = len(file["series"])
        names = ", ".join(file["series"].dtype.names)
        span = ""
        if rows:
            first, last = file["series"][0], file["series"][rows - 1]
            units = dict(zip(file["series"].attrs["columns"].tolist(), file["series"].attrs["units"].tolist()))
            span = f", steps {first['step']:g} to {last['step']:g}"
            if "time" in units:  # a training has none
                unit = units["time"]
                span += f", {last['time']:.6g} {unit}" if unit else f", time {last['time']:.6g}"
        return f"time series, {rows} rows{span}; {names}"


def series_units(path) -> dict:
    """column -> unit of a series.h5."""
    try:
        with h5py.File(path, "r") as file:
            attributes = file["series"].attrs
            return dict(zip(attributes["columns"].tolist(), attributes["units"].tolist()))
    except (OSError, KeyError) as error:
        raise SeriesError(f"{path}: not a time series ({error})") from error


def _labels(columns):
    """The CSV header: name [unit], several for tensors."""
    for name, unit in columns.items():
        parts = {"pressure": _TENSOR, "cell": _CELL}.get(name)
        for label in [f"{name}_{part}" for part in parts] if parts else [name]:
            yield f"{label} [{unit}]" if unit else label


def _line(row) -> str:
    out = []
    for name in row.dtype.names:
        for value in np.ravel(row[name]):
            out.append(str(int(value)) if value.dtype.kind == "i" else repr(float(value)))
    return ",".join(out)


def _read_csv(path):
    text = path.read_text(encoding="utf-8")
    lines = text[: text.rfind("\n") + 1].splitlines()
    labels = [label.split(" [")[0] for label in lines[0].split(",")]
    columns = {}
    for label in labels:
        stem, _, part = label.rpartition("_")
        known = (stem == "pressure" and part in _TENSOR) or (stem == "cell" and part in _CELL)
        columns[stem if known else label] = None
    dtype = np.dtype([(n, "i8" if n == "step" else "f8", _SHAPES.get(n, ())) for n in columns])
    flat = np.array([[float(word) for word in line.split(",")] for line in lines[1:]]).reshape(-1, len(labels))
    out = np.zeros(len(flat), dtype)
    at = 0
    for name in columns:
        width = int(np.prod(_SHAPES.get(name, ())))
        out[name] = flat[:, at] if name not in _SHAPES else flat[:, at : at + width]
        at += width
    return out
