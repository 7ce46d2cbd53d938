// The inner loops of pooling, for one row of targets, to be compiled for each instruction set.
//
// A pixel's channels pass through registers once, kWidth at a time, whatever the window.
#pragma once

#include "loops.h"
#include "pool.h"

namespace jconv {

constexpr int kWidth = 32;  // channels in registers at once

// Where one target stands: its image's first source pixel, and its index along every axis.
struct Target {
  int64_t image, d, h, w;
};

// The largest source of a target, for `width` channels from `c`, and its tap.
template <class In, class Tap>
JCONV_INLINE void Largest(const Axes& axes, const Target& target, int64_t channels, int64_t c,
                          int width, const In* x, In* y, Tap* tap) {
  float best[kWidth];
  int32_t at[kWidth];
  for (int i = 0; i < width; ++i) best[i] = -std::numeric_limits<float>::infinity(), at[i] = 0;
  bool first = true;
  const auto& [d_axis, h_axis, w_axis] = axes;
  for (int64_t d = d_axis.begin[target.d]; d < d_axis.begin[target.d + 1]; ++d) {
    for (int64_t h = h_axis.begin[target.h]; h < h_axis.begin[target.h + 1]; ++h) {
      for (int64_t w = w_axis.begin[target.w]; w < w_axis.begin[target.w + 1]; ++w) {
        const auto &a = d_axis.entries[d], &b = h_axis.entries[h], &e = w_axis.entries[w];
        const int64_t source = (a.source * h_axis.sources + b.source) * w_axis.sources + e.source;
        const auto t = static_cast<int32_t>((a.tap * h_axis.taps + b.tap) * w_axis.taps + e.tap);
        const In* pixel = x + (target.image + source) * channels + c;
        if (first) {
          for (int i = 0; i < width; ++i) best[i] = Load(pixel[i]), at[i] = t;
          first = false;
          continue;
        }
        for (int i = 0; i < width; ++i) {
          const float value = Load(pixel[i]);
          const bool wins = (value > best[i]) | ((value != value) & (best[i] == best[i]));
          best[i] = wins ? value : best[i];
          at[i] = wins ? t : at[i];
        }
      }
    }
  }
  for (int i = 0; i < width; ++i) Store(best[i], y[i]);
  if (tap) {
    for (int i = 0; i < width; ++i) tap[i] = static_cast<Tap>(at[i]);
  }
}

// The sum of the sources of a target, for `width` channels from `c`: of those whose tap is the one
// that won, where `won` says which.
template <class In, class Out, class Tap>
JCONV_INLINE void Sum(const Axes& axes, const Target& target, int64_t channels, int64_t c,
                      int width, const In* x, const Tap* won, Out* y) {
  float sum[kWidth];
  for (int i = 0; i < width; ++i) sum[i] = 0;
  const auto& [d_axis, h_axis, w_axis] = axes;
  for (int64_t d = d_axis.begin[target.d]; d < d_axis.begin[target.d + 1]; ++d) {
    for (int64_t h = h_axis.begin[target.h]; h < h_axis.begin[target.h + 1]; ++h) {
      for (int64_t w = w_axis.begin[target.w]; w < w_axis.begin[target.w + 1]; ++w) {
        const auto &a = d_axis.entries[d], &b = h_axis.entries[h], &e = w_axis.entries[w];
        const int64_t source = (a.source * h_axis.sources + b.source) * w_axis.sources + e.source;
        const int64_t from = (target.image + source) * channels + c;
        if (won) {
          const auto t = static_cast<Tap>((a.tap * h_axis.taps + b.tap) * w_axis.taps + e.tap);
          for (int i = 0; i < width; ++i) sum[i] += won[from + i] == t ? Load(x[from + i]) : 0.0f;
        } else {
          for (int i = 0; i < width; ++i) sum[i] += Load(x[from + i]);
        }
      }
    }
  }
  for (int i = 0; i < width; ++i) Store(sum[i], y[i]);
}

// A row of targets, those that differ in their last spatial index alone; `row` counts them all.
template <class In, class Tap>
struct LargestOfRow {
  static JCONV_INLINE void Run(const Axes* axes, int64_t row, int64_t channels, const In* x, In* y,
                               Tap* tap) {
    Target target = First(*axes, row);
    for (target.w = 0; target.w < (*axes)[2].targets; ++target.w) {
      const int64_t to = (row * (*axes)[2].targets + target.w) * channels;
      int64_t c = 0;
      for (; c + kWidth <= channels; c += kWidth) {
        Largest(*axes, target, channels, c, kWidth, x, y + to + c, tap ? tap + to + c : nullptr);
      }
      const int rest = static_cast<int>(channels - c);
      if (rest) {
        Largest(*axes, target, channels, c, rest, x, y + to + c, tap ? tap + to + c : nullptr);
      }
    }
  }

  static JCONV_INLINE Target First(const Axes& axes, int64_t row) {
    const int64_t h = row % axes[1].targets, d = row / axes[1].targets % axes[0].targets;
    const int64_t n = row / axes[1].targets / axes[0].targets;
    return {n * axes[0].sources * axes[1].sources * axes[2].sources, d, h, 0};
  }
};

template <class In, class Out, class Tap>
struct SumOfRow {
  static JCONV_INLINE void Run(const Axes* axes, int64_t row, int64_t channels, const In* x,
                               const Tap* won, Out* y) {
    Target target = LargestOfRow<In, Tap>::First(*axes, row);
    for (target.w = 0; target.w < (*axes)[2].targets; ++target.w) {
      const int64_t to = (row * (*axes)[2].targets + target.w) * channels;
      int64_t c = 0;
      for (; c + kWidth <= channels; c += kWidth) {
        Sum(*axes, target, channels, c, kWidth, x, won, y + to + c);
      }
      const int rest = static_cast<int>(channels - c);
      if (rest) Sum(*axes, target, channels, c, rest, x, won, y + to + c);
    }
  }
};

}  // namespace jconv
