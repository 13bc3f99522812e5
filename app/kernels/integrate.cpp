// Streaming passes of the integrators and minimisers over the atoms of a rank.
//
// One pass each: rows are taken in blocks that stay in the first-level cache, so that a kick, a drift and the kinetic tensor of
// the same rows read and write memory once. Sums are taken per block and added in block order: they do not depend on `threads`.
//
// Velocities Å/ps, forces eV/Å, masses amu; what multiplies a force (a time over a mass, with the unit factor) comes from the caller,
// per type. Frozen rows (groups & frozen) get zero velocity; they follow a deformation of the cell and nothing else.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

namespace py = pybind11;

namespace {

constexpr std::int64_t BLOCK = 256;  // rows; 3 arrays of 3 doubles a row are 18 KB
constexpr int PERIOD = 24;           // the least common multiple of 3 components and 8 lanes

// ---- arguments -------------------------------------------------------------------------------------------------------

template <class T>
T *rows(py::array &array, const char *name, std::int64_t n, std::int64_t columns, bool write = false) {
    const bool shape = columns == 1 ? array.ndim() == 1 : array.ndim() == 2 && array.shape(1) == columns;
    if (!py::isinstance<py::array_t<T>>(array) || !shape || array.shape(0) < n || !(array.flags() & py::array::c_style) ||
        (write && !array.writeable()))
        throw py::value_error(std::string(name) + " must be a C-contiguous" + (write ? " writable " : " ") +
                              py::str(py::dtype::of<T>()).cast<std::string>() + " array with at least " + std::to_string(n) +
                              " rows of " + std::to_string(columns));
    return static_cast<T *>(const_cast<void *>(array.data()));
}

template <class T>
T *optional_rows(py::object &object, const char *name, std::int64_t n, std::int64_t columns, bool write = false) {
    if (object.is_none()) return nullptr;
    if (!py::isinstance<py::array>(object)) throw py::value_error(std::string(name) + " must be an array or None");
    py::array array = py::reinterpret_borrow<py::array>(object);
    return rows<T>(array, name, n, columns, write);
}

// A 3×3 matrix acting on rows from the left (y_a = Σ_b m_ab x_b), with what is known of its form.
struct Map {
    enum Form { identity, scalar, diagonal, full } form = identity;
    double m[3][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}};

    Map() = default;
    Map(const py::object &object, const char *name) {
        if (object.is_none()) return;
        if (py::isinstance<py::float_>(object) || py::isinstance<py::int_>(object)) {
            const double s = object.cast<double>();
            for (int a = 0; a < 3; ++a) m[a][a] = s;
        } else {
            py::object o = object;
            const double *p = optional_rows<double>(o, name, 3, 3);
            for (int a = 0; a < 3; ++a)
                for (int b = 0; b < 3; ++b) m[a][b] = p[3 * a + b];
        }
        const bool off = m[0][1] != 0 || m[0][2] != 0 || m[1][0] != 0 || m[1][2] != 0 || m[2][0] != 0 || m[2][1] != 0;
        if (off)
            form = full;
        else if (m[0][0] != m[1][1] || m[0][0] != m[2][2])
            form = diagonal;
        else
            form = m[0][0] == 1.0 ? identity : scalar;
    }
};

// ---- blocks ----------------------------------------------------------------------------------------------------------

// y <- P y + Q x, component-wise, where P and Q are diagonal (their period over the flat array is 3).
inline void flat_update(double *__restrict y, const double *__restrict x, const double *p, const double *q, std::int64_t m) {
    std::int64_t i = 0;
    for (; i + PERIOD <= m; i += PERIOD)
        for (int l = 0; l < PERIOD; ++l) y[i + l] = p[l] * y[i + l] + q[l] * x[i + l];
    for (; i < m; ++i) y[i] = p[i % 3] * y[i] + q[i % 3] * x[i];
}

// The same with a weight on x: y <- P y + w Q x.
inline void flat_update(double *__restrict y, const double *__restrict x, const double *__restrict w, const double *p,
                        const double *q, std::int64_t m) {
    std::int64_t i = 0;
    for (; i + PERIOD <= m; i += PERIOD)
        for (int l = 0; l < PERIOD; ++l) y[i + l] = p[l] * y[i + l] + w[i + l] * (q[l] * x[i + l]);
    for (; i < m; ++i) y[i] = p[i % 3] * y[i] + w[i] * (q[i % 3] * x[i]);
}

inline void periodic(const Map &map, double *pattern) {
    for (int l = 0; l < PERIOD; ++l) pattern[l] = map.m[l % 3][l % 3];
}

inline void spread(double *w, const std::int32_t *types, const double *table, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) w[3 * i] = w[3 * i + 1] = w[3 * i + 2] = table[types[i]];
}

// What a velocity update needs: v <- B v + c_t C f, zero where frozen.
struct Kick {
    double *v;
    const double *f;
    const std::int32_t *types;
    const double *factors;
    int ntypes;
    Map B, C;
    const std::uint32_t *groups;
    std::uint32_t frozen;
    double pb[PERIOD], pc[PERIOD];

    void prepare() {
        periodic(B, pb);
        periodic(C, pc);
        if (ntypes == 1)
            for (double &c : pc) c *= factors[0];
    }

    void operator()(std::int64_t lo, std::int64_t n, double *w) const {
        double *y = v + 3 * lo;
        const double *x = f + 3 * lo;
        if (B.form != Map::full && C.form != Map::full) {
            if (ntypes == 1) {
                flat_update(y, x, pb, pc, 3 * n);
            } else {
                spread(w, types + lo, factors, n);
                flat_update(y, x, w, pb, pc, 3 * n);
            }
        } else {
            for (std::int64_t i = 0; i < n; ++i) {
                const double c = factors[ntypes == 1 ? 0 : types[lo + i]];
                const double v0 = y[3 * i], v1 = y[3 * i + 1], v2 = y[3 * i + 2];
                const double f0 = c * x[3 * i], f1 = c * x[3 * i + 1], f2 = c * x[3 * i + 2];
                for (int a = 0; a < 3; ++a)
                    y[3 * i + a] = B.m[a][0] * v0 + B.m[a][1] * v1 + B.m[a][2] * v2 + C.m[a][0] * f0 + C.m[a][1] * f1 +
                                   C.m[a][2] * f2;
            }
        }
        if (frozen)
            for (std::int64_t i = 0; i < n; ++i)
                if (groups[lo + i] & frozen) y[3 * i] = y[3 * i + 1] = y[3 * i + 2] = 0.0;
    }
};

// x <- o + A (x − o) + D v
struct Drift {
    double *x;
    const double *v;
    Map A, D;
    double o[3];
    double pd[PERIOD], pa[PERIOD], shift[PERIOD];

    void prepare() {
        periodic(A, pa);
        periodic(D, pd);
        for (int l = 0; l < PERIOD; ++l) shift[l] = o[l % 3];
    }

    void operator()(std::int64_t lo, std::int64_t n) const {
        double *__restrict y = x + 3 * lo;
        const double *__restrict u = v + 3 * lo;
        const std::int64_t m = 3 * n;
        if (A.form == Map::identity && D.form != Map::full) {
            std::int64_t i = 0;
            for (; i + PERIOD <= m; i += PERIOD)
                for (int l = 0; l < PERIOD; ++l) y[i + l] += pd[l] * u[i + l];
            for (; i < m; ++i) y[i] += pd[i % 3] * u[i];
        } else if (A.form != Map::full && D.form != Map::full) {
            std::int64_t i = 0;
            for (; i + PERIOD <= m; i += PERIOD)
                for (int l = 0; l < PERIOD; ++l) y[i + l] = shift[l] + pa[l] * (y[i + l] - shift[l]) + pd[l] * u[i + l];
            for (; i < m; ++i) y[i] = o[i % 3] + pa[i % 3] * (y[i] - o[i % 3]) + pd[i % 3] * u[i];
        } else {
            for (std::int64_t i = 0; i < n; ++i) {
                const double r0 = y[3 * i] - o[0], r1 = y[3 * i + 1] - o[1], r2 = y[3 * i + 2] - o[2];
                const double u0 = u[3 * i], u1 = u[3 * i + 1], u2 = u[3 * i + 2];
                for (int a = 0; a < 3; ++a)
                    y[3 * i + a] = o[a] + A.m[a][0] * r0 + A.m[a][1] * r1 + A.m[a][2] * r2 + D.m[a][0] * u0 + D.m[a][1] * u1 +
                                   D.m[a][2] * u2;
            }
        }
    }
};

// Σ m v⊗v of a block, in the order xx, yy, zz, yz, xz, xy.
//
// The flat array is read three times, shifted by 0, 1 and 2 numbers: lane l holds component l mod 3, so the products are
// (xx, yy, zz), (xy, yz, -) and (xz, -, -); the others mix neighbouring atoms and are dropped.
struct Kinetic {
    const double *v;
    const std::int32_t *types;
    const double *masses;
    int ntypes;

    void operator()(std::int64_t lo, std::int64_t n, double *w, double *sum) const {
        const double *u = v + 3 * lo;
        double s0[PERIOD] = {0}, s1[PERIOD] = {0}, s2[PERIOD] = {0};
        const std::int64_t end = 3 * n - 2;  // a chunk's last reads reach two numbers beyond it
        std::int64_t i = 0;
        if (ntypes == 1) {
            for (; i + PERIOD <= end; i += PERIOD)
                for (int l = 0; l < PERIOD; ++l) {
                    const double a = u[i + l];
                    s0[l] += a * a;
                    s1[l] += a * u[i + l + 1];
                    s2[l] += a * u[i + l + 2];
                }
        } else {
            spread(w, types + lo, masses, n);
            for (; i + PERIOD <= end; i += PERIOD)
                for (int l = 0; l < PERIOD; ++l) {
                    const double a = w[i + l] * u[i + l];
                    s0[l] += a * u[i + l];
                    s1[l] += a * u[i + l + 1];
                    s2[l] += a * u[i + l + 2];
                }
        }
        double k[6] = {0};
        for (; i < 3 * n; i += 3) {
            const double m = ntypes == 1 ? 1.0 : w[i];
            const double x = u[i], y = u[i + 1], z = u[i + 2];
            k[0] += m * x * x, k[1] += m * y * y, k[2] += m * z * z;
            k[3] += m * y * z, k[4] += m * x * z, k[5] += m * x * y;
        }
        for (int l = 0; l < PERIOD; l += 3) {
            k[0] += s0[l], k[1] += s0[l + 1], k[2] += s0[l + 2];
            k[5] += s1[l], k[3] += s1[l + 1], k[4] += s2[l];
        }
        for (int c = 0; c < 6; ++c) sum[c] = ntypes == 1 ? masses[0] * k[c] : k[c];
    }
};

// Runs work(block, lo, rows, scratch) over all blocks; scratch holds 3 numbers a row.
template <class Work>
void blocks(std::int64_t n, int threads, const Work &work) {
    const std::int64_t count = (n + BLOCK - 1) / BLOCK;
#pragma omp parallel num_threads(threads) if (threads > 1 && count > 1)
    {
        alignas(64) double scratch[3 * BLOCK];
#pragma omp for schedule(static)
        for (std::int64_t b = 0; b < count; ++b) work(b, b * BLOCK, std::min(BLOCK, n - b * BLOCK), scratch);
    }
}

// Partial sums of k numbers per block, added in block order.
struct Sums {
    int k;
    std::vector<double> parts;
    Sums(std::int64_t n, int k) : k(k), parts(static_cast<std::size_t>(k) * ((n + BLOCK - 1) / BLOCK), 0.0) {}
    double *operator[](std::int64_t block) { return parts.data() + k * block; }
    py::array_t<double> total() const {
        py::array_t<double> result(k);
        double *sum = result.mutable_data();
        std::fill(sum, sum + k, 0.0);
        for (std::size_t i = 0; i < parts.size(); i += k)
            for (int c = 0; c < k; ++c) sum[c] += parts[i + c];
        return result;
    }
};

void check_types(const std::int32_t *types, std::int64_t n, int ntypes) {
    std::int32_t bad = 0;
    for (std::int64_t i = 0; i < n; ++i) bad |= (types[i] < 0) | (types[i] >= ntypes);
    if (bad) throw py::value_error("a type lies outside the list of masses");
}

// ---- bound functions -------------------------------------------------------------------------------------------------

py::array_t<double> kinetic_tensor(py::array velocities, py::array types, py::array masses, std::int64_t n, int threads) {
    const int ntypes = static_cast<int>(masses.size());
    Kinetic kinetic{rows<double>(velocities, "velocities", n, 3), rows<std::int32_t>(types, "types", n, 1),
                    rows<double>(masses, "masses", 1, 1), ntypes};
    if (ntypes > 1) check_types(kinetic.types, n, ntypes);
    Sums sums(n, 6);
    {
        py::gil_scoped_release release;
        blocks(n, threads, [&](auto b, auto lo, auto m, double *w) { kinetic(lo, m, w, sums[b]); });
    }
    return sums.total();
}

py::object advance(py::array velocities, py::array forces, py::array types, py::array factors, std::int64_t n,
                   py::object growth, py::object response, py::object positions, py::object deformation, py::object drift,
                   py::object fixed_point, py::object groups, std::uint32_t frozen, py::object masses, int threads) {
    Kick kick{};
    kick.v = rows<double>(velocities, "velocities", n, 3, true);
    kick.f = rows<double>(forces, "forces", n, 3);
    kick.types = rows<std::int32_t>(types, "types", n, 1);
    kick.factors = rows<double>(factors, "factors", 1, 1);
    kick.ntypes = static_cast<int>(factors.size());
    kick.B = Map(growth, "growth");
    kick.C = Map(response, "response");
    kick.groups = optional_rows<std::uint32_t>(groups, "groups", n, 1);
    kick.frozen = kick.groups ? frozen : 0;
    if (frozen && !kick.groups) throw py::value_error("a frozen mask needs the groups");
    if (kick.ntypes > 1) check_types(kick.types, n, kick.ntypes);
    kick.prepare();

    Drift move{};
    move.x = optional_rows<double>(positions, "positions", n, 3, true);
    if (move.x) {
        move.v = kick.v;
        move.A = Map(deformation, "deformation");
        move.D = Map(drift, "drift");
        const double *o = optional_rows<double>(fixed_point, "fixed_point", 3, 1);
        for (int a = 0; a < 3; ++a) move.o[a] = o ? o[a] : 0.0;
        move.prepare();
    }

    const double *mass = optional_rows<double>(masses, "masses", kick.ntypes, 1);
    const Kinetic kinetic{kick.v, kick.types, mass, kick.ntypes};
    Sums sums(mass ? n : 0, 6);
    {
        py::gil_scoped_release release;
        blocks(n, threads, [&](auto b, auto lo, auto m, double *w) {
            kick(lo, m, w);
            if (move.x) move(lo, m);
            if (mass) kinetic(lo, m, w, sums[b]);
        });
    }
    if (!mass) return py::none();
    return sums.total();
}

void deform(py::array positions, std::int64_t n, py::object deformation, py::object fixed_point, py::object direction,
            py::object step, int threads) {
    Drift move{};
    move.x = rows<double>(positions, "positions", n, 3, true);
    const double *d = optional_rows<double>(direction, "direction", n, 3);
    move.v = d ? d : move.x;
    move.A = Map(deformation, "deformation");
    move.D = d ? Map(step, "step") : Map(py::float_(0.0), "step");
    const double *o = optional_rows<double>(fixed_point, "fixed_point", 3, 1);
    for (int a = 0; a < 3; ++a) move.o[a] = o ? o[a] : 0.0;
    move.prepare();
    if (!d) {  // D is zero; any readable rows serve, but not ones that alias the output
        std::vector<double> zeros(3 * BLOCK, 0.0);
        py::gil_scoped_release release;
        blocks(n, threads, [&](auto, auto lo, auto m, double *) {
            Drift here = move;
            here.v = zeros.data() - 3 * lo;
            here(lo, m);
        });
        return;
    }
    py::gil_scoped_release release;
    blocks(n, threads, [&](auto, auto lo, auto m, double *) { move(lo, m); });
}

void scale(py::array velocities, std::int64_t n, py::object factor, int threads) {
    double *v = rows<double>(velocities, "velocities", n, 3, true);
    const Map map(factor, "factor");
    if (map.form == Map::identity) return;
    py::gil_scoped_release release;
    blocks(n, threads, [&](auto, auto lo, auto m, double *) {
        double *u = v + 3 * lo;
        if (map.form == Map::scalar) {
            for (std::int64_t i = 0; i < 3 * m; ++i) u[i] *= map.m[0][0];
        } else {
            for (std::int64_t i = 0; i < m; ++i) {
                const double x = u[3 * i], y = u[3 * i + 1], z = u[3 * i + 2];
                for (int a = 0; a < 3; ++a) u[3 * i + a] = map.m[a][0] * x + map.m[a][1] * y + map.m[a][2] * z;
            }
        }
    });
}

// exp(K t) and ∫_0^t exp(K s) ds of a 3×3 matrix K, by Taylor series after halving t, then doubling back.
py::tuple propagators(py::array rate, double time) {
    const double *p = rows<double>(rate, "rate", 3, 3);
    double k[9], norm = 0.0;
    for (int i = 0; i < 9; ++i) k[i] = p[i] * time, norm = std::max(norm, std::fabs(k[i]));
    if (!std::isfinite(norm)) throw py::value_error("the rate of deformation is not finite");
    int halvings = 0;
    for (; norm > 0.125; norm *= 0.5) ++halvings;
    const double half = std::ldexp(1.0, -halvings);
    for (double &x : k) x *= half;

    const auto multiply = [](const double *a, const double *b, double *c) {
        for (int i = 0; i < 3; ++i)
            for (int j = 0; j < 3; ++j) c[3 * i + j] = a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j];
    };
    // phi = Σ k^j/(j+1)!; Horner; 14 terms leave (3/8)^14/15! ≈ 1e-18
    double phi[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1}, work[9];
    for (int j = 14; j >= 2; --j) {
        multiply(k, phi, work);
        for (int i = 0; i < 9; ++i) phi[i] = work[i] / j + (i % 4 == 0);
    }
    double e[9];
    multiply(k, phi, e);
    for (int i = 0; i < 9; i += 4) e[i] += 1.0;
    for (int h = 0; h < halvings; ++h) {  // phi(2k) = (exp(k) + 1) phi(k)/2, exp(2k) = exp(k)²
        double sum[9];
        for (int i = 0; i < 9; ++i) sum[i] = 0.5 * (e[i] + (i % 4 == 0));
        multiply(sum, phi, work);
        std::copy(work, work + 9, phi);
        multiply(e, e, work);
        std::copy(work, work + 9, e);
    }
    py::array_t<double> exponential({3, 3}), integral({3, 3});
    for (int i = 0; i < 9; ++i) exponential.mutable_data()[i] = e[i], integral.mutable_data()[i] = time * phi[i];
    return py::make_tuple(exponential, integral);
}

py::array_t<double> dots(py::array left, const std::vector<py::array> &right, std::int64_t n, int threads) {
    const double *a = rows<double>(left, "left", n, 3);
    std::vector<const double *> b;
    for (py::array r : right) b.push_back(rows<double>(r, "right", n, 3));
    const int k = static_cast<int>(b.size());
    Sums sums(n, k);
    {
        py::gil_scoped_release release;
        blocks(n, threads, [&](auto block, auto lo, auto m, double *) {
            for (int c = 0; c < k; ++c) {
                const double *x = a + 3 * lo, *y = b[c] + 3 * lo;
                double lanes[PERIOD] = {0}, rest = 0.0;
                std::int64_t i = 0;
                for (; i + PERIOD <= 3 * m; i += PERIOD)
                    for (int l = 0; l < PERIOD; ++l) lanes[l] += x[i + l] * y[i + l];
                for (; i < 3 * m; ++i) rest += x[i] * y[i];
                for (double lane : lanes) rest += lane;
                sums[block][c] = rest;
            }
        });
    }
    return sums.total();
}

// out <- Σ_c coefficients[c] vectors[c]; out may be one of the vectors.
void combine(py::array out, const std::vector<double> &coefficients, const std::vector<py::array> &vectors, std::int64_t n,
             int threads) {
    double *y = rows<double>(out, "out", n, 3, true);
    if (coefficients.size() != vectors.size()) throw py::value_error("combine needs one coefficient a vector");
    std::vector<const double *> x;
    for (py::array v : vectors) x.push_back(rows<double>(v, "vectors", n, 3));
    py::gil_scoped_release release;
    blocks(n, threads, [&](auto, auto lo, auto m, double *w) {
        std::fill(w, w + 3 * m, 0.0);
        for (std::size_t c = 0; c < x.size(); ++c) {
            const double *u = x[c] + 3 * lo;
            const double s = coefficients[c];
            for (std::int64_t i = 0; i < 3 * m; ++i) w[i] += s * u[i];
        }
        std::memcpy(y + 3 * lo, w, 3 * m * sizeof(double));
    });
}

// The largest row of a (n, 3) array: (square of its norm, row), NaN rows first; frozen rows are left out. (0, -1) when empty.
py::tuple largest(py::array array, std::int64_t n, py::object types, py::object weights, py::object groups,
                  std::uint32_t frozen) {
    const double *a = rows<double>(array, "array", n, 3);
    const double *w = optional_rows<double>(weights, "weights", 1, 1);
    const std::int32_t *t = w ? optional_rows<std::int32_t>(types, "types", n, 1) : nullptr;
    if (w && !t) throw py::value_error("weights are per type and need the types");
    if (t) check_types(t, n, static_cast<int>(py::len(weights)));
    const std::uint32_t *g = optional_rows<std::uint32_t>(groups, "groups", n, 1);
    double best = -1.0;
    std::int64_t row = -1;
    {
        py::gil_scoped_release release;
        for (std::int64_t i = 0; i < n; ++i) {
            if (g && (g[i] & frozen)) continue;
            double s = a[3 * i] * a[3 * i] + a[3 * i + 1] * a[3 * i + 1] + a[3 * i + 2] * a[3 * i + 2];
            if (w) s *= w[t[i]] * w[t[i]];
            if (!(s <= best)) {
                best = s, row = i;
                if (s != s) break;
            }
        }
    }
    return py::make_tuple(row < 0 ? 0.0 : best, row);
}

}  // namespace

PYBIND11_MODULE(_integrate, module) {
    module.doc() = "Streaming passes over the atoms of a rank: kicks, drifts, sums, vector algebra of minimisers.";
    using namespace py::literals;
    module.def("kinetic_tensor", &kinetic_tensor, "velocities"_a, "types"_a, "masses"_a, "n"_a, "threads"_a = 1,
               "Σ m v⊗v of the first n rows, (6,) amu Å²/ps², in the order xx, yy, zz, yz, xz, xy.");
    module.def("advance", &advance, "velocities"_a, "forces"_a, "types"_a, "factors"_a, "n"_a, py::kw_only(),
               "growth"_a = py::none(), "response"_a = py::none(), "positions"_a = py::none(),
               "deformation"_a = py::none(), "drift"_a = py::none(), "fixed_point"_a = py::none(), "groups"_a = py::none(),
               "frozen"_a = 0, "masses"_a = py::none(), "threads"_a = 1,
               "v <- growth v + factors[type] response f; then, with positions, x <- o + deformation (x - o) + drift v; then,\n"
               "with masses, returns the kinetic tensor. The maps are None (identity), a number, or (3, 3) acting on columns.");
    module.def("deform", &deform, "positions"_a, "n"_a, "deformation"_a = py::none(), "fixed_point"_a = py::none(),
               "direction"_a = py::none(), "step"_a = py::none(), "threads"_a = 1,
               "x <- o + deformation (x - o) + step direction, of the first n rows.");
    module.def("scale", &scale, "velocities"_a, "n"_a, "factor"_a, "threads"_a = 1, "v <- factor v; a number or (3, 3).");
    module.def("propagators", &propagators, "rate"_a, "time"_a, "exp(K t) and the integral of exp(K s) over 0..t, (3, 3) each.");
    module.def("dots", &dots, "left"_a, "right"_a, "n"_a, "threads"_a = 1, "Σ left·right_c over the first n rows, (k,).");
    module.def("combine", &combine, "out"_a, "coefficients"_a, "vectors"_a, "n"_a, "threads"_a = 1,
               "out <- Σ coefficients[c] vectors[c] over the first n rows.");
    module.def("largest", &largest, "array"_a, "n"_a, "types"_a = py::none(), "weights"_a = py::none(),
               "groups"_a = py::none(), "frozen"_a = 0,
               "(|a|², row) of the largest row, weighted per type; the first row that is not a number wins.");
}
