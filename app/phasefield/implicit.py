"""Implicit finite differences for the Cahn–Hilliard equation: long steps, walls, a mobility that depends on φ."""

from __future__ import annotations

import math

import numpy as np

from ostwald.app.kernels import _finite_difference
from ostwald.app.phasefield.errors import TooLong
from ostwald.app.phasefield.finite_difference import FiniteDifference
from ostwald.app.phasefield.variable_mobility import greatest_mobility
from ostwald.parallel import Diagonal, NewtonKrylov, NotConverged

GAMMA = 1 - math.sqrt(0.5)


class Implicit(FiniteDifference):
    """∂φ/∂t = ∇·(M(φ) ∇(g'(φ) - ε∇²φ)) in differences of second order (as FiniteDifference; M between two points is the mean of theirs)
    with implicit steps of second order, stable for any length.

    mobility: M, or the coefficients m_0, m_1, … of Σ m_k φ^k, which is 0 where that is negative: (0, 4, -4) is the degenerate 4 φ (1 - φ).

    A step is two stages of a diagonally implicit Runge–Kutta scheme with γ = 1 - 1/√2 (Alexander 1977; stiffly accurate, L-stable):

        u_1 = u + γ dt f(u_1),    u_2 = u + (1-γ)/γ (u_1 - u) + γ dt f(u_2) = the new u,

    each solved by Newton's method and GMRES, matrix-free. The preconditioner is the exact inverse of 1 + γ dt M λ (a + ελ) in the waves of the
    box, λ = -∇², M the mean mobility, a = g'' of the phases: its iterations depend on neither grid nor, much, the step. The
    mean stays to rounding. float64.

    The error of a step is that of the trapezoidal rule, through the preconditioner, which takes from it what is stiff:

        P⁻¹ (u_2 - u - dt/2 (f(u) + f(u_2))),

    -0.043 (λ dt)³ where the step's own is 0.040 (λ dt)³. So Adaptive takes this solver, too.

    newton, linear: iterations so far. last: length of the step that led to the present state, 0 where there was none.
    """

    order = 2
    extra = None  # chemical potential beside the equation's: there is none

    def __init__(self, world, shape, well, epsilon, mobility=1.0, spacing=1.0, boundaries="periodic", ranks=None):
        coefficients = np.atleast_1d(np.asarray(mobility, float))
        shifted = np.polynomial.Polynomial(coefficients)(np.polynomial.Polynomial([well.centre, 1.0])).coef
        self._mobility = np.pad(shifted, (0, max(0, 2 - len(shifted)))).tolist()
        minima = well.minima() or [well.centre]
        between = np.polynomial.Polynomial(coefficients)(np.linspace(minima[0], minima[-1], 1001))
        most = greatest_mobility(coefficients, well)
        super().__init__(world, shape, well, epsilon, most, spacing, np.float64, boundaries, ranks)
        self._mean_mobility = float(np.maximum(between, 0.0).mean())
        self._curvature = max(0.0, float(np.mean(well.energy(np.array(minima), 2))))
        self._v, self._base, self._rate = self._ghosts.empty(), None, 0.0
        self._v[:] = 0
        self._diagonal = Diagonal(self.parts, self.spacing, self.boundaries)
        size = math.prod(self.parts.local)
        self._solver = NewtonKrylov(world, size, self._residual, self._linearise, self._jacobian, self._precondition)
        self.newton = self.linear = 0
        self.last, self._begun, self._error, self._moved_by = 0.0, None, math.nan, math.nan

    def set_field(self, phi, time: float = 0.0, steps: int = 0) -> None:
        super().set_field(phi, time, steps)
        self.last = 0.0

    def state(self) -> tuple[dict, dict, dict]:
        arrays, starts, numbers = super().state()
        return arrays, starts, numbers | dict(last=self.last, error=self._error, moved=self._moved_by)

    def restore(self, numbers: dict) -> None:
        super().restore(numbers)
        self.last, self._error, self._moved_by = (float(numbers[name]) for name in ("last", "error", "moved"))

    @property
    def longest_step(self) -> float:
        """There is none."""
        return math.inf

    def step(self, dt: float, count: int = 1) -> None:
        """Collective. `count` steps of dt. ValueError where dt is not positive; TooLong, the field as it was, where
        Newton's method finds no solution."""
        self._check(dt)
        for _ in range(count):
            self._advance(dt)

    def measured_step(self, dt: float) -> dict[str, float]:
        """Collective. One step; returns what measure() would have told before it, and of the step that had led there its length,
        timestep (nan: there was none), and changes().
        """
        numbers = self.measure() | dict(timestep=self.last or math.nan) | self.changes()
        self.step(dt)
        return numbers

    def changes(self) -> dict[str, float]:
        """Of the last step: error, and moved, what φ changed by (both root mean squares over the grid); turn is nan: steps that are
        L-stable do not go back and forth."""
        return dict(error=self._error, moved=self._moved_by, turn=math.nan)

    def repeat(self, dt: float) -> None:
        """Collective. Makes the last step anew, with another length."""
        if self._begun is None:
            raise ValueError("there is no step to repeat")
        self._check(dt)
        self._ghosts.inner(self._u)[:] = self._begun.reshape(self.parts.local)
        self.time, self.steps = self.time - self.last, self.steps - 1
        self._advance(dt)

    def _advance(self, dt):
        inner = self._ghosts.inner(self._u)
        u = self._begun = inner.flatten()
        self._linearise(u)
        slope, new, self._rate = self._tendency(None), u.copy(), GAMMA * dt
        for base in (u, None):
            self._base = u + (1 - GAMMA) / GAMMA * (new - u) if base is None else base
            try:
                newton, linear = self._solver.solve(new)
            except NotConverged as error:
                inner[:] = u.reshape(self.parts.local)
                raise TooLong(f"step {self.steps + 1} of {dt:g} at time {self.time:g}: {error}") from error
            self.newton, self.linear = self.newton + newton, self.linear + linear
        inner[:] = new.reshape(self.parts.local)
        moved = new - u
        defect = moved - 0.5 * dt * (slope + (new - self._base) / self._rate)
        self._precondition(defect, defect)
        sums = self.world.allreduce(np.array([defect @ defect, moved @ moved]))
        self._error, self._moved_by = np.sqrt(sums / self.points).tolist()
        self.last = float(dt)
        self._moved(dt)

    # --- what Newton's method asks for

    def _residual(self, x, out):
        self._linearise(x)
        out[:] = x - self._base - self._rate * self._tendency(None)

    def _linearise(self, x):
        self._ghosts.inner(self._u)[:] = x.reshape(self.parts.local)
        self._ghosts.exchange(self._u)

    def _jacobian(self, v, out):
        self._ghosts.inner(self._v)[:] = v.reshape(self.parts.local)
        self._ghosts.exchange(self._v)
        out[:] = v - self._rate * self._tendency(self._v)

    def _tendency(self, direction):
        out = np.empty(self.parts.local)
        spacing = self.spacing if len(self.spacing) == 3 else (self.spacing[0], 1.0, self.spacing[1])
        _finite_difference.tendency(
            self._u, direction, out, self.parts.shape[-1], spacing, self.well.kernel(), self._mobility, self.epsilon,
            self.boundaries[-1] == "mirror", self.world.threads,
        )  # fmt: skip
        return out.ravel()

    def _precondition(self, r, out):
        rate = self._rate * self._mean_mobility
        field = self._diagonal.apply(
            r.reshape(self.parts.local), lambda q2: 1 / (1 + rate * q2 * (self._curvature + self.epsilon * q2))
        )
        out[:] = field.ravel()

    def describe(self) -> str:
        """One line: grid, ranks, ε."""
        return (
            super().describe().replace("explicit", "implicit").replace(f"M {self.mobility:g}", f"M ≤ {self.mobility:g}")
        )

    def close(self) -> None:
        super().close()
        self._solver.close()
