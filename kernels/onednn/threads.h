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
#include <vector>

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
  // for nothing but OpenMP's threads, so XLA's may wait here. A team of one waits for nobody.
  std::unique_lock<std::mutex> Turn() const;

 private:
  int size_;
  int before_;
};

// Which of 0 to n - 1 are taken. Each worker begins with a stretch of its own: what it writes for
// the first time then lies apart from what the others write, and the system's page tables with it.
class Shares {
 public:
  Shares(int64_t n, int64_t workers) : n_(n), stretches_(workers) {
    for (int64_t w = 0; w < workers; ++w) {
      stretches_[w].next = w * n / workers;
      stretches_[w].end = (w + 1) * n / workers;
    }
  }

  // Calls `f(i)` for what is left, as the next worker; whether it was the last that was done.
  template <class F>
  bool Work(const F& f) {
    const auto workers = static_cast<int64_t>(stretches_.size());
    const int64_t first = joined_++;
    bool last = false;
    for (int64_t w = 0; w < workers; ++w) {
      Stretch& stretch = stretches_[(first + w) % workers];
      for (int64_t i = stretch.next++; i < stretch.end; i = stretch.next++) {
        f(i);
        last = ++done_ == n_;
      }
    }
    return last;
  }

  bool all_done() const { return done_ == n_; }

 private:
  struct alignas(64) Stretch {
    std::atomic<int64_t> next;
    int64_t end;
  };

  const int64_t n_;
  std::atomic<int64_t> joined_{0}, done_{0};
  std::vector<Stretch> stretches_;
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
    State(int64_t n, int64_t workers) : shares(n, workers) {}
    Shares shares;
    std::mutex mutex;
    std::condition_variable all_done;
  };
  const int64_t workers = std::min<int64_t>(threads, n);
  auto state = std::make_shared<State>(n, workers);
  // A task that starts after the end finds nothing left and never touches `f`, which is gone.
  const auto work = [state, f = &f] {
    if (!state->shares.Work(*f)) return;
    std::lock_guard<std::mutex> lock(state->mutex);
    state->all_done.notify_one();
  };
  try {
    for (int64_t t = 1; t < workers; ++t) pool.Schedule(std::function<void()>(work));
  } catch (const std::bad_alloc&) {  // fewer help, then
  }
  work();
  std::unique_lock<std::mutex> lock(state->mutex);
  state->all_done.wait(lock, [&] { return state->shares.all_done(); });
}

// Calls `f(first, last)` for parts of 0 to n - 1, on all threads. `f` must not throw.
template <class F>
void InParts(xla::ffi::ThreadPool& pool, int64_t n, int64_t parts, const F& f) {
  const int64_t together = (n + parts - 1) / parts;
  ParallelFor(pool, Threads(pool), (n + together - 1) / together,
              [&](int64_t part) { f(part * together, std::min(n, (part + 1) * together)); });
}

}  // namespace jconv
