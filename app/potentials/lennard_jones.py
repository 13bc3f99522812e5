"""Lennard-Jones: 4 ε ((σ/r)¹² − (σ/r)⁶) inside a cutoff, cut or shifted.

J. E. Jones, Proc. R. Soc. A 106, 463 (1924). A file is TOML:

    potential = "lennard-jones"
    cutoff = 8.5            # Å, of all pairs that have none of their own
    shifted = true          # energies moved so that they are zero at the cutoff; default false
    [pairs]
    Ar-Ar = { epsilon = 0.01034, sigma = 3.40 }                 # eV, Å
    Kr-Kr = { epsilon = 0.01405, sigma = 3.65, cutoff = 9.0 }

A pair of two species that is not listed is mixed: σ the arithmetic, ε the geometric mean (Lorentz and Berthelot).
"""

from itertools import combinations_with_replacement

import numpy as np

from ostwald.app.kernels import _pair

from . import pair_file
from .base import Potential, PotentialError, check_precision
from .pair_potential import PairPotential

KIND = "lennard-jones"


class LennardJones(PairPotential):
    """species (n,) symbols. epsilon (eV) and sigma (Å): one number, (n,) numbers, mixed by Lorentz and Berthelot, or
    symmetric (n, n); cutoff (Å): one number or symmetric (n, n); shifted: energies are zero at the cutoff. A pair with
    epsilon = 0 or cutoff = 0 does not interact. masses (n,) amu or None.
    """

    family = KIND

    def __init__(self, species, epsilon, sigma, cutoff, shifted=False, precision="double", masses=None, path=None):
        self.species = tuple(species)
        n = len(self.species)
        self.epsilon = _matrix("epsilon", epsilon, n, lambda e: np.sqrt(np.multiply.outer(e, e)), path)
        self.sigma = _matrix("sigma", sigma, n, lambda s: 0.5 * np.add.outer(s, s), path)
        self.cutoffs = _matrix("cutoff", cutoff, n, None, path)
        if (self.cutoffs < 0).any() or not (self.cutoffs > 0).any():
            raise PotentialError("the cutoff must be positive", path)
        if (self.sigma <= 0).any():
            raise PotentialError("sigma must be positive", path)
        self.shifted = bool(shifted)
        self.cutoff = float(self.cutoffs.max())
        self.precision = check_precision(precision, path)
        self.masses = None if masses is None else np.array(masses, float)
        self.path = None if path is None else str(path)
        repulsion, attraction = 4 * self.epsilon * self.sigma**12, 4 * self.epsilon * self.sigma**6
        with np.errstate(divide="ignore", invalid="ignore"):
            edge = repulsion / self.cutoffs**12 - attraction / self.cutoffs**6
        shift = np.where(self.shifted & (self.cutoffs > 0), edge, 0.0)
        kernel = _pair.LennardJones if precision == "double" else _pair.LennardJonesMixed
        self._kernel = kernel(np.array([self.cutoffs**2, 12 * repulsion, 6 * attraction, shift]))

    def parameters(self):
        return self.epsilon, self.sigma, self.cutoffs, self.shifted


def _matrix(name, value, n, mix, path) -> np.ndarray:
    a = np.asarray(value, float)
    if a.ndim == 1 and mix is not None and len(a) == n:
        a = mix(a)
    a = np.array(np.broadcast_to(a, (n, n))) if a.ndim == 0 else a
    if a.shape != (n, n) or not np.isfinite(a).all() or (a != a.T).any():
        raise PotentialError(f"{name} must be one finite number for each pair of the {n} species", path)
    return a


def matches(path, text) -> bool:
    return pair_file.kind(text) == KIND


def read(path, species=None, precision="double", table=None) -> Potential:
    """The potential in a TOML file, or in a table of it; species: those wanted, in the order of types (default: as they
    are first named)."""
    file = pair_file.PairFile(path, {"cutoff", "shifted"}, {"epsilon", "sigma", "cutoff"}, table)
    species = file.choose(species)
    n = len(species)
    epsilon, sigma, cutoff = (np.full((n, n), np.nan) for _ in range(3))
    for i, j in sorted(combinations_with_replacement(range(n), 2), key=lambda ij: ij[0] != ij[1]):
        a, b = species[i], species[j]
        pair = file.pair(a, b)
        if pair is None and i == j:
            raise PotentialError(f"no pair {a}-{a}, so nothing to mix from", path)
        if pair is None:
            pair = dict(epsilon=np.sqrt(epsilon[i, i] * epsilon[j, j]), sigma=0.5 * (sigma[i, i] + sigma[j, j]))
        values = {"cutoff": file.number("cutoff", default=None), **pair}
        for name, matrix in (("epsilon", epsilon), ("sigma", sigma), ("cutoff", cutoff)):
            if values.get(name) is None:
                raise PotentialError(f"the pair {a}-{b} has no {name}", path, file.line_of(a, b))
            matrix[i, j] = matrix[j, i] = values[name]
    shifted = file.table.get("shifted", False)
    if not isinstance(shifted, bool):
        raise PotentialError("shifted must be true or false", path)
    return LennardJones(species, epsilon, sigma, cutoff, shifted, precision, path=path)
