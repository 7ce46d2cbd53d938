#include "conv.h"
#include "query.h"

namespace jconv {
namespace {

constexpr int kHead = 10;     // integers before the shapes
constexpr int kMostAxes = 3;  // spatial
// Multiply-adds of a thread, some 20 us: on a machine that does other work too, threads that wait
// for each other wait for milliseconds.
constexpr double kLeastProducts = 1 << 20;

bool Known(memory::data_type type) { return type != memory::data_type::undef; }

bool Integer(memory::data_type type) {
  return type == memory::data_type::s8 || type == memory::data_type::u8;
}

// Whether the CPU multiplies bytes without rounding: without these instructions oneDNN halves the
// filter and saturates sums of two products.
bool ExactBytes() {
  constexpr int kAvx2Vnni = dnnl_cpu_isa_avx2_vnni & ~dnnl_cpu_isa_avx2;
  constexpr int kAvx512Vnni = dnnl_cpu_isa_avx512_core_vnni & ~dnnl_cpu_isa_avx512_core;
  return dnnl_get_effective_cpu_isa() & (kAvx2Vnni | kAvx512Vnni);
}

void AllAtLeast(int64_t least, const Dims& values, const char* name) {
  for (int64_t value : values) {
    Require(value >= least, std::string(name) + " must be at least " + std::to_string(least));
  }
}

}  // namespace

ConvSpec SpecOf(ConvKind kind, ffi::AnyBuffer x, ffi::AnyBuffer w, ffi::AnyBuffer y, Ints stride,
                Ints pads, Ints dilation, int64_t groups) {
  ConvSpec spec{kind, TypeOf(x.element_type()), TypeOf(w.element_type()), TypeOf(y.element_type())};
  spec.groups = groups;
  spec.x = DimsOf(x.dimensions()), spec.w = DimsOf(w.dimensions()), spec.y = DimsOf(y.dimensions());
  spec.stride = DimsOf(stride), spec.dilation = DimsOf(dilation), spec.pads = DimsOf(pads);
  return spec;
}

Key ConvSpec::key() const {
  Key key{static_cast<int64_t>(kind),
          static_cast<int64_t>(x.size()),
          static_cast<int64_t>(x_type),
          static_cast<int64_t>(w_type),
          static_cast<int64_t>(y_type),
          static_cast<int64_t>(bias_type),
          groups,
          relu,
          residual,
          threads};
  for (const Dims* dims : {&x, &w, &y, &stride, &dilation, &pads}) {
    key.insert(key.end(), dims->begin(), dims->end());
  }
  return key;
}

ConvSpec ConvSpec::Of(const Key& key) {
  const auto size = static_cast<int64_t>(key.size());
  Require(size >= kHead && key[1] >= 3 && key[1] <= kMostAxes + 2, "not the integers of a call");
  const int64_t rank = key[1], axes = rank - 2;
  Require(size == kHead + 3 * rank + 4 * axes, "not the integers of a call");
  Require(key[0] >= 0 && key[0] <= 2, "not the integers of a call");
  const auto type = [&](int at) { return static_cast<memory::data_type>(key[at]); };
  ConvSpec spec{static_cast<ConvKind>(key[0]), type(2), type(3), type(4), type(5)};
  spec.groups = key[6], spec.relu = key[7], spec.residual = key[8];
  spec.threads = static_cast<int>(key[9]);
  auto at = key.begin() + kHead;
  for (auto [dims, count] : {std::pair{&spec.x, rank},
                             {&spec.w, rank},
                             {&spec.y, rank},
                             {&spec.stride, axes},
                             {&spec.dilation, axes},
                             {&spec.pads, 2 * axes}}) {
    dims->assign(at, at + count);
    at += count;
  }
  return spec;
}

std::string ConvSpec::Text() const {
  const auto array = [](const char* name, const Dims& dims, memory::data_type type) {
    return std::string(name) + " " + jconv::Text(dims) + " " + Name(type) + ", ";
  };
  return array("x", x, x_type) + array("w", w, w_type) + array("y", y, y_type) + "stride " +
         jconv::Text(stride) + ", pads " + jconv::Text(pads) + ", dilation " +
         jconv::Text(dilation) + ", groups " + std::to_string(groups);
}

int64_t ConvSpec::room(size_t axis) const {
  const int64_t padded = x[axis + 1] + pads[2 * axis] + pads[2 * axis + 1];
  if (w[axis] > 1 && dilation[axis] > padded) return -1;  // their product may be beyond int64
  return padded - (dilation[axis] * (w[axis] - 1) + 1);
}

int ConvSpec::Useful(int most) const {
  const double products = static_cast<double>(Product(y)) * (Product(w) / w.back());
  return static_cast<int>(std::clamp(products / kLeastProducts, 1.0, static_cast<double>(most)));
}

void ConvSpec::Check() const {
  const size_t rank = x.size(), axes = stride.size();
  Require(rank >= 3 && rank <= kMostAxes + 2, "x must have one to three spatial axes");
  Require(w.size() == rank && y.size() == rank, "x, w and y must have as many axes");
  Require(axes == rank - 2 && dilation.size() == axes && pads.size() == 2 * axes,
          "stride, dilation and pads must have entries for each spatial axis");
  Require(Known(x_type) && Known(w_type) && Known(y_type), "x, w or y has an unknown dtype");
  if (Integer(x_type)) {
    Require(kind == ConvKind::kForward, "integers have no gradients");
    Require(w_type == memory::data_type::s8 && y_type == memory::data_type::s32,
            "of int8 or uint8 x, w must be int8 and y int32");
    Require(ExactBytes(), "sums of int8 are not exact on a CPU without VNNI");
  }
  for (const Dims* dims : {&x, &w, &y}) AllAtLeast(1, *dims, "every axis");
  AllAtLeast(1, stride, "stride");
  AllAtLeast(1, dilation, "dilation");
  AllAtLeast(0, pads, "pads");
  Require(groups >= 1 && w.back() % groups == 0, "K must divide by groups");
  Require(x.back() == groups * w[rank - 2], "x must have C = groups times w's channels");
  Require(y.back() == w.back() && y[0] == x[0], "y must be (N, *output, K)");
  double padded = static_cast<double>(x[0]) * x.back();  // no overflow, whatever the numbers
  for (size_t axis = 0; axis < axes; ++axis) {
    padded *= static_cast<double>(x[axis + 1]) + pads[2 * axis] + pads[2 * axis + 1];
    Require(padded <= INT32_MAX, "x with its padding must have fewer than 2**31 elements");
    const int64_t least = room(axis);
    Require(least >= 0 && y[axis + 1] == least / stride[axis] + 1,
            "y's spatial axes must be those of the window");
  }
}

}  // namespace jconv

extern "C" __attribute__((visibility("default"))) int64_t
jconv_onednn_conv_query(const int64_t* integers, int64_t count, char* text, int64_t size) {
  return jconv::Query<jconv::ConvSpec>(integers, count, text, size, [](jconv::ConvSpec spec) {
    spec.threads = spec.Useful(spec.threads);
    return jconv::MakePlan(spec);
  });
}
