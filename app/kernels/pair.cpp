// Pair potentials (Lennard-Jones, ZBL) and the embedded-atom method.
//
// Work goes through a stream of pairs: the neighbours of some twenty atoms that are inside the cutoff, compressed into
// buffers that stay in the first cache. First positions become distances (short chains of dependent instructions, vectors
// of one atom's neighbours), then the arithmetic runs over the stream in full vectors, across the borders of atoms, then
// each atom sums its part. Half lists also scatter to the neighbour's row. The density pass of embedded atoms leaves behind
// which neighbours were inside, so that the force pass need not test again.
#include "pair.hpp"

using namespace ostwald;

namespace {

constexpr int tensor_a[6] = {0, 1, 2, 1, 0, 0}, tensor_b[6] = {0, 1, 2, 2, 2, 1};  // xx yy zz yz xz xy

struct Sums {
  double energy = 0, virial[6] = {0, 0, 0, 0, 0, 0};
};

// Pairs of consecutive atoms.
template <class T> struct Stream {
  static constexpr int room = 384, piece = 256, slack = 2 * lanes<T>;
  // displacement x_i - x_j, its square, and two more values; later the force on i and the pair's energy in their place
  alignas(64) T x[room + slack], y[room + slack], z[room + slack], r2[room + slack], w[room + slack], v[room + slack],
      u[room + slack];
  alignas(64) int32_t j[room + slack], owner[room + slack];
  struct Segment {
    int64_t i;
    int begin, end;
  } segment[room + 1];
  int count = 0, segments = 0;
};

// Sums of some arrays from begin to end, lane by lane.
template <class T, class... V> OSTWALD_INLINE void sum_segment(const T* const* arrays, int begin, int end, V&... sums) {
  int k = begin;
  for (; k + lanes<T> <= end; k += lanes<T>) {
    int a = 0;
    ((sums += load(arrays[a++] + k)), ...);
  }
  if (k < end) {
    const bits_t lane = first<T>(end - k);
    int a = 0;
    ((sums += select(lane, load(arrays[a++] + k), vec<T>{})), ...);
  }
}

// Goes through the lists of rows [lo, hi): add(i, list, n) puts at most n of the n <= piece neighbours into the stream,
// flush() uses them up.
template <class T, class Add, class Flush>
OSTWALD_INLINE void through(const Atoms& a, int64_t lo, int64_t hi, Stream<T>& s, Add add, Flush flush) {
  const auto empty = [&]() __attribute__((always_inline)) {
    // what the empty lanes of the last vector see: spare rows at distance 1, displacement 0
    const vec<T> zero{};
    store_index<T>(s.j + s.count, spare_rows<T>(a.nall));
    std::fill_n(s.owner + s.count, lanes<T>, 0);
    store(s.r2 + s.count, splat(T(1)));
    for (T* p : {s.x, s.y, s.z, s.w, s.v, s.u}) store(p + s.count, zero);
    flush();
    s.count = s.segments = 0;
  };
  for (int64_t i = lo; i < hi; i++)
    for (int64_t begin = a.offsets[i], end = a.offsets[i + 1]; begin < end; begin += Stream<T>::piece) {
      const int n = int(std::min<int64_t>(Stream<T>::piece, end - begin));
      if (s.count + n > Stream<T>::room) empty();
      const int start = s.count;
      add(i, begin, n);
      s.segment[s.segments++] = {i, start, s.count};
    }
  empty();
}

// The neighbours j[0 .. lanes) of a list of n, and which lanes are among the n; `tail` is memory for a last vector.
template <class T>
OSTWALD_INLINE const int32_t* next(const int32_t* j, int n, index_vec<T> spares, int32_t* tail, bits_t& lane) {
  lane = all_lanes<T>;
  if (n >= lanes<T>) return j;
  store_index<T>(tail, load_index<T>(j, n, spares));
  lane = first<T>(n);
  return tail;
}

// A pair's r ⊗ f, half of it to each end that is local.
template <class T>
void atom_virials(double* virials, const int32_t* i, const int32_t* j, int n, int64_t nlocal, bool half, vec<T> fpair,
                  vec<T> dx, vec<T> dy, vec<T> dz) {
  for (int k = 0; k < n; k++) {
    const double d[3] = {double(dx[k]), double(dy[k]), double(dz[k])};
    for (int c = 0; c < 6; c++) {
      const double v = 0.5 * double(fpair[k]) * d[tensor_a[c]] * d[tensor_b[c]];
#pragma omp atomic
      virials[6 * int64_t(i[k]) + c] += v;
      if (half && j[k] < nlocal) {
#pragma omp atomic
        virials[6 * int64_t(j[k]) + c] += v;
      }
    }
  }
}

// What pairs add to: the neighbours' rows, the totals, and, at the end of a stream, the atoms' own.
template <class T, bool half, Want want> struct Gains {
  const Atoms& a;
  double *rows, *forces, *energies, *virials;
  Total<T> e, v[6];

  // The vector of pairs from k on, with force fpair (x, y, z): into the totals and j's rows, and in place in the stream.
  OSTWALD_INLINE void add(Stream<T>& s, int k, vec<T> fpair, vec<T> energy) {
    const vec<T> dx = load(s.x + k), dy = load(s.y + k), dz = load(s.z + k);
    const vec<T> px = fpair * dx, py = fpair * dy, pz = fpair * dz;
    store(s.x + k, px), store(s.y + k, py), store(s.z + k, pz);
    if constexpr (want == Want::all) {
      energy = select(first<T>(s.count - k), T(0.5) * energy, vec<T>{});
      store(s.r2 + k, energy);
    }
    if constexpr (half) subtract_rows(rows, s.j + k, px, py, pz, want == Want::all ? -energy : vec<T>{});
    if constexpr (want != Want::forces) {
      // a pair of two local atoms is in a half list once, every other pair is met from both ends
      const vec<T> weight = half ? select(below<T>(s.j + k, a.nlocal), splat(T(1)), splat(T(0.5))) : splat(T(0.5));
      const vec<T> qx = weight * px, qy = weight * py, qz = weight * pz;
      v[0].add(qx * dx), v[1].add(qy * dy), v[2].add(qz * dz), v[3].add(qy * dz), v[4].add(qx * dz), v[5].add(qx * dy);
      if constexpr (want == Want::all) {
        e.add(T(2) * weight * energy);
        if (virials) {
          const int n = std::min(s.count - k, lanes<T>);
          atom_virials<T>(virials, s.owner + k, s.j + k, n, a.nlocal, half, fpair, dx, dy, dz);
        }
      }
    }
  }

  OSTWALD_INLINE void sum_up(const Stream<T>& s) {
    const T* arrays[4] = {s.x, s.y, s.z, s.r2};
    for (int q = 0; q < s.segments; q++) {
      const auto& part = s.segment[q];
      vec<T> x{}, y{}, z{}, w{};
      if constexpr (want == Want::all) sum_segment<T>(arrays, part.begin, part.end, x, y, z, w);
      else sum_segment<T>(arrays, part.begin, part.end, x, y, z);
      if constexpr (half) {
        add_sums(rows + 4 * part.i, x, y, z, w);
      } else {
        alignas(32) double own[4] = {};
        add_sums(own, x, y, z, w);
        for (int d = 0; d < 3; d++) forces[3 * part.i + d] += own[d];
        if (want == Want::all && energies) energies[part.i] += own[3];
      }
    }
  }

  void to(Sums& s) const {
    s.energy += e.value();
    for (int c = 0; c < 6; c++) s.virial[c] += v[c].value();
  }
};

py::tuple result(const Sums& s, Want want, double invalid) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  py::array_t<double> w(6);
  for (int c = 0; c < 6; c++) w.mutable_at(c) = want == Want::forces ? nan : s.virial[c] + invalid;
  return py::make_tuple(want == Want::all ? s.energy + invalid : nan, w);
}

// ---- pair potentials -----------------------------------------------------------------------------------------------

// Coefficients of pairs of types (i, j), each coefficient an array over i ntypes + j, padded to whole vectors.
template <class T> class Coefficients {
 public:
  Coefficients(const py::array_t<double, py::array::c_style | py::array::forcecast>& a, int count) {
    if (a.ndim() != 3 || a.shape(0) != count || a.shape(1) != a.shape(2) || a.shape(1) < 1)
      throw std::invalid_argument("coefficients must be (" + std::to_string(count) + ", ntypes, ntypes)");
    ntypes_ = int(a.shape(1)), pairs_ = ntypes_ * ntypes_;
    stride_ = (pairs_ + 15) / 16 * 16;
    values_.assign(size_t(count) * size_t(stride_), T(0));
    for (int c = 0; c < count; c++)
      for (int p = 0; p < pairs_; p++) values_[size_t(c * stride_ + p)] = T(a.data()[c * pairs_ + p]);
  }
  int ntypes() const { return ntypes_; }
  T only(int c) const { return values_[size_t(c * stride_)]; }  // of the one type
  vec<T> get(int c, ivec<T> pair) const { return lookup(values_.data() + size_t(c * stride_), pairs_, pair); }

 private:
  int ntypes_ = 0, pairs_ = 0, stride_ = 0;
  std::vector<T> values_;
};

// f/r and the energy of a vector of pairs. One form is one potential:
//   static constexpr int count: coefficients a pair of types has, the first one the squared cutoff
//   evaluate<want>(r2, c, fpair, energy), with c(k) the k-th coefficient
struct LennardJones {
  static constexpr int count = 4;  // rc², 48 ε σ¹², 24 ε σ⁶, energy at the cutoff if shifted
  template <Want want, class T, class C> static void evaluate(vec<T> r2, const C& c, vec<T>& fpair, vec<T>& energy) {
    const vec<T> i2 = reciprocal(r2), i6 = i2 * i2 * i2, a = c(1), b = c(2);
    fpair = (a * i6 - b) * i6 * i2;
    if constexpr (want == Want::all) energy = i6 * (a * T(1.0 / 12) * i6 - b * T(1.0 / 6)) - c(3);
  }
};

// Ziegler, Biersack, Littmark 1985, with a switching polynomial t² (A + B t), t = r - r_inner, in the derivative, that takes
// force and curvature to zero at the outer cutoff, and a constant that does so with the energy.
struct Zbl {
  static constexpr int count = 7;  // rc², Z_i Z_j e², 1/a, r_inner, A, B, constant
  template <Want want, class T, class C> static void evaluate(vec<T> r2, const C& c, vec<T>& fpair, vec<T>& energy) {
    static constexpr double share[4] = {0.02817, 0.28022, 0.50986, 0.18175}, decay[4] = {0.20162, 0.40290, 0.94229, 3.19980};
    const vec<T> r = sqrt(r2), ir = T(1) / r, ia = c(2), zz = c(1);
    vec<T> phi{}, slope{};
    for (int k = 0; k < 4; k++) {
      const vec<T> d = ia * T(decay[k]), e = T(share[k]) * exp(-d * r);
      phi += e, slope -= d * e;
    }
    const vec<T> t = maximum(r - c(3), vec<T>{}), a = c(4), b = c(5);
    const vec<T> derivative = zz * ir * (slope - phi * ir) + t * t * (a + b * t);
    fpair = -derivative * ir;
    if constexpr (want == Want::all) energy = zz * phi * ir + t * t * t * (a * T(1.0 / 3) + b * t * T(0.25)) + c(6);
  }
};

template <class T, class Form> class PairKernel {
 public:
  using Input = py::array_t<double, py::array::c_style | py::array::forcecast>;
  explicit PairKernel(const Input& coefficients) : coefficients_(coefficients, Form::count) {
    for (int i = 0; i < coefficients.shape(1); i++)
      for (int j = 0; j < coefficients.shape(2); j++) cutoff2_ = std::fmax(cutoff2_, coefficients.at(0, i, j));
  }

  py::tuple compute(const py::array& positions, const py::array& types, int64_t nlocal, const py::array& offsets,
                    const py::array& indices, bool half, const py::array& forces, int want, const py::object& energies,
                    const py::object& virials, int threads) {
    const Atoms a = atoms_of(positions, types, nlocal, offsets, indices, half);
    double* f = array_of<double>(forces, a.nall, 3, "forces", true);
    double* e = optional_array<double>(energies, a.nall, 1, "energies");
    double* v = optional_array<double>(virials, a.nall, 6, "virials");
    const Want w = e || v ? Want::all : Want(want);
    Sums sums;
    double invalid;
    {
      py::gil_scoped_release release;
      threads = a.nlocal < 256 ? 1 : threads;
      invalid = rows_.pack(a, coefficients_.ntypes());
      forces_.begin(a, threads);
      std::vector<Sums> parts(static_cast<size_t>(threads));
      over_rows(a.nlocal, threads, [&](int t, int64_t lo, int64_t hi) {
        double* rows = a.half ? forces_.of(t) : nullptr;
        Sums& s = parts[size_t(t)];
        const auto go = [&](auto h, auto types) {
          if (w == Want::forces) run<h(), types(), Want::forces>(a, lo, hi, rows, f, e, v, s);
          else if (w == Want::virial) run<h(), types(), Want::virial>(a, lo, hi, rows, f, e, v, s);
          else run<h(), types(), Want::all>(a, lo, hi, rows, f, e, v, s);
        };
        const auto style = [&](auto types) { a.half ? go(std::true_type(), types) : go(std::false_type(), types); };
        coefficients_.ntypes() > 1 ? style(std::true_type()) : style(std::false_type());
      });
      forces_.end(a, f, e);
      for (const Sums& s : parts) {
        sums.energy += s.energy;
        for (int c = 0; c < 6; c++) sums.virial[c] += s.virial[c];
      }
    }
    return result(sums, w, invalid);
  }

 private:
  template <bool half, bool types, Want want>
  void run(const Atoms& a, int64_t lo, int64_t hi, double* rows, double* f, double* e, double* v, Sums& sums) const {
    using I = int_of<T>;
    Stream<T> s;
    Gains<T, half, want> gains{a, rows, f, e, v, {}, {}};
    const vec<T> limit = splat(T(cutoff2_));
    const index_vec<T> spares = spare_rows<T>(a.nall);
    alignas(64) int32_t tail[lanes<T>];
    const auto add = [&](int64_t i, int64_t begin, int n) __attribute__((always_inline)) {
      const auto centre = rows_.centre(i);
      const I own = types ? a.type[i] * coefficients_.ntypes() : 0;
      for (int k = 0; k < n; k += lanes<T>) {
        bits_t in;
        const int32_t* j = next<T>(a.indices + begin + k, n - k, spares, tail, in);
        vec<T> dx, dy, dz, w;
        rows_.displacement(centre, j, dx, dy, dz, w);
        const vec<T> r2 = dx * dx + dy * dy + dz * dz;
        in &= less(r2, limit);
        if constexpr (types) {
          const ivec<T> pair = (ivec<T>)w + own;
          in &= less(r2, coefficients_.get(0, pair));
          compress(s.w + s.count, in, (vec<T>)pair);
        }
        compress(s.x + s.count, in, dx), compress(s.y + s.count, in, dy), compress(s.z + s.count, in, dz);
        compress(s.r2 + s.count, in, r2);
        compress_index<T>(s.j + s.count, in, load_index<T>(j));
        const int more = __builtin_popcount(in);
        if (want == Want::all && v) std::fill_n(s.owner + s.count, more, int32_t(i));
        s.count += more;
      }
    };
    const auto flush = [&]() __attribute__((always_inline)) {
      for (int k = 0; k < s.count; k += lanes<T>) {
        const ivec<T> pair = types ? (ivec<T>)load(s.w + k) : ivec<T>{};
        const auto c = [&](int which) __attribute__((always_inline)) {
          return types ? coefficients_.get(which, pair) : splat(coefficients_.only(which));
        };
        vec<T> fpair, energy{};
        Form::template evaluate<want, T>(load(s.r2 + k), c, fpair, energy);
        gains.add(s, k, fpair, energy);
      }
      gains.sum_up(s);
    };
    through<T>(a, lo, hi, s, add, flush);
    gains.to(sums);
  }

  Coefficients<T> coefficients_;
  double cutoff2_ = 0;
  Packed<T> rows_;
  Forces forces_;
};

// ---- embedded atoms ------------------------------------------------------------------------------------------------

// E = Σ_i F(ρ_i) + Σ_{i<j} φ(r_ij), ρ_i = Σ_j ρ_{j→i}(r_ij); F, ρ and r φ are piecewise cubics
// ((c0 p + c1) p + c2) p + c3 of p in [0, 1] between knots.
template <class T> class Eam {
 public:
  using Input = py::array_t<double, py::array::c_style | py::array::forcecast>;

  // embed (ntypes, nrho, 4), pair (ntypes, ntypes, nr, 8): the row of types (i, j) holds the density that an atom of type j
  // makes at one of type i, and r φ_ij.
  Eam(const Input& embed, double drho, const Input& pair, double dr, double cutoff)
      : drho_(drho), rdr_(T(1.0 / dr)), rdr2_(2 * rdr_), rdr3_(3 * rdr_), cutoff2_(T(cutoff * cutoff)) {
    if (embed.ndim() != 3 || embed.shape(2) != 4 || embed.shape(1) < 2 || pair.ndim() != 4 || pair.shape(0) != embed.shape(0) ||
        pair.shape(1) != embed.shape(0) || pair.shape(2) < 2 || pair.shape(3) != 8)
      throw std::invalid_argument("tables must be (ntypes, nrho, 4) and (ntypes, ntypes, nr, 8)");
    ntypes_ = int(embed.shape(0)), nrho_ = int(embed.shape(1)), nr_ = int(pair.shape(2));
    if (ntypes_ > 64) throw std::invalid_argument("an embedded-atom potential may have at most 64 species");
    if (pair.size() / 8 > std::numeric_limits<int32_t>::max()) throw std::invalid_argument("the tables are too large");
    embed_.assign(embed.data(), embed.data() + embed.size());
    const size_t knots = size_t(pair.size() / 8);
    T *density = density_.need(knots * 4), *slopes = slopes_.need(knots * 8);
    const double rdr = 1.0 / dr;
    for (size_t k = 0; k < knots; k++) {
      const double* c = pair.data() + 8 * k;
      for (int l = 0; l < 4; l++) density[4 * k + l] = T(c[l]), slopes[8 * k + 4 + l] = T(c[4 + l]);
      slopes[8 * k] = T(3 * rdr * c[0]), slopes[8 * k + 1] = T(2 * rdr * c[1]), slopes[8 * k + 2] = T(rdr * c[2]);
      slopes[8 * k + 3] = T(0);
    }
  }

  // Densities of the local atoms, then F'(ρ) to slope[0, nlocal); returns Σ F(ρ) (nan unless wanted).
  double density(const py::array& positions, const py::array& types, int64_t nlocal, const py::array& offsets,
                 const py::array& indices, bool half, const py::array& slope, bool energy, const py::object& energies, int threads) {
    const Atoms a = atoms_of(positions, types, nlocal, offsets, indices, half);
    double* fp = array_of<double>(slope, a.nall, 1, "slope", true);
    double* e = optional_array<double>(energies, a.nall, 1, "energies");
    py::gil_scoped_release release;
    threads = a.nlocal < 256 ? 1 : threads;
    const double invalid = rows_.pack(a, ntypes_);
    nall_ = a.nall, pairs_ = a.offsets[a.nlocal];
    Mask* masks = masks_.need(size_t(pairs_ / lanes<T> + a.nlocal + 1));
    const size_t stride = size_t(a.nall + spare);
    double* rho = rho_.need(stride * size_t(threads));
    over_rows(a.nlocal, threads, [&](int t, int64_t lo, int64_t hi) {
      double* mine = rho + stride * size_t(t);
      std::memset(mine, 0, stride * sizeof(double));
      const auto go = [&](auto h) {
        ntypes_ > 1 ? densities<h(), true>(a, lo, hi, mine, masks) : densities<h(), false>(a, lo, hi, mine, masks);
      };
      a.half ? go(std::true_type()) : go(std::false_type());
    });
    double total = 0;
    for (int64_t i = 0; i < a.nlocal; i++) {
      double r = rho[i];
      for (int t = 1; t < threads; t++) r += rho[stride * size_t(t) + size_t(i)];
      total += embedding(a.type[i], r, fp[i], energy || e ? e ? e + i : &unused_ : nullptr);
    }
    return energy || e ? total + invalid : std::numeric_limits<double>::quiet_NaN();
  }

  // After density() with the same rows and list: slope holds F' of all rows.
  py::tuple forces(const py::array& positions, const py::array& types, int64_t nlocal, const py::array& offsets,
                   const py::array& indices, bool half, const py::array& slope, const py::array& forces, int want,
                   const py::object& energies, const py::object& virials, int threads) {
    const Atoms a = atoms_of(positions, types, nlocal, offsets, indices, half);
    const double* fp = array_of<double>(slope, a.nall, 1, "slope");
    double* f = array_of<double>(forces, a.nall, 3, "forces", true);
    double* e = optional_array<double>(energies, a.nall, 1, "energies");
    double* v = optional_array<double>(virials, a.nall, 6, "virials");
    if (a.nall != nall_ || a.offsets[a.nlocal] != pairs_) throw std::invalid_argument("forces() belongs to another density()");
    const Want w = e || v ? Want::all : Want(want);
    Sums sums;
    {
      py::gil_scoped_release release;
      threads = a.nlocal < 256 ? 1 : threads;
      rows_.set_tagged(a, fp, ntypes_ > 1);
      forces_.begin(a, threads);
      std::vector<Sums> parts(static_cast<size_t>(threads));
      over_rows(a.nlocal, threads, [&](int t, int64_t lo, int64_t hi) {
        double* rows = a.half ? forces_.of(t) : nullptr;
        Sums& s = parts[size_t(t)];
        const auto go = [&](auto h, auto alloy) {
          if (w == Want::forces) run<h(), alloy(), Want::forces>(a, lo, hi, fp, rows, f, e, v, s);
          else if (w == Want::virial) run<h(), alloy(), Want::virial>(a, lo, hi, fp, rows, f, e, v, s);
          else run<h(), alloy(), Want::all>(a, lo, hi, fp, rows, f, e, v, s);
        };
        const auto style = [&](auto alloy) { a.half ? go(std::true_type(), alloy) : go(std::false_type(), alloy); };
        ntypes_ > 1 ? style(std::true_type()) : style(std::false_type());
      });
      forces_.end(a, f, e);
      for (const Sums& s : parts) {
        sums.energy += s.energy;
        for (int c = 0; c < 6; c++) sums.virial[c] += s.virial[c];
      }
    }
    return result(sums, w, 0.0);
  }

 private:
  using Mask = std::conditional_t<lanes<T> <= 8, uint8_t, uint16_t>;
  using I = int_of<T>;
  static int64_t mask_place(const Atoms& a, int64_t i) { return a.offsets[i] / lanes<T> + i; }

  // Knot and place between knots.
  OSTWALD_INLINE void knot(vec<T> r, ivec<T>& m, vec<T>& p) const {
    const vec<T> q = r * rdr_;
    m = to_int(q);
    const ivec<T> last = ivec<T>{} + I(nr_ - 2);
    m = m < last ? m : last;
    m = m > 0 ? m : ivec<T>{};  // two atoms in one place: r is NaN here, and so the energy
    p = minimum(q - to_real(m), splat(T(1)));
  }
  static vec<T> value(const vec<T> (&c)[4], vec<T> p) { return ((c[0] * p + c[1]) * p + c[2]) * p + c[3]; }
  vec<T> derivative(const vec<T> (&c)[4], vec<T> p) const { return (c[0] * rdr3_ * p + c[1] * rdr2_) * p + c[2] * rdr_; }
  static vec<T> quadratic(const vec<T> (&c)[4], vec<T> p) { return (c[0] * p + c[1]) * p + c[2]; }

  // Both table rows of a pair: what j gives to i, and what i gives to j.
  OSTWALD_INLINE static ivec<T> pair_of(I ti, ivec<T> tj, int ntypes) { return ti * I(ntypes) + tj; }
  OSTWALD_INLINE static ivec<T> turned(I ti, ivec<T> tj, int ntypes) { return tj * I(ntypes) + ti; }

  template <bool half, bool alloy> void densities(const Atoms& a, int64_t lo, int64_t hi, double* rho, Mask* masks) const {
    Stream<T> s;
    const vec<T> limit = splat(cutoff2_);
    const index_vec<T> spares = spare_rows<T>(a.nall);
    const T* table = density_.data();
    alignas(64) int32_t tail[lanes<T>];
    alignas(64) I index[lanes<T>];
    const auto add = [&](int64_t i, int64_t begin, int n) __attribute__((always_inline)) {
      const auto centre = rows_.centre(i);
      Mask* mask = masks + mask_place(a, i) + (begin - a.offsets[i]) / lanes<T>;
      for (int k = 0; k < n; k += lanes<T>) {
        bits_t in;
        const int32_t* j = next<T>(a.indices + begin + k, n - k, spares, tail, in);
        vec<T> dx, dy, dz, w;
        rows_.displacement(centre, j, dx, dy, dz, w);
        const vec<T> r2 = dx * dx + dy * dy + dz * dz;
        in &= less(r2, limit);
        *mask++ = Mask(in);
        compress(s.r2 + s.count, in, r2);
        if constexpr (half) compress_index<T>(s.j + s.count, in, load_index<T>(j));
        if constexpr (alloy) {
          compress(s.w + s.count, in, (vec<T>)pair_of(a.type[i], (ivec<T>)w, ntypes_));
          if constexpr (half) compress(s.v + s.count, in, (vec<T>)turned(a.type[i], (ivec<T>)w, ntypes_));
        }
        s.count += __builtin_popcount(in);
      }
    };
    const auto flush = [&]() __attribute__((always_inline)) {
      for (int k = 0; k < s.count; k += lanes<T>) {
        ivec<T> m;
        vec<T> p, c[4];
        const vec<T> r2 = load(s.r2 + k);
        knot(r2 * rsqrt(r2), m, p);
        const ivec<T> at_i = alloy ? m + (ivec<T>)load(s.w + k) * I(nr_) : m;
        std::memcpy(index, &at_i, sizeof index);
        load_rows(table, 4, index, c[0], c[1], c[2], c[3]);
        vec<T> density = value(c, p);
        store(s.x + k, density);
        if constexpr (half) {
          if constexpr (alloy) {
            const ivec<T> at_j = m + (ivec<T>)load(s.v + k) * I(nr_);
            std::memcpy(index, &at_j, sizeof index);
            load_rows(table, 4, index, c[0], c[1], c[2], c[3]);
            density = value(c, p);
            store(s.y + k, density);
          }
          const T* given = (alloy ? s.y : s.x) + k;
          for (int l = 0; l < lanes<T>; l++) rho[s.j[k + l]] += double(given[l]);
        }
      }
      for (int q = 0; q < s.segments; q++) {
        vec<T> got{};
        const T* arrays[1] = {s.x};
        sum_segment<T>(arrays, s.segment[q].begin, s.segment[q].end, got);
        rho[s.segment[q].i] += sum_double(got);
      }
    };
    through<T>(a, lo, hi, s, add, flush);
  }

  // F(ρ) (added to *energy where given) and F'(ρ); straight on beyond the last knot.
  double embedding(int type, double rho, double& slope, double* energy) const {
    const double q = rho / drho_;
    int m = q > 0 ? q < nrho_ - 2 ? int(q) : nrho_ - 2 : 0;
    const double p = std::fmin(q - m, 1.0);
    const double* c = embed_.data() + 4 * (size_t(type) * size_t(nrho_) + size_t(m));
    slope = ((3 * c[0] * p + 2 * c[1]) * p + c[2]) / drho_;
    if (!(q == q)) slope = q;  // NaN stays NaN
    if (!energy) return 0;
    double f = ((c[0] * p + c[1]) * p + c[2]) * p + c[3];
    const double end = (nrho_ - 1) * drho_;
    if (rho > end) f += slope * (rho - end);
    *energy += f;
    return f;
  }

  template <bool half, bool alloy, Want want>
  void run(const Atoms& a, int64_t lo, int64_t hi, const double* fp, double* rows, double* f, double* e, double* v,
           Sums& sums) const {
    Stream<T> s;
    Gains<T, half, want> gains{a, rows, f, e, v, {}, {}};
    const index_vec<T> spares = spare_rows<T>(a.nall);
    const T* table = slopes_.data();
    alignas(64) I index[lanes<T>];
    const auto add = [&](int64_t i, int64_t begin, int n) __attribute__((always_inline)) {
      const Mask* mask = masks_.data() + mask_place(a, i) + (begin - a.offsets[i]) / lanes<T>;
      const int32_t* list = a.indices + begin;
      int count = s.count, k = 0;
      for (; k + lanes<T> <= n; k += lanes<T>, mask++) {
        compress_index<T>(s.j + count, *mask, load_index<T>(list + k));
        count += __builtin_popcount(*mask);
      }
      if (k < n) {
        compress_index<T>(s.j + count, *mask, load_index<T>(list + k, n - k, spares));
        count += __builtin_popcount(*mask);
      }
      store_index<T>(s.j + count, spares);
      const auto centre = rows_.centre(i);
      const vec<T> own = splat(T(fp[i]));
      for (k = s.count; k < count; k += lanes<T>) {
        vec<T> dx, dy, dz, w;
        rows_.displacement(centre, s.j + k, dx, dy, dz, w);
        store(s.x + k, dx), store(s.y + k, dy), store(s.z + k, dz);
        store(s.r2 + k, dx * dx + dy * dy + dz * dz);
        if constexpr (alloy) {
          store(s.u + k, own), store(s.w + k, rows_.number(w, true));
          store(s.v + k, (vec<T>)rows_.tag(w));
        } else {
          store(s.w + k, own + rows_.number(w, false));
        }
      }
      if (alloy || (want == Want::all && v)) std::fill_n(s.owner + s.count, count - s.count, int32_t(i));
      s.count = count;
    };
    const auto flush = [&]() __attribute__((always_inline)) {
      for (int k = 0; k < s.count; k += lanes<T>) {
        vec<T> p, density[4], pair[4];
        ivec<T> m, at_j{};
        const vec<T> r2 = load(s.r2 + k), ir = rsqrt(r2);
        knot(r2 * ir, m, p);
        ivec<T> at_i = m;
        if constexpr (alloy) {
          const ivec<T> tj = (ivec<T>)load(s.v + k);
          ivec<T> ti;
          for (int l = 0; l < lanes<T>; l++) index[l] = a.type[s.owner[k + l]];
          std::memcpy(&ti, index, sizeof ti);
          at_i += (ti * I(ntypes_) + tj) * I(nr_), at_j = m + (tj * I(ntypes_) + ti) * I(nr_);
        }
        std::memcpy(index, &at_i, sizeof index);
        load_rows(table, 8, index, density[0], density[1], density[2], density[3]);
        load_rows(table + 4, 8, index, pair[0], pair[1], pair[2], pair[3]);
        const vec<T> phi = value(pair, p) * ir;
        vec<T> slope = (derivative(pair, p) - phi) * ir;  // of φ
        slope += load((alloy ? s.u : s.w) + k) * quadratic(density, p);
        if constexpr (alloy) {
          std::memcpy(index, &at_j, sizeof index);
          load_rows(table, 8, index, density[0], density[1], density[2], density[3]);
          slope += load(s.w + k) * quadratic(density, p);
        }
        gains.add(s, k, -slope * ir, phi);
      }
      gains.sum_up(s);
    };
    through<T>(a, lo, hi, s, add, flush);
    gains.to(sums);
  }

  int ntypes_ = 0, nrho_ = 0, nr_ = 0;
  double drho_, unused_ = 0;
  T rdr_, rdr2_, rdr3_, cutoff2_;
  std::vector<double> embed_;
  Scratch<T> density_;  // of each knot: c0, c1, c2, c3 of ρ
  Scratch<T> slopes_;   // of each knot: dρ/dr as (c0 p + c1) p + c2, a zero, then c0, c1, c2, c3 of r φ
  Packed<T> rows_;
  Scratch<Mask> masks_;
  Scratch<double> rho_;
  Forces forces_;
  int64_t nall_ = -1, pairs_ = -1;
};

template <class T, class Form> void pair_class(py::module_& m, const char* name) {
  using Kernel = PairKernel<T, Form>;
  py::class_<Kernel>(m, name)
      .def(py::init<const typename Kernel::Input&>(), py::arg("coefficients"))
      .def("compute", &Kernel::compute, py::arg("positions"), py::arg("types"), py::arg("nlocal"), py::arg("offsets"),
           py::arg("indices"), py::arg("half"), py::arg("forces"), py::arg("want"), py::arg("energies"), py::arg("virials"),
           py::arg("threads"));
}

template <class T> void eam_class(py::module_& m, const char* name) {
  using Kernel = Eam<T>;
  py::class_<Kernel>(m, name)
      .def(py::init<const typename Kernel::Input&, double, const typename Kernel::Input&, double, double>(), py::arg("embed"),
           py::arg("drho"), py::arg("pair"), py::arg("dr"), py::arg("cutoff"))
      .def("density", &Kernel::density, py::arg("positions"), py::arg("types"), py::arg("nlocal"), py::arg("offsets"),
           py::arg("indices"), py::arg("half"), py::arg("slope"), py::arg("energy"), py::arg("energies"), py::arg("threads"))
      .def("forces", &Kernel::forces, py::arg("positions"), py::arg("types"), py::arg("nlocal"), py::arg("offsets"),
           py::arg("indices"), py::arg("half"), py::arg("slope"), py::arg("forces"), py::arg("want"), py::arg("energies"),
           py::arg("virials"), py::arg("threads"));
}

}  // namespace

PYBIND11_MODULE(_pair, m) {
  m.doc() = "Pair potentials and the embedded-atom method; want: 0 forces, 1 virial too, 2 energy too. Å, eV.";
  pair_class<double, LennardJones>(m, "LennardJones");
  pair_class<float, LennardJones>(m, "LennardJonesMixed");
  pair_class<double, Zbl>(m, "Zbl");
  pair_class<float, Zbl>(m, "ZblMixed");
  eam_class<double>(m, "Eam");
  eam_class<float>(m, "EamMixed");
}
