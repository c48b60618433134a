// SPDX-License-Identifier: Apache-2.0
// The arrays of a DecodeState for tests, and random scores.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "base/cpu_features.h"
#include "fuseq/context.h"
#include "kernels/decode_state.h"

namespace fuseq::inline v0 {

inline constexpr float kInf = std::numeric_limits<float>::infinity();
inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

inline std::vector<CpuIsa> isas() {
  std::vector<CpuIsa> found = {CpuIsa::portable};
  if (cpu_features().avx2) found.push_back(CpuIsa::avx2);
  if (cpu_features().avx512) found.push_back(CpuIsa::avx512);
  return found;
}

inline Context make_context(CpuIsa isa, int num_threads) {
  return Context({.num_threads = num_threads, .cpu_isa = isa});
}

inline std::vector<float> random_scores(uint32_t seed, int64_t count) {
  std::mt19937 random(seed);
  std::vector<float> scores(static_cast<size_t>(count));
  for (float& score : scores) score = static_cast<float>(random() >> 8) * 0x1p-21f - 4;  // -4 ... 4
  return scores;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
    return std::bit_cast<uint32_t>(x) == std::bit_cast<uint32_t>(y);
  });
}

/// The arrays of a DecodeState, one request slot after the other.
struct Arrays {
  Arrays(std::vector<DecodeRules> rules_, int64_t capacity, int64_t vocab)
      : rules(std::move(rules_)) {
    state.capacity = capacity;
    state.vocab = vocab;
    for (DecodeRules& request : rules) {
      if (request.num_rows > 1 && request.mode == DecodeMode::greedy) {
        request.mode = DecodeMode::beams;
      }
      request.first_row = state.num_rows;
      state.num_rows += request.num_rows;
    }
    state.num_requests = static_cast<int32_t>(rules.size());
    const auto N = static_cast<size_t>(state.num_rows);
    const size_t cells = N * static_cast<size_t>(capacity);
    for (auto* table : {&ids, &lanes, &pool_ids, &spare_ids, &spare_lanes, &spare_pool})
      table->resize(cells);
    for (auto* table : {&log_probs, &pool_log_probs, &spare_log_probs}) table->resize(cells);
    improvable.assign(rules.size(), 1);
    done.assign(rules.size(), 0);
    winner.assign(rules.size(), 0);
    has_tried.assign(rules.size(), 0);
    contrast.resize(rules.size());
    logit_rows.resize(N);
    std::iota(logit_rows.begin(), logit_rows.end(), 0);
    parents.assign(N, 0);
    stops.assign(N, Stop::none);
    lengths.assign(N, 0);
    pool_lengths.assign(N, 0);
    pool_scores.assign(N, -1e9f);
    pool_stops.assign(N, Stop::none);
    scores.assign(N, -1e9f);
    for (const DecodeRules& request : rules) scores[static_cast<size_t>(request.first_row)] = 0;
    candidate_scores.resize(N * kMaxCandidatesPerRow);
    candidate_log_probs.resize(N * kMaxCandidatesPerRow);
    candidate_beams.resize(N * kMaxCandidatesPerRow);
    candidate_ids.resize(N * kMaxCandidatesPerRow);
    logits.resize(N * static_cast<size_t>(vocab));
    model_logits.resize(logits.size());
  }
  Arrays(const Arrays&) = default;

  const DecodeState& view() {
    state.rules = rules.data();
    state.logit_row = logit_rows.data();
    state.improvable = improvable.data();
    state.winner = winner.data();
    state.has_tried = has_tried.data();
    state.contrast = contrast.data();
    state.log_probs = log_probs.data();
    state.parents = parents.data();
    state.stops = stops.data();
    state.pool_log_probs = pool_log_probs.data();
    state.candidate_log_probs = candidate_log_probs.data();
    state.spare_log_probs = spare_log_probs.data();
    state.model_logits = model_logits.data();
    state.done = done.data();
    state.ids = ids.data();
    state.lanes = lanes.data();
    state.lengths = lengths.data();
    state.scores = scores.data();
    state.pool_ids = pool_ids.data();
    state.pool_lengths = pool_lengths.data();
    state.pool_scores = pool_scores.data();
    state.pool_stops = pool_stops.data();
    state.candidate_scores = candidate_scores.data();
    state.candidate_beams = candidate_beams.data();
    state.candidate_ids = candidate_ids.data();
    state.spare_ids = spare_ids.data();
    state.spare_lanes = spare_lanes.data();
    state.spare_pool_ids = spare_pool.data();
    state.logits = logits.data();
    return state;
  }

  void set_row(int64_t row, const std::vector<int32_t>& tokens) {
    std::copy(tokens.begin(), tokens.end(), ids.begin() + row * state.capacity);
    lengths[static_cast<size_t>(row)] = static_cast<int32_t>(tokens.size());
  }
  [[nodiscard]] std::vector<int32_t> row(const std::vector<int32_t>& table, int64_t row,
                                         int64_t length) const {
    return {table.begin() + row * state.capacity, table.begin() + row * state.capacity + length};
  }
  [[nodiscard]] std::vector<int32_t> active() const {
    std::vector<int32_t> slots;
    for (int32_t slot = 0; slot < state.num_requests; ++slot) {
      if (done[static_cast<size_t>(slot)] == 0) slots.push_back(slot);
    }
    return slots;
  }

  DecodeState state;
  std::vector<DecodeRules> rules;
  std::vector<int32_t> logit_rows, ids, lanes, pool_ids, spare_ids, spare_lanes, spare_pool;
  std::vector<int32_t> lengths, pool_lengths, candidate_beams, candidate_ids;
  std::vector<int32_t> winner, parents;
  std::vector<float> scores, pool_scores, candidate_scores, logits, model_logits;
  std::vector<float> log_probs, pool_log_probs, spare_log_probs, candidate_log_probs;
  std::vector<uint8_t> improvable, done, has_tried;
  std::vector<Stop> stops, pool_stops;
  std::vector<ContrastRows> contrast;
};

}  // namespace fuseq::inline v0
