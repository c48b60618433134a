// SPDX-License-Identifier: Apache-2.0
// The plain C door: codes and messages for bad input, structs of other versions.
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
  for (const int32_t dtype : {FUSEQ_DTYPE_FLOAT32, FUSEQ_DTYPE_BFLOAT16, FUSEQ_DTYPE_INT8}) {
    fuseq_model_options options;
    ASSERT_EQ(fuseq_model_options_init(&options, sizeof options), FUSEQ_OK);
    options.dtype = dtype;
    fuseq_model* loaded = nullptr;
    ASSERT_EQ(fuseq_model_load(folder().c_str(), &options, &loaded), FUSEQ_OK)
        << fuseq_last_error();
    const OwnedModel model(loaded);
    fuseq_model_info info;
    info.struct_size = sizeof info;
    ASSERT_EQ(fuseq_model_get_info(loaded, &info), FUSEQ_OK);
    EXPECT_EQ(info.dtype, dtype);
  }
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

TEST_F(CApi, a_size_that_nobody_set_is_an_error) {
  // Such sizes are refused before a byte beyond the struct is read or written.
  const size_t garbage[] = {sizeof(fuseq_generation_options) + 4104, size_t{1} << 40,
                            ~size_t{0} - 7};
  for (const size_t size : garbage) {
    const std::string got = ".struct_size must be the struct's sizeof, got " + std::to_string(size);
    fuseq_generation_options options = default_options();
    EXPECT_EQ(fuseq_generation_options_init(&options, size), FUSEQ_ERROR_VALUE);
    EXPECT_EQ(fuseq_last_error(),
              "fuseq_generation_options_init: options" + got + ". Was the init function called?");
    options.struct_size = size;
    EXPECT_EQ(failing_generate(prompt_of(source_), &options), FUSEQ_ERROR_VALUE);
    EXPECT_EQ(fuseq_last_error(),
              "fuseq_generate: options" + got + ". Was the init function called?");
    fuseq_model_info info;
    info.struct_size = size;
    EXPECT_EQ(fuseq_model_get_info(model_.get(), &info), FUSEQ_ERROR_VALUE);
    EXPECT_EQ(fuseq_last_error(),
              "fuseq_model_get_info: info" + got + ". Set struct_size to its sizeof");
    fuseq_prompt prompt = prompt_of(source_);
    prompt.struct_size = size;
    EXPECT_EQ(failing_generate(prompt, nullptr), FUSEQ_ERROR_VALUE);
    EXPECT_EQ(fuseq_last_error(),
              "fuseq_generate: prompts[0]" + got + ". Set struct_size to its sizeof");
  }
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
  options.dtype = 4;
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
