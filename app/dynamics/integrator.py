"""What all integrators share: half kicks, drifts, and the variables they carry through a restart."""

from __future__ import annotations

import numpy as np

from ostwald.app.atoms.units import FORCE_TO_ACCELERATION, MVV2E
from ostwald.app.kernels import _integrate


class Integrator:
    """Velocity Verlet in two halves, around the evaluation of the forces.

        first_half(system, step); system.update(); system.compute(virial=needs_virial, ...); second_half(system, step)

    `step` counts the steps of the run from 0. The forces (and, with needs_virial, the virial) of the present positions
    must have been computed before the first step. `prepare` runs by itself before the first step; call it again after
    velocities, cell or forces were changed by anything but this integrator.

    conserves_momentum says whether the centre of mass has degrees of freedom (it has none where momentum is conserved).
    Everything an integrator carries from step to step is in `state()`, the same on every rank; `restore` takes it back.
    """

    needs_virial = False
    conserves_momentum = True
    variables: tuple[str, ...] = ()

    def __init__(self, dt: float):
        """dt: ps."""
        if not dt > 0.0:
            raise ValueError(f"the time step must be positive, got {dt} ps")
        self.dt = float(dt)
        self.degrees_of_freedom = 0
        self._factors = None
        self._pending = None

    # ---- what the run calls ------------------------------------------------------------------------------------

    def prepare(self, system):
        """Takes masses, degrees of freedom and first sums from the system. Collective."""
        atoms = system.atoms
        system.conserves_momentum = self.conserves_momentum
        self.degrees_of_freedom = system.degrees_of_freedom
        self._factors = 0.5 * self.dt * FORCE_TO_ACCELERATION / atoms.masses
        if system.frozen_mask:
            atoms.velocities[(atoms.groups & np.uint32(system.frozen_mask)) != 0] = 0.0
        self.start(system)
        if self._pending is not None:
            self._take(self._pending)
            self._pending = None

    def start(self, system):
        """What a kind of integrator adds to `prepare`."""

    def first_half(self, system, step: int):
        raise NotImplementedError

    def second_half(self, system, step: int):
        raise NotImplementedError

    def step(self, system, step: int, energy=False, virial=False):
        """One whole time step."""
        self.first_half(system, step)
        system.update()
        system.compute(energy=energy, virial=virial or self.needs_virial)
        self.second_half(system, step)

    def conserved(self, system) -> float:
        """eV: what to add to potential and kinetic energy so that the sum is conserved. Collective."""
        return 0.0

    def state(self) -> dict[str, np.ndarray]:
        values = {name: getattr(self, name) for name in self.variables}
        return {name: np.array(v.pack() if hasattr(v, "pack") else v, dtype=np.float64) for name, v in values.items()}

    def restore(self, state):
        """Takes back what `state` gave; before or after `prepare`."""
        if self._factors is None:
            self._pending = dict(state)
        else:
            self._take(state)

    def _take(self, state):
        for name in self.variables:
            value, present = np.array(state[name], dtype=np.float64), getattr(self, name)
            if hasattr(present, "unpack"):
                present.unpack(value)
            else:
                setattr(self, name, float(value) if value.ndim == 0 else value)

    # ---- passes over the atoms ---------------------------------------------------------------------------------

    def _ready(self, system):
        if self._factors is None:
            self.prepare(system)

    def _kick(self, system, **maps):
        """Half a kick, v <- growth v + response f dt/2m, and what `_integrate.advance` fuses with it."""
        atoms, frozen = system.atoms, system.frozen_mask
        return _integrate.advance(
            atoms.velocities,
            atoms.forces,
            atoms.types,
            self._factors,
            atoms.n,
            groups=atoms.groups if frozen else None,
            frozen=frozen,
            threads=system.threads,
            **maps,
        )

    def _kick_sum(self, system, **maps) -> np.ndarray:
        """Half a kick; returns this rank's share of Σ m v⊗v after it, (6,) eV."""
        return MVV2E * self._kick(system, masses=system.atoms.masses, **maps)
