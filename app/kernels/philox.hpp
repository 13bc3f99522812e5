// Counter-based random numbers in vectors: Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
// 1, 2, 3", SC11 (2011), doi:10.1145/2063384.2063405. Every number is a pure function of (seed, purpose, id, step, k).
#pragma once

#include <cstdint>

#include "simd.hpp"

namespace ostwald::philox {

// One 64-bit lane an id, in batches of `units` vectors: several hide the latency of one.
constexpr int width = lanes<double>, units = 4, batch = width * units;
using real = vec<double>;
using word = typename ostwald::detail::vector<uint64_t, width>::type;  // 32 bits used, the upper half is noise

constexpr uint64_t low_half = 0xFFFFFFFFu;

inline word product(word a, uint32_t m) {  // of the low halves
#if defined(OSTWALD_AVX512)
  return (word)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi64(m));
#elif defined(__AVX2__)
  return (word)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(m));
#else
  return (a & low_half) * m;
#endif
}

inline void rounds(word (&c)[units][4], uint32_t k0, uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    for (int u = 0; u < units; ++u) {
      const word p = product(c[u][0], 0xD2511F53u), q = product(c[u][2], 0xCD9E8D57u);
      c[u][0] = (q >> 32) ^ c[u][1] ^ k0;
      c[u][1] = q;
      c[u][2] = (p >> 32) ^ c[u][3] ^ k1;
      c[u][3] = p;
    }
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
}

struct Key {
  uint32_t k0, k1;
};

// Seed (64 bits) and purpose (64 bits) pass through Philox itself to give the key of their stream.
inline Key derive(uint64_t seed, uint64_t purpose) {
  word c[units][4] = {};
  const uint64_t counter[4] = {seed & low_half, seed >> 32, purpose & low_half, purpose >> 32};
  for (int w = 0; w < 4; ++w) c[0][w] = word{} + counter[w];
  rounds(c, 0, 0);
  return {uint32_t(c[0][0][0]), uint32_t(c[0][1][0])};
}

// The counter of these ids at this step, encrypted: 128 random bits for numbers 2 block and 2 block + 1 of each.
inline void encrypt(const word (&ids)[units], Key key, uint64_t step, uint64_t block, word (&c)[units][4]) {
  for (int u = 0; u < units; ++u) {
    c[u][0] = ids[u], c[u][1] = ids[u] >> 32;
    c[u][2] = word{} + (step & low_half), c[u][3] = word{} + ((step >> 32) << 16 | block);
  }
  rounds(c, key.k0, key.k1);
}

// 52 (or 23) bits to the middle of one of as many equal intervals of (0, 1): exact and never 0 or 1.
inline vec<double> unit(ivec<double> bits) {
  const word mantissa = (word)bits >> 12;
  return (vec<double>)(mantissa | 0x3FF0000000000000u) - (1.0 - 0x1p-53);
}
inline vec<float> unit(ivec<float> bits) {
  using word32 = typename ostwald::detail::vector<uint32_t, lanes<float>>::type;
  const word32 mantissa = (word32)bits >> 9;
  return (vec<float>)(mantissa | 0x3F800000u) - (1.0f - 0x1p-24f);
}
inline real unit(word lo, word hi) { return unit((ivec<double>)(hi << 32 | (lo & low_half))); }

// cos and sin of 2 pi v, v in (0, 1), by Taylor series within an eighth of a turn of the nearest quarter.
template <class T> inline void circle(vec<T> v, vec<T>& cosine, vec<T>& sine) {
  const ivec<T> q = to_int(T(4) * v + T(0.5));  // 0 ... 4
  const vec<T> a = (v - T(0.25) * to_real(q)) * T(6.28318530717958647693), z = a * a;
  vec<T> s{}, c{};
  if constexpr (sizeof(T) == 8) {
    s = z * (-1.0 / 1307674368000.0) + 1.0 / 6227020800.0, c = z * (1.0 / 20922789888000.0) - 1.0 / 87178291200.0;
    s = s * z - 1.0 / 39916800.0, c = c * z + 1.0 / 479001600.0;
  }
  s = s * z + T(1.0 / 362880.0), c = c * z - T(1.0 / 3628800.0);
  s = s * z - T(1.0 / 5040.0), c = c * z + T(1.0 / 40320.0);
  s = s * z + T(1.0 / 120.0), c = c * z - T(1.0 / 720.0);
  s = s * z - T(1.0 / 6.0), c = c * z + T(1.0 / 24.0);
  s = a + a * (z * s), c = T(1) + z * (z * c - T(0.5));
  const auto swapped = (q & 1) != 0;
  const vec<T> x = swapped ? s : c, y = swapped ? c : s;
  constexpr int up = 8 * sizeof(T) - 2;
  const ivec<T> cosine_sign = ((q + 1) & 2) << up, sine_sign = (q & 2) << up;  // the highest bit: below zero
  cosine = (vec<T>)((ivec<T>)x ^ cosine_sign);
  sine = (vec<T>)((ivec<T>)y ^ sine_sign);
}

// Two uniform numbers to two normal ones (Box and Muller, Ann. Math. Stat. 29, 610 (1958)).
template <class T> inline void box_muller(vec<T>& x, vec<T>& y) {
  const vec<T> radius = sqrt(T(-2) * log<T>(x));
  vec<T> cosine, sine;
  circle<T>(y, cosine, sine);
  x = radius * cosine, y = radius * sine;
}

}  // namespace ostwald::philox
