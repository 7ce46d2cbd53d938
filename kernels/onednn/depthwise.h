// A filter gradient of a depthwise convolution in integers, and how it is cut into pieces.
#pragma once

#include "conv.h"

namespace jconv {

constexpr int kStrip = 16;          // channels that are summed together: a vector of AVX-512
constexpr int kBlock = 32;          // or twice as many, where there are
constexpr int kMostTaps = 7;        // columns of the window: 14 vectors of sums, of AVX2's 16
constexpr int kMostColumns = 128;   // of a row that is copied: 16 KiB, half of a first-level cache
constexpr int64_t kParts = 64;      // that sums are split into, for as many threads
constexpr int64_t kFewPixels = 64;  // of a part: its sums take as long as some of them
constexpr int64_t kFewTimes = 8;    // and so many for each of its sums

// One axis of a call: output p reads pixel p * stride + t * dilation - lo by tap t.
struct DepthwiseAxis {
  int64_t pixels = 1, outputs = 1, taps = 1, stride = 1, dilation = 1, lo = 0;
};

// The pieces depend on the shape alone, so that sums are the same with any number of threads. A
// unit is a row of the image, as far as `outputs` columns of dy read it. Parts are units one after
// the other, groups blocks of channels; for each part of each group there is a task, with sums of
// its own.
struct DepthwiseCall {
  int64_t examples, channels;
  DepthwiseAxis rows, columns;
  int64_t taps, outputs;          // columns of the window, and of dy, that are computed at once
  int64_t chunks;                 // that the columns of dy fall into
  int64_t units, parts;           // units of a part; parts
  int64_t blocks, group, groups;  // blocks of channels, blocks of a group; groups

  explicit DepthwiseCall(const ConvSpec& spec)
      : examples(spec.x[0]),
        channels(spec.x.back()),
        columns(AxisOf(spec, spec.stride.size() - 1)) {
    if (spec.stride.size() > 1) rows = AxisOf(spec, 0);
    // Of taps that lie far apart no two are computed at once: what is between them is copied too.
    const int64_t most = std::min<int64_t>(kMostTaps, 1 + kMostColumns / 2 / columns.dilation);
    taps = Parts(columns.taps, Parts(columns.taps, most));
    const int64_t room = kMostColumns - 1 - (taps - 1) * columns.dilation;
    outputs = std::min(columns.outputs, 1 + room / columns.stride);
    chunks = Parts(columns.outputs, outputs);
    const int64_t pixels = examples * rows.pixels * columns.pixels;
    const int64_t most_parts = pixels / std::max(kFewPixels, kFewTimes * window());
    units = Parts(all_units(), std::clamp<int64_t>(most_parts, 1, kParts));
    parts = Parts(all_units(), units);
    blocks = Parts(channels, kBlock);
    group = Parts(blocks, Parts(kParts, parts));
    groups = Parts(blocks, group);
  }

  // How many parts of size b there are in a; or their size, where there are b.
  static int64_t Parts(int64_t a, int64_t b) { return (a + b - 1) / b; }

  static DepthwiseAxis AxisOf(const ConvSpec& spec, size_t i) {
    return {spec.x[i + 1],  spec.y[i + 1],    spec.w[i],
            spec.stride[i], spec.dilation[i], spec.pads[2 * i]};
  }

  int64_t all_units() const { return examples * rows.pixels * chunks; }
  int64_t window() const { return rows.taps * columns.taps; }
  // Numbers of the sums of one part of a block: R S kBlock.
  int64_t sums() const { return window() * kBlock; }
  // Where in the sums of its block a channel stands. A last strip that is not full begins inside
  // the one before, and sums some channels once more.
  int64_t at(int64_t c) const {
    const int64_t full = channels / kStrip * kStrip;
    return (c < full || full == 0 ? c : full + kStrip - (channels - c)) % kBlock;
  }
};

}  // namespace jconv
