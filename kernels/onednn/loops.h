// What loops of our own share: float32 and bfloat16 in memory, and code for the CPU at hand.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "common.h"
#include "threads.h"

// A body is inlined into one function for each instruction set, and compiled for it there.
#define JCONV_INLINE inline __attribute__((always_inline))

namespace jconv {

// bfloat16 in memory; sums are taken in float32.
struct BFloat16 {
  uint16_t bits;
};

JCONV_INLINE float Load(float value) { return value; }

JCONV_INLINE float Load(BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

JCONV_INLINE void Store(float value, float& to) { to = value; }

// To the nearest, halves to even; a NaN stays one.
JCONV_INLINE void Store(float value, BFloat16& to) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  to.bits = static_cast<uint16_t>(value == value ? rounded : (bits >> 16) | 0x40);
}

// Calls Body::Run(arguments...) as compiled for the widest vectors of this CPU. Run must be
// JCONV_INLINE, and so must all that it calls.
template <class Body, class... Arguments>
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))) void OnAvx512(
    Arguments... arguments) {
  Body::Run(arguments...);
}

template <class Body, class... Arguments>
__attribute__((target("avx2,fma"))) void OnAvx2(Arguments... arguments) {
  Body::Run(arguments...);
}

enum class Vectors { kPlain, kAvx2, kAvx512 };

inline Vectors WidestVectors() {
  static const Vectors widest = [] {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      return Vectors::kAvx512;
    }
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    return avx2 ? Vectors::kAvx2 : Vectors::kPlain;
  }();
  return widest;
}

// The same with a body for each.
template <class Avx512, class Avx2, class Plain, class... Arguments>
void OnWidestOf(Arguments... arguments) {
  switch (WidestVectors()) {
    case Vectors::kAvx512:
      return OnAvx512<Avx512, Arguments...>(arguments...);
    case Vectors::kAvx2:
      return OnAvx2<Avx2, Arguments...>(arguments...);
    case Vectors::kPlain:
      return Plain::Run(arguments...);
  }
}

template <class Body, class... Arguments>
void OnWidest(Arguments... arguments) {
  OnWidestOf<Body, Body, Body, Arguments...>(arguments...);
}

// Calls `f(float{})` or `f(BFloat16{})`, for the dtype of a buffer.
template <class F>
void ForType(ffi::DataType type, const char* name, const F& f) {
  switch (type) {
    case ffi::DataType::F32:
      return f(float{});
    case ffi::DataType::BF16:
      return f(BFloat16{});
    default:
      throw Refusal(std::string(name) + " must be float32 or bfloat16");
  }
}

inline Dims ShapeOf(const ffi::AnyBuffer& buffer) { return DimsOf(buffer.dimensions()); }

}  // namespace jconv
