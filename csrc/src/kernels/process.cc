// SPDX-License-Identifier: Apache-2.0
// The door of process: what the rules do to the scores of a step.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>

#include "base/message.h"
#include "kernels/bans.h"
#include "kernels/check.h"
#include "kernels/cpu/draw.h"
#include "kernels/decode_state.h"
#include "kernels/log_softmax.h"

namespace fuseq::inline v0 {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

/// One hypothesis of the step.
struct Row {
  const DecodeRules* rules;
  const int32_t* ids;
  int32_t length;
  float* scores;
  float* kept;  ///< where the scores are kept as they are; null: nowhere
};

bool has_rules(const DecodeRules& rules, int32_t length) {
  return rules.num_biased > 0 || rules.repetition_penalty != 1.0f ||
         (rules.no_repeat_ngram_size > 0 && length >= rules.no_repeat_ngram_size) ||
         (rules.num_stop_ids > 0 && length < rules.min_length) || rules.num_suppressed > 0 ||
         has_forced_id(rules, length);
}

/// An id that occurs twice is penalised once: all scores are read before the first is written.
void penalize_repetition(const Row& row, float* scratch) {
  const float penalty = row.rules->repetition_penalty;
  for (int32_t t = 0; t < row.length; ++t) {
    const float score = row.scores[row.ids[t]];
    scratch[t] = score < 0 ? score * penalty : score / penalty;
  }
  for (int32_t t = 0; t < row.length; ++t) row.scores[row.ids[t]] = scratch[t];
}

void apply_rules(const Row& row, int64_t V, float* scratch) {
  const DecodeRules& rules = *row.rules;
  const auto hide = [&](int32_t id) { row.scores[id] = kMinusInfinity; };
  if (has_forced_id(rules, row.length)) {  // hides all rules before it
    const bool is_last = rules.forced_eos_id >= 0 && row.length == rules.max_length - 1;
    std::fill_n(row.scores, V, kMinusInfinity);
    row.scores[is_last ? rules.forced_eos_id : rules.forced_bos_id] = 0;
  } else {
    for (const IdBias& biased : std::span(rules.biased, static_cast<size_t>(rules.num_biased))) {
      row.scores[biased.id] += biased.bias;
    }
    if (rules.repetition_penalty != 1.0f) penalize_repetition(row, scratch);
    for_each_banned(rules, row.ids, row.length, hide);
  }
  for_each_suppressed(rules, hide);
}

/// The rows of `active` that take part in this step.
std::span<Row> rows_of(const DecodeState& state, std::span<const int32_t> active, Arena& arena) {
  const std::span<Row> rows = arena.take<Row>(state.num_rows);
  size_t count = 0;
  for (const int32_t slot : active) {
    if (state.done[slot] != 0) continue;
    const DecodeRules& rules = state.rules[slot];
    const bool one = rules.mode == DecodeMode::contrastive;
    const int32_t begin = rules.first_row + (one ? state.winner[slot] : 0);
    for (int32_t row = begin; row < (one ? begin + 1 : rules.first_row + rules.num_rows); ++row) {
      if (state.logit_row[row] < 0) continue;
      const int64_t at = state.logit_row[row] * state.vocab;
      rows[count++] = {.rules = &rules,
                       .ids = state.ids + row * state.capacity,
                       .length = state.lengths[row],
                       .scores = state.logits + at,
                       .kept = rules.return_scores ? state.model_logits + at : nullptr};
    }
  }
  return rows.first(count);
}

}  // namespace

void process(Context& ctx, const DecodeState& state, std::span<const int32_t> active) {
  check_cpu("process", ctx.device());
  const int64_t V = state.vocab;
  Arena& arena = ctx.impl().arena;
  const Arena::Scope scope(arena);
  const std::span<Row> rows = rows_of(state, active, arena);
  ThreadTeam& team = ctx.impl().team;
  const auto each = [&](std::span<Row> some, const auto& f) {
    team.parallel_for(static_cast<int64_t>(some.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) f(some[static_cast<size_t>(i)]);
    });
  };
  // The rows that need something come first.
  const auto those = [&](const auto& needs) {
    const auto end = std::partition(rows.begin(), rows.end(), needs);
    return rows.first(static_cast<size_t>(end - rows.begin()));
  };

  each(those([](const Row& row) { return row.kept != nullptr; }),
       [V](const Row& row) { std::copy_n(row.scores, V, row.kept); });

  const auto is_beam = [](const Row& row) { return row.rules->mode == DecodeMode::beams; };
  const auto scale_row = FUSEQ_PICK(ctx.impl().isa, scale_row);
  each(those([&](const Row& row) { return is_beam(row) && row.rules->filter.temperature != 1; }),
       [&](const Row& row) {
         scale_row(row.scores, V, 1.0f / row.rules->filter.temperature, row.scores);
       });
  const std::span<Row> beams = those(is_beam);
  const auto row_subtract = FUSEQ_PICK(ctx.impl().isa, row_subtract);
  const auto scores_of = [&](int64_t i) { return beams[static_cast<size_t>(i)].scores; };
  for_log_sums(ctx, static_cast<int64_t>(beams.size()), V, scores_of,
               [&](int64_t i, const float* x, int64_t count, int64_t begin, const LogSum& sum) {
                 row_subtract(x, count, sum.max, sum.log_sum, scores_of(i) + begin);
               });

  const std::span<Row> ruled =
      those([](const Row& row) { return has_rules(*row.rules, row.length); });
  if (ruled.empty()) return;
  const std::span<float> scratch = arena.take<float>(team.size() * state.capacity);
  team.run([&](int thread, int size) {
    const auto count = static_cast<int64_t>(ruled.size());
    const int64_t end = count * (thread + 1) / size;
    for (int64_t i = count * thread / size; i < end; ++i) {
      apply_rules(ruled[static_cast<size_t>(i)], V, &scratch[thread * state.capacity]);
    }
  });
}

}  // namespace fuseq::inline v0
