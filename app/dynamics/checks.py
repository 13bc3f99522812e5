"""Whether a step is short enough, and whether a run has gone wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ostwald.app.atoms.units import BOLTZMANN, FORCE_TO_ACCELERATION
from ostwald.app.kernels import _integrate
from ostwald.parallel import CollectiveError


class Unstable(CollectiveError):
    """A run that cannot go on: raised on every rank."""


@dataclass(frozen=True)
class Fault:
    """What is wrong, and with which atom of which rank (id -1: with none in particular)."""

    what: str
    id: int
    rank: int

    def __str__(self):
        where = f"atom {self.id} on rank {self.rank}: " if self.id >= 0 else ""
        return where + self.what


def shortest_distance(system) -> float:
    """Å: between any two atoms of the neighbour list, infinite where there is none. Collective."""
    nb, atoms = system.neighbours, system.atoms
    shortest, positions = np.inf, atoms.positions
    offsets = np.asarray(nb.offsets)
    # a few thousand rows at a time, so that the pairs of a large system are never all in memory
    for lo in range(0, atoms.n, 4096):
        hi = min(lo + 4096, atoms.n)
        pairs = nb.indices[offsets[lo] : offsets[hi]]
        if len(pairs):
            rows = np.repeat(np.arange(lo, hi), np.diff(offsets[lo : hi + 1]))
            shortest = min(shortest, float(((positions[pairs] - positions[rows]) ** 2).sum(1).min()))
    return float(system.world.allreduce(shortest**0.5, op="min"))


def check_timestep(system, dt, *, fraction=0.2):
    """Raises Unstable where a step of `dt` (ps) is too long for the present velocities and forces. Collective.

    Tested is how far an atom goes in a step, v dt + f dt²/2m, against `fraction` of the shortest interatomic distance.
    """
    atoms = system.atoms
    moves = system.world.allreduce(
        np.sqrt(
            [
                dt**2 * _integrate.largest(atoms.velocities, atoms.n)[0],
                _integrate.largest(atoms.forces, atoms.n, **_mobile(system), **_inverse_masses(system, 0.5 * dt**2))[0],
            ]
        ),
        op="max",
    )
    shortest = shortest_distance(system)
    limit = fraction * shortest
    if moves[0] + moves[1] <= limit:
        return
    if moves[1] > limit:
        raise Unstable(
            f"the forces are so large that an atom would move {moves[1]:.3g} Å in one step of {dt:g} ps "
            f"(the shortest distance is {shortest:.3g} Å): minimise the structure first or take a shorter step"
        )
    suggestion = dt * limit / (moves[0] + moves[1])
    unit = 10.0 ** (np.floor(np.log10(suggestion)) - 1.0)
    suggestion = unit * np.floor(suggestion / unit)
    raise Unstable(
        f"a step of {dt:g} ps moves the fastest atom {moves[0] + moves[1]:.3g} Å, more than {fraction:.0%} of "
        f"the shortest distance of {shortest:.3g} Å: take at most {suggestion:.2g} ps"
    )


def _mobile(system) -> dict:
    if not system.frozen_mask:
        return {}
    return dict(groups=system.atoms.groups, frozen=system.frozen_mask)


def _inverse_masses(system, factor) -> dict:
    return dict(types=system.atoms.types, weights=factor * FORCE_TO_ACCELERATION / system.atoms.masses)


def diagnose(system, max_temperature=None, *, max_speed=None, max_force=None) -> Fault | None:
    """The first thing that is wrong with a system, the same on every rank, or None. Collective: one small reduction.

    Looked for: positions, velocities and forces that are not finite; a speed above `max_speed` (Å/ps); a force above
    `max_force` (eV/Å); a temperature above `max_temperature` (K). Named is the worst atom of the lowest rank affected.
    """
    atoms, world = system.atoms, system.world
    fault = None
    for noun, array, limit, unit, rows in (
        ("position", atoms.positions, None, "Å", {}),
        ("velocity", atoms.velocities, max_speed, "Å/ps", {}),
        ("force", atoms.forces, max_force, "eV/Å", _mobile(system)),
    ):
        square, row = _integrate.largest(array, atoms.n, **rows)
        if not np.isfinite(square):
            fault = (f"its {noun} is not finite", int(atoms.ids[row]))
        elif limit is not None and square > limit**2:
            fault = (f"its {noun} of {square**0.5:.4g} {unit} is beyond {limit:g} {unit}", int(atoms.ids[row]))
        if fault:
            break
    share = [fault is not None, float(system.local_kinetic_tensor()[:3].sum())]
    faults, twice_kinetic = world.allreduce(np.array(share, dtype=np.float64))
    if faults:
        return next(Fault(*found, rank) for rank, found in enumerate(world.allgather(fault)) if found)
    temperature = twice_kinetic / (BOLTZMANN * max(system.degrees_of_freedom, 1))
    if max_temperature is None or temperature <= max_temperature:
        return None
    square, row = _integrate.largest(atoms.velocities, atoms.n)
    fastest = world.allgather((square, int(atoms.ids[row]) if row >= 0 else -1))
    rank = max(range(world.size), key=lambda r: fastest[r][0])
    what = f"the temperature is {temperature:.4g} K, above {max_temperature:g} K; this atom is the fastest"
    return Fault(what, fastest[rank][1], rank)
