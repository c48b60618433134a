// SPDX-License-Identifier: Apache-2.0
// TokenSampler: where a caller's own code chooses the next ids.
#pragma once

#include <cstdint>
#include <span>

#include "fuseq/tensor.h"

namespace fuseq::inline v0 {

/// Chooses ids from probabilities. Called once per step for all rows of one session that share it.
class TokenSampler {
 public:
  virtual ~TokenSampler() = default;

  /// probabilities  [B, V] f32, softmax(scores / temperature) after the rules of GenerationOptions
  /// ids            [B]    to be filled with ids in [0, V)
  ///
  /// Rows come in the order of the prompts. What it throws ends the step and reaches the caller of
  /// `step` or `generate`; no token is added.
  virtual void choose(ConstView probabilities, std::span<int32_t> ids) = 0;
};

}  // namespace fuseq::inline v0
