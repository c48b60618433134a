// SPDX-License-Identifier: Apache-2.0
// From ids to hidden rows and logits.
#pragma once

#include <cstdint>
#include <span>

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

}  // namespace fuseq::inline v0
