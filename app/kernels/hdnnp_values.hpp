// Pass (2) of hdnnp.cpp: the symmetry functions of an atom whose neighbours are gathered.
#pragma once

#include "hdnnp_neighbours.hpp"

namespace ostwald::hdnnp {

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
  const T outside2 = T(4 * w.cutoff * w.cutoff);
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
template <class T> OSTWALD_INLINE vec<double> widen(const T* p) {
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
  const size_t vectors = w.begin[w.elements] / W;
  if (w.bases.size() < vectors * Y::basis) w.bases.resize(vectors * Y::basis * 5 / 4);
  w.moments_at.resize(w.elements + 1);
  w.moments_at[0] = 0;
  for (int e = 0; e < w.elements; e++) w.moments_at[e + 1] = w.moments_at[e] + centre.wide.densities[e].size();
  if (w.moments.size() < w.moments_at[w.elements] * stride) w.moments.resize(w.moments_at[w.elements] * stride);
  w.squares.assign(w.moments_at[w.elements], 0.0);
  for (int e = 0; e < w.elements; e++) {
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

template <class T> void symmetry_functions(const Centre<T>& centre, Work<T>& w) {
  using V = vec<T>;
  constexpr int W = lanes<T>;
  std::fill(w.g.begin(), w.g.end(), 0.0);
  for (int e = 0; e < w.elements; e++)
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

}  // namespace ostwald::hdnnp
