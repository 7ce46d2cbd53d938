// Standardisation with its affine map, behind every norm.
//
//     z = (x - mean) * rstd * scale + bias, rstd = (variance + epsilon)^(-1/2); mean, variance
//
// Without `centre` nothing is subtracted: mean is 0, the variance is the mean square. x and z are
// float32 or bfloat16, all else float32. x is read from memory twice, once where what is normalised
// together, or all of one A, fits the cache; z is written once.
//
// Sources: as jconv.ops.standardize; Chan, Golub & LeVeque 1983 for the merging of moments.

#include "norm.h"

namespace jconv {
namespace {

template <class Number>
struct Forward {
  const Number* x;
  const float *scale, *bias;
  Number* z;
  float *mean, *variance;
};

template <class Number>
void Lines(ffi::ThreadPool& pool, const View& v, const Forward<Number>& f, double epsilon,
           bool centre) {
  const int64_t n = v.r2;
  const std::vector<float> scale = ByLane(v, f.scale), bias = ByLane(v, f.bias);
  const int64_t parts = std::max<int64_t>(1, v.size() / (2 * kBlock));
  InParts(pool, v.statistics(), parts, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      OnWidest<StandardizeLine<Number>, const Number*, int64_t, float, bool, const float*,
               const float*, Number*, float*, float*>(f.x + i * n, n, static_cast<float>(epsilon),
                                                      centre, scale.data(), bias.data(),
                                                      f.z + i * n, f.mean + i, f.variance + i);
    }
  });
}

template <class Number>
void Columns(ffi::ThreadPool& pool, const View& v, const Forward<Number>& f, double epsilon,
             bool centre) {
  const int64_t lanes = v.lanes(), chunks = v.chunks();
  const std::vector<float> scale = ByLane(v, f.scale), bias = ByLane(v, f.bias);
  std::vector<float> moments(v.a * chunks * 5 * lanes), by_lane(v.a * 3 * lanes);
  const auto at = [&](int64_t a, int64_t chunk) {
    return moments.data() + (a * chunks + chunk) * 5 * lanes;
  };
  const auto sum = [&](int64_t a, int64_t chunk) {
    OnWidest<MomentsOfColumns<Number>, const Number*, int64_t, int64_t, bool, float*>(
        f.x + v.start(a, chunk), v.rows_of(chunk), lanes, centre, at(a, chunk));
  };
  const auto merge = [&](int64_t a, int64_t b) {
    double n = 0, m = 0, squares = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const auto rows = static_cast<double>(v.rows_of(chunk));
      if (rows == 0) continue;
      const float* part = at(a, chunk);
      for (int64_t l = b * v.r2; l < (b + 1) * v.r2; ++l) {
        const double distance = static_cast<double>(part[l]) + part[lanes + l] - m;
        m += distance * rows / (n + rows);
        squares += part[2 * lanes + l] + distance * distance * n * rows / (n + rows);
        n += rows;
      }
    }
    const int64_t i = a * v.b + b;
    f.mean[i] = static_cast<float>(m);
    const double variance = std::max(squares / n, 0.0);  // a NaN stays one
    f.variance[i] = static_cast<float>(variance);
    const double rstd = 1.0 / std::sqrt(variance + epsilon);
    float* lane = by_lane.data() + a * 3 * lanes;
    for (int64_t l = b * v.r2; l < (b + 1) * v.r2; ++l) {
      lane[l] = f.mean[i];
      lane[lanes + l] = static_cast<float>(rstd * scale[l]);
      // With what the mean lost when it was rounded.
      lane[2 * lanes + l] = static_cast<float>(bias[l] - (m - f.mean[i]) * rstd * scale[l]);
    }
  };
  const auto write = [&](int64_t a, int64_t chunk) {
    const int64_t start = v.start(a, chunk);
    OnWidest<MapColumns<Number>, const Number*, int64_t, int64_t, const float*, Number*>(
        f.x + start, v.rows_of(chunk), lanes, by_lane.data() + a * 3 * lanes, f.z + start);
  };
  InTwoPasses(pool, v, sum, merge, write);
}

ffi::Error Standardize(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer scale,
                       ffi::AnyBuffer bias, ffi::Result<ffi::AnyBuffer> z,
                       ffi::Result<ffi::AnyBuffer> mean, ffi::Result<ffi::AnyBuffer> variance,
                       Ints view, double epsilon, bool centre) {
  const auto body = [&] {
    const View v = ViewOf(view, ShapeOf(x), ShapeOf(*mean), ShapeOf(scale));
    Require(ShapeOf(*z) == ShapeOf(x) && ShapeOf(*variance) == ShapeOf(*mean) &&
                ShapeOf(bias) == ShapeOf(scale),
            "z must have x's shape, variance mean's, and bias scale's");
    Require(z->element_type() == x.element_type(), "z must have x's dtype");
    ForType(x.element_type(), "x", [&](auto type) {
      using Number = decltype(type);
      Forward<Number> f{Numbers<Number>(x),  Floats(scale, "scale"), Floats(bias, "bias"),
                        Numbers<Number>(*z), Floats(*mean, "mean"),  Floats(*variance, "variance")};
      for (int64_t i = 0; i < v.v; ++i) {
        v.lines() ? Lines<Number>(pool, v, f, epsilon, centre)
                  : Columns<Number>(pool, v, f, epsilon, centre);
        f.x += v.size(), f.z += v.size();
        f.scale += v.parameters(), f.bias += v.parameters();
        f.mean += v.statistics(), f.variance += v.statistics();
      }
    });
  };
  return Guarded("standardize", body, [&] { return CallText(x, scale, view); });
}

}  // namespace

#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(jconv_onednn_standardize, Standardize, Results(Operands()));
#pragma GCC visibility pop

}  // namespace jconv
