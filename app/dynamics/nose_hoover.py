"""Constant temperature by Nosé–Hoover chains."""

from __future__ import annotations

from math import exp

import numpy as np

from ostwald.app.atoms.units import BOLTZMANN
from ostwald.app.dynamics.integrator import Integrator
from ostwald.app.dynamics.ramps import ramp
from ostwald.app.kernels import _integrate

# Suzuki (1985, 1991) and Yoshida (1990) weights of symmetric compositions: orders 2, 4, 4 and 6
_W3 = 1.0 / (2.0 - 2.0 ** (1.0 / 3.0))
_W5 = 1.0 / (4.0 - 4.0 ** (1.0 / 3.0))
_Y7 = (0.784513610477560, 0.235573213359357, -1.17767998417887)
SUZUKI_YOSHIDA = {
    1: (1.0,),
    3: (_W3, 1.0 - 2.0 * _W3, _W3),
    5: (_W5, _W5, 1.0 - 4.0 * _W5, _W5, _W5),
    7: (*_Y7, 1.0 - 2.0 * sum(_Y7), *reversed(_Y7)),
}


class Chain:
    """A chain of M thermostats on a kinetic energy K of `dof` degrees of freedom.

        dξ_k/dt = v_k;  dv_1/dt = (2K - dof kT)/Q_1 - v_1 v_2;  dv_k/dt = (Q_{k-1} v_{k-1}² - kT)/Q_k - v_k v_{k+1};
        the velocities that make up K are damped by -v_1;  Q_1 = dof kT τ², Q_k = kT τ²
        energy: dof kT ξ_1 + Σ_{k>1} kT ξ_k + Σ Q_k v_k²/2

    Martyna, Klein, Tuckerman, J. Chem. Phys. 97, 2635 (1992); integrated as Martyna, Tuckerman, Tobias, Klein,
    Mol. Phys. 87, 1117 (1996), by a Suzuki-Yoshida composition of `order` weights, repeated `repeats` times.

    | symbol | variable | unit |
    | --- | --- | --- |
    | ξ_k, v_k | xi, rate (M,) | 1, 1/ps |
    | Q_k | masses (M,) | eV ps² |
    | kT, τ | kT, tau | eV, ps |
    """

    def __init__(self, tau: float, length: int = 3, order: int = 3, repeats: int = 1):
        if not tau > 0.0:
            raise ValueError(f"the thermostat's time must be positive, got {tau} ps")
        if length < 1 or repeats < 1 or order not in SUZUKI_YOSHIDA:
            raise ValueError("a chain needs length >= 1, repeats >= 1 and a Suzuki-Yoshida order of 1, 3, 5 or 7")
        self.tau, self.length = float(tau), int(length)
        self.weights = [w / repeats for w in SUZUKI_YOSHIDA[order]] * repeats
        self.xi = [0.0] * self.length
        self.rate = [0.0] * self.length
        self.masses = [0.0] * self.length
        self.kT, self.dof = 0.0, 0

    def target(self, kT: float, dof: int):
        self.kT, self.dof = float(kT), int(dof)
        self.masses = [kT * self.tau**2] * self.length
        self.masses[0] *= dof

    def retarget(self, temperature: float, dof: int) -> float:
        """Sets the target (K); returns by how much that raised the energy of a chain that had one already."""
        if not temperature > 0.0:
            raise ValueError(f"a Nosé-Hoover thermostat needs a temperature above 0 K, got {temperature} K")
        kT = BOLTZMANN * temperature
        if kT == self.kT and dof == self.dof:
            return 0.0
        fresh, before = self.kT == 0.0, self.energy()
        self.target(kT, dof)
        return 0.0 if fresh else self.energy() - before

    def energy(self) -> float:
        """eV"""
        kinetic = 0.5 * sum(q * v * v for q, v in zip(self.masses, self.rate))
        return kinetic + self.kT * (self.dof * self.xi[0] + sum(self.xi[1:]))

    def propagate(self, twice_kinetic: float, time: float) -> float:
        """Acts for `time` (ps) on 2K (eV); returns the factor by which the velocities of K are to be scaled."""
        xi, v, q, kT, last = self.xi, self.rate, self.masses, self.kT, self.length - 1
        scale, rest = 1.0, self.dof * kT
        for weight in self.weights:
            h = weight * time
            half, quarter = 0.5 * h, 0.25 * h
            drive = twice_kinetic - rest if last == 0 else q[last - 1] * v[last - 1] ** 2 - kT
            v[last] += half * drive / q[last]
            for k in range(last - 1, -1, -1):
                damp = exp(-quarter * v[k + 1])
                drive = twice_kinetic - rest if k == 0 else q[k - 1] * v[k - 1] ** 2 - kT
                v[k] = damp * (damp * v[k] + half * drive / q[k])
            factor = exp(-h * v[0])
            scale *= factor
            twice_kinetic *= factor * factor
            drive = twice_kinetic - rest
            for k in range(last):
                xi[k] += h * v[k]
                damp = exp(-quarter * v[k + 1])
                v[k] = damp * (damp * v[k] + half * drive / q[k])
                drive = q[k] * v[k] ** 2 - kT
            xi[last] += h * v[last]
            v[last] += half * drive / q[last]
        return scale

    def pack(self) -> np.ndarray:
        """(2 + 2M,): kT, dof, ξ, v."""
        return np.array([self.kT, self.dof, *self.xi, *self.rate])

    def unpack(self, array):
        self.target(float(array[0]), int(array[1]))
        self.xi = [float(x) for x in array[2 : 2 + self.length]]
        self.rate = [float(x) for x in array[2 + self.length :]]


class NoseHoover(Integrator):
    """Constant temperature: velocity Verlet between half steps of a Nosé–Hoover chain on all velocities.

        exp(iL_chain Δt/2) exp(iL_v Δt/2) exp(iL_x Δt) exp(iL_v Δt/2) exp(iL_chain Δt/2)

    Conserved: E_pot + E_kin + Chain.energy(), less what the change of a ramped target did to the latter.

    temperature: K, number or Ramp; tau: ps, the time scale of the thermostat (Q_1 = N_f kT τ²).
    """

    variables = ("chain", "work", "twice_kinetic")

    def __init__(self, dt, temperature, tau, *, length=3, order=3, repeats=1):
        super().__init__(dt)
        self.temperature = ramp(temperature)
        self.chain = Chain(tau, length, order, repeats)
        self.work = 0.0
        self.twice_kinetic = 0.0

    def start(self, system):
        self.twice_kinetic = 2.0 * system.kinetic_energy()
        if self.chain.kT == 0.0:
            self.chain.retarget(self.temperature.start, self.degrees_of_freedom)

    def first_half(self, system, step):
        self._ready(system)
        self.work += self.chain.retarget(self.temperature(step), self.degrees_of_freedom)
        factor = self.chain.propagate(self.twice_kinetic, 0.5 * self.dt)
        self._kick(system, growth=factor, positions=system.atoms.positions, drift=self.dt)

    def second_half(self, system, step):
        share = self._kick_sum(system)
        self.twice_kinetic = float(system.world.allreduce(share[0] + share[1] + share[2]))
        factor = self.chain.propagate(self.twice_kinetic, 0.5 * self.dt)
        self.twice_kinetic *= factor * factor
        _integrate.scale(system.atoms.velocities, system.atoms.n, factor, threads=system.threads)

    def conserved(self, system):
        self._ready(system)
        return self.chain.energy() - self.work
