// The sweeps of a semi-implicit spectral step of ∂φ/∂t = ∇·(M(φ)∇μ), μ = g'(φ) - ε∇²φ + Yφ, with a mobility that depends on φ. With a
// constant A the flux is split into A∇μ, of which what is linear in φ is implicit, and (M - A)∇μ:
//
//     φ^ ← φ^ - dt (A q² μ^ - i q·J^) / (1 + dt A q² (ε q² + Y)),   J = (M(φ) - A)∇μ
//
// One step is two transforms of φ and g' and two of each component of the flux, in as many sweeps over planes and columns:
//
//     slopes    φ -> g', and M - A of all points kept in the order in which they pass
//     begin     g'^ -> μ^ kept; i q_a μ^ of the first axis
//     fluxes    ∂μ -> (M - A) ∂μ
//     further   its transform times i q_a is added up; i q_b μ^ of the next axis
//     end       the same of the last axis, then the new φ^
//
// q_a is 0 at the Nyquist wave number of its axis, where a real field has no such derivative.
#include "columns.hpp"
#include "planes.hpp"
#include "wells.hpp"

using namespace ostwald;
using namespace ostwald::sweeps;

namespace {

// ---- planes ----------------------------------------------------------------------------------------------------------------

// Keeps M - A and gives g'.
template <class T, class Well> struct Slopes {
  Slope<T, Well, true> slope;
  const wells::Polynomial<T, 0>& mobility;
  T constant;  // A
  T* kept;     // moves on

  template <int R> OSTWALD_INLINE void apply(int j, int stride, vec<T>* re, vec<T>* im) {
#pragma GCC unroll 8
    for (int p = 0; p < R; p++, kept += row<T>) {
      store<T>(kept, maximum(mobility.value(re[p] + slope.shift), vec<T>{}) - constant);
      store<T>(kept + lanes<T>, maximum(mobility.value(im[p] + slope.shift), vec<T>{}) - constant);
    }
    slope.template apply<R>(j, stride, re, im);
  }
  void done() const { slope.done(); }
};

template <class T> struct Fluxes {
  const T* kept;  // moves on
  template <int R> OSTWALD_INLINE void apply(int, int, vec<T>* re, vec<T>* im) {
#pragma GCC unroll 8
    for (int p = 0; p < R; p++, kept += row<T>) re[p] *= load(kept), im[p] *= load(kept + lanes<T>);
  }
  void done() const {}
};

// (groups, nz 2 W): what is kept of the points.
template <class T> T* kept_of(const py::array& kept, const Planes<T>& work) {
  T* data = elements<T>(kept, "kept", 2, true);
  require(kept.shape(0) == groups_of(work) && kept.shape(1) == work.nz * row<T> && (kept.flags() & py::array::c_style),
          "kept must be C-contiguous (groups, n2 2 W)");
  return data;
}

void slopes(py::array array, int n1, int n2, wells::Terms terms, double shift, std::vector<double> coefficients, double constant,
            py::array kept_array, py::array sums, bool along_y, int threads) {
  require(!coefficients.empty() && coefficients.size() <= wells::MOST + 1, "a mobility has 1 to 13 coefficients");
  by_dtype(array, [&](auto t) {
    using T = decltype(t);
    const Planes<T> work(array, n1, n2, along_y);
    double* out = sums_of<T>(sums, work);
    T* kept = kept_of(kept_array, work);
    const wells::Polynomial<T, 0> mobility(coefficients);
    wells::with_well<T>(terms, [&](const auto& well) {
      using Well = std::decay_t<decltype(well)>;
      const auto make = [&](const Group<T>& group) {
        return Slopes<T, Well>{{well, T(shift), group, out}, mobility, T(constant), kept + group.number * work.nz * row<T>};
      };
      sweep_planes(work, make, along_y, threads);
    });
  });
}

void fluxes(py::array array, int n1, int n2, py::array kept_array, bool along_y, int threads) {
  by_dtype(array, [&](auto t) {
    using T = decltype(t);
    const Planes<T> work(array, n1, n2, along_y);
    const T* kept = kept_of(kept_array, work);
    sweep_planes(work, [&](const Group<T>& group) { return Fluxes<T>{kept + group.number * work.nz * row<T>}; }, along_y, threads);
  });
}

// ---- columns ---------------------------------------------------------------------------------------------------------------

enum Stage { BEGIN, FURTHER, END };

template <class T> struct Spectra {
  T *spectrum, *potential, *divergence;  // φ^, μ^, i q·J^
  const T* extra;                        // another chemical potential, or null
  OSTWALD_INLINE void advance(int64_t elements) {
    spectrum += elements, potential += elements, divergence += elements, extra += extra ? elements : 0;
  }
};

// The wave number along an axis, of the rows of a column: by row along x, else the same for all of them.
template <class T> struct Along {
  const T* by_row;  // null: not x
  vec<T> fixed;
  OSTWALD_INLINE vec<T> at(int i) const { return by_row ? splat(by_row[i]) : fixed; }
};

template <class T, Stage stage, bool elastic> struct Step {
  Spectra<T> at;  // moves on
  const T* kx;
  T kyy;
  vec<T> kzz;
  Along<T> come, go;  // of the flux that comes and of the derivative that goes
  bool first;         // flux of all
  T dt, rate, stiffness, share;  // dt, dt A, ε, 1/points
  const Elasticity<T>* moduli;
  typename Elasticity<T>::Column column;
  vec<T> weight;
  double gradient = 0, strain = 0;

  // q² and ε q² + Y
  OSTWALD_INLINE void stiff(int i, vec<T>& qq, vec<T>& y, vec<T>& stiff) const {
    const T k = kx[i];
    qq = kzz + (k * k + kyy), y = vec<T>{};
    if constexpr (elastic) {
      vec<T> n, d;
      moduli->at(column, k, n, d);
      y = qq > T(0) ? moduli->e0 - n / d : vec<T>{};
    }
    stiff = stiffness * qq + y;
  }

  template <int R> OSTWALD_INLINE void apply(int j, int stride, vec<T>* re, vec<T>* im) {
    vec<T> g{}, e{};
#pragma GCC unroll 8
    for (int p = 0; p < R; p++, at.advance(row<T>)) {
      const int i = j + stride * p;
      vec<T> qq, y, s, mr, mi;
      if constexpr (stage != FURTHER) stiff(i, qq, y, s);
      if constexpr (stage == BEGIN) {
        const vec<T> cr = load(at.spectrum), ci = load(at.spectrum + lanes<T>), power = weight * (cr * cr + ci * ci);
        g += power * qq, e += power * y;
        mr = share * re[p] + s * cr, mi = share * im[p] + s * ci;
        if (at.extra) mr += load(at.extra), mi += load(at.extra + lanes<T>);
        store(at.potential, mr), store(at.potential + lanes<T>, mi);
      } else {
        mr = load(at.potential), mi = load(at.potential + lanes<T>);
        const vec<T> k = share * come.at(i);
        vec<T> dr = -k * im[p], di = k * re[p];
        if (!first) dr += load(at.divergence), di += load(at.divergence + lanes<T>);
        if constexpr (stage == FURTHER) {
          store(at.divergence, dr), store(at.divergence + lanes<T>, di);
        } else {
          const vec<T> m = rate * qq, f = T(1) / (T(1) + m * s);
          const vec<T> cr = load(at.spectrum), ci = load(at.spectrum + lanes<T>);
          re[p] = qq > T(0) ? cr - (m * mr - dt * dr) * f : vec<T>{}, im[p] = qq > T(0) ? ci - (m * mi - dt * di) * f : vec<T>{};
          store(at.spectrum, re[p]), store(at.spectrum + lanes<T>, im[p]);
        }
      }
      if constexpr (stage != END) {
        const vec<T> k = go.at(i);
        re[p] = -k * mi, im[p] = k * mr;
      }
    }
    if constexpr (stage == BEGIN) gradient += wide_sum(g), strain += wide_sum(e);
  }
};

struct Numbers {
  double dt, constant, points, stiffness;  // dt, A, points, ε
};

template <class T, Stage stage, bool elastic>
void sweep(const Columns<T>& columns, const Spectra<T>& spectra, const Waves<T>& k, const std::array<const T*, 3>& derivatives, int come,
           int go, bool first, const Numbers& numbers, int threads) {
  const int n = columns.size();
  const auto &forth = fft::plan<T>(n), &back = fft::plan<T>(n, true);
  using Operation = Step<T, stage, elastic>;
  const int some = rows_a_butterfly(forth, back);
  const auto along = [&](int axis, int64_t c) {
    return Along<T>{axis == 0 ? derivatives[0] : nullptr,
                    axis == 1 ? splat(derivatives[1][c]) : axis == 2 ? load(derivatives[2] + c * lanes<T>) : vec<T>{}};
  };
  py::gil_scoped_release release;
#pragma omp parallel num_threads(threads)
  {
    Buffer<T> a(forth.buffer()), b(back.buffer()), scratch(std::max(forth.scratch(), back.scratch()));
#pragma omp for schedule(dynamic, 16)
    for (int64_t c = 0; c < columns.count; c++) {
      const int64_t next = std::min(c + 1, columns.count - 1), ahead = next * n * row<T>;
      const Column<T> column{columns.planes.data(), c * row<T>};
      Fetch<T, 2> fetch{columns.planes.data(), next * row<T>,
                        {spectra.potential + ahead, (stage == FURTHER ? spectra.divergence : spectra.spectrum) + ahead}, some, n};
      const vec<T> z = load(k.z + c * lanes<T>);
      Operation op{spectra, k.x, k.y[c] * k.y[c], z * z, along(come, c), along(go, c), first, T(numbers.dt),
                   T(numbers.dt * numbers.constant), T(numbers.stiffness), T(1 / numbers.points), &k.moduli, {}, load(k.weights + c * lanes<T>)};
      op.at.advance(c * n * row<T>);
      if constexpr (elastic) op.column.set(k.moduli, k.y[c], z);
      fft::begin(forth, column, a.data, fetch);
      fft::finish(forth, a.data, scratch.data, fft::Turn<T, Operation>{back, b.data, op}, fetch);
      fft::finish(back, b.data, scratch.data, column, fetch);
      if constexpr (stage == BEGIN) k.out[2 * c] = op.gradient, k.out[2 * c + 1] = op.strain;
    }
  }
}

void columns(std::vector<py::array> slabs, std::array<py::array, 3> arrays, std::array<py::array, 3> waves, std::array<py::array, 3> derivatives,
             py::array weights, int come, int go, bool first, std::array<double, 4> n, py::object elasticity, py::object extra, py::object sums,
             int threads) {
  const Numbers numbers{n[0], n[1], n[2], n[3]};
  by_dtype(arrays[0], [&](auto t) {
    using T = decltype(t);
    const Columns<T> planes(slabs);
    const auto whole = [&](const py::array& a) { return spectrum_of<T>(a, planes.count, planes.size()); };
    const Spectra<T> spectra{whole(arrays[0]), whole(arrays[1]), whole(arrays[2]),
                             extra.is_none() ? nullptr : whole(py::reinterpret_borrow<py::array>(extra))};
    const Waves<T> k(planes.count, planes.size(), waves[0], waves[1], waves[2], weights, elasticity, sums);
    const Waves<T> d(planes.count, planes.size(), derivatives[0], derivatives[1], derivatives[2], weights, py::none(), py::none());
    require(come >= 0 || k.out, "the first sweep needs an array for the sums");
    const auto turn = [&](auto stage, auto elastic) {
      sweep<T, stage.value, elastic.value>(planes, spectra, k, {d.x, d.y, d.z}, come, go, first, numbers, threads);
    };
    if (come >= 0 && go >= 0) return turn(std::integral_constant<Stage, FURTHER>{}, std::false_type{});
    either(!elasticity.is_none(), [&](auto elastic) {
      come < 0 ? turn(std::integral_constant<Stage, BEGIN>{}, elastic) : turn(std::integral_constant<Stage, END>{}, elastic);
    });
  });
}

}  // namespace

PYBIND11_MODULE(_mobility, module) {
  module.doc() = "The sweeps of a spectral Cahn–Hilliard step with a mobility that depends on φ.";
  using namespace py::literals;
  module.def("slopes", &slopes, "work"_a, "n1"_a, "n2"_a, "well"_a, "shift"_a, "mobility"_a, "constant"_a, "kept"_a, "sums"_a, "along_y"_a = true,
             "threads"_a = 1,
             "Rows of φ - <φ>, transformed along x only, -> those of g'(φ), as _cahn_hilliard.planes does. mobility: coefficients of M in\n"
             "u = φ - centre, the lowest first, cut at 0; kept (groups of lines, n2 2 W): M - constant, in the order of the sweep.");
  module.def("fluxes", &fluxes, "work"_a, "n1"_a, "n2"_a, "kept"_a, "along_y"_a = true, "threads"_a = 1,
             "Rows of a derivative of μ, transformed along x only, -> those of its product with what was kept.");
  module.def("columns", &columns, "slabs"_a, "arrays"_a, "waves"_a, "derivatives"_a, "weights"_a, "come"_a, "go"_a, "first"_a, "numbers"_a,
             "elasticity"_a = py::none(), "extra"_a = py::none(), "sums"_a = py::none(), "threads"_a = 1,
             "Rows of g' (come < 0) or of the flux along the axis `come` -> those of the derivative of μ along the axis `go`, or (go < 0) of\n"
             "the spectrum a step later. arrays: φ^, μ^, i q·J^; waves: kx, ky, kz; derivatives: the same with 0 at Nyquist's;\n"
             "first: the flux is the first one; numbers: dt, A, points, ε. elasticity, extra, sums: as of _cahn_hilliard.columns.");
}
