// The filter gradient of depthwise convolutions, one channel into and one out of each group.
//
//     dw[r, s, c] = sum over n, p, q of
//         x[n, p*stride + r*dilation - lo, q*stride + s*dilation - lo, c] * dy[n, p, q, c]
//
// Shapes, as XLA holds them: x N H W C, dy N P Q C, dw R S 1 C; one spatial axis or two. All are
// float32 or bfloat16, sums float32, of parts float64. oneDNN's own code takes windows of three
// columns at most.
//
// Every task sums a part of the rows for a block of channels; the sums of the parts are added in
// order. How many parts there are depends on the shape alone, so the result is the same in every
// run, with any number of threads. All sums together, on the heap, are an eighth of x, or dw alone.

#include "depthwise_rows.h"
#include "threads.h"

namespace jconv {
namespace {

template <class Number>
void RunTask(const DepthwiseCall& call, const Number* x, const Number* dy, int64_t part,
             int64_t group, float* sums) {
  OnWidestOf<DepthwiseTask<32, Number>, DepthwiseTask<16, Number>, DepthwiseTask<8, Number>>(
      &call, x, dy, part, group, sums);
}

// dw of a block of channels: the sums of its parts, added in order.
template <class Number>
void AddParts(const DepthwiseCall& call, const float* sums, int64_t block, Number* dw) {
  const int64_t first = block * kBlock, last = std::min(call.channels, first + kBlock);
  for (int64_t tap = 0; tap < call.window(); ++tap) {
    double total[kBlock] = {};
    for (int64_t part = 0; part < call.parts; ++part) {
      const float* from = sums + (part * call.blocks + block) * call.sums() + tap * kBlock;
      for (int i = 0; i < kBlock; ++i) total[i] += from[i];
    }
    for (int64_t c = first; c < last; ++c) {
      Store(static_cast<float>(total[call.at(c)]), dw[tap * call.channels + c]);
    }
  }
}

template <class Number, class Result>
void Run(ffi::ThreadPool& pool, const DepthwiseCall& call, const Number* x, const Number* dy,
         Result* dw) {
  std::vector<float> sums(call.parts * call.blocks * call.sums());
  const int threads = Threads(pool);
  ParallelFor(pool, threads, call.parts * call.groups, [&](int64_t task) {
    const int64_t part = task / call.groups, group = task % call.groups;
    RunTask(call, x, dy, part, group,
            sums.data() + (part * call.blocks + group * call.group) * call.sums());
  });
  ParallelFor(pool, threads, call.blocks,
              [&](int64_t block) { AddParts(call, sums.data(), block, dw); });
}

ffi::Error FilterGrad(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer dy,
                      ffi::Result<ffi::AnyBuffer> dw, Ints stride, Ints pads, Ints dilation,
                      int64_t groups) {
  ConvSpec spec{};
  const auto body = [&] {
    spec = SpecOf(ConvKind::kFilterGrad, x, *dw, dy, stride, pads, dilation, groups);
    spec.Check();
    Require(stride.size() <= 2, "x must have one or two spatial axes");
    Require(groups == spec.x.back() && groups == spec.w.back(), "groups must be C and K");
    Require(x.element_type() == dy.element_type(), "x and dy must have the same dtype");
    ForType(x.element_type(), "x", [&](auto from) {
      ForType(dw->element_type(), "dw", [&](auto to) {
        using Number = decltype(from);
        using Result = decltype(to);
        Run(pool, DepthwiseCall(spec), static_cast<const Number*>(x.untyped_data()),
            static_cast<const Number*>(dy.untyped_data()),
            static_cast<Result*>(dw->untyped_data()));
      });
    });
  };
  return Guarded("depthwise_filter_grad", body, [&] { return spec.Text(); });
}

}  // namespace

#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(jconv_onednn_depthwise_filter_grad, FilterGrad,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<Ints>("stride")
                                  .Attr<Ints>("pads")
                                  .Attr<Ints>("dilation")
                                  .Attr<int64_t>("groups"));
#pragma GCC visibility pop

}  // namespace jconv
