// Counter-based random numbers: Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
// 1, 2, 3", SC11 (2011), doi:10.1145/2063384.2063405. Every number is a pure function of (seed, purpose, id, step, k).
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "simd.hpp"

namespace py = pybind11;

namespace {

// Atoms are taken in batches of `units` vectors, one 64-bit lane an atom; the last batch is padded, so that each atom
// passes through the very same operations wherever it stands in the array. Several vectors hide the latency of one.
constexpr int width = ostwald::lanes<double>, units = 4, batch = width * units;
using real = ostwald::vec<double>;
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

inline void philox(word (&c)[units][4], uint32_t k0, uint32_t k1) {
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

// 52 bits to the middle of one of 2^52 equal intervals of (0, 1): exact in binary64 and never 0 or 1.
inline real unit(word lo, word hi) {
    const word mantissa = (hi << 32 | (lo & low_half)) >> 12;
    return (real)(mantissa | 0x3FF0000000000000u) - (1.0 - 0x1p-53);
}

// log x for normal x in (0, 1): x = 2^e m, m in [sqrt(1/2), sqrt 2); log m = 2 artanh((m - 1) / (m + 1)) by its series,
// whose argument is at most 0.172, so that twelve terms reach rounding.
inline real logarithm(real x) {
    constexpr uint64_t root = 0x3FE6A09E667F3BCDull;  // bits of sqrt(1/2)
    const word shifted = (word)x - root;
    const real e = ostwald::to_real((ostwald::ivec<double>)shifted >> 52);
    const real m = (real)((shifted & 0x000FFFFFFFFFFFFFull) + root);
    const real t = (m - 1.0) / (m + 1.0), z = t * t, w = z * z;
    real even = w * (1.0 / 23.0) + 1.0 / 19.0, odd = w * (1.0 / 21.0) + 1.0 / 17.0;  // of 1/3 + z/5 + z^2/7 + ...
    even = even * w + 1.0 / 15.0, odd = odd * w + 1.0 / 13.0;
    even = even * w + 1.0 / 11.0, odd = odd * w + 1.0 / 9.0;
    even = even * w + 1.0 / 7.0, odd = odd * w + 1.0 / 5.0;
    even = even * w + 1.0 / 3.0;
    return e * 0.69314718055994530942 + (2.0 * t + 2.0 * t * (z * (even + z * odd)));
}

// cos and sin of 2 pi v, v in (0, 1), by Taylor series within an eighth of a turn of the nearest quarter.
inline void circle(real v, real& cosine, real& sine) {
    const ostwald::ivec<double> q = ostwald::to_int(4.0 * v + 0.5);  // 0 ... 4
    const real a = (v - 0.25 * ostwald::to_real(q)) * 6.28318530717958647693, z = a * a;
    real s = z * (-1.0 / 1307674368000.0) + 1.0 / 6227020800.0, c = z * (1.0 / 20922789888000.0) - 1.0 / 87178291200.0;
    s = s * z - 1.0 / 39916800.0, c = c * z + 1.0 / 479001600.0;
    s = s * z + 1.0 / 362880.0, c = c * z - 1.0 / 3628800.0;
    s = s * z - 1.0 / 5040.0, c = c * z + 1.0 / 40320.0;
    s = s * z + 1.0 / 120.0, c = c * z - 1.0 / 720.0;
    s = s * z - 1.0 / 6.0, c = c * z + 1.0 / 24.0;
    s = a + a * (z * s), c = 1.0 + z * (z * c - 0.5);
    const auto swapped = (q & 1) != 0;
    const real x = swapped ? s : c, y = swapped ? c : s;
    const auto cosine_sign = ((q + 1) & 2) << 62, sine_sign = (q & 2) << 62;  // bit 63: below zero
    cosine = (real)((ostwald::ivec<double>)x ^ cosine_sign);
    sine = (real)((ostwald::ivec<double>)y ^ sine_sign);
}

struct Key {
    uint32_t k0, k1;
};

// Seed (64 bits) and purpose (64 bits) pass through Philox itself to give the key of their stream.
Key derive(uint64_t seed, uint64_t purpose) {
    word c[units][4] = {};
    const uint64_t counter[4] = {seed & low_half, seed >> 32, purpose & low_half, purpose >> 32};
    for (int w = 0; w < 4; ++w) c[0][w] = word{} + counter[w];
    philox(c, 0, 0);
    return {uint32_t(c[0][0][0]), uint32_t(c[0][1][0])};
}

template <bool normal>
py::array_t<double> draw(uint64_t seed, uint64_t purpose, const py::array_t<int64_t, py::array::c_style>& ids,
                         uint64_t step, int64_t k) {
    if (ids.ndim() != 1) throw std::invalid_argument("ids must be (n,) int64");
    if (k < 1 || k > 2 * 65536) throw std::invalid_argument("k must be between 1 and 131072");
    if (step >> 48) throw std::invalid_argument("step must be between 0 and 2^48 - 1");
    const int64_t n = ids.shape(0);
    py::array_t<double> result({n, k});
    const int64_t* id = ids.data();
    double* out = result.mutable_data();
    const Key key = derive(seed, purpose);
    py::gil_scoped_release release;
    for (int64_t first = 0; first < n; first += batch) {
        const int64_t count = n - first < batch ? n - first : batch;
        word who[units] = {};
        std::memcpy(who, id + first, count * sizeof(int64_t));
        for (int64_t block = 0; 2 * block < k; ++block) {
            word c[units][4];
            for (int u = 0; u < units; ++u) {
                c[u][0] = who[u], c[u][1] = who[u] >> 32;
                c[u][2] = word{} + (step & low_half), c[u][3] = word{} + ((step >> 32) << 16 | uint64_t(block));
            }
            philox(c, key.k0, key.k1);
            real x[2][units];
            for (int u = 0; u < units; ++u) x[0][u] = unit(c[u][0], c[u][1]), x[1][u] = unit(c[u][2], c[u][3]);
            if (normal) {  // Box and Muller, Ann. Math. Stat. 29, 610 (1958)
                for (int u = 0; u < units; ++u) {
                    const real radius = ostwald::sqrt(-2.0 * logarithm(x[0][u]));
                    real cosine, sine;
                    circle(x[1][u], cosine, sine);
                    x[0][u] = radius * cosine, x[1][u] = radius * sine;
                }
            }
            double values[2][batch];
            std::memcpy(values, x, sizeof values);
            double* row = out + first * k + 2 * block;
            if (2 * block + 1 < k) {
                for (int64_t l = 0; l < count; ++l, row += k) row[0] = values[0][l], row[1] = values[1][l];
            } else {
                for (int64_t l = 0; l < count; ++l, row += k) row[0] = values[0][l];
            }
        }
    }
    return result;
}

// The bare block cipher, for known-answer tests: counter (n, 4) uint32, key (2,) uint32 -> (n, 4) uint32.
py::array_t<uint32_t> block(const py::array_t<uint32_t, py::array::c_style>& counter,
                            const py::array_t<uint32_t, py::array::c_style>& key) {
    if (counter.ndim() != 2 || counter.shape(1) != 4 || key.size() != 2)
        throw std::invalid_argument("counter must be (n, 4) and key (2,) uint32");
    const int64_t n = counter.shape(0);
    py::array_t<uint32_t> out({n, int64_t(4)});
    for (int64_t i = 0; i < n; ++i) {
        word c[units][4] = {};
        for (int w = 0; w < 4; ++w) c[0][w] = word{} + counter.data()[4 * i + w];
        philox(c, key.data()[0], key.data()[1]);
        for (int w = 0; w < 4; ++w) out.mutable_data()[4 * i + w] = uint32_t(c[0][w][0]);
    }
    return out;
}

}  // namespace

PYBIND11_MODULE(_random, m) {
    m.doc() = "Philox4x32-10 counter-based random numbers.";
    m.def("uniform", &draw<false>, py::arg("seed"), py::arg("purpose"), py::arg("ids").noconvert(), py::arg("step"),
          py::arg("k"));
    m.def("normal", &draw<true>, py::arg("seed"), py::arg("purpose"), py::arg("ids").noconvert(), py::arg("step"),
          py::arg("k"));
    m.def("block", &block, py::arg("counter").noconvert(), py::arg("key").noconvert());
    m.def("key", [](uint64_t seed, uint64_t purpose) {
        const Key k = derive(seed, purpose);
        return uint64_t(k.k1) << 32 | k.k0;
    });
}
