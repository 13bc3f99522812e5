"""Small systems and potentials in closed form, shared by the tests of the dynamics."""

from __future__ import annotations

import numpy as np

from ostwald.app.atoms.atoms import Atoms
from ostwald.app.atoms.cell import Cell
from ostwald.app.atoms.system import System
from ostwald.app.potentials.base import Potential

ARGON = 39.948
EPSILON, SIGMA = 0.0103, 3.405  # eV, Å


class IdealGas(Potential):
    """No interaction at all."""

    family, species, cutoff, list_style = "ideal gas", ("Ar",), 1.0, "half"
    masses = np.array([ARGON])

    def parameters(self):
        return []

    def compute(self, nb, forces, *, energy=True, virial=True, energies=None, virials=None, threads=1):
        return 0.0, np.zeros(6)


class SmoothLennardJones(Potential):
    """4ε[(σ/r)¹² - (σ/r)⁶] times a switch that takes energy, force and its derivative to zero at the cutoff.

    switch(r) = 1 - t³ (10 - 15 t + 6 t²), t = (r - inner)/(cutoff - inner). ε of unlike species is scaled by `mixed`.
    """

    family, list_style = "test pair potential", "half"

    def __init__(
        self, epsilon=EPSILON, sigma=SIGMA, cutoff=2.2, inner=1.7, species=("Ar",), masses=(ARGON,), mixed=1.0
    ):
        self.species, self.masses = tuple(species), np.array(masses, dtype=float)
        self.epsilon, self.sigma, self.mixed = epsilon, sigma, mixed
        self.cutoff, self.inner = cutoff * sigma, inner * sigma

    def parameters(self):
        return [self.epsilon, self.sigma, self.cutoff, self.inner, self.mixed]

    def pair(self, r):
        """(energy, -dE/dr) of distances."""
        s6 = (self.sigma / r) ** 6
        e, f = 4.0 * self.epsilon * (s6 * s6 - s6), 24.0 * self.epsilon * (2.0 * s6 * s6 - s6) / r
        t = np.clip((r - self.inner) / (self.cutoff - self.inner), 0.0, 1.0)
        w = 1.0 - t**3 * (10.0 - 15.0 * t + 6.0 * t * t)
        slope = -30.0 * t * t * (1.0 - t) ** 2 / (self.cutoff - self.inner)
        return e * w, f * w - e * slope

    def compute(self, nb, forces, *, energy=True, virial=True, energies=None, virials=None, threads=1):
        n = nb.nlocal
        i = np.repeat(np.arange(n), np.diff(nb.offsets))
        j = np.asarray(nb.indices)
        d = nb.positions[i] - nb.positions[j]
        r = np.sqrt((d * d).sum(1))
        near = r < self.cutoff
        i, j, d, r = i[near], j[near], d[near], r[near]
        e, f = self.pair(r)
        if len(self.species) > 1:
            unlike = np.where(nb.types[i] != nb.types[j], self.mixed, 1.0)
            e, f = e * unlike, f * unlike
        half = nb.style == "half"
        # a pair held by one atom: a local partner gets the opposite force; pairs with ghosts are met twice
        weight = np.where(j < n, 1.0, 0.5) if half else np.full(len(r), 0.5)
        push = (f / r)[:, None] * d
        for a in range(3):
            forces[:n, a] += np.bincount(i, push[:, a], minlength=n)
            if half:
                local = j < n
                forces[:n, a] -= np.bincount(j[local], push[local, a], minlength=n)
        w = d.T @ (push * weight[:, None])
        return float(e @ weight), np.array([w[0, 0], w[1, 1], w[2, 2], w[1, 2], w[0, 2], w[0, 1]])


class Einstein(Potential):
    """Springs to sites kept in the positions themselves: k |x - x_site|²/2, sites by global id. For one rank."""

    family, species, cutoff, list_style = "Einstein crystal", ("Ar",), 1.0, "half"
    masses = np.array([ARGON])

    def __init__(self, sites, stiffness):
        self.sites, self.stiffness = np.asarray(sites), stiffness
        self.system = None

    def parameters(self):
        return [self.sites, self.stiffness]

    def compute(self, nb, forces, *, energy=True, virial=True, energies=None, virials=None, threads=1):
        atoms = self.system.atoms
        d = atoms.positions[: nb.nlocal] + atoms.images @ self.system.cell.matrix - self.sites[atoms.ids[: nb.nlocal]]
        forces[: nb.nlocal] -= self.stiffness * d
        return 0.5 * self.stiffness * float((d * d).sum()), np.full(6, np.nan)


def fcc(cells, constant, matrix=None):
    """(positions, matrix) of cells³ (or a triple) conventional fcc cells."""
    cells = np.broadcast_to(cells, 3)
    basis = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    grid = np.stack(np.meshgrid(*[np.arange(c) for c in cells], indexing="ij"), -1).reshape(-1, 1, 3)
    positions = (grid + basis).reshape(-1, 3) * constant
    return positions, np.diag(cells * float(constant))


def make_system(
    world, potential, positions, matrix, *, types=None, periodic=(True, True, True), velocities=None, **options
):
    """A System whose atoms start spread over the ranks by id."""
    positions = np.asarray(positions, dtype=float)
    mine = np.arange(len(positions)) % world.size == world.rank
    types = np.zeros(len(positions), np.int32) if types is None else np.asarray(types, np.int32)
    atoms = Atoms(
        potential.species,
        potential.masses,
        positions[mine],
        types[mine],
        np.flatnonzero(mine),
        velocities=None if velocities is None else np.asarray(velocities, dtype=float)[mine],
    )
    system = System(world, Cell(matrix, periodic=periodic), atoms, potential, **options)
    system.update()
    system.compute()
    return system


def argon(world, cells=3, constant=5.31, temperature=None, seed=1, **options):
    """A Lennard-Jones fcc crystal, at a temperature where asked."""
    from ostwald.app.dynamics.velocities import initialise_velocities

    positions, matrix = fcc(cells, constant)
    system = make_system(world, SmoothLennardJones(), positions, matrix, **options)
    if temperature:
        initialise_velocities(system, temperature, seed=seed)
    return system


def run(system, integrator, steps, first=0, sample=None, every=1):
    """Steps; returns the array of sample(system) every so many steps."""
    samples = []
    for step in range(first, first + steps):
        take = sample is not None and (step + 1) % every == 0
        integrator.step(system, step, energy=take, virial=take)
        if take:
            samples.append(sample(system))
    return np.array(samples)


def total_energy(integrator):
    return lambda system: system.potential_energy() + system.kinetic_energy() + integrator.conserved(system)
