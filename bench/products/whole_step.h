// SPDX-License-Identifier: Apache-2.0
// Whole decode steps, beside plain reads of as many bytes.
#pragma once

#include <memory>
#include <string>

#include "decode/report.h"
#include "fuseq/model.h"
#include "machine_limits.h"

namespace fuseq::bench {

/// Source tokens of an encoder, prompt tokens of a causal model, and new tokens of each.
inline constexpr int kSourceLength = 128;
inline constexpr int kPromptLength = 64;
inline constexpr int kNewTokens = 64;

/// Steps of one greedy row, everything in them included: norms, attention, the choice of the id.
/// The time of a step is the mean of a generation without its first, and the shortest mean of a
/// round. The buffer has as many bytes as a step reads.
[[nodiscard]] Record measure_whole_step(const std::string& name,
                                        const std::shared_ptr<const Model>& model,
                                        const ReadBuffer& buffer, int threads, int rounds);

/// Bytes that such a step reads.
[[nodiscard]] int64_t step_bytes(const Model& model);

}  // namespace fuseq::bench
