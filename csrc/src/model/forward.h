// SPDX-License-Identifier: Apache-2.0
// From ids to hidden rows and logits.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/linear_top.h"
#include "model/layer.h"

namespace fuseq::inline v0 {

/// Encoder states of packed sources into states [N, D], N the sum of the lengths. Ids must be in
/// range.
void encode_rows(Context& ctx, const Model::Impl& model,
                 std::span<const std::span<const int32_t>> sources, View states);

/// Decoder rows: ids [N] through embedding and layers into hidden [N, D], without the final norm.
void decode_rows(Context& ctx, const Model::Impl& model, std::span<const int32_t> ids,
                 const StackPass& pass, View hidden);

/// Logits [M, V] of hidden rows rows[0 ... M - 1]; a row may be asked for more than once.
void head(Context& ctx, const Model::Impl& model, ConstView hidden, std::span<const int32_t> rows,
          View logits);

/// Whether head_top can be asked: logits are what the last product gives.
[[nodiscard]] bool has_plain_head(const Model::Impl& model);

/// The best logits of those rows only. For a model with a plain head.
void head_top(Context& ctx, const Model::Impl& model, ConstView hidden,
              std::span<const int32_t> rows, const TopOutputs& top);

}  // namespace fuseq::inline v0
