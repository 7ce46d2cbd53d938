#include "pages.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <string_view>

namespace jconv {
namespace {

constexpr uintptr_t kHugePage = uintptr_t{1} << 21;
constexpr size_t kLeast = 2 * kHugePage;

bool Wanted() {
  static const bool wanted = [] {
    const char* said = std::getenv("JCONV_HUGE_PAGES");
    return said == nullptr || std::string_view(said) != "0";
  }();
  return wanted;
}

}  // namespace

void OnHugePages(const xla::ffi::AnyBuffer& buffer) {
  if (buffer.size_bytes() < kLeast || !Wanted()) return;
  // Whole huge pages inside the buffer: what shares one with other arrays is not touched.
  const auto start = reinterpret_cast<uintptr_t>(buffer.untyped_data());
  const uintptr_t first = (start + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t end = (start + buffer.size_bytes()) / kHugePage * kHugePage;
  madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);  // may fail: it is advice
}

}  // namespace jconv
