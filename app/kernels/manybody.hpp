// What the short-ranged many-body kernels share: each lane of a vector is one central atom, so that the many small
// loops over the neighbours of an atom become loops over vectors, with no gather inside.
//
// A batch of atoms goes through: (1) `near`: the neighbours inside the cutoff, picked from the rank's list by single-
// precision distances with a margin; (2) the atoms sorted by their number of near neighbours, so that the lanes of a
// group are equally long; (3) per group, `slots`: displacement vectors [slot][lane], exact differences of doubles,
// where unused lanes hold a neighbour beyond every cutoff; (4) the kernel's terms, which leave a force on the
// neighbour of each slot; (5) `scatter`: forces to the rows of the neighbours and of the central atom, in double.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "simd.hpp"

namespace ostwald {

namespace py = pybind11;

template <class T> struct Aligned {  // 64-byte allocation for std::vector
  using value_type = T;
  Aligned() = default;
  template <class U> Aligned(const Aligned<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(64))); }
  void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t(64)); }
  template <class U> bool operator==(const Aligned<U>&) const { return true; }
  template <class U> bool operator!=(const Aligned<U>&) const { return false; }
};
template <class T> using aligned_vector = std::vector<T, Aligned<T>>;

// ---- functions of vectors -------------------------------------------------------------------------------------------

// sin and cos of pi x / 2 for |x| <= 1; exactly -1, 0, 1 at the ends. Relative error 1 ulp (double), 1e-7 (float).
template <class T> inline void sincos_quarter(vec<T> x, vec<T>& sine, vec<T>& cosine) {
  const vec<T> y = x * x;
  if constexpr (sizeof(T) == 8) {
    const double s[] = {1.57079632679489662,     -6.45964097506246201e-1, 7.96926262461656398e-2,
                        -4.68175413530425532e-3, 1.60441184713091592e-4,  -3.59884302046725752e-6,
                        5.69213642809862525e-8,  -6.68441683185608435e-10, 5.87297574479995014e-12};
    const double c[] = {1.0,                     -2.33700550136169823e-1, 1.99689577648780762e-2,
                        -8.94522998473644435e-4, 2.47372763588367309e-5,  -4.64765991595297768e-7,
                        6.32144090425835745e-9,  -6.51052915679768461e-11, 5.10846968542241e-13};
    sine = x * polynomial(y, s);
    cosine = (1.0 - y) * polynomial(y, c);
  } else {
    const float s[] = {1.57079632003860163f, -6.45963759583539301e-1f, 7.96899183290284958e-2f,
                       -4.67414383815177762e-3f, 1.51671703664089589e-4f};
    const float c[] = {9.99999999122609207e-1f, -2.33700506254597465e-1f, 1.99686062068002781e-2f,
                       -8.93535501463273779e-4f, 2.36006895813019241e-5f};
    sine = x * polynomial(y, s);
    cosine = (1.0f - y) * polynomial(y, c);
  }
}

template <class T> inline bool any(ivec<T> mask) {
#if defined(OSTWALD_AVX512)
  if constexpr (sizeof(T) == 8) return _mm512_movepi64_mask((__m512i)mask) != 0;
#if defined(OSTWALD_FLOAT8)
  else return _mm256_movepi32_mask((__m256i)mask) != 0;
#else
  else return _mm512_movepi32_mask((__m512i)mask) != 0;
#endif
#else
  int_of<T> a = 0;
  for (int k = 0; k < lanes<T>; k++) a |= mask[k];
  return a != 0;
#endif
}

// x^p for small whole p >= 0 by squaring; any other p through exp(p log x).
template <class T> inline vec<T> power(vec<T> x, T p, bool whole) {
  if (!whole) return exp(p * log<T>(x));
  vec<T> r = splat(T(1));
  for (int n = int(p); n; n >>= 1, x *= x)
    if (n & 1) r *= x;
  return r;
}

// ---- parameters -------------------------------------------------------------------------------------------------------

// Tables of parameters, one row of `entries` numbers per field, looked up by lane. With one entry: broadcast.
template <class T> class Table {
 public:
  void assign(int fields, int entries) {
    entries_ = entries;
    stride_ = (entries + lanes<T> - 1) / lanes<T> * lanes<T>;
    data_.assign(size_t(fields) * stride_, T(0));
  }
  void set(int field, int entry, double value) { data_[size_t(field) * stride_ + entry] = T(value); }
  T first(int field) const { return data_[size_t(field) * stride_]; }

  template <bool single> vec<T> get(int field, ivec<T> entry) const {
    const T* row = &data_[size_t(field) * stride_];
    if constexpr (single) {
      return splat(row[0]);
    } else {
      if (entries_ <= lanes<T>) return __builtin_shuffle(load(row), entry);  // one permutation of a register
      vec<T> a;
      for (int k = 0; k < lanes<T>; k++) a[k] = row[entry[k]];
      return a;
    }
  }

 private:
  int entries_ = 1, stride_ = 1;
  aligned_vector<T> data_;
};

// ---- a call -------------------------------------------------------------------------------------------------------------

template <class T> using carray = py::array_t<T, py::array::c_style>;

struct Call {  // the arrays of one compute(), checked
  const double* positions;
  const int32_t* types;
  int64_t nall, nlocal;
  const int64_t* offsets;
  const int32_t* indices;
  double *forces, *energies, *virials;
  int threads;
};

inline void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

template <class T> inline py::buffer_info view(py::handle object, const char* name, int ndim, bool writable) {
  if (!py::isinstance<carray<T>>(object))
    throw std::invalid_argument(std::string(name) + " must be a C-contiguous array of " +
                                py::str(py::dtype::of<T>()).cast<std::string>());
  auto info = py::reinterpret_borrow<py::buffer>(object).request(writable);
  if (info.ndim != ndim) throw std::invalid_argument(std::string(name) + " has the wrong number of dimensions");
  return info;
}

inline Call checked_call(py::handle positions, py::handle types, int64_t nlocal, py::handle offsets, py::handle indices,
                         py::handle forces, py::handle energies, py::handle virials, int ntypes, int threads) {
  const auto x = view<double>(positions, "positions", 2, false), f = view<double>(forces, "forces", 2, true);
  const auto t = view<int32_t>(types, "types", 1, false), j = view<int32_t>(indices, "indices", 1, false);
  const auto o = view<int64_t>(offsets, "offsets", 1, false);
  Call call{};
  call.nall = x.shape[0];
  call.nlocal = nlocal;
  require(x.shape[1] == 3 && f.shape[1] == 3 && f.shape[0] == call.nall, "positions and forces must both be (n, 3)");
  require(t.shape[0] == call.nall, "types must have as many rows as positions");
  require(nlocal >= 0 && nlocal <= call.nall, "more local atoms than rows");
  require(o.shape[0] == nlocal + 1, "offsets must have one entry more than there are local atoms");
  require(call.nall < std::numeric_limits<int32_t>::max(), "too many rows for 32-bit indices");
  call.positions = static_cast<double*>(x.ptr);
  call.types = static_cast<int32_t*>(t.ptr);
  call.offsets = static_cast<int64_t*>(o.ptr);
  call.indices = static_cast<int32_t*>(j.ptr);
  call.forces = static_cast<double*>(f.ptr);
  require(call.offsets[0] == 0 && call.offsets[nlocal] <= j.shape[0], "offsets do not fit the indices");
  int32_t lowest = 0, highest = 0;
  for (int64_t i = 0; i < call.nall; i++)
    lowest = std::min(lowest, call.types[i]), highest = std::max(highest, call.types[i]);
  require(lowest >= 0 && highest < ntypes, "a type lies outside the potential's species");
  if (!energies.is_none()) {
    const auto e = view<double>(energies, "energies", 1, true);
    require(e.shape[0] == call.nall, "energies must have as many rows as positions");
    call.energies = static_cast<double*>(e.ptr);
  }
  if (!virials.is_none()) {
    const auto v = view<double>(virials, "virials", 2, true);
    require(v.shape[0] == call.nall && v.shape[1] == 6, "virials must be (n, 6)");
    call.virials = static_cast<double*>(v.ptr);
  }
  call.threads = std::max(1, threads);
  return call;
}

struct Totals {
  double energy = 0;
  std::array<double, 6> virial{};
};

// ---- rows -----------------------------------------------------------------------------------------------------------------

// Aligned copies of the rows, and force accumulators of each thread. Kept between calls, so that memory is touched once.
// One row more than there are atoms: the far neighbour of unused lanes.
struct Rows {
  aligned_vector<double> exact;               // x, y, z, type
  aligned_vector<float> coarse;               // the same about a centre, single precision
  std::vector<aligned_vector<double>> sums;   // per thread: force x, y, z, energy
  std::vector<aligned_vector<double>> stress; // per thread: virial, 8 columns, where asked for
  float margin = 0;                           // bound on the error of a coarse distance, Å

  void pack(const Call& call, bool with_virials) {
    const int64_t n = call.nall;
    exact.resize(4 * (n + 1));
    coarse.resize(4 * (n + 1));
    sums.resize(call.threads);
    stress.resize(call.threads);
    for (auto& s : sums) s.resize(4 * (n + 1));
    for (auto& s : stress) s.resize(with_virials ? 8 * (n + 1) : 0);
    double centre[3] = {0, 0, 0};
    if (n > 0) {  // of the first and the last row: anything near the middle will do
      for (int k = 0; k < 3; k++) {
        centre[k] = 0.5 * (call.positions[k] + call.positions[3 * (call.nlocal > 0 ? call.nlocal - 1 : 0) + k]);
        if (!std::isfinite(centre[k])) centre[k] = 0;
      }
    }
    double reach = 0;
#pragma omp parallel for num_threads(call.threads) reduction(max : reach) schedule(static)
    for (int64_t i = 0; i < n; i++) {
      const double *p = call.positions + 3 * i, type = call.types[i];
      double* e = &exact[4 * i];
      float* c = &coarse[4 * i];
      const double x = p[0] - centre[0], y = p[1] - centre[1], z = p[2] - centre[2];
      e[0] = p[0], e[1] = p[1], e[2] = p[2], e[3] = type;
      c[0] = float(x), c[1] = float(y), c[2] = float(z), c[3] = 0;
      const double m = std::max(std::max(std::abs(x), std::abs(y)), std::abs(z));
      reach = m > reach ? m : reach;
    }
    const double far = 1e15;  // its square is still finite in single precision
    for (int k = 0; k < 4; k++) exact[4 * n + k] = k < 3 ? far : 0, coarse[4 * n + k] = k < 3 ? float(far) : 0;
    // each coordinate of both atoms is off by half an ulp; the square root of 3 and some more for the distance itself
    margin = float(std::min(reach * 4.0 * std::numeric_limits<float>::epsilon() + 1e-5, 1e6));
  }
};

// ---- the groups of a batch ---------------------------------------------------------------------------------------------------

template <class T> struct Group {
  int slots = 0;          // near neighbours of the longest lane
  int count = 0;          // central atoms; the lanes beyond hold none
  const int32_t* centre;  // (lanes) rows of the central atoms
  const int32_t* index;   // (slots, lanes) rows of the neighbours
  const vec<T> *x, *y, *z, *r2;  // (slots) from the central atom to the neighbour, Å, Å²
  const ivec<T>* type;           // (slots) of the neighbour
  ivec<T> centre_type;
  vec<T> *fx, *fy, *fz;   // (slots), to be filled: force on the neighbour, eV/Å
  vec<T>* share;          // (slots), to be filled: the neighbour's share of the energy, eV
  vec<T> own;             // to be filled: the central atom's share of the energy
};

template <class T> inline vec<T> from_double(const vec<double>* a) {
  if constexpr (sizeof(T) == 8) {
    return a[0];
  } else {
#if defined(OSTWALD_FLOAT8)
    return (vec<float>)_mm512_cvtpd_ps((__m512d)a[0]);
#elif defined(OSTWALD_AVX512)
    return (vec<float>)_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps((__m512d)a[0])),
                                          _mm512_cvtpd_ps((__m512d)a[1]), 1);
#else
    vec<float> b;
    for (int k = 0; k < lanes<float>; k++) b[k] = float(a[k / lanes<double>][k % lanes<double>]);
    return b;
#endif
  }
}

// The near neighbours of atom i among list[0, length), written at `near`; returns their number. near needs room for the
// whole list and a vector more. The list may be read up to `end`, behind the atom's own part of it.
inline int pick(const Rows& rows, int64_t i, const int32_t* list, int64_t length, const int32_t* end, float reach2,
                int32_t far, int32_t* near) {
  constexpr int W = lanes<float>;
  const float* c = &rows.coarse[4 * i];
  const vec<float> xi = splat(c[0]), yi = splat(c[1]), zi = splat(c[2]), limit = splat(reach2);
  int count = 0;
  for (int64_t k = 0; k < length; k += W) {
    alignas(64) int32_t padded[W];
    const int32_t* chunk = list + k;
    if (end - chunk < W) {  // the last chunks of the whole list
      for (int l = 0; l < W; l++) padded[l] = l < length - k ? chunk[l] : far;
      chunk = padded;
    }
    asm("" : "+r"(chunk) : : "memory");  // or the compiler takes the 16 addresses out of a vector, which is slower
    vec<float> x, y, z, w;
    load_rows(rows.coarse.data(), 4, chunk, x, y, z, w);
    x -= xi, y -= yi, z -= zi;
    const vec<float> r2 = x * x + y * y + z * z;
    const bits_t near_bits = first<float>(length - k) & ~less(limit, r2);  // NaN counts as near: it must not vanish
    compress_index<float>(near + count, near_bits, load_index<float>(chunk));
    count += __builtin_popcount(near_bits);
  }
  return count;
}

// Runs the kernels that make_kernel() gives each thread over all local atoms: kernel(Group<T>&) fills forces and shares
// of the slots. pair_table holds the squared cutoff of each pair of types; `cutoff` is the largest of them, `outside` a
// distance at which every term vanishes.
template <class T, bool single, class Kernel>
Totals run(const Call& call, Rows& rows, int ntypes, const Table<T>& pair_table, int cutoff2_field, double cutoff,
           double outside, Kernel&& make_kernel) {
  constexpr int W = lanes<T>, D = lanes<double>, parts = W / D;
  constexpr int batch = 512;
  const bool with_virials = call.virials != nullptr;
  rows.pack(call, with_virials);
  const int32_t far = int32_t(call.nall);
  const float reach2 = float((cutoff + rows.margin) * (cutoff + rows.margin) * (1 + 1e-6));
  const T beyond = T(outside);
  const T limit_single = pair_table.first(cutoff2_field);
  std::vector<Totals> totals(call.threads);

#pragma omp parallel num_threads(call.threads)
  {
#ifdef _OPENMP
    const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
#else
    const int thread = 0, threads = 1;
#endif
    double* sums = rows.sums[thread].data();
    double* stress = with_virials ? rows.stress[thread].data() : nullptr;
    std::fill(sums, sums + 4 * (call.nall + 1), 0.0);
    if (with_virials) std::fill(stress, stress + 8 * (call.nall + 1), 0.0);
    const int64_t begin = call.nlocal * thread / threads, end = call.nlocal * (thread + 1) / threads;

    auto kernel = make_kernel();
    std::vector<int32_t> near;
    int32_t start[batch], counts[batch], order[batch];
    std::vector<int32_t> histogram;
    aligned_vector<int32_t> index;
    aligned_vector<vec<T>> arrays;
    aligned_vector<ivec<T>> type_array;
    double energy = 0;
    vec<double> virial[6] = {};

    for (int64_t first = begin; first < end; first += batch) {
      const int n = int(std::min<int64_t>(batch, end - first));
      // (1) near neighbours
      near.resize(size_t(call.offsets[first + n] - call.offsets[first]) + 2 * lanes<float>);
      int32_t used = 0;
      int longest = 0;
      for (int a = 0; a < n; a++) {
        const int64_t i = first + a, from = call.offsets[i];
        start[a] = used;
        counts[a] = pick(rows, i, call.indices + from, call.offsets[i + 1] - from,
                         call.indices + call.offsets[call.nlocal], reach2, far, near.data() + used);
        used += counts[a];
        longest = std::max(longest, counts[a]);
      }
      // (2) counting sort by length
      histogram.assign(longest + 2, 0);
      for (int a = 0; a < n; a++) histogram[counts[a] + 1]++;
      for (int c = 0; c <= longest; c++) histogram[c + 1] += histogram[c];
      for (int a = 0; a < n; a++) order[histogram[counts[a]]++] = a;
      index.resize(size_t(std::max(longest, 1)) * W);
      arrays.resize(size_t(std::max(longest, 1)) * 8);
      type_array.resize(std::max(longest, 1));

      for (int g = 0; g < n; g += W) {
        Group<T> group;
        group.count = std::min(W, n - g);
        const int S = counts[order[g + group.count - 1]];
        if (S == 0) continue;
        group.slots = S;
        alignas(64) int32_t centre[W];
        for (int l = 0; l < W; l++) {
          const int a = order[g + std::min(l, group.count - 1)];
          const int c = l < group.count ? counts[a] : 0;
          const int32_t* from = near.data() + start[a];
          centre[l] = int32_t(first + a);
          for (int s = 0; s < S; s++) index[s * W + l] = s < c ? from[s] : far;
        }
        // (3) displacements
        vec<T>* base = arrays.data();
        vec<T> *X = base, *Y = base + S, *Z = base + 2 * S, *R2 = base + 3 * S;
        group.centre = centre, group.index = index.data();
        group.x = X, group.y = Y, group.z = Z, group.r2 = R2, group.type = type_array.data();
        group.fx = base + 4 * S, group.fy = base + 5 * S, group.fz = base + 6 * S, group.share = base + 7 * S;
        vec<double> cx[parts], cy[parts], cz[parts], ct[parts];
        for (int p = 0; p < parts; p++) load_rows(rows.exact.data(), 4, centre + p * D, cx[p], cy[p], cz[p], ct[p]);
        if constexpr (!single) group.centre_type = to_int(from_double<T>(ct));
        for (int s = 0; s < S; s++) {
          vec<double> dx[parts], dy[parts], dz[parts], t[parts];
          for (int p = 0; p < parts; p++) {
            load_rows(rows.exact.data(), 4, &index[s * W + p * D], dx[p], dy[p], dz[p], t[p]);
            dx[p] -= cx[p], dy[p] -= cy[p], dz[p] -= cz[p];
          }
          const vec<T> x = from_double<T>(dx), y = from_double<T>(dy), z = from_double<T>(dz);
          const vec<T> r2 = x * x + y * y + z * z;
          vec<T> limit;
          if constexpr (single) {
            limit = splat(limit_single);
          } else {
            type_array[s] = to_int(from_double<T>(t));
            limit = pair_table.template get<false>(cutoff2_field, group.centre_type * ntypes + type_array[s]);
          }
          const ivec<T> out = r2 >= limit;  // NaN stays in
          X[s] = out ? splat(beyond) : x;
          Y[s] = out ? splat(T(0)) : y;
          Z[s] = out ? splat(T(0)) : z;
          R2[s] = out ? splat(beyond * beyond) : r2;
        }
        // (4) the potential
        group.own = vec<T>{};
        kernel(group);
        // (5) forces to their rows
        vec<T> own_x{}, own_y{}, own_z{}, shares = group.own, w[6] = {};
        for (int s = 0; s < S; s++) {
          const vec<T> fx = group.fx[s], fy = group.fy[s], fz = group.fz[s];
          own_x += fx, own_y += fy, own_z += fz, shares += group.share[s];
          w[0] += X[s] * fx, w[1] += Y[s] * fy, w[2] += Z[s] * fz;
          w[3] += Y[s] * fz, w[4] += X[s] * fz, w[5] += X[s] * fy;
          subtract_rows(sums, &index[s * W], W, -fx, -fy, -fz, -group.share[s]);
        }
        subtract_rows(sums, centre, group.count, own_x, own_y, own_z, -group.own);
        energy += sum_double(shares);
        for (int k = 0; k < 6; k++) {
          if constexpr (sizeof(T) == 8) virial[k] += w[k];
          else virial[k][0] += sum_double(w[k]);
        }
        if (with_virials) {  // half of each bond's to either end
          for (int s = 0; s < S; s++) {
            const vec<T> h = splat(T(0.5)), x = h * X[s], y = h * Y[s], z = h * Z[s];
            const vec<T> fx = group.fx[s], fy = group.fy[s], fz = group.fz[s];
            const vec<T> v[6] = {x * fx, y * fy, z * fz, h * (y * fz + z * fy), h * (x * fz + z * fx), h * (x * fy + y * fx)};
            for (int l = 0; l < group.count; l++)
              for (int k = 0; k < 6; k++) {
                stress[8 * int64_t(index[s * W + l]) + k] += v[k][l];
                stress[8 * int64_t(centre[l]) + k] += v[k][l];
              }
          }
        }
      }
    }
    totals[thread].energy = energy;
    for (int k = 0; k < 6; k++) totals[thread].virial[k] = sum(virial[k]);
#pragma omp barrier
#pragma omp for schedule(static)
    for (int64_t i = 0; i < call.nall; i++) {
      double f[4] = {0, 0, 0, 0};
      for (int t = 0; t < threads; t++)
        for (int k = 0; k < 4; k++) f[k] += rows.sums[t][4 * i + k];
      for (int k = 0; k < 3; k++) call.forces[3 * i + k] += f[k];
      if (call.energies) call.energies[i] += f[3];
      if (with_virials)
        for (int t = 0; t < threads; t++)
          for (int k = 0; k < 6; k++) call.virials[6 * i + k] += rows.stress[t][8 * i + k];
    }
  }
  Totals total;
  for (const Totals& t : totals) {
    total.energy += t.energy;
    for (int k = 0; k < 6; k++) total.virial[k] += t.virial[k];
  }
  return total;
}

inline py::tuple as_tuple(const Totals& totals) {
  py::array_t<double> virial(6);
  std::copy(totals.virial.begin(), totals.virial.end(), virial.mutable_data());
  return py::make_tuple(totals.energy, virial);
}

}  // namespace ostwald
