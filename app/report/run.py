"""What a run directory tells."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ostwald.app.analysis.structure import METALS, describe
from ostwald.io.text import read_text


class ReportError(ValueError):
    """There is nothing to report on; one sentence."""


@dataclass
class Stage:
    """A stage of the run as far as the page needs it: its name, and when it ends (ps), where that is known before."""

    name: str
    table: dict
    end: float | None


@dataclass
class Run:
    """What a run directory tells.

    frames: those that are shown as slices; growth, nucleus: places in the trajectory of those that show the crystal grow,
    and of one with a nucleus that has only just begun to (`frame`).
    """

    path: Path
    text: str
    title: str
    stages: list[Stage]
    series: dict[str, np.ndarray]
    timing: dict | None
    provenance: list[dict]
    frames: list = field(default_factory=list)
    growth: list[int] = field(default_factory=list)
    nucleus: int | None = None
    atoms: int | None = None
    settings: dict = field(default_factory=dict)
    time_unit: str = "ps"

    @property
    def time(self):
        """(rows,) ps"""
        return self.series["time"]

    @property
    def volume(self):
        """(rows,) Å³"""
        return np.abs(np.linalg.det(np.array([[self.series[f"cell_{v}{k}"] for k in "xyz"] for v in "abc"]).T))

    def has(self, *names):
        return len(self.series.get("time", ())) > 0 and all(name in self.series for name in names)

    def frame(self, number):
        """A frame of the trajectory."""
        from ostwald.io import h5md

        return next(h5md.frames(self.path / "trajectory.h5", index=number))

    def last_stage(self):
        """(name, rows of the series (rows,) bool) of the last stage that the run reached."""
        begin, name = None, "run"
        for stage in self.stages:
            name = stage.name
            if stage.end is None or stage.end >= self.time[-1] - 1e-9:
                break
            begin = stage.end
        rows = self.time >= 0 if begin is None else self.time > begin + 1e-9  # a row at the border is of the one before
        return (name, rows) if rows.any() else (name, np.ones(len(rows), bool))


def read_run(directory, frames=True) -> Run:
    """Everything the page shows, its frames only if asked. ReportError where the directory holds no run."""
    path = Path(directory)
    run_file = path / "run.toml"
    if not run_file.exists():
        raise ReportError(f"{path}: not a run directory (it has no run.toml)")
    from ostwald.io import h5md, timeseries

    text = read_text(run_file)
    settings = tomllib.loads(text)
    stages, now = [], 0.0
    for number, table in enumerate(settings.get("stage", []), 1):
        length = table.get("time")
        if length is None:
            length = table.get("steps", 0) * table.get("timestep", 0.001)
        if table.get("ensemble") == "minimise":
            length = 0.0
        now += length
        stages.append(Stage(table.get("name") or f"{number}: {table.get('ensemble', '')}", table, now))

    def json_of(name):
        file = path / name
        return json.loads(read_text(file)) if file.exists() else None

    provenance = json_of("provenance.json") or []
    job = settings.get("job", {})
    run = Run(
        path=path,
        text=text,
        title=job.get("title") or path.resolve().name,
        stages=stages,
        series=columns_of(timeseries.read_series(path / "series.h5")) if (path / "series.h5").exists() else {},
        timing=json_of("timing.json"),
        provenance=provenance if isinstance(provenance, list) else [provenance],
        settings=settings,
        time_unit="ps" if job.get("kind", "md") == "md" else "",
    )
    trajectory = path / "trajectory.h5"
    if frames and trajectory.exists():
        run.frames = [run.frame(k) for k in chosen_frames(trajectory, run.series)]
    run.atoms = _atoms(run)
    if run.frames and run.atoms:
        times = h5md.times(trajectory)
        run.growth, run.nucleus = growth_frames(times, run.series), nucleus_frame(times, run.series, run.atoms)
    return run


def _atoms(run) -> int | None:
    """The number of atoms, from whatever tells it."""
    if run.timing:
        return run.timing.get("atoms")
    if run.frames:
        return len(run.frames[0])
    from ostwald.io.checkpoint import list_checkpoints

    folder = run.path / "checkpoints"  # an absent one lists nothing
    return next((found.rows for found in list_checkpoints(folder) if found.valid), None)


def columns_of(rows) -> dict[str, np.ndarray]:
    """One array a number: the pressure tensor and the cell of a structured array are taken apart."""
    columns = {}
    parts = {"pressure": ("xx", "yy", "zz", "yz", "xz", "xy"), "cell": [v + k for v in "abc" for k in "xyz"]}
    for name in rows.dtype.names:
        values = np.asarray(rows[name], float)
        if values.ndim == 1:
            columns[name] = values
            continue
        columns |= {f"{name}_{part}": values[:, k] for k, part in enumerate(parts[name])}
        if name == "pressure":
            columns[name] = values[:, :3].mean(axis=1)
    return columns


def chosen_frames(trajectory, series) -> list[int]:
    """The frames to show: the first, the one nearest to the least solid moment, the last."""
    from ostwald.io import h5md

    times = h5md.times(trajectory)
    chosen = {0, len(times) - 1} if len(times) else set()
    if "solid_fraction" in series and len(times) > 2 and np.isfinite(series["solid_fraction"]).any():
        least = series["time"][np.nanargmin(series["solid_fraction"])]
        chosen.add(int(np.argmin(np.abs(times - least))))
    return sorted(chosen)


def growth_frames(times, series) -> list[int]:
    """The frames nearest to when a tenth, a third and two thirds of all that freezes had frozen, and the last."""
    known, solid = _solid(series)
    if len(solid) < 2 or len(times) < 2:
        return []
    least = int(np.argmin(solid))
    gain = solid[-1] - solid[least]
    if gain < 0.01:
        return []
    after, chosen = solid[least:], {len(times) - 1}
    for part in (0.1, 1 / 3, 2 / 3):
        when = known[least + int(np.argmax(after >= solid[least] + part * gain))]
        chosen.add(int(np.argmin(np.abs(times - when))))
    return sorted(chosen)


def nucleus_frame(times, series, atoms, smallest=100) -> int | None:
    """The first frame after the solid was below `smallest` atoms for the last time; None where it is no nucleus any more.

    The solid: the largest cluster, or all solid atoms where clusters are unknown. No nucleus: a tenth of all atoms.
    """
    known, solid = _solid(series)
    size = solid * atoms
    if "largest_cluster" in series:
        size = series["largest_cluster"][np.isfinite(series["solid_fraction"])]
    below = np.flatnonzero(size < smallest)
    if not len(below) or below[-1] + 1 >= len(size):
        return None
    later = np.flatnonzero(times >= known[below[-1] + 1] - 1e-9)
    if not len(later):
        return None
    at = np.argmin(np.abs(known - times[later[0]]))
    return int(later[0]) if size[at] <= max(0.1 * atoms, 3 * smallest) else None


def _solid(series):
    """(times, solid fractions) of the rows that have one."""
    if "solid_fraction" not in series:
        return np.zeros(0), np.zeros(0)
    known = np.isfinite(series["solid_fraction"])
    return series["time"][known], series["solid_fraction"][known]


def method_of(how) -> tuple:
    """(method, threshold, templates, cutoff) of the table [analysis]."""
    return how.get("method", "q6"), how.get("threshold"), tuple(how.get("templates") or METALS), how.get("cutoff")


def classified(how) -> str:
    """How atoms were classified, as a sentence without its stop."""
    text = describe(*method_of(how))
    return text[0].upper() + text[1:]
