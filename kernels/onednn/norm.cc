// Standardisation with its affine map, behind every norm.
//
//     z = (x - mean) * rstd * scale + bias, rstd = (variance + epsilon)^(-1/2); mean, variance
//
// held between low and high. Without `centre` nothing is subtracted: mean is 0, the variance is the
// mean square. x and z are float32 or bfloat16, all else float32. x is read from memory twice, once
// where what is normalised together, or all of one A, fits the cache; z is written once.
//
// Sources: as jconv.ops.standardize; Chan, Golub & LeVeque 1983 for the merging of moments.

#include "norm.h"

#include "pages.h"

namespace jconv {
namespace {

template <class Number>
struct Forward {
  const Number* x;
  const float *scale, *bias;
  Bounds bounds;
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
               const float*, Bounds, Number*, float*, float*>(
          f.x + i * n, n, static_cast<float>(epsilon), centre, scale.data(), bias.data(), f.bounds,
          f.z + i * n, f.mean + i, f.variance + i);
    }
  });
}

// The columns of one of V: moments of parts of the rows, what they say of each lane, z.
template <class Number>
class StandardizedColumns {
 public:
  StandardizedColumns(const View& view, const Forward<Number>& arrays, double epsilon, bool centre)
      : v_(view), f_(arrays), epsilon_(epsilon), centre_(centre) {}

  void Sum(int64_t a, int64_t chunk) {
    OnWidest<MomentsOfColumns<Number>, const Number*, int64_t, int64_t, bool, float*>(
        f_.x + v_.start(a, chunk), v_.rows_of(chunk), lanes_, centre_, of_part(a, chunk));
  }

  void Merge(int64_t a, int64_t b) {
    double n = 0, m = 0, squares = 0;
    for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
      const auto rows = static_cast<double>(v_.rows_of(chunk));
      if (rows == 0) continue;
      const float* part = of_part(a, chunk);
      for (int64_t l = b * v_.r2; l < (b + 1) * v_.r2; ++l) {
        const double distance = static_cast<double>(part[l]) + part[lanes_ + l] - m;
        m += distance * rows / (n + rows);
        squares += part[2 * lanes_ + l] + distance * distance * n * rows / (n + rows);
        n += rows;
      }
    }
    const int64_t i = a * v_.b + b;
    f_.mean[i] = static_cast<float>(m);
    const double variance = std::max(squares / n, 0.0);  // a NaN stays one
    f_.variance[i] = static_cast<float>(variance);
    const double rstd = 1.0 / std::sqrt(variance + epsilon_);
    float* lane = of_lanes(a);
    for (int64_t l = b * v_.r2; l < (b + 1) * v_.r2; ++l) {
      lane[l] = f_.mean[i];
      lane[lanes_ + l] = static_cast<float>(rstd * scale_[l]);
      // With what the mean lost when it was rounded.
      lane[2 * lanes_ + l] = static_cast<float>(bias_[l] - (m - f_.mean[i]) * rstd * scale_[l]);
    }
  }

  void Write(int64_t a, int64_t chunk) {
    const int64_t start = v_.start(a, chunk);
    OnWidest<MapColumns<Number>, const Number*, int64_t, int64_t, const float*, Bounds, Number*>(
        f_.x + start, v_.rows_of(chunk), lanes_, of_lanes(a), f_.bounds, f_.z + start);
  }

 private:
  const View v_;
  const Forward<Number> f_;
  const double epsilon_;
  const bool centre_;
  const int64_t lanes_ = v_.lanes(), chunks_ = v_.chunks();
  const std::vector<float> scale_ = ByLane(v_, f_.scale), bias_ = ByLane(v_, f_.bias);
  std::vector<float> moments_ = std::vector<float>(v_.a * chunks_ * 5 * lanes_);
  std::vector<float> by_lane_ = std::vector<float>(v_.a * 3 * lanes_);

  float* of_lanes(int64_t a) { return by_lane_.data() + a * 3 * lanes_; }
  float* of_part(int64_t a, int64_t chunk) {
    return moments_.data() + (a * chunks_ + chunk) * 5 * lanes_;
  }
};

template <class Number>
void Columns(ffi::ThreadPool& pool, const View& v, const Forward<Number>& f, double epsilon,
             bool centre) {
  StandardizedColumns<Number> columns(v, f, epsilon, centre);
  InTwoPasses(pool, v, columns);
}

ffi::Error Standardize(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer scale,
                       ffi::AnyBuffer bias, ffi::Result<ffi::AnyBuffer> z,
                       ffi::Result<ffi::AnyBuffer> mean, ffi::Result<ffi::AnyBuffer> variance,
                       Ints view, double epsilon, bool centre, double low, double high) {
  const auto body = [&] {
    const View v = ViewOf(view, ShapeOf(x), ShapeOf(*mean), ShapeOf(scale));
    Require(ShapeOf(*z) == ShapeOf(x) && ShapeOf(*variance) == ShapeOf(*mean) &&
                ShapeOf(bias) == ShapeOf(scale),
            "z must have x's shape, variance mean's, and bias scale's");
    Require(z->element_type() == x.element_type(), "z must have x's dtype");
    ForType(x.element_type(), "x", [&](auto type) {
      using Number = decltype(type);
      OnHugePages(*z);
      Forward<Number> f{Numbers<Number>(x),           Floats(scale, "scale"), Floats(bias, "bias"),
                        BoundsOf(low, high),          Numbers<Number>(*z),    Floats(*mean, "mean"),
                        Floats(*variance, "variance")};
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
