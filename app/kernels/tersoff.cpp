// Tersoff potential, any number of species (J. Tersoff, Phys. Rev. B 37, 6991 (1988); 39, 5566 (1989)):
//
//   E = 1/2 sum_i sum_{j != i} fC(r_ij) [A exp(-lambda1 r_ij) - b_ij B exp(-lambda2 r_ij)]
//   b_ij = (1 + (beta zeta_ij)^n)^(-1/2n)
//   zeta_ij = sum_{k != i,j} fC(r_ik) g(theta_jik) exp[(lambda3 (r_ij - r_ik))^m],  m = 1 or 3
//   g = gamma [1 + c²/d² - c²/(d² + (cos theta0 - cos theta)²)]
//   fC = 1 below R - D, 0 above R + D, [1 - sin(pi (r - R)/2D)]/2 between
//
// Bond terms take the parameters of the entry (i, j, j), the terms of zeta_ij those of (i, j, k), fC(r_ik) included.

#include "manybody.hpp"

namespace ostwald {

class Tersoff {
 public:
  // parameters (nt, nt, nt, 14): m, gamma, lambda3, c, d, cos theta0, n, beta, lambda2, B, R, D, lambda1, A
  Tersoff(carray<double> parameters, bool mixed) : mixed_(mixed) {
    require(parameters.ndim() == 4 && parameters.shape(3) == 14, "parameters must be (nt, nt, nt, 14)");
    nt_ = int(parameters.shape(0));
    require(nt_ > 0 && parameters.shape(1) == nt_ && parameters.shape(2) == nt_, "parameters must be (nt, nt, nt, 14)");
    const auto p = parameters.unchecked<4>();
    wide_.pair.assign(pair_fields, nt_ * nt_), narrow_.pair.assign(pair_fields, nt_ * nt_);
    wide_.triplet.assign(triplet_fields, nt_ * nt_ * nt_), narrow_.triplet.assign(triplet_fields, nt_ * nt_ * nt_);
    for (int i = 0; i < nt_; i++)
      for (int j = 0; j < nt_; j++) {
        double reach = 0;  // of j as a neighbour of i: bonded to it, or in the zeta of any bond of i
        for (int k = 0; k < nt_; k++) reach = std::max(reach, p(i, k, j, 10) + p(i, k, j, 11));
        cutoff_ = std::max(cutoff_, reach);
        const double width = std::max(p(i, j, j, 11), 1e-9), n = std::max(p(i, j, j, 6), 1e-30);
        const double row[pair_fields] = {reach * reach, p(i, j, j, 10), 1 / width, p(i, j, j, 13), p(i, j, j, 12),
                                         p(i, j, j, 9), p(i, j, j, 8), p(i, j, j, 7), n, 0.5 / n};
        for (int f = 0; f < pair_fields; f++)
          wide_.pair.set(f, i * nt_ + j, row[f]), narrow_.pair.set(f, i * nt_ + j, row[f]);
        for (int k = 0; k < nt_; k++) {
          const double gamma = p(i, j, k, 1), c = p(i, j, k, 3), d = c == 0 ? 1 : p(i, j, k, 4);  // any d if c is 0
          const double width3 = std::max(p(i, j, k, 11), 1e-9);
          const double triplet[triplet_fields] = {gamma, gamma * (c * c) / (d * d), gamma * c * c, d * d, p(i, j, k, 5),
                                                  p(i, j, k, 2), p(i, j, k, 0) == 1 ? 1.0 : 0.0, p(i, j, k, 10), 1 / width3};
          const int entry = (i * nt_ + j) * nt_ + k;
          for (int f = 0; f < triplet_fields; f++) wide_.triplet.set(f, entry, triplet[f]), narrow_.triplet.set(f, entry, triplet[f]);
          stretched_ |= p(i, j, k, 2) != 0;
          linear_ |= p(i, j, k, 2) != 0 && p(i, j, k, 0) == 1;
          cubic_ |= p(i, j, k, 2) != 0 && p(i, j, k, 0) != 1;
          shared_cutoff_ &= p(i, j, k, 10) == p(i, k, k, 10) && p(i, j, k, 11) == p(i, k, k, 11);
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
  enum PairField { REACH2, R, INV_D, A, LAMBDA1, B, LAMBDA2, BETA, N, HALF_BY_N, pair_fields };
  enum TripletField { GAMMA, GAMMA_C2_BY_D2, GAMMA_C2, D2, COS0, LAMBDA3, LINEAR, R3, INV_D3, triplet_fields };
  template <class T> struct Tables { Table<T> pair, triplet; };

  // fC and its derivative
  template <class T> static void cut(vec<T> r, vec<T> centre, vec<T> inv_width, vec<T>& f, vec<T>& df) {
    vec<T> x = (r - centre) * inv_width;
    if (!any<T>((x > T(-1)) & (x < T(1)))) {  // far from the edge, as in most solids
      f = x > T(0) ? vec<T>{} : x <= T(0) ? splat(T(1)) : x;  // NaN stays
      df = vec<T>{};
      return;
    }
    x = x < T(-1) ? splat(T(-1)) : x > T(1) ? splat(T(1)) : x;
    vec<T> sine, cosine;
    sincos_quarter<T>(x, sine, cosine);
    f = T(0.5) - T(0.5) * sine;
    df = T(-0.78539816339744830962) * inv_width * cosine;
  }

  template <class T, bool single> Totals evaluate(const Call& call, const Tables<T>& tables) {
    using V = vec<T>;
    using I = ivec<T>;
    const int nt = nt_;
    const bool stretched = stretched_, shared_cutoff = single || shared_cutoff_;
    const bool both_kinds = linear_ && cubic_, all_linear = linear_ && !cubic_;
    const T tiny = sizeof(T) == 8 ? T(1e-100) : T(1e-30);   // below this zeta counts as none
    const T steepest = sizeof(T) == 8 ? T(69.0776) : T(50);  // bound on the exponent, so that products stay finite

    const auto make_kernel = [&] {
      return [&, scratch = aligned_vector<V>()](Group<T>& group) mutable {
        const int S = group.slots;
        const int per_pair = single ? 5 : 11;
        scratch.resize(size_t(S) * 11 + size_t(S) * S / 2 * per_pair);
        V *ux = scratch.data(), *uy = ux + S, *uz = uy + S, *r = uz + S, *rinv = r + S, *fc = rinv + S, *dfc = fc + S;
        V *zeta = dfc + S, *pull = zeta + S, *along = pull + S, *turn = along + S;  // pull: dE/dzeta
        V* pairs = turn + S;
        V *gx = group.fx, *gy = group.fy, *gz = group.fz;

        for (int s = 0; s < S; s++) {
          I entry{};
          if constexpr (!single) entry = group.centre_type * nt + group.type[s];
          const V ri = rsqrt(group.r2[s]);
          rinv[s] = ri, r[s] = group.r2[s] * ri;
          ux[s] = group.x[s] * ri, uy[s] = group.y[s] * ri, uz[s] = group.z[s] * ri;
          cut<T>(r[s], tables.pair.template get<single>(R, entry), tables.pair.template get<single>(INV_D, entry), fc[s], dfc[s]);
          zeta[s] = V{};
        }

        // exp[(lambda3 (r_s - r_t))^m] and the derivative of its exponent by r_s
        const auto stretch = [&](V delta, I entry, V& e, V& slope) {
          const V lambda = tables.triplet.template get<single>(LAMBDA3, entry), x = lambda * delta;
          V power = all_linear ? x : x * x * x;
          slope = all_linear ? lambda : T(3) * lambda * x * x;
          if (both_kinds) {
            const I linear = tables.triplet.template get<single>(LINEAR, entry) > T(0.5);
            power = linear ? x : power, slope = linear ? lambda : slope;
          }
          power = power > steepest ? splat(steepest) : power < -steepest ? splat(-steepest) : power;
          e = exp(power);
        };
        // g and its derivative by the cosine; c²/d² - c²/(d² + y²) without the cancellation
        const auto angular = [&](V cosine, I entry, V& g, V& dg) {
          const auto get = [&](TripletField f) { return tables.triplet.template get<single>(f, entry); };
          const V y = get(COS0) - cosine, y2 = y * y, inv = T(1) / (get(D2) + y2);
          g = get(GAMMA) + get(GAMMA_C2_BY_D2) * y2 * inv;
          dg = T(-2) * get(GAMMA_C2) * y * inv * inv;
        };

        // zeta of every bond
        V* store = pairs;
        for (int s = 0; s + 1 < S; s++) {
          V zs = zeta[s];
          for (int t = s + 1; t < S; t++, store += per_pair) {
            const V cosine = ux[s] * ux[t] + uy[s] * uy[t] + uz[s] * uz[t];
            store[0] = cosine;
            if constexpr (single) {
              angular(cosine, I{}, store[1], store[2]);
              if (stretched) {  // odd powers: the exponent of (t, s) is minus that of (s, t)
                stretch(r[s] - r[t], I{}, store[3], store[4]);
                zs += fc[t] * store[1] * store[3];
                zeta[t] += fc[s] * store[1] / store[3];
              } else {
                zs += fc[t] * store[1];
                zeta[t] += fc[s] * store[1];
              }
            } else {
              const I st = (group.centre_type * nt + group.type[s]) * nt + group.type[t];
              const I ts = (group.centre_type * nt + group.type[t]) * nt + group.type[s];
              V gst, gts, est, ets;
              angular(cosine, st, gst, store[1]);
              angular(cosine, ts, gts, store[2]);
              est = ets = splat(T(1));
              store[3] = store[4] = V{};
              if (stretched) {
                stretch(r[s] - r[t], st, est, store[3]);
                stretch(r[t] - r[s], ts, ets, store[4]);
              }
              store[5] = gst * est, store[6] = gts * ets;
              store[1] *= est, store[2] *= ets;
              if (shared_cutoff) {
                store[7] = fc[t], store[8] = dfc[t], store[9] = fc[s], store[10] = dfc[s];
              } else {
                cut<T>(r[t], tables.triplet.template get<false>(R3, st), tables.triplet.template get<false>(INV_D3, st), store[7], store[8]);
                cut<T>(r[s], tables.triplet.template get<false>(R3, ts), tables.triplet.template get<false>(INV_D3, ts), store[9], store[10]);
              }
              zs += store[7] * store[5];
              zeta[t] += store[9] * store[6];
            }
          }
          zeta[s] = zs;
        }

        // bonds, stage by stage: the latencies of one slot's functions hide behind the others'
        const auto entry = [&](int s) {
          if constexpr (single) return I{};
          else return I(group.centre_type * nt + group.type[s]);
        };
        V *repulsive = pull, *attractive = turn, *l = gx, *u = gy, *b = gz;
        for (int s = 0; s < S; s++) {
          const auto get = [&](PairField f) { return tables.pair.template get<single>(f, entry(s)); };
          repulsive[s] = get(A) * exp(-get(LAMBDA1) * r[s]);
          attractive[s] = -get(B) * exp(-get(LAMBDA2) * r[s]);
        }
        // b through the logarithm l of (beta zeta)^n, which neither overflows nor loses digits for any n:
        // log b = -log(1 + e^l) / 2n, db/dzeta = -b/(2 zeta) e^l/(1 + e^l)
        for (int s = 0; s < S; s++) {
          const auto get = [&](PairField f) { return tables.pair.template get<single>(f, entry(s)); };
          V x = get(BETA) * zeta[s];
          x = x < tiny ? splat(tiny) : x;
          zeta[s] = x;
          l[s] = get(N) * log<T>(x);
        }
        for (int s = 0; s < S; s++) u[s] = exp(l[s] > T(0) ? -l[s] : l[s]);  // e^-|l|
        for (int s = 0; s < S; s++) b[s] = (l[s] > T(0) ? l[s] : l[s] <= T(0) ? V{} : l[s]) + log<T>(T(1) + u[s]);
        for (int s = 0; s < S; s++) b[s] = exp(-tables.pair.template get<single>(HALF_BY_N, entry(s)) * b[s]);
        for (int s = 0; s < S; s++) {
          const auto get = [&](PairField f) { return tables.pair.template get<single>(f, entry(s)); };
          V db = T(-0.5) * b[s] * get(BETA) * (l[s] > T(0) ? splat(T(1)) : u[s]) / (zeta[s] * (T(1) + u[s]));
          db = zeta[s] <= tiny ? V{} : db;
          const V half = T(0.5) * fc[s], bond = b[s] * attractive[s], e = half * (repulsive[s] + bond);
          along[s] = T(0.5) * dfc[s] * (repulsive[s] + bond) - half * (get(LAMBDA1) * repulsive[s] + get(LAMBDA2) * bond);
          pull[s] = half * attractive[s] * db;
          group.share[s] = T(0.5) * e;
          group.own += T(0.5) * e;
          turn[s] = gx[s] = gy[s] = gz[s] = V{};
        }

        // forces through zeta
        store = pairs;
        for (int s = 0; s + 1 < S; s++) {
          const V xs = ux[s], ys = uy[s], zs = uz[s], ps = pull[s];
          V as = along[s], ts = turn[s], fx = gx[s], fy = gy[s], fz = gz[s];
          for (int t = s + 1; t < S; t++, store += per_pair) {
            const V cosine = store[0], pt = pull[t];
            V torque, at = along[t];
            if constexpr (single) {
              V ps_e = ps, pt_e = pt;
              const V g = store[1];
              if (stretched) ps_e = ps * store[3], pt_e = pt / store[3];
              const V first = ps_e * fc[t], second = pt_e * fc[s];
              V to_s = pt_e * dfc[s], to_t = ps_e * dfc[t];
              if (stretched) {
                const V shift = store[4] * (first - second);
                to_s += shift, to_t -= shift;
              }
              as += g * to_s, at += g * to_t;
              torque = (first + second) * store[2];
            } else {
              const V first = ps * store[5], second = pt * store[6];  // pull g e
              const V shift = store[3] * first * store[7] - store[4] * second * store[9];
              as += second * store[10] + shift;
              at += first * store[8] - shift;
              torque = ps * store[7] * store[1] + pt * store[9] * store[2];
            }
            along[t] = at;
            const V c = torque * cosine;
            ts += c, turn[t] += c;
            fx += torque * ux[t], fy += torque * uy[t], fz += torque * uz[t];
            gx[t] += torque * xs, gy[t] += torque * ys, gz[t] += torque * zs;
          }
          along[s] = as, turn[s] = ts, gx[s] = fx, gy[s] = fy, gz[s] = fz;
        }
        for (int s = 0; s < S; s++) {
          const V ri = rinv[s], a = along[s] - ri * turn[s];
          gx[s] = -(a * ux[s] + ri * gx[s]);
          gy[s] = -(a * uy[s] + ri * gy[s]);
          gz[s] = -(a * uz[s] + ri * gz[s]);
        }
      };
    };
    return run<T, single>(call, rows_, nt, tables.pair, REACH2, cutoff_, cutoff_ + 1, make_kernel);
  }

  int nt_ = 1;
  bool mixed_ = false;
  bool stretched_ = false, linear_ = false, cubic_ = false;  // lambda3 != 0 anywhere; with m = 1; with m = 3
  bool shared_cutoff_ = true;                                // R and D of (i, j, k) are those of (i, k, k)
  double cutoff_ = 0;
  Tables<double> wide_;
  Tables<float> narrow_;
  Rows rows_;
};

}  // namespace ostwald

PYBIND11_MODULE(_tersoff, m) {
  namespace py = pybind11;
  using ostwald::Tersoff;
  m.doc() = "Tersoff energies, forces and virials.";
  py::class_<Tersoff>(m, "Tersoff")
      .def(py::init<ostwald::carray<double>, bool>(), py::arg("parameters"), py::arg("mixed"))
      .def_property_readonly("cutoff", &Tersoff::cutoff)
      .def("compute", &Tersoff::compute, py::arg("positions"), py::arg("types"), py::arg("nlocal"), py::arg("offsets"),
           py::arg("indices"), py::arg("forces"), py::arg("energies").none(true), py::arg("virials").none(true),
           py::arg("threads"),
           "Adds forces (and energies, virials per atom); returns energy (eV) and virial (6,) (eV) of the local atoms' terms.");
}
