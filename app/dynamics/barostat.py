"""Constant pressure or stress by the equations of Martyna, Tobias and Klein, with or without a thermostat."""

from __future__ import annotations

import numpy as np

from ostwald.app.atoms.units import BOLTZMANN, GPA
from ostwald.app.dynamics.checks import Unstable
from ostwald.app.dynamics.integrator import Integrator
from ostwald.app.dynamics.nose_hoover import Chain
from ostwald.app.dynamics.ramps import Ramp, ramp
from ostwald.app.kernels import _integrate

COMPONENTS = ("xx", "yy", "zz", "yz", "xz", "xy")
_ROW, _COLUMN = np.array([0, 1, 2, 1, 0, 0]), np.array([0, 1, 2, 2, 2, 1])
_SYMMETRIC = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
# of the six numbers in a double contraction
_WEIGHTS = np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])
# strain in one step beyond which nothing is resolved any more
_FASTEST = 0.05
_UNIT = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])

MODES = {
    "isotropic": (("xx", "yy", "zz"),),
    "anisotropic": (("xx",), ("yy",), ("zz",)),
    "triclinic": (("xx",), ("yy",), ("zz",), ("yz",), ("xz",), ("xy",)),
}


def tensor(six) -> np.ndarray:
    """(3, 3) from the six numbers xx, yy, zz, yz, xz, xy."""
    return np.asarray(six)[_SYMMETRIC]


def six(matrix) -> np.ndarray:
    """xx, yy, zz, yz, xz, xy of a symmetric (3, 3)."""
    return matrix[_ROW, _COLUMN]


class CellModes:
    """Which strains of the cell are free: each mode is a strain component, or several normal ones that stay equal.

    modes: "isotropic", "anisotropic", "triclinic", or a sequence of modes, each a component or a tuple of them; thus
    (("xx", "yy"), "zz") couples x and y, and ("zz",) leaves only z free.
    """

    def __init__(self, modes="isotropic"):
        if isinstance(modes, str):
            if modes not in MODES:
                raise ValueError(f"the cell can be coupled {', '.join(MODES)} or by a list of strains, not {modes!r}")
            modes = MODES[modes]
        self.modes = tuple((m,) if isinstance(m, str) else tuple(m) for m in modes)
        named = [c for mode in self.modes for c in mode]
        for c in named:
            if c not in COMPONENTS:
                raise ValueError(f"a strain is one of {', '.join(COMPONENTS)}, not {c!r}")
        if len(set(named)) != len(named) or not named:
            raise ValueError(f"each strain belongs to one mode, and one must be free: {self.modes}")
        if any(len(mode) > 1 and any(c[0] != c[1] for c in mode) for mode in self.modes):
            raise ValueError(f"only normal strains can be coupled: {self.modes}")
        self.count = len(self.modes)
        self.projector = np.zeros((6, 6))
        for mode in self.modes:
            rows = [COMPONENTS.index(c) for c in mode]
            self.projector[np.ix_(rows, rows)] = 1.0 / len(rows)
        self.free = self.projector.diagonal() > 0.0

    def project(self, stress) -> np.ndarray:
        """The part of a (6,) stress that drives the free strains."""
        return self.projector @ stress

    def check(self, cell):
        """ValueError where a free strain would deform an open axis."""
        for axis in range(3):
            if not cell.periodic[axis]:
                direction = cell.matrix[axis] / np.linalg.norm(cell.matrix[axis])
                touched = [c for c in np.flatnonzero(self.free) if abs(direction[[_ROW[c], _COLUMN[c]]]).max() > 1e-9]
                if touched:
                    raise ValueError(
                        f"the strain {COMPONENTS[touched[0]]} cannot be free: axis {'abc'[axis]} of the cell is open"
                    )


class Load:
    """A target pressure tensor as a potential energy of the cell.

        U(h) = P V + V0/2 Tr[D (FᵀF - 1)],  F = h h0⁻¹,  D = target - P 1;  -∂U/∂strain = -(P V 1 + V0 F D Fᵀ)

    P is the mean of the target over the free normal strains. D vanishes for a hydrostatic target; otherwise the
    pressure tensor is exactly the target at the reference cell h0, which is renewed as the cell moves away from it.
    Parrinello, Rahman, J. Appl. Phys. 52, 7182 (1981); Shinoda, Shiga, Mikami, Phys. Rev. B 69, 134103 (2004).

    | symbol | variable | unit |
    | --- | --- | --- |
    | P | pressure | eV/Å³ |
    | D | deviator (6,) or None | eV/Å³ |
    | h0ᵀ, V0 | reference (3, 3), rows; its volume | Å, Å³ |
    """

    def __init__(self, modes: CellModes):
        self.modes = modes
        self.pressure = 0.0
        self.deviator = None
        self.reference = None

    def aim(self, target):
        """target: (6,) GPa or a number."""
        target = np.asarray(target, dtype=np.float64) / GPA
        if target.ndim == 0:
            self.pressure, self.deviator = float(target), None
            return
        normal = self.modes.free[:3]
        self.pressure = float(target[:3][normal].mean()) if normal.any() else 0.0
        deviator = np.where(self.modes.free, target - self.pressure * _UNIT, 0.0)
        # coupled strains feel the mean of their targets only
        deviator = self.modes.project(deviator)
        self.deviator = deviator if np.abs(deviator).max() > 1e-14 else None

    def pack(self) -> np.ndarray:
        """(16,): P, D, h0ᵀ."""
        deviator = np.zeros(6) if self.deviator is None else self.deviator
        return np.concatenate([[self.pressure], deviator, self.reference.ravel()])

    def unpack(self, array):
        self.pressure = float(array[0])
        self.deviator = array[1:7].copy() if array[1:7].any() else None
        self.reference = array[7:].reshape(3, 3).copy()

    def renew(self, cell):
        self.reference = cell.matrix.copy()

    def _deformation(self, cell):
        return np.linalg.solve(self.reference, cell.matrix).T

    def energy(self, cell) -> float:
        energy = self.pressure * cell.volume
        if self.deviator is not None:
            f = self._deformation(cell)
            v0 = np.linalg.det(self.reference)
            energy += 0.5 * v0 * float(np.sum(tensor(self.deviator) * (f.T @ f - np.eye(3))))
        return energy

    def stress(self, cell) -> np.ndarray:
        """∂U/∂strain, (6,) eV: what pressure tensor times volume is in equilibrium."""
        if self.deviator is None:
            return (self.pressure * cell.volume) * _UNIT
        f = self._deformation(cell)
        v0 = np.linalg.det(self.reference)
        return (self.pressure * cell.volume) * _UNIT + v0 * six(f @ tensor(self.deviator) @ f.T)


class MTK(Integrator):
    """Constant stress, with (NPT) or without (NPH) a thermostat; isotropic, by axes, or fully flexible.

        dx/dt = v + ν (x - o);   dv/dt = f/m - (ν + Tr ν/N_f) v - v_ξ v;   dh/dt = ν h
        W dν/dt = Π[V P_int + (2K/N_f) 1 - ∂U/∂strain] - W v_ζ ν;   V P_int = Σ m v⊗v + virial
        W = (N_f + 3) kT τ_P²/3, T the highest target;   U(h): see Load;   Π: projection on the free strains (CellModes)

    ν is symmetric: a cell that may shear has six degrees of freedom and does not rotate. One Nosé–Hoover chain (ξ) acts
    on the atoms and one (ζ) on ν. Martyna, Tobias, Klein, J. Chem. Phys. 101, 4177 (1994), eqs. 2.2, 2.9; factorised as
    Martyna, Tuckerman, Tobias, Klein, Mol. Phys. 87, 1117 (1996), and Tuckerman, Alejandre, López-Rendón, Jochim,
    Martyna, J. Phys. A 39, 5629 (2006):

        [ζ Δt/2] [ξ Δt/2] [ν Δt/2] [kick Δt/2] [drift and cell Δt] [kick Δt/2] [ν Δt/2] [ξ Δt/2] [ζ Δt/2]

    where kick and drift are the exact solutions for constant f and ν (matrix exponentials). All global sums of a step
    travel in one reduction.

    Conserved: E_pot + E_kin + U(h) + W Tr ν²/2 + energies of the chains, less the work of ramps and of renewing h0.

    | symbol | variable | unit |
    | --- | --- | --- |
    | ν | rate (6,) | 1/ps |
    | W | mass | eV ps² |
    | U, its derivative | load | eV |
    | Σ m v⊗v, virial | kinetic (6,), virial (6,) | eV |
    | ξ, ζ | chain, cell_chain | |
    | o | origin of the cell | Å |

    pressure: GPa, a number or (6,) (xx, yy, zz, yz, xz, xy; compression positive), or a Ramp of these.
    temperature: K, number or Ramp, with tau (ps); None: NPH. tau_pressure: ps.
    modes: see CellModes. renew_every: steps between renewals of h0 under a target that is not hydrostatic (0: never).
    """

    needs_virial = True

    def __init__(
        self,
        dt,
        pressure,
        tau_pressure,
        *,
        temperature=None,
        tau=None,
        modes="isotropic",
        length=3,
        cell_length=3,
        order=3,
        repeats=1,
        renew_every=1000,
    ):
        super().__init__(dt)
        if not tau_pressure > 0.0:
            raise ValueError(f"the barostat's time must be positive, got {tau_pressure} ps")
        if (temperature is None) != (tau is None):
            raise ValueError("a thermostat needs both a temperature and a time; leave both out for NPH")
        self.target = self._target(pressure)
        self.tau_pressure = float(tau_pressure)
        self.temperature = None if temperature is None else ramp(temperature)
        self.modes = modes if isinstance(modes, CellModes) else CellModes(modes)
        self.load = Load(self.modes)
        self.chain = self.cell_chain = None
        if temperature is not None:
            self.chain = Chain(tau, length, order, repeats)
            self.cell_chain = Chain(tau_pressure, cell_length, order, repeats)
        self.renew_every = int(renew_every)
        self.rate = np.zeros(6)
        self.kinetic = self.virial = np.zeros(6)
        self.mass = 0.0
        self.work = 0.0
        self.variables = ("rate", "mass", "kinetic", "virial", "work", "load")
        if self.chain:
            self.variables += ("chain", "cell_chain")

    @staticmethod
    def _target(pressure) -> Ramp:
        given = ramp(pressure)
        ends = [None if e is None else np.asarray(e, dtype=np.float64) for e in (given.start, given.stop)]
        if any(e is not None and e.shape not in ((), (6,)) for e in ends):
            raise ValueError("a target pressure is a number or six: xx, yy, zz, yz, xz, xy (GPa)")
        return Ramp(ends[0], ends[1], given.first, given.steps)

    def start(self, system):
        self.modes.check(system.cell)
        if np.isnan(system.virial).any():
            system.compute(energy=False, virial=True)
        sums = system.world.allreduce(np.concatenate([system.local_kinetic_tensor(), system.virial]))
        self.kinetic, self.virial = sums[:6], sums[6:]
        if self.mass == 0.0:
            self.load.aim(self.target.start)
            self.load.renew(system.cell)
            self.mass = (self.degrees_of_freedom + 3) * self._kT() * self.tau_pressure**2 / 3.0
            if self.temperature is not None:
                self._retarget(self.temperature.start)

    def _kT(self) -> float:
        """eV, for the mass of the cell: the hotter end of a ramp, so that a quench does not make the cell light."""
        if self.temperature is not None:
            stop = self.temperature.start if self.temperature.stop is None else self.temperature.stop
            return BOLTZMANN * max(self.temperature.start, stop)
        # without a thermostat the temperature is the one at hand; near 0 K room temperature gives as good a mass
        kT = float(self.kinetic[:3].sum()) / self.degrees_of_freedom
        return kT if kT > BOLTZMANN else 300.0 * BOLTZMANN

    def _retarget(self, temperature):
        self.work += self.chain.retarget(temperature, self.degrees_of_freedom)
        self.work += self.cell_chain.retarget(temperature, self.modes.count)

    def _kinetic_energy_of_cell(self) -> float:
        return 0.5 * self.mass * float(_WEIGHTS @ self.rate**2)

    def _aim(self, system, step):
        """Brings the targets to their values at this step; the energy that costs goes to `work`."""
        cell = system.cell
        if self.temperature is not None:
            self._retarget(self.temperature(step))
        renew = self.load.deviator is not None and self.renew_every and step % self.renew_every == 0
        if renew or not self.target.constant:
            before = self.load.energy(cell)
            self.load.aim(self.target(step))
            if renew:
                self.load.renew(cell)
            self.work += self.load.energy(cell) - before

    def _thermostat(self) -> float:
        """Half a step of both chains; returns the factor of the atoms' velocities."""
        self.rate = self.rate * self.cell_chain.propagate(2.0 * self._kinetic_energy_of_cell(), 0.5 * self.dt)
        factor = self.chain.propagate(float(self.kinetic[0] + self.kinetic[1] + self.kinetic[2]), 0.5 * self.dt)
        self.kinetic = self.kinetic * factor**2
        return factor

    def _accelerate_cell(self, cell):
        """Half a step of ν."""
        k = self.kinetic
        drive = k + self.virial + (float(k[0] + k[1] + k[2]) / self.degrees_of_freedom) * _UNIT - self.load.stress(cell)
        self.rate = self.rate + (0.5 * self.dt / self.mass) * self.modes.project(drive)

    def _friction(self):
        """Growth and response of the velocities over half a step under ν + Tr ν/N_f."""
        drag = tensor(self.rate)
        drag = drag + (float(drag.trace()) / self.degrees_of_freedom) * np.eye(3)
        growth, response = _integrate.propagators(-drag, 0.5 * self.dt)
        return growth, response * (2.0 / self.dt)

    def first_half(self, system, step):
        self._ready(system)
        self._aim(system, step)
        cell = system.cell
        factor = self._thermostat() if self.chain else 1.0
        self._accelerate_cell(cell)
        fastest = float(np.abs(self.rate).max()) * self.dt
        if not fastest <= _FASTEST:
            raise Unstable(
                f"the cell deforms by {fastest:.2g} in one step (step {step}): the structure gives way under the target "
                f"pressure, or the barostat's time of {self.tau_pressure:g} ps is too short"
            )
        growth, response = self._friction()
        deformation, drift = _integrate.propagators(tensor(self.rate), self.dt)
        self._kick(
            system,
            growth=growth * factor,
            response=response,
            positions=system.atoms.positions,
            deformation=deformation,
            drift=drift,
            fixed_point=cell.origin,
        )
        cell.matrix = cell.matrix @ deformation.T

    def second_half(self, system, step):
        growth, response = self._friction()
        share = self._kick_sum(system, growth=growth, response=response)
        sums = system.world.allreduce(np.concatenate([share, system.virial]))
        self.kinetic, self.virial = sums[:6], sums[6:]
        self._accelerate_cell(system.cell)
        if self.chain:
            _integrate.scale(system.atoms.velocities, system.atoms.n, self._thermostat(), threads=system.threads)

    def conserved(self, system):
        self._ready(system)
        energy = self.load.energy(system.cell) + self._kinetic_energy_of_cell() - self.work
        if self.chain:
            energy += self.chain.energy() + self.cell_chain.energy()
        return energy
