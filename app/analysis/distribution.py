"""Distribution functions and diffusion, computed on the fly, across bricks."""

from __future__ import annotations

import numpy as np

from ostwald.app.analysis.structure import surroundings
from ostwald.app.kernels import _structure
from ostwald.parallel import Blocks


class PairDistribution:
    """Radial distribution functions g_ab(r), averaged over the samples taken.

    cutoff (Å): the largest distance; bins: intervals between 0 and the cutoff; ntypes: number of species.
    """

    def __init__(self, cutoff, bins, ntypes):
        self.cutoff, self.bins, self.ntypes = float(cutoff), int(bins), int(ntypes)
        self.samples = 0
        self._sum = np.zeros((ntypes, ntypes, bins))

    def sample(self, system):
        """Adds the present configuration. Collective; every rank holds the same result."""
        nb, _ = surroundings(system, self.cutoff)
        pairs = _structure.pair_histogram(
            nb.positions, nb.types, nb.nlocal, self.cutoff, self.bins, self.ntypes, system.threads
        )
        atoms = np.bincount(nb.types[: nb.nlocal], minlength=self.ntypes)
        world = system.world
        pairs, atoms = world.allreduce(pairs), np.asarray(world.allreduce(atoms), float)
        # In an ideal gas a shell of volume v holds N_a N_b v / V ordered pairs (a = b: N_a (N_a - 1)).
        expected = (np.outer(atoms, atoms) - np.diag(atoms)) / system.cell.volume
        shell = 4 / 3 * np.pi * np.diff(self.edges**3)
        expected = expected[:, :, None] * shell
        self._sum += np.divide(pairs, expected, out=np.zeros_like(expected), where=expected > 0)
        self.samples += 1

    @property
    def edges(self):
        """(bins + 1,) Å"""
        return np.linspace(0, self.cutoff, self.bins + 1)

    @property
    def r(self):
        """(bins,) Å, middle of each bin."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    @property
    def g(self):
        """(ntypes, ntypes, bins), symmetric in the first two."""
        return self._sum / max(self.samples, 1)


class MeanSquareDisplacement:
    """⟨|x(t) − x(0)|²⟩ by species, from unwrapped positions, the drift of the centre of all atoms removed.

    The reference, the system at construction, is kept in blocks of ids, so migration does not matter.
    The cell is taken to be the same at both times (NVE, NVT). Collective.
    """

    def __init__(self, system):
        self.reference = self._unwrapped(system)[0]

    @staticmethod
    def _unwrapped(system):
        atoms = system.atoms
        n = atoms.n
        blocks = Blocks(system.world, atoms.ids[:n], system.total)
        unwrapped = atoms.positions[:n] + atoms.images[:n] @ system.cell.matrix
        return blocks.to_blocks(unwrapped), blocks.to_blocks(np.ascontiguousarray(atoms.types[:n]))

    def sample(self, system):
        """(ntypes,) Å² of each species; NaN for one without atoms."""
        now, types = self._unwrapped(system)
        moved = now - self.reference
        world, ntypes = system.world, len(system.atoms.masses)
        moved -= np.asarray(world.allreduce(moved.sum(axis=0))) / system.total
        sums = np.bincount(types, weights=(moved**2).sum(axis=1), minlength=ntypes)
        counts = np.asarray(world.allreduce(np.bincount(types, minlength=ntypes).astype(float)))
        with np.errstate(invalid="ignore"):
            return np.asarray(world.allreduce(sums)) / counts
