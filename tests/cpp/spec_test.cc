// SPDX-License-Identifier: Apache-2.0
// TransformerSpec: validation, JSON, the weight table.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>

#include "fuseq/error.h"
#include "random_model.h"

namespace fuseq {
namespace {

std::string message_of(const std::string& json) {
  try {
    (void)spec_from_json(json);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(Spec, reads_back_what_it_writes) {
  for (const auto& [name, spec] : test::all_specs()) {
    const std::string json = spec_to_json(spec);
    EXPECT_EQ(spec_to_json(spec_from_json(json)), json) << name;
  }
}

TEST(Spec, keeps_floats_exactly) {
  TransformerSpec spec = test::gpt2_like();
  spec.decoder.norm_eps = 1e-12f;
  spec.embed_scale = 27.712812921102035f;
  const TransformerSpec again = spec_from_json(spec_to_json(spec));
  EXPECT_EQ(again.decoder.norm_eps, spec.decoder.norm_eps);
  EXPECT_EQ(again.embed_scale, spec.embed_scale);
}

TEST(Spec, refuses_unknown_fields_by_name) {
  const std::string json = spec_to_json(test::gpt2_like());
  EXPECT_NE(message_of(replaced(json, "\"vocab\"", "\"vocabulary\"")).find("\"vocabulary\""),
            std::string::npos);
  EXPECT_NE(message_of(replaced(json, "\"norm_eps\"", "\"epsilon\"")).find("encoder.epsilon"),
            std::string::npos);
}

TEST(Spec, refuses_wrong_kinds_by_path) {
  const std::string json = spec_to_json(test::gpt2_like());
  EXPECT_NE(message_of(replaced(json, "\"vocab\": 97", "\"vocab\": \"97\""))
                .find("vocab must be a whole number"),
            std::string::npos);
  EXPECT_NE(message_of(replaced(json, "\"place\": \"pre\"", "\"place\": \"middle\""))
                .find("\"pre\", \"post\", \"both\""),
            std::string::npos);
  EXPECT_NE(message_of("[]").find("must be an object"), std::string::npos);
  EXPECT_NE(message_of("{").find("spec"), std::string::npos);
}

TEST(Spec, names_every_fault_at_once) {
  TransformerSpec spec = test::llama_like();
  spec.decoder.kv_heads = 3;
  spec.decoder.windows = {-1};
  spec.decoder.rope[0].pop_back();
  spec.eos_ids = {97};
  try {
    validate(spec);
    FAIL() << "no error";
  } catch (const Error& error) {
    const std::string message = error.what();
    for (const char* field : {"decoder.kv_heads", "decoder.windows", "decoder.rope", "eos_ids"}) {
      EXPECT_NE(message.find(field), std::string::npos) << field;
    }
  }
}

TEST(Spec, refuses_contradictions) {
  TransformerSpec spec = test::gpt2_like();
  spec.decoder.relative = {.buckets = 32, .max_distance = 128};
  EXPECT_THROW(validate(spec), Error);
  spec = test::bart_like();
  spec.encoder.windows = {4};
  EXPECT_THROW(validate(spec), Error);
  spec = test::gpt2_like();
  spec.head.cap = std::numeric_limits<float>::infinity();
  EXPECT_THROW(validate(spec), Error);
  spec = test::gpt2_like();
  spec.decoder.rope = {{1, 2}};
  EXPECT_THROW(validate(spec), Error);
  spec = test::gpt2_like();
  spec.decoder.layers = 0;
  EXPECT_THROW(validate(spec), Error);
}

TEST(Spec, says_what_the_engine_cannot_run_yet) {
  TransformerSpec spec = test::bart_like();
  spec.pooler = true;
  EXPECT_EQ(weight_table(spec).size(), weight_table(test::bart_like()).size() + 2);
  EXPECT_THROW((void)test::build(spec, test::random_weights(spec, 1)), Error);
  spec = test::bart_like();
  spec.embed_dim = 16;
  EXPECT_THROW((void)test::build(spec, test::random_weights(spec, 1)), Error);
}

TEST(WeightTable, names_each_weight_once) {
  for (const auto& [name, spec] : test::all_specs()) {
    std::vector<std::string> names;
    for (const WeightInfo& info : weight_table(spec)) names.push_back(info.name);
    std::ranges::sort(names);
    EXPECT_TRUE(std::ranges::adjacent_find(names) == names.end()) << name;
  }
}

TEST(WeightTable, follows_the_spec) {
  const auto has = [](const TransformerSpec& spec, const std::string& name) {
    return std::ranges::any_of(weight_table(spec),
                               [&](const WeightInfo& info) { return info.name == name; });
  };
  EXPECT_TRUE(has(test::bart_like(), "decoder.2.cross_attn.k.weight"));
  EXPECT_FALSE(has(test::gpt2_like(), "decoder.2.cross_attn.k.weight"));
  EXPECT_FALSE(has(test::gpt2_like(), "head.weight"));
  EXPECT_TRUE(has(test::llama_like(), "head.weight"));
  EXPECT_TRUE(has(test::gemma_like(), "decoder.0.ffn_post_norm.weight"));
  EXPECT_FALSE(has(test::llama_like(), "decoder.0.attn.q.bias"));
}

}  // namespace
}  // namespace fuseq
