// The transforms of Winograd's F(2x2, 3x3), to be compiled for each instruction set.
//
//     y = A' [(G g G') * (B' d B)] A       d 4x4 pixels of x, g 3x3 taps, y 2x2 pixels
//     dg = G' [(A dy A') * (B' d B)] G     its transpose in g
//
//          [ 1  0 -1  0 ]        [  1   0   0 ]        [ 1  0 ]
//     B' = [ 0  1  1  0 ]    G = [ .5  .5  .5 ]    A = [ 1  1 ]
//          [ 0 -1  1  0 ]        [ .5 -.5  .5 ]        [ 1 -1 ]
//          [ 0  1  0 -1 ]        [  0   0   1 ]        [ 0 -1 ]
//
// All are a matrix from the left and the same one from the right, for many channels at once.
//
// Source: Lavin & Gray 2016, "Fast algorithms for convolutional neural networks",
// arXiv:1509.09308; docs/ops/convolution.md derives the matrices, with other signs.
#pragma once

#include "loops.h"

namespace jconv {

constexpr int kSide = 4, kPoints = kSide * kSide;  // of a transformed tile
constexpr int kTaps = 3;                           // along each axis of a filter
constexpr int kStep = 2;                           // along each axis, pixels of y in a tile

// The matrices, each as a function of a column.

struct PixelsToPoints {  // B'
  static constexpr int kIn = kSide, kOut = kSide;
  static JCONV_INLINE void Of(const float (&d)[kIn], float (&v)[kOut]) {
    v[0] = d[0] - d[2], v[1] = d[1] + d[2], v[2] = d[2] - d[1], v[3] = d[1] - d[3];
  }
};

struct TapsToPoints {  // G
  static constexpr int kIn = kTaps, kOut = kSide;
  static JCONV_INLINE void Of(const float (&g)[kIn], float (&u)[kOut]) {
    const float ends = 0.5f * (g[0] + g[2]), middle = 0.5f * g[1];
    u[0] = g[0], u[1] = ends + middle, u[2] = ends - middle, u[3] = g[2];
  }
};

struct PointsToOutput {  // A'
  static constexpr int kIn = kSide, kOut = kStep;
  static JCONV_INLINE void Of(const float (&m)[kIn], float (&y)[kOut]) {
    y[0] = m[0] + (m[1] + m[2]), y[1] = (m[1] - m[2]) - m[3];
  }
};

struct OutputToPoints {  // A
  static constexpr int kIn = kStep, kOut = kSide;
  static JCONV_INLINE void Of(const float (&dy)[kIn], float (&z)[kOut]) {
    z[0] = dy[0], z[1] = dy[0] + dy[1], z[2] = dy[0] - dy[1], z[3] = -dy[1];
  }
};

struct PointsToTaps {  // G'
  static constexpr int kIn = kSide, kOut = kTaps;
  static JCONV_INLINE void Of(const float (&m)[kIn], float (&dg)[kOut]) {
    const float sum = 0.5f * (m[1] + m[2]);
    dg[0] = m[0] + sum, dg[1] = 0.5f * (m[1] - m[2]), dg[2] = sum + m[3];
  }
};

// Applies a matrix to a square tile from both sides. `from` and `to` point to the first channel of
// each of its numbers, row by row; the channels of one lie together.
template <class Matrix>
struct TransformTile {
  static constexpr int kIn = Matrix::kIn, kOut = Matrix::kOut;

  static JCONV_INLINE void Run(const float* const* from, float* const* to, int64_t channels) {
    int64_t c = 0;
    for (; c + kVector <= channels; c += kVector) Channels<kVector>(from, to, c);
    for (; c < channels; ++c) Channels<1>(from, to, c);
  }

 private:
  static constexpr int kVector = 16;

  template <int kWidth>
  static JCONV_INLINE void Channels(const float* const* from, float* const* to, int64_t c) {
    float half[kOut][kIn][kWidth];  // the matrix applied from the left
    for (int j = 0; j < kIn; ++j) {
      for (int l = 0; l < kWidth; ++l) {
        float in[kIn], out[kOut];
        for (int i = 0; i < kIn; ++i) in[i] = from[i * kIn + j][c + l];
        Matrix::Of(in, out);
        for (int i = 0; i < kOut; ++i) half[i][j][l] = out[i];
      }
    }
    for (int i = 0; i < kOut; ++i) {
      float whole[kOut][kWidth];
      for (int l = 0; l < kWidth; ++l) {
        float in[kIn], out[kOut];
        for (int j = 0; j < kIn; ++j) in[j] = half[i][j][l];
        Matrix::Of(in, out);
        for (int j = 0; j < kOut; ++j) whole[j][l] = out[j];
      }
      // One stream after the other: of several the compiler would have to know that they are apart.
      for (int j = 0; j < kOut; ++j) std::memcpy(to[i * kOut + j] + c, whole[j], sizeof whole[j]);
    }
  }
};

}  // namespace jconv
