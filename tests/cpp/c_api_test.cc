// SPDX-License-Identifier: Apache-2.0
// The plain C door: the same results as C++, streams, codes and messages for bad input, structs of
// other versions.
#include "fuseq/c_api.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "fuseq/generate.h"
#include "fuseq/model.h"
#include "fuseq/session.h"
#include "fuseq/version.h"
#include "random_model.h"
#include "test_files.h"

namespace fuseq {
namespace {

struct Free {
  void operator()(fuseq_model* model) const { fuseq_model_free(model); }
  void operator()(fuseq_result* result) const { fuseq_result_free(result); }
  void operator()(fuseq_scores* scores) const { fuseq_scores_free(scores); }
  void operator()(fuseq_token_bytes* bytes) const { fuseq_token_bytes_free(bytes); }
};
using OwnedModel = std::unique_ptr<fuseq_model, Free>;
using OwnedResult = std::unique_ptr<fuseq_result, Free>;
using OwnedScores = std::unique_ptr<fuseq_scores, Free>;
using OwnedTokenBytes = std::unique_ptr<fuseq_token_bytes, Free>;

fuseq_prompt prompt_of(const std::vector<int32_t>& encoder_ids,
                       const std::vector<int32_t>& decoder_ids = {}) {
  return {.struct_size = sizeof(fuseq_prompt),
          .encoder_ids = encoder_ids.data(),
          .num_encoder_ids = encoder_ids.size(),
          .decoder_ids = decoder_ids.data(),
          .num_decoder_ids = decoder_ids.size()};
}

fuseq_bytes bytes_of(std::string_view text) {
  return {text.data(), text.size()};
}

/// Three bytes for each id, the one in the middle a zero: "4\0002" for 42.
std::vector<std::string> vocabulary() {
  std::vector<std::string> tokens;
  for (int id = 0; id < 101; ++id) {
    tokens.push_back({static_cast<char>('0' + id / 10), '\0', static_cast<char>('0' + id % 10)});
  }
  return tokens;
}

OwnedTokenBytes make_token_bytes(const std::vector<std::string>& tokens) {
  std::vector<fuseq_bytes> bytes;
  for (const std::string& token : tokens) bytes.push_back(bytes_of(token));
  fuseq_token_bytes* made = nullptr;
  EXPECT_EQ(fuseq_token_bytes_create(bytes.data(), bytes.size(), &made), FUSEQ_OK)
      << fuseq_last_error();
  return OwnedTokenBytes(made);
}

std::shared_ptr<const TokenBytes> make_cpp_token_bytes(const std::vector<std::string>& tokens) {
  const std::vector<std::string_view> views(tokens.begin(), tokens.end());
  return std::make_shared<const TokenBytes>(views);
}

/// What the C results say of one row.
Hypothesis row_of(const OwnedResult& result, size_t prompt, size_t sequence) {
  const int32_t* ids = nullptr;
  const float* values = nullptr;
  size_t num_ids = 0, num_values = 0, prompt_length = 0;
  int32_t reason = -1;
  Hypothesis row;
  EXPECT_EQ(fuseq_result_ids(result.get(), prompt, sequence, &ids, &num_ids), FUSEQ_OK);
  EXPECT_EQ(fuseq_result_prompt_length(result.get(), prompt, sequence, &prompt_length), FUSEQ_OK);
  EXPECT_EQ(fuseq_result_score(result.get(), prompt, sequence, &row.score), FUSEQ_OK);
  EXPECT_EQ(fuseq_result_token_log_probs(result.get(), prompt, sequence, &values, &num_values),
            FUSEQ_OK);
  EXPECT_EQ(fuseq_result_stop_reason(result.get(), prompt, sequence, &reason), FUSEQ_OK);
  row.ids.assign(ids, ids + num_ids);
  row.prompt_length = static_cast<int>(prompt_length);
  row.token_log_probs.assign(values, values + num_values);
  row.stop_reason = static_cast<StopReason>(reason);
  return row;
}

void expect_equal(const OwnedResult& result, const std::vector<std::vector<Hypothesis>>& expected) {
  size_t num_prompts = 0;
  ASSERT_EQ(fuseq_result_num_prompts(result.get(), &num_prompts), FUSEQ_OK) << fuseq_last_error();
  ASSERT_EQ(num_prompts, expected.size());
  for (size_t p = 0; p < num_prompts; ++p) {
    size_t num_sequences = 0;
    ASSERT_EQ(fuseq_result_num_sequences(result.get(), p, &num_sequences), FUSEQ_OK);
    ASSERT_EQ(num_sequences, expected[p].size());
    for (size_t s = 0; s < num_sequences; ++s) {
      const Hypothesis row = row_of(result, p, s);
      EXPECT_EQ(row.ids, expected[p][s].ids);
      EXPECT_EQ(row.prompt_length, expected[p][s].prompt_length);
      EXPECT_EQ(row.score, expected[p][s].score);
      EXPECT_EQ(row.token_log_probs, expected[p][s].token_log_probs);
      EXPECT_EQ(row.stop_reason, expected[p][s].stop_reason);
    }
  }
}

void expect_message(const char* says) {
  EXPECT_NE(std::string(fuseq_last_error()).find(says), std::string::npos)
      << fuseq_last_error() << " should say " << says;
}

fuseq_generation_options default_options() {
  fuseq_generation_options options;
  EXPECT_EQ(fuseq_generation_options_init(&options, sizeof options), FUSEQ_OK);
  return options;
}

/// What on_token saw, and what it answers.
struct Stream {
  std::vector<int32_t> ids;
  std::vector<int64_t> rows;
  std::string text;
  size_t answer_at = 0;  ///< from this many tokens on the answer is `answer`
  int answer = 0;

  static int see(void* user_data, const fuseq_new_token* token) {
    auto& stream = *static_cast<Stream*>(user_data);
    EXPECT_EQ(token->struct_size, sizeof *token);
    EXPECT_EQ(token->reserved, 0);
    stream.ids.push_back(token->id);
    stream.rows.push_back(token->row);
    stream.text.append(token->text_size > 0 ? token->text : "", token->text_size);
    return stream.ids.size() >= stream.answer_at ? stream.answer : 0;
  }
};

fuseq_call_options streaming_into(Stream& stream) {
  fuseq_call_options call;
  EXPECT_EQ(fuseq_call_options_init(&call, sizeof call), FUSEQ_OK);
  call.on_token = Stream::see;
  call.user_data = &stream;
  return call;
}

class CApi : public testing::Test {
 protected:
  CApi() {
    test::build(test::bart_like(), test::random_weights(test::bart_like(), 5))->save(folder());
    fuseq_model_options options;
    EXPECT_EQ(fuseq_model_options_init(&options, sizeof options), FUSEQ_OK);
    options.num_threads = 1;
    fuseq_model* loaded = nullptr;
    EXPECT_EQ(fuseq_model_load(folder().c_str(), &options, &loaded), FUSEQ_OK)
        << fuseq_last_error();
    model_.reset(loaded);
  }

  std::string folder() const { return (temp_.path() / "preset").string(); }

  /// The code of a generation that is expected to fail; checks that nothing was returned.
  int failing_generate(const fuseq_prompt& prompt, const fuseq_generation_options* options) {
    auto* result = reinterpret_cast<fuseq_result*>(this);
    const int code = fuseq_generate(model_.get(), &prompt, 1, options, &result);
    EXPECT_EQ(result, nullptr);
    return code;
  }

  OwnedResult generate_one(const fuseq_prompt& prompt, const fuseq_generation_options* options) {
    fuseq_result* result = nullptr;
    EXPECT_EQ(fuseq_generate(model_.get(), &prompt, 1, options, &result), FUSEQ_OK)
        << fuseq_last_error();
    return OwnedResult(result);
  }

  OwnedResult generate_with(const std::vector<fuseq_prompt>& prompts,
                            const fuseq_generation_options& options,
                            const fuseq_call_options* call) {
    fuseq_result* result = nullptr;
    EXPECT_EQ(
        fuseq_generate_with(model_.get(), prompts.data(), prompts.size(), &options, call, &result),
        FUSEQ_OK)
        << fuseq_last_error();
    return OwnedResult(result);
  }

  /// The code of a call that is expected to fail; checks that nothing was returned.
  int failing_generate_with(const fuseq_generation_options& options,
                            const fuseq_call_options& call) {
    const fuseq_prompt prompt = prompt_of(source_);
    auto* result = reinterpret_cast<fuseq_result*>(this);
    const int code = fuseq_generate_with(model_.get(), &prompt, 1, &options, &call, &result);
    EXPECT_EQ(result, nullptr);
    return code;
  }

  static std::vector<int32_t> first_row(const OwnedResult& result) {
    return row_of(result, 0, 0).ids;
  }

  std::shared_ptr<const Model> cpp_model() const {
    return Model::load(folder(), {.num_threads = 1});
  }

  TempFolder temp_;
  OwnedModel model_;
  const std::vector<int32_t> source_ = {5, 17, 42, 2};
};

TEST_F(CApi, generates_what_cpp_generates) {
  const std::vector<int32_t> other_source = {9, 2}, other_start = {2, 30};
  const int32_t stop[] = {50}, suppress[] = {7, 8}, bias_ids[] = {12};
  const float bias_values[] = {1.5f};
  fuseq_generation_options options = default_options();
  options.max_new_tokens = 12;
  options.min_new_tokens = 3;
  options.num_beams = 4;
  options.num_return_sequences = 3;
  options.length_penalty = 2;
  options.early_stopping = FUSEQ_EARLY_STOPPING_NEVER;
  options.repetition_penalty = 1.3f;
  options.no_repeat_ngram_size = 2;
  options.forced_eos_token_id = 2;
  options.stop_token_ids = stop;
  options.num_stop_token_ids = 1;
  options.suppress_token_ids = suppress;
  options.num_suppress_token_ids = 2;
  options.logit_bias_ids = bias_ids;
  options.logit_bias_values = bias_values;
  options.num_logit_bias = 1;
  const fuseq_prompt prompts[] = {prompt_of(source_), prompt_of(other_source, other_start)};
  fuseq_result* raw = nullptr;
  ASSERT_EQ(fuseq_generate(model_.get(), prompts, 2, &options, &raw), FUSEQ_OK)
      << fuseq_last_error();
  const OwnedResult result(raw);

  GenerationOptions same;
  same.max_new_tokens = 12;
  same.min_new_tokens = 3;
  same.num_beams = 4;
  same.num_return_sequences = 3;
  same.length_penalty = 2;
  same.early_stopping = EarlyStopping::never;
  same.repetition_penalty = 1.3f;
  same.no_repeat_ngram_size = 2;
  same.forced_eos_token_id = 2;
  same.stop_token_ids = {50};
  same.suppress_token_ids = {7, 8};
  same.logit_bias = {{12, 1.5f}};
  const std::vector<Prompt> same_prompts = {
      {.encoder_ids = source_, .decoder_ids = {}},
      {.encoder_ids = other_source, .decoder_ids = other_start}};
  const auto expected = generate(*cpp_model(), same_prompts, same);
  expect_equal(result, expected);
  EXPECT_NE(expected[0][0].score, 0.0f);
}

TEST_F(CApi, every_way_to_choose_is_that_of_cpp) {
  struct Case {
    const char* name;
    bool draws;
    void (*set)(fuseq_generation_options&);
    void (*set_same)(GenerationOptions&);
  };
  const auto model = cpp_model();
  // The fields have the same names, so that one body sets both.
  const auto both = [](const char* name, bool draws, auto set) {
    return Case{name, draws, set, set};
  };
  const Case cases[] = {
      both("return_scores", false, [](auto& o) { o.return_scores = true; }),
      both("decoder_start_token_id", false, [](auto& o) { o.decoder_start_token_id = 7; }),
      both("penalty_alpha", false, [](auto& o) { o.penalty_alpha = 1, o.top_k = 4; }),
      both("seed", true, [](auto& o) { o.seed = 12; }),
      both("temperature", true, [](auto& o) { o.temperature = 0.3f; }),
      both("top_k", true, [](auto& o) { o.top_k = 2; }),
      both("top_p", true, [](auto& o) { o.top_p = 0.3f; }),
      both("min_p", true, [](auto& o) { o.min_p = 0.5f; }),
      both("top_p_of_all", true,
           [](auto& o) { o.top_k = 5, o.top_p = 0.3f, o.top_p_of_all = true; }),
      both("num_return_sequences", true, [](auto& o) { o.num_return_sequences = 3; }),
  };
  const auto rows_of = [&](const GenerationOptions& options) {
    const Prompt prompt{.encoder_ids = source_};
    return generate(*model, {&prompt, 1}, options);
  };
  for (const Case& tried : cases) {
    SCOPED_TRACE(tried.name);
    fuseq_generation_options options = default_options();
    GenerationOptions same;
    options.max_new_tokens = same.max_new_tokens = 24;
    options.do_sample = same.do_sample = tried.draws;
    options.temperature = same.temperature = 3;  // the random model is sure of itself
    options.has_seed = 1;
    options.seed = 11;
    same.seed = 11;
    const auto plain = rows_of(same);
    tried.set(options);
    tried.set_same(same);
    const auto expected = rows_of(same);
    expect_equal(generate_one(prompt_of(source_), &options), expected);
    EXPECT_TRUE(expected[0].size() != plain[0].size() || expected[0][0].ids != plain[0][0].ids ||
                expected[0][0].score != plain[0][0].score);
  }
}

TEST_F(CApi, top_p_of_all_is_not_top_p_of_the_best) {
  fuseq_generation_options options = default_options();
  options.max_new_tokens = 24;
  options.do_sample = options.has_seed = 1;
  options.temperature = 3;
  options.top_k = 5;
  options.top_p = 0.3f;
  options.top_p_of_all = 1;
  const auto of_all = first_row(generate_one(prompt_of(source_), &options));
  options.top_p_of_all = 0;
  EXPECT_NE(first_row(generate_one(prompt_of(source_), &options)), of_all);
}

TEST_F(CApi, without_a_seed_draws_differ) {
  fuseq_generation_options options = default_options();
  options.max_new_tokens = 40;
  options.use_default_stop_ids = 0;
  options.do_sample = 1;
  options.temperature = 5;
  EXPECT_NE(first_row(generate_one(prompt_of(source_), &options)),
            first_row(generate_one(prompt_of(source_), &options)));
}

TEST_F(CApi, stop_strings_are_bytes_across_tokens) {
  fuseq_generation_options options = default_options();
  options.max_new_tokens = 24;
  const std::vector<int32_t> row = first_row(generate_one(prompt_of(source_), &options));
  const std::vector<std::string> tokens = vocabulary();
  ASSERT_GT(row.size(), 6u);
  const std::string stop = tokens[static_cast<size_t>(row[4])].substr(1) +
                           tokens[static_cast<size_t>(row[5])].substr(0, 2);
  const fuseq_bytes strings[] = {bytes_of("never"), bytes_of(stop)};
  const OwnedTokenBytes token_bytes = make_token_bytes(tokens);
  options.stop_strings = strings;
  options.num_stop_strings = 2;
  options.token_bytes = token_bytes.get();
  const OwnedResult result = generate_one(prompt_of(source_), &options);
  EXPECT_EQ(row_of(result, 0, 0).stop_reason, StopReason::stop_string);
  EXPECT_LT(first_row(result).size(), row.size());

  GenerationOptions same;
  same.max_new_tokens = 24;
  same.stop_strings = {"never", stop};
  same.token_bytes = make_cpp_token_bytes(tokens);
  const Prompt prompt{.encoder_ids = source_};
  expect_equal(result, generate(*cpp_model(), {&prompt, 1}, same));
}

TEST_F(CApi, bad_token_bytes_are_errors) {
  const fuseq_bytes broken[] = {bytes_of("a"), {nullptr, 2}};
  auto* made = reinterpret_cast<fuseq_token_bytes*>(this);
  EXPECT_EQ(fuseq_token_bytes_create(broken, 2, &made), FUSEQ_ERROR_VALUE);
  EXPECT_EQ(made, nullptr);
  EXPECT_STREQ(fuseq_last_error(),
               "fuseq_token_bytes_create: tokens[1].data must not be NULL, got NULL and a count of "
               "2");
  EXPECT_EQ(fuseq_token_bytes_create(nullptr, 2, &made), FUSEQ_ERROR_VALUE);
  expect_message("tokens must not be NULL");
  const OwnedTokenBytes few = make_token_bytes({"a", "", "b"});
  fuseq_generation_options options = default_options();
  options.token_bytes = few.get();
  EXPECT_EQ(failing_generate(prompt_of(source_), &options), FUSEQ_ERROR_VALUE);
  expect_message("token_bytes");
}

TEST_F(CApi, encoder_states_stand_for_the_source) {
  const auto model = cpp_model();
  const std::span<const int32_t> sources[] = {source_};
  const Tensor states = Session(model, {.num_threads = 1}).encode(sources);
  fuseq_prompt prompt = prompt_of({});
  prompt.encoder_states = states.as<float>();
  prompt.num_encoder_states = source_.size();
  fuseq_generation_options options = default_options();
  options.max_new_tokens = 12;
  options.return_scores = 1;
  const Hypothesis from_ids = row_of(generate_one(prompt_of(source_), &options), 0, 0);
  const Hypothesis from_states = row_of(generate_one(prompt, &options), 0, 0);
  EXPECT_EQ(from_states.ids, from_ids.ids);
  EXPECT_EQ(from_states.token_log_probs, from_ids.token_log_probs);
}

TEST_F(CApi, draws_depend_on_the_seed_and_place_of_a_prompt) {
  std::vector<fuseq_prompt> prompts(4, prompt_of(source_));
  prompts[1].has_seed = 1;
  prompts[1].seed = uint64_t{1} << 40;
  prompts[2].has_sequence = 1;
  prompts[2].sequence = 9;
  prompts[3].seed = 5;  // neither is given
  prompts[3].sequence = 5;
  fuseq_generation_options options = default_options();
  options.max_new_tokens = 16;
  options.do_sample = options.has_seed = 1;
  options.seed = 3;
  const Prompt plain{.encoder_ids = source_};
  std::vector<Prompt> same_prompts(4, plain);
  same_prompts[1].seed = uint64_t{1} << 40;
  same_prompts[2].sequence = 9;
  GenerationOptions same;
  same.max_new_tokens = 16;
  same.do_sample = true;
  same.seed = 3;
  const auto expected = generate(*cpp_model(), same_prompts, same);
  expect_equal(generate_with(prompts, options, nullptr), expected);
  const std::vector<Prompt> plain_prompts(4, plain);
  const auto without = generate(*cpp_model(), plain_prompts, same);
  EXPECT_NE(expected[1][0].ids, without[1][0].ids);
  EXPECT_NE(expected[2][0].ids, without[2][0].ids);
}

TEST_F(CApi, streams_give_every_new_id_and_its_text) {
  const OwnedTokenBytes token_bytes = make_token_bytes(vocabulary());
  fuseq_generation_options options = default_options();
  options.max_new_tokens = 9;
  options.token_bytes = token_bytes.get();
  Stream stream;
  const fuseq_call_options call = streaming_into(stream);
  const Hypothesis row = row_of(generate_with({prompt_of(source_)}, options, &call), 0, 0);
  EXPECT_EQ(std::vector<int32_t>(row.ids.begin() + row.prompt_length, row.ids.end()), stream.ids);
  std::string text;
  for (const int32_t id : stream.ids) text += vocabulary()[static_cast<size_t>(id)];
  EXPECT_EQ(stream.text, text);
  EXPECT_EQ(row.ids, first_row(generate_one(prompt_of(source_), &options)));
}

TEST_F(CApi, rows_of_a_stream_are_places_in_the_results) {
  fuseq_generation_options options = default_options();
  options.max_new_tokens = 1;
  options.do_sample = 1;
  options.num_return_sequences = 2;
  Stream stream;
  fuseq_call_options call = streaming_into(stream);
  call.max_batch_size = 1;  // one prompt after the other
  (void)generate_with({prompt_of(source_), prompt_of(source_)}, options, &call);
  EXPECT_EQ(stream.rows, (std::vector<int64_t>{0, 1, 2, 3}));
}

TEST_F(CApi, max_batch_size_bounds_the_prompts_at_a_time) {
  fuseq_generation_options options = default_options();
  options.max_new_tokens = 2;
  options.use_default_stop_ids = 0;
  const std::vector<fuseq_prompt> prompts(2, prompt_of(source_));
  const auto rows_with = [&](int32_t max_batch_size) {
    Stream stream;
    fuseq_call_options call = streaming_into(stream);
    call.max_batch_size = max_batch_size;
    (void)generate_with(prompts, options, &call);
    return stream.rows;
  };
  EXPECT_EQ(rows_with(1), (std::vector<int64_t>{0, 0, 1, 1}));
  EXPECT_EQ(rows_with(0), (std::vector<int64_t>{0, 1, 0, 1}));
}

TEST_F(CApi, a_stream_ends_a_row) {
  fuseq_generation_options options = default_options();
  options.max_new_tokens = 9;
  Stream stream;
  stream.answer_at = 3;
  stream.answer = 1;
  const fuseq_call_options call = streaming_into(stream);
  const Hypothesis row = row_of(generate_with({prompt_of(source_)}, options, &call), 0, 0);
  EXPECT_EQ(row.stop_reason, StopReason::callback);
  EXPECT_EQ(static_cast<int>(row.ids.size()), row.prompt_length + 3);
}

TEST_F(CApi, a_stream_ends_the_call) {
  fuseq_generation_options options = default_options();
  options.max_new_tokens = 9;
  Stream stream;
  stream.answer_at = 3;
  stream.answer = -7;
  EXPECT_EQ(failing_generate_with(options, streaming_into(stream)), FUSEQ_ERROR_RUNTIME);
  EXPECT_STREQ(fuseq_last_error(), "on_token: must return 0 or more to go on, got -7");
  EXPECT_EQ(stream.ids.size(), 3u);
  Stream again;
  const fuseq_call_options call = streaming_into(again);
  const OwnedResult result = generate_with({prompt_of(source_)}, options, &call);
  EXPECT_EQ(first_row(result), first_row(generate_one(prompt_of(source_), &options)));
}

TEST_F(CApi, bad_call_options_are_codes_with_messages) {
  fuseq_generation_options options = default_options();
  options.max_new_tokens = 4;
  Stream stream;
  fuseq_call_options call = streaming_into(stream);
  call.reserved = 1;
  EXPECT_EQ(failing_generate_with(options, call), FUSEQ_ERROR_VALUE);
  EXPECT_STREQ(fuseq_last_error(), "fuseq_generate_with: call_options.reserved must be 0, got 1");
  call = streaming_into(stream);
  call.max_batch_size = -1;
  EXPECT_EQ(failing_generate_with(options, call), FUSEQ_ERROR_VALUE);
  expect_message("max_batch_size");
  call = streaming_into(stream);
  call.struct_size = 5;
  EXPECT_EQ(failing_generate_with(options, call), FUSEQ_ERROR_VALUE);
  expect_message("fuseq_generate_with: call_options.struct_size");
  options.num_beams = 2;
  EXPECT_EQ(failing_generate_with(options, streaming_into(stream)), FUSEQ_ERROR_VALUE);
  expect_message("on_token");
  EXPECT_TRUE(stream.ids.empty());
}

TEST_F(CApi, scores_are_those_of_cpp) {
  const std::vector<int32_t> row = {2, 30, 8, 61}, other_row = {2, 5};
  const std::vector<int32_t> wanted = {1, 2, 3, 4}, other_wanted = {100, 0};
  const fuseq_prompt prompts[] = {prompt_of(source_, row), prompt_of(source_, other_row)};
  const std::vector<Prompt> same_prompts = {{.encoder_ids = source_, .decoder_ids = row},
                                            {.encoder_ids = source_, .decoder_ids = other_row}};
  const fuseq_ids targets[] = {{wanted.data(), wanted.size()},
                               {other_wanted.data(), other_wanted.size()}};
  const std::span<const int32_t> same_targets[] = {wanted, other_wanted};
  const auto expect_scores = [&](const fuseq_ids* given,
                                 const std::vector<std::vector<float>>& expected) {
    fuseq_scores* raw = nullptr;
    ASSERT_EQ(fuseq_score(model_.get(), prompts, 2, given, &raw), FUSEQ_OK) << fuseq_last_error();
    const OwnedScores scores(raw);
    for (size_t p = 0; p < 2; ++p) {
      const float* values = nullptr;
      size_t count = 0;
      ASSERT_EQ(fuseq_scores_values(raw, p, &values, &count), FUSEQ_OK) << fuseq_last_error();
      EXPECT_EQ(std::vector<float>(values, values + count), expected[p]);
    }
    const float* values = nullptr;
    size_t count = 0;
    EXPECT_EQ(fuseq_scores_values(raw, 2, &values, &count), FUSEQ_ERROR_VALUE);
    EXPECT_STREQ(fuseq_last_error(), "fuseq_scores_values: prompt must be below 2, got 2");
  };
  const auto of_next = score(*cpp_model(), same_prompts);
  EXPECT_EQ(of_next[0].size(), 3u);
  expect_scores(nullptr, of_next);
  const auto of_targets = score(*cpp_model(), same_prompts, same_targets);
  EXPECT_EQ(of_targets[0].size(), 4u);
  expect_scores(targets, of_targets);
}

TEST_F(CApi, bad_targets_are_codes_with_messages) {
  const std::vector<int32_t> row = {2, 30, 8}, short_one = {1, 2};
  const fuseq_prompt prompt = prompt_of(source_, row);
  auto* scores = reinterpret_cast<fuseq_scores*>(this);
  const fuseq_ids absent = {nullptr, 3}, few = {short_one.data(), 2};
  EXPECT_EQ(fuseq_score(model_.get(), &prompt, 1, &absent, &scores), FUSEQ_ERROR_VALUE);
  EXPECT_EQ(scores, nullptr);
  expect_message("fuseq_score: targets[0].ids must not be NULL");
  EXPECT_EQ(fuseq_score(model_.get(), &prompt, 1, &few, &scores), FUSEQ_ERROR_VALUE);
  expect_message("targets[0]");
}

TEST_F(CApi, no_prompts_give_no_rows) {
  fuseq_result* raw = nullptr;
  ASSERT_EQ(fuseq_generate(model_.get(), nullptr, 0, nullptr, &raw), FUSEQ_OK)
      << fuseq_last_error();
  const OwnedResult result(raw);
  size_t num_prompts = 9;
  ASSERT_EQ(fuseq_result_num_prompts(result.get(), &num_prompts), FUSEQ_OK);
  EXPECT_EQ(num_prompts, 0u);
}

TEST_F(CApi, info_describes_the_model) {
  fuseq_model_info info;
  info.struct_size = sizeof info;
  ASSERT_EQ(fuseq_model_get_info(model_.get(), &info), FUSEQ_OK) << fuseq_last_error();
  const auto same = Model::load(folder());
  EXPECT_EQ(info.num_parameters, same->num_parameters());
  EXPECT_EQ(info.vocab, 101);
  EXPECT_EQ(info.is_seq2seq, 1);
  EXPECT_EQ(info.dtype, FUSEQ_DTYPE_FLOAT32);
  EXPECT_EQ(info.max_positions, 70);
  EXPECT_EQ(info.encoder_dim, 48);
  EXPECT_EQ(info.decoder_dim, 48);
  EXPECT_GT(info.num_bytes, 0);
}

TEST_F(CApi, info_writes_no_further_than_an_older_struct) {
  fuseq_model_info info;
  std::memset(&info, 0x5a, sizeof info);
  info.struct_size = offsetof(fuseq_model_info, num_bytes);
  ASSERT_EQ(fuseq_model_get_info(model_.get(), &info), FUSEQ_OK) << fuseq_last_error();
  EXPECT_EQ(info.num_parameters, Model::load(folder())->num_parameters());
  EXPECT_EQ(info.num_bytes, 0x5a5a5a5a5a5a5a5a);
}

TEST_F(CApi, dtype_is_honoured) {
  fuseq_model_options options;
  ASSERT_EQ(fuseq_model_options_init(&options, sizeof options), FUSEQ_OK);
  options.dtype = FUSEQ_DTYPE_BFLOAT16;
  fuseq_model* loaded = nullptr;
  ASSERT_EQ(fuseq_model_load(folder().c_str(), &options, &loaded), FUSEQ_OK) << fuseq_last_error();
  const OwnedModel model(loaded);
  fuseq_model_info info;
  info.struct_size = sizeof info;
  ASSERT_EQ(fuseq_model_get_info(loaded, &info), FUSEQ_OK);
  EXPECT_EQ(info.dtype, FUSEQ_DTYPE_BFLOAT16);
}

TEST_F(CApi, fields_that_an_older_struct_lacks_take_their_defaults) {
  fuseq_generation_options options;
  std::memset(&options, 0xff,
              sizeof options);  // what follows an older struct in memory may be anything
  options.struct_size = offsetof(fuseq_generation_options, min_length);
  options.max_length = 0;
  options.max_new_tokens = 6;
  const OwnedResult result = generate_one(prompt_of(source_), &options);
  fuseq_generation_options full = default_options();
  full.max_new_tokens = 6;
  EXPECT_EQ(first_row(result), first_row(generate_one(prompt_of(source_), &full)));
}

TEST_F(CApi, structs_of_the_first_header_still_work) {
  fuseq_generation_options options;
  std::memset(&options, 0xff, sizeof options);
  constexpr size_t kFirstSize = offsetof(fuseq_generation_options, do_sample);
  static_assert(kFirstSize == offsetof(fuseq_generation_options, num_logit_bias) + sizeof(size_t));
  ASSERT_EQ(fuseq_generation_options_init(&options, kFirstSize), FUSEQ_OK) << fuseq_last_error();
  EXPECT_EQ(options.do_sample, -1);  // not written
  options.max_new_tokens = 6;

  constexpr size_t kFirstPrompt = offsetof(fuseq_prompt, encoder_states);
  const std::vector<int32_t> other_source = {9, 2};
  std::vector<fuseq_prompt> prompts = {prompt_of(source_), prompt_of(other_source)};
  unsigned char packed[2 * kFirstPrompt + sizeof(fuseq_prompt)];
  std::memset(packed, 0xff, sizeof packed);
  for (size_t i = 0; i < 2; ++i) {
    prompts[i].struct_size = kFirstPrompt;
    std::memcpy(packed + i * kFirstPrompt, &prompts[i], kFirstPrompt);
    prompts[i].struct_size = sizeof(fuseq_prompt);
  }
  fuseq_result* raw = nullptr;
  ASSERT_EQ(fuseq_generate(model_.get(), reinterpret_cast<const fuseq_prompt*>(packed), 2, &options,
                           &raw),
            FUSEQ_OK)
      << fuseq_last_error();
  const OwnedResult result(raw);
  fuseq_generation_options full = default_options();
  full.max_new_tokens = 6;
  const OwnedResult expected = generate_with(prompts, full, nullptr);
  for (size_t p = 0; p < 2; ++p) {
    EXPECT_EQ(row_of(result, p, 0).ids, row_of(expected, p, 0).ids);
  }

  fuseq_model_info info;
  std::memset(&info, 0x5a, sizeof info);
  info.struct_size = offsetof(fuseq_model_info, encoder_dim);
  ASSERT_EQ(fuseq_model_get_info(model_.get(), &info), FUSEQ_OK) << fuseq_last_error();
  EXPECT_EQ(info.max_positions, 70);
  EXPECT_EQ(info.encoder_dim, 0x5a5a5a5a);
}

struct NewerOptions {
  fuseq_generation_options known;
  int64_t unknown;
};

TEST_F(CApi, a_newer_struct_is_accepted_while_its_new_fields_are_zero) {
  NewerOptions newer;
  std::memset(&newer, 0xff, sizeof newer);
  ASSERT_EQ(fuseq_generation_options_init(&newer.known, sizeof newer), FUSEQ_OK);
  EXPECT_EQ(newer.known.struct_size, sizeof newer);
  EXPECT_EQ(newer.unknown, 0);
  newer.known.max_new_tokens = 6;
  fuseq_generation_options options = default_options();
  options.max_new_tokens = 6;
  EXPECT_EQ(first_row(generate_one(prompt_of(source_), &newer.known)),
            first_row(generate_one(prompt_of(source_), &options)));
  newer.unknown = 1;
  EXPECT_EQ(failing_generate(prompt_of(source_), &newer.known), FUSEQ_ERROR_VALUE);
  EXPECT_NE(std::string(fuseq_last_error()).find("does not know"), std::string::npos)
      << fuseq_last_error();
}

TEST_F(CApi, prompts_of_a_newer_header_are_read_at_its_distance) {
  struct NewerPrompt {
    fuseq_prompt known;
    int64_t unknown;
  };
  NewerPrompt prompts[2] = {{prompt_of(source_), 0}, {prompt_of(source_), 0}};
  for (NewerPrompt& prompt : prompts) prompt.known.struct_size = sizeof prompt;
  fuseq_generation_options options = default_options();
  options.max_new_tokens = 4;
  fuseq_result* raw = nullptr;
  ASSERT_EQ(fuseq_generate(model_.get(), &prompts[0].known, 2, &options, &raw), FUSEQ_OK)
      << fuseq_last_error();
  const OwnedResult result(raw);
  size_t num_prompts = 0;
  ASSERT_EQ(fuseq_result_num_prompts(raw, &num_prompts), FUSEQ_OK);
  EXPECT_EQ(num_prompts, 2u);
}

TEST_F(CApi, bad_arguments_are_codes_with_messages) {
  struct Case {
    const char* says;
    void (*spoil)(fuseq_generation_options&);
  };
  const Case cases[] = {
      {"struct_size", [](auto& options) { options.struct_size = 0; }},
      {"struct_size", [](auto& options) { options.struct_size -= 1; }},
      {"early_stopping", [](auto& options) { options.early_stopping = 3; }},
      {"use_default_stop_ids", [](auto& options) { options.use_default_stop_ids = 2; }},
      {"reserved", [](auto& options) { options.reserved = 1; }},
      {"stop_token_ids", [](auto& options) { options.num_stop_token_ids = 1; }},
      {"suppress_token_ids", [](auto& options) { options.num_suppress_token_ids = 1; }},
      {"logit_bias", [](auto& options) { options.num_logit_bias = 1; }},
      {"num_beams", [](auto& options) { options.num_beams = 0; }},
      {"max_new_tokens", [](auto& options) { options.max_length = 9; }},
      {"do_sample", [](auto& options) { options.do_sample = 2; }},
      {"temperature", [](auto& options) { options.temperature = 0; }},
      {"top_p", [](auto& options) { options.top_p = 0.5f; }},
      {"min_p", [](auto& options) { options.min_p = -1; }},
      {"top_p_of_all", [](auto& options) { options.top_p_of_all = -1; }},
      {"penalty_alpha", [](auto& options) { options.penalty_alpha = 2; }},
      {"decoder_start_token_id", [](auto& options) { options.decoder_start_token_id = 101; }},
      {"return_scores", [](auto& options) { options.return_scores = 2; }},
      {"has_seed", [](auto& options) { options.has_seed = 2; }},
      {"options.stop_strings", [](auto& options) { options.num_stop_strings = 1; }},
      {"options.stop_strings[0].data",
       [](auto& options) {
         static const fuseq_bytes absent = {nullptr, 1};
         options.stop_strings = &absent;
         options.num_stop_strings = 1;
       }},
      {"token_bytes",
       [](auto& options) {
         static const fuseq_bytes stop = {"a", 1};
         options.stop_strings = &stop;
         options.num_stop_strings = 1;
       }},
  };
  for (const Case& bad : cases) {
    fuseq_generation_options options = default_options();
    options.max_new_tokens = 4;
    bad.spoil(options);
    EXPECT_EQ(failing_generate(prompt_of(source_), &options), FUSEQ_ERROR_VALUE) << bad.says;
    expect_message(bad.says);
  }
}

TEST_F(CApi, bad_prompts_are_codes_with_messages) {
  fuseq_prompt prompt = prompt_of(source_);
  prompt.encoder_ids = nullptr;
  EXPECT_EQ(failing_generate(prompt, nullptr), FUSEQ_ERROR_VALUE);
  EXPECT_NE(std::string(fuseq_last_error()).find("prompts[0].encoder_ids"), std::string::npos);
  prompt = prompt_of(source_);
  prompt.struct_size = 3;
  EXPECT_EQ(failing_generate(prompt, nullptr), FUSEQ_ERROR_VALUE);
  EXPECT_NE(std::string(fuseq_last_error()).find("prompts[0].struct_size"), std::string::npos);
  const struct {
    const char* says;
    void (*spoil)(fuseq_prompt&);
  } cases[] = {
      {"prompts[0].has_seed", [](auto& bad) { bad.has_seed = 2; }},
      {"prompts[0].has_sequence", [](auto& bad) { bad.has_sequence = -1; }},
      {"prompts[0].sequence", [](auto& bad) { bad.has_sequence = 1, bad.sequence = -1; }},
      {"sequence", [](auto& bad) { bad.has_sequence = 1, bad.sequence = int64_t{1} << 32; }},
      {"prompts[0].encoder_states", [](auto& bad) { bad.num_encoder_states = 2; }},
      {"encoder_states",
       [](auto& bad) {
         static const float state[48] = {};
         bad.encoder_states = state;
         bad.num_encoder_states = 1;
       }},
  };
  for (const auto& bad : cases) {
    prompt = prompt_of(source_);
    bad.spoil(prompt);
    EXPECT_EQ(failing_generate(prompt, nullptr), FUSEQ_ERROR_VALUE) << bad.says;
    expect_message(bad.says);
  }
  const std::vector<int32_t> out_of_range = {5, 101};
  EXPECT_EQ(failing_generate(prompt_of(out_of_range), nullptr), FUSEQ_ERROR_VALUE);
  EXPECT_NE(std::string(fuseq_last_error()).find("101"), std::string::npos) << fuseq_last_error();
}

TEST_F(CApi, null_pointers_are_errors) {
  const fuseq_prompt prompt = prompt_of(source_);
  fuseq_result* result = nullptr;
  fuseq_model* model = nullptr;
  fuseq_scores* scores = nullptr;
  size_t count = 0;
  float score = 0;
  int32_t reason = 0;
  const int32_t* ids = nullptr;
  const float* values = nullptr;
  EXPECT_EQ(fuseq_model_load(nullptr, nullptr, &model), FUSEQ_ERROR_VALUE);
  EXPECT_EQ(fuseq_model_load("x", nullptr, nullptr), FUSEQ_ERROR_VALUE);
  EXPECT_EQ(fuseq_model_options_init(nullptr, sizeof(fuseq_model_options)), FUSEQ_ERROR_VALUE);
  EXPECT_EQ(fuseq_generation_options_init(nullptr, sizeof(fuseq_generation_options)),
            FUSEQ_ERROR_VALUE);
  EXPECT_EQ(fuseq_model_get_info(model_.get(), nullptr), FUSEQ_ERROR_VALUE);
  EXPECT_EQ(fuseq_generate(nullptr, &prompt, 1, nullptr, &result), FUSEQ_ERROR_VALUE);
  EXPECT_EQ(fuseq_generate(model_.get(), nullptr, 1, nullptr, &result), FUSEQ_ERROR_VALUE);
  EXPECT_EQ(fuseq_generate(model_.get(), &prompt, 1, nullptr, nullptr), FUSEQ_ERROR_VALUE);
  EXPECT_EQ(fuseq_result_num_prompts(nullptr, &count), FUSEQ_ERROR_VALUE);
  EXPECT_EQ(fuseq_result_num_sequences(nullptr, 0, &count), FUSEQ_ERROR_VALUE);
  EXPECT_EQ(fuseq_result_ids(nullptr, 0, 0, &ids, &count), FUSEQ_ERROR_VALUE);
  EXPECT_EQ(fuseq_result_score(nullptr, 0, 0, &score), FUSEQ_ERROR_VALUE);
  EXPECT_EQ(fuseq_result_stop_reason(nullptr, 0, 0, &reason), FUSEQ_ERROR_VALUE);
  EXPECT_EQ(fuseq_result_prompt_length(nullptr, 0, 0, &count), FUSEQ_ERROR_VALUE);
  EXPECT_EQ(fuseq_result_token_log_probs(nullptr, 0, 0, &values, &count), FUSEQ_ERROR_VALUE);
  EXPECT_EQ(fuseq_call_options_init(nullptr, sizeof(fuseq_call_options)), FUSEQ_ERROR_VALUE);
  EXPECT_EQ(fuseq_generate_with(nullptr, &prompt, 1, nullptr, nullptr, &result), FUSEQ_ERROR_VALUE);
  EXPECT_STREQ(fuseq_last_error(), "fuseq_generate_with: model must not be NULL");
  EXPECT_EQ(fuseq_token_bytes_create(nullptr, 0, nullptr), FUSEQ_ERROR_VALUE);
  EXPECT_EQ(fuseq_score(nullptr, &prompt, 1, nullptr, &scores), FUSEQ_ERROR_VALUE);
  EXPECT_EQ(fuseq_score(model_.get(), &prompt, 1, nullptr, nullptr), FUSEQ_ERROR_VALUE);
  EXPECT_EQ(fuseq_scores_values(nullptr, 0, &values, &count), FUSEQ_ERROR_VALUE);
  fuseq_model_free(nullptr);
  fuseq_result_free(nullptr);
  fuseq_scores_free(nullptr);
  fuseq_token_bytes_free(nullptr);
}

TEST_F(CApi, rows_that_are_not_there_are_errors) {
  fuseq_generation_options options = default_options();
  options.max_new_tokens = 2;
  const OwnedResult result = generate_one(prompt_of(source_), &options);
  float score = 0;
  EXPECT_EQ(fuseq_result_score(result.get(), 1, 0, &score), FUSEQ_ERROR_VALUE);
  EXPECT_STREQ(fuseq_last_error(), "fuseq_result_score: prompt must be below 1, got 1");
  EXPECT_EQ(fuseq_result_score(result.get(), 0, 1, &score), FUSEQ_ERROR_VALUE);
  EXPECT_STREQ(fuseq_last_error(), "fuseq_result_score: sequence must be below 1, got 1");
}

TEST_F(CApi, kinds_of_errors_are_codes) {
  fuseq_model* model = nullptr;
  EXPECT_EQ(fuseq_model_load((folder() + "-absent").c_str(), nullptr, &model),
            FUSEQ_ERROR_NOT_FOUND);
  EXPECT_NE(std::string(fuseq_last_error()).find("-absent"), std::string::npos)
      << fuseq_last_error();
  temp_.write("broken/spec.json", "{");
  temp_.write("broken/model.safetensors", "");
  EXPECT_EQ(fuseq_model_load((temp_.path() / "broken").c_str(), nullptr, &model),
            FUSEQ_ERROR_FORMAT);
  fuseq_model_options options;
  ASSERT_EQ(fuseq_model_options_init(&options, sizeof options), FUSEQ_OK);
  options.device = FUSEQ_DEVICE_CUDA;
  EXPECT_EQ(fuseq_model_load(folder().c_str(), &options, &model), FUSEQ_ERROR_UNSUPPORTED);
  options.device = 2;
  EXPECT_EQ(fuseq_model_load(folder().c_str(), &options, &model), FUSEQ_ERROR_VALUE);
  options.device = FUSEQ_DEVICE_CPU;
  options.dtype = 3;
  EXPECT_EQ(fuseq_model_load(folder().c_str(), &options, &model), FUSEQ_ERROR_VALUE);
  EXPECT_EQ(model, nullptr);
}

TEST_F(CApi, messages_belong_to_threads) {
  size_t count = 0;
  ASSERT_EQ(fuseq_result_num_prompts(nullptr, &count), FUSEQ_ERROR_VALUE);
  const std::string here = fuseq_last_error();
  std::string before = "not yet read", after;
  std::thread([&] {
    before = fuseq_last_error();
    (void)fuseq_model_get_info(nullptr, nullptr);
    after = fuseq_last_error();
  }).join();
  EXPECT_EQ(before, "");
  EXPECT_EQ(after, "fuseq_model_get_info: model must not be NULL");
  EXPECT_EQ(fuseq_last_error(), here);
}

TEST(CApiVersion, is_that_of_the_headers) {
  EXPECT_STREQ(fuseq_version(), FUSEQ_VERSION);
}

}  // namespace
}  // namespace fuseq
