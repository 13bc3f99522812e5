"""The structure of one whole frame on one process, without ranks: what a report or a notebook asks of a trajectory."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components

from ostwald.app.analysis import structure
from ostwald.app.analysis.clusters import FIRST_SHELL
from ostwald.app.potentials.base import Neighbourhoods
from ostwald.app.potentials.images import Images


def _surroundings(frame, reach):
    """(Neighbourhoods with ghosts up to reach Å, owner of each row)."""
    n = len(frame.positions)
    positions = np.asarray(frame.positions, float) - frame.origin
    images = Images(positions, frame.matrix, frame.periodic, reach)
    rows = np.ascontiguousarray(images.rows(positions))
    no_list = np.zeros(n + 1, np.int64), np.zeros(0, np.int32)
    nb = Neighbourhoods(rows, np.zeros(len(rows), np.int32), n, *no_list, "full", images.forward, images.reverse)
    return nb, images.owners


def _volume(frame, total=None):
    """Å³ of the cell for each atom; total: their number where the frame holds only some of them."""
    return abs(np.linalg.det(frame.matrix)) / (total or len(frame.positions))


def classify(
    frame, method="q6", threshold=None, templates=structure.METALS, cutoff=None, fields=()
) -> structure.Structure:
    """`analysis.structure.labelled` of a frame: positions (n, 3) Å, matrix, origin, periodic, such as `io`'s Structure."""
    n = len(frame.positions)
    if n == 0:
        nothing = np.zeros(0, np.int8)
        return structure.Structure(nothing, nothing.astype(bool), method, threshold, np.zeros(0, int), 0, 0)
    reach = 4 / 3 * (15 * _volume(frame) / (4 / 3 * np.pi)) ** (1 / 3)
    reach = max(reach, cutoff or 0.0)
    return structure.labelled(_surroundings(frame, reach)[0], reach, method, threshold, fields, templates, cutoff)


def clusters(frame, solid, cutoff=None, total=None):
    """(ids (n,) int, sizes (k,)): which cluster of solid atoms an atom is in, 0 the largest, -1 none.

    solid (n,) bool. cutoff: Å, default as `analysis.clusters.find_clusters` for a cell of `total` atoms, by default those
    of the frame.
    """
    solid = np.asarray(solid, bool)
    chosen = np.flatnonzero(solid)
    ids = np.full(len(solid), -1)
    if not len(chosen):
        return ids, np.zeros(0, int)
    graph = _bonds(frame, chosen, cutoff, total)
    count, member = connected_components(graph, directed=False)
    sizes = np.bincount(member, minlength=count)
    order = np.argsort(-sizes, kind="stable")
    place = np.empty(count, int)
    place[order] = np.arange(count)
    ids[chosen] = place[member]
    return ids, sizes[order]


def _bonds(frame, chosen, cutoff=None, total=None):
    """(m, m) sparse matrix of the bonds among the chosen atoms (m,), over periodic faces too."""
    cutoff = FIRST_SHELL * _volume(frame, total) ** (1 / 3) if cutoff is None else float(cutoff)
    part = _Part(np.asarray(frame.positions)[chosen], frame)
    nb, owners = _surroundings(part, cutoff)
    offsets, indices = structure.neighbours(nb, cutoff, cutoff=cutoff)
    m = len(chosen)
    return csr_matrix((np.ones(len(indices), np.int8), owners[indices], offsets), shape=(m, m))


class _Part:
    """Some atoms of a frame in its cell."""

    def __init__(self, positions, frame):
        self.positions = positions
        self.matrix, self.origin, self.periodic = frame.matrix, frame.origin, frame.periodic


def unwrapped(frame, inside, cutoff=None, total=None):
    """(m, 3) Å: the atoms of one cluster (`inside` (n,) bool), moved by lattice vectors so that it is in one piece.

    From atom to atom along bonds (cutoff, total: as of `clusters`), so it may reach through the whole cell; one that winds around
    it is cut somewhere.
    """
    chosen = np.flatnonzero(inside)
    s = (np.asarray(frame.positions, float)[chosen] - frame.origin) @ np.linalg.inv(frame.matrix)
    _, before = breadth_first_order(_bonds(frame, chosen, cutoff, total), 0, directed=False)
    before = np.where(before < 0, np.arange(len(chosen)), before)  # the first atom is where it is
    shift = np.where(frame.periodic, -np.rint(s - s[before]), 0.0)
    while True:  # each atom's shift against the first: jumps along the tree double in length
        further = before[before]
        if np.array_equal(further, before):
            return (s + shift) @ frame.matrix + frame.origin
        shift, before = shift + shift[before], further
