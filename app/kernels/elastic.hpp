// Homogeneous elasticity in k-space: a stress-free strain ε* φ^ at the wave vector q relaxes by the displacement -i v φ^,
// v = A⁻¹ s, with the acoustic tensor A_ik = C_ijkl q_j q_l and s_i = σ*_ij q_j, σ* = C:ε*. Khachaturyan, Theory of Structural
// Transformations in Solids, 1983.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <limits>
#include <tuple>

#include "simd.hpp"

namespace ostwald {

// For a column of wave vectors, A and s are polynomials in q_x with coefficients in the lanes.
template <class T> struct Elasticity {
  T e0;            // ε*:C:ε*
  T stress[3][3];  // σ*
  T tensor[6][6];  // A_(ik) = Σ tensor[ik][jl] q_j q_l over jl = xx yy zz yz xz xy

  struct Column {
    vec<T> a0[6], a1[6], s0[3];
    OSTWALD_INLINE void set(const Elasticity& e, T ky, vec<T> kz) {
      for (int i = 0; i < 6; i++) {
        const T* t = e.tensor[i];
        a0[i] = t[1] * ky * ky + t[2] * kz * kz + t[3] * ky * kz;
        a1[i] = t[4] * kz + splat(t[5] * ky);
      }
      for (int i = 0; i < 3; i++) s0[i] = e.stress[i][1] * ky + e.stress[i][2] * kz;
    }
  };

  // s, the adjugate of A (xx yy zz yz xz xy) and its determinant: A⁻¹ = b/d. At q = 0 s and b are 0, d is not.
  OSTWALD_INLINE void parts(const Column& c, T kx, vec<T>* s, vec<T>* b, vec<T>& d) const {
    vec<T> a[6];
    for (int i = 0; i < 6; i++) a[i] = c.a0[i] + kx * (c.a1[i] + kx * tensor[i][0]);
    for (int i = 0; i < 3; i++) s[i] = c.s0[i] + kx * stress[i][0];
    const vec<T> &xx = a[0], &yy = a[1], &zz = a[2], &yz = a[3], &xz = a[4], &xy = a[5];
    b[0] = yy * zz - yz * yz, b[1] = xx * zz - xz * xz, b[2] = xx * yy - xy * xy;
    b[3] = xy * xz - xx * yz, b[4] = xy * yz - xz * yy, b[5] = xz * yz - xy * zz;
    d = maximum(xx * b[0] + xy * b[5] + xz * b[4], splat(std::numeric_limits<T>::min()));
  }

  // The factor of the energy, Y(q) = e0 - s·A⁻¹ s = e0 - n/d
  OSTWALD_INLINE void at(const Column& c, T kx, vec<T>& n, vec<T>& d) const {
    vec<T> s[3], b[6];
    parts(c, kx, s, b, d);
    n = s[0] * (s[0] * b[0] + T(2) * (s[1] * b[5] + s[2] * b[4])) + s[1] * (s[1] * b[1] + T(2) * s[2] * b[3]) + s[2] * s[2] * b[2];
  }
};

// A⁻¹ w = b w/d
template <class T> OSTWALD_INLINE void solve(const vec<T>* b, vec<T> d, const vec<T>* w, vec<T>* v) {
  const vec<T> over = T(1) / d;
  v[0] = over * (b[0] * w[0] + b[5] * w[1] + b[4] * w[2]);
  v[1] = over * (b[5] * w[0] + b[1] * w[1] + b[3] * w[2]);
  v[2] = over * (b[4] * w[0] + b[3] * w[1] + b[2] * w[2]);
}

// From (e0, σ* (3, 3), tensor (6, 6)) of Python.
template <class T> Elasticity<T> elasticity_of(const pybind11::object& given) {
  using Matrices = std::tuple<double, std::array<std::array<double, 3>, 3>, std::array<std::array<double, 6>, 6>>;
  const auto [e0, stress, tensor] = given.cast<Matrices>();
  Elasticity<T> moduli;
  moduli.e0 = T(e0);
  for (int i = 0; i < 3; i++)
    for (int j = 0; j < 3; j++) moduli.stress[i][j] = T(stress[i][j]);
  for (int i = 0; i < 6; i++)
    for (int j = 0; j < 6; j++) moduli.tensor[i][j] = T(tensor[i][j]);
  return moduli;
}

}  // namespace ostwald
