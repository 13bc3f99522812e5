"""Crystals, fields and tensors of the elastic tests."""

import numpy as np

from ostwald.app.phasefield import CahnHilliard, cubic, double_well, elastic_field

CUBIC = cubic(3e4, 1.5e4, 3e4)  # Zener ratio 4
HARD = cubic(4e4, 1e4, 5e3)  # 1/3
VOIGT = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]


def triclinic(seed=3):
    a = np.random.default_rng(seed).normal(size=(6, 6))
    return cubic(3.0, 1.0, 1.5) + 0.2 * (a @ a.T)


def smooth(shape, spacing, seed=1, modes=4):
    """A field of the longest waves of the box, mean 0.4."""
    rng, phi = np.random.default_rng(seed), np.full(shape, 0.4)
    x = np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij"), -1)
    for _ in range(12):
        k = rng.integers(-modes, modes + 1, len(shape))
        phi += 0.1 * np.cos(2 * np.pi * (x @ k + rng.random()))
    return phi - phi.mean() + 0.4


def solver_of(world, phi, moduli, spacing, dtype=np.float64):
    solver = CahnHilliard(world, phi.shape, double_well(3.0), 3.0, spacing=spacing, elasticity=moduli, dtype=dtype)
    solver.set_field(phi)
    return solver


def tensors(solver, kind):
    """(d, d, *grid)"""
    moduli = solver.elasticity
    d = moduli.dimensions
    out = [[None] * d for _ in range(d)]
    for name in moduli.components:
        i, j = ("xyz".index(c) for c in name)
        out[i][j] = out[j][i] = elastic_field(solver, f"{kind}_{name}")
    return np.array(out)
