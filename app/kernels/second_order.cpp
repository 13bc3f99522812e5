// The sweep over columns of a second-order step of the Cahn–Hilliard equation with steps of any lengths; that over planes is
// _cahn_hilliard.planes.
//
//     dφ^/dt = c φ^ - m N,   c = -m (S + ε q² + Y),   N = FFT[g'(φ)] - S φ^ (+ extra),   m = M q²
//
// N, of which S takes away the stiff part, is explicit. With z = c h and functions E, φ1 = (E - 1)/z, φ2 = (φ1 - 1)/z a step of h that takes N
// as linear in time is φ^ ← E φ^ - m h (φ1 N + φ2 h dN/dt). E is Padé's approximant of exp(z) of degrees 1 and 2: of third order,
// 0 at -∞, one division, no cancellation; and whatever E is, a φ^ that follows a linear N is exact.
//
// A step predicts with the slope of the last interval and is corrected when the next N is known (PEC, in which the corrector is the
// predictor of the slope found afterwards): one evaluation of g' a step. What the correction changes is the error of the step.
#include <cmath>

#include "columns.hpp"

using namespace ostwald;
using namespace ostwald::sweeps;

namespace {

struct Lengths {
  double last, next;  // of the step that led to the present prediction, and of the one to make; last = 0: none yet
  double slope;       // what to take of the last change of N, next/last where that is not too much
};

struct Model {
  double points, mobility, stiffness, stabiliser;
};

// What stands before the parts of a step: E, h φ1, h φ2.
template <class T> struct Factors {
  vec<T> e, a, b;
  OSTWALD_INLINE Factors(T h, vec<T> c) {
    const vec<T> z = h * c, d = T(1) / (T(1) + z * (z * T(1.0 / 6) - T(2.0 / 3)));
    e = d + z * T(1.0 / 3) * d, a = h * (d - z * T(1.0 / 6) * d), b = h * (T(0.5) * d - z * T(1.0 / 6) * d);
  }
};

// m and c of the wave numbers of a column.
template <class T, bool elastic> struct Rates {
  const T* kx;
  T kyy;
  vec<T> kzz;
  T mobility, stiffness, stabiliser;
  const Elasticity<T>* moduli;
  typename Elasticity<T>::Column column;

  Rates(const Waves<T>& k, int64_t c, const Model& model)
      : kx(k.x), kyy(k.y[c] * k.y[c]), mobility(T(model.mobility)), stiffness(T(model.stiffness)), stabiliser(T(model.stabiliser)),
        moduli(&k.moduli) {
    const vec<T> z = load(k.z + c * lanes<T>);
    kzz = z * z;
    if constexpr (elastic) column.set(*moduli, k.y[c], z);
  }
  OSTWALD_INLINE void at(int j, vec<T>& qq, vec<T>& y, vec<T>& m, vec<T>& c) const {
    const T x = kx[j];
    qq = kzz + (x * x + kyy), y = vec<T>{}, m = mobility * qq;
    if constexpr (elastic) {
      vec<T> n, d;
      moduli->at(column, x, n, d);
      y = moduli->e0 - n / d;
    }
    c = -m * (stiffness * qq + y + stabiliser);
  }
};

template <class T> struct Fields {  // of the spectrum's shape
  T *predicted, *corrected, *potential;  // φ^ now; φ^ before the last step; N there
  const T* extra;
  Fields at(int64_t row_number) const {
    const int64_t i = row_number * row<T>;
    return {predicted + i, corrected + i, potential + i, extra ? extra + i : nullptr};
  }
};

// Σ q² |φ^|², Σ Y |φ^|² of the prediction; Σ |δ|² of the correction; Σ |move|² of the last step and of the next, and their product
enum { GRADIENT, STRAIN, ERROR, MOVED, MOVES, TURN, SUMS };

template <class T, bool elastic, bool more> struct Step {
  Fields<T> f;  // moves on
  const Rates<T, elastic>& rates;
  T last, next, slope;  // of Lengths
  T points, share;
  vec<T> weight;
  double* out;
  double sums[SUMS] = {};

  template <int R> OSTWALD_INLINE void apply(int j, int stride, vec<T>* re, vec<T>* im) {
    vec<T> s[SUMS] = {};
#pragma GCC unroll 8
    for (int p = 0; p < R; p++, f = f.at(1)) {
      vec<T> qq, y, m, c;
      rates.at(j + stride * p, qq, y, m, c);
      const Factors<T> old(last, c), now(next, c);
      vec<T>* part[2] = {re + p, im + p};
      vec<T> power{};
#pragma GCC unroll 2
      for (int i = 0; i < 2; i++) {
        const int64_t at = i * lanes<T>;
        const vec<T> here = load(f.predicted + at), before = load(f.corrected + at), was = load(f.potential + at);
        vec<T> n = share * *part[i] - rates.stabiliser * here;
        if constexpr (more) n += load(f.extra + at);
        const vec<T> change = n - was;
        const vec<T> corrected = old.e * before - m * (old.a * was + old.b * change);
        const vec<T> ahead = now.e * corrected - m * (now.a * n + slope * now.b * change);
        const vec<T> error = corrected - here, moved = corrected - before, moves = ahead - corrected;
        power += here * here;
        s[ERROR] += weight * error * error, s[MOVED] += weight * moved * moved, s[MOVES] += weight * moves * moves;
        s[TURN] += weight * moved * moves;
        store(f.predicted + at, ahead), store(f.corrected + at, corrected), store(f.potential + at, n);
        *part[i] = ahead;
      }
      s[GRADIENT] += weight * power * qq;
      if constexpr (elastic) s[STRAIN] += weight * power * y;
    }
    for (int k = 0; k < SUMS; k++) sums[k] += wide_sum(s[k]);
  }
};

template <class T, bool elastic, bool more>
void sweep(const Columns<T>& columns, const Fields<T>& fields, const Waves<T>& k, const Lengths& h, const Model& model, double* out,
           int threads) {
  const int n = columns.size();
  const auto &forth = fft::plan<T>(n), &back = fft::plan<T>(n, true);
  using Operation = Step<T, elastic, more>;
  const int some = rows_a_butterfly(forth, back);
  py::gil_scoped_release release;
#pragma omp parallel num_threads(threads)
  {
    Buffer<T> a(forth.buffer()), b(back.buffer()), scratch(std::max(forth.scratch(), back.scratch()));
#pragma omp for schedule(dynamic, 16)
    for (int64_t c = 0; c < columns.count; c++) {
      const Column<T> column{columns.planes.data(), c * row<T>};
      const int64_t next = std::min(c + 1, columns.count - 1);
      const Fields<T> ahead = fields.at(next * n);
      Fetch<T, 3> fetch{columns.planes.data(), next * row<T>, {ahead.predicted, ahead.corrected, ahead.potential}, some, n};
      const Rates<T, elastic> rates(k, c, model);
      Operation op{fields.at(c * n), rates, T(h.last), T(h.next), T(h.slope), T(model.points),
                   T(1 / model.points), load(k.weights + c * lanes<T>)};
      fft::begin(forth, column, a.data, fetch);
      fft::finish(forth, a.data, scratch.data, fft::Turn<T, Operation>{back, b.data, op}, fetch);
      fft::finish(back, b.data, scratch.data, column, fetch);
      std::copy(op.sums, op.sums + SUMS, out + c * SUMS);
    }
  }
}

// The last step once more with another length: h.last is what it had, h.next what it shall have, h.slope what it shall take of the
// change of N over what it took. What that had added is found from what the rest does not explain.
template <class T, bool elastic>
void repeat(int64_t count, int n, const Fields<T>& fields, const Waves<T>& k, const Lengths& h, const Model& model, int threads) {
  const std::vector<int> order = fft::plan<T>(n).order();
  const T last = T(h.last), next = T(h.next), ratio = T(h.slope);
  py::gil_scoped_release release;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t c = 0; c < count; c++) {
    const Rates<T, elastic> rates(k, c, model);
    Fields<T> f = fields.at(c * n);
    for (int j = 0; j < n; j++, f = f.at(1)) {
      vec<T> qq, y, m, rate;
      rates.at(order[j], qq, y, m, rate);
      const Factors<T> old(last, rate), now(next, rate);
      for (int64_t at = 0; at < row<T>; at += lanes<T>) {
        const vec<T> from = load(f.corrected + at), n = load(f.potential + at);
        const vec<T> rest = load(f.predicted + at) - (old.e * from - m * old.a * n);
        store<T>(f.predicted + at, now.e * from - m * now.a * n + rest * (ratio * now.b / old.b));
      }
    }
  }
}

// ---- arguments -----------------------------------------------------------------------------------------------------------

using Arrays = std::array<py::array, 3>;  // predicted, corrected, potential

template <class T> Fields<T> fields_of(const Arrays& arrays, const py::object& extra, int64_t count, int n) {
  const auto array = [&](const py::array& a) { return spectrum_of<T>(a, count, n); };
  return {array(arrays[0]), array(arrays[1]), array(arrays[2]),
          extra.is_none() ? nullptr : array(py::reinterpret_borrow<py::array>(extra))};
}

void columns(std::vector<py::array> slabs, Arrays arrays, std::array<py::array, 4> waves, std::array<double, 3> lengths,
             std::array<double, 4> model, py::array sums, py::object elasticity, py::object extra, int threads) {
  by_dtype(arrays[0], [&](auto t) {
    using T = decltype(t);
    const Columns<T> planes(slabs);
    const Fields<T> fields = fields_of<T>(arrays, extra, planes.count, planes.size());
    const Waves<T> k(planes.count, planes.size(), waves[0], waves[1], waves[2], waves[3], elasticity, py::none());
    double* out = elements<double>(sums, "sums", 2, true);
    require(sums.shape(0) == planes.count && sums.shape(1) == SUMS && (sums.flags() & py::array::c_style),
            "sums must be C-contiguous (columns, 6)");
    either(!elasticity.is_none(), [&](auto elastic) {
      either(fields.extra, [&](auto more) {
        sweep<T, elastic.value, more.value>(planes, fields, k, {lengths[0], lengths[1], lengths[2]}, {model[0], model[1], model[2], model[3]}, out,
                                            threads);
      });
    });
  });
}

void repeat_step(Arrays arrays, std::array<py::array, 4> waves, std::array<double, 3> lengths, std::array<double, 4> model,
                 py::object elasticity, int threads) {
  require(lengths[0] > 0 && lengths[1] > 0, "the lengths of steps must be positive");
  by_dtype(arrays[0], [&](auto t) {
    using T = decltype(t);
    const int64_t count = arrays[0].ndim() == 3 ? arrays[0].shape(0) : 0;
    const int n = int(waves[0].shape(0));
    const Fields<T> fields = fields_of<T>(arrays, py::none(), count, n);
    const Waves<T> k(count, n, waves[0], waves[1], waves[2], waves[3], elasticity, py::none());
    either(!elasticity.is_none(), [&](auto elastic) {
      repeat<T, elastic.value>(count, n, fields, k, {lengths[0], lengths[1], lengths[2]}, {model[0], model[1], model[2], model[3]}, threads);
    });
  });
}

}  // namespace

PYBIND11_MODULE(_second_order, module) {
  module.doc() = "Second-order steps of the Cahn–Hilliard equation: the sweep over columns.";
  using namespace py::literals;
  module.def("columns", &columns, "slabs"_a, "arrays"_a, "waves"_a, "lengths"_a, "model"_a, "sums"_a, "elasticity"_a = py::none(),
             "extra"_a = py::none(), "threads"_a = 1,
             "Rows of g' -> the last step corrected, the next predicted, its rows transformed back along x. arrays: φ^ as predicted,\n"
             "φ^ before the step that led there, N there. waves: kx, ky, kz, weights. lengths: of the last step (0: there was none) and\n"
             "of the next; how much of the last change of N the prediction takes. model: points, M, ε, S. sums (columns, 6): Σ q² |φ^|² and Σ Y |φ^|² of the φ^ that came; Σ |δ|² of its\n"
             "correction; Σ |Δφ^|² of the last step, of the next, and the sum of their products. elasticity, extra: as _cahn_hilliard.columns.");
  module.def("repeat", &repeat_step, "arrays"_a, "waves"_a, "lengths"_a, "model"_a, "elasticity"_a = py::none(), "threads"_a = 1,
             "The last step, made with the first of these lengths, as it would have been with the second and with this times as much of\n"
             "the last change of N.");
}
