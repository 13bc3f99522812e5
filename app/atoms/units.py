"""Units of the project: Å, eV, ps, K, amu, GPa, e (CODATA 2018).

With these, kinetic energies and accelerations need one factor: 1 amu Å²/ps² = `MVV2E` eV.
"""

import numpy as np

BOLTZMANN = 8.617333262e-5
"""eV/K"""
MVV2E = 1.66053906660e-27 * 1e4 / 1.602176634e-19
"""amu (Å/ps)² in eV: 1.0364269656e-4"""
FORCE_TO_ACCELERATION = 1.0 / MVV2E
"""eV/(Å amu) in Å/ps²"""
GPA = 160.2176634
"""eV/Å³ in GPa"""
DENSITY = 1.66053906660
"""amu/Å³ in g/cm³"""


def thermal_speed(temperature, mass):
    """Standard deviation of one velocity component, Å/ps, at `temperature` (K) for `mass` (amu, number or array)."""
    return np.sqrt(BOLTZMANN * temperature / (mass * MVV2E))
