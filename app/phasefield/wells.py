"""Bulk free-energy densities g(φ)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TERMS = 12  # the largest degree that the kernel takes


@dataclass(frozen=True)
class Well:
    """A polynomial g = Σ c_k u^k of u = φ - centre, k = 0 … degree; the degree is 1 to 12.

    Expanded about a point between the minima, such polynomials lose no digits.
    """

    centre: float
    coefficients: tuple[float, ...]

    def __post_init__(self):
        object.__setattr__(self, "centre", float(self.centre))
        object.__setattr__(self, "coefficients", tuple(float(c) for c in self.coefficients))
        if not 2 <= len(self.coefficients) <= TERMS + 1:
            raise ValueError(f"a polynomial well has 2 to {TERMS + 1} coefficients, not {len(self.coefficients)}")
        if not np.isfinite([self.centre, *self.coefficients]).all():
            raise ValueError("the coefficients of a well must be finite")

    def energy(self, phi, derivative: int = 0):
        """g, or its first, second, … derivative, at φ."""
        polynomial = np.polynomial.Polynomial(self.coefficients)
        return (polynomial.deriv(derivative) if derivative else polynomial)(np.asarray(phi) - self.centre)

    def minima(self) -> list[float]:
        """Where g has its minima, ascending."""
        slope = np.polynomial.Polynomial(self.coefficients).deriv()
        roots = [float(r.real) for r in slope.roots() if abs(r.imag) < 1e-12 * (1 + abs(r.real))]
        return sorted(r + self.centre for r in roots if slope.deriv()(r) > 0)

    def spinodal(self) -> list[float]:
        """Where g'' changes its sign, ascending."""
        roots = np.polynomial.Polynomial(self.coefficients).deriv(2).roots()
        return sorted(float(r.real) + self.centre for r in roots if abs(r.imag) < 1e-12 * (1 + abs(r.real)))


def quartic_well(height: float, low: float, high: float) -> Well:
    """g = height (φ - low)² (high - φ)²; PFHub's benchmark 1 has height 5, low 0.3, high 0.7."""
    if not low < high:
        raise ValueError(f"the minima of a well must ascend, not {low}, {high}")
    half = 0.5 * (high - low)  # (u + half)² (half - u)² = (half² - u²)²
    return Well(0.5 * (low + high), (height * half**4, 0.0, -2 * height * half**2, 0.0, height))


def double_well(epsilon: float) -> Well:
    """g = (18/ε) φ² (1 - φ)²: with ε/2 |∇φ|² an interface of energy 1 and profile ½ (1 + tanh 3x/ε)."""
    if not epsilon > 0:
        raise ValueError(f"the width ε of an interface must be positive, not {epsilon}")
    return quartic_well(18 / epsilon, 0.0, 1.0)
