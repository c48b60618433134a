// SPDX-License-Identifier: Apache-2.0
// log_softmax, process, select and probabilities against their plain versions.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "decode_arrays.h"
#include "fuseq/error.h"
#include "fuseq/ops.h"
#include "kernels/ref/decode_ops_ref.h"

namespace fuseq::inline v0 {
namespace {

// ---- log_softmax --------------------------------------------------------------------------------

TEST(LogSoftmax, equals_the_reference_and_itself_on_any_threads_and_instruction_set) {
  for (const int64_t V : {1, 2, 15, 16, 17, 100, 8191, 8192, 8193, 16411, 50265}) {
    for (const int64_t N : {0, 1, 3, 8}) {
      std::vector<float> x = random_scores(static_cast<uint32_t>(V + N), N * V);
      for (size_t i = 1; i < x.size(); i += 7) x[i] = V > 1 && i % 3 == 0 ? -kInf : x[i] * 20;
      std::vector<float> expected(x.size());
      ref::log_softmax(x.data(), N, V, expected.data());
      std::vector<float> vector_result;
      for (const CpuIsa isa : isas()) {
        std::vector<float> isa_result;
        for (const int threads : {1, 2, 3, 7}) {
          Context ctx = make_context(isa, threads);
          std::vector<float> y = x;
          log_softmax(ctx, {y.data(), DType::f32, {N, V}}, {y.data(), DType::f32, {N, V}});
          for (size_t i = 0; i < y.size(); ++i) {
            if (expected[i] == -kInf) {
              ASSERT_EQ(y[i], -kInf);
            } else {
              ASSERT_NEAR(y[i], expected[i], 1e-6f * std::max(4.0f, std::abs(expected[i])))
                  << V << " " << i;
            }
          }
          if (threads == 1) isa_result = y;
          EXPECT_TRUE(same_bits(y, isa_result)) << V << " " << N << " " << threads;
        }
        if (isa == CpuIsa::portable) continue;
        if (vector_result.empty()) vector_result = isa_result;
        EXPECT_TRUE(same_bits(vector_result, isa_result)) << V << " " << N;
      }
    }
  }
}

TEST(LogSoftmax, holds_for_scores_of_any_size) {
  // Around -88.7 and -266.2 e ** -most is no float; V has blocks of scores that fill a vector or
  // not.
  for (const int64_t V : {1, 33, 512, 520, 50265}) {
    for (const float most : {-88.4f, -88.7f, -89.0f, -266.2f, -1e5f, -3e38f, 88.7f, 1e5f, 3e38f}) {
      std::vector<float> x(static_cast<size_t>(V));
      for (size_t i = 0; i < x.size(); ++i) x[i] = most - static_cast<float>(i % 7);
      std::vector<float> expected(x.size());
      ref::log_softmax(x.data(), 1, V, expected.data());
      for (const CpuIsa isa : isas()) {
        Context ctx = make_context(isa, 2);
        std::vector<float> y(x.size());
        log_softmax(ctx, {x.data(), DType::f32, {1, V}}, {y.data(), DType::f32, {1, V}});
        for (size_t i = 0; i < y.size(); ++i) {
          ASSERT_NEAR(y[i], expected[i], 2e-5f) << V << " " << most << " " << i;
        }
      }
    }
  }
}

TEST(LogSoftmax, rows_may_be_strided) {
  const std::vector<float> x = random_scores(1, 3 * 40);
  std::vector<float> y(3 * 50, 7);
  Context ctx = make_context(CpuIsa::automatic, 2);
  log_softmax(ctx, {x.data(), DType::f32, {3, 33}, {40, 1}},
              {y.data(), DType::f32, {3, 33}, {50, 1}});
  for (size_t n = 0; n < 3; ++n) {
    std::vector<float> expected(33);
    ref::log_softmax(x.data() + n * 40, 1, 33, expected.data());
    for (size_t v = 0; v < 33; ++v) EXPECT_NEAR(y[n * 50 + v], expected[v], 4e-6f);
    EXPECT_EQ(y[n * 50 + 33], 7);
  }
}

TEST(LogSoftmax, says_what_is_wrong_with_its_arguments) {
  Context ctx = make_context(CpuIsa::automatic, 1);
  std::vector<float> x(12);
  const View good(x.data(), DType::f32, {3, 4});
  const auto message = [&](ConstView from, View to) -> std::string {
    try {
      log_softmax(ctx, from, to);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(message({x.data(), DType::i32, {3, 4}}, good),
            "log_softmax: x must be float32, got int32");
  EXPECT_EQ(message(good, {x.data(), DType::bf16, {3, 4}}),
            "log_softmax: y must be float32, got bfloat16");
  EXPECT_EQ(message({x.data(), DType::f32, {12}}, good),
            "log_softmax: x must have shape [N, V], got [12]");
  EXPECT_EQ(message(good, {x.data(), DType::f32, {4, 3}}),
            "log_softmax: y must have the shape of x, [3, 4], got [4, 3]");
  EXPECT_EQ(message({x.data(), DType::f32, {2, 3}, {6, 2}}, {x.data(), DType::f32, {2, 3}}),
            "log_softmax: elements of a row must be adjacent, got strides 2 in x and 1 in y");
}

// ---- process ------------------------------------------------------------------------------------

/// Three requests of 1, 3 and 2 rows, of any mode, whose rows hold `length` random ids. Some are
/// finished, and some free rows take no part; the logits of the others lie in any order.
Arrays random_requests(uint32_t seed, int64_t V, int32_t length,
                       const std::vector<int32_t>& suppressed, const std::vector<IdBias>& biased) {
  std::mt19937 random(seed);
  const auto below = [&](uint32_t bound) { return static_cast<int32_t>(random() % bound); };
  const DecodeMode modes[] = {DecodeMode::beams, DecodeMode::sample, DecodeMode::contrastive,
                              DecodeMode::external};
  std::vector<DecodeRules> rules(3);
  for (DecodeRules& request : rules) {
    request.mode = modes[random() % 4];
    request.return_scores = below(2) != 0;
    request.filter.temperature = std::vector{1.0f, 0.7f, 2.5f}[random() % 3];
    request.filter.top_k = below(2) * 3;
    request.seed = random();
    request.prompt_length = 1;
    request.max_length = below(2) != 0 ? length + 1 : length + 5;
    request.min_length = below(2) * (length + 1);
    request.repetition_penalty = below(2) != 0 ? 1.3f : 1.0f;
    request.no_repeat_ngram_size = below(4);
    request.forced_bos_id = below(3) == 0 ? 1 : -1;
    request.forced_eos_id = below(3) == 0 ? 2 : -1;
    request.num_stop_ids = below(3);
    request.stop_ids[0] = 2;
    request.stop_ids[1] = 3;
    request.suppressed = suppressed.data();
    request.num_suppressed = below(2) * static_cast<int32_t>(suppressed.size());
    request.biased = biased.data();
    request.num_biased = below(2) * static_cast<int32_t>(biased.size());
  }
  if (below(2) != 0) rules[0].mode = DecodeMode::greedy;
  rules[1].num_rows = 3;
  rules[2].num_rows = 2;
  Arrays arrays(rules, 20, V);
  for (int32_t n = 0; n < arrays.state.num_rows; ++n) {
    std::vector<int32_t> row(static_cast<size_t>(length));
    for (int32_t& id : row) id = below(5);
    arrays.set_row(n, row);
    arrays.scores[static_cast<size_t>(n)] = static_cast<float>(-n);
  }
  std::shuffle(arrays.logit_rows.begin(), arrays.logit_rows.end(), random);
  for (size_t slot = 0; slot < 3; ++slot) {
    const DecodeRules& request = arrays.rules[slot];
    arrays.done[slot] = below(6) == 0;
    if (request.mode == DecodeMode::contrastive) arrays.winner[slot] = below(2) % request.num_rows;
    if (request.mode != DecodeMode::sample && request.mode != DecodeMode::external) continue;
    for (int32_t row = request.first_row; row < request.first_row + request.num_rows; ++row) {
      if (below(3) == 0) arrays.logit_rows[static_cast<size_t>(row)] = -1;
    }
  }
  arrays.logits = random_scores(seed, arrays.state.num_rows * V);
  arrays.model_logits.assign(arrays.logits.size(), 9.0f);
  for (int32_t& id : arrays.candidate_ids) id = below(5);
  return arrays;
}

TEST(Process, equals_the_reference_for_random_rules) {
  const std::vector<int32_t> suppressed = {4, 0};
  const std::vector<IdBias> biased = {{3, 1.5f}, {1, -2.0f}, {4, 9.0f}};
  for (uint32_t seed = 0; seed < 300; ++seed) {
    const int64_t V = seed % 50 == 0 ? 9001 : 5 + seed % 40;
    const Arrays start =
        random_requests(seed, V, static_cast<int32_t>(1 + seed % 12), suppressed, biased);
    const std::vector<int32_t> active =
        seed % 2 != 0 ? std::vector<int32_t>{2, 1} : std::vector<int32_t>{0, 1, 2};
    std::vector<bool> is_beam(static_cast<size_t>(start.state.num_rows));  // by row of logits
    for (const DecodeRules& request : start.rules) {
      for (int32_t row = request.first_row; row < request.first_row + request.num_rows; ++row) {
        const int32_t at = start.logit_rows[static_cast<size_t>(row)];
        if (request.mode == DecodeMode::beams) is_beam[static_cast<size_t>(at)] = true;
      }
    }
    Arrays expected = start;
    ref::process(expected.view(), active);
    std::vector<float> vector_result;
    for (const CpuIsa isa : isas()) {
      for (const int threads : {1, 3}) {
        Context ctx = make_context(isa, threads);
        Arrays got = start;
        process(ctx, got.view(), active);
        for (size_t i = 0; i < got.logits.size(); ++i) {
          const size_t row = i / static_cast<size_t>(V);
          const float e = expected.logits[i];
          if (!is_beam[row] || e == -kInf) {
            ASSERT_EQ(got.logits[i], e)
                << "seed " << seed << " row " << row << " id " << i % static_cast<size_t>(V);
          } else {
            ASSERT_NEAR(got.logits[i], e, 2e-5f) << "seed " << seed;
          }
        }
        EXPECT_TRUE(same_bits(got.model_logits, expected.model_logits)) << "seed " << seed;
        if (isa == CpuIsa::portable) continue;
        if (vector_result.empty()) vector_result = got.logits;
        EXPECT_TRUE(same_bits(vector_result, got.logits))
            << "seed " << seed << " threads " << threads;
      }
    }
  }
}

TEST(Process, an_id_that_occurs_twice_is_penalised_once) {
  DecodeRules rules;
  rules.max_length = 9;
  rules.repetition_penalty = 2;
  Arrays arrays({rules}, 9, 4);
  arrays.set_row(0, {1, 2, 1});
  arrays.logits = {3, 4, -4, 5};
  Context ctx = make_context(CpuIsa::automatic, 1);
  process(ctx, arrays.view(), std::vector<int32_t>{0});
  EXPECT_EQ(arrays.logits, (std::vector<float>{3, 2, -8, 5}));
}

// ---- select -------------------------------------------------------------------------------------

TEST(Select, equals_the_reference_with_ties_nan_and_infinities) {
  for (uint32_t seed = 0; seed < 120; ++seed) {
    std::mt19937 random(seed);
    std::vector<DecodeRules> rules(3);
    const int64_t V = seed % 10 == 0 ? 20011 : 4 + seed % 90;
    for (DecodeRules& request : rules) {
      request.num_rows = static_cast<int32_t>(1 + random() % 5);
      request.num_stop_ids =
          static_cast<int32_t>(random() % 4);  // V = 4 has just enough ids for three
    }
    Arrays start(rules, 4, V);
    for (float& score : start.scores) score = static_cast<float>(random() % 3) * -0.5f;
    for (float& logit : start.logits) {
      const uint32_t kind = random() % 16;
      // Few values, so that many tie; in some runs nearly all are -inf.
      logit = kind == 0 || (seed % 4 == 0 && kind < 15) ? -kInf
              : kind == 1                               ? kNan
                                                        : static_cast<float>(kind % 5) * 0.5f;
    }
    if (seed == 7) std::fill(start.logits.begin(), start.logits.end(), kNan);
    const std::vector<int32_t> active = {0, 1, 2};
    Arrays expected = start;
    ref::select(expected.view(), active);
    for (const CpuIsa isa : isas()) {
      for (const int threads : {1, 2, 3, 7}) {
        Context ctx = make_context(isa, threads);
        Arrays got = start;
        select(ctx, got.view(), active);
        EXPECT_EQ(got.candidate_ids, expected.candidate_ids) << "seed " << seed;
        EXPECT_EQ(got.candidate_beams, expected.candidate_beams) << "seed " << seed;
        EXPECT_EQ(got.candidate_scores, expected.candidate_scores) << "seed " << seed;
      }
    }
  }
}

/// The candidates of one row as free rows have them, by ref::draw where it draws.
void expect_free_row(const Arrays& start, Arrays& expected, const DecodeRules& rules, int32_t row) {
  const auto at = static_cast<size_t>(row);
  const auto V = static_cast<size_t>(start.state.vocab);
  const auto logit_row = static_cast<size_t>(start.logit_rows[at]);
  const std::span scores(start.logits.data() + logit_row * V, V);
  const size_t candidate = at * kMaxCandidatesPerRow;
  if (rules.mode == DecodeMode::sample) {
    const auto step = static_cast<uint32_t>(start.lengths[at] - rules.prompt_length);
    const DrawKey key{.seed = rules.seed,
                      .sequence = rules.sequence,
                      .sample = static_cast<uint32_t>(row - rules.first_row),
                      .step = step};
    const int32_t id = ref::draw(scores, rules.filter, key)[0].id;
    expected.candidate_ids[candidate] = id;
    expected.candidate_beams[candidate] = row - rules.first_row;
    expected.candidate_scores[candidate] = scores[static_cast<size_t>(id)];
  }
  if (rules.return_scores) {
    std::vector<float> log_probs(V);
    ref::log_softmax(start.model_logits.data() + logit_row * V, 1, start.state.vocab,
                     log_probs.data());
    expected.candidate_log_probs[candidate] =
        log_probs[static_cast<size_t>(expected.candidate_ids[candidate])];
  }
}

TEST(Select, equals_the_reference_in_every_mode) {
  const std::vector<int32_t> suppressed = {4, 0};
  const std::vector<IdBias> biased = {{3, 1.5f}, {1, -2.0f}};
  for (uint32_t seed = 0; seed < 200; ++seed) {
    const int64_t V = seed % 40 == 0 ? 9001 : 8 + seed % 40;
    Arrays start =
        random_requests(seed, V, static_cast<int32_t>(1 + seed % 12), suppressed, biased);
    const std::vector<int32_t> active =
        seed % 2 != 0 ? std::vector<int32_t>{2, 1} : std::vector<int32_t>{0, 1, 2};
    Context first_ctx = make_context(CpuIsa::portable, 1);
    process(first_ctx, start.view(), active);
    Arrays expected = start;
    std::vector<int32_t> lists;  // requests that ref::select knows
    for (const int32_t slot : active) {
      const DecodeRules& rules = start.rules[static_cast<size_t>(slot)];
      if (rules.mode != DecodeMode::sample && rules.mode != DecodeMode::external) {
        lists.push_back(slot);
        continue;
      }
      for (int32_t row = rules.first_row; row < rules.first_row + rules.num_rows; ++row) {
        if (start.done[static_cast<size_t>(slot)] == 0 &&
            start.logit_rows[static_cast<size_t>(row)] >= 0) {
          expect_free_row(start, expected, rules, row);
        }
      }
    }
    ref::select(expected.view(), lists);
    std::vector<float> vector_scores, vector_log_probs;
    for (const CpuIsa isa : isas()) {
      for (const int threads : {1, 2, 3, 7}) {
        if (threads > 1 && seed % 10 != 0) continue;
        Context ctx = make_context(isa, threads);
        Arrays got = start;
        select(ctx, got.view(), active);
        ASSERT_EQ(got.candidate_ids, expected.candidate_ids) << "seed " << seed;
        ASSERT_EQ(got.candidate_beams, expected.candidate_beams) << "seed " << seed;
        for (size_t c = 0; c < got.candidate_scores.size(); ++c) {
          const float e = expected.candidate_scores[c];
          ASSERT_TRUE(got.candidate_scores[c] == e || std::abs(got.candidate_scores[c] - e) < 2e-6f)
              << "seed " << seed << " " << got.candidate_scores[c] << " " << e;
          ASSERT_NEAR(got.candidate_log_probs[c], expected.candidate_log_probs[c], 1e-5f);
        }
        EXPECT_TRUE(same_bits(got.logits, start.logits));
        if (isa == CpuIsa::portable) continue;
        if (vector_scores.empty()) vector_scores = got.candidate_scores;
        if (vector_log_probs.empty()) vector_log_probs = got.candidate_log_probs;
        EXPECT_TRUE(same_bits(got.candidate_scores, vector_scores)) << "seed " << seed;
        EXPECT_TRUE(same_bits(got.candidate_log_probs, vector_log_probs)) << "seed " << seed;
      }
    }
  }
}

TEST(Select, needs_enough_ids_for_its_candidates) {
  DecodeRules rules;
  rules.num_rows = 2;
  rules.num_stop_ids = 3;
  Arrays arrays({rules}, 4, 3);
  Context ctx = make_context(CpuIsa::automatic, 1);
  EXPECT_THROW(select(ctx, arrays.view(), std::vector<int32_t>{0}), Error);
}

// ---- probabilities ------------------------------------------------------------------------------

TEST(Probabilities, are_the_softmax_of_the_listed_rows) {
  for (const int64_t V : {1, 2, 15, 16, 17, 1003, 50265}) {
    DecodeRules rules;
    rules.mode = DecodeMode::external;
    rules.num_rows = 5;
    Arrays arrays({rules}, 2, V);
    arrays.logits = random_scores(3, 5 * V);
    for (size_t i = 1; i < arrays.logits.size(); i += 3) {  // the first id of a row stays
      if (i % static_cast<size_t>(V) != 0) arrays.logits[i] = i % 2 == 0 ? -kInf : kNan;
    }
    arrays.logit_rows = {3, -1, 0, 4, 1};
    const std::vector<int32_t> rows = {4, 0, 2};
    for (const float temperature : {1.0f, 0.3f, 4.0f, 1e-9f}) {
      std::vector<float> vector_result;
      for (const CpuIsa isa : isas()) {
        std::vector<float> isa_result;
        for (const int threads : {1, 2, 3, 7}) {
          Context ctx = make_context(isa, threads);
          std::vector<float> got(rows.size() * static_cast<size_t>(V), 7.0f);
          probabilities(ctx, arrays.view(), rows, temperature, got.data());
          if (threads == 1) isa_result = got;
          EXPECT_TRUE(same_bits(got, isa_result)) << V << " " << threads;
        }
        for (size_t i = 0; i < rows.size(); ++i) {
          const int64_t logit_row = arrays.logit_rows[static_cast<size_t>(rows[i])];
          std::vector<double> p(arrays.logits.begin() + logit_row * V,
                                arrays.logits.begin() + (logit_row + 1) * V);
          double best = -std::numeric_limits<double>::infinity();
          for (const double x : p) best = x > best ? x : best;
          double sum = 0;
          for (double& x : p) {
            x = std::isnan(x) ? 0 : std::exp((x - best) / double{temperature});
            sum += x;
          }
          for (size_t v = 0; v < p.size(); ++v) {
            ASSERT_NEAR(isa_result[i * p.size() + v], p[v] / sum, 3e-6 * p[v] / sum + 1e-37)
                << V << " " << v;
          }
        }
        if (isa == CpuIsa::portable) continue;
        if (vector_result.empty()) vector_result = isa_result;
        EXPECT_TRUE(same_bits(vector_result, isa_result)) << V;
      }
    }
  }
}

}  // namespace
}  // namespace fuseq::inline v0
