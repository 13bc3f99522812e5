"""Time steps as long as an error allows."""

from __future__ import annotations

import math

import numpy as np

from ostwald.app.phasefield.errors import TooLong
from ostwald.app.phasefield.implicit import Implicit
from ostwald.app.phasefield.second_order import SecondOrder

SAFETY = 0.9
"""Of the length that would just meet the tolerance."""
GROWTH = 1.25
"""The most by which a step is longer than the one before; the scheme's error grows by its square."""
SHRINK = 0.2
"""The most by which it is shorter."""
RETRY = 1.25
"""A step that was this much longer than it should have been is repeated."""
MOST_HALVED = 1e-3
"""The least share of its length that a step without a solution is tried at."""


class Adaptive:
    """Steps of a SecondOrder or Implicit solver such that the error of each is `tolerance` times what φ moves in it.

    Both are root mean squares over the grid, so that the error of a run is about that share of the way that φ has gone. The error
    of a step is known when the next is made; was this too long, then it is repeated, which needs no new g'. Steps become half as
    long, too, where the free energy rose or φ went back and forth, neither of which the equation does, and where an implicit step finds no solution.

    first: length of the first step; by default a hundredth of the time in which the fastest wave about the middle of the
    spinodal range grows by e. shortest, longest: bounds; only what ends at a given time is shorter.

    dt: length of the next step. repeated: steps that were made anew. rises: of the free energy beyond rounding. turns: steps that
    went back. exceeded: steps of the shortest length with errors beyond the tolerance.
    """

    def __init__(
        self,
        solver: SecondOrder | Implicit,
        tolerance: float,
        first=None,
        shortest: float = 0.0,
        longest: float = math.inf,
    ):
        if not tolerance > 0 or not 0 <= shortest <= longest or not longest > 0:
            raise ValueError(
                f"a tolerance must be positive and 0 ≤ shortest ≤ longest, not {tolerance}, {shortest}, {longest}"
            )
        self.solver, self.tolerance, self.shortest, self.longest = solver, tolerance, shortest, longest
        self.dt = self._bounded(0.01 * fastest_growth_time(solver) if first is None else first)
        self.repeated = self.rises = self.turns = self.exceeded = 0
        self._energy = math.inf

    def step(self, until: float) -> dict[str, float]:
        """Collective. One step, which ends at `until` at the latest, and at times close to it exactly there.

        Returns what measured_step() does.
        """
        solver, last, left = self.solver, self.solver.last, until - self.solver.time
        if not left > 0:
            raise ValueError(f"time {until:g} is not after {solver.time:g}")
        dt = left if left <= self.dt * (1 + 1e-9) else min(self.dt, 0.5 * left)
        numbers, dt, most = self._measured_step(dt)
        best = min(self._judged(numbers, last) if last else self.dt, most)
        self._energy = numbers["energy"]
        if dt > RETRY * best:
            solver.repeat(best)
            self.repeated += 1
        elif dt == left:
            solver.time = float(until)
        self.dt = best
        return numbers

    def _measured_step(self, dt):
        """(what is told, the length that the step has, the most that the next may have)"""
        tried = dt
        while True:
            try:
                numbers = self.solver.measured_step(tried)
                return numbers, tried, math.inf if tried == dt else GROWTH * tried
            except TooLong:
                tried *= 0.5
                if tried < max(self.shortest, MOST_HALVED * dt):
                    raise
                self.repeated += 1

    def _judged(self, numbers, last) -> float:
        """How long the step after one of length `last` should be."""
        spread = numbers["high"] - numbers["low"]
        precision = np.finfo(self.solver.dtype).eps
        allowed = self.tolerance * numbers["moved"] + precision * spread
        ratio = numbers["error"] / allowed  # goes with the square of the length
        best = min(max(SAFETY / math.sqrt(max(ratio, 1e-30)), SHRINK) * last, GROWTH * max(self.dt, last))
        close = (1e-10 if precision < 1e-10 else 1e-5) * abs(self._energy) + self.solver.uncertainty
        rose = numbers["energy"] - self._energy > close
        turned = numbers["turn"] < 0 and numbers["moved"] > 100 * precision * spread
        rose = rose and (self.solver.extra is None or self.solver.equilibrium is not None)  # all is in the energy
        self.rises += int(rose)
        self.turns += int(turned)
        if turned or rose:
            best = min(best, 0.5 * last)
        self.exceeded += int(ratio > 1 and last <= self.shortest)
        return self._bounded(best)

    def _bounded(self, dt) -> float:
        return float(min(max(dt, self.shortest), self.longest))

    # --- the state

    def state(self) -> dict:
        """For a checkpoint: restore(state()) goes on as if nothing had happened."""
        names = ("dt", "repeated", "rises", "turns", "exceeded")
        return {name: getattr(self, name) for name in names} | dict(
            energy=self._energy if math.isfinite(self._energy) else None
        )

    def restore(self, state: dict) -> None:
        for name in ("repeated", "rises", "turns", "exceeded"):
            setattr(self, name, int(state[name]))
        self.dt = self._bounded(state["dt"])
        self._energy = math.inf if state["energy"] is None else float(state["energy"])


def fastest_growth_time(solver) -> float:
    """4 ε/(M g''²) at the lowest g'' between the minima of the well; for a convex one the same of g'' at its centre."""
    minima = solver.well.minima()
    curvature = (
        solver.well.energy(np.linspace(minima[0], minima[-1], 1001), 2)
        if minima
        else [solver.well.energy(solver.well.centre, 2)]
    )
    lowest = min(curvature)
    return 4 * solver.epsilon / (solver.mobility * (lowest if lowest < 0 else max(curvature)) ** 2)
