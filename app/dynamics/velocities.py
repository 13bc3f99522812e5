"""Initial velocities, and the removal of motion as a whole."""

from __future__ import annotations

import numpy as np

from ostwald.app.atoms.units import BOLTZMANN, MVV2E, thermal_speed
from ostwald.parallel.random import philox_normal


def _chosen(system, group, select) -> np.ndarray:
    """(n,) bool: rows of the group (a name or None) and of `select`, less those that are frozen."""
    atoms = system.atoms
    chosen = np.ones(atoms.n, bool) if select is None else np.asarray(select, dtype=bool).copy()
    if chosen.shape != (atoms.n,):
        raise ValueError(f"a selection of atoms needs {atoms.n} rows, got shape {chosen.shape}")
    if group is not None:
        if group not in atoms.group_names:
            raise ValueError(f"there is no group {group!r}; there are {', '.join(atoms.group_names)}")
        chosen &= (atoms.groups & np.uint32(atoms.group_mask(group))) != 0
    if system.frozen_mask:
        chosen &= (atoms.groups & np.uint32(system.frozen_mask)) == 0
    return chosen


def initialise_velocities(
    system,
    temperature,
    *,
    seed,
    step=0,
    group=None,
    select=None,
    zero_momentum=True,
    zero_angular_momentum=False,
    exact=True,
):
    """Draws velocities at `temperature` (K) for the mobile atoms of a group (a name), or of `select` (n,) bool.

    Each component has variance kT/m (Maxwell, Boltzmann) and is keyed by (seed, atom id, step): the same on any number
    of ranks. Then the total momentum, and where asked the angular momentum, of the chosen atoms is removed, and with
    `exact` their velocities are scaled to the temperature, at 3 degrees of freedom an atom less those removed. Frozen
    atoms get zero. Collective.
    """
    if not temperature >= 0.0:
        raise ValueError(f"the temperature must not be negative, got {temperature} K")
    atoms = system.atoms
    chosen = _chosen(system, group, select)
    ids, masses = atoms.ids[: atoms.n][chosen], atoms.masses[atoms.types[: atoms.n][chosen]]
    widths = thermal_speed(temperature, masses)
    atoms.velocities[chosen] = widths[:, None] * philox_normal(seed, "velocities", ids, step, 3)
    if system.frozen_mask:
        atoms.velocities[(atoms.groups & np.uint32(system.frozen_mask)) != 0] = 0.0
    if zero_momentum:
        remove_momentum(system, group=group, select=select)
    if zero_angular_momentum:
        remove_rotation(system, group=group, select=select)
    if exact and temperature > 0.0:
        removed = 3 * bool(zero_momentum) + 3 * bool(zero_angular_momentum)
        rescale(system, temperature, group=group, select=select, removed=removed)


def remove_momentum(system, *, group=None, select=None):
    """Makes the total momentum of the chosen mobile atoms zero. Collective."""
    atoms = system.atoms
    chosen = _chosen(system, group, select)
    masses = atoms.masses[atoms.types[: atoms.n][chosen]]
    sums = system.world.allreduce(np.append(masses @ atoms.velocities[chosen], masses.sum()))
    if sums[3] > 0.0:
        atoms.velocities[chosen] -= sums[:3] / sums[3]


def remove_rotation(system, *, group=None, select=None):
    """Makes the angular momentum of the chosen mobile atoms about their centre of mass zero. Collective.

    Raises ValueError where an axis is periodic: the angular momentum is not defined there.
    """
    if system.cell.periodic.any():
        raise ValueError("angular momentum can be removed only where all axes are open")
    atoms = system.atoms
    chosen = _chosen(system, group, select)
    masses = atoms.masses[atoms.types[: atoms.n][chosen]]
    x, v = atoms.positions[: atoms.n][chosen], atoms.velocities[chosen]
    sums = system.world.allreduce(np.concatenate([masses @ x, masses @ v, [masses.sum()]]))
    if not sums[6] > 0.0:
        return
    centre, drift = sums[:3] / sums[6], sums[3:6] / sums[6]
    x = x - centre
    moment = np.einsum("i,ia,ib->ab", masses, x, x)
    angular = masses @ np.cross(x, v - drift)
    sums = system.world.allreduce(np.append(moment.ravel(), angular))
    moment, angular = sums[:9].reshape(3, 3), sums[9:]
    inertia = moment.trace() * np.eye(3) - moment
    # pseudo-inverse: atoms on a line do not resist rotation about it
    omega = np.linalg.pinv(inertia, rcond=1e-10, hermitian=True) @ angular
    atoms.velocities[chosen] -= np.cross(omega, x)


def rescale(system, temperature, *, group=None, select=None, removed=None):
    """Scales the velocities of the chosen mobile atoms to `temperature` (K) exactly. Collective.

    removed: degrees of freedom that their motion as a whole has lost (default: 3 for all atoms of a system where
    nothing is frozen, else 0). Raises ValueError where nothing moves.
    """
    atoms = system.atoms
    chosen = _chosen(system, group, select)
    v = atoms.velocities[chosen]
    share = np.array([atoms.masses[atoms.types[: atoms.n][chosen]] @ (v * v).sum(1), np.count_nonzero(chosen)])
    twice_kinetic, count = system.world.allreduce(share)
    if removed is None:
        removed = 3 if group in (None, "all") and select is None and not system.frozen_mask else 0
    if count == 0:
        return
    dof = max(3 * int(count) - removed, 1)
    if not twice_kinetic > 0.0:
        raise ValueError("velocities that are all zero cannot be scaled to a temperature")
    atoms.velocities[chosen] *= np.sqrt(dof * BOLTZMANN * temperature / (MVV2E * twice_kinetic))
