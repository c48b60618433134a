// SPDX-License-Identifier: Apache-2.0
// Whole searches: every step of advance against its plain version, and the end against a search
// that keeps its hypotheses as objects.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "base/memory.h"
#include "decode_arrays.h"
#include "kernels/ref/decode_ops_ref.h"

namespace fuseq::inline v0 {
namespace {

/// Everything that select and advance promise, of two states.
void expect_equal_states(const Arrays& a, const Arrays& b) {
  EXPECT_EQ(a.done, b.done);
  EXPECT_EQ(a.improvable, b.improvable);
  EXPECT_EQ(a.lengths, b.lengths);
  EXPECT_EQ(a.pool_lengths, b.pool_lengths);
  EXPECT_EQ(a.pool_done, b.pool_done);
  EXPECT_TRUE(same_bits(a.scores, b.scores));
  EXPECT_TRUE(same_bits(a.pool_scores, b.pool_scores));
  for (int64_t n = 0; n < a.state.num_rows; ++n) {
    const int64_t length = a.lengths[static_cast<size_t>(n)];
    EXPECT_EQ(a.row(a.ids, n, length), b.row(b.ids, n, length));
    EXPECT_EQ(a.row(a.lanes, n, length), b.row(b.lanes, n, length));
    const int64_t pool_length = a.pool_lengths[static_cast<size_t>(n)];
    EXPECT_EQ(a.row(a.pool_ids, n, pool_length), b.row(b.pool_ids, n, pool_length));
  }
}

struct Hypothesis {
  std::vector<int32_t> ids;
  float score;
};

/// A model: logits that depend on all ids so far.
std::vector<float> model_logits(uint32_t seed, const std::vector<int32_t>& ids, int64_t V) {
  for (const int32_t id : ids) seed = (seed ^ static_cast<uint32_t>(id)) * 16777619u;
  return random_scores(seed, V);
}

/// Log-probabilities (beams) or logits (greedy) of the next id after the rules, by way of the
/// tested op.
std::vector<float> next_scores(Context& ctx, uint32_t seed, const DecodeRules& rules,
                               const std::vector<int32_t>& ids, int64_t V) {
  Arrays one({rules}, static_cast<int64_t>(ids.size()) + 1, V);
  one.logits = {};
  for (int b = 0; b < rules.num_beams; ++b) {
    one.set_row(b, ids);
    const std::vector<float> logits = model_logits(seed, ids, V);
    one.logits.insert(one.logits.end(), logits.begin(), logits.end());
  }
  process(ctx, one.view(), std::vector<int32_t>{0});
  one.logits.resize(static_cast<size_t>(V));
  return one.logits;
}

/// A beam search that keeps its hypotheses as objects: those that run, and at most W that are
/// finished.
std::vector<Hypothesis> search(Context& ctx, uint32_t seed, const DecodeRules& rules,
                               const std::vector<int32_t>& prompt, int64_t V) {
  const auto W = static_cast<size_t>(rules.num_beams);
  const size_t K = static_cast<size_t>(rules.num_candidates());
  const auto better = [](const Hypothesis& a, const Hypothesis& b) { return a.score > b.score; };
  std::vector<Hypothesis> running(W, {prompt, -1e9f});
  running[0].score = 0;
  std::vector<Hypothesis> finished;
  bool open = true;
  while (true) {
    std::vector<Hypothesis> next;
    for (const Hypothesis& hypothesis : running) {
      const std::vector<float> scores = next_scores(ctx, seed, rules, hypothesis.ids, V);
      for (int32_t id = 0; id < V; ++id) {
        next.push_back({hypothesis.ids, hypothesis.score + scores[static_cast<size_t>(id)]});
        next.back().ids.push_back(id);
      }
    }
    std::stable_sort(next.begin(), next.end(), better);
    next.resize(K);
    const bool may_finish =
        open && !(rules.early_stopping == EarlyStopping::yes && finished.size() == W);
    const size_t new_tokens = next[0].ids.size() - prompt.size();
    const auto per_token = [&](float score, size_t length) {
      return score / static_cast<float>(std::pow(double(length), double(rules.length_penalty)));
    };
    bool any_goes_on = false;
    std::vector<Hypothesis> goes_on;
    for (size_t c = 0; c < K; ++c) {
      const int32_t id = next[c].ids.back();
      const bool ends = static_cast<int32_t>(next[c].ids.size()) == rules.max_length ||
                        std::count(rules.stop_ids, rules.stop_ids + rules.num_stop_ids, id) > 0;
      any_goes_on |= !ends;
      // One that ended goes on only where nothing else is left: all others are suppressed, say.
      goes_on.push_back({next[c].ids, next[c].score + (ends ? -1e9f : 0.0f)});
      const float score = per_token(next[c].score, new_tokens);
      if (ends && c < W && may_finish && score > -1e9f) finished.push_back({next[c].ids, score});
    }
    std::stable_sort(goes_on.begin(), goes_on.end(), better);
    goes_on.resize(W);
    running = goes_on;
    std::stable_sort(finished.begin(), finished.end(), better);
    if (finished.size() > W) finished.resize(W);
    const bool looks_ahead =
        rules.early_stopping == EarlyStopping::never && rules.length_penalty > 0;
    const size_t length =
        looks_ahead ? static_cast<size_t>(rules.max_length) - prompt.size() : new_tokens;
    open = open && per_token(running[0].score, length) >
                       (finished.size() == W ? finished.back().score : -1e9f);
    if (!any_goes_on || !open ||
        (rules.early_stopping == EarlyStopping::yes && finished.size() == W))
      return finished;
  }
}

/// One covering set of options: every request of a test gets another combination.
DecodeRules option_mix(uint32_t n, int32_t prompt_length, const std::vector<int32_t>& suppressed,
                       const std::vector<IdBias>& biased) {
  const int32_t beams[] = {2, 1, 4, 5, 3};
  const float penalties[] = {1, -1, 0, 2, 0.6f};
  const EarlyStopping stops[] = {EarlyStopping::no, EarlyStopping::yes, EarlyStopping::never};
  DecodeRules rules;
  rules.num_beams = beams[n % 5];
  rules.prompt_length = prompt_length;
  rules.length_penalty = penalties[n / 5 % 5];
  rules.early_stopping = stops[n % 3];
  rules.num_stop_ids = static_cast<int32_t>(n / 3 % 4);
  for (int32_t i = 0; i < rules.num_stop_ids; ++i) rules.stop_ids[i] = i + 1;
  rules.max_length = prompt_length + 1 + static_cast<int32_t>(n / 7 % 14);
  rules.min_length = n / 2 % 4 == 0 ? prompt_length + 3 : 0;
  rules.no_repeat_ngram_size = n / 4 % 5 == 0 ? 2 : 0;
  rules.repetition_penalty = n / 6 % 3 == 0 ? 1.4f : 1.0f;
  rules.forced_bos_id = n / 5 % 4 == 0 ? 0 : -1;
  rules.forced_eos_id = n / 8 % 3 == 0 ? 1 : -1;
  rules.suppressed = suppressed.data();
  rules.num_suppressed = n / 9 % 3 == 0 ? static_cast<int32_t>(suppressed.size()) : 0;
  rules.biased = biased.data();
  rules.num_biased = n / 10 % 3 == 0 ? static_cast<int32_t>(biased.size()) : 0;
  return rules;
}

/// Runs six requests of different options together, checking every step against ref and the place
/// of every id, and the end against `search`.
void run_searches(Context& ctx, uint32_t first, int64_t V) {
  const std::vector<int32_t> suppressed = {0};
  const std::vector<IdBias> biased = {{1, 1.0f}, {2, -1.0f}};
  std::vector<DecodeRules> rules;
  for (uint32_t n = first; n < first + 6; ++n) {
    rules.push_back(option_mix(n, static_cast<int32_t>(1 + n % 3), suppressed, biased));
  }
  Arrays arrays(rules, 20, V);
  std::vector<std::vector<int32_t>> prompts;
  for (const DecodeRules& request : arrays.rules) {
    prompts.emplace_back(static_cast<size_t>(request.prompt_length), 3);
    for (int32_t b = 0; b < request.num_beams; ++b)
      arrays.set_row(request.first_row + b, prompts.back());
  }
  // The cache of each row's lane: which id was stored at each position.
  std::vector<int32_t> cache = arrays.ids;
  for (std::vector<int32_t> active = arrays.active(); !active.empty(); active = arrays.active()) {
    for (const int32_t slot : active) {
      const DecodeRules& request = arrays.rules[static_cast<size_t>(slot)];
      for (int32_t n = request.first_row; n < request.first_row + request.num_beams; ++n) {
        const std::vector<int32_t> ids =
            arrays.row(arrays.ids, n, arrays.lengths[static_cast<size_t>(n)]);
        const std::vector<float> logits = model_logits(first, ids, V);
        std::copy(logits.begin(), logits.end(), arrays.logits.begin() + n * V);
      }
    }
    process(ctx, arrays.view(), active);
    Arrays expected = arrays;
    ref::select(expected.view(), active);
    ref::advance(expected.view(), active);
    select(ctx, arrays.view(), active);
    advance(ctx, arrays.view(), active);
    expect_equal_states(arrays, expected);
    ASSERT_FALSE(testing::Test::HasFailure()) << "first " << first << " V " << V;

    for (const int32_t slot : active) {
      const DecodeRules& request = arrays.rules[static_cast<size_t>(slot)];
      for (int32_t b = 0; b < request.num_beams; ++b) {  // what the next pass does
        const int64_t n = request.first_row + b;
        const int64_t last = n * 20 + arrays.lengths[static_cast<size_t>(n)] - 1;
        arrays.lanes[static_cast<size_t>(last)] = b;
        cache[static_cast<size_t>(last)] = arrays.ids[static_cast<size_t>(last)];
      }
      for (int64_t n = request.first_row; n < request.first_row + request.num_beams; ++n) {
        for (int64_t t = 0; t < arrays.lengths[static_cast<size_t>(n)]; ++t) {
          const int64_t lane = request.first_row + arrays.lanes[static_cast<size_t>(n * 20 + t)];
          ASSERT_EQ(cache[static_cast<size_t>(lane * 20 + t)],
                    arrays.ids[static_cast<size_t>(n * 20 + t)]);
        }
      }
    }
  }
  for (size_t slot = 0; slot < arrays.rules.size(); ++slot) {
    const DecodeRules& request = arrays.rules[slot];
    std::vector<Hypothesis> got;
    for (int64_t n = request.first_row; n < request.first_row + request.num_beams; ++n) {
      const auto at = static_cast<size_t>(n);
      if (request.num_beams == 1) {
        got.push_back({arrays.row(arrays.ids, n, arrays.lengths[at]), 0});
      } else if (arrays.pool_done[at] != 0) {
        got.push_back(
            {arrays.row(arrays.pool_ids, n, arrays.pool_lengths[at]), arrays.pool_scores[at]});
      }
    }
    if (request.num_beams == 1) {
      std::vector<int32_t> ids = prompts[slot];
      do {
        const std::vector<float> scores = next_scores(ctx, first, request, ids, V);
        ids.push_back(
            static_cast<int32_t>(std::max_element(scores.begin(), scores.end()) - scores.begin()));
      } while (static_cast<int32_t>(ids.size()) < request.max_length &&
               std::count(request.stop_ids, request.stop_ids + request.num_stop_ids, ids.back()) ==
                   0);
      EXPECT_EQ(got[0].ids, ids) << "first " << first << " slot " << slot << " V " << V;
      continue;
    }
    const std::vector<Hypothesis> expected = search(ctx, first, request, prompts[slot], V);
    ASSERT_EQ(got.size(), expected.size()) << "first " << first << " slot " << slot << " V " << V;
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].ids, expected[i].ids) << "first " << first << " slot " << slot << " V " << V;
      EXPECT_EQ(got[i].score, expected[i].score)
          << "first " << first << " slot " << slot << " V " << V;
    }
  }
}

TEST(Advance, searches_equal_one_that_keeps_objects_for_all_options) {
  for (const CpuIsa isa : isas()) {
    Context ctx = make_context(isa, isa == CpuIsa::avx2 ? 1 : 2);
    for (uint32_t first = 0; first < 300; first += 6) {
      // Four ids are just enough for three stop ids; with few ids there are fewer than K of them.
      for (const int64_t V : {4, 5, 7, 61}) {
        run_searches(ctx, first, V);
        if (HasFailure()) return;
      }
    }
  }
}

TEST(DecodeOps, a_second_step_allocates_nothing) {
  std::vector<DecodeRules> rules(2);
  rules[0].max_length = rules[1].max_length = 30;
  rules[0].repetition_penalty = 1.2f;
  rules[1].num_beams = 4;
  rules[1].prompt_length = 1;
  Arrays arrays(rules, 40, 9000);
  for (int64_t n = 0; n < 5; ++n) arrays.set_row(n, {1});
  Context ctx = make_context(CpuIsa::automatic, 2);
  const std::vector<int32_t> active = {0, 1};
  uint64_t before = 0;
  for (int step = 0; step < 10; ++step) {
    arrays.logits = random_scores(static_cast<uint32_t>(step), 5 * 9000);
    if (step == 1) before = num_allocations();
    process(ctx, arrays.view(), active);
    select(ctx, arrays.view(), active);
    advance(ctx, arrays.view(), active);
  }
  EXPECT_EQ(num_allocations(), before);
}

}  // namespace
}  // namespace fuseq::inline v0
