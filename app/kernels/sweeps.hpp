// Sweeps over the planes and columns of a field whose Fourier transform is under way.
//
// A real field c[x][y][z] of n0 x n1 x n2 points becomes, plane by plane, complex rows [x][b][y]: row (b, y) of a plane holds kz = W b … W b + W - 1
// (W = lanes<T>; numbers beyond n2/2 are zero), first as a function of y, after the transform along y of ky. A column is one (b, ky): its
// rows lie at the same place of all planes. So the transforms along y and x work on whole rows, and only the real transform along z
// has to turn rows round: it takes 2 W lines y at a time, W of them as real and W as imaginary parts of one complex transform.
//
// A field of two dimensions [x][z] is one with n1 = 1; its lines are taken across planes.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdlib>
#include <string>
#include <utility>

#include "fft.hpp"

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace ostwald::sweeps {

namespace py = pybind11;
using fft::row;

// ---- memory and arguments ------------------------------------------------------------------------------------------------

template <class T> struct Buffer {  // of a thread
  T* data;
  explicit Buffer(int64_t n) : data(static_cast<T*>(std::aligned_alloc(128, (n * sizeof(T) + 127) / 128 * 128))) {
    if (!data) throw std::bad_alloc();
  }
  Buffer(const Buffer&) = delete;
  Buffer(Buffer&& other) noexcept : data(std::exchange(other.data, nullptr)) {}
  ~Buffer() { std::free(data); }
  operator T*() const { return data; }
};

inline void require(bool ok, const std::string& what) {
  if (!ok) throw py::value_error(what);
}

// An array of T, its last axis contiguous.
template <class T> T* elements(const py::array& a, const char* name, int dimensions, bool write) {
  require(py::isinstance<py::array_t<T>>(a), std::string(name) + " must be of the dtype of the other arrays");
  require(a.ndim() == dimensions && (a.size() == 0 || a.strides(dimensions - 1) == py::ssize_t(sizeof(T))),
          std::string(name) + " must have " + std::to_string(dimensions) + " dimensions, the last contiguous");
  require(!write || a.writeable(), std::string(name) + " must be writable");
  return static_cast<T*>(const_cast<void*>(a.data()));
}

// Complex rows of some planes.
template <class T> struct Planes {
  T* data;
  int64_t nx, stride;  // elements from plane to plane
  int ny, nz, blocks;

  Planes(const py::array& work, int ny_, int nz_, bool along_y = true)
      : ny(ny_), nz(nz_), blocks((nz_ / 2 + lanes<T>) / lanes<T>) {
    data = elements<T>(work, "work", 2, true);
    nx = work.shape(0), stride = work.strides(0) / int64_t(sizeof(T));
    require(ny > 0 && nz > 0 && work.shape(1) >= int64_t(blocks) * ny * row<T>, "work has planes too small for the grid");
    require((!along_y || fft::smooth(ny)) && fft::smooth(nz), "grid lengths must be products of 2, 3, 5 and 7");
  }
  int64_t block_stride() const { return int64_t(ny) * row<T>; }
};

// The same columns of all planes, wherever those are.
template <class T> struct Columns {
  std::vector<T*> planes;
  int64_t count = -1;

  explicit Columns(const std::vector<py::array>& slabs) {
    for (const py::array& slab : slabs) {
      T* data = elements<T>(slab, "a slab", 2, true);
      const int64_t n = slab.shape(1) / row<T>;
      require(slab.shape(1) % row<T> == 0 && (count < 0 || count == n), "slabs must have the same whole number of columns");
      count = n;
      for (py::ssize_t x = 0; x < slab.shape(0); x++) planes.push_back(data + x * (slab.strides(0) / int64_t(sizeof(T))));
    }
    require(!planes.empty() && fft::smooth(int(planes.size())), "grid lengths must be products of 2, 3, 5 and 7");
  }
  int size() const { return int(planes.size()); }
};

// A spectrum (columns, n0, 2 W).
template <class T> T* spectrum_of(const py::array& a, int64_t columns, int n) {
  T* data = elements<T>(a, "spectrum", 3, true);
  require(a.shape(0) == columns && a.shape(1) == n && a.shape(2) == row<T> && (a.flags() & py::array::c_style),
          "spectrum must be C-contiguous (columns, n0, row)");
  return data;
}

// f(double{}) or f(float{}) by the dtype of an array
template <class F> auto by_dtype(const py::array& a, F&& f) {
  if (py::isinstance<py::array_t<double>>(a)) return f(double{});
  require(py::isinstance<py::array_t<float>>(a), "arrays must be float64 or float32");
  return f(float{});
}

// Of a vector's elements, in double precision.
OSTWALD_INLINE double wide_sum(vec<double> a) { return sum(a); }
OSTWALD_INLINE double wide_sum(vec<float> a) {
  double s = 0;
  for (int k = 0; k < lanes<float>; k++) s += a[k];
  return s;
}

// ---- parts of a sweep ----------------------------------------------------------------------------------------------------

// Rows one after another; `swapped`: real and imaginary parts exchanged, for the transform with the other sign. `gap`: rows left out
// after each n/radix of them, so that the rows of a butterfly of a power of two do not meet in a set of the cache.
template <class T, bool swapped, int gap = 0> struct From {
  const T* data;
  OSTWALD_INLINE void operator()(int k, int i, vec<T>& re, vec<T>& im) const {
    const T* a = data + int64_t(k + gap * i) * row<T>;
    re = load(a + (swapped ? lanes<T> : 0)), im = load(a + (swapped ? 0 : lanes<T>));
  }
};
template <class T, bool swapped, int gap = 0> struct To {
  T* data;
  template <int R> OSTWALD_INLINE void take(int j, int stride, const vec<T>* re, const vec<T>* im) const {
#pragma GCC unroll 8
    for (int p = 0; p < R; p++) {
      T* a = data + (j + int64_t(stride + gap) * p) * row<T>;
      store(a + (swapped ? lanes<T> : 0), re[p]), store(a + (swapped ? 0 : lanes<T>), im[p]);
    }
  }
};

// A transform of n rows, from one place to another or the same.
template <class T, bool inverse> struct Rows {
  const fft::Plan<T>& plan;
  Buffer<T> buffer, scratch;
  explicit Rows(int n) : plan(fft::plan<T>(n)), buffer(plan.buffer()), scratch(plan.scratch()) {}
  void operator()(const T* in, T* out) {
    if (plan.n == 1) {
      if (in != out) std::memcpy(out, in, row<T> * sizeof(T));
      return;
    }
    fft::begin(plan, From<T, inverse>{in}, buffer.data);
    fft::finish(plan, buffer.data, scratch.data, To<T, inverse>{out});
  }
};

// Lines along z on their way: n rows [W lines | W lines]; `gap` as above, for transforms that begin with plan(n) or end with its reverse.
template <class T> struct Staging {
  Buffer<T> data;
  std::vector<int64_t> place;  // of a row, in elements
  Staging(int n, int gap) : data((n + 8) * int64_t(row<T>)) {
    const int part = fft::plan<T>(n).block_rows;
    for (int k = 0; k < n; k++) place.push_back((k + gap * (k / part)) * int64_t(row<T>));
  }
  OSTWALD_INLINE T* operator[](int k) const { return data.data + place[k]; }
};

// 2 W lines along z: complex rows in the planes on one side, [z][W lines as real | W lines as imaginary parts] on the other.
template <class T> struct Lines {
  static constexpr int W = lanes<T>, most = 2 * W;
  T* rows[most];  // of block 0; the last is repeated where there are fewer
  int count = 0;

  // The complex rows as spectrum of re + i im.
  void gather(int nz, int blocks, int64_t block_stride, const Staging<T>& z) const {
    alignas(128) T tile[4][W * W];
    for (int b = 0; b < blocks; b++) {
      for (int s = 0; s < 4; s++) {
        vec<T> t[W];
        const int64_t at = b * block_stride + (s & 1 ? W : 0);
        T* const* lines = rows + (s & 2 ? W : 0);
#pragma GCC unroll 16
        for (int i = 0; i < W; i++) t[i] = load(lines[i] + at);
        fft::transpose<T>(t);
#pragma GCC unroll 16
        for (int i = 0; i < W; i++) store(tile[s] + i * W, t[i]);
      }
      for (int i = 0, k = b * W; i < W && 2 * k <= nz; i++, k++) {
        const vec<T> ar = load(tile[0] + i * W), ai = load(tile[1] + i * W), br = load(tile[2] + i * W), bi = load(tile[3] + i * W);
        T* low = z[k];
        if (k == 0 || 2 * k == nz) {  // real, whatever rounding left in the imaginary part
          store(low, ar), store(low + W, br);
        } else {
          T* high = z[nz - k];
          store<T>(low, ar - bi), store<T>(low + W, ai + br);
          store<T>(high, ar + bi), store<T>(high + W, br - ai);
        }
      }
    }
  }

  void scatter(int nz, int blocks, int64_t block_stride, const Staging<T>& z) const {
    alignas(128) T tile[4][W * W];
    for (int b = 0; b < blocks; b++) {
      for (int i = 0, k = b * W; i < W; i++, k++) {
        vec<T> ar{}, ai{}, br{}, bi{};
        if (2 * k <= nz) {
          const T *low = z[k], *high = z[k ? nz - k : 0];
          const vec<T> fr = load(low), fi = load(low + W), gr = load(high), gi = load(high + W);
          const T half = T(0.5);
          ar = half * (fr + gr), ai = half * (fi - gi), br = half * (fi + gi), bi = half * (gr - fr);
        }
        store(tile[0] + i * W, ar), store(tile[1] + i * W, ai), store(tile[2] + i * W, br), store(tile[3] + i * W, bi);
      }
      for (int s = 0; s < 4; s++) {
        const int first = s & 2 ? W : 0;
        if (first >= count) break;
        vec<T> t[W];
        const int64_t at = b * block_stride + (s & 1 ? W : 0);
#pragma GCC unroll 16
        for (int i = 0; i < W; i++) t[i] = load(tile[s] + i * W);
        fft::transpose<T>(t);
        if (count >= first + W) {
#pragma GCC unroll 16
          for (int i = 0; i < W; i++) store(rows[first + i] + at, t[i]);
        } else {
          for (int i = 0; i < W; i++)
            if (first + i < count) store(rows[first + i] + at, t[i]);
        }
      }
    }
  }

  // Real lines lines[i][0 … nz - 1], to and from [z][2 W].
  static void gather_real(T* const* lines, int nz, const Staging<T>& z) {
    for (int s = 0; s < 2; s++)
      for (int z0 = 0; z0 < nz; z0 += W) {
        vec<T> t[W];
        const int m = std::min(W, nz - z0);
#pragma GCC unroll 16
        for (int i = 0; i < W; i++) {
          t[i] = vec<T>{};
          if (m == W) t[i] = load(lines[s * W + i] + z0);
          else std::memcpy(&t[i], lines[s * W + i] + z0, m * sizeof(T));
        }
        fft::transpose<T>(t);
        for (int i = 0; i < m; i++) store(z[z0 + i] + s * W, t[i]);
      }
  }
  static void scatter_real(T* const* lines, int count, int nz, const Staging<T>& z) {
    for (int s = 0; s < 2; s++)
      for (int z0 = 0; z0 < nz && s * W < count; z0 += W) {
        vec<T> t[W];
        const int m = std::min(W, nz - z0);
        for (int i = 0; i < W; i++) t[i] = i < m ? load(z[z0 + i] + s * W) : vec<T>{};
        fft::transpose<T>(t);
        for (int i = 0; i < W && s * W + i < count; i++) std::memcpy(lines[s * W + i] + z0, &t[i], m * sizeof(T));
      }
  }
};

// All lines of one plane, or (ny = 1) of all planes, in groups: call(lines, first line, group).
template <class T, class F> void each_group(T* first, int64_t step, int64_t lines, F&& call) {
  Lines<T> group;
  for (int64_t l = 0; l < lines; l += Lines<T>::most) {
    group.count = int(std::min<int64_t>(Lines<T>::most, lines - l));
    for (int i = 0; i < Lines<T>::most; i++) group.rows[i] = first + (l + std::min(i, group.count - 1)) * step;
    call(group, l);
  }
}

// A column in its planes.
template <class T, bool swapped> struct PlaneColumn {
  T* const* planes;
  int64_t at;
  OSTWALD_INLINE void operator()(int j, int, vec<T>& re, vec<T>& im) const {
    const T* a = planes[j] + at;
    re = load(a + (swapped ? lanes<T> : 0)), im = load(a + (swapped ? 0 : lanes<T>));
  }
  template <int R> OSTWALD_INLINE void take(int j, int stride, const vec<T>* re, const vec<T>* im) const {
#pragma GCC unroll 8
    for (int p = 0; p < R; p++) {
      T* a = planes[j + stride * p] + at;
      store(a + (swapped ? lanes<T> : 0), re[p]), store(a + (swapped ? 0 : lanes<T>), im[p]);
    }
  }
};

// What one call after another gives, in that order.
template <class T> struct InOrder {
  T *out, scale;
  template <int R> OSTWALD_INLINE void take(int, int, const vec<T>* re, const vec<T>* im) {
#pragma GCC unroll 8
    for (int p = 0; p < R; p++, out += row<T>) store<T>(out, re[p] * scale), store<T>(out + lanes<T>, im[p] * scale);
  }
};

}  // namespace ostwald::sweeps
