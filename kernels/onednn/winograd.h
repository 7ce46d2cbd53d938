// Winograd's F(2x2, 3x3) with oneDNN's matrix products: what a call is, and what it needs.
//
//     winograd               y = conv(x, w); or, `transposed`, dx = conv_input_grad(dy, w)
//     winograd_filter_grad   dw = conv_filter_grad(x, dy)
//
// Shapes: x N H W C, w 3 3 C K, y N P Q K; stride and dilation 1, float32. The transposed call
// reads dy in the place of x and writes dx in that of y; w stays as it is. The first pixel of y
// sees the pixels of x from (-lo[0], -lo[1]) on.
//
// Tiles are transformed some at a time, and multiplied while they are in the cache: 4 products
// for each pixel of y and each pair of channels, where the direct form has 9.
#pragma once

#include <string>

#include "cache.h"
#include "common.h"

namespace jconv {

// Everything static about one call.
struct WinogradSpec {
  bool filter_grad = false, transposed = false;
  int64_t threads = 1;
  Dims x{}, w{}, y{}, lo{};

  // From the integers of `key()`; refuses what can't be one.
  static WinogradSpec Of(const Key& key);
  Key key() const;
  std::string Text() const;

  // Refuses shapes that don't fit each other.
  void Check() const;

  int64_t tiles() const { return x[0] * ((y[1] + 1) / 2) * ((y[2] + 1) / 2); }
};

// A product of matrices for each point of a tile, by one thread.
struct PointsProduct {
  dnnl::matmul primitive;
  memory::desc scratchpad;
};

// The matrix products of some tiles.
struct WinogradPlan {
  explicit WinogradPlan(const WinogradSpec& spec);

  // Bytes of scratch memory: of one of the workers, of a product, and of all of it.
  size_t desk() const;
  size_t pad() const;
  size_t scratch() const;

  int64_t together, parts, workers;  // tiles of a product, products, threads
  int64_t spans = 1;                 // of the channels that are summed, for rounding's sake
  // The tiles of a span of x; the transformed filter of a span, or the tiles of dy; the tiles of y,
  // or the transformed gradient of the filter: 16 planes each, but for a filter in the order that
  // the product likes.
  memory::desc first, second, result;
  memory::desc filter;  // 16 planes in the order of w, none for a filter's gradient
  memory::desc zeros;   // as many as a pixel has channels
  memory::desc reorder_scratchpad;
  memory::desc plane, best_plane;  // of the filter, before and after `reorder`
  PointsProduct product, more;     // of the first span, and of another, added to it
  dnnl::reorder reorder;           // of one plane of one span
  std::string implementation;

 private:
  // A product of first and second, whose order it chooses where that is open.
  PointsProduct Make(const dnnl::primitive_attr& attributes);
};

}  // namespace jconv
