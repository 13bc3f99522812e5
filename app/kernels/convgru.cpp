// One step of a convolutional recurrent network (equations: app/surrogate/architecture.py) on a brick of a grid, in place.
//
// A step is a chain of stages, each of which makes one plane (of axis 0) from a few planes of those before it: load φ (and hidden
// states) as elements of a convolution, the gates of a block, its new hidden state, …, the head, φ. All stages go along axis 0
// together, one plane a tick, each so far behind the others that all it reads was made in earlier ticks; then φ and hidden states
// can be overwritten where they are, everything else lives in rings of a few planes, and the rows of all planes of a tick are independent
// work for the threads. No point is computed twice, unless it is a ghost: there, a stage makes as many layers as the later ones need.
// Along an undivided periodic axis 0 a stage begins one radius later than those it reads, and reads at its end what they made first,
// which is kept.
//
// Rows carry `radius` elements before and behind their points, which whoever makes a point also fills: they are what padding puts there.

#include <functional>
#include <limits>
#include <memory>

#include "convolution.hpp"
#include "sweeps.hpp"

namespace {

using namespace ostwald;
namespace py = pybind11;
using convolution::Convolution;
using convolution::Source;
using convolution::Weights;
using convolution::Whole;
using sweeps::elements;
using sweeps::require;

enum class Padding { circular, reflect, zero };
enum class Head { flux, staggered, potential, sigmoid, allen_cahn };

constexpr int lead = 16;      // rows begin at multiples of so many elements: on a cache line
constexpr int most_radius = lead;
constexpr int segment = 64;   // points of a row that one thread does in one go: its numbers stay in the first-level cache

int round_up(int n, int m) { return (n + m - 1) / m * m; }
int modulo(int a, int n) { return (a % n + n) % n; }

// A brick along an axis: points 0 … n - 1 of a box that goes from low to high - 1. What lies beyond the brick are ghosts, copies of what
// others own; beyond the box padding rules.
struct Axis {
  int n, low, high;

  bool divided() const { return low < 0 || high > n; }
};

// A convolution as Python gives it: weights (outputs, inputs, k, [k,] k) of each part of its inputs, bias (outputs,).
using Numbers = py::array_t<double, py::array::c_style | py::array::forcecast>;
using Layer = std::pair<std::vector<Numbers>, Numbers>;
using Layers = std::vector<Layer>;

// An array of φ or of a hidden state: `ghosts` layers around the points of axes 0 and 1.
template <class T> struct Field {
  T* data = nullptr;
  int ghosts = 0;
  bool three = false;
  int64_t channel = 0, plane = 0, line = 0;

  T* row(int c, int x, int y) const { return data + c * channel + (x + ghosts) * plane + (three ? (y + ghosts) * line : 0); }
};

// The last planes of something, rows [channels][points and padding].
template <class E> struct Ring {
  int channels = 0, stride = 0, rows = 0, first_row = 0;
  int begin = 0, planes = 0, keep = 0, depth = 0;  // planes begin … begin + planes - 1 are made, the first `keep` of them stay
  std::vector<E> memory;
  E* data = nullptr;

  void allocate() {
    const size_t size = size_t(keep + depth) * rows * channels * stride + 2 * lead + segment;
    memory.assign(size + 64 / sizeof(E), E(0));
    const auto address = reinterpret_cast<uintptr_t>(memory.data());
    data = memory.data() + (64 - address % 64) % 64 / sizeof(E) + lead;
  }
  E* row(int plane, int y) {
    const int j = (plane - begin) % planes, slot = j < keep ? j : keep + (j - keep) % depth;
    return data + (size_t(slot) * rows + (y - first_row)) * channels * stride;
  }
};

class Step {
 public:
  virtual ~Step() = default;
  virtual void run(py::array phi, const std::vector<py::array>& hidden, std::vector<double> parameters, std::array<int, 3> points,
                   std::array<int, 4> beyond, int threads) = 0;
  virtual int64_t bytes() const = 0;
};

// F: the format of what convolutions read. T: of sums, gates and hidden states.
template <class F> class Network : public Step {
  using T = typename F::real;
  using E = typename F::element;
  static constexpr int W = lanes<T>;
  static_assert(segment % W == 0);

  struct Block {
    Convolution<F> input, hidden, gates, share, candidate, mix;  // cell "gru" has gates and candidate only
    Ring<E> x, h, rh;                                            // what convolutions read: input, old hidden state, r h
    Ring<T> z, share_of_input;
  };

 public:
  Network(int dimensions, int kernel, int channels, bool deep, Head head, Padding padding, const std::vector<Layers>& blocks,
          const Layers& head_layers)
      : three_(dimensions == 3), radius_(kernel / 2), channels_(channels), deep_(deep), head_(head), padding_(padding) {
    require(dimensions == 2 || dimensions == 3, "a network has two or three dimensions");
    require(kernel % 2 == 1 && radius_ <= most_radius, "the kernel must be odd, at most 33 points");
    for (const Layers& l : blocks) {
      Block& b = *blocks_.emplace_back(std::make_unique<Block>());
      require(l.size() == (deep ? 6u : 2u), "a block has other layers");
      if (deep) b.input = make(l[0]), b.hidden = make(l[1]), b.gates = make(l[2]), b.share = make(l[3]), b.candidate = make(l[4]), b.mix = make(l[5]);
      else b.gates = make(l[0]), b.candidate = make(l[1]);
    }
    require(!blocks_.empty() && !head_layers.empty(), "a network has blocks and a head");
    for (const Layer& l : head_layers) {
      const bool pointwise = l.first.at(0).shape(2) == 1;
      if (&l == &head_layers.back()) output_ = make<Whole<T>>(l);
      else if (pointwise && windows_.empty()) fused_.push_back(make(l));
      else windows_.push_back(make(l));
    }
    between_.resize(windows_.size());
    parameters_ = int(blocks[0][0].first.back().shape(1)) - 1;  // beside φ
  }

  void run(py::array phi, const std::vector<py::array>& hidden, std::vector<double> parameters, std::array<int, 3> points,
           std::array<int, 4> beyond, int threads) override {
    require(hidden.size() == blocks_.size(), "one hidden state for each block");
    require(int(parameters.size()) == parameters_, "wrong number of parameters");
    require(three_ || points[1] == 1, "a grid of two dimensions has one line a plane");
    for (int b : beyond) require(b >= 0 && b <= 1 << 24, "as many points beyond the brick as there may be in a box");
    for (int a = 0; a < 3; a++) {
      const int *around = beyond.data() + 2 * a, n = points[a];
      n_[a] = a < 2 ? Axis{n, -around[0], n + around[1]} : Axis{n, 0, n};
      require(n > 0 && (n_[a].high - n_[a].low >= radius_ || (a == 1 && !three_)), "fewer points along an axis than the kernel reaches");
    }
    require(padding_ != Padding::circular || ((beyond[0] > 0) == (beyond[1] > 0) && (beyond[2] > 0) == (beyond[3] > 0)),
            "a periodic axis has ghosts on both sides or none");
    phi_ = field<double>(phi, 1, "phi");
    hidden_.clear();
    for (const py::array& h : hidden) hidden_.push_back(field<T>(h, channels_, "a hidden state"));
    parameter_.assign(parameters.begin(), parameters.end());
    const std::array<int, 7> shape{points[0], points[1], points[2], beyond[0], beyond[1], beyond[2], beyond[3]};
    if (shape != planned_) planned_ = {}, plan(), planned_ = shape;
    for (size_t b = 0; b < blocks_.size(); b++) check_ghosts(hidden_[b].ghosts, loads_[b]);
    check_ghosts(phi_.ghosts, loads_[0]);
    py::gil_scoped_release release;
    go(std::max(1, threads));
  }

  int64_t bytes() const override {
    int64_t size = 0;
    const auto add = [&](const auto& ring) { size += int64_t(ring.memory.size() * sizeof(ring.memory[0])); };
    for (const auto& b : blocks_) add(b->x), add(b->h), add(b->rh), add(b->z), add(b->share_of_input);
    for (const auto& ring : between_) add(ring);
    add(last_), add(u_);
    return size;
  }

 private:
  // ---- what the network consists of

  template <class G = F> Convolution<G> make(const Layer& layer) const {
    std::vector<Weights> parts;
    for (const Numbers& w : layer.first) {
      require(w.ndim() == (three_ ? 5 : 4), "weights have the wrong number of dimensions");
      const int k = int(w.shape(2));
      parts.push_back({w.data(), int(w.shape(0)), int(w.shape(1)), three_ ? k * k : k, k});
      require(w.shape(0) == layer.second.size() && (k == 1 || k == 2 * radius_ + 1), "weights of a layer do not fit");
    }
    require(!parts.empty() && parts.size() <= 2, "a convolution has one input or two");
    return Convolution<G>(parts, layer.second.data());
  }

  template <class A> Field<A> field(const py::array& a, int channels, const char* name) const {
    const bool many = channels > 1 || a.ndim() == (three_ ? 4 : 3);
    const int d = int(many);
    Field<A> f;
    f.data = elements<A>(a, name, (three_ ? 3 : 2) + d, true);
    f.three = three_;
    const auto step = [&](int axis) { return int64_t(a.strides(axis)) / int64_t(sizeof(A)); };
    if (many) f.channel = step(0);
    f.plane = step(d), f.line = three_ ? step(d + 1) : 0;
    const int64_t extra = a.shape(d) - n_[0].n;
    f.ghosts = int(extra / 2);
    require((!many || a.shape(0) == channels) && extra >= 0 && extra % 2 == 0 && (!three_ || a.shape(d + 1) - n_[1].n == extra) &&
                a.shape(a.ndim() - 1) >= round_up(n_[2].n, lead),
            std::string(name) + " does not fit the points, or its lines are not filled up to a multiple of 16");
    return f;
  }

  // ---- the plan: which stage makes which planes when

  struct Stage {
    struct Use { int stage, radius; };
    std::vector<Use> uses;
    bool loads;
    std::function<void(int, int, int, int, T*)> make;  // plane, row, first and last point of a segment, scratch
    int begin[2] = {0, 0}, end[2] = {0, 0};            // planes and rows
    int lag = 0, keep = 0, depth = 1;
  };

  void check_ghosts(int given, int stage) const {
    const Stage& s = stages_[stage];
    for (int a = 0; a < (three_ ? 2 : 1); a++)
      require(!n_[a].divided() || (given >= -s.begin[a] && given >= s.end[a] - n_[a].n), "too few ghost layers");
  }

  bool cyclic() const { return padding_ == Padding::circular && !n_[0].divided(); }

  int add(std::vector<typename Stage::Use> uses, bool loads, std::function<void(int, int, int, int, T*)> make) {
    stages_.push_back({std::move(uses), loads, std::move(make)});
    return int(stages_.size()) - 1;
  }

  void plan() {
    stages_.clear(), loads_.clear();
    const int r = radius_;
    std::vector<int> gate_stages;
    int x = -1;
    for (size_t k = 0; k < blocks_.size(); k++) {
      const bool last = k + 1 == blocks_.size();
      const int load = add({}, true, [this, k](int p, int y, int a, int b, T* s) { load_rows(int(k), p, y, a, b, s); });
      loads_.push_back(load);
      if (k == 0) x = load;
      std::vector<typename Stage::Use> uses{{load, r}};
      if (k > 0) uses.push_back({x, r});
      const int gates = add(uses, false, [this, k](int p, int y, int a, int b, T* s) { gates_row(int(k), p, y, a, b, s); });
      uses = {{gates, r}};
      if (!deep_) uses.push_back({x, r});
      gate_stages.push_back(gates);
      x = add(uses, false, [this, k, last](int p, int y, int a, int b, T* s) { update_row(int(k), last, p, y, a, b, s); });
    }
    std::vector<int> before{x};  // the stages that make what layers of the head read
    for (size_t k = 0; k < windows_.size(); k++)
      before.push_back(add({{before[k], r}}, false, [this, k](int p, int y, int a, int b, T* s) { head_row(int(k), p, y, a, b, s); }));
    const int output = add({{before.back(), r}}, false, [this](int p, int y, int a, int b, T* s) { output_row(p, y, a, b, s); });
    const int conserving = head_ == Head::flux || head_ == Head::staggered || head_ == Head::potential;
    const int last = add({{output, conserving}}, false, [this](int p, int y, int a, int b, T*) { final_row(p, y, a, b); });

    place(last);
    for (size_t k = 0; k < blocks_.size(); k++) {
      Block& b = *blocks_[k];
      const Stage& load = stages_[loads_[k]];
      if (k == 0) allocate(b.x, load, 1 + parameters_);
      else allocate(b.x, stages_[gate_stages[k - 1] + 1], channels_);
      allocate(b.h, load, channels_);
      allocate(b.rh, stages_[gate_stages[k]], channels_);
      Stage at_points = stages_[gate_stages[k]];  // what the next stage reads at the same point only
      const Stage& update = stages_[gate_stages[k] + 1];
      at_points.depth = update.lag - at_points.lag + 1;
      at_points.keep = std::max(0, std::min(at_points.keep, update.end[0] - at_points.end[0]));
      allocate(b.z, at_points, channels_);
      if (deep_) allocate(b.share_of_input, at_points, channels_);
    }
    for (size_t k = 0; k < windows_.size(); k++) allocate(between_[k], stages_[before[k]], channels_);
    allocate(last_, stages_[before.back()], channels_);
    allocate(u_, stages_[output], output_.outputs());
  }

  // Lags, planes and rows of all stages.
  void place(int last) {
    const int count = int(stages_.size());
    for (int s = 0; s < count; s++)
      for (const auto& use : stages_[s].uses) stages_[s].lag = std::max(stages_[s].lag, stages_[use.stage].lag + use.radius + 1);
    std::vector<int> reach(count, 0), late(count, std::numeric_limits<int>::max());
    for (int s = count - 1; s >= 0; s--)
      for (const auto& use : stages_[s].uses) {
        reach[use.stage] = std::max(reach[use.stage], reach[s] + use.radius);
        late[use.stage] = std::min(late[use.stage], stages_[s].lag - use.radius - 1);
      }
    for (int s = 0; s < count; s++) {
      Stage& stage = stages_[s];
      if (stage.loads) stage.lag = late[s];  // no sooner than it is needed
      for (int a = 0; a < 2; a++) {
        stage.begin[a] = std::max(-reach[s], n_[a].low);
        stage.end[a] = std::min(n_[a].n + reach[s], n_[a].high);
      }
      if (!cyclic()) continue;
      for (const auto& use : stage.uses)
        if (!stages_[use.stage].loads) stage.begin[0] = std::max(stage.begin[0], stages_[use.stage].begin[0] + use.radius);
      stage.end[0] = stage.begin[0] + n_[0].n;
    }
    if (cyclic())
      for (Stage& stage : stages_)
        if (stage.loads) stage.begin[0] = std::numeric_limits<int>::max(), stage.end[0] = -stage.begin[0];
    for (int s = last; s >= 0; s--)
      for (const auto& use : stages_[s].uses) {
        Stage& made = stages_[use.stage];
        made.depth = std::max(made.depth, stages_[s].lag - made.lag + use.radius + 1);
        if (!cyclic()) continue;
        if (made.loads) {
          made.begin[0] = std::min(made.begin[0], stages_[s].begin[0] - use.radius);
          made.end[0] = std::max(made.end[0], stages_[s].end[0] + use.radius);
        } else {
          made.keep = std::max(made.keep, stages_[s].end[0] + use.radius - made.end[0]);
        }
      }
    for (Stage& stage : stages_) stage.keep = std::min(stage.keep, n_[0].n);
  }

  template <class A> void allocate(Ring<A>& ring, const Stage& stage, int channels) {
    ring.channels = std::is_same_v<A, E> ? (channels + F::group - 1) / F::group : channels;
    // what lies before a row is the end of the one before; odd: channels do not meet in one set of a cache
    ring.stride = (round_up(n_[2].n + 2 * std::max(radius_, 1), lead) / lead | 1) * lead;
    ring.rows = stage.end[1] - stage.begin[1], ring.first_row = stage.begin[1];
    ring.begin = stage.begin[0], ring.planes = stage.end[0] - stage.begin[0];
    ring.keep = stage.keep, ring.depth = stage.depth;
    ring.allocate();
    zeros_.resize(std::max(zeros_.size(), size_t(ring.channels) * ring.stride + 2 * lead + segment), 0.0);
  }

  // ---- running

  void go(int threads) {
    int first = std::numeric_limits<int>::max(), last = -first;
    for (const Stage& s : stages_) first = std::min(first, s.begin[0] + s.lag), last = std::max(last, s.end[0] + s.lag);
    const int segments = (n_[2].n + segment - 1) / segment;
    const int64_t scratch = scratch_size();
#pragma omp parallel num_threads(threads)
    {
      sweeps::Buffer<T> buffer(scratch);
      std::fill(buffer.data, buffer.data + scratch, T(0));
      for (int tick = first; tick < last; tick++) {
        int total = 0;
        for (const Stage& s : stages_)
          if (tick - s.lag >= s.begin[0] && tick - s.lag < s.end[0]) total += (s.end[1] - s.begin[1]) * segments;
        const int chunk = std::max(1, total / (16 * threads));
#pragma omp for schedule(dynamic, chunk)
        for (int task = 0; task < total; task++) {
          int rest = task;
          for (const Stage& s : stages_) {
            const int plane = tick - s.lag;
            if (plane < s.begin[0] || plane >= s.end[0]) continue;
            const int own = (s.end[1] - s.begin[1]) * segments;
            if (rest < own) {
              const int a = rest % segments * segment;
              s.make(plane, s.begin[1] + rest / segments, a, std::min(a + segment, n_[2].n), buffer.data);
              break;
            }
            rest -= own;
          }
        }
      }
    }
  }

  // ---- rows

  int plane_of_field(int plane) const { return cyclic() ? modulo(plane, n_[0].n) : plane; }

  // The row of a ring at (plane, y), which may lie beyond walls or ends.
  template <class A> const A* look(Ring<A>& ring, int plane, int y) const {
    for (int a = 0; a < 2; a++) {
      int& at = a ? y : plane;
      const Axis& n = n_[a];
      if (at >= n.low && at < n.high) continue;
      if (padding_ == Padding::circular) {
        if (a == 1) at = modulo(at, n.n);  // along axis 0 the ring does it
      } else if (padding_ == Padding::zero) {
        return reinterpret_cast<const A*>(zeros_.data()) + lead;
      } else {
        at = 2 * (at < n.low ? n.low : n.high) - 1 - at;
      }
    }
    return ring.row(plane, y);
  }

  template <class G> struct Window {
    const typename G::element* rows[(2 * most_radius + 1) * (2 * most_radius + 1)];
    ptrdiff_t stride;
    Source<G> source() const { return {rows, stride}; }
  };

  template <class G> void gather(Window<G>& w, Ring<typename G::element>& ring, int plane, int y, int z) const {
    int k = 0;
    const int across = three_ ? radius_ : 0;
    for (int dx = -radius_; dx <= radius_; dx++)
      for (int dy = -across; dy <= across; dy++) w.rows[k++] = look(ring, plane + dx, y + dy) + z - radius_;
    w.stride = ring.stride;
  }

  // Scratch of a thread: raw sums, then two sets of elements.
  int widest() const { return std::max(3 * channels_, output_.outputs()); }
  int64_t scratch_size() const { return 3 * int64_t(widest() + 1) * segment; }
  T* raw(T* s) const { return s; }
  E* first_set(T* s) const { return reinterpret_cast<E*>(s + (widest() + 1) * segment); }
  E* second_set(T* s) const { return reinterpret_cast<E*>(s + 2 * (widest() + 1) * segment); }

  // value(channel, v): of the v-th vector of the segment.
  template <class Value> static OSTWALD_INLINE void to_scratch(E* to, int channels, int vectors, Value&& value) {
    for (int c = 0; c < channels; c += F::group)
      for (int v = 0; v < vectors; v++) {
        const auto e = F::pack(value(c, v), F::group == 1 || c + 1 == channels ? vec<T>{} : value(c + 1, v));
        std::memcpy(to + c / F::group * segment + v * W, &e, sizeof e);
      }
  }

  // The points a … b - 1 of a row of a ring, and what they are in its padding of `radius` points.
  template <class G, class Value> OSTWALD_INLINE void to_ring(typename G::element* row, int stride, int channels, int a, int b, int radius, Value&& value) const {
    for (int c = 0; c < channels; c += G::group) {
      auto* to = row + c / G::group * stride;
      for (int z = a, v = 0; z < b; z += W, v++) {
        const auto e = G::pack(value(c, v), G::group == 1 || c + 1 == channels ? vec<T>{} : value(c + 1, v));
        if (z + W <= b) std::memcpy(to + z, &e, sizeof e);
        else std::memcpy(to + z, &e, (b - z) * sizeof(*to));
      }
      pad(to, radius, a, b);
    }
  }

  template <class A> void pad(A* to, int radius, int a, int b) const {
    if (padding_ == Padding::zero || radius == 0) return;
    const int n = n_[2].n;
    const bool circular = padding_ == Padding::circular;
    for (int z = a; z < std::min(b, radius); z++) to[circular ? n + z : -1 - z] = to[z];
    for (int z = std::max(a, n - radius); z < b; z++) to[circular ? z - n : 2 * n - 1 - z] = to[z];
  }

  static OSTWALD_INLINE vec<T> narrowed(const double* p) {
    typedef double many __attribute__((vector_size(W * sizeof(double))));
    many a;
    std::memcpy(&a, p, sizeof a);
    return __builtin_convertvector(a, vec<T>);
  }

  OSTWALD_INLINE static vec<T> sigma(vec<T> x) { return convolution::logistic<F::rough>(x); }
  OSTWALD_INLINE static vec<T> tanh(vec<T> x) { return convolution::tanh<F::rough>(x); }

  // ---- stages

  void load_rows(int k, int plane, int y, int a, int b, T*) {
    Block& block = *blocks_[k];
    const int x = plane_of_field(plane);
    if (k == 0) {
      const double* phi = phi_.row(0, x, y) + a;
      to_ring<F>(block.x.row(plane, y), block.x.stride, 1 + parameters_, a, b, radius_,
                 [&](int c, int v) { return c ? splat(parameter_[c - 1]) : narrowed(phi + v * W); });
    }
    const Field<T>& h = hidden_[k];
    to_ring<F>(block.h.row(plane, y), block.h.stride, channels_, a, b, radius_, [&](int c, int v) { return load(h.row(c, x, y) + a + v * W); });
  }

  void gates_row(int k, int plane, int y, int a, int b, T* s) {
    Block& block = *blocks_[k];
    const int vectors = (b - a + W - 1) / W, C = channels_;
    T* sums = raw(s);
    Window<F> x, h;
    gather(h, block.h, plane, y, a), gather(x, block.x, plane, y, a);
    if (deep_) {
      E *from_x = first_set(s), *from_h = second_set(s);
      const auto activated = [&](int c, int v) { return tanh(load(sums + c * segment + v * W)); };
      const Source<F> xs = x.source(), hs = h.source();
      block.input.apply(&xs, vectors, sums, segment);
      to_scratch(from_x, 3 * C, vectors, activated);
      block.hidden.apply(&hs, vectors, sums, segment);
      to_scratch(from_h, 2 * C, vectors, activated);
      const E *row_x = from_x, *row_h = from_h;
      const Source<F> both[2] = {{&row_x, segment}, {&row_h, segment}};
      block.share.apply(both, vectors, block.share_of_input.row(plane, y) + a, block.share_of_input.stride);
      block.gates.apply(both, vectors, sums, segment);
    } else {
      const Source<F> both[2] = {h.source(), x.source()};
      block.gates.apply(both, vectors, sums, segment);
    }
    const Field<T>& state = hidden_[k];
    const int at = plane_of_field(plane);
    to_ring<F>(block.rh.row(plane, y), block.rh.stride, C, a, b, radius_, [&](int c, int v) {
      return sigma(load(sums + c * segment + v * W)) * load(state.row(c, at, y) + a + v * W);
    });
    T* z = block.z.row(plane, y) + a;
    for (int c = 0; c < C; c++)
      for (int v = 0; v < vectors; v++) store(z + c * block.z.stride + v * W, sigma(load(sums + (C + c) * segment + v * W)));
  }

  void update_row(int k, bool last, int plane, int y, int a, int b, T* s) {
    Block& block = *blocks_[k];
    const int vectors = (b - a + W - 1) / W, C = channels_;
    T* sums = raw(s);
    Window<F> rh, x;
    gather(rh, block.rh, plane, y, a);
    const T* share = nullptr;
    if (deep_) {
      E* from = first_set(s);
      const Source<F> source = rh.source();
      block.candidate.apply(&source, vectors, sums, segment);
      to_scratch(from, C, vectors, [&](int c, int v) { return tanh(load(sums + c * segment + v * W)); });
      const E* row = from;
      const Source<F> mixed{&row, segment};
      block.mix.apply(&mixed, vectors, sums, segment);
      share = block.share_of_input.row(plane, y) + a;
    } else {
      gather(x, block.x, plane, y, a);
      const Source<F> both[2] = {rh.source(), x.source()};
      block.candidate.apply(both, vectors, sums, segment);
    }
    const T* z = block.z.row(plane, y) + a;
    const int at = plane_of_field(plane);
    for (int c = 0; c < C; c++) {
      T* state = hidden_[k].row(c, at, y) + a;
      for (int v = 0; v < vectors; v++) {
        vec<T> n = load(sums + c * segment + v * W);
        if (share) n += load(share + c * block.share_of_input.stride + v * W);
        n = tanh(n);
        const vec<T> h = n + load(z + c * block.z.stride + v * W) * (load(state + v * W) - n);
        store(state + v * W, h), store(sums + c * segment + v * W, h);
      }
    }
    const auto plain = [&](int c, int v) { return load(sums + c * segment + v * W); };
    if (!last) {
      Ring<E>& next = blocks_[k + 1]->x;
      to_ring<F>(next.row(plane, y), next.stride, C, a, b, radius_, plain);
      return;
    }
    if (fused_.empty()) return to_head(0, plane, y, a, b, plain);
    E* from = first_set(s);
    to_scratch(from, C, vectors, plain);
    const auto activated = [&](int c, int v) { return tanh(load(sums + c * segment + v * W)); };
    for (size_t l = 0; l < fused_.size(); l++) {
      const E* row = from;
      const Source<F> source{&row, segment};
      fused_[l].apply(&source, vectors, sums, segment);
      if (l + 1 < fused_.size()) to_scratch(from, fused_[l].outputs(), vectors, activated);
      else to_head(0, plane, y, a, b, activated);
    }
  }

  // What layer k of those of the head that look around reads.
  template <class Value> OSTWALD_INLINE void to_head(int k, int plane, int y, int a, int b, Value&& value) {
    if (k < int(windows_.size())) to_ring<F>(between_[k].row(plane, y), between_[k].stride, channels_, a, b, radius_, value);
    else to_ring<Whole<T>>(last_.row(plane, y), last_.stride, channels_, a, b, radius_, value);
  }

  void head_row(int k, int plane, int y, int a, int b, T* s) {
    T* sums = raw(s);
    Window<F> in;
    gather(in, between_[k], plane, y, a);
    const Source<F> source = in.source();
    windows_[k].apply(&source, (b - a + W - 1) / W, sums, segment);
    to_head(k + 1, plane, y, a, b, [&](int c, int v) { return tanh(load(sums + c * segment + v * W)); });
  }

  void output_row(int plane, int y, int a, int b, T* s) {
    T *sums = raw(s), *to = u_.row(plane, y);
    Window<Whole<T>> in;
    gather(in, last_, plane, y, a);
    const Source<Whole<T>> source = in.source();
    const int outputs = output_.outputs();
    output_.apply(&source, (b - a + W - 1) / W, sums, segment);
    const bool periodic = padding_ == Padding::circular;
    to_ring<Whole<T>>(to, u_.stride, outputs, a, b, periodic, [&](int c, int v) { return load(sums + c * segment + v * W); });
    const int n = n_[2].n;
    if (periodic) return;
    if (head_ == Head::staggered) {  // nothing goes through the wall behind the last point
      T* along = to + (outputs - 1) * u_.stride;
      if (b == n) along[n - 1] = 0;
    } else if (head_ == Head::flux || head_ == Head::potential) {
      T* along = to + (outputs - 1) * u_.stride;
      const T sign = head_ == Head::flux ? T(-1) : T(1);
      if (a == 0) along[-1] = sign * along[0];
      if (b == n) along[n] = sign * along[n - 1];
    }
  }

  // φ of a row from what the head gave there and around, in double precision, so that what leaves one point enters another.
  void final_row(int plane, int y, int a, int b) {
    constexpr int D = lanes<double>;
    typedef T narrow __attribute__((vector_size(D * sizeof(T))));
    const auto wide = [](const T* p) __attribute__((always_inline)) {
      narrow v;
      std::memcpy(&v, p, sizeof v);
      return __builtin_convertvector(v, vec<double>);
    };
    double* phi = phi_.row(0, plane_of_field(plane), y);
    const T* here = u_.row(plane, y);
    if (head_ == Head::sigmoid || head_ == Head::allen_cahn) {
      for (int z = a; z < b; z += D)
        store(phi + z, head_ == Head::sigmoid ? convolution::logistic<false>(wide(here + z)) : load(phi + z) + wide(here + z));
      return;
    }
    // what lies along axes 0 and 1 before and behind, and its sign
    struct Side { const T* row; double sign; };
    const auto side = [&](int axis, int by) -> Side {
      const Axis& n = n_[axis];
      const int at = (axis ? y : plane) + by;
      const bool beyond = at < n.low || at >= n.high;
      const auto row = [&](int to) { return u_.row(axis ? plane : to, axis ? to : y); };
      if (!beyond) return {row(at), 1.0};
      if (padding_ == Padding::circular) return {row(axis ? modulo(at, n.n) : at), 1.0};
      return {here, head_ == Head::flux ? -1.0 : head_ == Head::potential ? 1.0 : 0.0};
    };
    const int axes = three_ ? 3 : 2, s = u_.stride;
    const auto before_last = [&](int axis) {  // 0 where u_[axis] would go through the wall behind the last plane or row
      const Axis& n = n_[axis];
      return padding_ != Padding::circular && (axis ? y : plane) == n.high - 1 ? 0.0 : 1.0;
    };
    const Side low[2] = {side(0, -1), three_ ? side(1, -1) : Side{here, 0}}, high[2] = {side(0, 1), three_ ? side(1, 1) : Side{here, 0}};
    const double open[2] = {before_last(0), three_ ? before_last(1) : 0.0};
    const T* along = here + (head_ == Head::potential ? 0 : (axes - 1) * s);
    for (int z = a; z < b; z += D) {
      vec<double> change;
      if (head_ == Head::potential) {
        change = wide(along + z - 1) + wide(along + z + 1);
        for (int k = 0; k < axes - 1; k++) change += low[k].sign * wide(low[k].row + z) + high[k].sign * wide(high[k].row + z);
        change -= (2.0 * axes) * wide(along + z);
      } else if (head_ == Head::flux) {
        change = wide(along + z - 1) - wide(along + z + 1);
        for (int k = 0; k < axes - 1; k++) change += low[k].sign * wide(low[k].row + k * s + z) - high[k].sign * wide(high[k].row + k * s + z);
      } else {
        change = wide(along + z - 1) - wide(along + z);
        for (int k = 0; k < axes - 1; k++) change += low[k].sign * wide(low[k].row + k * s + z) - open[k] * wide(here + k * s + z);
      }
      store(phi + z, load(phi + z) + change);
    }
  }

  bool three_;
  int radius_, channels_, parameters_ = 0;
  bool deep_;
  Head head_;
  Padding padding_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::vector<Convolution<F>> fused_, windows_;  // layers of the head: on single points, done with the last hidden state; those that look around
  Convolution<Whole<T>> output_;                 // its last one: only differences of what it gives matter, so it is not rounded
  std::vector<Ring<E>> between_;                 // what windows_[k] reads
  Ring<T> last_, u_;                             // what output_ reads, and gives
  std::vector<double> zeros_;

  std::array<Axis, 3> n_{};
  std::array<int, 7> planned_{};
  Field<double> phi_;
  std::vector<Field<T>> hidden_;
  std::vector<T> parameter_;
  std::vector<Stage> stages_;
  std::vector<int> loads_;
};

std::unique_ptr<Step> make(const std::string& precision, int dimensions, int kernel, int channels, const std::string& cell, const std::string& head,
                           const std::string& padding, const std::vector<Layers>& blocks, const Layers& head_layers) {
  const auto number = [](const std::string& name, const std::vector<std::string>& names) {
    const auto found = std::find(names.begin(), names.end(), name);
    require(found != names.end(), "unknown: " + name);
    return int(found - names.begin());
  };
  const Head h = Head(number(head, {"flux", "staggered-flux", "potential", "sigmoid", "allen-cahn"}));
  const Padding p = Padding(number(padding, {"circular", "reflect", "zero"}));
  const bool deep = number(cell, {"deep", "gru"}) == 0;
  if (precision == "double") return std::make_unique<Network<Whole<double>>>(dimensions, kernel, channels, deep, h, p, blocks, head_layers);
#if defined(OSTWALD_BFLOAT16)
  if (precision == "bfloat16") return std::make_unique<Network<convolution::Pairs>>(dimensions, kernel, channels, deep, h, p, blocks, head_layers);
#endif
  require(precision == "float32" || precision == "bfloat16", "precision is float32, bfloat16 or double");
  return std::make_unique<Network<Whole<float>>>(dimensions, kernel, channels, deep, h, p, blocks, head_layers);
}

// exp-based functions at some points, as the network of a precision uses them: tests state their errors.
py::array_t<double> activation(const std::string& name, const std::string& precision, py::array_t<double, py::array::c_style> x) {
  require(name == "tanh" || name == "logistic", "activation is tanh or logistic");
  py::array_t<double> out(x.size());
  const bool tanh = name == "tanh";
  const auto fill = [&](auto t, auto rough) {
    using T = decltype(t);
    for (py::ssize_t k = 0; k < x.size(); k++) {
      const vec<T> a = splat(T(x.data()[k]));
      out.mutable_data()[k] = double(tanh ? convolution::tanh<rough.value>(a)[0] : convolution::logistic<rough.value>(a)[0]);
    }
  };
  if (precision == "double") fill(double{}, std::false_type{});
  else if (precision == "bfloat16") fill(float{}, std::true_type{});
  else fill(float{}, std::false_type{});
  return out;
}

}  // namespace

PYBIND11_MODULE(_convgru, module) {
  module.doc() = "Steps of convolutional recurrent networks.";
  using namespace py::literals;
#if defined(OSTWALD_BFLOAT16)
  module.attr("bfloat16") = true;  // whether this processor multiplies in bfloat16; where not, that precision is float32
#else
  module.attr("bfloat16") = false;
#endif
  py::class_<Step>(module, "Step",
                   "A network. Layers are (weights, bias): weights a list of arrays (outputs, inputs, k, [k,] k), one for each part of the inputs.\n"
                   "blocks: of cell \"deep\" input, hidden, gates [of tanh input, of tanh hidden: r and z], share (what of the input goes to the\n"
                   "candidate), candidate, mix; of \"gru\" gates [of h, of x: r and z] and candidate [of r h, of x]. h' = n + z (h - n).\n"
                   "head: its layers, tanh after all but the last.")
      .def(py::init(&make), "precision"_a, "dimensions"_a, "kernel"_a, "channels"_a, "cell"_a, "head"_a, "padding"_a, "blocks"_a, "layers"_a)
      .def("run", &Step::run, "phi"_a, "hidden"_a, "parameters"_a, "points"_a, "beyond"_a, "threads"_a = 1,
           "One step, in place. points (n0, n1, n2) of the brick, n1 = 1 in two dimensions; phi (n0 + 2 w, [n1 + 2 w,] row) float64; hidden:\n"
           "(channels, n0 + 2 w, [n1 + 2 w,] row), each with a w of its own; row: n2 or more, a multiple of 16.\n"
           "beyond: points of the box below and above the brick along axis 0, then 1, of which the arrays hold copies, as many as are\n"
           "needed; beyond them, and where there are none, padding rules. A divided periodic axis has endlessly many: 2^24.")
      .def_property_readonly("bytes", &Step::bytes, "of the planes under way");
  module.def("activation", &activation, "name"_a, "precision"_a, "x"_a);
}
