// SPDX-License-Identifier: Apache-2.0
// The rows of a decode step in the middle of their requests. Its ops are internal: only a static
// library shows them.
#pragma once

#include <cstdint>
#include <numeric>
#include <vector>

#include "kernels/ref/decode_ops_ref.h"
#include "random_weights.h"

namespace fuseq::bench {

/// Requests that are all alike, of `num_rows` hypotheses or draws each.
struct Step {
  Step(int num_requests, int num_rows, int64_t vocab, DecodeMode mode, const DrawFilter& filter)
      : rules(static_cast<size_t>(num_requests)) {
    const auto requests = static_cast<size_t>(num_requests);
    const size_t rows = requests * static_cast<size_t>(num_rows);
    for (size_t i = 0; i < requests; ++i) {
      rules[i].mode = mode;
      rules[i].filter = filter;
      rules[i].first_row = static_cast<int32_t>(i) * num_rows;
      rules[i].num_rows = num_rows;
      rules[i].max_length = kCapacity;
      rules[i].num_stop_ids = 1;
      rules[i].stop_ids[0] = 2;
    }
    done.assign(requests, 0);
    active.resize(requests);
    std::iota(active.begin(), active.end(), 0);
    ids.assign(rows * kCapacity, 7);
    lengths.assign(rows, kCapacity / 2);
    logit_rows.resize(rows);
    std::iota(logit_rows.begin(), logit_rows.end(), 0);
    scores.assign(rows, -1.0f);
    candidates.resize(rows * kMaxCandidatesPerRow);
    beams_and_ids.resize(2 * candidates.size());
    logits.resize(rows * static_cast<size_t>(vocab));
    fill_random(logits, 8.0f);
    state = {.num_requests = num_requests,
             .num_rows = num_requests * num_rows,
             .capacity = kCapacity,
             .vocab = vocab,
             .rules = rules.data(),
             .done = done.data(),
             .logit_row = logit_rows.data(),
             .ids = ids.data(),
             .lengths = lengths.data(),
             .scores = scores.data(),
             .candidate_scores = candidates.data(),
             .candidate_beams = beams_and_ids.data(),
             .candidate_ids = beams_and_ids.data() + candidates.size(),
             .logits = logits.data()};
  }

  static constexpr int kCapacity = 128;
  std::vector<DecodeRules> rules;
  std::vector<uint8_t> done;
  std::vector<int32_t> active, ids, lengths, logit_rows, beams_and_ids;
  std::vector<float> scores, candidates, logits;
  DecodeState state;
};

}  // namespace fuseq::bench
