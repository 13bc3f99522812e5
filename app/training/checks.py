"""What may be wrong with a data set: missing labels, duplicates, atoms on top of each other, absurd numbers, wrong units.

Every check looks at numbers that do not depend on the order of atoms, the choice of the cell or its orientation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise, permutations

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from ostwald.app.atoms.neighbours import NeighbourList
from ostwald.app.atoms.units import GPA
from ostwald.app.potentials.images import Images
from ostwald.app.training.data import References, reference_energies
from ostwald.io.datasets import DataSet, voigt

REACH = 6.0
"""Å: pairs up to here make the fingerprint of a structure."""
SAME = 1e-6
"""Difference of two fingerprints, per number, up to which structures are the same."""
OTHER_ENERGY = 0.01
"""eV/atom by which labels of the same structure may not differ; a tenth of it is told."""
TOUCHING = 0.4
"""Pairs closer than this part of the sum of their covalent radii are atoms on top of each other."""
LARGE_FORCE = 50.0
"""eV/Å."""
FAR_ENERGY = 10.0
"""eV/atom from the median, after the reference energies."""
LARGE_STRESS = 1.0
"""eV/Å³ (160 GPa)."""
NET_FORCE = 0.02
"""eV/Å per atom."""
LONG_BOND, SHORT_BOND = 1.35, 0.55
"""Medians of the shortest distance of a structure, in covalent radii, beyond which lengths look like another unit. Sets of water, metals,
semiconductors and their melts have 0.68 to 1.21."""
STRONG_FORCES, WIDE_ENERGIES = 6.0, 2.0
"""Root mean square of the force components (eV/Å) and median deviation of the energies (eV/atom) beyond which energies look like another
unit. The same sets have up to 2.1 and 1.0."""
AGREEMENT = 0.4, 2.5
"""Range of the ratio of an energy difference to the work of forces or stress; the same sets have 0.5 to 1.1."""
ENOUGH = 5
"""Pairs of near structures that it takes to judge by."""
COMPONENTS = ("xx", "yy", "zz", "yz", "xz", "xy")
LEVELS = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """level: of LEVELS; an error spoils a training. structures: the numbers in the set that it is about."""

    level: str
    text: str
    structures: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass
class Report:
    """What the checks of a data set found.

    findings: the worst first. groups, distances: tables (header, *rows) of text. copies (n,): equal for equal structures.
    nearest (n,) Å: the smallest distance in each structure (inf for one atom alone). references: fitted energies.
    """

    path: str
    summary: str
    findings: list[Finding]
    groups: list[list[str]]
    distances: list[list[str]]
    copies: np.ndarray
    nearest: np.ndarray
    references: References | None

    @property
    def unusable(self) -> np.ndarray:
        """The structures of all errors, ascending."""
        return np.unique(
            np.concatenate([np.zeros(0, np.int64), *(f.structures for f in self.findings if f.level == "error")])
        )

    @property
    def repeated(self) -> np.ndarray:
        """All but the first of equal structures, ascending."""
        return np.setdiff1d(np.arange(len(self.copies)), np.unique(self.copies, return_index=True)[1])

    def __str__(self):
        lines = [f"{self.path}: {self.summary}", "", *_aligned(self.groups), "", *_aligned(self.distances)]
        if self.references:
            each = ", ".join(f"{chemical_symbols[z]} {e:.6g}" for z, e in self.references.energies.items())
            doubt = "" if self.references.unique else " (the compositions do not tell the elements apart)"
            lines += ["", f"reference energies, eV/atom, by least squares: {each}{doubt}"]
        lines += ["", *(f"{finding.level}: {finding.text}{_which(finding.structures)}" for finding in self.findings)]
        return "\n".join(lines if self.findings else [*lines, "nothing suspicious"])


def check(ds: DataSet) -> Report:
    """Looks at every structure and label of a set."""
    nearest, bonds, fingerprints, closest = _geometry(ds)
    known = {name: np.isfinite(getattr(ds, name)) for name in ("energy", "forces", "stress")}
    references = reference_energies(ds) if known["energy"].any() else None
    rest = (ds.energy - references.of(ds)) / ds.counts if references else np.full(len(ds), np.nan)
    copies = duplicates(ds, fingerprints)
    findings = [
        *_labels(ds, known),
        *_distances(nearest, bonds),
        *_copies(ds, copies),
        *_energies(ds, rest),
        *_forces(ds),
        *_units(ds, rest, bonds),
        *consistency(ds),
    ]
    findings.sort(key=lambda finding: LEVELS.index(finding.level))
    atoms = int(ds.offsets[-1])
    symbols = " ".join(chemical_symbols[z] for z in ds.elements)
    summary = f"{len(ds)} structures, {atoms} atoms, {symbols}; {_labels_there(ds, known)}"
    groups = _group_table(ds, rest, nearest)
    return Report(str(ds.path), summary, findings, groups, closest, copies, nearest, references)


def infinite(ds: DataSet) -> np.ndarray:
    """(n,) bool: positions that are no finite numbers, or labels that are infinite (a label that is nan is missing)."""
    rows = ~np.isfinite(ds.positions).all(axis=1) | np.isinf(ds.forces).any(axis=1)
    return _by_structure(ds, rows) | np.isinf(ds.energy) | np.isinf(ds.stress).any(axis=1)


def duplicates(ds: DataSet, fingerprints=None) -> np.ndarray:
    """(n,) the number of the first structure that is the same: same atoms and cell, moved, turned or renumbered."""
    if fingerprints is None:
        fingerprints = _geometry(ds)[2]
    same = np.arange(len(ds))
    # sorted by the first number, equal ones are neighbours; a chain of them is compared with its first
    order = np.lexsort((np.arange(len(ds)), fingerprints[:, 0]))
    near = np.flatnonzero(np.diff(fingerprints[order, 0]) > SAME) + 1
    for members in np.split(order, near):
        members = np.sort(members)
        while len(members) > 1:
            alike = (np.abs(fingerprints[members] - fingerprints[members[0]]) <= SAME).all(axis=1)
            alike[0] = True  # also where it is not a number
            same[members[alike]] = members[0]
            members = members[~alike]
    return same


# --- geometry


def _geometry(ds):
    """Of each structure the smallest distance (n,), the smallest in units of the covalent radii (n,), the fingerprint (n, k);
    and the table of the closest pair of each two elements."""
    elements = ds.elements
    kinds = len(elements)
    nearest, bonds = np.full((2, len(ds)), np.inf)
    closest = np.full(kinds * kinds, np.inf)
    where = np.zeros(kinds * kinds, np.int64)
    fingerprints = np.zeros((len(ds), kinds + 6))
    neighbours = NeighbourList()
    for i, s in enumerate(ds):
        if not (np.isfinite(s.positions).all() and s.volume > 0):
            fingerprints[i] = np.nan
            continue
        images = Images(s.positions, s.cell, s.periodic, REACH)
        rows = images.rows(s.positions)
        neighbours.build(rows, len(s), images.nghost, REACH)
        owners = np.repeat(np.arange(len(s)), np.diff(neighbours.offsets))
        away = np.linalg.norm(rows[neighbours.indices] - rows[owners], axis=1)
        types = np.searchsorted(elements, s.numbers)
        fingerprints[i] = _fingerprint(s, types, kinds, owners, images.owners[neighbours.indices], away)
        if not len(away):
            continue
        others = images.owners[neighbours.indices]
        radii = covalent_radii[s.numbers]
        nearest[i], bonds[i] = away.min(), (away / (radii[owners] + radii[others])).min()
        pair = types[owners] * kinds + types[others]
        lowest = np.full(kinds * kinds, np.inf)
        np.minimum.at(lowest, pair, away)
        better = lowest < closest
        closest[better], where[better] = lowest[better], i
    table = [["pair", "closest, Å", "structure"]]
    for k in np.flatnonzero(np.isfinite(closest)):
        a, b = divmod(int(k), kinds)
        if a <= b:
            pair = f"{chemical_symbols[elements[a]]}-{chemical_symbols[elements[b]]}"
            table.append([pair, f"{closest[k]:.3f}", str(where[k])])
    return nearest, bonds, fingerprints, table


def _fingerprint(s, types, kinds, owners, others, away):
    """Sums over pairs, and squares of the sums over the neighbours of each atom, smooth in the positions and different for
    different elements; then the composition, the volume and the number of periodic axes."""
    fade = np.square(1 - np.square(away / REACH))
    mark = np.sqrt(2.0 + types)  # no few of them have sums alike
    near = np.bincount(owners, mark[others] * fade, len(s))
    wave = np.bincount(owners, mark[others] * fade * np.cos(away), len(s))
    sums = [mark @ near, mark @ wave, mark @ (near * near), mark @ (near * wave)]
    shape = [s.volume if s.periodic.all() else 0.0, s.periodic.sum()]
    return np.array([*sums, *np.bincount(types, minlength=kinds), *shape], float)


# --- what may be wrong


def _labels_there(ds, known):
    parts = []
    for name, mask in (("energies", known["energy"]), ("stresses", known["stress"].all(axis=1))):
        parts.append(f"{int(mask.sum())} {name}")
    return f"{parts[0]}, {int(known['forces'].all(axis=1).sum())} forces, {parts[1]}"


def _by_structure(ds, rows):
    """(n,) whether any atom's flag is set."""
    return np.logical_or.reduceat(rows, ds.offsets[:-1]) & (ds.counts > 0) if len(rows) else np.zeros(len(ds), bool)


def _labels(ds, known):
    lost = ~np.isfinite(ds.positions).all(axis=1)
    if lost.any():
        yield Finding("error", "positions that are no numbers", np.flatnonzero(_by_structure(ds, lost)))
    forces = known["forces"].all(axis=1)
    none, some = ~_by_structure(ds, forces), _by_structure(ds, ~forces)
    if (partly := some & ~none).any():
        yield Finding("error", "forces that are no numbers on some of the atoms", np.flatnonzero(partly))
    unlabelled = ~known["energy"] & none
    if unlabelled.any():
        yield Finding("error", "neither energy nor forces", np.flatnonzero(unlabelled))
    if (lacking := ~known["energy"] & ~none).any():
        yield Finding("warning", "no energy", np.flatnonzero(lacking))
    if (lacking := none & known["energy"]).any():
        yield Finding("warning", "no forces", np.flatnonzero(lacking))
    stress = known["stress"].all(axis=1)
    bulk = ds.periodic.all(axis=1)
    if (lacking := bulk & ~stress).any() and stress.any():
        yield Finding("note", "no stress, though others have one", np.flatnonzero(lacking))
    if (infinite := np.isinf(ds.energy) | np.isinf(ds.stress).any(axis=1)).any():
        yield Finding("error", "labels that are infinite", np.flatnonzero(infinite))


def _distances(nearest, bonds):
    if (touching := bonds < TOUCHING).any():
        yield Finding("error", f"atoms on top of each other: {nearest[touching].min():.3f} Å", np.flatnonzero(touching))


def _copies(ds, copies):
    repeated = np.flatnonzero(copies != np.arange(len(ds)))
    if not len(repeated):
        return
    yield Finding("note", "the same as an earlier structure, perhaps turned", repeated)
    difference = np.abs(ds.energy[repeated] - ds.energy[copies[repeated]]) / ds.counts[repeated]
    for level, limit in (("error", OTHER_ENERGY), ("warning", OTHER_ENERGY / 10)):
        if (other := difference > limit).any():
            text = f"the same as an earlier structure with another energy, by up to {1e3 * difference[other].max():.3g} meV/atom"
            yield Finding(level, text, repeated[other])
            return


def _energies(ds, rest):
    known = np.isfinite(rest)
    if known.sum() < 3:
        return
    away = np.abs(rest - np.median(rest[known]))
    if (far := away > FAR_ENERGY).any():
        yield Finding("warning", f"energies up to {np.nanmax(away):.3g} eV/atom from the median", np.flatnonzero(far))


def _forces(ds):
    size = np.linalg.norm(ds.forces, axis=1)
    if (large := size > LARGE_FORCE).any():
        text = f"forces up to {np.nanmax(size):.3g} eV/Å"
        yield Finding("warning", text, np.flatnonzero(_by_structure(ds, large)))
    net = np.linalg.norm(np.add.reduceat(ds.forces, ds.offsets[:-1], axis=0), axis=1) / ds.counts
    if (drifting := net > NET_FORCE).any():
        yield Finding(
            "warning",
            f"forces that do not sum to zero: up to {np.nanmax(net):.3g} eV/Å per atom",
            np.flatnonzero(drifting),
        )
    large = np.abs(ds.stress).max(axis=1) > LARGE_STRESS
    if large.any():
        worst = np.nanmax(np.abs(ds.stress))
        yield Finding("warning", f"stresses up to {worst:.3g} eV/Å³ ({160.2 * worst:.3g} GPa)", np.flatnonzero(large))


def _units(ds, rest, bonds):
    bond = float(np.median(bonds[np.isfinite(bonds)])) if np.isfinite(bonds).any() else 1.0
    if not SHORT_BOND < bond < LONG_BOND:
        guess = "Bohr taken as Å" if 1.3 < bond < 2.6 else "nm taken as Å" if bond < 0.2 else "another unit"
        text = f"the shortest distance of a structure is {bond:.3g} of the covalent radii in the median: lengths look like {guess}"
        yield Finding("warning", text)
    force = float(np.sqrt(np.nanmean(np.square(ds.forces)))) if np.isfinite(ds.forces).any() else 0.0
    wide = float(np.nanmedian(np.abs(rest - np.nanmedian(rest)))) if np.isfinite(rest).any() else 0.0
    if force > STRONG_FORCES or wide > WIDE_ENERGIES:
        text = f"forces of {force:.3g} eV/Å (root mean square) and energies {wide:.3g} eV/atom apart: they look like kJ/mol, kcal/mol or meV"
        yield Finding("warning", text)
    known = np.isfinite(ds.energy)
    counts = ds.counts[known]
    if known.any():
        # Schwinger's series for the energy of a whole atom, Phys. Rev. A 24, 2353 (1981), in Hartree
        z = ds.elements.astype(float)
        whole = ds.composition[known] @ (-0.7687 * z ** (7 / 3) + z**2 / 2 - 0.2699 * z ** (5 / 3))
        if np.abs(ds.energy[known] / whole - 1).max() < 0.1:
            yield Finding(
                "warning", "the energies are those of whole atoms in Hartree, within a tenth: they look like Hartree"
            )
    if known.any() and counts.max() > 1.3 * counts.min():
        fractions = ds.composition[known] / counts[:, None]
        left = [_left(columns, ds.energy[known]) for columns in (fractions, ds.composition[known])]
        if left[0] < 0.1 * left[1]:
            yield Finding(
                "warning", "the energies do not grow with the number of atoms: they look like energies per atom"
            )


def _left(columns, values):
    """The deviation that a least-squares fit leaves, with a constant."""
    fit = np.linalg.lstsq(columns, values, rcond=1e-10)[0]
    return float(np.std(values - columns @ fit))


def consistency(ds: DataSet) -> list[Finding]:
    """Whether energies, forces and stresses agree: between two structures that follow each other in a group and are near each other
    the energy changes by the work of forces and stress, E2 - E1 = -(F1+F2)/2 · u + (V1 s1 + V2 s2)/2 : e, up to third order in u and e.
    """
    pairs = _near_pairs(ds)
    if not pairs:
        return []
    change, forces, stresses, strains = (np.array(column) for column in zip(*pairs))
    stress = np.where(strains.any(axis=1), (stresses * strains).sum(axis=1), 0.0)
    found = []
    for name, work, other in (("forces", forces, stress), ("stresses", stress, forces)):
        clear = (np.abs(work) > 1e-3) & (np.abs(work) > 2.5 * np.abs(other))  # False where one of them is missing
        if clear.sum() < ENOUGH:
            continue
        ratio = float(np.median(change[clear] / work[clear]))
        if ratio < 0:
            found.append(Finding("warning", f"{name} of the wrong sign: energies change by {ratio:.3g} of their work"))
        elif not AGREEMENT[0] < ratio < AGREEMENT[1]:
            text = f"energies change by {ratio:.3g} of the work of the {name}: their units do not belong together"
            found.append(Finding("warning", text))
    return found + _shear(change - forces, forces, stresses, strains)


def _shear(change, forces, stresses, strains):
    """Whether the energies of sheared cells, whose atoms did little, fit stresses with other shear components better."""
    work = (stresses * strains).sum(axis=1)
    best, order = 0.6, None
    for shear in list(permutations((3, 4, 5)))[1:]:
        other = (stresses[:, [0, 1, 2, *shear]] * strains).sum(axis=1)
        told = np.abs(other - work) > np.maximum(1e-2, 10 * np.abs(forces))  # False where there is no stress
        if told.sum() >= ENOUGH:
            left = [np.median(np.abs(change - each)[told]) for each in (other, work)]
            if left[0] < best * left[1]:
                best, order = left[0] / left[1], shear
    if order is None:
        return []
    names = ",".join(COMPONENTS[k] for k in (0, 1, 2, *(3 + np.argsort(order))))
    text = (
        f"energies of sheared cells fit {1 / best:.2g} times better to stresses in the order {names} (--stress-order)"
    )
    return [Finding("warning", text)]


def _near_pairs(ds, far=0.6, strained=0.08):
    """(E2 - E1, work of the forces, (6,) mean V s, (6,) strain with doubled shear) of structures with the same atoms in order.

    far: Å, the largest displacement beyond what the cell does to the atoms; strained: the largest component of the strain.
    """
    order = np.lexsort((np.arange(len(ds)), ds.counts, ds.group))
    pairs = []
    for i, j in pairwise(order):
        if ds.group[i] != ds.group[j] or ds.counts[i] != ds.counts[j]:
            continue
        a, b = ds[i], ds[j]
        if not (np.array_equal(a.numbers, b.numbers) and np.array_equal(a.periodic, b.periodic)):
            continue
        if not (np.isfinite(a.energy + b.energy) and (a.periodic.all() or not a.periodic.any())):
            continue
        if a.periodic.all():
            mean = 0.5 * (a.cell + b.cell)
            if not min(a.volume, b.volume, abs(np.linalg.det(mean))) > 0:
                continue
            strain = np.linalg.solve(mean, b.cell - a.cell)
            moved = b.positions @ np.linalg.inv(b.cell) - a.positions @ np.linalg.inv(a.cell)
            moved = (moved - np.rint(moved)) @ mean
        else:  # the boxes around the atoms mean nothing
            strain, moved = np.zeros((3, 3)), b.positions - a.positions
        moved = moved - moved.mean(axis=0)
        if not (np.abs(moved).max() <= far and np.abs(strain).max() <= strained):
            continue
        work = -0.5 * float(((a.forces + b.forces) * moved).sum())
        stress = 0.5 * (a.volume * a.stress + b.volume * b.stress)
        pairs.append((b.energy - a.energy, work, stress, voigt(strain) * (1, 1, 1, 2, 2, 2)))
    return pairs


# --- tables


def _group_table(ds, rest, nearest):
    table = [
        ["group", "structures", "atoms", "atoms each", "E/atom, eV", "rms force, eV/Å", "rms stress, GPa", "closest, Å"]
    ]
    each_atom = np.repeat(ds.group, ds.counts)
    per_atom = ds.energy / ds.counts
    for k, name in enumerate(ds.groups):
        mine = ds.group == k
        if not mine.any():
            continue
        counts, forces, stress = ds.counts[mine], ds.forces[each_atom == k], ds.stress[mine]
        row = [name, str(mine.sum()), str(counts.sum()), _range(counts, "d"), _range(per_atom[mine], ".4f")]
        row += [_rms(forces), _rms(GPA * stress), f"{nearest[mine].min():.3f}"]
        table.append(row)
    return table


def _range(values, style):
    values = values[np.isfinite(values)]
    if not len(values):
        return "-"
    low, high = format(values.min(), style), format(values.max(), style)
    return low if low == high else f"{low} … {high}"


def _rms(values):
    values = values[np.isfinite(values)]
    return f"{np.sqrt(np.mean(np.square(values))):.3g}" if len(values) else "-"


def _aligned(table):
    widths = [max(len(row[k]) for row in table) for k in range(len(table[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))]) for row in table]
    return [line.rstrip() for line in lines]


def _which(structures, shown=6):
    """ " (17 structures: 0, 3, 8, …)"."""
    if not len(structures):
        return ""
    numbers = ", ".join(map(str, structures[:shown])) + (", …" if len(structures) > shown else "")
    return f" ({len(structures)} structure{'s' * (len(structures) > 1)}: {numbers})"
