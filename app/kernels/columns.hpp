// What sweeps over columns of a spectrum share: columns in their planes, arguments.
#pragma once

#include "elastic.hpp"
#include "sweeps.hpp"

namespace ostwald::sweeps {

// A column in its planes.
template <class T> struct Column {
  T* const* planes;
  int64_t at;
  OSTWALD_INLINE void operator()(int j, int, vec<T>& re, vec<T>& im) const {
    const T* a = planes[j] + at;
    re = load(a), im = load(a + lanes<T>);
  }
  template <int R> OSTWALD_INLINE void take(int j, int stride, const vec<T>* re, const vec<T>* im) const {
#pragma GCC unroll 8
    for (int p = 0; p < R; p++) {
      T* a = planes[j + stride * p] + at;
      store(a, im[p]), store(a + lanes<T>, re[p]);
    }
  }
};

// Fetches the next column of the planes and of S spectra beside the butterflies of this one, a few rows at each: rows of a
// column lie a plane apart, where no processor fetches by itself, and all at once would wait for the memory.
template <class T, int S> struct Fetch {
  T* const* planes;
  int64_t at;
  const T* spectra[S];
  int some, n, i = 0;
  OSTWALD_INLINE void operator()() {
    for (int k = 0; k < some && i < n; k++, i++) {
      const T* a = planes[i] + at;
      __builtin_prefetch(a, 1, 2), __builtin_prefetch(a + lanes<T>, 1, 2);
      for (int s = 0; s < S; s++) {
        const T* b = spectra[s] + int64_t(i) * row<T>;
        __builtin_prefetch(b, 1, 2), __builtin_prefetch(b + lanes<T>, 1, 2);
      }
    }
  }
};

// Rows that each butterfly of a transform forth and back has to fetch.
template <class T> int rows_a_butterfly(const fft::Plan<T>& forth, const fft::Plan<T>& back) {
  const int n = forth.n;
  const int64_t count = forth.butterflies() + back.butterflies() - n / forth.radices.back();  // one pass is both's
  return int((n + count - 1) / count);
}

// ---- arguments ---------------------------------------------------------------------------------------------------------------

template <class T> struct Waves {
  const T *x, *y, *z, *weights;
  Elasticity<T> moduli;
  double* out = nullptr;

  Waves(int64_t columns, int n, const py::array& kx, const py::array& ky, const py::array& kz, const py::array& w,
        const py::object& elasticity, const py::object& sums)
      : x(elements<T>(kx, "kx", 1, false)), y(elements<T>(ky, "ky", 1, false)), z(elements<T>(kz, "kz", 2, false)),
        weights(elements<T>(w, "weights", 2, false)) {
    const auto rows = [&](const py::array& a) {
      return a.shape(0) == columns && a.shape(1) == lanes<T> && (a.flags() & py::array::c_style);
    };
    require(kx.shape(0) == n && ky.shape(0) == columns && rows(kz) && rows(w),
            "kx must be (n0,), ky (columns,), kz and weights C-contiguous (columns, W)");
    if (!elasticity.is_none()) moduli = elasticity_of<T>(elasticity);
    if (!sums.is_none()) {
      py::array s = py::reinterpret_borrow<py::array>(sums);
      out = elements<double>(s, "sums", 2, true);
      require(s.shape(0) == columns && s.shape(1) == 2 && (s.flags() & py::array::c_style), "sums must be C-contiguous (columns, 2)");
    }
  }
};

// f(std::true_type{}) or f(std::false_type{})
template <class F> void either(bool which, F&& f) { which ? f(std::true_type{}) : f(std::false_type{}); }

}  // namespace ostwald::sweeps
