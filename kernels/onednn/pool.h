// A pooling window in integers, and which sources each target reads.
#pragma once

#include <array>

#include "common.h"

namespace jconv {

constexpr int kMostPoolAxes = 3;

// Along one axis, for every target (an output, or in the adjoints a pixel) the sources that it
// reads, and the tap of the window by which it does.
struct Axis {
  struct Entry {
    int64_t source, tap;
  };
  int64_t targets = 1, sources = 1, taps = 1;
  std::vector<int64_t> begin;  // of each target's entries
  std::vector<Entry> entries;

  // The pairs (output p, pixel i) with i = p * stride + tap * dilation - lo.
  Axis() = default;

  Axis(int64_t pixels, int64_t outputs, int64_t taps, int64_t stride, int64_t dilation, int64_t lo,
       bool adjoint)
      : targets(adjoint ? pixels : outputs), sources(adjoint ? outputs : pixels), taps(taps) {
    for (int64_t target = 0; target < targets; ++target) {
      begin.push_back(static_cast<int64_t>(entries.size()));
      for (int64_t tap = 0; tap < taps; ++tap) {
        const int64_t shift = tap * dilation - lo;
        const int64_t source = adjoint ? (target - shift) / stride : target * stride + shift;
        const bool meets = !adjoint || (target >= shift && (target - shift) % stride == 0);
        if (meets && source >= 0 && source < sources) entries.push_back({source, tap});
      }
    }
    begin.push_back(static_cast<int64_t>(entries.size()));
  }
};

using Axes = std::array<Axis, kMostPoolAxes>;

// The static side of a call: shapes as XLA holds them, and the window.
struct Pooling {
  Dims x, y, size, stride, dilation, pads;  // x: the image; pads: lo and hi of each axis in turn

  // Refuses shapes and attributes that don't fit each other.
  void Check() const {
    const size_t rank = x.size(), axes = size.size();
    Require(rank >= 3 && rank <= kMostPoolAxes + 2, "x must have one to three spatial axes");
    Require(y.size() == rank && axes == rank - 2 && stride.size() == axes &&
                dilation.size() == axes && pads.size() == 2 * axes,
            "window, stride, dilation and pads must have entries for each spatial axis");
    Require(x[0] == y[0] && x.back() == y.back(), "x and y must have the same N and C");
    for (size_t i = 0; i < axes; ++i) {
      Require(size[i] >= 1 && stride[i] >= 1 && dilation[i] >= 1,
              "window, stride and dilation must be at least 1");
      const int64_t room = x[i + 1] + pads[2 * i] + pads[2 * i + 1] - dilation[i] * (size[i] - 1);
      Require(y[i + 1] == (room >= 1 ? (room - 1) / stride[i] + 1 : 0),
              "y's spatial axes must be those of the window");
    }
  }

  // Missing axes come first, with one pixel each.
  Axes AxesOf(bool adjoint) const {
    std::array<int64_t, kMostPoolAxes> n{1, 1, 1}, p{1, 1, 1}, r{1, 1, 1}, s{1, 1, 1}, d{1, 1, 1},
        lo{0, 0, 0};
    const size_t skip = kMostPoolAxes - size.size();
    for (size_t i = 0; i < size.size(); ++i) {
      n[skip + i] = x[i + 1], p[skip + i] = y[i + 1], r[skip + i] = size[i];
      s[skip + i] = stride[i], d[skip + i] = dilation[i], lo[skip + i] = pads[2 * i];
    }
    const auto axis = [&](int i) { return Axis(n[i], p[i], r[i], s[i], d[i], lo[i], adjoint); };
    return {axis(0), axis(1), axis(2)};
  }

  std::string Text() const {
    return "image " + jconv::Text(x) + ", windows " + jconv::Text(y) + ", window " +
           jconv::Text(size) + ", stride " + jconv::Text(stride) + ", pads " + jconv::Text(pads) +
           ", dilation " + jconv::Text(dilation);
  }
};

}  // namespace jconv
