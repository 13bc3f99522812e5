// One-dimensional Fourier transforms of lanes<T> columns at once, for lengths 2^a 3^b 5^c 7^d.
//
// A row is lanes<T> complex numbers of as many columns: first all real parts, then all imaginary parts (row<T> elements). A transform
// is X[k] = Σ_j x[j] exp(-2πi jk/n). There is no code for the other sign: exchanging real and imaginary parts before and after gives it.
//
// A length is split into radices r1 … rp (8, 4, 7, 5, 3, 2). The first pass (decimation in frequency) takes rows j + (n/r1) i from a
// source, wherever they lie, and leaves r1 blocks of n/r1 rows; each block is finished by Stockham's passes in the first-level cache.
// The last pass hands rp rows j, j + n/rp, j + 2n/rp, … in registers to a sink. A first pass with the same radix wants just these rows:
// so something pointwise, and the first pass of the transform back, are done on them before anything is stored (`Turn`).
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <utility>
#include <vector>

#include "simd.hpp"

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define OSTWALD_SHUFFLEVECTOR 1  // Clang, and GCC from 12 on; earlier ones have __builtin_shuffle
#endif
#endif

namespace ostwald::fft {

template <class T> constexpr int row = 2 * lanes<T>;  // elements of a row

// ---- butterflies: n complex numbers (a vector of each) in place, natural order -------------------------------------------

namespace detail {
template <int R> struct Circle;  // cos and sin of 2πk/R
template <> struct Circle<3> {
  static constexpr double c[3] = {1.0, -0.5, -0.5};
  static constexpr double s[3] = {0.0, 0.86602540378443864676, -0.86602540378443864676};
};
template <> struct Circle<5> {
  static constexpr double c[5] = {1.0, 0.30901699437494742410, -0.80901699437494742410, -0.80901699437494742410,
                                  0.30901699437494742410};
  static constexpr double s[5] = {0.0, 0.95105651629515357212, 0.58778525229247312917, -0.58778525229247312917,
                                  -0.95105651629515357212};
};
template <> struct Circle<7> {
  static constexpr double c[7] = {1.0, 0.62348980185873353053, -0.22252093395631440429, -0.90096886790241912624,
                                  -0.90096886790241912624, -0.22252093395631440429, 0.62348980185873353053};
  static constexpr double s[7] = {0.0, 0.78183148246802980871, 0.97492791218182360702, 0.43388373911755812048,
                                  -0.43388373911755812048, -0.97492791218182360702, -0.78183148246802980871};
};
}  // namespace detail

template <class T, int R> OSTWALD_INLINE void butterfly(vec<T>* re, vec<T>* im) {
  using V = vec<T>;
  if constexpr (R == 1) {
  } else if constexpr (R == 2) {
    const V a = re[0], b = im[0];
    re[0] = a + re[1], im[0] = b + im[1];
    re[1] = a - re[1], im[1] = b - im[1];
  } else if constexpr (R == 4) {
    const V ar = re[0] + re[2], ai = im[0] + im[2], br = re[0] - re[2], bi = im[0] - im[2];
    const V cr = re[1] + re[3], ci = im[1] + im[3], dr = re[1] - re[3], di = im[1] - im[3];
    re[0] = ar + cr, im[0] = ai + ci;
    re[1] = br + di, im[1] = bi - dr;
    re[2] = ar - cr, im[2] = ai - ci;
    re[3] = br - di, im[3] = bi + dr;
  } else if constexpr (R == 8) {
    V er[4] = {re[0], re[2], re[4], re[6]}, ei[4] = {im[0], im[2], im[4], im[6]};
    V fr[4] = {re[1], re[3], re[5], re[7]}, fi[4] = {im[1], im[3], im[5], im[7]};
    butterfly<T, 4>(er, ei);
    butterfly<T, 4>(fr, fi);
    const T h = T(0.70710678118654752440);
    re[0] = er[0] + fr[0], im[0] = ei[0] + fi[0];
    re[4] = er[0] - fr[0], im[4] = ei[0] - fi[0];
    re[2] = er[2] + fi[2], im[2] = ei[2] - fr[2];
    re[6] = er[2] - fi[2], im[6] = ei[2] + fr[2];
    const V pr = fr[1] + fi[1], pi = fi[1] - fr[1];  // √2 w f, w = (1 - i)/√2
    re[1] = er[1] + h * pr, im[1] = ei[1] + h * pi;
    re[5] = er[1] - h * pr, im[5] = ei[1] - h * pi;
    const V qr = fi[3] - fr[3], qi = fi[3] + fr[3];  // √2 w³ f = (-1 - i) f, the sign of the imaginary part changed
    re[3] = er[3] + h * qr, im[3] = ei[3] - h * qi;
    re[7] = er[3] - h * qr, im[7] = ei[3] + h * qi;
  } else {  // odd: sums and differences of x[j] and x[R-j]
    constexpr int H = R / 2;
    V ar[H], ai[H], dr[H], di[H];
#pragma GCC unroll 8
    for (int j = 0; j < H; j++) {
      ar[j] = re[j + 1] + re[R - 1 - j], ai[j] = im[j + 1] + im[R - 1 - j];
      dr[j] = re[j + 1] - re[R - 1 - j], di[j] = im[j + 1] - im[R - 1 - j];
    }
    const V zr = re[0], zi = im[0];
#pragma GCC unroll 8
    for (int j = 0; j < H; j++) re[0] += ar[j], im[0] += ai[j];
#pragma GCC unroll 8
    for (int k = 1; k <= H; k++) {
      V pr = zr, pi = zi, qr{}, qi{};
#pragma GCC unroll 8
      for (int j = 1; j <= H; j++) {
        const T c = T(detail::Circle<R>::c[j * k % R]), s = T(detail::Circle<R>::s[j * k % R]);
        pr += c * ar[j - 1], pi += c * ai[j - 1];
        qr += s * di[j - 1], qi += s * dr[j - 1];
      }
      re[k] = pr + qr, im[k] = pi - qi;
      re[R - k] = pr - qr, im[R - k] = pi + qi;
    }
  }
}

// ---- plans ---------------------------------------------------------------------------------------------------------------

inline bool smooth(int n) {
  if (n < 1) return false;
  for (int p : {2, 3, 5, 7})
    while (n % p == 0) n /= p;
  return n == 1;
}

template <class T> struct Plan {
  int n;
  std::vector<int> radices;             // at least two; 1 fills up
  std::vector<T> first;                 // [n/r1][r1 - 1] factors (cos, -sin) of the first pass
  std::vector<std::vector<T>> between;  // the same of each pass but the first and the last
  int block_rows;                       // n/r1
  int64_t block;                        // elements from block to block: a row more, so that powers of two do not meet in a cache set

  Plan(int n_, bool reversed) : n(n_) {
    if (!smooth(n)) throw std::invalid_argument("the length of a Fourier transform must be a product of 2, 3, 5 and 7");
    int twos = 0, rest = n;
    while (rest % 2 == 0) rest /= 2, twos++;
    while (twos >= 5 || twos == 3) radices.push_back(8), twos -= 3;
    while (twos >= 2) radices.push_back(4), twos -= 2;
    for (int p : {7, 5, 3})
      while (rest % p == 0) rest /= p, radices.push_back(p);
    if (twos) radices.push_back(2);
    std::sort(radices.rbegin(), radices.rend());
    if (radices.size() > 2) std::swap(radices[1], radices.back());  // the largest first and last
    while (radices.size() < 2) radices.push_back(1);
    if (reversed) std::reverse(radices.begin(), radices.end());
    block_rows = n / radices[0];
    block = int64_t(block_rows + 1) * row<T>;
    first = factors(radices[0], block_rows);
    int length = block_rows;
    for (size_t s = 1; s + 1 < radices.size(); s++) {
      length /= radices[s];
      between.push_back(factors(radices[s], length));
    }
  }
  int64_t buffer() const { return radices[0] * block; }         // elements that a transform works in
  int64_t scratch() const { return block_rows * int64_t(row<T>); }
  int64_t butterflies() const {
    int64_t count = 0;
    for (int radix : radices) count += n / radix;
    return count;
  }
  // Where output k stands when the sink's rows are stored one call after another.
  std::vector<int> order() const {
    std::vector<int> k;
    const int last = radices.back(), m = block_rows / last;
    for (int q = 0; q < radices[0]; q++)
      for (int j = 0; j < m; j++)
        for (int p = 0; p < last; p++) k.push_back(q + radices[0] * (j + m * p));
    return k;
  }

 private:
  static std::vector<T> factors(int radix, int length) {
    std::vector<T> w;
    const int n = radix * length;
    for (int j = 0; j < length; j++)
      for (int q = 1; q < radix; q++) {
        const long double angle = -6.283185307179586476925286766559L * (int64_t(j) * q % n) / n;
        w.push_back(T(std::cos(angle))), w.push_back(T(std::sin(angle)));
      }
    return w;
  }
};

// The plan of a length, made once. `reversed`: radices in the other order, as the transform back from where another one ends.
template <class T> const Plan<T>& plan(int n, bool reversed = false) {
  static std::mutex lock;
  static std::map<std::pair<int, bool>, std::unique_ptr<Plan<T>>> plans;
  const std::lock_guard<std::mutex> guard(lock);
  auto& found = plans[{n, reversed}];
  if (!found) found = std::make_unique<Plan<T>>(n, reversed);
  return *found;
}

template <class F> OSTWALD_INLINE void with_radix(int radix, F&& f) {
  switch (radix) {
    case 1: return f(std::integral_constant<int, 1>{});
    case 2: return f(std::integral_constant<int, 2>{});
    case 3: return f(std::integral_constant<int, 3>{});
    case 4: return f(std::integral_constant<int, 4>{});
    case 5: return f(std::integral_constant<int, 5>{});
    case 7: return f(std::integral_constant<int, 7>{});
    default: return f(std::integral_constant<int, 8>{});
  }
}

// ---- passes --------------------------------------------------------------------------------------------------------------

// Stores a butterfly's R rows, times their factors, at distances of `step` elements.
template <class T, int R> OSTWALD_INLINE void store_turned(T* out, int64_t step, const T* w, const vec<T>* re, const vec<T>* im) {
  store(out, re[0]), store(out + lanes<T>, im[0]);
#pragma GCC unroll 8
  for (int q = 1; q < R; q++) {
    const T c = w[2 * q - 2], s = w[2 * q - 1];
    T* o = out + q * step;
    store<T>(o, re[q] * c - im[q] * s), store<T>(o + lanes<T>, re[q] * s + im[q] * c);
  }
}

// What is done beside every butterfly: nothing, or something for later such as fetching memory.
struct Nothing {
  OSTWALD_INLINE void operator()() const {}
};

// source(k, i, re, im) gives row k = j + (n/r1) i.
template <class T, int R, class Source, class Beside>
void first_pass(const Plan<T>& plan, Source& source, T* buffer, Beside& beside) {
  const int rows = plan.block_rows;
  const T* w = plan.first.data();
  for (int j = 0; j < rows; j++, w += 2 * (R - 1)) {
    vec<T> re[R], im[R];
#pragma GCC unroll 8
    for (int i = 0; i < R; i++) source(j + rows * i, i, re[i], im[i]);
    butterfly<T, R>(re, im);
    store_turned<T, R>(buffer + int64_t(j) * row<T>, plan.block, w, re, im);
    beside();
  }
}

template <class T, int R, class Beside> void between_pass(const T* in, T* out, int l, int m, const T* w, Beside& beside) {
  const int64_t far = int64_t(l) * m * row<T>, step = int64_t(m) * row<T>;
  for (int j = 0; j < l; j++, w += 2 * (R - 1))
    for (int k = 0; k < m; k++) {
      const T* a = in + (k + int64_t(j) * m) * row<T>;
      vec<T> re[R], im[R];
#pragma GCC unroll 8
      for (int i = 0; i < R; i++) re[i] = load(a + i * far), im[i] = load(a + i * far + lanes<T>);
      butterfly<T, R>(re, im);
      store_turned<T, R>(out + (k + int64_t(R) * j * m) * row<T>, step, w, re, im);
      beside();
    }
}

// What the last pass gives goes to sink.take<R>(j, stride, re, im): row j + stride p is (re[p], im[p]).
template <class T, int R, class Sink, class Beside>
void last_pass(const Plan<T>& plan, const T* in, int q, Sink& sink, Beside& beside) {
  const int m = plan.block_rows / R, first = plan.radices[0], stride = plan.n / R;
  for (int k = 0; k < m; k++) {
    vec<T> re[R], im[R];
#pragma GCC unroll 8
    for (int i = 0; i < R; i++) {
      const T* a = in + (k + int64_t(m) * i) * row<T>;
      re[i] = load(a), im[i] = load(a + lanes<T>);
    }
    butterfly<T, R>(re, im);
    sink.template take<R>(q + first * k, stride, re, im);
    beside();
  }
}

template <class T, class Source, class Beside = const Nothing>
void begin(const Plan<T>& plan, Source&& source, T* buffer, Beside&& beside = {}) {
  with_radix(plan.radices[0], [&](auto R) { first_pass<T, R.value>(plan, source, buffer, beside); });
}

// The rest of a transform whose first pass filled `buffer`.
template <class T, class Sink, class Beside = const Nothing>
void finish(const Plan<T>& plan, T* buffer, T* scratch, Sink&& sink, Beside&& beside = {}) {
  for (int q = 0; q < plan.radices[0]; q++) {
    T *in = buffer + q * plan.block, *out = scratch;
    int l = plan.block_rows, m = 1;
    for (size_t s = 0; s < plan.between.size(); s++) {
      const int radix = plan.radices[s + 1];
      l /= radix;
      with_radix(radix, [&](auto R) { between_pass<T, R.value>(in, out, l, m, plan.between[s].data(), beside); });
      m *= radix;
      std::swap(in, out);
    }
    with_radix(plan.radices.back(), [&](auto R) { last_pass<T, R.value>(plan, in, q, sink, beside); });
  }
}

// The sink that turns round: applies op.apply<R>(j, stride, re, im) and makes the first pass of the transform with the other sign,
// whose plan is the reversed one. Afterwards finish(back, buffer, …) completes it; real and imaginary parts are then exchanged.
template <class T, class Op> struct Turn {
  const Plan<T>& back;
  T* buffer;
  Op& op;
  template <int R> OSTWALD_INLINE void take(int j, int stride, vec<T>* re, vec<T>* im) {
    op.template apply<R>(j, stride, re, im);
    butterfly<T, R>(im, re);
    store_turned<T, R>(buffer + int64_t(j) * row<T>, back.block, back.first.data() + int64_t(j) * 2 * (R - 1), im, re);
  }
};

// lanes<T> vectors as a square matrix, transposed in place: blocks of h x h numbers exchanged, for h = 1, 2, 4, …
namespace detail {
template <class T, int h, size_t... l> OSTWALD_INLINE void exchange(vec<T>* a, std::index_sequence<l...>) {
  constexpr int n = lanes<T>;
#pragma GCC unroll 16
  for (int i = 0; i < n; i++) {
    if (i & h) continue;
    const vec<T> x = a[i], y = a[i + h];
#if OSTWALD_SHUFFLEVECTOR
    a[i] = __builtin_shufflevector(x, y, (l & h ? n + l - h : l)...);
    a[i + h] = __builtin_shufflevector(x, y, (l & h ? n + l : l + h)...);
#else
    a[i] = __builtin_shuffle(x, y, ivec<T>{int_of<T>(l & h ? n + l - h : l)...});
    a[i + h] = __builtin_shuffle(x, y, ivec<T>{int_of<T>(l & h ? n + l : l + h)...});
#endif
  }
}
}  // namespace detail
template <class T, int h = 1> OSTWALD_INLINE void transpose(vec<T>* a) {
  if constexpr (h < lanes<T>) {
    detail::exchange<T, h>(a, std::make_index_sequence<lanes<T>>{});
    transpose<T, 2 * h>(a);
  }
}

}  // namespace ostwald::fft
