// SPDX-License-Identifier: Apache-2.0
// Geometry and pool of the key and value caches.
#include "model/kv_cache.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/memory.h"
#include "fuseq/copy.h"

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

void clear(const KvRegion& region) noexcept {
  std::memset(region.data, 0, static_cast<size_t>(region.geometry.num_bytes()));
}

namespace {

/// Calls f(part of the cache, part of the region) for pieces of one shape and stride pattern: all
/// values of a layer, its whole blocks of keys, and the keys of the last block.
template <typename CacheView, typename F>
void each_piece(const KvRegion& region, const CacheView& cache, const F& f) {
  const KvGeometry& g = region.geometry;
  const int64_t S = cache.dim(2);
  const int64_t G = g.kv_heads;
  const int64_t E = g.head_dim;
  auto* const data =
      static_cast<std::byte*>(const_cast<void*>(static_cast<const void*>(cache.data)));
  const auto cache_part = [&](int64_t layer, int64_t kind, int64_t position, const Shape& shape,
                              const Strides& strides) {
    const int64_t at =
        layer * cache.stride(0) + kind * cache.stride(1) + position * cache.stride(2);
    return CacheView(data + at * static_cast<int64_t>(size_of(cache.dtype)), cache.dtype, shape,
                     strides);
  };
  const int64_t s = cache.stride(2);
  const int64_t h = cache.stride(3);
  const int64_t e = cache.stride(4);
  const int64_t B = S / kKeyBlock;
  const int64_t rest = S % kKeyBlock;
  for (int64_t layer = 0; layer < g.layers; ++layer) {
    const KvView view = region.view(layer);
    const auto region_part = [&](void* base, int64_t at, const Shape& shape,
                                 const Strides& strides) {
      auto* const bytes =
          static_cast<std::byte*>(base) + at * static_cast<int64_t>(size_of(g.dtype));
      return View(bytes, g.dtype, shape, strides);
    };
    const Shape values{S, G, E};
    f(cache_part(layer, 1, 0, values, {s, h, e}),
      region_part(view.v, 0, values, {E, g.capacity * E, 1}));
    const Shape blocks{B, kKeyBlock, G, E};
    f(cache_part(layer, 0, 0, blocks, {kKeyBlock * s, s, h, e}),
      region_part(view.k, 0, blocks, {kKeyBlock * E, 1, g.capacity * E, kKeyBlock}));
    const Shape last{rest, G, E};
    f(cache_part(layer, 0, B * kKeyBlock, last, {s, h, e}),
      region_part(view.k, B * kKeyBlock * E, last, {1, g.capacity * E, kKeyBlock}));
  }
}

}  // namespace

void read_region(const KvRegion& region, View cache) {
  each_piece(region, cache, [](View to, View from) { copy(from, to); });
}

void write_region(ConstView cache, const KvRegion& region) {
  each_piece(region, cache, [](ConstView from, View to) { copy(from, to); });
}

KvPool::~KvPool() {
  release_idle();
  for (const Block& block : used_) free_aligned(block.data);
}

KvRegion KvPool::acquire(const KvGeometry& geometry) {
  const int64_t bytes = size_class(std::max<int64_t>(geometry.num_bytes(), 1));
  idle_.reserve(idle_.size() + used_.size() + 1);  // give_back must not need memory
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
