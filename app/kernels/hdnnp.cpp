// High-dimensional neural-network potentials: E = sum_i network(G_i), G_i the symmetry functions of atom i
// (J. Behler, M. Parrinello, Phys. Rev. Lett. 98, 146401 (2007); J. Behler, J. Chem. Phys. 134, 074106 (2011)).
//
// Atom by atom, all of it in cache:
//   (1) neighbours, sorted by element, lanes padded; radial factors rho and rho'/r of each, every distinct one once
//   (2) G: for each neighbour j the others k by the vector; triplets without a short third side are skipped early;
//       cosine, rho(r_jk) and rho'(r_jk)/r_jk are kept
//   (3) the network and dE/dG (of all members of an ensemble, and their mean)
//   (4) the same triplets again with coefficients dE/dG. With d_j the vector to neighbour j, the energy of a triplet depends on
//       r_j, r_k, r_jk and c = cos theta, so its gradient by the position of j is D_j d_j + tau d_k, likewise for k with
//       the same tau = (dE/dc)/(r_j r_k) - (dE/dr_jk)/r_jk. Only D (one number a neighbour) and sums of tau d are added up.

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
    if (!excess.is_none()) {
      const auto x = view<float>(excess, "excess", 1, true);
      const auto f = view<int16_t>(function, "function", 1, true), c = view<int16_t>(count, "count", 1, true);
      require(x.shape[0] == nlocal && f.shape[0] == nlocal && c.shape[0] == nlocal, "extrapolation arrays must be (nlocal)");
      task.watch = {static_cast<float*>(x.ptr), static_cast<int16_t*>(f.ptr), static_cast<int16_t*>(c.ptr)};
    }
    require(!members_.empty(), "no network was given");
    return as_tuple(run(call, task));
  }

  py::array_t<double> compute_members(py::handle positions, py::handle types, int64_t nlocal, py::handle offsets,
                                      py::handle indices, py::handle forces, int threads) {
    const auto f = view<double>(forces, "forces", 3, true);
    require(f.shape[0] == members() && f.shape[2] == 3, "forces must be (members, n, 3)");
    const auto x = view<double>(positions, "positions", 2, false);
    require(f.shape[1] == x.shape[0], "forces must have as many rows as positions");
    Call call = check(positions, types, nlocal, offsets, indices, positions, py::none(), py::none(), threads, false);
    call.forces = nullptr;
    py::array_t<double> energies(members());
    Task task;
    task.member_forces = static_cast<double*>(f.ptr), task.member_energies = energies.mutable_data();
    run(call, task);
    return energies;
  }

  void functions(py::handle positions, py::handle types, int64_t nlocal, py::handle offsets, py::handle indices,
                 py::handle out, int threads) {
    const auto g = view<double>(out, "out", 2, true);
    int most = 0;
    for (const auto& centre : wide_) most = std::max(most, centre.functions);
    require(g.shape[0] == nlocal && g.shape[1] >= most, "out must be (nlocal, number of functions)");
    Call call = check(positions, types, nlocal, offsets, indices, positions, py::none(), py::none(), threads, false);
    call.forces = nullptr;
    Task task;
    task.functions = static_cast<double*>(g.ptr), task.width = g.shape[1];
    run(call, task);
  }

 private:
  struct Member {
    Network<double> network;
    std::vector<double> factor, shift;
    double scale = 1, offset = 0;
  };

  template <class T> struct Chunk { int j, k; };

  // What a thread needs; grows to the largest neighbourhood met.
  template <class T> struct Work {
    using V = vec<T>;
    int capacity = 0;  // slots
    std::vector<int32_t> near;
    std::vector<int> begin, count, ends;  // segments by element: first slot, neighbours; (ends: used in sorting)
    aligned_vector<int32_t> index;
    aligned_vector<T> x, y, z, r, inverse_r, r2, d, tx, ty, tz;
    aligned_vector<T> rho, kappa;  // (radials, capacity)
    aligned_vector<V> sums, values, derivatives, store;
    std::vector<std::vector<Chunk<T>>> chunks;  // by group
    std::vector<size_t> stored;                 // by group: where its part of the store begins
    aligned_vector<T> coefficient, slope;       // by entry
    aligned_vector<double> g, input, gradient, dg, scratch;

    void reserve(int slots, size_t radials) {
      if (slots > capacity) {
        capacity = (slots + 31) / 16 * 16;
        index.resize(capacity);
        for (auto* a : {&x, &y, &z, &r, &inverse_r, &r2, &d, &tx, &ty, &tz}) a->resize(capacity);
      }
      if (rho.size() < radials * capacity) rho.resize(radials * capacity), kappa.resize(radials * capacity);
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

  template <class T> void gather(const Call& call, const Centre<T>& centre, int64_t i, float reach2, Work<T>& w) {
    using V = vec<T>;
    constexpr int W = lanes<T>, D = lanes<double>, parts = W / D;
    const int64_t from = call.offsets[i], length = call.offsets[i + 1] - from;
    const int32_t far = int32_t(call.nall);
    if (int64_t(w.near.size()) < length + 4 * lanes<float>) w.near.resize(length + 4 * lanes<float>);
    const int n = pick(rows_, i, call.indices + from, length, call.indices + call.offsets[call.nlocal], reach2, far, w.near.data());
    w.begin.assign(elements_ + 1, 0), w.count.assign(elements_, 0), w.ends.assign(elements_, 0);
    for (int k = 0; k < n; k++) w.count[type_elements_[call.types[w.near[k]]]]++;
    for (int e = 0; e < elements_; e++) {
      w.ends[e] = w.begin[e];
      w.begin[e + 1] = w.begin[e] + (w.count[e] + W - 1) / W * W;
    }
    const int slots = w.begin[elements_];
    w.reserve(slots + W, centre.radials.size());
    std::fill(w.index.begin(), w.index.begin() + slots, far);
    for (int k = 0; k < n; k++) w.index[w.ends[type_elements_[call.types[w.near[k]]]]++] = w.near[k];

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
    }
    for (int e = 0; e < elements_; e++) {
      const auto& used = centre.used[e];
      for (int s = w.begin[e]; s < w.begin[e + 1]; s += W)
        radial_values<T>(centre, used.data(), int(used.size()), load(&w.r[s]), load(&w.inverse_r[s]),
                         [&](int n, V f, V d) __attribute__((always_inline)) {
                           const size_t at = size_t(used[n]) * w.capacity + s;
                           store(&w.rho[at], f), store(&w.kappa[at], d);
                         });
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
    size_t used = 0;
    for (size_t g = 0; g < centre.groups.size(); g++) {
      const GroupPlan& group = centre.groups[g];
      w.chunks[g].clear();
      w.stored[g] = used;
      w.sums.assign(group.entries.size(), V{});
      if (group.narrow) triplets<T, true>(centre, group, w, w.chunks[g], used);
      else triplets<T, false>(centre, group, w, w.chunks[g], used);
      for (size_t n = 0; n < group.entries.size(); n++)
        w.g[group.entries[n].function] += group.entries[n].weight * sum_double(w.sums[n]);
    }
  }

  template <class T, bool is_narrow>
  void triplets(const Centre<T>& centre, const GroupPlan& group, Work<T>& w, std::vector<Chunk<T>>& chunks, size_t& used) {
    using V = vec<T>;
    constexpr int W = lanes<T>;
    const bool same = group.first == group.second;
    const int na = int(group.radials.size()), nt = int(group.terms.size()), ne = int(group.entries.size());
    const int per_chunk = is_narrow ? 1 + 2 * na : 1;
    T reach = 0;
    for (int a : group.radials) reach = std::max(reach, centre.radials[a].reach);
    const V reach2 = splat(reach * reach), far2 = splat(T(1e8) * reach * reach);
    const size_t capacity = w.capacity;
    if (int(w.values.size()) < nt) w.values.resize(nt), w.derivatives.resize(nt);
    const int j0 = w.begin[group.first], j1 = j0 + w.count[group.first];
    const int k0 = w.begin[group.second], kn = k0 + w.count[group.second];
    const size_t largest = size_t(w.count[group.first]) * ((w.count[group.second] + W - 1) / W) * per_chunk;
    if (w.store.size() < used + largest) w.store.resize((used + largest) * 5 / 4);
    V* sums = w.sums.data();
    V* values = w.values.data();
    V* derivatives = w.derivatives.data();

    for (int j = j0; j < j1; j++) {
      const T xj = w.x[j], yj = w.y[j], zj = w.z[j], r2j = w.r2[j], ij = w.inverse_r[j];
      const int k1 = same ? j : kn;
      for (int k = k0; k < k1; k += W) {
        const V dot = xj * load(&w.x[k]) + yj * load(&w.y[k]) + zj * load(&w.z[k]);
        V* at = &w.store[used];
        bits_t live = first<T>(k1 - k);
        V c;
        if constexpr (is_narrow) {
          V s = (r2j + load(&w.r2[k])) - T(2) * dot;
          live &= ~less(reach2, s);
          if (!live) continue;
          s = select(live, s, far2);
          const V is = rsqrt(s);
          radial_values<T>(centre, group.radials.data(), na, s * is, is,
                           [&](int a, V f, V d) __attribute__((always_inline)) { at[1 + a] = f, at[1 + na + a] = d; });
          c = dot * (ij * load(&w.inverse_r[k]));
        } else {
          c = dot * (ij * load(&w.inverse_r[k]));
        }
        at[0] = c;
        for (int t = 0; t < nt; t++) centre.terms[group.terms[t]](c, values[t], derivatives[t]);
        int have = -1;
        V e{};
        for (int n = 0; n < ne; n++) {
          const Entry& entry = group.entries[n];
          if (entry.radial != have) {
            have = entry.radial;
            const size_t row = size_t(group.radials[have]) * capacity;
            e = w.rho[row + j] * load(&w.rho[row + k]);
            if constexpr (is_narrow) e *= at[1 + have];
            else e = select(live, e, V{});
          }
          sums[n] += e * values[entry.term];
        }
        chunks.push_back({j, k});
        used += per_chunk;
      }
    }
  }

  // ---- (4) forces ---------------------------------------------------------------------------------------------------------------

  // From dE/dG the gradients D and T of every neighbour.
  template <class T> void contract(const Centre<T>& centre, const double* dg, Work<T>& w) {
    constexpr int W = lanes<T>;
    const int slots = w.begin[elements_];
    for (auto* a : {&w.d, &w.tx, &w.ty, &w.tz}) std::fill(a->begin(), a->begin() + slots, T(0));
    for (int e = 0; e < elements_; e++)
      for (const RadialUse& u : centre.two_body[e]) {
        const T factor = T(u.weight * dg[u.function]);
        for (int s = w.begin[e]; s < w.begin[e + 1]; s += W)
          store(&w.d[s], load(&w.d[s]) + factor * load(&w.kappa[size_t(u.radial) * w.capacity + s]));
      }
    for (size_t g = 0; g < centre.groups.size(); g++) {
      const GroupPlan& group = centre.groups[g];
      const size_t ne = group.entries.size();
      w.coefficient.resize(std::max(w.coefficient.size(), ne)), w.slope.resize(w.coefficient.size());
      for (size_t n = 0; n < ne; n++) {
        const double c = group.entries[n].weight * dg[group.entries[n].function];
        w.coefficient[n] = T(c), w.slope[n] = T(c * centre.terms[group.terms[group.entries[n].term]].slope);
      }
      if (group.narrow) contract_group<T, true>(centre, group, w, w.chunks[g], w.stored[g]);
      else contract_group<T, false>(centre, group, w, w.chunks[g], w.stored[g]);
    }
  }

  template <class T, bool is_narrow>
  void contract_group(const Centre<T>& centre, const GroupPlan& group, Work<T>& w, const std::vector<Chunk<T>>& chunks, size_t from) {
    using V = vec<T>;
    constexpr int W = lanes<T>;
    const bool same = group.first == group.second;
    const int na = int(group.radials.size()), nt = int(group.terms.size()), ne = int(group.entries.size());
    const int per_chunk = is_narrow ? 1 + 2 * na : 1;
    const size_t capacity = w.capacity;
    const int kn = w.begin[group.second] + w.count[group.second];
    V* values = w.values.data();
    V* derivatives = w.derivatives.data();
    const V* at = w.store.data() + from;
    for (size_t m = 0; m < chunks.size();) {
      const int j = chunks[m].j;
      const T xj = w.x[j], yj = w.y[j], zj = w.z[j], ij = w.inverse_r[j];
      V dj{}, tjx{}, tjy{}, tjz{}, turn{};
      for (; m < chunks.size() && chunks[m].j == j; m++, at += per_chunk) {
        const int k = chunks[m].k;
        const V c = at[0];
        for (int t = 0; t < nt; t++) centre.terms[group.terms[t]](c, values[t], derivatives[t]);
        const V ik = load(&w.inverse_r[k]);
        V gamma{}, beta{}, dk = load(&w.d[k]);
        [[maybe_unused]] bits_t live = 0;
        if constexpr (!is_narrow) live = first<T>((same ? j : kn) - k);
        for (int n = 0; n < ne;) {
          const int a = group.entries[n].radial;
          V p{}, dp{};
          for (; n < ne && group.entries[n].radial == a; n++) {
            const int t = group.entries[n].term;
            p += w.coefficient[n] * values[t];
            dp += w.slope[n] * derivatives[t];
          }
          const size_t row = size_t(group.radials[a]) * capacity;
          const T rj = w.rho[row + j], kj = w.kappa[row + j];
          const V rk = load(&w.rho[row + k]), kk = load(&w.kappa[row + k]);
          const V both = rj * rk;
          if constexpr (is_narrow) {
            const V phi = at[1 + a], q = phi * p;
            gamma += both * phi * dp;
            beta += both * p * at[1 + na + a];
            dj += q * (kj * rk);
            dk += q * (rj * kk);
          } else {
            p = select(live, p, V{}), dp = select(live, dp, V{});
            gamma += both * dp;
            dj += p * (kj * rk);
            dk += p * (rj * kk);
          }
        }
        const V tau = gamma * (ij * ik) - beta, gc = gamma * c;
        dj += beta, turn += gc;
        store(&w.d[k], dk + (beta - gc * (ik * ik)));
        const V xk = load(&w.x[k]), yk = load(&w.y[k]), zk = load(&w.z[k]);
        tjx += tau * xk, tjy += tau * yk, tjz += tau * zk;
        store(&w.tx[k], load(&w.tx[k]) + tau * xj);
        store(&w.ty[k], load(&w.ty[k]) + tau * yj);
        store(&w.tz[k], load(&w.tz[k]) + tau * zj);
      }
      w.d[j] += sum(dj) - ij * ij * sum(turn);
      w.tx[j] += sum(tjx), w.ty[j] += sum(tjy), w.tz[j] += sum(tjz);
    }
    (void)W;
  }

  // Adds the forces of atom i's energy to the rows, its virial to virial[6] (and per atom).
  template <class T> void scatter(int64_t i, double energy, Work<T>& w, double* sums, double* stress, double* virial) {
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
      w.chunks.resize(groups), w.stored.resize(groups);
      double total = 0, virial[6] = {};

      for (int64_t i = begin; i < end; i++) {
        const int element = type_elements_[call.types[i]];
        const Centre<T>& centre = centres[element];
        gather<T>(call, centre, i, reach2, w);
        symmetry_functions<T>(centre, w);
        if (task.functions) {
          std::copy(w.g.begin(), w.g.begin() + centre.functions, task.functions + i * task.width);
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
           py::arg("offsets"), py::arg("indices"), py::arg("forces"), py::arg("threads"),
           "Adds each member's forces to forces (members, n, 3); returns the members' energies (eV) of the local atoms.")
      .def("functions", &HDNNP::functions, py::arg("positions"), py::arg("types"), py::arg("nlocal"), py::arg("offsets"),
           py::arg("indices"), py::arg("out"), py::arg("threads"), "Fills out (nlocal, width) with the symmetry functions.");
}
