// SPDX-License-Identifier: Apache-2.0
// Reads, and generates with one row, in turn.
#include "products/whole_step.h"

#include <algorithm>
#include <limits>

#include "decode/measure.h"
#include "products/rounds.h"

namespace fuseq::bench {
namespace {

constexpr int kPasses = 3;  // with each number of streams
constexpr int kTries = 3;   // generations of a round

Case case_of(const Model& model) {
  const bool is_seq2seq = model.spec().is_seq2seq();
  // A sequence-to-sequence row starts from its start id.
  return {.source_length = is_seq2seq ? kSourceLength : 0,
          .prompt_length = is_seq2seq ? 1 : kPromptLength,
          .new_tokens = kNewTokens};
}

double target_of(DType dtype) {
  if (dtype == DType::f32) return 85;
  return dtype == DType::bf16 ? 80 : 75;
}

}  // namespace

int64_t step_bytes(const Model& model) {
  return bytes_per_step(model, case_of(model));
}

Record measure_whole_step(const std::string& name, const std::shared_ptr<const Model>& model,
                          const ReadBuffer& buffer, int threads, int rounds) {
  const Case c = case_of(*model);
  const auto bytes = static_cast<double>(step_bytes(*model));
  Rounds working_set, steps;
  for (int round = 0; round < rounds; ++round) {
    working_set.push_back(buffer.bandwidth(step_bytes(*model), threads, kPasses));
    const Measurement m = measure(model, c, threads, 1, kTries);
    double shortest = std::numeric_limits<double>::max();
    for (size_t i = 0; i < m.seconds.size(); ++i) {
      shortest = std::min(shortest, (m.seconds[i] - m.prefill_seconds[i]) / (c.new_tokens - 1));
    }
    steps.push_back(bytes / shortest);
  }
  const Share reached = share(steps, working_set);
  const double target = target_of(model->dtype());
  return {
      {"model", name, false},
      {"dtype", std::string(fuseq::name(model->dtype())), false},
      {"threads", std::to_string(threads)},
      {"MB", fixed(bytes * 1e-6, 1)},
      {"ms", fixed(bytes / best(steps) * 1e3, 3)},
      {"GB/s", fixed(best(steps) * 1e-9, 1)},
      {"C_ws", fixed(best(working_set) * 1e-9, 1)},
      {"% of C_ws", fixed(reached.of_best, 1)},
      {"median % of C_ws", fixed(reached.median, 1)},
      {"target", fixed(target, 0) + " % of C_ws", false},
      {"met", is_met(reached, target), false},
  };
}

}  // namespace fuseq::bench
