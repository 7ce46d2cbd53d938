// How many threads a handler uses, and loops over XLA's own pool.
//
// oneDNN as PyPI has it runs on OpenMP, whose threads are not XLA's, and XLA may run several
// handlers at once, on one CPU device or on several. So oneDNN's primitives run one after the
// other, each on all threads: the CPU is never shared out twice, and a filter gradient, whose sums
// are split by the number of threads, is the same in every run. Loops of our own, and products of
// matrices inside them that take one thread each, run on XLA's pool, which knows of everything that
// waits.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <new>

#include "xla/ffi/api/ffi.h"

namespace jconv {

// The most threads that anything here uses: what OpenMP makes of the process's affinity mask and of
// OMP_NUM_THREADS, read once when the library is loaded.
int MostThreads();

// How many of them XLA's pool has.
int Threads(const xla::ffi::ThreadPool& pool);

// The threads of one call of oneDNN. While it lives, OpenMP uses as many on the calling thread.
class Team {
 public:
  explicit Team(const xla::ffi::ThreadPool& pool) : Team(Threads(pool)) {}
  explicit Team(int size);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const { return size_; }

  // Waits until no other team runs; this one may, while the lock is held. The one that runs waits
  // for nothing but OpenMP's threads, so XLA's may wait here.
  std::unique_lock<std::mutex> Turn() const;

 private:
  int size_;
  int before_;
};

// Calls `f(i)` for i from 0 to n - 1, on up to `threads` threads: the calling one, and those of
// XLA's pool that are free. The calling thread never waits for a task that has not started, so a
// full pool can't block it. `f` must not throw.
template <class F>
void ParallelFor(xla::ffi::ThreadPool& pool, int threads, int64_t n, const F& f) {
  if (threads <= 1 || n <= 1) {
    for (int64_t i = 0; i < n; ++i) f(i);
    return;
  }
  struct State {
    std::atomic<int64_t> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable all_done;
  };
  auto state = std::make_shared<State>();
  // A task that starts after the end finds nothing left and never touches `f`, which is gone.
  const auto work = [state, n, f = &f] {
    for (int64_t i = state->next++; i < n; i = state->next++) {
      (*f)(i);
      if (++state->done == n) {
        std::lock_guard<std::mutex> lock(state->mutex);
        state->all_done.notify_one();
      }
    }
  };
  try {
    for (int64_t t = 1; t < std::min<int64_t>(threads, n); ++t) {
      pool.Schedule(std::function<void()>(work));
    }
  } catch (const std::bad_alloc&) {  // fewer help, then
  }
  work();
  std::unique_lock<std::mutex> lock(state->mutex);
  state->all_done.wait(lock, [&] { return state->done == n; });
}

// Calls `f(first, last)` for parts of 0 to n - 1, on all threads. `f` must not throw.
template <class F>
void InParts(xla::ffi::ThreadPool& pool, int64_t n, int64_t parts, const F& f) {
  const int64_t together = (n + parts - 1) / parts;
  ParallelFor(pool, Threads(pool), (n + together - 1) / together,
              [&](int64_t part) { f(part * together, std::min(n, (part + 1) * together)); });
}

}  // namespace jconv
