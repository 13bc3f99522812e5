"""Linear stability of a homogeneous mixture: growth σ(q) = -M q² (g''(φ) + ε q² + Y(n)) of a small wave (Lanzoni et al., Eq. 6.9)."""

from __future__ import annotations

import numpy as np


def softest(elasticity, directions: int = 20001) -> float:
    """The smallest Y(n) over directions n; 0 without elasticity. Directions of high symmetry are among those tried."""
    if elasticity is None:
        return 0.0
    if elasticity.dimensions == 2:
        angle = np.linspace(0, np.pi, directions)
        return float(elasticity.factor(np.cos(angle), np.sin(angle)).min())
    k = np.arange(directions) + 0.5  # a spiral: each point stands for the same area
    z, angle = 1 - 2 * k / directions, np.pi * (1 + np.sqrt(5)) * k
    r = np.sqrt(1 - z * z)
    symmetric = np.array(
        [(i, j, l) for i in (-1, 0, 1) for j in (-1, 0, 1) for l in (-1, 0, 1) if (i, j, l) != (0, 0, 0)]
    )
    points = np.concatenate([np.stack([r * np.cos(angle), r * np.sin(angle), z], -1), symmetric])
    return float(elasticity.factor(*points.T).min())


def unstable(well, stiffness: float = 0.0, low: float = 0.0, high: float = 1.0) -> tuple[float, float] | None:
    """The outermost compositions between `low` and `high` with g'' + Y < 0, Y = stiffness; None where there are none.

    To 1e-12, from a scan in 4096 steps.
    """
    phi = np.linspace(low, high, 4097)
    inside = np.flatnonzero(well.energy(phi, 2) + stiffness < 0)
    if not len(inside):
        return None
    return tuple(
        _edge(well, stiffness, phi[k], phi[min(max(k + step, 0), 4096)])
        for k, step in ((inside[0], -1), (inside[-1], 1))
    )


def _edge(well, stiffness, inside, outside) -> float:
    for _ in range(60):
        middle = 0.5 * (inside + outside)
        if well.energy(middle, 2) + stiffness < 0:
            inside = middle
        else:
            outside = middle
    return float(inside)
