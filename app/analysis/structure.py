"""What order the atoms are in, computed on the fly, across bricks.

Every function takes the rows of a rank as a potential does (`Neighbourhoods`: locals, ghosts and `forward`) and
`reach`, the distance in Å up to which the ghosts are complete; neighbours are searched here, so the style of the list
does not matter. `surroundings(system, reach)` gives both, with a halo of its own where the potential's is too thin.

One interface classifies: `structure(system, method, threshold, fields)` for a system over ranks, `labelled(nb, reach, …)`
for the rows of one. Labels are int8, the place of a name in `LABELS`; the numbers are stored in files and never change.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ostwald.app.kernels import _ptm, _structure
from ostwald.app.potentials.base import Neighbourhoods
from ostwald.parallel import Halo

LABELS = ("other", "fcc", "hcp", "bcc", "ico", "crystal", "sc", "cubic_diamond", "hexagonal_diamond")
OTHER, FCC, HCP, BCC, ICO, CRYSTAL, SC, CUBIC_DIAMOND, HEXAGONAL_DIAMOND = range(len(LABELS))
"""CRYSTAL: solid by its bond order, of a structure that the labels do not name."""
CRYSTALLINE = np.array([name not in ("other", "ico") for name in LABELS])
"""(labels,) bool: a recognised atom counts as solid; an icosahedron, common in melts, does not."""

SOLID = 0.33
"""Threshold of q̄₆ with the 12 nearest neighbours. Perfect fcc has 0.575, bcc about 0.54, hcp 0.485; nickel at 0.93 of
its melting temperature 0.39–0.52 (99.8 % of the atoms), its undercooled melt 0.07–0.29."""
COHERENT = 0.7
"""Cosine of two atoms' q₆ above which their bond is solid-like (method "bonds")."""

RMSD_CUTOFF = 0.12
"""Threshold of polyhedral template matching, in units of the mean distance of the neighbours."""
TEMPLATES = tuple(_ptm.TYPES)
"""Structures that polyhedral template matching knows."""
METALS = ("fcc", "hcp", "bcc", "ico")
"""The templates that are matched unless told otherwise."""
ORDERINGS = ("none", "pure", "L1_0", "L1_2 majority", "L1_2 minority", "B2", "zincblende or wurtzite")
"""What the field "ordering" counts: the surroundings of an atom by species, as its template sees them."""

ADAPTIVE = "adaptive common neighbour analysis (Stukowski 2012)"
NAMED_BY_CNA = ("fcc", "hcp", "bcc", "ico")


@dataclass(frozen=True)
class Method:
    """One way to classify: its default threshold, the labels it can give, the fields that come for free."""

    threshold: float | None
    labels: tuple[str, ...]
    fields: tuple[str, ...]
    text: str


METHODS = {
    "q6": Method(
        SOLID,
        (*NAMED_BY_CNA, "crystal"),
        ("q6",),
        "solid: averaged bond order q̄₆ (Lechner and Dellago 2008; 12 nearest neighbours) > {threshold:g}; "
        f"types by {ADAPTIVE}",
    ),
    "cna": Method(None, NAMED_BY_CNA, (), f"{ADAPTIVE}; solid: fcc, hcp or bcc"),
    "bonds": Method(
        7,
        (*NAMED_BY_CNA, "crystal"),
        ("bonds",),
        "solid: at least {threshold:g} solid-like bonds among the 12 nearest neighbours (ten Wolde, Ruiz-Montero, Frenkel "
        f"1996; l = 6, cosine > {COHERENT:g}); types by {ADAPTIVE}",
    ),
    "ptm": Method(
        RMSD_CUTOFF,
        TEMPLATES,
        ("rmsd", "ordering"),
        "polyhedral template matching (Larsen, Schmidt, Schiøtz 2016) of {templates} up to an RMSD of {threshold:g}; "
        "solid: a match other than icosahedral",
    ),
    "diamond": Method(
        None,
        ("cubic_diamond", "hexagonal_diamond"),
        ("diamond",),
        "identification of diamond by common neighbours among second neighbours (Maras et al. 2016); "
        "solid: cubic or hexagonal diamond, without the shells around it",
    ),
}


def describe(method="q6", threshold=None, templates=METALS, cutoff=None) -> str:
    """One line for a log: algorithm and parameters."""
    text = METHODS[method].text.format(threshold=threshold_of(method, threshold), templates=", ".join(templates))
    if cutoff is not None:
        text = text.replace(ADAPTIVE, f"common neighbour analysis within {cutoff:g} Å (Honeycutt and Andersen 1987)")
    return text


def threshold_of(method, threshold=None):
    """The threshold in use: the given one, or the method's own."""
    if method not in METHODS:
        raise ValueError(f"the method is one of {', '.join(METHODS)}, not {method!r}")
    return METHODS[method].threshold if threshold is None else float(threshold)


def labels_of(method, templates=METALS) -> tuple[str, ...]:
    """Names of the labels that a method can give."""
    return tuple(x for x in METHODS[method].labels if method != "ptm" or x in templates)


def surroundings(system, reach=None):
    """(Neighbourhoods, reach): the rows of this rank with ghosts complete up to at least `reach` (Å).

    reach None: whatever the potential's halo holds, but no less than 4/3 of the radius of the sphere that holds 14
    atoms at the mean density. A wider reach than the potential's cutoff costs a halo of its own. Collective.
    """
    nb = system.neighbourhoods()
    held = system.potential.cutoff
    if reach is None:
        reach = max(held, 4 / 3 * (15 * system.cell.volume / (4.18879 * max(system.total, 1))) ** (1 / 3))
        reach = held if reach <= held else reach
    if reach <= held:
        return nb, held
    n = nb.nlocal
    halo = Halo(system.world, system.bricks)
    nghost = halo.build(nb.positions[:n], system.cell.matrix, system.cell.origin, reach)
    positions, types = np.empty((n + nghost, 3)), np.empty(n + nghost, np.int32)
    positions[:n], types[:n] = nb.positions[:n], nb.types[:n]
    halo.forward_positions(positions, system.cell.matrix)
    halo.forward(types)
    no_list = np.zeros(n + 1, np.int64), np.zeros(0, np.int32)
    return Neighbourhoods(positions, types, n, *no_list, "full", halo.forward, halo.reverse), reach


def common_neighbours(nb, reach, *, cutoff=None, threads=1):
    """(n,) int8 labels of common neighbour analysis.

    cutoff None: adaptive (Stukowski, Modelling Simul. Mater. Sci. Eng. 20, 045021 (2012), section 2.2): each atom's own
    cutoff follows from its 12 (fcc, hcp, icosahedron) or 14 (bcc) nearest neighbours. An atom with fewer than 12 within
    `reach` is "other". Otherwise the conventional analysis with one cutoff in Å, at most `reach`: between the first two
    shells for fcc and hcp, between the second and third for bcc.
    """
    if cutoff is None:
        return _structure.adaptive_cna(nb.positions, nb.nlocal, reach, threads)
    _within(cutoff, reach)
    return _structure.fixed_cna(nb.positions, nb.nlocal, cutoff, threads)


def neighbours(nb, reach, *, nearest=None, cutoff=None, threads=1):
    """CSR (offsets (n+1,), indices) of the `nearest` so many neighbours, in order, or of all within `cutoff` (Å)."""
    if (nearest is None) == (cutoff is None):
        raise ValueError("neighbours are defined by either their number (nearest) or a cutoff")
    if nearest is not None:
        return _structure.nearest(nb.positions, nb.nlocal, nearest, reach, threads)
    _within(cutoff, reach)
    return _structure.within(nb.positions, nb.nlocal, cutoff, threads)


def harmonics(nb, bonds, degrees=(4, 6), *, threads=1):
    """(n + nghost, Σ(2l+1)): q_lm(i), the mean of the real spherical harmonics over the bonds of i, ghosts filled.

    bonds : CSR of `neighbours`. Columns run through the degrees, then m = 0, 1, −1, 2, −2 … (cosine, sine). Sums over m
    of products are the same in the real as in the complex basis. Steinhardt, Nelson, Ronchetti, Phys. Rev. B 28, 784.
    """
    out = np.zeros((nb.nall, sum(2 * l + 1 for l in degrees)))
    _structure.harmonics(nb.positions, *bonds, list(degrees), out, threads)
    nb.forward(out)
    return out


def invariants(q, degrees=(4, 6)):
    """{l: (n,)}: q_l = sqrt(4π/(2l+1) Σ_m |q_lm|²) of rows as from `harmonics`, so for averaged rows q̄_l."""
    result, start = {}, 0
    for l in degrees:
        part = q[:, start : start + 2 * l + 1]
        result[l] = np.sqrt(4 * np.pi / (2 * l + 1) * np.einsum("ij,ij->i", part, part))
        start += 2 * l + 1
    return result


def third_invariants(q, degrees=(4, 6), *, threads=1):
    """{l: (n,)}: ŵ_l = Σ_{m₁+m₂+m₃=0} (l l l; m₁ m₂ m₃) q_lm₁ q_lm₂ q_lm₃ / (Σ_m |q_lm|²)^{3/2} of rows as from `harmonics`.

    Wigner's 3j symbols; Steinhardt, Nelson, Ronchetti, Phys. Rev. B 28, 784 (1983), eq. 1.5. Zero for odd l.
    """
    result, start = {}, 0
    for l in degrees:
        result[l] = _structure.third_invariant(q, start, l, threads)
        start += 2 * l + 1
    return result


def order_parameters(nb, reach, names, *, nearest=None, cutoff=None, threads=1):
    """{name: (n,)} of bond order from one search: "q4", "w6", … averaged over the neighbours (Lechner and Dellago's q̄_l and
    the ŵ_l of q̄_lm), "local_q4", "local_w6", … of the atom alone (Steinhardt's), "bonds" (`solid_bonds`'s numbers).

    nearest, cutoff : which neighbours count; by default the 12 nearest.
    """
    if nearest is None and cutoff is None:
        nearest = 12
    wanted = {name: _order_parameter(name) for name in names}
    degrees = tuple(sorted({l for _, l, _ in wanted.values()}))
    bonds = neighbours(nb, reach, nearest=nearest, cutoff=cutoff, threads=threads)
    local = harmonics(nb, bonds, degrees, threads=threads)
    result = {}
    for averaged in sorted({a for kind, _, a in wanted.values() if kind != "b"}):
        q = _structure.average(local, *bonds, threads) if averaged else local[: nb.nlocal]
        for kind, invariant in (("q", invariants), ("w", third_invariants)):
            chosen = {name: l for name, (k, l, a) in wanted.items() if (k, a) == (kind, averaged)}
            if chosen:
                values = invariant(q, degrees)
                result |= {name: values[l] for name, l in chosen.items()}
    if "bonds" in wanted:
        start = sum(2 * l + 1 for l in degrees if l < 6)
        rows = local if len(degrees) == 1 else np.ascontiguousarray(local[:, start : start + 13])
        result["bonds"] = _structure.coherent(rows, *bonds, COHERENT, threads)
    return result


def _order_parameter(name):
    """(kind "q", "w" or "b", l, averaged) of a name of `order_parameters`."""
    if name == "bonds":
        return "b", 6, False
    short = name.removeprefix("local_")
    if short[:1] in ("q", "w") and short[1:].isdigit() and 0 < int(short[1:]) <= 12:
        return short[0], int(short[1:]), short == name
    raise ValueError(f"no bond order parameter {name!r}: q4, w6, local_q4, local_w6 (l up to 12), bonds")


def bond_order(nb, reach, degrees=(4, 6), *, nearest=None, cutoff=None, averaged=True, threads=1):
    """{l: (n,)}: Steinhardt's q_l, or Lechner and Dellago's q̄_l averaged over the atom and its neighbours.

    q̄_lm(i) = (q_lm(i) + Σ_j q_lm(j)) / (N_i + 1): J. Chem. Phys. 129, 114707 (2008), eqs 5-6.
    nearest, cutoff : which neighbours count; by default the 12 nearest.
    """
    if nearest is None and cutoff is None:
        nearest = 12
    bonds = neighbours(nb, reach, nearest=nearest, cutoff=cutoff, threads=threads)
    q = harmonics(nb, bonds, degrees, threads=threads)
    return invariants(_structure.average(q, *bonds, threads) if averaged else q[: nb.nlocal], degrees)


def solid_bonds(nb, reach, *, degree=6, threshold=0.7, nearest=None, cutoff=None, threads=1):
    """(n,) int32: ten Wolde's number of solid-like bonds of an atom.

    A bond is solid-like where q_l(i)·q_l(j) / |q_l(i)||q_l(j)| > threshold (ten Wolde, Ruiz-Montero, Frenkel,
    J. Chem. Phys. 104, 9932 (1996)); with 12 neighbours an atom with 7 or more is usually called solid.
    """
    if nearest is None and cutoff is None:
        nearest = 12
    bonds = neighbours(nb, reach, nearest=nearest, cutoff=cutoff, threads=threads)
    q = harmonics(nb, bonds, (degree,), threads=threads)
    return _structure.coherent(q, *bonds, threshold, threads)


def coordination(nb, reach, cutoff, *, threads=1):
    """(n,) int64: number of neighbours within cutoff (Å)."""
    return np.diff(neighbours(nb, reach, cutoff=cutoff, threads=threads)[0])


def centrosymmetry(nb, reach, count=12, *, threads=1):
    """(n,) Å²: Σ over the count/2 most opposite pairs |r_i + r_j|² of the `count` nearest neighbours; 0 in a perfect
    centrosymmetric crystal, NaN for an atom with too few within reach. Kelchner et al., Phys. Rev. B 58, 11085."""
    return _structure.centrosymmetry(nb.positions, nb.nlocal, count, reach, threads)


def match_templates(nb, reach, templates=METALS, fields=("rmsd", "ordering"), *, cutoff=RMSD_CUTOFF, threads=1):
    """(labels (n,) int8, {field: array}) of polyhedral template matching.

    Larsen, Schmidt, Schiøtz, Modelling Simul. Mater. Sci. Eng. 24, 055007 (2016). Neighbours count by the solid angle of
    their Voronoi faces (18 nearest); of the templates whose graph the shell has, that of the least RMSD is the match,
    and no match where it exceeds `cutoff`.

    templates : of `TEMPLATES`.
    fields : "rmsd" (n,) of the best match whatever the cutoff, NaN without one, in units of the mean distance of the
        template's neighbours; "distance" (n,) Å, of nearest neighbours in the template laid on the shell; "orientation"
        (n, 4) the unit quaternion w, x, y, z that turns the template's axes (cube axes; a along x and c along z of hexagonal
        ones) into the crystal's, of all that are equivalent by the rotations of the crystal (432; 622; 532 for
        icosahedra) that of the least angle, w ≥ 0; "deformation" (n, 9) the gradient F, row by row, that carries the
        template, turned as the orientation says and of its own size, to the shell with the least squares: the
        rotation times the stretch, without the scale that "distance" has; "ordering" (n,) int8, place in `ORDERINGS`.
    """
    for name in templates:
        if name not in TEMPLATES:
            raise ValueError(f"the templates are {', '.join(TEMPLATES)}, not {name!r}")
    n = nb.nlocal
    which = sum(1 << TEMPLATES.index(name) for name in set(templates))
    kind, rmsd = np.empty(n, np.int8), np.empty(n)
    shapes = {"distance": (n,), "orientation": (n, 4), "deformation": (n, 9), "ordering": (n,)}
    out = {
        name: np.zeros(shape, np.int8 if name == "ordering" else float) if name in fields else None
        for name, shape in shapes.items()
    }
    if "cubic_diamond" in templates or "hexagonal_diamond" in templates:
        near, rows = np.zeros((nb.nall, _ptm.SENT)), np.empty((n, 4), np.int32)
        _ptm.match(
            nb.positions, nb.types, n, reach, which, kind, rmsd, **out, neighbours=near, rows=rows, threads=threads
        )
        nb.forward(near)
        _ptm.match_diamond(near, rows, nb.types, which, kind, rmsd, **out, threads=threads)
    else:
        _ptm.match(nb.positions, nb.types, n, reach, which, kind, rmsd, **out, threads=threads)
    labels = np.array([LABELS.index(name) for name in (*TEMPLATES, "other")], np.int8)[kind]  # -1: none
    labels[rmsd > cutoff] = OTHER
    if out["ordering"] is not None:
        out["ordering"][labels == OTHER] = 0
    rmsd[kind < 0] = np.nan
    if out["distance"] is not None:
        out["distance"][kind < 0] = np.nan
    out["rmsd"] = rmsd
    return labels, {name: out[name] for name in fields}


def diamond(nb, reach, *, threads=1):
    """(n,) int8: 0 other, 1 cubic diamond, 2 and 3 its first and second neighbours, 4 hexagonal, 5 and 6 its neighbours.

    Common neighbour analysis of the twelve second neighbours, which are reached through the four nearest: Maras, Trushin,
    Stukowski, Ala-Nissila, Jónsson, Comput. Phys. Commun. 205, 13 (2016). First neighbours are the four nearest of a
    diamond atom that are none themselves, second ones those of first ones; where both kinds claim an atom, cubic.
    """
    n = nb.nlocal
    offsets, indices = neighbours(nb, reach, nearest=4, threads=threads)
    full = np.diff(offsets) == 4
    rows, bonds = np.full((n, 4), -1, np.int32), np.full((nb.nall, 12), np.nan)
    rows[full] = indices[np.repeat(full, np.diff(offsets))].reshape(-1, 4)
    bonds[:n][full] = (nb.positions[rows[full]] - nb.positions[:n][full][:, None]).reshape(-1, 12)
    nb.forward(bonds)
    core = _structure.diamond(bonds, rows, threads)
    found = np.array([0, 1, 4], np.int8)[core]
    for shell in (1, 2):
        claims = np.zeros((nb.nall, 2))
        for column, kind in enumerate((1, 4)):
            of = found == kind + shell - 1
            claims[:, column] = np.bincount(rows[of & full].ravel(), minlength=nb.nall)
        nb.reverse(claims)
        cubic, hexagonal = (claims[:n] > 0.5).T
        free = found == 0
        found[free & hexagonal] = 4 + shell
        found[free & cubic] = 1 + shell
    return found


@dataclass
class Structure:
    """The structure of atoms at one moment.

    labels (n,) int8 and solid (n,) bool: of this rank's atoms; fields: further numbers of theirs, by name (`FIELDS`);
    counts: atoms of each of `LABELS`, solid_count: solid ones, total: all atoms; of all ranks where `structure` made it,
    of this one where `labelled` did. method, threshold, templates, cutoff: how they were found.
    """

    labels: np.ndarray
    solid: np.ndarray
    method: str
    threshold: float | None
    counts: np.ndarray
    solid_count: int
    total: int
    fields: dict[str, np.ndarray] = field(default_factory=dict)
    templates: tuple[str, ...] = METALS
    cutoff: float | None = None

    @property
    def q6(self):
        """(n,): q̄₆, None where it was not computed."""
        return self.fields.get("q6")

    @property
    def solid_fraction(self) -> float:
        return self.solid_count / max(self.total, 1)

    @property
    def fractions(self) -> dict[str, float]:
        """Fraction of all atoms of each label."""
        return {name: float(count) / max(self.total, 1) for name, count in zip(LABELS, self.counts)}

    def describe(self) -> str:
        return describe(self.method, self.threshold, self.templates, self.cutoff)


FIELDS = {
    "q4": "averaged bond order q̄₄, and so q6, w4, w6 …; local_q4 …: of the atom alone",
    "bonds": "number of solid-like bonds (int32)",
    "centrosymmetry": "Å², 12 neighbours",
    "coordination": "number of neighbours within the cutoff (int64)",
    "diamond": "as of `diamond` (int8)",
    "rmsd": "of the best template, NaN without one; and distance, orientation, deformation, ordering: as of `match_templates`",
}
"""Numbers of each atom that can be asked for, whatever the method."""
_OF_TEMPLATES = ("rmsd", "distance", "orientation", "deformation", "ordering")


def labelled(
    nb, reach, method="q6", threshold=None, fields=(), templates=METALS, cutoff=None, *, threads=1
) -> Structure:
    """The `Structure` of this rank's atoms; methods, threshold, fields, templates and cutoff as of `structure`."""
    threshold = threshold_of(method, threshold)
    wanted = dict.fromkeys((*METHODS[method].fields, *fields))
    of_templates = tuple(name for name in wanted if name in _OF_TEMPLATES)
    found = {}
    order = [name for name in wanted if name not in (*_OF_TEMPLATES, "centrosymmetry", "coordination", "diamond")]
    if order:
        found |= order_parameters(nb, reach, order, threads=threads)
    if "centrosymmetry" in wanted:
        found["centrosymmetry"] = centrosymmetry(nb, reach, threads=threads)
    if "coordination" in wanted:
        if cutoff is None:
            raise ValueError("coordination needs a cutoff")
        found["coordination"] = coordination(nb, reach, cutoff, threads=threads)
    if "diamond" in wanted:
        found["diamond"] = diamond(nb, reach, threads=threads)
    if of_templates:
        cutoff = threshold if method == "ptm" else RMSD_CUTOFF
        matched, values = match_templates(nb, reach, templates, of_templates, cutoff=cutoff, threads=threads)
        found |= values
    if method == "ptm":
        labels = matched
    elif method == "diamond":
        labels = np.array([OTHER, CUBIC_DIAMOND, 0, 0, HEXAGONAL_DIAMOND, 0, 0], np.int8)[found["diamond"]]
    else:
        labels = common_neighbours(nb, reach, cutoff=cutoff, threads=threads)
    if method in ("q6", "bonds"):
        solid = found["q6"] > threshold if method == "q6" else found["bonds"] >= threshold
        labels[solid & (labels == OTHER)] = CRYSTAL
    else:
        solid = CRYSTALLINE[labels]
    counts = np.bincount(labels, minlength=len(LABELS))
    solids = int(np.count_nonzero(solid))
    return Structure(labels, solid, method, threshold, counts, solids, nb.nlocal, found, tuple(templates), cutoff)


def structure(system, method="q6", threshold=None, fields=(), templates=METALS, cutoff=None) -> Structure:
    """Which atoms of a system are solid, and of which structure. Collective.

    method
        "q6": solid is an atom with q̄₆ > threshold (12 nearest neighbours). Near melting this still separates crystal from
        melt where adaptive CNA misses most of a hot crystal. Labels are those of adaptive CNA, and "crystal" for a
        solid atom that it cannot name. "bonds": the same with at least `threshold` solid-like bonds (ten Wolde).
        "cna": labels of adaptive common neighbour analysis; solid is fcc, hcp or bcc.
        "ptm": polyhedral template matching with an RMSD of at most `threshold`; solid is any match but an icosahedron.
        "diamond": cubic and hexagonal diamond by their second neighbours.
    threshold : None for the method's own.
    fields : names of numbers to compute for each atom as well (`FIELDS`).
    templates : what polyhedral template matching looks for (of `TEMPLATES`).
    cutoff : Å, of conventional common neighbour analysis instead of adaptive, and of the field "coordination".
    """
    around = surroundings(system)
    if cutoff is not None and cutoff > around[1]:
        around = surroundings(system, cutoff)
    found = labelled(*around, method, threshold, fields, templates, cutoff, threads=system.threads)
    numbers = np.asarray(system.world.allreduce(np.append(found.counts, found.solid_count)))
    found.counts, found.solid_count, found.total = numbers[:-1], int(numbers[-1]), system.total
    return found


def _within(cutoff, reach):
    if not 0 < cutoff <= reach:
        raise ValueError(f"the cutoff {cutoff:g} Å must be positive and at most the reach of the ghosts, {reach:g} Å")
