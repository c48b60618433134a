// SPDX-License-Identifier: Apache-2.0
// The lines of an attention tile, and where the keys and values of a head lie; for files compiled
// once per instruction set.
#pragma once

#include <cstdint>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/kv_lane.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

/// Positions whose scores are kept at a time: six lines of them take 6 KiB.
inline constexpr int64_t kChunk = 256;
inline constexpr float kLowest = -__builtin_inff();

/// One head of one row on its way over the chunks.
struct Line {
  int64_t begin;  ///< the positions it sees
  int64_t end;
  const int32_t* lanes;  ///< lane of each position; null: lane 0
  const float* bias;     ///< of distance 0; null: none
  int64_t query_position;
  float max;
  f32x16 sum;
};

/// Lines that share one key head. Outputs gather in `out` until the last chunk.
struct Tile {
  int count;
  int64_t begin;  ///< what any of the lines sees
  int64_t end;
  Line line[kTileLines];
  const float* q[kTileLines];
  float* out[kTileLines];
  float* scores[kTileLines];  ///< of one chunk
};

[[gnu::always_inline]] inline int64_t lesser(int64_t a, int64_t b) {
  return a < b ? a : b;
}
[[gnu::always_inline]] inline int64_t greater(int64_t a, int64_t b) {
  return a > b ? a : b;
}

/// Lanes in which a position lies outside begin ... end - 1 are not set.
[[gnu::always_inline]] inline uint32_t positions_between(int64_t begin, int64_t end,
                                                         int64_t block) {
  const int64_t from = greater(begin - block, 0);
  const int64_t to = lesser(end - block, kKeyBlock);
  if (from >= to) return 0;
  return ((1u << static_cast<unsigned>(to)) - 1u) & ~((1u << static_cast<unsigned>(from)) - 1u);
}

/// Keys and values of one head, by lane and position.
template <typename T>
class Head {
 public:
  Head(const AttentionRows& args, const KvView& kv, int64_t g) : E_(args.E) {
    const KvLane<T> body = kv_lane<T>(kv, 0, args.G, args.E);
    k_[0] = body.k + kv_offset(body, g, 0, args.E);
    v_[0] = body.v + kv_offset(body, g, 0, args.E);
    stride_ = args.G * (kv.capacity - kv.tail_begin) * args.E;
    if (kv.k_tail == nullptr) return;
    // Counted from lane 0 and position 0, which are not in the tail.
    const KvLane<T> tail = kv_lane<T>(kv, 1, args.G, args.E);
    tail_offset_ = kv_offset(tail, g, 0, args.E) - stride_;
    k_[1] = tail.k;
    v_[1] = tail.v;
  }

  /// The block that begins at `position`, a multiple of 16.
  [[nodiscard]] const T* block(int64_t lane, int64_t position) const {
    return lane == 0 ? k_[0] + position * E_
                     : k_[1] + (tail_offset_ + lane * stride_ + position * E_);
  }
  [[nodiscard]] const T* value(int64_t lane, int64_t position) const {
    return lane == 0 ? v_[0] + position * E_
                     : v_[1] + (tail_offset_ + lane * stride_ + position * E_);
  }

 private:
  int64_t E_;
  int64_t stride_ = 0;
  int64_t tail_offset_ = 0;
  const T* k_[2] = {};
  const T* v_[2] = {};
};

/// Adds the values at positions begin ... end - 1 to `count` lines from `first` on.
template <typename Values>
void add_to_lines(const Tile& tile, int first, int count, const Values& values, int64_t E,
                  int64_t chunk, int64_t begin, int64_t end) {
  const float* weights[kTileLines];
  for (int r = 0; r < count; ++r) weights[r] = tile.scores[first + r] + (begin - chunk);
  add_values(count, weights, values, end - begin, E, tile.out + first);
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
