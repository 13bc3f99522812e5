"""The semi-implicit spectral Allen–Cahn stepper."""

from __future__ import annotations

import numpy as np

from ostwald.app.phasefield.cahn_hilliard import CahnHilliard


class AllenCahn(CahnHilliard):
    """∂φ/∂t = -L (g'(φ) - ε∇²φ + Yφ): an order parameter that is not conserved, in all else as CahnHilliard. `mobility` is L.

    A step is φ^ ← (φ^ - dt L FFT[g'(φ)]) / (1 + dt L (ε q² + Y)); the mean, which feels no gradient and no coherent strain, goes on
    by -dt L <g'>, in double precision.
    """

    equation = "Allen–Cahn"
    conserved = False

    def _rates(self, dt):
        return 0.0, dt * self.mobility

    def _columns(self, slabs, dt, waves, threads):
        slope = self._mean_slope(slabs)
        super()._columns(slabs, dt, waves, threads)
        self.mean -= dt * self.mobility * slope
        if self.noise is not None:
            self.mean += self.noise.of_mean(self, dt)

    def _mean_slope(self, slabs) -> float:
        """Collective. <g'> (and the mean of `extra`) of rows that are transformed along all axes but the first."""
        f, total = self.fourier, 0.0
        for column in self._origin():
            at = column * 2 * f.lanes
            total = sum(float(slab[:, at].sum(dtype=np.float64)) for slab in slabs) / self.points
            if self.extra is not None:
                total += float(self.extra[column, 0, 0])
        return self.world.allreduce(total)
