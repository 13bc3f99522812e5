"""Inherent structures: a minimised copy of the atoms, to be classified in place of the hot ones (Stillinger, Weber 1982)."""

from __future__ import annotations

import copy
import time

import numpy as np

from ostwald.app.atoms.atoms import Atoms
from ostwald.app.atoms.cell import Cell
from ostwald.app.atoms.system import System
from ostwald.app.dynamics.minimise import minimise
from ostwald.parallel import Blocks
from ostwald.parallel.world import Timers

ITERATIONS, FORCE = 10, 0.05


class InherentStructure:
    """A copy of a system, in the same bricks and the same cell, brought down towards its nearest minimum of energy.

    iterations: of L-BFGS, at most; force_tolerance: eV/Å, of the largest force. The system itself, its potential and its
    timers are left as they are: a run goes on with the same bits as without. The copy takes as much memory as the
    system while it is kept. Collective.

    system: the copy; minimum: where the minimisation ended (`dynamics.Minimum`); seconds: wall time it took.
    """

    def __init__(self, system, *, iterations=ITERATIONS, force_tolerance=FORCE):
        begun = time.perf_counter()
        atoms, n, cell = system.atoms, system.atoms.n, system.cell
        world = copy.copy(system.world)
        world.timers = Timers(world)
        copied = Atoms(
            atoms.species, atoms.masses, atoms.positions[:n].copy(), atoms.types[:n].copy(), atoms.ids[:n].copy(),
            images=atoms.images.copy(), groups=atoms.groups.copy(),
        )  # fmt: skip
        copied.group_names = list(atoms.group_names)
        self.system = System(
            world,
            Cell(cell.matrix.copy(), cell.origin.copy(), cell.periodic),
            copied,
            unwatched(system.potential),
            skin=system.skin,
            grid=system.bricks.grid,
            cuts=[np.array(cuts) for cuts in system.bricks.cuts],
            balance="none",
            threads=system.threads,
        )
        self.system.frozen_mask = system.frozen_mask
        self.minimum = minimise(self.system, max_iterations=iterations, force_tolerance=force_tolerance)
        self._home = Blocks(world, atoms.ids[:n].copy(), system.total)
        self._here = Blocks(world, self.system.atoms.ids[: self.system.atoms.n], system.total)
        self.seconds = time.perf_counter() - begun

    def home(self, values):
        """(n, …) of the rows of the system itself, from values of the rows of the copy. Collective."""
        return self._home.from_blocks(self._here.to_blocks(np.ascontiguousarray(values)))

    def describe(self) -> str:
        """One line for a log."""
        at = self.minimum
        return f"inherent structure: {at.evaluations} force evaluations in {self.seconds:.3g} s, largest force {at.force:.3g} eV/Å"


def unwatched(potential):
    """A twin of a potential: what the last evaluation left for others to read stays with the original."""
    twin = copy.copy(potential)
    for parts in ("members", "terms"):
        if hasattr(twin, parts):
            setattr(twin, parts, tuple(unwatched(part) for part in getattr(twin, parts)))
    for switch in ("watch", "watch_deviation"):
        if hasattr(twin, switch):
            getattr(twin, switch)(False)
    return twin
