// What all handlers share: oneDNN's engine, dtypes, shapes as text, and errors that stay inside.
//
// XLA owns every operand, result and scratch buffer that a handler sees; a handler keeps none of
// them beyond its call. Arrays are dense and row-major, channels last.
#pragma once

#include <dnnl_debug.h>

#include <algorithm>
#include <cstdint>
#include <dnnl.hpp>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace jconv {

namespace ffi = xla::ffi;
using dnnl::memory;
using Dims = memory::dims;
using Ints = ffi::Span<const int64_t>;

// A call that can't be computed, with the reason: it becomes an XLA error, INVALID_ARGUMENT.
struct Refusal : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void Require(bool condition, const std::string& reason) {
  if (!condition) throw Refusal(reason);
}

inline dnnl::engine& Engine() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

inline Dims DimsOf(Ints ints) { return Dims(ints.begin(), ints.end()); }

inline int64_t Product(const Dims& dims) {
  int64_t product = 1;
  for (int64_t d : dims) product *= d;
  return product;
}

// Whether an array has fewer than 2**31 elements, whatever its axes; oneDNN counts many things in
// int32.
inline bool FitsInt32(const Dims& dims) {
  double product = 1;
  for (int64_t d : dims) product *= static_cast<double>(d);
  return product <= INT32_MAX;
}

// "(8, 28, 28, 64)", as NumPy writes shapes.
inline std::string Text(const Dims& dims) {
  std::string text = "(";
  for (size_t i = 0; i < dims.size(); ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + (dims.size() == 1 ? ",)" : ")");
}

// oneDNN's name of an XLA dtype, `undef` where it has none.
inline memory::data_type TypeOf(ffi::DataType type) {
  switch (type) {
    case ffi::DataType::F32:
      return memory::data_type::f32;
    case ffi::DataType::BF16:
      return memory::data_type::bf16;
    case ffi::DataType::F16:
      return memory::data_type::f16;
    case ffi::DataType::S32:
      return memory::data_type::s32;
    case ffi::DataType::S8:
      return memory::data_type::s8;
    case ffi::DataType::U8:
      return memory::data_type::u8;
    default:
      return memory::data_type::undef;
  }
}

// The numbers of a buffer that must be float32.
inline float* Floats(const ffi::AnyBuffer& buffer, const char* name) {
  Require(buffer.element_type() == ffi::DataType::F32, std::string(name) + " must be float32");
  return static_cast<float*>(buffer.untyped_data());
}

inline const char* Name(memory::data_type type) { return dnnl_dt2str(memory::convert_to_c(type)); }

// Runs `body`; whatever it throws becomes an XLA error that says "<op>: <reason>; got <call>".
//
// `call` is a function that describes the operands: it is called only where there is an error.
template <class Body, class Call>
ffi::Error Guarded(const char* op, Body&& body, Call&& call) noexcept {
  const auto error = [&](ffi::ErrorCode code, const std::string& reason) {
    return ffi::Error(code, std::string(op) + ": " + reason + "; got " + call());
  };
  try {
    body();
    return ffi::Error::Success();
  } catch (const Refusal& refusal) {
    return error(ffi::ErrorCode::kInvalidArgument, refusal.what());
  } catch (const dnnl::error& e) {
    const bool memory = e.status == dnnl_out_of_memory;
    return error(
        memory ? ffi::ErrorCode::kResourceExhausted : ffi::ErrorCode::kInternal,
        std::string("oneDNN says \"") + e.what() + "\" (" + dnnl_status2str(e.status) + ")");
  } catch (const std::bad_alloc&) {
    return error(ffi::ErrorCode::kResourceExhausted, "no memory left");
  } catch (const std::exception& e) {
    return error(ffi::ErrorCode::kInternal, e.what());
  } catch (...) {
    return error(ffi::ErrorCode::kInternal, "an exception of unknown type");
  }
}

}  // namespace jconv
