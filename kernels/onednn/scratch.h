// Scratch memory of one call, cut from a buffer that XLA planned and owns.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

#include "pages.h"
#include "xla/ffi/api/ffi.h"

namespace jconv {

constexpr size_t kAlignment = 64;  // a cache line, and a vector of AVX-512

constexpr size_t Aligned(size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// XLA's ScratchAllocator has no memory to give on a CPU (jaxlib 0.12.0.1), so the scratch is a
// result of the call, uint8, as large as the Python side asked when the call was lowered. Where it
// is too small, because the program runs on another machine or with other threads than it was
// lowered for, the memory is this object's own.
class Scratch {
 public:
  Scratch(xla::ffi::AnyBuffer buffer, size_t bytes) {
    OnHugePages(buffer);
    char* start = static_cast<char*>(buffer.untyped_data());
    const size_t skip =
        Aligned(reinterpret_cast<uintptr_t>(start)) - reinterpret_cast<uintptr_t>(start);
    if (buffer.size_bytes() < bytes + skip) {
      own_.reset(static_cast<char*>(::operator new[](bytes, std::align_val_t(kAlignment))));
      next_ = own_.get();
    } else {
      next_ = start + skip;
    }
  }

  // `bytes` of it, aligned; the caller takes no more in all than it announced.
  char* Take(size_t bytes) {
    char* taken = next_;
    next_ += Aligned(bytes);
    return taken;
  }

 private:
  struct Free {
    void operator()(char* p) const { ::operator delete[](p, std::align_val_t(kAlignment)); }
  };
  std::unique_ptr<char[], Free> own_;
  char* next_;
};

}  // namespace jconv
