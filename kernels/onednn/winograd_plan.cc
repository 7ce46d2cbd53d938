#include "query.h"
#include "scratch.h"
#include "winograd.h"
#include "winograd_tiles.h"

namespace jconv {
namespace {

// Tiles that are multiplied at once, and that are summed over at once. Odd, or the distance of two
// planes would often be a power of 2: a tile's points would fall into the same few lines of the
// first-level cache, and be written at a fifth of the speed.
constexpr int64_t kTogether = 65, kTogetherInSum = 129;
constexpr int64_t kMostSummed = 256;  // channels that are summed in a row, as in XLA's products
constexpr int64_t kGap = 48;          // numbers between a filter's planes, for the same reason
constexpr size_t kIntegers = 3 + 4 + 4 + 4 + 2;

memory::desc Planes(int64_t rows, int64_t columns, int64_t gap = 0) {
  const Dims strides{rows * columns + gap, columns, 1};
  return {{kPoints, rows, columns}, memory::data_type::f32, strides};
}

memory::desc Transposed(const memory::desc& planes) { return planes.permute_axes({0, 2, 1}); }

// The first of the planes, rows and columns.
memory::desc First(const memory::desc& all, const Dims& count) {
  return all.submemory_desc(count, {0, 0, 0});
}

memory::desc Line(int64_t count) {
  return {{count}, memory::data_type::f32, memory::format_tag::x};
}

dnnl::primitive_attr UserScratchpad() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

dnnl::primitive_attr Added() {
  dnnl::primitive_attr attributes = UserScratchpad();
  dnnl::post_ops sum;
  sum.append_sum();
  attributes.set_post_ops(sum);
  return attributes;
}

// The fewest spans of at most kMostSummed channels that are as long as each other; 1 if none are.
int64_t SpansOf(int64_t channels) {
  const int64_t spans = (channels + kMostSummed - 1) / kMostSummed;
  return channels % spans == 0 ? spans : 1;
}

}  // namespace

WinogradSpec WinogradSpec::Of(const Key& key) {
  Require(key.size() == kIntegers, "a key has " + std::to_string(kIntegers) + " integers");
  WinogradSpec spec;
  auto next = key.begin();
  const auto take = [&](size_t count) {
    next += static_cast<int64_t>(count);
    return Dims(next - static_cast<int64_t>(count), next);
  };
  spec.filter_grad = *next++ != 0, spec.transposed = *next++ != 0, spec.threads = *next++;
  spec.x = take(4), spec.w = take(4), spec.y = take(4), spec.lo = take(2);
  return spec;
}

Key WinogradSpec::key() const {
  Key key{filter_grad, transposed, threads};
  for (const Dims* dims : {&x, &w, &y, &lo}) key.insert(key.end(), dims->begin(), dims->end());
  return key;
}

std::string WinogradSpec::Text() const {
  return "x " + jconv::Text(x) + ", w " + jconv::Text(w) + ", y " + jconv::Text(y) + ", lo " +
         jconv::Text(lo) + (transposed ? ", transposed" : "");
}

void WinogradSpec::Check() const {
  Require(x.size() == 4 && w.size() == 4 && y.size() == 4 && lo.size() == 2,
          "x, w and y must have two spatial axes, lo two entries");
  for (const Dims* dims : {&x, &w, &y}) {
    Require(std::all_of(dims->begin(), dims->end(), [](int64_t n) { return n >= 1; }),
            "every axis must be at least 1");
    Require(FitsInt32(*dims), "arrays must have fewer than 2**31 elements");
  }
  Require(w[0] == kTaps && w[1] == kTaps, "w must have 3x3 taps");
  Require(x[0] == y[0], "x and y must have the same examples");
  Require(x[3] == w[transposed ? 3 : 2] && y[3] == w[transposed ? 2 : 3],
          "w must have the channels of x and y");
  for (int64_t side : lo) {
    Require(side >= -INT32_MAX && side <= INT32_MAX, "lo must be within int32");
  }
}

WinogradPlan::WinogradPlan(const WinogradSpec& spec) {
  const Team alone(1);  // the products are made for one thread
  const int64_t from = spec.x[3], to = spec.y[3], all = spec.tiles();
  together = std::min(all, spec.filter_grad ? kTogetherInSum : kTogether);
  parts = (all + together - 1) / together;
  workers = std::clamp<int64_t>(spec.threads, 1, parts);
  zeros = Line(std::max(from, to));
  if (spec.filter_grad) {
    first = Transposed(Planes(together, from));
    second = Planes(together, to);
    result = Planes(from, to);
    // A sum for each worker, all of them no larger than twice the operands.
    const int64_t most = 2 * (Product(spec.x) + Product(spec.y)) / (kPoints * from * to);
    workers = std::clamp<int64_t>(most, 1, workers);
    product = Make(Added());
    return;
  }
  spans = SpansOf(from);
  const Dims span{kPoints, from / spans, to};
  first = Planes(together, span[1]);
  second = memory::desc(span, memory::data_type::f32, memory::format_tag::any);
  result = Planes(together, to);
  product = Make(UserScratchpad());
  if (spans > 1) more = Make(Added());
  filter = Planes(spec.w[2], spec.w[3], kGap);
  plane = First(spec.transposed ? Transposed(filter) : filter, {1, span[1], to});
  best_plane = First(second, {1, span[1], to});
  const dnnl::reorder::primitive_desc order(Engine(), plane, Engine(), best_plane,
                                            UserScratchpad());
  reorder = dnnl::reorder(order);
  reorder_scratchpad = order.scratchpad_desc();
}

PointsProduct WinogradPlan::Make(const dnnl::primitive_attr& attributes) {
  const dnnl::matmul::primitive_desc desc(Engine(), first, second, result, attributes);
  second = desc.weights_desc(), implementation = desc.impl_info_str();
  return {dnnl::matmul(desc), desc.scratchpad_desc()};
}

size_t WinogradPlan::desk() const {
  const size_t own = filter.is_zero() ? Aligned(second.get_size()) : 0;
  return spans * Aligned(first.get_size()) + own + Aligned(result.get_size()) + Aligned(pad()) +
         Aligned(zeros.get_size());
}

size_t WinogradPlan::pad() const {
  return std::max(product.scratchpad.get_size(), more.scratchpad.get_size());
}

size_t WinogradPlan::scratch() const {
  const size_t pads = kPoints * spans * Aligned(reorder_scratchpad.get_size());
  const size_t both = Aligned(filter.get_size()) + Aligned(spans * second.get_size());
  return (filter.is_zero() ? 0 : both + pads) + Aligned(zeros.get_size()) + workers * desk();
}

}  // namespace jconv

extern "C" __attribute__((visibility("default"))) int64_t
jconv_onednn_winograd_query(const int64_t* integers, int64_t count, char* text, int64_t size) {
  using jconv::WinogradPlan, jconv::WinogradSpec;
  return jconv::Query<WinogradSpec>(integers, count, text, size,
                                    [](const WinogradSpec& spec) { return WinogradPlan(spec); });
}
