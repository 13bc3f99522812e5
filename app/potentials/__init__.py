"""Interatomic potentials: every family from its files, one interface, an ASE calculator for each.

potential = load("Cu_mishin1.eam.alloy")
atoms.calc = potential.ase()
"""

from .base import Neighbourhoods, Potential, PotentialError
from .ensemble import Ensemble
from .registry import load

__all__ = ["Ensemble", "Neighbourhoods", "Potential", "PotentialError", "load"]
