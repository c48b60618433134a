// SPDX-License-Identifier: Apache-2.0
// A draw from a row of scores: which ids may come, and the noise that decides between them.
//
// The ids of a row are ordered by score, equal ones by id. Every filter keeps a prefix of that
// order. To each kept id's score / temperature comes -log(-log u), and the largest sum wins, which
// is a draw from their softmax (Gumbel; Maddison et al. 2014, https://arxiv.org/abs/1411.0030). u
// is made of one word of Philox4x32-10 (Salmon et al. 2011,
// https://doi.org/10.1145/2063384.2063405) under key seed and counter (block, step, sample,
// sequence), so that a draw depends on nothing else: no order, slice, thread or other row. 64
// neighbouring ids share 16 blocks: id has word id / 16 % 4 of block id / 64 * 16 + id % 16.
#pragma once

#include <cstdint>
#include <span>

#include "base/memory.h"
#include "fuseq/device.h"

namespace fuseq::inline v0 {

/// What may be drawn. The order is temperature, top_k, top_p, min_p.
struct DrawFilter {
  float temperature = 1;
  int32_t top_k = 0;          ///< 0: all
  float top_p = 1;            ///< 1: all. The best ids up to the first with which their sum is >= p
  float min_p = 0;            ///< 0: all. Ids with at least min_p times the best one's probability
  bool top_p_of_all = false;  ///< top_p's probabilities are those from before top_k, and its sum
                              ///< must be > p
};

/// Names one draw.
struct DrawKey {
  uint64_t seed = 0;
  uint32_t sequence = 0;
  uint32_t sample = 0;
  uint32_t step = 0;
};

/// An id that may be drawn.
struct DrawCandidate {
  float score;   ///< (score - best score) / temperature
  float weight;  ///< exp(score)
  int32_t id;
};

/// Room for one draw at a time.
struct DrawScratch {
  std::span<float> scores;              ///< [V]
  std::span<int32_t> ids;               ///< [V]
  std::span<DrawCandidate> candidates;  ///< [V]
  std::span<float> list_scores;         ///< [kMaxDrawList]
  std::span<int64_t> list_ids;          ///< [kMaxDrawList]
};
[[nodiscard]] DrawScratch take_draw_scratch(Arena& arena, int64_t V);

/// Up to so many ids of top_k are found by a running list, more by selection.
inline constexpr int32_t kMaxDrawList = 256;

/// Below it 1 / temperature would overflow.
inline constexpr float kLeastTemperature = 1e-37f;

/// Throws Error(value) that begins with `prefix` and names the first field out of range.
void check_draw_filter(const char* prefix, const DrawFilter& filter);

/// The drawn id. NaN counts as -inf. Of a row with nothing above -inf, the first id; of one with
/// +inf, the first such.
[[nodiscard]] int32_t draw(CpuIsa isa, std::span<const float> row, const DrawFilter& filter,
                           const DrawKey& key, const DrawScratch& scratch);

}  // namespace fuseq::inline v0
