#include "conv.h"
#include "scratch.h"

namespace jconv {
namespace {

using dnnl::algorithm;
using dnnl::convolution_backward_data;
using dnnl::convolution_backward_weights;
using dnnl::convolution_forward;
using dnnl::prop_kind;

// N C *spatial, as oneDNN counts the axes of an array that lies in memory as N *spatial C.
memory::desc ImageDesc(const Dims& shape, memory::data_type type) {
  const size_t rank = shape.size();
  Dims dims{shape[0], shape[rank - 1]}, strides{Product(shape) / shape[0], 1};
  int64_t stride = strides[0];
  for (size_t axis = 1; axis + 1 < rank; ++axis) {
    stride /= shape[axis];
    dims.push_back(shape[axis]);
    strides.push_back(stride);
  }
  return memory::desc(dims, type, strides);
}

// (G) K/G C/G *window, of a filter that lies in memory as *window C/G K.
memory::desc FilterDesc(const Dims& shape, int64_t groups, memory::data_type type, bool best) {
  const size_t rank = shape.size();
  const int64_t c = shape[rank - 2], k = shape[rank - 1];
  Dims dims{k / groups, c}, strides{1, k};
  int64_t stride = Product(shape);
  for (size_t axis = 0; axis + 2 < rank; ++axis) {
    stride /= shape[axis];
    dims.push_back(shape[axis]);
    strides.push_back(stride);
  }
  if (groups > 1) {
    dims.insert(dims.begin(), groups);
    strides.insert(strides.begin(), k / groups);
  }
  return best ? memory::desc(dims, type, memory::format_tag::any)
              : memory::desc(dims, type, strides);
}

// A call that computes the same. No stride goes beyond the image, where oneDNN's int32 might end.
// One spatial axis is made two: oneDNN's code for depthwise convolutions knows no fewer (without it
// 4 to 40 times slower). The pixels lie along W; for the filter gradient of a depthwise convolution
// along H, for its code takes no more than three columns.
ConvSpec Flat(ConvSpec spec) {
  for (size_t axis = 0; axis < spec.stride.size(); ++axis) {
    spec.stride[axis] = std::min(spec.stride[axis], spec.room(axis) + 1);
  }
  if (spec.stride.size() != 1) return spec;
  const bool depthwise = spec.groups == spec.x.back() && spec.groups == spec.w.back();
  const int after = depthwise && spec.kind == ConvKind::kFilterGrad ? 1 : 0;
  for (Dims* image : {&spec.x, &spec.y}) image->insert(image->begin() + 1 + after, 1);
  for (Dims* axes : {&spec.w, &spec.stride, &spec.dilation}) axes->insert(axes->begin() + after, 1);
  spec.pads.insert(spec.pads.begin() + 2 * after, 2, 0);
  return spec;
}

dnnl::primitive_attr Attributes(const ConvSpec& spec) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  dnnl::post_ops post_ops;
  if (spec.residual) post_ops.append_sum();
  if (spec.relu) post_ops.append_eltwise(algorithm::eltwise_relu, 0, 0);
  attributes.set_post_ops(post_ops);
  return attributes;
}

// What all three constructors of a primitive descriptor take.
struct Geometry {
  memory::desc x, w, y, bias;
  Dims stride, dilation, lo, hi;

  explicit Geometry(const ConvSpec& spec)
      : x(ImageDesc(spec.x, spec.x_type)),
        w(FilterDesc(spec.w, spec.groups, spec.w_type, true)),
        y(ImageDesc(spec.y, spec.y_type)),
        stride(spec.stride) {
    for (int64_t d : spec.dilation) dilation.push_back(d - 1);  // oneDNN counts the pixels between
    for (size_t axis = 0; axis < stride.size(); ++axis) {
      lo.push_back(spec.pads[2 * axis]);
      hi.push_back(spec.pads[2 * axis + 1]);
    }
    if (spec.bias_type != memory::data_type::undef) {
      bias = memory::desc({spec.y.back()}, spec.bias_type, memory::format_tag::x);
    }
  }
};

constexpr auto kDirect = algorithm::convolution_direct;  // Winograd is less accurate

convolution_forward::primitive_desc ForwardDesc(const Geometry& g,
                                                const dnnl::primitive_attr& attributes) {
  const auto kind = prop_kind::forward_training;
  if (g.bias.is_zero()) {
    return {Engine(), kind, kDirect, g.x, g.w, g.y, g.stride, g.dilation, g.lo, g.hi, attributes};
  }
  return {Engine(), kind,     kDirect,    g.x,  g.w,  g.bias,
          g.y,      g.stride, g.dilation, g.lo, g.hi, attributes};
}

template <class Primitive, class Desc>
void Fill(ConvPlan& plan, const Desc& desc, const memory::desc& w_best) {
  plan.primitive = Primitive(desc);
  plan.w_best = w_best;
  plan.scratchpad = desc.scratchpad_desc();
  plan.implementation = desc.impl_info_str();
}

}  // namespace

ConvPlan MakePlan(const ConvSpec& call) {
  const ConvSpec spec = Flat(call);
  const Geometry g(spec);
  const auto attributes = Attributes(spec);
  ConvPlan plan;
  if (spec.kind == ConvKind::kForward) {
    const auto desc = ForwardDesc(g, attributes);
    Fill<convolution_forward>(plan, desc, desc.weights_desc());
  } else {
    // Gradients may be of other dtypes than any forward pass: the hint's are its own.
    Geometry hint = g;
    hint.y = ImageDesc(spec.y, spec.kind == ConvKind::kInputGrad ? spec.y_type : spec.x_type);
    hint.x = ImageDesc(spec.x, hint.y.get_data_type());
    hint.w = FilterDesc(spec.w, spec.groups, hint.y.get_data_type(), true);
    const auto forward = ForwardDesc(hint, dnnl::primitive_attr());
    if (spec.kind == ConvKind::kInputGrad) {
      const convolution_backward_data::primitive_desc desc(
          Engine(), kDirect, g.x, g.w, g.y, g.stride, g.dilation, g.lo, g.hi, forward, attributes);
      Fill<convolution_backward_data>(plan, desc, desc.weights_desc());
    } else {
      const convolution_backward_weights::primitive_desc desc(
          Engine(), kDirect, g.x, g.w, g.y, g.stride, g.dilation, g.lo, g.hi, forward, attributes);
      Fill<convolution_backward_weights>(plan, desc, desc.diff_weights_desc());
    }
  }
  plan.x = g.x, plan.y = g.y, plan.bias = g.bias;
  plan.w = FilterDesc(spec.w, spec.groups, spec.w_type, false);
  if (plan.w_best != plan.w) {
    const bool gradient = spec.kind == ConvKind::kFilterGrad;
    dnnl::primitive_attr user;
    user.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::reorder::primitive_desc desc(Engine(), gradient ? plan.w_best : plan.w, Engine(),
                                             gradient ? plan.w : plan.w_best, user);
    plan.reorder = dnnl::reorder(desc);
    plan.reorder_scratchpad = desc.scratchpad_desc();
  }
  return plan;
}

size_t ConvPlan::scratch() const {
  const size_t filter = reorder ? Aligned(w_best.get_size()) : 0;
  return filter + Aligned(scratchpad.get_size()) + Aligned(reorder_scratchpad.get_size());
}

}  // namespace jconv
