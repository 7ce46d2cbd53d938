// The inner loops of the gradient of standardisation, to be compiled for each instruction set.
//
// "Lines" and "columns" are those of norm_rows.h. What z was before it was held is computed again
// from x, as y is.
#pragma once

#include "norm_rows.h"

namespace jconv {

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
// other lines, n numbers each; else they are one number each. Where z was held, `kHeld`, dz does
// not pass.
template <class Number, bool kEach, bool kHeld>
struct GradOfLine {
  static JCONV_INLINE void Run(const Number* __restrict dz, const Number* __restrict x, int64_t n,
                               const float* __restrict scale, const float* __restrict bias,
                               Bounds bounds, float mean, float variance, float dmean,
                               float dvariance, float epsilon, bool centre, Number* __restrict dx,
                               float* __restrict dscale, float* __restrict dbias) {
    float sums[kLanes] = {}, products[kLanes] = {};
    const float rstd = 1.0f / std::sqrt(variance + epsilon);
    const int64_t whole = n / kLanes * kLanes;
    for (int64_t i = 0; i < whole; i += kLanes) {
      for (int l = 0; l < kLanes; ++l) {
        const float centred = Load(x[i + l]) - mean;
        const float d =
            bounds.Passed<kHeld>(Load(dz[i + l]), centred * rstd * scale[i + l] + bias[i + l]);
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
      const float centred = Load(x[i]) - mean;
      const float d = bounds.Passed<kHeld>(Load(dz[i]), centred * rstd * scale[i] + bias[i]);
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
      const float centred = Load(x[i]) - mean;
      const float d = bounds.Passed<kHeld>(Load(dz[i]), centred * rstd * scale[i] + bias[i]);
      Store(terms.factor * scale[i] * d + (terms.slope * centred + terms.offset), dx[i]);
    }
  }
};

// Sums of dz and of dz * (x - mean), of each lane over the rows, where z was not held; `lane` holds
// mean, factor and bias, of z = (x - mean) * factor + bias, `sums` 2 * lanes floats.
template <class Number, bool kHeld>
struct ProductsOfColumns {
  static JCONV_INLINE void Run(const Number* __restrict dz, const Number* __restrict x,
                               int64_t rows, int64_t lanes, const float* __restrict lane,
                               Bounds bounds, float* __restrict sums) {
    const float *mean = lane, *factor = lane + lanes, *bias = lane + 2 * lanes;
    float* products = sums + lanes;
    for (int64_t l = 0; l < 2 * lanes; ++l) sums[l] = 0;
    int64_t r = 0;
    for (; r + 2 <= rows; r += 2) {
      const Number *a = dz + r * lanes, *b = a + lanes, *p = x + r * lanes, *q = p + lanes;
      for (int64_t l = 0; l < lanes; ++l) {
        const float first = Load(p[l]) - mean[l], second = Load(q[l]) - mean[l];
        const float da = bounds.Passed<kHeld>(Load(a[l]), first * factor[l] + bias[l]);
        const float db = bounds.Passed<kHeld>(Load(b[l]), second * factor[l] + bias[l]);
        sums[l] += da + db;
        products[l] += da * first + db * second;
      }
    }
    for (; r < rows; ++r) {
      const Number *a = dz + r * lanes, *p = x + r * lanes;
      for (int64_t l = 0; l < lanes; ++l) {
        const float centred = Load(p[l]) - mean[l];
        const float d = bounds.Passed<kHeld>(Load(a[l]), centred * factor[l] + bias[l]);
        sums[l] += d;
        products[l] += d * centred;
      }
    }
  }
};

// dx = factor * dz + slope * (x - mean) + offset, lane by lane, with dz only where z was not held;
// `lane` holds mean, factor, bias, slope and offset, 5 * lanes floats.
template <class Number, bool kHeld>
struct GradOfColumns {
  static JCONV_INLINE void Run(const Number* __restrict dz, const Number* __restrict x,
                               int64_t rows, int64_t lanes, const float* __restrict lane,
                               Bounds bounds, Number* __restrict dx) {
    const float *mean = lane, *factor = lane + lanes, *bias = lane + 2 * lanes,
                *slope = lane + 3 * lanes, *offset = lane + 4 * lanes;
    for (int64_t r = 0; r < rows; ++r) {
      const Number *from_dz = dz + r * lanes, *from_x = x + r * lanes;
      Number* to = dx + r * lanes;
      for (int64_t l = 0; l < lanes; ++l) {
        const float centred = Load(from_x[l]) - mean[l];
        const float d = bounds.Passed<kHeld>(Load(from_dz[l]), centred * factor[l] + bias[l]);
        Store(factor[l] * d + (slope[l] * centred + offset[l]), to[l]);
      }
    }
  }
};

}  // namespace jconv
