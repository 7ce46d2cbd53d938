// What Python asks of a call before it is made.
#pragma once

#include <cstring>

#include "cache.h"
#include "common.h"
#include "threads.h"

namespace jconv {

// What a call needs, asked when it is lowered: bytes of scratch memory, at least 0, with oneDNN's
// name for the code that would run in `text`; or -1, with the reason why there is none.
//
// `integers` are those of Spec::key; threads = 0 means as many as there are. `make` makes a plan.
template <class Spec, class Make>
int64_t Query(const int64_t* integers, int64_t count, char* text, int64_t size,
              const Make& make) noexcept {
  int64_t bytes = -1;
  std::string answer;
  try {
    Spec spec = Spec::Of(Key(integers, integers + count));
    spec.Check();
    if (spec.threads == 0) spec.threads = MostThreads();
    const auto plan = make(spec);
    answer = plan.implementation;
    bytes = static_cast<int64_t>(plan.scratch());
  } catch (const dnnl::error& error) {
    answer =
        error.status == dnnl_unimplemented ? "oneDNN has no code for it on this CPU" : error.what();
  } catch (const std::exception& error) {
    answer = error.what();
  }
  std::strncpy(text, answer.c_str(), size - 1);
  text[size - 1] = '\0';
  return bytes;
}

}  // namespace jconv
