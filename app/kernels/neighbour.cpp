// Cell-binned neighbour lists, spatial order of rows, and how far atoms have moved.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include "simd.hpp"

namespace py = pybind11;
using namespace ostwald;

namespace {

template <class T> struct Free {
  void operator()(T* p) const { std::free(p); }
};

// A growing array without initialisation; realloc moves large ones without copying.
template <class T> class Buffer {
 public:
  T* data() { return p_.get(); }
  const T* data() const { return p_.get(); }
  size_t capacity() const { return capacity_; }
  T& operator[](size_t k) { return p_.get()[k]; }
  const T& operator[](size_t k) const { return p_.get()[k]; }

  void reserve(size_t n) {
    if (n <= capacity_) return;
    T* q = static_cast<T*>(std::realloc(p_.get(), n * sizeof(T)));
    if (!q) throw std::bad_alloc();
    p_.release();
    p_.reset(q);
    capacity_ = n;
  }

 private:
  std::unique_ptr<T, Free<T>> p_;
  size_t capacity_ = 0;
};

using Rows = py::array_t<double, py::array::c_style>;

const double* rows_of(const py::array& a, int64_t at_least, const char* name) {
  if (!py::isinstance<Rows>(a) || a.ndim() != 2 || a.shape(1) != 3 || a.shape(0) < at_least)
    throw std::invalid_argument(std::string(name) + " must be a C-contiguous float64 array of at least " +
                                std::to_string(at_least) + " rows of 3");
  return static_cast<const double*>(a.data());
}

// Bins over the bounding box of rows; x runs fastest, so bins adjacent in x are one range of the sorted rows.
struct Bins {
  double lo[3], extent[3], inverse[3], edge[3];
  int count[3];
  int64_t total;

  // wanted: shortest edges, Å
  Bins(const double* x, int64_t n, double wanted_x, double wanted_yz) {
    double wanted[3] = {wanted_x, wanted_yz, wanted_yz};
    double hi[3];
    for (int d = 0; d < 3; d++) lo[d] = std::numeric_limits<double>::infinity(), hi[d] = -lo[d];
    for (int64_t i = 0; i < n; i++)
      for (int d = 0; d < 3; d++) {
        lo[d] = x[3 * i + d] < lo[d] ? x[3 * i + d] : lo[d];
        hi[d] = x[3 * i + d] > hi[d] ? x[3 * i + d] : hi[d];
      }
    double finite = 0;  // a NaN or infinity anywhere makes this NaN
    for (int64_t k = 0; k < 3 * n; k++) finite += x[k] * 0.0;
    if (finite != 0)
      for (int64_t k = 0; k < 3 * n; k++)
        if (!std::isfinite(x[k])) throw std::invalid_argument("position of row " + std::to_string(k / 3) + " is not finite");
    const double most = 4.0 * double(n) + 64;  // a sparse box gets larger bins
    for (int d = 0; d < 3; d++) extent[d] = n > 0 ? hi[d] - lo[d] : 0.0;
    for (;;) {
      double product = 1;
      for (int d = 0; d < 3; d++) product *= std::max(1.0, std::floor(extent[d] / wanted[d]));
      if (product <= most) break;
      for (double& w : wanted) w *= 1.25;
    }
    total = 1;
    for (int d = 0; d < 3; d++) {
      count[d] = int(std::max(1.0, std::floor(extent[d] / wanted[d])));
      edge[d] = count[d] > 1 ? extent[d] / count[d] : std::max(extent[d], wanted[d]);
      inverse[d] = 1.0 / edge[d];
      total *= count[d];
    }
  }

  int along(int d, double x) const {
    const int b = int((x - lo[d]) * inverse[d]);
    return b < 0 ? 0 : b >= count[d] ? count[d] - 1 : b;
  }
  int64_t of(const double* x) const {
    return along(0, x[0]) + int64_t(count[0]) * (along(1, x[1]) + int64_t(count[1]) * along(2, x[2]));
  }
};

// Rows of bins around a bin: (dy, dz) and how far along x.
struct Stencil {
  int dy, dz, reach;
};

std::vector<Stencil> stencil_of(const Bins& bins, double cutoff) {
  int reach[3];
  for (int d = 0; d < 3; d++)  // as a double first: tiny bins of a thin box may be many
    reach[d] = int(std::min(std::ceil(cutoff * bins.inverse[d] * (1 + 1e-9)), double(bins.count[d])));
  std::vector<Stencil> rows;
  const auto gap = [&](int d, int k) { return k == 0 ? 0.0 : (std::abs(k) - 1) * bins.edge[d]; };
  for (int dz = -reach[2]; dz <= reach[2]; dz++)
    for (int dy = -reach[1]; dy <= reach[1]; dy++) {
      const double left = cutoff * cutoff - gap(1, dy) * gap(1, dy) - gap(2, dz) * gap(2, dz);
      if (left < 0) continue;
      rows.push_back({dy, dz, int(std::min(std::ceil(std::sqrt(left) * bins.inverse[0] * (1 + 1e-9)), double(bins.count[0])))});
    }
  return rows;
}

constexpr int pad = 16;  // sorted arrays may be read this far beyond their end

template <class T> struct Sorted {
  Buffer<T> x, y, z;           // relative to the low corner of the bins
  Buffer<int32_t> order;       // sorted place -> row
  Buffer<int32_t> place;       // local row -> sorted place
  std::vector<int32_t> start;  // of each bin; with `apart`, ghosts follow in bins total .. 2 total - 1
};

template <class T>
void sort_rows(const Bins& bins, const double* x, int64_t nlocal, int64_t nall, bool apart, Sorted<T>& s) {
  const int64_t nbins = bins.total * (apart ? 2 : 1);
  s.start.assign(size_t(nbins) + 1, 0);
  Buffer<int32_t> bin;
  bin.reserve(size_t(nall) + 1);
  for (int64_t i = 0; i < nall; i++) {
    const int64_t b = bins.of(x + 3 * i) + (apart && i >= nlocal ? bins.total : 0);
    bin[size_t(i)] = int32_t(b);
    s.start[size_t(b) + 1]++;
  }
  for (int64_t b = 0; b < nbins; b++) s.start[size_t(b) + 1] += s.start[size_t(b)];
  s.x.reserve(size_t(nall) + pad), s.y.reserve(size_t(nall) + pad), s.z.reserve(size_t(nall) + pad);
  s.order.reserve(size_t(nall) + pad);
  for (int64_t i = 0; i < nall; i++) {  // start[b] runs up to the start of bin b + 1 and is put back below
    const size_t k = size_t(s.start[size_t(bin[size_t(i)])]++);
    s.x[k] = T(x[3 * i] - bins.lo[0]), s.y[k] = T(x[3 * i + 1] - bins.lo[1]), s.z[k] = T(x[3 * i + 2] - bins.lo[2]);
    s.order[k] = int32_t(i);
    bin[size_t(i)] = int32_t(k);
  }
  for (int64_t b = nbins; b > 0; b--) s.start[size_t(b)] = s.start[size_t(b) - 1];
  s.start[0] = 0;
  for (size_t k = size_t(nall); k < size_t(nall) + pad; k++) s.x[k] = s.y[k] = s.z[k] = T(0), s.order[k] = 0;
  s.place = std::move(bin);
}

// All rows that may be neighbours of the atoms of one bin, side by side.
template <class T> struct Candidates {
  Buffer<T> x, y, z;
  Buffer<int32_t> row;
  int count = 0;

  OSTWALD_INLINE void append(const Sorted<T>& s, int32_t begin, int32_t end) {
    if (begin == end) return;
    const size_t room = size_t(count + (end - begin) + pad);
    if (room > row.capacity()) x.reserve(2 * room), y.reserve(2 * room), z.reserve(2 * room), row.reserve(2 * room);
    for (int32_t k = begin; k < end; k += lanes<T>) {
      const size_t to = size_t(count + (k - begin));
      store(x.data() + to, load(s.x.data() + k));
      store(y.data() + to, load(s.y.data() + k));
      store(z.data() + to, load(s.z.data() + k));
      const index_vec<T> rows = load_index<T>(s.order.data() + k);
      std::memcpy(row.data() + to, &rows, sizeof rows);
    }
    count += end - begin;
  }
};

template <class T> class Search {
 public:
  Search(const double* positions, int64_t nlocal, int64_t nall, double cutoff, bool half)
      : x_(positions), nlocal_(nlocal), cutoff2_(cutoff * cutoff), half_(half), bins_(positions, nall, 0.5 * cutoff, cutoff),
        rows_(stencil_of(bins_, cutoff)) {
    while (rows_[middle_].dy != 0 || rows_[middle_].dz != 0) middle_++;  // rows before and behind it mirror each other
    sort_rows(bins_, positions, nlocal, nall, half, sorted_);
    const double extent = std::max({bins_.extent[0], bins_.extent[1], bins_.extent[2]});
    const double margin = 4 * std::numeric_limits<T>::epsilon() * (extent + cutoff);
    outer2_ = T((cutoff + margin) * (cutoff + margin) * (1 + std::numeric_limits<T>::epsilon()));
    inner2_ = cutoff > margin ? T((cutoff - margin) * (cutoff - margin) * (1 - std::numeric_limits<T>::epsilon())) : T(0);
  }

  // Neighbours of rows [first, last) at out[at ...]; offsets[i + 1] gets the place behind those of i.
  int64_t find(int64_t first, int64_t last, Buffer<int32_t>& out, int64_t at, int64_t* offsets) const {
    Candidates<T> near;
    int64_t bin = -1;
    int32_t begin = 0;  // sorted place of the first candidate
    for (int64_t i = first; i < last; i++) {
      const double* xi = x_ + 3 * i;
      const int64_t b = bins_.of(xi);
      if (b != bin) {
        bin = b;
        begin = collect(xi, near);
      }
      if (int64_t(out.capacity()) < at + near.count + pad)
        out.reserve(std::max(size_t(at + near.count + pad), out.capacity() + out.capacity() / 2));
      at = test(xi, near, sorted_.place[size_t(i)] - begin, out.data(), at);
      offsets[i + 1] = at;
    }
    return at;
  }

 private:
  // The candidates of the bin at xi, those of its own line first, from the place that is returned; for a half list the
  // own line begins with the bin itself.
  int32_t collect(const double* xi, Candidates<T>& near) const {
    const int bx = bins_.along(0, xi[0]), by = bins_.along(1, xi[1]), bz = bins_.along(2, xi[2]);
    const int32_t* start = sorted_.start.data();
    const auto ends = [&](const Stencil& row, int64_t& from, int64_t& to) {
      const int y = by + row.dy, z = bz + row.dz;
      if (y < 0 || z < 0 || y >= bins_.count[1] || z >= bins_.count[2]) return false;
      const int64_t line = int64_t(bins_.count[0]) * (y + int64_t(bins_.count[1]) * z);
      from = line + std::max(bx - row.reach, 0);
      to = line + std::min(bx + row.reach, bins_.count[0] - 1) + 1;
      return true;
    };
    int64_t from = 0, to = 0;
    near.count = 0;
    ends(rows_[middle_], from, to);
    const int64_t own = half_ ? to - (std::min(bx + rows_[middle_].reach, bins_.count[0] - 1) + 1 - bx) : from;
    const int32_t begin = start[own];
    near.append(sorted_, begin, start[to]);
    for (size_t r = half_ ? middle_ + 1 : 0; r < rows_.size(); r++)
      if (r != middle_ && ends(rows_[r], from, to)) near.append(sorted_, start[from], start[to]);
    if (half_)
      for (const Stencil& row : rows_)
        if (ends(row, from, to)) near.append(sorted_, start[bins_.total + from], start[bins_.total + to]);
    return begin;
  }

  // self: which candidate is the atom at xi.
  int64_t test(const double* xi, const Candidates<T>& near, int self, int32_t* out, int64_t at) const {
    const vec<T> x = splat(T(xi[0] - bins_.lo[0])), y = splat(T(xi[1] - bins_.lo[1])), z = splat(T(xi[2] - bins_.lo[2]));
    const vec<T> outer2 = splat(outer2_), inner2 = splat(inner2_);
    const T *px = near.x.data(), *py = near.y.data(), *pz = near.z.data();
    const int32_t* row = near.row.data();
    const int end = near.count;
    for (int k = half_ ? self + 1 : 0; k < end; k += lanes<T>) {
      const vec<T> dx = load(px + k) - x, dy = load(py + k) - y, dz = load(pz + k) - z;
      const vec<T> r2 = dx * dx + dy * dy + dz * dz;
      bits_t in = less(r2, outer2) & ostwald::first<T>(end - k);
      bits_t close = in & ~less(r2, inner2);  // too near the cutoff for this precision
      while (close) {
        const bits_t bit = close & -close;
        const double* xj = x_ + 3 * int64_t(row[k + __builtin_ctz(bit)]);
        const double a = xj[0] - xi[0], b = xj[1] - xi[1], c = xj[2] - xi[2];
        if (!(a * a + b * b + c * c <= cutoff2_)) in &= ~bit;
        close ^= bit;
      }
      if (unsigned(self - k) < unsigned(lanes<T>)) in &= ~(bits_t(1) << (self - k));
      compress_index<T>(out + at, in, load_index<T>(row + k));
      at += __builtin_popcount(in);
    }
    return at;
  }

  const double* x_;
  int64_t nlocal_;
  double cutoff2_;
  T outer2_, inner2_;
  bool half_;
  Bins bins_;
  std::vector<Stencil> rows_;
  size_t middle_ = 0;  // the row of the bin itself
  Sorted<T> sorted_;
};

// The list: CSR over local rows. Its arrays are views that stay valid; the next build may write into them.
class List {
 public:
  void build(const py::array& positions, int64_t nlocal, double cutoff, bool half, int threads) {
    const double* x = rows_of(positions, 0, "positions");
    const int64_t nall = positions.shape(0);
    if (nlocal < 0 || nlocal > nall) throw std::invalid_argument("nlocal must lie between 0 and the number of rows");
    if (nall > std::numeric_limits<int32_t>::max() - pad) throw std::invalid_argument("too many rows for 32-bit indices");
    if (!(cutoff > 0) || !std::isfinite(cutoff)) throw std::invalid_argument("the cutoff must be positive and finite");
    if (offsets_.use_count() > 1) offsets_ = std::make_shared<Buffer<int64_t>>();  // somebody holds a view of the old one
    if (indices_.use_count() > 1) indices_ = std::make_shared<Buffer<int32_t>>();
    py::gil_scoped_release release;
    offsets_->reserve(size_t(nlocal) + 1);
    (*offsets_)[0] = 0;
    n_ = nlocal;
    indices_->reserve(pad);
    double largest = 0;
    for (int64_t k = 0; k < 3 * nall; k++) largest = std::fabs(x[k]) > largest ? std::fabs(x[k]) : largest;
    // float positions do while the shell that must be looked at again in double is thin
    if (largest * 1e-6 < 1e-3 * cutoff)
      search<float>(x, nlocal, nall, cutoff, half, threads);
    else
      search<double>(x, nlocal, nall, cutoff, half, threads);
  }

  py::array offsets() const { return view(offsets_, n_ + 1); }
  py::array indices() const { return view(indices_, n_ >= 0 && offsets_->capacity() ? (*offsets_)[size_t(n_)] : 0); }

 private:
  template <class T> void search(const double* x, int64_t nlocal, int64_t nall, double cutoff, bool half, int threads) {
    const Search<T> search(x, nlocal, nall, cutoff, half);
    int64_t* offsets = offsets_->data();
#if defined(_OPENMP)
    if (threads > 1 && nlocal >= 64 * int64_t(threads)) {
      std::vector<Buffer<int32_t>> parts(static_cast<size_t>(threads));
      std::vector<int64_t> base(size_t(threads) + 1, 0);
#pragma omp parallel num_threads(threads)
      {
        const int team = omp_get_num_threads(), t = omp_get_thread_num();
        const int64_t lo = nlocal * t / team, hi = nlocal * (t + 1) / team;
        base[size_t(t) + 1] = search.find(lo, hi, parts[size_t(t)], 0, offsets);
#pragma omp barrier
#pragma omp single
        {
          for (int k = 0; k < team; k++) base[size_t(k) + 1] += base[size_t(k)];
          indices_->reserve(size_t(base[size_t(team)]) + pad);
        }
        for (int64_t i = lo; i < hi; i++) offsets[i + 1] += base[size_t(t)];
        if (base[size_t(t) + 1] > base[size_t(t)])
          std::memcpy(indices_->data() + base[size_t(t)], parts[size_t(t)].data(),
                      size_t(base[size_t(t) + 1] - base[size_t(t)]) * sizeof(int32_t));
        parts[size_t(t)] = Buffer<int32_t>();
      }
      return;
    }
#endif
    (void)threads;
    search.find(0, nlocal, *indices_, 0, offsets);
  }

  template <class T> static py::array view(const std::shared_ptr<Buffer<T>>& buffer, int64_t n) {
    auto* keep = new std::shared_ptr<Buffer<T>>(buffer);
    py::capsule owner(keep, [](void* p) { delete static_cast<std::shared_ptr<Buffer<T>>*>(p); });
    return py::array_t<T>(std::max<int64_t>(n, 0), buffer->data(), owner);
  }

  std::shared_ptr<Buffer<int64_t>> offsets_ = std::make_shared<Buffer<int64_t>>();
  std::shared_ptr<Buffer<int32_t>> indices_ = std::make_shared<Buffer<int32_t>>();
  int64_t n_ = -1;
};

py::array_t<int64_t> spatial_order(const py::array& positions, int64_t n, double bin) {
  const double* x = rows_of(positions, n, "positions");
  if (!(bin > 0)) throw std::invalid_argument("the bin edge must be positive");
  py::array_t<int64_t> result(n);
  int64_t* order = result.mutable_data();
  py::gil_scoped_release release;
  const Bins bins(x, n, bin, bin);
  std::vector<int64_t> start(size_t(bins.total) + 1, 0);
  for (int64_t i = 0; i < n; i++) start[size_t(bins.of(x + 3 * i)) + 1]++;
  for (int64_t b = 0; b < bins.total; b++) start[size_t(b) + 1] += start[size_t(b)];
  for (int64_t i = 0; i < n; i++) order[start[size_t(bins.of(x + 3 * i))]++] = i;
  return result;
}

double max_displacement2(const py::array& positions, const py::array& reference, int64_t n, const py::array& deformation,
                         const py::array& reference_origin, const py::array& origin) {
  const double* x = rows_of(positions, n, "positions");
  const double* r = rows_of(reference, n, "reference");
  const double* f = rows_of(deformation, 3, "deformation");
  using Vector = py::array_t<double, py::array::c_style>;
  if (!py::isinstance<Vector>(reference_origin) || !py::isinstance<Vector>(origin) || reference_origin.size() != 3 ||
      origin.size() != 3)
    throw std::invalid_argument("origins must be C-contiguous float64 arrays of 3");
  const double* o = static_cast<const double*>(reference_origin.data());
  const double* p = static_cast<const double*>(origin.data());
  py::gil_scoped_release release;
  const bool same = f[0] == 1 && f[4] == 1 && f[8] == 1 && f[1] == 0 && f[2] == 0 && f[3] == 0 && f[5] == 0 && f[6] == 0 &&
                    f[7] == 0 && o[0] == p[0] && o[1] == p[1] && o[2] == p[2];
  double most = 0, nan = 0;
  if (same) {
    for (int64_t i = 0; i < n; i++) {
      const double a = x[3 * i] - r[3 * i], b = x[3 * i + 1] - r[3 * i + 1], c = x[3 * i + 2] - r[3 * i + 2];
      const double d2 = a * a + b * b + c * c;
      most = d2 > most ? d2 : most;
      nan += d2 * 0.0;
    }
  } else {
    for (int64_t i = 0; i < n; i++) {
      const double u = r[3 * i] - o[0], v = r[3 * i + 1] - o[1], w = r[3 * i + 2] - o[2];
      const double a = x[3 * i] - p[0] - (u * f[0] + v * f[3] + w * f[6]);
      const double b = x[3 * i + 1] - p[1] - (u * f[1] + v * f[4] + w * f[7]);
      const double c = x[3 * i + 2] - p[2] - (u * f[2] + v * f[5] + w * f[8]);
      const double d2 = a * a + b * b + c * c;
      most = d2 > most ? d2 : most;
      nan += d2 * 0.0;
    }
  }
  return most + nan;  // NaN where any position is NaN or infinite
}

}  // namespace

PYBIND11_MODULE(_neighbour, m) {
  m.doc() = "Neighbour lists, spatial order, displacement";
  py::class_<List>(m, "List", "A neighbour list in CSR form over local rows.")
      .def(py::init<>())
      .def("build", &List::build, py::arg("positions"), py::arg("nlocal"), py::arg("cutoff"), py::arg("half"),
           py::arg("threads") = 1,
           "Finds all pairs within cutoff (Å) of the local rows [0, nlocal) with all rows of positions.\n"
           "ValueError names the first row whose position is not finite.")
      .def_property_readonly("offsets", &List::offsets)
      .def_property_readonly("indices", &List::indices);
  m.def("spatial_order", &spatial_order, py::arg("positions"), py::arg("n"), py::arg("bin"),
        "Rows [0, n) in the order of their bins (edge in Å), x fastest; rows of one bin keep their order.");
  m.def("max_displacement2", &max_displacement2, py::arg("positions"), py::arg("reference"), py::arg("n"),
        py::arg("deformation"), py::arg("reference_origin"), py::arg("origin"),
        "Largest |x - origin - (reference - reference_origin) @ deformation|² of rows [0, n), Å²; NaN where one is not finite.");
}
