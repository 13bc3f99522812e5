// Bulk free-energy densities g(φ) of vectors of points: g, g' and g'' at u = φ - centre.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "sweeps.hpp"

namespace ostwald::wells {

constexpr int MOST = 12;  // terms of the derivative of a polynomial

// By Horner's rule. D: terms of g', 4 known in advance (quartic wells), 0 any number.
template <class T, int D> struct Polynomial {
  int terms;
  T slope[MOST] = {};  // coefficients of g', the lowest first
  T energy[MOST + 1] = {};

  explicit Polynomial(const std::vector<double>& c) : terms(int(c.size()) - 1) {
    for (size_t k = 0; k < c.size(); k++) energy[k] = T(c[k]);
    for (size_t k = 1; k < c.size(); k++) slope[k - 1] = T(k * c[k]);
  }
  OSTWALD_INLINE vec<T> derivative(vec<T> u) const {
    const int n = D ? D : terms;
    vec<T> s = splat(slope[n - 1]);
    for (int k = n - 2; k >= 0; k--) s = s * u + slope[k];
    return s;
  }
  OSTWALD_INLINE vec<T> value(vec<T> u) const {
    const int n = D ? D : terms;
    vec<T> s = splat(energy[n]);
    for (int k = n - 1; k >= 0; k--) s = s * u + energy[k];
    return s;
  }
  OSTWALD_INLINE vec<T> curvature(vec<T> u) const {
    const int n = D ? D : terms;
    vec<T> s{};
    for (int k = n - 1; k >= 1; k--) s = s * u + T(k) * slope[k];
    return s;
  }
};

// A regular solution, g = Ω φ (1 - φ) + kT [h(φ) + h(1 - φ)], u = φ - ½. h(x) = x ln x from the cut δ on; below, the parabola that goes
// on with the same h, h' and h'', which gives h' = ln max(x, δ) + min(x, δ)/δ for all x.
template <class T> struct Logarithmic {
  T omega, kt, cut, steep;  // Ω, kT, δ, 1/δ

  explicit Logarithmic(const std::vector<double>& c) : omega(T(c[0])), kt(T(c[1])), cut(T(c[2])), steep(T(1 / c[2])) {}

  OSTWALD_INLINE vec<T> derivative(vec<T> u) const {
    const vec<T> x = T(0.5) + u, y = T(0.5) - u, d = splat(cut);
    const vec<T> logarithm = log<T>(maximum(x, d) / maximum(y, d));
    return kt * (logarithm + steep * (minimum(x, d) - minimum(y, d))) - T(2) * omega * u;
  }
  OSTWALD_INLINE vec<T> value(vec<T> u) const {
    return omega * (T(0.25) - u * u) + kt * (entropy(T(0.5) + u) + entropy(T(0.5) - u));
  }
  OSTWALD_INLINE vec<T> curvature(vec<T> u) const {
    const vec<T> d = splat(cut);
    return kt * (T(1) / maximum(T(0.5) + u, d) + T(1) / maximum(T(0.5) - u, d)) - T(2) * omega;
  }

 private:
  OSTWALD_INLINE vec<T> entropy(vec<T> x) const {
    const vec<T> d = splat(cut), beyond = minimum(x, d) - d;
    return x * log<T>(maximum(x, d)) + beyond * (T(1) + T(0.5) * steep * beyond);
  }
};

// What Python's wells give: their kind and its numbers.
using Terms = std::pair<std::string, std::vector<double>>;

// f(the well of these terms, for vectors of T)
template <class T, class F> void with_well(const Terms& terms, F&& f) {
  const auto& [kind, numbers] = terms;
  if (kind == "logarithmic") {
    sweeps::require(numbers.size() == 3, "a logarithmic well has 3 numbers");
    f(Logarithmic<T>(numbers));
  } else {
    sweeps::require(kind == "polynomial", "a well is polynomial or logarithmic");
    sweeps::require(numbers.size() >= 2 && numbers.size() <= MOST + 1, "a polynomial well has 2 to 13 coefficients");
    numbers.size() == 5 ? f(Polynomial<T, 4>(numbers)) : f(Polynomial<T, 0>(numbers));
  }
}

}  // namespace ostwald::wells
