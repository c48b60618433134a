// SPDX-License-Identifier: Apache-2.0
// Checks what callers ask for, before anything is done.
#include "decode/request.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/message.h"

namespace fuseq::inline v0 {
namespace {

void check_optional_id(const char* argument, int id, int vocab) {
  require(id >= -1 && id < vocab, argument, ": must be an id below ", vocab,
          " or -1 for none, got ", id);
}

void check_options(const TransformerSpec& spec, const GenerationOptions& o, int max_rows) {
  const auto not_negative = [](const char* argument, int value) {
    require(value >= 0, argument, ": must not be negative, got ", value);
  };
  not_negative("max_length", o.max_length);
  not_negative("max_new_tokens", o.max_new_tokens);
  not_negative("min_length", o.min_length);
  not_negative("min_new_tokens", o.min_new_tokens);
  not_negative("no_repeat_ngram_size", o.no_repeat_ngram_size);
  require(o.max_length == 0 || o.max_new_tokens == 0,
          "max_length: must not come together with max_new_tokens, got ", o.max_length, " and ",
          o.max_new_tokens, ". Leave one out");
  require(o.max_length == 0 || o.min_length <= o.max_length,
          "min_length: must be at most max_length ", o.max_length, ", got ", o.min_length);
  require(o.max_new_tokens == 0 || o.min_new_tokens <= o.max_new_tokens,
          "min_new_tokens: must be at most max_new_tokens ", o.max_new_tokens, ", got ",
          o.min_new_tokens);
  require(o.num_beams >= 1 && o.num_beams <= max_rows, "num_beams: must be in 1 ... ", max_rows,
          ", got ", o.num_beams);
  require(o.num_return_sequences >= 1 && o.num_return_sequences <= o.num_beams,
          "num_return_sequences: must be in 1 ... num_beams ", o.num_beams, ", got ",
          o.num_return_sequences);
  require(std::isfinite(o.length_penalty), "length_penalty: must be finite, got ",
          o.length_penalty);
  require(o.early_stopping <= EarlyStopping::never,
          "early_stopping: must be no, yes or never, got ", static_cast<int>(o.early_stopping));
  require(std::isfinite(o.repetition_penalty) && o.repetition_penalty > 0,
          "repetition_penalty: must be positive and finite, got ", o.repetition_penalty);
  check_optional_id("forced_bos_token_id", o.forced_bos_token_id, spec.vocab);
  check_optional_id("forced_eos_token_id", o.forced_eos_token_id, spec.vocab);
  const auto check_id = [&](const char* argument, int id) {
    require(id >= 0 && id < spec.vocab, argument, ": ids must be below ", spec.vocab, ", got ", id);
  };
  for (const int id : o.stop_token_ids) check_id("stop_token_ids", id);
  for (const int id : o.suppress_token_ids) check_id("suppress_token_ids", id);
  for (const auto& [id, bias] : o.logit_bias) {
    check_id("logit_bias", id);
    require(!std::isnan(bias) && bias < INFINITY,
            "logit_bias: must be a number below infinity, got ", bias, " for id ", id);
  }
}

[[nodiscard]] std::vector<int32_t> choose_prompt(const TransformerSpec& spec,
                                                 std::span<const int32_t> ids) {
  if (!ids.empty()) return {ids.begin(), ids.end()};
  const int start =
      spec.is_seq2seq() && spec.decoder_start_id >= 0 ? spec.decoder_start_id : spec.bos_id;
  require(start >= 0, "decoder_ids: must not be empty for a model without ",
          spec.is_seq2seq() ? "decoder_start_id" : "bos_id", ", got none");
  return {start};
}

[[nodiscard]] int32_t choose_max_length(const TransformerSpec& spec, const GenerationOptions& o,
                                        int64_t prompt_length) {
  const int64_t bound = max_positions(spec.decoder);
  int64_t length = o.max_length;
  if (o.max_new_tokens > 0) length = prompt_length + o.max_new_tokens;
  if (length == 0) {
    require(bound > 0,
            "max_length: must be given, or max_new_tokens, for a model without a position table, "
            "got neither");
    length = bound;
  }
  // The last token of a row is never fed back, so it needs no position.
  const int64_t longest = bound > 0 ? bound + 1 : int64_t{1} << 24;
  require(length <= longest, o.max_new_tokens > 0 ? "max_new_tokens" : "max_length",
          ": rows must have at most ", longest, " tokens, got ", length);
  return static_cast<int32_t>(length);
}

void set_stop_ids(DecodeRules& rules, const TransformerSpec& spec,
                  const GenerationOptions& options) {
  std::vector<int> ids = options.stop_token_ids;
  if (options.use_default_stop_ids) ids.insert(ids.end(), spec.eos_ids.begin(), spec.eos_ids.end());
  std::ranges::sort(ids);
  ids.erase(std::ranges::unique(ids).begin(), ids.end());
  require(ids.size() <= kMaxStopIds, "stop_token_ids: must be at most ", kMaxStopIds,
          " with the model's own, got ", ids.size());
  rules.num_stop_ids = static_cast<int32_t>(ids.size());
  std::ranges::copy(ids, rules.stop_ids);
}

}  // namespace

void check_ids(const char* argument, std::span<const int32_t> ids, int vocab,
               int64_t max_positions) {
  require(max_positions == 0 || static_cast<int64_t>(ids.size()) <= max_positions, argument,
          ": must fit the position table of ", max_positions, ", got ", ids.size(), " ids");
  for (size_t i = 0; i < ids.size(); ++i) {
    require(ids[i] >= 0 && ids[i] < vocab, argument, ": ids must be in 0 ... ", vocab - 1, ", got ",
            ids[i], " at position ", i);
  }
}

Request make_request(const TransformerSpec& spec, const Prompt& prompt,
                     const GenerationOptions& options, int max_rows) {
  require(spec.decoder.layers > 0, "generate: the model must have a decoder, got an encoder alone");
  check_options(spec, options, max_rows);
  if (spec.is_seq2seq()) {
    require(!prompt.encoder_ids.empty(), "encoder_ids: must not be empty, got none");
  } else {
    require(prompt.encoder_ids.empty(),
            "encoder_ids: must be empty for a model without an encoder, got ",
            prompt.encoder_ids.size(), " ids");
  }
  check_ids("encoder_ids", prompt.encoder_ids, spec.vocab, max_positions(spec.encoder));
  check_ids("decoder_ids", prompt.decoder_ids, spec.vocab, max_positions(spec.decoder));

  Request request;
  request.encoder_ids.assign(prompt.encoder_ids.begin(), prompt.encoder_ids.end());
  request.prompt = choose_prompt(spec, prompt.decoder_ids);
  request.num_return_sequences = options.num_return_sequences;
  for (const std::vector<int>* ids : {&options.suppress_token_ids, &spec.never_emitted_ids}) {
    request.suppressed.insert(request.suppressed.end(), ids->begin(), ids->end());
  }
  for (const auto& [id, bias] : options.logit_bias) request.biased.push_back({id, bias});

  DecodeRules& rules = request.rules;
  const auto prompt_length = static_cast<int64_t>(request.prompt.size());
  rules.num_beams = options.num_beams;
  rules.prompt_length = static_cast<int32_t>(prompt_length);
  rules.max_length = choose_max_length(spec, options, prompt_length);
  rules.min_length = static_cast<int32_t>(std::max<int64_t>(
      options.min_length, options.min_new_tokens > 0 ? prompt_length + options.min_new_tokens : 0));
  rules.repetition_penalty = options.repetition_penalty;
  rules.no_repeat_ngram_size = options.no_repeat_ngram_size;
  rules.forced_bos_id = options.forced_bos_token_id;
  rules.forced_eos_id = options.forced_eos_token_id;
  rules.length_penalty = options.length_penalty;
  rules.early_stopping = options.early_stopping;
  set_stop_ids(rules, spec, options);
  require(rules.num_candidates() <= int64_t{rules.num_beams} * spec.vocab, "num_beams: needs ",
          rules.num_candidates(), " candidates of num_beams * vocab, got ",
          int64_t{rules.num_beams} * spec.vocab);
  rules.num_suppressed = static_cast<int32_t>(request.suppressed.size());
  rules.num_biased = static_cast<int32_t>(request.biased.size());
  return request;
}

}  // namespace fuseq::inline v0
