// Elastic fields of coherent crystals: what a spectrum of φ, or of displacements, means in stress and strain (elastic.hpp, sweeps.hpp).
#include <memory>
#include <map>

#include "elastic.hpp"
#include "sweeps.hpp"

using namespace ostwald;
using namespace ostwald::sweeps;

namespace {

// Wave numbers of some columns, in the order in which the transform along x delivers them. Where a length is even its last wave number
// stands for both signs, and is 0 here: a field of which nothing is known between the points has no slope there.
template <class T> struct Waves {
  std::vector<T> x;
  const T *y, *z;

  Waves(int64_t columns, const py::array& kx, const py::array& ky, const py::array& kz)
      : y(elements<T>(ky, "ky", 1, false)), z(elements<T>(kz, "kz", 2, false)) {
    require(ky.shape(0) == columns && kz.shape(0) == columns && kz.shape(1) == lanes<T> && (kz.flags() & py::array::c_style),
            "ky must be (columns,), kz C-contiguous (columns, W)");
    const T* wave = elements<T>(kx, "kx", 1, false);
    for (int k : fft::plan<T>(int(kx.shape(0))).order()) x.push_back(wave[k]);
  }
};

// ---- homogeneous moduli: closed form -------------------------------------------------------------------------------------

template <class T>
void sweep_homogeneous(const T* spectrum, T* out, int64_t count, const Waves<T>& waves, const Elasticity<T>& moduli,
                       const std::array<T, 6>& of_strain, T of_phi, int threads) {
  const int n = int(waves.x.size());
  py::gil_scoped_release release;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t c = 0; c < count; c++) {
    const vec<T> z = load(waves.z + c * lanes<T>);
    const T y = waves.y[c];
    typename Elasticity<T>::Column column;
    column.set(moduli, y, z);
    const T* a = spectrum + c * n * row<T>;
    T* o = out + c * n * row<T>;
    for (int j = 0; j < n; j++, a += row<T>, o += row<T>) {
      const T x = waves.x[j];
      vec<T> s[3], b[6], d, v[3];
      moduli.parts(column, x, s, b, d);
      solve<T>(b, d, s, v);
      const vec<T> f = x * (of_strain[0] * v[0] + of_strain[4] * v[2] + of_strain[5] * v[1]) +
                       y * (of_strain[1] * v[1] + of_strain[3] * v[2] + of_strain[5] * v[0]) +
                       z * (of_strain[2] * v[2] + of_strain[3] * v[1] + of_strain[4] * v[0]) + of_phi;
      store<T>(o, f * load(a)), store<T>(o + lanes<T>, f * load(a + lanes<T>));
    }
  }
}

void homogeneous(py::array spectrum, py::array out, py::array kx, py::array ky, py::array kz, py::object elasticity,
                 std::array<double, 6> of_strain, double of_phi, int threads) {
  by_dtype(spectrum, [&](auto t) {
    using T = decltype(t);
    const int64_t count = spectrum.ndim() == 3 ? spectrum.shape(0) : 0;
    const Waves<T> waves(count, kx, ky, kz);
    const int n = int(waves.x.size());
    std::array<T, 6> factors;
    for (int i = 0; i < 6; i++) factors[i] = T(of_strain[i]);
    sweep_homogeneous<T>(spectrum_of<T>(spectrum, count, n), spectrum_of<T>(out, count, n), count, waves, elasticity_of<T>(elasticity),
                         factors, T(of_phi), threads);
  });
}

// ---- heterogeneous moduli ------------------------------------------------------------------------------------------------
//
// The displacements u of least energy, div C(φ):(E + ε(u) - ε*) = 0, by conjugate gradients preconditioned with Green's operator of a
// reference medium. In k-space v = i u, so that ε_ij = (q_i v_j + q_j v_i)/2 and forces q_j σ_ij are real multiples. An iteration is:
//
//   backward   p ← A⁻¹ r + β p, the strains of p transformed back along x
//   planes     strains back along y and z, stresses from strains point by point, forth along z and y; Σ σ:ε, which gives α
//   forward    stresses forth along x, r ← r - α q·σ, v ← v + α p; Σ r·A⁻¹ r, which gives β
//
// Two dimensions use the axes x and z: components xx, zz, xz, displacements x, z.

template <int D> constexpr int components = D == 3 ? 6 : 3;
template <int D> constexpr int axis_of(int i) { return D == 3 ? i : 2 * i; }       // of a displacement
template <int D> constexpr int voigt_of(int a) { return D == 3 ? a : 2 * a; }      // of a component

// C = low + h(φ) difference; h is u = shift + width (φ - <φ>), or (smooth) u³ (10 - 15 u + 6 u²) between 0 and 1.
template <class T, int D> struct Crystal {
  static constexpr int N = components<D>;
  T low[N][N], difference[N][N], eigenstrain[N];
  T shift, width;
  bool smooth;

  explicit Crystal(const py::object& given) {
    using Rows = std::vector<std::vector<double>>;
    const auto [c, d, e, s, w, kind] = given.cast<std::tuple<Rows, Rows, std::vector<double>, double, double, bool>>();
    const auto square = [](const Rows& m) {
      return m.size() == N && std::all_of(m.begin(), m.end(), [](const auto& line) { return line.size() == N; });
    };
    require(square(c) && square(d) && e.size() == N, "a crystal has as many components as there are arrays of rows");
    for (int a = 0; a < N; a++) {
      for (int b = 0; b < N; b++) low[a][b] = T(c[a][b]), difference[a][b] = T(d[a][b]);
      eigenstrain[a] = T(e[a]);
    }
    shift = T(s), width = T(w), smooth = kind;
  }
};

// 1 in the lanes of the first `count` lines of a group, 0 in repeated ones.
template <class T> void set_mask(vec<T>* mask, int count) {
  for (int s = 0; s < 2; s++)
    for (int i = 0; i < lanes<T>; i++) mask[s][i] = T(s * lanes<T> + i < count);
}

enum class Give { stress, stress_of_load, potential, combination };

// What becomes of the strains of a group of lines, [z][2 W] of each component.
template <class T, int D> struct Points {
  static constexpr int N = components<D>, W = lanes<T>;
  Crystal<T, D> crystal;
  T mean[N];              // strain
  T of_strain[N], of_stress[N], of_energy;  // of a combination

  template <Give give, bool smooth> void apply(const Staging<T>* z, const T* phi, int nz, int count, double* sums) const {
    vec<T> mask[2];
    set_mask<T>(mask, count);
    double total[1 + N] = {};
    for (int begin = 0; begin < nz; begin += 16) {  // short sums of single precision
      vec<T> part[1 + N] = {};
      for (int k = begin; k < std::min(begin + 16, nz); k++)
        for (int s = 0; s < 2; s++) {
          const vec<T> f = load(phi + (2 * k + s) * W);
          vec<T> e[N], stress[N], slope{}, energy{}, more{};
          for (int a = 0; a < N; a++) {
            e[a] = load(z[a][k] + s * W) + mean[a];
            if constexpr (give != Give::stress) e[a] = e[a] - crystal.eigenstrain[a] * f;
          }
          vec<T> h = crystal.shift + crystal.width * f;
          if constexpr (smooth) {
            h = minimum(maximum(h, splat(T(0))), splat(T(1)));
            slope = T(30) * crystal.width * (h * h) * ((1 - h) * (1 - h));
            h = (h * h * h) * (T(10) + h * (T(6) * h - T(15)));
          } else {
            slope = splat(crystal.width);
          }
          for (int a = 0; a < N; a++) {
            vec<T> low{}, difference{};
#pragma GCC unroll 6
            for (int b = 0; b < N; b++) low += crystal.low[a][b] * e[b], difference += crystal.difference[a][b] * e[b];
            stress[a] = low + h * difference;
            energy += stress[a] * e[a];
            if constexpr (give == Give::potential) more += difference * e[a];
          }
          part[0] += mask[s] * energy;
          for (int a = 0; a < N; a++) part[1 + a] += mask[s] * stress[a];
          if constexpr (give == Give::potential) {
            vec<T> mu = T(0.5) * slope * more;
            for (int a = 0; a < N; a++) mu -= crystal.eigenstrain[a] * stress[a];
            store(z[0][k] + s * W, mu);
          } else if constexpr (give == Give::combination) {
            vec<T> sum = T(0.5) * of_energy * energy;
            for (int a = 0; a < N; a++) sum += of_stress[a] * stress[a] + of_strain[a] * (e[a] + crystal.eigenstrain[a] * f);
            store(z[0][k] + s * W, sum);
          } else {
            for (int a = 0; a < N; a++) store(z[a][k] + s * W, stress[a]);
          }
        }
      for (int a = 0; a <= N; a++)
        for (int i = 0; i < W; i++) total[a] += part[a][i];
    }
    if (sums)
      for (int a = 0; a <= N; a++) sums[a] = total[a];
  }
  void apply(Give give, const Staging<T>* z, const T* phi, int nz, int count, double* sums) const {
    const auto with = [&](auto kind) {
      crystal.smooth ? apply<kind.value, true>(z, phi, nz, count, sums) : apply<kind.value, false>(z, phi, nz, count, sums);
    };
    switch (give) {
      case Give::stress: return with(std::integral_constant<Give, Give::stress>{});
      case Give::stress_of_load: return with(std::integral_constant<Give, Give::stress_of_load>{});
      case Give::potential: return with(std::integral_constant<Give, Give::potential>{});
      case Give::combination: return with(std::integral_constant<Give, Give::combination>{});
    }
  }
};

// Lines of a group along z, one transform after another.
template <class T> struct Along {
  const fft::Plan<T>& plan;
  Buffer<T> buffer, scratch;
  explicit Along(int nz) : plan(fft::plan<T>(nz)), buffer(plan.buffer()), scratch(plan.scratch()) {}
  template <bool inverse> void transform(const Staging<T>& z) {
    fft::begin(plan, From<T, inverse>{z.data}, buffer.data);
    fft::finish(plan, buffer.data, scratch.data, To<T, inverse>{z.data});
  }
};

// call(group, number) for all groups of 2 W lines of all planes; before(x) and after(x) around those of a plane. What they share is made
// for each thread by space().
template <class T, class Space, class Before, class Call, class After>
void every_group(const Planes<T>& work, int threads, Space&& space, Before&& before, Call&& call, After&& after) {
  const int64_t most = Lines<T>::most, per_plane = (work.ny + most - 1) / most;
  const bool flat = work.ny == 1;
  const int64_t tasks = flat ? (work.nx + most - 1) / most : work.nx;
#pragma omp parallel num_threads(threads)
  {
    auto own = space();
#pragma omp for schedule(dynamic, 1)
    for (int64_t t = 0; t < tasks; t++) {
      if (flat) {
        call(*own, t * most * work.stride, work.stride, int(std::min<int64_t>(most, work.nx - t * most)), t);
        continue;
      }
      before(*own, t);
      for (int64_t g = 0; g < per_plane; g++)
        call(*own, t * work.stride + g * most * row<T>, int64_t(row<T>), int(std::min<int64_t>(most, work.ny - g * most)),
             t * per_plane + g);
      after(*own, t);
    }
  }
}

template <class T> Lines<T> lines_at(T* first, int64_t step, int count) {
  Lines<T> group;
  group.count = count;
  for (int i = 0; i < Lines<T>::most; i++) group.rows[i] = first + std::min(i, count - 1) * step;
  return group;
}

template <class T> T* staged_of(const py::array& staged, const Planes<T>& work, bool write) {
  T* data = elements<T>(staged, "staged", 3, write);
  const int64_t most = Lines<T>::most;
  const int64_t groups = work.ny == 1 ? (work.nx + most - 1) / most : work.nx * ((work.ny + most - 1) / most);
  require(staged.shape(0) == groups && staged.shape(1) == work.nz && staged.shape(2) == most && (staged.flags() & py::array::c_style),
          "staged must be C-contiguous (groups of lines, n2, 2 W)");
  return data;
}

// The real field of complex rows, in groups of 2 W lines; the rows are kept.
template <class T>
void stage_rows(const Planes<T>& work, T* out, double* extremes, bool along_y, int threads) {
  const int nz = work.nz, W = lanes<T>;
  const int64_t chunk = work.block_stride();
  struct Space {
    Along<T> along;
    Rows<T, true> back;
    Staging<T> z;
    Buffer<T> copy;
    int64_t plane = 0;
    Space(const Planes<T>& w, bool y)
        : along(w.nz), back(y ? w.ny : 1), z(w.nz, 0), copy(y && w.ny > 1 ? w.blocks * w.block_stride() : 1) {}
  };
  const bool copied = along_y && work.ny > 1;
  every_group<T>(
      work, threads, [&] { return std::make_unique<Space>(work, along_y); },
      [&](Space& s, int64_t x) {
        s.plane = x * work.stride;
        for (int b = 0; copied && b < work.blocks; b++) s.back(work.data + s.plane + b * chunk, s.copy + b * chunk);
      },
      [&](Space& s, int64_t at, int64_t step, int count, int64_t number) {
        T* first = copied ? s.copy + (at - s.plane) : work.data + at;
        lines_at(first, step, count).gather(nz, work.blocks, chunk, s.z);
        s.along.template transform<true>(s.z);
        T* o = out + number * nz * 2 * W;
        vec<T> low = load(s.z[0]), high = low, square{}, mask[2];
        set_mask<T>(mask, count);
        for (int k = 0; k < nz; k++)
          for (int h = 0; h < 2; h++) {
            const vec<T> f = load(s.z[k] + h * W);
            store(o + (2 * k + h) * W, f);
            low = minimum(f, low), high = maximum(f, high);
            square += mask[h] * f * f;
          }
        double* e = extremes + 3 * number;
        e[0] = low[0], e[1] = high[0], e[2] = square[0];
        for (int i = 1; i < W; i++) e[0] = std::min(e[0], double(low[i])), e[1] = std::max(e[1], double(high[i])), e[2] += square[i];
      },
      [](Space&, int64_t) {});
}

void stage(py::array work, py::array out, py::array extremes, int n1, int n2, bool along_y, int threads) {
  by_dtype(work, [&](auto t) {
    using T = decltype(t);
    const Planes<T> rows(work, n1, n2, along_y);
    T* data = staged_of<T>(out, rows, true);
    double* e = elements<double>(extremes, "extremes", 2, true);
    require(extremes.shape(0) == out.shape(0) && extremes.shape(1) == 3, "extremes must be (groups of lines, 3)");
    fft::plan<T>(n1), fft::plan<T>(n2);
    py::gil_scoped_release release;
    stage_rows<T>(rows, data, e, along_y, threads);
  });
}

template <class T, int D>
void sweep_strains(const std::vector<Planes<T>>& work, const Points<T, D>& points, Give give, const T* staged, double* sums, T* field,
                   bool along_y, int threads) {
  constexpr int N = components<D>;
  const Planes<T>& one = work[0];
  const int nz = one.nz, kept = give == Give::potential ? 1 : give == Give::combination ? 0 : N;  // arrays that are transformed forth
  const int64_t chunk = one.block_stride();
  const bool turned = along_y && one.ny > 1;
  struct Space {
    Along<T> along;
    Rows<T, true> back;
    Rows<T, false> forth;
    std::vector<Staging<T>> z;
    Space(int n, int y) : along(n), back(y), forth(y) {
      z.reserve(N);
      for (int a = 0; a < N; a++) z.emplace_back(n, 0);
    }
  };
  every_group<T>(
      one, threads, [&] { return std::make_unique<Space>(nz, turned ? one.ny : 1); },
      [&](Space& s, int64_t x) {
        for (int a = 0; turned && a < N; a++)
          for (int b = 0; b < one.blocks; b++) {
            T* rows = work[a].data + x * one.stride + b * chunk;
            s.back(rows, rows);
          }
      },
      [&](Space& s, int64_t at, int64_t step, int count, int64_t number) {
        for (int a = 0; a < N; a++) {
          lines_at(work[a].data + at, step, count).gather(nz, one.blocks, chunk, s.z[a]);
          s.along.template transform<true>(s.z[a]);
        }
        points.apply(give, s.z.data(), staged + number * nz * 2 * lanes<T>, nz, count, sums ? sums + number * (1 + N) : nullptr);
        for (int a = 0; a < kept; a++) {
          s.along.template transform<false>(s.z[a]);
          lines_at(work[a].data + at, step, count).scatter(nz, one.blocks, chunk, s.z[a]);
        }
        if (!field) return;
        T* lines[Lines<T>::most];
        const int64_t line = at / one.stride * one.ny + (one.ny == 1 ? 0 : at % one.stride / row<T>);
        for (int i = 0; i < Lines<T>::most; i++) lines[i] = field + (line + std::min(i, count - 1)) * nz;
        Lines<T>::scatter_real(lines, count, nz, s.z[0]);
      },
      [&](Space& s, int64_t x) {
        for (int a = 0; turned && a < kept; a++)
          for (int b = 0; b < one.blocks; b++) {
            T* rows = work[a].data + x * one.stride + b * chunk;
            s.forth(rows, rows);
          }
      });
}

template <class T, int D>
void planes_of(const std::vector<py::array>& arrays, const py::array& staged, int n1, int n2, const py::object& crystal,
               const std::vector<double>& mean, const std::string& give, const std::vector<double>& combination, const py::object& sums,
               const py::object& field, bool along_y, int threads) {
  constexpr int N = components<D>;
  std::vector<Planes<T>> work;
  for (const py::array& a : arrays) work.emplace_back(a, n1, n2, along_y);
  for (const Planes<T>& w : work) require(w.nx == work[0].nx && w.stride == work[0].stride, "rows must be alike for all components");
  const T* phi = staged_of<T>(staged, work[0], false);
  Points<T, D> points{Crystal<T, D>(crystal), {}, {}, {}, 0};
  const bool combined = give == "combination";
  require(mean.size() == N && combination.size() == (combined ? 2 * N + 1 : 0), "mean and combination must fit the components");
  for (int a = 0; a < N; a++) points.mean[a] = T(mean[a]);
  for (int a = 0; combined && a < N; a++) points.of_strain[a] = T(combination[a]), points.of_stress[a] = T(combination[N + a]);
  if (combined) points.of_energy = T(combination[2 * N]);
  const std::map<std::string, Give> gives = {{"stress", Give::stress},
                                             {"stress of load", Give::stress_of_load},
                                             {"potential", Give::potential},
                                             {"combination", Give::combination}};
  require(gives.count(give) && combined == !field.is_none(), "a combination, and nothing else, goes into a field");
  double* s = nullptr;
  if (!sums.is_none()) {
    py::array a = py::reinterpret_borrow<py::array>(sums);
    s = elements<double>(a, "sums", 2, true);
    require(a.shape(0) == staged.shape(0) && a.shape(1) == 1 + N && (a.flags() & py::array::c_style),
            "sums must be C-contiguous (groups of lines, 1 + components)");
  }
  T* out = nullptr;
  if (!field.is_none()) {
    py::array a = py::reinterpret_borrow<py::array>(field);
    out = elements<T>(a, "field", 3, true);
    require(a.shape(0) == work[0].nx && a.shape(1) == n1 && a.shape(2) == n2 && (a.flags() & py::array::c_style),
            "field must be C-contiguous (planes, n1, n2)");
  }
  fft::plan<T>(n1), fft::plan<T>(n2);
  py::gil_scoped_release release;
  sweep_strains<T, D>(work, points, gives.at(give), phi, s, out, along_y, threads);
}

// Displacements (D, columns, n0, 2 W).
template <class T, int D> T* displacements(const py::array& a, int64_t columns, int n) {
  T* data = elements<T>(a, "displacements", 4, true);
  require(a.shape(0) == D && a.shape(1) == columns && a.shape(2) == n && a.shape(3) == row<T> && (a.flags() & py::array::c_style),
          "displacements must be C-contiguous (dimensions, columns, n0, 2 W)");
  return data;
}

// Reference medium and wave vectors of a column.
template <class T, int D> struct Green {
  const Waves<T>& waves;
  Elasticity<T> medium;

  typename Elasticity<T>::Column column(int64_t c) const {
    typename Elasticity<T>::Column out;
    out.set(medium, waves.y[c], load(waves.z + c * lanes<T>));
    return out;
  }
  // z = A⁻¹ r
  OSTWALD_INLINE void apply(const typename Elasticity<T>::Column& column, T kx, const vec<T>* r, vec<T>* z) const {
    vec<T> s[3], b[6], d, w[3] = {}, v[3];
    medium.parts(column, kx, s, b, d);
    for (int i = 0; i < D; i++) w[axis_of<D>(i)] = r[i];
    solve<T>(b, d, w, v);
    for (int i = 0; i < D; i++) z[i] = v[axis_of<D>(i)];
  }
};

template <class T, int D>
void sweep_forward(const std::vector<Columns<T>>& stresses, T* r, T* v, const T* p, const Green<T, D>& green, const T* weights, bool first,
                   T alpha, double scale, double* out, int threads) {
  constexpr int N = components<D>, W = lanes<T>;
  const int n = stresses[0].size();
  const auto& plan = fft::plan<T>(n);
  const int64_t count = stresses[0].count, whole = count * n * row<T>;
  py::gil_scoped_release release;
#pragma omp parallel num_threads(threads)
  {
    Buffer<T> buffer(plan.buffer()), scratch(plan.scratch()), columns(int64_t(N) * n * row<T>);
#pragma omp for schedule(dynamic, 16)
    for (int64_t c = 0; c < count; c++) {
      for (int a = 0; a < N; a++) {
        fft::begin(plan, PlaneColumn<T, false>{stresses[a].planes.data(), c * row<T>}, buffer.data);
        fft::finish(plan, buffer.data, scratch.data, InOrder<T>{columns + int64_t(a) * n * row<T>, T(scale)});
      }
      const auto column = green.column(c);
      const vec<T> weight = load(weights + c * W), z = load(green.waves.z + c * W);
      const T y = green.waves.y[c];
      double sum = 0;
      for (int j = 0; j < n; j++) {
        const T x = green.waves.x[j];
        const int64_t at = (c * n + j) * row<T>;
        vec<T> power{};
        for (int h = 0; h < 2; h++) {
          const int64_t place = at + h * W;
          vec<T> s[N], f[D], rest[D], turned[D];
          for (int a = 0; a < N; a++) s[a] = load(columns + (int64_t(a) * n + j) * row<T> + h * W);
          if constexpr (D == 3) {
            f[0] = x * s[0] + y * s[5] + z * s[4];
            f[1] = x * s[5] + y * s[1] + z * s[3];
            f[2] = x * s[4] + y * s[3] + z * s[2];
          } else {
            f[0] = x * s[0] + z * s[2];
            f[1] = x * s[2] + z * s[1];
          }
          for (int i = 0; i < D; i++) {
            T* o = r + i * whole + place;
            if (first) {
              rest[i] = -f[i];
            } else {
              rest[i] = load(o) - alpha * f[i];
              T* u = v + i * whole + place;
              store<T>(u, load(u) + alpha * load(p + i * whole + place));
            }
            store(o, rest[i]);
          }
          green.apply(column, x, rest, turned);
          for (int i = 0; i < D; i++) power += rest[i] * turned[i];
        }
        power *= weight;
        for (int i = 0; i < W; i++) sum += power[i];
      }
      out[c] = sum;
    }
  }
}

template <class T, int D>
void sweep_backward(const std::vector<Columns<T>>& strains, const T* r, T* before, T* p, const Green<T, D>& green, T beta, int threads) {
  constexpr int N = components<D>, W = lanes<T>;
  const int n = strains[0].size();
  const auto& plan = fft::plan<T>(n, true);
  const std::vector<int> order = fft::plan<T>(n).order();
  const int64_t count = strains[0].count, whole = count * n * row<T>;
  py::gil_scoped_release release;
#pragma omp parallel num_threads(threads)
  {
    Buffer<T> buffer(plan.buffer()), scratch(plan.scratch()), columns(int64_t(N) * n * row<T>);
#pragma omp for schedule(dynamic, 16)
    for (int64_t c = 0; c < count; c++) {
      const auto column = green.column(c);
      const vec<T> z = load(green.waves.z + c * W);
      const T y = green.waves.y[c];
      for (int j = 0; j < n; j++) {
        const T x = green.waves.x[j];
        for (int h = 0; h < 2; h++) {
          const int64_t place = (c * n + j) * row<T> + h * W;
          vec<T> rest[D], u[D];
          for (int i = 0; i < D; i++) u[i] = load(p + i * whole + place);
          if (r) {
            vec<T> turned[D];
            for (int i = 0; i < D; i++) rest[i] = load(r + i * whole + place);
            green.apply(column, x, rest, turned);
            for (int i = 0; i < D; i++) u[i] = turned[i] + beta * u[i], store(p + i * whole + place, u[i]);
          }
          for (int i = 0; before && i < D; i++) {
            T* o = before + i * whole + place;
            const vec<T> change = u[i] - load(o);
            store(o, u[i]);
            u[i] += beta * change, store(p + i * whole + place, u[i]);
          }
          vec<T> e[N];
          if constexpr (D == 3) {
            e[0] = x * u[0], e[1] = y * u[1], e[2] = z * u[2];
            e[3] = y * u[2] + z * u[1], e[4] = x * u[2] + z * u[0], e[5] = x * u[1] + y * u[0];
          } else {
            e[0] = x * u[0], e[1] = z * u[1], e[2] = x * u[1] + z * u[0];
          }
          for (int a = 0; a < N; a++) store(columns + (int64_t(a) * n + order[j]) * row<T> + h * W, e[a]);
        }
      }
      for (int a = 0; a < N; a++) {
        fft::begin(plan, From<T, true>{columns + int64_t(a) * n * row<T>}, buffer.data);
        fft::finish(plan, buffer.data, scratch.data, PlaneColumn<T, true>{strains[a].planes.data(), c * row<T>});
      }
    }
  }
}

template <class T> std::vector<Columns<T>> columns_of(const std::vector<std::vector<py::array>>& slabs) {
  std::vector<Columns<T>> out;
  for (const auto& s : slabs) out.emplace_back(s);
  for (const Columns<T>& c : out) require(c.count == out[0].count && c.size() == out[0].size(), "slabs must be alike for all components");
  return out;
}

// φ^ of the chemical potential of a reference medium taken away: out -= Y φ^
template <class T>
void sweep_difference(const T* spectrum, T* out, int64_t count, const Waves<T>& waves, const Elasticity<T>& moduli, int threads) {
  const int n = int(waves.x.size());
  py::gil_scoped_release release;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t c = 0; c < count; c++) {
    typename Elasticity<T>::Column column;
    column.set(moduli, waves.y[c], load(waves.z + c * lanes<T>));
    const T* a = spectrum + c * n * row<T>;
    T* o = out + c * n * row<T>;
    for (int j = 0; j < n; j++, a += row<T>, o += row<T>) {
      vec<T> num, den;
      moduli.at(column, waves.x[j], num, den);
      const vec<T> f = moduli.e0 - num / den;
      store<T>(o, load(o) - f * load(a)), store<T>(o + lanes<T>, load(o + lanes<T>) - f * load(a + lanes<T>));
    }
  }
}

// ---- arguments -----------------------------------------------------------------------------------------------------------

// f(dimension) by the number of components
template <class F> auto by_components(size_t number, F&& f) {
  if (number == 6) return f(std::integral_constant<int, 3>{});
  require(number == 3, "tensors have 6 components, 3 in two dimensions");
  return f(std::integral_constant<int, 2>{});
}

void planes(std::vector<py::array> rows, py::array staged, int n1, int n2, py::object crystal, std::vector<double> mean, std::string give,
            std::vector<double> combination, py::object sums, py::object field, bool along_y, int threads) {
  by_components(rows.size(), [&](auto d) {
    by_dtype(rows[0], [&](auto t) {
      planes_of<decltype(t), d.value>(rows, staged, n1, n2, crystal, mean, give, combination, sums, field, along_y, threads);
    });
  });
}

void forward(std::vector<std::vector<py::array>> slabs, py::array r, py::array v, py::array p, py::array kx, py::array ky, py::array kz,
             py::array weights, py::object medium, py::object alpha, double scale, py::array sums, int threads) {
  by_components(slabs.size(), [&](auto d) {
    by_dtype(r, [&](auto t) {
      using T = decltype(t);
      constexpr int D = d.value;
      const auto stresses = columns_of<T>(slabs);
      const int64_t count = stresses[0].count;
      const int n = stresses[0].size();
      const Waves<T> waves(count, kx, ky, kz);
      require(int(waves.x.size()) == n && sums.shape(0) == count && sums.ndim() == 1 && weights.ndim() == 2 &&
                  weights.shape(0) == count && weights.shape(1) == lanes<T> && (weights.flags() & py::array::c_style),
              "kx must be (n0,), weights C-contiguous (columns, W), sums (columns,)");
      const bool first = alpha.is_none();
      sweep_forward<T, D>(stresses, displacements<T, D>(r, count, n), displacements<T, D>(v, count, n),
                          displacements<T, D>(p, count, n), Green<T, D>{waves, elasticity_of<T>(medium)},
                          elements<T>(weights, "weights", 2, false), first, first ? T(0) : T(alpha.cast<double>()), scale,
                          elements<double>(sums, "sums", 1, true), threads);
    });
  });
}

void backward(std::vector<std::vector<py::array>> slabs, py::object r, py::object before, py::array p, py::array kx, py::array ky,
              py::array kz, py::object medium, double beta, int threads) {
  by_components(slabs.size(), [&](auto d) {
    by_dtype(p, [&](auto t) {
      using T = decltype(t);
      constexpr int D = d.value;
      const auto strains = columns_of<T>(slabs);
      const int64_t count = strains[0].count;
      const int n = strains[0].size();
      const Waves<T> waves(count, kx, ky, kz);
      require(int(waves.x.size()) == n, "kx must be (n0,)");
      const auto given = [&](const py::object& a) {
        return a.is_none() ? nullptr : displacements<T, D>(py::reinterpret_borrow<py::array>(a), count, n);
      };
      require(r.is_none() || before.is_none(), "give either r or before");
      sweep_backward<T, D>(strains, given(r), given(before), displacements<T, D>(p, count, n), Green<T, D>{waves, elasticity_of<T>(medium)}, T(beta),
                           threads);
    });
  });
}

void subtract_homogeneous(py::array spectrum, py::array out, py::array kx, py::array ky, py::array kz, py::object medium, int threads) {
  by_dtype(spectrum, [&](auto t) {
    using T = decltype(t);
    const int64_t count = spectrum.ndim() == 3 ? spectrum.shape(0) : 0;
    const Waves<T> waves(count, kx, ky, kz);
    const int n = int(waves.x.size());
    sweep_difference<T>(spectrum_of<T>(spectrum, count, n), spectrum_of<T>(out, count, n), count, waves, elasticity_of<T>(medium),
                        threads);
  });
}

}  // namespace

PYBIND11_MODULE(_elastic, module) {
  module.doc() = "Elastic fields of coherent crystals.";
  using namespace py::literals;
  module.def("homogeneous", &homogeneous, "spectrum"_a, "out"_a, "kx"_a, "ky"_a, "kz"_a, "elasticity"_a, "of_strain"_a, "of_phi"_a,
             "threads"_a = 1,
             "out = (Σ of_strain e + of_phi) φ^, e the strain (xx, yy, zz, 2 yz, 2 xz, 2 xy) that a unit of φ relaxes by.");
  module.def("stage", &stage, "work"_a, "out"_a, "extremes"_a, "n1"_a, "n2"_a, "along_y"_a = true, "threads"_a = 1,
             "The real field of rows, transformed along x only, as groups of lines (groups, n2, 2 W), and lowest and highest values\n"
             "and the sum of squares (groups, 3) of each. The rows are kept.");
  module.def("planes", &planes, "rows"_a, "staged"_a, "n1"_a, "n2"_a, "crystal"_a, "mean"_a, "give"_a,
             "combination"_a = std::vector<double>(), "sums"_a = py::none(), "field"_a = py::none(), "along_y"_a = true, "threads"_a = 1,
             "Rows of the components of strain, shears twice, -> those of C(φ):ε ('stress'), of C(φ):(ε - ε*) ('stress of load') or, in the\n"
             "first, of ∂/∂φ of the energy ('potential'); or a combination (of strains, of stresses, of the energy per volume) into a\n"
             "real field. staged: φ - <φ> of `stage`. crystal: (low, difference, ε*, shift, width, smooth). mean: strain. sums (groups,\n"
             "1 + components): Σ σ:ε, of the load σ:(ε - ε*), and Σ σ.");
  module.def("forward", &forward, "slabs"_a, "r"_a, "v"_a, "p"_a, "kx"_a, "ky"_a, "kz"_a, "weights"_a, "medium"_a, "alpha"_a, "scale"_a,
             "sums"_a, "threads"_a = 1,
             "Rows of stresses, f = scale q·σ^: r -= α f, v += α p; with α None r = -f. sums (columns,): Σ r·A⁻¹ r.");
  module.def("backward", &backward, "slabs"_a, "r"_a, "before"_a, "p"_a, "kx"_a, "ky"_a, "kz"_a, "medium"_a, "beta"_a,
             "threads"_a = 1,
             "p = A⁻¹ r + β p, or p + β (p - before), before = p; or with neither p as it is; and the rows of its strains.");
  module.def("subtract_homogeneous", &subtract_homogeneous, "spectrum"_a, "out"_a, "kx"_a, "ky"_a, "kz"_a, "medium"_a, "threads"_a = 1,
             "out -= Y φ^.");
}
