// SPDX-License-Identifier: Apache-2.0
// What the tests of sampling and of callbacks share: models with prompts, options, a sampler.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "fuseq/generate.h"
#include "random_model.h"

namespace fuseq {

using Ids = std::vector<int32_t>;

/// Any model of the tests, prompts for it, and what they need to live.
struct Case {
  explicit Case(TransformerSpec spec, int num_threads = 2, int count = 6)
      : model(test::build(spec, test::random_weights(spec, 7), {.num_threads = num_threads})) {
    std::mt19937 generator(3);
    for (int i = 0; i < count; ++i) {
      if (spec.is_seq2seq()) sources.push_back(test::random_ids(generator, spec.vocab, 3 + i % 7));
      starts.push_back(test::random_ids(generator, spec.vocab, 1 + i % 5));
    }
    for (int i = 0; i < count; ++i) {
      const auto at = static_cast<size_t>(i);
      prompts.push_back(
          {.encoder_ids = sources.empty() ? Ids() : sources[at], .decoder_ids = starts[at]});
      if (!sources.empty()) prompts.back().encoder_ids = sources[at];
    }
  }
  std::shared_ptr<const Model> model;
  std::vector<Ids> sources, starts;
  std::vector<Prompt> prompts;
};

inline std::vector<TransformerSpec> both_kinds() {
  return {test::bart_like(), test::gpt2_like()};
}

inline const GenerationOptions kDraws{.max_new_tokens = 12,
                                      .do_sample = true,
                                      .temperature = 1.3f,
                                      .top_k = 20,
                                      .top_p = 0.9f,
                                      .seed = 5,
                                      .num_return_sequences = 3};

inline std::vector<Ids> ids_of(const std::vector<Hypothesis>& rows) {
  std::vector<Ids> ids;
  for (const Hypothesis& row : rows) ids.push_back(row.ids);
  return ids;
}
/// Takes the n-th best id and keeps what it saw.
struct NthBest final : TokenSampler {
  explicit NthBest(size_t n_) : n(n_) {}
  void choose(ConstView p, std::span<int32_t> ids) override {
    batches.push_back(p.dim(0));
    for (int64_t b = 0; b < p.dim(0); ++b) {
      const float* row = p.as<float>() + b * p.dim(1);
      double sum = 0;
      for (int64_t v = 0; v < p.dim(1); ++v) sum += static_cast<double>(row[v]);
      EXPECT_NEAR(sum, 1, 1e-5);
      std::vector<int32_t> order(static_cast<size_t>(p.dim(1)));
      for (size_t v = 0; v < order.size(); ++v) order[v] = static_cast<int32_t>(v);
      std::ranges::stable_sort(order, [&](int32_t a, int32_t b2) { return row[a] > row[b2]; });
      ids[static_cast<size_t>(b)] = order[n];
    }
    if (fails) throw std::runtime_error("no choice");
  }
  size_t n;
  bool fails = false;
  std::vector<int64_t> batches;
};

/// Every id as its number and a comma, so that borders show.
inline std::shared_ptr<const TokenBytes> numbers(int vocab) {
  std::vector<std::string> owned;
  for (int id = 0; id < vocab; ++id) owned.push_back(std::to_string(id) + ",");
  const std::vector<std::string_view> views(owned.begin(), owned.end());
  return std::make_shared<TokenBytes>(views);
}

}  // namespace fuseq
