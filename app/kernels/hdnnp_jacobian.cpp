// Forces from symmetry functions whose derivatives are stored, and derivatives of forces and stresses by the weights: what training
// spends its time on. Equations and names: app/potentials/hdnnp/network.py.
//
// Tangents sum by sum (a component of a force is one, over the centres that see the atom): all that its centres need lies in cache,
// every sum of outer products is a product of small matrices with the accumulators in registers. Pulls and pushes read the stored
// derivatives once, as they lie: their floor is the bandwidth of the memory.

#include <pybind11/stl.h>

#include "manybody.hpp"

namespace ostwald {

// c (m, n) [+]= sum over k of a(m, k) b(k, n); a(m, k) = a[m * row + k * column]; n is padded to whole vectors in b and c.
template <class T, int rows, int vectors>
OSTWALD_INLINE void product_block(int count, const T* a, size_t row, size_t column, const T* b, size_t ldb, T* c, size_t ldc, bool add) {
  constexpr int W = lanes<T>;
  vec<T> sums[rows][vectors];
  for (int m = 0; m < rows; m++)
    for (int v = 0; v < vectors; v++) sums[m][v] = add ? load(c + m * ldc + v * W) : vec<T>{};
  for (int k = 0; k < count; k++) {
    vec<T> right[vectors];
    for (int v = 0; v < vectors; v++) right[v] = load(b + k * ldb + v * W);
    for (int m = 0; m < rows; m++) {
      const T left = a[m * row + k * column];
      for (int v = 0; v < vectors; v++) sums[m][v] += left * right[v];
    }
  }
  for (int m = 0; m < rows; m++)
    for (int v = 0; v < vectors; v++) store(c + m * ldc + v * W, sums[m][v]);
}

template <class T, int vectors>
void product_columns(int m, int count, const T* a, size_t row, size_t column, const T* b, size_t ldb, T* c, size_t ldc, bool add) {
  int i = 0;
  for (; i + 4 <= m; i += 4) product_block<T, 4, vectors>(count, a + i * row, row, column, b, ldb, c + i * ldc, ldc, add);
  for (; i < m; i++) product_block<T, 1, vectors>(count, a + i * row, row, column, b, ldb, c + i * ldc, ldc, add);
}

template <class T>
void product(int m, int n, int count, const T* a, size_t row, size_t column, const T* b, size_t ldb, T* c, size_t ldc, bool add) {
  constexpr int W = lanes<T>;
  int j = 0;
  for (; j + 4 * W <= n; j += 4 * W) product_columns<T, 4>(m, count, a, row, column, b + j, ldb, c + j, ldc, add);
  switch ((n - j) / W) {
    case 3: product_columns<T, 3>(m, count, a, row, column, b + j, ldb, c + j, ldc, add); break;
    case 2: product_columns<T, 2>(m, count, a, row, column, b + j, ldb, c + j, ldc, add); break;
    case 1: product_columns<T, 1>(m, count, a, row, column, b + j, ldb, c + j, ldc, add); break;
    default: break;
  }
}

template <class T> using Array = py::array_t<T, py::array::c_style>;

template <class T> struct Layer {
  int outputs, inputs, rows, columns;  // rows, columns: padded outputs, inputs
  size_t begin;                        // of its parameters
  const T *x, *delta, *first, *second;
  aligned_vector<T> forward, backward;  // weights (inputs, rows) and (outputs, columns)
};

template <class T> int padded(int n) { return (n + lanes<T> - 1) / lanes<T> * lanes<T>; }

[[noreturn]] inline void refuse(const char* what) { throw std::invalid_argument(what); }

// Layers: (weights (o, i), x (r, i), delta (r, o), first (r, o), second (r, o), begin of the parameters).
template <class T> using LayerData = std::tuple<Array<T>, Array<T>, Array<T>, Array<T>, Array<T>, size_t>;

template <class T>
void tangents(Array<int64_t> counts, Array<int64_t> centres, Array<T> tangent, Array<T> factor, const std::vector<LayerData<T>>& data,
              py::array_t<T> values, py::array_t<T> out, double unit_, int threads) {
  const auto is = [](const py::array& a, std::vector<ssize_t> shape) {
    return std::vector<ssize_t>(a.shape(), a.shape() + a.ndim()) == shape;
  };
  if (tangent.ndim() != 3 || data.empty()) refuse("tangents must be (m, a, f) and there must be a layer");
  const ssize_t sums = counts.size(), m = tangent.shape(0), each = tangent.shape(1), width = tangent.shape(2);
  const ssize_t r = std::get<1>(data[0]).shape(0), size = out.ndim() == 3 ? out.shape(2) : 0;
  if (!is(counts, {sums}) || !is(centres, {m}) || !is(factor, {width})) refuse("counts, centres or factor has a wrong shape");
  if (!is(values, {sums, each}) || !is(out, {sums, each, size})) refuse("values must be (sums, a) and out (sums, a, p)");
  for (const auto* a : {static_cast<const py::array*>(&values), static_cast<const py::array*>(&out)})
    if (!(a->flags() & py::array::c_style)) refuse("values and out must be contiguous");
  std::vector<Layer<T>> layers;
  ssize_t inputs = width;
  for (const auto& [weights, x, delta, first, second, begin] : data) {
    const ssize_t o = weights.ndim() == 2 ? weights.shape(0) : 0;
    if (!is(weights, {o, inputs}) || !is(x, {r, inputs}) || !is(delta, {r, o}) || !is(first, {r, o}) || !is(second, {r, o}))
      refuse("the arrays of a layer do not fit");
    if (begin + size_t(o * (inputs + 1)) > size_t(size)) refuse("a layer has parameters beyond the columns of out");
    Layer<T> layer{int(o), int(inputs), padded<T>(o), padded<T>(inputs), begin, x.data(), delta.data(), first.data(), second.data(), {}, {}};
    layer.forward.assign(size_t(inputs) * layer.rows, T(0)), layer.backward.assign(size_t(o) * layer.columns, T(0));
    for (ssize_t a = 0; a < o; a++)
      for (ssize_t b = 0; b < inputs; b++)
        layer.forward[b * layer.rows + a] = layer.backward[a * layer.columns + b] = weights.data()[a * inputs + b];
    layers.push_back(std::move(layer));
    inputs = o;
  }
  if (inputs != 1) refuse("a network must end in one number");
  std::vector<int64_t> begin(sums + 1, 0);
  int64_t most = 0;
  for (ssize_t d = 0; d < sums; d++) {
    if (counts.data()[d] < 0) refuse("counts must not be negative");
    begin[d + 1] = begin[d] + counts.data()[d], most = std::max<int64_t>(most, counts.data()[d]);
  }
  if (begin[sums] != m) refuse("counts do not add up to the number of centres");
  for (ssize_t k = 0; k < m; k++)
    if (centres.data()[k] < 0 || centres.data()[k] >= r) refuse("a centre is none of the rows");
  const int64_t* where = centres.data();
  const T *given = tangent.data(), *scale = factor.data();
  T *value_of = values.mutable_data(), *out_of = out.mutable_data();
  const T unit = T(unit_);
  const int depth = int(layers.size());
  size_t widest = 0;
  for (const auto& layer : layers) widest = std::max({widest, size_t(layer.rows), size_t(layer.columns)});
  py::gil_scoped_release release;

#pragma omp parallel num_threads(threads)
  {
    const size_t all = size_t(most) * each;
    std::vector<aligned_vector<T>> tx(depth + 1), ta(depth);  // (k, a) rows: tangents of x_l, of a_l
    for (int l = 0; l < depth; l++) tx[l].assign(all * layers[l].columns, T(0)), ta[l].assign(all * layers[l].rows, T(0));
    aligned_vector<T> gamma(all * widest), next(all * widest), near(size_t(most) * widest, T(0)), outer(widest * widest);
#pragma omp for schedule(dynamic, 4)
    for (ssize_t d = 0; d < sums; d++) {
      const int64_t* c = where + begin[d];
      const int count = int(begin[d + 1] - begin[d]), rows = count * int(each);
      if (count == 0) continue;
      for (int q = 0; q < rows; q++) {
        const T* from = given + (size_t(begin[d]) * each + q) * width;
        T* to = &tx[0][size_t(q) * layers[0].columns];
        for (ssize_t f = 0; f < width; f++) to[f] = scale[f] * from[f];
      }
      for (int l = 0; l < depth; l++) {
        const Layer<T>& layer = layers[l];
        product<T>(rows, layer.rows, layer.inputs, tx[l].data(), layer.columns, 1, layer.forward.data(), layer.rows, ta[l].data(), layer.rows, false);
        for (int q = 0; q < rows; q++) {
          const T *first = layer.first + c[q / each] * layer.outputs, *a = &ta[l][size_t(q) * layer.rows];
          if (l + 1 == depth) {
            value_of[d * each + q % each] += unit * first[0] * a[0];
          } else {
            T* to = &tx[l + 1][size_t(q) * layers[l + 1].columns];
            for (int o = 0; o < layer.outputs; o++) to[o] = first[o] * a[o];
          }
        }
      }
      for (int l = depth - 1; l >= 0; l--) {
        const Layer<T>& layer = layers[l];
        // gamma of this layer from that of the one above, which is in `next`
        for (int q = 0; q < rows; q++) {
          const int64_t i = c[q / each];
          const T *second = layer.second + i * layer.outputs, *first = layer.first + i * layer.outputs;
          const T *a = &ta[l][size_t(q) * layer.rows], *above = &next[size_t(q) * layer.rows];
          T* g = &gamma[size_t(q) * layer.rows];
          if (l + 1 == depth)
            for (int o = 0; o < layer.outputs; o++) g[o] = second[o] * a[o];
          else
            for (int o = 0; o < layer.outputs; o++) g[o] = second[o] * a[o] + first[o] * above[o];
        }
        for (int k = 0; k < count; k++) std::copy_n(layer.x + c[k] * layer.inputs, layer.inputs, &near[size_t(k) * layer.columns]);
        aligned_vector<T>& deltas = tx[depth];
        if (deltas.size() < size_t(count) * layer.outputs) deltas.resize(size_t(most) * widest);
        for (int k = 0; k < count; k++) std::copy_n(layer.delta + c[k] * layer.outputs, layer.outputs, &deltas[size_t(k) * layer.outputs]);
        for (ssize_t e = 0; e < each; e++) {
          const size_t stride = size_t(each) * layer.columns;
          product<T>(layer.outputs, layer.columns, count, deltas.data(), 1, layer.outputs, tx[l].data() + e * layer.columns, stride, outer.data(),
                     layer.columns, false);
          product<T>(layer.outputs, layer.columns, count, gamma.data() + e * layer.rows, 1, size_t(each) * layer.rows, near.data(), layer.columns,
                     outer.data(), layer.columns, true);
          T* to = out_of + size_t(d * each + e) * size + layer.begin;
          for (int o = 0; o < layer.outputs; o++)
            for (int i = 0; i < layer.inputs; i++) to[o * layer.inputs + i] += unit * outer[size_t(o) * layer.columns + i];
          to += size_t(layer.outputs) * layer.inputs;
          for (int k = 0; k < count; k++)
            for (int o = 0; o < layer.outputs; o++) to[o] += unit * gamma[(size_t(k) * each + e) * layer.rows + o];
        }
        if (l > 0)
          product<T>(rows, layer.columns, layer.outputs, gamma.data(), layer.rows, 1, layer.backward.data(), layer.columns, next.data(),
                     layer.columns, false);
      }
    }
  }
}

// What pulls and pushes share: counts (n), centres (m), derivatives (m, 3, f), rows (r, f), vectors (n, 3).
template <class T> struct Stored {
  ssize_t n, r, width;
  const int64_t* where;
  const T* derivatives;
  std::vector<int64_t> begin;

  Stored(const Array<int64_t>& counts, const Array<int64_t>& centres, const Array<T>& given, const py::array& rows, const py::array& vectors)
      : n(counts.size()), r(rows.shape(0)), width(rows.shape(1)), where(centres.data()), derivatives(given.data()), begin(n + 1, 0) {
    const ssize_t m = centres.size();
    if (given.ndim() != 3 || given.shape(0) != m || given.shape(1) != 3 || given.shape(2) != width) refuse("derivatives must be (m, 3, f)");
    if (vectors.ndim() != 2 || vectors.shape(0) != n || vectors.shape(1) != 3) refuse("vectors must be (n, 3)");
    for (ssize_t j = 0; j < n; j++) {
      if (counts.data()[j] < 0) refuse("counts must not be negative");
      begin[j + 1] = begin[j] + counts.data()[j];
    }
    if (begin[n] != m) refuse("counts do not add up to the number of centres");
    for (ssize_t k = 0; k < m; k++)
      if (where[k] < 0 || where[k] >= r) refuse("a centre is none of the rows");
  }
};

// out (n, 3) += unit * sum over the centres c that see an atom of derivatives (3, f) rows_c (f).
template <class T>
void pulls(const Array<int64_t>& counts, const Array<int64_t>& centres, const Array<T>& derivatives, const Array<T>& rows, py::array_t<T> out,
           double unit_, int threads) {
  constexpr int W = lanes<T>;
  const Stored<T> s(counts, centres, derivatives, rows, out);
  const T *given = rows.data(), unit = T(unit_);
  T* result = out.mutable_data();
  const ssize_t whole = s.width / W * W;
  py::gil_scoped_release release;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (ssize_t j = 0; j < s.n; j++) {
    vec<T> sums[3] = {};
    T rest[3] = {};
    for (int64_t k = s.begin[j]; k < s.begin[j + 1]; k++) {
      const T *d = s.derivatives + k * 3 * s.width, *row = given + s.where[k] * s.width;
      for (ssize_t f = 0; f < whole; f += W) {
        const vec<T> slope = load(row + f);
        for (int a = 0; a < 3; a++) sums[a] += load(d + a * s.width + f) * slope;
      }
      for (ssize_t f = whole; f < s.width; f++)
        for (int a = 0; a < 3; a++) rest[a] += d[a * s.width + f] * row[f];
    }
    for (int a = 0; a < 3; a++) result[3 * j + a] += unit * (sum(sums[a]) + rest[a]);
  }
}

// The transpose: out (r, f) += unit * sum over the atoms j that a centre sees of vectors_j (3) derivatives (3, f). One thread: it is
// bound by the memory, and rows of several atoms meet.
template <class T>
void pushes(const Array<int64_t>& counts, const Array<int64_t>& centres, const Array<T>& derivatives, const Array<T>& vectors, py::array_t<T> out,
            double unit_) {
  const Stored<T> s(counts, centres, derivatives, out, vectors);
  const T *given = vectors.data(), unit = T(unit_);
  T* result = out.mutable_data();
  py::gil_scoped_release release;
  for (ssize_t j = 0; j < s.n; j++) {
    const T x = unit * given[3 * j], y = unit * given[3 * j + 1], z = unit * given[3 * j + 2];
    for (int64_t k = s.begin[j]; k < s.begin[j + 1]; k++) {
      const T *__restrict d = s.derivatives + k * 3 * s.width;
      T* __restrict row = result + s.where[k] * s.width;
      for (ssize_t f = 0; f < s.width; f++) row[f] += x * d[f] + y * d[s.width + f] + z * d[2 * s.width + f];
    }
  }
}

}  // namespace ostwald

PYBIND11_MODULE(_hdnnp_jacobian, m) {
  namespace py = pybind11;
  m.doc() = "Derivatives of forces and stresses of neural-network potentials by their parameters.";
  const auto add = [&](auto zero) {
    using T = decltype(zero);
    m.def("tangents", &ostwald::tangents<T>, py::arg("counts").noconvert(), py::arg("centres").noconvert(), py::arg("tangents").noconvert(),
          py::arg("factor").noconvert(), py::arg("layers"), py::arg("values").noconvert(), py::arg("out").noconvert(), py::arg("unit"),
          py::arg("threads") = 1,
          "Adds to values (d, a) and out (d, a, p) what network._State.tangents does; single or double precision.");
    m.def("pulls", &ostwald::pulls<T>, py::arg("counts").noconvert(), py::arg("centres").noconvert(), py::arg("derivatives").noconvert(),
          py::arg("rows").noconvert(), py::arg("out").noconvert(), py::arg("unit"), py::arg("threads") = 1,
          "Adds to out (n, 3) sums over the centres that see each atom of derivatives (3, f) times rows (f) of the centre.");
    m.def("pushes", &ostwald::pushes<T>, py::arg("counts").noconvert(), py::arg("centres").noconvert(), py::arg("derivatives").noconvert(),
          py::arg("vectors").noconvert(), py::arg("out").noconvert(), py::arg("unit"),
          "Adds to out (r, f) sums over the atoms that each centre sees of vectors (3) times derivatives (3, f).");
  };
  add(0.0), add(0.0f);
}
