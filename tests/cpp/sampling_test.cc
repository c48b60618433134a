// SPDX-License-Identifier: Apache-2.0
// Draws, beams, contrastive search and scores through sessions and generate.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

#include "fuseq/error.h"
#include "fuseq/generate.h"
#include "sampling_cases.h"

namespace fuseq {
namespace {

TEST(Sample, a_seed_repeats_and_another_does_not) {
  for (const TransformerSpec& spec : both_kinds()) {
    const Case c(spec);
    const auto once = generate(*c.model, c.prompts, kDraws);
    const auto again = generate(*c.model, c.prompts, kDraws);
    GenerationOptions other = kDraws;
    other.seed = 6;
    const auto differs = generate(*c.model, c.prompts, other);
    other.seed.reset();
    const auto fresh = generate(*c.model, c.prompts, other);
    size_t equal = 0;
    size_t equal_fresh = 0;
    for (size_t p = 0; p < once.size(); ++p) {
      EXPECT_EQ(ids_of(once[p]), ids_of(again[p]));
      equal += ids_of(once[p]) == ids_of(differs[p]);
      equal_fresh += ids_of(once[p]) == ids_of(fresh[p]);
      EXPECT_EQ(once[p].size(), 3u);
    }
    EXPECT_LT(equal, once.size());
    EXPECT_LT(equal_fresh, once.size());
  }
}

TEST(Sample, does_not_depend_on_threads_slots_or_company) {
  for (const TransformerSpec& spec : both_kinds()) {
    const Case c(spec, 1);
    const auto expected = generate(*c.model, c.prompts, kDraws);
    const Case threads(spec, 3);
    for (const int batch : {1, 2, 5}) {
      const auto got = generate(*threads.model, c.prompts, kDraws, {.max_batch_size = batch});
      for (size_t p = 0; p < got.size(); ++p) EXPECT_EQ(ids_of(got[p]), ids_of(expected[p]));
    }
    for (size_t p = 0; p < c.prompts.size(); ++p) {  // alone, with its place in the list
      Prompt prompt = c.prompts[p];
      prompt.sequence = static_cast<int64_t>(p);
      EXPECT_EQ(ids_of(generate(*c.model, {{prompt}}, kDraws)[0]), ids_of(expected[p]));
    }
  }
}

TEST(Sample, a_seed_of_its_own_repeats_a_row_alone) {
  const Case c(test::gpt2_like());
  std::vector<Prompt> prompts = c.prompts;
  for (size_t p = 0; p < prompts.size(); ++p) prompts[p].seed = 100 + p;
  const auto together = generate(*c.model, prompts, kDraws);
  for (size_t p = 0; p < prompts.size(); ++p) {
    EXPECT_EQ(ids_of(generate(*c.model, {{prompts[p]}}, kDraws)[0]), ids_of(together[p]));
  }
}

TEST(Sample, top_k_of_one_and_a_tiny_temperature_are_greedy) {
  for (const TransformerSpec& spec : both_kinds()) {
    const Case c(spec);
    const auto greedy = generate(*c.model, c.prompts, {.max_new_tokens = 15});
    for (const GenerationOptions& options :
         {GenerationOptions{.max_new_tokens = 15, .do_sample = true, .top_k = 1},
          GenerationOptions{.max_new_tokens = 15, .do_sample = true, .temperature = 1e-6f},
          GenerationOptions{.max_new_tokens = 15, .do_sample = true, .top_p = 1e-6f},
          GenerationOptions{.max_new_tokens = 15, .do_sample = true, .min_p = 1}}) {
      const auto got = generate(*c.model, c.prompts, options);
      for (size_t p = 0; p < got.size(); ++p) EXPECT_EQ(got[p][0].ids, greedy[p][0].ids);
    }
  }
}

TEST(Sample, draws_of_one_prompt_end_for_themselves) {
  const Case c(test::gpt2_like(), 2, 1);
  GenerationOptions options{.max_new_tokens = 30,
                            .do_sample = true,
                            .temperature = 30.0f,
                            .seed = 1,
                            .num_return_sequences = 16};
  options.use_default_stop_ids = false;
  options.stop_token_ids = {3, 4, 5, 6, 7, 8, 9, 10};
  const auto rows = generate(*c.model, c.prompts, options)[0];
  std::set<size_t> lengths;
  for (const Hypothesis& row : rows) {
    lengths.insert(row.ids.size());
    const bool stops = row.ids.back() >= 3 && row.ids.back() <= 10;
    EXPECT_EQ(row.stop_reason == StopReason::stop_id, stops);
    EXPECT_EQ(row.prompt_length, static_cast<int>(c.starts[0].size()));
  }
  EXPECT_GT(lengths.size(), 3u);
}

TEST(Scores, are_the_models_own_log_probabilities) {
  for (const TransformerSpec& spec : both_kinds()) {
    const Case c(spec);
    std::vector<GenerationOptions> all(4, {.max_new_tokens = 10,
                                           .repetition_penalty = 1.5f,
                                           .suppress_token_ids = {3, 4},
                                           .logit_bias = {{9, 2.0f}},
                                           .return_scores = true});
    all[1].do_sample = true;
    all[1].temperature = 2;
    all[1].seed = 3;
    all[1].num_return_sequences = 2;
    all[2].num_beams = 3;
    all[2].num_return_sequences = 3;
    all[3].penalty_alpha = 0.4f;
    all[3].top_k = 4;
    Session session(c.model);
    for (const GenerationOptions& options : all) {
      const auto results = generate(*c.model, c.prompts, options);
      for (size_t p = 0; p < results.size(); ++p) {
        for (const Hypothesis& row : results[p]) {
          Prompt whole = c.prompts[p];
          whole.decoder_ids = row.ids;
          const std::vector<float> scores = session.score({{whole}})[0];
          const auto P = static_cast<size_t>(row.prompt_length);
          ASSERT_EQ(row.token_log_probs.size(), row.ids.size() - P);
          double sum = 0;
          for (size_t t = P; t < row.ids.size(); ++t) {
            ASSERT_NEAR(row.token_log_probs[t - P], scores[t - 1], 1e-5) << "position " << t;
            sum += scores[t - 1];
          }
          if (options.num_beams == 1) {
            EXPECT_NEAR(row.score, sum, 1e-4);
          }
        }
      }
    }
    const auto without = generate(*c.model, c.prompts, {.max_new_tokens = 3});
    EXPECT_TRUE(without[0][0].token_log_probs.empty());
    EXPECT_EQ(without[0][0].score, 0);
  }
}

TEST(Beams, temperature_divides_their_logits) {
  const Case c(test::gpt2_like(), 2, 1);
  Prompt whole = c.prompts[0];
  const auto row = generate(*c.model, c.prompts,
                            {.max_new_tokens = 6, .temperature = 2.5f, .num_beams = 3})[0][0];
  whole.decoder_ids = row.ids;
  Session session(c.model);
  const Tensor logits = session.forward({{whole}});
  const auto V = static_cast<size_t>(c.model->spec().vocab);
  double sum = 0;
  const size_t P = c.starts[0].size();
  for (size_t t = P; t < row.ids.size(); ++t) {
    const float* x = logits.as<float>() + (t - 1) * V;
    double total = 0;
    for (size_t v = 0; v < V; ++v) total += std::exp(static_cast<double>(x[v]) / 2.5);
    sum += static_cast<double>(x[row.ids[t]]) / 2.5 - std::log(total);
  }
  EXPECT_NEAR(row.score, sum / static_cast<double>(row.ids.size() - P), 1e-4);
}

// ---- contrastive search -------------------------------------------------------------------------

/// Contrastive search by whole forward passes, in double.
Ids contrastive(Session& session, const Prompt& prompt, int max_length, size_t k, double alpha,
                double temperature) {
  const auto V = static_cast<size_t>(session.model().spec().vocab);
  Ids ids(prompt.decoder_ids.begin(), prompt.decoder_ids.end());
  const auto forward = [&](const Ids& row, Tensor* hidden) {
    Prompt whole = prompt;
    whole.decoder_ids = row;
    return session.forward({{whole}}, hidden);
  };
  const auto D = static_cast<size_t>(session.model().spec().decoder.dim);
  const auto& stops = session.model().spec().eos_ids;
  while (static_cast<int>(ids.size()) < max_length) {
    const Tensor logits = forward(ids, nullptr);
    const float* last = logits.as<float>() + (ids.size() - 1) * V;
    std::vector<double> p(V);
    double sum = 0;
    const double best = *std::max_element(last, last + V);
    for (size_t v = 0; v < V; ++v) {
      p[v] = std::exp((static_cast<double>(last[v]) - best) / temperature);
      sum += p[v];
    }
    std::vector<int32_t> order(V);
    for (size_t v = 0; v < V; ++v) order[v] = static_cast<int32_t>(v);
    std::ranges::stable_sort(order, [&](int32_t a, int32_t b) {
      return p[static_cast<size_t>(a)] > p[static_cast<size_t>(b)];
    });
    double best_score = -1e9;
    int32_t winner = 0;
    for (size_t c = 0; c < k; ++c) {
      Ids row = ids;
      row.push_back(order[c]);
      Tensor hidden;
      (void)forward(row, &hidden);
      const auto cosine = [&](size_t a, size_t b) {
        double ab = 0, aa = 0, bb = 0;
        for (size_t d = 0; d < D; ++d) {
          const double x = hidden.as<float>()[a * D + d];
          const double y = hidden.as<float>()[b * D + d];
          ab += x * y;
          aa += x * x;
          bb += y * y;
        }
        return ab / std::sqrt(aa * bb);
      };
      double likeness = -1;
      for (size_t t = 0; t < ids.size(); ++t) likeness = std::max(likeness, cosine(ids.size(), t));
      const double score = (1 - alpha) * p[static_cast<size_t>(order[c])] / sum - alpha * likeness;
      if (score > best_score) {
        best_score = score;
        winner = order[c];
      }
    }
    ids.push_back(winner);
    if (std::ranges::find(stops, winner) != stops.end()) break;
  }
  return ids;
}

TEST(Contrastive, equals_a_search_by_whole_passes) {
  for (const test::NamedSpec& kind : test::all_specs()) {
    const Case c(kind.spec, 2, 4);
    Session session(c.model);
    for (const auto& [k, alpha, temperature] :
         {std::tuple(4, 0.6f, 1.0f), std::tuple(2, 0.3f, 0.7f), std::tuple(7, 1.0f, 1.0f)}) {
      const GenerationOptions options{
          .max_length = 20, .temperature = temperature, .top_k = k, .penalty_alpha = alpha};
      const auto results = generate(*c.model, c.prompts, options);
      for (size_t p = 0; p < results.size(); ++p) {
        EXPECT_EQ(results[p][0].ids,
                  contrastive(session, c.prompts[p], 20, static_cast<size_t>(k),
                              static_cast<double>(alpha), static_cast<double>(temperature)))
            << kind.name << " k " << k;
        EXPECT_EQ(results[p][0].ids, generate(*c.model, {{c.prompts[p]}}, options)[0][0].ids);
      }
    }
  }
}

TEST(Contrastive, of_one_candidate_is_greedy_and_needs_a_position_for_every_token) {
  const Case c(test::gpt2_like(), 1, 2);
  const auto greedy = generate(*c.model, c.prompts, {.max_length = 20});
  const auto one =
      generate(*c.model, c.prompts, {.max_length = 20, .top_k = 1, .penalty_alpha = 0.6f});
  EXPECT_EQ(one[0][0].ids, greedy[0][0].ids);
  const int positions = c.model->spec().decoder.max_positions;
  const GenerationOptions full{
      .max_length = positions, .min_length = positions, .top_k = 3, .penalty_alpha = 0.6f};
  EXPECT_EQ(generate(*c.model, c.prompts, full)[0][0].ids.size(), static_cast<size_t>(positions));
  EXPECT_THROW((void)generate(*c.model, c.prompts,
                              {.max_length = positions + 1, .top_k = 3, .penalty_alpha = 0.6f}),
               Error);
}

// ---- options and canceled requests
// ----------------------------------------------------------------

TEST(Options, that_contradict_each_other_are_named) {
  const Case c(test::gpt2_like(), 1, 1);
  const auto message = [&](const GenerationOptions& options) -> std::string {
    try {
      (void)generate(*c.model, c.prompts, options);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(message({.do_sample = true, .num_beams = 2}),
            "prompts[0]: do_sample: at most one of do_sample, num_beams > 1, penalty_alpha and a "
            "sampler may be given, got 2 of them");
  EXPECT_EQ(message({.top_k = 5}),
            "prompts[0]: top_k: needs do_sample or penalty_alpha, got 5 without them");
  EXPECT_EQ(message({.top_p = 0.5f}), "prompts[0]: top_p: needs do_sample, got 0.5 without it");
  EXPECT_EQ(message({.do_sample = true, .top_p = 0}), "prompts[0]: top_p must be in (0, 1], got 0");
  EXPECT_EQ(message({.do_sample = true, .temperature = 0}),
            "prompts[0]: temperature must be finite and at least 1e-37, got 0");
  EXPECT_EQ(message({.temperature = 1e-5f, .num_beams = 2}),
            "prompts[0]: temperature: must be at least 0.0001 with beams, got 1e-05");
  EXPECT_EQ(message({.do_sample = true, .min_p = 2}), "prompts[0]: min_p must be in [0, 1], got 2");
  EXPECT_EQ(message({.penalty_alpha = 0.5f}),
            "prompts[0]: top_k: contrastive search needs 1 ... 1024 candidates, got 0");
  EXPECT_EQ(message({.num_return_sequences = 2}),
            "prompts[0]: num_return_sequences: must be in 1 ... num_beams 1, got 2");
  GenerationOptions stop_strings;
  stop_strings.stop_strings = {"x"};
  EXPECT_EQ(message(stop_strings),
            "prompts[0]: stop_strings: needs token_bytes, the bytes of every id, got none");
  stop_strings.token_bytes = numbers(5);
  EXPECT_EQ(message(stop_strings),
            "prompts[0]: token_bytes: must have an entry for each of 97 ids, got 5");
  stop_strings.token_bytes = numbers(97);
  stop_strings.stop_strings = {""};
  EXPECT_EQ(message(stop_strings), "prompts[0]: stop_strings: must not be empty, got an empty one");
}

TEST(Options, a_huge_least_length_is_the_greatest_there_is) {
  const Case c(test::gpt2_like(), 1, 1);
  GenerationOptions options{.max_length = 12, .min_new_tokens = INT32_MAX};
  options.stop_token_ids = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  EXPECT_EQ(generate(*c.model, c.prompts, options)[0][0].ids.size(), 12u);
}

TEST(Beams, canceled_give_finished_hypotheses_and_then_the_best_that_run) {
  const Case c(test::gpt2_like(), 1, 1);
  GenerationOptions options{.max_new_tokens = 20,
                            .num_beams = 3,
                            .num_return_sequences = 3,
                            .length_penalty = 2.0f,
                            .return_scores = true};
  options.stop_token_ids = {3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14};
  Session session(c.model);
  const RequestId id = session.submit(c.prompts[0], options);
  for (int i = 0; i < 3; ++i) (void)session.step();
  if (!session.is_finished(id)) session.cancel(id);
  std::set<Ids> distinct;
  bool runs = false;
  for (const Hypothesis& row : session.take(id)) {
    distinct.insert(row.ids);
    runs = runs || row.stop_reason == StopReason::canceled;
    EXPECT_TRUE(!runs || row.stop_reason == StopReason::canceled);
    double sum = 0;
    for (const float log_prob : row.token_log_probs) sum += static_cast<double>(log_prob);
    const auto length = static_cast<double>(row.token_log_probs.size());
    EXPECT_NEAR(row.score, sum / (length * length), 1e-4);
  }
  EXPECT_EQ(distinct.size(), 3u);
}

}  // namespace
}  // namespace fuseq
