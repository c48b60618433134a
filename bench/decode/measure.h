// SPDX-License-Identifier: Apache-2.0
// One combination of settings, run and timed.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "fuseq/model.h"

namespace fuseq::bench {

struct Case {
  int batch = 1;
  int beams = 1;
  int source_length = 0;  ///< 0: the model has no encoder
  int prompt_length = 1;
  int new_tokens = 2;
};

struct Measurement {
  std::vector<double> seconds;          ///< of each repetition
  std::vector<double> prefill_seconds;  ///< of its first step: encoder, prompt and first token
  bool is_split = true;  ///< false: the prompts entered in several steps, so prefill and decode mix
};

/// Runs the case on a session of its own; `threads` 0: the library's choice.
[[nodiscard]] Measurement measure(const std::shared_ptr<const Model>& model, const Case& c,
                                  int threads, int warm_ups, int repetitions);

/// Bytes that a decode step has to read: the decoder's matrices and the head, and the keys and
/// values of all rows at half of the new tokens.
[[nodiscard]] int64_t bytes_per_step(const Model& model, const Case& c);

}  // namespace fuseq::bench
