"""The spectral Cahn–Hilliard stepper with a mobility that depends on the composition."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ostwald.app.kernels import _mobility
from ostwald.app.phasefield.cahn_hilliard import CahnHilliard

SAMPLES = 1001


def greatest_mobility(coefficients, well) -> float:
    """The largest Σ c_k φ^k between the phases of a well, or between 0 and 1. ValueError where none is positive."""
    phases = well.minima()
    low, high = (phases[0], phases[-1]) if len(phases) > 1 else (0.0, 1.0)
    most = float(np.polynomial.Polynomial(coefficients)(np.linspace(low, high, SAMPLES)).max())
    if not most > 0:
        raise ValueError(f"the mobility is nowhere positive between φ = {low:g} and {high:g}")
    return most


class VariableMobility(CahnHilliard):
    """∂φ/∂t = ∇·(M(φ) ∇μ), μ = g'(φ) - ε∇²φ + Yφ, in all else as CahnHilliard.

    coefficients: M(φ) = mobility · Σ c_k φ^k, k = 0 … up to 12, and 0 where that is negative; (0, 4, -4) is the degenerate
    4 φ (1 - φ). `mobility` is the factor alone; mobility_at(φ) tells M.

    A step is semi-implicit with the constant A = `split`, the largest M between the phases (Zhu et al.):

        φ^ ← φ^ - dt (A q² μ^ - i q·FFT[(M - A) ∇μ]) / (1 + dt A q² (ε q² + Y)),

    first order in dt; with a constant mobility it is the step of CahnHilliard. It takes eight transforms (six in two dimensions)
    instead of two and holds two more spectra and a field. Products are not dealiased; q is 0 in a derivative at its axis'
    Nyquist wave number.
    Source: J. Zhu, L.-Q. Chen, J. Shen, V. Tikare, Phys. Rev. E 60, 3564 (1999), doi:10.1103/PhysRevE.60.3564.
    """

    def __init__(self, world, shape, well, epsilon, coefficients, mobility=1.0, *arguments, **keywords):
        coefficients = np.array(coefficients, float)
        if coefficients.ndim != 1 or not 1 <= len(coefficients) <= 13 or not np.isfinite(coefficients).all():
            raise ValueError("a mobility has 1 to 13 finite coefficients")
        self.form = np.polynomial.Polynomial(coefficients)
        super().__init__(world, shape, well, epsilon, mobility, *arguments, **keywords)
        if self.noise is not None:
            raise ValueError("noise goes with a constant mobility only")
        self.split = self.mobility * greatest_mobility(coefficients, well)
        about = self.form(np.polynomial.Polynomial([well.centre, 1.0]))
        self._mobility = (self.mobility * about.coef).tolist()
        self._potential, self._divergence = self.fourier.spectrum(), self.fourier.spectrum()
        per = 2 * self.fourier.lanes * shape[-1]
        self._kept = np.empty((len(self._sums()[0]), per), self.dtype)
        self._derivatives = self._without_nyquist()

    def mobility_at(self, phi):
        """M(φ)."""
        return self.mobility * np.maximum(self.form(np.asarray(phi, float)), 0.0)

    def _without_nyquist(self):
        f = self.fourier
        n0, n1, n2 = f.shape[0], f.shape[1] if len(f.shape) == 3 else 1, f.shape[-1]
        x, y, z = (k.copy() for k in self.waves)
        x[2 * np.arange(n0) == n0] = 0
        y[2 * np.abs(f.ky) == n1] = 0
        z[2 * f.kz == n2] = 0
        return [x, y, z]

    def _step(self, dt, real, waves):
        f, threads, n2 = self.fourier, self.world.threads, self.fourier.shape[-1]
        if self.equilibrium is not None:
            self.extra = self.equilibrium.update()
        if real is None:
            real, waves = self._sums()
        shift = self.mean - self.well.centre
        f.planes(
            lambda rows, n1, along_y: _mobility.slopes(
                rows, n1, n2, self._energy, shift, self._mobility, self.split, self._kept, real, along_y, threads
            )
        )
        axes = [-1, 0, 1, 2, -1] if len(f.shape) == 3 else [-1, 0, 2, -1]
        for come, go in pairwise(axes):
            if come >= 0:
                f.planes(lambda rows, n1, along_y: _mobility.fluxes(rows, n1, n2, self._kept, along_y, threads))
            f.columns(lambda slabs, come=come, go=go: self._sweep(slabs, dt, come, go, waves, threads))
        self.time += dt
        self.steps += 1
        self._changed()

    def _sweep(self, slabs, dt, come, go, waves, threads):
        _mobility.columns(
            slabs, [self.spectrum, self._potential, self._divergence], self.waves, self._derivatives, self._weights, come, go,
            come == 0, [dt, self.split, self.points, self.epsilon], self._moduli, self.extra if come < 0 else None,
            waves if come < 0 else None, threads,
        )  # fmt: skip

    def describe(self) -> str:
        return f"{self.equation}, {self.fourier.describe()}, ε {self.epsilon:g}, M(φ) up to {self.split:g}"
