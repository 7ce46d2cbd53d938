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

// z = (x - mean) * (variance + epsilon)^(-1/2) * scale + bias of one line of n numbers.
template <class Number>
struct StandardizeLine {
  static JCONV_INLINE void Run(const Number* __restrict x, int64_t n, float epsilon, bool centre,
                               const float* __restrict scale, const float* __restrict bias,
                               Number* __restrict z, float* mean, float* variance) {
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
      Store((Load(x[i]) - first - rest) * rstd * scale[i] + bias[i], z[i]);
    }
  }
};

// What each of the numbers that are normalised together needs for its gradient.
//
//     dx = factor * scale * dz + slope * (x - mean) + offset
struct GradTerms {
  float mean, factor, slope, offset;
};

// The terms, from the sums of scale * dz and of scale * dz * (x - mean) over n numbers, and from
// the cotangents of their mean and variance.
JCONV_INLINE GradTerms TermsOf(double sum, double product, double n, float mean, float variance,
                               float dmean, float dvariance, double epsilon, bool centre) {
  const double rstd = 1.0 / std::sqrt(variance + epsilon);
  return {mean, static_cast<float>(rstd),
          static_cast<float>((2.0 * dvariance - rstd * rstd * rstd * product) / n),
          centre ? static_cast<float>((dmean - rstd * sum) / n) : 0.0f};
}

// dx of one line, and the line's share of dscale and dbias.
//
// Where there is one scale for each number of the line, `kEach`, the shares are added to those of
// other lines, n numbers each; else they are one number each.
template <class Number, bool kEach>
struct GradOfLine {
  static JCONV_INLINE void Run(const Number* __restrict dz, const Number* __restrict x, int64_t n,
                               const float* __restrict scale, float mean, float variance,
                               float dmean, float dvariance, float epsilon, bool centre,
                               Number* __restrict dx, float* __restrict dscale,
                               float* __restrict dbias) {
    float sums[kLanes] = {}, products[kLanes] = {};
    const float rstd = 1.0f / std::sqrt(variance + epsilon);
    const int64_t whole = n / kLanes * kLanes;
    for (int64_t i = 0; i < whole; i += kLanes) {
      for (int l = 0; l < kLanes; ++l) {
        const float d = Load(dz[i + l]), centred = Load(x[i + l]) - mean;
        const float t = kEach ? d * scale[i + l] : d;
        sums[l] += t;
        products[l] += t * centred;
        if (kEach) {
          dscale[i + l] += d * (centred * rstd);
          dbias[i + l] += d;
        }
      }
    }
    for (int64_t i = whole; i < n; ++i) {
      const float d = Load(dz[i]), centred = Load(x[i]) - mean;
      const float t = kEach ? d * scale[i] : d;
      sums[i - whole] += t;
      products[i - whole] += t * centred;
      if (kEach) {
        dscale[i] += d * (centred * rstd);
        dbias[i] += d;
      }
    }
    const float sum = Total(sums), product = Total(products), same = kEach ? 1.0f : scale[0];
    if (!kEach) {
      *dscale += product * rstd;
      *dbias += sum;
    }
    const GradTerms terms =
        TermsOf(static_cast<double>(sum) * same, static_cast<double>(product) * same,
                static_cast<double>(n), mean, variance, dmean, dvariance, epsilon, centre);
    for (int64_t i = 0; i < n; ++i) {
      Store(terms.factor * scale[i] * Load(dz[i]) +
                (terms.slope * (Load(x[i]) - mean) + terms.offset),
            dx[i]);
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

// z = (x - mean) * factor + offset, lane by lane; `lane` holds the three, 3 * lanes floats.
template <class Number>
struct MapColumns {
  static JCONV_INLINE void Run(const Number* __restrict x, int64_t rows, int64_t lanes,
                               const float* __restrict lane, Number* __restrict z) {
    const float *mean = lane, *factor = lane + lanes, *offset = lane + 2 * lanes;
    for (int64_t r = 0; r < rows; ++r) {
      const Number* from = x + r * lanes;
      Number* to = z + r * lanes;
      for (int64_t l = 0; l < lanes; ++l) {
        Store((Load(from[l]) - mean[l]) * factor[l] + offset[l], to[l]);
      }
    }
  }
};

// Sums of dz and of dz * (x - mean), of each lane over the rows; `sums` holds 2 * lanes floats.
template <class Number>
struct ProductsOfColumns {
  static JCONV_INLINE void Run(const Number* __restrict dz, const Number* __restrict x,
                               int64_t rows, int64_t lanes, const float* __restrict mean,
                               float* __restrict sums) {
    float* products = sums + lanes;
    for (int64_t l = 0; l < 2 * lanes; ++l) sums[l] = 0;
    int64_t r = 0;
    for (; r + 2 <= rows; r += 2) {
      const Number *a = dz + r * lanes, *b = a + lanes, *p = x + r * lanes, *q = p + lanes;
      for (int64_t l = 0; l < lanes; ++l) {
        const float da = Load(a[l]), db = Load(b[l]);
        sums[l] += da + db;
        products[l] += da * (Load(p[l]) - mean[l]) + db * (Load(q[l]) - mean[l]);
      }
    }
    for (; r < rows; ++r) {
      const Number *a = dz + r * lanes, *p = x + r * lanes;
      for (int64_t l = 0; l < lanes; ++l) {
        sums[l] += Load(a[l]);
        products[l] += Load(a[l]) * (Load(p[l]) - mean[l]);
      }
    }
  }
};

// dx = factor * dz + slope * (x - mean) + offset, lane by lane; `lane` holds mean, factor, slope
// and offset, 4 * lanes floats.
template <class Number>
struct GradOfColumns {
  static JCONV_INLINE void Run(const Number* __restrict dz, const Number* __restrict x,
                               int64_t rows, int64_t lanes, const float* __restrict lane,
                               Number* __restrict dx) {
    const float *mean = lane, *factor = lane + lanes, *slope = lane + 2 * lanes,
                *offset = lane + 3 * lanes;
    for (int64_t r = 0; r < rows; ++r) {
      const Number *d = dz + r * lanes, *from = x + r * lanes;
      Number* to = dx + r * lanes;
      for (int64_t l = 0; l < lanes; ++l) {
        Store(factor[l] * Load(d[l]) + (slope[l] * (Load(from[l]) - mean[l]) + offset[l]), to[l]);
      }
    }
  }
};

}  // namespace jconv
