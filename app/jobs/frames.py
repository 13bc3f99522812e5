"""The trajectory of a molecular-dynamics job: which arrays of the system go into each H5MD frame."""

from __future__ import annotations

import numpy as np

from ostwald.io.h5md import Group, Result, Trajectory


class Frames:
    """Writes frames as [trajectory] asks. table: that table. resume_step: drop later frames and go on, or None.

    Per-atom energies and virials are asked of the potential in the step of a frame only (`wanted`).
    """

    def __init__(self, world, table, path, system, resume_step=None):
        self.table = table
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
        if table["structure"]:
            results["structure"] = Result((), None, "int8")
        if table["extrapolation"]:
            results["extrapolation"] = Result((), None)
        if table["deviation"]:
            results["force_deviation"] = Result((), "eV Angstrom-1")
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
            compression="gzip" if table["compression"] else None,
            level=table["compression"] or None,
        )

    def wanted(self, atoms) -> dict:
        """Arrays that the potential is to fill in the step of a frame: keyword arguments of System.compute."""
        rows = len(atoms.positions)
        self.energies = np.empty(rows) if self.table["energies"] else None
        self.virials = np.empty((rows, 6)) if self.table["stresses"] else None
        return dict(energies=self.energies, virials=self.virials)

    def append(self, step, time, system, labels=None, watched=None):
        """A frame of the present state. watched: further results by name, (n,) each. Collective."""
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
        if table["structure"]:
            given["structure"] = labels
        given |= watched or {}
        self.file.append(step, time, system.cell.matrix, system.cell.origin, atoms.ids[:n], positions, **given)

    def close(self):
        self.file.close()
