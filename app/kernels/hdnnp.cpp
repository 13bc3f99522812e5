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

#include "hdnnp_network.hpp"
#include "hdnnp_slopes.hpp"

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

  Call check(py::handle positions, py::handle types, int64_t nlocal, py::handle offsets, py::handle indices, py::handle forces,
             py::handle energies, py::handle virials, int threads, bool = true) {
    return checked_call(positions, types, nlocal, offsets, indices, forces, energies, virials, int(type_elements_.size()), threads);
  }

  Totals run(const Call& call, const Task& task) {
    py::gil_scoped_release release;
    return mixed_ ? evaluate<float>(call, task, narrow_) : evaluate<double>(call, task, wide_);
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
      w.elements = elements_, w.cutoff = cutoff_;
      const size_t padded = (most + 15) / 8 * 8;
      for (auto* a : {&w.g, &w.input, &w.gradient, &w.dg}) a->assign(padded, 0.0);
      w.scratch.resize(scratch);
      w.lists.resize(groups);
      std::vector<int64_t> place(task.derivatives ? nall + 1 : 0);
      double total = 0, virial[6] = {};

      for (int64_t i = begin; i < end; i++) {
        const int element = type_elements_[call.types[i]];
        const Centre<T>& centre = centres[element];
        gather<T>(call, rows_, type_elements_, centre, i, reach2, w);
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
