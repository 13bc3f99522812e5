// Polyhedral template matching: the templates, and the table of all graphs of their hulls.
#pragma once

#include <array>
#include <utility>

#include "ptm_hulls.hpp"

namespace ostwald::ptm {
namespace {

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

}  // namespace
}  // namespace ostwald::ptm
