"""Constant temperature by stochastic rescaling of all velocities."""

from __future__ import annotations

from math import exp, sqrt

from ostwald.app.atoms.units import BOLTZMANN
from ostwald.app.dynamics.integrator import Integrator
from ostwald.app.dynamics.ramps import ramp
from ostwald.app.kernels import _integrate
from ostwald.parallel.random import philox_generator


class Bussi(Integrator):
    """Canonical sampling through velocity rescaling: velocity Verlet, then v <- α v with

        α² = c + (1 - c) K̄/(N_f K) (R_1² + Σ_{i=2}^{N_f} R_i²) + 2 R_1 sqrt(c (1 - c) K̄/(N_f K)),  c = exp(-Δt/τ)

    Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007), eq. A7; the sum of squares is one gamma variate.
    Conserved: E_pot + E_kin less the heat Σ (α² - 1) K (their "effective energy").

    | symbol | variable | unit |
    | --- | --- | --- |
    | K, N_f | kinetic, degrees_of_freedom | eV, 1 |
    | K̄ = N_f kT/2 | mean; temperature: K, number or Ramp | eV |
    | τ | tau | ps |
    """

    variables = ("heat",)

    def __init__(self, dt, temperature, tau, *, seed):
        super().__init__(dt)
        if not tau > 0.0:
            raise ValueError(f"the thermostat's time must be positive, got {tau} ps")
        self.temperature, self.tau, self.seed = ramp(temperature), float(tau), int(seed)
        self.heat = 0.0

    def first_half(self, system, step):
        self._ready(system)
        self._kick(system, positions=system.atoms.positions, drift=self.dt)

    def second_half(self, system, step):
        share = self._kick_sum(system)
        kinetic = 0.5 * float(system.world.allreduce(share[0] + share[1] + share[2]))
        dof, temperature = self.degrees_of_freedom, self.temperature(step)
        if temperature < 0.0:
            raise ValueError(f"the temperature must not be negative, got {temperature} K")
        if not kinetic > 0.0:
            return  # nothing moves: no factor can change that
        random = philox_generator(self.seed, "bussi", step)
        c = exp(-self.dt / self.tau)
        ratio = (1.0 - c) * 0.5 * BOLTZMANN * temperature / kinetic
        first = random.standard_normal()
        squares = 2.0 * random.standard_gamma(0.5 * (dof - 1)) if dof > 1 else 0.0
        alpha2 = max(c + ratio * (first * first + squares) + 2.0 * first * sqrt(c * ratio), 0.0)
        self.heat += (alpha2 - 1.0) * kinetic
        _integrate.scale(system.atoms.velocities, system.atoms.n, sqrt(alpha2), threads=system.threads)

    def conserved(self, system):
        return -self.heat
