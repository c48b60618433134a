// SPDX-License-Identifier: Apache-2.0
// Attention of packed rows; see fuseq/ops.h for what the fields mean.
#pragma once

#include <cstdint>

#include "fuseq/ops.h"
#include "kernels/cpu/per_isa.h"

namespace fuseq::inline v0::cpu {

struct AttentionRows {
  const float* q;
  int64_t q_row_stride;
  int64_t q_head_stride;
  float* out;
  int64_t out_row_stride;
  int64_t out_head_stride;
  int64_t H;
  int64_t G;
  int64_t E;
  bool is_bf16;
  const KvGroup* groups;
  int64_t num_groups;
  const int32_t* key_counts;
  int64_t window;
  float scale;
  float score_cap;
  const float* bias;  ///< null: none
  int64_t bias_head_stride;
  int64_t bias_reach;
  const int32_t* query_positions;
};

/// Computes the items thread, thread + num_threads, ... of all; an item is a few query heads that
/// share one key head. So every thread gets its share of the long rows of a causal prompt.
FUSEQ_DECLARE_PER_ISA(void attention_items(const AttentionRows& args, int64_t thread,
                                           int64_t num_threads))

}  // namespace fuseq::inline v0::cpu
