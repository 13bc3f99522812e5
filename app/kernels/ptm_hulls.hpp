// Polyhedral template matching: convex hulls of a few points, and neighbours in the order of their solid angles.
#pragma once

#include "surroundings.hpp"

namespace ostwald::ptm {
namespace {  // as in one file: nothing here is called from elsewhere

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

}  // namespace
}  // namespace ostwald::ptm
