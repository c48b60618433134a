// SPDX-License-Identifier: Apache-2.0
// The doors of select and probabilities.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include "base/message.h"
#include "kernels/check.h"
#include "kernels/cpu/draw.h"
#include "kernels/decode_state.h"
#include "kernels/log_softmax.h"

namespace fuseq::inline v0 {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

/// Rows of scores whose best entries are wanted in one list.
struct Pick {
  const DecodeRules* rules;
  int32_t first_row;  ///< of num_rows rows
  int32_t num_rows;
  int64_t first_task;   ///< a task is one slice of one row
  int64_t first_entry;  ///< of the room for lists
  float add(const DecodeState& state, int64_t row) const {
    return rules->mode == DecodeMode::beams ? state.scores[first_row + row] : 0.0f;
  }
  const float* scores(const DecodeState& state, int64_t row) const {
    return state.logits + state.logit_row[first_row + row] * state.vocab;
  }
};

/// The lists that the requests of a step want; draws and external rows want none.
class Picks {
 public:
  Picks(const DecodeState& state, std::span<const int32_t> active, Arena& arena)
      : state_(state),
        slices_((state.vocab + kScoreSlice - 1) / kScoreSlice),
        picks_(arena.take<Pick>(static_cast<int64_t>(active.size()))) {
    for (const int32_t slot : active) {
      if (state.done[slot] != 0) continue;
      const DecodeRules& rules = state.rules[slot];
      switch (rules.mode) {
        case DecodeMode::greedy:
        case DecodeMode::beams: add(rules, rules.first_row, rules.num_rows); break;
        case DecodeMode::contrastive: add(rules, rules.first_row + state.winner[slot], 1); break;
        case DecodeMode::sample:
        case DecodeMode::external: break;
      }
    }
    picks_ = picks_.first(count_);
  }

  void run(Context& ctx) {
    if (picks_.empty()) return;
    Arena& arena = ctx.impl().arena;
    const Arena::Scope scope(arena);
    ThreadTeam& team = ctx.impl().team;
    const auto row_top = FUSEQ_PICK(ctx.impl().isa, row_top);
    const std::span<float> values = arena.take<float>(num_entries_ * team.size());
    const std::span<int64_t> indices = arena.take<int64_t>(num_entries_ * team.size());
    const std::span<cpu::TopList> lists =
        arena.take<cpu::TopList>(static_cast<int64_t>(picks_.size()) * team.size());
    // Each thread reads one contiguous run of tasks and keeps a list per pick that it meets. Lists
    // of later threads hold later ids, so joining them in order gives the same candidates for any
    // number of threads.
    team.run([&](int thread, int size) {
      const int64_t begin = num_tasks_ * thread / size;
      const int64_t end = num_tasks_ * (thread + 1) / size;
      for (size_t p = 0; p < picks_.size(); ++p) {
        const Pick& pick = picks_[p];
        const auto entry = static_cast<size_t>(thread * num_entries_ + pick.first_entry);
        cpu::TopList list{&values[entry], &indices[entry], pick.rules->num_candidates(), 0};
        const int64_t last = std::min(end, pick.first_task + pick.num_rows * slices_);
        for (int64_t task = std::max(begin, pick.first_task); task < last; ++task) {
          const int64_t row = (task - pick.first_task) / slices_;
          const int64_t id = (task - pick.first_task) % slices_ * kScoreSlice;
          row_top(pick.scores(state_, row) + id, std::min(kScoreSlice, state_.vocab - id),
                  pick.add(state_, row), row * state_.vocab + id, list);
        }
        lists[static_cast<size_t>(thread) * picks_.size() + p] = list;
      }
    });
    for (size_t p = 0; p < picks_.size(); ++p) {
      cpu::TopList& best = lists[p];
      for (int thread = 1; thread < team.size(); ++thread) {
        join(best, lists[static_cast<size_t>(thread) * picks_.size() + p]);
      }
      write(picks_[p], best);
    }
  }

 private:
  void add(const DecodeRules& rules, int32_t first_row, int32_t num_rows) {
    if (state_.logit_row[first_row] < 0) return;
    require(rules.num_candidates() <= num_rows * state_.vocab,
            "select: rows * vocabulary must be at least ", rules.num_candidates(), ", got ",
            num_rows * state_.vocab);
    picks_[count_++] = {&rules, first_row, num_rows, num_tasks_, num_entries_};
    num_tasks_ += num_rows * slices_;
    num_entries_ += rules.num_candidates();
  }

  static void join(cpu::TopList& best, const cpu::TopList& other) {
    for (int64_t i = 0; i < other.count; ++i) {
      if (best.count == best.capacity && !(other.values[i] > best.values[best.capacity - 1]))
        return;
      cpu::insert(best, other.values[i], other.indices[i]);
    }
  }

  void write(const Pick& pick, cpu::TopList& best) const {
    const int64_t V = state_.vocab;
    for (int64_t index = 0; best.count < best.capacity; ++index) {  // too few finite scores
      const float score = pick.scores(state_, index / V)[index % V] + pick.add(state_, index / V);
      if (!(score > kMinusInfinity)) cpu::insert(best, kMinusInfinity, index);
    }
    const int64_t first = int64_t{pick.rules->first_row} * kMaxCandidatesPerRow;
    const int32_t offset = pick.first_row - pick.rules->first_row;
    for (int64_t c = 0; c < best.count; ++c) {
      state_.candidate_scores[first + c] = best.values[c];
      state_.candidate_beams[first + c] = static_cast<int32_t>(best.indices[c] / V) + offset;
      state_.candidate_ids[first + c] = static_cast<int32_t>(best.indices[c] % V);
    }
  }

  const DecodeState& state_;
  const int64_t slices_;
  std::span<Pick> picks_;
  size_t count_ = 0;
  int64_t num_tasks_ = 0;
  int64_t num_entries_ = 0;
};

/// One draw for each row of the requests that sample.
void draw_rows(Context& ctx, const DecodeState& state, std::span<const int32_t> active) {
  struct Row {
    const DecodeRules* rules;
    int32_t row;
  };
  Arena& arena = ctx.impl().arena;
  const Arena::Scope scope(arena);
  const std::span<Row> rows = arena.take<Row>(state.num_rows);
  int64_t count = 0;
  for (const int32_t slot : active) {
    const DecodeRules& rules = state.rules[slot];
    if (state.done[slot] != 0 || rules.mode != DecodeMode::sample) continue;
    for (int32_t row = rules.first_row; row < rules.first_row + rules.num_rows; ++row) {
      if (state.logit_row[row] >= 0) rows[static_cast<size_t>(count++)] = {&rules, row};
    }
  }
  if (count == 0) return;
  ThreadTeam& team = ctx.impl().team;
  const std::span<DrawScratch> scratch = arena.take<DrawScratch>(team.size());
  for (DrawScratch& one : scratch) one = take_draw_scratch(arena, state.vocab);
  team.run([&](int thread, int size) {
    for (int64_t i = count * thread / size; i < count * (thread + 1) / size; ++i) {
      const auto [rules, row] = rows[static_cast<size_t>(i)];
      const std::span scores(state.logits + state.logit_row[row] * state.vocab,
                             static_cast<size_t>(state.vocab));
      const DrawKey key{.seed = rules->seed,
                        .sequence = rules->sequence,
                        .sample = static_cast<uint32_t>(row - rules->first_row),
                        .step = static_cast<uint32_t>(state.lengths[row] - rules->prompt_length)};
      const int32_t id =
          draw(ctx.impl().isa, scores, rules->filter, key, scratch[static_cast<size_t>(thread)]);
      const int64_t candidate = int64_t{row} * kMaxCandidatesPerRow;
      state.candidate_ids[candidate] = id;
      state.candidate_beams[candidate] = row - rules->first_row;
      state.candidate_scores[candidate] = scores[static_cast<size_t>(id)];
    }
  });
}

/// Turns the scores of contrastive candidates into probabilities of the whole vocabulary; those
/// that rules hide get -1, so that they are not chosen for being new.
void weigh_candidates(Context& ctx, const DecodeState& state, std::span<const int32_t> active) {
  for (const int32_t slot : active) {
    const DecodeRules& rules = state.rules[slot];
    if (state.done[slot] != 0 || rules.mode != DecodeMode::contrastive) continue;
    float* const scores = state.candidate_scores + rules.first_row * kMaxCandidatesPerRow;
    const int32_t row = rules.first_row + state.winner[slot];
    // They are sorted.
    const float* const hidden = std::find(scores + 1, scores + rules.num_rows, kMinusInfinity);
    const auto num_shown = static_cast<int32_t>(hidden - scores);
    std::fill(scores + num_shown, scores + rules.num_rows, -1.0f);
    if (!std::isfinite(scores[0])) {  // all hidden, or an infinite score
      std::fill_n(scores, num_shown, 0.0f);
      scores[0] = 1;
      continue;
    }
    const cpu::ScaledRow scaled{state.logits + state.logit_row[row] * state.vocab, state.vocab,
                                scores[0], 1.0f / rules.filter.temperature};
    const float sum = FUSEQ_PICK(ctx.impl().isa, scaled_sum_exp)(scaled);
    const cpu::ScaledRow candidates{scores, num_shown, scaled.shift, scaled.scale};
    (void)FUSEQ_PICK(ctx.impl().isa, scaled_exp)(candidates, scores);
    FUSEQ_PICK(ctx.impl().isa, scale_row)(scores, num_shown, 1.0f / sum, scores);
  }
}

/// The model's own log-probabilities of the candidates, for requests that return scores.
void score_candidates(Context& ctx, const DecodeState& state, std::span<const int32_t> active) {
  Arena& arena = ctx.impl().arena;
  const Arena::Scope scope(arena);
  const std::span<int32_t> rows = arena.take<int32_t>(state.num_rows);
  const std::span<LogSum> sums = arena.take<LogSum>(state.num_rows);  // by hypothesis row
  size_t count = 0;
  for (const int32_t slot : active) {
    const DecodeRules& rules = state.rules[slot];
    if (state.done[slot] != 0 || !rules.return_scores) continue;
    for (int32_t row = rules.first_row; row < rules.first_row + rules.num_rows; ++row) {
      const bool counts =
          rules.mode != DecodeMode::contrastive || row == rules.first_row + state.winner[slot];
      if (counts && state.logit_row[row] >= 0) rows[count++] = row;
    }
  }
  const auto logits_of = [&](int64_t row) {
    return state.model_logits + state.logit_row[row] * state.vocab;
  };
  for_log_sums(
      ctx, static_cast<int64_t>(count), state.vocab,
      [&](int64_t i) { return logits_of(rows[static_cast<size_t>(i)]); },
      [&](int64_t i, const float*, int64_t, int64_t begin, const LogSum& sum) {
        if (begin == 0) sums[static_cast<size_t>(rows[static_cast<size_t>(i)])] = sum;
      });
  const auto score = [&](int64_t candidate, int32_t row) {
    const LogSum& sum = sums[static_cast<size_t>(row)];
    const float logit = logits_of(row)[state.candidate_ids[candidate]];
    state.candidate_log_probs[candidate] = (logit - sum.max) - sum.log_sum;
  };
  for (const int32_t slot : active) {
    const DecodeRules& rules = state.rules[slot];
    if (state.done[slot] != 0 || !rules.return_scores) continue;
    if (rules.has_free_rows()) {
      for (int32_t row = rules.first_row; row < rules.first_row + rules.num_rows; ++row) {
        if (state.logit_row[row] >= 0) score(int64_t{row} * kMaxCandidatesPerRow, row);
      }
    } else {
      const int64_t first = int64_t{rules.first_row} * kMaxCandidatesPerRow;
      for (int64_t c = first; c < first + rules.num_candidates(); ++c) {
        score(c, rules.first_row + state.candidate_beams[c]);
      }
    }
  }
}

}  // namespace

void select(Context& ctx, const DecodeState& state, std::span<const int32_t> active) {
  check_cpu("select", ctx.device());
  Arena& arena = ctx.impl().arena;
  const Arena::Scope scope(arena);
  Picks(state, active, arena).run(ctx);
  draw_rows(ctx, state, active);
  weigh_candidates(ctx, state, active);
  score_candidates(ctx, state, active);
}

void probabilities(Context& ctx, const DecodeState& state, std::span<const int32_t> rows,
                   float temperature, float* probabilities) {
  check_cpu("probabilities", ctx.device());
  const int64_t V = state.vocab;
  const auto row_max = FUSEQ_PICK(ctx.impl().isa, row_max);
  const auto scaled_exp = FUSEQ_PICK(ctx.impl().isa, scaled_exp);
  const auto scale_row = FUSEQ_PICK(ctx.impl().isa, scale_row);
  const auto count = static_cast<int64_t>(rows.size());
  ctx.impl().team.parallel_for(count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* scores = state.logits + state.logit_row[rows[static_cast<size_t>(i)]] * V;
      float* const y = probabilities + i * V;
      const float best = row_max(scores, V);
      if (!std::isfinite(best)) {  // all banned, or an infinite score
        std::fill_n(y, V, 0.0f);
        y[best > 0 ? std::find(scores, scores + V, best) - scores : 0] = 1;
        continue;
      }
      const float sum = scaled_exp({scores, V, best, 1.0f / temperature}, y);
      scale_row(y, V, 1.0f / sum, y);
    }
  });
}

}  // namespace fuseq::inline v0
