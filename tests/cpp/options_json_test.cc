// SPDX-License-Identifier: Apache-2.0
// GenerationOptions to JSON and back.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fuseq/error.h"
#include "fuseq/options.h"
#include "test_files.h"

namespace fuseq::inline v0 {
namespace {

// Another value for a field of each type; n makes them differ.
void change(int& value, int n) {
  value = 1000 + n;
}
void change(float& value, int n) {
  value = 0.1f + static_cast<float>(n);  // no short double
}
void change(bool& value, int) {
  value = !value;
}
void change(EarlyStopping& value, int) {
  value = EarlyStopping::never;
}
void change(std::optional<uint64_t>& value, int n) {
  value = static_cast<uint64_t>(n);
}
void change(std::vector<int>& value, int n) {
  value = {n, -1, 50264};
}
void change(std::vector<std::string>& value, int) {
  value = {"\n\n", "\"end\"", "\xe2\x82\xac \xf0\x9f\x98\x80", std::string("\0", 1)};
}
void change(std::vector<std::pair<int, float>>& value, int n) {
  value = {{n, 0.1f}, {7, -1e30f}, {8, 2}};
}

GenerationOptions changed() {
  GenerationOptions options;
  int n = 0;
  visit_option_fields(options, [&](const char*, auto& field, const char*) { change(field, ++n); });
  return options;
}

/// Whether every listed field is equal; `only`: that field.
bool are_equal(const GenerationOptions& a, const GenerationOptions& b,
               const std::string& only = "") {
  std::vector<const void*> fields;
  visit_option_fields(
      b, [&](const char*, const auto& field, const char*) { fields.push_back(&field); });
  bool equal = true;
  size_t index = 0;
  visit_option_fields(a, [&](const char* name, const auto& field, const char*) {
    const void* const other = fields[index++];
    if (only.empty() || only == name) {
      equal = equal && field == *static_cast<decltype(&field)>(other);
    }
  });
  return equal;
}

TEST(OptionsJson, every_field_comes_back) {
  const GenerationOptions options = changed();
  const std::string text = generation_options_to_json(options);
  const GenerationOptions back = generation_options_from_json(text);
  visit_option_fields(options, [&](const char* name, const auto&, const char*) {
    EXPECT_FALSE(are_equal(options, {}, name)) << name;
    EXPECT_TRUE(are_equal(back, options, name)) << name;
    EXPECT_NE(text.find(std::string("\"") + name + "\""), std::string::npos) << name;
  });
  EXPECT_EQ(generation_options_to_json(back), text);
}

TEST(OptionsJson, every_field_comes_back_alone) {
  const GenerationOptions all = changed();
  std::vector<std::string> names;
  visit_option_fields(all,
                      [&](const char* name, const auto&, const char*) { names.push_back(name); });
  for (const std::string& name : names) {
    GenerationOptions one;
    int n = 0;
    visit_option_fields(one, [&](const char* field, auto& value, const char*) {
      ++n;
      if (name == field) change(value, n);
    });
    const std::string text = generation_options_to_json(one);
    EXPECT_TRUE(are_equal(generation_options_from_json(text), one)) << text;
    EXPECT_EQ(std::count(text.begin(), text.end(), ':'), 1) << text;
  }
}

TEST(OptionsJson, what_is_as_usual_is_left_out) {
  EXPECT_EQ(generation_options_to_json({}), "{}\n");
  GenerationOptions options;
  options.do_sample = true;
  options.temperature = 0.7f;
  options.token_bytes = std::make_shared<const TokenBytes>(std::span<const std::string_view>());
  EXPECT_EQ(generation_options_to_json(options),
            "{\n  \"do_sample\": true,\n  \"temperature\": 0.7\n}\n");
  EXPECT_TRUE(are_equal(generation_options_from_json("{}"), {}));
}

TEST(OptionsJson, values_may_be_written_in_more_than_one_way) {
  const GenerationOptions options = generation_options_from_json(
      R"({"temperature": 2, "early_stopping": true, "seed": null, "stop_token_ids": [],
          "logit_bias": [[3, 1], [4, -0.5]]})");
  EXPECT_EQ(options.temperature, 2.0f);
  EXPECT_EQ(options.early_stopping, EarlyStopping::yes);
  EXPECT_EQ(options.seed, std::nullopt);
  EXPECT_EQ(options.logit_bias, (std::vector<std::pair<int, float>>{{3, 1.0f}, {4, -0.5f}}));
  EXPECT_EQ(generation_options_from_json(R"({"early_stopping": false})").early_stopping,
            EarlyStopping::no);
  EXPECT_EQ(generation_options_from_json(R"({"early_stopping": "never"})").early_stopping,
            EarlyStopping::never);
}

TEST(OptionsJson, seeds_keep_all_64_bits) {
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  for (const uint64_t seed :
       {uint64_t{0}, uint64_t{1}, kMost / 2, kMost / 2 + 1, kMost - 1, kMost}) {
    GenerationOptions options;
    options.seed = seed;
    EXPECT_EQ(generation_options_from_json(generation_options_to_json(options)).seed, seed);
  }
  EXPECT_EQ(generation_options_from_json(R"({"seed": -1})").seed, kMost);
}

template <typename Call>
std::string message(ErrorKind kind, Call call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  return "no error";
}

TEST(OptionsJson, says_what_is_wrong_with_a_document) {
  const struct {
    const char *json, *wanted;
  } cases[] = {
      {"[1]", "generation options: the document must be an object, got [1]"},
      {R"({"top_q": 1})", "generation options: every field must be known, got \"top_q\""},
      {R"({"top_k": 1, "sampler": 2})",
       "generation options: every field must be known, got \"sampler\""},
      {R"({"top_k": 1.5})", "generation options: top_k must be a whole number of 32 bits, got 1.5"},
      {R"({"top_k": 2147483648})",
       "generation options: top_k must be a whole number of 32 bits, got 2147483648"},
      {R"({"top_k": null})",
       "generation options: top_k must be a whole number of 32 bits, got null"},
      {R"({"top_p": "0.5"})",
       "generation options: top_p must be a number in the range of float32, got \"0.5\""},
      {R"({"top_p": 1e39})",
       "generation options: top_p must be a number in the range of float32, got 1e+39"},
      {R"({"do_sample": 1})", "generation options: do_sample must be true or false, got 1"},
      {R"({"seed": "x"})", "generation options: seed must be a whole number or null, got \"x\""},
      {R"({"seed": 1.5})", "generation options: seed must be a whole number or null, got 1.5"},
      {R"({"early_stopping": "maybe"})",
       "generation options: early_stopping must be true, false or \"never\", got \"maybe\""},
      {R"({"early_stopping": 1})",
       "generation options: early_stopping must be true, false or \"never\", got 1"},
      {R"({"stop_token_ids": 2})", "generation options: stop_token_ids must be a list, got 2"},
      {R"({"stop_token_ids": [2, "x"]})",
       "generation options: stop_token_ids[1] must be a whole number of 32 bits, got \"x\""},
      {R"({"stop_strings": "x"})", "generation options: stop_strings must be a list, got \"x\""},
      {R"({"stop_strings": [1]})", "generation options: stop_strings[0] must be a string, got 1"},
      {R"({"logit_bias": {"3": 1}})",
       "generation options: logit_bias must be a list, got {\"3\":1}"},
      {R"({"logit_bias": [[1, 2], 3]})", "generation options: logit_bias[1] must be a list, got 3"},
      {R"({"logit_bias": [[1, 2, 3]]})",
       "generation options: logit_bias[0] must be a list of an id and a number, got [1,2,3]"},
      {R"({"logit_bias": [[1.5, 2]]})",
       "generation options: logit_bias[0] must be a whole number of 32 bits, got 1.5"},
      {R"({"logit_bias": [[1, "x"]]})",
       "generation options: logit_bias[0] must be a number in the range of float32, got \"x\""},
  };
  for (const auto& [json, wanted] : cases) {
    EXPECT_EQ(message(ErrorKind::format, [&] { (void)generation_options_from_json(json); }),
              wanted);
  }
  EXPECT_NE(message(ErrorKind::format, [] { (void)generation_options_from_json("{\"top_k\": "); }),
            "no error");
}

TEST(OptionsJson, stop_strings_that_are_no_utf8_cannot_be_written) {
  for (const std::string bytes : {"\xff", "ok\xc3", "\xed\xa0\x80"}) {
    GenerationOptions options;
    options.stop_strings = {"fine", bytes};
    EXPECT_EQ(message(ErrorKind::value, [&] { (void)generation_options_to_json(options); }),
              "stop_strings: must be UTF-8 to be written as JSON, got other bytes");
  }
}

TEST(OptionsJson, numbers_that_json_has_not_cannot_be_written) {
  for (const float value :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    GenerationOptions options;
    options.length_penalty = value;
    const std::string text =
        message(ErrorKind::value, [&] { (void)generation_options_to_json(options); });
    EXPECT_NE(text.find("numbers must be finite"), std::string::npos) << text;
  }
}

TEST(OptionsJson, are_loaded_from_a_folder) {
  const TempFolder folder;
  const std::string where = folder.path().string();
  EXPECT_EQ(message(ErrorKind::not_found, [&] { (void)load_generation_options(folder.path()); }),
            "load_generation_options: " + where + " must hold generation.json, got none");
  const std::filesystem::path file = folder.path() / "generation.json";
  std::filesystem::create_symlink(file, file);
  EXPECT_EQ(message(ErrorKind::io, [&] { (void)load_generation_options(folder.path()); }),
            "open \"" + file.string() +
                "\": the file must be readable, got \"Too many levels of symbolic links\"");
  std::filesystem::remove(file);
  folder.write("generation.json", generation_options_to_json(changed()));
  EXPECT_TRUE(are_equal(load_generation_options(folder.path()), changed()));
  folder.write("generation.json", R"({"top_q": 1})");
  EXPECT_NE(message(ErrorKind::format, [&] { (void)load_generation_options(folder.path()); })
                .find("\"top_q\""),
            std::string::npos);
}

}  // namespace
}  // namespace fuseq::inline v0
