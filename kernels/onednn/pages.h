// The system's pages under large results.
#pragma once

#include "xla/ffi/api/ffi.h"

namespace jconv {

// Asks for huge pages (2 MiB) under a buffer of 4 MiB or more, which is about to be written.
//
// glibc maps large arrays anew for every call. Page by page of 4 KiB that takes longer than a pool,
// a norm or a depthwise convolution computes; by huge pages a quarter of the time. A buffer that is
// mapped already, and a system that has no huge pages to give, leave things as they are.
//
// The environment variable JCONV_HUGE_PAGES=0 turns it off; it is read once.
void OnHugePages(const xla::ffi::AnyBuffer& buffer);

}  // namespace jconv
