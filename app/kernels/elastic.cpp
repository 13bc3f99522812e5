// Elastic fields of coherent crystals: what a spectrum of φ, or of displacements, means in stress and strain (elastic.hpp, sweeps.hpp).
#include "elastic.hpp"
#include "sweeps.hpp"

using namespace ostwald;
using namespace ostwald::sweeps;

namespace {

// Wave numbers of some columns, in the order in which the transform along x delivers them. Where a length is even its last wave number
// stands for both signs, and is 0 here: a field of which nothing is known between the points has no slope there.
template <class T> struct Waves {
  std::vector<T> x;
  const T *y, *z;

  Waves(int64_t columns, const py::array& kx, const py::array& ky, const py::array& kz)
      : y(elements<T>(ky, "ky", 1, false)), z(elements<T>(kz, "kz", 2, false)) {
    require(ky.shape(0) == columns && kz.shape(0) == columns && kz.shape(1) == lanes<T> && (kz.flags() & py::array::c_style),
            "ky must be (columns,), kz C-contiguous (columns, W)");
    const T* wave = elements<T>(kx, "kx", 1, false);
    for (int k : fft::plan<T>(int(kx.shape(0))).order()) x.push_back(wave[k]);
  }
};

// ---- homogeneous moduli: closed form -------------------------------------------------------------------------------------

template <class T>
void sweep_homogeneous(const T* spectrum, T* out, int64_t count, const Waves<T>& waves, const Elasticity<T>& moduli,
                       const std::array<T, 6>& of_strain, T of_phi, int threads) {
  const int n = int(waves.x.size());
  py::gil_scoped_release release;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t c = 0; c < count; c++) {
    const vec<T> z = load(waves.z + c * lanes<T>);
    const T y = waves.y[c];
    typename Elasticity<T>::Column column;
    column.set(moduli, y, z);
    const T* a = spectrum + c * n * row<T>;
    T* o = out + c * n * row<T>;
    for (int j = 0; j < n; j++, a += row<T>, o += row<T>) {
      const T x = waves.x[j];
      vec<T> s[3], b[6], d, v[3];
      moduli.parts(column, x, s, b, d);
      solve<T>(b, d, s, v);
      const vec<T> f = x * (of_strain[0] * v[0] + of_strain[4] * v[2] + of_strain[5] * v[1]) +
                       y * (of_strain[1] * v[1] + of_strain[3] * v[2] + of_strain[5] * v[0]) +
                       z * (of_strain[2] * v[2] + of_strain[3] * v[1] + of_strain[4] * v[0]) + of_phi;
      store<T>(o, f * load(a)), store<T>(o + lanes<T>, f * load(a + lanes<T>));
    }
  }
}

void homogeneous(py::array spectrum, py::array out, py::array kx, py::array ky, py::array kz, py::object elasticity,
                 std::array<double, 6> of_strain, double of_phi, int threads) {
  by_dtype(spectrum, [&](auto t) {
    using T = decltype(t);
    const int64_t count = spectrum.ndim() == 3 ? spectrum.shape(0) : 0;
    const Waves<T> waves(count, kx, ky, kz);
    const int n = int(waves.x.size());
    std::array<T, 6> factors;
    for (int i = 0; i < 6; i++) factors[i] = T(of_strain[i]);
    sweep_homogeneous<T>(spectrum_of<T>(spectrum, count, n), spectrum_of<T>(out, count, n), count, waves, elasticity_of<T>(elasticity),
                         factors, T(of_phi), threads);
  });
}

}  // namespace

PYBIND11_MODULE(_elastic, module) {
  module.doc() = "Elastic fields of coherent crystals.";
  using namespace py::literals;
  module.def("homogeneous", &homogeneous, "spectrum"_a, "out"_a, "kx"_a, "ky"_a, "kz"_a, "elasticity"_a, "of_strain"_a, "of_phi"_a,
             "threads"_a = 1,
             "out = (Σ of_strain e + of_phi) φ^, e the strain (xx, yy, zz, 2 yz, 2 xz, 2 xy) that a unit of φ relaxes by.");
}
