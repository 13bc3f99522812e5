"""The semi-implicit spectral Cahn–Hilliard stepper."""

from __future__ import annotations

import numpy as np

from ostwald.app.kernels import _cahn_hilliard
from ostwald.app.phasefield.equilibrium import Equilibrium, HeterogeneousElasticity
from ostwald.app.phasefield.errors import Diverged
from ostwald.app.phasefield.planes import GivenPlanes
from ostwald.parallel import Fourier


class CahnHilliard:
    """∂φ/∂t = M ∇² (g'(φ) - ε∇²φ + Yφ) in a periodic box, the free energy F = ∫ g + ε/2 |∇φ|² dx + elastic energy.

    A step is (Lanzoni et al., Eq. 6.8)

        φ^ ← (φ^ - dt M q² FFT[g'(φ)]) / (1 + dt M (ε q⁴ + Y q²)):

    first order in dt; only g' is explicit. φ^ stays in k-space, so a step is one transform forth and one back.

    world, shape, dtype, ranks, shared: as for parallel.Fourier. well: g. epsilon: ε, the coefficient of the gradient
    energy (κ elsewhere). mobility: M. spacing: dx, a number or one per axis. elasticity: an Elasticity, a
    HeterogeneousElasticity or None. noise: a Noise or None.

    extra: None, or the spectrum of another chemical potential (scaled as that of the field: fourier.forward(μ, extra, 1/points)) that
    every step takes as explicit beside g', so that it may be changed between steps. It counts in no energy. Heterogeneous elasticity uses it.
    time, steps; mean: <φ>, a float that never changes; what is transformed is φ - <φ>, whose mode q = 0 is exactly zero.
    """

    equation = "Cahn–Hilliard"
    conserved = True

    def __init__(
        self,
        world,
        shape,
        well,
        epsilon,
        mobility=1.0,
        spacing=1.0,
        dtype=np.float64,
        elasticity=None,
        ranks=None,
        shared=True,
        noise=None,
    ):
        if not epsilon > 0 or not mobility > 0:
            raise ValueError(f"ε and M must be positive, not {epsilon}, {mobility}")
        self.fourier = self.parts = Fourier(world, shape, dtype, ranks, shared)
        shape, self.dtype = self.fourier.shape, self.fourier.dtype
        self.spacing = tuple(float(h) for h in np.broadcast_to(spacing, len(shape)))
        if min(self.spacing) <= 0:
            raise ValueError(f"grid spacings must be positive, not {spacing}")
        if elasticity is not None and elasticity.dimensions != len(shape):
            raise ValueError(f"elasticity of {elasticity.dimensions} dimensions on a grid of {len(shape)}")
        if elasticity is not None and elasticity.loaded and not self.conserved:
            raise ValueError("an applied mean strain or stress needs a conserved order parameter")
        self.world, self.well, self.elasticity, self.noise = world, well, elasticity, noise
        self.epsilon, self.mobility = float(epsilon), float(mobility)
        self.points = int(np.prod(shape))
        self.volume = float(np.prod(shape) * np.prod(self.spacing))
        self.time, self.steps, self.mean = 0.0, 0, 0.0
        self._moduli = elasticity.kernel() if elasticity is not None else None
        self._energy = well.kernel()
        self.spectrum, self.extra = self.fourier.spectrum(), None
        self._wave_numbers()
        self.equilibrium = Equilibrium(self) if isinstance(elasticity, HeterogeneousElasticity) else None

    @property
    def boundaries(self) -> tuple[str, ...]:
        """Of each axis."""
        return ("periodic",) * len(self.fourier.shape)

    def _wave_numbers(self):
        f, h = self.fourier, self.spacing
        n0, n1, n2 = f.shape if len(f.shape) == 3 else (f.shape[0], 1, f.shape[1])
        kinds = f.dtype
        self._kx = (2 * np.pi * np.fft.fftfreq(n0, h[0])).astype(kinds)
        self._ky = (2 * np.pi / (n1 * h[1]) * f.ky * (n1 > 1)).astype(kinds)
        self._kz = (2 * np.pi / (n2 * h[-1]) * f.kz).astype(kinds)
        self._weights = f.weights.astype(kinds)

    @property
    def waves(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Wave numbers kx (n0,), ky (columns,), kz (columns, W)."""
        return self._kx, self._ky, self._kz

    # --- the field

    def set_field(self, phi, time: float = 0.0, steps: int = 0) -> None:
        """Collective. phi: this rank's brick, shape fourier.local, or a function (first, last) -> its planes
        first ... last - 1, so that the whole field need not exist. Finite; kept as the transform of φ - <φ>.
        """
        f = self.fourier
        planes = GivenPlanes(f, phi, self.well.centre, f.dtype)
        f.forward(planes, self.spectrum, 1.0 / self.points)
        self.mean = planes.mean()
        origin = self._origin()
        self.spectrum[origin, 0, 0] = self.spectrum[origin, 0, f.lanes] = 0  # the mean has its own place
        f.restore(self.spectrum)
        self.time, self.steps = float(time), int(steps)
        if self.equilibrium is not None:
            self.equilibrium.reset()

    def _changed(self) -> None:
        """φ is another one now."""
        if self.equilibrium is not None:
            self.equilibrium.outdate()

    def _origin(self) -> np.ndarray:
        """The column of the mean, where this rank has it: (0 or 1,)."""
        return np.flatnonzero((self.fourier.ky == 0) & (self.fourier.kz[:, 0] == 0))

    def field(self) -> np.ndarray:
        """φ: this rank's brick."""
        phi = self.fourier.read()
        phi += self.mean
        return phi

    def pieces(self):
        """φ piece by piece: (first, last, planes first ... last - 1 of this rank's brick), in memory that is used again.

        Collective when it starts.
        """
        for first, last, piece in self.fourier.pieces():
            piece += self.mean
            yield first, last, piece

    # --- the state

    def state(self) -> tuple[dict, dict, dict]:
        """What a checkpoint must hold: arrays, the place of their first rows among all ranks', numbers (write_checkpoint)."""
        arrays, numbers = {"spectrum": self.spectrum}, dict(mean=self.mean, time=self.time, steps=self.steps)
        if self.equilibrium is not None:
            more, numbers["equilibrium"] = self.equilibrium.state()
            arrays |= more
        return arrays, dict.fromkeys(arrays, self.fourier.first_column), numbers

    def targets(self) -> dict:
        """Where the arrays of a checkpoint go (read_checkpoint); then restore()."""
        arrays = {"spectrum": self.spectrum}
        if self.equilibrium is not None:
            arrays |= self.equilibrium.state()[0]
        return {name: (self.fourier.first_column, array) for name, array in arrays.items()}

    @property
    def converter(self):
        """What reads arrays that another width of vectors wrote (read_checkpoint), or None."""
        return self.fourier.fill_columns

    def restore(self, numbers: dict) -> None:
        """Collective: goes on from the spectrum that was read and these numbers of state(); on as many ranks bit for bit."""
        self.mean, self.time, self.steps = float(numbers["mean"]), float(numbers["time"]), int(numbers["steps"])
        self.fourier.restore(self.spectrum)
        if self.equilibrium is not None:
            self.equilibrium.restore(numbers["equilibrium"])

    # --- steps

    def step(self, dt: float, count: int = 1) -> None:
        """`count` steps of dt. Raises ValueError where dt is not positive."""
        self._test(dt)
        for _ in range(count):
            self._step(dt, None, None)

    def measured_step(self, dt: float) -> dict[str, float]:
        """Collective. One step; returns what measure() would have told before it, at next to no cost."""
        self._test(dt)
        (real, waves), mean = self._sums(), self.mean
        self._step(dt, real, waves)
        return self._report(real, waves, mean)

    def _test(self, dt):
        if not dt > 0 or not np.isfinite(dt):
            raise ValueError(f"a time step must be positive, not {dt}")

    def _step(self, dt, real, waves):
        f, threads = self.fourier, self.world.threads
        if self.equilibrium is not None:
            self.extra = self.equilibrium.update()
        shift, n2 = self.mean - self.well.centre, f.shape[-1]
        f.planes(
            lambda rows, n1, along_y: _cahn_hilliard.planes(
                rows, n1, n2, self._energy, shift, real, False, along_y, threads
            )
        )
        f.columns(lambda slabs: self._columns(slabs, dt, waves, threads))
        self.time += dt
        self.steps += 1
        self._changed()

    def _columns(self, slabs, dt, waves, threads):
        rate, relaxation = self._rates(dt)
        noise = self.noise.kernel(self) if self.noise is not None else None
        _cahn_hilliard.columns(
            slabs, self.spectrum, self._kx, self._ky, self._kz, self._weights, rate, relaxation, self.points, self.epsilon,
            self._moduli, self.extra, noise, waves, threads,
        )  # fmt: skip

    def _rates(self, dt) -> tuple[float, float]:
        """What multiplies q² μ^, and what μ^ alone, in a step of dt."""
        return dt * self.mobility, 0.0

    # --- what there is to know

    def measure(self) -> dict[str, float]:
        """Collective. Free energy F and its parts (bulk, gradient, elastic), lowest and highest φ, mean.

        Sums are in double precision whatever the field's. Raises Diverged where the field is not finite.
        """
        real, waves = self._sums()
        if self.equilibrium is not None:
            self.equilibrium.update()
        f, threads = self.fourier, self.world.threads
        shift, n2 = self.mean - self.well.centre, f.shape[-1]
        f.look(
            lambda rows, n1, along_y: _cahn_hilliard.planes(
                rows, n1, n2, self._energy, shift, real, True, along_y, threads
            )
        )
        _cahn_hilliard.powers(self.spectrum, self._kx, self._ky, self._kz, self._weights, self._moduli, waves, threads)
        return self._report(real, waves, self.mean)

    @property
    def uncertainty(self) -> float:
        """Of the energy that measure() tells, beyond rounding: that of an elastic equilibrium."""
        return self.equilibrium.uncertainty if self.equilibrium is not None else 0.0

    def _sums(self):
        f = self.fourier
        per = 2 * f.lanes
        planes, ny = f.local[0], f.local[1] if len(f.shape) == 3 else 1
        groups = -(-planes // per) if ny == 1 else planes * -(-ny // per)
        return np.empty((groups, 3)), np.empty((f.columns_here, 2))

    def _report(self, real, waves, mean) -> dict[str, float]:
        parts = np.array([real[:, 0].sum(), waves[:, 0].sum(), waves[:, 1].sum()])
        bulk, gradient, elastic = self.world.allreduce(parts)
        low, high = real[:, 1].min(initial=np.inf), real[:, 2].max(initial=-np.inf)
        low, high = self.world.allreduce(np.array([low, -high]), "min") * (1, -1) + mean
        bulk *= self.volume / self.points
        gradient *= 0.5 * self.epsilon * self.volume
        elastic *= 0.5 * self.volume if self._moduli is not None else 0.0
        if self.equilibrium is not None:
            elastic = self.equilibrium.energy
        elif self.elasticity is not None:
            elastic += self.volume * self.elasticity.applied_energy
        energy = bulk + gradient + elastic
        if not np.isfinite([energy, low, high]).all():
            raise Diverged(f"the field is no longer finite at step {self.steps}, time {self.time:g}")
        return dict(
            energy=float(energy), bulk=float(bulk), gradient=float(gradient), elastic=float(elastic), low=float(low),
            high=float(high), mean=mean,
        )  # fmt: skip

    def describe(self) -> str:
        """One line: grid, ranks, ε, M."""
        return f"{self.equation}, {self.fourier.describe()}, ε {self.epsilon:g}, M {self.mobility:g}"

    def close(self) -> None:
        """Collective: releases the shared memory."""
        self.fourier.close()
        if self.equilibrium is not None:
            self.equilibrium.close()
