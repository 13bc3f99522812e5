"""Bulk free-energy densities g(φ).

A well has `centre`, a value of φ in its middle; energy(φ, derivative); minima() and spinodal(), ascending; and kernel(), its kind and
numbers as the kernels take them (wells.hpp), for u = φ - centre.
"""

from __future__ import annotations

import math
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

    def kernel(self) -> tuple[str, list[float]]:
        return "polynomial", list(self.coefficients)


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


@dataclass(frozen=True)
class RegularSolution:
    """g = Ω φ(1-φ) + kT [φ ln φ + (1-φ) ln(1-φ)]: the composition φ of a solid solution of interaction Ω at the temperature kT.

    It decomposes below kT = Ω/2, within the spinodal φ(1-φ) = kT/2Ω, into phases whose g' = Ω(1-2φ) + kT ln(φ/(1-φ)) is 0.

    cut: δ. Where φ, or 1-φ, is below δ, its x ln x is replaced by the parabola that goes on with the same value, slope and
    curvature: g is defined for every φ, twice differentiable, and g'' is nowhere above kT (1/δ + 1) - 2Ω, which bounds the
    time step. δ must lie below kT/2Ω, or g would have no lower bound, and should lie below the minima.
    """

    omega: float
    temperature: float
    cut: float = 1e-3

    centre = 0.5

    def __post_init__(self):
        for name in ("omega", "temperature", "cut"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if not np.isfinite([self.omega, self.temperature]).all() or not self.temperature > 0:
            raise ValueError(
                f"a regular solution has a finite Ω and a kT above 0, not {self.omega:g}, {self.temperature:g}"
            )
        most = 0.5 if self.omega <= self.temperature else 0.5 * self.temperature / self.omega
        if not 0 < self.cut < most:
            raise ValueError(f"the cut of a regular solution must lie between 0 and {most:.6g}, not {self.cut:g}")

    @property
    def decomposes(self) -> bool:
        return self.omega > 2 * self.temperature

    def energy(self, phi, derivative: int = 0):
        """g, g' or g'' (derivative 0, 1, 2) at φ."""
        if derivative not in (0, 1, 2):
            raise ValueError(f"a regular solution has no continuous derivative {derivative}")
        phi = np.asarray(phi, float)
        omega, sign = [(phi * (1 - phi), 1), (1 - 2 * phi, -1), (-2.0, 1)][derivative]
        both = self._entropy(phi, derivative) + sign * self._entropy(1 - phi, derivative)
        return self.omega * omega + self.temperature * both

    def _entropy(self, x, derivative):
        """h, h' or h'': x ln x from the cut on, a parabola below."""
        inside, beyond = np.maximum(x, self.cut), np.minimum(x - self.cut, 0.0)
        if derivative == 0:
            return x * np.log(inside) + beyond * (1 + 0.5 * beyond / self.cut)
        return np.log(inside) + 1 + beyond / self.cut if derivative == 1 else 1 / inside

    def minima(self) -> list[float]:
        """The compositions of the phases, or the middle where there is one phase."""
        if not self.decomposes:
            return [self.centre]
        low, high = self.cut, self.spinodal()[0]  # g' rises up to the spinodal
        while self.energy(low, 1) > 0:
            low -= 1.0
        while (middle := 0.5 * (low + high)) not in (low, high):
            low, high = (middle, high) if self.energy(middle, 1) < 0 else (low, middle)
        return [middle, 1 - middle]

    def spinodal(self) -> list[float]:
        """Where g'' changes its sign, ascending."""
        if not self.decomposes:
            return []
        ratio = 2 * self.temperature / self.omega
        low = 0.5 * ratio / (1 + math.sqrt(1 - ratio))  # ½ (1 - √(1 - ratio)), without a difference of equal numbers
        return [low, 1 - low]

    def kernel(self) -> tuple[str, list[float]]:
        return "logarithmic", [self.omega, self.temperature, self.cut]
