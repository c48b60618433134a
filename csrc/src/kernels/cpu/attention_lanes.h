// SPDX-License-Identifier: Apache-2.0
// Attention of lines whose keys and values lie in several lanes; for files compiled once per
// instruction set.
#pragma once

#include <cstdint>

#include "kernels/cpu/attention_lines.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

/// Stands for "the lines do not have one lane here".
inline constexpr int32_t kSeveral = -1;

/// The lanes of a tile's lines at the positions of a chunk; only those of begin ... end - 1 mean
/// anything.
struct ChunkLanes {
  alignas(64) int32_t common[kChunk];  ///< the lane of all lines, or kSeveral
  alignas(64) int32_t line[kTileLines][kChunk];
};

inline void find_lanes(const Tile& tile, int64_t chunk, int64_t begin, int64_t end,
                       ChunkLanes& lanes) {
  for (int r = 0; r < tile.count; ++r) {
    const int32_t* const from = tile.line[r].lanes + chunk;
    for (int64_t i = begin - chunk; i < end - chunk; ++i) lanes.line[r][i] = from[i];
  }
  for (int64_t i = begin - chunk; i < end - chunk; ++i) lanes.common[i] = lanes.line[0][i];
  for (int r = 1; r < tile.count; ++r) {
    for (int64_t i = begin - chunk; i < end - chunk; ++i) {
      const bool is_same = lanes.line[r][i] == lanes.common[i];
      lanes.common[i] = is_same ? lanes.common[i] : kSeveral;
    }
  }
}

/// Blocks of keys waiting to be multiplied, each with the positions for which a line wants it.
template <typename T>
class BlockQueue {
 public:
  BlockQueue(const Tile& tile, const Head<T>& head, int64_t E, int64_t chunk)
      : tile_(tile), head_(head), E_(E), chunk_(chunk) {
    for (int r = 0; r < tile.count; ++r)
      products_[r] = products_memory_ + r * kMaxVectors * kKeyBlock;
  }

  /// wanted[r]: the positions (bit i is position + i) that line r sees in this lane.
  void push(int32_t lane, int64_t position, const uint32_t* wanted) {
    push_block(head_.block(lane, position), position, wanted);
  }
  /// All lines want the positions `wanted`, each in the lane that lanes[i] says.
  void push_for_all(const int32_t* lanes, int64_t position, uint32_t wanted) {
    uint32_t left = wanted;
    while (left != 0) {
      const int32_t lane = lanes[__builtin_ctz(left)];
      const uint32_t found = bits_where_equal(lanes, lane) & left;
      left &= ~found;
      if (E_ > kMaxMergedWidth || found == wanted) {
        uint32_t wanted_by[kTileLines];
        for (int r = 0; r < tile_.count; ++r) wanted_by[r] = found;
        push(lane, position, wanted_by);
      } else {
        merge(head_.block(lane, position), found);
      }
    }
    if (num_in_merged_ == 0) return;
    num_in_merged_ = 0;
    uint32_t wanted_by[kTileLines];
    for (int r = 0; r < tile_.count; ++r) wanted_by[r] = wanted;
    const T* const block = merged_[num_merged_++];
    push_block(block, position, wanted_by);
    if (num_merged_ == kMaxMerged) flush();
  }

  void flush() {
    if (count_ > 0) score_blocks(tile_.count, tile_.q, blocks_, count_, E_, products_);
    for (int c = 0; c < count_; ++c) {
      for (int r = 0; r < tile_.count; ++r) {
        float* const to = tile_.scores[r] + (positions_[c] - chunk_);
        const f32x16 products = load(products_[r] + c * kKeyBlock);
        const uint32_t wanted = wanted_[c][r];
        store(to, wanted == kAll ? products : select(mask_from_bits(wanted), products, load(to)));
      }
    }
    count_ = 0;
    num_merged_ = 0;
  }

  static constexpr uint32_t kAll = 0xffff;

 private:
  /// Merged blocks take 32 KiB of the stack in float32.
  static constexpr int kMaxMerged = 4;
  static constexpr int64_t kMaxMergedWidth = 128;

  void push_block(const T* block, int64_t position, const uint32_t* wanted) {
    blocks_[count_] = block;
    positions_[count_] = position;
    for (int r = 0; r < tile_.count; ++r) wanted_[count_][r] = wanted[r];
    if (++count_ == kMaxVectors) flush();
  }

  /// Puts the keys of the positions `which` of a block into the block that is being merged.
  void merge(const T* block, uint32_t which) {
    T* const to = merged_[num_merged_];
    const mask16 mask = mask_from_bits(which);
    const int64_t size = E_ * kKeyBlock;
    const bool is_first = num_in_merged_++ == 0;
    for (int64_t i = 0; i < size; i += kKeyBlock) {
      const f32x16 keys = load_cached(block + i);
      store_cached(to + i, is_first ? keys : select(mask, keys, load_cached(to + i)));
    }
  }

  const Tile& tile_;
  const Head<T>& head_;
  int64_t E_;
  int64_t chunk_;
  int count_ = 0;
  int num_merged_ = 0;
  int num_in_merged_ = 0;
  const T* blocks_[kMaxVectors];
  int64_t positions_[kMaxVectors];
  uint32_t wanted_[kMaxVectors][kTileLines];
  float* products_[kTileLines];
  alignas(64) float products_memory_[kTileLines * kMaxVectors * kKeyBlock];
  alignas(64) T merged_[kMaxMerged][kMaxMergedWidth * kKeyBlock];
};

/// Products of the tile with positions begin ... end - 1, all of which every line sees. What the
/// lines have in common is multiplied once for all of them.
template <typename T>
void score_lanes(const Tile& tile, const Head<T>& head, int64_t E, int64_t chunk, int64_t begin,
                 int64_t end, const ChunkLanes& lanes) {
  BlockQueue<T> queue(tile, head, E, chunk);
  for (int64_t block = begin / kKeyBlock * kKeyBlock; block < end; block += kKeyBlock) {
    const int64_t at = block - chunk;
    const uint32_t seen = positions_between(begin, end, block);
    const uint32_t apart = bits_where_equal(lanes.common + at, kSeveral) & seen;
    if (apart != seen) queue.push_for_all(lanes.common + at, block, seen & ~apart);
    uint32_t missing[kTileLines];
    for (int r = 0; r < tile.count; ++r) missing[r] = apart;
    for (int r = 0; r < tile.count; ++r) {
      while (missing[r] != 0) {
        const int32_t lane = lanes.line[r][at + __builtin_ctz(missing[r])];
        uint32_t wanted[kTileLines];
        for (int other = 0; other < tile.count; ++other) {
          wanted[other] = bits_where_equal(lanes.line[other] + at, lane) & missing[other];
          missing[other] &= ~wanted[other];
        }
        queue.push(lane, block, wanted);
      }
    }
  }
  queue.flush();
}

/// Adds the values of positions begin ... end - 1; those of a common lane for all lines at once.
template <typename T>
void add_lanes(const Tile& tile, const Head<T>& head, int64_t E, int64_t chunk, int64_t begin,
               int64_t end, const ChunkLanes& lanes) {
  const T* rows[kChunk];
  for (int64_t from = begin; from < end;) {
    const bool is_common = lanes.common[from - chunk] != kSeveral;
    int64_t to = from;
    while (to < end && (lanes.common[to - chunk] != kSeveral) == is_common) ++to;
    if (is_common) {
      for (int64_t i = from; i < to; ++i) rows[i - from] = head.value(lanes.common[i - chunk], i);
      add_to_lines(tile, 0, tile.count, ScatteredRows<T>{rows}, E, chunk, from, to);
    } else {
      for (int r = 0; r < tile.count; ++r) {
        for (int64_t i = from; i < to; ++i)
          rows[i - from] = head.value(lanes.line[r][i - chunk], i);
        add_to_lines(tile, r, 1, ScatteredRows<T>{rows}, E, chunk, from, to);
      }
    }
    from = to;
  }
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
