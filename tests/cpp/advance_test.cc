// SPDX-License-Identifier: Apache-2.0
// Whole searches: every step of advance against its plain version, and the end against a search
// that keeps its hypotheses as objects.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/memory.h"
#include "decode_arrays.h"
#include "kernels/ref/decode_ops_ref.h"

namespace fuseq::inline v0 {
namespace {

/// The parts of two tables from one position of a row on.
void expect_close(const Arrays& arrays, const std::vector<float>& a, const std::vector<float>& b,
                  int64_t row, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const auto at = static_cast<size_t>(row * arrays.state.capacity + t);
    EXPECT_TRUE(a[at] == b[at] || std::abs(a[at] - b[at]) < 1e-5f) << a[at] << " " << b[at];
  }
}

/// Everything that select and advance promise, of two states.
void expect_equal_states(const Arrays& a, const Arrays& b) {
  EXPECT_EQ(a.parents, b.parents);
  EXPECT_EQ(a.stops, b.stops);
  EXPECT_EQ(a.done, b.done);
  EXPECT_EQ(a.improvable, b.improvable);
  EXPECT_EQ(a.lengths, b.lengths);
  EXPECT_EQ(a.pool_lengths, b.pool_lengths);
  EXPECT_EQ(a.pool_stops, b.pool_stops);
  EXPECT_TRUE(same_bits(a.scores, b.scores));
  EXPECT_TRUE(same_bits(a.pool_scores, b.pool_scores));
  for (int64_t n = 0; n < a.state.num_rows; ++n) {
    const int64_t length = a.lengths[static_cast<size_t>(n)];
    EXPECT_EQ(a.row(a.ids, n, length), b.row(b.ids, n, length));
    EXPECT_EQ(a.row(a.lanes, n, length), b.row(b.lanes, n, length));
    const int64_t pool_length = a.pool_lengths[static_cast<size_t>(n)];
    EXPECT_EQ(a.row(a.pool_ids, n, pool_length), b.row(b.pool_ids, n, pool_length));
  }
  for (const DecodeRules& rules : a.rules) {
    if (!rules.return_scores) continue;
    for (int64_t n = rules.first_row; n < rules.first_row + rules.num_rows; ++n) {
      const auto row = static_cast<size_t>(n);
      expect_close(a, a.log_probs, b.log_probs, n, rules.prompt_length, a.lengths[row]);
      expect_close(a, a.pool_log_probs, b.pool_log_probs, n, rules.prompt_length,
                   a.pool_lengths[row]);
    }
  }
}

struct Hypothesis {
  std::vector<int32_t> ids;
  float score;
  Stop stop = Stop::none;
};

/// A model: logits that depend on all ids so far.
std::vector<float> model_logits(uint32_t seed, const std::vector<int32_t>& ids, int64_t V) {
  for (const int32_t id : ids) seed = (seed ^ static_cast<uint32_t>(id)) * 16777619u;
  return random_scores(seed, V);
}

/// Whether the log-probabilities that stand by the new tokens of a row are the model's.
void expect_model_log_probs(uint32_t seed, const std::vector<int32_t>& ids, int32_t prompt_length,
                            const float* log_probs, int64_t V) {
  std::vector<int32_t> past(ids.begin(), ids.begin() + prompt_length);
  for (auto t = static_cast<size_t>(prompt_length); t < ids.size(); ++t) {
    std::vector<float> expected = model_logits(seed, past, V);
    ref::log_softmax(expected.data(), 1, V, expected.data());
    EXPECT_NEAR(log_probs[t], expected[static_cast<size_t>(ids[t])], 1e-5f);
    past.push_back(ids[t]);
  }
}

/// Why the last of a row's ids ends it.
Stop stop_of(const DecodeRules& rules, const std::vector<int32_t>& ids) {
  const int32_t* const end = rules.stop_ids + rules.num_stop_ids;
  if (std::find(rules.stop_ids, end, ids.back()) != end) return Stop::stop_id;
  if (rules.stop_strings != nullptr) {
    std::string text;
    for (size_t t = static_cast<size_t>(rules.prompt_length); t < ids.size(); ++t) {
      text += (*rules.stop_strings->table)[ids[t]];
    }
    const size_t old = text.size() - (*rules.stop_strings->table)[ids.back()].size();
    for (const std::string& string : rules.stop_strings->strings) {
      const size_t at = text.rfind(string);
      if (at != std::string::npos && at + string.size() > old) return Stop::stop_string;
    }
  }
  return static_cast<int32_t>(ids.size()) == rules.max_length ? Stop::max_length : Stop::none;
}

/// Log-probabilities (beams) or logits (other rows) of the next id after the rules, by way of the
/// tested op.
std::vector<float> next_scores(Context& ctx, uint32_t seed, DecodeRules rules,
                               const std::vector<int32_t>& ids, int64_t V) {
  rules.num_rows = 1;
  Arrays one({rules}, static_cast<int64_t>(ids.size()) + 1, V);
  one.set_row(0, ids);
  one.logits = model_logits(seed, ids, V);
  process(ctx, one.view(), std::vector<int32_t>{0});
  return one.logits;
}

/// A beam search that keeps its hypotheses as objects: those that run, and at most W that are
/// finished.
std::vector<Hypothesis> search(Context& ctx, uint32_t seed, const DecodeRules& rules,
                               const std::vector<int32_t>& prompt, int64_t V) {
  const auto W = static_cast<size_t>(rules.num_rows);
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
      const Stop stop = stop_of(rules, next[c].ids);
      const bool ends = stop != Stop::none;
      any_goes_on |= !ends;
      // One that ended goes on only where nothing else is left: all others are suppressed, say.
      goes_on.push_back({next[c].ids, next[c].score + (ends ? -1e9f : 0.0f)});
      const float score = per_token(next[c].score, new_tokens);
      if (ends && c < W && may_finish && score > -1e9f)
        finished.push_back({next[c].ids, score, stop});
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

/// Strings that some rows come to hold; the ids stand for a, b, nothing, ab, a, b, ...
StopStrings stop_strings_of(int64_t V) {
  const std::string_view pieces[] = {"a", "b", "", "ab"};
  std::vector<std::string_view> tokens;
  for (int64_t id = 0; id < V; ++id) tokens.push_back(pieces[id % 4]);
  return {std::make_shared<const TokenBytes>(tokens), {"bba", "aaab", "babab"}};
}

/// One covering set of options: every request of a test gets another combination.
DecodeRules option_mix(uint32_t n, int32_t prompt_length, const std::vector<int32_t>& suppressed,
                       const std::vector<IdBias>& biased, const StopStrings& strings) {
  const int32_t beams[] = {2, 1, 4, 5, 3};
  const float penalties[] = {1, -1, 0, 2, 0.6f};
  const EarlyStopping stops[] = {EarlyStopping::no, EarlyStopping::yes, EarlyStopping::never};
  DecodeRules rules;
  rules.num_rows = beams[n % 5];
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
  rules.return_scores = n / 3 % 2 == 0;
  rules.stop_strings = n / 11 % 2 == 0 ? &strings : nullptr;
  return rules;
}

/// Runs six requests of different options together, checking every step against ref and the place
/// of every id, and the end against `search`.
void run_searches(Context& ctx, uint32_t first, int64_t V) {
  const std::vector<int32_t> suppressed = {0};
  const std::vector<IdBias> biased = {{1, 1.0f}, {2, -1.0f}};
  const StopStrings strings = stop_strings_of(V);
  std::vector<DecodeRules> rules;
  for (uint32_t n = first; n < first + 6; ++n) {
    rules.push_back(option_mix(n, static_cast<int32_t>(1 + n % 3), suppressed, biased, strings));
  }
  Arrays arrays(rules, 20, V);
  std::vector<std::vector<int32_t>> prompts;
  for (const DecodeRules& request : arrays.rules) {
    prompts.emplace_back(static_cast<size_t>(request.prompt_length), 3);
    for (int32_t row = request.first_row; row < request.first_row + request.num_rows; ++row) {
      arrays.set_row(row, prompts.back());
      arrays.pool_lengths[static_cast<size_t>(row)] = request.prompt_length;
    }
  }
  // The cache of each row's lane: which id was stored at each position.
  std::vector<int32_t> cache = arrays.ids;
  for (std::vector<int32_t> active = arrays.active(); !active.empty(); active = arrays.active()) {
    for (const int32_t slot : active) {
      const DecodeRules& request = arrays.rules[static_cast<size_t>(slot)];
      for (int32_t n = request.first_row; n < request.first_row + request.num_rows; ++n) {
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
      for (int32_t b = 0; b < request.num_rows; ++b) {  // what the next pass does
        const int64_t n = request.first_row + b;
        const int64_t last = n * 20 + arrays.lengths[static_cast<size_t>(n)] - 1;
        arrays.lanes[static_cast<size_t>(last)] = b;
        cache[static_cast<size_t>(last)] = arrays.ids[static_cast<size_t>(last)];
      }
      for (int64_t n = request.first_row; n < request.first_row + request.num_rows; ++n) {
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
    const std::vector<float>& log_probs =
        request.num_rows == 1 ? arrays.log_probs : arrays.pool_log_probs;
    for (int64_t n = request.first_row; n < request.first_row + request.num_rows; ++n) {
      const auto at = static_cast<size_t>(n);
      if (request.num_rows == 1) {
        got.push_back({arrays.row(arrays.ids, n, arrays.lengths[at]), 0, arrays.stops[at]});
      } else if (arrays.pool_stops[at] != Stop::none) {
        got.push_back({arrays.row(arrays.pool_ids, n, arrays.pool_lengths[at]),
                       arrays.pool_scores[at], arrays.pool_stops[at]});
      } else {
        continue;
      }
      if (request.return_scores) {
        expect_model_log_probs(first, got.back().ids, request.prompt_length,
                               log_probs.data() + n * arrays.state.capacity, V);
      }
    }
    if (request.num_rows == 1) {
      std::vector<int32_t> ids = prompts[slot];
      do {
        const std::vector<float> scores = next_scores(ctx, first, request, ids, V);
        ids.push_back(
            static_cast<int32_t>(std::max_element(scores.begin(), scores.end()) - scores.begin()));
      } while (stop_of(request, ids) == Stop::none);
      EXPECT_EQ(got[0].ids, ids) << "first " << first << " slot " << slot << " V " << V;
      EXPECT_EQ(got[0].stop, stop_of(request, ids));
      continue;
    }
    const std::vector<Hypothesis> expected = search(ctx, first, request, prompts[slot], V);
    ASSERT_EQ(got.size(), expected.size()) << "first " << first << " slot " << slot << " V " << V;
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].ids, expected[i].ids) << "first " << first << " slot " << slot << " V " << V;
      EXPECT_EQ(got[i].score, expected[i].score)
          << "first " << first << " slot " << slot << " V " << V;
      EXPECT_EQ(got[i].stop, expected[i].stop);
    }
  }
}

TEST(Advance, searches_equal_one_that_keeps_objects_for_all_options) {
  for (const CpuIsa isa : isas()) {
    Context one = make_context(isa, 1);
    Context three = make_context(isa, 3);
    for (uint32_t first = 0; first < 300; first += 6) {
      Context& ctx = first % 60 == 0 ? three : one;
      // Four ids are just enough for three stop ids; with few ids there are fewer than K of them.
      for (const int64_t V : {4, 5, 7, 61}) {
        run_searches(ctx, first, V);
        if (HasFailure()) return;
      }
    }
  }
}

/// Runs rows that draw for themselves, checking every step against ref and the end against one row
/// at a time.
void run_free_rows(Context& ctx, uint32_t first, int64_t V) {
  const std::vector<int32_t> suppressed = {0};
  const std::vector<IdBias> biased = {{1, 1.0f}, {2, -1.0f}};
  const StopStrings strings = stop_strings_of(V);
  const std::vector<int32_t> prompt = {3, 1};
  std::vector<DecodeRules> rules;
  for (uint32_t n = first; n < first + 4; ++n) {
    rules.push_back(option_mix(n, 2, suppressed, biased, strings));
    rules.back().mode = DecodeMode::sample;
    rules.back().num_rows = static_cast<int32_t>(1 + n % 3);
    rules.back().filter = {.temperature = n % 2 == 0 ? 1.0f : 2.0f, .top_k = n % 3 == 0 ? 3 : 0};
    rules.back().seed = uint64_t{n} << 33;
    rules.back().sequence = n;
  }
  Arrays arrays(rules, 20, V);
  for (int64_t n = 0; n < arrays.state.num_rows; ++n) arrays.set_row(n, prompt);
  for (std::vector<int32_t> active = arrays.active(); !active.empty(); active = arrays.active()) {
    int32_t count = 0;  // the rows that go on have their logits one after the other
    for (const int32_t slot : active) {
      const DecodeRules& request = arrays.rules[static_cast<size_t>(slot)];
      for (int32_t n = request.first_row; n < request.first_row + request.num_rows; ++n) {
        const auto row = static_cast<size_t>(n);
        arrays.logit_rows[row] = arrays.stops[row] == Stop::none ? count++ : -1;
        if (arrays.logit_rows[row] < 0) continue;
        const std::vector<float> logits =
            model_logits(first, arrays.row(arrays.ids, n, arrays.lengths[row]), V);
        std::copy(logits.begin(), logits.end(), arrays.logits.begin() + arrays.logit_rows[row] * V);
      }
    }
    process(ctx, arrays.view(), active);
    select(ctx, arrays.view(), active);
    Arrays expected = arrays;
    ref::advance(expected.view(), active);
    advance(ctx, arrays.view(), active);
    expect_equal_states(arrays, expected);
    ASSERT_FALSE(testing::Test::HasFailure()) << "first " << first << " V " << V;
  }
  for (const DecodeRules& request : arrays.rules) {
    for (int32_t sample = 0; sample < request.num_rows; ++sample) {
      const int64_t n = request.first_row + sample;
      const auto row = static_cast<size_t>(n);
      std::vector<int32_t> ids = prompt;
      do {
        const DrawKey key{.seed = request.seed,
                          .sequence = request.sequence,
                          .sample = static_cast<uint32_t>(sample),
                          .step = static_cast<uint32_t>(ids.size() - prompt.size())};
        ids.push_back(
            ref::draw(next_scores(ctx, first, request, ids, V), request.filter, key)[0].id);
      } while (stop_of(request, ids) == Stop::none);
      EXPECT_EQ(arrays.row(arrays.ids, n, arrays.lengths[row]), ids)
          << "first " << first << " row " << n << " V " << V;
      EXPECT_EQ(arrays.stops[row], stop_of(request, ids));
      if (request.return_scores) {
        expect_model_log_probs(first, ids, 2, &arrays.log_probs[row * 20], V);
      }
    }
  }
}

TEST(Advance, free_rows_draw_append_and_end_each_for_itself) {
  for (const CpuIsa isa : isas()) {
    Context one = make_context(isa, 1);
    Context three = make_context(isa, 3);
    for (uint32_t first = 0; first < 300; first += 4) {
      Context& ctx = first % 60 == 0 ? three : one;
      for (const int64_t V : {4, 7, 61}) {
        run_free_rows(ctx, first, V);
        if (HasFailure()) return;
      }
    }
  }
}

TEST(DecodeOps, a_second_step_allocates_nothing) {
  std::vector<DecodeRules> rules(2);
  rules[0].max_length = rules[1].max_length = 30;
  rules[0].repetition_penalty = 1.2f;
  rules[1].num_rows = 4;
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
