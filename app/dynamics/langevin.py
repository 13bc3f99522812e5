"""Constant temperature by Langevin dynamics."""

from __future__ import annotations

from math import exp

import numpy as np

from ostwald.app.atoms.units import BOLTZMANN, MVV2E
from ostwald.app.dynamics.integrator import Integrator
from ostwald.app.dynamics.ramps import ramp
from ostwald.app.kernels import _integrate
from ostwald.parallel.random import philox_normal


class Langevin(Integrator):
    """Langevin dynamics, m dv = (f - γ m v) dt + sqrt(2 γ m kT) dW, split as BAOAB.

        B: v += (Δt/2) f/m;  A: x += (Δt/2) v;  O: v = c v + sqrt((1 - c²) kT/m) R, c = exp(-γ Δt);  A;  B

    Leimkuhler, Matthews, Appl. Math. Res. Express 2013, 34; J. Chem. Phys. 138, 174102 (2013). R: normal numbers keyed
    by (seed, atom id, step). Conserved: E_pot + E_kin less the heat that O brought in: Bussi, Parrinello, Phys. Rev. E
    75, 056707 (2007).

    | symbol | variable | unit |
    | --- | --- | --- |
    | kT | BOLTZMANN × temperature (K, number or Ramp) | eV |
    | 1/γ | tau | ps |
    | heat | heat: this rank's share | eV |

    The centre of mass is thermostatted too: there are 3N degrees of freedom.
    """

    conserves_momentum = False

    def __init__(self, dt, temperature, tau, *, seed):
        super().__init__(dt)
        if not tau > 0.0:
            raise ValueError(f"the damping time must be positive, got {tau} ps")
        self.temperature, self.tau, self.seed = ramp(temperature), float(tau), int(seed)
        self.heat = 0.0
        self._world = None

    def start(self, system):
        self._world = system.world

    def first_half(self, system, step):
        self._ready(system)
        temperature = self.temperature(step)
        if temperature < 0.0:
            raise ValueError(f"the temperature must not be negative, got {temperature} K")
        atoms = system.atoms
        half = 0.5 * self.dt
        before = self._kick_sum(system, positions=atoms.positions, drift=half)
        c = exp(-self.dt / self.tau)
        widths = np.sqrt((1.0 - c * c) * BOLTZMANN * temperature / (MVV2E * atoms.masses))
        noise = philox_normal(self.seed, "langevin", atoms.ids[: atoms.n], step, 3)
        frozen = system.frozen_mask
        after = MVV2E * _integrate.advance(
            atoms.velocities,
            noise,
            atoms.types,
            widths,
            atoms.n,
            growth=c,
            positions=atoms.positions,
            drift=half,
            groups=atoms.groups if frozen else None,
            frozen=frozen,
            masses=atoms.masses,
            threads=system.threads,
        )
        self.heat += 0.5 * float((after - before)[:3].sum())

    def second_half(self, system, step):
        self._kick(system)

    def conserved(self, system):
        self._ready(system)
        return -float(system.world.allreduce(self.heat))

    def state(self):
        """heat (ranks,): every rank's share, so that the sums of a continued run have the same bits. Collective."""
        return {"heat": np.array(self._world.allgather(self.heat) if self._world else [self.heat])}

    def _take(self, state):
        shares = np.atleast_1d(state["heat"])
        world = self._world
        if len(shares) == world.size:
            self.heat = float(shares[world.rank])
        else:
            self.heat = float(shares.sum()) if world.root else 0.0
