"""Crystals, melts and shells on one rank, with their periodic images, for tests of structure analysis."""

from itertools import product
from math import sqrt

import numpy as np

from ostwald.app.atoms import build
from ostwald.app.kernels import _structure
from ostwald.app.potentials.base import Neighbourhoods
from ostwald.parallel import World


def with_images(positions, matrix, reach, types=None):
    """Neighbourhoods of one rank whose ghosts are all periodic images within reach of the cell, by brute force."""
    inverse = np.linalg.inv(matrix)
    s = positions @ inverse
    s -= np.floor(s)
    border = reach * np.linalg.norm(inverse, axis=0)
    rows, owner = [s], [np.arange(len(s))]
    for shift in product(*[range(-int(np.ceil(b)), int(np.ceil(b)) + 1) for b in border]):
        if any(shift):
            t = s + shift
            near = ((t > -border) & (t < 1 + border)).all(axis=1)
            rows.append(t[near])
            owner.append(np.flatnonzero(near))
    owner = np.concatenate(owner)
    types = np.zeros(len(owner), np.int32) if types is None else types[owner].astype(np.int32)

    def forward(array):
        array[len(s) :] = array[owner[len(s) :]]

    def reverse(array):
        np.add.at(array, owner[len(s) :], array[len(s) :])

    nothing = np.zeros(len(s) + 1, np.int64), np.zeros(0, np.int32)
    return Neighbourhoods(np.concatenate(rows) @ matrix, types, len(s), *nothing, "full", forward, reverse)


def crystal(lattice, a, cells, noise=0.0, seed=0, **options):
    species = ("A", "B") if lattice in ("rocksalt", "b2") else "A"
    share = build.build_lattice(World(), lattice, a, species, cells, **options)
    return build.rattle(share, noise, seed).positions if noise else share.positions, share.matrix


def lennard_jones(positions, matrix, steps, temperature, seed):
    """A short Langevin run in reduced units (ε = σ = m = 1, cutoff 1.9), with numpy: disorder of a real liquid."""
    rng = np.random.default_rng(seed)
    x, v, dt = positions.copy(), rng.normal(0, sqrt(temperature), positions.shape), 0.005
    decay, box, start = np.exp(-2.0 * dt), np.diag(matrix), None
    for _ in range(steps):
        if start is None or np.abs(x - start).max() > 0.15:
            start = x.copy()
            nb = with_images(x, matrix, 2.3)
            owner = np.arange(nb.nall, dtype=float)
            nb.forward(owner)
            offsets, j = _structure.within(nb.positions, nb.nlocal, 2.3)
            i, j = np.repeat(np.arange(nb.nlocal), np.diff(offsets)), owner[j].astype(int)
            i, j = i[i < j], j[i < j]
        delta = x[i] - x[j]
        delta -= np.rint(delta / box) * box
        r2 = np.einsum("ij,ij->i", delta, delta)
        s6 = np.where(r2 < 3.61, r2, np.inf) ** -3
        pull = (24 * (2 * s6 * s6 - s6) / r2)[:, None] * delta
        for k in range(3):
            force = np.bincount(i, pull[:, k], len(x)) - np.bincount(j, pull[:, k], len(x))
            v[:, k] += dt * force
        v = decay * v + sqrt((1 - decay**2) * temperature) * rng.normal(size=v.shape)
        x = x + dt * v
    return x


def icosahedron():
    """(13, 3): an atom and its twelve neighbours."""
    golden = (1 + sqrt(5)) / 2
    shell = [p for a, b in product((1, -1), (golden, -golden)) for p in ((0, a, b), (a, b, 0), (b, 0, a))]
    return np.array([(0, 0, 0), *shell], float)
