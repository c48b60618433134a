// SPDX-License-Identifier: Apache-2.0
// The door of advance: what the chosen ids do to rows, beams and the pool of finished hypotheses.
#include <algorithm>
#include <cstdint>
#include <span>

#include "base/context_impl.h"
#include "kernels/check.h"
#include "kernels/cpu/decode_ops.h"
#include "kernels/decode_state.h"
#include "kernels/stop_test.h"

namespace fuseq::inline v0 {
namespace {

/// What transformers adds to the score of a beam that is out of the race.
constexpr float kOutOfRace = -1e9f;

/// The beams of one request: views of its part of the state, and the step of each candidate.
class BeamStep {
 public:
  BeamStep(const DecodeState& state, int32_t slot)
      : state_(state),
        rules_(state.rules[slot]),
        W_(rules_.num_rows),
        K_(rules_.num_candidates()),
        T_(state.lengths[rules_.first_row]),
        candidate_scores_(state.candidate_scores + first_candidate()),
        candidate_beams_(state.candidate_beams + first_candidate()),
        candidate_ids_(state.candidate_ids + first_candidate()),
        candidate_log_probs_(state.candidate_log_probs + first_candidate()),
        slot_(slot) {}

  void run(Arena& arena) {
    const Arena::Scope scope(arena);
    const StopTest stop_of(state_, rules_, arena);
    const std::span<Stop> hits = arena.take<Stop>(K_);
    for (int32_t c = 0; c < K_; ++c) {
      hits[c] = stop_of(rules_.first_row + candidate_beams_[c], T_, candidate_ids_[c]);
    }
    merge_pool(arena, hits);  // reads the rows that the next line replaces
    reorder_beams(arena, hits);
    test_stop(hits);
  }

 private:
  [[nodiscard]] int64_t first_candidate() const {
    return int64_t{rules_.first_row} * kMaxCandidatesPerRow;
  }
  /// Row `beam` of an [N][C] array.
  template <typename T>
  [[nodiscard]] T* row(T* array, int64_t beam) const {
    return array + (rules_.first_row + beam) * state_.capacity;
  }
  /// Copies positions begin ... end - 1.
  template <typename T>
  static void copy(const T* from, int32_t begin, int32_t end, T* to) {
    std::copy(from + begin, from + end, to + begin);
  }
  [[nodiscard]] bool all_done() const {
    const Stop* stops = state_.pool_stops + rules_.first_row;
    return std::none_of(stops, stops + W_, [](Stop stop) { return stop == Stop::none; });
  }

  /// pool = the W best of [pool, candidates]
  void merge_pool(Arena& arena, std::span<const Stop> hits) {
    float* scores = state_.pool_scores + rules_.first_row;
    Stop* stops = state_.pool_stops + rules_.first_row;
    int32_t* lengths = state_.pool_lengths + rules_.first_row;
    const bool is_full = rules_.early_stopping == EarlyStopping::yes && all_done();
    const bool is_closed = state_.improvable[slot_] == 0;
    const float factor = rules_.length_factor(T_ + 1 - rules_.prompt_length);

    cpu::TopList best{arena.take<float>(W_).data(), arena.take<int64_t>(W_).data(), W_, 0};
    const auto offer = [&best](float score, int64_t source) {
      if (best.count < best.capacity || score > best.values[best.capacity - 1]) {
        cpu::insert(best, score, source);
      }
    };
    for (int32_t b = 0; b < W_; ++b) offer(scores[b], b);
    for (int32_t c = 0; c < K_; ++c) {
      float score = candidate_scores_[c] / factor;
      if (is_full) score += kOutOfRace;
      if (is_closed) score += kOutOfRace;
      if (hits[c] == Stop::none || c >= W_) score += kOutOfRace;
      offer(score, W_ + c);
    }

    const std::span<int32_t> new_lengths = arena.take<int32_t>(W_);
    const std::span<Stop> new_stops = arena.take<Stop>(W_);
    const int32_t P = rules_.prompt_length;
    for (int32_t b = 0; b < W_; ++b) {  // first aside: a source may lie in a row that is replaced
      const int64_t source = best.indices[b];
      int32_t* const ids = row(state_.spare_pool_ids, b);
      float* const log_probs = row(state_.spare_log_probs, b);
      if (source < W_) {
        new_lengths[b] = lengths[source];
        new_stops[b] = stops[source];
        if (source == b) continue;
        copy(row(state_.pool_ids, source), 0, lengths[source], ids);
        if (rules_.return_scores) {
          copy(row(state_.pool_log_probs, source), P, lengths[source], log_probs);
        }
      } else {
        const int64_t c = source - W_;
        copy(row(state_.ids, candidate_beams_[c]), 0, T_, ids);
        ids[T_] = candidate_ids_[c];
        if (rules_.return_scores) {
          copy(row(state_.log_probs, candidate_beams_[c]), P, T_, log_probs);
          log_probs[T_] = candidate_log_probs_[c];
        }
        new_lengths[b] = T_ + 1;
        new_stops[b] = c < W_ ? hits[c] : Stop::none;
      }
    }
    for (int32_t b = 0; b < W_; ++b) {
      if (best.indices[b] != b) {
        copy(row(state_.spare_pool_ids, b), 0, new_lengths[b], row(state_.pool_ids, b));
        if (rules_.return_scores) {
          copy(row(state_.spare_log_probs, b), P, new_lengths[b], row(state_.pool_log_probs, b));
        }
      }
      scores[b] = best.values[b];
      lengths[b] = new_lengths[b];
      stops[b] = new_stops[b];
    }
  }

  /// The W best candidates that go on become the rows.
  void reorder_beams(Arena& arena, std::span<const Stop> hits) {
    cpu::TopList best{arena.take<float>(W_).data(), arena.take<int64_t>(W_).data(), W_, 0};
    for (int32_t c = 0; c < K_; ++c) {
      const float score = candidate_scores_[c] + (hits[c] != Stop::none ? kOutOfRace : 0.0f);
      if (best.count < best.capacity || score > best.values[best.capacity - 1]) {
        cpu::insert(best, score, c);
      }
    }
    // The prompt is the same in all rows; of the rest only rows with another row's past are copied.
    const int32_t P = rules_.prompt_length;
    for (int32_t b = 0; b < W_; ++b) {
      const int32_t parent = candidate_beams_[best.indices[b]];
      if (parent == b) continue;
      copy(row(state_.ids, parent), P, T_, row(state_.spare_ids, b));
      copy(row(state_.lanes, parent), 0, T_, row(state_.spare_lanes, b));
      if (rules_.return_scores) {
        copy(row(state_.log_probs, parent), P, T_, row(state_.spare_log_probs, b));
      }
    }
    for (int32_t b = 0; b < W_; ++b) {
      const int64_t c = best.indices[b];
      if (candidate_beams_[c] != b) {
        copy(row(state_.spare_ids, b), P, T_, row(state_.ids, b));
        copy(row(state_.spare_lanes, b), 0, T_, row(state_.lanes, b));
        if (rules_.return_scores) {
          copy(row(state_.spare_log_probs, b), P, T_, row(state_.log_probs, b));
        }
      }
      if (rules_.return_scores) row(state_.log_probs, b)[T_] = candidate_log_probs_[c];
      row(state_.ids, b)[T_] = candidate_ids_[c];
      state_.parents[rules_.first_row + b] = candidate_beams_[c];
      state_.lengths[rules_.first_row + b] = T_ + 1;
      state_.scores[rules_.first_row + b] = best.values[b];
    }
  }

  void test_stop(std::span<const Stop> hits) {
    const bool looks_ahead =
        rules_.early_stopping == EarlyStopping::never && rules_.length_penalty > 0;
    const int32_t length = (looks_ahead ? rules_.max_length : T_ + 1) - rules_.prompt_length;
    const float best = state_.scores[rules_.first_row] / rules_.length_factor(length);
    const float* pool = state_.pool_scores + rules_.first_row;
    const float worst = *std::min_element(pool, pool + W_);
    bool can_win = false;
    for (int32_t b = 0; b < W_; ++b) {
      can_win |=
          best > (state_.pool_stops[rules_.first_row + b] != Stop::none ? worst : kOutOfRace);
    }
    const bool improvable = state_.improvable[slot_] != 0 && can_win;
    state_.improvable[slot_] = improvable;
    state_.done[slot_] =
        !improvable || (rules_.early_stopping == EarlyStopping::yes && all_done()) ||
        std::all_of(hits.begin(), hits.end(), [](Stop hit) { return hit != Stop::none; });
  }

  const DecodeState& state_;
  const DecodeRules& rules_;
  const int32_t W_;
  const int32_t K_;
  const int32_t T_;  ///< tokens before this step
  const float* candidate_scores_;
  const int32_t* candidate_beams_;
  const int32_t* candidate_ids_;
  const float* candidate_log_probs_;
  const int32_t slot_;
};

/// Appends to the rows that took part in the step.
void advance_free_rows(const DecodeState& state, int32_t slot, Arena& arena) {
  const DecodeRules& rules = state.rules[slot];
  const Arena::Scope scope(arena);
  const StopTest stop_of(state, rules, arena);
  bool all_ended = true;
  for (int32_t row = rules.first_row; row < rules.first_row + rules.num_rows; ++row) {
    if (state.logit_row[row] < 0) continue;
    const int64_t candidate = int64_t{row} * kMaxCandidatesPerRow;
    const int32_t id = state.candidate_ids[candidate];
    const int32_t T = state.lengths[row];
    state.stops[row] = stop_of(row, T, id);
    state.ids[row * state.capacity + T] = id;
    if (rules.return_scores) {
      state.log_probs[row * state.capacity + T] = state.candidate_log_probs[candidate];
    }
    state.lengths[row] = T + 1;
    all_ended = all_ended && state.stops[row] != Stop::none;
  }
  state.done[slot] = all_ended;
}

}  // namespace

void advance(Context& ctx, const DecodeState& state, std::span<const int32_t> active) {
  check_cpu("advance", ctx.device());
  for (const int32_t slot : active) {
    if (state.done[slot] != 0) continue;
    switch (state.rules[slot].mode) {
      case DecodeMode::beams: BeamStep(state, slot).run(ctx.impl().arena); break;
      case DecodeMode::contrastive: break;
      default: advance_free_rows(state, slot, ctx.impl().arena);
    }
  }
}

}  // namespace fuseq::inline v0
