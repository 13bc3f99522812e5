"""Implicit finite differences for the Cahn–Hilliard equation: long steps, walls, a mobility that depends on φ."""

from __future__ import annotations

import math

import numpy as np

from ostwald.app.kernels import _finite_difference
from ostwald.app.phasefield.errors import Diverged
from ostwald.app.phasefield.finite_difference import FiniteDifference
from ostwald.parallel import Diagonal, NewtonKrylov, NotConverged

GAMMA = 1 - math.sqrt(0.5)


class Implicit(FiniteDifference):
    """∂φ/∂t = ∇·(M(φ) ∇(g'(φ) - ε∇²φ)) in differences of second order (as FiniteDifference; M between two points is the mean of theirs)
    with implicit steps of second order, stable for any length.

    mobility: M, or the coefficients m_0, m_1, … of Σ m_k φ^k, positive wherever φ goes.

    A step is two stages of a diagonally implicit Runge–Kutta scheme with γ = 1 - 1/√2 (Alexander 1977; stiffly accurate, L-stable):

        u_1 = u + γ dt f(u_1),    u_2 = u + (1-γ)/γ (u_1 - u) + γ dt f(u_2) = the new u,

    each solved by Newton's method and GMRES, matrix-free. The preconditioner is the exact inverse of 1 + γ dt M λ (a + ελ) in the waves of the
    box, λ = -∇², M the mean mobility, a = g'' of the phases: its iterations depend on neither grid nor, much, the step. The
    mean stays to rounding. float64.

    newton, linear: iterations so far.
    """

    def __init__(self, world, shape, well, epsilon, mobility=1.0, spacing=1.0, boundaries="periodic", ranks=None):
        coefficients = np.atleast_1d(np.asarray(mobility, float))
        shifted = np.polynomial.Polynomial(coefficients)(np.polynomial.Polynomial([well.centre, 1.0])).coef
        self._mobility = np.pad(shifted, (0, max(0, 2 - len(shifted)))).tolist()
        minima = well.minima() or [well.centre]
        between = np.polynomial.Polynomial(coefficients)(np.linspace(minima[0], minima[-1], 1001))
        if not between.min() > 0:
            raise ValueError("a mobility must be positive between the minima of the well")
        super().__init__(world, shape, well, epsilon, float(between.max()), spacing, np.float64, boundaries, ranks)
        self._mean_mobility = float(between.mean())
        self._curvature = max(0.0, float(np.mean(well.energy(np.array(minima), 2))))
        self._v, self._base, self._rate = self._ghosts.empty(), None, 0.0
        self._v[:] = 0
        self._diagonal = Diagonal(self.parts, self.spacing, self.boundaries)
        size = math.prod(self.parts.local)
        self._solver = NewtonKrylov(world, size, self._residual, self._linearise, self._jacobian, self._precondition)
        self.newton = self.linear = 0

    @property
    def longest_step(self) -> float:
        """There is none."""
        return math.inf

    def step(self, dt: float, count: int = 1) -> None:
        """Collective. `count` steps of dt. ValueError where dt is not positive; Diverged, the field as it was, where
        Newton's method finds no solution: dt is far too long."""
        self._check(dt)
        for _ in range(count):
            inner = self._ghosts.inner(self._u)
            u = inner.flatten()
            new, self._rate = u.copy(), GAMMA * dt
            for self._base in (u, None):
                if self._base is None:
                    self._base = u + (1 - GAMMA) / GAMMA * (new - u)
                try:
                    newton, linear = self._solver.solve(new)
                except NotConverged as error:
                    inner[:] = u.reshape(self.parts.local)
                    raise Diverged(f"step {self.steps + 1} of {dt:g} at time {self.time:g}: {error}") from error
                self.newton, self.linear = self.newton + newton, self.linear + linear
            inner[:] = new.reshape(self.parts.local)
            self._moved(dt)

    def measured_step(self, dt: float) -> dict[str, float]:
        """Collective. One step; returns what measure() would have told before it."""
        numbers = self.measure()
        self.step(dt)
        return numbers

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
