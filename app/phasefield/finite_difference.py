"""Explicit finite differences for the Cahn–Hilliard equation, and what all solvers on ghosted grids share."""

from __future__ import annotations

import numpy as np

from ostwald.app.kernels import _finite_difference
from ostwald.app.phasefield.errors import Diverged
from ostwald.app.phasefield.planes import GivenPlanes
from ostwald.parallel import Fourier, Ghosts, Parts

WIDTH = 2  # ghost layers: ∇² twice
LINE = 64  # bytes that lines are padded to, and by


class FiniteDifference:
    """∂φ/∂t = M ∇²(g'(φ) - ε∇²φ), the free energy F = ∫ g + ε/2 |∇φ|² dx, on a grid with differences of second order:
    ∇² is the sum over axes of (φ_{i-1} - 2 φ_i + φ_{i+1})/h² (5 points in two dimensions, 7 in three), |∇φ|² that of
    ((φ_{i+1} - φ_i)/h)², so that μ is the derivative of the discrete F and F never rises where the step is short enough.

    A step is forward Euler, φ ← φ + dt M ∇²μ: the scheme that the reference data of Lanzoni et al. were made with. It is stable up to
    dt = `longest_step` = 2/(M λ (g''_max + ε λ)), λ = 4 Σ 1/h².

    world: World. shape: two or three lengths, any. well: g. epsilon: ε. mobility: M. spacing: h, one or one per axis. dtype: float64 or
    float32. boundaries: "periodic", or "mirror" for walls that nothing flows through (∂φ/∂n = ∂μ/∂n = 0), half a spacing beyond
    the outermost points; one for all axes or one for each. ranks: as for parallel.Parts.

    time, steps; mean: <φ> of the field that was set. The same bits on any number of ranks and threads.
    """

    equation, conserved, elasticity, equilibrium, uncertainty = "Cahn–Hilliard", True, None, None, 0.0

    def __init__(
        self,
        world,
        shape,
        well,
        epsilon,
        mobility=1.0,
        spacing=1.0,
        dtype=np.float64,
        boundaries="periodic",
        ranks=None,
    ):
        if not epsilon > 0 or not mobility > 0:
            raise ValueError(f"ε and M must be positive, not {epsilon}, {mobility}")
        self.parts, self.dtype = Parts(world, shape, ranks), np.dtype(dtype)
        shape, pad = self.parts.shape, LINE // self.dtype.itemsize
        self._ghosts = Ghosts(self.parts, WIDTH, dtype, row=-(-shape[-1] // pad) * pad + pad, boundaries=boundaries)
        self.boundaries = self._ghosts.boundaries
        self.spacing = tuple(float(h) for h in np.broadcast_to(spacing, len(shape)))
        if min(self.spacing) <= 0:
            raise ValueError(f"grid spacings must be positive, not {spacing}")
        self.world, self.well = world, well
        self.epsilon, self.mobility = float(epsilon), float(mobility)
        self.points = int(np.prod(shape))
        self.volume = float(np.prod(shape) * np.prod(self.spacing))
        self.time, self.steps, self.mean = 0.0, 0, 0.0
        self._u = self._ghosts.empty()  # φ - centre
        self._u[:] = 0
        self._edges = np.empty((2, WIDTH, *self._u.shape[1:]), dtype) if self._overlaps else None
        self._fourier = None

    @property
    def _overlaps(self) -> bool:
        """Whether inner planes can move on before the ghosts are there."""
        return self.parts.ranks[0] > 1 and self.parts.ranks[1] == 1 and self.parts.local[0] >= 4 * WIDTH

    @property
    def longest_step(self) -> float:
        """The longest stable step about any φ between the outermost minima of g."""
        minima = self.well.minima()
        between = np.linspace(minima[0], minima[-1], 1001) if minima else np.array([self.well.centre])
        most = float(np.max(self.well.energy(between, 2)))
        highest = 4 * sum(1 / h**2 for h in self.spacing)
        return 2 / (self.mobility * highest * (max(most, 0.0) + self.epsilon * highest))

    # --- the field

    def set_field(self, phi, time: float = 0.0, steps: int = 0) -> None:
        """Collective. phi: this rank's brick, shape parts.local, or a function (first, last) -> its planes first ... last - 1."""
        planes, inner = GivenPlanes(self.parts, phi, self.well.centre, self.dtype), self._ghosts.inner(self._u)
        for first, last in self._chunks():
            inner[first:last] = planes(first, last)
        self.mean = planes.mean()
        self.time, self.steps = float(time), int(steps)

    def field(self) -> np.ndarray:
        """φ: this rank's brick."""
        return self._ghosts.inner(self._u) + self.dtype.type(self.well.centre)

    def pieces(self):
        """φ piece by piece: (first, last, planes first ... last - 1 of this rank's brick)."""
        inner, centre = self._ghosts.inner(self._u), self.dtype.type(self.well.centre)
        for first, last in self._chunks():
            yield first, last, inner[first:last] + centre

    def _chunks(self):
        """(first, last) of some MiB."""
        count = max(1, (1 << 20) // max(1, int(np.prod(self.parts.local[1:]))))
        return [(a, min(a + count, self.parts.local[0])) for a in range(0, self.parts.local[0], count)]

    @property
    def fourier(self) -> Fourier:
        """Collective where it is made. The transforms of this grid, for the structure factor; ValueError where there are none."""
        if self._fourier is None:
            if set(self.boundaries) != {"periodic"}:
                raise ValueError("a box with walls has no structure factor")
            self._fourier = Fourier(self.world, self.parts.shape, self.dtype, self.parts.ranks)
        return self._fourier

    @property
    def spectrum(self) -> np.ndarray:
        """Collective. That of φ - <φ>, as CahnHilliard keeps it: made anew each time."""
        f, inner = self.fourier, self._ghosts.inner(self._u)
        shift = self.dtype.type(self.mean - self.well.centre)
        spectrum = f.forward(lambda first, last: inner[first:last] - shift, scale=1 / self.points)
        column = np.flatnonzero((f.ky == 0) & (f.kz[:, 0] == 0))
        spectrum[column, 0, 0] = 0
        return spectrum

    # --- the state

    def state(self) -> tuple[dict, dict, dict]:
        """Collective. What a checkpoint must hold: arrays, the place of their first rows among all ranks', numbers (write_checkpoint)."""
        planes = self.parts.to_planes(self._ghosts.inner(self._u))
        numbers = dict(mean=self.mean, time=self.time, steps=self.steps)
        return {"field": planes}, {"field": self.parts.first_plane}, numbers

    def targets(self) -> dict:
        """Where the arrays of a checkpoint go (read_checkpoint); then restore()."""
        self._read = np.empty(self.parts.planes_shape, self.dtype)
        return {"field": (self.parts.first_plane, self._read)}

    converter = None  # of arrays that depend on the width of vectors: there are none

    def restore(self, numbers: dict) -> None:
        """Collective: goes on from the field that was read and these numbers of state(); bit for bit, on any number of ranks."""
        self._ghosts.inner(self._u)[:] = self.parts.from_planes(self._read)
        self._read = None
        self.mean, self.time, self.steps = float(numbers["mean"]), float(numbers["time"]), int(numbers["steps"])

    # --- steps

    def step(self, dt: float, count: int = 1) -> None:
        """Collective. `count` steps of dt. Raises ValueError where dt is not positive."""
        self._check(dt)
        for _ in range(count):
            if self._overlaps:
                self._overlapped_step(dt)
            else:
                self._ghosts.exchange(self._u)
                self._flow(dt)
            self._moved(dt)

    def measured_step(self, dt: float) -> dict[str, float]:
        """Collective. One step; returns what measure() would have told before it."""
        self._check(dt)
        sums = self._sums()
        self._ghosts.exchange(self._u)
        self._flow(dt, sums=sums)
        report = self._report(sums)
        self._moved(dt)
        return report

    def _overlapped_step(self, dt):
        """The planes that need no ghosts move on while the ghosts are on their way; the outermost ones, with copies of what those
        before and behind them were, afterwards."""
        n, u, (low, high) = self.parts.local[0], self._u, self._edges
        self._ghosts.start(u)
        low[:], high[:] = u[2 * WIDTH : 3 * WIDTH], u[n - WIDTH : n]
        self._flow(dt, WIDTH, n - WIDTH)
        self._ghosts.finish()
        self._flow(dt, 0, WIDTH, above=low)
        self._flow(dt, n - WIDTH, n, below=high)

    def _flow(self, dt, first=0, last=None, below=None, above=None, sums=None):
        spacing = self.spacing if len(self.spacing) == 3 else (self.spacing[0], 1.0, self.spacing[1])
        _finite_difference.flow(
            self._u, self.parts.shape[-1], first, self.parts.local[0] if last is None else last, spacing, self.well.kernel(),
            self.epsilon, dt * self.mobility, self.boundaries[-1] == "mirror", below, above, sums, self.world.threads,
        )  # fmt: skip

    @staticmethod
    def _check(dt):
        if not dt > 0 or not np.isfinite(dt):
            raise ValueError(f"a time step must be positive, not {dt}")

    def _moved(self, dt):
        self.time += dt
        self.steps += 1

    # --- what there is to know

    def measure(self) -> dict[str, float]:
        """Collective. Free energy F and its parts (bulk, gradient; elastic is 0), lowest and highest φ, mean.

        Sums are in double precision whatever the field's. Raises Diverged where the field is not finite.
        """
        sums = self._sums()
        self._ghosts.exchange(self._u)
        self._flow(0.0, sums=sums)
        return self._report(sums)

    def _sums(self):
        return np.zeros((self.parts.local[0], 5))

    def _report(self, sums) -> dict[str, float]:
        bulk, slope, total = self.world.allreduce(sums[:, :3].sum(axis=0))
        extremes = np.array([sums[:, 3].min(initial=np.inf), -sums[:, 4].max(initial=-np.inf)])
        low, high = self.world.allreduce(extremes, "min") * (1, -1) + self.well.centre
        cell = self.volume / self.points
        bulk, gradient = bulk * cell, 0.5 * self.epsilon * slope * cell
        if not np.isfinite([bulk, gradient, low, high]).all():
            raise Diverged(f"the field is no longer finite at step {self.steps}, time {self.time:g}")
        mean = self.well.centre + float(total) / self.points
        return dict(
            energy=float(bulk + gradient), bulk=float(bulk), gradient=float(gradient), elastic=0.0, low=float(low),
            high=float(high), mean=mean,
        )  # fmt: skip

    def describe(self) -> str:
        """One line: grid, ranks, ε, M."""
        grid, (p0, p1) = " x ".join(map(str, self.parts.shape)), self.parts.ranks
        walls = [str(axis) for axis, kind in enumerate(self.boundaries) if kind == "mirror"]
        walls = f", walls across axis {', '.join(walls)}" if walls else ""
        return (
            f"{self.equation}, explicit finite differences, grid {grid}, {self.dtype.name}{walls}, parts {p0} x {p1}, "
            f"ε {self.epsilon:g}, M {self.mobility:g}"
        )

    def close(self) -> None:
        """Collective: releases the shared memory."""
        if self._fourier is not None:
            self._fourier.close()
