#include "winograd.h"

#include <cstring>
#include <exception>

#include "pages.h"
#include "scratch.h"
#include "threads.h"
#include "winograd_desk.h"

namespace jconv {
namespace {

constexpr size_t kMostPlans = 256;
constexpr int64_t kAtOnce = 4096;  // pairs of channels of a filter that a task transforms

Cache<WinogradPlan>& Plans() {
  static Cache<WinogradPlan> plans(kMostPlans);
  return plans;
}

template <class Matrix>
void Transform(const float* const* from, float* const* to, int64_t channels) {
  OnWidest<TransformTile<Matrix>, const float* const*, float* const*, int64_t>(from, to, channels);
}

// Calls `f(i)` for i from 0 to n - 1 on XLA's threads, OpenMP on one thread in each; the first
// error is thrown again.
template <class F>
void EachAlone(ffi::ThreadPool& pool, int64_t n, const F& f) {
  std::mutex mutex;
  std::exception_ptr failure;
  ParallelFor(pool, Threads(pool), n, [&](int64_t i) {
    try {
      const Team alone(1);
      f(i);
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  });
  if (failure) std::rethrow_exception(failure);
}

// Calls `f(first, last)` for parts of a filter's pairs of channels, on all threads.
template <class F>
void OverFilter(ffi::ThreadPool& pool, int64_t pairs, const F& f) {
  InParts(pool, pairs, (pairs + kAtOnce - 1) / kAtOnce, f);
}

// What a tile sees outside of an image.
float* Zeros(const WinogradPlan& plan, Scratch& memory_left) {
  const size_t bytes = plan.zeros.get_size();
  return static_cast<float*>(std::memset(memory_left.Take(bytes), 0, bytes));
}

// The filter, transformed, in the order that the products like, span by span.
void TransformFilter(ffi::ThreadPool& pool, const WinogradSpec& spec, const WinogradPlan& plan,
                     const float* w, float* planes, char* best, char* pad) {
  const int64_t pairs = spec.w[2] * spec.w[3], apart = plan.filter.get_strides()[0];
  OverFilter(pool, pairs, [&](int64_t first, int64_t last) {
    const Column<const float, kTaps * kTaps> taps(w + first, pairs, spec.transposed);
    const Column<float, kPoints> points(planes + first, apart);
    Transform<TapsToPoints>(taps.at, points.at, last - first);
  });
  const int64_t span = plan.plane.get_dims()[1] * plan.plane.get_strides()[1];
  const int64_t best_apart = plan.second.get_strides()[0] * sizeof(float);
  const int64_t best_span = plan.second.get_size();
  const size_t pad_apart = Aligned(plan.reorder_scratchpad.get_size());
  EachAlone(pool, kPoints * plan.spans, [&](int64_t i) {
    const int64_t s = i / kPoints, p = i % kPoints;
    float* from = planes + s * span + p * apart;
    char* to = best + s * best_span + p * best_apart;
    dnnl::stream stream(Engine());
    const memory pad_of(plan.reorder_scratchpad, Engine(), pad + i * pad_apart);
    plan.reorder.execute(stream, {{DNNL_ARG_FROM, memory(plan.plane, Engine(), from)},
                                  {DNNL_ARG_TO, memory(plan.best_plane, Engine(), to)},
                                  {DNNL_ARG_SCRATCHPAD, pad_of}});
    stream.wait();
  });
}

void Correlate(ffi::ThreadPool& pool, const WinogradSpec& spec, const WinogradPlan& plan,
               const float* x, const float* w, float* y, Scratch memory_left) {
  float* planes = reinterpret_cast<float*>(memory_left.Take(plan.filter.get_size()));
  char* best = memory_left.Take(plan.spans * plan.second.get_size());
  const size_t pads = kPoints * plan.spans * Aligned(plan.reorder_scratchpad.get_size());
  TransformFilter(pool, spec, plan, w, planes, best, memory_left.Take(pads));
  const float* zeros = Zeros(plan, memory_left);
  char* desks = memory_left.Take(plan.workers * plan.desk());
  const Tiles tiles(spec);
  Shares parts(plan.parts, plan.workers);
  EachAlone(pool, plan.workers, [&](int64_t worker) {
    const Desk desk(plan, desks + worker * plan.desk(), best);
    parts.Work([&](int64_t part) {
      const int64_t begin = part * plan.together;
      const int64_t count = std::min(plan.together, spec.tiles() - begin);
      for (int64_t i = 0; i < count; ++i) {
        const float* pixels[kPoints];
        tiles.Seen(begin + i, x, zeros, pixels);
        for (int64_t s = 0; s < plan.spans; ++s) {
          Transform<PixelsToPoints>(pixels, desk.span(s).row(i).at, desk.first.columns);
          for (const float*& pixel : pixels) pixel += desk.first.columns;
        }
      }
      desk.Multiply();  // the rows from `count` on give what nobody reads
      for (int64_t i = 0; i < count; ++i) {
        float* pixels[kStep * kStep];
        tiles.Filled(begin + i, y, desk.outside, pixels);
        Transform<PointsToOutput>(desk.result.read(i).at, pixels, spec.y[3]);
      }
    });
  });
}

// dw from the workers' sums, which are added to the first worker's, `sums`, in order; the others
// follow, `apart` numbers from each other.
void AddUp(ffi::ThreadPool& pool, const WinogradSpec& spec, int64_t workers, Points sums,
           int64_t apart, float* dw) {
  const int64_t pairs = spec.w[2] * spec.w[3];
  OverFilter(pool, pairs, [&](int64_t first, int64_t last) {
    for (int64_t worker = 1; worker < workers; ++worker) {
      for (int p = 0; p < kPoints; ++p) {
        float* to = sums.data + p * sums.plane;
        const float* from = to + worker * apart;
        for (int64_t i = first; i < last; ++i) to[i] += from[i];
      }
    }
    const Column<const float, kPoints> points(sums.data + first, sums.plane);
    const Column<float, kTaps * kTaps> taps(dw + first, pairs);
    Transform<PointsToTaps>(points.at, taps.at, last - first);
  });
}

void FilterGrad(ffi::ThreadPool& pool, const WinogradSpec& spec, const WinogradPlan& plan,
                const float* x, const float* dy, float* dw, Scratch memory_left) {
  const float* zeros = Zeros(plan, memory_left);
  char* desks = memory_left.Take(plan.workers * plan.desk());
  const Tiles tiles(spec);
  EachAlone(pool, plan.workers, [&](int64_t worker) {
    const Desk desk(plan, desks + worker * plan.desk(), nullptr);
    desk.result.Clear(0, spec.x[3]);
    const int64_t end = (worker + 1) * plan.parts / plan.workers;
    for (int64_t part = worker * plan.parts / plan.workers; part < end; ++part) {
      const int64_t begin = part * plan.together;
      const int64_t count = std::min(plan.together, spec.tiles() - begin);
      for (int64_t i = 0; i < count; ++i) {
        const float *seen[kPoints], *filled[kStep * kStep];
        tiles.Seen(begin + i, x, zeros, seen);
        tiles.Filled(begin + i, dy, zeros, filled);
        Transform<PixelsToPoints>(seen, desk.first.row(i).at, spec.x[3]);
        Transform<OutputToPoints>(filled, desk.second.row(i).at, spec.y[3]);
      }
      desk.first.Clear(count, plan.together);
      desk.second.Clear(count, plan.together);
      desk.Multiply();  // added to what is there
    }
  });
  AddUp(pool, spec, plan.workers, Desk(plan, desks, nullptr).result, plan.desk() / sizeof(float),
        dw);
}

template <class Run>
ffi::Error Handle(const char* op, ffi::ThreadPool& pool, WinogradSpec spec, const Run& run,
                  const ffi::AnyBuffer& x, const ffi::AnyBuffer& w, const ffi::AnyBuffer& y,
                  const ffi::AnyBuffer& scratch, Ints lo) {
  const auto body = [&] {
    spec.x = ShapeOf(x), spec.w = ShapeOf(w), spec.y = ShapeOf(y), spec.lo = DimsOf(lo);
    spec.Check();
    spec.threads = Threads(pool);
    const auto plan = Plans().Get(spec.key(), [&] { return WinogradPlan(spec); });
    run(spec, *plan, Scratch(scratch, plan->scratch()));
  };
  return Guarded(op, body, [&] { return spec.Text(); });
}

ffi::Error HandleCorrelate(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer w,
                           ffi::Result<ffi::AnyBuffer> y, ffi::Result<ffi::AnyBuffer> scratch,
                           Ints lo, bool transposed) {
  WinogradSpec spec;
  spec.transposed = transposed;
  const auto run = [&](const WinogradSpec& call, const WinogradPlan& plan, Scratch memory_left) {
    OnHugePages(*y);
    Correlate(pool, call, plan, Floats(x, "x"), Floats(w, "w"), Floats(*y, "y"),
              std::move(memory_left));
  };
  return Handle("winograd", pool, spec, run, x, w, *y, *scratch, lo);
}

ffi::Error HandleFilterGrad(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer dy,
                            ffi::Result<ffi::AnyBuffer> dw, ffi::Result<ffi::AnyBuffer> scratch,
                            Ints lo) {
  WinogradSpec spec;
  spec.filter_grad = true;
  const auto run = [&](const WinogradSpec& call, const WinogradPlan& plan, Scratch memory_left) {
    FilterGrad(pool, call, plan, Floats(x, "x"), Floats(dy, "dy"), Floats(*dw, "dw"),
               std::move(memory_left));
  };
  return Handle("winograd_filter_grad", pool, spec, run, x, *dw, dy, *scratch, lo);
}

auto Binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<ffi::AnyBuffer>()
      .Arg<ffi::AnyBuffer>()
      .Ret<ffi::AnyBuffer>()
      .Ret<ffi::AnyBuffer>()
      .Attr<Ints>("lo");
}

}  // namespace

#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(jconv_onednn_winograd, HandleCorrelate,
                              Binding().Attr<bool>("transposed"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(jconv_onednn_winograd_filter_grad, HandleFilterGrad, Binding());
#pragma GCC visibility pop

}  // namespace jconv
