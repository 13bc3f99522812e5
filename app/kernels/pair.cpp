// Pair potentials (Lennard-Jones, ZBL) and the embedded-atom method.
//
// Neighbours are read a vector at a time; those inside the cutoff are compressed into a small buffer that stays in the
// first cache, and the arithmetic then runs over full vectors. Half lists scatter to the neighbour's row.
#include "pair.hpp"

using namespace ostwald;

namespace {

constexpr int tensor_a[6] = {0, 1, 2, 1, 0, 0}, tensor_b[6] = {0, 1, 2, 2, 2, 1};  // xx yy zz yz xz xy

struct Sums {
  double energy = 0, virial[6] = {0, 0, 0, 0, 0, 0};
};

// The atom's neighbours that are inside the cutoff.
template <class T> struct Inside {
  alignas(64) T x[chunk + 32], y[chunk + 32], z[chunk + 32], r2[chunk + 32], w[chunk + 32];
  alignas(64) int32_t j[chunk + 32];
};

template <class T, bool displacements, bool bits, bool masks, class Mask>
inline int gather(const Packed<T>& rows, const typename Packed<T>::Centre& centre, int32_t i, const int32_t* list, int64_t n,
                  T cutoff2, Inside<T>& in, Mask* mask) {
  int count = 0;
  const vec<T> limit = splat(cutoff2);
  alignas(64) int32_t tail[lanes<T>];
  for (int64_t k = 0; k < n; k += lanes<T>) {
    const int32_t* j = list + k;
    bits_t lane = all_lanes<T>;
    if (n - k < lanes<T>) {
      const index_vec<T> a = load_index<T>(j, n - k, i);
      std::memcpy(tail, &a, sizeof a);
      j = tail;
      lane = first<T>(n - k);
    }
    vec<T> dx, dy, dz, w;
    rows.displacement(centre, j, dx, dy, dz, w);
    const vec<T> r2 = dx * dx + dy * dy + dz * dz;
    const bits_t m = less(r2, limit) & lane;
    if constexpr (displacements) {
      compress(in.x + count, m, dx);
      compress(in.y + count, m, dy);
      compress(in.z + count, m, dz);
    }
    if constexpr (bits) compress(in.w + count, m, w);
    compress(in.r2 + count, m, r2);
    compress_index<T>(in.j + count, m, load_index<T>(j));
    if constexpr (masks) mask[k / lanes<T>] = Mask(m);
    count += __builtin_popcount(m);
  }
  for (int k = 0; k < lanes<T>; k++) in.j[count + k] = i;
  if constexpr (bits) store(in.w + count, vec<T>{});
  return count;
}

// A pair's r ⊗ f, half of it to each end that is local.
template <class T>
void atom_virials(double* virials, int64_t i, const int32_t* j, int n, int64_t nlocal, bool half, vec<T> fpair, vec<T> dx, vec<T> dy,
                  vec<T> dz) {
  for (int k = 0; k < n; k++) {
    const double d[3] = {double(dx[k]), double(dy[k]), double(dz[k])};
    for (int c = 0; c < 6; c++) {
      const double v = 0.5 * double(fpair[k]) * d[tensor_a[c]] * d[tensor_b[c]];
      virials[6 * i + c] += v;
      if (half && j[k] < nlocal) {
#pragma omp atomic
        virials[6 * int64_t(j[k]) + c] += v;
      }
    }
  }
}

// What a batch of pairs adds to: the atom's own force and energy, and the totals.
template <class T, bool half, Want want> struct Gains {
  vec<T> fx{}, fy{}, fz{}, e{}, v[6] = {};

  void add(int64_t i, const int32_t* j, int n, int64_t nlocal, vec<T> fpair, vec<T> energy, vec<T> dx, vec<T> dy, vec<T> dz,
           double* forces, double* virials) {
    const vec<T> px = fpair * dx, py = fpair * dy, pz = fpair * dz;
    fx += px, fy += py, fz += pz;
    if constexpr (half) subtract_rows(forces, j, n, px, py, pz, want == Want::all ? energy * T(-0.5) : vec<T>{});
    if constexpr (want != Want::forces) {
      // a pair of two local atoms is in a half list once, every other pair is met from both ends
      const vec<T> weight = half ? select(below(j, lanes<T>, nlocal), splat(T(1)), splat(T(0.5))) : splat(T(0.5));
      const vec<T> qx = weight * px, qy = weight * py, qz = weight * pz;
      v[0] += qx * dx, v[1] += qy * dy, v[2] += qz * dz, v[3] += qy * dz, v[4] += qx * dz, v[5] += qx * dy;
      if constexpr (want == Want::all) {
        e += weight * energy;
        e_own += T(0.5) * energy;
        if (virials) atom_virials<T>(virials, i, j, n, nlocal, half, fpair, dx, dy, dz);
      }
    }
  }
  vec<T> e_own{};
};

template <class T, Want want> struct Totals {
  Total<T> e, v[6];

  template <bool half>
  void take(const Gains<T, half, want>& g, int64_t i, double* rows, double* forces, double* energies) {
    const double x = sum_double(g.fx), y = sum_double(g.fy), z = sum_double(g.fz);
    if constexpr (half)
      rows[4 * i] += x, rows[4 * i + 1] += y, rows[4 * i + 2] += z;
    else
      forces[3 * i] += x, forces[3 * i + 1] += y, forces[3 * i + 2] += z;
    if constexpr (want != Want::forces)
      for (int c = 0; c < 6; c++) v[c].add(g.v[c]);
    if constexpr (want == Want::all) {
      e.add(g.e);
      if (half) rows[4 * i + 3] += sum_double(g.e_own);
      else if (energies) energies[i] += sum_double(g.e_own);
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

// Coefficients of pairs of types; a row of each coefficient, padded, for every type of the central atom.
template <class T> class Coefficients {
 public:
  Coefficients() = default;
  Coefficients(const py::array_t<double, py::array::c_style | py::array::forcecast>& a, int count) {
    if (a.ndim() != 3 || a.shape(0) != count || a.shape(1) != a.shape(2) || a.shape(1) < 1)
      throw std::invalid_argument("coefficients must be (" + std::to_string(count) + ", ntypes, ntypes)");
    ntypes_ = int(a.shape(1)), count_ = count;
    stride_ = (ntypes_ + 15) / 16 * 16;
    values_.assign(size_t(count_) * size_t(ntypes_) * size_t(stride_), T(0));
    for (int c = 0; c < count; c++)
      for (int i = 0; i < ntypes_; i++)
        for (int j = 0; j < ntypes_; j++) values_[size_t((i * count_ + c) * stride_ + j)] = T(a.at(c, i, j));
  }
  int ntypes() const { return ntypes_; }
  // Of central type i and the types in the lanes of j.
  vec<T> get(int c, int i, ivec<T> j) const {
    const T* row = values_.data() + size_t((i * count_ + c) * stride_);
    return ntypes_ == 1 ? splat(row[0]) : lookup(row, ntypes_, j);
  }

 private:
  int ntypes_ = 0, count_ = 0, stride_ = 0;
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
        const auto go = [&](auto h) {
          if (w == Want::forces) run<h(), Want::forces>(a, lo, hi, rows, f, e, v, s);
          else if (w == Want::virial) run<h(), Want::virial>(a, lo, hi, rows, f, e, v, s);
          else run<h(), Want::all>(a, lo, hi, rows, f, e, v, s);
        };
        a.half ? go(std::true_type()) : go(std::false_type());
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
  template <bool half, Want want>
  void run(const Atoms& a, int64_t lo, int64_t hi, double* rows, double* f, double* e, double* v, Sums& s) const {
    const bool types = coefficients_.ntypes() > 1;
    Inside<T> in;
    Totals<T, want> totals;
    for (int64_t i = lo; i < hi; i++) {
      const auto centre = rows_.centre(i);
      const int ti = a.type[i];
      Gains<T, half, want> gains;
      for (int64_t begin = a.offsets[i]; begin < a.offsets[i + 1]; begin += chunk) {
        const int64_t n = std::min<int64_t>(chunk, a.offsets[i + 1] - begin);
        const int32_t* list = a.indices + begin;
        const int count = types ? gather<T, true, true, false, char>(rows_, centre, int32_t(i), list, n, T(cutoff2_), in, nullptr)
                                : gather<T, true, false, false, char>(rows_, centre, int32_t(i), list, n, T(cutoff2_), in, nullptr);
        for (int k = 0; k < count; k += lanes<T>) {
          bits_t lane = first<T>(count - k);
          const vec<T> r2 = select(lane, load(in.r2 + k), splat(T(1)));
          const ivec<T> tj = types ? (ivec<T>)load(in.w + k) : ivec<T>{};
          const auto c = [&](int which) { return coefficients_.get(which, ti, tj); };
          if (types) lane &= less(r2, c(0));
          vec<T> fpair, energy{};
          Form::template evaluate<want, T>(r2, c, fpair, energy);
          fpair = select(lane, fpair, vec<T>{});
          if constexpr (want == Want::all) energy = select(lane, energy, vec<T>{});
          const vec<T> zero{};
          gains.add(i, in.j + k, std::min(count - k, lanes<T>), a.nlocal, fpair, energy, select(lane, load(in.x + k), zero),
                    select(lane, load(in.y + k), zero), select(lane, load(in.z + k), zero), rows, v);
        }
      }
      totals.take(gains, i, rows, f, e);
    }
    totals.to(s);
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
    T* p = pair_.need(size_t(pair.size()));
    for (int64_t k = 0; k < pair.size(); k++) p[k] = T(pair.data()[k]);
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
    double* rho = rho_.need(size_t(a.nall) * size_t(threads));
    over_rows(a.nlocal, threads, [&](int t, int64_t lo, int64_t hi) {
      double* mine = rho + size_t(a.nall) * size_t(t);
      std::memset(mine, 0, size_t(a.nall) * sizeof(double));
      const auto go = [&](auto h) {
        ntypes_ > 1 ? densities<h(), true>(a, lo, hi, mine, masks) : densities<h(), false>(a, lo, hi, mine, masks);
      };
      a.half ? go(std::true_type()) : go(std::false_type());
    });
    double total = 0;
    for (int64_t i = 0; i < a.nlocal; i++) {
      double r = rho[i];
      for (int t = 1; t < threads; t++) r += rho[size_t(a.nall) * size_t(t) + size_t(i)];
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
  using Mask = std::conditional_t<sizeof(T) == 8, uint8_t, uint16_t>;
  using I = int_of<T>;
  static int64_t mask_place(const Atoms& a, int64_t i) { return a.offsets[i] / lanes<T> + i; }

  // Knot and place between knots.
  void knot(vec<T> r, ivec<T>& m, vec<T>& p) const {
    const vec<T> q = r * rdr_;
    m = to_int(q);
    const ivec<T> last = ivec<T>{} + I(nr_ - 2);
    m = m < last ? m : last;
    p = minimum(q - to_real(m), splat(T(1)));
  }
  static vec<T> value(const vec<T> (&c)[4], vec<T> p) { return ((c[0] * p + c[1]) * p + c[2]) * p + c[3]; }
  vec<T> derivative(const vec<T> (&c)[4], vec<T> p) const { return (c[0] * rdr3_ * p + c[1] * rdr2_) * p + c[2] * rdr_; }

  template <bool half, bool alloy> void densities(const Atoms& a, int64_t lo, int64_t hi, double* rho, Mask* masks) const {
    Inside<T> in;
    const T* table = pair_.data();
    alignas(64) I index[lanes<T>];
    alignas(64) T given[lanes<T>];
    for (int64_t i = lo; i < hi; i++) {
      const auto centre = rows_.centre(i);
      const I own = alloy ? a.type[i] * ntypes_ : 0;
      Mask* mask = masks + mask_place(a, i);
      vec<T> got{};
      for (int64_t begin = a.offsets[i]; begin < a.offsets[i + 1]; begin += chunk) {
        const int64_t n = std::min<int64_t>(chunk, a.offsets[i + 1] - begin);
        const int count = gather<T, false, alloy, true, Mask>(rows_, centre, int32_t(i), a.indices + begin, n, cutoff2_, in, mask);
        mask += (n + lanes<T> - 1) / lanes<T>;
        for (int k = 0; k < count; k += lanes<T>) {
          const bits_t lane = first<T>(count - k);
          const vec<T> r2 = select(lane, load(in.r2 + k), splat(T(1)));
          ivec<T> m, tj{};
          vec<T> p, c[4];
          knot(sqrt(r2), m, p);
          if constexpr (alloy) tj = (ivec<T>)load(in.w + k);
          const ivec<T> to_i = m + (own + tj) * I(nr_);
          std::memcpy(index, &to_i, sizeof index);
          load_rows(table, 8, index, c[0], c[1], c[2], c[3]);
          vec<T> density = value(c, p);
          got += select(lane, density, vec<T>{});
          if constexpr (half) {
            if constexpr (alloy) {
              const ivec<T> to_j = m + (tj * I(ntypes_) + I(a.type[i])) * I(nr_);
              std::memcpy(index, &to_j, sizeof index);
              load_rows(table, 8, index, c[0], c[1], c[2], c[3]);
              density = value(c, p);
            }
            store(given, density);
            const int32_t* j = in.j + k;
            if (count - k >= lanes<T>)
              for (int l = 0; l < lanes<T>; l++) rho[j[l]] += double(given[l]);
            else
              for (int l = 0; l < count - k; l++) rho[j[l]] += double(given[l]);
          }
        }
      }
      rho[i] += sum_double(got);
    }
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
  void run(const Atoms& a, int64_t lo, int64_t hi, const double* fp, double* rows, double* f, double* e, double* v, Sums& s) const {
    const T* table = pair_.data();
    alignas(64) I index[lanes<T>];
    alignas(64) int32_t inside[chunk + 32];
    Totals<T, want> totals;
    for (int64_t i = lo; i < hi; i++) {
      const auto centre = rows_.centre(i);
      const T fpi = T(fp[i]);
      const I own = alloy ? a.type[i] * ntypes_ : 0;
      const Mask* mask = masks_.data() + mask_place(a, i);
      Gains<T, half, want> gains;
      for (int64_t begin = a.offsets[i]; begin < a.offsets[i + 1]; begin += chunk) {
        const int64_t n = std::min<int64_t>(chunk, a.offsets[i + 1] - begin);
        int count = 0;
        int64_t k = 0;
        for (; k + lanes<T> <= n; k += lanes<T>, mask++) {
          compress_index<T>(inside + count, *mask, load_index<T>(a.indices + begin + k));
          count += __builtin_popcount(*mask);
        }
        if (k < n) {
          compress_index<T>(inside + count, *mask, load_index<T>(a.indices + begin + k, n - k, int32_t(i)));
          count += __builtin_popcount(*mask++);
        }
        for (int l = 0; l < lanes<T>; l++) inside[count + l] = int32_t(i);
        for (k = 0; k < count; k += lanes<T>) {
          const bits_t lane = first<T>(count - k);
          vec<T> dx, dy, dz, w, p, density[4], pair[4];
          ivec<T> m, tj{};
          rows_.displacement(centre, inside + k, dx, dy, dz, w);
          const vec<T> r2 = select(lane, dx * dx + dy * dy + dz * dz, splat(T(1)));
          const vec<T> ir = rsqrt(r2), r = r2 * ir;
          knot(r, m, p);
          if constexpr (alloy) tj = rows_.tag(w);
          const ivec<T> to_i = m + (own + tj) * I(nr_);
          std::memcpy(index, &to_i, sizeof index);
          load_rows(table, 8, index, density[0], density[1], density[2], density[3]);
          load_rows(table + 4, 8, index, pair[0], pair[1], pair[2], pair[3]);
          const vec<T> fpj = rows_.number(w, alloy);
          const vec<T> phi = value(pair, p) * ir;
          vec<T> slope = (derivative(pair, p) - phi) * ir;  // of φ
          const vec<T> at_i = derivative(density, p);
          if constexpr (alloy) {
            const ivec<T> to_j = m + (tj * I(ntypes_) + I(a.type[i])) * I(nr_);
            std::memcpy(index, &to_j, sizeof index);
            load_rows(table, 8, index, density[0], density[1], density[2], density[3]);
            slope += fpi * at_i + fpj * derivative(density, p);
          } else {
            slope += (fpi + fpj) * at_i;
          }
          const vec<T> fpair = select(lane, -slope * ir, vec<T>{});
          const vec<T> energy = want == Want::all ? select(lane, phi, vec<T>{}) : vec<T>{};
          gains.add(i, inside + k, int(std::min<int64_t>(count - k, lanes<T>)), a.nlocal, fpair, energy, dx, dy, dz, rows, v);
        }
      }
      totals.take(gains, i, rows, f, e);
    }
    totals.to(s);
  }

  int ntypes_ = 0, nrho_ = 0, nr_ = 0;
  double drho_, unused_ = 0;
  T rdr_, rdr2_, rdr3_, cutoff2_;
  std::vector<double> embed_;
  Scratch<T> pair_;
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
