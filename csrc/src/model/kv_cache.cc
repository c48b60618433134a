// SPDX-License-Identifier: Apache-2.0
// Geometry and pool of the key and value caches.
#include "model/kv_cache.h"

#include <algorithm>
#include <bit>

#include "base/memory.h"

namespace fuseq::inline v0 {
namespace {

[[nodiscard]] int64_t round_up(int64_t positions) {
  return (positions + kKeyBlock - 1) / kKeyBlock * kKeyBlock;
}

/// Sizes come in steps of an eighth of a power of two, so that requests of similar lengths can
/// follow one another.
[[nodiscard]] int64_t size_class(int64_t bytes) {
  const int64_t step = std::max<int64_t>(
      4096, static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(bytes)) / 8));
  return (bytes + step - 1) / step * step;
}

}  // namespace

KvGeometry::KvGeometry(const StackSpec& stack, int64_t num_layers, int64_t max_length,
                       int64_t prefix_length, int64_t num_lanes, DType cache_dtype)
    : layers(num_layers),
      kv_heads(stack.kv_heads),
      head_dim(stack.head_dim),
      capacity(round_up(max_length)),
      tail_begin(num_lanes > 1 ? prefix_length / kKeyBlock * kKeyBlock : capacity),
      lanes(num_lanes),
      dtype(cache_dtype) {}

int64_t KvGeometry::layer_bytes() const noexcept {
  const int64_t positions = capacity + (lanes - 1) * (capacity - tail_begin);
  return 2 * positions * kv_heads * head_dim * static_cast<int64_t>(size_of(dtype));
}

KvView KvRegion::view(int64_t layer) const noexcept {
  const KvGeometry& g = geometry;
  const int64_t row = g.kv_heads * g.head_dim * static_cast<int64_t>(size_of(g.dtype));
  char* const k = static_cast<char*>(data) + layer * g.layer_bytes();
  char* const v = k + g.layer_bytes() / 2;
  return {.k = k,
          .v = v,
          .k_tail = k + g.capacity * row,
          .v_tail = v + g.capacity * row,
          .capacity = g.capacity,
          .tail_begin = g.tail_begin};
}

KvPool::~KvPool() {
  release_idle();
  for (const Block& block : used_) free_aligned(block.data);
}

KvRegion KvPool::acquire(const KvGeometry& geometry) {
  const int64_t bytes = size_class(std::max<int64_t>(geometry.num_bytes(), 1));
  // The smallest idle block that fits and is not more than twice as large.
  auto best = idle_.end();
  for (auto block = idle_.begin(); block != idle_.end(); ++block) {
    if (block->bytes >= bytes && block->bytes <= 2 * bytes &&
        (best == idle_.end() || block->bytes < best->bytes)) {
      best = block;
    }
  }
  if (best != idle_.end()) {
    used_.push_back(*best);
    idle_.erase(best);
  } else {
    used_.reserve(used_.size() + 1);
    used_.push_back({allocate_aligned(static_cast<size_t>(bytes), Pages::normal), bytes});
    num_bytes_ += bytes;
  }
  return {.geometry = geometry, .data = used_.back().data};
}

void KvPool::give_back(KvRegion& region) noexcept {
  const auto block = std::ranges::find(used_, region.data, &Block::data);
  if (block == used_.end()) return;
  idle_.push_back(*block);
  used_.erase(block);
  region.data = nullptr;
  // A few idle blocks of the sizes in use are enough; the oldest go first.
  constexpr size_t kMaxIdle = 64;
  if (idle_.size() > kMaxIdle) {
    free_aligned(idle_.front().data);
    num_bytes_ -= idle_.front().bytes;
    idle_.erase(idle_.begin());
  }
}

void KvPool::release_idle() noexcept {
  for (const Block& block : idle_) {
    free_aligned(block.data);
    num_bytes_ -= block.bytes;
  }
  idle_.clear();
}

}  // namespace fuseq::inline v0
