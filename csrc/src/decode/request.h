// SPDX-License-Identifier: Apache-2.0
// A request: what was asked, where it stands, what came out.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "decode/text_stream.h"
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
  Tensor encoder_states;        ///< given instead of encoder_ids
  std::vector<int32_t> prompt;  ///< decoder ids, start ids included
  DecodeRules rules;
  int num_return_sequences = 1;
  int64_t place = 0;                ///< in the caller's list
  std::vector<int32_t> suppressed;  ///< what rules.suppressed points to
  std::vector<IdBias> biased;       ///< what rules.biased points to
  StopStrings stop_strings;         ///< what rules.stop_strings points to
  std::shared_ptr<const TokenBytes> token_bytes;
  std::shared_ptr<TokenSampler> sampler;
  std::vector<int32_t> told;      ///< of each row, how much of it `on_token` has seen or need not
  std::vector<TextStream> texts;  ///< of each row, once it is streamed
  int32_t slot = -1;
  bool is_encoded = false;    ///< `cross` is filled
  bool is_prefilled = false;  ///< the prompt's keys and values are in `self`
  KvRegion self, cross;
  Tensor history, candidates;  ///< what state.contrast points to
  std::vector<Hypothesis> results;

  /// Encoder positions; 0 without an encoder.
  [[nodiscard]] int64_t source_length() const noexcept {
    return encoder_ids.empty() ? encoder_states.shape().dim(0)
                               : static_cast<int64_t>(encoder_ids.size());
  }
};

/// Checks ids and options against the spec and fills what was asked for. max_rows: rows there is
/// room for. Throws Error(value) naming the argument, what must hold and what came.
[[nodiscard]] Request make_request(const TransformerSpec& spec, const Prompt& prompt,
                                   const GenerationOptions& options, int max_rows);

/// Ends a request that has no rows: its results are its prompt, cut to max_length.
void finish_unstarted(Request& request, StopReason reason);

/// Throws Error(value) for max_rows out of range or another cache_dtype than float32 and bfloat16.
void check_session_options(const char* call, const SessionOptions& options);

/// A seed from the system.
[[nodiscard]] uint64_t fresh_seed();

/// Throws Error(value) unless a prompt's source is what the model takes: ids or states for one with
/// an encoder, nothing for one without.
void check_source(const TransformerSpec& spec, const Prompt& prompt);

/// Throws Error(value) unless all ids are in [0, vocab) and there are at most max_positions of them
/// (0: no bound).
void check_ids(const char* argument, std::span<const int32_t> ids, int vocab,
               int64_t max_positions);

/// Positions that a stack's table has room for; 0: no bound.
[[nodiscard]] inline int64_t max_positions(const StackSpec& stack) noexcept {
  return stack.positions == Positions::table ? stack.max_positions : 0;
}

}  // namespace fuseq::inline v0
