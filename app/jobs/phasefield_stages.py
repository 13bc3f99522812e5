"""The stages of a phase-field run: so many steps of one length, or a time in steps as long as a tolerance allows."""

from __future__ import annotations

import math

from ostwald.app.phasefield import Adaptive
from ostwald.app.runfile import RunFileError

CLOSE = 1e-12
"""Relative difference of times that are the same."""
LEAST_EQUILIBRIUM = 1e-5
"""Tolerance of elastic equilibrium above which its error, which steps do not shrink, makes adaptive steps ever shorter."""
PARTS = 1000
"""What the progress of a run that ends at a time is counted in."""


def order(values) -> int:
    """Of the time steps of a run."""
    given = values["solver"]["order"]
    return given or (2 if any(adaptive(stage) for stage in values["stage"]) else 1)


def adaptive(stage) -> bool:
    return stage.get("tolerance") is not None


def check_order(values, path) -> None:
    """RunFileError where steps of second order cannot be made."""
    if order(values) == 1:
        if any(adaptive(stage) for stage in values["stage"]):
            raise RunFileError(f"{path}: [[stage]] tolerance: needs steps of second order ([solver] order)")
        return
    if any(adaptive(stage) for stage in values["stage"]):
        given = values["elasticity"]["tolerance"]
        if given is not None and given > LEAST_EQUILIBRIUM:
            raise RunFileError(
                f"{path}: [elasticity] tolerance: must be at most {LEAST_EQUILIBRIUM:g} where a stage has a tolerance, got {given:g}"
            )
    method = values["solver"]["method"]
    if method == "petsc":
        return  # all its steps are
    if method == "finite-difference" and values["solver"]["order"] is None:
        raise RunFileError(f"{path}: [[stage]] tolerance: needs steps of second order, '{method}' has none")
    if method == "finite-difference" or values["model"]["equation"] != "cahn-hilliard":
        raise RunFileError(f"{path}: [solver] order: steps of second order are for the spectral Cahn–Hilliard equation")
    if any(values["noise"].values()):
        raise RunFileError(f"{path}: [solver] order: steps of second order take no noise")
    if values["model"]["mobility_coefficients"] is not None:
        raise RunFileError(f"{path}: [solver] order: steps of second order take a constant mobility")


def stage_steps(stage) -> int:
    """Of a stage of steps of one length; 0 where they are not known in advance."""
    if adaptive(stage):
        return 0
    return stage["steps"] if stage["steps"] is not None else max(1, round(stage["time"] / stage["timestep"]))


def stage_time(stage) -> float:
    return stage["time"] if adaptive(stage) else stage_steps(stage) * stage["timestep"]


def described(stage) -> str:
    if adaptive(stage):
        return f"time {stage['time']:g} in steps of second order, errors up to {stage['tolerance']:g} of what moves"
    return f"{stage_steps(stage)} steps of {stage['timestep']:g}, time {stage_time(stage):g}"


class Stages:
    """Where a run stands in its stages, and how its next step is made.

    position: what state() told a checkpoint, or None for a new run. number: of the present stage, from 0.
    """

    def __init__(self, stages, solver, position=None):
        position = position or dict(number=0, step=solver.steps, time=solver.time, adaptive=None)
        self.stages, self.solver, self._control = stages, solver, None
        self.number, self._step, self._time = position["number"], position["step"], position["time"]
        if self.number < len(self.stages) and adaptive(self.stage):  # a run file made shorter has no such stage
            self._start_control(position["adaptive"])

    @property
    def finished(self) -> bool:
        """Whether the last stage is done. It stays the present one: a run file that makes it longer, or adds another, goes on."""
        return self.number >= len(self.stages) or (self.number == len(self.stages) - 1 and self.ended)

    @property
    def stage(self) -> dict:
        return self.stages[self.number]

    @property
    def control(self) -> Adaptive | None:
        """What chooses the steps of this stage, if anything does, or did so last."""
        return self._control

    def _start_control(self, state=None):
        stage, last = self.stage, self._control
        first = stage["timestep"] or (last.dt if last else None)
        self._control = Adaptive(
            self.solver, stage["tolerance"], first, stage["shortest"] or 0.0, stage["longest"] or math.inf
        )
        if state or last:
            self._control.restore(state or last.state() | dict(dt=self._control.dt))

    @property
    def ended(self) -> bool:
        """Whether the present stage is done."""
        if adaptive(self.stage):
            return self.solver.time >= self._end
        return self.solver.steps >= self._step + stage_steps(self.stage)

    @property
    def _end(self) -> float:
        end = self._time + self.stage["time"]
        return end - CLOSE * abs(end)

    def next(self) -> None:
        """Goes on to the next stage, if there is one."""
        if self.finished:
            return
        self.number, self._step, self._time = self.number + 1, self.solver.steps, self.solver.time
        if adaptive(self.stage):
            self._start_control()

    def advance(self, measured: bool, until: float) -> dict | None:
        """Collective. One step, an adaptive one not beyond `until`. The numbers of the state that is left, where measured or known."""
        if adaptive(self.stage):
            return self._control.step(min(until, self._time + self.stage["time"]))
        if measured:
            return self.solver.measured_step(self.stage["timestep"])
        self.solver.step(self.stage["timestep"])
        return None

    # --- how far

    @property
    def total(self) -> int:
        """Steps of the run, or PARTS where they are not known."""
        return PARTS if self._by_time else sum(map(stage_steps, self.stages))

    @property
    def done(self) -> int:
        """Of `total`."""
        if not self._by_time:
            return self.solver.steps
        return int(PARTS * min(self.solver.time / sum(map(stage_time, self.stages)), 1.0))

    @property
    def _by_time(self) -> bool:
        return any(map(adaptive, self.stages))

    def state(self) -> dict:
        """For a checkpoint."""
        control = self._control.state() if self._control else None
        return dict(number=self.number, step=self._step, time=self._time, adaptive=control)

    def figures(self) -> dict:
        """What became of adaptive steps."""
        names = ("repeated", "rises", "turns", "exceeded")
        return {name: getattr(self._control, name) for name in names} if self._control else {}
