// Counter-based random numbers: Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
// 1, 2, 3", SC11 (2011), doi:10.1145/2063384.2063405. Every number is a pure function of (seed, purpose, id, step, k).
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>

namespace py = pybind11;

namespace {

constexpr int lanes = 16;  // atoms per batch; tails are padded so that each atom takes the very same instructions

struct Batch {
    uint32_t c[4][lanes];
};

inline void philox(Batch& b, uint32_t k0, uint32_t k1) {
    for (int round = 0; round < 10; ++round) {
        for (int l = 0; l < lanes; ++l) {
            const uint64_t p = uint64_t(0xD2511F53u) * b.c[0][l], q = uint64_t(0xCD9E8D57u) * b.c[2][l];
            const uint32_t c0 = uint32_t(q >> 32) ^ b.c[1][l] ^ k0, c2 = uint32_t(p >> 32) ^ b.c[3][l] ^ k1;
            b.c[0][l] = c0, b.c[1][l] = uint32_t(q), b.c[2][l] = c2, b.c[3][l] = uint32_t(p);
        }
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
}

// 52 bits to the middle of one of 2^52 equal intervals of (0, 1): exact in binary64 and never 0 or 1.
inline double unit(uint32_t lo, uint32_t hi) {
    const uint64_t bits = (uint64_t(hi) << 32 | lo) >> 12;
    return (double(int64_t(bits)) + 0.5) * 0x1p-52;
}

// log x for normal x in (0, 1): x = 2^e m, m in [sqrt(1/2), sqrt 2); log m = 2 artanh((m - 1) / (m + 1)) by its series,
// whose argument is at most 0.172, so that twelve terms reach rounding.
inline double logarithm(double x) {
    uint64_t bits;
    std::memcpy(&bits, &x, 8);
    const uint64_t shifted = bits - 0x3FE6A09E667F3BCDull;  // bits of sqrt(1/2)
    const int64_t e = int64_t(shifted) >> 52;
    const uint64_t mantissa = (shifted & 0x000FFFFFFFFFFFFFull) + 0x3FE6A09E667F3BCDull;
    double m;
    std::memcpy(&m, &mantissa, 8);
    const double t = (m - 1.0) / (m + 1.0), z = t * t;
    double s = 1.0 / 23.0;
    s = s * z + 1.0 / 21.0, s = s * z + 1.0 / 19.0, s = s * z + 1.0 / 17.0, s = s * z + 1.0 / 15.0;
    s = s * z + 1.0 / 13.0, s = s * z + 1.0 / 11.0, s = s * z + 1.0 / 9.0, s = s * z + 1.0 / 7.0;
    s = s * z + 1.0 / 5.0, s = s * z + 1.0 / 3.0, s = s * z;
    return double(e) * 0.69314718055994530942 + (2.0 * t + 2.0 * t * s);
}

// cos and sin of 2 pi v, v in (0, 1), by Taylor series within an eighth of a turn of the nearest quarter.
inline void circle(double v, double& cosine, double& sine) {
    const double quarter = double(int64_t(4.0 * v + 0.5));
    const double a = (v - 0.25 * quarter) * 6.28318530717958647693, z = a * a;
    double s = -1.0 / 1307674368000.0, c = 1.0 / 20922789888000.0;
    c = c * z - 1.0 / 87178291200.0;
    s = s * z + 1.0 / 6227020800.0, c = c * z + 1.0 / 479001600.0;
    s = s * z - 1.0 / 39916800.0, c = c * z - 1.0 / 3628800.0;
    s = s * z + 1.0 / 362880.0, c = c * z + 1.0 / 40320.0;
    s = s * z - 1.0 / 5040.0, c = c * z - 1.0 / 720.0;
    s = s * z + 1.0 / 120.0, c = c * z + 1.0 / 24.0;
    s = s * z - 1.0 / 6.0, c = c * z - 0.5;
    s = a + a * (z * s), c = 1.0 + z * c;
    const int64_t q = int64_t(quarter);  // 0 ... 4
    const double x = (q & 1) ? s : c, y = (q & 1) ? c : s;
    cosine = (q == 1 || q == 2) ? -x : x;
    sine = (q == 2 || q == 3) ? -y : y;
}

struct Key {
    uint32_t k0, k1;
};

// Seed (64 bits) and purpose (64 bits) pass through Philox itself to give the key of their stream.
Key derive(uint64_t seed, uint64_t purpose) {
    Batch b{};
    b.c[0][0] = uint32_t(seed), b.c[1][0] = uint32_t(seed >> 32);
    b.c[2][0] = uint32_t(purpose), b.c[3][0] = uint32_t(purpose >> 32);
    philox(b, 0, 0);
    return {b.c[0][0], b.c[1][0]};
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
    for (int64_t first = 0; first < n; first += lanes) {
        const int count = int(n - first < lanes ? n - first : lanes);
        uint64_t who[lanes] = {};
        for (int l = 0; l < count; ++l) who[l] = uint64_t(id[first + l]);
        for (int64_t block = 0; 2 * block < k; ++block) {
            Batch b;
            double x[2][lanes];
            for (int l = 0; l < lanes; ++l) {
                b.c[0][l] = uint32_t(who[l]), b.c[1][l] = uint32_t(who[l] >> 32);
                b.c[2][l] = uint32_t(step), b.c[3][l] = uint32_t(step >> 32) << 16 | uint32_t(block);
            }
            philox(b, key.k0, key.k1);
            for (int l = 0; l < lanes; ++l) {
                x[0][l] = unit(b.c[0][l], b.c[1][l]);
                x[1][l] = unit(b.c[2][l], b.c[3][l]);
            }
            if (normal) {  // Box and Muller, Ann. Math. Stat. 29, 610 (1958)
                for (int l = 0; l < lanes; ++l) {
                    const double radius = __builtin_sqrt(-2.0 * logarithm(x[0][l]));
                    double c, s;
                    circle(x[1][l], c, s);
                    x[0][l] = radius * c, x[1][l] = radius * s;
                }
            }
            const bool both = 2 * block + 1 < k;
            for (int l = 0; l < count; ++l) {
                double* row = out + (first + l) * k + 2 * block;
                row[0] = x[0][l];
                if (both) row[1] = x[1][l];
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
        Batch b{};
        for (int w = 0; w < 4; ++w) b.c[w][0] = counter.data()[4 * i + w];
        philox(b, key.data()[0], key.data()[1]);
        for (int w = 0; w < 4; ++w) out.mutable_data()[4 * i + w] = b.c[w][0];
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
