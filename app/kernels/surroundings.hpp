// The rows of a rank (locals first, then ghosts, periodic images included) and a search of the nearest neighbours of its
// atoms, in a grid of bins of its own: an analysis does not depend on how a potential wants its list.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "simd.hpp"

namespace py = pybind11;

namespace ostwald {

typedef vec<double> Lanes;
constexpr int W = lanes<double>;

typedef py::array_t<double, py::array::c_style> Doubles;
typedef py::array_t<int32_t, py::array::c_style> Ints;
typedef py::array_t<int64_t, py::array::c_style> Longs;

[[noreturn]] inline void wrong(const std::string& what) { throw std::invalid_argument(what); }

template <class T>
py::array_t<T, py::array::c_style> checked(const py::array& a, const char* name, int dims, int columns = 0) {
    if (!py::isinstance<py::array_t<T, py::array::c_style>>(a) || a.ndim() != dims || (columns && a.shape(1) != columns))
        wrong(std::string(name) + " has the wrong dtype, shape or layout");
    return py::reinterpret_borrow<py::array_t<T, py::array::c_style>>(a);
}

struct Rows {
    Doubles array;
    const double* x;
    int rows, nlocal;
    Rows(const py::array& positions, int64_t n) : array(checked<double>(positions, "positions (n, 3) float64", 2, 3)) {
        x = array.data();
        if (array.shape(0) > std::numeric_limits<int32_t>::max()) wrong("positions has more rows than 32 bits can index");
        rows = int(array.shape(0));
        if (n < 0 || n > rows) wrong("nlocal lies outside of the rows of positions");
        nlocal = int(n);
    }
};

// Rows sorted into bins, x fastest, so that the bins around an atom are few contiguous runs.
struct Grid {
    int dims[3];
    double low[3], edge[3];
    std::vector<int32_t> start, row;
    std::vector<double> x, y, z;

    int bin(double v, int axis) const {
        const int b = int((v - low[axis]) / edge[axis]);
        return b < 0 ? 0 : b >= dims[axis] ? dims[axis] - 1 : b;
    }

    static void bounds(const Rows& r, double lo[3], double hi[3]) {
        for (int k = 0; k < 3; ++k) lo[k] = 1e300, hi[k] = -1e300;
        for (int i = 0; i < r.rows; ++i)
            for (int k = 0; k < 3; ++k) {
                const double v = r.x[3 * i + k];
                if (!(std::fabs(v) < 1e150)) wrong("positions holds a coordinate that is not finite (row " + std::to_string(i) + ")");
                lo[k] = std::min(lo[k], v);
                hi[k] = std::max(hi[k], v);
            }
        if (r.rows == 0)
            for (int k = 0; k < 3; ++k) lo[k] = hi[k] = 0;
    }

    Grid(const Rows& r, double reach) {
        double high[3];
        bounds(r, low, high);
        // Bins at least `reach` wide, and not (many) more of them than atoms.
        const double most = 2.0 * r.rows + 64;
        double width = reach;
        for (;;) {
            double bins = 1;
            for (int k = 0; k < 3; ++k) bins *= std::max(1.0, std::floor((high[k] - low[k]) / width));
            if (bins <= most) break;
            width *= 1.26;
        }
        for (int k = 0; k < 3; ++k) {
            dims[k] = std::max(1, int(std::floor((high[k] - low[k]) / width)));
            edge[k] = std::max(width, (high[k] - low[k]) / dims[k] * (1 + 1e-12));
        }
        const int total = dims[0] * dims[1] * dims[2];
        start.assign(total + 1, 0);
        std::vector<int32_t> where(r.rows);
        for (int i = 0; i < r.rows; ++i) {
            const double* p = r.x + 3 * size_t(i);
            where[i] = (bin(p[2], 2) * dims[1] + bin(p[1], 1)) * dims[0] + bin(p[0], 0);
            ++start[where[i] + 1];
        }
        for (int b = 0; b < total; ++b) start[b + 1] += start[b];
        row.resize(r.rows);
        x.resize(r.rows + W), y.resize(r.rows + W), z.resize(r.rows + W);
        std::vector<int32_t> next(start.begin(), start.end() - 1);
        for (int i = 0; i < r.rows; ++i) {
            const int slot = next[where[i]]++;
            row[slot] = i;
            x[slot] = r.x[3 * size_t(i)], y[slot] = r.x[3 * size_t(i) + 1], z[slot] = r.x[3 * size_t(i) + 2];
        }
    }
};

// What lies around the bin under work, and around one of its atoms.
struct Around {
    std::vector<double> x, y, z;      // candidates: the atoms of the bins around
    std::vector<int32_t> row;
    int candidates = 0;
    std::vector<double> distance2;    // of those within the radius: squared distance,
    std::vector<int32_t> slot;        // and where among the candidates
    int found = 0;

    void collect(const Grid& g, const int at[3], int bins) {
        int lo[3], hi[3];
        for (int k = 0; k < 3; ++k) lo[k] = std::max(0, at[k] - bins), hi[k] = std::min(g.dims[k] - 1, at[k] + bins);
        size_t need = 0;
        for (int c = lo[2]; c <= hi[2]; ++c)
            for (int b = lo[1]; b <= hi[1]; ++b) {
                const int line = (c * g.dims[1] + b) * g.dims[0];
                need += g.start[line + hi[0] + 1] - g.start[line + lo[0]];
            }
        if (x.size() < need + W) {
            const size_t room = need + need / 2 + W;
            x.resize(room), y.resize(room), z.resize(room), row.resize(room);
            distance2.resize(room), slot.resize(room);
        }
        candidates = 0;
        for (int c = lo[2]; c <= hi[2]; ++c)
            for (int b = lo[1]; b <= hi[1]; ++b) {
                const int line = (c * g.dims[1] + b) * g.dims[0];
                const int first = g.start[line + lo[0]], n = g.start[line + hi[0] + 1] - first;
                std::memcpy(&x[candidates], &g.x[first], n * sizeof(double));
                std::memcpy(&y[candidates], &g.y[first], n * sizeof(double));
                std::memcpy(&z[candidates], &g.z[first], n * sizeof(double));
                std::memcpy(&row[candidates], &g.row[first], n * sizeof(int32_t));
                candidates += n;
            }
        for (int k = 0; k < W; ++k) x[candidates + k] = y[candidates + k] = z[candidates + k] = 1e200;
    }

    // The candidates within the radius of a point; the atom at the point itself is dropped by its row.
    void within(const double p[3], int self, double radius2) {
        const Lanes px = splat(p[0]), py_ = splat(p[1]), pz = splat(p[2]), limit = splat(radius2);
        index_vec<double> lane;
        for (int k = 0; k < W; ++k) lane[k] = k;
        int n = 0;
        for (int c = 0; c < candidates; c += W) {
            const Lanes dx = load(&x[c]) - px, dy = load(&y[c]) - py_, dz = load(&z[c]) - pz;
            const Lanes d2 = dx * dx + dy * dy + dz * dz;
            const bits_t near = less(d2, limit);
            compress(&distance2[n], near, d2);
            compress_index<double>(&slot[n], near, lane + c);
            n += __builtin_popcount(near);
        }
        for (int k = 0; k < n; ++k)
            if (row[slot[k]] == self) {
                distance2[k] = distance2[--n];
                slot[k] = slot[n];
                break;
            }
        found = n;
    }
};

constexpr int SORTABLE = 64;  // a power of two: more than these are cut down before they are ranked

// What neighbours at equal distances, as in a perfect crystal, are ranked by: their direction, which unlike their order
// among the rows is the same on any number of ranks. Far below any real difference of squared distances, far above rounding.
inline double preference(const Around& a, int slot, const double p[3]) {
    return 1e-9 * (0.5453 * (a.x[slot] - p[0]) + 0.3181 * (a.y[slot] - p[1]) + 0.7763 * (a.z[slot] - p[2]));
}

// Slots of the `count` smallest distances from p, in their order; count <= found. Returns through `chosen`.
inline void smallest(Around& a, int count, const double p[3], int32_t* chosen, double* distance2) {
    int m = a.found;
    if (m > SORTABLE) {
        std::vector<std::pair<double, int32_t>> pairs(m);
        for (int k = 0; k < m; ++k) pairs[k] = {a.distance2[k] + preference(a, a.slot[k], p), k};
        std::nth_element(pairs.begin(), pairs.begin() + (SORTABLE - 1), pairs.end());
        m = SORTABLE;
        std::sort(pairs.begin(), pairs.begin() + m, [](const auto& one, const auto& two) { return one.second < two.second; });
        for (int k = 0; k < m; ++k)  // from the left, so that nothing is overwritten before it is read
            a.distance2[k] = a.distance2[pairs[k].second], a.slot[k] = a.slot[pairs[k].second];
    }
    // Rank by counting the smaller ones. Positive doubles are ordered as their bits; the lowest six make them unique.
    alignas(64) double key[SORTABLE + W], rank[SORTABLE + W];
    for (int k = 0; k < m; ++k) {
        uint64_t bits;
        const double ranked = std::max(a.distance2[k] + preference(a, a.slot[k], p), 0.0);
        std::memcpy(&bits, &ranked, 8);
        bits = (bits & ~uint64_t(SORTABLE - 1)) | uint64_t(k);
        std::memcpy(&key[k], &bits, 8);
    }
    for (int k = m; k < m + W; ++k) key[k] = 1e300;
    for (int i = 0; i < m; i += W) {
        const Lanes mine = load(key + i);
        Lanes smaller{};
        const Lanes one = splat(1.0), zero{};
        for (int j = 0; j < m; ++j) smaller += splat(key[j]) < mine ? one : zero;
        store(rank + i, smaller);
    }
    for (int k = 0; k < m; ++k) {
        const int r = int(rank[k]);
        if (r < count) chosen[r] = a.slot[k], distance2[r] = a.distance2[k];
    }
}

// Calls visit(thread-local state, around, row, position) for every local atom, bin by bin.
template <class State, class Visit>
void each_atom(const Grid& g, int nlocal, int threads, int bins, const Visit& visit) {
    const int lines = g.dims[1] * g.dims[2];
#pragma omp parallel num_threads(threads)
    {
        Around around;
        State state;
#pragma omp for schedule(dynamic, 1)
        for (int line = 0; line < lines; ++line)
            for (int a = 0; a < g.dims[0]; ++a) {
                const int b = line * g.dims[0] + a;
                bool mine = false;
                for (int s = g.start[b]; s < g.start[b + 1]; ++s) mine |= g.row[s] < nlocal;
                if (!mine) continue;
                const int at[3] = {a, line % g.dims[1], line / g.dims[1]};
                around.collect(g, at, bins);
                for (int s = g.start[b]; s < g.start[b + 1]; ++s) {
                    if (g.row[s] >= nlocal) continue;
                    const double p[3] = {g.x[s], g.y[s], g.z[s]};
                    visit(state, around, g.row[s], p, at);
                }
            }
    }
}

// A radius that holds some 24 atoms at the mean density of the rows, but no more than the cutoff.
inline double first_radius(const Rows& r, double cutoff) {
    if (!(cutoff > 0)) wrong("cutoff must be positive");
    double lo[3], hi[3];
    Grid::bounds(r, lo, hi);
    const double volume = (hi[0] - lo[0]) * (hi[1] - lo[1]) * (hi[2] - lo[2]);
    if (r.rows < 32 || volume <= 0) return cutoff;
    return std::min(cutoff, std::cbrt(24.0 * volume / (4.18879 * r.rows)));
}

// Visits every local atom with its `count` nearest neighbours within the cutoff (fewer where there are not as many):
// visit(state, around, row, position, number, slots, squared distances). Exact: a larger radius is searched where the
// first one holds too few.
template <class State, class Visit>
void each_nearest(const Rows& r, int count, double cutoff, int threads, const Visit& visit) {
    const double radius = first_radius(r, cutoff);
    const Grid g(r, radius);
    struct Both {
        State state;
        Around wide;
        int32_t slots[SORTABLE];
        double distance2[SORTABLE];
    };
    each_atom<Both>(g, r.nlocal, threads, 1, [&](Both& own, Around& around, int row, const double* p, const int* at) {
        around.within(p, row, radius * radius);
        Around* a = &around;
        for (double wider = radius; a->found < count && wider < cutoff;) {
            wider = std::min(1.4 * wider, cutoff);
            const double least = std::min({g.edge[0], g.edge[1], g.edge[2]});
            a = &own.wide;
            a->collect(g, at, int(std::ceil(wider / least)));
            a->within(p, row, wider * wider);
        }
        const int number = std::min(count, a->found);
        smallest(*a, number, p, own.slots, own.distance2);
        visit(own.state, *a, row, p, number, own.slots, own.distance2);
    });
}

struct Nothing {};

}  // namespace ostwald
