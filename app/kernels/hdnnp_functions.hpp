// Symmetry functions of one central element, sorted by what they share.
//
// A function is a sum over neighbours j, or pairs j < k of neighbours, of products of radial factors rho(r_ij), rho(r_ik)
// and, for narrow ones, rho(r_jk), with an angular factor of the cosine at the centre:
//
//   rho = exp(-eta (r - shift)²) fc(r)   or   C(r; low, high)                        (radials: each distinct one once)
//   P   = (1 + lambda cos theta)^zeta    or   C(theta; low, high)                    (terms)
//
// Functions of one pair of neighbour elements make a group: its entries say which radial, which term, which function.
#pragma once

#include <cmath>
#include <map>
#include <tuple>
#include <vector>

#include "manybody.hpp"

namespace ostwald::hdnnp {

// Columns of the table of functions that the caller gives, lengths in Å.
enum Column { KIND, NEIGHBOUR1, NEIGHBOUR2, CUTOFF, ETA, SHIFT, LAMBDA, ZETA, LOW, ANGLE_LOW, ANGLE_HIGH, CORE, ASYMMETRIC, columns };

// Shapes on [0, 1): the cutoff functions' numbers in the files, where they have one.
enum Core { HARD = 0, COS = 1, TANH_U = 2, TANH = 3, EXP = 4, POLY1 = 5, POLY2 = 6, POLY3 = 7, POLY4 = 8 };

// Value and derivative by x of a shape falling from 1 at x = 0 to 0 at x = 1; 0 <= x < 1 or NaN.
template <class T> OSTWALD_INLINE void core_function(int core, vec<T> x, vec<T>& f, vec<T>& d) {
  using V = vec<T>;
  switch (core) {
    case COS: {
      V sine, cosine;  // of pi x/2: (cos pi x + 1)/2 = cos²
      sincos_quarter<T>(x, sine, cosine);
      f = cosine * cosine;
      d = T(-3.14159265358979323846) * sine * cosine;
      return;
    }
    case EXP: {
      const V y = T(1) / (x * x - T(1));
      f = exp(T(1) + y);
      d = T(-2) * x * y * y * f;
      return;
    }
    case POLY1:
    case POLY2:
    case POLY3:
    case POLY4: {  // 1 - S(x) = S(1 - x), S(u) = u^n (...): taken where u <= 1/2, nothing cancels
      const V y = T(1) - x, u = x < T(0.5) ? x : y, w = x * y, w2 = w * w;
      V s;
      if (core == POLY1) s = u * u * (T(3) - T(2) * u), d = T(-6) * w;
      else if (core == POLY2) s = u * u * u * (T(10) + u * (T(6) * u - T(15))), d = T(-30) * w2;
      else if (core == POLY3) s = (u * u) * (u * u) * (T(35) + u * (u * (T(70) - T(20) * u) - T(84))), d = T(-140) * w2 * w;
      else s = (u * u) * (u * u) * u * (T(126) + u * (u * (T(540) + u * (T(70) * u - T(315))) - T(420))), d = T(-630) * w2 * w2;
      f = x < T(0.5) ? T(1) - s : s;
      return;
    }
    default: f = x * T(0) + T(1), d = x * T(0); return;  // hard; NaN stays
  }
}

// tanh, absolute error 1e-16 (double), 1e-7 (float).
template <class T> OSTWALD_INLINE vec<T> tanh(vec<T> x) {
  const vec<T> e = exp(T(-2) * (x < T(0) ? -x : x)), t = (T(1) - e) / (T(1) + e);
  return x < T(0) ? -t : t;
}

template <class T> struct Cutoff {
  int core = COS;
  T radius = 0, inner = 0, inverse_width = 0, inverse_radius = 0, scale = 1;

  OSTWALD_INLINE void operator()(vec<T> r, vec<T>& f, vec<T>& d) const {
    using V = vec<T>;
    if (core == TANH_U || core == TANH) {
      const V t = tanh<T>(T(1) - r * inverse_radius), t2 = t * t;
      f = scale * t2 * t;
      d = T(3) * scale * inverse_radius * t2 * (t2 - T(1));
    } else {
      const V x = (r - inner) * inverse_width;
      core_function<T>(core, x < T(0) ? V{} : x > T(1) ? splat(T(1)) : x, f, d);
      d *= inverse_width;
    }
    const auto out = r >= radius;  // NaN stays in
    f = out ? V{} : f;
    d = out ? V{} : d;
  }
};

template <class T> struct Radial {
  int cutoff = -1;  // index into the centre's cutoff functions; -1: compact
  T eta = 0, shift = 0;
  int core = POLY2;
  bool asymmetric = false;
  T centre = 0, inverse_half_width = 0;
  T reach = 0;

  // Compact: value and derivative.
  OSTWALD_INLINE void compact(vec<T> r, vec<T>& f, vec<T>& d) const {
    using V = vec<T>;
    const V a = (r - centre) * inverse_half_width;
    const V sign = a < T(0) ? splat(-inverse_half_width) : splat(inverse_half_width);
    V x = a < T(0) ? -a : a;
    const auto out = x >= T(1);
    x = out ? V{} : x;
    if (asymmetric) {
      V g, slope;
      core_function<T>(core, x * (T(2) - x), g, slope);
      f = g, d = slope * (T(2) - T(2) * x);
    } else {
      core_function<T>(core, x, f, d);
    }
    d *= sign;
    f = out ? V{} : f;
    d = out ? V{} : d;
  }
};

template <class T> struct Term {
  bool compact = false;
  T lambda = 0, zeta = 0;
  int whole = -1;  // zeta where it is a whole number below 64
  int core = POLY2;
  T centre = 0, inverse_half_width = 0;
  T slope = 1;  // the derivative is slope times what derivative() gives

  // value, and derivative / slope, at the cosine c
  OSTWALD_INLINE void operator()(vec<T> c, vec<T>& value, vec<T>& derivative) const {
    using V = vec<T>;
    if (!compact) {
      V b = T(1) + lambda * c;
      b = b < T(0) ? V{} : b;
      switch (whole) {
        case 1: derivative = splat(T(1)), value = b; return;
        case 2: derivative = b, value = b * b; return;
        case 4: { const V b2 = b * b; derivative = b2 * b, value = b2 * b2; return; }
        case 6: { const V b2 = b * b, b4 = b2 * b2; derivative = b4 * b, value = b4 * b2; return; }
        case 0: derivative = V{}, value = splat(T(1)); return;
        default: break;
      }
      if (whole > 0) {
        V r = splat(T(1)), x = b;
        for (int n = whole - 1; n; n >>= 1) {
          if (n & 1) r *= x;
          x *= x;
        }
        derivative = r, value = r * b;
      } else {
        const T least = sizeof(T) == 8 ? T(1e-300) : T(1e-35);
        const V positive = b < least ? splat(least) : b;
        value = exp(zeta * log<T>(positive));
        value = b < least ? V{} : value;
        derivative = value / positive;
      }
      return;
    }
    V angle, root;
    for (int k = 0; k < lanes<T>; k++) {
      const T x = c[k] < T(-1) ? T(-1) : c[k] > T(1) ? T(1) : c[k];
      angle[k] = std::acos(x), root[k] = std::sqrt((T(1) - x) * (T(1) + x));
    }
    const V a = (angle - centre) * inverse_half_width;
    V x = a < T(0) ? -a : a;
    const auto out = x >= T(1);
    x = out ? V{} : x;
    core_function<T>(core, x, value, derivative);
    derivative *= a < T(0) ? splat(-inverse_half_width) : splat(inverse_half_width);
    const T least = sizeof(T) == 8 ? T(1e-10) : T(1e-5);
    value = out ? V{} : value;  // collinear: the gradient of the cosine vanishes
    derivative = (out | (root < least)) ? V{} : -derivative / root;
  }
};

struct Entry { int function, radial, term; double weight; };  // radial and term: indices within the group

struct GroupPlan {
  int first = 0, second = 0;  // elements, first <= second
  bool narrow = false;
  std::vector<int> radials, terms;  // of the centre
  std::vector<Entry> entries;       // sorted by radial
};

struct RadialUse { int function, radial; double weight; };

// What the functions of one central element amount to.
template <class T> struct Centre {
  int functions = 0;
  std::vector<Cutoff<T>> cutoffs;
  std::vector<Radial<T>> radials;  // sorted by cutoff function
  std::vector<Term<T>> terms;
  std::vector<std::vector<int>> used;             // by neighbour element: radials
  std::vector<std::vector<RadialUse>> two_body;   // by neighbour element
  std::vector<GroupPlan> groups;
};

template <class T>
Centre<T> make_centre(const double* table, int count, int elements, const std::vector<double>& charges, int cutoff_type,
                      double cutoff_inner) {
  Centre<T> centre;
  centre.functions = count;
  centre.used.resize(elements), centre.two_body.resize(elements);
  std::map<double, int> cutoffs;
  std::map<std::tuple<bool, double, double, double, double, int, bool>, int> radials;
  std::map<std::tuple<bool, double, double, int>, int> terms;
  std::map<std::tuple<int, int, bool>, int> groups;

  const auto row = [&](int f) { return table + size_t(f) * columns; };
  const auto is_compact = [](int kind) { return kind >= 20; };
  for (int f = 0; f < count; f++)
    if (!is_compact(int(row(f)[KIND]))) cutoffs.emplace(row(f)[CUTOFF], 0);
  for (auto& [radius, index] : cutoffs) {
    index = int(centre.cutoffs.size());
    Cutoff<T> c;
    const double inner = cutoff_inner * radius, t1 = std::tanh(1.0);
    c.core = cutoff_type, c.radius = T(radius), c.inner = T(inner);
    c.inverse_width = T(1 / (radius - inner)), c.inverse_radius = T(1 / radius);
    c.scale = cutoff_type == TANH ? T(1 / (t1 * t1 * t1)) : T(1);
    centre.cutoffs.push_back(c);
  }
  // radials in the order of their keys: exponential ones first, by cutoff
  const auto radial_key = [&](const double* p) {
    const bool compact = is_compact(int(p[KIND]));
    return compact ? std::make_tuple(true, p[CUTOFF], p[LOW], 0.0, 0.0, int(p[CORE]), p[ASYMMETRIC] != 0)
                   : std::make_tuple(false, p[CUTOFF], p[ETA], p[SHIFT], 0.0, 0, false);
  };
  for (int f = 0; f < count; f++) radials.emplace(radial_key(row(f)), 0);
  for (auto& [key, index] : radials) {
    index = int(centre.radials.size());
    Radial<T> r;
    r.reach = T(std::get<1>(key));
    if (std::get<0>(key)) {
      const double high = std::get<1>(key), low = std::get<2>(key);
      r.core = std::get<5>(key), r.asymmetric = std::get<6>(key);
      r.centre = T(0.5 * (high + low)), r.inverse_half_width = T(2 / (high - low));
    } else {
      r.cutoff = cutoffs.at(std::get<1>(key));
      r.eta = T(std::get<2>(key)), r.shift = T(std::get<3>(key));
    }
    centre.radials.push_back(r);
  }
  const auto use = [&](int element, int radial) {
    auto& list = centre.used[element];
    if (std::find(list.begin(), list.end(), radial) == list.end()) list.insert(std::lower_bound(list.begin(), list.end(), radial), radial);
  };

  for (int f = 0; f < count; f++) {
    const double* p = row(f);
    const int kind = int(p[KIND]), a = radials.at(radial_key(p));
    const bool weighted = kind == 12 || kind == 13 || kind >= 23;
    if (kind == 2 || kind == 12 || kind == 20 || kind == 23) {
      for (int e = 0; e < elements; e++) {
        if (!weighted && e != int(p[NEIGHBOUR1])) continue;
        use(e, a);
        centre.two_body[e].push_back({f, a, weighted ? charges[e] : 1.0});
      }
      continue;
    }
    const bool narrow = kind == 3 || kind == 13 || kind == 21 || kind == 24, compact = is_compact(kind);
    const auto term_key = compact ? std::make_tuple(true, p[ANGLE_LOW], p[ANGLE_HIGH], int(p[CORE]))
                                  : std::make_tuple(false, p[LAMBDA], p[ZETA], 0);
    if (!terms.count(term_key)) {
      terms[term_key] = int(centre.terms.size());
      Term<T> t;
      t.compact = compact;
      if (compact) {
        const double degree = 3.14159265358979323846 / 180;
        t.core = int(p[CORE]);
        t.centre = T(0.5 * (p[ANGLE_LOW] + p[ANGLE_HIGH]) * degree);
        t.inverse_half_width = T(2 / ((p[ANGLE_HIGH] - p[ANGLE_LOW]) * degree));
      } else {
        t.lambda = T(p[LAMBDA]), t.zeta = T(p[ZETA]), t.slope = T(p[LAMBDA] * p[ZETA]);
        t.whole = p[ZETA] == std::floor(p[ZETA]) && p[ZETA] >= 0 && p[ZETA] < 64 ? int(p[ZETA]) : -1;
      }
      centre.terms.push_back(t);
    }
    const int term = terms.at(term_key);
    for (int e1 = 0; e1 < elements; e1++)
      for (int e2 = e1; e2 < elements; e2++) {
        const int n1 = int(std::min(p[NEIGHBOUR1], p[NEIGHBOUR2])), n2 = int(std::max(p[NEIGHBOUR1], p[NEIGHBOUR2]));
        if (!weighted && (e1 != n1 || e2 != n2)) continue;
        use(e1, a), use(e2, a);
        const auto key = std::make_tuple(e1, e2, narrow);
        if (!groups.count(key)) {
          groups[key] = int(centre.groups.size());
          GroupPlan g;
          g.first = e1, g.second = e2, g.narrow = narrow;
          centre.groups.push_back(g);
        }
        GroupPlan& g = centre.groups[groups[key]];
        const auto local = [](std::vector<int>& list, int value) {
          const auto at = std::find(list.begin(), list.end(), value);
          if (at != list.end()) return int(at - list.begin());
          list.push_back(value);
          return int(list.size()) - 1;
        };
        const double weight = (compact ? 1.0 : std::exp2(1.0 - p[ZETA])) * (weighted ? charges[e1] * charges[e2] : 1.0);
        g.entries.push_back({f, local(g.radials, a), local(g.terms, term), weight});
      }
  }
  for (GroupPlan& g : centre.groups) {  // radials in the centre's order, so that cutoff functions are met in turn
    std::vector<int> sorted = g.radials;
    std::sort(sorted.begin(), sorted.end());
    for (Entry& e : g.entries)
      e.radial = int(std::lower_bound(sorted.begin(), sorted.end(), g.radials[e.radial]) - sorted.begin());
    g.radials = sorted;
    std::sort(g.entries.begin(), g.entries.end(),
              [](const Entry& a, const Entry& b) { return std::tie(a.radial, a.term, a.function) < std::tie(b.radial, b.term, b.function); });
  }
  return centre;
}

// rho and rho'/r of the given radials at distances r: out(index within ids, rho, rho'/r).
template <class T, class Out>
OSTWALD_INLINE void radial_values(const Centre<T>& centre, const int* ids, int count, vec<T> r, vec<T> inverse_r, Out&& out) {
  int have = -1;
  vec<T> fc{}, dfc{};
  for (int n = 0; n < count; n++) {
    const Radial<T>& radial = centre.radials[ids[n]];
    vec<T> f, d;
    if (radial.cutoff >= 0) {
      if (radial.cutoff != have) {
        have = radial.cutoff;
        centre.cutoffs[have](r, fc, dfc);
      }
      const vec<T> x = r - radial.shift, g = exp(-radial.eta * x * x);
      f = g * fc;
      d = g * dfc - T(2) * radial.eta * x * f;
    } else {
      radial.compact(r, f, d);
    }
    out(n, f, d * inverse_r);
  }
}

}  // namespace ostwald::hdnnp
