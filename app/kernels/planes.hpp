// The sweep over planes: back along y and z, something pointwise on lines of real numbers in registers, forth along z and y.
#pragma once

#include <algorithm>
#include <limits>

#include "sweeps.hpp"

namespace ostwald::sweeps {

// A group of lines: its number, and 1 in the lanes of lines that are there, 0 in repeated ones. Between the transforms along z `im`
// holds the first W lines and `re` the others, for the rows come from a transform of exchanged parts.
template <class T> struct Group {
  int64_t number;
  vec<T> first, others;
};

// g' of the points. measure: also the sum of g and the lowest and highest fluctuation of the group, into out + 3 number.
template <class T, class Well, bool measure> struct Slope {
  const Well& well;
  T shift;  // <φ> - centre: what to add to the fluctuation
  Group<T> group;
  double* out;
  double energy = 0, lowest = std::numeric_limits<double>::infinity(), highest = -lowest;

  template <int R> OSTWALD_INLINE void apply(int, int, vec<T>* re, vec<T>* im) {
    vec<T> e{}, low = im[0], high = im[0];
#pragma GCC unroll 8
    for (int p = 0; p < R; p++) {
      const vec<T> u = re[p] + shift, v = im[p] + shift;
      if constexpr (measure) {
        e += group.others * well.value(u) + group.first * well.value(v);
        low = minimum(minimum(re[p], im[p]), low), high = maximum(maximum(re[p], im[p]), high);
      }
      re[p] = well.derivative(u), im[p] = well.derivative(v);
    }
    if constexpr (measure) {
      energy += wide_sum(e);
      for (int l = 0; l < lanes<T>; l++) lowest = std::min(lowest, double(low[l])), highest = std::max(highest, double(high[l]));
    }
  }
  void done() const {
    double* o = out + 3 * group.number;
    if constexpr (measure) o[0] = energy, o[1] = lowest, o[2] = highest;
  }
};

// An operation at the end of a transform that only looks.
template <class T, class Operation> struct Look {
  Operation& op;
  template <int R> OSTWALD_INLINE void take(int j, int stride, vec<T>* re, vec<T>* im) { op.template apply<R>(j, stride, re, im); }
};

// make(group) gives the operation of a group: apply<R>(j, stride, re, im) for its rows, then done().
template <class T, bool look, class Make> struct PlanesSweep {  // look: leaves the planes as they are
  const Planes<T> work;
  const Make& make;
  bool along_y;

  struct Space {
    const fft::Plan<T>&back, &forth;
    Staging<T> z;
    Buffer<T> a, b, scratch;
    explicit Space(int n)
        : back(fft::plan<T>(n)), forth(fft::plan<T>(n, true)), z(n, 1), a(back.buffer()), b(forth.buffer()),
          scratch(std::max(back.scratch(), forth.scratch())) {}
  };

  void lines(Space& s, const Lines<T>& lines, int64_t number) const {
    Group<T> group{number, {}, {}};
    for (int l = 0; l < lanes<T>; l++) group.first[l] = l < lines.count, group.others[l] = l + lanes<T> < lines.count;
    lines.gather(work.nz, work.blocks, work.block_stride(), s.z);
    fft::begin(s.back, From<T, true, 1>{s.z.data}, s.a.data);
    auto op = make(group);
    using Operation = decltype(op);
    if constexpr (look) {
      fft::finish(s.back, s.a.data, s.scratch.data, Look<T, Operation>{op});
    } else {
      fft::finish(s.back, s.a.data, s.scratch.data, fft::Turn<T, Operation>{s.forth, s.b.data, op});
      fft::finish(s.forth, s.b.data, s.scratch.data, To<T, false, 1>{s.z.data});
      lines.scatter(work.nz, work.blocks, work.block_stride(), s.z);
    }
    op.done();
  }

  void run(int threads) const {
    const int ny = work.ny, per_plane = (ny + Lines<T>::most - 1) / Lines<T>::most;
    if (ny == 1) {
      const int64_t groups = (work.nx + Lines<T>::most - 1) / Lines<T>::most;
#pragma omp parallel num_threads(threads)
      {
        Space space(work.nz);
#pragma omp for schedule(dynamic, 1)
        for (int64_t g = 0; g < groups; g++) {
          const int64_t x = g * Lines<T>::most;
          each_group<T>(work.data + x * work.stride, work.stride, std::min<int64_t>(Lines<T>::most, work.nx - x),
                        [&](const Lines<T>& group, int64_t) { lines(space, group, g); });
        }
      }
      return;
    }
    const int64_t chunk = work.block_stride();
#pragma omp parallel num_threads(threads)
    {
      Space space(work.nz);
      Rows<T, true> back(along_y ? ny : 1);
      Rows<T, false> forth(along_y ? ny : 1);
      Buffer<T> copy(look && along_y ? work.blocks * chunk : 1);
#pragma omp for schedule(dynamic, 1)
      for (int64_t x = 0; x < work.nx; x++) {
        T *plane = work.data + x * work.stride, *middle = look && along_y ? copy.data : plane;
        for (int b = 0; along_y && b < work.blocks; b++) back(plane + b * chunk, middle + b * chunk);
        each_group<T>(middle, row<T>, ny,
                      [&](const Lines<T>& group, int64_t y) { lines(space, group, x * per_plane + y / Lines<T>::most); });
        if (along_y && !look)
          for (int b = 0; b < work.blocks; b++) forth(plane + b * chunk, plane + b * chunk);
      }
    }
  }
};

// Groups of lines that these planes have.
template <class T> int64_t groups_of(const Planes<T>& work) {
  const int64_t lines = work.ny == 1 ? work.nx : work.ny, groups = (lines + Lines<T>::most - 1) / Lines<T>::most;
  return groups * (work.ny == 1 ? 1 : work.nx);
}

// Sums (groups, 3) of a sweep, or null.
template <class T> double* sums_of(const py::object& sums, const Planes<T>& work) {
  if (sums.is_none()) return nullptr;
  py::array a = py::reinterpret_borrow<py::array>(sums);
  double* out = elements<double>(a, "sums", 2, true);
  require(a.shape(0) == groups_of(work) && a.shape(1) == 3 && (a.flags() & py::array::c_style), "sums must be C-contiguous (groups, 3)");
  return out;
}

template <class T, bool look = false, class Make> void sweep_planes(const Planes<T>& work, const Make& make, bool along_y, int threads) {
  if (along_y) fft::plan<T>(work.ny);
  fft::plan<T>(work.nz), fft::plan<T>(work.nz, true);
  py::gil_scoped_release release;
  PlanesSweep<T, look, Make>{work, make, along_y}.run(threads);
}

}  // namespace ostwald::sweeps
