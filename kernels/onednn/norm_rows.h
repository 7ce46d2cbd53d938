// The inner loops of standardisation, to be compiled for each instruction set.
//
// "Lines" are numbers that are normalised together and lie together (layer norm): one line passes
// through the first-level cache two or three times. "Columns" are lanes of neighbouring numbers
// that are summed over many rows (batch, instance and group norm): a block of rows is read from
// memory once, for its mean and its squares, and merged (Chan, Golub & LeVeque 1983).
#pragma once

#include "loops.h"

namespace jconv {

constexpr int kLanes = 32;        // sums side by side, so that a line's is a vector's
constexpr int64_t kBlock = 8192;  // numbers of a block of rows: 32 KiB of float32

JCONV_INLINE float Total(const float* lanes) {
  // By halves: one after the other, 32 additions take longer than a line of 200 numbers.
  float sums[kLanes];
  for (int i = 0; i < kLanes; ++i) sums[i] = lanes[i];
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

// What z is held between: by ReLU or ReLU6 behind the norm, or by nothing. A NaN stays one.
struct Bounds {
  float low, high;
  bool any() const { return std::isfinite(low) || std::isfinite(high); }

  JCONV_INLINE float Held(float z) const { return z < low ? low : z > high ? high : z; }

  // The cotangent of a z, as far as it was not held.
  template <bool kAny>
  JCONV_INLINE float Passed(float dz, float z) const {
    const bool open = high == std::numeric_limits<float>::infinity();
    return !kAny || ((low < z) & (open | (z < high))) ? dz : 0.0f;
  }
};

// z = (x - mean) * (variance + epsilon)^(-1/2) * scale + bias of one line of n numbers, held.
template <class Number>
struct StandardizeLine {
  static JCONV_INLINE void Run(const Number* __restrict x, int64_t n, float epsilon, bool centre,
                               const float* __restrict scale, const float* __restrict bias,
                               Bounds bounds, Number* __restrict z, float* mean, float* variance) {
    float sums[kLanes] = {}, squares[kLanes] = {};
    const int64_t whole = n / kLanes * kLanes;
    float first = 0;
    if (centre) {
      for (int64_t i = 0; i < whole; i += kLanes) {
        for (int l = 0; l < kLanes; ++l) sums[l] += Load(x[i + l]);
      }
      for (int64_t i = whole; i < n; ++i) sums[i - whole] += Load(x[i]);
      first = Total(sums) / static_cast<float>(n);
    }
    for (int l = 0; l < kLanes; ++l) sums[l] = 0;
    for (int64_t i = 0; i < whole; i += kLanes) {
      for (int l = 0; l < kLanes; ++l) {
        const float centred = Load(x[i + l]) - first;
        sums[l] += centred;
        squares[l] += centred * centred;
      }
    }
    for (int64_t i = whole; i < n; ++i) {
      const float centred = Load(x[i]) - first;
      sums[i - whole] += centred;
      squares[i - whole] += centred * centred;
    }
    const float rest = centre ? Total(sums) / static_cast<float>(n) : 0.0f;
    const float square = Total(squares) / static_cast<float>(n) - rest * rest;
    *mean = first + rest;
    *variance = square > 0 ? square : square != square ? square : 0.0f;
    const float rstd = 1.0f / std::sqrt(*variance + epsilon);
    for (int64_t i = 0; i < n; ++i) {
      Store(bounds.Held((Load(x[i]) - first - rest) * rstd * scale[i] + bias[i]), z[i]);
    }
  }
};

// Mean and sum of squared distances from it, of each lane over `rows` rows of x.
//
// Each block is read from memory once: its distances are taken from the mean of all before it, of
// the first block from its own. A block far from those before it loses bits of its own variance,
// but then the distance between them, which is added, is the larger part.
//
// The mean is kept in two parts, of which the second is what the first lost when it was rounded.
// `work` holds 5 * lanes floats: the result, mean, its rest and squares, comes first.
template <class Number>
struct MomentsOfColumns {
  static JCONV_INLINE void Run(const Number* __restrict x, int64_t rows, int64_t lanes, bool centre,
                               float* __restrict work) {
    float *mean = work, *rest = work + lanes, *squares = work + 2 * lanes, *sums = work + 3 * lanes,
          *block_squares = work + 4 * lanes;
    for (int64_t l = 0; l < 3 * lanes; ++l) work[l] = 0;
    // No more than 256: the error of a sum grows with its length.
    const int64_t most = std::clamp<int64_t>(kBlock / lanes, 1, 256);
    if (centre) Means(x, std::min(most, rows), lanes, mean);
    for (int64_t done = 0; done < rows; done += most) {
      const int64_t count = std::min(most, rows - done);
      Distances(x + done * lanes, count, lanes, mean, sums, block_squares);
      const auto a = static_cast<float>(done), b = static_cast<float>(count);
      const float share = b / (a + b), weight = a * share;
      for (int64_t l = 0; l < lanes; ++l) {
        const float from_mean = centre ? sums[l] / b : 0.0f, distance = from_mean - rest[l];
        const float move = rest[l] + distance * share, moved = mean[l] + move;
        squares[l] += (block_squares[l] - from_mean * sums[l]) + distance * distance * weight;
        rest[l] = (mean[l] - moved) + move;
        mean[l] = moved;
      }
    }
  }

 private:
  static JCONV_INLINE void Means(const Number* __restrict x, int64_t rows, int64_t lanes,
                                 float* __restrict mean) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t l = 0; l < lanes; ++l) mean[l] += Load(x[r * lanes + l]);
    }
    for (int64_t l = 0; l < lanes; ++l) mean[l] /= static_cast<float>(rows);
  }

  static JCONV_INLINE void Distances(const Number* __restrict x, int64_t rows, int64_t lanes,
                                     const float* __restrict mean, float* __restrict sums,
                                     float* __restrict squares) {
    for (int64_t l = 0; l < lanes; ++l) sums[l] = squares[l] = 0;
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
      const Number *a = x + r * lanes, *b = a + lanes, *c = b + lanes, *d = c + lanes;
      for (int64_t l = 0; l < lanes; ++l) {
        const float p = Load(a[l]) - mean[l], q = Load(b[l]) - mean[l], s = Load(c[l]) - mean[l],
                    t = Load(d[l]) - mean[l];
        sums[l] += (p + q) + (s + t);
        squares[l] += (p * p + q * q) + (s * s + t * t);
      }
    }
    for (; r < rows; ++r) {
      for (int64_t l = 0; l < lanes; ++l) {
        const float p = Load(x[r * lanes + l]) - mean[l];
        sums[l] += p;
        squares[l] += p * p;
      }
    }
  }
};

// z = (x - mean) * factor + offset, held, lane by lane; `lane` holds the three, 3 * lanes floats.
template <class Number>
struct MapColumns {
  static JCONV_INLINE void Run(const Number* __restrict x, int64_t rows, int64_t lanes,
                               const float* __restrict lane, Bounds bounds, Number* __restrict z) {
    const float *mean = lane, *factor = lane + lanes, *offset = lane + 2 * lanes;
    for (int64_t r = 0; r < rows; ++r) {
      const Number* from = x + r * lanes;
      Number* to = z + r * lanes;
      for (int64_t l = 0; l < lanes; ++l) {
        Store(bounds.Held((Load(from[l]) - mean[l]) * factor[l] + offset[l]), to[l]);
      }
    }
  }
};

}  // namespace jconv
