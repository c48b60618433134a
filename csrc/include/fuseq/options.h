// SPDX-License-Identifier: Apache-2.0
// GenerationOptions: everything a caller may ask of one generation.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "fuseq/export.h"

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
/// forced_bos_token_id, forced_eos_token_id, suppress_token_ids.
struct GenerationOptions {
  int max_length = 0;  ///< 0: what max_new_tokens says, else the model's position table; at most
                       ///< one more than that table, since the last token is never fed back
  int max_new_tokens = 0;        ///< 0: what max_length says; both: Error(value)
  int min_length = 0;            ///< no stop id before the row has this many tokens
  int min_new_tokens = 0;        ///< no stop id before this many new tokens
  int num_beams = 1;             ///< 1: greedy search; more: beam search
  int num_return_sequences = 1;  ///< best first; at most num_beams
  float length_penalty =
      1;  ///< beams: score = sum of log-probabilities / new tokens ** length_penalty
  EarlyStopping early_stopping = EarlyStopping::no;
  float repetition_penalty =
      1;  ///< > 0; divides positive and multiplies negative scores of ids already in the row
  int no_repeat_ngram_size = 0;  ///< n: no n-gram of the decoder row occurs twice; 0: off
  int forced_bos_token_id = -1;  ///< forced after a prompt of one token; -1: off
  int forced_eos_token_id = -1;  ///< forced as the last token where max_length is reached; -1: off
  bool use_default_stop_ids = true;  ///< the model's eos_ids end a row as well as stop_token_ids do
  std::vector<int> stop_token_ids = {};                ///< at most 15 ids in all
  std::vector<int> suppress_token_ids = {};            ///< never emitted
  std::vector<std::pair<int, float>> logit_bias = {};  ///< added to the scores of these ids
};

/// Calls `v(name, field, meaning)` for every field.
template <typename O, typename V>
void visit_option_fields(O& o, V&& v) {
  v("max_length", o.max_length, "tokens of a decoder row, prompt included; 0: the position table");
  v("max_new_tokens", o.max_new_tokens, "tokens after the prompt; 0: as max_length says");
  v("min_length", o.min_length, "no stop id before the row has this many tokens");
  v("min_new_tokens", o.min_new_tokens, "no stop id before this many new tokens");
  v("num_beams", o.num_beams, "hypotheses of a beam search; 1: greedy");
  v("num_return_sequences", o.num_return_sequences, "results per input, best first");
  v("length_penalty", o.length_penalty, "exponent of the length a beam's score is divided by");
  v("early_stopping", o.early_stopping, "when a beam search stops: no, yes or never");
  v("repetition_penalty", o.repetition_penalty, "weakens ids already in the row; 1: off");
  v("no_repeat_ngram_size", o.no_repeat_ngram_size,
    "length of n-grams that may occur once; 0: off");
  v("forced_bos_token_id", o.forced_bos_token_id, "first token after a prompt of one; -1: off");
  v("forced_eos_token_id", o.forced_eos_token_id, "last token at max_length; -1: off");
  v("use_default_stop_ids", o.use_default_stop_ids, "the model's own end ids stop a row too");
  v("stop_token_ids", o.stop_token_ids, "ids that end a row");
  v("suppress_token_ids", o.suppress_token_ids, "ids that are never emitted");
  v("logit_bias", o.logit_bias, "values added to the scores of ids");
}

}  // namespace fuseq::inline v0
