"""Phase fields: free energies, homogeneous elasticity, initial fields, steppers."""

from ostwald.app.phasefield.cahn_hilliard import CahnHilliard, Diverged
from ostwald.app.phasefield.elasticity import Elasticity, cubic
from ostwald.app.phasefield.initial import (
    Constant,
    GaussianNoise,
    Given,
    InitialField,
    Layers,
    Perlin,
    PFHub,
    Spheres,
    UniformNoise,
    Within,
)
from ostwald.app.phasefield.wells import Well, double_well, quartic_well

__all__ = [
    "CahnHilliard",
    "Constant",
    "Diverged",
    "Elasticity",
    "GaussianNoise",
    "Given",
    "InitialField",
    "Layers",
    "PFHub",
    "Perlin",
    "Spheres",
    "UniformNoise",
    "Well",
    "Within",
    "cubic",
    "double_well",
    "quartic_well",
]
