// SPDX-License-Identifier: Apache-2.0
// The plain C door with a tiny model behind it, for tests.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fuseq/c_api.h"
#include "fuseq/generate.h"
#include "fuseq/model.h"
#include "fuseq/session.h"
#include "fuseq/version.h"
#include "random_model.h"
#include "test_files.h"

namespace fuseq {

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

inline fuseq_prompt prompt_of(const std::vector<int32_t>& encoder_ids,
                              const std::vector<int32_t>& decoder_ids = {}) {
  return {.struct_size = sizeof(fuseq_prompt),
          .encoder_ids = encoder_ids.data(),
          .num_encoder_ids = encoder_ids.size(),
          .decoder_ids = decoder_ids.data(),
          .num_decoder_ids = decoder_ids.size()};
}

inline fuseq_bytes bytes_of(std::string_view text) {
  return {text.data(), text.size()};
}

/// Three bytes for each id, the one in the middle a zero: "4\0002" for 42.
inline std::vector<std::string> vocabulary() {
  std::vector<std::string> tokens;
  for (int id = 0; id < 101; ++id) {
    tokens.push_back({static_cast<char>('0' + id / 10), '\0', static_cast<char>('0' + id % 10)});
  }
  return tokens;
}

inline OwnedTokenBytes make_token_bytes(const std::vector<std::string>& tokens) {
  std::vector<fuseq_bytes> bytes;
  for (const std::string& token : tokens) bytes.push_back(bytes_of(token));
  fuseq_token_bytes* made = nullptr;
  EXPECT_EQ(fuseq_token_bytes_create(bytes.data(), bytes.size(), &made), FUSEQ_OK)
      << fuseq_last_error();
  return OwnedTokenBytes(made);
}

inline std::shared_ptr<const TokenBytes> make_cpp_token_bytes(
    const std::vector<std::string>& tokens) {
  const std::vector<std::string_view> views(tokens.begin(), tokens.end());
  return std::make_shared<const TokenBytes>(views);
}

/// What the C results say of one row.
inline Hypothesis row_of(const OwnedResult& result, size_t prompt, size_t sequence) {
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

inline void expect_equal(const OwnedResult& result,
                         const std::vector<std::vector<Hypothesis>>& expected) {
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

inline void expect_message(const char* says) {
  EXPECT_NE(std::string(fuseq_last_error()).find(says), std::string::npos)
      << fuseq_last_error() << " should say " << says;
}

inline fuseq_generation_options default_options() {
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

inline fuseq_call_options streaming_into(Stream& stream) {
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

}  // namespace fuseq
