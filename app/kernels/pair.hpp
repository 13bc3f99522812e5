// What pair-wise kernels share: packed rows of atoms, neighbours inside the cutoff, force rows, sums.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdlib>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(_OPENMP)
#include <omp.h>
#endif

#define OSTWALD_HALF_WIDTH_FLOAT 1  // most atoms have few times eight neighbours
#include "simd.hpp"

namespace ostwald {

namespace py = pybind11;

// What is asked of a call, so that a step that needs forces only computes nothing else.
enum class Want { forces, virial, all };

// Scratch memory aligned to cache lines; keeps its capacity, loses its contents when it grows.
template <class T> class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  Scratch(Scratch&& other) noexcept : p_(other.p_), capacity_(other.capacity_) { other.p_ = nullptr, other.capacity_ = 0; }
  ~Scratch() { std::free(p_); }
  T* need(size_t n) {
    if (n > capacity_) {
      std::free(p_);
      capacity_ = 0;
      const size_t grown = n + n / 16 + 64;
      p_ = static_cast<T*>(std::aligned_alloc(64, (grown * sizeof(T) + 63) / 64 * 64));
      if (!p_) throw std::bad_alloc();
      capacity_ = grown;
    }
    return p_;
  }
  T* data() { return p_; }
  const T* data() const { return p_; }

 private:
  T* p_ = nullptr;
  size_t capacity_ = 0;
};

// The arrays of a call, checked.
struct Atoms {
  const double* x;
  const int32_t* type;
  const int64_t* offsets;
  const int32_t* indices;
  int64_t nlocal, nall;
  bool half;
};

template <class T> T* array_of(const py::array& a, int64_t rows, int64_t columns, const char* name, bool write = false) {
  const bool shape = columns == 1 ? a.ndim() == 1 : a.ndim() == 2 && a.shape(1) == columns;
  if (!py::isinstance<py::array_t<T, py::array::c_style>>(a) || !shape || a.shape(0) < rows || (write && !a.writeable()))
    throw std::invalid_argument(std::string(name) + " must be a " + (write ? "writable " : "") + "C-contiguous array of " +
                                std::string(py::str(py::dtype::of<T>())) + ", at least " + std::to_string(rows) + " rows" +
                                (columns == 1 ? "" : " of " + std::to_string(columns)));
  return static_cast<T*>(const_cast<void*>(a.data()));
}

template <class T> T* optional_array(const py::object& a, int64_t rows, int64_t columns, const char* name) {
  return a.is_none() ? nullptr : array_of<T>(py::array(py::reinterpret_borrow<py::object>(a)), rows, columns, name, true);
}

inline Atoms atoms_of(const py::array& positions, const py::array& types, int64_t nlocal, const py::array& offsets,
                      const py::array& indices, bool half) {
  Atoms a;
  a.nall = types.ndim() == 1 ? types.shape(0) : -1;
  if (nlocal < 0 || nlocal > a.nall) throw std::invalid_argument("nlocal must lie between 0 and the number of types");
  a.nlocal = nlocal;
  a.half = half;
  a.x = array_of<double>(positions, a.nall, 3, "positions");
  a.type = array_of<int32_t>(types, a.nall, 1, "types");
  a.offsets = array_of<int64_t>(offsets, nlocal + 1, 1, "offsets");
  a.indices = array_of<int32_t>(indices, a.offsets[nlocal], 1, "indices");
  return a;
}

constexpr int spare = 16;  // rows beyond the last one, for the empty lanes of a vector to read and write

// Rows of (x, y, z, w) as the kernels read them; w is any 64 or 32 bits. Double: the coordinates themselves.
template <class T> class Packed;

template <> class Packed<double> {
 public:
  using Bits = int64_t;

  // NaN or infinite coordinates: returns NaN, else 0. ValueError where a type is not below ntypes.
  double pack(const Atoms& a, int ntypes) {
    double* p = rows_.need(size_t(a.nall + spare) * 4);
    double finite = 0;
    uint32_t most = 0;
    for (int64_t i = 0; i < a.nall; i++, p += 4) {
      const double* x = a.x + 3 * i;
      p[0] = x[0], p[1] = x[1], p[2] = x[2];
      finite += (x[0] + x[1] + x[2]) * 0.0;
      const int64_t t = a.type[i];
      most = uint32_t(t) > most ? uint32_t(t) : most;
      std::memcpy(p + 3, &t, sizeof t);
    }
    std::memset(p, 0, spare * 4 * sizeof *p);
    if (a.nall && most >= uint32_t(ntypes)) throw std::invalid_argument("an atom's type lies outside the potential's species");
    return finite;
  }

  // The number v in place of the bits, with the type (below 64) in its six lowest bits: 1e-14 relative.
  void set_tagged(const Atoms& a, const double* v, bool tag) {
    double* p = rows_.data();
    for (int64_t i = 0; i < a.nall; i++) {
      int64_t bits;
      std::memcpy(&bits, v + i, sizeof bits);
      if (tag) bits = (bits & ~int64_t(63)) | a.type[i];
      std::memcpy(p + 4 * i + 3, &bits, sizeof bits);
    }
  }
  vec<double> number(vec<double> w, bool tag) const { return tag ? (vec<double>)((ivec<double>)w & ~int64_t(63)) : w; }
  ivec<double> tag(vec<double> w) const { return (ivec<double>)w & int64_t(63); }
  double number(int64_t i, const double* v) const { return v[i]; }

  struct Centre { double x, y, z; };
  Centre centre(int64_t i) const {
    const double* p = rows_.data() + 4 * i;
    return {p[0], p[1], p[2]};
  }
  template <class I>
  OSTWALD_INLINE void displacement(const Centre& c, const I* j, vec<double>& dx, vec<double>& dy, vec<double>& dz, vec<double>& w) const {
    vec<double> x, y, z;
    load_rows(rows_.data(), 4, j, x, y, z, w);
    dx = c.x - x, dy = c.y - y, dz = c.z - z;
  }

 private:
  Scratch<double> rows_;
};

// Mixed precision: fixed-point coordinates over the bounding box (a 2^-31st of its longest edge, 5e-8 Å in 100 Å), so
// that the difference of two is exact before it becomes a float.
template <> class Packed<float> {
 public:
  using Bits = int32_t;

  double pack(const Atoms& a, int ntypes) {
    int32_t* p = rows_.need(size_t(a.nall + spare) * 4);
    const double inf = std::numeric_limits<double>::infinity();
    double lo[3] = {inf, inf, inf}, hi[3] = {-inf, -inf, -inf}, finite = 0;
    for (int64_t i = 0; i < a.nall; i++)
      for (int d = 0; d < 3; d++) {
        const double x = a.x[3 * i + d];
        lo[d] = x < lo[d] ? x : lo[d], hi[d] = x > hi[d] ? x : hi[d];
        finite += x * 0.0;
      }
    double extent = 0;
    for (int d = 0; d < 3; d++) extent = hi[d] - lo[d] > extent ? hi[d] - lo[d] : extent;
    if (!(extent < inf)) extent = 0, finite = std::numeric_limits<double>::quiet_NaN();
    const double steps = 2147483000.0;
    const double inverse = extent > 0 ? steps / extent : 0.0;
    step_ = float(extent / steps + finite);
    uint32_t most = 0;
    for (int64_t i = 0; i < a.nall; i++, p += 4) {
      const double* x = a.x + 3 * i;
      for (int d = 0; d < 3; d++) p[d] = finite == 0 ? int32_t((x[d] - lo[d]) * inverse + 0.5) : 0;
      p[3] = a.type[i];
      most = uint32_t(a.type[i]) > most ? uint32_t(a.type[i]) : most;
    }
    std::memset(p, 0, spare * 4 * sizeof *p);
    if (a.nall && most >= uint32_t(ntypes)) throw std::invalid_argument("an atom's type lies outside the potential's species");
    return finite;
  }

  // The number v as a float, or, beside a tag, in 25 bits between the smallest and largest of all rows.
  void set_tagged(const Atoms& a, const double* v, bool tag) {
    int32_t* p = rows_.data();
    if (!tag) {
      for (int64_t i = 0; i < a.nall; i++) {
        const float f = float(v[i]);
        std::memcpy(p + 4 * i + 3, &f, sizeof f);
      }
      return;
    }
    double lo = std::numeric_limits<double>::infinity(), hi = -lo, finite = 0;
    for (int64_t i = 0; i < a.nall; i++) {
      lo = v[i] < lo ? v[i] : lo, hi = v[i] > hi ? v[i] : hi;
      finite += v[i] * 0.0;
    }
    const double range = hi > lo ? hi - lo : 1.0, inverse = finite == 0 ? 33554430.0 / range : 0.0;
    number_low_ = float(a.nall ? lo + finite : 0.0), number_step_ = float(range / 33554430.0);
    for (int64_t i = 0; i < a.nall; i++)
      p[4 * i + 3] = int32_t(finite == 0 ? (v[i] - lo) * inverse + 0.5 : 0.0) << 6 | a.type[i];
  }
  vec<float> number(vec<float> w, bool tag) const {
    return tag ? to_real((ivec<float>)w >> 6) * number_step_ + number_low_ : w;
  }
  ivec<float> tag(vec<float> w) const { return (ivec<float>)w & 63; }

  struct Centre { int32_t x, y, z; };
  Centre centre(int64_t i) const {
    const int32_t* p = rows_.data() + 4 * i;
    return {p[0], p[1], p[2]};
  }
  template <class I>
  OSTWALD_INLINE void displacement(const Centre& c, const I* j, vec<float>& dx, vec<float>& dy, vec<float>& dz, vec<float>& w) const {
    ivec<float> x, y, z, bits;
    load_rows(rows_.data(), 4, j, x, y, z, bits);
    dx = to_real(c.x - x) * step_, dy = to_real(c.y - y) * step_, dz = to_real(c.z - z) * step_;
    w = (vec<float>)bits;
  }

 private:
  Scratch<int32_t> rows_;
  float step_ = 0, number_low_ = 0, number_step_ = 0;
};

// A sum in double over any number of vectors.
template <class T> class Total;
template <> class Total<double> {
 public:
  OSTWALD_INLINE void add(vec<double> a) { a_ += a; }
  double value() const { return sum(a_); }

 private:
  vec<double> a_{};
};
template <> class Total<float> {
 public:
  OSTWALD_INLINE void add(vec<float> a) {
#if defined(OSTWALD_FLOAT8)
    a_ += (vec<double>)_mm512_cvtps_pd((__m256)a);
#elif defined(OSTWALD_FLOAT16)
    a_ += (vec<double>)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)a));
    b_ += (vec<double>)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)a, 1));
#else
    a_[0] += sum_double(a);
#endif
  }
  double value() const { return sum(a_ + b_); }

 private:
  vec<double> a_{}, b_{};
};

// Which lanes of j are rows below the limit.
template <class T> OSTWALD_INLINE bits_t below(const int32_t* j, int64_t limit) {
#if defined(OSTWALD_AVX512)
  if constexpr (lanes<T> == 8)
    return _mm256_cmplt_epi32_mask(_mm256_loadu_si256((const __m256i*)j), _mm256_set1_epi32(int32_t(limit)));
  else
    return _mm512_cmplt_epi32_mask(_mm512_loadu_si512(j), _mm512_set1_epi32(int32_t(limit)));
#else
  bits_t m = 0;
  for (int k = 0; k < lanes<T>; k++) m |= bits_t(j[k] < limit) << k;
  return m;
#endif
}

// Rows nall, nall + 1, ... for the lanes behind the last neighbour: each lane its own, so that they do not wait for
// each other.
template <class T> OSTWALD_INLINE index_vec<T> spare_rows(int64_t nall) {
  index_vec<T> j;
  for (int k = 0; k < lanes<T>; k++) j[k] = int32_t(nall) + k;
  return j;
}
template <class T> OSTWALD_INLINE void store_index(int32_t* p, index_vec<T> j) { std::memcpy(p, &j, sizeof j); }

// table[index] in each lane; n numbers, padded to whole vectors.
OSTWALD_INLINE vec<double> lookup(const double* table, int n, ivec<double> index) {
#if defined(OSTWALD_AVX512)
  if (n <= 8) return (vec<double>)_mm512_permutexvar_pd((__m512i)index, _mm512_loadu_pd(table));
#endif
  (void)n;
  vec<double> r;
  for (int k = 0; k < lanes<double>; k++) r[k] = table[index[k]];
  return r;
}
OSTWALD_INLINE vec<float> lookup(const float* table, int n, ivec<float> index) {
#if defined(OSTWALD_FLOAT8)
  if (n <= 8) return (vec<float>)_mm256_permutevar8x32_ps(_mm256_loadu_ps(table), (__m256i)index);
#elif defined(OSTWALD_FLOAT16)
  if (n <= 16) return (vec<float>)_mm512_permutexvar_ps((__m512i)index, _mm512_loadu_ps(table));
#endif
  (void)n;
  vec<float> r;
  for (int k = 0; k < lanes<float>; k++) r[k] = table[index[k]];
  return r;
}

constexpr int chunk = 512;  // neighbours of an atom handled at a time

// Runs body(thread, first, last) over the local rows; threads get adjacent ranges.
template <class Body> void over_rows(int64_t n, int threads, Body body) {
#if defined(_OPENMP)
  if (threads > 1) {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int t = 0; t < threads; t++) body(t, n * t / threads, n * (t + 1) / threads);
    return;
  }
#endif
  body(0, int64_t(0), n);
}

// Where pair forces go: with a half list, rows of (fx, fy, fz, energy) for every thread and every row; with a full one
// straight to the caller's array.
class Forces {
 public:
  void begin(const Atoms& a, int threads) {
    if (!a.half) return;
    threads_ = threads, nall_ = size_t(a.nall + spare);
    rows_.need(nall_ * 4 * size_t(threads));
    over_rows(threads, threads, [&](int, int64_t lo, int64_t hi) {
      for (int64_t t = lo; t < hi; t++) std::memset(of(int(t)), 0, nall_ * 4 * sizeof(double));
    });
  }
  double* of(int thread) { return rows_.data() + nall_ * 4 * size_t(thread); }
  void end(const Atoms& a, double* forces, double* energies) {
    if (!a.half) return;
    over_rows(a.nlocal, threads_, [&](int, int64_t lo, int64_t hi) {
      for (int64_t i = lo; i < hi; i++) {
        const double* p = rows_.data() + 4 * i;
        double f[4] = {p[0], p[1], p[2], p[3]};
        for (int t = 1; t < threads_; t++)
          for (int d = 0; d < 4; d++) f[d] += p[size_t(t) * nall_ * 4 + size_t(d)];
        for (int d = 0; d < 3; d++) forces[3 * i + d] += f[d];
        if (energies) energies[i] += f[3];
      }
    });
  }

 private:
  Scratch<double> rows_;
  int threads_ = 1;
  size_t nall_ = 0;
};

}  // namespace ostwald
