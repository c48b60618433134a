// SPDX-License-Identifier: Apache-2.0
// Samplers of the caller, streams, stop strings, and what their callbacks may do.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "fuseq/error.h"
#include "fuseq/generate.h"
#include "sampling_cases.h"

namespace fuseq {
namespace {

// ---- samplers of the caller ---------------------------------------------------------------------

TEST(TokenSampler, chooses_from_probabilities_after_the_rules) {
  for (const TransformerSpec& spec : both_kinds()) {
    const Case c(spec);
    GenerationOptions options{.max_new_tokens = 9,
                              .no_repeat_ngram_size = 2,
                              .suppress_token_ids = {3, 5},
                              .return_scores = true};
    const auto greedy = generate(*c.model, c.prompts, options);
    const auto best = std::make_shared<NthBest>(0);
    options.sampler = best;
    const auto got = generate(*c.model, c.prompts, options);
    for (size_t p = 0; p < got.size(); ++p) {
      EXPECT_EQ(got[p][0].ids, greedy[p][0].ids);
      EXPECT_EQ(got[p][0].token_log_probs, greedy[p][0].token_log_probs);
    }
    EXPECT_EQ(best->batches.front(), static_cast<int64_t>(c.prompts.size()));
    options.sampler = std::make_shared<NthBest>(1);
    EXPECT_NE(generate(*c.model, c.prompts, options)[0][0].ids, greedy[0][0].ids);
  }
}

TEST(TokenSampler, that_throws_leaves_the_session_where_it_was) {
  const Case c(test::gpt2_like(), 2, 1);
  const auto sampler = std::make_shared<NthBest>(0);
  GenerationOptions options{.max_length = 12, .min_length = 12};
  const Ids expected = generate(*c.model, c.prompts, options)[0][0].ids;
  options.sampler = sampler;
  Session session(c.model);
  const RequestId id = session.submit(c.prompts[0], options);
  for (int i = 0; session.step() && i < 30; ++i) {
    sampler->fails = i % 2 == 0;
    if (!sampler->fails) continue;
    EXPECT_THROW((void)session.step(), std::runtime_error);
    sampler->fails = false;
  }
  EXPECT_EQ(session.take(id)[0].ids, expected);

  sampler->fails = true;
  EXPECT_THROW((void)generate(*c.model, c.prompts, options), std::runtime_error);
  sampler->fails = false;
  EXPECT_EQ(generate(*c.model, c.prompts, options)[0][0].ids, expected);
}

struct OutOfRange final : TokenSampler {
  void choose(ConstView p, std::span<int32_t> ids) override {
    std::ranges::fill(ids, static_cast<int32_t>(p.dim(1)));
  }
};

TEST(TokenSampler, must_give_ids_of_the_vocabulary) {
  const Case c(test::gpt2_like(), 1, 1);
  GenerationOptions options{.max_length = 12};
  options.sampler = std::make_shared<OutOfRange>();
  try {
    (void)generate(*c.model, c.prompts, options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "sampler: ids must be in 0 ... 96, got 97 for row 0");
  }
}

// ---- streams and stop strings -------------------------------------------------------------------

TEST(Stream, tells_every_new_token_in_order) {
  for (const TransformerSpec& spec : both_kinds()) {
    const Case c(spec);
    for (GenerationOptions options :
         {kDraws, GenerationOptions{.max_new_tokens = 9},
          GenerationOptions{.max_new_tokens = 9, .top_k = 3, .penalty_alpha = 0.5f}}) {
      options.token_bytes = numbers(spec.vocab);
      std::map<int64_t, Ids> told;
      std::map<int64_t, std::string> texts;
      const auto results =
          generate(*c.model, c.prompts, options, {.on_token = [&](const NewToken& token) {
            told[token.row].push_back(token.id);
            texts[token.row] += token.text;
            return false;
          }});
      int64_t row = 0;
      for (const auto& hypotheses : results) {
        for (const Hypothesis& hypothesis : hypotheses) {
          const Ids fresh(hypothesis.ids.begin() + hypothesis.prompt_length, hypothesis.ids.end());
          EXPECT_EQ(told[row], fresh);
          std::string text;
          for (const int32_t id : fresh) text += std::to_string(id) + ",";
          EXPECT_EQ(texts[row], text);
          ++row;
        }
      }
    }
  }
}

TEST(Stream, true_ends_a_row_and_no_other) {
  const Case c(test::gpt2_like());
  GenerationOptions options = kDraws;
  const auto whole = generate(*c.model, c.prompts, options);
  const auto results = generate(*c.model, c.prompts, options,
                                {.on_token = [](const NewToken& t) { return t.row % 2 == 1; }});
  int64_t row = 0;
  for (size_t p = 0; p < results.size(); ++p) {
    for (size_t i = 0; i < results[p].size(); ++i, ++row) {
      const Hypothesis& got = results[p][i];
      if (row % 2 == 0) {
        EXPECT_EQ(got.ids, whole[p][i].ids);
      } else {
        EXPECT_EQ(got.ids.size(), static_cast<size_t>(got.prompt_length) + 1);
        EXPECT_TRUE(got.stop_reason == StopReason::callback ||
                    got.stop_reason == StopReason::stop_id);
      }
    }
  }
}

TEST(Stream, an_exception_ends_the_call_and_nothing_else) {
  const Case c(test::bart_like());
  const auto expected = generate(*c.model, c.prompts, kDraws);
  for (int after = 0; after < 20; ++after) {
    int left = after;
    EXPECT_THROW((void)generate(*c.model, c.prompts, kDraws,
                                {.max_batch_size = 2,
                                 .on_token =
                                     [&](const NewToken&) {
                                       if (left-- == 0) throw std::runtime_error("enough");
                                       return false;
                                     }}),
                 std::runtime_error);
    EXPECT_EQ(ids_of(generate(*c.model, c.prompts, kDraws)[1]), ids_of(expected[1]));
  }
}

TEST(Stream, refuses_beams_and_calls_from_inside) {
  const Case c(test::gpt2_like());
  const auto ignore = [](const NewToken&) { return false; };
  EXPECT_THROW((void)generate(*c.model, c.prompts, {.max_new_tokens = 3, .num_beams = 2},
                              {.on_token = ignore}),
               Error);
  EXPECT_THROW((void)generate(*c.model, c.prompts, {.max_new_tokens = 3},
                              {.on_token =
                                   [&](const NewToken&) {
                                     (void)generate(*c.model, c.prompts, {.max_new_tokens = 3});
                                     return false;
                                   }}),
               Error);
  EXPECT_EQ(generate(*c.model, c.prompts, {.max_new_tokens = 3}).size(), c.prompts.size());
}

TEST(Stream, a_call_that_waits_for_another_one_is_interrupted) {
  const Case c(test::gpt2_like(), 1, 1);
  std::promise<void> started, over;
  std::thread other([&] {
    (void)generate(*c.model, c.prompts, {.max_new_tokens = 1}, {.on_token = [&](const NewToken&) {
      started.set_value();
      over.get_future().wait_for(std::chrono::seconds(5));
      return false;
    }});
  });
  started.get_future().wait();
  int polls = 0;
  std::string message = "no error";
  try {
    (void)generate(*c.model, c.prompts, {.max_new_tokens = 1},
                   {.interrupted = [&] { return ++polls == 2; }});
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::runtime);
    message = error.what();
  }
  over.set_value();
  other.join();
  EXPECT_EQ(message, "generate: interrupted");
  EXPECT_EQ(polls, 2);
  EXPECT_EQ(generate(*c.model, c.prompts, {.max_new_tokens = 1}).size(), 1u);
}

TEST(StopString, ends_rows_wherever_borders_fall) {
  for (const TransformerSpec& spec : both_kinds()) {
    const Case c(spec);
    for (const int beams : {1, 3}) {
      GenerationOptions options{.max_new_tokens = 20,
                                .min_new_tokens = 20,
                                .num_beams = beams,
                                .num_return_sequences = beams};
      options.token_bytes = numbers(spec.vocab);
      const auto whole = generate(*c.model, c.prompts, options);
      // From the middle of one new token into the next: "7,12" of "17,12,".
      const Ids& ids = whole[0][0].ids;
      const auto at = static_cast<size_t>(whole[0][0].prompt_length) + 4;
      const std::string first = std::to_string(ids[at]);
      const std::string stop = first.substr(first.size() - 1) + "," + std::to_string(ids[at + 1]);
      options.stop_strings = {"no such text", stop};
      const auto cut = generate(*c.model, c.prompts, options);
      size_t num_stopped = 0;
      for (const auto& hypotheses : cut) {
        for (const Hypothesis& row : hypotheses) {
          std::string text;
          std::string before;
          for (size_t t = static_cast<size_t>(row.prompt_length); t < row.ids.size(); ++t) {
            before = text;
            text += std::to_string(row.ids[t]) + ",";
          }
          const bool stopped = row.stop_reason == StopReason::stop_string;
          EXPECT_EQ(text.find(stop) != std::string::npos, stopped);
          EXPECT_EQ(before.find(stop), std::string::npos);
          num_stopped += stopped;
        }
      }
      EXPECT_GT(num_stopped, 0u);
      if (beams == 1) {
        EXPECT_LE(cut[0][0].ids.size(), at + 2);
      }
    }
  }
}

// ---- calls from inside and exceptions
// -------------------------------------------------------------

TEST(Session, goes_on_after_a_callback_that_ends_some_rows_and_throws) {
  const Case c(test::gpt2_like(), 1, 4);
  GenerationOptions options{.max_new_tokens = 6,
                            .do_sample = true,
                            .temperature = 9.0f,
                            .seed = 3,
                            .num_return_sequences = 3};
  options.use_default_stop_ids = false;
  for (int32_t id = 0; id < 30; ++id) {
    if (id % 2 == 0 && options.stop_token_ids.size() < 15) options.stop_token_ids.push_back(id);
  }
  for (int after = 0; after < 12; ++after) {
    Session session(c.model, {.max_rows = 9});
    std::vector<RequestId> ids;
    for (const Prompt& prompt : c.prompts) ids.push_back(session.submit(prompt, options));
    ids.push_back(session.submit(c.prompts[0], {.max_new_tokens = 9}));
    int told = 0;
    const auto on_token = [&](const NewToken& token) {
      if (told++ == after) throw std::runtime_error("enough");
      return told % 3 == 0 && token.request != ids.back();
    };
    for (int step = 0; step < 100; ++step) {
      try {
        if (!session.step(on_token)) break;
      } catch (const std::runtime_error&) {
      }
    }
    for (const RequestId id : ids) EXPECT_TRUE(session.is_finished(id)) << "after " << after;
    EXPECT_EQ(session.take(ids.back())[0].ids,
              generate(*c.model, {{c.prompts[0]}}, {.max_new_tokens = 9})[0][0].ids);
  }
}

TEST(Session, tells_every_token_once_whatever_callbacks_throw) {
  for (const TransformerSpec& spec : both_kinds()) {
    const Case c(spec, 1, 4);
    GenerationOptions draws{.max_new_tokens = 5,
                            .do_sample = true,
                            .temperature = 3.0f,
                            .seed = 3,
                            .num_return_sequences = 2};
    GenerationOptions contrastive{.max_new_tokens = 4, .top_k = 3, .penalty_alpha = 0.5f};
    for (int every = 1; every < 6; ++every) {
      Session session(c.model, {.max_rows = 12});
      std::vector<RequestId> ids;
      for (size_t i = 0; i < c.prompts.size(); ++i) {
        ids.push_back(session.submit(c.prompts[i], i % 2 == 0 ? draws : contrastive));
      }
      std::map<std::pair<RequestId, int64_t>, Ids> seen;
      int told = 0;
      const auto on_token = [&](const NewToken& token) {
        seen[{token.request, token.row}].push_back(token.id);
        if (++told % every == 0) throw std::runtime_error("later");
        return false;
      };
      for (int step = 0; step < 200; ++step) {
        try {
          if (!session.step(on_token)) break;
        } catch (const std::runtime_error&) {
        }
      }
      for (const RequestId id : ids) {
        const std::vector<Hypothesis> rows = session.take(id);
        for (size_t r = 0; r < rows.size(); ++r) {
          const Ids fresh(rows[r].ids.begin() + rows[r].prompt_length, rows[r].ids.end());
          EXPECT_EQ(seen[std::pair(id, static_cast<int64_t>(r))], fresh) << every << " row " << r;
        }
      }
    }
  }
}

TEST(TokenSampler, that_throws_leaves_other_requests_where_they_were) {
  const Case c(test::gpt2_like(), 1, 2);
  GenerationOptions contrastive{.max_length = 20,
                                .min_length = 20,
                                .temperature = 4,
                                .top_k = 4,
                                .penalty_alpha = 0.3f,
                                .no_repeat_ngram_size = 1,
                                .return_scores = true};
  const Hypothesis expected = generate(*c.model, {{c.prompts[0]}}, contrastive)[0][0];
  const auto sampler = std::make_shared<NthBest>(0);
  GenerationOptions external{.max_length = 20, .min_length = 20};
  external.sampler = sampler;
  Session session(c.model);
  const RequestId id = session.submit(c.prompts[0], contrastive);
  (void)session.submit(c.prompts[1], external);
  for (int step = 0; step < 60; ++step) {
    sampler->fails = step % 3 == 1;
    try {
      if (!session.step()) break;
    } catch (const std::runtime_error&) {
    }
  }
  const Hypothesis got = session.take(id)[0];
  EXPECT_EQ(got.ids, expected.ids);
  EXPECT_EQ(got.token_log_probs, expected.token_log_probs);
}

TEST(Session, refuses_calls_from_inside_its_own_callback) {
  const Case c(test::gpt2_like(), 1, 2);
  Session session(c.model);
  const RequestId id = session.submit(c.prompts[0], {.max_new_tokens = 5, .min_new_tokens = 5});
  int refused = 0;
  const auto refuses = [&](const auto& call) {
    try {
      call();
    } catch (const Error& error) {
      refused += error.kind() == ErrorKind::runtime;
    }
  };
  (void)session.step([&](const NewToken&) {
    refuses([&] { session.cancel(id); });
    refuses([&] { (void)session.step(); });
    refuses([&] { session.release_memory(); });
    refuses([&] { (void)session.forward(c.prompts); });
    EXPECT_EQ(session.ids(id).size(), c.starts[0].size() + 1);
    return false;
  });
  EXPECT_EQ(refused, 4);
  while (session.step()) {
  }
  EXPECT_EQ(session.take(id)[0].ids.size(), c.starts[0].size() + 5);
}

TEST(Stream, rows_are_places_in_the_list_whatever_their_seeds) {
  const Case c(test::gpt2_like(), 1, 3);
  std::vector<Prompt> prompts = c.prompts;
  prompts[0].seed = 5;
  prompts[1].seed = 5;
  prompts[2].sequence = 77;
  std::set<int64_t> rows;
  (void)generate(*c.model, prompts, kDraws, {.on_token = [&](const NewToken& token) {
    rows.insert(token.row);
    return false;
  }});
  EXPECT_EQ(rows, (std::set<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8}));
}

// ---- everything at once -------------------------------------------------------------------------

// What the thread sanitizer should see: callbacks, cancels, and two sessions of one model.
TEST(Session, mixed_requests_with_callbacks_and_cancels_run_beside_another_session) {
  const Case c(test::bart_like(), 2, 8);
  std::vector<GenerationOptions> kinds(5, {.max_new_tokens = 10});
  kinds[1] = kDraws;
  kinds[2].num_beams = 3;
  kinds[3].top_k = 3;
  kinds[3].penalty_alpha = 0.6f;
  kinds[4].sampler = std::make_shared<NthBest>(0);
  const auto work = [&] {
    Session session(c.model, {.num_threads = 2, .max_rows = 9});
    std::vector<RequestId> ids;
    for (size_t i = 0; i < 24; ++i) {
      GenerationOptions options = kinds[i % kinds.size()];
      if (options.sampler != nullptr) options.sampler = std::make_shared<NthBest>(0);
      ids.push_back(session.submit(c.prompts[i % c.prompts.size()], options));
    }
    int64_t told = 0;
    for (size_t step = 0; session.step([&](const NewToken&) { return ++told % 7 == 0; }); ++step) {
      if (step < ids.size() && step % 5 == 4) session.cancel(ids[step]);
    }
    for (const RequestId id : ids) EXPECT_FALSE(session.take(id).empty());
    EXPECT_GT(told, 24);
  };
  std::thread other(work);
  work();
  other.join();
}

}  // namespace
}  // namespace fuseq
