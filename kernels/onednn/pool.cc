// Pooling over windows, channels last, with the semantics of jconv.ops.winner and avg_pool.
//
//     max pool      y = the largest pixel of each window, and which tap of the window it was
//     take          y = the pixel of each window that a tap reads
//     put           dx = dy at the winners: each pixel sums the windows that it won
//     window sum    y = the sum of each window, by a number or by how many of its pixels count
//     spread        dx = each pixel sums the windows that hold it, by the same
//
// Shapes: x, dx  N *spatial C    y, dy, tap  N *output C    one to three spatial axes
// A tap counts the pixels of a window, row-major; of equal pixels the first wins, of NaN too. A
// window of padding alone is -inf, tap 0. The two adjoints gather: every number is written once, by
// one thread, and its sum is taken in the order of the taps, so it is the same in every run.

#include <type_traits>

#include "pages.h"
#include "pool_rows.h"
#include "threads.h"

namespace jconv {
namespace {

Pooling PoolingOf(const ffi::AnyBuffer& x, const ffi::AnyBuffer& y, Ints size, Ints stride,
                  Ints pads, Ints dilation, Ints counted = {}) {
  return {ShapeOf(x),       ShapeOf(y),   DimsOf(size),   DimsOf(stride),
          DimsOf(dilation), DimsOf(pads), DimsOf(counted)};
}

// Runs a kernel of pool_rows.h on every row of targets.
template <class Kernel>
void OverRows(ffi::ThreadPool& pool, const Pooling& call, bool adjoint, const Kernel& kernel) {
  const Axes axes = call.AxesOf(adjoint);
  const int64_t channels = call.x.back();
  const int64_t image = Pooling::Numbers(adjoint ? call.y : call.x);
  const int64_t rows = call.x[0] * axes[0].targets * axes[1].targets;
  const int64_t work = std::max<int64_t>(1, axes[2].targets * channels);
  const int64_t together =
      std::max<int64_t>(1, 16384 / work);  // rows, so that a task takes a while
  ParallelFor(pool, Threads(pool), (rows + together - 1) / together, [&](int64_t task) {
    const int64_t end = std::min(rows, (task + 1) * together);
    for (int64_t row = task * together; row < end; ++row) {
      OnWidest<Row<Kernel>, const Axes*, int64_t, int64_t, int64_t, const Kernel*>(
          &axes, image, channels, row, &kernel);
    }
  });
}

// Calls `f` with the taps: uint8 where that can count them.
template <class F>
void ForTap(const ffi::AnyBuffer& tap, const Dims& shape, const F& f) {
  Require(ShapeOf(tap) == shape, "tap must have the shape of y");
  if (tap.element_type() == ffi::DataType::U8) return f(static_cast<uint8_t*>(tap.untyped_data()));
  Require(tap.element_type() == ffi::DataType::S32, "tap must be uint8 or int32");
  f(static_cast<int32_t*>(tap.untyped_data()));
}

template <class T>
T* Data(const ffi::AnyBuffer& buffer) {
  return static_cast<T*>(buffer.untyped_data());
}

ffi::Error MaxPool(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::Result<ffi::AnyBuffer> y,
                   ffi::RemainingRets rest, Ints size, Ints stride, Ints pads, Ints dilation) {
  const auto call = PoolingOf(x, *y, size, stride, pads, dilation);
  const auto body = [&] {
    call.Check();
    OnHugePages(*y);
    Require(x.element_type() == y->element_type(), "x and y must have the same dtype");
    ForType(x.element_type(), "x", [&](auto type) {
      using T = decltype(type);
      if (rest.size() == 0) {
        return OverRows(pool, call, false, Largest<T>{Data<const T>(x), Data<T>(*y)});
      }
      const ffi::AnyBuffer taps = **rest.get<ffi::AnyBuffer>(0);
      ForTap(taps, call.y, [&](auto* tap) {
        using Tap = std::remove_pointer_t<decltype(tap)>;
        OverRows(pool, call, false, LargestAndTap<T, Tap>{Data<const T>(x), Data<T>(*y), tap});
      });
    });
  };
  return Guarded("max_pool", body, [&] { return call.Text(); });
}

// Calls `f` with one number of the operand's type and one of the result's.
template <class F>
void ForTypes(const ffi::AnyBuffer& from, const ffi::AnyBuffer& to, const F& f) {
  ForType(from.element_type(), "the operand", [&](auto in) {
    ForType(to.element_type(), "the result", [&](auto out) { f(in, out); });
  });
}

// Along the taps: from pixels to windows, or, `adjoint`, back.
template <template <class, class, class> class Kernel>
ffi::Error AlongTaps(const char* op, ffi::ThreadPool pool, bool adjoint, const Pooling& call,
                     const ffi::AnyBuffer& from, const ffi::AnyBuffer& taps,
                     const ffi::AnyBuffer& to) {
  const auto body = [&] {
    call.Check();
    OnHugePages(to);
    ForTypes(from, to, [&](auto in, auto out) {
      using In = decltype(in);
      using Out = decltype(out);
      ForTap(taps, call.y, [&](auto* tap) {
        using Tap = std::remove_pointer_t<decltype(tap)>;
        OverRows(pool, call, adjoint,
                 Kernel<In, Out, Tap>{Data<const In>(from), tap, Data<Out>(to)});
      });
    });
  };
  return Guarded(op, body, [&] { return call.Text(); });
}

ffi::Error Take(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer tap,
                ffi::Result<ffi::AnyBuffer> y, Ints size, Ints stride, Ints pads, Ints dilation) {
  const auto call = PoolingOf(x, *y, size, stride, pads, dilation);
  return AlongTaps<Taken>("pool_take", pool, false, call, x, tap, *y);
}

ffi::Error Put(ffi::ThreadPool pool, ffi::AnyBuffer dy, ffi::AnyBuffer tap,
               ffi::Result<ffi::AnyBuffer> dx, Ints size, Ints stride, Ints pads, Ints dilation) {
  const auto call = PoolingOf(*dx, dy, size, stride, pads, dilation);
  return AlongTaps<SumOfWon>("pool_put", pool, true, call, dy, tap, *dx);
}

ffi::Error SumPool(const char* op, ffi::ThreadPool pool, bool adjoint, const Pooling& call,
                   const ffi::AnyBuffer& from, const ffi::AnyBuffer& to, double divisor) {
  const auto body = [&] {
    call.Check();
    OnHugePages(to);
    ForTypes(from, to, [&](auto in, auto out) {
      using In = decltype(in);
      using Out = decltype(out);
      const auto* x = Data<const In>(from);
      const auto by = static_cast<float>(divisor);
      if (adjoint && !call.counted.empty()) {
        return OverRows(pool, call, adjoint, Sum<In, Out, true>{x, Data<Out>(to), by});
      }
      OverRows(pool, call, adjoint, Sum<In, Out, false>{x, Data<Out>(to), by});
    });
  };
  return Guarded(op, body, [&] { return call.Text(); });
}

ffi::Error WindowSum(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::Result<ffi::AnyBuffer> y,
                     Ints size, Ints stride, Ints pads, Ints dilation, Ints counted,
                     double divisor) {
  const auto call = PoolingOf(x, *y, size, stride, pads, dilation, counted);
  return SumPool("window_sum", pool, false, call, x, *y, divisor);
}

ffi::Error Spread(ffi::ThreadPool pool, ffi::AnyBuffer dy, ffi::Result<ffi::AnyBuffer> dx,
                  Ints size, Ints stride, Ints pads, Ints dilation, Ints counted, double divisor) {
  const auto call = PoolingOf(*dx, dy, size, stride, pads, dilation, counted);
  return SumPool("window_spread", pool, true, call, dy, *dx, divisor);
}

template <class Binding>
auto Attributes(Binding binding) {
  return std::move(binding)
      .template Attr<Ints>("window")
      .template Attr<Ints>("stride")
      .template Attr<Ints>("pads")
      .template Attr<Ints>("dilation");
}

template <class Binding>
auto Divisors(Binding binding) {
  return std::move(binding).template Attr<Ints>("counted").template Attr<double>("divisor");
}

auto Operand() { return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<ffi::AnyBuffer>(); }

}  // namespace

#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(jconv_onednn_max_pool, MaxPool,
                              Attributes(Operand().Ret<ffi::AnyBuffer>().RemainingRets()));
XLA_FFI_DEFINE_HANDLER_SYMBOL(jconv_onednn_pool_take, Take,
                              Attributes(Operand().Arg<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>()));
XLA_FFI_DEFINE_HANDLER_SYMBOL(jconv_onednn_pool_put, Put,
                              Attributes(Operand().Arg<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>()));
XLA_FFI_DEFINE_HANDLER_SYMBOL(jconv_onednn_window_sum, WindowSum,
                              Divisors(Attributes(Operand().Ret<ffi::AnyBuffer>())));
XLA_FFI_DEFINE_HANDLER_SYMBOL(jconv_onednn_window_spread, Spread,
                              Divisors(Attributes(Operand().Ret<ffi::AnyBuffer>())));
#pragma GCC visibility pop

}  // namespace jconv
