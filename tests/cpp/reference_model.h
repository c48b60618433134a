// SPDX-License-Identifier: Apache-2.0
// The plain reference of a whole model: one sequence, double precision, no caches, nothing fused.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "random_model.h"

namespace fuseq::test {

using Matrix = std::vector<std::vector<double>>;

/// Encoder states [S][D].
Matrix reference_encode(const TransformerSpec& spec, const Weights& weights,
                        std::span<const int32_t> ids);

/// Logits [T][V] of decoder ids; `encoder_ids` is empty for a model without an encoder.
Matrix reference_logits(const TransformerSpec& spec, const Weights& weights,
                        std::span<const int32_t> encoder_ids, std::span<const int32_t> ids);

}  // namespace fuseq::test
