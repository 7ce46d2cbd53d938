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
    int64_t source, tap;  // times what one of them is worth in memory, and in the whole window
    float count;          // in the adjoints: pixels of the source that count
  };
  int64_t targets = 1;
  std::vector<int64_t> begin;  // of each target's entries
  std::vector<Entry> entries;
  std::vector<float> count;  // of each target's pixels, where targets are windows

  bool reads(int64_t target) const { return begin[target] < begin[target + 1]; }
};

using Axes = std::array<Axis, kMostPoolAxes>;

// One axis of a call. The pairs are (output p, pixel i) with i = p * stride + tap * dilation - lo.
struct AxisOfCall {
  int64_t pixels = 1, outputs = 1, taps = 1, stride = 1, dilation = 1, lo = 0;
  int64_t counted_lo = 0, counted_hi = 0;  // padding that counts as pixels
  bool counted = false;                    // whether pixels are counted: else all counts are 1

  // How many pixels of window p count, at least 1: a window without any has the sum 0.
  float Count(int64_t p) const {
    if (!counted) return 1.0f;
    const int64_t start = p * stride - lo;
    const int64_t end = std::min(start + taps, pixels + counted_hi);
    return static_cast<float>(std::max<int64_t>(1, end - std::max(start, -counted_lo)));
  }

  // `source_size`: numbers from one source to the next; `tap_size`: taps from one to the next.
  Axis Of(bool adjoint, int64_t source_size, int64_t tap_size) const {
    Axis axis;
    axis.targets = adjoint ? pixels : outputs;
    const int64_t sources = adjoint ? outputs : pixels;
    for (int64_t target = 0; target < axis.targets; ++target) {
      axis.begin.push_back(static_cast<int64_t>(axis.entries.size()));
      axis.count.push_back(adjoint ? 1.0f : Count(target));
      for (int64_t tap = 0; tap < taps; ++tap) {
        const int64_t shift = tap * dilation - lo;
        const int64_t source = adjoint ? (target - shift) / stride : target * stride + shift;
        const bool meets = !adjoint || (target >= shift && (target - shift) % stride == 0);
        if (!meets || source < 0 || source >= sources) continue;
        axis.entries.push_back(
            {source * source_size, tap * tap_size, adjoint ? Count(source) : 1.0f});
      }
    }
    axis.begin.push_back(static_cast<int64_t>(axis.entries.size()));
    return axis;
  }
};

// The static side of a call: shapes as XLA holds them, and the window.
struct Pooling {
  Dims x, y, size, stride, dilation, pads;  // x: the image; pads: lo and hi of each axis in turn
  Dims counted;  // padding that counts as pixels, as `pads`; empty: nothing is counted

  // Refuses shapes and attributes that don't fit each other.
  void Check() const {
    const size_t rank = x.size(), axes = size.size();
    Require(rank >= 3 && rank <= kMostPoolAxes + 2, "x must have one to three spatial axes");
    Require(y.size() == rank && axes == rank - 2 && stride.size() == axes &&
                dilation.size() == axes && pads.size() == 2 * axes,
            "window, stride, dilation and pads must have entries for each spatial axis");
    Require(counted.empty() || counted.size() == 2 * axes,
            "counted must have entries for each spatial axis, or none");
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
    std::array<AxisOfCall, kMostPoolAxes> calls;
    const size_t skip = kMostPoolAxes - size.size();
    for (size_t i = 0; i < size.size(); ++i) {
      calls[skip + i] = {x[i + 1], y[i + 1], size[i], stride[i], dilation[i], pads[2 * i]};
      if (counted.empty()) continue;
      calls[skip + i].counted_lo = counted[2 * i];
      calls[skip + i].counted_hi = counted[2 * i + 1];
      calls[skip + i].counted = true;
    }
    Axes axes;
    int64_t source_size = x.back(), tap_size = 1;
    for (int i = kMostPoolAxes - 1; i >= 0; --i) {
      axes[i] = calls[i].Of(adjoint, source_size, tap_size);
      source_size *= adjoint ? calls[i].outputs : calls[i].pixels;
      tap_size *= calls[i].taps;
    }
    return axes;
  }

  // Numbers of an image, or of its windows.
  static int64_t Numbers(const Dims& array) { return Product(array) / array[0]; }

  std::string Text() const {
    return "image " + jconv::Text(x) + ", windows " + jconv::Text(y) + ", window " +
           jconv::Text(size) + ", stride " + jconv::Text(stride) + ", pads " + jconv::Text(pads) +
           ", dilation " + jconv::Text(dilation);
  }
};

}  // namespace jconv
