// Pooling over windows, channels last, with the semantics of jconv.ops.winner and avg_pool.
//
//     max pool      y = the largest pixel of each window, and which tap of the window it was
//     put           dx = dy at the winners: each pixel sums the windows that it won
//     window sum    y = the sum of each window
//     spread        dx = each pixel sums the windows that hold it
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
                  Ints pads, Ints dilation) {
  return {ShapeOf(x), ShapeOf(y), DimsOf(size), DimsOf(stride), DimsOf(dilation), DimsOf(pads)};
}

// Runs Body on every row of targets.
template <class Body, class... Arrays>
void OverRows(ffi::ThreadPool& pool, const Axes& axes, int64_t images, int64_t channels,
              Arrays... arrays) {
  const int64_t rows = images * axes[0].targets * axes[1].targets;
  const int64_t work = std::max<int64_t>(1, axes[2].targets * channels);
  const int64_t together =
      std::max<int64_t>(1, 16384 / work);  // rows, so that a task takes a while
  const Axes* all = &axes;
  ParallelFor(pool, Threads(pool), (rows + together - 1) / together, [=](int64_t task) {
    const int64_t end = std::min(rows, (task + 1) * together);
    for (int64_t row = task * together; row < end; ++row) {
      OnWidest<Body, const Axes*, int64_t, int64_t, Arrays...>(all, row, channels, arrays...);
    }
  });
}

// Calls `f` with a null pointer of the tap's type: uint8 where it can count the taps.
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
    Require(x.element_type() == y->element_type(), "x and y must have the same dtype");
    AskForHugePages(*y);
    const Axes axes = call.AxesOf(false);
    const int64_t n = call.x[0], c = call.x.back();
    ForType(x.element_type(), "x", [&](auto type) {
      using T = decltype(type);
      if (rest.size() == 0) {
        return OverRows<LargestOfRow<T, uint8_t>>(pool, axes, n, c, Data<const T>(x), Data<T>(*y),
                                                  static_cast<uint8_t*>(nullptr));
      }
      ForTap(**rest.get<ffi::AnyBuffer>(0), call.y, [&](auto* tap) {
        using Tap = std::remove_pointer_t<decltype(tap)>;
        OverRows<LargestOfRow<T, Tap>>(pool, axes, n, c, Data<const T>(x), Data<T>(*y), tap);
      });
    });
  };
  return Guarded("max_pool", body, [&] { return call.Text(); });
}

// `adjoint`: from windows to pixels.
ffi::Error SumPool(const char* op, ffi::ThreadPool pool, bool adjoint, const Pooling& call,
                   const ffi::AnyBuffer& from, const ffi::AnyBuffer* tap,
                   const ffi::AnyBuffer& to) {
  const auto body = [&] {
    call.Check();
    const Axes axes = call.AxesOf(adjoint);
    const int64_t n = call.x[0], c = call.x.back();
    AskForHugePages(to);
    ForType(from.element_type(), "the operand", [&](auto in) {
      ForType(to.element_type(), "the result", [&](auto out) {
        using In = decltype(in);
        using Out = decltype(out);
        const auto run = [&](auto* won) {
          using Tap = std::remove_pointer_t<decltype(won)>;
          OverRows<SumOfRow<In, Out, Tap>>(pool, axes, n, c, Data<const In>(from),
                                           static_cast<const Tap*>(won), Data<Out>(to));
        };
        tap ? ForTap(*tap, call.y, run) : run(static_cast<uint8_t*>(nullptr));
      });
    });
  };
  return Guarded(op, body, [&] { return call.Text(); });
}

ffi::Error Put(ffi::ThreadPool pool, ffi::AnyBuffer dy, ffi::AnyBuffer tap,
               ffi::Result<ffi::AnyBuffer> dx, Ints size, Ints stride, Ints pads, Ints dilation) {
  const auto call = PoolingOf(*dx, dy, size, stride, pads, dilation);
  return SumPool("pool_put", pool, true, call, dy, &tap, *dx);
}

ffi::Error WindowSum(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::Result<ffi::AnyBuffer> y,
                     Ints size, Ints stride, Ints pads, Ints dilation) {
  const auto call = PoolingOf(x, *y, size, stride, pads, dilation);
  return SumPool("window_sum", pool, false, call, x, nullptr, *y);
}

ffi::Error Spread(ffi::ThreadPool pool, ffi::AnyBuffer dy, ffi::Result<ffi::AnyBuffer> dx,
                  Ints size, Ints stride, Ints pads, Ints dilation) {
  const auto call = PoolingOf(*dx, dy, size, stride, pads, dilation);
  return SumPool("window_spread", pool, true, call, dy, nullptr, *dx);
}

template <class Binding>
auto Attributes(Binding binding) {
  return std::move(binding)
      .template Attr<Ints>("window")
      .template Attr<Ints>("stride")
      .template Attr<Ints>("pads")
      .template Attr<Ints>("dilation");
}

auto Operand() { return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<ffi::AnyBuffer>(); }

}  // namespace

#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(jconv_onednn_max_pool, MaxPool,
                              Attributes(Operand().Ret<ffi::AnyBuffer>().RemainingRets()));
XLA_FFI_DEFINE_HANDLER_SYMBOL(jconv_onednn_pool_put, Put,
                              Attributes(Operand().Arg<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>()));
XLA_FFI_DEFINE_HANDLER_SYMBOL(jconv_onednn_window_sum, WindowSum,
                              Attributes(Operand().Ret<ffi::AnyBuffer>()));
XLA_FFI_DEFINE_HANDLER_SYMBOL(jconv_onednn_window_spread, Spread,
                              Attributes(Operand().Ret<ffi::AnyBuffer>()));
#pragma GCC visibility pop

}  // namespace jconv
