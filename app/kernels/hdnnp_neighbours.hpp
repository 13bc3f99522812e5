// Pass (1) of hdnnp.cpp: the neighbours of an atom, sorted by element, and what a thread keeps of one atom.
#pragma once

#include <algorithm>
#include <vector>

#include "hdnnp_functions.hpp"

namespace ostwald::hdnnp {

// Triplets of a group. Fields lie one behind the other, each `stride` numbers long, in the thread's store.
struct List {
  size_t at = 0, stride = 0, index = 0;  // where fields begin in the store, neighbours k in the list of indices
  int count = 0;
  std::vector<int> start;  // by j: the first triplet; one more than there are j
};

enum Field { S, P, F, H, R, E };  // pass 1: s, r_j² + r_k², f_j f_k, 1/(r_j r_k), r_j + r_k, then E_a
enum Kept { C = P, L = F, INVERSE = R };  // pass 2: cos theta and L(r_jk) in their place, 1/r_jk where needed

// What a thread needs; grows to the largest neighbourhood met.
template <class T> struct Work {
  using V = vec<T>;
  int elements = 0;     // of the potential
  double cutoff = 0;    // the largest
  int capacity = 0;     // slots
  std::vector<int32_t> near;
  std::vector<int> begin, count;        // segments by element: first slot, neighbours
  std::vector<int> element;             // of the near ones
  aligned_vector<int32_t> index, second;  // rows of the neighbours; slots k of the triplets
  aligned_vector<T> x, y, z, r, inverse_r, r2, d, tx, ty, tz;
  aligned_vector<T> shape, slope, rho;  // (shapes or radials, capacity): f, L, rho
  aligned_vector<T> ends8, sums8;       // (capacity, 8): 1 1 1 1 x y z 0, and by shape what is summed of it
  aligned_vector<T> store, rows;        // fields of the triplets; their rows (triplets, 8)
  aligned_vector<V> sums, values;
  aligned_vector<V> bases;              // of the harmonics: (vectors of neighbours, basis)
  aligned_vector<T> moments, field;     // A_lm: by element and density; dE/dA_lm, twice as long: b, then b kappa
  std::vector<size_t> moments_at;       // by element
  std::vector<double> squares, pull;    // by element and density: sum_j rho_j²; dE/d of it
  std::vector<List> lists;              // by group
  aligned_vector<T> value_of, slope_of; // coefficients of a group: (radials, terms)
  aligned_vector<double> g, input, gradient, dg, scratch;

  void reserve(int slots, size_t shapes, size_t radials) {
    if (slots > capacity) {
      capacity = (slots + 31) / 16 * 16;
      index.resize(capacity), ends8.resize(8 * capacity);
      for (auto* a : {&x, &y, &z, &r, &inverse_r, &r2, &d, &tx, &ty, &tz}) a->resize(capacity);
    }
    if (shape.size() < shapes * capacity) shape.resize(shapes * capacity), slope.resize(shapes * capacity);
    if (sums8.size() < 8 * shapes * capacity) sums8.resize(8 * shapes * capacity);
    if (rho.size() < radials * capacity) rho.resize(radials * capacity);
  }
};

// Lane l of (a, b, c, d) to four numbers at row + 8 l.
template <class T> OSTWALD_INLINE void store_rows(T* row, vec<T> a, vec<T> b, vec<T> c, vec<T> d) {
#if defined(OSTWALD_FLOAT8)
  if constexpr (sizeof(T) == 4) {
    const __m256d ab0 = _mm256_castps_pd(_mm256_unpacklo_ps((__m256)a, (__m256)b)), ab1 = _mm256_castps_pd(_mm256_unpackhi_ps((__m256)a, (__m256)b));
    const __m256d cd0 = _mm256_castps_pd(_mm256_unpacklo_ps((__m256)c, (__m256)d)), cd1 = _mm256_castps_pd(_mm256_unpackhi_ps((__m256)c, (__m256)d));
    const __m256 r[4] = {_mm256_castpd_ps(_mm256_unpacklo_pd(ab0, cd0)), _mm256_castpd_ps(_mm256_unpackhi_pd(ab0, cd0)),
                         _mm256_castpd_ps(_mm256_unpacklo_pd(ab1, cd1)), _mm256_castpd_ps(_mm256_unpackhi_pd(ab1, cd1))};
    for (int k = 0; k < 4; k++) {
      _mm_storeu_ps(row + 8 * k, _mm256_castps256_ps128(r[k]));
      _mm_storeu_ps(row + 8 * (k + 4), _mm256_extractf128_ps(r[k], 1));
    }
    return;
  }
#endif
#if defined(OSTWALD_AVX512)
  if constexpr (sizeof(T) == 8) {
    const __m512d ab0 = _mm512_unpacklo_pd((__m512d)a, (__m512d)b), ab1 = _mm512_unpackhi_pd((__m512d)a, (__m512d)b);
    const __m512d cd0 = _mm512_unpacklo_pd((__m512d)c, (__m512d)d), cd1 = _mm512_unpackhi_pd((__m512d)c, (__m512d)d);
    // 128-bit blocks k of ab and cd make row 2 k (low halves) or 2 k + 1 (high halves)
    const __m512d even0 = _mm512_shuffle_f64x2(ab0, cd0, 0x44), even1 = _mm512_shuffle_f64x2(ab0, cd0, 0xee);
    const __m512d odd0 = _mm512_shuffle_f64x2(ab1, cd1, 0x44), odd1 = _mm512_shuffle_f64x2(ab1, cd1, 0xee);
    const auto put = [&](int k, __m512d e) __attribute__((always_inline)) {  // blocks ab k, ab k + 1, cd k, cd k + 1
      const __m512d r = _mm512_shuffle_f64x2(e, e, 0xd8);
      _mm256_storeu_pd(row + 8 * k, _mm512_castpd512_pd256(r));
      _mm256_storeu_pd(row + 8 * (k + 2), _mm512_extractf64x4_pd(r, 1));
    };
    put(0, even0), put(4, even1), put(1, odd0), put(5, odd1);
    return;
  }
#endif
  for (int l = 0; l < lanes<T>; l++) row[8 * l] = a[l], row[8 * l + 1] = b[l], row[8 * l + 2] = c[l], row[8 * l + 3] = d[l];
}

// Lane l of (a, b, c, d, t, t, t, t) to eight numbers at row + 8 l.
template <class T> OSTWALD_INLINE void store_rows(T* row, vec<T> a, vec<T> b, vec<T> c, vec<T> d, vec<T> t) {
#if defined(OSTWALD_FLOAT8)
  if constexpr (sizeof(T) == 4) {
    const __m256d ab0 = _mm256_castps_pd(_mm256_unpacklo_ps((__m256)a, (__m256)b)), ab1 = _mm256_castps_pd(_mm256_unpackhi_ps((__m256)a, (__m256)b));
    const __m256d cd0 = _mm256_castps_pd(_mm256_unpacklo_ps((__m256)c, (__m256)d)), cd1 = _mm256_castps_pd(_mm256_unpackhi_ps((__m256)c, (__m256)d));
    const __m256 r[4] = {_mm256_castpd_ps(_mm256_unpacklo_pd(ab0, cd0)), _mm256_castpd_ps(_mm256_unpackhi_pd(ab0, cd0)),
                         _mm256_castpd_ps(_mm256_unpacklo_pd(ab1, cd1)), _mm256_castpd_ps(_mm256_unpackhi_pd(ab1, cd1))};
    const __m256 u[4] = {_mm256_permute_ps((__m256)t, 0x00), _mm256_permute_ps((__m256)t, 0x55), _mm256_permute_ps((__m256)t, 0xaa),
                         _mm256_permute_ps((__m256)t, 0xff)};
    for (int k = 0; k < 4; k++) {
      _mm256_storeu_ps(row + 8 * k, _mm256_permute2f128_ps(r[k], u[k], 0x20));
      _mm256_storeu_ps(row + 8 * (k + 4), _mm256_permute2f128_ps(r[k], u[k], 0x31));
    }
    return;
  }
#endif
  store_rows<T>(row, a, b, c, d);
  store_rows<T>(row + 4, t, t, t, t);
}

// The neighbours of atom i within the cutoff, their shapes and radial factors. reach2: square of the reach in the coarse rows.
template <class T> __attribute__((noinline)) void gather(const Call& call, const Rows& rows, const std::vector<int>& type_elements, const Centre<T>& centre,
                                                  int64_t i, float reach2, Work<T>& w) {
  using V = vec<T>;
  constexpr int W = lanes<T>, D = lanes<double>, parts = W / D;
  const int64_t from = call.offsets[i], length = call.offsets[i + 1] - from;
  const int32_t far = int32_t(call.nall);
  if (int64_t(w.near.size()) < length + 4 * lanes<float>) w.near.resize(length + 4 * lanes<float>);
  const int n = pick(rows, i, call.indices + from, length, call.indices + call.offsets[call.nlocal], reach2, far, w.near.data());
  // by element, each part padded to whole vectors
  w.begin.resize(w.elements + 1), w.count.resize(w.elements);
  w.reserve(n + (w.elements + 1) * W, centre.shapes.size(), centre.radials.size());
  w.element.resize(std::max(w.element.size(), size_t(n)));
  for (int k = 0; k < n; k++) w.element[k] = type_elements[call.types[w.near[k]]];
  int slots = 0;
  for (int e = 0; e < w.elements; e++) {
    w.begin[e] = slots;
    for (int k = 0; k < n; k++) {  // without a branch: which element comes is hard to predict
      w.index[slots] = w.near[k];
      slots += w.element[k] == e;
    }
    w.count[e] = slots - w.begin[e];
    while (slots % W) w.index[slots++] = far;
  }
  w.begin[w.elements] = slots;

  const double* c = &rows.exact[4 * i];
  const T beyond = T(1e4 * w.cutoff), limit = T(w.cutoff * w.cutoff);  // beyond: no third side is short either
  for (int s = 0; s < slots; s += W) {
    vec<double> dx[parts], dy[parts], dz[parts], t[parts];
    for (int p = 0; p < parts; p++) {
      load_rows(rows.exact.data(), 4, &w.index[s + p * D], dx[p], dy[p], dz[p], t[p]);
      dx[p] -= c[0], dy[p] -= c[1], dz[p] -= c[2];
    }
    V x = from_double<T>(dx), y = from_double<T>(dy), z = from_double<T>(dz);
    V r2 = x * x + y * y + z * z;
    const ivec<T> out = r2 >= limit;  // NaN stays in
    x = out ? splat(beyond) : x, y = out ? V{} : y, z = out ? V{} : z;
    r2 = out ? splat(beyond * beyond) : r2;
    const V inverse = rsqrt(r2), r = r2 * inverse;
    store(&w.x[s], x), store(&w.y[s], y), store(&w.z[s], z);
    store(&w.r2[s], r2), store(&w.r[s], r), store(&w.inverse_r[s], inverse);
    const V one = splat(T(1));
    store_rows<T>(&w.ends8[8 * s], one, one, one, one);
    store_rows<T>(&w.ends8[8 * s + 4], x, y, z, V{});
  }
  for (int e = 0; e < w.elements; e++) {
    for (int shape : centre.used_shapes[e])
      for (int s = w.begin[e]; s < w.begin[e + 1]; s += W) {
        V f, l;
        centre.shapes[shape].logarithmic(load(&w.r[s]), load(&w.inverse_r[s]), f, l);
        store(&w.shape[size_t(shape) * w.capacity + s], f), store(&w.slope[size_t(shape) * w.capacity + s], l);
      }
    for (int n : centre.used[e]) {
      const Radial<T>& a = centre.radials[n];
      for (int s = w.begin[e]; s < w.begin[e + 1]; s += W) {
        const V x = load(&w.r[s]) - a.shift;
        store(&w.rho[size_t(n) * w.capacity + s], exp2(-a.eta2 * x * x) * load(&w.shape[size_t(a.shape) * w.capacity + s]));
      }
    }
  }
}

}  // namespace ostwald::hdnnp
