"""Integrators, thermostats, barostats, minimisation, velocities, and checks on a run."""

from ostwald.app.dynamics.barostat import MTK, CellModes
from ostwald.app.dynamics.bussi import Bussi
from ostwald.app.dynamics.checks import Fault, Unstable, check_timestep, diagnose
from ostwald.app.dynamics.integrator import Integrator
from ostwald.app.dynamics.langevin import Langevin
from ostwald.app.dynamics.minimise import Minimum, minimise
from ostwald.app.dynamics.nose_hoover import NoseHoover
from ostwald.app.dynamics.nve import NVE
from ostwald.app.dynamics.ramps import Ramp
from ostwald.app.dynamics.velocities import initialise_velocities, remove_momentum, remove_rotation, rescale

__all__ = [
    "MTK",
    "NVE",
    "Bussi",
    "CellModes",
    "Fault",
    "Integrator",
    "Langevin",
    "Minimum",
    "NoseHoover",
    "Ramp",
    "Unstable",
    "check_timestep",
    "diagnose",
    "initialise_velocities",
    "minimise",
    "remove_momentum",
    "remove_rotation",
    "rescale",
]
