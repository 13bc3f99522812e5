// Finite differences of second order for ∂φ/∂t = ∇·(M ∇μ), μ = g'(φ) - ε∇²φ, on a grid with two ghost layers along its first axis and,
// in three dimensions, the second. Along the last axis, which is never divided, a line closes on itself or is mirrored at its ends.
//
// A step goes once through memory and changes the field in place: μ is made a line at a time, three planes of it are kept, and a line
// is moved on as soon as the μ of its six neighbours are there; no later μ needs its old values. Every point's arithmetic is the same
// wherever the planes are cut, so neither threads nor ranks change a bit.
#include <array>
#include <limits>

#include "wells.hpp"

using namespace ostwald;
using namespace ostwald::sweeps;

namespace {

constexpr int GHOSTS = 2;
constexpr int AHEAD = 3;             // lines that the next plane is fetched ahead by, which hides the way from memory behind the arithmetic,
constexpr int64_t LARGE = 4 << 20;   // where a field has more bytes than this

// The field of a rank: planes and lines of the inner points have numbers from 0 on, ghosts those before and behind.
template <class T> struct Grid {
  T* data;
  int planes, lines, points;  // inner ones; lines is 1 in two dimensions
  bool three, mirror;
  int64_t row, plane_size;

  Grid(const py::array& a, int n, bool mirrored, bool write) : points(n), three(a.ndim() == 3), mirror(mirrored) {
    require(a.ndim() == 2 || a.ndim() == 3, "a field must have two or three dimensions");
    data = elements<T>(a, "field", int(a.ndim()), write);
    row = a.shape(a.ndim() - 1);
    planes = int(a.shape(0)) - 2 * GHOSTS, lines = three ? int(a.shape(1)) - 2 * GHOSTS : 1;
    plane_size = row * (three ? lines + 2 * GHOSTS : 1);
    require((a.flags() & py::array::c_style) && planes > 0 && lines > 0 && n > 0 && row >= (n + lanes<T> - 1) / lanes<T> * lanes<T>,
            "a field must be C-contiguous with two ghost layers, its lines as long as whole vectors");
  }
  T* plane(int x) const { return data + (x + GHOSTS) * plane_size + (three ? GHOSTS * row : 0); }
};

// A line and its neighbours in the planes before and behind, and in its own plane.
template <class T> struct Line {
  const T *here, *before, *behind, *below, *above;
};

// Coefficients of a multiple of the Laplacian.
template <class T> struct Laplacian {
  T x, y, z, middle;
  Laplacian(double factor, const std::array<double, 3>& inverse_squares, bool three)
      : x(T(factor * inverse_squares[0])), y(T(factor * (three ? inverse_squares[1] : 0.0))), z(T(factor * inverse_squares[2])),
        middle(T(-2) * (x + y + z)) {}
};

// The lanes of (a, b) shifted by one: the last of a before those of b; those of a behind the first, then the first of b.
template <class T> OSTWALD_INLINE vec<T> behind_last(vec<T> a, vec<T> b) {
  ivec<T> k;
  for (int i = 0; i < lanes<T>; i++) k[i] = lanes<T> - 1 + i;
  return __builtin_shuffle(a, b, k);
}
template <class T> OSTWALD_INLINE vec<T> before_first(vec<T> a, vec<T> b) {
  ivec<T> k;
  for (int i = 0; i < lanes<T>; i++) k[i] = i + 1;
  return __builtin_shuffle(a, b, k);
}

// f(z, values, their Laplacian's multiple) for the vectors of a line. Lanes beyond the end of the line hold nothing of meaning.
template <bool three, class T, class F>
OSTWALD_INLINE void along(const Line<T>& line, const Laplacian<T>& l, int n, bool mirror, F&& f) {
  constexpr int W = lanes<T>;
  const T left = line.here[mirror ? 0 : n - 1], right = line.here[mirror ? n - 1 : 0];
  const auto at = [&](int z, vec<T> p, vec<T> u, vec<T> q) __attribute__((always_inline)) {
    vec<T> s = l.x * (load(line.before + z) + load(line.behind + z)) + l.z * (behind_last<T>(p, u) + before_first<T>(u, q)) + l.middle * u;
    if constexpr (three) s += l.y * (load(line.below + z) + load(line.above + z));
    f(z, u, s);
  };
  vec<T> p = splat(left), u = load(line.here);
  const int last = (n - 1) / W * W;
  for (int z = 0; z < last; z += W) {
    const vec<T> q = load(line.here + z + W);
    at(z, p, u, q);
    p = u, u = q;
  }
  if (n - last < W) u[n - last] = right;
  at(last, p, u, splat(right));
}

// Calls make(x, y, line) for the lines of the planes a - 1 … b and one around each plane, and use(x, y, line and neighbours) for those of a …
// b - 1 as soon as they and their neighbours are made. ring: three planes of lines.
template <bool three, class T, class Make, class Use> void roll(int a, int b, int lines, int64_t row, T* ring, Make&& make, Use&& use) {
  constexpr int around = three ? 1 : 0;
  const auto at = [&](int x, int y) { return ring + ((x + 3) % 3 * int64_t(lines + 2 * around) + y + around) * row; };
  for (int x = a - 1; x <= b; x++)
    for (int y = -around; y < lines + around; y++) {
      make(x, y, at(x, y));
      const int v = y - around;
      if (x > a && v >= 0) use(x - 1, v, Line<T>{at(x - 1, v), at(x - 2, v), at(x, v), at(x - 1, v - around), at(x - 1, v + around)});
    }
}

// Planes of a slab and those around it, of which some may be copies: others change the originals.
template <class T> struct Slab {
  const Grid<T>& grid;
  int a, b;
  const T *below, *above;  // copies of the planes a - 2, a - 1 and b, b + 1, or null
  T* plane(int x) const {
    const int64_t inner = grid.three ? GHOSTS * grid.row : 0;
    if (x < a && below) return const_cast<T*>(below) + (x - a + GHOSTS) * grid.plane_size + inner;
    if (x >= b && above) return const_cast<T*>(above) + (x - b) * grid.plane_size + inner;
    return grid.plane(x);
  }
  Line<T> line(int x, int y) const {
    const int64_t at = y * grid.row;
    const T* here = plane(x) + at;
    return {here, plane(x - 1) + at, plane(x + 1) + at, here - grid.row, here + grid.row};
  }
};

struct Sums {  // of a plane: g, |∇φ|² from one-sided differences, u; and the extremes of u
  double energy = 0, slope = 0, field = 0, lowest = std::numeric_limits<double>::infinity(), highest = -lowest;
};

template <class T, class Well> struct Flow {
  const Grid<T> grid;
  const Well well;
  const Laplacian<T> stiffness, rate;        // -ε∇², dt M ∇²
  const std::array<double, 3> inverse_squares;
  double* sums;  // (planes, 5) or null

  // Moves the planes a … b - 1 on.
  template <bool three> void slab(const Slab<T>& s, T* ring) const {
    const int n = grid.points;
    const bool large = grid.planes * grid.plane_size * int64_t(sizeof(T)) > LARGE;
    roll<three>(
        s.a, s.b, grid.lines, grid.row, ring,
        [&](int x, int y, T* mu) {
          const Line<T> phi = s.line(x, y);
          if (large)
            for (int z = 0; z < n; z += 64 / int(sizeof(T))) __builtin_prefetch(phi.behind + AHEAD * grid.row + z, 1, 2);
          along<three>(phi, stiffness, n, grid.mirror,
                       [&](int z, vec<T> u, vec<T> l) __attribute__((always_inline)) { store(mu + z, well.derivative(u) + l); });
        },
        [&](int x, int y, const Line<T>& mu) {
          T* phi = grid.plane(x) + y * grid.row;
          along<three>(mu, rate, n, grid.mirror,
                       [&](int z, vec<T>, vec<T> l) __attribute__((always_inline)) { store(phi + z, load(phi + z) + l); });
        });
  }

  template <bool three> void measure(int x) const {
    constexpr int W = lanes<T>;
    const int n = grid.points, last = (n - 1) / W * W;
    ivec<T> number;
    for (int i = 0; i < W; i++) number[i] = i;
    const ivec<T> there = number < ivec<T>{} + int_of<T>(n - last);
    const T wx = T(inverse_squares[0]), wy = T(inverse_squares[1]), wz = T(inverse_squares[2]);
    const Slab<T> s{grid, x, x + 1, nullptr, nullptr};
    Sums all;
    for (int y = 0; y < grid.lines; y++) {
      const Line<T> line = s.line(x, y);
      const T right = line.here[grid.mirror ? n - 1 : 0];
      vec<T> g{}, slope{}, sum{}, lowest = splat(line.here[0]), highest = lowest;
      for (int z = 0; z <= last; z += W) {
        const vec<T> u = load(line.here + z), ux = load(line.behind + z) - u;
        vec<T> next = z < last ? load(line.here + z + W) : splat(right), own = u;
        if (z == last && n - last < W) own[n - last] = right;
        const vec<T> uz = before_first<T>(own, next) - u;
        vec<T> steep = wx * ux * ux + wz * uz * uz;
        if constexpr (three) {
          const vec<T> uy = load(line.above + z) - u;
          steep += wy * uy * uy;
        }
        if (z < last) {
          g += well.value(u), slope += steep, sum += u;
          lowest = minimum(u, lowest), highest = maximum(u, highest);
        } else {
          const vec<T> none{};
          g += there ? well.value(u) : none, slope += there ? steep : none, sum += there ? u : none;
          lowest = there ? minimum(u, lowest) : lowest, highest = there ? maximum(u, highest) : highest;
        }
      }
      all.energy += sum_double(g), all.slope += sum_double(slope), all.field += sum_double(sum);
      for (int i = 0; i < W; i++) all.lowest = std::min(all.lowest, double(lowest[i])), all.highest = std::max(all.highest, double(highest[i]));
    }
    double* o = sums + 5 * x;
    o[0] = all.energy, o[1] = all.slope, o[2] = all.field, o[3] = all.lowest, o[4] = all.highest;
  }

  // The slabs of the threads; each first copies what the threads beside it will change.
  template <bool three> void run(int first, int last, const T* below, const T* above, bool move, int threads) const {
    threads = std::max(1, std::min(threads, (last - first) / 4));
#pragma omp parallel num_threads(threads)
    {
#if defined(_OPENMP)
      const int k = omp_get_thread_num(), count = omp_get_num_threads();
#else
      const int k = 0, count = 1;
#endif
      const int a = first + int(int64_t(last - first) * k / count), b = first + int(int64_t(last - first) * (k + 1) / count);
      if (sums)
        for (int x = a; x < b; x++) measure<three>(x);
      if (move) {
        const int64_t size = GHOSTS * grid.plane_size, lines = grid.lines + (three ? 2 : 0);
        Buffer<T> ring(3 * lines * grid.row), copies(count > 1 ? 2 * size : 1);
        const auto copy = [&](int x, T* to) { std::copy_n(grid.data + (x + GHOSTS) * grid.plane_size, size, to); };
        const T *under = below, *over = above;
        if (k > 0) copy(a - GHOSTS, copies), under = copies;
        if (k < count - 1) copy(b, copies + size), over = copies + size;
#pragma omp barrier
        slab<three>({grid, a, b, under, over}, ring);
      }
    }
  }
};

template <class T> const T* copied_planes(py::object planes, const Grid<T>& grid) {
  if (planes.is_none()) return nullptr;
  const py::array a = py::reinterpret_borrow<py::array>(planes);
  elements<T>(a, "copied planes", int(a.ndim()), false);
  require((a.flags() & py::array::c_style) && a.size() == GHOSTS * grid.plane_size, "copied planes are two, C-contiguous");
  return static_cast<const T*>(a.data());
}

void flow(py::array field, int n, int first, int last, std::array<double, 3> spacing, wells::Terms terms, double epsilon, double rate,
          bool mirror, py::object below, py::object above, py::object sums, int threads) {
  by_dtype(field, [&](auto t) {
    using T = decltype(t);
    const Grid<T> grid(field, n, mirror, rate != 0);
    require(0 <= first && first <= last && last <= grid.planes, "first and last are planes of the field");
    double* out = nullptr;
    if (!sums.is_none()) {
      const py::array a = py::reinterpret_borrow<py::array>(sums);
      out = elements<double>(a, "sums", 2, true);
      require(a.shape(0) == grid.planes && a.shape(1) == 5 && (a.flags() & py::array::c_style), "sums must be C-contiguous (planes, 5)");
    }
    std::array<double, 3> inverse;
    for (int k = 0; k < 3; k++) inverse[k] = 1 / (spacing[k] * spacing[k]);
    const T *under = copied_planes(below, grid), *over = copied_planes(above, grid);
    wells::with_well<T>(terms, [&](const auto& well) {
      const Laplacian<T> stiffness(-epsilon, inverse, grid.three), moving(rate, inverse, grid.three);
      const Flow<T, std::decay_t<decltype(well)>> flow{grid, well, stiffness, moving, inverse, out};
      py::gil_scoped_release release;
      grid.three ? flow.template run<true>(first, last, under, over, rate != 0, threads)
                 : flow.template run<false>(first, last, under, over, rate != 0, threads);
    });
  });
}

// ---- the right-hand side and its derivative, for implicit steps ----------------------------------------------------------

// f(z) after the values of K lines and those before and behind them along z are in `at`: here, low, high.
template <class T> struct Along {
  vec<T> here, low, high;
};
template <int K, class T, class F> OSTWALD_INLINE void each_vector(const Line<T>* line, int n, bool mirror, F&& f) {
  constexpr int W = lanes<T>;
  const int last = (n - 1) / W * W;
  Along<T> at[K];
  vec<T> before[K], here[K];
  for (int k = 0; k < K; k++) before[k] = splat(line[k].here[mirror ? 0 : n - 1]), here[k] = load(line[k].here);
  for (int z = 0; z <= last; z += W) {
    for (int k = 0; k < K; k++) {
      const T right = line[k].here[mirror ? n - 1 : 0];
      if (z == last && n - last < W) here[k][n - last] = right;
      const vec<T> next = z < last ? load(line[k].here + z + W) : splat(right);
      at[k] = {here[k], behind_last<T>(before[k], here[k]), before_first<T>(here[k], next)};
      before[k] = here[k], here[k] = next;
    }
    f(z, at);
  }
}

// ∇·(M ∇μ) from the flows through the six (four) faces of a point, M being the mean of both sides. half: 1/(2 h²) of the axes.
template <bool three, class T>
OSTWALD_INLINE vec<T> divergence(const Line<T>& mu, const Line<T>& m, const Along<T>& u, const Along<T>& w, const std::array<T, 3>& half, int z) {
  const auto side = [&](vec<T> p, vec<T> q) __attribute__((always_inline)) { return (q + w.here) * (p - u.here); };
  vec<T> s = half[0] * (side(load(mu.before + z), load(m.before + z)) + side(load(mu.behind + z), load(m.behind + z)));
  s += half[2] * (side(u.low, w.low) + side(u.high, w.high));
  if constexpr (three) s += half[1] * (side(load(mu.below + z), load(m.below + z)) + side(load(mu.above + z), load(m.above + z)));
  return s;
}

template <class T> Line<T> shifted(const Line<T>& l, int64_t by) {
  return {l.here + by, l.before + by, l.behind + by, l.below + by, l.above + by};
}

// M(u), a polynomial, and 0 where that is negative.
template <class T> struct Mobility {
  const wells::Polynomial<T, 0> form;
  OSTWALD_INLINE vec<T> value(vec<T> u) const {
    const vec<T> m = form.value(u);
    return m < vec<T>{} ? vec<T>{} : m;
  }
  OSTWALD_INLINE vec<T> derivative(vec<T> u) const { return form.value(u) < vec<T>{} ? vec<T>{} : form.derivative(u); }
};

template <class T, class Well> struct Tendency {
  const Grid<T> grid;
  const T* direction;  // laid out as the field, or null: then ∇·(M ∇μ), else its derivative along this
  T* out;              // the inner points, C-contiguous
  const Well well;
  const Mobility<T> mobility;
  const Laplacian<T> stiffness;
  const std::array<T, 3> half;

  // Rows of the ring: μ and M; for the derivative also those of its own, δμ and M' v.
  template <bool three, bool derivative> void slab(int a, int b, T* ring) const {
    const int n = grid.points;
    const int64_t row = grid.row;
    const Slab<T> s{grid, a, b, nullptr, nullptr};
    Grid<T> other = grid;
    if (derivative) other.data = const_cast<T*>(direction);
    const Slab<T> v{other, a, b, nullptr, nullptr};
    roll<three>(
        a, b, grid.lines, (derivative ? 4 : 2) * row, ring,
        [&](int x, int y, T* to) {
          along<three>(s.line(x, y), stiffness, n, grid.mirror, [&](int z, vec<T> u, vec<T> l) __attribute__((always_inline)) {
            store(to + z, well.derivative(u) + l), store(to + row + z, mobility.value(u));
          });
          if constexpr (derivative) {
            const T* phi = s.line(x, y).here;
            along<three>(v.line(x, y), stiffness, n, grid.mirror, [&](int z, vec<T> u, vec<T> l) __attribute__((always_inline)) {
              const vec<T> at = load(phi + z);
              store(to + 2 * row + z, well.curvature(at) * u + l), store(to + 3 * row + z, mobility.derivative(at) * u);
            });
          }
        },
        [&](int x, int y, const Line<T>& made) {
          T* to = out + (int64_t(x) * grid.lines + y) * n;
          const Line<T> line[4] = {made, shifted(made, row), shifted(made, 2 * row), shifted(made, 3 * row)};
          each_vector<derivative ? 4 : 2>(line, n, grid.mirror, [&](int z, const Along<T>* at) __attribute__((always_inline)) {
            vec<T> d = divergence<three>(line[derivative ? 2 : 0], line[1], at[derivative ? 2 : 0], at[1], half, z);
            if constexpr (derivative) d += divergence<three>(line[0], line[3], at[0], at[3], half, z);
            if (z + lanes<T> <= n) store(to + z, d);
            else
              for (int i = 0; z + i < n; i++) to[z + i] = d[i];
          });
        });
  }

  template <bool three, bool derivative> void run(int threads) const {
    threads = std::max(1, std::min(threads, grid.planes / 4));
#pragma omp parallel num_threads(threads)
    {
      Buffer<T> ring(3 * (grid.lines + (three ? 2 : 0)) * (derivative ? 4 : 2) * grid.row);
#pragma omp for schedule(static)
      for (int k = 0; k < threads; k++) slab<three, derivative>(grid.planes * k / threads, grid.planes * (k + 1) / threads, ring);
    }
  }
};

void tendency(py::array field, py::object direction, py::array out, int n, std::array<double, 3> spacing, wells::Terms terms,
              std::vector<double> mobility, double epsilon, bool mirror, int threads) {
  by_dtype(field, [&](auto t) {
    using T = decltype(t);
    const Grid<T> grid(field, n, mirror, false);
    const T* v = nullptr;
    if (!direction.is_none()) {
      const py::array a = py::reinterpret_borrow<py::array>(direction);
      v = Grid<T>(a, n, mirror, false).data;
      require(a.size() == field.size() && a.shape(1) == field.shape(1) && a.ndim() == field.ndim(), "field and direction must be laid out alike");
    }
    T* to = elements<T>(out, "out", int(field.ndim()), true);
    require((out.flags() & py::array::c_style) && out.size() == int64_t(grid.planes) * grid.lines * n && out.shape(0) == grid.planes,
            "out must hold the inner points, C-contiguous");
    require(mobility.size() >= 2 && mobility.size() <= wells::MOST + 1, "a mobility has 2 to 13 coefficients");
    std::array<double, 3> inverse;
    std::array<T, 3> half;
    for (int k = 0; k < 3; k++) inverse[k] = 1 / (spacing[k] * spacing[k]), half[k] = T(0.5 * inverse[k]);
    wells::with_well<T>(terms, [&](const auto& well) {
      const Tendency<T, std::decay_t<decltype(well)>> sweep{
          grid, v, to, well, {wells::Polynomial<T, 0>(mobility)}, Laplacian<T>(-epsilon, inverse, grid.three), half};
      py::gil_scoped_release release;
      if (v) grid.three ? sweep.template run<true, true>(threads) : sweep.template run<false, true>(threads);
      else grid.three ? sweep.template run<true, false>(threads) : sweep.template run<false, false>(threads);
    });
  });
}

}  // namespace

PYBIND11_MODULE(_finite_difference, module) {
  module.doc() = "Finite differences for Cahn–Hilliard on fields with two ghost layers.";
  using namespace py::literals;
  module.def("flow", &flow, "field"_a, "n"_a, "first"_a, "last"_a, "spacing"_a, "well"_a, "epsilon"_a, "rate"_a, "mirror"_a,
             "below"_a = py::none(), "above"_a = py::none(), "sums"_a = py::none(), "threads"_a = 1,
             "u = φ - centre moves on by rate ∇²(g'(φ) - ε∇²φ), in place, in the inner planes first … last - 1; ghosts must be there.\n"
             "field: (n0 + 4, [n1 + 4,] row), the first n of a row being points; mirror: the ends of the last axis, else it is periodic.\n"
             "below, above: copies of the two planes before `first` and from `last` on, where the field no longer has their old values.\n"
             "sums (n0, 5): of each plane before it moves, Σ g, Σ |∇φ|² (one-sided differences), Σ u, lowest and highest u. rate 0: only these.");
  module.def("tendency", &tendency, "field"_a, "direction"_a, "out"_a, "n"_a, "spacing"_a, "well"_a, "mobility"_a, "epsilon"_a,
             "mirror"_a, "threads"_a = 1,
             "out (inner points) = ∇·(M ∇(g'(φ) - ε∇²φ)) of u = φ - centre, M a polynomial of u (coefficients, the lowest first), 0 where that is negative;\n"
             "with a direction, laid out as the field with ghosts: the derivative along it.");
}
