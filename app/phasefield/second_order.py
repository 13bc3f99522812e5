"""Steps of second order and of any lengths for the Cahn–Hilliard equation, with an estimate of their error."""

from __future__ import annotations

import math

import numpy as np

from ostwald.app.kernels import _second_order
from ostwald.app.phasefield.cahn_hilliard import CahnHilliard

STEEPEST = 2.0
"""The most that a prediction takes of the last change of N: after much longer steps, the correction has to do."""


class SecondOrder(CahnHilliard):
    """CahnHilliard with an exponential predictor and corrector of two steps (kernels/second_order.cpp has the formulas).

    The linear part, with S q² beside ε q⁴ and Y q², is followed by a Padé approximant of its exponential; N = g' - S φ is taken
    as linear in time: a step predicts with the slope of N over the step before, and is corrected when N is known at its end, so
    that each step takes one evaluation of g'. The first step has no slope, which its correction makes good. Beside steps of
    equal lengths being stable for every length where g'' < 4/3 S, the scheme has no error where φ does not change.

    What field(), measure() and spectrum show is the prediction. Two more spectra are held: φ^ before the step that led to
    it, corrected, and N there.

    stabiliser: S; by default the largest g'' between the outermost minima of the well.
    last: length of the step that led to the present state, 0 where there was none.
    """

    order = 2

    def __init__(self, world, shape, well, epsilon, mobility=1.0, spacing=1.0, dtype=np.float64, elasticity=None, ranks=None,
                 shared=True, stabiliser=None):  # fmt: skip
        super().__init__(world, shape, well, epsilon, mobility, spacing, dtype, elasticity, ranks=ranks, shared=shared)
        self.stabiliser = largest_curvature(well) if stabiliser is None else float(stabiliser)
        if not self.stabiliser > 0:
            raise ValueError(f"the stabiliser S must be positive, not {stabiliser}")
        self._corrected, self._potential = self.fourier.spectrum(), self.fourier.spectrum()
        self._changes = np.zeros((self.fourier.columns_here, 6))
        self.last = self._before = 0.0

    # --- the state

    def set_field(self, phi, time: float = 0.0, steps: int = 0) -> None:
        super().set_field(phi, time, steps)
        self._corrected[:] = self.spectrum
        self.last = 0.0

    def state(self) -> tuple[dict, dict, dict]:
        arrays, _, numbers = super().state()
        arrays |= dict(corrected=self._corrected, potential=self._potential)
        return arrays, dict.fromkeys(arrays, self.fourier.first_column), numbers | dict(last=self.last)

    def targets(self) -> dict:
        first = self.fourier.first_column
        return super().targets() | dict(corrected=(first, self._corrected), potential=(first, self._potential))

    def restore(self, numbers: dict) -> None:
        super().restore(numbers)
        self.last = float(numbers["last"])

    # --- steps

    def measured_step(self, dt: float) -> dict[str, float]:
        """Collective. One step; returns what measure() would have told before it, and of the step that had led there its length, timestep (nan: there was none), and changes().

        The error of that step is known only now that the next one is made.
        """
        return super().measured_step(dt) | dict(timestep=self._before or math.nan) | self.changes()

    def changes(self) -> dict[str, float]:
        """Collective. Of the step before the last: error, the root mean square of what its correction changed φ by (over the
        grid); moved, that of φ's change in the step; and turn, the cosine of the angle between this change and that of the step
        after it, below 0 where φ goes back and forth (nan where it does not move).
        """
        error, moved, moves, turn = self.world.allreduce(self._changes[:, 2:].sum(axis=0))
        both = math.sqrt(moved * moves)
        return dict(error=math.sqrt(error), moved=math.sqrt(moved), turn=turn / both if both > 0 else math.nan)

    def repeat(self, dt: float) -> None:
        """Collective. Makes the last step anew, with another length; this takes a transform back along one axis."""
        if not self.last:
            raise ValueError("there is no step to repeat")
        self._test(dt)
        ratio = self._slope(dt) / self._slope(self.last) if self._before else 1.0
        _second_order.repeat(
            self._arrays, self._waves, (self.last, dt, ratio), self._model, self._moduli, self.world.threads
        )
        self.fourier.restore(self.spectrum)
        self.time += dt - self.last
        self.last = float(dt)
        self._changed()

    def _columns(self, slabs, dt, sums, threads):
        self._before = self.last
        _second_order.columns(
            slabs, self._arrays, self._waves, (self.last, dt, self._slope(dt)), self._model, self._changes, self._moduli,
            self.extra, threads,
        )  # fmt: skip
        if sums is not None:
            sums[:] = self._changes[:, :2]
        self.last = float(dt)

    def _slope(self, dt) -> float:
        """Of the last change of N, what a step of dt takes."""
        return min(dt / self._before, STEEPEST) if self._before else 0.0

    @property
    def _arrays(self):
        return self.spectrum, self._corrected, self._potential

    @property
    def _waves(self):
        return self._kx, self._ky, self._kz, self._weights

    @property
    def _model(self):
        return self.points, self.mobility, self.epsilon, self.stabiliser

    def describe(self) -> str:
        return f"{super().describe()}, steps of second order, S {self.stabiliser:g}"


def largest_curvature(well) -> float:
    """The largest g'' between the outermost minima of a well. ValueError where it has none."""
    minima = well.minima()
    if not minima:
        raise ValueError("a well without minima needs a stabiliser S to be given")
    return float(well.energy(np.linspace(minima[0], minima[-1], 1001), 2).max())
