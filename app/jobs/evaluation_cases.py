"""From the protocols of an evaluation to cases: each a phase-field run whose frames are the truth, solved here or read from a file."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ostwald.app.jobs import phasefield_schema as phasefield
from ostwald.app.jobs.evaluation_schema import CHANGES, protocol_name
from ostwald.app.jobs.phasefield_setup import build, check_finite, initial_field, set_initial
from ostwald.app.jobs.phasefield_stages import CLOSE, adaptive, stage_time
from ostwald.app.jobs.sequences_schema import Plan
from ostwald.app.phasefield import Adaptive
from ostwald.app.runfile import RunFileError, load_toml, validate
from ostwald.io.fields import FieldsError, field_frames, open_field
from ostwald.io.sequences import Sequences, SequencesError

CELLS = 8
"""Of Perlin noise, where a run file does not say."""


@dataclass(frozen=True)
class Case:
    """One field to begin with, and where its future comes from.

    values: of the phase-field run that makes it. start: time of the first frame. parameters: what differs between the cases of the protocol,
    name -> number. file, number: of the frames that are read, None where they are solved for.
    """

    values: dict
    path: Path
    start: float
    parameters: dict
    file: Path | None = None
    number: int = 0


class Protocol:
    """A table [[protocol]] and its cases. RunFileError where they cannot be.

    interval: a step of the slowest surrogate, or None. times (frames,): of the frames that are compared, since the first; shape, spacing:
    of the truth's frames.
    """

    def __init__(self, table, interval, path):
        self.table, self.name, self.kind, self.path = table, protocol_name(table), table["kind"], path
        self.place = Path(table["truth"])
        self.made = self.place.is_dir()
        truth = self.place / "run.toml" if self.made else self.place
        raw = load_toml(truth)
        kind = raw.get("job", {}).get("kind") if isinstance(raw.get("job"), dict) else None
        if kind not in ("sequences", "phasefield"):
            raise self.error("truth", f"{truth}: not a run of sequences or of a phase field")
        if self.made:
            for key in CHANGES:
                if table[key] is not None:
                    raise self.error(key, "has no effect on frames that are there already")
            if self.kind == "amplitude-pair":
                raise self.error("truth", "pairs are made from a run file, not from frames that are there already")
        else:
            changed(raw, table)
        found = self._sequences(raw, truth, interval) if kind == "sequences" else self._run(raw, truth, interval)
        self.cases, self.times = found
        if not self.made:
            case, stage = self.cases[0], self.cases[0].values["stage"][0]
            check_finite(initial_field(case.values, case.path, self.shape, self.spacing), case.values, case.path)
            if not adaptive(stage) and not self.fits(dt := stage["timestep"]):
                raise self.error("interval", f"{self.times[1]:g} is not a whole number of time steps of {dt:g}")

    def error(self, key, why) -> RunFileError:
        return RunFileError(f"{self.path}: [protocol {self.name}] {key}: {why}")

    @property
    def frames(self) -> int:
        return len(self.times)

    @property
    def volume(self) -> float:
        """Of the box."""
        return float(np.prod(self.shape) * np.prod(self.spacing))

    def fits(self, step) -> bool:
        """Whether all times are whole numbers of a step."""
        return step is not None and all(whole(time / step) for time in self.times[1:])

    def _even(self, interval, length, native=None):
        """Times an interval apart. native: that of frames that are there already."""
        interval = self.table["interval"] or interval
        if interval is None:
            raise self.error("interval", "is required: neither a surrogate nor the truth tells one")
        if native is not None and whole(interval / native) is None:
            raise self.error("interval", f"{interval:g} is not a whole number of the frames' {native:g}")
        there = int(length / interval * (1 + 1e-9)) + 1
        return self._first(interval * np.arange(max(there, 0 if self.made else self.table["frames"] or 0)), interval)

    def _first(self, times, interval):
        """As many times as are asked for."""
        wanted = self.table["frames"] or len(times)
        if wanted > len(times):
            raise self.error("frames", f"there are {len(times)} only, {interval:g} apart, in {self.place}")
        if wanted < 2:
            raise self.error("frames", f"the truth is shorter than one interval of {interval:g}")
        return times[:wanted]

    def _sequences(self, raw, truth, interval):
        """(cases, times) of a set of sequences."""
        plan = Plan(raw, truth)
        numbers, file = np.arange(plan.count), None
        if self.made:
            file = self.place / "sequences.h5"
            try:
                with Sequences(file) as data:
                    numbers = data.numbers(self.table["part"])
                    self.shape, self.spacing = data.shape[2:], tuple(data.spacing)
            except SequencesError as error:
                raise self.error("truth", str(error)) from None
        else:
            if self.table["part"] is not None:
                raise self.error("part", "is for the directory of a set")
            first = plan.of(0)
            self.shape, self.spacing = grid_of(first)
        wanted = self.table["count"] or len(numbers)
        if not 0 < wanted <= len(numbers):
            raise self.error("count", f"there are {len(numbers)} sequences in {self.place}, not {wanted}")
        cases = []
        for k in numbers[:wanted]:
            values = plan.of(int(k))
            given = {key: float(of[k]) for key, of in plan.parameters.items()}
            cases.append(Case(values, truth, float(plan.start[k]), given, file, int(k)))
        length = (plan.values["set"]["frames"] - 1) * plan.interval
        return self._pairs(cases), self._even(interval or plan.interval, length, plan.interval if self.made else None)

    def _run(self, raw, truth, interval):
        """(cases, times) of one phase-field run."""
        values = validate(raw, phasefield.TABLES, truth)
        self.shape, self.spacing = grid_of(values)
        for key in ("count", "part"):
            if self.table[key] is not None:
                raise self.error(key, "is for sets of sequences")
        if len(values["stage"]) > 1:
            raise self.error("truth", f"{truth}: a truth has one [[stage]]")
        if not self.made:
            return self._pairs([Case(values, truth, 0.0, {})]), self._even(interval, stage_time(values["stage"][0]))
        file = self.place / "fields.h5"
        times = self.frame_times(file, "truth")
        interval = self.table["interval"] or interval
        if interval is not None:  # frames may lie at any times: those that are whole steps
            steps = times[[k == 0 or whole(time / interval) is not None for k, time in enumerate(times)]] / interval
            times = interval * np.rint(steps)
        return [Case(values, truth, 0.0, {}, file)], self._first(times, interval or times[-1])

    def frame_times(self, file, key):
        """Of a series of fields, since its first frame."""
        try:
            _, times = field_frames(file)
        except FieldsError as error:
            raise self.error(key, str(error)) from None
        if len(times) < 2:
            raise self.error(key, f"{file}: has no two frames")
        return times - times[0]

    def _pairs(self, cases):
        """Each case twice, with two amplitudes of the same noise, where pairs are asked for."""
        if self.kind != "amplitude-pair":
            return cases
        amplitudes, found = self.table["amplitudes"] or (0.02, 0.2), []
        for case in cases:
            if "amplitude" not in phasefield.KINDS[case.values["initial"]["kind"]][1]:
                raise self.error("truth", "pairs are of noise, which has an amplitude")
            for amplitude in amplitudes:
                values = case.values | dict(initial=case.values["initial"] | dict(amplitude=amplitude))
                parameters = case.parameters | {"initial.amplitude": amplitude}
                found.append(Case(values, case.path, case.start, parameters, case.file, case.number))
        return found


def whole(x: float) -> int | None:
    """The whole number, from 1 on, that x is but for rounding; None where it is none."""
    return round(x) if round(x) >= 1 and abs(x - round(x)) < 1e-6 * x else None


def grid_of(values) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """(points, spacing) of a run, one for each axis."""
    shape = tuple(values["grid"]["shape"])
    return shape, tuple(float(h) for h in np.broadcast_to(values["grid"]["spacing"], len(shape)))


def on_grid(values, shape, spacing) -> dict:
    """Values of a run on another grid."""
    return values | dict(grid=values["grid"] | dict(shape=list(shape), spacing=list(spacing)))


# ---- what protocols change -------------------------------------------------------------------------------------------


def changed(raw: dict, table: dict) -> None:
    """Puts into the raw tables of a truth what its protocol is about."""
    initial, kind = raw.setdefault("initial", {}), table["kind"]
    if kind == "larger-domain":
        factor = table["factor"] or 2
        raw["grid"]["shape"] = [factor * n for n in raw["grid"]["shape"]]
        if initial.get("kind") == "perlin":
            _scale(raw, "cells", factor)
    elif kind == "shape":
        _forget(raw)
        spacing = np.broadcast_to(raw["grid"].get("spacing", 1.0), len(raw["grid"]["shape"]))
        size = table["size"] or 0.75 * float(np.min(np.multiply(raw["grid"]["shape"], spacing)))
        raw["initial"] = dict(kind="mesh", size=size)
        if table["mesh"] is not None:
            raw["initial"]["file"] = table["mesh"]
    elif kind == "central-slab":
        initial["within"] = table["within"] or [0.375, 0.625]
    elif kind == "inhomogeneous":
        initial["within"] = table["within"] or [0.25, 0.75]
        initial["outside"] = 0.2 if table["outside"] is None else table["outside"]
    elif kind == "amplitude-pair":
        initial.pop("amplitude", None)
        raw["vary"] = [law for law in raw.get("vary", []) if law.get("key") != "initial.amplitude"]
    if not raw.get("vary", True):
        del raw["vary"]


def _scale(raw, key, factor):
    """Multiplies a whole number of [initial], given or drawn."""
    for law in raw.get("vary", []):
        if law.get("key") == f"initial.{key}":
            for name in ("uniform", "normal", "limits", "values"):
                if name in law:
                    law[name] = [factor * x for x in law[name]]
            if "grid" in law:
                law["grid"] = [factor * law["grid"][0], factor * law["grid"][1], law["grid"][2]]
            return
    raw["initial"][key] = factor * raw["initial"].get(key, CELLS)


def _forget(raw):
    """What varies in [initial] no longer does."""
    if "vary" in raw:
        raw["vary"] = [law for law in raw["vary"] if not str(law.get("key")).startswith("initial.")]


# ---- truths ----------------------------------------------------------------------------------------------------------


class Stepper:
    """A solver and how it gets from time to time. stage: a table [[stage]] of its run."""

    def __init__(self, solver, stage):
        self.solver, self._stage, self._control = solver, copy.copy(stage), None

    def start(self) -> None:
        """The solver has its field."""
        if adaptive(s := self._stage):
            self._control = Adaptive(
                self.solver, s["tolerance"], s["timestep"], s["shortest"] or 0.0, s["longest"] or math.inf
            )

    def advance(self, until: float) -> None:
        """To that time of the solver."""
        if self._control is None:
            count = round((until - self.solver.time) / self._stage["timestep"])
            if count > 0:
                self.solver.step(self._stage["timestep"], count)
            return
        end = until - CLOSE * abs(until)
        while self.solver.time < end:
            self._control.step(until)

    def close(self) -> None:
        self.solver.close()


class Solved:
    """The truth of a case, from the solver of its run. start() and advance(t) give φ on the whole grid, t since the first frame."""

    def __init__(self, world, case):
        self._case = case
        self._stepper = Stepper(build(world, case.values, case.path), case.values["stage"][0])

    def start(self) -> np.ndarray:
        set_initial(self._stepper.solver, self._case.values, self._case.path)
        self._stepper.start()
        return self.advance(0.0)

    def advance(self, time: float) -> np.ndarray:
        self._stepper.advance(self._case.start + time)
        return np.asarray(self._stepper.solver.field(), np.float64)

    def close(self) -> None:
        self._stepper.close()


class Read:
    """The truth of a case, from frames that are there. As Solved."""

    def __init__(self, case):
        self._case = case
        whole_set = case.file.name == "sequences.h5"
        self._data, self._series = (Sequences(case.file), None) if whole_set else (None, Frames(case.file))

    def start(self) -> np.ndarray:
        return self.advance(0.0)

    def advance(self, time: float) -> np.ndarray:
        if self._series is not None:
            return self._series.at(time)
        frame = round(time / self._data.interval)
        return self._data.read(self._case.number, frame, frame + 1)[0].astype(np.float64)

    def close(self) -> None:
        if self._data is not None:
            self._data.close()


class Frames:
    """The frames of a fields.h5. FieldsError."""

    def __init__(self, file):
        self.file = file
        times = field_frames(file)[1]
        self.times = times - times[0]

    def place(self, time: float) -> int:
        """The frame this long after the first one. FieldsError where there is none."""
        frame = int(np.argmin(np.abs(self.times - time)))
        if abs(self.times[frame] - time) > 1e-6 * max(abs(time), 1e-12):
            raise FieldsError(f"{self.file}: has no frame {time:g} after the first")
        return frame

    def at(self, time: float) -> np.ndarray:
        """φ then."""
        field = open_field(self.file, frame=self.place(time))
        values = np.asarray(field[:], np.float64)
        field.close()
        return values


def truth_of(world, case) -> Solved | Read:
    return Solved(world, case) if case.file is None else Read(case)
