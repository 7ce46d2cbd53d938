// Where the numbers of Winograd's tiles lie: in x and y, and in the scratch memory of one worker.
#pragma once

#include <cstring>

#include "scratch.h"
#include "winograd.h"
#include "winograd_tiles.h"

namespace jconv {

// The same number of each plane, or of each tap.
template <class Number, int kCount>
struct Column {
  Column(Number* first, int64_t apart, bool reversed = false) {
    for (int i = 0; i < kCount; ++i) at[i] = first + (reversed ? kCount - 1 - i : i) * apart;
  }
  Number* at[kCount];
};

// 16 planes of scratch memory: `row(r)` is where the points of row r stand.
struct Points {
  float* data = nullptr;
  int64_t plane = 0, columns = 0;

  Column<float, kPoints> row(int64_t r) const { return {data + r * columns, plane}; }
  Column<const float, kPoints> read(int64_t r) const { return {data + r * columns, plane}; }

  // Fills rows with zeros.
  void Clear(int64_t begin, int64_t end) const {
    for (int p = 0; p < kPoints; ++p) {
      std::memset(data + p * plane + begin * columns, 0, (end - begin) * columns * sizeof(float));
    }
  }
};

// Which pixels of x a tile sees, and which of y it fills.
class Tiles {
 public:
  explicit Tiles(const WinogradSpec& spec)
      : x_(spec.x), y_(spec.y), lo_(spec.lo), rows_((y_[1] + 1) / 2), columns_((y_[2] + 1) / 2) {}

  // The 4x4 pixels of x; those outside are `zeros`.
  void Seen(int64_t tile, const float* x, const float* zeros, const float** pixels) const {
    const int64_t n = tile / (rows_ * columns_);
    const int64_t h = kStep * (tile / columns_ % rows_) - lo_[0];
    const int64_t w = kStep * (tile % columns_) - lo_[1];
    for (int i = 0; i < kPoints; ++i) {
      pixels[i] = At(x_, n, h + i / kSide, w + i % kSide, x, zeros);
    }
  }

  // The 2x2 pixels of y; those outside are `outside`.
  template <class Number>
  void Filled(int64_t tile, Number* y, Number* outside, Number** pixels) const {
    const int64_t n = tile / (rows_ * columns_);
    const int64_t h = kStep * (tile / columns_ % rows_), w = kStep * (tile % columns_);
    for (int i = 0; i < kStep * kStep; ++i) {
      pixels[i] = At(y_, n, h + i / kStep, w + i % kStep, y, outside);
    }
  }

 private:
  template <class Number>
  static Number* At(const Dims& shape, int64_t n, int64_t h, int64_t w, Number* first,
                    Number* outside) {
    if (h < 0 || h >= shape[1] || w < 0 || w >= shape[2]) return outside;
    return first + ((n * shape[1] + h) * shape[2] + w) * shape[3];
  }

  Dims x_, y_, lo_;
  int64_t rows_, columns_;
};

// The scratch memory of one worker, and the product of what lies on it.
struct Desk {
  // `filter`: transformed, for all workers; none for a filter's gradient.
  Desk(const WinogradPlan& of, char* memory, char* filter)
      : plan(of),
        first(Planes(plan.first, memory, plan.spans)),
        second(filter ? Points{} : Planes(plan.second, memory)),
        result(Planes(plan.result, memory)),
        outside(Take(plan.zeros.get_size(), memory)),
        scratchpad(Take(plan.pad(), memory)),
        weights(filter ? reinterpret_cast<float*>(filter) : second.data) {}

  void Multiply() const {
    dnnl::stream stream(Engine());
    const auto at = [](const memory::desc& d, float* data) { return memory(d, Engine(), data); };
    for (int64_t s = 0; s < plan.spans; ++s) {
      const PointsProduct& product = s == 0 ? plan.product : plan.more;
      float* by = weights + s * (plan.second.get_size() / sizeof(float));
      product.primitive.execute(stream,
                                {{DNNL_ARG_SRC, at(plan.first, span(s).data)},
                                 {DNNL_ARG_WEIGHTS, at(plan.second, by)},
                                 {DNNL_ARG_DST, at(plan.result, result.data)},
                                 {DNNL_ARG_SCRATCHPAD, at(product.scratchpad, scratchpad)}});
    }
    stream.wait();
  }

  // The tiles of a span of x.
  Points span(int64_t s) const {
    const int64_t apart = Aligned(plan.first.get_size()) / sizeof(float);
    return {first.data + s * apart, first.plane, first.columns};
  }

  const WinogradPlan& plan;
  Points first, second, result;  // second: where there is no filter
  float* outside;                // where pixels of y are written that are not in y
  float *scratchpad, *weights;

 private:
  static float* Take(size_t bytes, char*& memory) {
    char* taken = memory;
    memory += Aligned(bytes);
    return reinterpret_cast<float*>(taken);
  }

  // A row is what lies together, along whichever of the two axes.
  static Points Planes(const memory::desc& desc, char*& memory, int64_t count = 1) {
    const Dims strides = desc.get_strides();
    return {Take(count * Aligned(desc.get_size()), memory), strides[0],
            std::max(strides[1], strides[2])};
  }
};

}  // namespace jconv
