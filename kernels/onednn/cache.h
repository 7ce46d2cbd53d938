// The one state that this library holds: the least recently used primitives, bounded, thread-safe.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

namespace jconv {

// Everything static about a call, as integers: equal keys mean equal primitives.
using Key = std::vector<int64_t>;

struct KeyHash {
  size_t operator()(const Key& key) const {
    uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a (Fowler, Noll & Vo 1991), by words
    for (int64_t word : key) hash = (hash ^ static_cast<uint64_t>(word)) * 0x100000001b3u;
    return hash ^ (hash >> 29);
  }
};

// Plans are made outside of the lock: it takes milliseconds, and the other threads' plans are there
// already. Two threads that miss the same key make it twice and keep the first. A plan in use stays
// alive when it is dropped, by its shared pointer.
template <class Plan>
class Cache {
 public:
  explicit Cache(size_t capacity) : capacity_(capacity) {}

  // The plan of `key`; where there is none yet, `make()` makes it. What `make` throws passes.
  template <class Make>
  std::shared_ptr<const Plan> Get(const Key& key, Make&& make) {
    if (auto found = Find(key)) return found;
    auto made = std::make_shared<const Plan>(make());
    std::lock_guard<std::mutex> lock(mutex_);
    auto [at, inserted] = index_.try_emplace(key);
    if (!inserted) return at->second->second;
    order_.emplace_front(key, made);
    at->second = order_.begin();
    if (order_.size() > capacity_) {
      index_.erase(order_.back().first);
      order_.pop_back();
    }
    return made;
  }

  // How many plans it keeps.
  size_t size() {
    std::lock_guard<std::mutex> lock(mutex_);
    return order_.size();
  }

 private:
  using Order = std::list<std::pair<Key, std::shared_ptr<const Plan>>>;

  std::shared_ptr<const Plan> Find(const Key& key) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto at = index_.find(key);
    if (at == index_.end()) return nullptr;
    order_.splice(order_.begin(), order_, at->second);
    return at->second->second;
  }

  const size_t capacity_;
  std::mutex mutex_;
  Order order_;  // the last used first
  std::unordered_map<Key, typename Order::iterator, KeyHash> index_;
};

}  // namespace jconv
