// High-dimensional neural-network potentials: E = sum_i network(G_i), G_i the symmetry functions of atom i
// (J. Behler, M. Parrinello, Phys. Rev. Lett. 98, 146401 (2007); J. Behler, J. Chem. Phys. 134, 074106 (2011)).
//
// Atom by atom, all of it in cache:
//   (1) neighbours, sorted by element, lanes padded; the shapes f and L = f'/(f r) of each, radial factors of functions of two atoms
//   (2) G: pairs j < k whose third side is short enough are packed into lists, all that depends on a triplet is computed for full
//       vectors of them: s = r_jk², c = cos theta, E_a = exp(-eta_a (r_j² + r_k² + s)) f f f; E_a, c and L(r_jk) are kept
//   (3) the network and dE/dG (of all members of an ensemble, and their mean)
//   (4) the same triplets with coefficients dE/dG. With P = sum over terms, q_a = E_a P_a, d_j the vector to neighbour j:
//         dE/dr_j /r_j = S1 + L_j S0 + S2/r_j,  S0 = sum q_a,  S1 = -2 sum eta_a q_a,  S2 = 2 sum eta_a shift_a q_a;  likewise k, jk
//         dE/dd_j = D d_j + tau d_k,  tau = C/(r_j r_k) - (dE/dr_jk)/r_jk,  C = dE/dc,
//         D = A + L_j S0 + S2/r_j - C c/r_j²,  A = S1 + (dE/dr_jk)/r_jk
//       A, S0, C c, S2 and tau are those of the triplet, the same for j and k: one row of numbers, added to both.

#define OSTWALD_HALF_WIDTH_FLOAT 1  // rows of neighbours are short
#include <pybind11/stl.h>

#include "hdnnp_functions.hpp"
#include "hdnnp_network.hpp"

namespace ostwald {

using namespace hdnnp;

struct Watch {  // per local atom, to be filled: how far beyond the training set its functions lie
  float* excess = nullptr;
  int16_t* function = nullptr;
  int16_t* count = nullptr;
};

struct Task {
  Watch watch;
  double* functions = nullptr;        // (nlocal, width): G wanted, nothing else
  int64_t width = 0;
  double* derivatives = nullptr;      // (listed pairs, 3, width): dG_i/dr_j wanted as well
  double* member_forces = nullptr;    // (members, nall, 3): added to, instead of the mean
  double* member_energies = nullptr;  // (members)
};

class HDNNP {
 public:
  // functions: by element, (nf, columns); type_elements (ntypes,): element of each type; charges: nuclear, by element.
  HDNNP(const std::vector<carray<double>>& functions, const std::vector<int>& type_elements, const std::vector<double>& charges,
        int cutoff_type, double cutoff_inner, bool mixed)
      : mixed_(mixed), type_elements_(type_elements) {
    elements_ = int(functions.size());
    require(elements_ > 0 && charges.size() == functions.size(), "one table of functions and one charge per element");
    for (int e : type_elements) require(e >= 0 && e < elements_, "a type has no element");
    for (const auto& table : functions) {
      require(table.ndim() == 2 && table.shape(1) == columns, "a table of functions has the wrong number of columns");
      const int count = int(table.shape(0));
      const double* p = table.data();
      for (int f = 0; f < count; f++) {
        const double* row = p + size_t(f) * columns;
        require(row[CUTOFF] > 0 && std::isfinite(row[CUTOFF]), "cutoffs must be positive");
        require(row[NEIGHBOUR1] < elements_ && row[NEIGHBOUR2] < elements_, "a neighbour's element is unknown");
        cutoff_ = std::max(cutoff_, row[CUTOFF]);
      }
      wide_.push_back(make_centre<double>(p, count, elements_, charges, cutoff_type, cutoff_inner));
      narrow_.push_back(make_centre<float>(p, count, elements_, charges, cutoff_type, cutoff_inner));
      ranges_.emplace_back();
    }
  }

  // Another network on the same functions, for each element: inputs are factor (G - shift), its energy is scale times the output plus
  // offset (eV). layers: (weights (n_out, n_in), bias (n_out), activation).
  using LayerData = std::tuple<carray<double>, carray<double>, int>;
  void add_member(const std::vector<std::tuple<std::vector<LayerData>, carray<double>, carray<double>, double, double>>& nets) {
    require(int(nets.size()) == elements_, "one network per element");
    std::vector<Member> member;
    for (int e = 0; e < elements_; e++) {
      const auto& [layers, factor, shift, scale, offset] = nets[e];
      Member m;
      int size = wide_[e].functions;
      require(factor.size() == size && shift.size() == size, "factor and shift must have one number per function");
      require(!layers.empty(), "a network has no layer");
      for (const auto& [weights, bias, activation] : layers) {
        require(weights.ndim() == 2 && bias.ndim() == 1 && weights.shape(1) == size && weights.shape(0) == bias.shape(0),
                "weights and bias of a layer do not fit");
        size = int(weights.shape(0));
        m.network.add(weights.data(), bias.data(), size, int(weights.shape(1)), activation);
      }
      require(size == 1, "a network must end in one number");
      m.factor.assign(factor.data(), factor.data() + factor.size());
      m.shift.assign(shift.data(), shift.data() + shift.size());
      m.scale = scale, m.offset = offset;
      member.push_back(std::move(m));
    }
    members_.push_back(std::move(member));
  }

  // Training range of each function of an element, for the watch.
  void set_range(int element, carray<double> minimum, carray<double> maximum) {
    require(element >= 0 && element < elements_, "no such element");
    require(minimum.size() == wide_[element].functions && maximum.size() == minimum.size(), "one range per function");
    ranges_[element].assign(2 * minimum.size(), 0.0);
    for (ssize_t f = 0; f < minimum.size(); f++)
      ranges_[element][2 * f] = minimum.data()[f], ranges_[element][2 * f + 1] = maximum.data()[f];
  }

  double cutoff() const { return cutoff_; }
  int members() const { return int(members_.size()); }

  py::tuple compute(py::handle positions, py::handle types, int64_t nlocal, py::handle offsets, py::handle indices,
                    py::handle forces, py::handle energies, py::handle virials, int threads, py::handle excess,
                    py::handle function, py::handle count) {
    const Call call = check(positions, types, nlocal, offsets, indices, forces, energies, virials, threads);
    Task task;
    task.watch = watched(nlocal, excess, function, count);
    require(!members_.empty(), "no network was given");
    return as_tuple(run(call, task));
  }

  static Watch watched(int64_t nlocal, py::handle excess, py::handle function, py::handle count) {
    if (excess.is_none()) return {};
    const auto x = view<float>(excess, "excess", 1, true);
    const auto f = view<int16_t>(function, "function", 1, true), c = view<int16_t>(count, "count", 1, true);
    require(x.shape[0] == nlocal && f.shape[0] == nlocal && c.shape[0] == nlocal, "extrapolation arrays must be (nlocal)");
    return {static_cast<float*>(x.ptr), static_cast<int16_t*>(f.ptr), static_cast<int16_t*>(c.ptr)};
  }

  py::tuple compute_members(py::handle positions, py::handle types, int64_t nlocal, py::handle offsets, py::handle indices,
                            py::handle forces, int threads, py::handle excess, py::handle function, py::handle count) {
    const auto f = view<double>(forces, "forces", 3, true);
    require(f.shape[0] == members() && f.shape[2] == 3, "forces must be (members, n, 3)");
    const auto x = view<double>(positions, "positions", 2, false);
    require(f.shape[1] == x.shape[0], "forces must have as many rows as positions");
    Call call = check(positions, types, nlocal, offsets, indices, positions, py::none(), py::none(), threads, false);
    call.forces = nullptr;
    py::array_t<double> energies(members());
    Task task;
    task.member_forces = static_cast<double*>(f.ptr), task.member_energies = energies.mutable_data();
    task.watch = watched(nlocal, excess, function, count);
    const Totals totals = run(call, task);
    py::array_t<double> virial(6);
    for (int k = 0; k < 6; k++) virial.mutable_data()[k] = totals.virial[k] / members();
    return py::make_tuple(energies, virial);
  }

  void functions(py::handle positions, py::handle types, int64_t nlocal, py::handle offsets, py::handle indices,
                 py::handle out, int threads, py::handle derivatives) {
    const auto g = view<double>(out, "out", 2, true);
    int most = 0;
    for (const auto& centre : wide_) most = std::max(most, centre.functions);
    require(g.shape[0] == nlocal && g.shape[1] >= most, "out must be (nlocal, number of functions)");
    Call call = check(positions, types, nlocal, offsets, indices, positions, py::none(), py::none(), threads, false);
    call.forces = nullptr;
    Task task;
    task.functions = static_cast<double*>(g.ptr), task.width = g.shape[1];
    if (!derivatives.is_none()) {
      const auto d = view<double>(derivatives, "derivatives", 3, true);
      require(d.shape[0] == call.offsets[call.nlocal] && d.shape[1] == 3 && d.shape[2] == g.shape[1],
              "derivatives must be (listed pairs, 3, columns of out)");
      task.derivatives = static_cast<double*>(d.ptr);
    }
    run(call, task);
  }

 private:
  struct Member {
    Network<double> network;
    std::vector<double> factor, shift;
    double scale = 1, offset = 0;
  };

  // Triplets of a group. Fields lie one behind the other, each `stride` numbers long, in the thread's store.
  struct List {
    size_t at = 0, stride = 0, index = 0;  // where fields begin in the store, neighbours k in the list of indices
    int count = 0;
    std::vector<int> start;  // by j: the first triplet; one more than there are j
  };
  enum Field { S, P, F, H, R, E };  // pass 1: s, r_j² + r_k², f_j f_k, 1/(r_j r_k), r_j + r_k, then E_a
  enum Kept { C = P, L = F, INVERSE = R };  // pass 2: cos theta and L(r_jk) in their place, 1/r_jk where needed

  // What a thread needs; grows to the largest neighbourhood met.
  template <class T> struct Work {
    using V = vec<T>;
    int capacity = 0;  // slots
    std::vector<int32_t> near;
    std::vector<int> begin, count;        // segments by element: first slot, neighbours
    std::vector<int> element;             // of the near ones
    aligned_vector<int32_t> index, second;  // rows of the neighbours; slots k of the triplets
    aligned_vector<T> x, y, z, r, inverse_r, r2, d, tx, ty, tz;
    aligned_vector<T> shape, slope, rho;  // (shapes or radials, capacity): f, L, rho
    aligned_vector<T> ends8, sums8;       // (capacity, 8): 1 1 1 1 x y z 0, and by shape what is summed of it
    aligned_vector<T> store, rows;        // fields of the triplets; their rows (triplets, 8)
    aligned_vector<V> sums, values;
    aligned_vector<V> bases;              // of the harmonics: (vectors of neighbours, basis)
    aligned_vector<T> moments, field;     // A_lm: by element and density; dE/dA_lm, twice as long: b, then b kappa
    std::vector<size_t> moments_at;       // by element
    std::vector<double> squares, pull;    // by element and density: sum_j rho_j²; dE/d of it
    std::vector<List> lists;              // by group
    aligned_vector<T> value_of, slope_of; // coefficients of a group: (radials, terms)
    aligned_vector<double> g, input, gradient, dg, scratch;

    void reserve(int slots, size_t shapes, size_t radials) {
      if (slots > capacity) {
        capacity = (slots + 31) / 16 * 16;
        index.resize(capacity), ends8.resize(8 * capacity);
        for (auto* a : {&x, &y, &z, &r, &inverse_r, &r2, &d, &tx, &ty, &tz}) a->resize(capacity);
      }
      if (shape.size() < shapes * capacity) shape.resize(shapes * capacity), slope.resize(shapes * capacity);
      if (sums8.size() < 8 * shapes * capacity) sums8.resize(8 * shapes * capacity);
      if (rho.size() < radials * capacity) rho.resize(radials * capacity);
    }
  };

  Call check(py::handle positions, py::handle types, int64_t nlocal, py::handle offsets, py::handle indices, py::handle forces,
             py::handle energies, py::handle virials, int threads, bool = true) {
    return checked_call(positions, types, nlocal, offsets, indices, forces, energies, virials, int(type_elements_.size()), threads);
  }

  Totals run(const Call& call, const Task& task) {
    py::gil_scoped_release release;
    return mixed_ ? evaluate<float>(call, task, narrow_) : evaluate<double>(call, task, wide_);
  }

  // ---- (1) neighbours ----------------------------------------------------------------------------------------------------

  template <class T> __attribute__((noinline)) void gather(const Call& call, const Centre<T>& centre, int64_t i, float reach2, Work<T>& w) {
    using V = vec<T>;
    constexpr int W = lanes<T>, D = lanes<double>, parts = W / D;
    const int64_t from = call.offsets[i], length = call.offsets[i + 1] - from;
    const int32_t far = int32_t(call.nall);
    if (int64_t(w.near.size()) < length + 4 * lanes<float>) w.near.resize(length + 4 * lanes<float>);
    const int n = pick(rows_, i, call.indices + from, length, call.indices + call.offsets[call.nlocal], reach2, far, w.near.data());
    // by element, each part padded to whole vectors
    w.begin.resize(elements_ + 1), w.count.resize(elements_);
    w.reserve(n + (elements_ + 1) * W, centre.shapes.size(), centre.radials.size());
    w.element.resize(std::max(w.element.size(), size_t(n)));
    for (int k = 0; k < n; k++) w.element[k] = type_elements_[call.types[w.near[k]]];
    int slots = 0;
    for (int e = 0; e < elements_; e++) {
      w.begin[e] = slots;
      for (int k = 0; k < n; k++) {  // without a branch: which element comes is hard to predict
        w.index[slots] = w.near[k];
        slots += w.element[k] == e;
      }
      w.count[e] = slots - w.begin[e];
      while (slots % W) w.index[slots++] = far;
    }
    w.begin[elements_] = slots;

    const double* c = &rows_.exact[4 * i];
    const T beyond = T(1e4 * cutoff_), limit = T(cutoff_ * cutoff_);  // beyond: no third side is short either
    for (int s = 0; s < slots; s += W) {
      vec<double> dx[parts], dy[parts], dz[parts], t[parts];
      for (int p = 0; p < parts; p++) {
        load_rows(rows_.exact.data(), 4, &w.index[s + p * D], dx[p], dy[p], dz[p], t[p]);
        dx[p] -= c[0], dy[p] -= c[1], dz[p] -= c[2];
      }
      V x = from_double<T>(dx), y = from_double<T>(dy), z = from_double<T>(dz);
      V r2 = x * x + y * y + z * z;
      const ivec<T> out = r2 >= limit;  // NaN stays in
      x = out ? splat(beyond) : x, y = out ? V{} : y, z = out ? V{} : z;
      r2 = out ? splat(beyond * beyond) : r2;
      const V inverse = rsqrt(r2), r = r2 * inverse;
      store(&w.x[s], x), store(&w.y[s], y), store(&w.z[s], z);
      store(&w.r2[s], r2), store(&w.r[s], r), store(&w.inverse_r[s], inverse);
      const V one = splat(T(1));
      store_rows<T>(&w.ends8[8 * s], one, one, one, one);
      store_rows<T>(&w.ends8[8 * s + 4], x, y, z, V{});
    }
    for (int e = 0; e < elements_; e++) {
      for (int shape : centre.used_shapes[e])
        for (int s = w.begin[e]; s < w.begin[e + 1]; s += W) {
          V f, l;
          centre.shapes[shape].logarithmic(load(&w.r[s]), load(&w.inverse_r[s]), f, l);
          store(&w.shape[size_t(shape) * w.capacity + s], f), store(&w.slope[size_t(shape) * w.capacity + s], l);
        }
      for (int n : centre.used[e]) {
        const Radial<T>& a = centre.radials[n];
        for (int s = w.begin[e]; s < w.begin[e + 1]; s += W) {
          const V x = load(&w.r[s]) - a.shift;
          store(&w.rho[size_t(n) * w.capacity + s], exp2(-a.eta2 * x * x) * load(&w.shape[size_t(a.shape) * w.capacity + s]));
        }
      }
    }
  }

  // ---- (2) symmetry functions -----------------------------------------------------------------------------------------------

  template <class T> void symmetry_functions(const Centre<T>& centre, Work<T>& w) {
    using V = vec<T>;
    constexpr int W = lanes<T>;
    std::fill(w.g.begin(), w.g.end(), 0.0);
    for (int e = 0; e < elements_; e++)
      for (const RadialUse& u : centre.two_body[e]) {
        V sum{};
        for (int s = w.begin[e]; s < w.begin[e + 1]; s += W) sum += load(&w.rho[size_t(u.radial) * w.capacity + s]);
        w.g[u.function] += u.weight * sum_double(sum);
      }
    if (centre.wide.degree)
      with_degree(centre.wide.degree, [&](auto degree) { wide_functions<T, degree()>(centre, w); });
    size_t used = 0, indices = 0;
    for (size_t n = 0; n < centre.groups.size(); n++) {
      const AngularGroup<T>& group = centre.groups[n];
      List& list = w.lists[n];
      list.at = used, list.index = indices;
      if (group.narrow) collect<T, true>(centre, group, w, list);
      else collect<T, false>(centre, group, w, list);
      const int fields = E + int(group.radials.size());
      used += size_t(fields) * list.stride, indices += list.stride;
      w.sums.assign(group.radials.size() * group.terms, V{});
      with_pattern(group.pattern, [&](auto terms) __attribute__((always_inline)) {
        if (group.narrow) add_functions<T, true>(centre, group, terms, w, list);
        else add_functions<T, false>(centre, group, terms, w, list);
      });
      for (const Entry& e : group.entries) w.g[e.function] += e.weight * sum_double(w.sums[e.radial * group.terms + e.term]);
    }
  }

  // Packs the triplets of a group; narrow: those whose third side is below the cutoff.
  template <class T, bool narrow> __attribute__((noinline)) void collect(const Centre<T>& centre, const AngularGroup<T>& group, Work<T>& w, List& list) {
    using V = vec<T>;
    constexpr int W = lanes<T>;
    const bool same = group.first == group.second;
    const T reach = centre.shapes[group.shape].reach;
    const int j0 = w.begin[group.first], n1 = w.count[group.first], k0 = w.begin[group.second], n2 = w.count[group.second];
    // a row of the list per j may be written a vector too far; the last vector is filled up
    const size_t most = same ? size_t(n1) * (n1 > 0 ? n1 - 1 : 0) / 2 : size_t(n1) * n2;
    list.stride = (most + 2 * W) / 16 * 16 + 16;
    const size_t fields = E + group.radials.size();
    if (w.store.size() < list.at + fields * list.stride) w.store.resize((list.at + fields * list.stride) * 5 / 4);
    if (w.second.size() < list.index + list.stride) w.second.resize((list.index + list.stride) * 5 / 4);
    T* at = w.store.data() + list.at;
    T *ps = at + S * list.stride, *pp = at + P * list.stride, *pf = at + F * list.stride, *ph = at + H * list.stride, *pr = at + R * list.stride;
    int32_t* second = w.second.data() + list.index;
    const T* shape = &w.shape[size_t(group.shape) * w.capacity];
    const V reach2 = splat(reach * reach);
    const T outside2 = T(4 * cutoff_ * cutoff_);
    index_vec<T> lane;
    for (int l = 0; l < W; l++) lane[l] = l;
    list.start.resize(n1 + 1);
    int n = 0;
    for (int j = 0; j < n1; j++) {
      list.start[j] = n;
      const int js = j0 + j, k1 = k0 + (same ? j : n2);
      if (w.r2[js] >= outside2) continue;  // beyond every cutoff, where several of them lie on one place; NaN goes on
      const T xj = w.x[js], yj = w.y[js], zj = w.z[js], r2j = w.r2[js], ij = w.inverse_r[js], fj = shape[js], rj = w.r[js];
      for (int k = k0; k < k1; k += W) {
        const V p = r2j + load(&w.r2[k]);
        const V s = p - T(2) * (xj * load(&w.x[k]) + yj * load(&w.y[k]) + zj * load(&w.z[k]));
        bits_t live = first<T>(k1 - k);
        if constexpr (narrow) {
          live &= ~less(reach2, s);  // NaN stays in
        }
        compress(ps + n, live, s);
        compress(pp + n, live, p);
        compress(pf + n, live, fj * load(&shape[k]));
        compress(ph + n, live, ij * load(&w.inverse_r[k]));
        if (group.shifted) compress(pr + n, live, rj + load(&w.r[k]));
        compress_index<T>(second + n, live, lane + k);
        n += __builtin_popcount(live);
      }
    }
    list.start[n1] = list.count = n;
    store(ps + n, splat(T(1.02) * reach * reach)), store(pp + n, splat(T(1))), store(pf + n, V{}), store(ph + n, V{}), store(pr + n, V{});
  }

  // Sums over the list of E_a P_t; leaves what pass 2 needs.
  template <class T, bool narrow, class Terms>
  __attribute__((noinline)) void add_functions(const Centre<T>& centre, const AngularGroup<T>& group, Terms, Work<T>& w, const List& list) {
    using V = vec<T>;
    constexpr int W = lanes<T>, fixed = Terms::terms;
    const int na = int(group.radials.size()), nt = fixed ? fixed : group.terms;
    T* at = w.store.data() + list.at;
    const size_t stride = list.stride;
    const Shape<T> shape = centre.shapes[group.shape];
    const Radial<T>* radials = group.radials.data();
    const auto* used = group.used.data();
    const bool shifted = group.shifted;
    V* sums = w.sums.data();
    if (int(w.values.size()) < 2 * nt) w.values.resize(2 * nt);
    V* all = w.values.data();
    for (int n = 0; n < list.count; n += W) {
      T* t = at + n;
      const V s = load(t + S * stride), p = load(t + P * stride);
      V f = load(t + F * stride), square = p, is{}, rjk{};
      if constexpr (narrow) {
        V fjk, l;
        is = rsqrt(s), rjk = s * is;
        shape.logarithmic(rjk, is, fjk, l);
        f *= fjk, square += s;
        store(t + L * stride, l);
      }
      const V c = T(0.5) * load(t + H * stride) * (p - s);
      store(t + C * stride, c);
      V length{};
      if (shifted) {
        length = load(t + R * stride);
        if constexpr (narrow) length += rjk, store(t + INVERSE * stride, is);
      }
      V value[fixed ? fixed : 1], derivative[fixed ? fixed : 1];
      if constexpr (fixed > 0) Terms::evaluate(c, value, derivative);
      else
        for (int k = 0; k < nt; k++) group.term[k](c, all[k], all[nt + k]);
      for (int a = 0; a < na; a++) {
        V exponent = square;
        if (shifted) exponent += radials[a].shift * ((narrow ? T(3) : T(2)) * radials[a].shift - T(2) * length);
        const V e = f * exp2(-radials[a].eta2 * exponent);
        store(t + (E + a) * stride, e);
        V* sum = sums + a * nt;
        if constexpr (fixed > 0) {
          for (int z = 0; z < fixed / 2; z++)
            if (used[a][z]) sum[2 * z] += e * value[2 * z], sum[2 * z + 1] += e * value[2 * z + 1];
        } else {
          for (int k = 0; k < nt; k++) sum[k] += e * all[k];
        }
      }
    }
  }

  // lanes<double> numbers from p on.
  template <class T> static OSTWALD_INLINE vec<double> widen(const T* p) {
    vec<double> a;
    for (int k = 0; k < lanes<double>; k++) a[k] = p[k];
    return a;
  }

  // Wide functions, and what their forces need.
  template <class T, int degree> void wide_functions(const Centre<T>& centre, Work<T>& w) {
    using V = vec<T>;
    using Y = Harmonics<T, degree>;
    constexpr int W = lanes<T>, D = lanes<double>, stride = Y::padded, wide_vectors = Y::padded / D;
    const auto& tables = Y::tables();
    const size_t vectors = w.begin[elements_] / W;
    if (w.bases.size() < vectors * Y::basis) w.bases.resize(vectors * Y::basis * 5 / 4);
    w.moments_at.resize(elements_ + 1);
    w.moments_at[0] = 0;
    for (int e = 0; e < elements_; e++) w.moments_at[e + 1] = w.moments_at[e] + centre.wide.densities[e].size();
    if (w.moments.size() < w.moments_at[elements_] * stride) w.moments.resize(w.moments_at[elements_] * stride);
    w.squares.assign(w.moments_at[elements_], 0.0);
    for (int e = 0; e < elements_; e++) {
      const auto& densities = centre.wide.densities[e];
      if (densities.empty()) continue;
      const int n = (w.begin[e + 1] - w.begin[e]) / W;
      V* bases = w.bases.data() + size_t(w.begin[e] / W) * Y::basis;
      for (int v = 0; v < n; v++) {
        const int s = w.begin[e] + v * W;
        const V i = load(&w.inverse_r[s]);
        Y::evaluate(tables, i * load(&w.x[s]), i * load(&w.y[s]), i * load(&w.z[s]), bases + v * Y::basis);
      }
      for (size_t d = 0; d < densities.size(); d++) {
        const T* rho = &w.rho[size_t(densities[d]) * w.capacity + w.begin[e]];
        V sums[stride];
        for (int k = Y::count; k < stride; k++) sums[k] = V{};
        Y::accumulate(bases, rho, n, sums);
        T* moments = &w.moments[(w.moments_at[e] + d) * stride];
        for (int k = 0; k < stride; k += 8) lane_sums<T>(sums + k, moments + k);
        V square{};
        for (int v = 0; v < n; v++) square += load(rho + v * W) * load(rho + v * W);
        w.squares[w.moments_at[e] + d] = sum_double(square);
      }
    }
    for (const WidePair& pair : centre.wide.pairs) {
      const size_t a = w.moments_at[pair.first] + pair.first_density, b = w.moments_at[pair.second] + pair.second_density;
      const T *x = &w.moments[a * stride], *y = &w.moments[b * stride];
      vec<double> product[wide_vectors];
      for (int k = 0; k < wide_vectors; k++) product[k] = widen<T>(x + k * D) * widen<T>(y + k * D);
      for (size_t from = 0; from < pair.functions.size(); from += 8) {
        const size_t n = std::min<size_t>(8, pair.functions.size() - from);
        vec<double> sums[8] = {};
        for (size_t f = 0; f < n; f++)
          for (int k = 0; k < wide_vectors; k++) sums[f] += product[k] * load(&pair.coefficient[(from + f) * stride + k * D]);
        alignas(64) double values[8];
        lane_sums<double>(sums, values);
        for (size_t f = 0; f < n; f++) w.g[pair.functions[from + f]] += values[f] - pair.self[from + f] * w.squares[a];
      }
    }
  }

  // ---- (4) forces ---------------------------------------------------------------------------------------------------------------

  // From dE/dG the gradients D and T of every neighbour.
  template <class T> void contract(const Centre<T>& centre, const double* dg, Work<T>& w) {
    using V = vec<T>;
    constexpr int W = lanes<T>;
    const int slots = w.begin[elements_];
    const size_t shapes = centre.shapes.size();
    for (auto* a : {&w.d, &w.tx, &w.ty, &w.tz}) std::fill(a->begin(), a->begin() + slots, T(0));
    for (size_t s = 0; s < shapes; s++) std::fill_n(w.sums8.begin() + 8 * s * w.capacity, 8 * slots, T(0));
    for (int e = 0; e < elements_; e++)
      for (const RadialUse& u : centre.two_body[e]) {
        const Radial<T>& a = centre.radials[u.radial];
        const T factor = T(u.weight * dg[u.function]), eta = T(2) * a.eta;
        for (int s = w.begin[e]; s < w.begin[e + 1]; s += W) {
          const V l = load(&w.slope[size_t(a.shape) * w.capacity + s]) - eta * (T(1) - a.shift * load(&w.inverse_r[s]));
          store(&w.d[s], load(&w.d[s]) + factor * load(&w.rho[size_t(u.radial) * w.capacity + s]) * l);
        }
      }
    if (centre.wide.degree)
      with_degree(centre.wide.degree, [&](auto degree) { contract_wide<T, degree()>(centre, dg, w); });
    for (size_t n = 0; n < centre.groups.size(); n++) {
      const AngularGroup<T>& group = centre.groups[n];
      const List& list = w.lists[n];
      if (list.count == 0) continue;
      w.value_of.assign(group.radials.size() * group.terms, T(0)), w.slope_of.assign(w.value_of.size(), T(0));
      for (const Entry& e : group.entries) {
        const double c = e.weight * dg[e.function];
        const int at = e.radial * group.terms + e.term;
        w.value_of[at] += T(c), w.slope_of[at] += T(c * group.slope[e.term]);
      }
      if (std::all_of(w.value_of.begin(), w.value_of.end(), [](T x) { return x == T(0); })) continue;
      with_pattern(group.pattern, [&](auto terms) __attribute__((always_inline)) {
        if (group.narrow) make_rows<T, true>(group, terms, w, list);
        else make_rows<T, false>(group, terms, w, list);
      });
      add_rows<T>(group, w, list);
    }
    for (size_t n = 0; n < shapes; n++)
      for (int s = 0; s < slots; s += W) {
        int32_t row[W];
        for (int l = 0; l < W; l++) row[l] = s + l;
        const T* from = &w.sums8[8 * n * w.capacity];
        V a, s0, turn, s2, x, y, z, none;
        load_rows(from, 8, row, a, s0, turn, s2);
        load_rows(from + 4, 8, row, x, y, z, none);
        const V i = load(&w.inverse_r[s]), l = load(&w.slope[n * w.capacity + s]);
        store(&w.d[s], load(&w.d[s]) + a + l * s0 + i * (s2 - i * turn));
        store(&w.tx[s], load(&w.tx[s]) + x);
        store(&w.ty[s], load(&w.ty[s]) + y);
        store(&w.tz[s], load(&w.tz[s]) + z);
      }
  }

  // Gradients of wide functions, added to those of the neighbours.
  template <class T, int degree> void contract_wide(const Centre<T>& centre, const double* dg, Work<T>& w) {
    using V = vec<T>;
    using Y = Harmonics<T, degree>;
    constexpr int W = lanes<T>, D = lanes<double>, stride = Y::padded, wide_vectors = Y::padded / D;
    const auto& tables = Y::tables();
    const auto wanted = [&](const WidePair& pair) {
      return std::any_of(pair.functions.begin(), pair.functions.end(), [&](int f) { return dg[f] != 0; });
    };
    if (std::none_of(centre.wide.pairs.begin(), centre.wide.pairs.end(), wanted)) return;
    const size_t total = w.moments_at[elements_];
    w.field.assign(total * 2 * stride, T(0)), w.pull.assign(total, 0.0);
    for (const WidePair& pair : centre.wide.pairs) {
      const size_t a = w.moments_at[pair.first] + pair.first_density, b = w.moments_at[pair.second] + pair.second_density;
      vec<double> c[wide_vectors] = {};
      for (size_t n = 0; n < pair.functions.size(); n++) {
        const double g = dg[pair.functions[n]];
        for (int k = 0; k < wide_vectors; k++) c[k] += g * load(&pair.coefficient[n * stride + k * D]);
        w.pull[a] -= g * pair.self[n];
      }
      const T *x = &w.moments[a * stride], *y = &w.moments[b * stride];
      T *fx = &w.field[a * 2 * stride], *fy = &w.field[b * 2 * stride];
      T factor[stride];
      for (int k = 0; k < wide_vectors; k++)
        for (int l = 0; l < D; l++) factor[k * D + l] = T(c[k][l]);
      for (int k = 0; k < stride; k++) fx[k] += factor[k] * y[k];
      for (int k = 0; k < stride; k++) fy[k] += factor[k] * x[k];  // twice the same where a is b
    }
    for (size_t d = 0; d < total; d++) {
      T* field = &w.field[d * 2 * stride];
      for (int k = 0; k < Y::count; k++) field[stride + k] = field[k] * T(tables.kappa[k]);
    }
    V value[16];
    for (int e = 0; e < elements_; e++) {
      const auto& densities = centre.wide.densities[e];
      for (size_t block = 0; block < densities.size(); block += 16) {
        const int nd = int(std::min<size_t>(16, densities.size() - block));
        const T* field = &w.field[(w.moments_at[e] + block) * 2 * stride];
        for (int s = w.begin[e]; s < w.begin[e + 1]; s += W) {
          const auto rho = [&](int d) __attribute__((always_inline)) { return load(&w.rho[size_t(densities[block + d]) * w.capacity + s]); };
          V gx, gy, gz, along{};
          Y::gradient(w.bases.data() + size_t(s / W) * Y::basis, field, nd, rho, value, gx, gy, gz);
          const V i = load(&w.inverse_r[s]), x = load(&w.x[s]), y = load(&w.y[s]), z = load(&w.z[s]);
          for (int d = 0; d < nd; d++) {
            const Radial<T>& a = centre.radials[densities[block + d]];
            const V r = rho(d), q = r * (value[d] + T(2 * w.pull[w.moments_at[e] + block + d]) * r);
            along += q * (load(&w.slope[size_t(a.shape) * w.capacity + s]) - T(2) * a.eta * (T(1) - a.shift * i));
          }
          const V i2 = i * i, turn = (gx * x + gy * y + gz * z) * i;  // of the unit vector only what is across counts
          store(&w.d[s], load(&w.d[s]) + along - turn * i2);
          store(&w.tx[s], load(&w.tx[s]) + gx * i);
          store(&w.ty[s], load(&w.ty[s]) + gy * i);
          store(&w.tz[s], load(&w.tz[s]) + gz * i);
        }
      }
    }
  }

  // The rows (A, S0, C c, S2, tau, tau, tau, tau) of a group's triplets.
  template <class T, bool narrow, class Terms> __attribute__((noinline)) void make_rows(const AngularGroup<T>& group, Terms, Work<T>& w, const List& list) {
    using V = vec<T>;
    constexpr int W = lanes<T>, fixed = Terms::terms;
    const int na = int(group.radials.size()), nt = fixed ? fixed : group.terms;
    const T* at = w.store.data() + list.at;
    const size_t stride = list.stride;
    const Radial<T>* radials = group.radials.data();
    const auto* used = group.used.data();
    const bool shifted = group.shifted;
    V* all = w.values.data();
    if (w.rows.size() < 8 * (size_t(list.count) + W)) w.rows.resize(10 * (size_t(list.count) + W));
    for (int n = 0; n < list.count; n += W) {
      const T* t = at + n;
      const V c = load(t + C * stride), h = load(t + H * stride);
      V value[fixed ? fixed : 1], derivative[fixed ? fixed : 1];
      if constexpr (fixed > 0) Terms::evaluate(c, value, derivative);
      else
        for (int k = 0; k < nt; k++) group.term[k](c, all[k], all[nt + k]);
      V s0{}, s1{}, s2{}, gamma{};
      for (int a = 0; a < na; a++) {
        V p{}, dp{};
        const T *cv = &w.value_of[a * nt], *cs = &w.slope_of[a * nt];
        if constexpr (fixed > 0) {
          for (int z = 0; z < fixed / 2; z++)
            if (used[a][z]) {
              p += cv[2 * z] * value[2 * z] + cv[2 * z + 1] * value[2 * z + 1];
              dp += cs[2 * z] * derivative[2 * z] + cs[2 * z + 1] * derivative[2 * z + 1];
            }
        } else {
          for (int k = 0; k < nt; k++) p += cv[k] * all[k], dp += cs[k] * all[nt + k];
        }
        const V e = load(t + (E + a) * stride), q = e * p;
        s0 += q, gamma += e * dp;
        const T eta = T(-2) * radials[a].eta;
        s1 += eta * q;
        if (shifted) s2 -= (eta * radials[a].shift) * q;
      }
      V beta{};
      if constexpr (narrow) {
        beta = s1 + load(t + L * stride) * s0;
        if (shifted) beta += s2 * load(t + INVERSE * stride);
      }
      store_rows<T>(&w.rows[8 * size_t(n)], s1 + beta, s0, gamma * c, s2, gamma * h - beta);
    }
  }

  // Lane l of (a, b, c, d) to four numbers at row + 8 l.
  template <class T> static OSTWALD_INLINE void store_rows(T* row, vec<T> a, vec<T> b, vec<T> c, vec<T> d) {
#if defined(OSTWALD_FLOAT8)
    if constexpr (sizeof(T) == 4) {
      const __m256d ab0 = _mm256_castps_pd(_mm256_unpacklo_ps((__m256)a, (__m256)b)), ab1 = _mm256_castps_pd(_mm256_unpackhi_ps((__m256)a, (__m256)b));
      const __m256d cd0 = _mm256_castps_pd(_mm256_unpacklo_ps((__m256)c, (__m256)d)), cd1 = _mm256_castps_pd(_mm256_unpackhi_ps((__m256)c, (__m256)d));
      const __m256 r[4] = {_mm256_castpd_ps(_mm256_unpacklo_pd(ab0, cd0)), _mm256_castpd_ps(_mm256_unpackhi_pd(ab0, cd0)),
                           _mm256_castpd_ps(_mm256_unpacklo_pd(ab1, cd1)), _mm256_castpd_ps(_mm256_unpackhi_pd(ab1, cd1))};
      for (int k = 0; k < 4; k++) {
        _mm_storeu_ps(row + 8 * k, _mm256_castps256_ps128(r[k]));
        _mm_storeu_ps(row + 8 * (k + 4), _mm256_extractf128_ps(r[k], 1));
      }
      return;
    }
#endif
#if defined(OSTWALD_AVX512)
    if constexpr (sizeof(T) == 8) {
      const __m512d ab0 = _mm512_unpacklo_pd((__m512d)a, (__m512d)b), ab1 = _mm512_unpackhi_pd((__m512d)a, (__m512d)b);
      const __m512d cd0 = _mm512_unpacklo_pd((__m512d)c, (__m512d)d), cd1 = _mm512_unpackhi_pd((__m512d)c, (__m512d)d);
      // 128-bit blocks k of ab and cd make row 2 k (low halves) or 2 k + 1 (high halves)
      const __m512d even0 = _mm512_shuffle_f64x2(ab0, cd0, 0x44), even1 = _mm512_shuffle_f64x2(ab0, cd0, 0xee);
      const __m512d odd0 = _mm512_shuffle_f64x2(ab1, cd1, 0x44), odd1 = _mm512_shuffle_f64x2(ab1, cd1, 0xee);
      const auto put = [&](int k, __m512d e) __attribute__((always_inline)) {  // blocks ab k, ab k + 1, cd k, cd k + 1
        const __m512d r = _mm512_shuffle_f64x2(e, e, 0xd8);
        _mm256_storeu_pd(row + 8 * k, _mm512_castpd512_pd256(r));
        _mm256_storeu_pd(row + 8 * (k + 2), _mm512_extractf64x4_pd(r, 1));
      };
      put(0, even0), put(4, even1), put(1, odd0), put(5, odd1);
      return;
    }
#endif
    for (int l = 0; l < lanes<T>; l++) row[8 * l] = a[l], row[8 * l + 1] = b[l], row[8 * l + 2] = c[l], row[8 * l + 3] = d[l];
  }

  // Lane l of (a, b, c, d, t, t, t, t) to eight numbers at row + 8 l.
  template <class T> static OSTWALD_INLINE void store_rows(T* row, vec<T> a, vec<T> b, vec<T> c, vec<T> d, vec<T> t) {
#if defined(OSTWALD_FLOAT8)
    if constexpr (sizeof(T) == 4) {
      const __m256d ab0 = _mm256_castps_pd(_mm256_unpacklo_ps((__m256)a, (__m256)b)), ab1 = _mm256_castps_pd(_mm256_unpackhi_ps((__m256)a, (__m256)b));
      const __m256d cd0 = _mm256_castps_pd(_mm256_unpacklo_ps((__m256)c, (__m256)d)), cd1 = _mm256_castps_pd(_mm256_unpackhi_ps((__m256)c, (__m256)d));
      const __m256 r[4] = {_mm256_castpd_ps(_mm256_unpacklo_pd(ab0, cd0)), _mm256_castpd_ps(_mm256_unpackhi_pd(ab0, cd0)),
                           _mm256_castpd_ps(_mm256_unpacklo_pd(ab1, cd1)), _mm256_castpd_ps(_mm256_unpackhi_pd(ab1, cd1))};
      const __m256 u[4] = {_mm256_permute_ps((__m256)t, 0x00), _mm256_permute_ps((__m256)t, 0x55), _mm256_permute_ps((__m256)t, 0xaa),
                           _mm256_permute_ps((__m256)t, 0xff)};
      for (int k = 0; k < 4; k++) {
        _mm256_storeu_ps(row + 8 * k, _mm256_permute2f128_ps(r[k], u[k], 0x20));
        _mm256_storeu_ps(row + 8 * (k + 4), _mm256_permute2f128_ps(r[k], u[k], 0x31));
      }
      return;
    }
#endif
    store_rows<T>(row, a, b, c, d);
    store_rows<T>(row + 4, t, t, t, t);
  }

  // Adds every triplet's row, times the vector to the other neighbour, to both neighbours.
  template <class T> __attribute__((noinline)) void add_rows(const AngularGroup<T>& group, Work<T>& w, const List& list) {
    typedef T Row __attribute__((vector_size(8 * sizeof(T))));
    const auto get = [](const T* p) __attribute__((always_inline)) { Row r; std::memcpy(&r, p, sizeof r); return r; };
    const auto put = [](T* p, Row r) __attribute__((always_inline)) { std::memcpy(p, &r, sizeof r); };
    T* sums = &w.sums8[8 * size_t(group.shape) * w.capacity];
    const T *ends = w.ends8.data(), *rows = w.rows.data();
    const int32_t* second = w.second.data() + list.index;
    const int j0 = w.begin[group.first], n1 = w.count[group.first];
    for (int j = 0; j < n1; j++) {
      const Row other = get(ends + 8 * (j0 + j));
      Row own[2] = {};
      const auto add = [&](int n, Row& mine) __attribute__((always_inline)) {
        const Row row = get(rows + 8 * size_t(n));
        const size_t k = 8 * size_t(second[n]);
        mine += row * get(ends + k);
        put(sums + k, get(sums + k) + row * other);
      };
      int n = list.start[j];
      const int end = list.start[j + 1];
      for (; n + 1 < end; n += 2) add(n, own[0]), add(n + 1, own[1]);  // two chains of additions
      if (n < end) add(n, own[0]);
      T* mine = sums + 8 * (j0 + j);
      put(mine, get(mine) + (own[0] + own[1]));
    }
  }

  // Adds the forces of atom i's energy to the rows, its virial to virial[6] (and per atom).
  template <class T> __attribute__((noinline)) void scatter(int64_t i, double energy, Work<T>& w, double* sums, double* stress, double* virial) {
    using V = vec<T>;
    constexpr int W = lanes<T>, D = lanes<double>;
    const int slots = w.begin[elements_];
    V own_x{}, own_y{}, own_z{}, v[6] = {};
    for (int s = 0; s < slots; s += W) {
      const V x = load(&w.x[s]), y = load(&w.y[s]), z = load(&w.z[s]), d = load(&w.d[s]);
      const V gx = d * x + load(&w.tx[s]), gy = d * y + load(&w.ty[s]), gz = d * z + load(&w.tz[s]);
      own_x += gx, own_y += gy, own_z += gz;
      v[0] -= x * gx, v[1] -= y * gy, v[2] -= z * gz, v[3] -= y * gz, v[4] -= x * gz, v[5] -= x * gy;
      subtract_rows(sums, &w.index[s], gx, gy, gz, V{});
      if (stress) {  // half of each neighbour's to either end
        const V h = splat(T(-0.5));
        const V p[6] = {h * x * gx, h * y * gy, h * z * gz, h * T(0.5) * (y * gz + z * gy), h * T(0.5) * (x * gz + z * gx),
                        h * T(0.5) * (x * gy + y * gx)};
        for (int l = 0; l < W; l++)
          for (int k = 0; k < 6; k++) {
            stress[8 * int64_t(w.index[s + l]) + k] += p[k][l];
            stress[8 * i + k] += p[k][l];
          }
      }
    }
    double* row = sums + 4 * i;
    row[0] += sum_double(own_x), row[1] += sum_double(own_y), row[2] += sum_double(own_z), row[3] += energy;
    for (int k = 0; k < 6; k++) virial[k] += sum_double(v[k]);
    (void)D;
  }

  // The derivatives of each function of atom i by the place of each listed neighbour: pass (4) with one coefficient at a time.
  // place: listed pair of a row.
  template <class T> void differentiate(const Call& call, const Centre<T>& centre, int64_t i, const Task& task, Work<T>& w, std::vector<int64_t>& place) {
    constexpr int W = lanes<T>;
    for (int64_t p = call.offsets[i]; p < call.offsets[i + 1]; p++) {
      place[call.indices[p]] = p;
      std::fill_n(task.derivatives + 3 * p * task.width, 3 * task.width, 0.0);
    }
    std::fill(w.dg.begin(), w.dg.end(), 0.0);
    for (int f = 0; f < centre.functions; f++) {
      w.dg[f] = 1;
      contract<T>(centre, w.dg.data(), w);
      w.dg[f] = 0;
      for (int s = 0; s < w.begin[elements_]; s += W)
        for (int l = s; l < s + W; l++) {
          if (w.index[l] == call.nall) continue;  // a lane that only fills up
          double* out = task.derivatives + 3 * place[w.index[l]] * task.width + f;
          out[0] = double(w.d[l] * w.x[l] + w.tx[l]);
          out[task.width] = double(w.d[l] * w.y[l] + w.ty[l]);
          out[2 * task.width] = double(w.d[l] * w.z[l] + w.tz[l]);
        }
    }
  }

  // ---- all atoms ----------------------------------------------------------------------------------------------------------------

  void note(const double* g, int element, int64_t i, const Watch& watch) const {
    const auto& range = ranges_[element];
    double worst = 0;
    int which = -1, count = 0;
    for (size_t f = 0; 2 * f < range.size(); f++) {
      const double low = range[2 * f], high = range[2 * f + 1], width = high - low;
      const double beyond = g[f] > high ? g[f] - high : low - g[f];
      if (!(beyond > 0) || !(width > 0)) continue;
      count++;
      if (beyond / width > worst) worst = beyond / width, which = int(f);
    }
    watch.excess[i] = float(worst), watch.function[i] = int16_t(which), watch.count[i] = int16_t(count);
  }

  template <class T> Totals evaluate(const Call& call, const Task& task, const std::vector<Centre<T>>& centres) {
    const bool with_virials = call.virials != nullptr, by_member = task.member_forces != nullptr;
    const int M = members(), sets = by_member ? M : 1;
    rows_.pack(call, with_virials);
    const int64_t nall = call.nall, stride = 4 * (nall + 1);
    if (by_member)
      for (auto& s : rows_.sums) s.resize(stride * sets);
    const float reach2 = float((cutoff_ + rows_.margin) * (cutoff_ + rows_.margin) * (1 + 1e-6));
    std::vector<Totals> totals(call.threads);
    std::vector<double> member_energies(size_t(call.threads) * M, 0.0);
    size_t scratch = 0, most = 0, groups = 0;
    for (int e = 0; e < elements_; e++) {
      most = std::max(most, size_t(centres[e].functions));
      groups = std::max(groups, centres[e].groups.size());
      for (const auto& member : members_) scratch = std::max(scratch, member[e].network.scratch());
    }

#pragma omp parallel num_threads(call.threads)
    {
#ifdef _OPENMP
      const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
#else
      const int thread = 0, threads = 1;
#endif
      double* sums = task.functions ? nullptr : rows_.sums[thread].data();
      double* stress = with_virials ? rows_.stress[thread].data() : nullptr;
      if (sums) std::fill(sums, sums + stride * sets, 0.0);
      if (stress) std::fill(stress, stress + 8 * (nall + 1), 0.0);
      const int64_t begin = call.nlocal * thread / threads, end = call.nlocal * (thread + 1) / threads;
      Work<T> w;
      const size_t padded = (most + 15) / 8 * 8;
      for (auto* a : {&w.g, &w.input, &w.gradient, &w.dg}) a->assign(padded, 0.0);
      w.scratch.resize(scratch);
      w.lists.resize(groups);
      std::vector<int64_t> place(task.derivatives ? nall + 1 : 0);
      double total = 0, virial[6] = {};

      for (int64_t i = begin; i < end; i++) {
        const int element = type_elements_[call.types[i]];
        const Centre<T>& centre = centres[element];
        gather<T>(call, centre, i, reach2, w);
        symmetry_functions<T>(centre, w);
        if (task.functions) {
          std::copy(w.g.begin(), w.g.begin() + centre.functions, task.functions + i * task.width);
          if (task.derivatives) differentiate<T>(call, centre, i, task, w, place);
          continue;
        }
        if (task.watch.excess) note(w.g.data(), element, i, task.watch);
        if (!by_member) std::fill(w.dg.begin(), w.dg.end(), 0.0);
        double energy = 0;
        for (int m = 0; m < M; m++) {
          const Member& member = members_[m][element];
          for (int f = 0; f < centre.functions; f++) w.input[f] = member.factor[f] * (w.g[f] - member.shift[f]);
          const double e = member.scale * member.network(w.input.data(), w.gradient.data(), w.scratch.data()) + member.offset;
          const double weight = by_member ? member.scale : member.scale / M;
          if (by_member) {
            for (int f = 0; f < centre.functions; f++) w.dg[f] = weight * member.factor[f] * w.gradient[f];
            contract<T>(centre, w.dg.data(), w);
            scatter<T>(i, e, w, sums + stride * m, nullptr, virial);
            member_energies[size_t(thread) * M + m] += e;
          } else {
            for (int f = 0; f < centre.functions; f++) w.dg[f] += weight * member.factor[f] * w.gradient[f];
            energy += e / M;
          }
        }
        if (by_member) continue;
        contract<T>(centre, w.dg.data(), w);
        scatter<T>(i, energy, w, sums, stress, virial);
        total += energy;
      }
      totals[thread].energy = total;
      for (int k = 0; k < 6; k++) totals[thread].virial[k] = virial[k];
#pragma omp barrier
      if (sums) {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < nall; i++) {
          for (int m = 0; m < sets; m++) {
            double f[4] = {0, 0, 0, 0};
            for (int t = 0; t < threads; t++)
              for (int k = 0; k < 4; k++) f[k] += rows_.sums[t][stride * m + 4 * i + k];
            double* out = by_member ? task.member_forces + 3 * (nall * m + i) : call.forces + 3 * i;
            for (int k = 0; k < 3; k++) out[k] += f[k];
            if (call.energies) call.energies[i] += f[3];
          }
          if (with_virials)
            for (int t = 0; t < threads; t++)
              for (int k = 0; k < 6; k++) call.virials[6 * i + k] += rows_.stress[t][8 * i + k];
        }
      }
    }
    Totals result;
    for (const Totals& t : totals) {
      result.energy += t.energy;
      for (int k = 0; k < 6; k++) result.virial[k] += t.virial[k];
    }
    if (by_member)
      for (int m = 0; m < M; m++) {
        task.member_energies[m] = 0;
        for (int t = 0; t < call.threads; t++) task.member_energies[m] += member_energies[size_t(t) * M + m];
      }
    return result;
  }

  bool mixed_ = false;
  int elements_ = 0;
  double cutoff_ = 0;
  std::vector<int> type_elements_;
  std::vector<Centre<double>> wide_;
  std::vector<Centre<float>> narrow_;
  std::vector<std::vector<Member>> members_;  // (members, elements)
  std::vector<std::vector<double>> ranges_;   // by element: minimum and maximum of each function
  Rows rows_;
};

}  // namespace ostwald

PYBIND11_MODULE(_hdnnp, m) {
  namespace py = pybind11;
  using ostwald::HDNNP;
  m.doc() = "High-dimensional neural-network potentials: symmetry functions, energies, forces and virials.";
  py::class_<HDNNP>(m, "HDNNP")
      .def(py::init<const std::vector<ostwald::carray<double>>&, const std::vector<int>&, const std::vector<double>&, int, double, bool>(),
           py::arg("functions"), py::arg("type_elements"), py::arg("charges"), py::arg("cutoff_type"), py::arg("cutoff_inner"),
           py::arg("mixed"))
      .def("add_member", &HDNNP::add_member, py::arg("networks"))
      .def("set_range", &HDNNP::set_range, py::arg("element"), py::arg("minimum"), py::arg("maximum"))
      .def_property_readonly("cutoff", &HDNNP::cutoff)
      .def_property_readonly("members", &HDNNP::members)
      .def("compute", &HDNNP::compute, py::arg("positions"), py::arg("types"), py::arg("nlocal"), py::arg("offsets"),
           py::arg("indices"), py::arg("forces"), py::arg("energies").none(true), py::arg("virials").none(true), py::arg("threads"),
           py::arg("excess") = py::none(), py::arg("function") = py::none(), py::arg("count") = py::none(),
           "Adds mean forces (and energies, virials per atom); returns energy (eV) and virial (6,) (eV) of the local atoms.")
      .def("compute_members", &HDNNP::compute_members, py::arg("positions"), py::arg("types"), py::arg("nlocal"),
           py::arg("offsets"), py::arg("indices"), py::arg("forces"), py::arg("threads"), py::arg("excess") = py::none(),
           py::arg("function") = py::none(), py::arg("count") = py::none(),
           "Adds each member's forces to forces (members, n, 3); returns energies (members,) and mean virial (6,), eV, of the local atoms.")
      .def("functions", &HDNNP::functions, py::arg("positions"), py::arg("types"), py::arg("nlocal"), py::arg("offsets"),
           py::arg("indices"), py::arg("out"), py::arg("threads"), py::arg("derivatives") = py::none(),
           "Fills out (nlocal, width) with the symmetry functions, derivatives (listed pairs, 3, width) with dG_i/dr_j, one by Å.");
}
