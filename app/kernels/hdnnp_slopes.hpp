// Pass (4) of hdnnp.cpp: from dE/dG of an atom to the forces on it and its neighbours.
#pragma once

#include "hdnnp_values.hpp"

namespace ostwald::hdnnp {

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
  const size_t total = w.moments_at[w.elements];
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
  for (int e = 0; e < w.elements; e++) {
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

// From dE/dG the gradients D and T of every neighbour.
template <class T> void contract(const Centre<T>& centre, const double* dg, Work<T>& w) {
  using V = vec<T>;
  constexpr int W = lanes<T>;
  const int slots = w.begin[w.elements];
  const size_t shapes = centre.shapes.size();
  for (auto* a : {&w.d, &w.tx, &w.ty, &w.tz}) std::fill(a->begin(), a->begin() + slots, T(0));
  for (size_t s = 0; s < shapes; s++) std::fill_n(w.sums8.begin() + 8 * s * w.capacity, 8 * slots, T(0));
  for (int e = 0; e < w.elements; e++)
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

// Adds the forces of atom i's energy to the rows, its virial to virial[6] (and per atom).
template <class T> __attribute__((noinline)) void scatter(int64_t i, double energy, Work<T>& w, double* sums, double* stress, double* virial) {
  using V = vec<T>;
  constexpr int W = lanes<T>, D = lanes<double>;
  const int slots = w.begin[w.elements];
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

}  // namespace ostwald::hdnnp
