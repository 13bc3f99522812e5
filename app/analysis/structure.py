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

from ostwald.app.kernels import _structure
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
        "types by adaptive common neighbour analysis (Stukowski 2012)",
    ),
    "cna": Method(
        None, NAMED_BY_CNA, (), "adaptive common neighbour analysis (Stukowski 2012); solid: fcc, hcp or bcc"
    ),
    "bonds": Method(
        7,
        (*NAMED_BY_CNA, "crystal"),
        ("bonds",),
        "solid: at least {threshold:g} solid-like bonds among the 12 nearest neighbours (ten Wolde, Ruiz-Montero, Frenkel "
        f"1996; l = 6, cosine > {COHERENT:g}); types by adaptive common neighbour analysis (Stukowski 2012)",
    ),
}


def describe(method="q6", threshold=None) -> str:
    """One line for a log: algorithm and parameters."""
    return METHODS[method].text.format(threshold=threshold_of(method, threshold))


def threshold_of(method, threshold=None):
    """The threshold in use: the given one, or the method's own."""
    if method not in METHODS:
        raise ValueError(f"the method is one of {', '.join(METHODS)}, not {method!r}")
    return METHODS[method].threshold if threshold is None else threshold


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


@dataclass
class Structure:
    """The structure of atoms at one moment.

    labels (n,) int8 and solid (n,) bool: of this rank's atoms; fields: further numbers of theirs, by name (`FIELDS`);
    counts: atoms of each of `LABELS`, solid_count: solid ones, total: all atoms; of all ranks where `structure` made it,
    of this one where `labelled` did. method, threshold: how they were found.
    """

    labels: np.ndarray
    solid: np.ndarray
    method: str
    threshold: float | None
    counts: np.ndarray
    solid_count: int
    total: int
    fields: dict[str, np.ndarray] = field(default_factory=dict)

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
        return describe(self.method, self.threshold)


FIELDS = {
    "q4": "averaged bond order q̄₄, and so q6, w4, w6 …; local_q4 …: of the atom alone",
    "bonds": "number of solid-like bonds (int32)",
    "centrosymmetry": "Å², 12 neighbours",
}
"""Numbers of each atom that can be asked for, whatever the method."""


def labelled(nb, reach, method="q6", threshold=None, fields=(), *, threads=1) -> Structure:
    """The `Structure` of this rank's atoms; methods, threshold and fields as of `structure`."""
    threshold = threshold_of(method, threshold)
    found = {}
    order = {name for name in (*fields, *METHODS[method].fields) if name not in ("centrosymmetry",)}
    if order:
        found |= order_parameters(nb, reach, sorted(order), threads=threads)
    if "centrosymmetry" in fields:
        found["centrosymmetry"] = centrosymmetry(nb, reach, threads=threads)
    labels = common_neighbours(nb, reach, threads=threads)
    if method == "cna":
        solid = CRYSTALLINE[labels]
    else:
        solid = found["q6"] > threshold if method == "q6" else found["bonds"] >= threshold
        labels[solid & (labels == OTHER)] = CRYSTAL
    counts = np.bincount(labels, minlength=len(LABELS))
    return Structure(labels, solid, method, threshold, counts, int(np.count_nonzero(solid)), nb.nlocal, found)


def structure(system, method="q6", threshold=None, fields=()) -> Structure:
    """Which atoms of a system are solid, and of which structure. Collective.

    method
        "q6": solid is an atom with q̄₆ > threshold (12 nearest neighbours). Near melting this still separates crystal from
        melt where adaptive CNA misses most of a hot crystal. Labels are those of adaptive CNA, and "crystal" for a
        solid atom that it cannot name. "bonds": the same with at least `threshold` solid-like bonds (ten Wolde).
        "cna": labels of adaptive common neighbour analysis; solid is fcc, hcp or bcc.
    threshold : None for the method's own.
    fields : names of numbers to compute for each atom as well (`FIELDS`).
    """
    found = labelled(*surroundings(system), method, threshold, fields, threads=system.threads)
    numbers = np.asarray(system.world.allreduce(np.append(found.counts, found.solid_count)))
    found.counts, found.solid_count, found.total = numbers[:-1], int(numbers[-1]), system.total
    return found


class SolidFraction:
    """The structure of a run as columns of its time series.

    method, threshold: as of `structure`. columns: unit of each column.
    """

    def __init__(self, method="q6", threshold=None):
        self.method, self.threshold = method, threshold_of(method, threshold)
        self.columns = {"solid_fraction": "1", **{f"{name}_fraction": "1" for name in METHODS[method].labels}}

    def describe(self) -> str:
        return describe(self.method, self.threshold)

    def measure(self, system):
        """(one number for each column, labels (n,) int8 of this rank's atoms). Collective."""
        now = structure(system, self.method, self.threshold)
        fractions = {f"{name}_fraction": x for name, x in now.fractions.items()}
        fractions["solid_fraction"] = now.solid_fraction
        return {name: fractions[name] for name in self.columns}, now.labels


def _within(cutoff, reach):
    if not 0 < cutoff <= reach:
        raise ValueError(f"the cutoff {cutoff:g} Å must be positive and at most the reach of the ghosts, {reach:g} Å")
