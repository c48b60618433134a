// SPDX-License-Identifier: Apache-2.0
// The door of contrast: which of the tried candidates a contrastive search takes.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>

#include "base/context_impl.h"
#include "kernels/check.h"
#include "kernels/cpu/contrast.h"
#include "kernels/decode_state.h"
#include "kernels/stop_test.h"

namespace fuseq::inline v0 {
namespace {

/// The candidate with the best balance of probability and newness.
int32_t best_candidate(Context& ctx, const DecodeState& state, int32_t slot) {
  const DecodeRules& rules = state.rules[slot];
  const ContrastRows& hidden = state.contrast[slot];
  const auto largest_dot = FUSEQ_PICK(ctx.impl().isa, largest_dot);
  const float* p = state.candidate_scores + int64_t{rules.first_row} * kMaxCandidatesPerRow;
  const int32_t T = state.lengths[rules.first_row];
  const Arena::Scope scope(ctx.impl().arena);
  const std::span<float> scores = ctx.impl().arena.take<float>(rules.num_rows);
  ctx.impl().team.parallel_for(rules.num_rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      const float likeness =
          largest_dot(hidden.candidates + c * hidden.dim, hidden.history, T, hidden.dim);
      const bool is_hidden = p[c] < 0;
      scores[static_cast<size_t>(c)] =
          is_hidden ? -std::numeric_limits<float>::infinity()
                    : (1.0f - rules.penalty_alpha) * p[c] - rules.penalty_alpha * likeness;
    }
  });
  return static_cast<int32_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

void append_best(Context& ctx, const DecodeState& state, int32_t slot) {
  const DecodeRules& rules = state.rules[slot];
  const ContrastRows& hidden = state.contrast[slot];
  const int32_t winner = best_candidate(ctx, state, slot);
  const int64_t candidate = int64_t{rules.first_row} * kMaxCandidatesPerRow + winner;
  const int32_t id = state.candidate_ids[candidate];
  const int32_t T = state.lengths[rules.first_row];
  const Arena::Scope scope(ctx.impl().arena);
  const Stop stop = StopTest(state, rules, ctx.impl().arena)(rules.first_row, T, id);
  std::copy_n(hidden.candidates + winner * hidden.dim, hidden.dim, hidden.history + T * hidden.dim);
  for (int32_t row = rules.first_row; row < rules.first_row + rules.num_rows; ++row) {
    state.ids[row * state.capacity + T] = id;
    state.lanes[row * state.capacity + T] = winner;
    if (rules.return_scores) {
      state.log_probs[row * state.capacity + T] = state.candidate_log_probs[candidate];
    }
    state.lengths[row] = T + 1;
    state.stops[row] = stop;
  }
  state.winner[slot] = winner;
  state.done[slot] = stop != Stop::none;
}

}  // namespace

void contrast(Context& ctx, const DecodeState& state, std::span<const int32_t> active) {
  check_cpu("contrast", ctx.device());
  for (const int32_t slot : active) {
    const bool has_tried =
        state.rules[slot].mode == DecodeMode::contrastive && state.has_tried[slot] != 0;
    if (has_tried && state.done[slot] == 0) {
      append_best(ctx, state, slot);
    }
  }
}

}  // namespace fuseq::inline v0
