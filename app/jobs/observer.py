"""What a molecular-dynamics job finds out about its atoms on the way: structure, clusters of solid atoms, their nuclei."""

from __future__ import annotations

import re

import numpy as np

from ostwald.app.analysis import structure
from ostwald.app.analysis.clusters import FIRST_SHELL, find_clusters
from ostwald.app.analysis.inherent import InherentStructure
from ostwald.app.analysis.nuclei import ATOMS, EVENT, EVENTS, Nuclei
from ostwald.io.h5md import Result
from ostwald.io.nuclei import NucleiFile

MEANS = ("q4", "q6", "rmsd", "bonds")
"""Numbers of each atom whose mean over all atoms is a column of the time series where they are known."""


OWN = ("structure", "solid", "cluster", "nucleus")
"""Numbers of each atom that do not come from the fields of a classification."""


def check_field(name):
    """ValueError's sentence where [analysis] fields names what no analysis gives."""
    known = (*OWN, "distance", "orientation", "deformation", "ordering", *structure.FIELDS)
    bond_order = re.fullmatch(r"(local_)?[qw](\d+)", name)
    if name not in known and not (bond_order and 0 < int(bond_order[2]) <= 12):
        raise ValueError(f"no number of an atom is named {name!r}; known: {', '.join(dict.fromkeys(known))}, q6, w6 …")


class Observer:
    """[analysis] as numbers for the time series and as fields, numbers of each atom, for the trajectory.

    table: that table. species: of the system. labels: the trajectory records those, too.
    columns: unit of each number. results: name -> Result of each field that the trajectory records.
    """

    def __init__(self, table, species, labels=False):
        self.table, self.method, self.templates = table, table["method"], tuple(table["templates"])
        self.threshold = structure.threshold_of(self.method, table["threshold"])
        self.recorded = tuple(dict.fromkeys((*(("structure",) if labels else ()), *table["fields"])))
        own = structure.METHODS[self.method].fields
        self.fields = tuple(n for n in self.recorded if n not in (*OWN, *own))
        self.means = tuple(name for name in MEANS if name in (*own, *self.fields))
        self.columns = {"solid_fraction": "1"}
        self.columns |= {f"{name}_fraction": "1" for name in structure.labels_of(self.method, self.templates)}
        self.orderings = {}  # column -> place in ORDERINGS
        if "ordering" in (*own, *self.fields) and len(species) > 1:
            self.orderings = {
                f"{name.replace(' ', '_')}_fraction": k for k, name in enumerate(structure.ORDERINGS) if k
            }
        self.columns |= dict.fromkeys(self.orderings, "1")
        self.columns |= {f"mean_{name}": "1" for name in self.means}
        if table["clusters"]:
            self.columns |= {"largest_cluster": "1", "clusters": "1"}
        self.nuclei = Nuclei() if table["nuclei"] else None
        self.file = None
        if self.nuclei:
            self.columns |= self.nuclei.columns
            # what a nucleus is made of and how it lies comes from the templates
            self.fields += tuple(n for n in ("orientation",) if self.method == "ptm" and n not in self.fields)
        self.results = {name: _result(name) for name in self.recorded}

    def describe(self) -> str:
        """Algorithms and parameters, for the log and the files."""
        text = structure.describe(self.method, self.threshold, self.templates, self.table["cutoff"])
        if self.table["clusters"]:
            cutoff = self.table["cluster_cutoff"]
            within = f"{cutoff:g} Å" if cutoff else f"{FIRST_SHELL:.4g} (volume of an atom)^(1/3)"
            core = f" with at least {self.table['core']} solid neighbours" if self.table["core"] else ""
            text += f"; clusters: solid atoms{core} within {within}, counted from {self.table['smallest']} atoms on"
        if self.nuclei:
            text += f"; {self.nuclei.describe()}"
        if self.table["inherent"]:
            text += (
                f"; all of the inherent structure: at most {self.table['inherent_iterations']} iterations of L-BFGS towards "
                f"{self.table['inherent_force']:g} eV/Å"
            )
        return text

    def open(self, path, world, step=None, state=None):
        """Where nuclei are followed: their file. step, state: continue behind that step, from `state()` of then."""
        if self.nuclei is None:
            return
        self.path = path
        if state is not None:
            self.nuclei.restore(state)
        if step is not None and world.bcast(path.exists()):
            self.file = NucleiFile.resume(path, world, step)

    def state(self):
        """What a resumed run must know of the nuclei; None where they are not followed."""
        return self.nuclei.state() if self.nuclei else None

    def sync(self):
        if self.file:
            self.file.sync()

    def close(self):
        if self.file:
            self.file.close()

    def measure(self, system, step=0, time=0.0, follow=False):
        """(name -> number, name -> (n, …) of this rank's atoms). Collective; the atoms are left as they are.

        follow: this is the next analysis for those who follow nuclei, at that step and time (ps).
        """
        found = self._classify(system)
        numbers = {f"{name}_fraction": x for name, x in found.fractions.items()}
        numbers["solid_fraction"] = found.solid_fraction
        numbers |= self._means(system, found.fields)
        fields = {**found.fields, "structure": found.labels, "solid": found.solid}
        if self.table["clusters"]:
            clusters = self._clusters(system, found.solid, found.labels, found.fields)
            numbers |= {"largest_cluster": clusters.largest, "clusters": len(clusters.table)}
            fields["cluster"] = clusters.ids
            fields["largest"] = clusters.ids == (clusters.table["id"][0] if len(clusters.table) else -2)
        if self.nuclei:
            if follow:
                rows, events = self.nuclei.follow(system, clusters, step, time)
                if self.file is None:
                    self.file = NucleiFile.create(self.path, system.world, rows.dtype, EVENT, self._notes(system))
                self.file.append(rows, events)
            numbers |= self.nuclei.numbers
            known = system.atoms.extra.get(ATOMS)
            fields["nucleus"] = np.zeros(system.atoms.n, np.int32) if known is None else known
        return {name: numbers[name] for name in self.columns}, fields

    def _notes(self, system):
        """What the numbers in the file of nuclei stand for."""
        return dict(
            analysis=self.describe(),
            labels=list(structure.LABELS),
            orderings=list(structure.ORDERINGS),
            events=list(EVENTS),
            species=list(system.atoms.species),
        )

    def _classify(self, system):
        """The `Structure` of the atoms, or of their inherent structure."""
        given = (self.method, self.threshold, self.fields, self.templates, self.table["cutoff"])
        if not self.table["inherent"]:
            return structure.structure(system, *given)
        iterations, force = self.table["inherent_iterations"], self.table["inherent_force"]
        with system.world.timers("inherent"):
            inherent = InherentStructure(system, iterations=iterations, force_tolerance=force)
        found = structure.structure(inherent.system, *given)
        found.labels, found.solid = inherent.home(found.labels), inherent.home(found.solid)
        found.fields = {name: inherent.home(values) for name, values in found.fields.items()}
        return found

    def _clusters(self, system, solid, labels, fields):
        return find_clusters(
            system,
            solid,
            labels=labels,
            orientations=fields.get("orientation"),
            ordering=fields.get("ordering"),
            cutoff=self.table["cluster_cutoff"],
            core=self.table["core"],
            smallest=self.table["smallest"],
        )

    def _means(self, system, fields):
        """Means over all atoms of which there is a number, and fractions of the orderings."""
        mine = []
        for name in self.means:
            known = np.isfinite(fields[name])
            mine += [fields[name][known].sum(dtype=float), np.count_nonzero(known)]
        if self.orderings:
            mine += np.bincount(fields["ordering"], minlength=len(structure.ORDERINGS)).tolist()
        if not mine:
            return {}
        whole = system.world.allreduce(np.array(mine, float))
        counts = whole[2 * len(self.means) :]
        numbers = {f"mean_{n}": float(a / max(b, 1)) for n, a, b in zip(self.means, whole[::2], whole[1::2])}
        return numbers | {column: float(counts[k]) / system.total for column, k in self.orderings.items()}


def _result(name) -> Result:
    shapes = {"orientation": (4,), "deformation": (9,)}
    dtypes = {
        "structure": "int8",
        "solid": "int8",
        "ordering": "int8",
        "bonds": "int32",
        "coordination": "int32",
        "cluster": "int64",
        "nucleus": "int32",
    }
    return Result(shapes.get(name, ()), None, dtypes.get(name, "float"))
