"""Elastic equilibrium where the moduli depend on φ: displacements by conjugate gradients on Green's operator."""

from __future__ import annotations

import numpy as np

from ostwald.app.kernels import _elastic, _fft
from ostwald.app.phasefield.elasticity import Elasticity
from ostwald.app.phasefield.errors import NoEquilibrium

MOST = 500
"""Iterations before the search is given up."""
FARTHEST = 2.0
"""Most that displacements are carried on beyond those found last, in intervals between the last two."""


class HeterogeneousElasticity:
    """Moduli that go from C_low to C_high with φ, and a stress-free strain ε* (φ - <φ>).

    low, high: (6, 6), the constants at φ = between[0] and between[1]. eigenstrain, dimensions, mean_strain, mean_stress: as for
    Elasticity. smooth: C goes by u³ (10 - 15 u + 6 u²), u = 0 … 1 between the two φ, and stays beyond them; otherwise it is linear in φ
    everywhere. tolerance: of the root mean square of strains, relative to those of the misfit (and of the load).

    The energy is ½ ∫ (ε - ε*):C(φ):(ε - ε*) dx - V Σ:<ε>, Σ an applied stress, in the equilibrium of forces; its derivative,
    μ = -ε*:σ + ½ (ε - ε*):C'(φ):(ε - ε*), adds to the chemical potential.

    reference: the Elasticity of the middle of the moduli.
    """

    def __init__(
        self, low, high, eigenstrain, dimensions=3, between=(0.0, 1.0), smooth=True, mean_strain=None, mean_stress=None,
        tolerance=1e-6,
    ):  # fmt: skip
        ends = [Elasticity(c, eigenstrain, dimensions) for c in (low, high)]
        middle = 0.5 * (np.array(low, float) + np.array(high, float))
        self.reference = Elasticity(middle, eigenstrain, dimensions, mean_strain, mean_stress)
        self.dimensions, self.components, self.axes = dimensions, self.reference.components, self.reference.axes
        first, last = (float(x) for x in between)
        if not first < last or not 0 < tolerance < 1:
            raise ValueError("the two φ of moduli must ascend, and a tolerance lies between 0 and 1")
        self.between, self.smooth, self.tolerance = (first, last), bool(smooth), float(tolerance)
        here = np.ix_(self.axes, self.axes)
        self.low, self.high = (e.voigt[here] for e in ends)
        self.eigenstrain = self.reference.eigenstrain[self.axes]
        self.free = mean_strain is None  # the mean strain follows the stress

    @property
    def energy0(self) -> float:
        """ε*:C:ε* of the reference."""
        return self.reference.energy0

    @property
    def loaded(self) -> bool:
        """Whether a mean strain or stress is applied."""
        return self.reference.loaded

    @property
    def arrays(self) -> int:
        """What an Equilibrium holds, in arrays of the size of a spectrum."""
        return 4 * self.dimensions + len(self.components) + 2

    def factor(self, *n) -> np.ndarray:
        """Y(n) of the reference."""
        return self.reference.factor(*n)

    def kernel(self) -> tuple:
        """Of the reference, which steps take as implicit."""
        return self.reference.kernel()

    def range(self) -> tuple[float, float]:
        """The φ between which the moduli are positive definite."""
        if self.smooth:
            return -np.inf, np.inf
        root = np.linalg.inv(np.linalg.cholesky(self.low))
        slopes = np.linalg.eigvalsh(
            root @ (self.high - self.low) @ root.T
        )  # C_low + u (C_high - C_low) = 0 at u = -1/slope
        ends = [-1 / s for s in slopes if s]
        first, last = self.between
        low, high = max([u for u in ends if u < 0], default=-np.inf), min([u for u in ends if u > 0], default=np.inf)
        return first + low * (last - first), first + high * (last - first)


class Equilibrium:
    """Stresses and strains of a solver whose elasticity is heterogeneous.

    update() finds them for the present φ, starting from the last two that were found, and gives the chemical potential beyond that of the
    reference medium; outdate() says that φ changed. energy, mean_strain, mean_stress (components, shears of strain twice),
    iterations: of the last update.

    displacement (d, columns, n0, 2 W): i u^, so that strains are (q_i u_j + q_j u_i)/2.
    """

    def __init__(self, solver):
        self.solver, self.elasticity, f = solver, solver.elasticity, solver.fourier
        e = self.elasticity
        self._transforms = [f.another() for _ in e.components]
        shape = (e.dimensions, *solver.spectrum.shape)
        self.displacement, self._before, self._residual, self._direction = (np.zeros(shape, f.dtype) for _ in range(4))
        self.potential = f.spectrum()
        lines, n2 = 2 * f.lanes, f.shape[-1]
        planes, ny = f.local[0], f.local[1] if len(f.shape) == 3 else 1
        groups = -(-planes // lines) if ny == 1 else planes * -(-ny // lines)
        self._phi = np.empty((groups, n2, lines), f.dtype)
        self._sums = np.empty((groups, 1 + len(e.components)))
        self._powers = np.empty(f.columns_here)
        self._waves, self._weights = slopes(solver), f.weights.astype(f.dtype)
        here = np.ix_(e.axes, e.axes)
        self._stiffness = e.reference.voigt[here]
        self._of_mean = np.linalg.inv(self._stiffness) * e.reference.scale**2  # the kernels' A is over scale²
        self._load = e.reference.applied_stress[e.axes] if e.free else None
        self.mean_strain = e.reference.applied_strain[e.axes].copy()
        self.mean_stress, self._strain_before = np.zeros_like(self.mean_strain), self.mean_strain.copy()
        self._times = (np.nan, np.nan)  # of what was found before the last and last
        self.energy, self.iterations, self._scale, self._current = np.nan, 0, 0.0, False

    def outdate(self) -> None:
        """φ is another one now."""
        self._current = False

    @property
    def uncertainty(self) -> float:
        """Of the energy, for the tolerance: half the square of the residual, in the softer phase."""
        e = self.elasticity
        softer = max(np.linalg.eigvals(np.linalg.solve(c, self._stiffness)).real.max() for c in (e.low, e.high))
        return 0.5 * e.tolerance**2 * softer * self._scale * self.solver.volume

    def reset(self) -> None:
        """Nothing is known: what is found then does not depend on what was found before."""
        self.displacement[:] = 0
        self._times = (np.nan, np.nan)
        self.mean_strain[:] = self.elasticity.reference.applied_strain[self.elasticity.axes]
        self.outdate()

    def update(self) -> np.ndarray:
        """Collective. Equilibrium of the present φ. Returns the spectrum of μ less that of the reference medium.

        Raises NoEquilibrium.
        """
        if not self._current:
            self._stage()
            self._relax()
            self._evaluate()
            self._current = True
        return self.potential

    # --- the state

    def state(self) -> tuple[dict, dict]:
        """Arrays by columns, and numbers, for a checkpoint."""
        arrays = {f"displacement_{i}": u for i, u in enumerate(self.displacement)}
        arrays |= {f"displacement_before_{i}": u for i, u in enumerate(self._before)}
        strains = dict(mean_strain=self.mean_strain.tolist(), strain_before=self._strain_before.tolist())
        return arrays, strains | dict(times=[None if np.isnan(t) else t for t in self._times], current=self._current)

    def restore(self, numbers) -> None:
        """Collective. What follows from displacements that were read and these numbers; on as many ranks bit for bit."""
        self.mean_strain[:], self._strain_before[:] = numbers["mean_strain"], numbers["strain_before"]
        self._times = tuple(np.nan if t is None else t for t in numbers["times"])
        self._current = bool(numbers["current"])
        if self._current:
            self._stage()
            self._evaluate()

    def close(self) -> None:
        """Collective: releases the shared memory."""
        for f in self._transforms:
            f.close()

    # --- fields

    def pieces(self, of_strain=None, of_stress=None, of_energy=0.0):
        """of_strain·ε + of_stress·σ + of_energy e:C:e/2, e = ε - ε*, piece by piece as CahnHilliard.pieces(). Collective."""
        self.update()
        zero, f = [0.0] * len(self.mean_strain), self._transforms[0]
        combination = [
            *(zero if of_strain is None else of_strain),
            *(zero if of_stress is None else of_stress),
            of_energy,
        ]
        self._strains(self.displacement)
        (all_rows, n1, along_y), per = self._rows(), 2 * f.lanes
        buffer = f.field()[: max((b - a for a, b in f.ranges()), default=0)]
        per_plane = -(-n1 // per) if len(f.shape) == 3 else None
        for first, last in f.ranges():
            groups = slice(first * per_plane, last * per_plane) if per_plane else slice(first // per, -(-last // per))
            piece = buffer[: last - first]
            _elastic.planes(
                [rows[first:last] for rows in all_rows], self._phi[groups], n1, f.shape[-1], self._crystal, self.mean_strain,
                "combination", combination, None, piece.reshape(last - first, n1, f.shape[-1]), along_y, self.solver.world.threads,
            )  # fmt: skip
            yield first, last, piece
        f.settle()

    # --- inside

    def _stage(self):
        """φ - <φ> as groups of lines; the scale of strains; C(φ) must be positive definite."""
        solver, e, extremes = self.solver, self.elasticity, np.empty((len(self._phi), 3))
        n2, threads = solver.fourier.shape[-1], solver.world.threads
        solver.fourier.look(
            lambda rows, n1, along_y: _elastic.stage(rows, self._phi, extremes, n1, n2, along_y, threads)
        )
        ends = solver.world.allreduce(np.array([extremes[:, 0].min(initial=0), -extremes[:, 1].max(initial=0)]), "min")
        low, high = ends * (1, -1) + solver.mean
        least, most = e.range()
        if not least < low or not high < most:
            raise NoEquilibrium(
                f"moduli linear in φ are positive definite between φ = {least:.6g} and {most:.6g} only; at step {solver.steps} φ "
                f"runs from {low:.6g} to {high:.6g}"
            )
        square = solver.world.allreduce(float(extremes[:, 2].sum())) / solver.points
        loads = float(self.mean_strain @ self._stiffness @ self.mean_strain)
        if e.free:
            loads = float(self._load @ np.linalg.solve(self._stiffness, self._load))
        self._scale = e.energy0 * square + loads
        first, last = e.between
        width = 1 / (last - first)
        self._crystal = (
            e.low.tolist(), (e.high - e.low).tolist(), e.eigenstrain.tolist(), (solver.mean - first) * width, width, e.smooth,
        )  # fmt: skip

    def _relax(self):
        """Preconditioned conjugate gradients; the mean strain, where it is free, is one more unknown."""
        e, rest = self.elasticity, np.zeros_like(self.mean_strain)
        step, limit = np.zeros_like(rest), e.tolerance**2 * self._scale * e.reference.scale**2
        self._extrapolate()
        _, stress = self._stresses("stress of load", self.mean_strain)
        size = self._forces(None)
        if e.free:
            rest = self._load - stress
        size += float(rest @ self._of_mean @ rest)
        self.iterations, beta = 0, 0.0
        while size > limit:
            if self.iterations == MOST or not np.isfinite(size):
                left = e.tolerance * np.sqrt(size / limit)
                raise NoEquilibrium(
                    f"elastic equilibrium was not found in {self.iterations} iterations at step {self.solver.steps}: strains are "
                    f"uncertain by {left:.3g} of the misfit's, not {e.tolerance:g}"
                )
            self._strains(self._direction, beta, residual=self._residual)
            step = self._of_mean @ rest + beta * step
            curvature, stress = self._stresses("stress", step)
            alpha = size / curvature
            last, size = size, self._forces(alpha)
            if e.free:
                self.mean_strain += alpha * step
                rest = rest - alpha * stress
            size += float(rest @ self._of_mean @ rest)
            beta = size / last
            self.iterations += 1

    def _strains(self, direction, beta=0.0, residual=None, before=None):
        """Rows of the strains of direction: as it is, ← A⁻¹ residual + β direction, or ← direction + β (direction - before)."""
        _elastic.backward(
            [f.slabs for f in self._transforms], residual, before, direction, *self._waves, self.elasticity.kernel(), beta,
            self.solver.world.threads,
        )  # fmt: skip
        for f in self._transforms:
            f.give_back()

    def _extrapolate(self):
        """Rows of the strains to start with: those found last, carried on linearly in time."""
        now, (earlier, last) = self.solver.time, self._times
        ratio = min((now - last) / (last - earlier), FARTHEST) if earlier < last < now else 0.0
        self._strains(self.displacement, ratio, before=self._before)
        strain = self.mean_strain.copy()
        self.mean_strain += ratio * (strain - self._strain_before)
        self._strain_before, self._times = strain, (last, now)

    def _rows(self):
        opened = [f.rows() for f in self._transforms]
        return [rows for rows, _, _ in opened], *opened[0][1:]

    def _stresses(self, give, mean):
        """<σ:ε> and <σ>; the rows of stresses take the place of those of strains."""
        rows, n1, along_y = self._rows()
        _elastic.planes(
            rows, self._phi, n1, self._transforms[0].shape[-1], self._crystal, mean, give, [], self._sums, None, along_y,
            self.solver.world.threads,
        )  # fmt: skip
        for f in self._transforms[: 1 if give == "potential" else None]:
            f.hand_over()
        sums = self.solver.world.allreduce(self._sums.sum(axis=0)) / self.solver.points
        return float(sums[0]), sums[1:]

    def _forces(self, alpha):
        """residual ← residual - α forces, displacement ← displacement + α direction; at first residual ← -forces. <r·A⁻¹ r>"""
        _elastic.forward(
            [f.slabs for f in self._transforms], self._residual, self.displacement, self._direction, *self._waves,
            self._weights, self.elasticity.kernel(), alpha, 1.0 / self.solver.points, self._powers, self.solver.world.threads,
        )  # fmt: skip
        return self.solver.world.allreduce(float(self._powers.sum()))

    def _evaluate(self):
        """Energy, mean stress and chemical potential of the displacements."""
        solver, f = self.solver, self._transforms[0]
        self._strains(self.displacement)
        twice, self.mean_stress = self._stresses("potential", self.mean_strain)
        self.energy = solver.volume * 0.5 * twice
        if self._load is not None:
            self.energy -= solver.volume * float(self._load @ self.mean_strain)
        _fft.forward_columns(f.slabs, self.potential, 1.0 / solver.points, solver.world.threads)
        _elastic.subtract_homogeneous(
            solver.spectrum, self.potential, *solver.waves, self.elasticity.kernel(), solver.world.threads
        )


def slopes(solver) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """kx (n0,), ky (columns,), kz (columns, W) of derivatives: 0 where an even length's last wave number stands for both signs."""
    f, h = solver.fourier, solver.spacing
    n0, n1, n2 = f.shape if len(f.shape) == 3 else (f.shape[0], 1, f.shape[1])
    kx = np.fft.fftfreq(n0, 1 / n0)
    out = []
    for k, n, spacing in ((kx, n0, h[0]), (f.ky, n1, h[1]), (f.kz, n2, h[-1])):
        out.append(np.where(2 * np.abs(k) < n, 2 * np.pi / (n * spacing) * k, 0).astype(f.dtype))
    return tuple(out)
