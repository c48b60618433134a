// SPDX-License-Identifier: Apache-2.0
// The door of advance: what the chosen ids do to rows, beams and the pool of finished hypotheses.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

#include "base/context_impl.h"
#include "base/message.h"
#include "kernels/cpu/decode_ops.h"
#include "kernels/decode_state.h"

namespace fuseq::inline v0 {
namespace {

/// What transformers adds to the score of a beam that is out of the race.
constexpr float kOutOfRace = -1e9f;

bool is_stop_id(const DecodeRules& rules, int32_t id) {
  return std::find(rules.stop_ids, rules.stop_ids + rules.num_stop_ids, id) !=
         rules.stop_ids + rules.num_stop_ids;
}

float length_factor(int32_t length, float penalty) {
  return static_cast<float>(std::pow(static_cast<double>(length), static_cast<double>(penalty)));
}

/// The beams of one request: views of its part of the state, and the step of each candidate.
class BeamStep {
 public:
  BeamStep(const DecodeState& state, int32_t slot)
      : state_(state),
        rules_(state.rules[slot]),
        W_(rules_.num_beams),
        K_(rules_.num_candidates()),
        T_(state.lengths[rules_.first_row]),
        candidate_scores_(state.candidate_scores + first_candidate()),
        candidate_beams_(state.candidate_beams + first_candidate()),
        candidate_ids_(state.candidate_ids + first_candidate()),
        slot_(slot) {}

  void run(Arena& arena) {
    const Arena::Scope scope(arena);
    const std::span<bool> hits = arena.take<bool>(K_);
    for (int32_t c = 0; c < K_; ++c) {
      hits[c] = T_ + 1 >= rules_.max_length || is_stop_id(rules_, candidate_ids_[c]);
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
  [[nodiscard]] int32_t* row(int32_t* array, int64_t beam) const {
    return array + (rules_.first_row + beam) * state_.capacity;
  }
  [[nodiscard]] bool all_done() const {
    const uint8_t* done = state_.pool_done + rules_.first_row;
    return std::all_of(done, done + W_, [](uint8_t d) { return d != 0; });
  }

  /// pool = the W best of [pool, candidates]
  void merge_pool(Arena& arena, std::span<const bool> hits) {
    float* scores = state_.pool_scores + rules_.first_row;
    uint8_t* done = state_.pool_done + rules_.first_row;
    int32_t* lengths = state_.pool_lengths + rules_.first_row;
    const bool is_full = rules_.early_stopping == EarlyStopping::yes && all_done();
    const bool is_closed = state_.improvable[slot_] == 0;
    const float factor = length_factor(T_ + 1 - rules_.prompt_length, rules_.length_penalty);

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
      if (!hits[c] || c >= W_) score += kOutOfRace;
      offer(score, W_ + c);
    }

    const std::span<int32_t> new_lengths = arena.take<int32_t>(W_);
    const std::span<uint8_t> new_done = arena.take<uint8_t>(W_);
    for (int32_t b = 0; b < W_; ++b) {  // first aside: a source may lie in a row that is replaced
      const int64_t source = best.indices[b];
      if (source < W_) {
        new_lengths[b] = lengths[source];
        new_done[b] = done[source];
        if (source != b) {
          std::copy_n(row(state_.pool_ids, source), lengths[source], row(state_.spare_pool_ids, b));
        }
      } else {
        const int64_t c = source - W_;
        int32_t* ids = row(state_.spare_pool_ids, b);
        std::copy_n(row(state_.ids, candidate_beams_[c]), T_, ids);
        ids[T_] = candidate_ids_[c];
        new_lengths[b] = T_ + 1;
        new_done[b] = hits[c] && c < W_;
      }
    }
    for (int32_t b = 0; b < W_; ++b) {
      if (best.indices[b] != b) {
        std::copy_n(row(state_.spare_pool_ids, b), new_lengths[b], row(state_.pool_ids, b));
      }
      scores[b] = best.values[b];
      lengths[b] = new_lengths[b];
      done[b] = new_done[b];
    }
  }

  /// The W best candidates that go on become the rows.
  void reorder_beams(Arena& arena, std::span<const bool> hits) {
    cpu::TopList best{arena.take<float>(W_).data(), arena.take<int64_t>(W_).data(), W_, 0};
    for (int32_t c = 0; c < K_; ++c) {
      const float score = candidate_scores_[c] + (hits[c] ? kOutOfRace : 0.0f);
      if (best.count < best.capacity || score > best.values[best.capacity - 1]) {
        cpu::insert(best, score, c);
      }
    }
    // The prompt is the same in all rows; of the rest only rows with another row's past are copied.
    const int32_t P = rules_.prompt_length;
    for (int32_t b = 0; b < W_; ++b) {
      const int32_t parent = candidate_beams_[best.indices[b]];
      if (parent == b) continue;
      std::copy_n(row(state_.ids, parent) + P, T_ - P, row(state_.spare_ids, b) + P);
      std::copy_n(row(state_.lanes, parent), T_, row(state_.spare_lanes, b));
    }
    for (int32_t b = 0; b < W_; ++b) {
      const int64_t c = best.indices[b];
      if (candidate_beams_[c] != b) {
        std::copy_n(row(state_.spare_ids, b) + P, T_ - P, row(state_.ids, b) + P);
        std::copy_n(row(state_.spare_lanes, b), T_, row(state_.lanes, b));
      }
      row(state_.ids, b)[T_] = candidate_ids_[c];
      state_.lengths[rules_.first_row + b] = T_ + 1;
      state_.scores[rules_.first_row + b] = best.values[b];
    }
  }

  void test_stop(std::span<const bool> hits) {
    const bool looks_ahead =
        rules_.early_stopping == EarlyStopping::never && rules_.length_penalty > 0;
    const int32_t length = (looks_ahead ? rules_.max_length : T_ + 1) - rules_.prompt_length;
    const float best =
        state_.scores[rules_.first_row] / length_factor(length, rules_.length_penalty);
    const float* pool = state_.pool_scores + rules_.first_row;
    const float worst = *std::min_element(pool, pool + W_);
    bool can_win = false;
    for (int32_t b = 0; b < W_; ++b) {
      can_win |= best > (state_.pool_done[rules_.first_row + b] != 0 ? worst : kOutOfRace);
    }
    const bool improvable = state_.improvable[slot_] != 0 && can_win;
    state_.improvable[slot_] = improvable;
    state_.done[slot_] = !improvable ||
                         (rules_.early_stopping == EarlyStopping::yes && all_done()) ||
                         std::all_of(hits.begin(), hits.end(), [](bool hit) { return hit; });
  }

  const DecodeState& state_;
  const DecodeRules& rules_;
  const int32_t W_;
  const int32_t K_;
  const int32_t T_;  ///< tokens before this step
  const float* candidate_scores_;
  const int32_t* candidate_beams_;
  const int32_t* candidate_ids_;
  const int32_t slot_;
};

}  // namespace

void advance(Context& ctx, const DecodeState& state, std::span<const int32_t> active) {
  if (ctx.device() != Device::cpu) {
    fail(ErrorKind::unsupported, "advance: this build runs on the CPU only");
  }
  for (const int32_t slot : active) {
    const DecodeRules& rules = state.rules[slot];
    if (rules.num_beams > 1) {
      BeamStep(state, slot).run(ctx.impl().arena);
      continue;
    }
    const int64_t row = rules.first_row;
    const int32_t id = state.candidate_ids[row * kMaxCandidatesPerRow];
    state.ids[row * state.capacity + state.lengths[row]++] = id;
    state.done[slot] = state.lengths[row] >= rules.max_length || is_stop_id(rules, id);
  }
}

}  // namespace fuseq::inline v0
