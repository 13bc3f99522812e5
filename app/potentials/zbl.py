"""The universal screened nuclear repulsion of Ziegler, Biersack and Littmark, switched off smoothly.

E = Σ_{i<j} Z_i Z_j e²/(4π ε0 r) Φ(r/a) + S(r),  a = 0.46850 Å / (Z_i^0.23 + Z_j^0.23),
Φ(x) = 0.18175 e^{-3.19980 x} + 0.50986 e^{-0.94229 x} + 0.28022 e^{-0.40290 x} + 0.02817 e^{-0.20162 x}

S is the constant C below r_inner and C + A/3 t³ + B/4 t⁴, t = r - r_inner, above: energy, force and curvature are zero
at r_outer. (J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping and Range of Ions in Matter, vol. 1 (1985); the
switching is that of LAMMPS, pair_style zbl, as is e²/(4π ε0) = 14.399645 eV Å.) A file is TOML:

    potential = "zbl"
    species = ["Ta", "W"]
    inner = 4.0             # Å
    outer = 4.8
"""

import numpy as np

from ostwald.app.kernels import _pair

from . import pair_file
from .base import Potential, PotentialError, check_precision
from .pair_potential import PairPotential

COULOMB = 14.399645  # e²/(4π ε0), eV Å
SCREENING = 0.46850  # Å
SHARES = np.array([0.02817, 0.28022, 0.50986, 0.18175])
DECAYS = np.array([0.20162, 0.40290, 0.94229, 3.19980])

KIND = "zbl"


class Zbl(PairPotential):
    """species (n,) symbols; inner and outer: where switching starts and ends, Å; numbers (n,): the nuclear charges
    (default: the atomic numbers of the species)."""

    family = KIND

    def __init__(self, species, inner, outer, numbers=None, precision="double", path=None):
        self.species = tuple(species)
        self.inner, self.outer = float(inner), float(outer)
        self.cutoff = self.outer
        self.precision = check_precision(precision, path)
        self.path = None if path is None else str(path)
        if not 0 < self.inner < self.outer < np.inf:
            raise PotentialError("0 < inner < outer is needed", path)
        if numbers is None:
            from ase.data import atomic_numbers

            unknown = [s for s in self.species if s not in atomic_numbers]
            if unknown:
                raise PotentialError(f"{unknown[0]} is no chemical symbol", path)
            numbers = [atomic_numbers[s] for s in self.species]
        self.numbers = np.array(numbers, float)
        if self.numbers.shape != (len(self.species),) or not (self.numbers > 0).all():
            raise PotentialError("each species needs one positive nuclear charge", path)
        z = self.numbers
        charge = COULOMB * np.multiply.outer(z, z)
        screening = SCREENING / np.add.outer(z**0.23, z**0.23)
        energy, slope, curvature = _bare(charge[..., None], screening[..., None], self.outer)
        t = self.outer - self.inner
        a = (-3 * slope + t * curvature) / t**2
        b = (2 * slope - t * curvature) / t**3
        c = -energy + t / 2 * slope - t**2 / 12 * curvature
        cutoff2, inner = np.full_like(a, self.outer**2), np.full_like(a, self.inner)
        kernel = _pair.Zbl if precision == "double" else _pair.ZblMixed
        self._kernel = kernel(np.array([cutoff2, charge, 1 / screening, inner, a, b, c]))

    def parameters(self):
        return self.numbers, self.inner, self.outer


def _bare(charge, screening, r):
    """Energy and its first two derivatives of the unswitched potential at r; arguments (n, n, 1)."""
    d = DECAYS / screening
    e = SHARES * np.exp(-d * r)
    phi, phi1, phi2 = e.sum(-1), -(d * e).sum(-1), (d**2 * e).sum(-1)
    q = charge[..., 0] / r
    return q * phi, q * (phi1 - phi / r), q * (phi2 - 2 * phi1 / r + 2 * phi / r**2)


def matches(path, text) -> bool:
    return pair_file.kind(text) == KIND


def read(path, species=None, precision="double", table=None) -> Potential:
    """The potential in a TOML file, or in a table of it; species: those wanted, in the order of types."""
    file = pair_file.PairFile(path, {"inner", "outer"}, set(), table)
    return Zbl(file.choose(species), file.number("inner"), file.number("outer"), precision=precision, path=path)
