"""Phase fields: free energies, elasticity, initial fields, steppers."""

from ostwald.app.phasefield.adaptive import Adaptive
from ostwald.app.phasefield.allen_cahn import AllenCahn
from ostwald.app.phasefield.cahn_hilliard import CahnHilliard
from ostwald.app.phasefield.diagnostics import Modes, Morphology, StructureFactor, amplitudes
from ostwald.app.phasefield.elasticity import Elasticity, cubic
from ostwald.app.phasefield.equilibrium import HeterogeneousElasticity
from ostwald.app.phasefield.errors import Diverged, NoEquilibrium
from ostwald.app.phasefield.finite_difference import FiniteDifference
from ostwald.app.phasefield.implicit import Implicit
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
from ostwald.app.phasefield.mesh import Mesh
from ostwald.app.phasefield.noise import Noise
from ostwald.app.phasefield.second_order import SecondOrder
from ostwald.app.phasefield.stress import elastic_field, elastic_pieces
from ostwald.app.phasefield.texture import Boundary, Isotropy
from ostwald.app.phasefield.variable_mobility import VariableMobility
from ostwald.app.phasefield.wells import RegularSolution, Well, double_well, quartic_well

__all__ = [
    "Adaptive",
    "AllenCahn",
    "Boundary",
    "CahnHilliard",
    "Constant",
    "Diverged",
    "Elasticity",
    "FiniteDifference",
    "GaussianNoise",
    "Given",
    "HeterogeneousElasticity",
    "Implicit",
    "InitialField",
    "Isotropy",
    "Layers",
    "Mesh",
    "Modes",
    "Morphology",
    "NoEquilibrium",
    "Noise",
    "PFHub",
    "Perlin",
    "RegularSolution",
    "SecondOrder",
    "Spheres",
    "StructureFactor",
    "UniformNoise",
    "VariableMobility",
    "Well",
    "Within",
    "amplitudes",
    "cubic",
    "double_well",
    "elastic_field",
    "elastic_pieces",
    "quartic_well",
]
