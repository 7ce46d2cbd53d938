// What the library says of itself.
#include "common.h"

// Major version * 1000 + minor version of the XLA FFI headers that this was compiled with.
extern "C" __attribute__((visibility("default"))) int jconv_onednn_ffi_api() {
  return XLA_FFI_API_MAJOR * 1000 + XLA_FFI_API_MINOR;
}

// oneDNN's version and the instruction set that it uses here, such as "3.2.0, avx512_core_bf16".
extern "C" __attribute__((visibility("default"))) const char* jconv_onednn_version() {
  static const std::string text = [] {
    const dnnl_version_t* version = dnnl_version();
    return std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
           std::to_string(version->patch) + ", " + dnnl_cpu_isa2str(dnnl_get_effective_cpu_isa());
  }();
  return text.c_str();
}
