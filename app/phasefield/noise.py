"""Noise of a phase field, made in k-space within the step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ostwald.parallel import philox_key, philox_normal

PURPOSE = "phase-field noise"


@dataclass(frozen=True)
class Noise:
    """Gaussian noise added to φ at the end of every step; both kinds together have the sum of their variances.

    seed: of the numbers, which depend on it, the wave vector and the number of the step only: the same on any number of ranks,
    and after a restart.
    temperature: kT of the thermal noise of Cook, √(2 M kT) ∇·ζ in ∂φ/∂t, for which a phase fluctuates by S(q) = kT/(g'' + εq² + Y) (of
    Allen and Cahn's equation √(2 L kT) ζ). White in space: the variance of φ grows with the number of points in a volume.
    amplitude: standard deviation of white noise on the points at each step, whatever its length.

    Of a conserved field the mean never changes: the mode q = 0 gets no noise.
    Source: H. E. Cook, Acta Metall. 18, 297 (1970), doi:10.1016/0001-6160(70)90144-6.
    """

    seed: int
    temperature: float = 0.0
    amplitude: float = 0.0

    def __post_init__(self):
        for name in ("temperature", "amplitude"):
            value = float(getattr(self, name))
            if not 0 <= value < math.inf:
                raise ValueError(f"the {name} of noise is a finite number of 0 or more, not {value}")
            object.__setattr__(self, name, value)

    def kernel(self, solver) -> tuple:
        """What _cahn_hilliard.columns takes for the present step of a solver."""
        f = solver.fourier
        n1, n2 = f.shape[1] if len(f.shape) == 3 else 1, f.shape[-1]
        thermal, white = 2 * self.temperature / solver.volume, self.amplitude**2 / solver.points
        return philox_key(self.seed, PURPOSE), solver.steps, thermal, white, n1, n2, f.ky % n1, f.kz

    def of_mean(self, solver, dt) -> float:
        """What the mean of a field that is not conserved gets in a step of dt."""
        variance = 2 * self.temperature * dt * solver.mobility / solver.volume + self.amplitude**2 / solver.points
        return math.sqrt(variance) * float(philox_normal(self.seed, PURPOSE, np.zeros(1, np.int64), solver.steps)[0, 0])
