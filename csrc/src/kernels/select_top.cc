// SPDX-License-Identifier: Apache-2.0
// Choosing from the best outputs of the head, without logits.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>

#include "kernels/bans.h"
#include "kernels/check.h"
#include "kernels/decode_state.h"

namespace fuseq::inline v0 {
namespace {

/// Calls f(slot, rules) for the requests that go on.
template <typename F>
void for_each_running(const DecodeState& state, std::span<const int32_t> active, const F& f) {
  for (const int32_t slot : active) {
    if (state.done[slot] == 0) f(slot, state.rules[slot]);
  }
}

/// Calls f(row) for the rows of a request that take part in the step.
template <typename F>
void for_each_row(const DecodeState& state, const DecodeRules& rules, const F& f) {
  for (int32_t row = rules.first_row; row < rules.first_row + rules.num_rows; ++row) {
    if (state.logit_row[row] >= 0) f(row);
  }
}

/// Whether rules only hide ids of this row, or do nothing.
bool has_only_bans(const DecodeRules& rules, int32_t length) {
  return rules.num_biased == 0 && rules.repetition_penalty == 1.0f &&
         !has_forced_id(rules, length) &&
         (rules.mode == DecodeMode::greedy ||
          (rules.mode == DecodeMode::beams && rules.filter.temperature == 1));
}

template <typename F>
void for_each_hidden(const DecodeState& state, const DecodeRules& rules, int32_t row, const F& f) {
  for_each_banned(rules, state.ids + row * state.capacity, state.lengths[row], f);
  for_each_suppressed(rules, f);
}

/// The entries of one row's list that no rule hides.
class OpenEntries {
 public:
  OpenEntries(const DecodeState& state, const DecodeRules& rules, int32_t row,
              const TopOutputs& top, std::span<int32_t> room)
      : values_(top.values + state.logit_row[row] * top.count),
        ids_(top.ids + state.logit_row[row] * top.count),
        count_(top.count),
        hidden_(room) {
    size_t size = 0;
    for_each_hidden(state, rules, row, [&](int32_t id) { hidden_[size++] = id; });
    hidden_ = hidden_.first(size);
  }
  /// Calls f(value, id), best first, until it returns false.
  template <typename F>
  void visit(const F& f) const {
    for (int64_t i = 0; i < count_ && values_[i] > -std::numeric_limits<float>::infinity(); ++i) {
      if (std::ranges::find(hidden_, ids_[i]) == hidden_.end() && !f(values_[i], ids_[i])) return;
    }
  }

 private:
  const float* values_;
  const int32_t* ids_;
  int64_t count_;
  std::span<int32_t> hidden_;
};

/// A candidate of a beam search, and the model's log-probability in it.
struct Candidate {
  float score;
  float log_prob;
  int32_t beam;
  int32_t id;
};

bool is_better(const Candidate& a, const Candidate& b) {
  if (a.score != b.score) return a.score > b.score;
  return a.beam != b.beam ? a.beam < b.beam : a.id < b.id;
}

class TopSelection {
 public:
  TopSelection(const DecodeState& state, const TopOutputs& top, Arena& arena)
      : state_(state), top_(top), room_(arena.take<int32_t>(top.count)), arena_(arena) {}

  /// Whether the list tells.
  bool choose_greedily(const DecodeRules& rules, int32_t row) {
    bool found = false;
    entries(rules, row).visit([&](float value, int32_t id) {
      write(int64_t{row} * kMaxCandidatesPerRow,
            {value, rules.return_scores ? log_prob(row, value) : 0, row - rules.first_row, id},
            rules.return_scores);
      found = true;
      return false;
    });
    return found;
  }

  bool choose_beams(const DecodeRules& rules) {
    const Arena::Scope scope(arena_);
    const std::span<Candidate> best = arena_.take<Candidate>(rules.num_candidates());
    size_t size = 0;
    bool takes_part = false;
    for_each_row(state_, rules, [&](int32_t row) {
      takes_part = true;
      entries(rules, row).visit([&](float value, int32_t id) {
        const float model = log_prob(row, value);
        const Candidate one{model + state_.scores[row], model, row - rules.first_row, id};
        if (!(one.score > -std::numeric_limits<float>::infinity())) return false;
        if (size == best.size() && !is_better(one, best.back())) return true;
        size_t place = size < best.size() ? size++ : size - 1;
        for (; place > 0 && is_better(one, best[place - 1]); --place) best[place] = best[place - 1];
        best[place] = one;
        return true;
      });
    });
    if (!takes_part) return true;
    if (size < best.size()) return false;
    bool is_clear = true;
    for_each_row(state_, rules, [&](int32_t row) {
      const float last = top_.values[(state_.logit_row[row] + 1) * top_.count - 1];
      is_clear = is_clear && log_prob(row, last) + state_.scores[row] != best.back().score;
    });
    const int64_t first = int64_t{rules.first_row} * kMaxCandidatesPerRow;
    for (size_t c = 0; c < size; ++c) {
      write(first + static_cast<int64_t>(c), best[c], rules.return_scores);
    }
    return is_clear;
  }

 private:
  [[nodiscard]] OpenEntries entries(const DecodeRules& rules, int32_t row) const {
    return {state_, rules, row, top_, room_};
  }
  /// Of an output of a row.
  [[nodiscard]] float log_prob(int32_t row, float value) const {
    const LogSum& sum = top_.log_sums[state_.logit_row[row]];
    return (value - sum.max) - sum.log_sum;
  }
  void write(int64_t at, const Candidate& candidate, bool with_log_prob) const {
    state_.candidate_scores[at] = candidate.score;
    state_.candidate_beams[at] = candidate.beam;
    state_.candidate_ids[at] = candidate.id;
    if (with_log_prob) state_.candidate_log_probs[at] = candidate.log_prob;
  }

  const DecodeState& state_;
  const TopOutputs& top_;
  std::span<int32_t> room_;  ///< for the ids that are hidden from one row
  Arena& arena_;
};

}  // namespace

int64_t top_count(const DecodeState& state, std::span<const int32_t> active) {
  int64_t most = 1;
  bool suffices = true;
  for_each_running(state, active, [&](int32_t, const DecodeRules& rules) {
    for_each_row(state, rules, [&](int32_t row) {
      if (!suffices) return;
      // One more than the candidates of beams shows whether others tie with the last of them.
      int64_t count = rules.mode == DecodeMode::beams ? rules.num_candidates() + 1 : 1;
      for_each_hidden(state, rules, row, [&](int32_t) { ++count; });
      most = std::max(most, count);
      suffices = has_only_bans(rules, state.lengths[row]) && most <= kMaxTopOutputs;
    });
  });
  return suffices ? most : 0;
}

bool needs_log_sums(const DecodeState& state, std::span<const int32_t> active) {
  bool needed = false;
  for_each_running(state, active, [&](int32_t, const DecodeRules& rules) {
    needed = needed || rules.return_scores || rules.mode == DecodeMode::beams;
  });
  return needed;
}

bool select_top(Context& ctx, const DecodeState& state, std::span<const int32_t> active,
                const TopOutputs& top) {
  check_cpu("select_top", ctx.device());
  const Arena::Scope scope(ctx.impl().arena);
  TopSelection selection(state, top, ctx.impl().arena);
  bool tells = true;
  for_each_running(state, active, [&](int32_t, const DecodeRules& rules) {
    if (rules.mode == DecodeMode::beams) {
      tells = tells && selection.choose_beams(rules);
    } else {
      for_each_row(state, rules,
                   [&](int32_t row) { tells = tells && selection.choose_greedily(rules, row); });
    }
  });
  return tells;
}

}  // namespace fuseq::inline v0
