// The inner loops of standardisation, to be compiled for each instruction set.
//
// "Lines" are numbers that are normalised together and lie together (layer norm): one line passes
// through the first-level cache three times. "Columns" are lanes of neighbouring numbers that are
// summed over many rows (batch, instance and group norm): a block of rows is read from memory once,
// for its mean and its squares, and merged (Chan, Golub & LeVeque 1983).
#pragma once

#include "loops.h"

namespace jconv {

constexpr int kLanes = 32;        // sums side by side, so that a line's is a vector's
constexpr int64_t kBlock = 8192;  // numbers of a block of rows: 32 KiB of float32

JCONV_INLINE float Total(const float* lanes) {
  float total = 0;
  for (int i = 0; i < kLanes; ++i) total += lanes[i];
  return total;
}

// y = (x - mean) * (variance + epsilon)^(-1/2) of one line of n numbers.
template <class In>
struct StandardizeLine {
  static JCONV_INLINE void Run(const In* __restrict x, int64_t n, float epsilon, bool centre,
                               float* __restrict y, float* mean, float* variance) {
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
    for (int64_t i = 0; i < n; ++i) y[i] = (Load(x[i]) - first - rest) * rstd;
  }
};

// dx = rstd * (t - mean(t) - y * mean(y * t)) of one line.
struct ProjectLine {
  static JCONV_INLINE void Run(const float* __restrict t, const float* __restrict y, int64_t n,
                               float rstd, bool centre, float* __restrict dx) {
    float sums[kLanes] = {}, products[kLanes] = {};
    const int64_t whole = n / kLanes * kLanes;
    for (int64_t i = 0; i < whole; i += kLanes) {
      for (int l = 0; l < kLanes; ++l) {
        sums[l] += t[i + l];
        products[l] += t[i + l] * y[i + l];
      }
    }
    for (int64_t i = whole; i < n; ++i) {
      sums[i - whole] += t[i];
      products[i - whole] += t[i] * y[i];
    }
    const float mean = centre ? Total(sums) / static_cast<float>(n) : 0.0f;
    const float product = Total(products) / static_cast<float>(n);
    for (int64_t i = 0; i < n; ++i) dx[i] = rstd * (t[i] - mean - y[i] * product);
  }
};

// Mean and sum of squared distances from it, of each lane over `rows` rows of x.
//
// `work` holds 4 * lanes floats: mean and squares, the result, come first.
template <class In>
struct MomentsOfColumns {
  static JCONV_INLINE void Run(const In* __restrict x, int64_t rows, int64_t lanes, bool centre,
                               float* __restrict work) {
    float *mean = work, *squares = work + lanes, *block = work + 2 * lanes,
          *block_squares = work + 3 * lanes;
    for (int64_t l = 0; l < 2 * lanes; ++l) work[l] = 0;
    // No more than 256: the error of a sum grows with its length.
    const int64_t most = std::clamp<int64_t>(kBlock / lanes, 1, 256);
    for (int64_t done = 0; done < rows; done += most) {
      const int64_t count = std::min(most, rows - done);
      const In* start = x + done * lanes;
      Means(start, count, lanes, centre, block);
      Squares(start, count, lanes, block, block_squares);
      const auto a = static_cast<float>(done), b = static_cast<float>(count);
      const float share = b / (a + b), weight = a * share;
      for (int64_t l = 0; l < lanes; ++l) {
        const float distance = block[l] - mean[l];
        mean[l] += distance * share;
        squares[l] += block_squares[l] + distance * distance * weight;
      }
    }
  }

 private:
  static JCONV_INLINE void Means(const In* __restrict x, int64_t rows, int64_t lanes, bool centre,
                                 float* __restrict mean) {
    for (int64_t l = 0; l < lanes; ++l) mean[l] = 0;
    if (!centre) return;
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
      const In *a = x + r * lanes, *b = a + lanes, *c = b + lanes, *d = c + lanes;
      for (int64_t l = 0; l < lanes; ++l) {
        mean[l] += (Load(a[l]) + Load(b[l])) + (Load(c[l]) + Load(d[l]));
      }
    }
    for (; r < rows; ++r) {
      for (int64_t l = 0; l < lanes; ++l) mean[l] += Load(x[r * lanes + l]);
    }
    for (int64_t l = 0; l < lanes; ++l) mean[l] /= static_cast<float>(rows);
  }

  static JCONV_INLINE void Squares(const In* __restrict x, int64_t rows, int64_t lanes,
                                   const float* __restrict mean, float* __restrict squares) {
    for (int64_t l = 0; l < lanes; ++l) squares[l] = 0;
    int64_t r = 0;
    for (; r + 2 <= rows; r += 2) {
      const In *a = x + r * lanes, *b = a + lanes;
      for (int64_t l = 0; l < lanes; ++l) {
        const float p = Load(a[l]) - mean[l], q = Load(b[l]) - mean[l];
        squares[l] += p * p + q * q;
      }
    }
    for (; r < rows; ++r) {
      for (int64_t l = 0; l < lanes; ++l) {
        const float p = Load(x[r * lanes + l]) - mean[l];
        squares[l] += p * p;
      }
    }
  }
};

// y = (x - mean) * rstd, lane by lane.
template <class In>
struct StandardizeColumns {
  static JCONV_INLINE void Run(const In* __restrict x, int64_t rows, int64_t lanes,
                               const float* __restrict mean, const float* __restrict rstd,
                               float* __restrict y) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t l = 0; l < lanes; ++l) {
        y[r * lanes + l] = (Load(x[r * lanes + l]) - mean[l]) * rstd[l];
      }
    }
  }
};

// Sums of t and of t * y, of each lane over the rows; `sums` holds 2 * lanes floats.
struct ProductsOfColumns {
  static JCONV_INLINE void Run(const float* __restrict t, const float* __restrict y, int64_t rows,
                               int64_t lanes, float* __restrict sums) {
    float* products = sums + lanes;
    for (int64_t l = 0; l < 2 * lanes; ++l) sums[l] = 0;
    int64_t r = 0;
    for (; r + 2 <= rows; r += 2) {
      const float *a = t + r * lanes, *b = a + lanes, *p = y + r * lanes, *q = p + lanes;
      for (int64_t l = 0; l < lanes; ++l) {
        sums[l] += a[l] + b[l];
        products[l] += a[l] * p[l] + b[l] * q[l];
      }
    }
    for (; r < rows; ++r) {
      for (int64_t l = 0; l < lanes; ++l) {
        sums[l] += t[r * lanes + l];
        products[l] += t[r * lanes + l] * y[r * lanes + l];
      }
    }
  }
};

// dx = rstd * (t - mean - y * product), lane by lane.
struct ProjectColumns {
  static JCONV_INLINE void Run(const float* __restrict t, const float* __restrict y, int64_t rows,
                               int64_t lanes, const float* __restrict mean,
                               const float* __restrict product, const float* __restrict rstd,
                               float* __restrict dx) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t l = 0; l < lanes; ++l) {
        const int64_t i = r * lanes + l;
        dx[i] = rstd[l] * (t[i] - mean[l] - y[i] * product[l]);
      }
    }
  }
};

}  // namespace jconv
