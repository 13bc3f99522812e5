// Small dense networks with one output, their value and gradient by the inputs, one atom at a time: lanes are the nodes
// of a layer, so that weights are read row by row, once forwards and once (transposed) backwards.
#pragma once

#include <cmath>
#include <vector>

#include "hdnnp_functions.hpp"

namespace ostwald::hdnnp {

enum Activation { LINEAR, TANH_A, LOGISTIC, SOFTPLUS, RELU, GAUSSIAN, COSINE, REVLOGISTIC, EXPONENTIAL, HARMONIC };

// Value and derivative. exp and log: relative error 2e-16, tanh: absolute 1e-16.
template <class T> OSTWALD_INLINE void activate(int kind, vec<T> x, vec<T>& f, vec<T>& d) {
  using V = vec<T>;
  switch (kind) {
    case TANH_A: f = tanh<T>(x), d = T(1) - f * f; return;
    case LOGISTIC:
    case REVLOGISTIC:
    case SOFTPLUS: {
      const V e = exp(x < T(0) ? x : -x), inverse = T(1) / (T(1) + e);  // e^-|x|
      const V s = (x < T(0) ? e : splat(T(1))) * inverse;               // 1/(1 + e^-x)
      if (kind == SOFTPLUS) f = (x < T(0) ? V{} : x) + log<T>(T(1) + e), d = s;
      else if (kind == LOGISTIC) f = s, d = e * inverse * inverse;
      else f = (x < T(0) ? splat(T(1)) : e) * inverse, d = -e * inverse * inverse;
      return;
    }
    case RELU: f = x < T(0) ? V{} : x, d = x > T(0) ? splat(T(1)) : V{}; return;
    case GAUSSIAN: f = exp(T(-0.5) * x * x), d = -x * f; return;
    case COSINE:
      for (int k = 0; k < lanes<T>; k++) f[k] = std::cos(x[k]), d[k] = -std::sin(x[k]);
      return;
    case EXPONENTIAL: f = exp(-x), d = -f; return;
    case HARMONIC: f = x * x, d = T(2) * x; return;
    default: f = x, d = splat(T(1)); return;
  }
}

template <class T> class Network {
 public:
  // Layer by layer: weights (n_out, n_in), bias (n_out), activation.
  void add(const double* weights, const double* bias, int outputs, int inputs, int activation) {
    Layer layer;
    layer.inputs = inputs, layer.outputs = outputs, layer.activation = activation;
    layer.rows = padded(outputs), layer.columns = padded(inputs);
    layer.forward.assign(size_t(inputs) * layer.rows, T(0));
    layer.backward.assign(size_t(outputs) * layer.columns, T(0));
    layer.bias.assign(layer.rows, T(0));
    for (int o = 0; o < outputs; o++) {
      layer.bias[o] = T(bias[o]);
      for (int i = 0; i < inputs; i++) {
        layer.forward[size_t(i) * layer.rows + o] = T(weights[size_t(o) * inputs + i]);
        layer.backward[size_t(o) * layer.columns + i] = T(weights[size_t(o) * inputs + i]);
      }
    }
    layers_.push_back(std::move(layer));
  }

  size_t scratch() const {  // elements of T
    size_t size = 0;
    for (const Layer& layer : layers_) size += 2 * size_t(layer.rows) + size_t(layer.columns);
    return size + 64;
  }

  // input: (columns of the first layer) numbers, zeros behind the last; gradient: as many, filled. Returns the output.
  T operator()(const T* input, T* gradient, T* scratch) const {
    constexpr int W = lanes<T>;
    const T* in = input;
    T* place = scratch;
    for (const Layer& layer : layers_) {
      T *value = place, *slope = place + layer.rows;
      place += 2 * layer.rows;
      multiply(layer.forward.data(), layer.rows, in, layer.inputs, layer.bias.data(), value);
      for (int o = 0; o < layer.rows; o += W) {
        vec<T> f, d;
        activate<T>(layer.activation, load(value + o), f, d);
        store(value + o, f), store(slope + o, d);
      }
      in = value;
    }
    const T output = in[0];
    // backwards: slope holds d(output)/d(what entered the activation)
    T* slope = place - layers_.back().rows;
    for (size_t l = layers_.size(); l-- > 0;) {
      const Layer& layer = layers_[l];
      T* target = l == 0 ? gradient : place;
      multiply(layer.backward.data(), layer.columns, slope, layer.outputs, nullptr, target);
      if (l == 0) break;
      const Layer& before = layers_[l - 1];
      slope -= layer.rows + before.rows;
      for (int o = 0; o < before.rows; o += W) store(slope + o, load(slope + o) * load(place + o));
    }
    return output;
  }

  int inputs() const { return layers_.front().inputs; }
  int columns() const { return layers_.front().columns; }

 private:
  static int padded(int n) { return (n + lanes<T> - 1) / lanes<T> * lanes<T>; }

  struct Layer {
    int inputs, outputs, rows, columns, activation;
    aligned_vector<T> forward, backward, bias;
  };

  // out (width) = start (width, or zeros) + sum over k of x[k] matrix[k]
  static void multiply(const T* matrix, int width, const T* x, int count, const T* start, T* out) {
    constexpr int W = lanes<T>, block = 4;
    int o = 0;
    const auto run = [&](auto blocks) __attribute__((always_inline)) {
      constexpr int n = decltype(blocks)::value;
      vec<T> even[n], odd[n];  // two chains: one alone would wait for itself
      for (int b = 0; b < n; b++) even[b] = start ? load(start + o + b * W) : vec<T>{}, odd[b] = vec<T>{};
      const T* row = matrix + o;
      int k = 0;
      for (; k + 1 < count; k += 2, row += 2 * width)
        for (int b = 0; b < n; b++) even[b] += x[k] * load(row + b * W), odd[b] += x[k + 1] * load(row + width + b * W);
      if (k < count)
        for (int b = 0; b < n; b++) even[b] += x[k] * load(row + b * W);
      for (int b = 0; b < n; b++) store(out + o + b * W, even[b] + odd[b]);
      o += n * W;
    };
    while (o + block * W <= width) run(std::integral_constant<int, block>{});
    switch ((width - o) / W) {
      case 3: run(std::integral_constant<int, 3>{}); break;
      case 2: run(std::integral_constant<int, 2>{}); break;
      case 1: run(std::integral_constant<int, 1>{}); break;
      default: break;
    }
  }

  std::vector<Layer> layers_;
};

}  // namespace ostwald::hdnnp
