#include "threads.h"

// libgomp's, which libdnnl brings: <omp.h> would need the compiler's own OpenMP, and clang's is
// another one.
extern "C" int omp_get_max_threads();
extern "C" void omp_set_num_threads(int);

namespace jconv {
namespace {

const int kMostThreads = std::max(1, omp_get_max_threads());
std::mutex turn;

}  // namespace

int MostThreads() { return kMostThreads; }

int Threads(const xla::ffi::ThreadPool& pool) {
  const int64_t of_pool = pool.num_threads();  // 0: XLA has no pool
  return of_pool > 0 ? static_cast<int>(std::min<int64_t>(of_pool, kMostThreads)) : kMostThreads;
}

Team::Team(int size) : size_(size), before_(omp_get_max_threads()) { omp_set_num_threads(size_); }

Team::~Team() { omp_set_num_threads(before_); }

std::unique_lock<std::mutex> Team::Turn() const {
  return size_ > 1 ? std::unique_lock(turn) : std::unique_lock<std::mutex>();
}

}  // namespace jconv
