// The shape of a phase in a periodic field: what a rank counts on its own planes, columns and lines.
//
// The field is looked at twice: as numbers, a block of planes at a time (area of the level set, ∫|∇φ|), and as a mask of one bit
// a point, high where φ > level, whose words are counted 64 points at once (Euler number) and cut into runs along the last axis
// (domains). A mask is (planes + 1, ny + 1, words), the last plane and line of each being those of the next rank; in two dimensions
// (planes + 1, 1, words). Axes 0 and 1 end where the mask ends; along the last axis the field is periodic, unless told otherwise.
//
// Sums are taken in an order that does not depend on the number of threads.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <vector>

#include "sweeps.hpp"

using namespace ostwald;
using namespace ostwald::sweeps;

namespace {

template <class T> using Array = py::array_t<T, py::array::c_style>;

// ---- the spectrum by length of the wave vector -----------------------------------------------------------------------------

// (bins, 3): number, Σ |k| and Σ |φ^|² of the wave vectors in each bin, |k|/width rounded.
template <class T>
void sum_shells(const T* spectrum, int64_t columns, int n, const double* kx, const double* ky, const double* kz, const double* weight,
                double width, int bins, double* out, int threads) {
  constexpr int64_t parts = 64;  // of the columns, whatever the number of threads
  std::vector<double> sums(parts * bins * 3, 0.0);
  {
    py::gil_scoped_release release;
    const double per = 1 / width;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t part = 0; part < parts; part++) {
      double* own = sums.data() + part * bins * 3;
      for (int64_t c = columns * part / parts; c < columns * (part + 1) / parts; c++) {
        const double *z = kz + c * lanes<T>, *w = weight + c * lanes<T>;
        const T* a = spectrum + c * n * row<T>;
        double across[lanes<T>], length[lanes<T>], power[lanes<T>];
        for (int l = 0; l < lanes<T>; l++) across[l] = ky[c] * ky[c] + z[l] * z[l];
        for (int j = 0; j < n; j++, a += row<T>) {
          for (int l = 0; l < lanes<T>; l++) {
            const double re = a[l], im = a[l + lanes<T>];
            length[l] = std::sqrt(kx[j] * kx[j] + across[l]);
            power[l] = re * re + im * im;
          }
          for (int l = 0; l < lanes<T>; l++) {
            if (w[l] == 0) continue;
            double* bin = own + 3 * std::min(bins - 1, int(length[l] * per + 0.5));
            bin[0] += w[l], bin[1] += w[l] * length[l], bin[2] += w[l] * power[l];
          }
        }
      }
    }
    std::fill(out, out + 3 * bins, 0.0);
    for (int64_t part = 0; part < parts; part++)
      for (int k = 0; k < 3 * bins; k++) out[k] += sums[part * bins * 3 + k];
  }
}

Array<double> shells(py::array spectrum, py::array kx, py::array ky, py::array kz, py::array weights, double width, int bins, int threads) {
  require(width > 0 && bins > 0, "shells need a positive width and number of bins");
  const int64_t columns = ky.ndim() == 1 ? ky.shape(0) : -1, n = kx.ndim() == 1 ? kx.shape(0) : -1;
  Array<double> out({bins, 3});
  by_dtype(spectrum, [&](auto t) {
    using T = decltype(t);
    const T* data = spectrum_of<T>(spectrum, columns, int(n));
    const auto *x = elements<double>(kx, "kx", 1, false), *y = elements<double>(ky, "ky", 1, false);
    const auto *z = elements<double>(kz, "kz", 2, false), *w = elements<double>(weights, "weights", 2, false);
    for (const py::array& a : {kz, weights})
      require(a.shape(0) == columns && a.shape(1) == lanes<T> && (a.flags() & py::array::c_style),
              "kz and weights must be C-contiguous (columns, W)");
    sum_shells(data, columns, int(n), x, y, z, w, width, bins, out.mutable_data(), threads);
  });
  return out;
}

// ---- the level set ---------------------------------------------------------------------------------------------------------

// A cell lies between neighbouring points: corner x + 2 y + 4 z, relative to the level. It is cut into the six tetrahedra along its body
// diagonal (Kuhn), a square into two triangles, in which φ is linear: marching tetrahedra, of one surface without gaps. By the coarea
// formula the area within one is |∇φ| times the derivative of the volume below the level, a ratio of polynomials in the sorted values
// (as in the tetrahedron method of Lehmann, Taut, phys. stat. sol. b 54, 469 (1972)), so that whole vectors of cells go together.
template <class T> struct Cells {
  using V = vec<T>;
  int dimensions;
  T per[3], share;  // 1/h; part of a tetrahedron or triangle: 1/6 or 1/2 of a cell

  explicit Cells(const std::vector<double>& spacing) : dimensions(int(spacing.size())), share(dimensions == 3 ? T(1) / 6 : T(0.5)) {
    per[0] = T(1 / spacing[0]), per[1] = dimensions == 3 ? T(1 / spacing[1]) : T(1), per[2] = T(1 / spacing.back());
  }

  static OSTWALD_INLINE void sort(V& a, V& b) {
    const V low = minimum(a, b);
    b = maximum(a, b), a = low;
  }
  static OSTWALD_INLINE bits_t positive(V a) { return less(V{}, a); }

  // d/d(level) of the part of a tetrahedron that is below 0, from the values at its corners.
  static OSTWALD_INLINE V density(V a, V b, V c, V d) {
    sort(a, b), sort(c, d), sort(a, c), sort(b, d), sort(b, c);
    V unit = splat(T(1));
    if constexpr (sizeof(T) == 4) {  // products of small differences would underflow
      unit = T(1) / (d - a);
      a *= unit, b *= unit, c *= unit, d *= unit;
    }
    const V ab = b - a, ac = c - a, bc = c - b, bd = d - b, cd = d - c;
    const bits_t pa = positive(a), pb = positive(b), pc = positive(c), pd = positive(d);
    V top = T(3) * d * d, bottom = bd * cd;
    top = select(pc, T(3) * ((ab - T(2) * b) * bc * bd - (ac + bd) * b * b), top), bottom = select(pc, ac * bc * bd, bottom);
    top = select(pb, T(3) * a * a, top), bottom = select(pb, ab * ac, bottom);
    return select(pd & ~pa, top / (bottom * (d - a)) * unit, V{});
  }
  static OSTWALD_INLINE V density(V a, V b, V c) {  // of a triangle
    sort(a, b), sort(b, c), sort(a, b);
    const bits_t pa = positive(a), pb = positive(b), pc = positive(c);
    const V top = T(2) * select(pb, -a, c), bottom = (c - a) * select(pb, b - a, c - b);
    return select(pc & ~pa, top / bottom, V{});
  }

  // Area of the level set over the volume of a cell.
  OSTWALD_INLINE V area(const V v[8]) const {
    V sum{};
    const auto size = [](V x, V y, V z) { return sqrt(x * x + y * y + z * z); };
    if (dimensions == 2) {
      for (const int m : {1, 4}) {
        const V x = (m == 1 ? v[1] - v[0] : v[5] - v[4]) * per[0], z = (m == 4 ? v[4] - v[0] : v[5] - v[1]) * per[2];
        sum += size(x, V{}, z) * density(v[0], v[m], v[5]);
      }
      return sum * share;
    }
#pragma GCC unroll 3
    for (int i = 0; i < 3; i++)
#pragma GCC unroll 3
      for (int j = 0; j < 3; j++) {
        if (i == j) continue;
        const V &b = v[1 << i], &c = v[1 << i | 1 << j];
        sum += size((b - v[0]) * per[i], (c - b) * per[j], (v[7] - c) * per[3 - i - j]) * density(v[0], b, c, v[7]);
      }
    return sum * share;
  }

  // |∇φ| in the middle of a cell.
  OSTWALD_INLINE V slope(const V v[8]) const {
    if (dimensions == 2) {
      const V x = (v[1] - v[0] + v[5] - v[4]) * (T(0.5) * per[0]), z = (v[4] - v[0] + v[5] - v[1]) * (T(0.5) * per[2]);
      return sqrt(x * x + z * z);
    }
    const V x = (v[1] - v[0] + v[3] - v[2] + v[5] - v[4] + v[7] - v[6]) * (T(0.25) * per[0]);
    const V y = (v[2] - v[0] + v[3] - v[1] + v[6] - v[4] + v[7] - v[5]) * (T(0.25) * per[1]);
    const V z = (v[4] - v[0] + v[5] - v[1] + v[6] - v[2] + v[7] - v[3]) * (T(0.25) * per[2]);
    return sqrt(x * x + y * y + z * z);
  }

  // A row of cells between the lines of n points at (x, y), (x + 1, y), (x, y + 1), (x + 1, y + 1): adds |∇φ| and areas.
  void row(const T* const lines[4], int n, T level, double& variation, double& surface) const {
    const int corners = dimensions == 3 ? 4 : 2;
    T rest[4][lanes<T> + 1];  // the end of a line and its first point, which is the next one
    for (int z = 0; z < n; z += lanes<T>) {
      const bits_t here = first<T>(n - z);
      const T* from[4] = {lines[0] + z, lines[1] + z, lines[2] + z, lines[3] + z};
      if (z + lanes<T> >= n)
        for (int c = 0; c < corners; c++) {
          for (int k = 0; k <= lanes<T>; k++) rest[c][k] = lines[c][z + k < n ? z + k : 0];
          from[c] = rest[c];
        }
      V v[8] = {};
      for (int c = 0; c < corners; c++) v[c] = load(from[c]) - level, v[c + 4] = load(from[c] + 1) - level;
      V low = v[0], high = v[0];
      for (int c = 0; c < corners; c++) low = minimum(minimum(v[c], v[c + 4]), low), high = maximum(maximum(v[c], v[c + 4]), high);
      variation += sum_double(select(here, slope(v), V{}));
      const bits_t mixed = positive(high) & ~positive(low) & here;
      if (mixed) surface += sum_double(select(mixed, area(v), V{}));
    }
  }
};

py::tuple surface(py::array block, double level, std::vector<double> spacing, int threads) {
  require(spacing.size() == 2 || spacing.size() == 3, "a field has two or three dimensions");
  const bool three = spacing.size() == 3;
  require(block.ndim() == 3 && (block.flags() & py::array::c_style) && (three || block.shape(1) == 1),
          "a block must be C-contiguous (planes, lines, points), with one line in two dimensions");
  const int64_t nx = block.shape(0) - 1, ny = three ? block.shape(1) - 1 : 1, all = block.shape(1);
  const int n = int(block.shape(2));
  std::vector<double> variation(std::max<int64_t>(nx, 0), 0.0), area(variation);
  by_dtype(block, [&](auto t) {
    using T = decltype(t);
    const T* data = elements<T>(block, "block", 3, false);
    const Cells<T> cells(spacing);
    py::gil_scoped_release release;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t x = 0; x < nx; x++)
      for (int64_t y = 0; y < ny; y++) {
        const T *a = data + (x * all + y) * n, *b = a + all * n;
        const T* const lines[4] = {a, b, three ? a + n : a, three ? b + n : b};
        cells.row(lines, n, T(level), variation[x], area[x]);
      }
  });
  const double cell = std::accumulate(spacing.begin(), spacing.end(), 1.0, std::multiplies<double>());
  const auto sum = [&](const std::vector<double>& a) { return std::accumulate(a.begin(), a.end(), 0.0) * cell; };
  return py::make_tuple(sum(variation), sum(area));
}

// ---- the mask --------------------------------------------------------------------------------------------------------------

// Lines of words. `low`: the bits of the points that are not set.
struct Mask {
  uint64_t* data;
  int64_t nx, ny, lines, words;  // planes and lines of this rank; lines of a plane with the next rank's; words of a line
  int n;
  bool three;

  Mask(const py::array& a, int n_, bool three_, bool write) : n(n_), three(three_) {
    data = elements<uint64_t>(a, "mask (uint64)", 3, write);
    require((a.flags() & py::array::c_style) && n > 0 && a.shape(0) > 0 && a.shape(1) > 0 && a.shape(2) == (n + 63) / 64 &&
                (three || a.shape(1) == 1),
            "a mask must be C-contiguous (planes + 1, lines + 1, words), with one line in two dimensions");
    nx = a.shape(0) - 1, lines = a.shape(1), ny = three ? lines - 1 : 1, words = a.shape(2);
  }
  uint64_t* line(int64_t x, int64_t y) const { return data + (x * lines + y) * words; }
  uint64_t valid(int64_t w) const { return w + 1 < words || n % 64 == 0 ? ~uint64_t(0) : (uint64_t(1) << n % 64) - 1; }
  uint64_t word(const uint64_t* line, int64_t w, bool low) const { return low ? ~line[w] & valid(w) : line[w]; }
};

// Sets the bits of some planes, from plane `first` on, where φ > level.
void pack(py::array planes, double level, py::array mask, int n, bool three, int64_t first, int threads) {
  const Mask m(mask, n, three, true);
  require(planes.ndim() == 3 && (planes.flags() & py::array::c_style) && first >= 0 && first + planes.shape(0) <= m.nx &&
              planes.shape(1) == m.ny && planes.shape(2) == n,
          "planes must be C-contiguous (some, lines, points) of the mask");
  const int64_t some = planes.shape(0);
  by_dtype(planes, [&](auto t) {
    using T = decltype(t);
    const T* data = elements<T>(planes, "planes", 3, false);
    py::gil_scoped_release release;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t x = 0; x < some; x++)
      for (int64_t y = 0; y < m.ny; y++) {
        const T* a = data + (x * m.ny + y) * n;
        uint64_t* out = m.line(first + x, y);
        std::fill(out, out + m.words, 0);
        int z = 0;
        for (; z + lanes<T> <= n; z += lanes<T>) out[z / 64] |= uint64_t(less(splat(T(level)), load(a + z)) & all_lanes<T>) << z % 64;
        for (; z < n; z++) out[z / 64] |= uint64_t(a[z] > T(level)) << z % 64;
      }
  });
}

// Points, and V - E + F - C of the complex whose vertices are the points of a phase, whose edges join two neighbours along an axis that
// both belong to it, whose squares four and whose cubes eight: the Euler number of the phase joined through faces.
py::tuple euler(py::array mask, int n, bool three, bool low, bool walls, int threads) {
  const Mask m(mask, n, three, false);
  int64_t points = 0, number = 0;
  {
    py::gil_scoped_release release;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(+ : points, number)
    for (int64_t x = 0; x < m.nx; x++)
      for (int64_t y = 0; y < m.ny; y++) {
        const uint64_t *a = m.line(x, y), *b = m.line(x + 1, y);
        const uint64_t *c = three ? m.line(x, y + 1) : a, *d = three ? m.line(x + 1, y + 1) : b;
        const auto next = [&](auto f, int64_t w) {  // the same one point further along the line
          const uint64_t carry = w + 1 < m.words ? f(w + 1) << 63 : walls ? 0 : (f(0) & 1) << (n - 1) % 64;
          return f(w) >> 1 | carry;
        };
        const auto count = [](uint64_t bits) { return int64_t(__builtin_popcountll(bits)); };
        const auto at = [&](const uint64_t* l) { return [&m, l, low](int64_t w) { return m.word(l, w, low); }; };
        const auto A = at(a), B = at(b), C = at(c), D = at(d);
        const auto AB = [&](int64_t w) { return A(w) & B(w); };
        const auto AC = [&](int64_t w) { return A(w) & C(w); };
        const auto ABCD = [&](int64_t w) { return A(w) & B(w) & C(w) & D(w); };
        for (int64_t w = 0; w < m.words; w++) {
          const int64_t vertices = count(A(w));
          int64_t edges = count(A(w) & next(A, w)) + count(AB(w)), squares = count(AB(w) & next(AB, w)), cubes = 0;
          if (three) {
            edges += count(AC(w));
            squares += count(AC(w) & next(AC, w)) + count(ABCD(w));
            cubes = count(ABCD(w) & next(ABCD, w));
          }
          points += vertices, number += vertices - edges + squares - cubes;
        }
      }
  }
  return py::make_tuple(points, number);
}

// ---- domains ---------------------------------------------------------------------------------------------------------------

struct Run {
  int32_t start, stop;
};

// Calls f(run) for the runs of a phase in a line.
template <class F> void each_run(const Mask& m, const uint64_t* line, bool low, const F& f) {
  uint64_t before = 0;  // the last bit of the word before
  int32_t start = 0;
  bool open = false;
  for (int64_t w = 0; w < m.words; w++) {
    const uint64_t bits = m.word(line, w, low);
    uint64_t turns = bits ^ (bits << 1 | before);
    before = bits >> 63;
    for (; turns; turns &= turns - 1) {
      const int32_t z = int32_t(64 * w + __builtin_ctzll(turns));
      if (open) f(Run{start, z});
      else start = z;
      open = !open;
    }
  }
  if (open) f(Run{start, m.n});
}

// Calls f(i, j) for the runs of two lines that touch.
template <class F> void each_contact(const Run* a, int64_t na, const Run* b, int64_t nb, const F& f) {
  for (int64_t i = 0, j = 0; i < na && j < nb;) {
    if (a[i].start < b[j].stop && b[j].start < a[i].stop) f(i, j);
    a[i].stop < b[j].stop ? i++ : j++;
  }
}

// The parts of the domains of a phase on a rank: runs joined through faces within the brick, not across its ends.
class Domains {
  py::array array;
  Mask m;
  bool low;
  std::vector<int64_t> offsets;  // of the runs of each line
  std::vector<Run> runs;
  std::vector<int32_t> of;  // of a run: its part; while they are found, a run that is not later

  int32_t find(int32_t v) {
    while (of[v] != v) v = of[v] = of[of[v]];
    return v;
  }
  void unite(int32_t a, int32_t b) {
    a = find(a), b = find(b);
    of[std::max(a, b)] = std::min(a, b);  // a root is the first run of its part
  }
  void join(int64_t line, int64_t other) {
    each_contact(&runs[offsets[line]], offsets[line + 1] - offsets[line], &runs[offsets[other]], offsets[other + 1] - offsets[other],
                 [&](int64_t i, int64_t j) { unite(int32_t(offsets[line] + i), int32_t(offsets[other] + j)); });
  }
  // Lines at the beginning and at the end of an axis, and the ghost beyond it.
  template <class F> void each_end(int axis, const F& f) const {
    if (axis == 0)
      for (int64_t y = 0; y < m.ny; y++) f(y, (m.nx - 1) * m.ny + y, m.line(m.nx, y));
    else
      for (int64_t x = 0; x < m.nx; x++) f(x * m.ny, x * m.ny + m.ny - 1, m.line(x, m.ny));
  }
  void check(int axis) const { require(axis == 0 || (axis == 1 && m.three), "domains go on across the axes 0 and 1"); }

public:
  Array<int64_t> sizes, first;

  Domains(py::array mask, int n, bool three, bool low_) : array(mask), m(mask, n, three, false), low(low_) {
    int64_t parts = 0;
    {
      py::gil_scoped_release release;
      offsets.push_back(0);
      for (int64_t x = 0; x < m.nx; x++)
        for (int64_t y = 0; y < m.ny; y++) {
          each_run(m, m.line(x, y), low, [&](Run run) { runs.push_back(run), of.push_back(int32_t(of.size())); });
          if (runs.size() > size_t(INT32_MAX)) throw std::length_error("more than 2^31 runs of a phase on one rank");
          const int64_t line = x * m.ny + y;
          offsets.push_back(int64_t(runs.size()));
          if (y) join(line, line - 1);
          if (x) join(line, line - m.ny);
        }
      for (size_t k = 0; k < of.size(); k++) of[k] = of[k] == int32_t(k) ? int32_t(parts++) : of[of[k]];
    }
    sizes = Array<int64_t>(parts), first = Array<int64_t>(parts);
    int64_t *size = sizes.mutable_data(), *begin = first.mutable_data();
    std::fill(size, size + parts, 0), std::fill(begin, begin + parts, -1);
    for (size_t line = 0; line + 1 < offsets.size(); line++)
      for (int64_t k = offsets[line]; k < offsets[line + 1]; k++) {
        size[of[k]] += runs[k].stop - runs[k].start;
        if (begin[of[k]] < 0) begin[of[k]] = int64_t(line) * n + runs[k].start;
      }
  }

  // Parts of the runs at the beginning of an axis, in order.
  Array<int32_t> face(int axis) const {
    check(axis);
    std::vector<int32_t> out;
    if (m.nx)
      each_end(axis, [&](int64_t line, int64_t, const uint64_t*) { out.insert(out.end(), &of[0] + offsets[line], &of[0] + offsets[line + 1]); });
    return Array<int32_t>(int64_t(out.size()), out.data());
  }

  // (part, label) of what touches the next rank's face, whose runs have these labels.
  py::tuple across(int axis, const Array<int64_t>& labels) const {
    check(axis);
    std::vector<int32_t> mine;
    std::vector<int64_t> theirs;
    std::vector<Run> beyond;
    int64_t at = 0;
    const int64_t* label = labels.data();
    if (m.nx)
      each_end(axis, [&](int64_t, int64_t line, const uint64_t* ghost) {
        beyond.clear();
        each_run(m, ghost, low, [&](Run run) { beyond.push_back(run); });
        require(at + int64_t(beyond.size()) <= labels.size(), "labels are not those of the next rank's face");
        each_contact(&runs[offsets[line]], offsets[line + 1] - offsets[line], beyond.data(), int64_t(beyond.size()), [&](int64_t i, int64_t j) {
          const int32_t part = of[offsets[line] + i];
          if (!mine.empty() && mine.back() == part && theirs.back() == label[at + j]) return;
          mine.push_back(part), theirs.push_back(label[at + j]);
        });
        at += int64_t(beyond.size());
      });
    require(at == labels.size(), "labels are not those of the next rank's face");
    return py::make_tuple(Array<int32_t>(int64_t(mine.size()), mine.data()), Array<int64_t>(int64_t(theirs.size()), theirs.data()));
  }

  // (part at the end, part at the beginning) of lines that go on across the last axis.
  py::tuple around() const {
    std::vector<int32_t> end, begin;
    for (size_t line = 0; line + 1 < offsets.size(); line++) {
      const int64_t a = offsets[line], b = offsets[line + 1] - 1;
      if (a > b || runs[a].start != 0 || runs[b].stop != m.n) continue;
      if (!end.empty() && end.back() == of[b] && begin.back() == of[a]) continue;
      end.push_back(of[b]), begin.push_back(of[a]);
    }
    return py::make_tuple(Array<int32_t>(int64_t(end.size()), end.data()), Array<int32_t>(int64_t(begin.size()), begin.data()));
  }
};

}  // namespace

PYBIND11_MODULE(_morphology, m) {
  m.doc() = "Shape of a phase in a periodic field: spectrum by shells, level set, Euler number, domains (C++ kernels)";
  using namespace py::literals;
  m.def("shells", &shells, "spectrum"_a, "kx"_a, "ky"_a, "kz"_a, "weights"_a, "width"_a, "bins"_a, "threads"_a = 1,
        "(bins, 3): number, sum of |k| and of |spectrum|² of the wave vectors of each bin, |k|/width rounded. kx in the columns' order.");
  m.def("surface", &surface, "block"_a, "level"_a, "spacing"_a, "threads"_a = 1,
        "(∫|∇φ|, area of the level set) of the cells between the planes and lines of a block; periodic along the last axis.");
  m.def("pack", &pack, "planes"_a, "level"_a, "mask"_a, "n"_a, "three"_a, "first"_a, "threads"_a = 1,
        "Sets the bits of a mask from plane `first` on where φ > level.");
  m.def("euler", &euler, "mask"_a, "n"_a, "three"_a, "low"_a, "walls"_a = false, "threads"_a = 1,
        "(points, Euler number) of this rank's share of a phase whose points are joined through faces; walls: not across the last axis.");
  py::class_<Domains>(m, "Domains", "Parts of the domains of a phase within a brick; points are joined through faces.")
      .def(py::init<py::array, int, bool, bool>(), "mask"_a, "n"_a, "three"_a, "low"_a)
      .def_readonly("sizes", &Domains::sizes, "(parts,) int64: points of each")
      .def_readonly("first", &Domains::first, "(parts,) int64: first point of each, counted in the brick; ascending")
      .def("face", &Domains::face, "axis"_a, "Parts of the runs at the beginning of an axis, in order.")
      .def("across", &Domains::across, "axis"_a, "labels"_a, "(part, label) of what touches the next rank's face, given its labels.")
      .def("around", &Domains::around, "(part at the end, part at the beginning) of lines that go on across the last axis.");
}
