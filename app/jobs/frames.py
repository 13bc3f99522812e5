"""The trajectory of a molecular-dynamics job: which arrays of the system go into each H5MD frame."""

from __future__ import annotations

import numpy as np

from ostwald.app.jobs.md_setup import inside_region
from ostwald.io.h5md import Group, Result, Trajectory


class Frames:
    """Writes frames as [trajectory] asks. table: that table. resume_step: drop later frames and go on, or None.

    observed: name -> Result of the numbers of each atom that the analysis gives. notes: attributes of the file's group.
    Per-atom energies and virials are asked of the potential in the step of a frame only (`wanted`). Where frames hold
    selected atoms only (`select`, `sphere`, `block`), the other atoms' rows are absent (io/h5md.py).
    """

    def __init__(self, world, table, path, system, resume_step=None, *, observed=None, notes=None):
        self.table = table
        self.selective = any(table[key] is not None for key in ("select", "sphere", "block"))
        self.energies = self.virials = None
        if resume_step is not None and path.exists():
            self.file = Trajectory.resume(path, world, resume_step)
            return
        atoms = system.atoms
        fields = ["position"] + ([] if table["unwrapped"] else ["image"])
        fields += [name for name, key in (("velocity", "velocities"), ("force", "forces")) if table[key]]
        results = {}
        if table["energies"]:
            results["energy"] = Result((), "eV")
        if table["stresses"]:
            results["virial"] = Result((6,), "eV")
        if table["extrapolation"]:
            results["extrapolation"] = Result((), None)
        if table["deviation"]:
            results["force_deviation"] = Result((), "eV Angstrom-1")
        results |= observed or {}
        level = table["compression"] or int(self.selective)  # what is absent takes no room then
        members = None
        if table["group"] is not None:
            inside = (atoms.groups & np.uint32(atoms.group_mask(table["group"]))) != 0
            members = np.concatenate(world.allgather(atoms.ids[: atoms.n][inside]))
        self.file = Trajectory.create(
            path,
            world,
            ids=atoms.ids[: atoms.n],
            types=atoms.types[: atoms.n],
            species=atoms.species,
            total=system.total,
            periodic=tuple(bool(p) for p in system.cell.periodic),
            masses=atoms.masses,
            groups=(Group("trajectory", (*fields, *results), members),),
            results=results,
            precision=table["precision"],
            compression="gzip" if level else None,
            level=level or None,
            selective=self.selective,
            notes=notes,
        )

    def wanted(self, atoms) -> dict:
        """Arrays that the potential is to fill in the step of a frame: keyword arguments of System.compute."""
        rows = len(atoms.positions)
        self.energies = np.empty(rows) if self.table["energies"] else None
        self.virials = np.empty((rows, 6)) if self.table["stresses"] else None
        return dict(energies=self.energies, virials=self.virials)

    def append(self, step, time, system, observed):
        """A frame of the present state. observed: further numbers by name, (n, …) each. Collective."""
        atoms, table, n = system.atoms, self.table, system.atoms.n
        positions = atoms.positions[:n]
        given = {}
        if table["unwrapped"]:
            positions = positions + atoms.images @ system.cell.matrix
        else:
            given["images"] = atoms.images
        if table["velocities"]:
            given["velocities"] = atoms.velocities
        if table["forces"]:
            given["forces"] = atoms.forces[:n]
        if table["energies"]:
            given["energy"] = self.energies[:n]
        if table["stresses"]:
            given["virial"] = self.virials[:n]
        given |= {name: observed[name] for name in self.file.results if name in observed}
        present = self._selected(system, observed) if self.selective else None
        matrix, origin = system.cell.matrix, system.cell.origin
        self.file.append(step, time, matrix, origin, atoms.ids[:n], positions, present=present, **given)

    def _selected(self, system, observed):
        """(n,) bool: the atoms that this frame holds."""
        chosen = np.ones(system.atoms.n, bool)
        if self.table["select"] is not None:
            chosen &= observed[self.table["select"]]
        if self.table["sphere"] is not None or self.table["block"] is not None:
            chosen &= inside_region(system.atoms, system.cell, self.table)
        return chosen

    def close(self):
        self.file.close()
