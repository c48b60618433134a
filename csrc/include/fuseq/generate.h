// SPDX-License-Identifier: Apache-2.0
// generate and score: whole lists in one call.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "fuseq/export.h"
#include "fuseq/model.h"
#include "fuseq/options.h"
#include "fuseq/session.h"

namespace fuseq::inline v0 {

/// How one call of `generate` runs; what it generates is in GenerationOptions.
struct CallOptions {
  /// Prompts decoded at a time; the next one enters when one leaves. 0: as many as make 32 rows.
  int max_batch_size = 0;
  /// Streams; see Session. Error(value) with beams.
  OnToken on_token = {};
  /// Polled at least every 50 ms or step, whichever is longer, and while the call waits for another
  /// one; when it returns true the call ends with Error(runtime) "interrupted".
  std::function<bool()> interrupted = {};
};

/// Generates from every prompt and returns num_return_sequences hypotheses for each, in the order
/// of the prompts.
///
/// Runs on a session that is kept with the model; a second call on the same model waits for the
/// first, and one from inside its own callback is Error(runtime). Prompts flow through the
/// session's slots, sources being encoded a few hundred tokens at a time, so memory is bounded by
/// the slots and not by the number of prompts. Throws Error(value) naming the prompt and what is
/// wrong before any work is done. After any exception the model can be used again.
FUSEQ_API std::vector<std::vector<Hypothesis>> generate(const Model& model,
                                                        std::span<const Prompt> prompts,
                                                        const GenerationOptions& options = {},
                                                        const CallOptions& call = {});

/// Session::score on the same session.
FUSEQ_API std::vector<std::vector<float>> score(
    const Model& model, std::span<const Prompt> prompts,
    std::span<const std::span<const int32_t>> targets = {});

}  // namespace fuseq::inline v0
