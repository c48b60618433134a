// SPDX-License-Identifier: Apache-2.0
// Checks what callers ask for, before anything is done.
#include "decode/request.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>

#include "base/message.h"
#include "fuseq/copy.h"

namespace fuseq::inline v0 {
namespace {

void check_optional_id(const char* argument, int id, int vocab) {
  require(id >= -1 && id < vocab, argument, ": must be an id below ", vocab,
          " or -1 for none, got ", id);
}

/// Scores of beams are sums that must stay above those of beams that are out of the race, -1e9.
constexpr float kLeastBeamTemperature = 1e-4f;

/// How ids are chosen: one way only, and no field that another way would need.
void check_choice(const GenerationOptions& o, int max_rows) {
  require(o.num_beams >= 1 && o.num_beams <= max_rows, "num_beams: must be in 1 ... ", max_rows,
          ", got ", o.num_beams);
  check_draw_filter("", {o.temperature, o.top_k, o.top_p, o.min_p, o.top_p_of_all});
  require(o.num_beams == 1 || o.temperature >= kLeastBeamTemperature,
          "temperature: must be at least ", kLeastBeamTemperature, " with beams, got ",
          o.temperature);
  require(o.penalty_alpha >= 0 && o.penalty_alpha <= 1, "penalty_alpha: must be in [0, 1], got ",
          o.penalty_alpha);
  const bool is_contrastive = o.penalty_alpha > 0;
  const int ways = (o.num_beams > 1) + o.do_sample + is_contrastive + (o.sampler != nullptr);
  require(ways <= 1,
          "do_sample: at most one of do_sample, num_beams > 1, penalty_alpha and a sampler may be "
          "given, got ",
          ways, " of them");
  require(o.do_sample || o.top_p == 1, "top_p: needs do_sample, got ", o.top_p, " without it");
  require(o.do_sample || o.min_p == 0, "min_p: needs do_sample, got ", o.min_p, " without it");
  require(o.do_sample || is_contrastive || o.top_k == 0,
          "top_k: needs do_sample or penalty_alpha, got ", o.top_k, " without them");
  require(!is_contrastive || (o.top_k >= 1 && o.top_k <= max_rows),
          "top_k: contrastive search needs 1 ... ", max_rows, " candidates, got ", o.top_k);
  const bool has_draws = o.do_sample || o.sampler != nullptr;
  const int most = has_draws ? max_rows : o.num_beams;
  require(o.num_return_sequences >= 1 && o.num_return_sequences <= most,
          "num_return_sequences: must be in 1 ... ", has_draws ? "rows at a time " : "num_beams ",
          most, ", got ", o.num_return_sequences);
}

void check_stop_strings(const GenerationOptions& o, int vocab) {
  for (const std::string& text : o.stop_strings) {
    require(!text.empty(), "stop_strings: must not be empty, got an empty one");
  }
  require(o.stop_strings.empty() || o.token_bytes != nullptr,
          "stop_strings: needs token_bytes, the bytes of every id, got none");
  require(o.token_bytes == nullptr || o.token_bytes->size() >= vocab,
          "token_bytes: must have an entry for each of ", vocab, " ids, got ",
          o.token_bytes == nullptr ? 0 : o.token_bytes->size());
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
  check_choice(o, max_rows);
  require(std::isfinite(o.length_penalty), "length_penalty: must be finite, got ",
          o.length_penalty);
  require(o.early_stopping <= EarlyStopping::never,
          "early_stopping: must be no, yes or never, got ", static_cast<int>(o.early_stopping));
  require(std::isfinite(o.repetition_penalty) && o.repetition_penalty > 0,
          "repetition_penalty: must be positive and finite, got ", o.repetition_penalty);
  check_optional_id("decoder_start_token_id", o.decoder_start_token_id, spec.vocab);
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
  check_stop_strings(o, spec.vocab);
}

[[nodiscard]] std::vector<int32_t> choose_prompt(const TransformerSpec& spec,
                                                 const GenerationOptions& options,
                                                 std::span<const int32_t> ids) {
  if (!ids.empty()) return {ids.begin(), ids.end()};
  if (options.decoder_start_token_id >= 0) return {options.decoder_start_token_id};
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
  // The last token of a row is never fed back, so it needs no position; contrastive search tries
  // it.
  const int64_t longest = bound > 0 ? bound + (o.penalty_alpha > 0 ? 0 : 1) : int64_t{1} << 24;
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

void set_choice(DecodeRules& rules, const Prompt& prompt, const GenerationOptions& options) {
  const bool is_contrastive = options.penalty_alpha > 0 && options.top_k > 1;
  rules.filter = {options.temperature, options.top_k, options.top_p, options.min_p,
                  options.top_p_of_all};
  rules.penalty_alpha = options.penalty_alpha;
  rules.num_rows = options.num_return_sequences;
  if (options.do_sample) {
    rules.mode = DecodeMode::sample;
    const std::optional<uint64_t> seed = prompt.seed ? prompt.seed : options.seed;
    rules.seed = seed ? *seed : fresh_seed();
  } else if (options.sampler != nullptr) {
    rules.mode = DecodeMode::external;
  } else if (options.num_beams > 1) {
    rules.mode = DecodeMode::beams;
    rules.num_rows = options.num_beams;
  } else if (is_contrastive) {
    rules.mode = DecodeMode::contrastive;
    rules.num_rows = options.top_k;
  }
  require(prompt.sequence >= -1 && prompt.sequence <= int64_t{UINT32_MAX},
          "sequence: must be in 0 ... 2^32 - 1, got ", prompt.sequence);
  rules.sequence = prompt.sequence < 0 ? 0 : static_cast<uint32_t>(prompt.sequence);
}

}  // namespace

void finish_unstarted(Request& request, StopReason reason) {
  const int32_t length = std::min(request.rules.prompt_length, request.rules.max_length);
  request.prompt.resize(static_cast<size_t>(length));
  request.results.assign(static_cast<size_t>(request.num_return_sequences),
                         {.ids = request.prompt, .prompt_length = length, .stop_reason = reason});
  request.state = RequestState::finished;
}

void check_session_options(const char* call, const SessionOptions& options) {
  constexpr int kMaxRows = 4096;
  require(options.max_rows >= 1 && options.max_rows <= kMaxRows, call,
          ": max_rows must be in 1 ... ", kMaxRows, ", got ", options.max_rows);
  const DType dtype = options.cache_dtype.value_or(DType::f32);
  require(dtype == DType::f32 || dtype == DType::bf16, call,
          ": cache_dtype must be float32 or bfloat16, got ", name(dtype));
}

uint64_t fresh_seed() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

void check_source(const TransformerSpec& spec, const Prompt& prompt) {
  const ConstView states = prompt.encoder_states;
  if (!spec.is_seq2seq()) {
    require(prompt.encoder_ids.empty(),
            "encoder_ids: must be empty for a model without an encoder, got ",
            prompt.encoder_ids.size(), " ids");
    require(!states, "encoder_states: must not come for a model without an encoder");
    return;
  }
  if (!states) {
    require(!prompt.encoder_ids.empty(), "encoder_ids: must not be empty, got none");
    check_ids("encoder_ids", prompt.encoder_ids, spec.vocab, max_positions(spec.encoder));
    return;
  }
  require(prompt.encoder_ids.empty(), "encoder_states: must come without encoder_ids, got ",
          prompt.encoder_ids.size(), " ids too");
  require(states.rank() == 2 && states.dim(0) > 0 && states.dim(1) == spec.encoder.dim,
          "encoder_states: must have shape [S, ", spec.encoder.dim, "] with S > 0, got ",
          states.shape);
  if (states.dtype != DType::f32) {
    fail(ErrorKind::type, "encoder_states: must be float32, got ", name(states.dtype));
  }
}

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
  check_source(spec, prompt);
  check_ids("decoder_ids", prompt.decoder_ids, spec.vocab, max_positions(spec.decoder));

  Request request;
  request.encoder_ids.assign(prompt.encoder_ids.begin(), prompt.encoder_ids.end());
  if (prompt.encoder_states) {
    request.encoder_states = Tensor(DType::f32, prompt.encoder_states.shape);
    copy(prompt.encoder_states, request.encoder_states.view());
  }
  request.prompt = choose_prompt(spec, options, prompt.decoder_ids);
  request.num_return_sequences = options.num_return_sequences;
  for (const std::vector<int>* ids : {&options.suppress_token_ids, &spec.never_emitted_ids}) {
    request.suppressed.insert(request.suppressed.end(), ids->begin(), ids->end());
  }
  for (const auto& [id, bias] : options.logit_bias) request.biased.push_back({id, bias});

  request.stop_strings = {options.token_bytes, options.stop_strings};
  request.token_bytes = options.token_bytes;
  request.sampler = options.sampler;

  DecodeRules& rules = request.rules;
  const auto prompt_length = static_cast<int64_t>(request.prompt.size());
  set_choice(rules, prompt, options);
  request.place = rules.sequence;
  rules.return_scores = options.return_scores;
  rules.prompt_length = static_cast<int32_t>(prompt_length);
  rules.max_length = choose_max_length(spec, options, prompt_length);
  const int64_t min_row = options.min_new_tokens > 0 ? prompt_length + options.min_new_tokens : 0;
  rules.min_length = static_cast<int32_t>(
      std::min<int64_t>(std::max<int64_t>(options.min_length, min_row), rules.max_length));
  rules.repetition_penalty = options.repetition_penalty;
  rules.no_repeat_ngram_size = options.no_repeat_ngram_size;
  rules.forced_bos_id = options.forced_bos_token_id;
  rules.forced_eos_id = options.forced_eos_token_id;
  rules.length_penalty = options.length_penalty;
  rules.early_stopping = options.early_stopping;
  set_stop_ids(rules, spec, options);
  const int64_t num_scores =
      rules.mode == DecodeMode::beams ? int64_t{rules.num_rows} * spec.vocab : int64_t{spec.vocab};
  require(rules.num_candidates() <= num_scores,
          rules.mode == DecodeMode::beams ? "num_beams" : "top_k", ": needs ",
          rules.num_candidates(), " candidates, got a vocabulary that has ", num_scores);
  rules.num_suppressed = static_cast<int32_t>(request.suppressed.size());
  rules.num_biased = static_cast<int32_t>(request.biased.size());
  return request;
}

}  // namespace fuseq::inline v0
