"""The simulation cell: three lattice vectors of any orientation, each axis periodic or open."""

from __future__ import annotations

from math import isfinite, sqrt

import numpy as np


class Cell:
    """Lattice vectors, origin and boundary conditions.

    matrix: (3, 3), rows are a, b, c in Å, right-handed. origin: (3,) in Å. periodic: (3,) bool.
    Fractional coordinates of x are (x - origin) @ inverse.
    Raises ValueError for a cell that is not finite, left-handed or without volume.
    """

    def __init__(self, matrix, origin=(0.0, 0.0, 0.0), periodic=(True, True, True)):
        matrix = np.array(matrix, dtype=np.float64)
        if matrix.shape == (3,):
            matrix = np.diag(matrix)
        if matrix.shape != (3, 3):
            raise ValueError(f"a cell needs three lattice vectors, got an array of shape {matrix.shape}")
        self._matrix = matrix
        self.origin = np.array(origin, dtype=np.float64).reshape(3)
        self.periodic = np.array(periodic, dtype=bool).reshape(3)
        self._refresh()

    def _refresh(self):
        # plain numbers: a barostat comes here every step
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = m = self._matrix.tolist()
        ux, uy, uz = by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx  # b × c
        volume = ax * ux + ay * uy + az * uz
        scale = sqrt((ax * ax + ay * ay + az * az) * (bx * bx + by * by + bz * bz) * (cx * cx + cy * cy + cz * cz))
        if not isfinite(volume) or volume <= 1e-12 * scale:
            raise ValueError(f"the cell vectors {m} Å enclose no volume or are left-handed")
        self._volume = volume
        v = 1.0 / volume
        self._inverse = np.array(
            [
                [v * ux, v * (cy * az - cz * ay), v * (ay * bz - az * by)],
                [v * uy, v * (cz * ax - cx * az), v * (az * bx - ax * bz)],
                [v * uz, v * (cx * ay - cy * ax), v * (ax * by - ay * bx)],
            ]
        )

    @property
    def matrix(self) -> np.ndarray:
        return self._matrix

    @matrix.setter
    def matrix(self, value):
        self._matrix = np.ascontiguousarray(value, dtype=np.float64).reshape(3, 3)
        self._refresh()

    @property
    def inverse(self) -> np.ndarray:
        """(3, 3), Å⁻¹."""
        return self._inverse

    @property
    def volume(self) -> float:
        """Å³"""
        return self._volume

    @property
    def lengths(self) -> np.ndarray:
        """|a|, |b|, |c| in Å."""
        return np.sqrt((self._matrix**2).sum(1))

    @property
    def angles(self) -> np.ndarray:
        """α, β, γ in degrees."""
        a, b, c = self._matrix / self.lengths[:, None]
        return np.degrees(np.arccos(np.clip([b @ c, a @ c, a @ b], -1.0, 1.0)))

    @property
    def heights(self) -> np.ndarray:
        """Distances between opposite faces in Å."""
        return 1.0 / np.sqrt((self._inverse**2).sum(0))

    @property
    def orthogonal(self) -> bool:
        m = self._matrix
        return bool(np.abs(m @ m.T - np.diag((m * m).sum(1))).max() < 1e-12 * (m * m).max())

    def fractional(self, positions):
        """(n, 3) Å -> (n, 3) fractional."""
        return (positions - self.origin) @ self._inverse

    def cartesian(self, fractional):
        return fractional @ self._matrix + self.origin

    def copy(self) -> Cell:
        return Cell(self._matrix.copy(), self.origin.copy(), self.periodic.copy())

    def describe(self) -> str:
        l, g = self.lengths, self.angles
        faces = "".join("p" if p else "o" for p in self.periodic)
        shape = "" if self.orthogonal else f", angles {g[0]:.4g} {g[1]:.4g} {g[2]:.4g}°"
        return f"{l[0]:.5g} × {l[1]:.5g} × {l[2]:.5g} Å{shape}, boundaries {faces}"
