// SPDX-License-Identifier: Apache-2.0
// Everything a decode step reads and writes, in fixed arrays that could lie on any device, and the
// three ops on them.
//
// A request slot owns num_beams consecutive rows (hypotheses) from first_row on. A step does, for
// the active requests:
//   head     logits of every row (in the packed order that logit_row gives)
//   process  the rules: log-softmax (beams), bias, penalties, bans, forced and suppressed ids
//   select   the best id of a row (greedy), or the best candidates of a request (beams)
//   advance  append, reorder beams, move finished hypotheses to the pool, stop tests
// The order of rules, the arithmetic (float32, with -1e9 for "out of the race") and the stop tests
// are those of transformers 5.23, generation/utils.py `_beam_search` and
// generation/logits_process.py.
#pragma once

#include <cstdint>
#include <span>

#include "fuseq/context.h"
#include "fuseq/options.h"

namespace fuseq::inline v0 {

/// Stop ids of a request, the model's own included.
inline constexpr int kMaxStopIds = 15;

/// A biased id.
struct IdBias {
  int32_t id;
  float bias;
};

/// What a request asks for, as the device sees it. One per request slot.
struct DecodeRules {
  int32_t first_row = 0;
  int32_t num_beams = 1;
  int32_t prompt_length = 0;
  int32_t max_length = 0;  ///< tokens of a row, prompt included
  int32_t min_length = 0;  ///< the larger of min_length and prompt_length + min_new_tokens
  float repetition_penalty = 1;
  int32_t no_repeat_ngram_size = 0;
  int32_t forced_bos_id = -1;  ///< applies when a row has exactly one token
  int32_t forced_eos_id = -1;  ///< applies when a row has max_length - 1 tokens
  float length_penalty = 1;
  EarlyStopping early_stopping = EarlyStopping::no;
  int32_t num_stop_ids = 0;
  int32_t stop_ids[kMaxStopIds] = {};
  int32_t num_suppressed = 0;
  int32_t num_biased = 0;
  const int32_t* suppressed = nullptr;  ///< [num_suppressed]
  const IdBias* biased = nullptr;       ///< [num_biased]

  /// Candidates that select keeps: enough that num_beams of them go on even if all others stop.
  [[nodiscard]] int32_t num_candidates() const noexcept {
    if (num_beams == 1) return 1;
    return (num_stop_ids > 1 ? num_stop_ids + 1 : 2) * num_beams;
  }
};

/// Candidates per row that the arrays have room for.
inline constexpr int kMaxCandidatesPerRow = kMaxStopIds + 1;

/// Letters: R request slots, N rows, C capacity (tokens of a row), V vocabulary, K =
/// kMaxCandidatesPerRow.
struct DecodeState {
  int32_t num_requests = 0;  ///< R
  int32_t num_rows = 0;      ///< N
  int64_t capacity = 0;      ///< C
  int64_t vocab = 0;         ///< V

  // Per request slot.
  DecodeRules* rules = nullptr;  ///< [R]
  int32_t* logit_row =
      nullptr;  ///< [R] row of `logits` that belongs to first_row; the others follow
  uint8_t* improvable = nullptr;  ///< [R] beams: a running beam may still beat the pool
  uint8_t* done = nullptr;        ///< [R] set by advance when the request is finished

  // Per row.
  int32_t* ids = nullptr;      ///< [N][C] the row so far, prompt included
  int32_t* lanes = nullptr;    ///< [N][C] cache lane in which each position of the row lies
  int32_t* lengths = nullptr;  ///< [N] tokens in `ids`
  float* scores =
      nullptr;  ///< [N] beams: sum of log-probabilities, -1e9 for a beam that is not in the race

  // Per row: the pool of finished hypotheses, num_beams of a request, best first.
  int32_t* pool_ids = nullptr;      ///< [N][C]
  int32_t* pool_lengths = nullptr;  ///< [N]
  float* pool_scores = nullptr;     ///< [N] -1e9: empty
  uint8_t* pool_done = nullptr;     ///< [N] this entry is a finished hypothesis

  // Written by select: candidate c of a request is at first_row * K + c, best first.
  float* candidate_scores =
      nullptr;  ///< [N * K] beams: accumulated log-probability; greedy: the score itself
  int32_t* candidate_beams = nullptr;  ///< [N * K] beam within the request
  int32_t* candidate_ids = nullptr;    ///< [N * K]

  // Room for the reordering of beams.
  int32_t* spare_ids = nullptr;       ///< [N][C]
  int32_t* spare_lanes = nullptr;     ///< [N][C]
  int32_t* spare_pool_ids = nullptr;  ///< [N][C]

  // Scores of the step, one row per active row, in the order that logit_row gives.
  float* logits = nullptr;  ///< [rows of the step][V]
};

/// Applies the rules to state.logits in place. `active` lists request slots.
///
/// Greedy rows keep raw logits; rows of a beam search become log-probabilities first. Then, per row
/// of length T:
///   1. logit_bias            score[id] += bias
///   2. repetition_penalty p  every id of the row, once: score < 0 ? score * p : score / p
///   3. no_repeat_ngram n     T >= n: ids that followed an earlier occurrence of the last n - 1 ids
///   become -inf
///   4. min_length            T < min_length: stop ids become -inf
///   5. forced_bos            T == 1: all -inf but that id, which becomes 0
///   6. forced_eos            T == max_length - 1: the same with forced_eos_id
///   7. suppressed            -inf
void process(Context& ctx, const DecodeState& state, std::span<const int32_t> active);

/// Greedy: candidate 0 of the row is its largest score, the lowest id where scores tie. Beams: the
/// num_candidates() largest of score + scores[row] over all rows and ids of the request, best
/// first; ties go to the lower beam, then the lower id. NaN counts as -inf. The result does not
/// depend on the number of threads. Throws Error(value) for a request with num_beams * V <
/// num_candidates().
void select(Context& ctx, const DecodeState& state, std::span<const int32_t> active);

/// Appends the chosen ids. Greedy: one id; done when it is a stop id or the row reaches max_length.
/// Beams (W beams, K candidates, T tokens before this step, P the prompt's):
///   hit[c]     = id is a stop id, or T + 1 >= max_length
///   running    = the W best of candidate score + (hit ? -1e9 : 0), ties to the lower c; their ids
///   and lanes are the
///                parent's with the new id; lane table of row j gets position T -> filled when the
///                id's keys are stored, in lane j, by the caller's next pass
///   pool       = the W best of [pool, candidates], where a candidate counts score / (T + 1 - P) **
///   length_penalty,
///                minus 1e9 for each that holds: not (hit and c < W); all W pool entries done and
///                early_stopping yes; not improvable. Ties to the pool first, then the lower c.
///   improvable = improvable and any over pool entries b of best > (done[b] ? min(pool_scores) :
///   -1e9), with
///                best = running score 0 / L ** length_penalty, L = max_length - P if
///                early_stopping is never and length_penalty > 0, else T + 1 - P
///   done       = not improvable, or early_stopping yes and all pool entries done, or hit[c] for
///   all c
/// All in float32 but the power, which is taken in double and rounded.
void advance(Context& ctx, const DecodeState& state, std::span<const int32_t> active);

}  // namespace fuseq::inline v0
