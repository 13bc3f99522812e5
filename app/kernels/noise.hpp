// Gaussian noise of a real periodic field, made where it is wanted in k-space: the normal numbers of a wave vector are Philox's of its
// number (x n1 + y) n2 + z among the points of the whole transform, so they depend on no rank, thread or layout. Of k and -k
// the lower number counts; k = 0 gets nothing.
#pragma once

#include <tuple>
#include <vector>

#include "philox.hpp"
#include "sweeps.hpp"

namespace ostwald::sweeps {

// The variance of a mode in a step φ^ ← (φ^ - m g^) f, f = 1/(1 + x), x = m (ε q² + Y): thermal m f (1 + f)/2 + white. The first term
// is 2 kT/V m for short steps, and for steps of any length what keeps the exact variance kT/V (ε q² + Y) of a mode without g.
template <class T> struct Noise {
  philox::Key key;
  uint64_t step;
  double thermal, white;     // 2 kT/V; variance of each point over points
  int64_t n0, n1, n2;
  const int64_t *y, *z;      // (columns,), (columns, W): wave numbers 0 … n1 - 1, 0 … n2/2
  std::vector<int> order;    // of wave numbers along x in a column

  using Numbers = std::tuple<uint64_t, uint64_t, double, double, int64_t, int64_t, py::array, py::array>;
  Noise(const Numbers& numbers, int64_t columns, int64_t n0_) : n0(n0_) {
    const auto& [stream, step_, thermal_, white_, n1_, n2_, ky, kz] = numbers;
    key = {uint32_t(stream), uint32_t(stream >> 32)}, step = step_, thermal = thermal_, white = white_, n1 = n1_, n2 = n2_;
    y = elements<int64_t>(ky, "wave numbers along y", 1, false), z = elements<int64_t>(kz, "wave numbers along z", 2, false);
    require(ky.shape(0) == columns && kz.shape(0) == columns && kz.shape(1) == lanes<T> && (kz.flags() & py::array::c_style),
            "wave numbers of the noise must be C-contiguous (columns,) and (columns, W)");
    order = fft::plan<T>(int(n0)).order();
  }

  // The rows of column c. rates(wave number, m, f): of each row; weight as of Fourier.
  template <class Rates> void fill(T* out, int64_t c, vec<T> weight, Rates&& rates) const {
    using namespace philox;
    constexpr int W = lanes<T>, parts = W / width, rows = units / parts;  // vectors of ids a row, taking lanes in turns; rows a batch
    static_assert(parts * width == W && rows * parts == units);
    word kz[parts], own[parts];
    for (int p = 0; p < parts; p++)
      for (int l = 0; l < width; l++) {
        kz[p][l] = uint64_t(z[c * W + parts * l + p]);
        own[p][l] = weight[parts * l + p] == T(1) ? ~uint64_t(0) : 0;
      }
    const vec<T> half = weight > T(0) ? splat(T(0.5)) : vec<T>{};  // of the variance for each of the two parts
    const int64_t opposite = (n1 - y[c]) % n1;
    for (int64_t j = 0; j < n0; j += rows) {
      word ids[units];
      bool turned[rows], alone[rows];
      for (int r = 0; r < rows; r++) {
        const int64_t x = order[std::min(j + r, n0 - 1)];
        const uint64_t here = uint64_t((x * n1 + y[c]) * n2), there = uint64_t(((n0 - x) % n0 * n1 + opposite) * n2);
        turned[r] = there < here, alone[r] = there == here;
        for (int p = 0; p < parts; p++) ids[r * parts + p] = kz[p] + (own[p] & std::min(here, there)) + (~own[p] & here);
      }
      word bits[units][4];
      encrypt(ids, key, step, 0, bits);
      vec<T> re[rows], im[rows];
      for (int r = 0; r < rows; r++) re[r] = uniform(bits + r * parts, 0), im[r] = uniform(bits + r * parts, 2);
      for (int r = 0; r < rows; r++) box_muller<T>(re[r], im[r]);
      for (int r = 0; r < rows && j + r < n0; r++) {
        vec<T> m, f;
        rates(order[j + r], m, f);
        const vec<T> variance = T(0.5 * thermal) * m * f * (T(1) + f) + T(white);
        const vec<T> share = alone[r] ? (weight == T(1) ? splat(T(1)) : half) : half;
        const vec<T> size = sqrt(m > T(0) ? share * variance : vec<T>{});
        // the conjugate of the opposite one where that counts, a real number where both are the same
        const vec<T> b = weight == T(1) ? (alone[r] ? vec<T>{} : turned[r] ? -im[r] : im[r]) : im[r];
        T* o = out + (j + r) * row<T>;
        store<T>(o, size * re[r]), store<T>(o + W, size * b);
      }
    }
  }
 private:
  // Numbers of a row from the words k and k + 1 of its vectors of ids: 64 bits of one in double precision, 32 of two in single.
  static OSTWALD_INLINE vec<T> uniform(const philox::word (*vectors)[4], int k) {
    using namespace philox;
    if constexpr (sizeof(T) == 8) return unit(vectors[0][k], vectors[0][k + 1]);
    else return unit((ivec<float>)((vectors[0][k + 1] & low_half) | vectors[1][k + 1] << 32));
  }
};

}  // namespace ostwald::sweeps
