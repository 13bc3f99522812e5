"""Phase fields: free energies, homogeneous elasticity, steppers."""

from ostwald.app.phasefield.cahn_hilliard import CahnHilliard, Diverged
from ostwald.app.phasefield.elasticity import Elasticity, cubic
from ostwald.app.phasefield.wells import Well, double_well, quartic_well

__all__ = ["CahnHilliard", "Diverged", "Elasticity", "Well", "cubic", "double_well", "quartic_well"]
