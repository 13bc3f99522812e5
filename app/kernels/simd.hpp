// Portable vectors of the target's width, on GCC/Clang vector extensions; AVX-512 intrinsics where the compiler
// does not find the instruction by itself (masks, compression, transposed row loads).
//
//   vec<double>, vec<float>   lanes<T> elements; arithmetic, comparison and a ? b : c come from the language
//   ivec<T>                   the signed integers of the same width (what a comparison gives: 0 or -1 per lane)
//   bits_t                    one bit a lane; less(a, b), bits(mask), first(n), compress, select
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && defined(__AVX512BW__)
#define OSTWALD_AVX512 1
#endif
#if defined(__x86_64__)
#pragma GCC diagnostic push  // GCC 12's own header assigns a variable to itself to say "undefined"
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

// Everything here is a few instructions: a call would cost more, and would pass vectors through memory.
#define OSTWALD_INLINE inline __attribute__((always_inline))

namespace ostwald {

#if defined(OSTWALD_AVX512)
constexpr int vector_bytes = 64;
#elif defined(__AVX__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif

// A module whose loops are short may ask, before it includes this file, for float vectors of half the width: they waste
// fewer lanes, and cores that work through 512 bits in two halves lose nothing.
#if defined(OSTWALD_AVX512) && defined(OSTWALD_HALF_WIDTH_FLOAT)
#define OSTWALD_FLOAT8 1
constexpr int float_bytes = 32;
#else
constexpr int float_bytes = vector_bytes;
#endif
#if defined(OSTWALD_AVX512) && !defined(OSTWALD_FLOAT8)
#define OSTWALD_FLOAT16 1
#endif

template <class T> constexpr int lanes = (sizeof(T) == 4 ? float_bytes : vector_bytes) / int(sizeof(T));

namespace detail {
template <class T> struct integer;
template <> struct integer<double> { using type = int64_t; };
template <> struct integer<float> { using type = int32_t; };
template <class T, int n> struct vector { typedef T type __attribute__((vector_size(n * sizeof(T)))); };
}  // namespace detail

template <class T> using int_of = typename detail::integer<T>::type;
template <class T> using vec = typename detail::vector<T, lanes<T>>::type;
template <class T> using ivec = typename detail::vector<int_of<T>, lanes<T>>::type;
using bits_t = uint32_t;

template <class T> OSTWALD_INLINE vec<T> splat(T a) { return vec<T>{} + a; }

template <class T> OSTWALD_INLINE vec<T> load(const T* p) {
  vec<T> a;
  std::memcpy(&a, p, sizeof a);
  return a;
}
template <class T> OSTWALD_INLINE void store(T* p, vec<T> a) { std::memcpy(p, &a, sizeof a); }

template <class V> OSTWALD_INLINE auto sum(V a) {  // pairwise, so the order of additions does not depend on the compiler
#if defined(OSTWALD_AVX512)
  if constexpr (std::is_same_v<V, vec<double>>) {
    const __m256d h = _mm256_add_pd(_mm512_castpd512_pd256((__m512d)a), _mm512_extractf64x4_pd((__m512d)a, 1));
    const __m128d q = _mm_add_pd(_mm256_castpd256_pd128(h), _mm256_extractf128_pd(h, 1));
    return q[0] + q[1];
  }
#endif
  constexpr int n = int(sizeof(V) / sizeof(a[0]));
  std::decay_t<decltype(a[0])> s[n];
  std::memcpy(s, &a, sizeof a);
  for (int h = n / 2; h > 0; h /= 2)
    for (int k = 0; k < h; k++) s[k] += s[k + h];
  return s[0];
}

// Adds the sums over the lanes of x, y, z, w to row[0..3], aligned to 32 bytes.
OSTWALD_INLINE void add_sums(double* row, vec<double> x, vec<double> y, vec<double> z, vec<double> w) {
#if defined(OSTWALD_AVX512)
  const __m512d xy = _mm512_add_pd(_mm512_unpacklo_pd((__m512d)x, (__m512d)y), _mm512_unpackhi_pd((__m512d)x, (__m512d)y));
  const __m512d zw = _mm512_add_pd(_mm512_unpacklo_pd((__m512d)z, (__m512d)w), _mm512_unpackhi_pd((__m512d)z, (__m512d)w));
  const __m512d s = _mm512_add_pd(_mm512_shuffle_f64x2(xy, zw, 0x44), _mm512_shuffle_f64x2(xy, zw, 0xee));
  const __m256d t = _mm256_add_pd(_mm512_castpd512_pd256(_mm512_shuffle_f64x2(s, s, 0x88)),
                                  _mm512_castpd512_pd256(_mm512_shuffle_f64x2(s, s, 0xdd)));
  _mm256_store_pd(row, _mm256_add_pd(_mm256_load_pd(row), t));
#else
  row[0] += sum(x), row[1] += sum(y), row[2] += sum(z), row[3] += sum(w);
#endif
}
OSTWALD_INLINE void add_sums(double* row, vec<float> x, vec<float> y, vec<float> z, vec<float> w) {
#if defined(OSTWALD_FLOAT8)
  const auto widen = [](vec<float> a) __attribute__((always_inline)) { return (vec<double>)_mm512_cvtps_pd((__m256)a); };
  add_sums(row, widen(x), widen(y), widen(z), widen(w));
#elif defined(OSTWALD_FLOAT16)
  const auto widen = [](vec<float> a) __attribute__((always_inline)) {
    return (vec<double>)_mm512_cvtps_pd(
        _mm256_add_ps(_mm512_castps512_ps256((__m512)a), _mm512_extractf32x8_ps((__m512)a, 1)));
  };
  add_sums(row, widen(x), widen(y), widen(z), widen(w));
#else
  for (int k = 0; k < lanes<float>; k++) row[0] += x[k], row[1] += y[k], row[2] += z[k], row[3] += w[k];
#endif
}

// The lanes of a float vector summed in double.
OSTWALD_INLINE double sum_double(vec<double> a) { return sum(a); }
OSTWALD_INLINE double sum_double(vec<float> a) {
#if defined(OSTWALD_FLOAT8)
  return sum((vec<double>)_mm512_cvtps_pd((__m256)a));
#elif defined(OSTWALD_FLOAT16)
  const __m512 v = (__m512)a;
  return sum((vec<double>)_mm512_cvtps_pd(_mm512_castps512_ps256(v)) +
             (vec<double>)_mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)));
#else
  double s = 0;
  for (int k = 0; k < lanes<float>; k++) s += a[k];
  return s;
#endif
}

template <class T> inline constexpr bits_t all_lanes = lanes<T> == 32 ? ~0u : (1u << lanes<T>) - 1u;
// Lanes 0 .. n-1 (n may be negative or beyond the width).
template <class T> OSTWALD_INLINE bits_t first(int64_t n) { return n >= lanes<T> ? all_lanes<T> : n <= 0 ? 0u : (1u << n) - 1u; }

OSTWALD_INLINE bits_t less(vec<double> a, vec<double> b) {
#if defined(OSTWALD_AVX512)
  return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_LT_OQ);
#else
  bits_t m = 0;
  for (int k = 0; k < lanes<double>; k++) m |= bits_t(a[k] < b[k]) << k;
  return m;
#endif
}
OSTWALD_INLINE bits_t less(vec<float> a, vec<float> b) {
#if defined(OSTWALD_FLOAT8)
  return _mm256_cmp_ps_mask((__m256)a, (__m256)b, _CMP_LT_OQ);
#elif defined(OSTWALD_FLOAT16)
  return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ);
#else
  bits_t m = 0;
  for (int k = 0; k < lanes<float>; k++) m |= bits_t(a[k] < b[k]) << k;
  return m;
#endif
}

// a where the bit is set, b elsewhere.
OSTWALD_INLINE vec<double> select(bits_t m, vec<double> a, vec<double> b) {
#if defined(OSTWALD_AVX512)
  return (vec<double>)_mm512_mask_blend_pd(__mmask8(m), (__m512d)b, (__m512d)a);
#else
  for (int k = 0; k < lanes<double>; k++) b[k] = (m >> k & 1) ? a[k] : b[k];
  return b;
#endif
}
OSTWALD_INLINE vec<float> select(bits_t m, vec<float> a, vec<float> b) {
#if defined(OSTWALD_FLOAT8)
  return (vec<float>)_mm256_mask_blend_ps(__mmask8(m), (__m256)b, (__m256)a);
#elif defined(OSTWALD_FLOAT16)
  return (vec<float>)_mm512_mask_blend_ps(__mmask16(m), (__m512)b, (__m512)a);
#else
  for (int k = 0; k < lanes<float>; k++) b[k] = (m >> k & 1) ? a[k] : b[k];
  return b;
#endif
}

#if defined(OSTWALD_AVX512)
namespace detail {
// Which of eight lanes to take, a byte each, for every mask: a permutation by table costs a third of vcompress on Zen 4.
struct Packing {
  uint64_t lanes[256];
  constexpr Packing() : lanes{} {
    for (int m = 0; m < 256; m++)
      for (int k = 0, n = 0; k < 8; k++)
        if (m >> k & 1) lanes[m] |= uint64_t(k) << (8 * n++);
  }
};
inline constexpr Packing packing;
OSTWALD_INLINE __m512i packing64(bits_t m) { return _mm512_cvtepu8_epi64(_mm_cvtsi64_si128(int64_t(packing.lanes[m & 255]))); }
OSTWALD_INLINE __m256i packing32(bits_t m) { return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(int64_t(packing.lanes[m & 255]))); }
OSTWALD_INLINE void compress8(float* p, bits_t m, __m256 a) {
  _mm256_storeu_ps(p, _mm256_permutevar8x32_ps(a, packing32(m)));
}
}  // namespace detail
#endif

// Writes the chosen lanes one after another at p; the rest of a whole vector from p on is overwritten with other lanes.
OSTWALD_INLINE void compress(double* p, bits_t m, vec<double> a) {
#if defined(OSTWALD_AVX512)
  _mm512_storeu_pd(p, _mm512_permutexvar_pd(detail::packing64(m), (__m512d)a));
#else
  for (int k = 0; k < lanes<double>; k++) { *p = a[k]; p += m >> k & 1; }
#endif
}
OSTWALD_INLINE void compress(float* p, bits_t m, vec<float> a) {
#if defined(OSTWALD_FLOAT8)
  detail::compress8(p, m, (__m256)a);
#elif defined(OSTWALD_FLOAT16)
  detail::compress8(p, m, _mm512_castps512_ps256((__m512)a));
  detail::compress8(p + __builtin_popcount(m & 255), m >> 8, _mm512_extractf32x8_ps((__m512)a, 1));
#else
  for (int k = 0; k < lanes<float>; k++) { *p = a[k]; p += m >> k & 1; }
#endif
}

// 32-bit indices, as many as T has lanes.
template <class T> using index_vec = typename detail::vector<int32_t, lanes<T>>::type;

template <class T> OSTWALD_INLINE index_vec<T> load_index(const int32_t* p) {
  index_vec<T> a;
  std::memcpy(&a, p, sizeof a);
  return a;
}
// The first n of p, and those of `fill` in the other lanes; reads nothing behind p + n.
template <class T> OSTWALD_INLINE index_vec<T> load_index(const int32_t* p, int64_t n, index_vec<T> fill) {
#if defined(OSTWALD_AVX512)
  if constexpr (lanes<T> == 8)
    return (index_vec<T>)_mm256_mask_loadu_epi32((__m256i)fill, __mmask8(first<T>(n)), p);
  else
    return (index_vec<T>)_mm512_mask_loadu_epi32((__m512i)fill, __mmask16(first<T>(n)), p);
#else
  for (int k = 0; k < lanes<T>; k++) fill[k] = k < n ? p[k] : fill[k];
  return fill;
#endif
}
template <class T> OSTWALD_INLINE index_vec<T> load_index(const int32_t* p, int64_t n, int32_t fill) {
  return load_index<T>(p, n, index_vec<T>{} + fill);
}
template <class T> OSTWALD_INLINE void compress_index(int32_t* p, bits_t m, index_vec<T> a) {
#if defined(OSTWALD_AVX512)
  if constexpr (lanes<T> == 8)
    detail::compress8((float*)p, m, _mm256_castsi256_ps((__m256i)a));
  else
    detail::compress8((float*)p, m, _mm512_castps512_ps256((__m512)a)),
        detail::compress8((float*)p + __builtin_popcount(m & 255), m >> 8, _mm512_extractf32x8_ps((__m512)a, 1));
#else
  for (int k = 0; k < lanes<T>; k++) { *p = a[k]; p += m >> k & 1; }
#endif
}

OSTWALD_INLINE vec<double> sqrt(vec<double> a) {
#if defined(OSTWALD_AVX512)
  return (vec<double>)_mm512_sqrt_pd((__m512d)a);
#elif defined(__AVX__)
  return (vec<double>)_mm256_sqrt_pd((__m256d)a);
#else
  for (int k = 0; k < lanes<double>; k++) a[k] = std::sqrt(a[k]);
  return a;
#endif
}
OSTWALD_INLINE vec<float> sqrt(vec<float> a) {
#if defined(OSTWALD_FLOAT16)
  return (vec<float>)_mm512_sqrt_ps((__m512)a);
#elif defined(__AVX__)
  return (vec<float>)_mm256_sqrt_ps((__m256)a);
#else
  for (int k = 0; k < lanes<float>; k++) a[k] = std::sqrt(a[k]);
  return a;
#endif
}

// 1/sqrt(a) to the last bit or two: the hardware's estimate and Newton's steps (a > 0, normal).
OSTWALD_INLINE vec<double> rsqrt(vec<double> a) {
#if defined(OSTWALD_AVX512)
  const vec<double> y = (vec<double>)_mm512_rsqrt14_pd((__m512d)a);
  const vec<double> e = 1.0 - a * y * y;                   // below 2^-13
  return y + y * e * (0.5 + e * (0.375 + e * 0.3125));     // the next term is 35/128 e⁴ < 2^-53
#else
  return 1.0 / sqrt(a);
#endif
}
OSTWALD_INLINE vec<float> rsqrt(vec<float> a) {
#if defined(OSTWALD_AVX512)
#if defined(OSTWALD_FLOAT8)
  const vec<float> y = (vec<float>)_mm256_rsqrt14_ps((__m256)a);
#else
  const vec<float> y = (vec<float>)_mm512_rsqrt14_ps((__m512)a);
#endif
  const vec<float> e = 1.0f - a * y * y;
  return y + y * e * (0.5f + e * 0.375f);
#else
  return 1.0f / sqrt(a);
#endif
}
// 1/a, likewise.
OSTWALD_INLINE vec<double> reciprocal(vec<double> a) { return 1.0 / a; }
OSTWALD_INLINE vec<float> reciprocal(vec<float> a) {
#if defined(OSTWALD_AVX512)
#if defined(OSTWALD_FLOAT8)
  const vec<float> y = (vec<float>)_mm256_rcp14_ps((__m256)a);
#else
  const vec<float> y = (vec<float>)_mm512_rcp14_ps((__m512)a);
#endif
  const vec<float> e = 1.0f - a * y;
  return y + y * (e + e * e);
#else
  return 1.0f / a;
#endif
}

OSTWALD_INLINE ivec<double> to_int(vec<double> a) { return __builtin_convertvector(a, ivec<double>); }  // towards zero
OSTWALD_INLINE ivec<float> to_int(vec<float> a) { return __builtin_convertvector(a, ivec<float>); }
OSTWALD_INLINE vec<double> to_real(ivec<double> a) { return __builtin_convertvector(a, vec<double>); }
OSTWALD_INLINE vec<float> to_real(ivec<float> a) { return __builtin_convertvector(a, vec<float>); }

template <class V> OSTWALD_INLINE V minimum(V a, V b) { return a < b ? a : b; }  // b where a is NaN
template <class V> OSTWALD_INLINE V maximum(V a, V b) { return a > b ? a : b; }

// c[0] + c[1] x + ...
template <class V, class T, size_t n> OSTWALD_INLINE V polynomial(V x, const T (&c)[n]) {
  V p = V{} + c[n - 1];
  for (int k = int(n) - 2; k >= 0; k--) p = p * x + c[k];
  return p;
}

// exp: x = n ln 2 + r, 1 + r + r² P(r) with P interpolated at Chebyshev's nodes, scaled by 2^n. Relative error 2e-16;
// 0 far below -708 (with denormal numbers, or 0, in between), the largest powers beyond 709 cut there; NaN stays NaN.
OSTWALD_INLINE vec<double> exp(vec<double> x) {
  const double c[] = {5.00000000000000103e-1, 1.66666666666666675e-1, 4.16666666666238205e-2, 8.3333333333300382e-3,
                      1.38888889173670806e-3, 1.9841269863171556e-4,  2.48015210578682052e-5, 2.75572682769056962e-6,
                      2.76202015910315488e-7, 2.5100472505694996e-8};
  const auto power = [&](vec<double> r) __attribute__((always_inline)) { return r * (r * polynomial(r, c)) + r + 1.0; };
#if defined(OSTWALD_AVX512)
  // the maximum and minimum of a NaN and a number is their second argument
  const __m512d b = _mm512_min_pd(_mm512_set1_pd(709.0), _mm512_max_pd(_mm512_set1_pd(-800.0), (__m512d)x));
  const __m512d n = _mm512_roundscale_pd(_mm512_mul_pd(b, _mm512_set1_pd(1.4426950408889634)), 8);
  const vec<double> r = ((vec<double>)b - (vec<double>)n * 6.93147180369123816490e-01) -
                        (vec<double>)n * 1.90821492927058770002e-10;
  return (vec<double>)_mm512_scalef_pd((__m512d)power(r), n);
#else
  const vec<double> b = x < -708.0 ? splat(-708.0) : x > 709.0 ? splat(709.0) : x;
  const double magic = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to the nearest integer
  const vec<double> shifted = b * 1.4426950408889634 + magic;
  const vec<double> n = shifted - magic;
  const vec<double> r = (b - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  const ivec<double> scale = ((ivec<double>)shifted + 1023) << 52;  // the low bits of `shifted` hold n
  return x < -708.0 ? splat(0.0) : power(r) * (vec<double>)scale;
#endif
}
// Relative error 1e-7; 0 far below -87, cut at 88.
OSTWALD_INLINE vec<float> exp(vec<float> x) {
  const float c[] = {5.0e-1f, 1.66665766661199283e-1f, 4.16665542129841503e-2f, 8.3632328836826182e-3f,
                     1.39262508314976117e-3f};
  const auto power = [&](vec<float> r) __attribute__((always_inline)) { return r * (r * polynomial(r, c)) + r + 1.0f; };
#if defined(OSTWALD_FLOAT8)
  const __m256 b = _mm256_min_ps(_mm256_set1_ps(88.0f), _mm256_max_ps(_mm256_set1_ps(-110.0f), (__m256)x));
  const __m256 n = _mm256_roundscale_ps(_mm256_mul_ps(b, _mm256_set1_ps(1.44269504f)), 8);
  const vec<float> r = ((vec<float>)b - (vec<float>)n * 0.693359375f) + (vec<float>)n * 2.12194440e-4f;
  return (vec<float>)_mm256_scalef_ps((__m256)power(r), n);
#elif defined(OSTWALD_FLOAT16)
  const __m512 b = _mm512_min_ps(_mm512_set1_ps(88.0f), _mm512_max_ps(_mm512_set1_ps(-110.0f), (__m512)x));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(b, _mm512_set1_ps(1.44269504f)), 8);
  const vec<float> r = ((vec<float>)b - (vec<float>)n * 0.693359375f) + (vec<float>)n * 2.12194440e-4f;
  return (vec<float>)_mm512_scalef_ps((__m512)power(r), n);
#else
  const vec<float> b = x < -87.0f ? splat(-87.0f) : x > 88.0f ? splat(88.0f) : x;
  const float magic = 12582912.0f;  // 1.5 * 2^23
  const vec<float> shifted = b * 1.44269504f + magic;
  const vec<float> n = shifted - magic;
  const vec<float> r = (b - n * 0.693359375f) + n * 2.12194440e-4f;
  const ivec<float> scale = ((ivec<float>)shifted + 127) << 23;
  return x < -87.0f ? splat(0.0f) : power(r) * (vec<float>)scale;
#endif
}

// Natural logarithm of a positive normal number, 1 ulp: x = 2^k m with m in [1/sqrt 2, sqrt 2), log m = 2 artanh s with
// s = (m - 1)/(m + 1), whose series in s^2 is Chebyshev-economised.
template <class T> OSTWALD_INLINE vec<T> log(vec<T> x) {
  constexpr bool wide = sizeof(T) == 8;
  using I = int_of<T>;
  constexpr int mantissa = wide ? 52 : 23;
  constexpr I bias = wide ? 1023 : 127;
  const T root_half = T(0.70710678118654752440);
  I one_bits;
  const T one = 1;
  std::memcpy(&one_bits, &one, sizeof one);
  I half_bits;
  std::memcpy(&half_bits, &root_half, sizeof one);
  const ivec<T> bits = (ivec<T>)x + (one_bits - half_bits);  // carries into the exponent where m >= 1/sqrt 2
  const ivec<T> k = (bits >> mantissa) - bias;
  const ivec<T> m_bits = (bits & ((I(1) << mantissa) - 1)) + half_bits;
  const vec<T> m = (vec<T>)m_bits, f = m - T(1), s = f / (m + T(1)), z = s * s;
  const vec<T> e = to_real(k);
  vec<T> p;
  if constexpr (wide) {
    const double c[] = {6.66666666666666971e-1, 3.99999999998988905e-1, 2.85714286262538376e-1, 2.22222110893794962e-1,
                        1.81828924325368712e-1, 1.53316117220550079e-1, 1.4617807153417325e-1};
    p = polynomial(z, c);
  } else {
    const float c[] = {6.66666850954290687e-1f, 3.9988757716604847e-1f, 2.95809859299744226e-1f};
    p = polynomial(z, c);
  }
  // 2 s = f - s f, so that the largest term is exact
  const vec<T> small = s * (z * p - f);
  const T ln2_hi = wide ? T(6.93147180369123816490e-01) : T(0.693359375);
  const T ln2_lo = wide ? T(1.90821492927058770002e-10) : T(-2.12194440e-4);
  return e * ln2_hi + (f + (small + e * ln2_lo));
}

// Four columns of rows: x[k] = base[stride * index[k]], y[k] the next element, then z and w. Rows of four doubles must
// be aligned to 32 bytes, rows of four floats to 16. index holds lanes<T> numbers in memory.
template <class I>
OSTWALD_INLINE void load_rows(const double* base, int stride, const I* index, vec<double>& x, vec<double>& y, vec<double>& z,
                      vec<double>& w) {
#if defined(OSTWALD_AVX512)
  const auto row = [&](int k) __attribute__((always_inline)) { return base + int64_t(stride) * index[k]; };
  const auto two = [&](int k, int l) __attribute__((always_inline)) {
    return _mm512_insertf64x4(_mm512_castpd256_pd512(_mm256_load_pd(row(k))), _mm256_load_pd(row(l)), 1);
  };
  const __m512d a = two(0, 2), b = two(1, 3), c = two(4, 6), d = two(5, 7);
  const __m512d ab0 = _mm512_unpacklo_pd(a, b), ab1 = _mm512_unpackhi_pd(a, b);
  const __m512d cd0 = _mm512_unpacklo_pd(c, d), cd1 = _mm512_unpackhi_pd(c, d);
  x = (vec<double>)_mm512_shuffle_f64x2(ab0, cd0, 0x88);
  y = (vec<double>)_mm512_shuffle_f64x2(ab1, cd1, 0x88);
  z = (vec<double>)_mm512_shuffle_f64x2(ab0, cd0, 0xdd);
  w = (vec<double>)_mm512_shuffle_f64x2(ab1, cd1, 0xdd);
#else
  x = y = z = w = vec<double>{};
  for (int k = 0; k < lanes<double>; k++) {
    const double* row = base + int64_t(stride) * index[k];
    x[k] = row[0], y[k] = row[1], z[k] = row[2], w[k] = row[3];
  }
#endif
}
template <class I>
OSTWALD_INLINE void load_rows(const float* base, int stride, const I* index, vec<float>& x, vec<float>& y, vec<float>& z,
                      vec<float>& w) {
#if defined(OSTWALD_FLOAT8)
  const auto row = [&](int k) __attribute__((always_inline)) { return _mm_load_ps(base + int64_t(stride) * index[k]); };
  const auto two = [&](int k) __attribute__((always_inline)) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(row(k)), row(k + 4), 1);
  };
  const __m256 a = two(0), b = two(1), c = two(2), d = two(3);
  const __m256d ab0 = _mm256_castps_pd(_mm256_unpacklo_ps(a, b)), ab1 = _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
  const __m256d cd0 = _mm256_castps_pd(_mm256_unpacklo_ps(c, d)), cd1 = _mm256_castps_pd(_mm256_unpackhi_ps(c, d));
  x = (vec<float>)_mm256_unpacklo_pd(ab0, cd0);
  y = (vec<float>)_mm256_unpackhi_pd(ab0, cd0);
  z = (vec<float>)_mm256_unpacklo_pd(ab1, cd1);
  w = (vec<float>)_mm256_unpackhi_pd(ab1, cd1);
#elif defined(OSTWALD_FLOAT16)
  const auto row = [&](int k) __attribute__((always_inline)) { return _mm_load_ps(base + int64_t(stride) * index[k]); };
  const auto four = [&](int k) __attribute__((always_inline)) {
    __m512 a = _mm512_castps128_ps512(row(k));
    a = _mm512_insertf32x4(a, row(k + 4), 1);
    a = _mm512_insertf32x4(a, row(k + 8), 2);
    return _mm512_insertf32x4(a, row(k + 12), 3);
  };
  const __m512 a = four(0), b = four(1), c = four(2), d = four(3);
  const __m512d ab0 = _mm512_castps_pd(_mm512_unpacklo_ps(a, b)), ab1 = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
  const __m512d cd0 = _mm512_castps_pd(_mm512_unpacklo_ps(c, d)), cd1 = _mm512_castps_pd(_mm512_unpackhi_ps(c, d));
  x = (vec<float>)_mm512_unpacklo_pd(ab0, cd0);
  y = (vec<float>)_mm512_unpackhi_pd(ab0, cd0);
  z = (vec<float>)_mm512_unpacklo_pd(ab1, cd1);
  w = (vec<float>)_mm512_unpackhi_pd(ab1, cd1);
#else
  x = y = z = w = vec<float>{};
  for (int k = 0; k < lanes<float>; k++) {
    const float* row = base + int64_t(stride) * index[k];
    x[k] = row[0], y[k] = row[1], z[k] = row[2], w[k] = row[3];
  }
#endif
}
// The same for rows of four 32-bit integers.
template <class I>
OSTWALD_INLINE void load_rows(const int32_t* base, int stride, const I* index, ivec<float>& x, ivec<float>& y, ivec<float>& z,
                      ivec<float>& w) {
  vec<float> a, b, c, d;  // moves only: the bits of an integer pass through shuffles unchanged
#if defined(OSTWALD_AVX512)
  load_rows(reinterpret_cast<const float*>(base), stride, index, a, b, c, d);
  x = (ivec<float>)a, y = (ivec<float>)b, z = (ivec<float>)c, w = (ivec<float>)d;
#else
  (void)a, (void)b, (void)c, (void)d;
  for (int k = 0; k < lanes<float>; k++) {
    const int32_t* row = base + int64_t(stride) * index[k];
    x[k] = row[0], y[k] = row[1], z[k] = row[2], w[k] = row[3];
  }
#endif
}

// Subtracts (x, y, z, w)[k] from the row of four doubles at base + 4 index[k] of every lane; rows aligned to 32 bytes.
// Sequential, so equal indices are fine.
template <class I>
OSTWALD_INLINE void subtract_rows(double* base, const I* index, vec<double> x, vec<double> y, vec<double> z, vec<double> w) {
#if defined(OSTWALD_AVX512)
  const __m512d xy0 = _mm512_unpacklo_pd((__m512d)x, (__m512d)y), xy1 = _mm512_unpackhi_pd((__m512d)x, (__m512d)y);
  const __m512d zw0 = _mm512_unpacklo_pd((__m512d)z, (__m512d)w), zw1 = _mm512_unpackhi_pd((__m512d)z, (__m512d)w);
  const auto put = [&](int k, __m256d r) __attribute__((always_inline)) {
    double* p = base + 4 * int64_t(index[k]);
    _mm256_store_pd(p, _mm256_sub_pd(_mm256_load_pd(p), r));
  };
  const auto two = [&](int k, __m256d xy, __m256d zw) __attribute__((always_inline)) {
    put(k, _mm256_insertf128_pd(xy, _mm256_castpd256_pd128(zw), 1));
    put(k + 2, _mm256_permute2f128_pd(xy, zw, 0x31));
  };
  two(0, _mm512_castpd512_pd256(xy0), _mm512_castpd512_pd256(zw0));
  two(1, _mm512_castpd512_pd256(xy1), _mm512_castpd512_pd256(zw1));
  two(4, _mm512_extractf64x4_pd(xy0, 1), _mm512_extractf64x4_pd(zw0, 1));
  two(5, _mm512_extractf64x4_pd(xy1, 1), _mm512_extractf64x4_pd(zw1, 1));
#else
  for (int k = 0; k < lanes<double>; k++) {
    double* p = base + 4 * int64_t(index[k]);
    p[0] -= x[k], p[1] -= y[k], p[2] -= z[k], p[3] -= w[k];
  }
#endif
}
template <class I>
OSTWALD_INLINE void subtract_rows(double* base, const I* index, vec<float> x, vec<float> y, vec<float> z, vec<float> w) {
#if defined(OSTWALD_FLOAT8)
  const auto wide = [](vec<float> a) __attribute__((always_inline)) { return (vec<double>)_mm512_cvtps_pd((__m256)a); };
  subtract_rows(base, index, wide(x), wide(y), wide(z), wide(w));
#elif defined(OSTWALD_FLOAT16)
  const auto lo = [](vec<float> a) __attribute__((always_inline)) { return (vec<double>)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)a)); };
  const auto hi = [](vec<float> a) __attribute__((always_inline)) { return (vec<double>)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)a, 1)); };
  subtract_rows(base, index, lo(x), lo(y), lo(z), lo(w));
  subtract_rows(base, index + 8, hi(x), hi(y), hi(z), hi(w));
#else
  for (int k = 0; k < lanes<float>; k++) {
    double* p = base + 4 * int64_t(index[k]);
    p[0] -= x[k], p[1] -= y[k], p[2] -= z[k], p[3] -= w[k];
  }
#endif
}

// The same for the first n lanes.
template <class I, class V>
OSTWALD_INLINE void subtract_rows(double* base, const I* index, int n, V x, V y, V z, V w) {
  if (n >= int(sizeof(V) / sizeof(x[0]))) return subtract_rows(base, index, x, y, z, w);
  for (int k = 0; k < n; k++) {
    double* p = base + 4 * int64_t(index[k]);
    p[0] -= x[k], p[1] -= y[k], p[2] -= z[k], p[3] -= w[k];
  }
}

}  // namespace ostwald
