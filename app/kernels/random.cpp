// Counter-based random numbers for Python (philox.hpp).
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "philox.hpp"

namespace py = pybind11;
using namespace ostwald::philox;

namespace {

// Atoms are taken in batches; the last one is padded, so that each atom passes through the very same operations wherever it
// stands in the array.
template <bool normal>
py::array_t<double> numbers(uint64_t seed, uint64_t purpose, const py::array_t<int64_t, py::array::c_style>& ids, uint64_t step,
                            int64_t k) {
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
      encrypt(who, key, step, uint64_t(block), c);
      real x[2][units];
      for (int u = 0; u < units; ++u) x[0][u] = unit(c[u][0], c[u][1]), x[1][u] = unit(c[u][2], c[u][3]);
      if (normal)
        for (int u = 0; u < units; ++u) box_muller<double>(x[0][u], x[1][u]);
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
    rounds(c, key.data()[0], key.data()[1]);
    for (int w = 0; w < 4; ++w) out.mutable_data()[4 * i + w] = uint32_t(c[0][w][0]);
  }
  return out;
}

}  // namespace

PYBIND11_MODULE(_random, m) {
  m.doc() = "Philox4x32-10 counter-based random numbers.";
  m.def("uniform", &numbers<false>, py::arg("seed"), py::arg("purpose"), py::arg("ids").noconvert(), py::arg("step"),
        py::arg("k"));
  m.def("normal", &numbers<true>, py::arg("seed"), py::arg("purpose"), py::arg("ids").noconvert(), py::arg("step"),
        py::arg("k"));
  m.def("block", &block, py::arg("counter").noconvert(), py::arg("key").noconvert());
  m.def("key", [](uint64_t seed, uint64_t purpose) {
    const Key k = derive(seed, purpose);
    return uint64_t(k.k1) << 32 | k.k0;
  });
}
