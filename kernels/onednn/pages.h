// Huge pages for large results.
#pragma once

#include <sys/mman.h>

#include <cstdint>

#include "xla/ffi/api/ffi.h"

namespace jconv {

// Asks Linux for pages of 2 MiB where this result, not yet written, lies.
//
// glibc gives large arrays back to the system when they are freed, so each call writes to memory
// that must be mapped and cleared anew: on pages of 4 KiB that took up to four times as long as the
// arithmetic of a pooling or a norm. It is a hint: where huge pages are off, nothing changes.
inline void AskForHugePages(const xla::ffi::AnyBuffer& result) {
  constexpr uintptr_t kPage = uintptr_t{2} << 20;
  const auto start = reinterpret_cast<uintptr_t>(result.untyped_data());
  const uintptr_t first = (start + kPage - 1) / kPage * kPage;
  const uintptr_t end = (start + result.size_bytes()) / kPage * kPage;
  if (first < end) madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);
}

}  // namespace jconv
