// The inner loops of the filter gradient of depthwise convolutions, to be compiled for each
// instruction set.
//
// A row of the image is copied once, in float32 and with its padding, and meets every row of dy
// that reads it. The sums of up to kMostTaps columns of the window stay in registers along such a
// row; then they are added to those of the part, so no sum is longer than a row, or than the rows.
#pragma once

#include "depthwise.h"
#include "loops.h"

namespace jconv {

// Adds the products of a row of the image with `count` columns of dy, by kTaps columns of the
// window.
template <int kTaps, int kWidth, class Number>
JCONV_INLINE void AddProducts(const float* row, int64_t stride, int64_t dilation, const Number* dy,
                              int64_t channels, int64_t count, float* sums) {
  float sum[kTaps][kWidth];
  const auto products = [&](int64_t q, const auto& put) __attribute__((always_inline)) {
    const Number* __restrict by = dy + q * channels;
    for (int t = 0; t < kTaps; ++t) {
      const float* __restrict x = row + (q * stride + t * dilation) * kWidth;
      for (int i = 0; i < kWidth; ++i) put(sum[t][i], x[i] * Load(by[i]));
    }
  };
  products(0, [](float& to, float product) __attribute__((always_inline)) { to = product; });
  for (int64_t q = 1; q < count; ++q) {
    products(q, [](float& to, float product) __attribute__((always_inline)) { to += product; });
  }
  for (int t = 0; t < kTaps; ++t) {
    for (int i = 0; i < kWidth; ++i) sums[t * kBlock + i] += sum[t][i];
  }
}

// Of kWidth channels, at the first of which the pointers stand.
template <int kWidth, class Number>
struct DepthwiseLoops {
  const DepthwiseCall& call;
  const Number *x, *dy;
  float* sums;

  JCONV_INLINE void OfUnit(int64_t unit) const {
    const int64_t row = unit / call.chunks, q = unit % call.chunks * call.outputs;
    for (int64_t s = 0; s < call.columns.taps; s += call.taps) {
      OfRow(row / call.rows.pixels, row % call.rows.pixels, q, s,
            std::min(call.taps, call.columns.taps - s));
    }
  }

  // Row `h` of an image, read by the outputs from `q` on, by `taps` columns of the window from `s`.
  JCONV_INLINE void OfRow(int64_t example, int64_t h, int64_t q, int64_t s, int64_t taps) const {
    const auto &rows = call.rows, &columns = call.columns;
    const int64_t count = std::min(call.outputs, columns.outputs - q);
    const int64_t first = q * columns.stride + s * columns.dilation - columns.lo;
    const int64_t width = (count - 1) * columns.stride + (taps - 1) * columns.dilation + 1;
    if (first >= columns.pixels || first + width <= 0) return;  // padding alone
    alignas(64) float row[kMostColumns * kWidth];
    bool copied = false;
    for (int64_t r = 0; r < rows.taps; ++r) {
      const int64_t shift = h + rows.lo - r * rows.dilation, p = shift / rows.stride;
      if (shift < 0) break;
      if (shift % rows.stride || p >= rows.outputs) continue;
      if (!copied) Copy((example * rows.pixels + h) * columns.pixels, first, width, row);
      copied = true;
      const int64_t at = (example * rows.outputs + p) * columns.outputs + q;
      Add(taps, row, dy + at * call.channels, count, sums + (r * columns.taps + s) * kBlock);
    }
  }

  // Columns from `first` on of the row whose pixels are those from `start` on; zeros around them.
  JCONV_INLINE void Copy(int64_t start, int64_t first, int64_t count, float* row) const {
    const int64_t begin = std::clamp<int64_t>(-first, 0, count);
    const int64_t end = std::clamp<int64_t>(call.columns.pixels - first, begin, count);
    for (int64_t i = 0; i < begin * kWidth; ++i) row[i] = 0;
    for (int64_t j = begin; j < end; ++j) {
      const Number* __restrict pixel = x + (start + first + j) * call.channels;
      float* __restrict to = row + j * kWidth;
      for (int i = 0; i < kWidth; ++i) to[i] = Load(pixel[i]);
    }
    for (int64_t i = end * kWidth; i < count * kWidth; ++i) row[i] = 0;
  }

  JCONV_INLINE void Add(int64_t taps, const float* row, const Number* from, int64_t count,
                        float* to) const {
    static_assert(kMostTaps == 7, "one case for each");
    switch (taps) {
      case 1:
        return Add<1>(row, from, count, to);
      case 2:
        return Add<2>(row, from, count, to);
      case 3:
        return Add<3>(row, from, count, to);
      case 4:
        return Add<4>(row, from, count, to);
      case 5:
        return Add<5>(row, from, count, to);
      case 6:
        return Add<6>(row, from, count, to);
      default:
        return Add<7>(row, from, count, to);
    }
  }

  template <int kTaps>
  JCONV_INLINE void Add(const float* row, const Number* from, int64_t count, float* to) const {
    AddProducts<kTaps, kWidth>(row, call.columns.stride, call.columns.dilation, from, call.channels,
                               count, to);
  }
};

// One task: all units of a part, and of each the blocks of a group. At most kWidth channels, two
// vectors, are computed at once.
template <int kWidth, class Number>
struct DepthwiseTask {
  static JCONV_INLINE void Run(const DepthwiseCall* call, const Number* x, const Number* dy,
                               int64_t part, int64_t group, float* sums) {
    const int64_t end = std::min(call->all_units(), (part + 1) * call->units);
    const int64_t last = std::min(call->blocks, (group + 1) * call->group);
    for (int64_t unit = part * call->units; unit < end; ++unit) {
      for (int64_t block = group * call->group; block < last; ++block) {
        OfBlock(*call, x, dy, unit, block, sums + (block - group * call->group) * call->sums());
      }
    }
  }

  static JCONV_INLINE void OfBlock(const DepthwiseCall& call, const Number* x, const Number* dy,
                                   int64_t unit, int64_t block, float* sums) {
    const int64_t first = block * kBlock, left = std::min<int64_t>(call.channels - first, kBlock);
    const auto strips = [&](auto width) __attribute__((always_inline)) {
      constexpr int kOnce = decltype(width)::value, kWhole = kOnce == 1 ? 1 : kStrip;
      for (int64_t i = 0; i < DepthwiseCall::Parts(left, kWhole) * kWhole; i += kOnce) {
        const int64_t strip = i / kWhole * kWhole;
        const int64_t c = std::min(first + strip, call.channels - kWhole) + i - strip;
        DepthwiseLoops<kOnce, Number>{call, x + c, dy + c, sums + i}.OfUnit(unit);
      }
    };
    if (left == kBlock) return strips(std::integral_constant<int, kWidth>());
    if (call.channels < kStrip) return strips(std::integral_constant<int, 1>());
    strips(std::integral_constant<int, std::min<int>(kWidth, kStrip)>());
  }
};

}  // namespace jconv
