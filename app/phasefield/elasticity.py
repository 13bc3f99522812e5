"""Coherent elasticity with homogeneous moduli, in closed form (Khachaturyan, Theory of Structural Transformations in Solids, 1983).

A stress-free strain ε* (φ - <φ>) in a periodic crystal of elastic constants C relaxes, mode by mode, to the elastic energy

    E = V/2 Σ_q Y(n) |φ^(q)|²,   Y(n) = ε*:C:ε* - n·σ* A⁻¹(n) σ*·n,   A_ik = C_ijkl n_j n_l,   σ* = C:ε*,   n = q/|q|,

for no mean stress. The chemical potential gains Y φ^. Strains are measured from the stress-free lattice of the mean composition. A mean
strain E, or a mean stress Σ = C:E, that is applied to such a crystal adds to all fields a constant, and to the energy V/2 E:C:E, or with the
work of the stress -V/2 E:C:E; it does not act on φ.
"""

from __future__ import annotations

import numpy as np

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def cubic(c11: float, c12: float, c44: float) -> np.ndarray:
    """Elastic constants (6, 6) of a cubic crystal, axes along the cube's edges."""
    c = np.zeros((6, 6))
    c[:3, :3] = c12
    c[np.arange(3), np.arange(3)] = c11
    c[np.arange(3, 6), np.arange(3, 6)] = c44
    return c


class Elasticity:
    """constants: C (6, 6) in Voigt's order xx yy zz yz xz xy, symmetric and positive definite (energy per volume).
    eigenstrain: ε* per unit of φ, a number (dilatation η: ε*_ij = η δ_ij) or (3, 3).
    dimensions: 2 takes tensors of two dimensions (i, j in x, z of the grid's axes 0 and 1, given as x and y): no third direction.
    mean_strain, mean_stress: at most one of them, symmetric (3, 3); by default no stress.

    energy0: ε*:C:ε*; stress: σ* (3, 3). voigt: C (6, 6), eigenstrain: ε* (6,) with shears 2 ε_ij, along the axes of the
    sweeps, of which two dimensions leave out the second.
    applied_strain, applied_stress: E, with shears 2 ε_ij, and Σ, (6,) along the same axes; applied_energy: what they add per volume.
    """

    def __init__(self, constants, eigenstrain, dimensions: int = 3, mean_strain=None, mean_stress=None):
        c = np.array(constants, float)
        if c.shape != (6, 6) or not np.isfinite(c).all() or not np.allclose(c, c.T, rtol=1e-10):
            raise ValueError("elastic constants must be a finite symmetric (6, 6) matrix")
        keep = [0, 1, 5] if dimensions == 2 else list(range(6))
        if np.linalg.eigvalsh(c[np.ix_(keep, keep)])[0] <= 0:
            raise ValueError("elastic constants must be positive definite")
        strain = float(eigenstrain) * np.eye(3) if np.ndim(eigenstrain) == 0 else np.array(eigenstrain, float)
        if strain.shape != (3, 3) or not np.isfinite(strain).all() or not np.allclose(strain, strain.T):
            raise ValueError("an eigenstrain is a number or a finite symmetric (3, 3) matrix")
        full = np.zeros((3, 3, 3, 3))
        for a, (i, j) in enumerate(VOIGT):
            for b, (k, l) in enumerate(VOIGT):
                full[i, j, k, l] = full[j, i, k, l] = full[i, j, l, k] = full[j, i, l, k] = c[a, b]
        if dimensions == 2:
            strain = strain.copy()
            strain[2] = strain[:, 2] = 0
            for axis in range(4):
                full[(slice(None),) * axis + (2,)] = 0
            # the grid's axes are 0 and 2, its axis 1 has one point: y of the constants becomes z, and z a dummy
            turn = [0, 2, 1]
            full, strain = full[np.ix_(turn, turn, turn, turn)], strain[np.ix_(turn, turn)]
        self.dimensions, self._full = dimensions, full
        self.stress = np.einsum("ijkl,kl->ij", full, strain)
        self.energy0 = float(np.sum(self.stress * strain))
        self._dummy = float(c[0, 0]) if dimensions == 2 else 0.0
        self.scale = float(np.sqrt(np.abs(full).max()))
        self.eigenstrain = np.array([strain[ij] * (1 if ij[0] == ij[1] else 2) for ij in VOIGT])
        self.voigt = np.array([[full[ij + kl] for kl in VOIGT] for ij in VOIGT])
        self._apply(mean_strain, mean_stress)

    def _apply(self, mean_strain, mean_stress):
        if mean_strain is not None and mean_stress is not None:
            raise ValueError("give either a mean strain or a mean stress")
        here = np.ix_(self.axes, self.axes)
        self.applied_strain, self.applied_stress = np.zeros(6), np.zeros(6)
        if mean_strain is not None:
            self.applied_strain[self.axes] = self._vector(mean_strain, "a mean strain", 2.0)
            self.applied_stress[:] = self.voigt @ self.applied_strain
        elif mean_stress is not None:
            self.applied_stress[self.axes] = self._vector(mean_stress, "a mean stress", 1.0)
            self.applied_strain[self.axes] = np.linalg.solve(self.voigt[here], self.applied_stress[self.axes])
        energy = 0.5 * float(self.applied_strain @ self.applied_stress)
        self.applied_energy = energy if mean_stress is None else -energy

    @property
    def loaded(self) -> bool:
        """Whether a mean strain or stress is applied."""
        return bool(self.applied_strain.any())

    @property
    def axes(self) -> list[int]:
        """Components of tensors that there are, along the axes of the sweeps, in the order of `components`."""
        return [0, 2, 4] if self.dimensions == 2 else list(range(6))

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the components of a tensor, along the axes of the grid."""
        return ("xx", "yy", "xy") if self.dimensions == 2 else ("xx", "yy", "zz", "yz", "xz", "xy")

    def _vector(self, tensor, name, shear):
        """A symmetric (3, 3) tensor as its components, shears times `shear`."""
        t = np.array(tensor, float)
        if t.shape != (3, 3) or not np.isfinite(t).all() or not np.allclose(t, t.T):
            raise ValueError(f"{name} is a finite symmetric (3, 3) matrix")
        places = [VOIGT["xx yy zz yz xz xy".split().index(c)] for c in self.components]
        return [t[i, j] * (1.0 if i == j else shear) for i, j in places]

    def tensor(self) -> np.ndarray:
        """(6, 6): A in Voigt's order = tensor @ (xx, yy, zz, yz, xz, xy products of n)."""
        out = np.zeros((6, 6))
        for a, (i, k) in enumerate(VOIGT):
            for b, (j, l) in enumerate(VOIGT):
                out[a, b] = self._full[i, j, k, l] + (self._full[i, l, k, j] if j != l else 0)
        out[1, [0, 2]] += self._dummy  # two dimensions: a diagonal entry that nothing couples to
        return out

    def kernel(self) -> tuple:
        """(ε*:C:ε*, σ*, tensor) for _cahn_hilliard.columns; A and σ* scaled alike, so that no power of C overflows:
        by `scale` and its square."""
        return self.energy0, (self.stress / self.scale).tolist(), (self.tensor() / self.scale**2).tolist()

    def factor(self, *n) -> np.ndarray:
        """Y(n) of directions (any length but zero), one array per axis."""
        axes = n if self.dimensions == 3 else (n[0], np.zeros_like(n[0]), n[1])
        q = np.stack(np.broadcast_arrays(*axes), -1).astype(float)
        q = q / np.linalg.norm(q, axis=-1, keepdims=True)
        a = np.einsum("ijkl,...j,...l->...ik", self._full, q, q)
        a[..., 1, 1] += self._dummy
        s = q @ self.stress
        return self.energy0 - np.einsum("...i,...i->...", s, np.linalg.solve(a, s[..., None])[..., 0])
