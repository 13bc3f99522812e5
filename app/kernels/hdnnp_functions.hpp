// Symmetry functions of one central element, sorted by what they share.
//
// A function is a sum over neighbours j, or pairs j < k of neighbours, of products of radial factors rho(r_ij), rho(r_ik)
// and, for narrow ones, rho(r_jk), with an angular factor of the cosine at the centre:
//
//   rho = exp(-eta (r - shift)²) f(r),  f: a shape, which is fc(r), or C(r; low, high) with eta = 0
//   P   = (1 + lambda cos theta)^zeta   or   C(theta; low, high)                    (terms)
//
// Functions of one pair of neighbour elements with the same shape make a group. In it rho' = rho (L - 2 eta (r - shift)/r) r
// with L = f'/(f r), which is the same for all of its functions: that keeps the derivatives of a triplet few.
#pragma once

#include <array>
#include <cmath>
#include <map>
#include <tuple>
#include <vector>

#include "manybody.hpp"
#include "hdnnp_wide.hpp"

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

// 2^x for x that are not large: relative error 6e-9 before rounding (float), 1e-17 (double); NaN stays, 0 where it is too small.
OSTWALD_INLINE vec<double> exp2(vec<double> x) {
#if defined(OSTWALD_AVX512)
  const double c[] = {1.0, 0.693147180559945326, 0.240226506959096731, 0.0555041086649806687, 0.00961812910515175647,
                      0.00133335583439372788, 0.000154035212191077331, 0.0000152529988997284185, 1.32105834777651881e-6,
                      1.02360238032751793e-7, 6.63444586625141402e-9, 6.12309291682638714e-10};
  const vec<double> f = (vec<double>)_mm512_reduce_pd((__m512d)x, 9);  // x - floor(x)
  return (vec<double>)_mm512_scalef_pd((__m512d)polynomial(f, c), (__m512d)x);
#else
  return exp(x * 0.693147180559945309);
#endif
}
OSTWALD_INLINE vec<float> exp2(vec<float> x) {
#if defined(OSTWALD_FLOAT8)
  const float c[] = {1.0f, 0.693147170864976528f, 0.240227204181098151f, 0.055496023564022933f, 0.0096521950560147358f,
                     0.00126921660691408532f, 0.000208179150435407431f};
  const vec<float> f = (vec<float>)_mm256_reduce_ps((__m256)x, 9);
  return (vec<float>)_mm256_scalef_ps((__m256)polynomial(f, c), (__m256)x);
#else
  return exp(x * 0.693147180559945309f);
#endif
}

// 1/x for normal x: the hardware's estimate and a polynomial in its error, faster than a division.
template <class T> OSTWALD_INLINE vec<T> inverse(vec<T> x) {
#if defined(OSTWALD_AVX512)
  if constexpr (sizeof(T) == 8) {
    const vec<double> y = (vec<double>)_mm512_rcp14_pd((__m512d)x), e = 1.0 - x * y, e2 = e * e;
    return y + y * ((e + e2) + e2 * (e + e2));
  }
#endif
  return reciprocal(x);
}

// What falls to zero at the cutoff: a cutoff function, or a compact function.
template <class T> struct Shape {
  bool compact = false, asymmetric = false;
  int core = COS;
  T reach = 0;                                    // zero from here on
  T origin = 0, inverse_width = 0;                // x = (r - origin) inverse_width
  T inverse_radius = 0, scale = 1;                // of the tanh ones

  OSTWALD_INLINE void operator()(vec<T> r, vec<T>& f, vec<T>& d) const {
    using V = vec<T>;
    if (!compact) {
      if (core == TANH_U || core == TANH) {
        const V t = tanh<T>(T(1) - r * inverse_radius), t2 = t * t;
        f = scale * t2 * t;
        d = T(3) * scale * inverse_radius * t2 * (t2 - T(1));
      } else {
        const V x = (r - origin) * inverse_width;
        core_function<T>(core, x < T(0) ? V{} : x, f, d);
        d *= inverse_width;
      }
      const auto out = r >= reach;  // NaN stays in
      f = out ? V{} : f;
      d = out ? V{} : d;
      return;
    }
    const V a = (r - origin) * inverse_width;
    V x = a < T(0) ? -a : a;
    const auto out = x >= T(1);
    x = out ? V{} : x;
    if (asymmetric) {
      core_function<T>(core, x * (T(2) - x), f, d);
      d *= T(2) - T(2) * x;
    } else {
      core_function<T>(core, x, f, d);
    }
    d *= a < T(0) ? splat(-inverse_width) : splat(inverse_width);
    f = out ? V{} : f;
    d = out ? V{} : d;
  }

  // The value and L = f'/(f r), 0 where f is.
  OSTWALD_INLINE void logarithmic(vec<T> r, vec<T> inverse_r, vec<T>& f, vec<T>& l) const {
    const T least = sizeof(T) == 8 ? T(1e-200) : T(1e-25);
    vec<T> d;
    (*this)(r, f, d);
    const auto tiny = f < least;
    l = tiny ? vec<T>{} : d * inverse_r * inverse<T>(tiny ? splat(T(1)) : f);
  }
};

template <class T> struct Radial {
  int shape = 0;
  T eta = 0, eta2 = 0, shift = 0;  // eta2 = eta / ln 2
};

template <class T> struct Term {
  bool compact = false;
  T lambda = 0, zeta = 0;
  int whole = -1;  // zeta where it is a whole number below 64
  int core = POLY2;
  T centre = 0, inverse_half_width = 0;

  // value at the cosine c, and derivative, for whole or other zeta without the factor lambda zeta
  OSTWALD_INLINE void operator()(vec<T> c, vec<T>& value, vec<T>& derivative) const {
    using V = vec<T>;
    if (!compact) {
      V b = T(1) + lambda * c;
      b = b < T(0) ? V{} : b;
      if (whole == 0) {
        derivative = V{}, value = splat(T(1));
      } else if (whole > 0) {
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

// (1 + c)^Z and (1 - c)^Z of whole Z, known when compiled: terms 2 i and 2 i + 1 for the i-th Z.
template <int... Z> struct Powers {
  static constexpr int terms = 2 * int(sizeof...(Z));
  static constexpr int zetas[] = {Z...};

  template <int n, class V> static OSTWALD_INLINE V power(V b) {
    if constexpr (n == 0) return V{} + std::decay_t<decltype(b[0])>(1);
    else if constexpr (n == 1) return b;
    else if constexpr (n % 2) return power<n - 1>(b) * b;
    else return power<n / 2>(b) * power<n / 2>(b);
  }
  // values, and derivatives by c over zeta lambda
  template <class V> static OSTWALD_INLINE void evaluate(V c, V* value, V* derivative) {
    using T = std::decay_t<decltype(c[0])>;
    V plus = T(1) + c, minus = T(1) - c;
    plus = plus < T(0) ? V{} : plus, minus = minus < T(0) ? V{} : minus;
    int t = 0;
    ((derivative[t] = power<Z - 1>(plus), derivative[t + 1] = power<Z - 1>(minus), value[t] = derivative[t] * plus,
      value[t + 1] = derivative[t + 1] * minus, t += 2), ...);
  }
};
struct AnyTerms {
  static constexpr int terms = 0;  // known when run
};

// Calls function(pattern) with the leanest of these that has all the zetas, else with AnyTerms.
enum Pattern { P1, P14, P16, P124, P12416, ANY };
template <class Function> OSTWALD_INLINE void with_pattern(int pattern, Function&& function) {
  switch (pattern) {
    case P1: return function(Powers<1>{});
    case P14: return function(Powers<1, 4>{});
    case P16: return function(Powers<1, 6>{});
    case P124: return function(Powers<1, 2, 4>{});
    case P12416: return function(Powers<1, 2, 4, 16>{});
    default: return function(AnyTerms{});
  }
}

struct Entry { int function, radial, term; double weight; };  // radial and term: indices within the group

template <class T> struct AngularGroup {
  int first = 0, second = 0;  // elements, first <= second
  int shape = 0;
  bool narrow = false, shifted = false;
  int pattern = ANY, terms = 0;
  std::vector<Radial<T>> radials;
  std::vector<Term<T>> term;                 // where the pattern is ANY
  std::vector<std::array<bool, 8>> used;     // by radial: which zetas of the pattern
  std::vector<double> slope;                 // by term: lambda zeta
  std::vector<Entry> entries;
};

struct RadialUse { int function, radial; double weight; };

// What the functions of one central element amount to.
template <class T> struct Centre {
  int functions = 0;
  std::vector<Shape<T>> shapes;
  std::vector<Radial<T>> radials;                // of functions of two atoms, by shape
  std::vector<std::vector<int>> used_shapes, used;  // by neighbour element: shapes, radials
  std::vector<std::vector<RadialUse>> two_body;  // by neighbour element
  std::vector<AngularGroup<T>> groups;
  Wide wide;                                     // what needs no pairs
};

template <class T>
Centre<T> make_centre(const double* table, int count, int elements, const std::vector<double>& charges, int cutoff_type,
                      double cutoff_inner) {
  Centre<T> centre;
  centre.functions = count;
  centre.used.resize(elements), centre.used_shapes.resize(elements), centre.two_body.resize(elements);
  const auto row = [&](int f) { return table + size_t(f) * columns; };
  const auto is_compact = [](const double* p) { return p[KIND] >= 20; };
  const double ln2 = 0.693147180559945309417;

  std::map<std::tuple<bool, double, double, int, bool>, int> shapes;
  const auto shape_of = [&](const double* p) {
    const bool compact = is_compact(p);
    const auto key = compact ? std::make_tuple(true, p[CUTOFF], p[LOW], int(p[CORE]), p[ASYMMETRIC] != 0)
                             : std::make_tuple(false, p[CUTOFF], 0.0, 0, false);
    const auto [at, made] = shapes.emplace(key, int(centre.shapes.size()));
    if (made) {
      const double radius = p[CUTOFF], inner = cutoff_inner * radius, t1 = std::tanh(1.0);
      Shape<T> s;
      s.compact = compact, s.reach = T(radius);
      if (compact) {
        s.core = int(p[CORE]), s.asymmetric = p[ASYMMETRIC] != 0;
        s.origin = T(0.5 * (radius + p[LOW])), s.inverse_width = T(2 / (radius - p[LOW]));
      } else {
        s.core = cutoff_type, s.origin = T(inner), s.inverse_width = T(1 / (radius - inner));
        s.inverse_radius = T(1 / radius), s.scale = cutoff_type == TANH ? T(1 / (t1 * t1 * t1)) : T(1);
      }
      centre.shapes.push_back(s);
    }
    return at->second;
  };
  const auto radial_of = [&](const double* p) {
    Radial<T> r;
    r.shape = shape_of(p);
    if (!is_compact(p)) r.eta = T(p[ETA]), r.eta2 = T(p[ETA] / ln2), r.shift = T(p[SHIFT]);
    return r;
  };
  const auto index_in = [](auto& list, const auto& value, auto&& same) {
    for (size_t k = 0; k < list.size(); k++)
      if (same(list[k], value)) return int(k);
    list.push_back(value);
    return int(list.size()) - 1;
  };
  const auto same_radial = [](const Radial<T>& a, const Radial<T>& b) {
    return a.shape == b.shape && a.eta == b.eta && a.shift == b.shift;
  };
  const auto same = [](const auto& a, const auto& b) { return a == b; };

  const auto separable = [](const double* p) {
    return p[KIND] == 9 && std::abs(p[LAMBDA]) == 1 && p[ZETA] == std::floor(p[ZETA]) && p[ZETA] >= 1 && p[ZETA] <= largest_degree;
  };
  std::vector<int> wide;
  std::map<std::tuple<int, int, bool, int>, int> groups;
  std::vector<std::vector<int>> members;  // by group: functions
  std::vector<std::vector<double>> weights;
  for (int f = 0; f < count; f++) {
    const double* p = row(f);
    const int kind = int(p[KIND]), shape = shape_of(p);
    const bool weighted = kind == 12 || kind == 13 || kind >= 23;
    if (kind == 2 || kind == 12 || kind == 20 || kind == 23) {
      const int radial = index_in(centre.radials, radial_of(p), same_radial);
      for (int e = 0; e < elements; e++) {
        if (!weighted && e != int(p[NEIGHBOUR1])) continue;
        index_in(centre.used_shapes[e], shape, same), index_in(centre.used[e], radial, same);
        centre.two_body[e].push_back({f, radial, weighted ? charges[e] : 1.0});
      }
      continue;
    }
    if (separable(p)) {
      wide.push_back(f);
      continue;
    }
    const bool narrow = kind == 3 || kind == 13 || kind == 21 || kind == 24;
    const int n1 = int(std::min(p[NEIGHBOUR1], p[NEIGHBOUR2])), n2 = int(std::max(p[NEIGHBOUR1], p[NEIGHBOUR2]));
    for (int e1 = 0; e1 < elements; e1++)
      for (int e2 = e1; e2 < elements; e2++) {
        if (!weighted && (e1 != n1 || e2 != n2)) continue;
        index_in(centre.used_shapes[e1], shape, same), index_in(centre.used_shapes[e2], shape, same);
        const auto [at, made] = groups.emplace(std::make_tuple(e1, e2, narrow, shape), int(centre.groups.size()));
        if (made) {
          AngularGroup<T> g;
          g.first = e1, g.second = e2, g.narrow = narrow, g.shape = shape;
          centre.groups.push_back(g), members.emplace_back(), weights.emplace_back();
        }
        members[at->second].push_back(f);
        weights[at->second].push_back((is_compact(p) ? 1.0 : std::exp2(1.0 - p[ZETA])) * (weighted ? charges[e1] * charges[e2] : 1.0));
      }
  }

  centre.wide.densities.resize(elements);
  for (int f : wide) centre.wide.degree = std::max(centre.wide.degree, int(row(f)[ZETA]));
  if (!wide.empty()) with_degree(centre.wide.degree, [&](auto degree) { centre.wide.degree = degree(); });
  std::map<std::tuple<int, int, int>, int> wide_pairs;
  for (int f : wide) {
    const double* p = row(f);
    const int radial = index_in(centre.radials, radial_of(p), same_radial), shape = shape_of(p);
    const int e1 = int(std::min(p[NEIGHBOUR1], p[NEIGHBOUR2])), e2 = int(std::max(p[NEIGHBOUR1], p[NEIGHBOUR2]));
    const auto [at, made] = wide_pairs.emplace(std::make_tuple(e1, e2, radial), int(centre.wide.pairs.size()));
    if (made) {
      WidePair pair{};
      pair.first = e1, pair.second = e2;
      pair.first_density = index_in(centre.wide.densities[e1], radial, same);
      pair.second_density = index_in(centre.wide.densities[e2], radial, same);
      for (int e : {e1, e2}) index_in(centre.used_shapes[e], shape, same), index_in(centre.used[e], radial, same);
      centre.wide.pairs.push_back(pair);
    }
    WidePair& pair = centre.wide.pairs[at->second];
    const double weight = std::exp2(1.0 - p[ZETA]) * (e1 == e2 ? 0.5 : 1.0);
    pair.functions.push_back(f);
    with_degree(centre.wide.degree, [&](auto degree) {
      using Y = Harmonics<T, degree()>;
      for (int k = 0; k < Y::padded; k++)
        pair.coefficient.push_back(k < Y::count ? weight * legendre_coefficient(int(p[ZETA]), Y::tables().degree[k], p[LAMBDA]) : 0.0);
    });
    pair.self.push_back(e1 == e2 && p[LAMBDA] > 0 ? weight * std::exp2(p[ZETA]) : 0.0);
  }

  for (size_t n = 0; n < centre.groups.size(); n++) {
    AngularGroup<T>& g = centre.groups[n];
    std::vector<int> zetas;
    for (int f : members[n]) {
      const double* p = row(f);
      const bool plain = !is_compact(p) && std::abs(p[LAMBDA]) == 1 && p[ZETA] == std::floor(p[ZETA]) && p[ZETA] >= 1 && p[ZETA] < 64;
      index_in(zetas, plain ? int(p[ZETA]) : -1, same);
    }
    std::vector<int> known;
    for (int pattern = P1; pattern < ANY && g.pattern == ANY; pattern++)
      with_pattern(pattern, [&](auto powers) {
        using P = decltype(powers);
        if constexpr (P::terms > 0) {
          const std::vector<int> have(std::begin(P::zetas), std::end(P::zetas));
          for (int z : zetas)
            if (std::find(have.begin(), have.end(), z) == have.end()) return;
          g.pattern = pattern, g.terms = P::terms, known = have;
          for (int z : have) g.slope.push_back(z), g.slope.push_back(-z);
        }
      });
    std::vector<std::tuple<bool, double, double, int>> keys;
    for (size_t m = 0; m < members[n].size(); m++) {
      const double* p = row(members[n][m]);
      const int radial = index_in(g.radials, radial_of(p), same_radial);
      g.shifted |= g.radials[radial].shift != 0;
      int term;
      if (g.pattern != ANY) {
        term = 2 * int(std::find(known.begin(), known.end(), int(p[ZETA])) - known.begin()) + (p[LAMBDA] < 0);
      } else {
        const bool compact = is_compact(p);
        const auto key = compact ? std::make_tuple(true, p[ANGLE_LOW], p[ANGLE_HIGH], int(p[CORE]))
                                 : std::make_tuple(false, p[LAMBDA], p[ZETA], 0);
        term = index_in(keys, key, same);
        if (term == int(g.term.size())) {
          Term<T> t;
          t.compact = compact;
          if (compact) {
            const double degree = 3.14159265358979323846 / 180;
            t.core = int(p[CORE]);
            t.centre = T(0.5 * (p[ANGLE_LOW] + p[ANGLE_HIGH]) * degree);
            t.inverse_half_width = T(2 / ((p[ANGLE_HIGH] - p[ANGLE_LOW]) * degree));
          } else {
            t.lambda = T(p[LAMBDA]), t.zeta = T(p[ZETA]);
            t.whole = p[ZETA] == std::floor(p[ZETA]) && p[ZETA] >= 0 && p[ZETA] < 64 ? int(p[ZETA]) : -1;
          }
          g.term.push_back(t);
          g.slope.push_back(compact ? 1.0 : p[LAMBDA] * p[ZETA]);
          g.terms = int(g.term.size());
        }
      }
      g.used.resize(g.radials.size());
      if (g.pattern != ANY) g.used[radial][term / 2] = true;
      g.entries.push_back({members[n][m], radial, term, weights[n][m]});
    }
  }
  return centre;
}

}  // namespace ostwald::hdnnp
