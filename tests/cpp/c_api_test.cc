// SPDX-License-Identifier: Apache-2.0
// The plain C door: the same results as C++, codes and messages for bad input, structs of other
// versions.
#include "fuseq/c_api.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "fuseq/generate.h"
#include "fuseq/model.h"
#include "fuseq/version.h"
#include "random_model.h"
#include "test_files.h"

namespace fuseq {
namespace {

struct Free {
  void operator()(fuseq_model* model) const { fuseq_model_free(model); }
  void operator()(fuseq_result* result) const { fuseq_result_free(result); }
};
using OwnedModel = std::unique_ptr<fuseq_model, Free>;
using OwnedResult = std::unique_ptr<fuseq_result, Free>;

fuseq_prompt prompt_of(const std::vector<int32_t>& encoder_ids,
                       const std::vector<int32_t>& decoder_ids = {}) {
  return {.struct_size = sizeof(fuseq_prompt),
          .encoder_ids = encoder_ids.data(),
          .num_encoder_ids = encoder_ids.size(),
          .decoder_ids = decoder_ids.data(),
          .num_decoder_ids = decoder_ids.size()};
}

fuseq_generation_options default_options() {
  fuseq_generation_options options;
  EXPECT_EQ(fuseq_generation_options_init(&options, sizeof options), FUSEQ_OK);
  return options;
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

  static std::vector<int32_t> first_row(const OwnedResult& result) {
    const int32_t* ids = nullptr;
    size_t num_ids = 0;
    EXPECT_EQ(fuseq_result_ids(result.get(), 0, 0, &ids, &num_ids), FUSEQ_OK) << fuseq_last_error();
    return {ids, ids + num_ids};
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
  const auto expected = generate(*Model::load(folder(), {.num_threads = 1}), same_prompts, same);

  size_t num_prompts = 0, num_sequences = 0;
  ASSERT_EQ(fuseq_result_num_prompts(result.get(), &num_prompts), FUSEQ_OK);
  ASSERT_EQ(num_prompts, 2u);
  for (size_t p = 0; p < 2; ++p) {
    ASSERT_EQ(fuseq_result_num_sequences(result.get(), p, &num_sequences), FUSEQ_OK);
    ASSERT_EQ(num_sequences, 3u);
    for (size_t s = 0; s < 3; ++s) {
      const int32_t* ids = nullptr;
      size_t num_ids = 0;
      float score = 0;
      int32_t reason = -1;
      ASSERT_EQ(fuseq_result_ids(result.get(), p, s, &ids, &num_ids), FUSEQ_OK);
      EXPECT_EQ(std::vector<int32_t>(ids, ids + num_ids), expected[p][s].ids);
      ASSERT_EQ(fuseq_result_score(result.get(), p, s, &score), FUSEQ_OK);
      EXPECT_EQ(score, expected[p][s].score);
      EXPECT_NE(score, 0.0f);
      ASSERT_EQ(fuseq_result_stop_reason(result.get(), p, s, &reason), FUSEQ_OK);
      EXPECT_EQ(reason, static_cast<int32_t>(expected[p][s].stop_reason));
    }
  }
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
  };
  for (const Case& bad : cases) {
    fuseq_generation_options options = default_options();
    options.max_new_tokens = 4;
    bad.spoil(options);
    EXPECT_EQ(failing_generate(prompt_of(source_), &options), FUSEQ_ERROR_VALUE) << bad.says;
    EXPECT_NE(std::string(fuseq_last_error()).find(bad.says), std::string::npos)
        << fuseq_last_error();
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
  const std::vector<int32_t> out_of_range = {5, 101};
  EXPECT_EQ(failing_generate(prompt_of(out_of_range), nullptr), FUSEQ_ERROR_VALUE);
  EXPECT_NE(std::string(fuseq_last_error()).find("101"), std::string::npos) << fuseq_last_error();
}

TEST_F(CApi, null_pointers_are_errors) {
  const fuseq_prompt prompt = prompt_of(source_);
  fuseq_result* result = nullptr;
  fuseq_model* model = nullptr;
  size_t count = 0;
  float score = 0;
  int32_t reason = 0;
  const int32_t* ids = nullptr;
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
  fuseq_model_free(nullptr);
  fuseq_result_free(nullptr);
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
