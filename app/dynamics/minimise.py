"""Minimisation of energy, or of enthalpy with the cell: L-BFGS and FIRE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ostwald.app.atoms.units import GPA
from ostwald.app.dynamics.barostat import CellModes, Load, six, tensor
from ostwald.app.kernels import _integrate

_ROOT = np.sqrt([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])
_PREFIX = "minimise."


@dataclass(frozen=True)
class Minimum:
    """Where a minimisation stands or ended.

    iterations, evaluations: counts; energy: E_pot, eV; enthalpy: E_pot + P V (+ work of a deviatoric target), eV;
    force: the largest |f| of a mobile atom, eV/Å; stress: the largest deviation of a free component of the pressure
    tensor from its target, GPa (0 in a fixed cell); converged; reason: a few words.
    """

    iterations: int
    evaluations: int
    energy: float
    enthalpy: float
    force: float
    stress: float
    converged: bool = False
    reason: str = ""

    def describe(self) -> str:
        """One line."""
        verb = "converged" if self.converged else f"stopped ({self.reason})"
        stress = f", stress error {self.stress:.3g} GPa" if self.stress else ""
        return (
            f"{verb} after {self.iterations} iterations, {self.evaluations} evaluations: energy {self.energy:.10g} eV, "
            f"largest force {self.force:.3g} eV/Å{stress}"
        )


def minimise(
    system,
    *,
    method: Literal["lbfgs", "fire"] = "lbfgs",
    force_tolerance: float = 1e-3,
    cell=None,
    pressure=0.0,
    stress_tolerance: float = 1e-2,
    max_iterations: int = 10_000,
    max_step: float = 0.2,
    memory: int = 6,
    report: Callable[[Minimum], object] | None = None,
) -> Minimum:
    """Moves the mobile atoms, and the cell where asked, to a minimum. Velocities are not touched. Collective.

    force_tolerance: eV/Å, of the largest force; stress_tolerance: GPa, of the largest component;
    cell: None (fixed) or what CellModes takes; pressure: GPa, a number or (6,) xx, yy, zz, yz, xz, xy;
    max_step: Å that an atom may move in an iteration; memory: pairs that L-BFGS remembers;
    report: called after every iteration with where it stands.
    Raises ValueError where the first energy is not finite.
    """
    if method not in _METHODS:
        raise ValueError(f"a minimiser is one of {', '.join(_METHODS)}, not {method!r}")
    modes = None if cell is None else cell if isinstance(cell, CellModes) else CellModes(cell)
    surface = _Surface(system, modes, pressure, force_tolerance, stress_tolerance, max_step)
    try:
        surface.evaluate()
        if not np.isfinite(surface.enthalpy):
            raise ValueError(f"the energy of the structure to be minimised is not finite ({surface.energy} eV)")
        return _METHODS[method](surface, int(max_iterations), int(memory), report or (lambda at: None))
    finally:
        surface.close()


class _Surface:
    """Enthalpy as a function of one long vector: the atoms in the frame of the first cell, and the strain.

        x = o + F u,  h = F h0,  F = exp(ε);  H(u, ε) = E_pot + U(h);  ∂H/∂u = -Fᵀ f
        ∂H/∂F = (∂U/∂strain - virial) F⁻ᵀ, carried to ε by the derivative of the exponential (Daleckii, Krein):
        ∂H/∂ε = Q [(Qᵀ sym(∂H/∂F) Q) ∘ Φ] Qᵀ,  ε = Q diag(λ) Qᵀ,  Φ_ij = (e^λi - e^λj)/(λi - λj)

    The strain is multiplied by a length √N (V/N)^(1/3), which makes its curvature comparable to that of the atoms.
    A vector is a per-atom array that migrates with the atoms, named in atoms.extra, and six numbers in `cells`.
    """

    def __init__(self, system, modes, pressure, force_tolerance, stress_tolerance, max_step):
        self.system, self.modes = system, modes
        self.force_tolerance, self.stress_tolerance, self.max_step = force_tolerance, stress_tolerance, max_step
        self.names: set[str] = set()
        self.cells: dict[str, np.ndarray] = {}
        self.evaluations = 0
        cell = system.cell
        self.strain = np.zeros(6)
        self.deformation = np.eye(3)
        self.first = cell.matrix.copy()
        self.length = _ROOT * (system.total**0.5 * (cell.volume / system.total) ** (1 / 3))
        if modes is not None:
            modes.check(cell)
            self.load = Load(modes)
            self.load.aim(pressure)
            self.load.renew(cell)
            goal = np.asarray(pressure, dtype=np.float64)
            self.target = goal * np.array([1.0, 1, 1, 0, 0, 0]) if goal.ndim == 0 else goal

    # ---- vectors -----------------------------------------------------------------------------------------------

    def vector(self, name: str):
        """A new vector of zeros."""
        self.names.add(_PREFIX + name)
        self.system.atoms.add(_PREFIX + name, np.zeros((self.system.atoms.n, 3)))
        self.cells[name] = np.zeros(6)

    def rows(self, name: str) -> np.ndarray:
        return self.system.atoms[_PREFIX + name]

    def close(self):
        for name in self.names:
            self.system.atoms.drop(name)

    def share(self, name: str, others) -> np.ndarray:
        """This rank's share of the products of a vector with others (the root adds the cell's)."""
        atoms = self.system.atoms
        products = _integrate.dots(self.rows(name), [self.rows(o) for o in others], atoms.n, self.system.threads)
        if self.system.world.root:
            products += [self.cells[name] @ self.cells[o] for o in others]
        return products

    def combine(self, out: str, terms: dict[str, float]):
        """out <- Σ coefficient × vector."""
        atoms = self.system.atoms
        rows = [self.rows(name) for name in terms]
        _integrate.combine(self.rows(out), list(terms.values()), rows, atoms.n, self.system.threads)
        self.cells[out] = sum(c * self.cells[name] for name, c in terms.items())

    def largest(self, name: str) -> float:
        """This rank's longest atomic step along a vector, Å; a strain counts as the step of an atom 4 Å away."""
        square, _ = _integrate.largest(self.rows(name), self.system.atoms.n)
        strain = np.abs(self.cells[name] / self.length).max()
        return max(square**0.5, 4.0 * strain)

    # ---- moving and evaluating ---------------------------------------------------------------------------------

    def move(self, name: str, amount: float):
        """Goes `amount` times a vector further."""
        system = self.system
        atoms, cell = system.atoms, system.cell
        direction = self.rows(name)
        if self.modes is None:
            _integrate.deform(atoms.positions, atoms.n, direction=direction, step=amount, threads=system.threads)
            return
        self.strain = self.strain + amount * self.cells[name] / self.length
        new = _integrate.propagators(tensor(self.strain), 1.0)[0]
        _integrate.deform(
            atoms.positions,
            atoms.n,
            deformation=new @ np.linalg.inv(self.deformation),
            fixed_point=cell.origin,
            direction=direction,
            step=amount * new,
            threads=system.threads,
        )
        self.deformation = new
        cell.matrix = self.first @ new.T

    def evaluate(self, gradient: str = "gradient", along: tuple[tuple[str, str], ...] = ()):
        """Energy, gradient vector, what convergence needs; returns the global products of the pairs `along`."""
        system, modes = self.system, self.modes
        self.evaluations += 1
        system.update()
        system.compute(energy=True, virial=modes is not None)
        atoms = system.atoms
        if _PREFIX + gradient not in self.names:
            self.vector(gradient)
        rows, forces = self.rows(gradient), atoms.forces[: atoms.n]
        frozen = None
        if system.frozen_mask:
            frozen = (atoms.groups & np.uint32(system.frozen_mask)) != 0
        square, _ = _integrate.largest(
            forces, atoms.n, groups=atoms.groups if system.frozen_mask else None, frozen=system.frozen_mask
        )
        if modes is None:
            np.negative(forces, out=rows)
        else:
            np.matmul(forces, -self.deformation, out=rows)
        if frozen is not None:
            rows[frozen] = 0.0
        self.cells[gradient] = np.zeros(6)
        shares = [self.share(a, [b]) for a, b in along]
        virial = system.virial if modes is not None else np.zeros(6)
        sums = system.world.allreduce(np.concatenate([[system.energy], virial, *shares]))
        self.energy = self.enthalpy = float(sums[0])
        products = sums[7:]
        self.force = float(system.world.allreduce(square, op="max")) ** 0.5
        self.stress = 0.0
        if modes is not None:
            self._cell_gradient(gradient, sums[1:7])
            products = products + [self.cells[a] @ self.cells[b] if gradient in (a, b) else 0.0 for a, b in along]
        return products

    def _cell_gradient(self, gradient, virial):
        cell, load = self.system.cell, self.load
        excess = load.stress(cell) - virial
        self.enthalpy += load.energy(cell)
        self.stress = float(np.abs(self.modes.project(virial / cell.volume * GPA - self.target)).max())
        slope = np.linalg.solve(self.deformation, tensor(excess))
        values, axes = np.linalg.eigh(tensor(self.strain))
        i, j = np.meshgrid(values, values, indexing="ij")
        # (e^i - e^j)/(i - j) without cancellation
        half = 0.5 * (i - j)
        phi = np.exp(0.5 * (i + j)) * np.where(np.abs(half) < 1e-6, 1.0 + half**2 / 6.0, 0.0)
        apart = np.abs(half) >= 1e-6
        phi[apart] = (np.exp(0.5 * (i + j)) * np.sinh(half) / np.where(apart, half, 1.0))[apart]
        slope = axes @ ((axes.T @ (0.5 * (slope + slope.T)) @ axes) * phi) @ axes.T
        self.cells[gradient] = self.modes.project(six(slope)) * _ROOT**2 / self.length

    # ---- progress ----------------------------------------------------------------------------------------------

    @property
    def converged(self) -> bool:
        return self.force <= self.force_tolerance and self.stress <= self.stress_tolerance

    def settled(self) -> bool:
        """Whether the gradient has vanished while the stress is not at its target.

        So it is under a target that is not hydrostatic, which refers to the first cell, and where only some shears are
        free, which exp(ε) mixes with others.
        """
        if self.modes is None or self.converged or self.force > self.force_tolerance:
            return False
        slope = np.abs(self.cells["gradient"] * self.length / _ROOT**2).max() / self.system.cell.volume * GPA
        return slope <= 0.5 * self.stress_tolerance

    def renew(self):
        """Takes the present cell as the first: strain and load are counted from it. All vectors are void then."""
        self.load.renew(self.system.cell)
        self.first = self.system.cell.matrix.copy()
        self.strain, self.deformation = np.zeros(6), np.eye(3)
        self.evaluate()

    def at(self, iterations, reason="") -> Minimum:
        numbers = (self.energy, self.enthalpy, self.force, self.stress)
        return Minimum(iterations, self.evaluations, *numbers, bool(reason) and self.converged, reason)


def _lbfgs(surface: _Surface, max_iterations, memory, report) -> Minimum:
    """Limited-memory BFGS: Nocedal, Math. Comput. 35, 773 (1980), on the products of its vectors alone, as Chen, Wang,
    Zhou, NIPS 27 (2014), so that a step needs few reductions. Steps are accepted by the approximate Wolfe conditions of
    Hager, Zhang, SIAM J. Optim. 16, 170 (2005), which still hold where the energy has no digits left.
    """
    system = surface.system
    slots = [(f"s{k}", f"y{k}") for k in range(memory)]
    basis = [name for slot in slots for name in slot] + ["gradient"]
    for name in ("before", "direction", *basis[:-1]):
        surface.vector(name)
    place = {name: i for i, name in enumerate(basis)}
    gram = np.zeros((len(basis), len(basis)))
    used: list[tuple[str, str]] = []

    def products(*names):
        sums = system.world.allreduce(np.concatenate([surface.share(name, basis) for name in names]))
        for name, row in zip(names, sums.reshape(len(names), -1)):
            gram[place[name], :] = gram[:, place[name]] = row

    products("gradient")
    g = place["gradient"]
    for done in range(max_iterations):
        if surface.converged:
            return surface.at(done, "converged")
        if surface.settled():
            surface.renew()
            used.clear()
            products("gradient")
        # two loops on coefficients of the basis
        weights = np.zeros(len(basis))
        weights[g] = -1.0
        alphas = []
        for s, y in reversed(used):
            rho = 1.0 / gram[place[s], place[y]]
            alphas.append(rho * (weights @ gram[:, place[s]]))
            weights[place[y]] -= alphas[-1]
        if used:
            s, y = used[-1]
            weights *= gram[place[s], place[y]] / gram[place[y], place[y]]
        else:
            weights *= 0.02  # Å²/eV: the inverse of a stiff bond's curvature
        for (s, y), alpha in zip(used, reversed(alphas)):
            weights[place[s]] += alpha - (weights @ gram[:, place[y]]) / gram[place[s], place[y]]
        slope = float(weights @ gram[:, g])
        if not slope < 0.0:
            if not used:
                return surface.at(done, "the gradient is zero along all free directions")
            used.clear()
            continue
        terms = {name: w for name, w in zip(basis, weights) if w != 0.0}
        surface.combine("direction", terms)
        surface.combine("before", {"gradient": 1.0})
        length = float(system.world.allreduce(surface.largest("direction"), op="max"))
        step = min(1.0, surface.max_step / length)
        accepted = _line_search(surface, step, slope)
        if accepted is None:
            # back at the start of the line
            products("gradient")
            if not used:
                return surface.at(done, "no lower energy along the steepest descent: rounding")
            used.clear()
            continue
        if len(used) == memory:
            slot = used.pop(0)
        else:
            slot = next(pair for pair in slots if pair not in used)
        surface.combine(slot[0], {"direction": accepted})
        surface.combine(slot[1], {"gradient": 1.0, "before": -1.0})
        products(*slot, "gradient")
        sy, yy = gram[place[slot[0]], place[slot[1]]], gram[place[slot[1]], place[slot[1]]]
        if sy > 1e-10 * (yy * gram[place[slot[0]], place[slot[0]]]) ** 0.5:
            used.append(slot)
        report(surface.at(done + 1))
    return surface.at(max_iterations, "converged" if surface.converged else "the largest number of iterations")


def _line_search(surface, step, slope) -> float | None:
    """Goes along "direction" until energy or slope have dropped enough; returns how far, or None, back at the start."""
    start, at = surface.enthalpy, 0.0
    rounding = 1e-13 * max(abs(surface.enthalpy), 1.0)
    for _ in range(12):
        surface.move("direction", step - at)
        at = step
        end_slope = float(surface.evaluate(along=(("gradient", "direction"),))[0])
        end = surface.enthalpy
        if np.isfinite(end) and np.isfinite(end_slope):
            armijo = end <= start + 1e-4 * step * slope
            flat = end <= start + rounding and (2e-4 - 1.0) * slope >= end_slope
            if (armijo or flat) and end_slope >= 0.9 * slope:
                return step
            if armijo:
                return step  # still falling steeply: the next direction will see to that
            # minimum of the cubic through both ends
            z = 3.0 * (start - end) / step + slope + end_slope
            root = z * z - slope * end_slope
            if root >= 0.0:
                w = root**0.5
                new = step * (1.0 - (end_slope + w - z) / (end_slope - slope + 2.0 * w))
                new = new if np.isfinite(new) else 0.5 * step
            else:
                new = 0.5 * step
            step = min(max(new, 0.1 * step), 0.6 * step)
        else:
            step *= 0.2
    surface.move("direction", -at)
    surface.evaluate()
    return None


def _fire(surface: _Surface, max_iterations, memory, report) -> Minimum:
    """FIRE 2.0: Bitzek, Koskinen, Gähler, Moseler, Gumbsch, Phys. Rev. Lett. 97, 170201 (2006); Guénolé, Nöhring, Vaid,
    Houllé, Xie, Prakash, Bitzek, Comput. Mater. Sci. 175, 109584 (2020). Semi-implicit Euler with unit masses.
    """
    world = surface.system.world
    surface.vector("velocity")
    time, longest, shortest, mix, uphill, downhill = 0.1, 1.0, 0.002, 0.25, 0, 0
    power, speed2, slope2 = 0.0, 0.0, None
    for done in range(max_iterations):
        if surface.converged:
            return surface.at(done, "converged")
        if surface.settled():
            surface.renew()
            surface.combine("velocity", {"velocity": 0.0})
            power, speed2, slope2 = 0.0, 0.0, None
        if slope2 is None:
            slope2 = float(world.allreduce(surface.share("gradient", ["gradient"]))[0])
        if power > 0.0:
            downhill, uphill = downhill + 1, 0
            if downhill > 20:
                time, mix = min(1.1 * time, longest), 0.99 * mix
        elif speed2 > 0.0:
            downhill, uphill = 0, uphill + 1
            if uphill > 2000:
                return surface.at(done, "no way down was found")
            surface.move("velocity", -0.5 * time)  # half a step back, out of the climb
            time, mix = max(0.5 * time, shortest), 0.25
            surface.combine("velocity", {"velocity": 0.0})
            power, speed2 = 0.0, 0.0
        # v += F dt, then turned towards F; all its products follow from those at hand
        speed = (max(speed2 + 2.0 * time * power + time * time * slope2, 0.0)) ** 0.5
        turn = mix * speed / slope2**0.5 if slope2 > 0.0 else 0.0
        surface.combine("velocity", {"velocity": 1.0 - mix, "gradient": -((1.0 - mix) * time + turn)})
        length = time * float(world.allreduce(surface.largest("velocity"), op="max"))
        if length > surface.max_step:
            surface.combine("velocity", {"velocity": surface.max_step / length})
        surface.move("velocity", time)
        pairs = (("gradient", "velocity"), ("velocity", "velocity"), ("gradient", "gradient"))
        products = surface.evaluate(along=pairs)
        if not np.isfinite(surface.enthalpy):
            raise ValueError("the energy became infinite during minimisation: take a smaller max_step")
        power, speed2, slope2 = -float(products[0]), float(products[1]), float(products[2])
        report(surface.at(done + 1))
    return surface.at(max_iterations, "converged" if surface.converged else "the largest number of iterations")


_METHODS = {"lbfgs": _lbfgs, "fire": _fire}
