// SPDX-License-Identifier: Apache-2.0
// What operator new does, counted or refused: a decode step allocates nothing, and a team of
// threads that gets no memory ends.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <vector>

#include "base/memory.h"
#include "base/thread_team.h"
#include "fuseq/session.h"
#include "random_model.h"

namespace {
std::atomic<int64_t> num_news = 0;
std::atomic<int64_t> news_until_refusal = -1;  ///< negative: none is refused
}  // namespace

[[gnu::noinline]] void* operator new(size_t size) {
  ++num_news;
  if (news_until_refusal >= 0 && news_until_refusal-- == 0) throw std::bad_alloc();
  if (void* data = std::malloc(size > 0 ? size : 1)) return data;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* data) noexcept {
  std::free(data);
}
[[gnu::noinline]] void operator delete(void* data, size_t) noexcept {
  std::free(data);
}

namespace fuseq {
namespace {

/// All rules, under every way of choosing ids.
std::vector<GenerationOptions> all_ways() {
  std::vector<GenerationOptions> ways(5, {.max_length = 60,
                                          .min_length = 60,
                                          .repetition_penalty = 1.2f,
                                          .no_repeat_ngram_size = 3,
                                          .suppress_token_ids = {5},
                                          .logit_bias = {{7, 1.0f}},
                                          .return_scores = true});
  ways[1].num_beams = 4;
  ways[2].do_sample = true;
  ways[2].top_p = 0.9f;
  ways[2].num_return_sequences = 3;
  ways[3].do_sample = true;
  ways[3].top_k = 5;
  ways[4].penalty_alpha = 0.6f;
  ways[4].top_k = 4;
  return ways;
}

TEST(Step, does_not_allocate) {
  for (const auto& [name, spec] : test::all_specs()) {
    const auto model = test::build(spec, test::random_weights(spec, 7), {.num_threads = 2});
    for (const GenerationOptions& options : all_ways()) {
      Session session(model);
      const std::vector<int32_t> ids{1, 2, 3};
      for (int i = 0; i < 3; ++i) {
        Prompt prompt{.decoder_ids = ids};
        if (spec.is_seq2seq()) prompt.encoder_ids = ids;
        (void)session.submit(prompt, options);
      }
      for (int i = 0; i < 3; ++i)
        (void)session.step();  // Admission, and vectors that find their size.
      const int64_t news = num_news;
      const uint64_t blocks = num_allocations();
      for (int i = 0; i < 40; ++i) ASSERT_TRUE(session.step());
      EXPECT_EQ(num_news, news) << name << ": " << generation_options_to_json(options);
      EXPECT_EQ(num_allocations(), blocks) << name << ": " << generation_options_to_json(options);
    }
  }
}

TEST(ThreadTeam, ends_its_workers_when_memory_runs_out_while_they_start) {
  int refusals = 0;
  for (bool refused = true; refused; refusals += refused) {
    ThreadTeam team(4);
    std::atomic<int> calls = 0;
    const auto work = [&](int, int) { ++calls; };
    news_until_refusal = refusals;
    refused = false;
    try {
      team.run(work);
    } catch (const std::bad_alloc&) {
      refused = true;
    }
    news_until_refusal = -1;
    EXPECT_EQ(calls, refused ? 0 : 4);
    team.run(work);
    EXPECT_EQ(calls, refused ? 4 : 8);
  }
  EXPECT_GE(refusals, 4) << "the list of threads, and each of three threads";
}

}  // namespace
}  // namespace fuseq
