// Stillinger-Weber potential, any number of species (F. H. Stillinger, T. A. Weber, Phys. Rev. B 31, 5262 (1985)):
//
//   E = sum_{i<j} phi2(r_ij) + sum_i sum_{j<k} phi3(r_ij, r_ik, theta_jik)
//   phi2 = eps A [B (sigma/r)^p - (sigma/r)^q] exp(sigma / (r - a sigma))
//   phi3 = lambda eps [cos theta - cos theta0]^2 exp(gamma sigma_ij / (r_ij - a_ij sigma_ij)) exp(the same of ik)
//
// Pair terms and the exponentials of the triplet take the parameters of the entry (i, j, j), lambda eps and cos theta0
// those of (i, j, k), as in the files of this format.

#include "manybody.hpp"

namespace ostwald {

class StillingerWeber {
 public:
  // parameters (nt, nt, nt, 11): epsilon, sigma, a, lambda, gamma, cos theta0, A, B, p, q, tol; `mixed`: float arithmetic
  StillingerWeber(carray<double> parameters, bool mixed) : mixed_(mixed) {
    require(parameters.ndim() == 4 && parameters.shape(3) == 11, "parameters must be (nt, nt, nt, 11)");
    nt_ = int(parameters.shape(0));
    require(nt_ > 0 && parameters.shape(1) == nt_ && parameters.shape(2) == nt_, "parameters must be (nt, nt, nt, 11)");
    const auto p = parameters.unchecked<4>();
    wide_.pair.assign(fields, nt_ * nt_), narrow_.pair.assign(fields, nt_ * nt_);
    wide_.triplet.assign(2, nt_ * nt_ * nt_), narrow_.triplet.assign(2, nt_ * nt_ * nt_);
    for (int i = 0; i < nt_; i++)
      for (int j = 0; j < nt_; j++) {
        double eps = p(i, j, j, 0), sigma = p(i, j, j, 1), a = p(i, j, j, 2), gamma = p(i, j, j, 4);
        const double cut = pair_cutoff(sigma, a, gamma, p(i, j, j, 10));
        if (cut == 0) sigma = a = gamma = 1;  // a pair without interaction: anything that vanishes outside
        cutoff_ = std::max(cutoff_, cut), outside_ = std::max(outside_, a * sigma + 1);
        const double row[fields] = {cut * cut, sigma, a * sigma, gamma * sigma, eps * p(i, j, j, 6), p(i, j, j, 7),
                                    p(i, j, j, 8), p(i, j, j, 9)};
        for (int f = 0; f < fields; f++) wide_.pair.set(f, i * nt_ + j, row[f]), narrow_.pair.set(f, i * nt_ + j, row[f]);
        same_powers_ &= p(i, j, j, 8) == p(0, 0, 0, 8) && p(i, j, j, 9) == p(0, 0, 0, 9);
        for (int k = 0; k < nt_; k++) {
          const double strength = p(i, j, k, 3) * p(i, j, k, 0);
          const int entry = (i * nt_ + j) * nt_ + k;
          wide_.triplet.set(0, entry, strength), narrow_.triplet.set(0, entry, strength);
          wide_.triplet.set(1, entry, p(i, j, k, 5)), narrow_.triplet.set(1, entry, p(i, j, k, 5));
        }
      }
  }

  double cutoff() const { return cutoff_; }

  py::tuple compute(py::handle positions, py::handle types, int64_t nlocal, py::handle offsets, py::handle indices,
                    py::handle forces, py::handle energies, py::handle virials, int threads) {
    const Call call =
        checked_call(positions, types, nlocal, offsets, indices, forces, energies, virials, nt_, threads);
    Totals totals;
    {
      py::gil_scoped_release release;
      if (mixed_) totals = nt_ == 1 ? evaluate<float, true>(call, narrow_) : evaluate<float, false>(call, narrow_);
      else totals = nt_ == 1 ? evaluate<double, true>(call, wide_) : evaluate<double, false>(call, wide_);
    }
    return as_tuple(totals);
  }

 private:
  enum Field { CUTOFF2, SIGMA, A_SIGMA, GAMMA_SIGMA, EPS_A, B, P, Q, fields };
  template <class T> struct Tables { Table<T> pair, triplet; };

  // tol > 0 shortens the cutoff to where the exponential has fallen to tol (at most 0.01).
  static double pair_cutoff(double sigma, double a, double gamma, double tol) {
    double cut = sigma * a;
    if (tol > 0) cut += std::min(gamma, 1.0) * sigma / std::log(std::min(tol, 0.01));
    return std::max(cut, 0.0);
  }

  template <class T, bool single> Totals evaluate(const Call& call, const Tables<T>& tables) {
    using V = vec<T>;
    const int nt = nt_;
    const bool same_powers = same_powers_;
    const T p0 = tables.pair.first(P), q0 = tables.pair.first(Q);
    const auto whole = [](T n) { return n >= 0 && n <= 32 && n == std::floor(n); };
    const bool whole_p = whole(p0), whole_q = whole(q0);
    // closer to a sigma than this, exp(sigma / (r - a sigma)) is 0 in T and its derivative still finite
    const T closest = sizeof(T) == 8 ? T(-1e-10) : T(-1e-4);

    const auto make_kernel = [&] {
      return [&, scratch = aligned_vector<V>()](Group<T>& group) mutable {
        const int S = group.slots;
        scratch.resize(size_t(S) * 10);
        V *ux = scratch.data(), *uy = ux + S, *uz = uy + S, *rinv = uz + S, *h = rinv + S;
        V *g = h + S, *slope = g + S;              // neighbours in memory: their exponentials are one loop
        V *sum_e = slope + S, *sum_c = sum_e + S;  // of every slot: its triplets' energy; their cosine derivatives
        V *gx = group.fx, *gy = group.fy, *gz = group.fz;
        const auto entry = [&](int s) {
          if constexpr (single) return ivec<T>{};
          else return ivec<T>(group.centre_type * nt + group.type[s]);
        };
        for (int s = 0; s < S; s++) {
          const auto get = [&](Field f) { return tables.pair.template get<single>(f, entry(s)); };
          const V ri = rsqrt(group.r2[s]), r = group.r2[s] * ri;
          rinv[s] = ri;
          ux[s] = group.x[s] * ri, uy[s] = group.y[s] * ri, uz[s] = group.z[s] * ri;
          V x = r - get(A_SIGMA);
          x = x >= closest ? splat(closest) : x;
          const V xi = T(1) / x, gamma_sigma = get(GAMMA_SIGMA);
          slope[s] = get(SIGMA) * xi;
          g[s] = gamma_sigma * xi;
          h[s] = -gamma_sigma * xi * xi;  // g'/g
          sum_e[s] = xi;
        }
        for (int k = 0; k < 2 * S; k++) g[k] = exp(g[k]);
        for (int s = 0; s < S; s++) {
          const auto get = [&](Field f) { return tables.pair.template get<single>(f, entry(s)); };
          const V sigma = get(SIGMA), ri = rinv[s], xi = sum_e[s], sr = sigma * ri;
          V rp, rq, p, q;
          if (same_powers) {
            p = splat(p0), q = splat(q0);
            rp = power<T>(sr, p0, whole_p), rq = power<T>(sr, q0, whole_q);
          } else {
            p = get(P), q = get(Q);
            const V l = log<T>(sr);
            rp = exp(p * l), rq = exp(q * l);
          }
          rp *= get(B);
          // half of each pair term here, the other half where the neighbour is the central atom
          const V half = T(0.5) * get(EPS_A) * slope[s], well = rp - rq;
          const V pair = half * well;
          slope[s] = half * ((q * rq - p * rp) * ri - well * sigma * xi * xi);
          group.share[s] = T(0.5) * pair;
          group.own += T(0.5) * pair;
          sum_e[s] = sum_c[s] = gx[s] = gy[s] = gz[s] = V{};
        }
        for (int s = 0; s + 1 < S; s++) {
          const V xs = ux[s], ys = uy[s], zs = uz[s];
          ivec<T> row{};
          V strength{}, cos0{};
          if constexpr (single) {
            strength = g[s] * tables.triplet.first(0), cos0 = splat(tables.triplet.first(1));
          } else {
            row = (group.centre_type * nt + group.type[s]) * nt;
          }
          V es = sum_e[s], cs = sum_c[s], fx = gx[s], fy = gy[s], fz = gz[s];
          for (int t = s + 1; t < S; t++) {
            if constexpr (!single) {
              const ivec<T> entry = row + group.type[t];
              strength = g[s] * tables.triplet.template get<false>(0, entry);
              cos0 = tables.triplet.template get<false>(1, entry);
            }
            const V cosine = xs * ux[t] + ys * uy[t] + zs * uz[t];
            const V delta = cosine - cos0, d = strength * g[t] * delta;  // half the derivative by the cosine
            const V e = d * delta, c = d * cosine;
            es += e, cs += c;
            sum_e[t] += e, sum_c[t] += c;
            fx += d * ux[t], fy += d * uy[t], fz += d * uz[t];
            gx[t] += d * xs, gy[t] += d * ys, gz[t] += d * zs;
          }
          sum_e[s] = es, sum_c[s] = cs, gx[s] = fx, gy[s] = fy, gz[s] = fz;
        }
        for (int s = 0; s < S; s++) {
          const V two = T(2) * rinv[s], along = slope[s] + h[s] * sum_e[s] - two * sum_c[s];
          gx[s] = -(along * ux[s] + two * gx[s]);
          gy[s] = -(along * uy[s] + two * gy[s]);
          gz[s] = -(along * uz[s] + two * gz[s]);
          group.share[s] += sum_e[s] * T(1.0 / 3.0);  // a third of each triplet to each of its atoms
          group.own += sum_e[s] * T(1.0 / 6.0);
        }
      };
    };
    return run<T, single>(call, rows_, nt, tables.pair, CUTOFF2, cutoff_, outside_, make_kernel);
  }

  int nt_ = 1;
  bool mixed_ = false, same_powers_ = true;
  double cutoff_ = 0, outside_ = 0;  // the latter beyond every a sigma
  Tables<double> wide_;
  Tables<float> narrow_;
  Rows rows_;
};

}  // namespace ostwald

PYBIND11_MODULE(_stillinger_weber, m) {
  namespace py = pybind11;
  using ostwald::StillingerWeber;
  m.doc() = "Stillinger-Weber energies, forces and virials.";
  py::class_<StillingerWeber>(m, "StillingerWeber")
      .def(py::init<ostwald::carray<double>, bool>(), py::arg("parameters"), py::arg("mixed"))
      .def_property_readonly("cutoff", &StillingerWeber::cutoff)
      .def("compute", &StillingerWeber::compute, py::arg("positions"), py::arg("types"), py::arg("nlocal"),
           py::arg("offsets"), py::arg("indices"), py::arg("forces"), py::arg("energies").none(true),
           py::arg("virials").none(true), py::arg("threads"),
           "Adds forces (and energies, virials per atom); returns energy (eV) and virial (6,) (eV) of the local atoms' terms.");
}
