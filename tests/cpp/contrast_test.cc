// SPDX-License-Identifier: Apache-2.0
// contrast against its plain version.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <string_view>
#include <vector>

#include "decode_arrays.h"
#include "fuseq/generate.h"
#include "kernels/ref/decode_ops_ref.h"
#include "random_model.h"

namespace fuseq::inline v0 {
namespace {

constexpr int64_t kCapacity = 12;

std::vector<float> unit_rows(std::mt19937& random, int64_t rows, int64_t D) {
  std::vector<float> x;
  for (int64_t row = 0; row < rows; ++row) {
    double square = 0;
    for (int64_t d = 0; d < D; ++d) {
      x.push_back(static_cast<float>(random() >> 8) * 0x1p-23f - 1);
      square += double{x.back()} * double{x.back()};
    }
    for (int64_t d = 0; d < D; ++d) {
      x[x.size() - 1 - static_cast<size_t>(d)] /= static_cast<float>(std::sqrt(square));
    }
  }
  return x;
}

/// Contrastive requests whose candidates were just tried, and their hidden rows.
struct Tried {
  Tried(const std::vector<DecodeRules>& rules, uint32_t seed, int64_t D)
      : arrays(rules, kCapacity, 50) {
    std::mt19937 random(seed);
    for (size_t slot = 0; slot < rules.size(); ++slot) {
      const DecodeRules& request = arrays.rules[slot];
      const auto length = static_cast<size_t>(request.prompt_length) + random() % 4;
      std::vector<int32_t> row(length);
      for (int32_t& id : row) id = static_cast<int32_t>(random() % 50);
      history.push_back(unit_rows(random, kCapacity, D));
      candidates.push_back(unit_rows(random, request.num_rows, D));
      for (int32_t c = 0; c < request.num_rows; ++c) {
        arrays.set_row(request.first_row + c, row);
        const auto at =
            static_cast<size_t>(request.first_row) * kMaxCandidatesPerRow + static_cast<size_t>(c);
        arrays.candidate_ids[at] = static_cast<int32_t>(random() % 50);
        arrays.candidate_scores[at] = static_cast<float>(random() >> 8) * 0x1p-24f;
        arrays.candidate_log_probs[at] = std::log(arrays.candidate_scores[at]);
      }
      arrays.has_tried[slot] = 1;
    }
    dim = D;
  }
  const DecodeState& view() {
    for (size_t slot = 0; slot < history.size(); ++slot) {
      arrays.contrast[slot] = {history[slot].data(), candidates[slot].data(), dim};
    }
    return arrays.view();
  }

  Arrays arrays;
  std::vector<std::vector<float>> history, candidates;
  int64_t dim;
};

DecodeRules contrastive(int32_t num_rows, float alpha) {
  DecodeRules rules;
  rules.mode = DecodeMode::contrastive;
  rules.num_rows = num_rows;
  rules.penalty_alpha = alpha;
  rules.prompt_length = 2;
  rules.max_length = 100;
  return rules;
}

void expect_equal(const Tried& a, const Tried& b) {
  EXPECT_EQ(a.arrays.winner, b.arrays.winner);
  EXPECT_EQ(a.arrays.done, b.arrays.done);
  EXPECT_EQ(a.arrays.lengths, b.arrays.lengths);
  EXPECT_EQ(a.arrays.stops, b.arrays.stops);
  EXPECT_EQ(a.arrays.ids, b.arrays.ids);
  EXPECT_EQ(a.arrays.lanes, b.arrays.lanes);
  EXPECT_EQ(a.history, b.history);
  EXPECT_EQ(a.candidates, b.candidates);
  EXPECT_TRUE(same_bits(a.arrays.scores, b.arrays.scores));
  for (size_t slot = 0; slot < a.arrays.rules.size(); ++slot) {
    const DecodeRules& rules = a.arrays.rules[slot];
    if (!rules.return_scores) continue;
    for (int64_t row = rules.first_row; row < rules.first_row + rules.num_rows; ++row) {
      for (int64_t t = row * kCapacity; t < (row + 1) * kCapacity; ++t) {
        EXPECT_EQ(a.arrays.log_probs[static_cast<size_t>(t)],
                  b.arrays.log_probs[static_cast<size_t>(t)]);
      }
    }
  }
}

TEST(Contrast, equals_the_reference_for_random_shapes) {
  std::vector<std::pair<CpuIsa, Context>> contexts;
  for (const CpuIsa isa : isas()) {
    for (const int threads : {1, 2, 3, 7}) contexts.emplace_back(isa, make_context(isa, threads));
  }
  std::vector<int> wins(16);
  for (uint32_t seed = 0; seed < 150; ++seed) {
    std::mt19937 random(seed);
    const int64_t dims[] = {1, 2, 15, 16, 17, 31, 64, 127, 768};
    const float alphas[] = {0.6f, 0.1f, 1.0f, 1e-6f, 0.9f};
    std::vector<DecodeRules> rules;
    for (int slot = 0; slot < 3; ++slot) {
      rules.push_back(contrastive(static_cast<int32_t>(1 + random() % 16), alphas[random() % 5]));
      rules.back().return_scores = random() % 2 != 0;
      rules.back().num_stop_ids = 15;  // of 50 ids: some winners end the request
      std::iota(rules.back().stop_ids, rules.back().stop_ids + 15, 0);
      rules.back().max_length = static_cast<int32_t>(4 + random() % 4);
    }
    Tried start(rules, seed, dims[seed % 9]);
    start.arrays.has_tried[seed % 3] = seed % 4 != 0;
    const std::vector<int32_t> active =
        seed % 5 != 0 ? std::vector<int32_t>{2, 0, 1} : std::vector<int32_t>{1};
    Tried expected = start;
    ref::contrast(expected.view(), active);
    for (auto& [isa, ctx] : contexts) {
      Tried got = start;
      contrast(ctx, got.view(), active);
      expect_equal(got, expected);
      ASSERT_FALSE(HasFailure()) << "seed " << seed << " isa " << static_cast<int>(isa)
                                 << " threads " << ctx.num_threads();
    }
    for (const int32_t slot : active) {
      ++wins[static_cast<size_t>(expected.arrays.winner[static_cast<size_t>(slot)])];
    }
  }
  EXPECT_LT(wins[0], 150);  // not only the first candidates
}

TEST(Contrast, the_winner_is_appended_to_all_rows_of_the_request) {
  DecodeRules rules = contrastive(3, 0.5f);
  rules.return_scores = true;
  Tried tried({rules}, 1, 2);
  for (int64_t row = 0; row < 3; ++row) tried.arrays.set_row(row, {7, 8});
  std::fill(tried.arrays.lanes.begin(), tried.arrays.lanes.end(), -1);
  tried.history[0] = std::vector<float>(kCapacity * 2, 0.0f);
  tried.history[0][0] = 1;                            // t = 0: (1, 0)
  tried.history[0][3] = 1;                            // t = 1: (0, 1)
  tried.candidates[0] = {1, 0, -0.6f, -0.8f, 0, -1};  // likenesses 1, -0.6 and 0
  for (size_t c = 0; c < 3; ++c) {
    tried.arrays.candidate_ids[c] = 20 + static_cast<int32_t>(c);
    tried.arrays.candidate_log_probs[c] = -1.5f - static_cast<float>(c);
  }
  tried.arrays.candidate_scores[0] = 0.7f;   // 0.35 - 0.5
  tried.arrays.candidate_scores[1] = 0.1f;   // 0.05 + 0.3
  tried.arrays.candidate_scores[2] = 0.15f;  // 0.075
  Context ctx = make_context(CpuIsa::automatic, 2);
  contrast(ctx, tried.view(), std::vector<int32_t>{0});
  EXPECT_EQ(tried.arrays.winner[0], 1);
  EXPECT_EQ(tried.arrays.done[0], 0);
  for (int64_t row = 0; row < 3; ++row) {
    EXPECT_EQ(tried.arrays.row(tried.arrays.ids, row, 3), (std::vector<int32_t>{7, 8, 21}));
    EXPECT_EQ(tried.arrays.row(tried.arrays.lanes, row, 3), (std::vector<int32_t>{-1, -1, 1}));
    EXPECT_EQ(tried.arrays.lengths[static_cast<size_t>(row)], 3);
    EXPECT_EQ(tried.arrays.stops[static_cast<size_t>(row)], Stop::none);
    EXPECT_EQ(tried.arrays.log_probs[static_cast<size_t>(row * kCapacity + 2)], -2.5f);
  }
  EXPECT_EQ(std::vector<float>(tried.history[0].begin(), tried.history[0].begin() + 6),
            (std::vector<float>{1, 0, 0, 1, -0.6f, -0.8f}));
}

TEST(Contrast, what_rules_hide_is_not_chosen_for_being_new) {
  for (const TransformerSpec& spec : {test::bart_like(), test::gpt2_like()}) {
    const auto model = test::build(spec, test::random_weights(spec, 7));
    const std::vector<int32_t> start = {11, 5, 11}, source = {7, 9};
    const std::vector<Prompt> prompts = {{.encoder_ids = spec.is_seq2seq()
                                                             ? std::span<const int32_t>(source)
                                                             : std::span<const int32_t>(),
                                          .decoder_ids = start}};
    GenerationOptions options{.max_new_tokens = 6, .top_k = 5, .penalty_alpha = 1};
    options.forced_eos_token_id = 13;
    options.stop_token_ids = {13};
    options.use_default_stop_ids = false;
    options.min_new_tokens = 5;
    const std::vector<int32_t> ids = generate(*model, prompts, options)[0][0].ids;
    EXPECT_EQ(ids.size(), 9u);
    EXPECT_EQ(ids.back(), 13);
    options.forced_eos_token_id = -1;
    for (int32_t id = 0; id < spec.vocab; ++id) {
      if (id != 11 && id != 12) options.suppress_token_ids.push_back(id);
    }
    const std::vector<int32_t> allowed = generate(*model, prompts, options)[0][0].ids;
    for (const int32_t id : allowed) {
      EXPECT_TRUE(id == 11 || id == 12 || id == 5) << id;
    }
  }
}

TEST(Contrast, ties_go_to_the_lower_candidate) {
  for (const CpuIsa isa : isas()) {
    for (const int threads : {1, 3}) {
      Context ctx = make_context(isa, threads);
      Tried tried({contrastive(5, 0.4f)}, 3, 8);
      for (int64_t c = 1; c < 5; ++c) {
        std::copy_n(tried.candidates[0].begin(), 8, tried.candidates[0].begin() + c * 8);
      }
      const float scores[] = {0.1f, 0.3f, 0.2f, 0.3f, 0.3f};
      std::copy_n(scores, 5, tried.arrays.candidate_scores.begin());
      contrast(ctx, tried.view(), std::vector<int32_t>{0});
      EXPECT_EQ(tried.arrays.winner[0], 1);
    }
  }
}

TEST(Contrast, a_row_ends_with_a_stop_id_a_stop_string_or_at_its_length) {
  const std::vector<std::string_view> tokens = {"a", "b", "c"};
  const StopStrings strings{std::make_shared<const TokenBytes>(tokens), {"ab"}};
  const auto stop_of = [&](const DecodeRules& rules, int32_t id) {
    Tried tried({rules}, 1, 4);
    for (int64_t row = 0; row < 2; ++row) tried.arrays.set_row(row, {1, 1, 0});
    tried.arrays.candidate_ids[0] = tried.arrays.candidate_ids[1] = id;
    Context ctx = make_context(CpuIsa::automatic, 1);
    contrast(ctx, tried.view(), std::vector<int32_t>{0});
    EXPECT_EQ(tried.arrays.stops[0], tried.arrays.stops[1]);
    EXPECT_EQ(tried.arrays.done[0] != 0, tried.arrays.stops[0] != Stop::none);
    return tried.arrays.stops[0];
  };
  DecodeRules rules = contrastive(2, 0.5f);
  EXPECT_EQ(stop_of(rules, 1), Stop::none);
  rules.stop_strings = &strings;
  EXPECT_EQ(stop_of(rules, 1), Stop::stop_string);
  EXPECT_EQ(stop_of(rules, 2), Stop::none);
  rules.max_length = 4;
  EXPECT_EQ(stop_of(rules, 1), Stop::stop_string);
  EXPECT_EQ(stop_of(rules, 2), Stop::max_length);
  rules.num_stop_ids = 1;
  rules.stop_ids[0] = 1;
  EXPECT_EQ(stop_of(rules, 1), Stop::stop_id);
}

TEST(Contrast, other_requests_are_left_alone) {
  std::vector<DecodeRules> rules = {contrastive(3, 0.6f), contrastive(3, 0.6f),
                                    contrastive(3, 0.6f)};
  rules[1].mode = DecodeMode::beams;
  Tried tried(rules, 1, 8);
  tried.arrays.has_tried = {0, 1, 1};
  const Tried start = tried;
  Context ctx = make_context(CpuIsa::automatic, 2);
  contrast(ctx, tried.view(), std::vector<int32_t>{0, 1});
  expect_equal(tried, start);
}

}  // namespace
}  // namespace fuseq::inline v0
