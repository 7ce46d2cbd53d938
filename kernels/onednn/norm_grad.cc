// The gradient of standardisation with its affine map, in one go: dx, dscale and dbias.
//
//     dx = rstd * (t - mean(t) - y * mean(y * t)) + dmean / n + 2 * (x - mean) * dvariance / n
//     dscale = sum of dz * y, dbias = sum of dz
//
// with t = scale * dz and y = (x - mean) * rstd, which is computed again from x; dz is 0 where
// y * scale + bias is not between low and high. Without `centre` mean(t) and dmean are left out.
// dz, x and dx are float32 or bfloat16, all else float32. x and dz are read from memory twice, once
// where what is normalised together, or all of one A, fits the cache; dx is written once.
//
// Source: as jconv.ops.standardize.

#include "norm.h"
#include "norm_grad_rows.h"
#include "pages.h"

namespace jconv {
namespace {

template <class Number>
struct Backward {
  const Number* dz;
  const float *dmean, *dvariance;
  const Number* x;
  const float *scale, *bias, *mean, *variance;
  Bounds bounds;
  Number* dx;
  float *dscale, *dbias;
};

template <class Number, bool kEach, bool kHeld>
void GradLines(ffi::ThreadPool& pool, const View& v, const Backward<Number>& g, double epsilon,
               bool centre) {
  const int64_t n = v.r2, p = v.parameters(), parts = v.parts();
  const int64_t together = (v.statistics() + parts - 1) / parts;
  const std::vector<float> scale = ByLane(v, g.scale), bias = ByLane(v, g.bias);
  std::vector<float> shares(parts * 2 * p);
  ParallelFor(pool, Threads(pool), parts, [&](int64_t part) {
    float* share = shares.data() + part * 2 * p;
    const int64_t last = std::min(v.statistics(), (part + 1) * together);
    for (int64_t i = part * together; i < last; ++i) {
      OnWidest<GradOfLine<Number, kEach, kHeld>, const Number*, const Number*, int64_t,
               const float*, const float*, Bounds, float, float, float, float, float, bool, Number*,
               float*, float*>(g.dz + i * n, g.x + i * n, n, scale.data(), bias.data(), g.bounds,
                               g.mean[i], g.variance[i], g.dmean[i], g.dvariance[i],
                               static_cast<float>(epsilon), centre, g.dx + i * n, share, share + p);
    }
  });
  for (int64_t i = 0; i < p; ++i) {
    double dscale = 0, dbias = 0;
    for (int64_t part = 0; part < parts; ++part) {
      dscale += shares[part * 2 * p + i], dbias += shares[part * 2 * p + p + i];
    }
    g.dscale[i] = static_cast<float>(dscale), g.dbias[i] = static_cast<float>(dbias);
  }
}

// The columns of one of V: sums of parts of the rows, what they say of each lane, dx.
template <class Number, bool kHeld>
class ColumnsGrad {
 public:
  ColumnsGrad(const View& view, const Backward<Number>& arrays, double epsilon, bool centre)
      : v_(view), g_(arrays), epsilon_(epsilon), centre_(centre) {
    const std::vector<float> bias = ByLane(v_, g_.bias);
    for (int64_t a = 0; a < v_.a; ++a) {
      float* lane = of_lanes(a);
      for (int64_t l = 0; l < lanes_; ++l) {
        const int64_t i = a * v_.b + l / v_.r2;
        lane[l] = g_.mean[i];
        lane[lanes_ + l] = static_cast<float>(scale_[l] / std::sqrt(g_.variance[i] + epsilon));
        lane[2 * lanes_ + l] = bias[l];
      }
    }
  }

  void Sum(int64_t a, int64_t chunk) {
    const int64_t start = v_.start(a, chunk);
    OnWidest<ProductsOfColumns<Number, kHeld>, const Number*, const Number*, int64_t, int64_t,
             const float*, Bounds, float*>(g_.dz + start, g_.x + start, v_.rows_of(chunk), lanes_,
                                           of_lanes(a), g_.bounds, of_part(a, chunk));
  }

  void Merge(int64_t a, int64_t b) {
    const int64_t i = a * v_.b + b;
    const double rstd = 1.0 / std::sqrt(g_.variance[i] + epsilon_);
    double sum = 0, product = 0;
    for (int64_t l = b * v_.r2; l < (b + 1) * v_.r2; ++l) {
      double of_lane = 0, product_of_lane = 0;
      for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
        const float* part = of_part(a, chunk);
        of_lane += part[l], product_of_lane += part[lanes_ + l];
      }
      sums_[a * 2 * lanes_ + l] = of_lane;
      sums_[a * 2 * lanes_ + lanes_ + l] = product_of_lane * rstd;
      sum += scale_[l] * of_lane, product += scale_[l] * product_of_lane;
    }
    const double n = static_cast<double>(v_.r1) * static_cast<double>(v_.r2);
    const GradTerms terms = TermsOf(sum, product, n, g_.mean[i], g_.variance[i], g_.dmean[i],
                                    g_.dvariance[i], epsilon_, centre_);
    float* lane = of_lanes(a);
    for (int64_t l = b * v_.r2; l < (b + 1) * v_.r2; ++l) {
      lane[3 * lanes_ + l] = terms.slope;
      lane[4 * lanes_ + l] = terms.offset;
    }
  }

  void Write(int64_t a, int64_t chunk) {
    const int64_t start = v_.start(a, chunk);
    OnWidest<GradOfColumns<Number, kHeld>, const Number*, const Number*, int64_t, int64_t,
             const float*, Bounds, Number*>(g_.dz + start, g_.x + start, v_.rows_of(chunk), lanes_,
                                            of_lanes(a), g_.bounds, g_.dx + start);
  }

  // dscale and dbias, when all else is done.
  void AddUp() const {
    std::vector<double> dbias(v_.parameters()), dscale(v_.parameters());
    for (int64_t a = 0; a < v_.a; ++a) {
      for (int64_t l = 0; l < lanes_; ++l) {
        const int64_t p = v_.parameter(l / v_.r2, l % v_.r2);
        dbias[p] += sums_[a * 2 * lanes_ + l];
        dscale[p] += sums_[a * 2 * lanes_ + lanes_ + l];
      }
    }
    std::copy(dbias.begin(), dbias.end(), g_.dbias);
    std::copy(dscale.begin(), dscale.end(), g_.dscale);
  }

 private:
  const View v_;
  const Backward<Number> g_;
  const double epsilon_;
  const bool centre_;
  const int64_t lanes_ = v_.lanes(), chunks_ = v_.chunks();
  const std::vector<float> scale_ = ByLane(v_, g_.scale);
  std::vector<float> parts_ = std::vector<float>(v_.a * chunks_ * 2 * lanes_);
  // Of each of A what GradOfColumns reads, and the sums of dz and of dz * y.
  std::vector<float> by_lane_ = std::vector<float>(v_.a * 5 * lanes_);
  std::vector<double> sums_ = std::vector<double>(v_.a * 2 * lanes_);

  float* of_lanes(int64_t a) { return by_lane_.data() + a * 5 * lanes_; }
  float* of_part(int64_t a, int64_t chunk) {
    return parts_.data() + (a * chunks_ + chunk) * 2 * lanes_;
  }
};

template <class Number, bool kHeld>
void GradColumns(ffi::ThreadPool& pool, const View& v, const Backward<Number>& g, double epsilon,
                 bool centre) {
  ColumnsGrad<Number, kHeld> grad(v, g, epsilon, centre);
  InTwoPasses(pool, v, grad);
  grad.AddUp();
}

// The loops for a call, as they are compiled for it.
template <class Number, bool kHeld>
auto Loops(const View& v) {
  if (!v.lines()) return GradColumns<Number, kHeld>;
  return v.pr > 1 ? GradLines<Number, true, kHeld> : GradLines<Number, false, kHeld>;
}

ffi::Error Grad(ffi::ThreadPool pool, ffi::AnyBuffer dz, ffi::AnyBuffer dmean,
                ffi::AnyBuffer dvariance, ffi::AnyBuffer x, ffi::AnyBuffer scale,
                ffi::AnyBuffer bias, ffi::AnyBuffer mean, ffi::AnyBuffer variance,
                ffi::Result<ffi::AnyBuffer> dx, ffi::Result<ffi::AnyBuffer> dscale,
                ffi::Result<ffi::AnyBuffer> dbias, Ints view, double epsilon, bool centre,
                double low, double high) {
  const auto body = [&] {
    const View v = ViewOf(view, ShapeOf(x), ShapeOf(mean), ShapeOf(scale));
    Require(ShapeOf(dz) == ShapeOf(x) && ShapeOf(*dx) == ShapeOf(x),
            "dz, x and dx must have the same shape");
    Require(ShapeOf(variance) == ShapeOf(mean) && ShapeOf(dmean) == ShapeOf(mean) &&
                ShapeOf(dvariance) == ShapeOf(mean),
            "the statistics must have the same shape");
    Require(ShapeOf(bias) == ShapeOf(scale) && ShapeOf(*dscale) == ShapeOf(scale) &&
                ShapeOf(*dbias) == ShapeOf(scale),
            "bias, dscale and dbias must have scale's shape");
    Require(dz.element_type() == x.element_type() && dx->element_type() == x.element_type(),
            "dz, x and dx must have the same dtype");
    ForType(x.element_type(), "x", [&](auto type) {
      using Number = decltype(type);
      OnHugePages(*dx);
      Backward<Number> g{
          Numbers<Number>(dz),  Floats(dmean, "dmean"),       Floats(dvariance, "dvariance"),
          Numbers<Number>(x),   Floats(scale, "scale"),       Floats(bias, "bias"),
          Floats(mean, "mean"), Floats(variance, "variance"), BoundsOf(low, high),
          Numbers<Number>(*dx), Floats(*dscale, "dscale"),    Floats(*dbias, "dbias")};
      const auto run = g.bounds.any() ? Loops<Number, true>(v) : Loops<Number, false>(v);
      for (int64_t i = 0; i < v.v; ++i) {
        run(pool, v, g, epsilon, centre);
        g.dz += v.size(), g.x += v.size(), g.dx += v.size();
        g.scale += v.parameters(), g.bias += v.parameters();
        g.dscale += v.parameters(), g.dbias += v.parameters();
        g.mean += v.statistics(), g.variance += v.statistics();
        g.dmean += v.statistics(), g.dvariance += v.statistics();
      }
    });
  };
  return Guarded("standardize_grad", body, [&] { return CallText(x, scale, view); });
}

}  // namespace

#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(jconv_onednn_standardize_grad, Grad,
                              Results(Operands()
                                          .Arg<ffi::AnyBuffer>()
                                          .Arg<ffi::AnyBuffer>()
                                          .Arg<ffi::AnyBuffer>()
                                          .Arg<ffi::AnyBuffer>()
                                          .Arg<ffi::AnyBuffer>()));
#pragma GCC visibility pop

}  // namespace jconv
