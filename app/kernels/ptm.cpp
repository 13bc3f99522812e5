// Polyhedral template matching: Larsen, Schmidt, Schiøtz, Modelling Simul. Mater. Sci. Eng. 24, 055007 (2016).
//
// The neighbours of an atom are put in the order of the solid angles of their Voronoi faces; the first 6, 12 or 14 are the
// shell of a template. The shell's convex hull is a planar graph, and a template matches where its own hull, its flat faces
// cut into triangles in some way, is the same graph. Among the ways to lay the template on the shell the one of the least
// root mean square distance counts, at the best rotation and scale.
//
// What is done to be quick:
// - One routine finds all hulls, by gift wrapping with the points in the lanes of vectors. A Voronoi cell is the dual of
//   the hull of the inverted points r/r², so it needs no other.
// - Points are moved by 2e-6 of their distance before a hull is sought, so that flat faces of perfect crystals are cut
//   into triangles in one way; distances are those of the points as they are.
// - Graphs are looked up, not brought into a canonical form: the table holds what each triangulation of each template
//   looks like from each of its directed edges that may be met first, with the ways to lay it on the template. A shell is
//   read from one edge only.

#include <pybind11/stl.h>

#include <array>
#include <utility>

#include "surroundings.hpp"

namespace {

using namespace ostwald;

#pragma GCC diagnostic ignored "-Wpsabi"  // of a target without AVX: nothing here is called from elsewhere
typedef double Four __attribute__((vector_size(32)));

OSTWALD_INLINE Four turned(Four a) { return Four{a[1], a[2], a[0], a[3]}; }
OSTWALD_INLINE Four cross(Four a, Four b) { return turned(a * turned(b) - turned(a) * b); }
inline double dot(Four a, Four b) {
    const Four p = a * b;
    return p[0] + p[1] + p[2];
}

// --- convex hulls ----------------------------------------------------------------------------------------------------

constexpr int MOST = 24;  // points of a hull

// Up to 24 points around an origin.
struct Points {
    alignas(64) double x[MOST], y[MOST], z[MOST];
    Four at(int k) const { return Four{x[k], y[k], z[k], 0.0}; }
    void set(int k, double a, double b, double c) { x[k] = a, y[k] = b, z[k] = c; }
};

// Numbers between -2e-6 and 2e-6, the same everywhere.
struct Jitter {
    alignas(64) double x[MOST], y[MOST], z[MOST];
    Jitter() {
        uint64_t state = 0x9E3779B97F4A7C15u;
        for (double* p : {x, y, z})
            for (int k = 0; k < MOST; ++k) {
                state = state * 6364136223846793005u + 1442695040888963407u;
                p[k] = (double(state >> 11) * 0x1p-52 - 1.0) * 2e-6;
            }
    }
};
const Jitter jitter;

struct Hull {
    int8_t third[MOST][32];    // [a][b]: the facet (a, b, c), counter-clockwise seen from outside, or -1
    int8_t number[MOST][32];   // and its place among
    int8_t facet[2 * MOST][3];
    alignas(32) Four normal[2 * MOST];  // of facets, outward, of any length
    int degree[MOST];          // facets at a point
    int facets;
    template <int BLOCKS> bool wrap(const Points& p, int n);
};

// The hull of the first n of 8 BLOCKS points; those from n on must lie at the origin, and are not allowed on the hull, which
// is the test whether the origin is inside.
template <int BLOCKS>
bool Hull::wrap(const Points& given, int n) {
    constexpr int parts = 8 * BLOCKS / W;
    const int most = 2 * n - 4;
    Points p;
    Lanes px[parts], py_[parts], pz[parts];
    double size = 0;
    int farthest = 0;
    for (int k = 0; k < n; ++k) {
        const double r2 = given.x[k] * given.x[k] + given.y[k] * given.y[k] + given.z[k] * given.z[k];
        if (r2 > size) size = r2, farthest = k;
    }
    size = std::sqrt(size);
#pragma GCC unroll 12
    for (int part = 0; part < parts; ++part) {
        const int k = W * part;
        store(p.x + k, px[part] = load(given.x + k) + size * load(jitter.x + k));
        store(p.y + k, py_[part] = load(given.y + k) + size * load(jitter.y + k));
        store(p.z + k, pz[part] = load(given.z + k) + size * load(jitter.z + k));
    }
    alignas(32) Four at[8 * BLOCKS];
    for (int k = 0; k < 8 * BLOCKS; ++k) at[k] = p.at(k);
    std::memset(third, -1, sizeof third[0] * n);
    std::memset(degree, 0, sizeof(int) * n);
    facets = 0;

    ivec<double> lane;
    for (int k = 0; k < W; ++k) lane[k] = k;
    // Turning the plane through the edge a b, of outward normal N, with no points above, away from where its facet lies:
    // the point that it meets first has the largest ratio of the distance in the plane to the depth below it.
    const auto turn = [&](int a, Four edge, Four normal, uint32_t excluded) __attribute__((always_inline)) {
        const Four away = cross(normal, edge), origin = at[a];
        const double u0 = dot(normal, origin), v0 = dot(away, origin);
        const double floor = 1e-200;
        Lanes best = splat(-1e300);
#pragma GCC unroll 12
        for (int part = 0; part < parts; ++part) {
            const Lanes depth = u0 - normal[0] * px[part] - normal[1] * py_[part] - normal[2] * pz[part];
            const Lanes along = away[0] * px[part] + away[1] * py_[part] + away[2] * pz[part] - v0;
            Lanes ratio = along / maximum(depth, splat(floor));
            ratio = (Lanes)((((ivec<double>)ratio) & ~int64_t(31)) | (lane + W * part));
            best = maximum(best, select(bits_t(excluded >> (W * part)) & all_lanes<double>, splat(-1e300), ratio));
        }
        double top = best[0];
#if defined(OSTWALD_AVX512)
        top = _mm512_reduce_max_pd((__m512d)best);
#else
        for (int k = 1; k < W; ++k) top = std::max(top, best[k]);
#endif
        int64_t bits;
        std::memcpy(&bits, &top, 8);
        return int(bits & 31);
    };

    // A first edge: a tangent plane at the farthest point, turned about any line in it, then about the edge found.
    const int a0 = farthest;
    const Four start = at[a0];
    const Four line = std::fabs(start[0]) < std::fabs(start[1]) ? Four{0.0, -start[2], start[1], 0.0} : Four{start[2], 0.0, -start[0], 0.0};
    const int b0 = turn(a0, line, start, 1u << a0);
    if (b0 >= n) return false;
    const Four tilted = cross(line, at[b0] - start);

    struct Open {
        int8_t a, b, d;
        int8_t facet;
    };
    Open open[2 * MOST * 3];
    int waiting = 0;  // first in, first out: the next edges do not wait for the point just sought
    const auto add = [&](int a, int b, int c) __attribute__((always_inline)) {
        if (c >= n || facets >= most || third[b][c] >= 0 || third[c][a] >= 0) return false;
        const int f = facets++;
        normal[f] = cross(at[b] - at[a], at[c] - at[a]);
        facet[f][0] = int8_t(a), facet[f][1] = int8_t(b), facet[f][2] = int8_t(c);
        third[a][b] = int8_t(c), third[b][c] = int8_t(a), third[c][a] = int8_t(b);
        number[a][b] = number[b][c] = number[c][a] = int8_t(f);
        ++degree[a], ++degree[b], ++degree[c];
        if (third[c][b] < 0) open[waiting++] = {int8_t(c), int8_t(b), int8_t(a), int8_t(f)};
        if (third[a][c] < 0) open[waiting++] = {int8_t(a), int8_t(c), int8_t(b), int8_t(f)};
        return true;
    };
    const int c0 = turn(a0, at[b0] - start, tilted, 1u << a0 | 1u << b0);
    if (!add(a0, b0, c0)) return false;
    if (third[b0][a0] < 0) open[waiting++] = {int8_t(b0), int8_t(a0), int8_t(c0), 0};
    for (int next = 0; next < waiting; ++next) {
        const Open e = open[next];
        if (third[e.a][e.b] >= 0) continue;
        const int c = turn(e.a, at[int(e.b)] - at[int(e.a)], normal[int(e.facet)], 1u << e.a | 1u << e.b | 1u << e.d);
        if (!add(e.a, e.b, c)) return false;
    }
    return true;
}

// --- the order of neighbours -----------------------------------------------------------------------------------------

constexpr int SEEN = 18;  // neighbours that take part in a Voronoi cell

// order: the n (at most 18) neighbours, nearest first, by falling solid angle of their Voronoi faces; equal ones by
// distance. The cell is cut off by a cube of ten times the largest distance. False where two atoms coincide.
bool by_solid_angle(const Points& near, int n, Hull& hull, int* order) {
    Points dual;
    double largest = 0, least = 1e300;
    for (int k = 0; k < MOST; k += W) {
        const Lanes x = load(near.x + k), y = load(near.y + k), z = load(near.z + k);
        const Lanes r2 = x * x + y * y + z * z, inverse = 1.0 / maximum(r2, splat(1e-300));
        store(dual.x + k, x * inverse), store(dual.y + k, y * inverse), store(dual.z + k, z * inverse);
    }
    for (int k = 0; k < n; ++k) {
        const double r2 = near.x[k] * near.x[k] + near.y[k] * near.y[k] + near.z[k] * near.z[k];
        largest = std::max(largest, r2), least = std::min(least, r2);
    }
    if (!(least > 1e-12 * largest)) return false;
    for (int k = n; k < SEEN; ++k) dual.set(k, 0, 0, 0);
    const double wall = 1 / (20 * std::sqrt(largest));
    dual.set(18, wall, 0, 0), dual.set(19, -wall, 0, 0), dual.set(20, 0, wall, 0);
    dual.set(21, 0, -wall, 0), dual.set(22, 0, 0, wall), dual.set(23, 0, 0, -wall);
    if (!hull.wrap<3>(dual, MOST)) return false;

    // A facet's normal points to a corner of the cell.
    for (int f = 0; f < hull.facets; ++f) hull.normal[f] /= std::sqrt(dot(hull.normal[f], hull.normal[f]));
    // The face of k is a fan of spherical triangles R1 R2 R3 with tan(Ω/2) = R1·(R2×R3) / (1 + R1·R2 + R2·R3 + R3·R1)
    // (van Oosterom and Strackee 1983): the product of these as complex numbers has the argument Ω/2 of their sum, and
    // only the order matters, for which a number that grows with the argument is enough.
    int8_t some[MOST];
    for (int f = 0; f < hull.facets; ++f)
        for (int k = 0; k < 3; ++k) some[hull.facet[f][k]] = hull.facet[f][(k + 1) % 3];
    alignas(64) double key[MOST + W];
    for (int k = 0; k < MOST + W; ++k) key[k] = -1;
    for (int k = 0; k < n; ++k) {
        double real = 1, imaginary = 0;
        if (hull.degree[k] > 2) {
            const auto corner = [&](int f) { return hull.normal[f]; };
            int v = some[k];
            const Four first = corner(hull.number[k][v]);
            v = hull.third[k][v];
            Four before = corner(hull.number[k][v]);
            double to_before = dot(first, before);
            for (int m = 2; m < hull.degree[k]; ++m) {
                v = hull.third[k][v];
                const Four next = corner(hull.number[k][v]);
                const double to_next = dot(first, next);
                const double below = 1 + to_before + to_next + dot(before, next), above = dot(first, cross(before, next));
                const double r = real * below - imaginary * above;
                imaginary = real * above + imaginary * below, real = r;
                before = next, to_before = to_next;
            }
        }
        const double share = real / (std::fabs(real) + std::fabs(imaginary));
        double value = std::max(imaginary < 0 ? 3 + share : 1 - share, 0.0);
        uint64_t bits;  // positive numbers are ordered as their bits; of equal ones the nearer is first
        std::memcpy(&bits, &value, 8);
        bits = (bits & ~uint64_t(31)) | uint64_t(31 - k);
        std::memcpy(&key[k], &bits, 8);
    }
    alignas(64) double rank[MOST + W];
    for (int k = 0; k < n; k += W) {
        const Lanes mine = load(key + k), one = splat(1.0), zero{};
        Lanes larger{};
        for (int j = 0; j < n; ++j) larger += splat(key[j]) > mine ? one : zero;
        store(rank + k, larger);
    }
    for (int k = 0; k < n; ++k) order[int(rank[k])] = k;
    return true;
}

// --- templates -------------------------------------------------------------------------------------------------------

enum Type { FCC, HCP, BCC, ICO, SC, CUBIC_DIAMOND, HEXAGONAL_DIAMOND, TYPES };
constexpr int SHELL = 16;

typedef std::array<double, 3> Vector;
typedef std::array<double, 9> Matrix;
typedef std::array<double, 4> Quaternion;  // w, x, y, z

struct Template {
    int shell = 0;                     // points of the hull; a diamond has 4 more, inside
    int inner = 0;
    std::vector<Vector> points;        // shell, then inner; barycentre with the atom itself at 0, mean distance 1
    alignas(32) double table[SHELL][4] = {};
    double norm = 0, nearest = 0;      // Σ|t|², distance of nearest neighbours
    double spread[3] = {};             // Σ t ⊗ t, which is diagonal
    const std::vector<Quaternion>* symmetry = nullptr;  // rotations of the crystal, for the fundamental zone
};

double length(const Vector& a) { return std::sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2]); }
Vector operator-(const Vector& a, const Vector& b) { return {a[0] - b[0], a[1] - b[1], a[2] - b[2]}; }
Vector operator+(const Vector& a, const Vector& b) { return {a[0] + b[0], a[1] + b[1], a[2] + b[2]}; }
Vector product(const Vector& a, const Vector& b) {
    return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}
double inner_product(const Vector& a, const Vector& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }
Vector times(const Matrix& m, const Vector& v) {
    return {m[0] * v[0] + m[1] * v[1] + m[2] * v[2], m[3] * v[0] + m[4] * v[1] + m[5] * v[2], m[6] * v[0] + m[7] * v[1] + m[8] * v[2]};
}
bool same(const Vector& a, const Vector& b) { return length(a - b) < 1e-6; }

// Which point each point is carried to, empty if to none.
std::vector<int> permutation(const Matrix& m, const std::vector<Vector>& points) {
    std::vector<int> to;
    for (const Vector& p : points) {
        const Vector image = times(m, p);
        const auto found = std::find_if(points.begin(), points.end(), [&](const Vector& q) { return same(image, q); });
        if (found == points.end()) return {};
        to.push_back(int(found - points.begin()));
    }
    return to;
}

// The proper rotations that carry a set of points into itself.
std::vector<Matrix> rotations(const std::vector<Vector>& points) {
    const auto frame = [](const Vector& a, const Vector& b) {
        const Vector c = product(a, b), d = product(c, a);
        Matrix m;
        int column = 0;
        for (const Vector& v : {a, c, d}) {
            for (int k = 0; k < 3; ++k) m[3 * k + column] = v[k] / length(v);
            ++column;
        }
        return m;
    };
    size_t second = 1;
    while (length(product(points[0], points[second])) < 1e-6) ++second;
    const Matrix from = frame(points[0], points[second]);
    std::vector<Matrix> found;
    for (const Vector& a : points)
        for (const Vector& b : points) {
            if (length(product(a, b)) < 1e-6) continue;
            const Matrix to = frame(a, b);
            Matrix m{};
            for (int i = 0; i < 3; ++i)
                for (int j = 0; j < 3; ++j)
                    for (int k = 0; k < 3; ++k) m[3 * i + j] += to[3 * i + k] * from[3 * j + k];
            if (!permutation(m, points).empty()) found.push_back(m);
        }
    return found;
}

Quaternion quaternion_of(const Matrix& m) {
    const double w = std::sqrt(std::max(0.0, 1 + m[0] + m[4] + m[8])) / 2, x = std::sqrt(std::max(0.0, 1 + m[0] - m[4] - m[8])) / 2;
    const double y = std::sqrt(std::max(0.0, 1 - m[0] + m[4] - m[8])) / 2, z = std::sqrt(std::max(0.0, 1 - m[0] - m[4] + m[8])) / 2;
    if (w > 1e-3) return {w, std::copysign(x, m[7] - m[5]), std::copysign(y, m[2] - m[6]), std::copysign(z, m[3] - m[1])};
    if (x > 1e-3) return {0, x, std::copysign(y, m[1]), std::copysign(z, m[2])};
    if (y > 1e-3) return {0, 0, y, std::copysign(z, m[5])};
    return {0, 0, 0, 1};
}

// The flat faces of the hull of a template's shell, counter-clockwise seen from outside.
std::vector<std::vector<int>> faces(const std::vector<Vector>& p) {
    const int n = int(p.size());
    std::vector<std::vector<int>> found;
    for (int i = 0; i < n; ++i)
        for (int j = 0; j < n; ++j)
            for (int k = 0; k < n; ++k) {
                if (i == j || j == k || i == k) continue;
                const Vector normal = product(p[j] - p[i], p[k] - p[i]);
                if (length(normal) < 1e-6) continue;
                std::vector<int> flat;
                bool outside = true;
                for (int m = 0; m < n; ++m) {
                    const double height = inner_product(normal, p[m] - p[i]);
                    outside &= height < 1e-6;
                    if (std::fabs(height) < 1e-6) flat.push_back(m);
                }
                if (!outside) continue;
                Vector centre{};
                for (int m : flat) centre = centre + p[m];
                for (double& c : centre) c /= double(flat.size());
                const Vector ex = p[flat[0]] - centre, ey = product(normal, ex);
                const auto angle = [&](int m) {
                    const Vector d = p[m] - centre;
                    return std::atan2(inner_product(d, ey) / length(ey), inner_product(d, ex) / length(ex));
                };
                std::sort(flat.begin(), flat.end(), [&](int a, int b) { return angle(a) < angle(b); });
                std::rotate(flat.begin(), std::min_element(flat.begin(), flat.end()), flat.end());
                if (std::find(found.begin(), found.end(), flat) == found.end()) found.push_back(flat);
            }
    return found;
}

// Reads a closed triangulated surface of n points from the directed edge a b: points are numbered as they are met, and
// the code is made of the numbers of the neighbours of each in turn, counter-clockwise. Equal codes, equal graphs.
inline uint64_t read_graph(const int8_t (*third)[32], int n, int a, int b, int8_t* met) {
    int8_t number[MOST], from[MOST];
    std::memset(number, -1, sizeof number);
    met[0] = int8_t(a), met[1] = int8_t(b), from[0] = int8_t(b), from[1] = int8_t(a);
    number[a] = 0, number[b] = 1;
    int count = 2;
    uint64_t code = 0x243F6A8885A308D3u;
    for (int k = 0; k < count; ++k) {
        const int u = met[k], begin = from[k];
        int v = begin;
        do {
            if (number[v] < 0) {
                number[v] = int8_t(count), met[count] = int8_t(v), from[count] = int8_t(u);
                ++count;
            }
            code = (code ^ uint64_t(number[v] + 1)) * 0x9E3779B97F4A7C15u;
            v = third[u][v];
        } while (v != begin);
        code = (code ^ (code >> 29)) + 0x13198A2E03707344u;
    }
    return count == n ? code : 0;
}

struct Laying {
    int8_t type;
    int8_t to[SHELL];  // the point of the template for each number that a point of the shell has from the edge
};

// Codes of all triangulations of templates of one number of points, and how each lies on the template.
struct Graphs {
    struct Entry {
        uint64_t code = 0;
        int first = 0, count = 0;
    };
    int n;
    std::vector<Laying> layings;
    std::vector<Entry> entries;
    uint64_t mask = 0;
    int least = 99, most = 0;  // degrees of points
    std::vector<std::pair<uint64_t, Laying>> collected;

    explicit Graphs(int points) : n(points) {}

    // Of layings that differ by a rotation of the template one is kept: that whose first edge stands for its kind.
    void collect(int type, const Template& t) {
        std::vector<Vector> shell(t.points.begin(), t.points.begin() + n);
        std::vector<std::vector<int>> group;
        for (const Matrix& m : rotations(t.points)) group.push_back(permutation(m, shell));
        std::vector<std::array<int, 4>> squares;
        int8_t basic[MOST][32];
        std::memset(basic, -1, sizeof basic);
        const auto triangle = [](int8_t (*third)[32], int a, int b, int c) {
            third[a][b] = int8_t(c), third[b][c] = int8_t(a), third[c][a] = int8_t(b);
        };
        for (const std::vector<int>& f : faces(shell)) {
            if (f.size() == 3) triangle(basic, f[0], f[1], f[2]);
            if (f.size() == 4) squares.push_back({f[0], f[1], f[2], f[3]});
            if (f.size() > 4) throw std::logic_error("a template has a face of more than four corners");
        }
        std::vector<std::array<int8_t, 2>> kinds;  // one directed edge or diagonal for each kind
        for (int8_t a = 0; a < n; ++a)
            for (int8_t b = 0; b < n; ++b) {
                bool smallest = a != b;
                for (const std::vector<int>& g : group) smallest &= std::make_pair(int(a), int(b)) <= std::make_pair(g[a], g[b]);
                if (smallest) kinds.push_back({a, b});
            }
        for (uint64_t choice = 0; choice < uint64_t(1) << squares.size(); ++choice) {
            int8_t third[MOST][32];
            std::memcpy(third, basic, sizeof third);
            for (size_t s = 0; s < squares.size(); ++s) {
                const auto& q = squares[s];
                const int turned = int(choice >> s & 1);
                triangle(third, q[turned], q[1 + turned], q[2 + turned]);
                triangle(third, q[2 + turned], q[(3 + turned) % 4], q[turned]);
            }
            int degree[MOST] = {}, highest = 0;
            for (int a = 0; a < n; ++a) {
                for (int b = 0; b < n; ++b) degree[a] += third[a][b] >= 0;
                highest = std::max(highest, degree[a]), least = std::min(least, degree[a]);
            }
            most = std::max(most, highest);
            for (const auto& edge : kinds) {
                if (third[edge[0]][edge[1]] < 0 || degree[edge[0]] != highest) continue;
                Laying laying{int8_t(type), {}};
                const uint64_t code = read_graph(third, n, edge[0], edge[1], laying.to);
                collected.emplace_back(code, laying);
            }
        }
    }

    void finish() {
        std::stable_sort(collected.begin(), collected.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
        size_t size = 64;
        while (size < 2 * collected.size()) size *= 2;
        entries.assign(size, {});
        mask = size - 1;
        for (size_t k = 0; k < collected.size();) {
            size_t end = k;
            while (end < collected.size() && collected[end].first == collected[k].first) layings.push_back(collected[end++].second);
            uint64_t at = collected[k].first >> 20 & mask;
            while (entries[at].count) at = (at + 1) & mask;
            entries[at] = {collected[k].first, int(k), int(end - k)};
            k = end;
        }
        collected.clear(), collected.shrink_to_fit();
    }

    // The layings of the graph of a hull of n points; met: its points as they are numbered.
    const Entry* find(const Hull& hull, int8_t* met) const {
        if (hull.facets != 2 * n - 4) return nullptr;  // a point inside
        int start = 0;
        for (int k = 0; k < n; ++k) {
            if (hull.degree[k] < least || hull.degree[k] > most) return nullptr;
            if (hull.degree[k] > hull.degree[start]) start = k;
        }
        int other = 0;
        while (hull.third[start][other] < 0) ++other;
        const uint64_t code = read_graph(hull.third, n, start, other, met);
        for (uint64_t at = code >> 20 & mask; entries[at].count; at = (at + 1) & mask)
            if (entries[at].code == code) return &entries[at];
        return nullptr;
    }
};

struct Templates {
    Template of[TYPES];
    std::vector<Quaternion> cubic, hexagonal, icosahedral;
    Graphs six{6}, twelve{12}, fourteen{14}, diamonds{12};

    void make(Type type, int inner, const std::vector<Vector>& points, const std::vector<Quaternion>& symmetry) {
        Template& t = of[type];
        double mean = 0;
        for (const Vector& p : points) mean += length(p) / double(points.size());
        t.inner = inner, t.shell = int(points.size()) - inner;
        t.nearest = 1e300;
        for (const Vector& p : points) {
            t.points.push_back({p[0] / mean, p[1] / mean, p[2] / mean});
            const Vector& q = t.points.back();
            for (int k = 0; k < 3; ++k) t.table[t.points.size() - 1][k] = q[k], t.spread[k] += q[k] * q[k];
            t.norm += inner_product(q, q);
            t.nearest = std::min(t.nearest, length(q));
        }
        t.symmetry = &symmetry;
    }

    Templates() {
        std::vector<Vector> sc, fcc, bcc, hcp, ico;
        for (int k = 0; k < 3; ++k)
            for (double s : {-1.0, 1.0}) {
                Vector v{};
                v[k] = s;
                sc.push_back(v);
            }
        for (double a : {-1.0, 1.0})
            for (double b : {-1.0, 1.0}) {
                fcc.push_back({a, b, 0}), fcc.push_back({0, a, b}), fcc.push_back({a, 0, b});
                bcc.push_back({a, b, -1}), bcc.push_back({a, b, 1});
            }
        for (const Vector& v : sc) bcc.push_back({2 * v[0], 2 * v[1], 2 * v[2]});
        const auto at = [](double r, double degrees, double z) {
            return Vector{r * std::cos(degrees * M_PI / 180), r * std::sin(degrees * M_PI / 180), z};
        };
        for (int k = 0; k < 6; ++k) hcp.push_back(at(1, 60 * k, 0));
        for (double s : {-1.0, 1.0})
            for (int k = 0; k < 3; ++k) hcp.push_back(at(std::sqrt(1 / 3.0), 30 + 120 * k, s * std::sqrt(2 / 3.0)));
        ico = {{0, 0, 1}, {0, 0, -1}};
        for (int k = 0; k < 5; ++k) {
            ico.push_back(at(2 / std::sqrt(5.0), 90 + 72 * k, 1 / std::sqrt(5.0)));
            ico.push_back(at(2 / std::sqrt(5.0), 270 + 72 * k, -1 / std::sqrt(5.0)));
        }
        for (const Matrix& m : rotations(sc)) cubic.push_back(quaternion_of(m));
        for (const Matrix& m : rotations(ico)) icosahedral.push_back(quaternion_of(m));
        for (int k = 0; k < 6; ++k) {
            hexagonal.push_back({std::cos(k * M_PI / 6), 0, 0, std::sin(k * M_PI / 6)});
            hexagonal.push_back({0, std::cos(k * M_PI / 6), std::sin(k * M_PI / 6), 0});
        }
        // A diamond's outer atoms in threes, those of an inner atom together. Bonds are staggered: the bonds of an inner atom
        // are those of the centre inverted; along the axis of the hexagonal one they are eclipsed: reflected.
        std::vector<Vector> cubic_inner = {{1, 1, 1}, {1, -1, -1}, {-1, -1, 1}, {-1, 1, -1}}, hexagonal_inner, outer;
        for (int k : {150, 270, 390}) hexagonal_inner.push_back(at(std::sqrt(8.0), k, -1));
        hexagonal_inner.push_back({0, 0, 3});
        for (std::vector<Vector>* set : {&cubic_inner, &hexagonal_inner}) {
            outer.clear();
            for (int i = 0; i < 4; ++i)
                for (int k = 0; k < 4; ++k) {
                    const Vector v = (*set)[k];
                    const bool eclipsed = set == &hexagonal_inner && i == 3;
                    if (k != i) outer.push_back(eclipsed ? (*set)[i] + Vector{v[0], v[1], -v[2]} : (*set)[i] - v);
                }
            outer.insert(outer.end(), set->begin(), set->end());
            if (set == &cubic_inner) make(CUBIC_DIAMOND, 4, outer, cubic);
            else make(HEXAGONAL_DIAMOND, 4, outer, hexagonal);
        }
        make(FCC, 0, fcc, cubic), make(HCP, 0, hcp, hexagonal), make(BCC, 0, bcc, cubic), make(ICO, 0, ico, icosahedral);
        make(SC, 0, sc, cubic);
        six.collect(SC, of[SC]), six.finish();
        for (Type t : {FCC, HCP, ICO}) twelve.collect(t, of[t]);
        twelve.finish();
        fourteen.collect(BCC, of[BCC]), fourteen.finish();
        for (Type t : {CUBIC_DIAMOND, HEXAGONAL_DIAMOND}) diamonds.collect(t, of[t]);
        diamonds.finish();
    }
};

const Templates& templates() {
    static const Templates made;
    return made;
}

// --- fitting ---------------------------------------------------------------------------------------------------------

// The best match so far.
struct Match {
    int type = -1;
    double square = 1e300;        // of the RMSD
    double cosine = 0, norm = 0;  // overlap of shell and template, both of length 1; Σ|x|² of the shell about its barycentre
    double overlap[9];            // Σ t ⊗ x
    int8_t at[SHELL];             // the shell's point on each of the template's
};

// The largest eigenvalue of Horn's matrix of S (that is, the largest Σ (R t)·x over rotations R), where S is scaled so that
// it is at most 1. Newton's iteration from above; gives up, with a number too small, where it falls below `enough`.
inline double best_overlap(const double* s, double enough) {
    const double xx = s[0] * s[0] + s[3] * s[3] + s[6] * s[6], yy = s[1] * s[1] + s[4] * s[4] + s[7] * s[7];
    const double zz = s[2] * s[2] + s[5] * s[5] + s[8] * s[8], xy = s[0] * s[1] + s[3] * s[4] + s[6] * s[7];
    const double yz = s[1] * s[2] + s[4] * s[5] + s[7] * s[8], xz = s[0] * s[2] + s[3] * s[5] + s[6] * s[8];
    const double square = xx + yy + zz;
    if (3 * square < enough * enough) return -1;
    const double det = s[0] * (s[4] * s[8] - s[5] * s[7]) - s[1] * (s[3] * s[8] - s[5] * s[6]) + s[2] * (s[3] * s[7] - s[4] * s[6]);
    const double c2 = -2 * square, c1 = -8 * det;
    const double c0 = 2 * (xx * xx + yy * yy + zz * zz + 2 * (xy * xy + yz * yz + xz * xz)) - square * square;
    double l = 1;
    for (int k = 0; k < 50; ++k) {
        const double l2 = l * l, value = (l2 + c2) * l2 + c1 * l + c0, slope = 4 * l2 * l + 2 * c2 * l + c1;
        if (!(slope > 0)) break;
        const double step = value / slope;
        l -= step;
        if (l < enough) return -1;
        if (std::fabs(step) < 1e-14) break;
    }
    return l;
}

// Fits the layings of an entry to a shell: `met` as of Graphs::find, points of the shell and, for a diamond, of the inner
// atoms i of the outer ones 3i, 3i+1, 3i+2. types: one bit for each type that counts.
void fit(const Templates& all, const Graphs& graphs, const Graphs::Entry& entry, const int8_t* met, const Points& p,
         const Points* inner, unsigned types, Match& best) {
    const int n = graphs.n;
    alignas(32) double shell[SHELL][4];
    Four sum{};
    double square = 0;
    for (int k = 0; k < n; ++k) {
        const Four x = p.at(met[k]);
        std::memcpy(shell[k], &x, sizeof x);
        sum += x, square += dot(x, x);
    }
    if (inner)
        for (int k = 0; k < 4; ++k) sum += inner->at(k), square += dot(inner->at(k), inner->at(k));
    const int points = n + (inner ? 4 : 0) + 1;  // with the atom itself
    square -= dot(sum, sum) / points;
    for (int m = entry.first; m < entry.first + entry.count; ++m) {
        const Laying& laying = graphs.layings[m];
        if (!(types >> laying.type & 1)) continue;
        const Template& t = all.of[int(laying.type)];
        int8_t group[4] = {0, 0, 0, 0};  // which inner atom of the template each inner atom is
        if (inner) {
            bool apart = true;
            int8_t of[SHELL];
            for (int k = 0; k < n; ++k) of[int(met[k])] = int8_t(laying.to[k] / 3);
            for (int i = 0; i < 4; ++i) apart &= of[3 * i] == of[3 * i + 1] && of[3 * i] == of[3 * i + 2], group[i] = of[3 * i];
            if (!apart) continue;
        }
        Four a0{}, a1{}, a2{};
        for (int k = 0; k < n; ++k) {
            const double* to = t.table[int(laying.to[k])];
            Four x;
            std::memcpy(&x, shell[k], sizeof x);
            a0 += to[0] * x, a1 += to[1] * x, a2 += to[2] * x;
        }
        if (inner)
            for (int k = 0; k < 4; ++k) {
                const double* to = t.table[12 + group[k]];
                const Four x = inner->at(k);
                a0 += to[0] * x, a1 += to[1] * x, a2 += to[2] * x;
            }
        const double scale = 1 / std::sqrt(square * t.norm);
        const double s[9] = {a0[0] * scale, a0[1] * scale, a0[2] * scale, a1[0] * scale, a1[1] * scale,
                             a1[2] * scale, a2[0] * scale, a2[1] * scale, a2[2] * scale};
        // rmsd² = Σ|t|² (1 - cosine²) / points at the best scale
        const double enough = std::sqrt(std::max(0.0, 1 - best.square * points / t.norm));
        const double cosine = best_overlap(s, enough);
        if (cosine < 0) continue;
        const double found = t.norm * std::max(0.0, 1 - cosine * cosine) / points;
        if (!(found < best.square)) continue;
        best.type = laying.type, best.square = found, best.cosine = cosine, best.norm = square;
        std::memcpy(best.overlap, s, sizeof s);
        for (int k = 0; k < n; ++k) best.at[int(laying.to[k])] = met[k];
        if (inner)
            for (int k = 0; k < 4; ++k) best.at[12 + group[k]] = int8_t(k);
    }
}

// The rotation of a match as a quaternion w, x, y, z: the eigenvector of Horn's matrix, J. Opt. Soc. Am. A 4, 629 (1987).
Quaternion rotation(const double* s, double l) {
    const double n[4][4] = {{s[0] + s[4] + s[8] - l, s[5] - s[7], s[6] - s[2], s[1] - s[3]},
                            {s[5] - s[7], s[0] - s[4] - s[8] - l, s[1] + s[3], s[6] + s[2]},
                            {s[6] - s[2], s[1] + s[3], -s[0] + s[4] - s[8] - l, s[5] + s[7]},
                            {s[1] - s[3], s[6] + s[2], s[5] + s[7], -s[0] - s[4] + s[8] - l}};
    Quaternion best{1, 0, 0, 0};
    double longest = 0;
    for (int row = 0; row < 4; ++row) {  // a row of the adjugate
        Quaternion q;
        double square = 0;
        for (int column = 0; column < 4; ++column) {
            double m[3][3];
            for (int i = 0, r = 0; i < 4; ++i) {
                if (i == row) continue;
                for (int j = 0, c = 0; j < 4; ++j)
                    if (j != column) m[r][c++] = n[i][j];
                ++r;
            }
            const double det = m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0]) +
                               m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
            q[column] = (row + column) & 1 ? -det : det;
            square += det * det;
        }
        if (square > longest) longest = square, best = q;
        if (longest > 0.02 * l * l * l * l * l * l) break;
    }
    const double scale = longest > 0 ? 1 / std::sqrt(longest) : 1;
    return {best[0] * scale, best[1] * scale, best[2] * scale, best[3] * scale};
}

Quaternion multiply(const Quaternion& a, const Quaternion& b) {
    return {a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3], a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
            a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1], a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0]};
}

// The rotation of the crystal that makes of q the equivalent rotation of the least angle.
const Quaternion& reducing(const Quaternion& q, const std::vector<Quaternion>& symmetry) {
    double largest = -1;
    const Quaternion* by = &symmetry[0];
    for (const Quaternion& g : symmetry) {
        const double w = std::fabs(q[0] * g[0] - q[1] * g[1] - q[2] * g[2] - q[3] * g[3]);
        if (w > largest + 1e-12) largest = w, by = &g;
    }
    return *by;
}

Matrix matrix_of(const Quaternion& q) {
    const double w = q[0], x = q[1], y = q[2], z = q[3];
    return {1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y), 2 * (x * y + w * z), 1 - 2 * (x * x + z * z),
            2 * (y * z - w * x), 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)};
}

// --- orderings of alloys ---------------------------------------------------------------------------------------------

enum Ordering : int8_t { NONE = 0, PURE = 1, L1_0 = 2, L1_2_MAJORITY = 3, L1_2_MINORITY = 4, B2 = 5, ZINCBLENDE = 6 };

// own: species of the atom; type[k]: of the neighbour on point k of the template.
Ordering ordering(int matched, const Template& t, int own, const int32_t* type) {
    const int n = int(t.points.size());
    unsigned unlike = 0;
    int second = -1;
    for (int k = 0; k < n; ++k) {
        if (type[k] == own) continue;
        if (second >= 0 && type[k] != second) return NONE;  // a third species
        second = type[k];
        unlike |= 1u << k;
    }
    if (!unlike) return PURE;
    if (matched == FCC) {
        if (unlike == 0xfff) return L1_2_MINORITY;
        for (int axis = 0; axis < 3; ++axis) {
            unsigned plane = 0;  // the four neighbours in the plane across a cube axis
            for (int k = 0; k < 12; ++k) plane |= unsigned(std::fabs(t.points[k][axis]) < 1e-6) << k;
            if (unlike == plane) return L1_2_MAJORITY;
            if (unlike == (0xfff & ~plane)) return L1_0;
        }
    }
    if (matched == BCC && unlike == 0xff) return B2;
    if (t.inner && unlike == 0xf000) return ZINCBLENDE;
    return NONE;
}

// --- over atoms ------------------------------------------------------------------------------------------------------

constexpr int SENT = 8;  // neighbours of an atom that others need, for diamonds

double* optional(const py::object& a, const char* name, int n, int columns) {
    if (a.is_none()) return nullptr;
    auto array = checked<double>(py::reinterpret_borrow<py::array>(a), name, columns > 1 ? 2 : 1, columns > 1 ? columns : 0);
    if (array.shape(0) < n) wrong(std::string(name) + " has too few rows");
    return array.mutable_data();
}

// Where results go; some may be absent.
struct Results {
    int8_t* type;
    double *rmsd, *distance, *quaternion, *deformation;
    int8_t* order;

    Results(py::array& t, py::array& r, const py::object& d, const py::object& q, const py::object& f, const py::object& o, int n)
        : order(nullptr) {
        auto labels = checked<int8_t>(t, "type (n,) int8", 1);
        auto deviations = checked<double>(r, "rmsd (n,) float64", 1);
        if (labels.shape(0) < n || deviations.shape(0) < n) wrong("type and rmsd need a row for each atom");
        type = labels.mutable_data(), rmsd = deviations.mutable_data();
        distance = optional(d, "distance", n, 1), quaternion = optional(q, "orientation", n, 4);
        deformation = optional(f, "deformation", n, 9);
        if (o.is_none()) return;
        auto orderings = checked<int8_t>(py::reinterpret_borrow<py::array>(o), "ordering (n,) int8", 1);
        if (orderings.shape(0) < n) wrong("ordering needs a row for each atom");
        order = orderings.mutable_data();
    }

    void put(int row, const Match& m, int own, const int32_t* types) const {
        const Template& t = templates().of[m.type];
        type[row] = int8_t(m.type);
        rmsd[row] = std::sqrt(m.square);
        if (distance) distance[row] = t.nearest / (m.cosine * std::sqrt(t.norm / m.norm));
        if (quaternion || deformation) {
            const Quaternion raw = rotation(m.overlap, m.cosine), &by = reducing(raw, *t.symmetry);
            const Quaternion q = multiply(raw, by);
            if (quaternion)
                for (int k = 0; k < 4; ++k) quaternion[4 * size_t(row) + k] = q[0] < 0 ? -q[k] : q[k];
            if (deformation) {
                // F of the least Σ |s x - F t|², then for the template turned as the orientation says
                const Matrix turn = matrix_of(by);
                double* f = deformation + 9 * size_t(row);
                for (int i = 0; i < 3; ++i)
                    for (int j = 0; j < 3; ++j) {
                        f[3 * i + j] = 0;
                        for (int k = 0; k < 3; ++k)
                            f[3 * i + j] += m.overlap[3 * k + i] * m.cosine * t.norm / t.spread[k] * turn[3 * k + j];
                    }
            }
        }
        if (order) order[row] = ordering(m.type, t, own, types);
    }
};

struct Scratch {
    Points near, shell;
    Hull hull;
    int order[MOST];
};

// Matches fcc, hcp, bcc, icosahedral and sc templates (bits of `which`), and notes for diamonds the order of neighbours.
void match(const py::array& positions, const py::array& types, int64_t nlocal, double cutoff, unsigned which,
           py::array type, py::array rmsd, const py::object& distance, const py::object& quaternion, const py::object& deformation,
           const py::object& order, const py::object& neighbours, const py::object& rows, int threads) {
    const Rows r(positions, nlocal);
    const Ints species = checked<int32_t>(types, "types (n+nghost,) int32", 1);
    if (species.shape(0) != r.rows) wrong("types and positions have different numbers of rows");
    const int32_t* kind = species.data();
    const Results out(type, rmsd, distance, quaternion, deformation, order, r.nlocal);
    double* sent = optional(neighbours, "neighbours", r.nlocal, 4 * SENT);
    int32_t* inner_rows = nullptr;
    if (!rows.is_none()) inner_rows = checked<int32_t>(py::reinterpret_borrow<py::array>(rows), "rows (n, 4) int32", 2, 4).mutable_data();
    const Templates& all = templates();
    py::gil_scoped_release release;
    each_nearest<Scratch>(r, SEEN, cutoff, threads,
                          [&](Scratch& s, const Around& a, int row, const double* centre, int n, const int32_t* slots, const double*) {
        out.type[row] = -1;
        out.rmsd[row] = std::numeric_limits<double>::infinity();
        if (out.order) out.order[row] = NONE;
        if (inner_rows) std::fill_n(inner_rows + 4 * size_t(row), 4, -1);
        if (n < 4) return;
        for (int k = 0; k < n; ++k) s.near.set(k, a.x[slots[k]] - centre[0], a.y[slots[k]] - centre[1], a.z[slots[k]] - centre[2]);
        for (int k = n; k < MOST; ++k) s.near.set(k, 0, 0, 0);
        if (!by_solid_angle(s.near, n, s.hull, s.order)) return;
        if (sent) {
            double* to = sent + size_t(row) * 4 * SENT;
            for (int k = 0; k < SENT; ++k) {
                const bool there = k < n;
                const int from = there ? s.order[k] : 0;
                to[4 * k] = s.near.x[from], to[4 * k + 1] = s.near.y[from], to[4 * k + 2] = s.near.z[from];
                to[4 * k + 3] = there ? kind[a.row[slots[from]]] : -1;
            }
            for (int k = 0; k < 4; ++k) inner_rows[4 * size_t(row) + k] = a.row[slots[s.order[k]]];
        }
        for (int k = 0; k < n; ++k) s.shell.set(k, s.near.x[s.order[k]], s.near.y[s.order[k]], s.near.z[s.order[k]]);
        for (int k = n; k < MOST; ++k) s.shell.set(k, 0, 0, 0);
        Match best;
        int8_t met[MOST];
        Points shell;
        const auto attempt = [&](const Graphs& graphs, unsigned wanted) {
            if (!(which & wanted) || n < graphs.n) return;
            for (int k = 0; k < 16; ++k) {
                const bool there = k < graphs.n;
                shell.set(k, there ? s.shell.x[k] : 0, there ? s.shell.y[k] : 0, there ? s.shell.z[k] : 0);
            }
            if (!(graphs.n < 8 ? s.hull.wrap<1>(shell, graphs.n) : s.hull.wrap<2>(shell, graphs.n))) return;
            if (const Graphs::Entry* entry = graphs.find(s.hull, met)) fit(all, graphs, *entry, met, shell, nullptr, which, best);
        };
        attempt(all.six, 1u << SC);
        attempt(all.twelve, 1u << FCC | 1u << HCP | 1u << ICO);
        attempt(all.fourteen, 1u << BCC);
        if (best.type < 0) return;
        int32_t near[SHELL];
        if (out.order)
            for (int k = 0; k < all.of[best.type].shell; ++k) near[k] = kind[a.row[slots[s.order[int(best.at[k])]]]];
        out.put(row, best, kind[row], near);
    });
}

// Whether no inner atom sticks out through a facet of the outer ones other than that of its own three.
bool beneath(const Hull& hull, const Points& outer, const Points& inner) {
    for (int f = 0; f < hull.facets; ++f) {
        const int8_t* corner = hull.facet[f];
        const Four normal = hull.normal[f];
        const double height = dot(normal, outer.at(corner[0]));
        for (int i = 0; i < 4; ++i) {
            const bool own = corner[0] / 3 == i && corner[1] / 3 == i && corner[2] / 3 == i;
            if (!own && dot(normal, inner.at(i)) > height) return false;
        }
    }
    return true;
}

// Matches the diamond templates by the neighbours of neighbours, which `match` noted, and overwrites worse matches.
void match_diamond(const py::array& neighbours, const py::array& rows, const py::array& types, unsigned which, py::array type,
                   py::array rmsd, const py::object& distance, const py::object& quaternion, const py::object& deformation,
                   const py::object& order, int threads) {
    const Doubles table = checked<double>(neighbours, "neighbours (n+nghost, 32) float64", 2, 4 * SENT);
    const Ints inner_rows = checked<int32_t>(rows, "rows (n, 4) int32", 2, 4);
    const Ints species = checked<int32_t>(types, "types (n+nghost,) int32", 1);
    const int n = int(inner_rows.shape(0));
    if (species.shape(0) < n || table.shape(0) < n) wrong("types and neighbours need a row for each atom");
    const Results out(type, rmsd, distance, quaternion, deformation, order, n);
    const double* v = table.data();
    const int32_t *j = inner_rows.data(), *kind = species.data();
    for (int64_t k = 0; k < 4 * int64_t(n); ++k)
        if (j[k] >= table.shape(0)) wrong("rows points beyond neighbours");
    const Templates& all = templates();
    py::gil_scoped_release release;
#pragma omp parallel num_threads(threads)
    {
        Hull hull;
#pragma omp for schedule(dynamic, 256)
        for (int row = 0; row < n; ++row) {
            if (j[4 * size_t(row)] < 0) continue;
            const double* own = v + size_t(row) * 4 * SENT;
            Points outer, inner;
            for (int k = 0; k < MOST; ++k) outer.set(k, 0, 0, 0);
            int32_t near[SHELL];
            for (int i = 0; i < 4; ++i) inner.set(i, own[4 * i], own[4 * i + 1], own[4 * i + 2]);
            // Each inner atom takes its first three that no other has, in turn.
            int count[4] = {0, 0, 0, 0}, total = 0;
            const double bond2 = dot(inner.at(0), inner.at(0));
            for (int k = 0; k < SENT && total < 12; ++k)
                for (int i = 0; i < 4; ++i) {
                    const double* other = v + size_t(j[4 * size_t(row) + i]) * 4 * SENT + 4 * k;
                    if (count[i] == 3 || other[3] < 0) continue;
                    const Four x = inner.at(i) + Four{other[0], other[1], other[2], 0.0};
                    bool taken = dot(x, x) < 1e-8 * bond2;
                    for (int m = 0; m < 4 && !taken; ++m) taken = dot(x - inner.at(m), x - inner.at(m)) < 1e-8 * bond2;
                    for (int m = 0; m < 12 && !taken; ++m)
                        taken = m % 3 < count[m / 3] && dot(x - outer.at(m), x - outer.at(m)) < 1e-8 * bond2;
                    if (taken) continue;
                    near[3 * i + count[i]] = int32_t(other[3]);
                    outer.set(3 * i + count[i]++, x[0], x[1], x[2]);
                    ++total;
                }
            if (total < 12) continue;
            if (!hull.wrap<2>(outer, 12)) continue;
            int8_t met[MOST];
            const Graphs::Entry* entry = all.diamonds.find(hull, met);
            if (!entry || !beneath(hull, outer, inner)) continue;
            Match best;
            best.square = out.rmsd[row] * out.rmsd[row];
            if (!(best.square < 1e300)) best.square = 1e300;
            fit(all, all.diamonds, *entry, met, outer, &inner, which, best);
            if (best.type < 0) continue;
            int32_t of[SHELL];
            for (int k = 0; k < 12; ++k) of[k] = near[int(best.at[k])];
            for (int k = 12; k < 16; ++k) of[k] = int32_t(own[4 * best.at[k] + 3]);
            out.put(row, best, kind[row], of);
        }
    }
}

}  // namespace

PYBIND11_MODULE(_ptm, m) {
    m.doc() = "Polyhedral template matching (C++ kernels)";
    using namespace py::literals;
    m.attr("TYPES") = std::vector<std::string>{"fcc", "hcp", "bcc", "ico", "sc", "cubic_diamond", "hexagonal_diamond"};
    m.attr("SENT") = 4 * SENT;
    m.def("match", &match, "positions"_a, "types"_a, "nlocal"_a, "cutoff"_a, "which"_a, "type"_a, "rmsd"_a,
          "distance"_a = py::none(), "orientation"_a = py::none(), "deformation"_a = py::none(), "ordering"_a = py::none(),
          "neighbours"_a = py::none(), "rows"_a = py::none(), "threads"_a = 1,
          "Templates of one shell: writes type (-1: none) and RMSD of the best, and what else is given.");
    m.def("match_diamond", &match_diamond, "neighbours"_a, "rows"_a, "types"_a, "which"_a, "type"_a, "rmsd"_a,
          "distance"_a = py::none(), "orientation"_a = py::none(), "deformation"_a = py::none(), "ordering"_a = py::none(),
          "threads"_a = 1, "Diamond templates, by the neighbours of neighbours; overwrites worse matches.");
    m.def("templates", [] {
        std::vector<std::vector<Vector>> points;
        for (const Template& t : templates().of) points.push_back(t.points);
        return points;
    }, "The neighbours of each template, in units of their mean distance.");
    m.def("graphs", [] {
        const Templates& t = templates();
        return std::vector<size_t>{t.six.layings.size(), t.twelve.layings.size(), t.fourteen.layings.size(), t.diamonds.layings.size()};
    }, "Numbers of ways to lay a template of 6, 12, 14 and 12 (diamond) points on a shell.");
}
