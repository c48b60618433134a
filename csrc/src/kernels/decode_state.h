// SPDX-License-Identifier: Apache-2.0
// Everything a decode step reads and writes, in fixed arrays that could lie on any device, and the
// ops on them.
//
// A request slot owns num_rows consecutive rows (hypotheses) from first_row on. A step does, for
// the active requests:
//   head      logits of the rows that take part (logit_row tells where)
//   contrast  contrastive search: the best of the candidates that were just tried is appended
//   process   the rules: log-softmax (beams), bias, penalties, bans, forced and suppressed ids
//   select    the best id of a row (greedy), a draw (sample), or the best candidates of a request
//             (beams, contrastive search)
//   advance   append, reorder beams, move finished hypotheses to the pool, stop tests
// The order of rules, the arithmetic of beams (float32, with -1e9 for "out of the race") and the
// stop tests are those of transformers 5.23, generation/utils.py `_beam_search` and
// generation/logits_process.py.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include "fuseq/context.h"
#include "fuseq/options.h"
#include "kernels/draw.h"
#include "kernels/linear_top.h"
#include "kernels/stop_strings.h"

namespace fuseq::inline v0 {

/// Stop ids of a request, the model's own included.
inline constexpr int kMaxStopIds = 15;

/// A biased id.
struct IdBias {
  int32_t id;
  float bias;
};

/// How a request chooses its ids.
enum class DecodeMode : uint8_t {
  greedy,       ///< one row, the best id
  sample,       ///< every row draws for itself
  beams,        ///< the rows are one search
  contrastive,  ///< one hypothesis; its rows are the candidates for the next id
  external,     ///< every row's id comes from a TokenSampler, by way of candidate_ids
};

/// Why a row ends, or that it does not. The values of fuseq::StopReason, and one more.
enum class Stop : uint8_t { stop_id, max_length, canceled, stop_string, callback, none };

/// What a request asks for, as the device sees it. One per request slot.
struct DecodeRules {
  DecodeMode mode = DecodeMode::greedy;
  bool return_scores = false;  ///< fill log_probs
  int32_t first_row = 0;
  int32_t num_rows = 1;
  int32_t prompt_length = 0;
  int32_t max_length = 0;  ///< tokens of a row, prompt included
  int32_t min_length = 0;  ///< the larger of min_length and prompt_length + min_new_tokens
  float repetition_penalty = 1;
  int32_t no_repeat_ngram_size = 0;
  int32_t forced_bos_id = -1;  ///< applies when a row has exactly one token
  int32_t forced_eos_id = -1;  ///< applies when a row has max_length - 1 tokens
  float length_penalty = 1;
  EarlyStopping early_stopping = EarlyStopping::no;
  DrawFilter filter{};  ///< sample; its temperature also of beams, contrastive and external
  uint64_t seed = 0;
  uint32_t sequence = 0;    ///< of the draws' counter; a row's sample is its place in the request
  float penalty_alpha = 0;  ///< contrastive
  int32_t num_stop_ids = 0;
  int32_t stop_ids[kMaxStopIds] = {};
  int32_t num_suppressed = 0;
  int32_t num_biased = 0;
  const int32_t* suppressed = nullptr;        ///< [num_suppressed]
  const IdBias* biased = nullptr;             ///< [num_biased]
  const StopStrings* stop_strings = nullptr;  ///< null: none

  /// Candidates that select keeps. Beams: enough that num_rows of them go on even if all others
  /// stop.
  [[nodiscard]] int32_t num_candidates() const noexcept {
    switch (mode) {
      case DecodeMode::beams: return (num_stop_ids > 1 ? num_stop_ids + 1 : 2) * num_rows;
      case DecodeMode::contrastive: return num_rows;
      default: return 1;
    }
  }
  /// What a beam's sum of log-probabilities is divided by; the power is taken in double.
  [[nodiscard]] float length_factor(int32_t new_tokens) const {
    return static_cast<float>(
        std::pow(static_cast<double>(new_tokens), static_cast<double>(length_penalty)));
  }
  /// Whether every row is a hypothesis of its own, which ends when it likes.
  [[nodiscard]] bool has_free_rows() const noexcept {
    return mode != DecodeMode::beams && mode != DecodeMode::contrastive;
  }
};

/// Candidates per row that the arrays have room for.
inline constexpr int kMaxCandidatesPerRow = kMaxStopIds + 1;

/// The hidden rows that contrastive search of one request compares, each of length 1.
struct ContrastRows {
  float* history = nullptr;     ///< [C][D] of the positions of the row so far
  float* candidates = nullptr;  ///< [num_rows][D] of the candidates that were just tried
  int64_t dim = 0;              ///< D
};

/// Letters: R request slots, N rows, C capacity (tokens of a row), V vocabulary, K =
/// kMaxCandidatesPerRow.
struct DecodeState {
  int32_t num_requests = 0;  ///< R
  int32_t num_rows = 0;      ///< N
  int64_t capacity = 0;      ///< C
  int64_t vocab = 0;         ///< V

  // Per request slot.
  DecodeRules* rules = nullptr;      ///< [R]
  uint8_t* improvable = nullptr;     ///< [R] beams: a running beam may still beat the pool
  uint8_t* done = nullptr;           ///< [R] set when the request is finished
  int32_t* winner = nullptr;         ///< [R] contrastive: the candidate whose logits count
  uint8_t* has_tried = nullptr;      ///< [R] contrastive: candidates were tried in this step
  ContrastRows* contrast = nullptr;  ///< [R]

  // Per row.
  int32_t* logit_row = nullptr;  ///< [N] row of `logits`; -1: takes no part in this step
  int32_t* ids = nullptr;        ///< [N][C] the row so far, prompt included
  int32_t* lanes = nullptr;      ///< [N][C] cache lane in which each position of the row lies
  float* log_probs = nullptr;    ///< [N][C] with return_scores: the model's, of each new token
  int32_t* lengths = nullptr;    ///< [N] tokens in `ids`
  float* scores = nullptr;       ///< [N] beams: sum of log-probabilities, -1e9 for a beam that is
                                 ///< not in the race
  int32_t* parents = nullptr;  ///< [N] beams: row within the request whose past this one took over
  Stop* stops = nullptr;       ///< [N] free rows and contrastive: why the row has ended

  // Per row: the pool of finished hypotheses, num_rows of a request, best first.
  int32_t* pool_ids = nullptr;      ///< [N][C]
  float* pool_log_probs = nullptr;  ///< [N][C]
  int32_t* pool_lengths = nullptr;  ///< [N] prompt_length at least
  float* pool_scores = nullptr;     ///< [N] -1e9: empty
  Stop* pool_stops = nullptr;       ///< [N] none: this entry is no finished hypothesis

  // Candidates, best first: candidate c of a beam or contrastive request is at first_row * K + c,
  // that of a free row at row * K.
  float* candidate_scores = nullptr;     ///< [N * K] beams: accumulated log-probability;
                                         ///< contrastive: probability, -1 for a hidden one
                                         ///< behind the first; else the score itself
  float* candidate_log_probs = nullptr;  ///< [N * K] with return_scores: the model's
  int32_t* candidate_beams = nullptr;    ///< [N * K] row within the request
  int32_t* candidate_ids = nullptr;      ///< [N * K]

  // Room for the reordering of beams.
  int32_t* spare_ids = nullptr;       ///< [N][C]
  int32_t* spare_lanes = nullptr;     ///< [N][C]
  int32_t* spare_pool_ids = nullptr;  ///< [N][C]
  float* spare_log_probs = nullptr;   ///< [N][C]

  // The rows of the step.
  float* logits = nullptr;        ///< [rows of the step][V]
  float* model_logits = nullptr;  ///< [rows of the step][V] with return_scores: before the rules
};

/// Appends the best of the candidates that were tried, for contrastive requests with has_tried, and
/// tests whether that ends them; other requests are left alone.
///
///   best = argmax_c (1 - alpha) p[c] - alpha max over t < T of cos(candidates[c], history[t])
///
/// p are the candidate_scores, those with -1 stay out; ties go to the lower c. The winner's hidden
/// row joins the history, its id the request's rows, its lane their lane tables. Source: Su et al.
/// 2022, https://arxiv.org/abs/2202.06417; the form is KerasHub's.
void contrast(Context& ctx, const DecodeState& state, std::span<const int32_t> active);

/// Applies the rules to state.logits in place. `active` lists request slots; finished ones are
/// passed over, as in the other ops.
///
/// Rows keep raw logits, but those of a beam search become log_softmax(logits / temperature) first.
/// Of a contrastive request only the winner's row counts. Then, per row of length T:
///   1. logit_bias            score[id] += bias
///   2. repetition_penalty p  every id of the row, once: score < 0 ? score * p : score / p
///   3. no_repeat_ngram n     T >= n: ids that followed an earlier occurrence of the last n - 1 ids
///   become -inf
///   4. min_length            T < min_length: stop ids become -inf
///   5. forced_bos            T == 1: all -inf but that id, which becomes 0
///   6. forced_eos            T == max_length - 1: the same with forced_eos_id
///   7. suppressed            -inf
void process(Context& ctx, const DecodeState& state, std::span<const int32_t> active);

/// Greedy: candidate 0 of the row is its largest score, the lowest id where scores tie. Sample: a
/// draw (kernels/draw.h) with step = new tokens of the row. Beams: the num_candidates() largest of
/// score + scores[row] over all rows and ids of the request, best first; ties go to the lower beam,
/// then the lower id. Contrastive: the num_rows largest of the winner's row, with their
/// probabilities. External: nothing. NaN counts as -inf. The result does not depend on the number
/// of threads. Throws Error(value) for a request with num_rows * V < num_candidates().
void select(Context& ctx, const DecodeState& state, std::span<const int32_t> active);

/// How many outputs of the head a step must know of each row so that select_top can do without
/// process and select; 0: some row needs all its logits (draws, contrastive search, samplers,
/// penalties, biases, forced ids, a temperature of beams, many bans).
[[nodiscard]] int64_t top_count(const DecodeState& state, std::span<const int32_t> active);

/// Whether select_top needs the sums of exponentials too.
[[nodiscard]] bool needs_log_sums(const DecodeState& state, std::span<const int32_t> active);

/// What process and select do, bit by bit, from the best outputs of the rows of the step alone:
/// top.count must be top_count(state, active). False where they do not tell, for want of finite
/// scores, or since an id that is not in a list might tie with the last candidate of a beam search;
/// candidates are then not to be used.
[[nodiscard]] bool select_top(Context& ctx, const DecodeState& state,
                              std::span<const int32_t> active, const TopOutputs& top);

/// softmax(logits / temperature) of the listed rows into probabilities [rows.size()][V]: what a
/// TokenSampler sees. Of a row with nothing finite, 1 for the first id that a draw would take.
void probabilities(Context& ctx, const DecodeState& state, std::span<const int32_t> rows,
                   float temperature, float* probabilities);

/// Appends the chosen ids. Free rows: one id each; a row ends with a stop id, with a token that
/// completes a stop string, or at max_length; done when all rows have ended. Contrastive: nothing.
/// Beams (W beams, K candidates, T tokens before this step, P the prompt's):
///   hit[c]     = id is a stop id or completes a stop string, or T + 1 >= max_length
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
