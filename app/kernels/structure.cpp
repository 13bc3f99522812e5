// Structure of the surroundings of every atom: nearest neighbours, common neighbour analysis, Steinhardt's bond order,
// centrosymmetry, pair histograms. All work on the rows of a rank, so nothing here knows of cells or ranks.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "surroundings.hpp"

namespace {

using namespace ostwald;

struct List {
    Longs offsets_array;
    Ints indices_array;
    const int64_t* offsets;
    const int32_t* indices;
    int n;
    List(const py::array& o, const py::array& i, int rows)
        : offsets_array(checked<int64_t>(o, "offsets (n+1,) int64", 1)), indices_array(checked<int32_t>(i, "indices (m,) int32", 1)) {
        offsets = offsets_array.data();
        indices = indices_array.data();
        n = int(offsets_array.shape(0)) - 1;
        if (n < 0 || n > rows) wrong("offsets does not fit the number of rows");
        if (offsets[n] > indices_array.shape(0)) wrong("offsets points beyond indices");
    }
};

// --- common neighbour analysis ---------------------------------------------------------------------------------------

enum Label : int8_t { OTHER = 0, FCC = 1, HCP = 2, BCC = 3, ICO = 4 };

inline int number(unsigned m) { return __builtin_popcount(m); }

// (bonds among the common neighbours `common`, size in bonds of the largest connected group of them) by the adjacency.
struct Signature {
    int bonds, chain;
};
inline Signature signature(const unsigned* adjacent, unsigned common) {
    int degrees = 0;
    for (unsigned m = common; m; m &= m - 1) degrees += number(adjacent[__builtin_ctz(m)] & common);
    int chain = 0;
    for (unsigned left = common; left;) {
        unsigned group = left & -left, front = group;
        int ends = 0;
        while (front) {
            const unsigned near = adjacent[__builtin_ctz(front)] & common;
            ends += number(near);
            front &= front - 1;
            front |= near & ~group;
            group |= near;
        }
        chain = std::max(chain, ends / 2);
        left &= ~group;
    }
    return {degrees / 2, chain};
}

// Signatures 421 ×12: fcc; 421 ×6 and 422 ×6: hcp; 555 ×12: icosahedron (Honeycutt and Andersen 1987).
Label close_packed(const unsigned* adjacent) {
    int n421 = 0, n422 = 0, n555 = 0;
    for (int k = 0; k < 12; ++k) {
        const int common = number(adjacent[k]);
        if (common == 4) {
            const Signature s = signature(adjacent, adjacent[k]);
            if (s.bonds != 2) return OTHER;
            ++(s.chain == 1 ? n421 : n422);
        } else if (common == 5) {
            const Signature s = signature(adjacent, adjacent[k]);
            if (s.bonds != 5 || s.chain != 5) return OTHER;
            ++n555;
        } else {
            return OTHER;
        }
    }
    return n421 == 12 ? FCC : n421 == 6 && n422 == 6 ? HCP : n555 == 12 ? ICO : OTHER;
}

// Signatures 666 ×8 and 444 ×6: bcc.
Label body_centred(const unsigned* adjacent) {
    int n444 = 0, n666 = 0;
    for (int k = 0; k < 14; ++k) {
        const int common = number(adjacent[k]);
        if (common != 4 && common != 6) return OTHER;
        const Signature s = signature(adjacent, adjacent[k]);
        if (s.bonds != common || s.chain != common) return OTHER;
        ++(common == 4 ? n444 : n666);
    }
    return n444 == 6 && n666 == 8 ? BCC : OTHER;
}

// Vectors to the (up to 14) neighbours, and which of them are bonded at a given distance.
struct Shell {
    alignas(64) double x[16], y[16], z[16];
    alignas(64) double d2[14][16];

    void fill(const Around& a, const int32_t* slots, int n) {
        for (int k = 0; k < n; ++k) x[k] = a.x[slots[k]], y[k] = a.y[slots[k]], z[k] = a.z[slots[k]];
        measure(n);
    }

    void measure(int n) {
        for (int k = n; k < 16; ++k) x[k] = y[k] = z[k] = std::numeric_limits<double>::quiet_NaN();
        for (int k = 0; k < n; ++k)
            for (int h = 0; h < 16; h += W) {
                const Lanes dx = load(x + h) - x[k], dy = load(y + h) - y[k], dz = load(z + h) - z[k];
                store(d2[k] + h, dx * dx + dy * dy + dz * dz);
            }
    }

    void adjacency(int n, double limit2, unsigned* adjacent) const {
        const Lanes limit = splat(limit2);
        const unsigned kept = (1u << n) - 1;
        for (int k = 0; k < n; ++k) {
            unsigned m = 0;
            for (int h = 0; h < 16; h += W) m |= less(load(d2[k] + h), limit) << h;
            adjacent[k] = m & kept & ~(1u << k);
        }
    }
};

py::array_t<int8_t> adaptive_cna(const py::array& positions, int64_t nlocal, double cutoff, int threads) {
    const Rows r(positions, nlocal);
    py::array_t<int8_t> out(r.nlocal);
    int8_t* label = out.mutable_data();
    {
        py::gil_scoped_release release;
        each_nearest<Shell>(r, 14, cutoff, threads,
                            [&](Shell& shell, const Around& a, int row, const double*, int n, const int32_t* slots, const double* d2) {
            // Stukowski, Modelling Simul. Mater. Sci. Eng. 20 (2012) 045021, eqs 1-3: the cutoff of an atom lies halfway
            // between the shells, whose radii follow from the mean distance to its 12 (8 + 6) nearest neighbours.
            label[row] = OTHER;
            if (n < 12) return;
            shell.fill(a, slots, n);
            unsigned adjacent[14];
            double sum = 0;
            for (int k = 0; k < 12; ++k) sum += std::sqrt(d2[k]);
            const double near = sum / 12 * (1 + std::sqrt(2.0)) / 2;
            shell.adjacency(12, near * near, adjacent);
            label[row] = close_packed(adjacent);
            if (label[row] != OTHER || n < 14) return;
            sum = 0;
            for (int k = 0; k < 8; ++k) sum += std::sqrt(d2[k]);
            sum *= 2 / std::sqrt(3.0);
            for (int k = 8; k < 14; ++k) sum += std::sqrt(d2[k]);
            const double far = sum / 14 * 1.207;  // (1 + sqrt 2)/2 to the digits of the published tool, so that labels agree
            shell.adjacency(14, far * far, adjacent);
            label[row] = body_centred(adjacent);
        });
    }
    return out;
}

py::array_t<int8_t> fixed_cna(const py::array& positions, int64_t nlocal, double cutoff, int threads) {
    const Rows r(positions, nlocal);
    if (!(cutoff > 0)) wrong("cutoff must be positive");
    py::array_t<int8_t> out(r.nlocal);
    int8_t* label = out.mutable_data();
    {
        py::gil_scoped_release release;
        const Grid g(r, cutoff);
        each_atom<Shell>(g, r.nlocal, threads, 1, [&](Shell& shell, Around& a, int row, const double* p, const int*) {
            a.within(p, row, cutoff * cutoff);
            label[row] = OTHER;
            if (a.found != 12 && a.found != 14) return;
            unsigned adjacent[14];
            shell.fill(a, a.slot.data(), a.found);
            shell.adjacency(a.found, cutoff * cutoff, adjacent);
            label[row] = a.found == 12 ? close_packed(adjacent) : body_centred(adjacent);
        });
    }
    return out;
}

// Identification of diamond: Maras, Trushin, Stukowski, Ala-Nissila, Jónsson, Comput. Phys. Commun. 205, 13 (2016). The twelve
// second neighbours, reached through the four nearest, are an fcc shell in cubic and an hcp shell in hexagonal diamond.
// bonds: vectors to the four nearest neighbours of every row; rows: which rows these are. 1: cubic, 2: hexagonal, 0: neither.
py::array_t<int8_t> diamond(const py::array& bonds, const py::array& rows, int threads) {
    const Doubles vectors = checked<double>(bonds, "bonds (n+nghost, 12) float64", 2, 12);
    const Ints near = checked<int32_t>(rows, "rows (n, 4) int32", 2, 4);
    const int n = int(near.shape(0));
    const double* v = vectors.data();
    const int32_t* j = near.data();
    for (int64_t k = 0; k < 4 * int64_t(n); ++k)
        if (j[k] >= vectors.shape(0)) wrong("rows points beyond bonds");
    if (n > vectors.shape(0)) wrong("bonds has fewer rows than rows");
    py::array_t<int8_t> out(n);
    int8_t* label = out.mutable_data();
    py::gil_scoped_release release;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int i = 0; i < n; ++i) {
        label[i] = 0;
        if (j[4 * size_t(i)] < 0) continue;
        Shell shell;
        int count = 0;
        double sum = 0;
        for (int a = 0; a < 4; ++a) {
            const double* first = v + 12 * size_t(i) + 3 * a;
            const double bond2 = first[0] * first[0] + first[1] * first[1] + first[2] * first[2];
            for (int b = 0; b < 4; ++b) {
                const double* second = v + 12 * size_t(j[4 * size_t(i) + a]) + 3 * b;
                const double x = first[0] + second[0], y = first[1] + second[1], z = first[2] + second[2];
                const double r2 = x * x + y * y + z * z;
                if (r2 < 1e-10 * bond2) continue;  // the atom itself
                if (count < 12) shell.x[count] = x, shell.y[count] = y, shell.z[count] = z;
                sum += std::sqrt(r2), ++count;
            }
        }
        if (count != 12 || !(sum < 1e300)) continue;  // the atom is not among the four nearest of a neighbour, or has too few
        shell.measure(12);
        unsigned adjacent[14];
        const double cutoff = sum / 12 * 1.2071068;
        shell.adjacency(12, cutoff * cutoff, adjacent);
        const Label found = close_packed(adjacent);
        label[i] = found == FCC ? 1 : found == HCP ? 2 : 0;
    }
    return out;
}

// --- neighbours ------------------------------------------------------------------------------------------------------

py::tuple nearest(const py::array& positions, int64_t nlocal, int count, double cutoff, int threads) {
    const Rows r(positions, nlocal);
    if (count < 1 || count > SORTABLE) wrong("between 1 and 64 nearest neighbours can be asked for");
    Longs offsets(r.nlocal + 1);
    Ints indices(int64_t(r.nlocal) * count);
    int64_t* o = offsets.mutable_data();
    int32_t* j = indices.mutable_data();
    {
        py::gil_scoped_release release;
        o[0] = 0;
        each_nearest<Nothing>(r, count, cutoff, threads,
                              [&](Nothing&, const Around& a, int row, const double*, int n, const int32_t* slots, const double*) {
            o[row + 1] = n;
            for (int k = 0; k < n; ++k) j[int64_t(row) * count + k] = a.row[slots[k]];
        });
        for (int i = 0; i < r.nlocal; ++i) {  // close up after atoms with fewer
            const int64_t n = o[i + 1];
            if (o[i] != int64_t(i) * count) std::memmove(j + o[i], j + int64_t(i) * count, n * sizeof(int32_t));
            o[i + 1] = o[i] + n;
        }
    }
    indices.resize({o[r.nlocal]}, false);
    return py::make_tuple(offsets, indices);
}

py::tuple within(const py::array& positions, int64_t nlocal, double cutoff, int threads) {
    const Rows r(positions, nlocal);
    if (!(cutoff > 0)) wrong("cutoff must be positive");
    Longs offsets(r.nlocal + 1);
    int64_t* o = offsets.mutable_data();
    const Grid* grid;
    {
        py::gil_scoped_release release;
        grid = new Grid(r, cutoff);
        o[0] = 0;
        each_atom<Nothing>(*grid, r.nlocal, threads, 1, [&](Nothing&, Around& a, int row, const double* p, const int*) {
            a.within(p, row, cutoff * cutoff);
            o[row + 1] = a.found;
        });
        for (int i = 0; i < r.nlocal; ++i) o[i + 1] += o[i];
    }
    Ints indices(o[r.nlocal]);
    int32_t* j = indices.mutable_data();
    {
        py::gil_scoped_release release;
        each_atom<Nothing>(*grid, r.nlocal, threads, 1, [&](Nothing&, Around& a, int row, const double* p, const int*) {
            a.within(p, row, cutoff * cutoff);
            for (int k = 0; k < a.found; ++k) j[o[row] + k] = a.row[a.slot[k]];
        });
        delete grid;
    }
    return py::make_tuple(offsets, indices);
}

// --- Steinhardt ------------------------------------------------------------------------------------------------------

constexpr int HIGHEST = 12;

// Constants of the recurrence of the normalised associated Legendre functions without their factor sin^m:
// P_mm = mm[m], P_(m+1)m = up[m] z P_mm, P_lm = a[l][m] (z P_(l-1)m - b[l][m] P_(l-2)m); real harmonics are
// Y_l0 = P_l0, Y_lm = P_lm Re (x+iy)^m, Y_l-m = P_lm Im (x+iy)^m, the factor sqrt 2 of m > 0 inside mm[m].
struct Legendre {
    double mm[HIGHEST + 1], up[HIGHEST + 1], a[HIGHEST + 1][HIGHEST + 1], b[HIGHEST + 1][HIGHEST + 1];
    Legendre() {
        double p = std::sqrt(1 / (4 * M_PI));
        for (int m = 0; m <= HIGHEST; ++m) {
            if (m) p *= std::sqrt((2 * m + 1) / (2.0 * m));
            mm[m] = m ? p * std::sqrt(2.0) : p;
            up[m] = std::sqrt(2.0 * m + 3);
            for (int l = m + 2; l <= HIGHEST; ++l) {
                a[l][m] = std::sqrt((4.0 * l * l - 1) / (double(l) * l - double(m) * m));
                b[l][m] = std::sqrt(((l - 1.0) * (l - 1.0) - double(m) * m) / (4.0 * (l - 1) * (l - 1) - 1));
            }
        }
    }
};
const Legendre legendre;

// Adds the harmonics of degree <= L of W unit vectors (one an atom) times their weights; only wanted degrees are kept.
template <int L>
inline void accumulate(Lanes x, Lanes y, Lanes z, Lanes weight, const int* column, Lanes* sum) {
    Lanes c = weight, s{};  // weight (x+iy)^m
#pragma GCC unroll 16
    for (int m = 0; m <= L; ++m) {
        Lanes before{}, p = splat(legendre.mm[m]);
#pragma GCC unroll 16
        for (int l = m; l <= L; ++l) {
            if (l == m + 1) before = p, p = p * z * legendre.up[m];
            if (l > m + 1) {
                const Lanes next = legendre.a[l][m] * (z * p - legendre.b[l][m] * before);
                before = p, p = next;
            }
            if (column[l] < 0) continue;
            if (m == 0) {
                sum[column[l]] += p * c;
            } else {
                sum[column[l] + 2 * m - 1] += p * c;
                sum[column[l] + 2 * m] += p * s;
            }
        }
        const Lanes turned = x * c - y * s;
        s = y * c + x * s, c = turned;
    }
}

template <int L>
void harmonics_of(const Rows& r, const List& list, const int* column, int width, double* out, int threads) {
    const int blocks = (list.n + W - 1) / W;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int block = 0; block < blocks; ++block) {
        const int first = block * W, lanes = std::min(W, list.n - first);
        int count[W] = {}, most = 0;
        for (int k = 0; k < lanes; ++k) {
            count[k] = int(list.offsets[first + k + 1] - list.offsets[first + k]);
            most = std::max(most, count[k]);
        }
        Lanes sum[(HIGHEST + 1) * (HIGHEST + 1)];
        for (int k = 0; k < width; ++k) sum[k] = Lanes{};
        for (int n = 0; n < most; ++n) {
            alignas(64) double dx[W], dy[W], dz[W], weight[W];
            for (int k = 0; k < W; ++k) {
                dx[k] = dy[k] = weight[k] = 0, dz[k] = 1;
                if (n >= count[k]) continue;
                const double* p = r.x + 3 * size_t(first + k);
                const double* q = r.x + 3 * size_t(list.indices[list.offsets[first + k] + n]);
                dx[k] = q[0] - p[0], dy[k] = q[1] - p[1], dz[k] = q[2] - p[2], weight[k] = 1;
            }
            const Lanes x = load(dx), y = load(dy), z = load(dz), r2 = x * x + y * y + z * z;
            const Lanes inverse = 1.0 / sqrt(r2);
            accumulate<L>(x * inverse, y * inverse, z * inverse, load(weight), column, sum);
        }
        for (int k = 0; k < lanes; ++k) {
            const double share = count[k] ? 1.0 / count[k] : 0.0;
            double* row = out + size_t(first + k) * width;
            for (int w = 0; w < width; ++w) row[w] = sum[w][k] * share;
        }
    }
}

void harmonics(const py::array& positions, const py::array& offsets, const py::array& indices, const std::vector<int>& degrees,
               py::array_t<double> out, int threads) {
    const Rows r(positions, 0);
    const List list(offsets, indices, r.rows);
    int column[HIGHEST + 1], width = 0, highest = 0;
    std::fill(column, column + HIGHEST + 1, -1);
    for (int l : degrees) {
        if (l < 0 || l > HIGHEST) wrong("degrees of spherical harmonics lie between 0 and 12");
        if (column[l] >= 0) wrong("a degree is given twice");
        column[l] = width, width += 2 * l + 1, highest = std::max(highest, l);
    }
    checked<double>(out, "out (n+nghost, sum of 2l+1) float64", 2);
    if (out.shape(1) != width || out.shape(0) < list.n) wrong("out must have a row for each atom and 2l+1 columns for each degree");
    double* o = out.mutable_data();
    py::gil_scoped_release release;
    if (highest <= 4) harmonics_of<4>(r, list, column, width, o, threads);
    else if (highest <= 6) harmonics_of<6>(r, list, column, width, o, threads);
    else if (highest <= 8) harmonics_of<8>(r, list, column, width, o, threads);
    else harmonics_of<HIGHEST>(r, list, column, width, o, threads);
}

// Wigner's 3j symbol (l l l; a b c) with a + b + c = 0, by Racah's formula; exact enough in long double up to l = 12.
double wigner(int l, int a, int b, int c) {
    const auto factorial = [](int n) { return std::tgamma((long double)n + 1); };
    long double sum = 0;
    for (int k = std::max({0, -a, b}); k <= std::min({l, l - a, l + b}); ++k) {
        const long double term = factorial(k) * factorial(l - k) * factorial(l - a - k) * factorial(l + b - k) *
                                 factorial(k + a) * factorial(k - b);
        sum += (k & 1 ? -1 : 1) / term;
    }
    const long double triangle = factorial(l) * factorial(l) * factorial(l) / factorial(3 * l + 1);
    const long double spread = factorial(l + a) * factorial(l - a) * factorial(l + b) * factorial(l - b) *
                               factorial(l + c) * factorial(l - c);
    return double((c & 1 ? -1 : 1) * std::sqrt(triangle * spread) * sum);
}

// (n,) the normalised third-order invariant of degree l, whose 2l+1 columns begin at `first`; 0 where all are 0.
Doubles third_invariant(const py::array& values, int first, int l, int threads) {
    const Doubles q = checked<double>(values, "values (n, k) float64", 2);
    const int n = int(q.shape(0)), width = int(q.shape(1));
    if (l < 0 || l > HIGHEST || first < 0 || first + 2 * l + 1 > width) wrong("the columns of that degree lie outside of values");
    struct Term {
        int a, b, c;  // a >= b >= c, a + b + c = 0
        double weight;
    };
    std::vector<Term> terms;
    if (l % 2 == 0)  // an odd degree changes sign with an exchange of two columns: nothing remains
        for (int a = 0; a <= l; ++a)
            for (int b = a; b >= -l; --b) {
                const int c = -a - b;
                if (c > b || c < -l) continue;
                const int orders = a == b && b == c ? 1 : a == b || b == c ? 3 : 6;
                terms.push_back({a, b, c, orders * wigner(l, a, b, c)});
            }
    Doubles out(n);
    double* o = out.mutable_data();
    const double* v = q.data();
    py::gil_scoped_release release;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int block = 0; block < (n + W - 1) / W; ++block) {
        const int at = block * W, count = std::min(W, n - at);
        // q_lm = (-1)^m (cosine + i sine) / sqrt 2 for m > 0, and q_l-m = (-1)^m of its conjugate
        Lanes real[2 * HIGHEST + 1], imaginary[2 * HIGHEST + 1], norm{};
        for (int m = 0; m <= l; ++m) {
            Lanes c{}, s{};
            for (int k = 0; k < count; ++k) {
                const double* row = v + size_t(at + k) * width + first;
                c[k] = row[m ? 2 * m - 1 : 0], s[k] = m ? row[2 * m] : 0.0;
            }
            norm += c * c + s * s;
            const double half = m ? std::sqrt(0.5) : 1.0, sign = m & 1 ? -1 : 1;
            real[l + m] = c * (sign * half), imaginary[l + m] = s * (sign * half);
            real[l - m] = c * half, imaginary[l - m] = s * -half;
        }
        Lanes sum{};
        for (const Term& t : terms) {
            const Lanes ar = real[l + t.a], ai = imaginary[l + t.a], br = real[l + t.b], bi = imaginary[l + t.b];
            sum += t.weight * ((ar * br - ai * bi) * real[l + t.c] - (ar * bi + ai * br) * imaginary[l + t.c]);
        }
        for (int k = 0; k < count; ++k) o[at + k] = norm[k] > 0 ? sum[k] / (norm[k] * std::sqrt(norm[k])) : 0.0;
    }
    return out;
}

Doubles average(const py::array& values, const py::array& offsets, const py::array& indices, int threads) {
    const Doubles q = checked<double>(values, "values (n+nghost, k) float64", 2);
    const List list(offsets, indices, int(q.shape(0)));
    const int width = int(q.shape(1));
    Doubles out({int64_t(list.n), int64_t(width)});
    double* o = out.mutable_data();
    const double* v = q.data();
    py::gil_scoped_release release;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int i = 0; i < list.n; ++i) {
        double* sum = o + size_t(i) * width;
        std::memcpy(sum, v + size_t(i) * width, width * sizeof(double));
        for (int64_t k = list.offsets[i]; k < list.offsets[i + 1]; ++k) {
            const double* other = v + size_t(list.indices[k]) * width;
            for (int w = 0; w < width; ++w) sum[w] += other[w];
        }
        const double share = 1.0 / (1 + list.offsets[i + 1] - list.offsets[i]);
        for (int w = 0; w < width; ++w) sum[w] *= share;
    }
    return out;
}

Ints coherent(const py::array& values, const py::array& offsets, const py::array& indices, double threshold, int threads) {
    const Doubles q = checked<double>(values, "values (n+nghost, k) float64", 2);
    const List list(offsets, indices, int(q.shape(0)));
    const int width = int(q.shape(1));
    Ints out(list.n);
    int32_t* o = out.mutable_data();
    const double* v = q.data();
    py::gil_scoped_release release;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int i = 0; i < list.n; ++i) {
        const double* a = v + size_t(i) * width;
        double aa = 0;
        for (int w = 0; w < width; ++w) aa += a[w] * a[w];
        int count = 0;
        for (int64_t k = list.offsets[i]; k < list.offsets[i + 1]; ++k) {
            const double* b = v + size_t(list.indices[k]) * width;
            double ab = 0, bb = 0;
            for (int w = 0; w < width; ++w) ab += a[w] * b[w], bb += b[w] * b[w];
            count += ab > threshold * std::sqrt(aa * bb);
        }
        o[i] = count;
    }
    return out;
}

// --- centrosymmetry, pair histogram ----------------------------------------------------------------------------------

Doubles centrosymmetry(const py::array& positions, int64_t nlocal, int neighbours, double cutoff, int threads) {
    const Rows r(positions, nlocal);
    if (neighbours < 2 || neighbours > 16 || neighbours % 2) wrong("centrosymmetry needs an even number of neighbours, 2 to 16");
    Doubles out(r.nlocal);
    double* o = out.mutable_data();
    py::gil_scoped_release release;
    each_nearest<Nothing>(r, neighbours, cutoff, threads,
                          [&](Nothing&, const Around& a, int row, const double* p, int n, const int32_t* slots, const double*) {
        double x[16], y[16], z[16], pair[120];
        for (int k = 0; k < n; ++k) x[k] = a.x[slots[k]] - p[0], y[k] = a.y[slots[k]] - p[1], z[k] = a.z[slots[k]] - p[2];
        int m = 0;
        for (int i = 0; i < n; ++i)
            for (int k = i + 1; k < n; ++k) {
                const double sx = x[i] + x[k], sy = y[i] + y[k], sz = z[i] + z[k];
                pair[m++] = sx * sx + sy * sy + sz * sz;
            }
        const int half = std::min(neighbours / 2, m);
        std::nth_element(pair, pair + std::max(half - 1, 0), pair + m);
        double sum = 0;
        for (int k = 0; k < half; ++k) sum += pair[k];
        o[row] = n == neighbours ? sum : std::numeric_limits<double>::quiet_NaN();
    });
    return out;
}

Longs pair_histogram(const py::array& positions, const py::array& types, int64_t nlocal, double cutoff, int bins, int ntypes, int threads) {
    const Rows r(positions, nlocal);
    const Ints t = checked<int32_t>(types, "types (n+nghost,) int32", 1);
    if (t.shape(0) != r.rows) wrong("types and positions have different numbers of rows");
    if (!(cutoff > 0) || bins < 1 || ntypes < 1) wrong("cutoff, bins and ntypes must be positive");
    const int32_t* type = t.data();
    for (int i = 0; i < r.rows; ++i)
        if (type[i] < 0 || type[i] >= ntypes) wrong("types holds a value outside of 0 ... ntypes-1");
    const size_t size = size_t(ntypes) * ntypes * bins;
    Longs out({ntypes, ntypes, bins});
    int64_t* o = out.mutable_data();
    std::memset(o, 0, size * sizeof(int64_t));
    py::gil_scoped_release release;
    struct Counts {
        std::vector<int64_t> n;
        int64_t* home = nullptr;
        ~Counts() {
            if (!home) return;
#pragma omp critical(ostwald_pair_histogram)
            for (size_t k = 0; k < n.size(); ++k) home[k] += n[k];
        }
    };
    const Grid g(r, cutoff);
    const double scale = bins / cutoff;
    each_atom<Counts>(g, r.nlocal, threads, 1, [&](Counts& own, Around& a, int row, const double* p, const int*) {
        if (!own.home) own.n.assign(size, 0), own.home = o;
        a.within(p, row, cutoff * cutoff);
        for (int k = 0; k < a.found; ++k) {
            const int b = std::min(bins - 1, int(std::sqrt(a.distance2[k]) * scale));
            ++own.n[(size_t(type[row]) * ntypes + type[a.row[a.slot[k]]]) * bins + b];
        }
    });
    return out;
}

}  // namespace

PYBIND11_MODULE(_structure, m) {
    m.doc() = "Structure of the surroundings of every atom (C++ kernels)";
    using namespace py::literals;
    m.def("nearest", &nearest, "positions"_a, "nlocal"_a, "count"_a, "cutoff"_a, "threads"_a = 1,
          "CSR list (offsets, indices) of the `count` nearest neighbours within cutoff, nearest first.");
    m.def("within", &within, "positions"_a, "nlocal"_a, "cutoff"_a, "threads"_a = 1,
          "CSR list (offsets, indices) of all neighbours within cutoff.");
    m.def("adaptive_cna", &adaptive_cna, "positions"_a, "nlocal"_a, "cutoff"_a, "threads"_a = 1,
          "(nlocal,) int8 labels of adaptive common neighbour analysis.");
    m.def("fixed_cna", &fixed_cna, "positions"_a, "nlocal"_a, "cutoff"_a, "threads"_a = 1,
          "(nlocal,) int8 labels of common neighbour analysis at a fixed cutoff.");
    m.def("diamond", &diamond, "bonds"_a, "rows"_a, "threads"_a = 1,
          "(n,) int8: 1 cubic, 2 hexagonal diamond, 0 neither, from the vectors to the four nearest neighbours of all rows.");
    m.def("harmonics", &harmonics, "positions"_a, "offsets"_a, "indices"_a, "degrees"_a, "out"_a, "threads"_a = 1,
          "Mean real spherical harmonics of the bonds of each atom, written to the first rows of out.");
    m.def("third_invariant", &third_invariant, "values"_a, "first"_a, "degree"_a, "threads"_a = 1,
          "(n,) normalised third-order invariant of the 2l+1 columns of one degree.");
    m.def("average", &average, "values"_a, "offsets"_a, "indices"_a, "threads"_a = 1,
          "Mean of the rows of an atom and its neighbours.");
    m.def("coherent", &coherent, "values"_a, "offsets"_a, "indices"_a, "threshold"_a, "threads"_a = 1,
          "Number of neighbours whose row points along the atom's own: cosine above threshold.");
    m.def("centrosymmetry", &centrosymmetry, "positions"_a, "nlocal"_a, "neighbours"_a, "cutoff"_a, "threads"_a = 1,
          "(nlocal,) centrosymmetry parameter; NaN where there are too few neighbours.");
    m.def("pair_histogram", &pair_histogram, "positions"_a, "types"_a, "nlocal"_a, "cutoff"_a, "bins"_a, "ntypes"_a, "threads"_a = 1,
          "(ntypes, ntypes, bins) int64: ordered pairs by their distance.");
}
