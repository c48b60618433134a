// SPDX-License-Identifier: Apache-2.0
// A request: what was asked, where it stands, what came out.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "fuseq/options.h"
#include "fuseq/session.h"
#include "fuseq/spec.h"
#include "kernels/decode_state.h"
#include "model/kv_cache.h"

namespace fuseq::inline v0 {

enum class RequestState : uint8_t { queued, running, finished };

struct Request {
  RequestId id = 0;
  RequestState state = RequestState::queued;
  std::vector<int32_t> encoder_ids;
  std::vector<int32_t> prompt;  ///< decoder ids, start ids included
  DecodeRules rules;
  int num_return_sequences = 1;
  std::vector<int32_t> suppressed;  ///< what rules.suppressed points to
  std::vector<IdBias> biased;       ///< what rules.biased points to
  int32_t slot = -1;
  KvRegion self, cross;
  std::vector<Hypothesis> results;
};

/// Checks ids and options against the spec and fills everything but id, state and slot. max_rows:
/// beams there is room for. Throws Error(value) naming the argument, what must hold and what came.
[[nodiscard]] Request make_request(const TransformerSpec& spec, const Prompt& prompt,
                                   const GenerationOptions& options, int max_rows);

/// Throws Error(value) unless all ids are in [0, vocab) and there are at most max_positions of them
/// (0: no bound).
void check_ids(const char* argument, std::span<const int32_t> ids, int vocab,
               int64_t max_positions);

/// Positions that a stack's table has room for; 0: no bound.
[[nodiscard]] inline int64_t max_positions(const StackSpec& stack) noexcept {
  return stack.positions == Positions::table ? stack.max_positions : 0;
}

}  // namespace fuseq::inline v0
