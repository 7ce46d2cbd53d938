// The gradient of standardisation with its affine map, in one go: dx, dscale and dbias.
//
//     dx = rstd * (t - mean(t) - y * mean(y * t)) + dmean / n + 2 * (x - mean) * dvariance / n
//     dscale = sum of dz * y, dbias = sum of dz
//
// with t = scale * dz and y = (x - mean) * rstd, which is computed again from x. Without `centre`
// mean(t) and dmean are left out. dz, x and dx are float32 or bfloat16, all else float32. x and dz
// are read from memory twice, once where what is normalised together, or all of one A, fits the
// cache; dx is written once.
//
// Source: as jconv.ops.standardize.

#include "norm.h"

namespace jconv {
namespace {

template <class Number>
struct Backward {
  const Number* dz;
  const float *dmean, *dvariance;
  const Number* x;
  const float *scale, *mean, *variance;
  Number* dx;
  float *dscale, *dbias;
};

template <class Number, bool kEach>
void GradLines(ffi::ThreadPool& pool, const View& v, const Backward<Number>& g, double epsilon,
               bool centre) {
  const int64_t n = v.r2, p = v.parameters(), parts = v.parts();
  const int64_t together = (v.statistics() + parts - 1) / parts;
  const std::vector<float> scale = ByLane(v, g.scale);
  std::vector<float> shares(parts * 2 * p);
  ParallelFor(pool, Threads(pool), parts, [&](int64_t part) {
    float* share = shares.data() + part * 2 * p;
    const int64_t last = std::min(v.statistics(), (part + 1) * together);
    for (int64_t i = part * together; i < last; ++i) {
      OnWidest<GradOfLine<Number, kEach>, const Number*, const Number*, int64_t, const float*,
               float, float, float, float, float, bool, Number*, float*, float*>(
          g.dz + i * n, g.x + i * n, n, scale.data(), g.mean[i], g.variance[i], g.dmean[i],
          g.dvariance[i], static_cast<float>(epsilon), centre, g.dx + i * n, share, share + p);
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

// dscale and dbias from the sums of each lane and each of A, times rstd where it is due.
template <class Number>
void AddUp(const View& v, const std::vector<double>& sums, const Backward<Number>& g) {
  const int64_t lanes = v.lanes();
  std::vector<double> dbias(v.parameters()), dscale(v.parameters());
  for (int64_t a = 0; a < v.a; ++a) {
    for (int64_t l = 0; l < lanes; ++l) {
      const int64_t p = v.parameter(l / v.r2, l % v.r2);
      dbias[p] += sums[a * 2 * lanes + l];
      dscale[p] += sums[a * 2 * lanes + lanes + l];
    }
  }
  std::copy(dbias.begin(), dbias.end(), g.dbias);
  std::copy(dscale.begin(), dscale.end(), g.dscale);
}

template <class Number>
void GradColumns(ffi::ThreadPool& pool, const View& v, const Backward<Number>& g, double epsilon,
                 bool centre) {
  const int64_t lanes = v.lanes(), chunks = v.chunks();
  const std::vector<float> scale = ByLane(v, g.scale);
  std::vector<float> parts(v.a * chunks * 2 * lanes), by_lane(v.a * 4 * lanes);
  std::vector<double> sums(v.a * 2 * lanes);
  for (int64_t a = 0; a < v.a; ++a) {
    for (int64_t l = 0; l < lanes; ++l) by_lane[a * 4 * lanes + l] = g.mean[a * v.b + l / v.r2];
  }
  const auto sum = [&](int64_t a, int64_t chunk) {
    const int64_t start = v.start(a, chunk);
    OnWidest<ProductsOfColumns<Number>, const Number*, const Number*, int64_t, int64_t,
             const float*, float*>(g.dz + start, g.x + start, v.rows_of(chunk), lanes,
                                   by_lane.data() + a * 4 * lanes,
                                   parts.data() + (a * chunks + chunk) * 2 * lanes);
  };
  const auto merge = [&](int64_t a, int64_t b) {
    const int64_t i = a * v.b + b;
    const double rstd = 1.0 / std::sqrt(g.variance[i] + epsilon);
    double sum = 0, product = 0;
    for (int64_t l = b * v.r2; l < (b + 1) * v.r2; ++l) {
      double of_lane = 0, product_of_lane = 0;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        const float* part = parts.data() + (a * chunks + chunk) * 2 * lanes;
        of_lane += part[l], product_of_lane += part[lanes + l];
      }
      sums[a * 2 * lanes + l] = of_lane;
      sums[a * 2 * lanes + lanes + l] = product_of_lane * rstd;
      sum += scale[l] * of_lane, product += scale[l] * product_of_lane;
    }
    const double n = static_cast<double>(v.r1) * static_cast<double>(v.r2);
    const GradTerms terms = TermsOf(sum, product, n, g.mean[i], g.variance[i], g.dmean[i],
                                    g.dvariance[i], epsilon, centre);
    float* lane = by_lane.data() + a * 4 * lanes;
    for (int64_t l = b * v.r2; l < (b + 1) * v.r2; ++l) {
      lane[lanes + l] = terms.factor * scale[l];
      lane[2 * lanes + l] = terms.slope;
      lane[3 * lanes + l] = terms.offset;
    }
  };
  const auto write = [&](int64_t a, int64_t chunk) {
    const int64_t start = v.start(a, chunk);
    OnWidest<GradOfColumns<Number>, const Number*, const Number*, int64_t, int64_t, const float*,
             Number*>(g.dz + start, g.x + start, v.rows_of(chunk), lanes,
                      by_lane.data() + a * 4 * lanes, g.dx + start);
  };
  InTwoPasses(pool, v, sum, merge, write);
  AddUp(v, sums, g);
}

ffi::Error Grad(ffi::ThreadPool pool, ffi::AnyBuffer dz, ffi::AnyBuffer dmean,
                ffi::AnyBuffer dvariance, ffi::AnyBuffer x, ffi::AnyBuffer scale,
                ffi::AnyBuffer mean, ffi::AnyBuffer variance, ffi::Result<ffi::AnyBuffer> dx,
                ffi::Result<ffi::AnyBuffer> dscale, ffi::Result<ffi::AnyBuffer> dbias, Ints view,
                double epsilon, bool centre) {
  const auto body = [&] {
    const View v = ViewOf(view, ShapeOf(x), ShapeOf(mean), ShapeOf(scale));
    Require(ShapeOf(dz) == ShapeOf(x) && ShapeOf(*dx) == ShapeOf(x),
            "dz, x and dx must have the same shape");
    Require(ShapeOf(variance) == ShapeOf(mean) && ShapeOf(dmean) == ShapeOf(mean) &&
                ShapeOf(dvariance) == ShapeOf(mean),
            "the statistics must have the same shape");
    Require(ShapeOf(*dscale) == ShapeOf(scale) && ShapeOf(*dbias) == ShapeOf(scale),
            "dscale and dbias must have scale's shape");
    Require(dz.element_type() == x.element_type() && dx->element_type() == x.element_type(),
            "dz, x and dx must have the same dtype");
    ForType(x.element_type(), "x", [&](auto type) {
      using Number = decltype(type);
      Backward<Number> g{
          Numbers<Number>(dz),          Floats(dmean, "dmean"), Floats(dvariance, "dvariance"),
          Numbers<Number>(x),           Floats(scale, "scale"), Floats(mean, "mean"),
          Floats(variance, "variance"), Numbers<Number>(*dx),   Floats(*dscale, "dscale"),
          Floats(*dbias, "dbias")};
      const auto lines = v.pr > 1 ? GradLines<Number, true> : GradLines<Number, false>;
      const auto run = v.lines() ? lines : GradColumns<Number>;
      for (int64_t i = 0; i < v.v; ++i) {
        run(pool, v, g, epsilon, centre);
        g.dz += v.size(), g.x += v.size(), g.dx += v.size();
        g.scale += v.parameters(), g.dscale += v.parameters(), g.dbias += v.parameters();
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
                                          .Arg<ffi::AnyBuffer>()));
#pragma GCC visibility pop

}  // namespace jconv
