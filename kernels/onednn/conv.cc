#include "conv.h"

#include <cstring>
#include <unordered_map>

#include "pages.h"
#include "scratch.h"
#include "threads.h"

namespace jconv {
namespace {

// A train step of DenseNet-201, the network with the most kinds of layers, asks for about 600.
constexpr size_t kMostPlans = 1024;

Cache<ConvPlan>& Plans() {
  static Cache<ConvPlan> plans(kMostPlans);
  return plans;
}

// Runs a plan on the arrays of a call; `x`, `w` and `y` play their parts whichever is the result.
void Run(ConvSpec spec, const ffi::ThreadPool& pool, void* x, void* w, void* bias, void* y,
         ffi::AnyBuffer scratch) {
  spec.threads = spec.Useful(Threads(pool));
  const Team team(spec.threads);
  const auto plan = Plans().Get(spec.key(), [&] { return MakePlan(spec); });
  Scratch memory_left(scratch, plan->scratch());
  const auto turn = team.Turn();
  dnnl::stream stream(Engine());
  const auto at = [](const memory::desc& desc, void* data) { return memory(desc, Engine(), data); };
  const auto take = [&](const memory::desc& desc) {
    return at(desc, memory_left.Take(desc.get_size()));
  };
  const memory user = at(plan->w, w);
  const memory best = plan->reorder ? take(plan->w_best) : user;
  const memory scratchpad = take(plan->scratchpad), pad = take(plan->reorder_scratchpad);
  const auto reorder = [&](const memory& from, const memory& to) {
    if (!plan->reorder) return;
    plan->reorder.execute(stream,
                          {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}, {DNNL_ARG_SCRATCHPAD, pad}});
  };
  std::unordered_map<int, memory> arguments{{DNNL_ARG_SCRATCHPAD, scratchpad}};
  const auto pass = [&](int name, const memory& m) { arguments.emplace(name, m); };
  const bool gradient = spec.kind == ConvKind::kFilterGrad;
  if (!gradient) reorder(user, best);
  pass(spec.kind == ConvKind::kInputGrad ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, at(plan->x, x));
  pass(gradient ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, best);
  pass(spec.kind == ConvKind::kForward ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, at(plan->y, y));
  if (bias) pass(DNNL_ARG_BIAS, at(plan->bias, bias));
  plan->primitive.execute(stream, arguments);
  if (gradient) reorder(best, user);
  stream.wait();
}

ffi::Error Forward(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer w,
                   ffi::RemainingArgs rest, ffi::Result<ffi::AnyBuffer> y,
                   ffi::Result<ffi::AnyBuffer> scratch, Ints stride, Ints pads, Ints dilation,
                   int64_t groups, bool bias, bool residual, bool relu) {
  ConvSpec spec{};
  const auto body = [&] {
    spec = SpecOf(ConvKind::kForward, x, w, *y, stride, pads, dilation, groups);
    spec.residual = residual, spec.relu = relu;
    const size_t count = size_t{bias} + size_t{residual};
    Require(rest.size() == count, "takes bias and residual as its attributes say");
    void* b = nullptr;
    if (bias) {
      const auto buffer = *rest.get<ffi::AnyBuffer>(0);
      Require(DimsOf(buffer.dimensions()) == Dims{spec.w.empty() ? 0 : spec.w.back()},
              "bias must be (K,)");
      spec.bias_type = TypeOf(buffer.element_type());
      Require(spec.bias_type != memory::data_type::undef, "bias has a dtype unknown to oneDNN");
      b = buffer.untyped_data();
    }
    spec.Check();
    if (residual) {
      const auto buffer = *rest.get<ffi::AnyBuffer>(count - 1);
      Require(DimsOf(buffer.dimensions()) == spec.y && buffer.element_type() == y->element_type(),
              "residual must have the shape and dtype of y");
      // The sum is taken in place: XLA gave both the same memory, unless an operand is used again.
      if (buffer.untyped_data() != y->untyped_data()) {
        std::memcpy(y->untyped_data(), buffer.untyped_data(), y->size_bytes());
      }
    }
    OnHugePages(*y);
    Run(spec, pool, x.untyped_data(), w.untyped_data(), b, y->untyped_data(), *scratch);
  };
  return Guarded("conv", body, [&] { return spec.Text(); });
}

ffi::Error Gradient(const char* op, ConvKind kind, ffi::ThreadPool pool, ffi::AnyBuffer x,
                    ffi::AnyBuffer w, ffi::AnyBuffer y, ffi::AnyBuffer scratch, Ints stride,
                    Ints pads, Ints dilation, int64_t groups) {
  ConvSpec spec{};
  const auto body = [&] {
    spec = SpecOf(kind, x, w, y, stride, pads, dilation, groups);
    spec.Check();
    OnHugePages(kind == ConvKind::kInputGrad ? x : w);
    Run(spec, pool, x.untyped_data(), w.untyped_data(), nullptr, y.untyped_data(), scratch);
  };
  return Guarded(op, body, [&] { return spec.Text(); });
}

ffi::Error InputGrad(ffi::ThreadPool pool, ffi::AnyBuffer dy, ffi::AnyBuffer w,
                     ffi::Result<ffi::AnyBuffer> dx, ffi::Result<ffi::AnyBuffer> scratch,
                     Ints stride, Ints pads, Ints dilation, int64_t groups) {
  return Gradient("conv_input_grad", ConvKind::kInputGrad, pool, *dx, w, dy, *scratch, stride, pads,
                  dilation, groups);
}

ffi::Error FilterGrad(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer dy,
                      ffi::Result<ffi::AnyBuffer> dw, ffi::Result<ffi::AnyBuffer> scratch,
                      Ints stride, Ints pads, Ints dilation, int64_t groups) {
  return Gradient("conv_filter_grad", ConvKind::kFilterGrad, pool, x, *dw, dy, *scratch, stride,
                  pads, dilation, groups);
}

auto Operands() {
  return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<ffi::AnyBuffer>().Arg<ffi::AnyBuffer>();
}

template <class Binding>
auto Attributes(Binding binding) {
  return std::move(binding)
      .template Ret<ffi::AnyBuffer>()
      .template Ret<ffi::AnyBuffer>()
      .template Attr<Ints>("stride")
      .template Attr<Ints>("pads")
      .template Attr<Ints>("dilation")
      .template Attr<int64_t>("groups");
}

}  // namespace

#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(jconv_onednn_conv, Forward,
                              Attributes(Operands().RemainingArgs())
                                  .Attr<bool>("bias")
                                  .Attr<bool>("residual")
                                  .Attr<bool>("relu"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(jconv_onednn_conv_input_grad, InputGrad, Attributes(Operands()));
XLA_FFI_DEFINE_HANDLER_SYMBOL(jconv_onednn_conv_filter_grad, FilterGrad, Attributes(Operands()));
#pragma GCC visibility pop

}  // namespace jconv

// How many convolutions are kept compiled.
extern "C" __attribute__((visibility("default"))) int64_t jconv_onednn_conv_plans() {
  return static_cast<int64_t>(jconv::Plans().size());
}
