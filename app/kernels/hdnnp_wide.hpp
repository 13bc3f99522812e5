// Wide angular functions of whole zeta without pairs: (1 + lambda c)^zeta = sum_l a_l P_l(c) and the addition theorem
// P_l(u·v) = sum_m y_lm(u) y_lm(v) turn the sum over pairs into squares of A_lm = sum_j rho_j y_lm(u_j),
//
//   G = w [ sum_l a_l sum_m A_lm² - (1 + lambda)^zeta sum_j rho_j² ] / 2      (two neighbours of one element; the pairs j = j leave)
//   G = w   sum_l a_l sum_m A_lm B_lm                                         (of two elements)
//
// and forces into sum_lm (dE/dA_lm) grad(rho_j y_lm(u_j)): the work grows with the number of neighbours, not of pairs.
//
// y_lm = t_lm(z) Re, Im (x + iy)^m with t_lm = sqrt((2 - delta_m0) (l - m)!/(l + m)!) d^m P_l(z)/dz^m, by upward recursion in l.
#pragma once

#include <cmath>
#include <type_traits>
#include <vector>

#include "manybody.hpp"

namespace ostwald::hdnnp {

constexpr int largest_degree = 8;  // beyond, pairs are the faster way

// a_l of (1 + lambda x)^zeta, lambda = 1 or -1: (2l + 1) 2^zeta (zeta!)² / ((zeta - l)! (zeta + l + 1)!) lambda^l
inline double legendre_coefficient(int zeta, int l, double lambda) {
  if (l > zeta) return 0;
  const double logarithm = 2 * std::lgamma(zeta + 1.0) - std::lgamma(zeta - l + 1.0) - std::lgamma(zeta + l + 2.0);
  return (2 * l + 1) * std::exp2(zeta) * std::exp(logarithm) * (lambda < 0 && l % 2 ? -1 : 1);
}

// The harmonics up to degree L. Of each pair (l, m) one number t, by m, then l; of y first m = 0, then for each m all
// cosines and all sines.
template <class T, int L> struct Harmonics {
  static constexpr int pairs = (L + 1) * (L + 2) / 2, count = (L + 1) * (L + 1);
  static constexpr int padded = (count + 7) / 8 * 8;
  static constexpr int basis = pairs + 2 * L;  // vectors kept: t, then cosines and sines of m = 1 .. L
  static constexpr int t_begin(int m) { return m * (L + 1) - m * (m - 1) / 2; }             // t_lm is at t_begin(m) + l - m
  static constexpr int y_begin(int m) { return m == 0 ? 0 : (L + 1) + (m - 1) * (2 * L + 2 - m); }  // its cosine; its sine L - m + 1 later

  struct Tables {
    T alpha[pairs], beta[pairs], start[L + 1];
    double kappa[count];  // dt_lm/dz = kappa t_l(m+1), in the order of y
    int degree[count];    // l, in the order of y
    Tables() {
      const auto norm = [](int l, int m) {
        return std::sqrt((m ? 2.0 : 1.0) * std::exp(std::lgamma(l - m + 1.0) - std::lgamma(l + m + 1.0)));
      };
      double odd = 1;  // (2m - 1)!!
      for (int m = 0; m <= L; m++) {
        if (m) odd *= 2 * m - 1;
        start[m] = T(norm(m, m) * odd);
        for (int l = m; l <= L; l++) {
          const int at = t_begin(m) + l - m, y = y_begin(m) + l - m;
          alpha[at] = l > m ? T((2 * l - 1.0) / (l - m) * norm(l, m) / norm(l - 1, m)) : T(0);
          beta[at] = l > m + 1 ? T((l + m - 1.0) / (l - m) * norm(l, m) / norm(l - 2, m)) : T(0);
          const double k = l > m ? norm(l, m) / norm(l, m + 1) : 0;
          degree[y] = l, kappa[y] = k;
          if (m) degree[y + L - m + 1] = l, kappa[y + L - m + 1] = k;
        }
      }
    }
  };
  static const Tables& tables() {
    static const Tables once;
    return once;
  }

  static OSTWALD_INLINE void evaluate(const Tables& tab, vec<T> x, vec<T> y, vec<T> z, vec<T>* out) {
#pragma GCC unroll 9
    for (int m = 0; m <= L; m++) {
      vec<T>* t = out + t_begin(m);
      t[0] = splat(tab.start[m]);
      if (m < L) t[1] = (tab.alpha[t_begin(m) + 1] * tab.start[m]) * z;
#pragma GCC unroll 9
      for (int k = 2; k <= L - m; k++) t[k] = tab.alpha[t_begin(m) + k] * z * t[k - 1] - tab.beta[t_begin(m) + k] * t[k - 2];
    }
    if constexpr (L > 0) {
      vec<T> c = x, s = y;
#pragma GCC unroll 9
      for (int m = 1; m <= L; m++) {
        out[pairs + 2 * (m - 1)] = c, out[pairs + 2 * (m - 1) + 1] = s;
        const vec<T> next = c * x - s * y;
        s = c * y + s * x, c = next;
      }
    }
  }

  // sums (count vectors) += rho y over the vectors v of neighbours, whose bases begin at out + v * basis.
  static OSTWALD_INLINE void accumulate(const vec<T>* bases, const T* rho, int vectors, vec<T>* sums) {
    constexpr int W = lanes<T>;
#pragma GCC unroll 9
    for (int m = 0; m <= L; m++) {
      constexpr int most = L + 1;
      vec<T> c[most], s[most];
      for (int k = 0; k <= L - m; k++) c[k] = s[k] = vec<T>{};
      for (int v = 0; v < vectors; v++) {
        const vec<T>* basis_v = bases + size_t(v) * basis;
        const vec<T> r = load(rho + v * W);
        const vec<T>* t = basis_v + t_begin(m);
        if (m == 0) {
#pragma GCC unroll 9
          for (int k = 0; k <= L; k++) c[k] += r * t[k];
        } else {
          const vec<T> rc = r * basis_v[pairs + 2 * (m - 1)], rs = r * basis_v[pairs + 2 * (m - 1) + 1];
#pragma GCC unroll 9
          for (int k = 0; k <= L - m; k++) c[k] += rc * t[k], s[k] += rs * t[k];
        }
      }
      for (int k = 0; k <= L - m; k++) {
        sums[y_begin(m) + k] = c[k];
        if (m) sums[y_begin(m) + L - m + 1 + k] = s[k];
      }
    }
  }

  // For one vector of neighbours: value[d] = sum over y of b[d] y, and (gx, gy, gz) = sum over d of rho[d] times its gradient by
  // (x, y, z) as a polynomial. b: by density, 2 padded numbers: b, then b kappa.
  template <class Rho> static OSTWALD_INLINE void gradient(const vec<T>* basis_v, const T* b, int densities, Rho&& rho, vec<T>* value, vec<T>& gx, vec<T>& gy, vec<T>& gz) {
    using V = vec<T>;
    gx = gy = gz = V{};
#pragma GCC unroll 9
    for (int m = 0; m <= L; m++) {
      const V* t = basis_v + t_begin(m);
      const V* above = basis_v + t_begin(m + 1);  // t_l(m+1) for l > m
      const V c = m ? basis_v[pairs + 2 * (m - 1)] : splat(T(1)), s = m ? basis_v[pairs + 2 * (m - 1) + 1] : V{};
      V cx{}, sx{}, cz{}, sz{};
      for (int d = 0; d < densities; d++) {
        const T* bc = b + d * 2 * padded + y_begin(m);
        const T *bs = bc + (L - m + 1), *kc = bc + padded, *ks = bs + padded;
        V x = bc[0] * t[0], w{}, xz{}, wz{};
        if (m) w = bs[0] * t[0];
#pragma GCC unroll 9
        for (int k = 1; k <= L - m; k++) {
          x += bc[k] * t[k], xz += kc[k] * above[k - 1];
          if (m) w += bs[k] * t[k], wz += ks[k] * above[k - 1];
        }
        const V r = rho(d);
        if (m == 0) {
          value[d] = x;
          cz += r * xz;
        } else {
          value[d] += x * c + w * s;
          cx += r * x, sx += r * w, cz += r * xz, sz += r * wz;
        }
      }
      if (m == 0) {
        gz += cz;
      } else {
        gz += cz * c + sz * s;
        // d(x + iy)^m = m (x + iy)^(m-1) (dx + i dy)
        const V c1 = m > 1 ? basis_v[pairs + 2 * (m - 2)] : splat(T(1)), s1 = m > 1 ? basis_v[pairs + 2 * (m - 2) + 1] : V{};
        gx += T(m) * (cx * c1 + sx * s1);
        gy += T(m) * (sx * c1 - cx * s1);
      }
    }
  }
};

// The sums over the lanes of eight vectors.
template <class T> OSTWALD_INLINE void lane_sums(const vec<T>* a, T* out) {
#if defined(OSTWALD_FLOAT8)
  if constexpr (sizeof(T) == 4) {
    const auto two = [&](int k) __attribute__((always_inline)) {
      return _mm256_castps_pd(_mm256_add_ps(_mm256_unpacklo_ps((__m256)a[k], (__m256)a[k + 1]), _mm256_unpackhi_ps((__m256)a[k], (__m256)a[k + 1])));
    };
    const auto four = [&](int k) __attribute__((always_inline)) {  // sums of a[k .. k + 3] over half of the lanes, twice
      const __m256d p = two(k), q = two(k + 2);
      return _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(p, q)), _mm256_castpd_ps(_mm256_unpackhi_pd(p, q)));
    };
    const __m256 low = four(0), high = four(4);
    _mm256_storeu_ps(out, _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31)));
    return;
  }
#endif
#if defined(OSTWALD_AVX512)
  if constexpr (sizeof(T) == 8) {
    const auto two = [&](int k) __attribute__((always_inline)) {
      return _mm512_add_pd(_mm512_unpacklo_pd((__m512d)a[k], (__m512d)a[k + 1]), _mm512_unpackhi_pd((__m512d)a[k], (__m512d)a[k + 1]));
    };
    const auto four = [&](int k) __attribute__((always_inline)) {
      const __m512d p = two(k), q = two(k + 2);  // quarters: pairs of sums
      return _mm512_add_pd(_mm512_shuffle_f64x2(p, q, 0x88), _mm512_shuffle_f64x2(p, q, 0xdd));
    };
    const __m512d p = four(0), q = four(4);
    _mm512_storeu_pd(out, _mm512_add_pd(_mm512_shuffle_f64x2(p, q, 0x88), _mm512_shuffle_f64x2(p, q, 0xdd)));
    return;
  }
#endif
  for (int k = 0; k < 8; k++) out[k] = sum(a[k]);
}

// The smallest compiled degree that is at least `degree`: function(integral_constant).
template <class Function> OSTWALD_INLINE void with_degree(int degree, Function&& function) {
  if (degree <= 1) function(std::integral_constant<int, 1>{});
  else if (degree <= 2) function(std::integral_constant<int, 2>{});
  else if (degree <= 4) function(std::integral_constant<int, 4>{});
  else if (degree <= 6) function(std::integral_constant<int, 6>{});
  else function(std::integral_constant<int, largest_degree>{});
}

// Functions of one pair of elements and one radial factor.
struct WidePair {
  int first, second;              // elements
  int first_density, second_density;
  std::vector<int> functions;
  aligned_vector<double> coefficient;  // (functions, padded number of harmonics): w a_l, halved where first is second
  std::vector<double> self;         // by function: of sum_j rho_j²
};

struct Wide {
  int degree = 0;                            // compiled degree; 0: no such functions
  std::vector<std::vector<int>> densities;   // by element: radials
  std::vector<WidePair> pairs;
};

}  // namespace ostwald::hdnnp
