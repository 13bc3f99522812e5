"""Clusters of solid atoms over bricks and periodic images: which atoms, of what, where, of what shape.

Two solid atoms closer than a cutoff belong together. Every rank joins its own atoms (union-find); one exchange of ghost
rows tells which of these fragments touch fragments of other ranks, or periodic images of themselves; the few edges that
say so are gathered, and every rank joins the small graph alike. So a cluster over all ranks takes as many messages as one
over two. Along an edge goes the lattice vector by which the ghost is displaced: that unwraps clusters of any extent, and
a loop whose vectors do not cancel is a cluster that winds around the cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ostwald.app.analysis.structure import LABELS, ORDERINGS, neighbours, surroundings
from ostwald.app.kernels import _clusters

FIRST_SHELL = (1 + np.sqrt(2)) / 2 * 2 ** (1 / 6)
"""1.355: halfway between the first two shells of an fcc crystal, in units of the cube root of the volume of an atom. In bcc
(second shell at 1.260, third at 1.782), in sc (1, 1.414) and diamond (0.866, 1.414) it lies in the same gap as the first
minimum of g(r)."""


@dataclass
class Clusters:
    """The clusters of a system at one moment. All but `ids` is the same on every rank.

    ids (n,) int64: of this rank's atoms, the smallest atom id in the cluster of each, -1 outside of any.
    table (k,): a structured array of the clusters of at least `smallest` atoms, the largest first, then by id:
        id; size: atoms; composition (labels,): atoms of each of `structure.LABELS`; species (ntypes,): atoms of each;
        spans (3,) bool: whether it winds around the cell along a, b, c;
        centre (3,): of mass, Å, in the cell; gyration (6,): Σ m d⊗d / Σ m about it, Å², xx yy zz yz xz xy; radius: of
        gyration, Å; asphericity: λ₁ - (λ₂ + λ₃)/2 of its eigenvalues, Å²; anisotropy: relative shape anisotropy κ², 0 of a
        ball to 1 of a rod (Theodorou, Suter, Macromolecules 18, 1206 (1985)). These are NaN in one that spans.
        orientation (4,), spread, where orientations were given: mean quaternion w, x, y, z (as `match_templates` reduces
        it) and root mean square angle from it, °, of the atoms of the commonest crystal label, NaN without one;
        ordering (orderings,) where that was given: atoms of each of `structure.ORDERINGS`.
    sizes, numbers: the cluster-size distribution: sizes that occur, and how many clusters have them, of any size.
    cutoff: Å, None where bonds were the nearest neighbours.
    """

    ids: np.ndarray
    table: np.ndarray
    sizes: np.ndarray
    numbers: np.ndarray
    cutoff: float | None

    @property
    def count(self) -> int:
        """Clusters of any size."""
        return int(self.numbers.sum())

    @property
    def atoms(self) -> int:
        """Atoms in clusters of any size."""
        return int(self.sizes @ self.numbers)

    @property
    def largest(self) -> int:
        """Atoms of the largest cluster, 0 where there is none."""
        return int(self.sizes.max(initial=0))


def first_shell(system) -> float:
    """Å: FIRST_SHELL at the mean density of the system, which should fill its cell."""
    return float(FIRST_SHELL * (system.cell.volume / max(system.total, 1)) ** (1 / 3))


def find_clusters(
    system,
    solid,
    *,
    labels=None,
    orientations=None,
    ordering=None,
    cutoff=None,
    nearest=None,
    core=0,
    smallest=1,
) -> Clusters:
    """The clusters of the solid atoms of a system. Collective; the same on any number of ranks.

    solid (n,) bool: this rank's atoms that take part. labels (n,) int8, orientations (n, 4) float64 and ordering (n,)
    int8 of a classification: what the table says of them; without labels all count as "other".
    cutoff: Å, by default `first_shell(system)`. nearest: two atoms are joined where one is among so many nearest
    neighbours of the other, instead.
    core: only atoms with at least so many solid neighbours take part (the surface, and what clings to it, is left out).
    smallest: atoms of the smallest cluster in the table; smaller ones have ids and are counted in the distribution.
    """
    atoms, world, n = system.atoms, system.world, system.atoms.n
    if nearest is not None and cutoff is not None:
        raise ValueError("clusters are joined either within a cutoff or to the nearest neighbours")
    solid = np.ascontiguousarray(solid, bool)
    if solid.shape != (n,):
        raise ValueError(f"solid has the shape {solid.shape} where this rank holds {n} atoms")
    if nearest is None:
        cutoff = first_shell(system) if cutoff is None else float(cutoff)
        if not cutoff > 0:
            raise ValueError(f"the cutoff of clusters must be positive, not {cutoff:g} Å")
    nb, reach = surroundings(system, cutoff)
    bonds = None if nearest is None else neighbours(nb, reach, nearest=nearest, threads=system.threads)
    if core:
        solid = solid & (_solid_neighbours(nb, solid, cutoff, bonds, system.threads) >= core)
    fragments = _fragments(nb, solid, atoms.ids[:n], cutoff, bonds, system.cell.matrix, system.threads)
    label, image, spans, sizes = _join(world, fragments)

    # the distribution: clusters of one rank are counted there, the others by the root
    alone = fragments.sizes[~fragments.shared]
    if world.root:
        alone = np.concatenate([alone, fragments.joint_sizes])
    listed = sizes >= smallest
    place = np.where(listed, np.cumsum(listed) - 1, -1).astype(np.int32)
    wanted = int(listed.sum())
    of = fragments.of
    origin, sums = _clusters.moments(nb.positions, nb.types, atoms.masses, of, place, wanted)
    labels = np.zeros(n, np.int8) if labels is None else np.ascontiguousarray(labels, np.int8)
    tallies = [
        _clusters.tally(labels, len(LABELS), of, place, wanted),
        _clusters.tally(atoms.types[:n].astype(np.int8), len(atoms.masses), of, place, wanted),
    ]
    if ordering is not None:
        ordering = np.ascontiguousarray(ordering, np.int8)
        tallies.append(_clusters.tally(ordering, len(ORDERINGS), of, place, wanted))
    share = (*np.unique(alone, return_counts=True), label[listed], image[listed], spans[listed], origin, sums, *tallies)
    shares = [np.concatenate(parts) for parts in zip(*world.allgather(share))]
    size, numbers, *records = shares
    distinct, which = np.unique(size, return_inverse=True)
    numbers = np.bincount(which, numbers, len(distinct)).astype(np.int64)
    table = _table(system, *records, oriented=orientations is not None)
    if orientations is not None:
        row_of = _rows(table["id"], label[listed])
        _orient(world, table, row_of, np.ascontiguousarray(orientations, float), labels, of, place, atoms.ids[:n])
    return Clusters(np.append(label, -1)[of], table, distinct, numbers, cutoff)


class _Fragments:
    """What the atoms of one rank form without the others.

    of (n,) int32: fragment of each atom, -1 of none; first (f,) int64: smallest id in each; edges (m, 5) int64: first of
    a fragment here, first of another (or the same), and the lattice vector to its image that touches; sizes (f,).
    """

    def __init__(self, of, count, ids, edges_of):
        self.of = of
        self.first = _clusters.smallest(of, ids, count)
        self.sizes = np.bincount(of[of >= 0], minlength=count)
        self.edges = edges_of(self.first)


def _fragments(nb, solid, ids, cutoff, bonds, matrix, threads):
    n, inverse = nb.nlocal, np.linalg.inv(matrix)
    known = np.empty((nb.nall, 4))  # of each row: where its owner keeps it, and its fragment
    if bonds is None:
        near = _clusters.Near(nb.positions, n, solid, cutoff, threads)
        of, count = near.fragments, near.count
    else:
        everyone = np.zeros(nb.nall)
        everyone[:n] = solid
        nb.forward(everyone)
        of, count, fragment, ghost = _clusters.join_bonds(*bonds, n, everyone > 0)

    def edges(first):
        known[:n, :3] = nb.positions[:n]
        known[:n, 3] = np.append(first, -1)[of]
        nb.forward(known)
        touch = (fragment, ghost) if bonds is not None else near.touching(nb.positions, known[:, 3].astype(np.int64))
        shift = np.rint((nb.positions[touch[1]] - known[touch[1], :3]) @ inverse)
        found = np.column_stack([first[touch[0]], known[touch[1], 3], shift]).astype(np.int64)
        return found[_clusters.components(found)[-1]]

    return _Fragments(of, count, ids, edges)


def _solid_neighbours(nb, solid, cutoff, bonds, threads):
    """(n,): solid neighbours of each solid atom."""
    everyone = np.zeros(nb.nall)
    everyone[: nb.nlocal] = solid
    nb.forward(everyone)
    if bonds is None:
        return _clusters.count_near(nb.positions, nb.nlocal, everyone > 0, cutoff, threads)
    before = np.append(0, np.cumsum(everyone[bonds[1]], dtype=np.int64))
    return before[bonds[0][1:]] - before[bonds[0][:-1]]


def _join(world, fragments):
    """(cluster (f,), image (f, 3), spans (f, 3), size of the cluster (f,)) of this rank's fragments. Collective."""
    gathered = world.allgather(fragments.edges)
    edges = np.concatenate(gathered) if world.size > 1 else gathered[0]
    names, cluster, images, spans, _ = _clusters.components(edges)
    rows = np.searchsorted(names, fragments.first)
    shared = np.zeros(len(rows), bool)
    if len(names):
        shared = names[np.minimum(rows, len(names) - 1)] == fragments.first
    fragments.shared, rows = shared, rows[shared]
    part = np.zeros(len(names), np.int64)
    part[rows] = fragments.sizes[shared]
    part = world.allreduce(part)
    roots, which = np.unique(cluster, return_inverse=True)
    whole = np.bincount(which, part, len(roots)).astype(np.int64)
    fragments.joint_sizes = whole
    label, size = fragments.first.copy(), fragments.sizes.copy()
    image, winds = np.zeros((len(label), 3), np.int32), np.zeros((len(label), 3), bool)
    label[shared], size[shared] = cluster[rows], whole[which[rows]]
    image[shared], winds[shared] = images[rows], spans[rows]
    return label, image, winds, size


_TENSOR = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def _table(system, label, image, spans, origin, sums, composition, species, ordering=None, *, oriented):
    """The table of clusters from the records of the fragments of all ranks."""
    fields = [
        ("id", "i8"),
        ("size", "i8"),
        ("composition", "i8", (composition.shape[1],)),
        ("species", "i8", (species.shape[1],)),
        *([("ordering", "i8", (ordering.shape[1],))] if ordering is not None else []),
        ("spans", "?", (3,)),
        ("centre", "f8", (3,)),
        ("gyration", "f8", (6,)),
        ("radius", "f8"),
        ("asphericity", "f8"),
        ("anisotropy", "f8"),
        *([("orientation", "f8", (4,)), ("spread", "f8")] if oriented else []),
    ]
    order = np.argsort(label, kind="stable")
    ids, start = np.unique(label[order], return_index=True)
    table = np.zeros(len(ids), fields)
    if not len(ids):
        return table

    def total(values):
        return np.add.reduceat(values[order], start)

    table["id"], table["spans"] = ids, np.logical_or.reduceat(spans[order], start)
    table["size"] = np.rint(total(sums[:, 0]))
    table["composition"], table["species"] = total(composition), total(species)
    if ordering is not None:
        table["ordering"] = total(ordering)
    cell = system.cell
    mass = total(sums[:, 1])
    # second moments about the centre of each fragment, then of the whole: nothing large cancels
    inner = sums[:, 2:5] / sums[:, 1:2]
    centres = origin + inner + image @ cell.matrix
    centre = total(centres * sums[:, 1:2]) / mass[:, None]
    which = np.empty(len(order), np.int64)
    which[order] = np.repeat(np.arange(len(ids)), np.diff(np.append(start, len(order))))
    outer = centres - centre[which]
    a, b = np.transpose(_TENSOR)
    products = outer[:, a] * outer[:, b] - inner[:, a] * inner[:, b]
    gyration = total(sums[:, 5:] + sums[:, 1:2] * products) / mass[:, None]
    tensors = np.empty((len(ids), 3, 3))
    tensors[:, a, b] = tensors[:, b, a] = gyration
    low, middle, high = np.maximum(np.linalg.eigvalsh(tensors), 0.0).T
    trace = low + middle + high
    s = cell.fractional(centre)
    table["centre"] = centre - np.where(cell.periodic, np.floor(s), 0.0) @ cell.matrix
    table["gyration"], table["radius"] = gyration, np.sqrt(trace)
    table["asphericity"] = high - 0.5 * (low + middle)
    pairs = high * middle + middle * low + low * high
    table["anisotropy"] = 1 - 3 * np.divide(pairs, trace**2, out=np.full_like(trace, 1 / 3), where=trace > 0)
    for name in ("centre", "gyration", "radius", "asphericity", "anisotropy"):
        table[name][table["spans"].any(axis=1)] = np.nan
    return table[np.lexsort((table["id"], -table["size"]))]


def _rows(ids, wanted):
    """The rows at which an array of distinct ids holds the wanted ones."""
    order = np.argsort(ids)
    return order[np.searchsorted(ids, wanted, sorter=order)]


def _turns(rotations):
    """(g, 4, 4): the matrices of q -> q r for unit quaternions r (w, x, y, z)."""
    w, x, y, z = np.transpose(rotations)
    return np.ascontiguousarray(
        np.stack([[w, -x, -y, -z], [x, w, z, -y], [y, -z, w, x], [z, y, -x, w]]).transpose(2, 0, 1), float
    )


def _cubic():
    """The 24 rotations of a cube."""
    units = np.vstack([np.eye(4), np.array(list(np.ndindex(2, 2, 2, 2))[:8]) - 0.5])  # 4 + 8 of the 12 of a tetrahedron
    quarter = np.array([[np.sqrt(0.5), np.sqrt(0.5), 0, 0]])
    return np.concatenate([units, np.einsum("gab,hb->hga", _turns(quarter), units).reshape(-1, 4)])


def _hexagonal():
    """The 12 rotations of a hexagonal prism along z."""
    angle = np.arange(6) * np.pi / 6
    about = np.stack([np.cos(angle), 0 * angle, 0 * angle, np.sin(angle)], axis=1)
    flips = np.stack([0 * angle, np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    return np.concatenate([about, flips])


_TURNS = {False: _turns(_cubic()), True: _turns(_hexagonal())}
_HEXAGONAL = np.array([name in ("hcp", "hexagonal_diamond") for name in LABELS])
_CRYSTALLINE = np.array([name not in ("other", "crystal", "ico") for name in LABELS])


def _least_turned(q, hexagonal):
    """Of the equivalents of each orientation that of the least angle, w >= 0."""
    result = np.empty_like(q)
    for kind, turns in _TURNS.items():
        all_of = np.einsum("gab,kb->kga", turns, q[hexagonal == kind])
        best = np.argmax(np.abs(all_of[:, :, 0]), axis=1)
        result[hexagonal == kind] = np.take_along_axis(all_of, best[:, None, None], axis=1)[:, 0]
    return result * np.where(result[:, :1] < 0, -1.0, 1.0)


def _orient(world, table, row_of, orientations, labels, of, place, ids):
    """Fills in mean orientation and spread. The mean is the largest eigenvector of Σ q⊗q (Markley et al., J. Guidance 30,
    1193 (2007)), every q replaced by its equivalent nearest to that of the cluster's first atom; λ = ⟨cos²(θ/2)⟩ of it."""
    counts = np.where(_CRYSTALLINE, table["composition"], 0)
    chosen = np.where(counts.any(axis=1), counts.argmax(axis=1), -1).astype(np.int8)  # -1: no atom's label
    first = _clusters.first_of_kind(orientations, labels, ids, of, place, chosen[row_of])
    has = first >= 0
    shares = world.allgather((row_of[has], ids[first[has]], orientations[first[has]]))
    rows, who, which = (np.concatenate(parts) for parts in zip(*shares))
    order = np.lexsort((who, rows))
    rows, at = np.unique(rows[order], return_index=True)
    reference = np.full((len(table), 4), np.nan)
    reference[rows] = which[order][at]
    hexagonal = _HEXAGONAL[chosen]
    sums = np.zeros((len(table), 11))
    for kind, turns in _TURNS.items():
        mine = hexagonal[row_of] == kind
        if world.allreduce(int(mine.any()), "max"):
            here = np.append(np.where(mine, np.cumsum(mine) - 1, -1), -1)[place].astype(np.int32)
            rows = row_of[mine]
            found = _clusters.orientation_sums(
                orientations, labels, of, here, chosen[rows], np.ascontiguousarray(reference[rows]), turns
            )
            np.add.at(sums, rows, found)
    sums = np.asarray(world.allreduce(sums))
    table["orientation"] = table["spread"] = np.nan
    some = sums[:, 0] > 0
    if some.any():
        a, b = np.triu_indices(4)
        matrices = np.empty((int(some.sum()), 4, 4))
        matrices[:, a, b] = matrices[:, b, a] = sums[some, 1:] / sums[some, :1]
        values, vectors = np.linalg.eigh(matrices)
        table["orientation"][some] = _least_turned(vectors[:, :, -1], hexagonal[some])
        table["spread"][some] = np.degrees(2 * np.arccos(np.sqrt(np.clip(values[:, -1], 0.0, 1.0))))
