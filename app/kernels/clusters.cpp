// Clusters of atoms: connected components of the atoms of a rank (union-find), what touches across the faces of a brick,
// the components of the whole with the lattice translations along the way, and the moments of each component.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "simd.hpp"

namespace py = pybind11;

namespace {

using namespace ostwald;

typedef vec<double> Lanes;
constexpr int W = lanes<double>;

template <class T> using Array = py::array_t<T, py::array::c_style>;

[[noreturn]] void wrong(const std::string& what) { throw std::invalid_argument(what); }

// columns: 0 any number of dimensions but the first must be `rows` or more; rows < 0: any number.
template <class T>
Array<T> checked(const py::array& a, const char* name, int64_t rows, int columns = 0) {
    const bool shape = a.ndim() == (columns ? 2 : 1) && (rows < 0 || a.shape(0) >= rows) && (!columns || a.shape(1) == columns);
    if (!py::isinstance<Array<T>>(a) || !shape) wrong(std::string(name) + " has the wrong dtype, shape or layout");
    return py::reinterpret_borrow<Array<T>>(a);
}

// --- the union-find of one rank ---------------------------------------------------------------------------------------

// A larger root is always hooked under a smaller one, so the root of a component is its smallest element whatever the
// order of the unions: any number of threads finds the same forest of roots.
class Forest {
    std::vector<int32_t> parent;

public:
    explicit Forest(size_t n) : parent(n) { std::iota(parent.begin(), parent.end(), 0); }

    int32_t find(int32_t v) {
        int32_t p = __atomic_load_n(&parent[v], __ATOMIC_RELAXED);
        while (p != v) {
            const int32_t next = __atomic_load_n(&parent[p], __ATOMIC_RELAXED);
            if (next != p) __atomic_store_n(&parent[v], next, __ATOMIC_RELAXED);  // an ancestor stays an ancestor
            v = p, p = next;
        }
        return v;
    }

    // Joins v to the component of root a; returns the root of both.
    int32_t unite(int32_t a, int32_t v) {
        if (__atomic_load_n(&parent[v], __ATOMIC_RELAXED) == a) return a;
        for (;;) {
            a = find(a);
            int32_t b = find(v);
            if (a == b) return a;
            const int32_t high = std::max(a, b), low = std::min(a, b);
            int32_t itself = high;
            if (__atomic_compare_exchange_n(&parent[high], &itself, low, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return low;
        }
    }
};

// Some rows sorted into bins at least as wide as the cutoff, x fastest: the bins around a point are few contiguous runs.
struct Grid {
    int dims[3] = {1, 1, 1};
    double low[3] = {0, 0, 0}, edge[3] = {1, 1, 1};
    std::vector<int32_t> start, row;
    std::vector<double> x, y, z;

    int bin(double v, int axis) const { return int(std::floor((v - low[axis]) / edge[axis])); }

    Grid(const double* p, const std::vector<int32_t>& rows, double cutoff, double most) {
        double high[3];
        for (int k = 0; k < 3; ++k) low[k] = 1e300, high[k] = -1e300;
        for (const int32_t i : rows)
            for (int k = 0; k < 3; ++k) {
                const double v = p[3 * size_t(i) + k];
                if (!(std::fabs(v) < 1e150)) wrong("positions holds a coordinate that is not finite (row " + std::to_string(i) + ")");
                low[k] = std::min(low[k], v), high[k] = std::max(high[k], v);
            }
        if (rows.empty())
            for (int k = 0; k < 3; ++k) low[k] = high[k] = 0;
        double width = cutoff;
        for (;; width *= 1.26) {
            double bins = 1;
            for (int k = 0; k < 3; ++k) bins *= std::max(1.0, std::floor((high[k] - low[k]) / width));
            if (bins <= most) break;
        }
        for (int k = 0; k < 3; ++k) {
            dims[k] = std::max(1, int(std::floor((high[k] - low[k]) / width)));
            edge[k] = std::max(width, (high[k] - low[k]) / dims[k] * (1 + 1e-12));
        }
        const size_t n = rows.size();
        start.assign(size_t(dims[0]) * dims[1] * dims[2] + 1, 0);
        std::vector<int32_t> where(n);
        for (size_t s = 0; s < n; ++s) {
            const double* q = p + 3 * size_t(rows[s]);
            int at[3];
            for (int k = 0; k < 3; ++k) at[k] = std::min(std::max(bin(q[k], k), 0), dims[k] - 1);
            where[s] = (at[2] * dims[1] + at[1]) * dims[0] + at[0];
            ++start[where[s] + 1];
        }
        for (size_t b = 1; b < start.size(); ++b) start[b] += start[b - 1];
        row.resize(n), x.resize(n + W), y.resize(n + W), z.resize(n + W);
        std::vector<int32_t> next(start.begin(), start.end() - 1);
        for (size_t s = 0; s < n; ++s) {
            const int32_t slot = next[where[s]]++;
            const double* q = p + 3 * size_t(rows[s]);
            row[slot] = rows[s], x[slot] = q[0], y[slot] = q[1], z[slot] = q[2];
        }
    }

    // Calls hit(slot) for the slots in [first, last) nearer than the cutoff.
    template <class Hit>
    void run(const Lanes p[3], Lanes limit, int first, int last, const Hit& hit) const {
        for (int s = first; s < last; s += W) {
            const Lanes dx = load(&x[s]) - p[0], dy = load(&y[s]) - p[1], dz = load(&z[s]) - p[2];
            bits_t near = less(dx * dx + dy * dy + dz * dz, limit);
            if (last - s < W) near &= (bits_t(1) << (last - s)) - 1;
            for (; near; near &= near - 1) hit(s + __builtin_ctz(near));
        }
    }

    // Calls hit(slot) for all slots nearer to the point than the cutoff.
    template <class Hit>
    void around(const double q[3], double cutoff, const Hit& hit) const {
        int lo[3], hi[3];
        for (int k = 0; k < 3; ++k) {
            const double at = std::floor((q[k] - low[k]) / edge[k]);
            if (!(at >= -1 && at <= dims[k])) return;
            lo[k] = std::max(0, int(at) - 1), hi[k] = std::min(dims[k] - 1, int(at) + 1);
        }
        const Lanes p[3] = {splat(q[0]), splat(q[1]), splat(q[2])}, limit = splat(cutoff * cutoff);
        for (int c = lo[2]; c <= hi[2]; ++c)
            for (int b = lo[1]; b <= hi[1]; ++b) {
                const int line = (c * dims[1] + b) * dims[0];
                run(p, limit, start[line + lo[0]], start[line + hi[0] + 1], hit);
            }
    }

    // Joins all pairs nearer than the cutoff.
    void join(Forest& forest, double cutoff, int threads) const {
        const Lanes limit = splat(cutoff * cutoff);
        const int lines = dims[1] * dims[2];
#pragma omp parallel for num_threads(threads) schedule(dynamic, 8)
        for (int line = 0; line < lines; ++line) {
            const int b = line % dims[1], c = line / dims[1];
            // Half of the lines of bins around this one: each pair of lines is met once.
            int others[4], number = 0;
            if (b + 1 < dims[1]) others[number++] = line + 1;
            if (c + 1 < dims[2])
                for (int k = -1; k <= 1; ++k)
                    if (b + k >= 0 && b + k < dims[1]) others[number++] = line + dims[1] + k;
            for (int a = 0; a < dims[0]; ++a) {
                const int at = line * dims[0] + a, lo = std::max(a - 1, 0), hi = std::min(a + 1, dims[0] - 1);
                for (int s = start[at]; s < start[at + 1]; ++s) {
                    const Lanes p[3] = {splat(x[s]), splat(y[s]), splat(z[s])};
                    int32_t root = forest.find(s);
                    const auto hit = [&](int t) { root = forest.unite(root, t); };
                    run(p, limit, s + 1, start[line * dims[0] + hi + 1], hit);
                    for (int k = 0; k < number; ++k)
                        run(p, limit, start[others[k] * dims[0] + lo], start[others[k] * dims[0] + hi + 1], hit);
                }
            }
        }
    }
};

// Rows of CSR bonds, where bonds and not a distance say what is joined.
struct Bonds {
    Array<int64_t> offsets_array;
    Array<int32_t> indices_array;
    const int64_t* offsets;
    const int32_t* indices;
    Bonds(const py::array& o, const py::array& i, int64_t nlocal)
        : offsets_array(checked<int64_t>(o, "offsets (n+1,) int64", nlocal + 1)), indices_array(checked<int32_t>(i, "indices (m,) int32", -1)) {
        offsets = offsets_array.data(), indices = indices_array.data();
        if (offsets[nlocal] > indices_array.shape(0)) wrong("offsets points beyond indices");
    }
};

py::tuple numbered(Forest& forest, const std::vector<int32_t>& rows, int64_t nlocal) {
    Array<int32_t> of(nlocal);
    int32_t* f = of.mutable_data();
    std::fill(f, f + nlocal, -1);
    std::vector<int32_t> number(rows.size());
    int32_t count = 0;
    for (size_t s = 0; s < rows.size(); ++s) {
        const int32_t root = forest.find(int32_t(s));  // never after s
        number[s] = root == int32_t(s) ? count++ : number[root];
        f[rows[s]] = number[s];
    }
    return py::make_tuple(of, count);
}

std::vector<int32_t> members(const Array<bool>& member, int64_t first, int64_t last) {
    std::vector<int32_t> rows;
    const bool* m = member.data();
    int64_t n = 0;
    for (int64_t i = first; i < last; ++i) n += m[i];
    rows.reserve(n);
    for (int64_t i = first; i < last; ++i)
        if (m[i]) rows.push_back(int32_t(i));
    return rows;
}

double bins_for(int64_t nlocal) { return double(nlocal) + 64; }

class Near {
    Array<double> positions;
    int64_t nlocal;
    double cutoff;
    Grid grid;

public:
    Array<int32_t> fragments;
    int32_t count;

    Near(const py::array& x, int64_t n, const py::array& member, double cutoff, int threads)
        : positions(checked<double>(x, "positions (n, 3) float64", n, 3)), nlocal(n), cutoff(cutoff),
          grid(positions.data(), members(checked<bool>(member, "member (n,) bool", n), 0, n), positive(cutoff), bins_for(n)) {
        Forest forest(grid.row.size());
        {
            py::gil_scoped_release release;
            grid.join(forest, cutoff, threads);
        }
        const py::tuple found = numbered(forest, grid.row, nlocal);
        fragments = found[0].cast<Array<int32_t>>();
        count = found[1].cast<int32_t>();
    }

    static double positive(double cutoff) {
        if (!(cutoff > 0)) wrong("cutoff must be positive");
        return cutoff;
    }

    // (fragment, ghost row) of everything that touches: each pair once.
    py::tuple touching(const py::array& x, const py::array& label) const {
        const auto all = checked<double>(x, "positions (n + nghost, 3) float64", nlocal, 3);
        const int64_t rows = all.shape(0);
        const auto labels = checked<int64_t>(label, "labels (n + nghost,) int64", rows);
        std::vector<int32_t> mine, ghosts;
        const double* p = all.data();
        const int64_t* l = labels.data();
        const int32_t* of = fragments.data();
        if (!grid.row.empty()) {
            py::gil_scoped_release release;
            for (int64_t g = nlocal; g < rows; ++g) {
                if (l[g] < 0) continue;
                const size_t first = mine.size();
                grid.around(p + 3 * g, cutoff, [&](int slot) {
                    const int32_t f = of[grid.row[slot]];
                    if (std::find(mine.begin() + first, mine.end(), f) != mine.end()) return;
                    mine.push_back(f), ghosts.push_back(int32_t(g));
                });
            }
        }
        return py::make_tuple(Array<int32_t>(mine.size(), mine.data()), Array<int32_t>(ghosts.size(), ghosts.data()));
    }
};

// The same where bonds are given: member (n + nghost) bool.
py::tuple join_bonds(const py::array& offsets, const py::array& indices, int64_t nlocal, const py::array& member) {
    const Bonds bonds(offsets, indices, nlocal);
    const auto in = checked<bool>(member, "member (n + nghost,) bool", nlocal);
    const int64_t rows = in.shape(0);
    const bool* m = in.data();
    const std::vector<int32_t> mine = members(in, 0, nlocal);
    std::vector<int32_t> slot(nlocal, -1), fragment, ghosts;
    for (size_t s = 0; s < mine.size(); ++s) slot[mine[s]] = int32_t(s);
    Forest forest(mine.size());
    for (const int32_t i : mine)
        for (int64_t k = bonds.offsets[i]; k < bonds.offsets[i + 1]; ++k) {
            const int32_t j = bonds.indices[k];
            if (j < 0 || j >= rows) wrong("indices points beyond the rows");
            if (j < nlocal && m[j]) forest.unite(forest.find(slot[i]), slot[j]);
        }
    const py::tuple found = numbered(forest, mine, nlocal);
    const auto fragments = found[0].cast<Array<int32_t>>();
    const int32_t* of = fragments.data();
    for (const int32_t i : mine)
        for (int64_t k = bonds.offsets[i]; k < bonds.offsets[i + 1]; ++k) {
            const int32_t j = bonds.indices[k];
            if (j >= nlocal && m[j]) fragment.push_back(of[i]), ghosts.push_back(j);
        }
    return py::make_tuple(fragments, found[1], Array<int32_t>(fragment.size(), fragment.data()), Array<int32_t>(ghosts.size(), ghosts.data()));
}

Array<int32_t> count_near(const py::array& x, int64_t nlocal, const py::array& member, double cutoff, int threads) {
    const auto positions = checked<double>(x, "positions (n + nghost, 3) float64", nlocal, 3);
    const int64_t rows = positions.shape(0);
    const auto in = checked<bool>(member, "member (n + nghost,) bool", rows);
    Near::positive(cutoff);
    Array<int32_t> out(nlocal);
    int32_t* count = out.mutable_data();
    const bool* m = in.data();
    const double* p = positions.data();
    const Grid grid(p, members(in, 0, rows), cutoff, bins_for(rows));
    py::gil_scoped_release release;
#pragma omp parallel for num_threads(threads) schedule(static, 1024)
    for (int64_t i = 0; i < nlocal; ++i) {
        int32_t n = 0;
        if (m[i]) {
            grid.around(p + 3 * i, cutoff, [&](int) { ++n; });
            --n;  // itself
        }
        count[i] = n;
    }
    return out;
}

// Smallest id of each fragment.
Array<int64_t> smallest(const py::array& fragments, const py::array& ids, int32_t count) {
    const auto f = checked<int32_t>(fragments, "fragments (n,) int32", -1);
    const int64_t n = f.shape(0);
    const auto i = checked<int64_t>(ids, "ids (n,) int64", n);
    Array<int64_t> out(count);
    int64_t* least = out.mutable_data();
    std::fill(least, least + count, std::numeric_limits<int64_t>::max());
    const int32_t* of = f.data();
    const int64_t* id = i.data();
    for (int64_t k = 0; k < n; ++k)
        if (of[k] >= 0) {
            if (of[k] >= count) wrong("fragments points beyond their number");
            least[of[k]] = std::min(least[of[k]], id[k]);
        }
    return out;
}

// --- the graph of fragments that touch --------------------------------------------------------------------------------

// Union-find of labels with a lattice vector to the parent: image(v) = image(parent) + shift(v). An edge that closes a
// loop whose shifts do not cancel says that the component winds around the cell along those axes.
class Graph {
    struct Node {
        int64_t label;
        int32_t parent, size;
        int32_t shift[3];
        unsigned spans;  // of a root: one bit an axis
    };
    std::vector<Node> nodes;
    std::unordered_map<int64_t, int32_t> index;

public:
    int32_t node(int64_t label) {
        const auto [at, fresh] = index.try_emplace(label, int32_t(nodes.size()));
        if (fresh) nodes.push_back({label, at->second, 1, {0, 0, 0}, 0});
        return at->second;
    }

    void reserve(size_t n) { index.reserve(n), nodes.reserve(n); }
    size_t size() const { return nodes.size(); }
    const Node& operator[](size_t k) const { return nodes[k]; }

    int32_t find(int32_t v) {
        int32_t root = v;
        while (nodes[root].parent != root) root = nodes[root].parent;
        // Second pass, from the top down: every node on the way hangs under the root with its whole shift.
        trail.clear();
        for (; nodes[v].parent != root && v != root; v = nodes[v].parent) trail.push_back(v);
        for (auto at = trail.rbegin(); at != trail.rend(); ++at) {
            Node& low = nodes[*at];
            const Node& high = nodes[low.parent];
            for (int k = 0; k < 3; ++k) low.shift[k] += high.shift[k];
            low.parent = root;
        }
        return root;
    }

    // image(b) = image(a) + s. Whether this told anything new.
    bool edge(int32_t a, int32_t b, const int32_t* s) {
        const int32_t ra = find(a), rb = find(b);
        int32_t d[3];  // image(rb) - image(ra)
        for (int k = 0; k < 3; ++k) d[k] = shift(a, ra, k) + s[k] - shift(b, rb, k);
        if (ra == rb) {
            unsigned bits = 0;
            for (int k = 0; k < 3; ++k) bits |= unsigned(d[k] != 0) << k;
            const bool fresh = bits & ~nodes[ra].spans;
            nodes[ra].spans |= bits;
            return fresh;
        }
        const bool under = nodes[ra].size >= nodes[rb].size;  // rb goes under ra
        Node &low = nodes[under ? rb : ra], &high = nodes[under ? ra : rb];
        low.parent = under ? ra : rb;
        for (int k = 0; k < 3; ++k) low.shift[k] = under ? d[k] : -d[k];
        high.size += low.size;
        high.spans |= low.spans;
        return true;
    }

private:
    std::vector<int32_t> trail;
    int32_t shift(int32_t v, int32_t root, int k) const { return v == root ? 0 : nodes[v].shift[k]; }
};

// Edges (m, 5) int64: two labels a, b and the lattice vector of b's image where a is in its own. Returns
// (labels (u,), clusters (u,), images (u, 3) int32, spans (u, 3) bool, kept (m,) bool): the labels in ascending order, the
// smallest label of the component of each, its image relative to that one; kept edges say all that the others say.
py::tuple components(const py::array& edges) {
    const auto e = checked<int64_t>(edges, "edges (m, 5) int64", -1, 5);
    const int64_t m = e.shape(0);
    const int64_t* at = e.data();
    Graph graph;
    graph.reserve(size_t(std::min<int64_t>(m, 1 << 20)));
    Array<bool> kept(m);
    for (int64_t k = 0; k < m; ++k, at += 5) {
        if (k && std::equal(at, at + 5, at - 5)) {
            kept.mutable_data()[k] = false;
            continue;
        }
        const int32_t s[3] = {int32_t(at[2]), int32_t(at[3]), int32_t(at[4])};
        const int32_t a = graph.node(at[0]), b = graph.node(at[1]);
        kept.mutable_data()[k] = graph.edge(a, b, s);
    }
    const size_t u = graph.size();
    std::vector<int32_t> order(u), root(u), least(u, -1);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return graph[a].label < graph[b].label; });
    for (size_t k = 0; k < u; ++k) root[k] = graph.find(int32_t(k));
    for (const int32_t v : order)
        if (least[root[v]] < 0) least[root[v]] = v;
    Array<int64_t> labels(u), clusters(u);
    Array<int32_t> images({int64_t(u), int64_t(3)});
    Array<bool> spans({int64_t(u), int64_t(3)});
    for (size_t k = 0; k < u; ++k) {
        const int32_t v = order[k], r = root[v], first = least[r];
        labels.mutable_data()[k] = graph[v].label;
        clusters.mutable_data()[k] = graph[first].label;
        for (int c = 0; c < 3; ++c) {
            const int32_t own = v == r ? 0 : graph[v].shift[c], zero = first == r ? 0 : graph[first].shift[c];
            images.mutable_data()[3 * k + c] = own - zero;
            spans.mutable_data()[3 * k + c] = graph[r].spans >> c & 1;
        }
    }
    return py::make_tuple(labels, clusters, images, spans, kept);
}

// --- moments ----------------------------------------------------------------------------------------------------------

// Of each wanted fragment, about its first atom: (origin (w, 3), sums (w, 11)): atoms, mass, Σ m d (3), Σ m d d (6: xx yy
// zz yz xz xy). place (count,) int32: the row of a fragment, or -1.
py::tuple moments(const py::array& x, const py::array& types, const py::array& masses, const py::array& fragments, const py::array& place, int64_t wanted) {
    const auto f = checked<int32_t>(fragments, "fragments (n,) int32", -1);
    const int64_t n = f.shape(0);
    const auto positions = checked<double>(x, "positions (n, 3) float64", n, 3);
    const auto type = checked<int32_t>(types, "types (n,) int32", n);
    const auto mass = checked<double>(masses, "masses (ntypes,) float64", -1);
    const auto where = checked<int32_t>(place, "place (count,) int32", -1);
    Array<double> origin({wanted, int64_t(3)}), sums({wanted, int64_t(11)});
    double *o = origin.mutable_data(), *s = sums.mutable_data();
    std::fill(s, s + 11 * wanted, 0.0);
    const double *p = positions.data(), *w = mass.data();
    const int32_t *of = f.data(), *t = type.data(), *to = where.data();
    const int64_t count = where.shape(0), ntypes = mass.shape(0);
    for (int64_t i = 0; i < n; ++i) {
        if (of[i] < 0) continue;
        if (of[i] >= count || t[i] < 0 || t[i] >= ntypes) wrong("a fragment or type lies outside of its range");
        const int64_t row = to[of[i]];
        if (row < 0) continue;
        if (row >= wanted) wrong("place points beyond the rows");
        double *sum = s + 11 * row, *zero = o + 3 * row;
        if (sum[0] == 0)
            for (int k = 0; k < 3; ++k) zero[k] = p[3 * i + k];
        const double d[3] = {p[3 * i] - zero[0], p[3 * i + 1] - zero[1], p[3 * i + 2] - zero[2]}, m = w[t[i]];
        sum[0] += 1, sum[1] += m;
        for (int k = 0; k < 3; ++k) sum[2 + k] += m * d[k], sum[5 + k] += m * d[k] * d[k];
        sum[8] += m * d[1] * d[2], sum[9] += m * d[0] * d[2], sum[10] += m * d[0] * d[1];
    }
    return py::make_tuple(origin, sums);
}

// (w, kinds) int64: atoms of each kind (int8) in each wanted fragment.
Array<int64_t> tally(const py::array& kind, int kinds, const py::array& fragments, const py::array& place, int64_t wanted) {
    const auto f = checked<int32_t>(fragments, "fragments (n,) int32", -1);
    const int64_t n = f.shape(0);
    const auto of_kind = checked<int8_t>(kind, "kind (n,) int8", n);
    const auto where = checked<int32_t>(place, "place (count,) int32", -1);
    Array<int64_t> out({wanted, int64_t(kinds)});
    int64_t* o = out.mutable_data();
    std::fill(o, o + kinds * wanted, 0);
    const int32_t *of = f.data(), *to = where.data();
    const int8_t* c = of_kind.data();
    for (int64_t i = 0; i < n; ++i) {
        if (of[i] < 0) continue;
        if (of[i] >= where.shape(0) || c[i] < 0 || c[i] >= kinds) wrong("a fragment or kind lies outside of its range");
        const int64_t row = to[of[i]];
        if (row >= wanted) wrong("place points beyond the rows");
        if (row >= 0) ++o[row * kinds + c[i]];
    }
    return out;
}

// Whether there is an orientation: neither zero nor NaN.
bool oriented(const double* q) { return q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3] > 0.5; }

// (w,) int64: of each wanted fragment the local row of smallest id that is of its kind[w] and has an orientation, or -1.
Array<int64_t> first_of_kind(const py::array& orientations, const py::array& kind, const py::array& ids, const py::array& fragments,
                             const py::array& place, const py::array& chosen) {
    const auto f = checked<int32_t>(fragments, "fragments (n,) int32", -1);
    const int64_t n = f.shape(0);
    const auto q = checked<double>(orientations, "orientations (n, 4) float64", n, 4);
    const auto of_kind = checked<int8_t>(kind, "kind (n,) int8", n);
    const auto id = checked<int64_t>(ids, "ids (n,) int64", n);
    const auto where = checked<int32_t>(place, "place (count,) int32", -1);
    const auto want = checked<int8_t>(chosen, "chosen (w,) int8", -1);
    const int64_t wanted = want.shape(0);
    Array<int64_t> out(wanted);
    int64_t* o = out.mutable_data();
    std::fill(o, o + wanted, -1);
    for (int64_t i = 0; i < n; ++i) {
        const int32_t of = f.data()[i];
        if (of < 0) continue;
        const int64_t row = of < where.shape(0) ? where.data()[of] : wanted;
        if (row >= wanted) wrong("a fragment or place lies outside of its range");
        if (row < 0 || of_kind.data()[i] != want.data()[row] || !oriented(q.data() + 4 * i)) continue;
        if (o[row] < 0 || id.data()[i] < id.data()[o[row]]) o[row] = i;
    }
    return out;
}

// (w, 11): of each wanted fragment the number of atoms of its kind[w] with an orientation q, and Σ q⊗q (ww wx wy wz xx xy xz
// yy yz zz), q replaced by that equivalent one nearest to reference[w]. turns (g, 4, 4): q -> turns @ q are the equivalents.
Array<double> orientation_sums(const py::array& orientations, const py::array& kind, const py::array& fragments, const py::array& place,
                               const py::array& chosen, const py::array& reference, const py::array& turns) {
    const auto f = checked<int32_t>(fragments, "fragments (n,) int32", -1);
    const int64_t n = f.shape(0);
    const auto q = checked<double>(orientations, "orientations (n, 4) float64", n, 4);
    const auto of_kind = checked<int8_t>(kind, "kind (n,) int8", n);
    const auto where = checked<int32_t>(place, "place (count,) int32", -1);
    const auto want = checked<int8_t>(chosen, "chosen (w,) int8", -1);
    const int64_t wanted = want.shape(0);
    const auto mean = checked<double>(reference, "reference (w, 4) float64", wanted, 4);
    if (!py::isinstance<Array<double>>(turns) || turns.ndim() != 3 || turns.shape(1) != 4 || turns.shape(2) != 4)
        wrong("turns (g, 4, 4) float64 has the wrong dtype, shape or layout");
    const auto turn = py::reinterpret_borrow<Array<double>>(turns);
    const int64_t group = turn.shape(0);
    const double* t = turn.data();
    std::vector<double> variant(size_t(wanted * group * 4), 0.0);
    for (int64_t w = 0; w < wanted; ++w)
        for (int64_t g = 0; g < group; ++g)
            for (int a = 0; a < 4; ++a)
                for (int b = 0; b < 4; ++b) variant[(w * group + g) * 4 + a] += t[16 * g + 4 * a + b] * mean.data()[4 * w + b];
    Array<double> out({wanted, int64_t(11)});
    double* o = out.mutable_data();
    std::fill(o, o + 11 * wanted, 0.0);
    for (int64_t i = 0; i < n; ++i) {
        const int32_t of = f.data()[i];
        if (of < 0) continue;
        const int64_t row = of < where.shape(0) ? where.data()[of] : wanted;
        if (row >= wanted) wrong("a fragment or place lies outside of its range");
        const double* p = q.data() + 4 * i;
        if (row < 0 || of_kind.data()[i] != want.data()[row] || !oriented(p)) continue;
        double best = -1;
        int64_t which = 0;
        for (int64_t g = 0; g < group; ++g) {
            const double* v = &variant[(row * group + g) * 4];
            const double c = std::fabs(p[0] * v[0] + p[1] * v[1] + p[2] * v[2] + p[3] * v[3]);
            if (c > best) best = c, which = g;
        }
        double r[4] = {};  // the turn is orthogonal: its transpose takes p back to the reference
        for (int a = 0; a < 4; ++a)
            for (int b = 0; b < 4; ++b) r[b] += t[16 * which + 4 * a + b] * p[a];
        double* sum = o + 11 * row;
        sum[0] += 1;
        int k = 1;
        for (int a = 0; a < 4; ++a)
            for (int b = a; b < 4; ++b) sum[k++] += r[a] * r[b];
    }
    return out;
}

// --- what two labellings share ----------------------------------------------------------------------------------------

// (a (p,), b (p,), number (p,)): how many rows have before = a > 0 and now = b, every pair that occurs, sorted.
py::tuple overlaps(const py::array& before, const py::array& now) {
    const auto was = checked<int32_t>(before, "before (n,) int32", -1);
    const int64_t n = was.shape(0);
    const auto is = checked<int64_t>(now, "now (n,) int64", n);
    typedef std::pair<int32_t, int64_t> Pair;
    struct Hash {
        size_t operator()(const Pair& p) const { return std::hash<uint64_t>()(uint64_t(p.second) * 0x9E3779B97F4A7C15u ^ uint32_t(p.first)); }
    };
    std::unordered_map<Pair, int64_t, Hash> counts;
    Pair last{0, 0};
    int64_t* counter = nullptr;
    for (int64_t i = 0; i < n; ++i) {
        const int32_t a = was.data()[i];
        if (a <= 0) continue;
        const Pair pair{a, is.data()[i]};
        if (!counter || pair != last) counter = &counts[pair], last = pair;
        ++*counter;
    }
    std::vector<std::pair<Pair, int64_t>> sorted(counts.begin(), counts.end());
    std::sort(sorted.begin(), sorted.end());
    Array<int32_t> a(sorted.size());
    Array<int64_t> b(sorted.size()), number(sorted.size());
    for (size_t k = 0; k < sorted.size(); ++k)
        a.mutable_data()[k] = sorted[k].first.first, b.mutable_data()[k] = sorted[k].first.second, number.mutable_data()[k] = sorted[k].second;
    return py::make_tuple(a, b, number);
}

}  // namespace

PYBIND11_MODULE(_clusters, m) {
    m.doc() = "Clusters of atoms: connected components, translations, moments (C++ kernels)";
    using namespace py::literals;
    py::class_<Near>(m, "Near", "Components of the local members: all pairs nearer than the cutoff are joined.")
        .def(py::init<const py::array&, int64_t, const py::array&, double, int>(), "positions"_a, "nlocal"_a, "member"_a, "cutoff"_a,
             "threads"_a = 1)
        .def_readonly("fragments", &Near::fragments, "(n,) int32: component of each local row, -1 where it is no member")
        .def_readonly("count", &Near::count)
        .def("touching", &Near::touching, "positions"_a, "labels"_a,
             "(fragment, ghost row) of every fragment and ghost with a label >= 0 that touch.");
    m.def("join_bonds", &join_bonds, "offsets"_a, "indices"_a, "nlocal"_a, "member"_a,
          "(fragments, count, fragment, ghost row): components along bonds, and what touches.");
    m.def("count_near", &count_near, "positions"_a, "nlocal"_a, "member"_a, "cutoff"_a, "threads"_a = 1,
          "(nlocal,) int32: members within the cutoff of each local member, 0 for others.");
    m.def("smallest", &smallest, "fragments"_a, "ids"_a, "count"_a, "(count,) int64: smallest id of each fragment.");
    m.def("components", &components, "edges"_a, "Components of the graph of labels, with images: see the source.");
    m.def("moments", &moments, "positions"_a, "types"_a, "masses"_a, "fragments"_a, "place"_a, "wanted"_a,
          "(origin, sums): zeroth to second moments of fragments about their first atom.");
    m.def("tally", &tally, "kind"_a, "kinds"_a, "fragments"_a, "place"_a, "wanted"_a, "(wanted, kinds) int64: atoms of each kind.");
    m.def("first_of_kind", &first_of_kind, "orientations"_a, "kind"_a, "ids"_a, "fragments"_a, "place"_a, "chosen"_a,
          "(w,) int64: row of smallest id of the chosen kind in each wanted fragment, or -1.");
    m.def("orientation_sums", &orientation_sums, "orientations"_a, "kind"_a, "fragments"_a, "place"_a, "chosen"_a, "reference"_a, "turns"_a,
          "(w, 11): number and sum of outer products of the orientations of the chosen kind, reduced by symmetry.");
    m.def("overlaps", &overlaps, "before"_a, "now"_a, "(a, b, number): rows of each pair of labels with before > 0.");
}
