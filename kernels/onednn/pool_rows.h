// The inner loops of pooling, for one row of targets, to be compiled for each instruction set.
//
// A target's channels are computed 64 or 32 at a time, whatever the window: the compiler keeps so
// many sums in registers.
#pragma once

#include "loops.h"
#include "pool.h"

namespace jconv {

constexpr int kMany = 64, kFew = 32;  // channels at once

// One target: its index along every axis, and where the numbers of its first channel stand.
struct Target {
  const Axes& axes;
  int64_t d, h, w;
  int64_t image;  // the first source of its image
  int64_t to;

  // Calls `f(where its channels start, tap, count)` for every source, the first tap first.
  template <class F>
  JCONV_INLINE void ForSources(const F& f) const {
    const auto& [d_axis, h_axis, w_axis] = axes;
    for (int64_t i = d_axis.begin[d]; i < d_axis.begin[d + 1]; ++i) {
      for (int64_t j = h_axis.begin[h]; j < h_axis.begin[h + 1]; ++j) {
        const auto &a = d_axis.entries[i], &b = h_axis.entries[j];
        const int64_t row = image + a.source + b.source;
        for (int64_t k = w_axis.begin[w]; k < w_axis.begin[w + 1]; ++k) {
          // Keeps GCC from "unroll and jam": two sources at once, but one channel after the other.
          asm volatile("");
          const auto& e = w_axis.entries[k];
          f(row + e.source, static_cast<int32_t>(a.tap + b.tap + e.tap),
            a.count * b.count * e.count);
        }
      }
    }
  }

  // The tap of its first source, 0 where it has none.
  JCONV_INLINE int32_t FirstTap() const {
    const auto& [d_axis, h_axis, w_axis] = axes;
    if (!d_axis.reads(d) || !h_axis.reads(h) || !w_axis.reads(w)) return 0;
    return static_cast<int32_t>(d_axis.entries[d_axis.begin[d]].tap +
                                h_axis.entries[h_axis.begin[h]].tap +
                                w_axis.entries[w_axis.begin[w]].tap);
  }

  JCONV_INLINE float Count() const {
    return axes[0].count[d] * axes[1].count[h] * axes[2].count[w];
  }
};

// Each kernel computes `width` channels of a target, from channel c, at most kMany.

// The largest source; a NaN, if there is one.
template <class In>
struct Largest {
  const In* x;
  In* y;

  JCONV_INLINE void At(const Target& target, int64_t c, int width) const {
    float best[kMany];
    for (int i = 0; i < width; ++i) best[i] = -std::numeric_limits<float>::infinity();
    target.ForSources([&](int64_t from, int32_t, float) __attribute__((always_inline)) {
      const In* __restrict source = x + from + c;
      for (int i = 0; i < width; ++i) {
        const float value = Load(source[i]);
        const bool wins = (value > best[i]) | (value != value);
        best[i] = wins ? value : best[i];
      }
    });
    for (int i = 0; i < width; ++i) Store(best[i], y[target.to + c + i]);
  }
};

// The same, and the tap that reads it: of equals the first, of NaN too.
template <class In, class Tap>
struct LargestAndTap {
  const In* x;
  In* y;
  Tap* tap;

  JCONV_INLINE void At(const Target& target, int64_t c, int width) const {
    float best[kMany];
    int32_t at[kMany];
    for (int i = 0; i < width; ++i) best[i] = -std::numeric_limits<float>::infinity();
    for (int i = 0; i < width; ++i) at[i] = target.FirstTap();
    target.ForSources([&](int64_t from, int32_t t, float) __attribute__((always_inline)) {
      const In* __restrict source = x + from + c;
      for (int i = 0; i < width; ++i) {
        const float value = Load(source[i]);
        const bool wins = (value > best[i]) | ((value != value) & (best[i] == best[i]));
        best[i] = wins ? value : best[i];
        at[i] = wins ? t : at[i];
      }
    });
    for (int i = 0; i < width; ++i) Store(best[i], y[target.to + c + i]);
    for (int i = 0; i < width; ++i) tap[target.to + c + i] = static_cast<Tap>(at[i]);
  }
};

// The source that `tap` reads, 0 where that is padding.
template <class In, class Out, class Tap>
struct Taken {
  const In* x;
  const Tap* tap;
  Out* y;

  JCONV_INLINE void At(const Target& target, int64_t c, int width) const {
    float taken[kMany];
    for (int i = 0; i < width; ++i) taken[i] = 0;
    target.ForSources([&](int64_t from, int32_t t, float) __attribute__((always_inline)) {
      const In* __restrict source = x + from + c;
      for (int i = 0; i < width; ++i) {
        const float value = Load(source[i]);
        taken[i] = tap[target.to + c + i] == static_cast<Tap>(t) ? value : taken[i];
      }
    });
    for (int i = 0; i < width; ++i) Store(taken[i], y[target.to + c + i]);
  }
};

// The sum of the windows whose tap reads the target.
template <class In, class Out, class Tap>
struct SumOfWon {
  const In* dy;
  const Tap* tap;
  Out* dx;

  JCONV_INLINE void At(const Target& target, int64_t c, int width) const {
    float sum[kMany];
    for (int i = 0; i < width; ++i) sum[i] = 0;
    target.ForSources([&](int64_t from, int32_t t, float) __attribute__((always_inline)) {
      const In* __restrict source = dy + from + c;
      const Tap* __restrict won = tap + from + c;
      for (int i = 0; i < width; ++i) {
        const float value = Load(source[i]);
        sum[i] += won[i] == static_cast<Tap>(t) ? value : 0.0f;
      }
    });
    for (int i = 0; i < width; ++i) Store(sum[i], dx[target.to + c + i]);
  }
};

// The sum of the sources, by `divisor` and what is counted of the target, or of each source.
template <class In, class Out, bool kCounted>
struct Sum {
  const In* x;
  Out* y;
  float divisor;

  JCONV_INLINE void At(const Target& target, int64_t c, int width) const {
    float sum[kMany];
    for (int i = 0; i < width; ++i) sum[i] = 0;
    target.ForSources([&](int64_t from, int32_t, float count) __attribute__((always_inline)) {
      const In* __restrict source = x + from + c;
      for (int i = 0; i < width; ++i) {
        const float value = Load(source[i]);
        sum[i] += kCounted ? value / count : value;
      }
    });
    const float by = divisor * target.Count();
    for (int i = 0; i < width; ++i) Store(sum[i] / by, y[target.to + c + i]);
  }
};

// A row of targets, those that differ in their last spatial index alone; `row` counts them all.
template <class Kernel>
struct Row {
  static JCONV_INLINE void Run(const Axes* axes, int64_t image_size, int64_t channels, int64_t row,
                               const Kernel* kernel) {
    const int64_t height = (*axes)[1].targets, width = (*axes)[2].targets;
    const int64_t image = row / height / (*axes)[0].targets * image_size;
    Target target{*axes, row / height % (*axes)[0].targets, row % height, 0, image, 0};
    for (; target.w < width; ++target.w) {
      target.to = (row * width + target.w) * channels;
      OfTarget(target, channels, *kernel);
    }
  }

  static JCONV_INLINE void OfTarget(const Target& target, int64_t channels, const Kernel& kernel) {
    int64_t c = 0;
    for (; c + kMany <= channels; c += kMany) kernel.At(target, c, kMany);
    if (channels < kFew) return kernel.At(target, 0, static_cast<int>(channels));
    // The last few may begin inside those before: they are written once more.
    for (; c < channels; c += kFew) kernel.At(target, std::min(c, channels - kFew), kFew);
  }
};

}  // namespace jconv
