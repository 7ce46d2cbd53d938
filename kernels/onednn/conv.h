// Convolution and its two gradients as oneDNN primitives.
//
//     forward        y  = conv(x, w) (+ bias) (+ residual), then ReLU where it is asked for
//     input grad     dx = conv_input_grad(dy, w): the transposed convolution
//     filter grad    dw = conv_filter_grad(x, dy)
//
// Shapes, as XLA holds them, with one to three spatial axes (written for two):
//     x, dx  N H W C    w, dw  R S C/G K    y, dy, residual  N P Q K    bias  K
// Channels are group-major. oneDNN reads x and y in place through strided descriptors; the filter
// is re-ordered in every call to the layout that its primitive likes best, in scratch memory.
//
// Source: oneDNN developer guide 3.2, "Convolution".
#pragma once

#include <string>

#include "cache.h"
#include "common.h"

namespace jconv {

enum class ConvKind : int64_t { kForward, kInputGrad, kFilterGrad };

// Everything static about one call.
struct ConvSpec {
  ConvKind kind;
  memory::data_type x_type, w_type, y_type;
  memory::data_type bias_type = memory::data_type::undef;  // undef: no bias
  int64_t groups = 1;
  bool relu = false, residual = false;
  int threads = 1;
  Dims x{}, w{}, y{};                 // as XLA holds them
  Dims stride{}, dilation{}, pads{};  // pads: lo and hi of each axis in turn

  // From the integers of `key()`; refuses what can't be one.
  static ConvSpec Of(const Key& key);
  Key key() const;
  std::string Text() const;

  // How far a window can move along a spatial axis, pixels; negative where it does not fit.
  int64_t room(size_t axis) const;

  // How many of so many threads are worth waking.
  int Useful(int most) const;

  // Refuses shapes and attributes that don't fit each other.
  void Check() const;
};

// Of a handler's buffers and attributes; `x`, `w` and `y` play their parts whichever is the result.
ConvSpec SpecOf(ConvKind kind, ffi::AnyBuffer x, ffi::AnyBuffer w, ffi::AnyBuffer y, Ints stride,
                Ints pads, Ints dilation, int64_t groups);

// A compiled primitive, the layouts of its operands, and the order to or from the layout of the
// filter.
struct ConvPlan {
  dnnl::primitive primitive;
  dnnl::reorder reorder;  // of the filter; empty where XLA's layout is the best
  memory::desc x, w, w_best, y, bias;
  memory::desc scratchpad, reorder_scratchpad;
  std::string implementation;  // oneDNN's name for the code that runs

  // Scratch memory of a call, bytes: the filter in its best layout, and oneDNN's own.
  size_t scratch() const;
};

ConvPlan MakePlan(const ConvSpec& spec);

}  // namespace jconv
