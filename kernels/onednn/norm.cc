// Standardisation over some axes, and the symmetric Jacobian behind every norm.
//
//     standardize        y = (x - mean) * rstd, rstd = (variance + epsilon)^(-1/2); mean, variance
//     standardize grad   dx = rstd * (t - mean(t) - y * mean(y * t))
//
// Without `centre` nothing is subtracted: mean is 0, the variance is the mean square. x is seen as
// A R1 B R2 with statistics A B: batch norm is 1 NHW C 1, layer norm 1 1 NHW C, instance norm
// N HW C 1, group norm N HW G C/G. x is float32 or bfloat16, all else float32. How sums are split
// depends on the shape alone, never on the number of threads.
//
// Sources: as jconv.ops.standardize; Chan, Golub & LeVeque 1983 for the merging of moments.

#include "norm_rows.h"
#include "pages.h"
#include "threads.h"

namespace jconv {
namespace {

constexpr int64_t kChunks = 64;  // parts that the sums are split into, for as many threads

struct View {
  int64_t a, r1, b, r2;

  int64_t lanes() const { return b * r2; }
  int64_t size() const { return a * r1 * b * r2; }
  // What is normalised together lies together.
  bool lines() const { return r1 == 1; }
  // Parts of the rows of each of A, and the rows of one part.
  int64_t chunks() const {
    const int64_t wanted = std::max<int64_t>(1, kChunks / a);
    return std::clamp<int64_t>(r1 * lanes() / kBlock, 1, std::min(wanted, r1));
  }
  int64_t rows() const { return (r1 + chunks() - 1) / chunks(); }
};

View ViewOf(Ints view, const Dims& shape, const Dims& statistics) {
  Require(view.size() == 4, "view must be A, R1, B, R2");
  const View v{view[0], view[1], view[2], view[3]};
  Require(v.a >= 1 && v.r1 >= 1 && v.b >= 1 && v.r2 >= 1, "view must be at least 1");
  Require(v.size() == Product(shape), "view must have as many numbers as x");
  Require(Product(statistics) == v.a * v.b, "statistics must be as many as A B");
  return v;
}

float* Floats(const ffi::AnyBuffer& buffer, const char* name) {
  Require(buffer.element_type() == ffi::DataType::F32, std::string(name) + " must be float32");
  return static_cast<float*>(buffer.untyped_data());
}

// Calls `f(start, count)` for parts of 0 to n - 1 of about `together` each, on all threads.
template <class F>
void InParts(ffi::ThreadPool& pool, int64_t n, int64_t together, const F& f) {
  together = std::max<int64_t>(1, together);
  ParallelFor(pool, Threads(pool), (n + together - 1) / together, [&](int64_t part) {
    const int64_t start = part * together;
    f(start, std::min(together, n - start));
  });
}

// Calls `f(a, chunk, first row, rows)` for every part of the rows.
template <class F>
void OverChunks(ffi::ThreadPool& pool, const View& v, const F& f) {
  const int64_t chunks = v.chunks(), rows = v.rows();
  ParallelFor(pool, Threads(pool), v.a * chunks, [&](int64_t i) {
    const int64_t first = i % chunks * rows;
    f(i / chunks, i % chunks, first, std::clamp<int64_t>(v.r1 - first, 0, rows));
  });
}

template <class In>
void Lines(ffi::ThreadPool& pool, const View& v, const In* x, float epsilon, bool centre, float* y,
           float* mean, float* variance) {
  const int64_t n = v.r2;
  InParts(pool, v.a * v.b, 2 * kBlock / n, [=](int64_t start, int64_t count) {
    for (int64_t i = start; i < start + count; ++i) {
      OnWidest<StandardizeLine<In>, const In*, int64_t, float, bool, float*, float*, float*>(
          x + i * n, n, epsilon, centre, y + i * n, mean + i, variance + i);
    }
  });
}

template <class In>
void Columns(ffi::ThreadPool& pool, const View& v, const In* x, float epsilon, bool centre,
             float* y, float* mean, float* variance) {
  const int64_t lanes = v.lanes(), chunks = v.chunks();
  std::vector<float> moments(v.a * chunks * 4 * lanes), by_lane(v.a * 2 * lanes);
  const auto at = [&](int64_t a, int64_t chunk) {
    return moments.data() + (a * chunks + chunk) * 4 * lanes;
  };
  OverChunks(pool, v, [&](int64_t a, int64_t chunk, int64_t first, int64_t rows) {
    OnWidest<MomentsOfColumns<In>, const In*, int64_t, int64_t, bool, float*>(
        x + (a * v.r1 + first) * lanes, rows, lanes, centre, at(a, chunk));
  });
  InParts(pool, v.a * v.b, kBlock / (chunks * v.r2), [&](int64_t start, int64_t count) {
    for (int64_t i = start; i < start + count; ++i) {
      const int64_t a = i / v.b, b = i % v.b;
      double n = 0, m = 0, squares = 0;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        const auto rows =
            static_cast<double>(std::clamp<int64_t>(v.r1 - chunk * v.rows(), 0, v.rows()));
        if (rows == 0) continue;
        const float* part = at(a, chunk);
        for (int64_t l = b * v.r2; l < (b + 1) * v.r2; ++l) {
          const double distance = part[l] - m;
          m += distance * rows / (n + rows);
          squares += part[lanes + l] + distance * distance * n * rows / (n + rows);
          n += rows;
        }
      }
      mean[i] = static_cast<float>(m);
      variance[i] = static_cast<float>(squares / n);
      const float rstd = 1.0f / std::sqrt(variance[i] + epsilon);
      float* lane = by_lane.data() + a * 2 * lanes + b * v.r2;
      std::fill_n(lane, v.r2, mean[i]);
      std::fill_n(lane + lanes, v.r2, rstd);
    }
  });
  OverChunks(pool, v, [&](int64_t a, int64_t, int64_t first, int64_t rows) {
    const int64_t from = (a * v.r1 + first) * lanes;
    const float* lane = by_lane.data() + a * 2 * lanes;
    OnWidest<StandardizeColumns<In>, const In*, int64_t, int64_t, const float*, const float*,
             float*>(x + from, rows, lanes, lane, lane + lanes, y + from);
  });
}

void GradLines(ffi::ThreadPool& pool, const View& v, const float* t, const float* y,
               const float* rstd, bool centre, float* dx) {
  const int64_t n = v.r2;
  InParts(pool, v.a * v.b, kBlock / n, [=](int64_t start, int64_t count) {
    for (int64_t i = start; i < start + count; ++i) {
      OnWidest<ProjectLine, const float*, const float*, int64_t, float, bool, float*>(
          t + i * n, y + i * n, n, rstd[i], centre, dx + i * n);
    }
  });
}

void GradColumns(ffi::ThreadPool& pool, const View& v, const float* t, const float* y,
                 const float* rstd, bool centre, float* dx) {
  const int64_t lanes = v.lanes(), chunks = v.chunks();
  std::vector<float> sums(v.a * chunks * 2 * lanes), by_lane(v.a * 3 * lanes);
  OverChunks(pool, v, [&](int64_t a, int64_t chunk, int64_t first, int64_t rows) {
    const int64_t from = (a * v.r1 + first) * lanes;
    OnWidest<ProductsOfColumns, const float*, const float*, int64_t, int64_t, float*>(
        t + from, y + from, rows, lanes, sums.data() + (a * chunks + chunk) * 2 * lanes);
  });
  const double n = static_cast<double>(v.r1) * static_cast<double>(v.r2);
  InParts(pool, v.a * v.b, kBlock / (chunks * v.r2), [&](int64_t start, int64_t count) {
    for (int64_t i = start; i < start + count; ++i) {
      const int64_t a = i / v.b, b = i % v.b;
      double sum = 0, product = 0;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        const float* part = sums.data() + (a * chunks + chunk) * 2 * lanes;
        for (int64_t l = b * v.r2; l < (b + 1) * v.r2; ++l) {
          sum += part[l], product += part[lanes + l];
        }
      }
      float* lane = by_lane.data() + a * 3 * lanes + b * v.r2;
      std::fill_n(lane, v.r2, centre ? static_cast<float>(sum / n) : 0.0f);
      std::fill_n(lane + lanes, v.r2, static_cast<float>(product / n));
      std::fill_n(lane + 2 * lanes, v.r2, rstd[i]);
    }
  });
  OverChunks(pool, v, [&](int64_t a, int64_t, int64_t first, int64_t rows) {
    const int64_t from = (a * v.r1 + first) * lanes;
    const float* lane = by_lane.data() + a * 3 * lanes;
    OnWidest<ProjectColumns, const float*, const float*, int64_t, int64_t, const float*,
             const float*, const float*, float*>(t + from, y + from, rows, lanes, lane,
                                                 lane + lanes, lane + 2 * lanes, dx + from);
  });
}

std::string CallText(const ffi::AnyBuffer& x, const ffi::AnyBuffer& statistics, Ints view) {
  return "x " + Text(ShapeOf(x)) + ", statistics " + Text(ShapeOf(statistics)) + ", view " +
         Text(DimsOf(view));
}

ffi::Error Standardize(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::Result<ffi::AnyBuffer> y,
                       ffi::Result<ffi::AnyBuffer> mean, ffi::Result<ffi::AnyBuffer> variance,
                       Ints view, double epsilon, bool centre) {
  const auto body = [&] {
    const View v = ViewOf(view, ShapeOf(x), ShapeOf(*mean));
    Require(ShapeOf(*y) == ShapeOf(x) && ShapeOf(*variance) == ShapeOf(*mean),
            "y must have x's shape, and variance mean's");
    AskForHugePages(*y);
    float *to = Floats(*y, "y"), *m = Floats(*mean, "mean"), *s = Floats(*variance, "variance");
    ForType(x.element_type(), "x", [&](auto type) {
      const auto* from = static_cast<const decltype(type)*>(x.untyped_data());
      (v.lines() ? Lines<decltype(type)> : Columns<decltype(type)>)(pool, v, from,
                                                                    static_cast<float>(epsilon),
                                                                    centre, to, m, s);
    });
  };
  return Guarded("standardize", body, [&] { return CallText(x, *mean, view); });
}

ffi::Error Grad(ffi::ThreadPool pool, ffi::AnyBuffer t, ffi::AnyBuffer y, ffi::AnyBuffer rstd,
                ffi::Result<ffi::AnyBuffer> dx, Ints view, bool centre) {
  const auto body = [&] {
    const View v = ViewOf(view, ShapeOf(t), ShapeOf(rstd));
    Require(ShapeOf(y) == ShapeOf(t) && ShapeOf(*dx) == ShapeOf(t),
            "t, y and dx must have the same shape");
    AskForHugePages(*dx);
    (v.lines() ? GradLines : GradColumns)(pool, v, Floats(t, "t"), Floats(y, "y"),
                                          Floats(rstd, "rstd"), centre, Floats(*dx, "dx"));
  };
  return Guarded("standardize_grad", body, [&] { return CallText(t, rstd, view); });
}

auto Operand() { return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<ffi::AnyBuffer>(); }

}  // namespace

#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(jconv_onednn_standardize, Standardize,
                              Operand()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<Ints>("view")
                                  .Attr<double>("epsilon")
                                  .Attr<bool>("centre"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(jconv_onednn_standardize_grad, Grad,
                              Operand()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<Ints>("view")
                                  .Attr<bool>("centre"));
#pragma GCC visibility pop

}  // namespace jconv
