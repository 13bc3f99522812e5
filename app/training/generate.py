"""Structures to be labelled: rattled and strained crystals, snapshots of melts and quenches, dimers, random packings.

Every structure comes from random numbers of its own (seed, set, number), so it is the same on any number of ranks and
after any interruption.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import pi

import numpy as np
from ase import Atoms, units

from ostwald.app.atoms import build
from ostwald.parallel import philox_generator

MODES = {
    "isotropic": (1, 1, 1, 0, 0, 0),
    "xx": (1, 0, 0, 0, 0, 0),
    "yy": (0, 1, 0, 0, 0, 0),
    "zz": (0, 0, 1, 0, 0, 0),
    "yz": (0, 0, 0, 1, 0, 0),
    "xz": (0, 0, 0, 0, 1, 0),
    "xy": (0, 0, 0, 0, 0, 1),
}
"""Strains (xx yy zz yz xz xy) of unit size."""
TRIES = 2000
"""Places that are tried for an atom of a random packing, and packings that are begun, before it is given up."""


class Recipe:
    """One set of a run file: how its structures are made, in pieces that can be made alone.

    table: the validated [[set]]. number: its place in the run file. seed: of the run. world: of this rank alone.
    starts: ase.Atoms that the set begins from (of its file), or None.
    """

    def __init__(self, table, number, seed, world, starts=None):
        self.table, self.number, self.seed, self.world, self.starts = table, number, seed, world, starts

    @property
    def name(self) -> str:
        return self.table["name"]

    @property
    def pieces(self) -> int:
        """How many calls of `make` give the whole set."""
        table = self.table
        if table["kind"] == "given":
            return len(self.starts)
        if table["kind"] == "strained":
            return table["count"] * len(table["modes"])
        if table["kind"] == "dimers":
            return table["count"] * len(self.pairs)
        return table["count"]

    @property
    def each(self) -> int:
        """Structures of a piece."""
        return self.table["snapshots"] if self.table["kind"] == "snapshots" else 1

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The elements of the dimers."""
        species = self.table["species"]
        return [(a, b) for k, a in enumerate(species) for b in species[k:]]

    def steps(self) -> int:
        """Evaluations of forces that a piece takes, about."""
        t = self.table
        if t["kind"] == "snapshots":
            return round((t["time"] + t["melt_time"]) / t["timestep"]) + t["snapshots"]
        return t["relax"] + 1 if t["kind"] == "packing" else 1

    def make(self, piece: int, driver, look) -> Iterator[Atoms]:
        """The structures of a piece. driver: ASE calculator that moves atoms; look(): called between its steps."""
        rng = philox_generator(self.seed, f"label {self.number}", piece)
        yield from getattr(self, f"_{self.table['kind']}")(piece, rng, driver, look)

    def example(self) -> Atoms:
        """A structure of the size and the elements of the set, without the work of a trajectory or a relaxation."""
        rng = philox_generator(self.seed, f"label {self.number}", 0)
        if self.table["kind"] == "dimers":
            return next(self._dimers(self.pieces - 1, rng, None, None))
        if self.table["kind"] == "packing":
            return next(
                Recipe({**self.table, "relax": 0}, self.number, self.seed, self.world)._packing(0, rng, None, None)
            )
        return self._start(0, rng)

    # --- the kinds

    def _given(self, piece, rng, driver, look):
        yield self._start(piece, rng)

    def _rattled(self, piece, rng, driver, look):
        table = self.table
        atoms = self._start(piece, rng)
        _deform(atoms, _symmetric(rng.uniform(-1, 1, 6) * table["strain"]))
        atoms.positions += table["rattle"] * rng.uniform() ** 0.5 * rng.standard_normal((len(atoms), 3))
        yield atoms

    def _strained(self, piece, rng, driver, look):
        table = self.table
        mode, point = divmod(piece, table["count"])
        size = np.linspace(-table["strain"], table["strain"], table["count"])[point]
        atoms = self._start(0, rng)
        _deform(atoms, _symmetric(size * np.array(MODES[table["modes"][mode]])))
        yield atoms

    def _snapshots(self, piece, rng, driver, look):
        from ase.md.langevin import Langevin

        table = self.table
        atoms = self._start(piece, rng)
        atoms.calc = driver
        first, last = np.broadcast_to(table["temperature"], 2)
        hot = table["melt"] or first
        # twice: half of it goes into the potential energy of a perfect crystal
        widths = np.sqrt(2 * units.kB * hot * atoms.get_masses())
        atoms.set_momenta(widths[:, None] * rng.standard_normal((len(atoms), 3)))
        steps = max(table["snapshots"], round(table["time"] / table["timestep"]))
        before = round(table["melt_time"] / table["timestep"])
        dynamics = Langevin(
            atoms,
            timestep=1000 * table["timestep"] * units.fs,
            temperature_K=hot,
            friction=1 / (1000 * table["damping"] * units.fs),
            rng=rng,
            fixcm=False,  # the thermostat acts on the centre of mass, too
        )
        at = np.rint(np.linspace(0, steps, table["snapshots"] + 1)[1:]).astype(int) + before
        for step in range(1, steps + before + 1):
            if step > before:
                dynamics.set_temperature(temperature_K=first + (last - first) * (step - before) / steps)
            dynamics.run(1)
            look()
            if step in at:
                if not np.isfinite(atoms.positions).all():
                    raise ValueError("the trajectory flew apart: a shorter timestep or a lower temperature is needed")
                snapshot = atoms.copy()
                snapshot.wrap()
                yield snapshot

    def _dimers(self, piece, rng, driver, look):
        table = self.table
        pair, point = divmod(piece, table["count"])
        low, high = table["distances"]
        away = low + (high - low) * point / max(table["count"] - 1, 1)
        atoms = Atoms(self.pairs[pair], [[0, 0, 0], [away, 0, 0]])
        if table["box"]:
            atoms.set_cell([table["box"]] * 3)
            atoms.pbc = True
            atoms.center()
        yield atoms

    def _packing(self, piece, rng, driver, look):
        table = self.table
        volume = rng.uniform(*table["per_atom"]) * table["atoms"]
        cell = np.cbrt(volume) * np.eye(3)
        symbols = _symbols(table["species"], table["composition"], table["atoms"], rng)
        atoms = Atoms(symbols, _packed(len(symbols), cell, table["gap"], rng), cell=cell, pbc=True)
        _deform(atoms, _symmetric(rng.uniform(-1, 1, 6) * table["strain"]))
        if table["relax"]:
            from ase.optimize import FIRE

            atoms.calc = driver
            optimiser = FIRE(atoms, logfile=None, maxstep=0.1)
            for _ in optimiser.irun(fmax=0.05, steps=table["relax"]):
                look()
            atoms = atoms.copy()
        yield atoms

    # --- parts of them

    def _start(self, piece, rng) -> Atoms:
        """The structure that a piece begins from: a crystal or one of the file's, its volume and composition drawn."""
        table = self.table
        if self.starts is not None:
            atoms = self.starts[piece % len(self.starts)].copy() * table["cells"]
        else:
            share = build.build_lattice(
                self.world, table["lattice"], table["a"], tuple(table["species"]), table["cells"], c=table["c"]
            )
            seed = int(rng.integers(2**62))
            if table["composition"]:
                share = build.substitute(self.world, share, table["composition"], seed)
            if table["vacancies"]:
                share = build.vacancies(self.world, share, table["vacancies"], seed)
            symbols = np.array(share.species)[share.types]
            atoms = Atoms(symbols, share.positions, cell=share.matrix, pbc=share.periodic)
        low, high = table["volume"]
        if (low, high) != (1.0, 1.0) and atoms.pbc.all():
            atoms.set_cell(atoms.cell * np.cbrt(rng.uniform(low, high)), scale_atoms=True)
        return atoms


def _deform(atoms, strain):
    """Strains the cell and what is in it; atoms without a cell stay as they are."""
    if atoms.pbc.all():
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)


def _symmetric(s):
    return np.array([[s[0], s[5], s[4]], [s[5], s[1], s[3]], [s[4], s[3], s[2]]])


def _symbols(species, composition, count, rng):
    """(count,) symbols of a composition (even, where there is none), in random order."""
    fractions = np.array([composition[s] for s in species] if composition else np.full(len(species), 1 / len(species)))
    ends = np.rint(np.cumsum(fractions) * count).astype(int)
    return rng.permutation(np.repeat(species, np.diff(ends, prepend=0)))


def _packed(count, cell, gap, rng):
    """(count, 3) places in a cubic cell, no two nearer than gap across its faces; ValueError where they do not fit."""
    edge = cell[0, 0]
    filled = count * pi / 6 * gap**3 / edge**3
    if filled > 0.38:  # random sequential addition jams there
        raise ValueError(f"atoms {gap:g} Å apart cannot be put at random into {edge**3 / count:.3g} Å³ each; lower gap")
    for _ in range(TRIES):
        places = np.empty((count, 3))
        for k in range(count):
            for _ in range(TRIES):
                place = rng.uniform(0, edge, 3)
                away = places[:k] - place
                away -= edge * np.rint(away / edge)
                if k == 0 or np.square(away).sum(axis=1).min() >= gap * gap:
                    places[k] = place
                    break
            else:
                break
        else:
            return places
    raise ValueError(f"no random packing with atoms {gap:g} Å apart was found; lower gap")
