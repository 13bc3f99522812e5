"""Periodic images as ghost rows, for one process without a halo: the ASE calculator, tests."""

import numpy as np


class Images:
    """The images of atoms in a periodic cell that lie within a cutoff of it.

    positions (n, 3) Å, anywhere; matrix (3, 3) with rows a, b, c (Å), not singular; periodic (3,) bool; cutoff in Å.
    Rows are the n atoms, wrapped into the cell along its periodic axes, then the ghosts. owners (n+nghost,): the atom
    that each row shows. All of it holds while atoms move by less than what the cutoff has to spare.
    """

    def __init__(self, positions, matrix, periodic, cutoff: float):
        matrix = np.asarray(matrix, dtype=np.float64)
        periodic = np.asarray(periodic, dtype=bool)
        n = len(positions)
        inverse = np.linalg.inv(matrix)
        fractional = positions @ inverse
        wrap = np.where(periodic, -np.floor(fractional), 0.0)
        fractional = fractional + wrap
        # in units of the distance between the faces of an axis
        reach = cutoff * np.linalg.norm(inverse, axis=0)
        owners, shifts = np.arange(n), np.zeros((n, 3))
        for axis in np.flatnonzero(periodic):
            there = fractional[owners, axis]
            found = [(owners, shifts)]
            for m in range(1, int(np.ceil(reach[axis])) + 1):
                for shift, inside in ((m, there + m <= 1.0 + reach[axis]), (-m, there - m >= -reach[axis])):
                    moved = shifts[inside].copy()
                    moved[:, axis] = shift
                    found.append((owners[inside], moved))
            owners = np.concatenate([o for o, _ in found])
            shifts = np.concatenate([s for _, s in found])
        self.n, self.nghost = n, len(owners) - n
        self.owners = owners
        self._shift = (shifts + wrap[owners]) @ matrix

    def rows(self, positions):
        """(n+nghost, 3) Å: where atoms and ghosts are when the atoms are at `positions` (n, 3)."""
        return positions[self.owners] + self._shift

    def forward(self, array):
        """Copies the atoms' rows of an (n+nghost[, k]) array to their ghosts."""
        array[self.n :] = array[self.owners[self.n :]]

    def reverse(self, array):
        """Adds the ghost rows of an (n+nghost[, k]) array to their atoms."""
        owners = self.owners[self.n :]
        for column in array.T if array.ndim == 2 else (array,):
            column[: self.n] += np.bincount(owners, weights=column[self.n :], minlength=self.n)
