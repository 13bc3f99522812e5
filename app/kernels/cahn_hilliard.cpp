// The semi-implicit spectral step of the Cahn–Hilliard equation ∂φ/∂t = M ∇²(g'(φ) - ε∇²φ + elastic), as two sweeps over memory
// (sweeps.hpp says how the complex rows lie):
//
//   planes    transform back along y and z, g'(φ) in registers between the last pass back and the first pass forth, forth along z and y;
//   columns   forth along x, the new spectrum in registers, back along x.
//
// The spectrum φ^ stays in k-space and is read and written once a step, at the place of each wave number in the order in which the
// transform along x delivers it. Wave numbers come from tables of one dimension; nothing of the size of the grid is tabulated.
//
// The spectrum is that of φ - <φ>: its row k = 0 is exactly zero and stays so; <φ> enters g' as a number in double precision.
#include <limits>

#include "columns.hpp"
#include "noise.hpp"
#include "planes.hpp"
#include "wells.hpp"

using namespace ostwald;
using namespace ostwald::sweeps;

namespace {

// ---- the sweep over planes -----------------------------------------------------------------------------------------------

void planes(py::array array, int n1, int n2, wells::Terms terms, double shift, py::object sums, bool look, bool along_y, int threads) {
  require(!look || !sums.is_none(), "looking needs an array for the sums");
  by_dtype(array, [&](auto t) {
    using T = decltype(t);
    const Planes<T> work(array, n1, n2, along_y);
    double* out = sums_of(sums, work);
    wells::with_well<T>(terms, [&](const auto& well) {
      using Well = std::decay_t<decltype(well)>;
      const auto go = [&](auto measure, auto looking) {
        const auto make = [&](const Group<T>& group) { return Slope<T, Well, measure.value>{well, T(shift), group, out}; };
        sweep_planes<T, looking.value>(work, make, along_y, threads);
      };
      const std::true_type yes;
      const std::false_type no;
      look ? go(yes, yes) : out ? go(yes, no) : go(no, no);
    });
  });
}

// ---- the sweep over columns ----------------------------------------------------------------------------------------------

// φ^ ← (φ^ - m (g^ + extra)) / (1 + m (ε q² + Y(q))), m = dt M q² where φ is conserved, dt L where it relaxes; 0 at q = 0
template <class T, bool elastic, bool measure, bool more> struct Update {
  T* spectrum;      // moves on
  const T* extra;   // another chemical potential in k-space, where `more`; moves on
  const T* noise;   // what to add at last, or null; moves on
  const T* kx;      // by wave number
  T kyy;            // k_y²
  vec<T> kzz;       // k_z²
  T rate, relaxation;  // dt M, 0; or 0, dt L
  T points, share;     // share = 1/points
  T stiffness;      // ε
  const Elasticity<T>* moduli;
  typename Elasticity<T>::Column column;
  vec<T> weight;    // 2 where the lane stands for k and -k, 1 where for itself, 0 where for nothing
  double gradient = 0, strain = 0;

  // m at wave number i, and 1/(1 + m (ε q² + Y)), where Y = e0 - n/d
  OSTWALD_INLINE void rates(int i, vec<T>& qq, vec<T>& m, vec<T>& f, vec<T>& n, vec<T>& d) const {
    const T k = kx[i];
    qq = kzz + (k * k + kyy), m = qq > T(0) ? rate * qq + relaxation : vec<T>{};
    if constexpr (elastic) {
      moduli->at(column, k, n, d);
      f = d / (d + m * ((stiffness * qq + moduli->e0) * d - n));
    } else {
      f = T(1) / (T(1) + m * (stiffness * qq));
    }
  }

  template <int R> OSTWALD_INLINE void apply(int j, int stride, vec<T>* re, vec<T>* im) {
    vec<T> g{}, y{};
#pragma GCC unroll 8
    for (int p = 0; p < R; p++, spectrum += row<T>) {
      vec<T> qq, m, f, n, d;
      rates(j + stride * p, qq, m, f, n, d);
      const vec<T> a = share * m, cr = load(spectrum), ci = load(spectrum + lanes<T>);
      if constexpr (measure) {
        const vec<T> power = weight * (cr * cr + ci * ci);
        g += power * qq;
        if constexpr (elastic) y += power * (moduli->e0 - n / d);
      }
      if constexpr (more) {
        re[p] += points * load(extra), im[p] += points * load(extra + lanes<T>);
        extra += row<T>;
      }
      re[p] = (cr - a * re[p]) * f, im[p] = (ci - a * im[p]) * f;
      if (noise) {
        re[p] += load(noise), im[p] += load(noise + lanes<T>);
        noise += row<T>;
      }
      store(spectrum, re[p]), store(spectrum + lanes<T>, im[p]);
    }
    if constexpr (measure) {
      gradient += wide_sum(g);
      if constexpr (elastic) strain += wide_sum(y);
    }
  }
};

template <class T, bool elastic, bool measure, bool more>
void sweep_columns(const Columns<T>& columns, T* spectrum, const T* extra, const T* kx, const T* ky, const T* kz, const T* weight, double rate,
                   double relaxation, double points, double stiffness, const Elasticity<T>* moduli, const Noise<T>* noise, double* out,
                   int threads) {
  const int n = columns.size();
  const auto &forth = fft::plan<T>(n), &back = fft::plan<T>(n, true);
  using Operation = Update<T, elastic, measure, more>;
  const int some = rows_a_butterfly(forth, back);
  py::gil_scoped_release release;
#pragma omp parallel num_threads(threads)
  {
    Buffer<T> a(forth.buffer()), b(back.buffer()), scratch(std::max(forth.scratch(), back.scratch())), random(noise ? n * row<T> : 0);
#pragma omp for schedule(dynamic, 16)
    for (int64_t c = 0; c < columns.count; c++) {
      const int64_t next = std::min(c + 1, columns.count - 1);
      const Column<T> column{columns.planes.data(), c * row<T>};
      Fetch<T, 1> fetch{columns.planes.data(), next * row<T>, {spectrum + next * n * row<T>}, some, n};
      const vec<T> k = load(kz + c * lanes<T>);
      Operation op{spectrum + c * n * row<T>, more ? extra + c * n * row<T> : nullptr, noise ? random.data : nullptr, kx, ky[c] * ky[c], k * k, T(rate),
                   T(relaxation), T(points), T(1 / points), T(stiffness), moduli, {}, load(weight + c * lanes<T>)};
      if constexpr (elastic) op.column.set(*moduli, ky[c], k);
      if (noise)
        noise->fill(random.data, c, op.weight, [&](int i, vec<T>& m, vec<T>& f) {
          vec<T> qq, n, d;
          op.rates(i, qq, m, f, n, d);
        });
      fft::begin(forth, column, a.data, fetch);
      fft::finish(forth, a.data, scratch.data, fft::Turn<T, Operation>{back, b.data, op}, fetch);
      fft::finish(back, b.data, scratch.data, column, fetch);
      if constexpr (measure) out[2 * c] = op.gradient, out[2 * c + 1] = op.strain;
    }
  }
}

// Σ q² |φ^|² and Σ Y |φ^|² of every column, without a step.
template <class T, bool elastic>
void sum_columns(const T* spectrum, int64_t count, int n, const T* kx, const T* ky, const T* kz, const T* weight,
                 const Elasticity<T>* moduli, double* out, int threads) {
  const std::vector<int> order = fft::plan<T>(n).order();
  py::gil_scoped_release release;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t c = 0; c < count; c++) {
    const vec<T> k = load(kz + c * lanes<T>), w = load(weight + c * lanes<T>);
    typename Elasticity<T>::Column column;
    if constexpr (elastic) column.set(*moduli, ky[c], k);
    double gradient = 0, strain = 0;
    const T* a = spectrum + c * n * row<T>;
    for (int j = 0; j < n; j++, a += row<T>) {
      const T x = kx[order[j]];
      const vec<T> re = load(a), im = load(a + lanes<T>), power = w * (re * re + im * im);
      gradient += wide_sum(power * (k * k + (x * x + ky[c] * ky[c])));
      if constexpr (elastic) {
        vec<T> num, den;
        moduli->at(column, x, num, den);
        strain += wide_sum(power * (moduli->e0 - num / den));
      }
    }
    out[2 * c] = gradient, out[2 * c + 1] = strain;
  }
}

void columns(std::vector<py::array> slabs, py::array array, py::array kx, py::array ky, py::array kz, py::array weights, double rate,
             double relaxation, double points, double stiffness, py::object elasticity, py::object extra, py::object noise, py::object sums,
             int threads) {
  by_dtype(array, [&](auto t) {
    using T = decltype(t);
    const Columns<T> planes(slabs);
    T* spectrum = spectrum_of<T>(array, planes.count, planes.size());
    const T* other = extra.is_none() ? nullptr : spectrum_of<T>(py::reinterpret_borrow<py::array>(extra), planes.count, planes.size());
    const Waves<T> k(planes.count, planes.size(), kx, ky, kz, weights, elasticity, sums);
    std::optional<Noise<T>> random;
    if (!noise.is_none()) random.emplace(noise.cast<typename Noise<T>::Numbers>(), planes.count, planes.size());
    either(!elasticity.is_none(), [&](auto elastic) {
      either(k.out, [&](auto measure) {
        either(other, [&](auto more) {
          sweep_columns<T, elastic.value, measure.value, more.value>(planes, spectrum, other, k.x, k.y, k.z, k.weights, rate, relaxation, points,
                                                                     stiffness, &k.moduli, random ? &*random : nullptr, k.out, threads);
        });
      });
    });
  });
}

void powers(py::array array, py::array kx, py::array ky, py::array kz, py::array weights, py::object elasticity, py::array sums,
            int threads) {
  by_dtype(array, [&](auto t) {
    using T = decltype(t);
    const int64_t count = array.ndim() == 3 ? array.shape(0) : 0;
    const int n = int(kx.shape(0));
    const T* spectrum = spectrum_of<T>(array, count, n);
    const Waves<T> k(count, n, kx, ky, kz, weights, elasticity, sums);
    elasticity.is_none() ? sum_columns<T, false>(spectrum, count, n, k.x, k.y, k.z, k.weights, &k.moduli, k.out, threads)
                         : sum_columns<T, true>(spectrum, count, n, k.x, k.y, k.z, k.weights, &k.moduli, k.out, threads);
  });
}

}  // namespace

PYBIND11_MODULE(_cahn_hilliard, module) {
  module.doc() = "The two sweeps of a semi-implicit spectral Cahn–Hilliard step.";
  using namespace py::literals;
  module.def("planes", &planes, "work"_a, "n1"_a, "n2"_a, "well"_a, "shift"_a, "sums"_a = py::none(), "look"_a = false,
             "along_y"_a = true, "threads"_a = 1,
             "Rows of φ - <φ>, transformed along x only, -> those of g'(φ). well: its kind and numbers, of u = φ - centre\n"
             "(wells.hpp); shift: <φ> - centre. sums (groups of lines, 3): sum of g, lowest and highest φ - <φ>. look: only the sums.\n"
             "along_y: False where the rows are not to be transformed along y.");
  module.def("columns", &columns, "slabs"_a, "spectrum"_a, "kx"_a, "ky"_a, "kz"_a, "weights"_a, "rate"_a, "relaxation"_a, "points"_a, "stiffness"_a,
             "elasticity"_a = py::none(), "extra"_a = py::none(), "noise"_a = py::none(), "sums"_a = py::none(), "threads"_a = 1,
             "Rows of g' -> the spectrum a step later, and its rows transformed back along x. rate: dt M of a conserved φ;\n"
             "relaxation: dt L of one that is not (whose mean does not change here). elasticity: (e0, σ* (3, 3),\n"
             "tensor (6, 6)). extra: the spectrum of another chemical potential (scaled as φ^), explicit as g'. noise: (key of the\n"
             "stream, step, 2 kT/V, variance of each point over points, n1, n2, wave numbers along y from 0 on, those along z). sums (columns, 2):\n"
             "Σ q² |φ^|² and Σ Y |φ^|² of the spectrum before the step.");
  module.def("powers", &powers, "spectrum"_a, "kx"_a, "ky"_a, "kz"_a, "weights"_a, "elasticity"_a, "sums"_a, "threads"_a = 1,
             "These sums alone.");
}
