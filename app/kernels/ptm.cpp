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

#include "ptm_templates.hpp"

namespace {

using namespace ostwald;
using namespace ostwald::ptm;

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
