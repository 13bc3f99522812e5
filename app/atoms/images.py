"""Periodic images of a few atoms, for evaluations without a domain decomposition (ASE calculators, tests)."""

import numpy as np


def periodic_images(positions, matrix, origin, periodic, cutoff) -> tuple[np.ndarray, np.ndarray]:
    """Which images of which atoms lie within `cutoff` (Å) of the parallelepiped that holds the atoms.

    positions (n, 3), anywhere; matrix (3, 3), rows a, b, c; origin (3,); periodic (3,) bool. Returns (source (m,) int64,
    shift (m, 3) int64): image k stands at positions[source[k]] + shift[k] @ matrix. The atoms themselves are not among
    them. Every pair within the cutoff of which one end is an atom has its other end among atoms and images.
    """
    x = np.asarray(positions, float).reshape(-1, 3)
    n = len(x)
    matrix = np.asarray(matrix, float)
    periodic = np.asarray(periodic, bool)
    source, shift = np.arange(n), np.zeros((n, 3), np.int64)
    if n == 0 or not periodic.any():
        return source[:0], shift[:0]
    # fractional distance that the cutoff spans along each axis: cutoff / height of the cell above that face
    inverse = np.linalg.inv(matrix)
    reach = cutoff * np.linalg.norm(inverse, axis=0) * (1 + 1e-12) + 1e-12
    s = (x - np.asarray(origin, float)) @ inverse
    for axis in np.flatnonzero(periodic):
        here = s[source, axis] + shift[:, axis]
        lo, hi = s[:, axis].min() - reach[axis], s[:, axis].max() + reach[axis]
        first = np.ceil(lo - here).astype(np.int64)
        counts = np.floor(hi - here).astype(np.int64) - first + 1  # at least one: the row itself
        rows = np.repeat(np.arange(len(source)), counts)
        k = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts) + first[rows]
        source, shift = source[rows], shift[rows]
        shift[:, axis] = k
    images = shift.any(axis=1)
    return source[images], shift[images]
