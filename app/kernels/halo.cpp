// Row selection, packing and wrapping for the domain decomposition. Knows arrays and boxes, not ranks or messages.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <thread>
#include <vector>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace py = pybind11;

namespace {

template <class T>
using dense = py::array_t<T, py::array::c_style>;  // no forcecast: with .noconvert() a wrong dtype is an error

void require(bool ok, const char* what) {
    if (!ok) throw std::invalid_argument(what);
}

struct Frame {
    double origin[3], inverse[9];
    Frame(const dense<double>& o, const dense<double>& inv) {
        require(o.size() == 3 && inv.size() == 9, "origin must be (3,) and inverse (3, 3)");
        std::memcpy(origin, o.data(), sizeof origin);
        std::memcpy(inverse, inv.data(), sizeof inverse);
    }
    void fractional(const double* x, double* s) const {
        const double d0 = x[0] - origin[0], d1 = x[1] - origin[1], d2 = x[2] - origin[2];
        for (int k = 0; k < 3; ++k) s[k] = d0 * inverse[k] + d1 * inverse[3 + k] + d2 * inverse[6 + k];
    }
};

// Squared distance from a point to the corner region of a parallelepiped, given how far the point lies beyond each pair
// of faces: e[d] >= 0 along outward unit normals g[d] n_d (g = +-1, n_d the rows of the reciprocal cell, normalised).
// The region is the intersection of the half spaces behind those faces; the largest dual value over all subsets of
// faces with non-negative multipliers is the distance (Karush-Kuhn-Tucker conditions of the projection).
struct Corner {
    double c[3];  // cosines between the normals: (1, 2), (2, 0), (0, 1)
    bool orthogonal;
    double distance2(const double* e, const double* g) const {
        if (orthogonal) return e[0] * e[0] + e[1] * e[1] + e[2] * e[2];
        double best = 0.0;
        for (int d = 0; d < 3; ++d) best = std::max(best, e[d] * e[d]);
        for (int d = 0; d < 3; ++d) {
            const int p = (d + 1) % 3, q = (d + 2) % 3;
            if (e[p] <= 0.0 || e[q] <= 0.0) continue;
            const double cosine = c[d] * g[p] * g[q];
            if (e[p] < cosine * e[q] || e[q] < cosine * e[p]) continue;
            best = std::max(best, (e[p] * e[p] + e[q] * e[q] - 2.0 * cosine * e[p] * e[q]) / (1.0 - cosine * cosine));
        }
        if (e[0] > 0.0 && e[1] > 0.0 && e[2] > 0.0) {
            const double a = c[0] * g[1] * g[2], b = c[1] * g[2] * g[0], h = c[2] * g[0] * g[1];
            const double det = 1.0 + 2.0 * a * b * h - a * a - b * b - h * h;  // of the Gram matrix
            const double m0 = (1 - a * a) * e[0] + (a * b - h) * e[1] + (a * h - b) * e[2];
            const double m1 = (a * b - h) * e[0] + (1 - b * b) * e[1] + (b * h - a) * e[2];
            const double m2 = (a * h - b) * e[0] + (b * h - a) * e[1] + (1 - h * h) * e[2];
            if (m0 >= 0.0 && m1 >= 0.0 && m2 >= 0.0) best = std::max(best, (m0 * e[0] + m1 * e[1] + m2 * e[2]) / det);
        }
        return best;
    }
};

// The entries k of [0, count) whose value v(k) lies in [a, b], by a loop without branches.
template <class Value, class Entry>
int64_t filter(int64_t count, double a, double b, Value value, Entry entry, int32_t* out) {
    int64_t kept = 0;
    for (int64_t k = 0; k < count; ++k) {
        const double v = value(k);
        out[kept] = entry(k);
        kept += (v >= a) & (v <= b);
    }
    return kept;
}

// Which rows come within `cutoff` of each target box (fractional, infinite at open faces)? The rows lie in the box
// `home`, which no target overlaps.
// Returns (rows int32, counts int64): the rows of target 0 in ascending order, then those of target 1, ...
py::tuple select_rows(const dense<double>& positions, int64_t n, const dense<double>& origin, const dense<double>& inverse,
                      const dense<double>& home, const dense<double>& lo, const dense<double>& hi, double cutoff) {
    require(home.size() == 6, "home must be (2, 3)");
    require(positions.ndim() == 2 && positions.shape(1) == 3 && positions.shape(0) >= n && n >= 0,
            "positions must be (n, 3) float64");
    require(n <= std::numeric_limits<int32_t>::max(), "more rows than a 32-bit index holds");
    require(lo.ndim() == 2 && lo.shape(1) == 3 && hi.ndim() == 2 && hi.shape(1) == 3 && lo.shape(0) == hi.shape(0),
            "lo and hi must be (targets, 3)");
    const Frame frame(origin, inverse);
    const int64_t targets = lo.shape(0);
    const double* x = positions.data();
    const double *lower = lo.data(), *upper = hi.data();
    std::vector<std::vector<int32_t>> found(targets);
    {
        py::gil_scoped_release release;
        // Columns of the inverse are the reciprocal vectors: 1 / |column| is the height of the cell along its normal.
        double height[3], normal[3][3], reach[3], inner[3], outer[3];
        for (int d = 0; d < 3; ++d) {
            const double *m = frame.inverse, norm = std::sqrt(m[d] * m[d] + m[3 + d] * m[3 + d] + m[6 + d] * m[6 + d]);
            height[d] = 1.0 / norm;
            for (int k = 0; k < 3; ++k) normal[d][k] = m[3 * k + d] / norm;
            reach[d] = cutoff * norm;
            inner[d] = home.data()[d] + reach[d], outer[d] = home.data()[3 + d] - reach[d];
        }
        Corner corner;
        corner.orthogonal = true;
        for (int d = 0; d < 3; ++d) {
            const double *p = normal[(d + 1) % 3], *q = normal[(d + 2) % 3];
            corner.c[d] = p[0] * q[0] + p[1] * q[1] + p[2] * q[2];
            if (std::abs(corner.c[d]) > 1e-12) corner.orthogonal = false;
        }
        const double cutoff2 = cutoff * cutoff;
        // One pass turns the rows to fractional coordinates and keeps those near a face of home; only they can matter.
        std::vector<int32_t> shell_rows(n + 1), level[3];
        std::vector<double> coordinates(3 * (n + 1));
        int32_t* shell = shell_rows.data();
        double* s[3] = {&coordinates[0], &coordinates[n + 1], &coordinates[2 * (n + 1)]};
        int64_t m = 0;
        for (int64_t i = 0; i < n; ++i) {
            double v[3];
            frame.fractional(x + 3 * i, v);
            bool near = false;
            for (int d = 0; d < 3; ++d) {
                s[d][m] = v[d];
                near |= (v[d] < inner[d]) | (v[d] > outer[d]);
            }
            shell[m] = int32_t(i);
            m += near;
        }
        // The targets walk a list that shrinks axis by axis, because consecutive targets (sorted by brick, then image)
        // share their extent along the first axes.
        std::vector<double> bounds[3];
        for (int64_t t = 0; t < targets; ++t) {
            bool fresh = t == 0;
            for (int d = 0; d < 3; ++d) {
                const double a = lower[3 * t + d] - reach[d], b = upper[3 * t + d] + reach[d];
                if (!fresh && bounds[d][0] == a && bounds[d][1] == b) continue;
                fresh = true;
                bounds[d] = {a, b};
                auto& out = level[d];
                const double* along = s[d];
                if (d == 0) {
                    out.resize(m + 1);
                    auto value = [=](int64_t k) { return along[k]; };
                    out.resize(filter(m, a, b, value, [](int64_t k) { return int32_t(k); }, out.data()));
                } else {
                    const int32_t* in = level[d - 1].data();
                    const int64_t size = int64_t(level[d - 1].size());
                    out.resize(size + 1);
                    auto value = [=](int64_t k) { return along[in[k]]; };
                    out.resize(filter(size, a, b, value, [=](int64_t k) { return in[k]; }, out.data()));
                }
            }
            auto& rows = found[t];
            rows.reserve(level[2].size());
            for (const int32_t i : level[2]) {
                double e[3], g[3];
                for (int d = 0; d < 3; ++d) {
                    const double v = s[d][i], below = lower[3 * t + d] - v, above = v - upper[3 * t + d];
                    g[d] = above > 0.0 ? 1.0 : -1.0;
                    e[d] = std::max(0.0, std::max(below, above)) * height[d];
                }
                if (corner.distance2(e, g) <= cutoff2) rows.push_back(shell[i]);
            }
        }
    }
    int64_t total = 0;
    for (const auto& rows : found) total += int64_t(rows.size());
    py::array_t<int32_t> rows(total);
    py::array_t<int64_t> counts(targets);
    int64_t at = 0;
    for (int64_t t = 0; t < targets; ++t) {
        if (!found[t].empty()) std::memcpy(rows.mutable_data() + at, found[t].data(), found[t].size() * sizeof(int32_t));
        counts.mutable_data()[t] = int64_t(found[t].size());
        at += int64_t(found[t].size());
    }
    return py::make_tuple(rows, counts);
}


// Copies past the caches, whole lines at a time. A box of shared memory that this core wrote and another core read last
// is several times slower to write again the ordinary way, line by line through the coherence protocol, and then to read.
void stream(char* to, const char* from, int64_t size) {
#if defined(__SSE2__)
    const int64_t head = std::min<int64_t>(size, -reinterpret_cast<intptr_t>(to) & 63);
    std::memcpy(to, from, head);
    int64_t at = head;
    for (; at + 64 <= size; at += 64)
        for (int64_t part = at; part < at + 64; part += 16)
            _mm_stream_si128(reinterpret_cast<__m128i*>(to + part),
                             _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + part)));
    std::memcpy(to + at, from + at, size - at);
#else
    std::memcpy(to, from, size);
#endif
}

// Writes `count` rows of `bytes` bytes to `to`, straight or streamed through a stage: fill(k, m, where) makes rows
// [k, k + m). Streamed pieces end on a line, after the first few rows.
template <class Fill>
void write_rows(char* to, int64_t bytes, int64_t count, bool past_caches, Fill fill) {
    constexpr int64_t size = 4096, group = 16;  // sixteen rows of 4-byte words are whole lines
    if (!past_caches || bytes * group > size) return fill(0, count, to);
    alignas(64) char stage[size];
    const int64_t piece = size / (group * bytes) * group;
    int64_t k = 0, m = 0;
    while (m < group && (reinterpret_cast<intptr_t>(to) + m * bytes) % 64) ++m;
    if (m == 0 || m == group) m = piece;
    for (; k < count; k += m, m = piece) {
        m = std::min(m, count - k);
        fill(k, m, stage);
        stream(to + k * bytes, stage, m * bytes);
    }
}

// out[out_first + k] = positions[rows[k]] + shifts[segment of k] for k in [offsets[first], offsets[last]);
// `out` may be the very array `positions` (ghost rows behind the local ones).
void pack_positions(const dense<double>& positions, const dense<int32_t>& rows, const dense<int64_t>& offsets,
                    const dense<double>& shifts, int64_t first, int64_t last, dense<double> out, int64_t out_first,
                    bool past_caches) {
    require(positions.ndim() == 2 && positions.shape(1) == 3 && out.ndim() == 2 && out.shape(1) == 3,
            "positions and out must be (n, 3) float64");
    const int64_t segments = offsets.size() - 1;
    require(segments >= 0 && shifts.size() == 3 * segments && 0 <= first && first <= last && last <= segments,
            "offsets (segments + 1,) and shifts (segments, 3) do not agree");
    const int64_t* o = offsets.data();
    require(o[segments] <= rows.size(), "offsets reach beyond rows");
    require(out_first >= 0 && out_first + o[last] - o[first] <= out.shape(0), "out has too few rows");
    const double *x = positions.data(), *shift = shifts.data();
    const int32_t* r = rows.data();
    double* y = out.mutable_data() + 3 * out_first;
    py::gil_scoped_release release;
    for (int64_t t = first; t < last; ++t) {
        const double a = shift[3 * t], b = shift[3 * t + 1], c = shift[3 * t + 2];
        const int32_t* list = r + o[t];
        const int64_t count = o[t + 1] - o[t];
        write_rows(reinterpret_cast<char*>(y), 24, count, past_caches, [=](int64_t k, int64_t m, char* where) {
            double* to = reinterpret_cast<double*>(where);
            for (const int32_t *row = list + k, *end = row + m; row < end; ++row, to += 3) {
                const double* from = x + 3 * int64_t(*row);
                const double p = from[0] + a, q = from[1] + b, w = from[2] + c;
                to[0] = p, to[1] = q, to[2] = w;
            }
        });
        y += 3 * count;
    }
}

template <int64_t bytes>
void gather(const char* from, const int32_t* rows, int64_t count, char* to, bool past_caches) {
    write_rows(to, bytes, count, past_caches, [=](int64_t k, int64_t m, char* where) {
        for (int64_t i = 0; i < m; ++i) std::memcpy(where + i * bytes, from + int64_t(rows[k + i]) * bytes, bytes);
    });
}

struct Block {  // a C-contiguous array of any dtype seen as rows of bytes
    char* data;
    int64_t rows, bytes;
    Block(const py::array& a, bool writable) {
        require(a.ndim() >= 1 && (a.flags() & py::array::c_style), "the array must be C-contiguous with at least one axis");
        require(!writable || a.writeable(), "the array is read-only");
        data = static_cast<char*>(const_cast<void*>(a.data()));
        rows = a.shape(0);
        bytes = a.itemsize();
        for (py::ssize_t d = 1; d < a.ndim(); ++d) bytes *= a.shape(d);
    }
};

// out[out_first + k] = array[rows[first + k]] for k < count: any dtype. `out` is either rows of the same size or raw bytes.
void pack_rows(const py::array& array, const dense<int32_t>& rows, int64_t first, int64_t count, py::array out,
               int64_t out_first, bool past_caches) {
    const Block from(array, false), to(out, true);
    require(first >= 0 && count >= 0 && first + count <= rows.size(), "rows out of range");
    require(to.bytes == from.bytes || to.bytes == 1, "out has rows of another size");
    require(out_first >= 0 && (out_first + count) * from.bytes <= to.rows * to.bytes, "out has too few rows");
    const int32_t* r = rows.data() + first;
    char* y = to.data + out_first * from.bytes;
    py::gil_scoped_release release;
    switch (from.bytes) {
        case 4: return gather<4>(from.data, r, count, y, past_caches);
        case 8: return gather<8>(from.data, r, count, y, past_caches);
        case 12: return gather<12>(from.data, r, count, y, past_caches);
        case 16: return gather<16>(from.data, r, count, y, past_caches);
        case 24: return gather<24>(from.data, r, count, y, past_caches);
        case 48: return gather<48>(from.data, r, count, y, past_caches);
        default:
            write_rows(y, from.bytes, count, past_caches, [&](int64_t k, int64_t m, char* where) {
                for (int64_t i = 0; i < m; ++i)
                    std::memcpy(where + i * from.bytes, from.data + int64_t(r[k + i]) * from.bytes, from.bytes);
            });
    }
}

// to[0:size] = from, past the caches.
void stream_bytes(const dense<uint8_t>& from, dense<uint8_t> to) {
    require(to.size() >= from.size(), "the box is too small");
    const char* source = reinterpret_cast<const char*>(from.data());
    char* target = reinterpret_cast<char*>(to.mutable_data());
    py::gil_scoped_release release;
    stream(target, source, from.size());
}

// array[rows[first + k]] += values[k] for k < count, in this order; values points to rows of the array's dtype.
template <class T>
void add_typed(char* array, const int32_t* rows, int64_t count, const char* values, int64_t width) {
    T* a = reinterpret_cast<T*>(array);
    const T* v = reinterpret_cast<const T*>(values);
    if (width == 1) {
        for (int64_t k = 0; k < count; ++k) a[rows[k]] += v[k];
    } else if (width == 3) {
        for (int64_t k = 0; k < count; ++k)
            for (int d = 0; d < 3; ++d) a[3 * int64_t(rows[k]) + d] += v[3 * k + d];
    } else {
        for (int64_t k = 0; k < count; ++k)
            for (int64_t d = 0; d < width; ++d) a[width * rows[k] + d] += v[width * k + d];
    }
}

void add_rows(py::array array, const dense<int32_t>& rows, int64_t first, int64_t count, const py::array& values,
              int64_t values_first) {
    const Block to(array, true), from(values, false);
    require(first >= 0 && count >= 0 && first + count <= rows.size(), "rows out of range");
    require(from.bytes == to.bytes || from.bytes == 1, "values has rows of another size");
    require(values_first >= 0 && (values_first + count) * to.bytes <= from.rows * from.bytes, "values has too few rows");
    const int32_t* r = rows.data() + first;
    const char* v = from.data + values_first * to.bytes;
    const int64_t width = to.bytes / array.itemsize();
    const char kind = array.dtype().kind();
    const int64_t size = array.itemsize();
    if (kind == 'f' && size == 8) return add_typed<double>(to.data, r, count, v, width);
    if (kind == 'f' && size == 4) return add_typed<float>(to.data, r, count, v, width);
    if (kind == 'i' && size == 4) return add_typed<int32_t>(to.data, r, count, v, width);
    if (kind == 'i' && size == 8) return add_typed<int64_t>(to.data, r, count, v, width);
    throw std::invalid_argument("reverse() adds float64, float32, int32 and int64 arrays only");
}

// A counter in memory that processes share: publish() makes everything written before it visible to whoever then reads
// the new value in wait_for().
void publish(dense<uint64_t> counter, uint64_t value) {
    require(counter.size() == 1, "a counter is one uint64");
#if defined(__SSE2__)
    _mm_sfence();  // streamed rows before the counter
#endif
    __atomic_store_n(counter.mutable_data(), value, __ATOMIC_RELEASE);
}

// Waits until every counter has reached `value`: spins `spins` times first, then yields the core. False after `seconds`.
bool wait_for(const std::vector<dense<uint64_t>>& counters, uint64_t value, int64_t spins, double seconds) {
    std::vector<const uint64_t*> where;
    for (const auto& counter : counters) {
        require(counter.size() == 1, "a counter is one uint64");
        where.push_back(counter.data());
    }
    py::gil_scoped_release release;
    const auto start = std::chrono::steady_clock::now();
    int64_t turns = 0;
    for (const uint64_t* counter : where) {
        while (__atomic_load_n(counter, __ATOMIC_ACQUIRE) < value) {
            if (++turns < spins) {
#if defined(__x86_64__) || defined(__i386__)
                __builtin_ia32_pause();
#endif
                continue;
            }
            std::this_thread::yield();
            if (turns % 256 == 0 &&
                std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() > seconds)
                return false;
        }
    }
    return true;
}

int64_t interval(const double* cuts, int64_t cells, double v) {  // largest c with cuts[c] <= v, kept within the cells
    int64_t lo = 0, hi = cells - 1;
    while (lo < hi) {
        const int64_t mid = (lo + hi + 1) / 2;
        if (cuts[mid] <= v) lo = mid; else hi = mid - 1;
    }
    return lo;
}

// Nested cuts: x cuts (gx + 1,), y cuts (gx, gy + 1), z cuts (gx, gy, gz + 1), fractional.
struct Cuts {
    const double *x, *y, *z;
    int64_t gx, gy, gz;
    Cuts(const dense<double>& cx, const dense<double>& cy, const dense<double>& cz) {
        require(cx.ndim() == 1 && cy.ndim() == 2 && cz.ndim() == 3, "cuts must be (gx+1,), (gx, gy+1), (gx, gy, gz+1)");
        gx = cx.shape(0) - 1, gy = cy.shape(1) - 1, gz = cz.shape(2) - 1;
        require(gx > 0 && gy > 0 && gz > 0 && cy.shape(0) == gx && cz.shape(0) == gx && cz.shape(1) == gy,
                "cuts must be (gx+1,), (gx, gy+1), (gx, gy, gz+1)");
        x = cx.data(), y = cy.data(), z = cz.data();
    }
    int32_t owner(const double* s) const {
        const int64_t i = interval(x, gx, s[0]);
        const int64_t j = interval(y + i * (gy + 1), gy, s[1]);
        const int64_t k = interval(z + (i * gy + j) * (gz + 1), gz, s[2]);
        return int32_t((i * gy + j) * gz + k);
    }
};

py::array_t<int32_t> owners(const dense<double>& s, const dense<double>& cx, const dense<double>& cy,
                            const dense<double>& cz) {
    require(s.ndim() == 2 && s.shape(1) == 3, "fractional coordinates must be (n, 3) float64");
    const Cuts cuts(cx, cy, cz);
    py::array_t<int32_t> out(s.shape(0));
    int32_t* o = out.mutable_data();
    const double* v = s.data();
    const int64_t n = s.shape(0);
    py::gil_scoped_release release;
    for (int64_t i = 0; i < n; ++i) o[i] = cuts.owner(v + 3 * i);
    return out;
}

// Wraps positions into the cell along its periodic axes, in place, counts the crossings in images, and finds the owner.
// Returns (owners int32 (n,), first row with a non-finite position or -1).
py::tuple wrap(dense<double> positions, dense<int32_t> images, const dense<double>& matrix, const dense<double>& origin,
               const dense<double>& inverse, const dense<bool>& periodic, const dense<double>& cx,
               const dense<double>& cy, const dense<double>& cz) {
    require(positions.ndim() == 2 && positions.shape(1) == 3, "positions must be (n, 3) float64");
    require(images.ndim() == 2 && images.shape(1) == 3 && images.shape(0) == positions.shape(0),
            "images must be (n, 3) int32");
    require(matrix.size() == 9 && periodic.size() == 3, "matrix must be (3, 3) and periodic (3,)");
    const Frame frame(origin, inverse);
    const Cuts cuts(cx, cy, cz);
    const int64_t n = positions.shape(0);
    double* x = positions.mutable_data();
    int32_t* image = images.mutable_data();
    const double* m = matrix.data();
    const bool* p = periodic.data();
    py::array_t<int32_t> out(n);
    int32_t* owner = out.mutable_data();
    int64_t bad = -1;
    {
        py::gil_scoped_release release;
        for (int64_t i = 0; i < n; ++i) {
            double s[3];
            frame.fractional(x + 3 * i, s);
            if (!std::isfinite(s[0] + s[1] + s[2])) {
                if (bad < 0) bad = i;
                owner[i] = 0;
                continue;
            }
            // A position just below zero is rounded to exactly one period by the first pass and to zero by the second;
            // where skewed cells round to and fro for ever, four passes leave it an ulp outside: the edge brick owns it.
            for (int pass = 0; pass < 4; ++pass) {
                bool moved = false;
                for (int d = 0; d < 3; ++d) {
                    if (!p[d] || (s[d] >= 0.0 && s[d] < 1.0)) continue;
                    const double turns = std::floor(s[d]);
                    for (int k = 0; k < 3; ++k) x[3 * i + k] -= turns * m[3 * d + k];
                    image[3 * i + d] += int32_t(turns);
                    moved = true;
                }
                if (!moved) break;
                frame.fractional(x + 3 * i, s);
            }
            owner[i] = cuts.owner(s);
        }
    }
    return py::make_tuple(out, bad);
}

}  // namespace

PYBIND11_MODULE(_halo, m) {
    m.doc() = "Row selection, packing and wrapping for the domain decomposition.";
    m.def("select_rows", &select_rows, py::arg("positions").noconvert(), py::arg("n"), py::arg("origin").noconvert(),
          py::arg("inverse").noconvert(), py::arg("home").noconvert(), py::arg("lo").noconvert(), py::arg("hi").noconvert(), py::arg("cutoff"));
    m.def("pack_positions", &pack_positions, py::arg("positions").noconvert(), py::arg("rows").noconvert(),
          py::arg("offsets").noconvert(), py::arg("shifts").noconvert(), py::arg("first"), py::arg("last"),
          py::arg("out").noconvert(), py::arg("out_first"), py::arg("past_caches") = false);
    m.def("pack_rows", &pack_rows, py::arg("array").noconvert(), py::arg("rows").noconvert(), py::arg("first"),
          py::arg("count"), py::arg("out").noconvert(), py::arg("out_first"), py::arg("past_caches") = false);
    m.def("stream_bytes", &stream_bytes, py::arg("source").noconvert(), py::arg("target").noconvert());
    m.def("add_rows", &add_rows, py::arg("array").noconvert(), py::arg("rows").noconvert(), py::arg("first"),
          py::arg("count"), py::arg("values").noconvert(), py::arg("values_first"));
    m.def("publish", &publish, py::arg("counter").noconvert(), py::arg("value"));
    m.def("wait_for", &wait_for, py::arg("counters").noconvert(), py::arg("value"), py::arg("spins"),
          py::arg("seconds"));
    m.def("owners", &owners, py::arg("s").noconvert(), py::arg("cx").noconvert(), py::arg("cy").noconvert(),
          py::arg("cz").noconvert());
    m.def("wrap", &wrap, py::arg("positions").noconvert(), py::arg("images").noconvert(), py::arg("matrix").noconvert(),
          py::arg("origin").noconvert(), py::arg("inverse").noconvert(), py::arg("periodic").noconvert(),
          py::arg("cx").noconvert(), py::arg("cy").noconvert(), py::arg("cz").noconvert());
}
