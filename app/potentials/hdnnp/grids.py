"""Sets of symmetry functions chosen from grids of their parameters, the same for every element and set of neighbours.

M. Gastegger et al., J. Chem. Phys. 148, 241709 (2018); G. Imbalzano et al., J. Chem. Phys. 148, 241730 (2018).
"""

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from .model import SymmetryFunction, sort_key


@dataclass(frozen=True)
class Radial:
    """exp(-eta (r - shift)²) fc(r).

    centred: Gaussians about zero, whose widths 1/sqrt(2 eta) go from `first` to the cutoff in equal ratios;
    shifted: Gaussians about equidistant places from `first` on, as wide as their distance, the last one a width before the
    cutoff. cutoff, first: Å.
    """

    cutoff: float
    centred: int = 0
    shifted: int = 0
    first: float = 1.5

    def functions(self, centre: str, species):
        widths = np.geomspace(self.first, self.cutoff, self.centred) if self.centred else []
        grid = [(0.5 / width**2, 0.0) for width in widths]
        if self.shifted:
            places, step = np.linspace(self.first, self.cutoff, self.shifted, endpoint=False, retstep=True)
            grid += [(0.5 / step**2, place) for place in places]
        for eta, shift in grid:
            for neighbour in species:
                yield SymmetryFunction(2, centre, (neighbour,), self.cutoff, eta=float(eta), shift=float(shift))


@dataclass(frozen=True)
class Angular:
    """2^(1-zeta) (1 + lam cos theta)^zeta times radial factors of the sides, lam = 1 and -1.

    narrow: with the third side (type 3), else without (type 9). zetas: exponents. centred, shifted, first: the radial
    factors, as of Radial. cutoff, first: Å.
    """

    cutoff: float
    narrow: bool = True
    zetas: tuple[float, ...] = (1.0, 4.0)
    centred: int = 0
    shifted: int = 0
    first: float = 1.5

    def functions(self, centre: str, species):
        radial = Radial(self.cutoff, self.centred, self.shifted, self.first)
        for factor in radial.functions(centre, species[:1]):
            for pair in combinations_with_replacement(species, 2):
                for zeta in self.zetas:
                    for lam in (-1.0, 1.0):
                        yield SymmetryFunction(
                            3 if self.narrow else 9,
                            centre,
                            pair,
                            self.cutoff,
                            eta=factor.eta,
                            shift=factor.shift,
                            lam=lam,
                            zeta=float(zeta),
                        )


def functions(grids, centre: str, species) -> list[SymmetryFunction]:
    """The functions of all grids for one element, each once, in the order of sort_key. species by atomic number."""
    found = {function for grid in grids for function in grid.functions(centre, species)}
    return sorted(found, key=lambda function: sort_key(function, species))
