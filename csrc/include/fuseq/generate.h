// SPDX-License-Identifier: Apache-2.0
// generate: the whole decode loop in one call.
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

/// Generates from every prompt and returns num_return_sequences hypotheses for each, in the order
/// of the prompts.
///
/// Runs on a session that is kept with the model; a second call on the same model waits for the
/// first. Prompts flow through the session's slots, the next entering when a row leaves, so memory
/// is bounded by the slots and not by the number of prompts. Throws Error(value) naming the prompt
/// and what is wrong before any work is done.
FUSEQ_API std::vector<std::vector<Hypothesis>> generate(const Model& model,
                                                        std::span<const Prompt> prompts,
                                                        const GenerationOptions& options = {});

/// The same, polling `interrupted` at least every 50 ms or step, whichever is longer; when it
/// returns true the call ends with Error(runtime) "interrupted", and the model stays usable.
FUSEQ_API std::vector<std::vector<Hypothesis>> generate(const Model& model,
                                                        std::span<const Prompt> prompts,
                                                        const GenerationOptions& options,
                                                        const std::function<bool()>& interrupted);

}  // namespace fuseq::inline v0
