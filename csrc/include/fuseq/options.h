// SPDX-License-Identifier: Apache-2.0
// GenerationOptions: everything a caller may ask of one generation.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fuseq/export.h"
#include "fuseq/token_bytes.h"
#include "fuseq/token_sampler.h"

namespace fuseq::inline v0 {

/// When a beam search stops looking for better hypotheses; the meaning is that of transformers 5.
enum class EarlyStopping : uint8_t {
  no,     ///< stop when the best running beam, scored at its present length, cannot win
  yes,    ///< stop as soon as num_beams hypotheses are finished
  never,  ///< stop when no running beam can win at any length up to max_length
};

/// Options belong to a request. Lengths are counted in tokens of the decoder row, prompt and start
/// ids included, but for the two `_new_tokens` fields. Rules apply in the order of transformers:
/// logit_bias, repetition_penalty, no_repeat_ngram_size, min_length, min_new_tokens,
/// forced_bos_token_id, forced_eos_token_id, suppress_token_ids; then temperature, top_k, top_p,
/// min_p and the draw.
///
/// How an id is chosen: do_sample draws; num_beams > 1 searches with beams; penalty_alpha > 0 is
/// contrastive search; `sampler` leaves it to the caller; without any of them the best id wins. At
/// most one of the four.
struct GenerationOptions {
  int max_length = 0;  ///< 0: what max_new_tokens says, else the model's position table; at most
                       ///< one more than that table, since the last token is never fed back
  int max_new_tokens = 0;     ///< 0: what max_length says; both: Error(value)
  int min_length = 0;         ///< no stop id before the row has this many tokens
  int min_new_tokens = 0;     ///< no stop id before this many new tokens
  bool do_sample = false;     ///< draw from the distribution that the next five fields shape
  float temperature = 1;      ///< > 0; divides the scores; greedy search does not depend on it
  int top_k = 0;              ///< only the k best ids; 0: all. Candidates of contrastive search
  float top_p = 1;            ///< (0, 1]: the fewest best ids whose probabilities reach p
  float min_p = 0;            ///< [0, 1]: ids at least p times as probable as the best one
  bool top_p_of_all = false;  ///< top_p counts probabilities of the whole vocabulary and not of
                              ///< what top_k left, as KerasHub does
  std::optional<uint64_t> seed = {};  ///< of the draws; nothing: a fresh one from the system
  float penalty_alpha = 0;            ///< (0, 1]: contrastive search over top_k candidates; 0: off
  int num_beams = 1;                  ///< 1: no beams; more: beam search
  int num_return_sequences = 1;       ///< beams: at most num_beams, best first; else so many draws
  float length_penalty =
      1;  ///< beams: score = sum of log-probabilities / new tokens ** length_penalty
  EarlyStopping early_stopping = EarlyStopping::no;
  float repetition_penalty =
      1;  ///< > 0; divides positive and multiplies negative scores of ids already in the row
  int no_repeat_ngram_size = 0;     ///< n: no n-gram of the decoder row occurs twice; 0: off
  int decoder_start_token_id = -1;  ///< the prompt where none is given; -1: the model's own
  int forced_bos_token_id = -1;     ///< forced after a prompt of one token; -1: off
  int forced_eos_token_id = -1;  ///< forced as the last token where max_length is reached; -1: off
  bool use_default_stop_ids = true;  ///< the model's eos_ids end a row as well as stop_token_ids do
  std::vector<int> stop_token_ids = {};  ///< at most 15 ids in all
  std::vector<std::string> stop_strings =
      {};                                    ///< bytes that end a row once new tokens contain them,
                                             ///< across token borders too; needs token_bytes
  std::vector<int> suppress_token_ids = {};  ///< never emitted
  std::vector<std::pair<int, float>> logit_bias = {};  ///< added to the scores of these ids
  bool return_scores = false;  ///< fill token_log_probs of the results, and scores without beams

  // What no file holds; not in the list below.
  std::shared_ptr<const TokenBytes> token_bytes = {};  ///< for stop_strings and streamed text
  std::shared_ptr<TokenSampler> sampler = {};          ///< chooses ids from probabilities
};

/// Calls `v(name, field, meaning)` for every field.
template <typename O, typename V>
void visit_option_fields(O& o, V&& v) {
  v("max_length", o.max_length, "tokens of a decoder row, prompt included; 0: the position table");
  v("max_new_tokens", o.max_new_tokens, "tokens after the prompt; 0: as max_length says");
  v("min_length", o.min_length, "no stop id before the row has this many tokens");
  v("min_new_tokens", o.min_new_tokens, "no stop id before this many new tokens");
  v("do_sample", o.do_sample, "draw ids instead of taking the best");
  v("temperature", o.temperature, "divides the scores before a draw");
  v("top_k", o.top_k, "draw among the k best ids; candidates of contrastive search; 0: all");
  v("top_p", o.top_p, "draw among the fewest ids whose probabilities reach p");
  v("min_p", o.min_p, "draw among ids at least p times as probable as the best");
  v("top_p_of_all", o.top_p_of_all, "top_p counts probabilities from before top_k");
  v("seed", o.seed, "of the draws; none: a fresh one");
  v("penalty_alpha", o.penalty_alpha, "weight of contrastive search's penalty; 0: off");
  v("num_beams", o.num_beams, "hypotheses of a beam search; 1: none");
  v("num_return_sequences", o.num_return_sequences, "results per input, best first, or draws");
  v("length_penalty", o.length_penalty, "exponent of the length a beam's score is divided by");
  v("early_stopping", o.early_stopping, "when a beam search stops: no, yes or never");
  v("repetition_penalty", o.repetition_penalty, "weakens ids already in the row; 1: off");
  v("no_repeat_ngram_size", o.no_repeat_ngram_size,
    "length of n-grams that may occur once; 0: off");
  v("decoder_start_token_id", o.decoder_start_token_id,
    "prompt where none is given; -1: the model's own");
  v("forced_bos_token_id", o.forced_bos_token_id, "first token after a prompt of one; -1: off");
  v("forced_eos_token_id", o.forced_eos_token_id, "last token at max_length; -1: off");
  v("use_default_stop_ids", o.use_default_stop_ids, "the model's own end ids stop a row too");
  v("stop_token_ids", o.stop_token_ids, "ids that end a row");
  v("stop_strings", o.stop_strings, "bytes that end a row, across token borders too");
  v("suppress_token_ids", o.suppress_token_ids, "ids that are never emitted");
  v("logit_bias", o.logit_bias, "values added to the scores of ids");
  v("return_scores", o.return_scores, "log-probabilities of the new tokens with the results");
}

/// Reads options from the JSON of a folder's generation.json; fields that it lacks have their
/// defaults. Throws Error(format) for bad JSON, an unknown field or a wrong type.
FUSEQ_API GenerationOptions generation_options_from_json(std::string_view json);

/// The fields that differ from their defaults, as JSON that `generation_options_from_json` reads.
/// Throws Error(value) for stop_strings that are no UTF-8.
FUSEQ_API std::string generation_options_to_json(const GenerationOptions& options);

/// The options that a folder of our own holds in generation.json. Throws Error(not_found) where it
/// has none, and what `generation_options_from_json` throws.
FUSEQ_API GenerationOptions load_generation_options(const std::filesystem::path& folder);

}  // namespace fuseq::inline v0
