"""Constant energy."""

from ostwald.app.dynamics.integrator import Integrator


class NVE(Integrator):
    """Velocity Verlet: Swope, Andersen, Berens, Wilson, J. Chem. Phys. 76, 637 (1982).

        v(t + Δt/2) = v(t) + (Δt/2) f(t)/m
        x(t + Δt) = x(t) + Δt v(t + Δt/2)
        v(t + Δt) = v(t + Δt/2) + (Δt/2) f(t + Δt)/m

    Conserved: E_pot + E_kin, to Δt².
    """

    def first_half(self, system, step):
        self._ready(system)
        self._kick(system, positions=system.atoms.positions, drift=self.dt)

    def second_half(self, system, step):
        self._kick(system)
