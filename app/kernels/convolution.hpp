// Convolutions of rows: lanes are neighbouring points of a row, each weight meets whole vectors of them, so that no lane is wasted
// whatever the number of channels, and the sums of up to `most` channels by two vectors stay in registers while all channels
// and taps go by.
//
// What a convolution reads are elements: of a number format, one or two channels of a point.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "simd.hpp"

namespace ostwald::convolution {

// ---- number formats ------------------------------------------------------------------------------------------------------

template <class T> struct Whole {  // an element is a channel
  using real = T;
  using element = T;
  static constexpr int group = 1;
  static constexpr bool rough = false;
  using wide = vec<T>;
  static OSTWALD_INLINE wide read(const element* p) { return load(p); }
  static OSTWALD_INLINE vec<T> add(vec<T> sum, element weight, wide x) { return sum + weight * x; }
  static OSTWALD_INLINE wide pack(vec<T> a, vec<T>) { return a; }
  static element weight(double a, double) { return T(a); }
};

#if defined(__AVX512BF16__) && defined(OSTWALD_FLOAT16)
#define OSTWALD_BFLOAT16 1
struct Pairs {  // an element is two channels in bfloat16, products are added up in single precision
  using real = float;
  using element = uint32_t;
  static constexpr int group = 2;
  static constexpr bool rough = true;
  using wide = __m512i;
  static OSTWALD_INLINE wide read(const element* p) { return _mm512_loadu_si512(p); }
  static OSTWALD_INLINE vec<float> add(vec<float> sum, element weight, wide x) {
    return (vec<float>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(int(weight)), (__m512bh)x);
  }
  static OSTWALD_INLINE wide pack(vec<float> a, vec<float> b) {
    const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a);  // all of a, then all of b
    alignas(64) static constexpr uint16_t order[32] = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23,
                                                       8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_permutexvar_epi16(_mm512_load_si512(order), halves);
  }
  static element weight(double a, double b) {
    const auto round = [](double x) {
      const float f = float(x);
      uint32_t bits;
      std::memcpy(&bits, &f, sizeof bits);
      return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;  // to the nearest, to even
    };
    return round(a) | round(b) << 16;
  }
};
#endif

// ---- activations ---------------------------------------------------------------------------------------------------------

// 1/(1 + exp(x)): absolute error 1e-7 (float), 2e-16 (double), 5e-5 where rough; NaN stays.
template <bool rough> OSTWALD_INLINE vec<double> falling(vec<double> x) { return 1.0 / (1.0 + exp(x)); }
template <bool rough> OSTWALD_INLINE vec<float> falling(vec<float> x) {
#if defined(OSTWALD_FLOAT16)
  const __m512 y = _mm512_min_ps(_mm512_set1_ps(120.0f), _mm512_mul_ps((__m512)x, _mm512_set1_ps(1.44269504f)));  // min: NaN stays
  const __m512 n = _mm512_roundscale_ps(y, 8);
  const vec<float> r = (vec<float>)y - (vec<float>)n;
  vec<float> power;  // 2^r, |r| <= 1/2
  if constexpr (rough) {
    const float c[] = {9.999280736e-1f, 6.932609862e-1f, 2.426111219e-1f, 5.517166493e-2f};
    power = polynomial(r, c);
  } else {
    const float c[] = {1.000000072e+0f, 6.931469671e-1f, 2.402211972e-1f, 5.550713275e-2f, 9.675541331e-3f, 1.327647152e-3f};
    power = polynomial(r, c);
  }
  const vec<float> d = 1.0f + (vec<float>)_mm512_scalef_ps((__m512)power, n);
  const vec<float> q = (vec<float>)_mm512_rcp14_ps((__m512)d);
  return rough ? q : q + q * (1.0f - d * q);
#else
  return 1.0f / (1.0f + exp(x));
#endif
}
template <bool rough, class V> OSTWALD_INLINE V logistic(V x) { return falling<rough>(-x); }
template <bool rough, class V> OSTWALD_INLINE V tanh(V x) {
  using T = std::decay_t<decltype(x[0])>;
  return T(1) - T(2) * falling<rough>(T(2) * x);
}

// ---- convolutions --------------------------------------------------------------------------------------------------------

// Where a part of the inputs lies: rows[k] is the first element that tap row k needs for the first point; channels (groups of them)
// lie `stride` elements apart.
template <class F> struct Source {
  const typename F::element* const* rows;
  ptrdiff_t stride;
};

// Of a part of the inputs: taps along all axes but the last, taps along the last. weights: (outputs, inputs, rows, width).
struct Weights {
  const double* data;
  int outputs, inputs, rows, width;
};

template <class F> class Convolution {
 public:
  using element = typename F::element;
  using real = typename F::real;
  static constexpr int W = lanes<real>;
  static constexpr int most = vector_bytes == 64 ? 12 : 5;  // outputs whose sums fit the registers, two vectors each

  Convolution() = default;
  Convolution(const std::vector<Weights>& parts, const double* bias) : outputs_(parts[0].outputs) {
    const int count = (outputs_ + most - 1) / most;
    for (int b = 0, first = 0; b < count; b++) {
      const int size = outputs_ / count + (b < outputs_ % count);
      blocks_.push_back({first, size, weights_.size()});
      for (const Weights& w : parts)
        for (int row = 0; row < w.rows; row++)
          for (int i = 0; i < w.inputs; i += F::group)
            for (int z = 0; z < w.width; z++)
              for (int o = first; o < first + size; o++) {
                const auto at = [&](int input) {
                  return input < w.inputs ? w.data[((size_t(o) * w.inputs + input) * w.rows + row) * w.width + z] : 0.0;
                };
                weights_.push_back(F::weight(at(i), at(i + 1)));
              }
      first += size;
    }
    for (const Weights& w : parts) parts_.push_back({(w.inputs + F::group - 1) / F::group, w.rows, w.width});
    bias_.assign(bias, bias + outputs_);
  }

  int outputs() const { return outputs_; }

  // out[o * stride + z] for z = 0 … W vectors - 1, one source for each part.
  void apply(const Source<F>* sources, int vectors, real* out, ptrdiff_t stride) const {
    for (const Block& b : blocks_) {
      const element* weights = weights_.data() + b.weights;
      int v = 0;
      for (; v + 2 <= vectors; v += 2) kernels<2>[b.size](*this, sources, weights, bias_.data() + b.first, v * W, out + b.first * stride, stride);
      if (v < vectors) kernels<1>[b.size](*this, sources, weights, bias_.data() + b.first, v * W, out + b.first * stride, stride);
    }
  }

 private:
  struct Part { int groups, rows, width; };
  struct Block { int first, size; size_t weights; };

  template <int outputs, int vectors>
  static void sums(const Convolution& c, const Source<F>* sources, const element* weights, const real* bias, int z, real* out, ptrdiff_t stride) {
    vec<real> sum[outputs][vectors];
#pragma GCC unroll 12
    for (int o = 0; o < outputs; o++) {
      for (int v = 0; v < vectors; v++) sum[o][v] = splat(bias[o]);
    }
    for (size_t p = 0; p < c.parts_.size(); p++) {
      const Part part = c.parts_[p];
      for (int row = 0; row < part.rows; row++) {
        const element* x = sources[p].rows[row] + z;
        for (int g = 0; g < part.groups; g++, x += sources[p].stride)
          for (int k = 0; k < part.width; k++, weights += outputs) {
            typename F::wide in[vectors];
            for (int v = 0; v < vectors; v++) in[v] = F::read(x + k + v * W);
#pragma GCC unroll 12
            for (int o = 0; o < outputs; o++) {
              for (int v = 0; v < vectors; v++) sum[o][v] = F::add(sum[o][v], weights[o], in[v]);
            }
          }
      }
    }
    out += z;
#pragma GCC unroll 12
    for (int o = 0; o < outputs; o++) {
      for (int v = 0; v < vectors; v++) store(out + o * stride + v * W, sum[o][v]);
    }
  }

  using Kernel = void (*)(const Convolution&, const Source<F>*, const element*, const real*, int, real*, ptrdiff_t);
  template <int vectors, size_t... k> static constexpr std::array<Kernel, most + 1> table(std::index_sequence<k...>) {
    return {nullptr, &sums<int(k) + 1, vectors>...};
  }
  template <int vectors> static constexpr std::array<Kernel, most + 1> kernels = table<vectors>(std::make_index_sequence<most>{});

  int outputs_ = 0;
  std::vector<Part> parts_;
  std::vector<Block> blocks_;
  std::vector<element> weights_;
  std::vector<real> bias_;
};

}  // namespace ostwald::convolution
