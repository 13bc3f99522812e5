// Real-to-complex Fourier transforms of the planes and columns that a rank holds (sweeps.hpp says how they lie).
#include "sweeps.hpp"

using namespace ostwald;
using namespace ostwald::sweeps;

namespace {

// Real lines z of a group of planes or of one plane, and the complex rows they belong to.
template <class T, bool inverse> struct Real {
  const Planes<T> work;
  T* field;
  int64_t x_step, y_step;
  const fft::Plan<T>& plan;
  Staging<T> z;
  Buffer<T> buffer, scratch;

  Real(const Planes<T>& w, T* f, int64_t xs, int64_t ys)
      : work(w), field(f), x_step(xs), y_step(ys), plan(fft::plan<T>(w.nz)), z(w.nz, 0), buffer(plan.buffer()),
        scratch(plan.scratch()) {}

  void lines(const Lines<T>& group, T* first, int64_t step) {
    T* real[Lines<T>::most];
    for (int i = 0; i < Lines<T>::most; i++) real[i] = first + std::min(i, group.count - 1) * step;
    if (inverse) group.gather(work.nz, work.blocks, work.block_stride(), z);
    else Lines<T>::gather_real(real, work.nz, z);
    fft::begin(plan, From<T, inverse>{z.data}, buffer.data);
    fft::finish(plan, buffer.data, scratch.data, To<T, inverse>{z.data});
    if (inverse) Lines<T>::scatter_real(real, group.count, work.nz, z);
    else group.scatter(work.nz, work.blocks, work.block_stride(), z);
  }
};

template <class T> T* real_field(const py::array& field, const Planes<T>& work, int64_t& x_step, int64_t& y_step, bool write) {
  T* data = elements<T>(field, "field", 3, write);
  require(field.shape(0) == work.nx && field.shape(1) == work.ny && field.shape(2) == work.nz,
          "field must be (planes, n1, n2), as many planes as work has");
  x_step = field.strides(0) / int64_t(sizeof(T)), y_step = field.strides(1) / int64_t(sizeof(T));
  return data;
}

template <class T, bool inverse>
void sweep_planes(const py::array& field, const py::array& array, int ny, int nz, bool along_y, int threads) {
  const Planes<T> work(array, ny, nz, along_y);
  int64_t xs, ys;
  T* data = real_field<T>(field, work, xs, ys, inverse);
  const int length = along_y ? ny : 1;
  fft::plan<T>(length), fft::plan<T>(nz);
  py::gil_scoped_release release;
  if (ny == 1) {
    const int64_t groups = (work.nx + Lines<T>::most - 1) / Lines<T>::most;
#pragma omp parallel num_threads(threads)
    {
      Real<T, inverse> real(work, data, xs, ys);
#pragma omp for schedule(dynamic, 1)
      for (int64_t g = 0; g < groups; g++) {
        const int64_t x = g * Lines<T>::most;
        each_group<T>(work.data + x * work.stride, work.stride, std::min<int64_t>(Lines<T>::most, work.nx - x),
                      [&](const Lines<T>& group, int64_t) { real.lines(group, data + x * xs, xs); });
      }
    }
    return;
  }
#pragma omp parallel num_threads(threads)
  {
    Real<T, inverse> real(work, data, xs, ys);
    Rows<T, inverse> rows(length);
    const int64_t chunk = work.block_stride();
    Buffer<T> copy(inverse && along_y ? work.blocks * chunk : 1);
#pragma omp for schedule(dynamic, 1)
    for (int64_t x = 0; x < work.nx; x++) {
      T* plane = work.data + x * work.stride;
      T* middle = inverse && along_y ? copy.data : plane;  // the planes are kept
      if (inverse && along_y)
        for (int b = 0; b < work.blocks; b++) rows(plane + b * chunk, middle + b * chunk);
      each_group<T>(middle, row<T>, ny,
                    [&](const Lines<T>& group, int64_t y) { real.lines(group, data + x * xs + y * ys, ys); });
      if (!inverse && along_y)
        for (int b = 0; b < work.blocks; b++) rows(plane + b * chunk, plane + b * chunk);
    }
  }
}

void forward_planes(py::array field, py::array work, int n1, int n2, bool along_y, int threads) {
  by_dtype(work, [&](auto t) { sweep_planes<decltype(t), false>(field, work, n1, n2, along_y, threads); });
}
void backward_planes(py::array work, py::array field, int n1, int n2, bool along_y, int threads) {
  by_dtype(work, [&](auto t) { sweep_planes<decltype(t), true>(field, work, n1, n2, along_y, threads); });
}

// Only along y: the rows of some blocks, from one array to another or the same.
template <class T, bool inverse>
void transform_rows(const py::array& source, const py::array& target, int n1, int blocks, int threads) {
  const T* in = elements<T>(source, "source", 2, false);
  T* out = elements<T>(target, "target", 2, true);
  const int64_t chunk = int64_t(n1) * row<T>, nx = source.shape(0);
  const int64_t from = source.strides(0) / int64_t(sizeof(T)), to = target.strides(0) / int64_t(sizeof(T));
  require(n1 > 0 && blocks >= 0 && target.shape(0) == nx && source.shape(1) >= blocks * chunk && target.shape(1) >= blocks * chunk,
          "source and target must have the same planes, of blocks * n1 rows");
  fft::plan<T>(n1);
  py::gil_scoped_release release;
#pragma omp parallel num_threads(threads)
  {
    Rows<T, inverse> rows(n1);
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < nx * blocks; i++)
      rows(in + i / blocks * from + i % blocks * chunk, out + i / blocks * to + i % blocks * chunk);
  }
}
void rows(py::array source, py::array target, int n1, int blocks, bool inverse, int threads) {
  by_dtype(source, [&](auto t) {
    inverse ? transform_rows<decltype(t), true>(source, target, n1, blocks, threads)
            : transform_rows<decltype(t), false>(source, target, n1, blocks, threads);
  });
}

template <class T> void forward_columns_of(const std::vector<py::array>& slabs, const py::array& array, double scale, int threads) {
  const Columns<T> columns(slabs);
  const int n = columns.size();
  T* spectrum = spectrum_of<T>(array, columns.count, n);
  const auto& plan = fft::plan<T>(n);
  py::gil_scoped_release release;
#pragma omp parallel num_threads(threads)
  {
    Buffer<T> buffer(plan.buffer()), scratch(plan.scratch());
#pragma omp for schedule(dynamic, 16)
    for (int64_t c = 0; c < columns.count; c++) {
      fft::begin(plan, PlaneColumn<T, false>{columns.planes.data(), c * row<T>}, buffer.data);
      fft::finish(plan, buffer.data, scratch.data, InOrder<T>{spectrum + c * n * row<T>, T(scale)});
    }
  }
}

template <class T> void backward_columns_of(const py::array& array, const std::vector<py::array>& slabs, int threads) {
  const Columns<T> columns(slabs);
  const int n = columns.size();
  const T* spectrum = spectrum_of<T>(array, columns.count, n);
  const auto& plan = fft::plan<T>(n, true);
  const std::vector<int> order = fft::plan<T>(n).order();
  std::vector<int> place(n);
  for (int i = 0; i < n; i++) place[order[i]] = i;
  py::gil_scoped_release release;
#pragma omp parallel num_threads(threads)
  {
    Buffer<T> buffer(plan.buffer()), scratch(plan.scratch());
#pragma omp for schedule(dynamic, 16)
    for (int64_t c = 0; c < columns.count; c++) {
      const auto source = [&](int j, int, vec<T>& re, vec<T>& im) __attribute__((always_inline)) {
        const T* a = spectrum + (c * n + place[j]) * row<T>;
        re = load(a + lanes<T>), im = load(a);
      };
      fft::begin(plan, source, buffer.data);
      fft::finish(plan, buffer.data, scratch.data, PlaneColumn<T, true>{columns.planes.data(), c * row<T>});
    }
  }
}

void forward_columns(std::vector<py::array> slabs, py::array spectrum, double scale, int threads) {
  by_dtype(spectrum, [&](auto t) { forward_columns_of<decltype(t)>(slabs, spectrum, scale, threads); });
}
void backward_columns(py::array spectrum, std::vector<py::array> slabs, int threads) {
  by_dtype(spectrum, [&](auto t) { backward_columns_of<decltype(t)>(spectrum, slabs, threads); });
}

int width(const py::dtype& dtype) {
  if (dtype.is(py::dtype::of<double>())) return lanes<double>;
  require(dtype.is(py::dtype::of<float>()), "the dtype must be float64 or float32");
  return lanes<float>;
}

py::array_t<int> order(int n) {
  const std::vector<int> k = fft::plan<double>(n).order();
  return py::array_t<int>(py::ssize_t(k.size()), k.data());
}

}  // namespace

PYBIND11_MODULE(_fft, module) {
  module.doc() = "Real-to-complex Fourier transforms of planes and columns.";
  using namespace py::literals;
  module.def("lanes", &width, "dtype"_a, "Complex numbers in a row: W.");
  module.def("smooth", &fft::smooth, "n"_a, "Whether n is a product of 2, 3, 5 and 7.");
  module.def("order", &order, "n"_a, "(n,) i4: the wave number (0 … n-1) that stands at each place of a column of the spectrum.");
  module.def("forward_planes", &forward_planes, "field"_a, "work"_a, "n1"_a, "n2"_a, "along_y"_a = true,
             "threads"_a = 1,
             "Real field (planes, n1, n2) -> complex rows of work (planes, >= blocks * n1 * 2 W), transformed along z and, if along_y,\n"
             "along y.");
  module.def("backward_planes", &backward_planes, "work"_a, "field"_a, "n1"_a, "n2"_a, "along_y"_a = true,
             "threads"_a = 1, "The inverse, without a factor; work is kept.");
  module.def("rows", &rows, "source"_a, "target"_a, "n1"_a, "blocks"_a, "inverse"_a, "threads"_a = 1,
             "The transform along y alone, of (planes, >= blocks * n1 * 2 W).");
  module.def("forward_columns", &forward_columns, "slabs"_a, "spectrum"_a, "scale"_a = 1.0, "threads"_a = 1,
             "Columns of the slabs [(planes, columns * 2 W), …] -> scale times their transform, spectrum (columns, n0, 2 W).");
  module.def("backward_columns", &backward_columns, "spectrum"_a, "slabs"_a, "threads"_a = 1, "The inverse, without a factor.");
}
