// SPDX-License-Identifier: Apache-2.0
// The plain C door generates, streams and scores as C++ does.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "c_api_fixture.h"

namespace fuseq {
namespace {

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

}  // namespace
}  // namespace fuseq
