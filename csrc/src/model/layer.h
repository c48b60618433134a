// SPDX-License-Identifier: Apache-2.0
// The one transformer layer: packed rows of many sequences through one stack.
#pragma once

#include <cstdint>
#include <span>

#include "fuseq/context.h"
#include "model/kv_cache.h"
#include "model/model_impl.h"

namespace fuseq::inline v0 {

/// Consecutive rows of one sequence in a pass, and where its keys and values are.
struct PassSequence {
  int64_t first_row = 0;
  int64_t num_rows = 0;
  KvRegion self;
  KvRegion cross;                  ///< decoder of a sequence-to-sequence model only
  const int32_t* lanes = nullptr;  ///< as KvGroup::lanes, for self-attention
  int64_t lane_stride = 0;
};

/// What a pass of N rows through a stack reads beside the weights.
struct StackPass {
  std::span<const PassSequence> sequences;
  std::span<const int32_t> positions;         ///< [N] position of each row in its sequence
  std::span<const int32_t> key_counts;        ///< [N] positions that self-attention of a row sees
  std::span<const int32_t> append_lanes;      ///< [N] cache lane a row is stored in; empty: 0
  std::span<const int32_t> cross_key_counts;  ///< [N] encoder positions of the row's source
  /// Each layer stores its keys and values in a region's only layer: what an encoder needs.
  bool one_layer_regions = false;
};

/// y = norm(x) of the stack's kind; y may be x.
void apply_norm(Context& ctx, const StackSpec& spec, const NormWeights& weights, ConstView x,
                View y);

/// x [N, D] goes through all layers in place; embedding and final norms are the caller's.
void run_layers(Context& ctx, const StackSpec& spec, const StackWeights& weights,
                const StackPass& pass, View x);

/// Keys and values of cross-attention for every decoder layer, from encoder states [N, D] of packed
/// sources.
void fill_cross_caches(Context& ctx, const StackSpec& decoder, const StackWeights& weights,
                       ConstView states, std::span<const PassSequence> sources);

}  // namespace fuseq::inline v0
