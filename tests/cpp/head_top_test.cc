// SPDX-License-Identifier: Apache-2.0
// Steps that keep no logits: linear_top against linear, select_top against process and select, and
// whole generations against those of steps that keep them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/message.h"
#include "decode_arrays.h"
#include "fuseq/generate.h"
#include "kernels/linear_top.h"
#include "op_arrays.h"
#include "random_model.h"

namespace fuseq::inline v0 {
namespace {

// ---- linear_top ---------------------------------------------------------------------------------

/// Lists and sums of N rows, filled with what must be overwritten.
struct TopArrays {
  TopArrays(int64_t N, int64_t count)
      : values(static_cast<size_t>(N * count), kNan),
        ids(values.size(), -7),
        log_sums(static_cast<size_t>(N), LogSum{kNan, kNan}),
        outputs{count, values.data(), ids.data(), log_sums.data()} {}
  TopArrays(const TopArrays&) = delete;

  std::vector<float> values;
  std::vector<int32_t> ids;
  std::vector<LogSum> log_sums;
  TopOutputs outputs;
};

/// The same from whole rows of scores, by sorting.
void sort_rows(Context& ctx, const float* scores, int64_t N, int64_t V, TopArrays& top) {
  const int64_t count = top.outputs.count;
  for (int64_t row = 0; row < N; ++row) {
    const float* x = scores + row * V;
    std::vector<int32_t> order(static_cast<size_t>(V));
    std::iota(order.begin(), order.end(), 0);
    std::erase_if(order, [&](int32_t id) { return !(x[id] > -kInf); });
    std::ranges::stable_sort(order, [&](int32_t a, int32_t b) { return x[a] > x[b]; });
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
      const size_t at = static_cast<size_t>(row * count) + i;
      top.values[at] = i < order.size() ? x[order[i]] : -kInf;
      top.ids[at] = i < order.size() ? order[i] : std::numeric_limits<int32_t>::max();
    }
  }
  log_sums(ctx, {scores, DType::f32, {N, V}}, top.log_sums.data());
}

void expect_equal(const TopArrays& got, const TopArrays& expected, const std::string& what) {
  ASSERT_TRUE(same_bits(got.values, expected.values)) << what;
  ASSERT_EQ(got.ids, expected.ids) << what;
  for (size_t row = 0; row < got.log_sums.size(); ++row) {
    ASSERT_TRUE(same_bits({got.log_sums[row].max, got.log_sums[row].log_sum},
                          {expected.log_sums[row].max, expected.log_sums[row].log_sum}))
        << what << " row " << row << ": " << got.log_sums[row].max << " "
        << got.log_sums[row].log_sum << ", expected " << expected.log_sums[row].max << " "
        << expected.log_sums[row].log_sum;
  }
}

class LinearTop : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Dtypes, LinearTop, testing::Values(DType::f32, DType::bf16, DType::i8),
                         [](const auto& instance) { return std::string(name(instance.param)); });

TEST_P(LinearTop, keeps_the_best_of_what_linear_gives_on_any_threads_and_instruction_set) {
  for (const int64_t I : {1, 20, 192}) {
    for (const int64_t O : {1, 16, 31, 33, 250, 1003}) {
      op_test::Matrix weights(O, I, 1);
      for (int64_t o = 5; o < O; o += 3) {  // rows that are alike: their outputs tie
        std::copy_n(weights.begin(o - 5), I, weights.begin(o));
      }
      Context packer = make_context(CpuIsa::automatic, 1);
      PackedMatrix w(GetParam(), O, I);
      pack(packer, weights.view(), w);
      std::vector<float> bias = op_test::random_floats(2, O);
      for (size_t o = 5; o < bias.size(); o += 3) bias[o] = bias[o - 5];
      if (O > 40) bias[7] = -kInf;
      for (const int64_t N : {0, 1, 2, 4, 9, 13, 30, 100, 1000}) {
        if (N >= 100 && (I != 20 || O > 300)) continue;
        op_test::Matrix x(N, I, I + 3, 4);
        if (N == 9) x.begin(3)[0] = kNan;
        for (const CpuIsa isa : op_test::instruction_sets()) {
          op_test::Matrix y(N, O, 5);
          LinearArgs args{
              .x = x.view(), .w = &w, .bias = op_test::vector_view(bias), .y = y.view()};
          for (const int threads : {1, 2, 3, 7}) {
            Context ctx = make_context(isa, threads);
            linear(ctx, args);
            const int64_t count = threads == 1 ? 1 : threads == 2 ? 64 : 9;
            TopArrays expected(N, count), got(N, count);
            sort_rows(ctx, y.values.data(), N, O, expected);
            LinearArgs without_y = args;
            without_y.y = {};
            linear_top(ctx, without_y, got.outputs);
            expect_equal(got, expected,
                         concat("N ", N, " I ", I, " O ", O, " ", name(isa), " threads ", threads));
            if (testing::Test::HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

TEST(LinearTopErrors, name_what_is_wrong) {
  Context ctx = make_context(CpuIsa::automatic, 1);
  PackedMatrix w(DType::f32, 6, 4);
  const op_test::Matrix x(3, 4, 1), narrow(3, 5, 1);
  TopArrays top(3, 65);
  op_test::expect_error(ErrorKind::value, "linear_top: count must be in 1 ... 64, got 65",
                        [&] { linear_top(ctx, {.x = x.view(), .w = &w}, top.outputs); });
  top.outputs.count = 0;
  op_test::expect_error(ErrorKind::value, "linear_top: count must be in 1 ... 64, got 0",
                        [&] { linear_top(ctx, {.x = x.view(), .w = &w}, top.outputs); });
  op_test::expect_error(ErrorKind::value, "linear: x must have shape [rows, 4]",
                        [&] { linear_top(ctx, {.x = narrow.view(), .w = &w}, top.outputs); });
}

// ---- select_top ---------------------------------------------------------------------------------

/// Requests with greedy search and beams and rules that hide ids; of some, rows that have ended.
Arrays random_requests(uint32_t seed, int64_t V, const std::vector<int32_t>& suppressed) {
  std::mt19937 random(seed);
  const auto below = [&](uint32_t bound) { return static_cast<int32_t>(random() % bound); };
  const int32_t length = 1 + below(12);
  std::vector<DecodeRules> rules(4);
  for (DecodeRules& request : rules) {
    request.mode = below(2) != 0 ? DecodeMode::beams : DecodeMode::greedy;
    request.num_rows = request.mode == DecodeMode::beams ? 1 + below(5) : 1;
    request.return_scores = below(2) != 0;
    request.prompt_length = 1;
    request.max_length = length + 5;
    request.min_length = below(2) * (length + 1);
    request.no_repeat_ngram_size = below(4);
    request.num_stop_ids = below(3);
    request.stop_ids[0] = 2;
    request.stop_ids[1] = 3;
    request.suppressed = suppressed.data();
    request.num_suppressed = below(2) * static_cast<int32_t>(suppressed.size());
  }
  Arrays arrays(rules, 20, V);
  for (int32_t row = 0; row < arrays.state.num_rows; ++row) {
    std::vector<int32_t> ids(static_cast<size_t>(length));
    for (int32_t& id : ids) id = below(5);
    arrays.set_row(row, ids);
    arrays.scores[static_cast<size_t>(row)] =
        below(3) == 0 ? -1e9f : -0.25f * static_cast<float>(below(9));
  }
  std::ranges::shuffle(arrays.logit_rows, random);
  arrays.done[1] = below(4) == 0;
  arrays.logits = random_scores(seed, arrays.state.num_rows * V);
  if (seed % 3 == 0) {  // ties, NaN and -inf
    for (float& score : arrays.logits) score = std::round(score * 2) / 2;
    arrays.logits[seed % arrays.logits.size()] = kNan;
    arrays.logits[(7 * seed + 3) % arrays.logits.size()] = -kInf;
  }
  return arrays;
}

TEST(SelectTop, chooses_as_process_and_select_do) {
  const std::vector<int32_t> suppressed = {4, 0};
  int told = 0, silent = 0;
  for (uint32_t seed = 0; seed < 600; ++seed) {
    const int64_t V = seed % 50 == 0 ? 9001 : 30 + seed % 90;
    const Arrays start = random_requests(seed, V, suppressed);
    const std::vector<int32_t> active = {0, 1, 3};
    Context ctx = make_context(CpuIsa::automatic, 2);

    Arrays expected = start;
    process(ctx, expected.view(), active);
    select(ctx, expected.view(), active);

    Arrays got = start;
    const DecodeState& state = got.view();
    const int64_t count = top_count(state, active);
    ASSERT_GE(count, 1) << "seed " << seed;
    TopArrays top(state.num_rows, count);
    sort_rows(ctx, got.logits.data(), state.num_rows, V, top);
    std::ranges::fill(got.logits, kNan);
    if (!needs_log_sums(state, active)) top.outputs.log_sums = nullptr;
    if (!select_top(ctx, state, active, top.outputs)) {
      ++silent;
      continue;
    }
    ++told;
    EXPECT_TRUE(same_bits(got.candidate_scores, expected.candidate_scores)) << "seed " << seed;
    EXPECT_TRUE(same_bits(got.candidate_log_probs, expected.candidate_log_probs)) << seed;
    EXPECT_EQ(got.candidate_beams, expected.candidate_beams) << "seed " << seed;
    EXPECT_EQ(got.candidate_ids, expected.candidate_ids) << "seed " << seed;
  }
  EXPECT_GT(told, 390);   // without ties it nearly always tells
  EXPECT_GT(silent, 50);  // with many of them it often must not
}

TEST(SelectTop, says_when_an_id_outside_the_lists_may_tie) {
  DecodeRules rules;
  rules.mode = DecodeMode::beams;
  rules.max_length = 9;
  Arrays arrays({rules}, 9, 40);
  arrays.set_row(0, {1});
  TopArrays top(1, 3);
  top.values = {5, 4, 3};
  top.ids = {7, 30, 9};
  top.log_sums = {{5, 1}};
  Context ctx = make_context(CpuIsa::automatic, 1);
  const std::vector<int32_t> active = {0};
  EXPECT_EQ(top_count(arrays.view(), active), 3);
  EXPECT_TRUE(select_top(ctx, arrays.view(), active, top.outputs));
  EXPECT_EQ(arrays.candidate_ids[0], 7);
  EXPECT_EQ(arrays.candidate_ids[1], 30);
  EXPECT_EQ(arrays.candidate_scores[1], (4.0f - 5) - 1);
  top.values[2] = 4;  // as may 31 ... 39, and 8, whose place would be before 30's
  EXPECT_FALSE(select_top(ctx, arrays.view(), active, top.outputs));
  top.values = {5, -kInf, -kInf};
  EXPECT_FALSE(select_top(ctx, arrays.view(), active, top.outputs)) << "one candidate of two";
}

TEST(SelectTop, wants_all_logits_where_rules_need_them) {
  const std::vector<IdBias> biased = {{3, 1.0f}};
  const std::vector<int32_t> many(64, 5);
  const auto count_with = [&](auto change) {
    DecodeRules rules;
    rules.mode = DecodeMode::beams;
    rules.num_rows = 2;
    rules.max_length = 9;
    change(rules);
    Arrays arrays({rules}, 9, 100);
    for (int32_t row = 0; row < rules.num_rows; ++row) arrays.set_row(row, {1, 2});
    return top_count(arrays.view(), std::vector<int32_t>{0});
  };
  EXPECT_EQ(count_with([](DecodeRules&) {}), 5);
  EXPECT_EQ(count_with([](DecodeRules& r) { r.min_length = 5, r.num_stop_ids = 2; }), 9);
  EXPECT_EQ(count_with([](DecodeRules& r) { r.mode = DecodeMode::greedy, r.num_rows = 1; }), 1);
  EXPECT_EQ(count_with([](DecodeRules& r) { r.mode = DecodeMode::sample; }), 0);
  EXPECT_EQ(count_with([](DecodeRules& r) { r.mode = DecodeMode::external; }), 0);
  EXPECT_EQ(count_with([](DecodeRules& r) { r.mode = DecodeMode::contrastive; }), 0);
  EXPECT_EQ(count_with([](DecodeRules& r) { r.filter.temperature = 0.5f; }), 0);
  EXPECT_EQ(count_with([](DecodeRules& r) { r.repetition_penalty = 1.2f; }), 0);
  EXPECT_EQ(count_with([](DecodeRules& r) { r.forced_eos_id = 4, r.max_length = 3; }), 0);
  EXPECT_EQ(count_with([&](DecodeRules& r) { r.biased = biased.data(), r.num_biased = 1; }), 0);
  EXPECT_EQ(count_with([&](DecodeRules& r) { r.suppressed = many.data(), r.num_suppressed = 59; }),
            64);
  EXPECT_EQ(count_with([&](DecodeRules& r) { r.suppressed = many.data(), r.num_suppressed = 60; }),
            0);
}

// ---- generations --------------------------------------------------------------------------------

TEST(HeadTop, generations_are_those_of_steps_that_keep_all_logits) {
  for (const auto& [name, spec] : test::all_specs()) {
    for (const DType dtype : {DType::f32, DType::i8}) {
      const auto model =
          test::build(spec, test::random_weights(spec, 3), {.dtype = dtype, .num_threads = 2});
      std::mt19937 random(5);
      std::vector<std::vector<int32_t>> ids;
      std::vector<Prompt> prompts;
      for (const int64_t length : {3, 9, 1, 6, 2}) {
        ids.push_back(test::random_ids(random, spec.vocab, length));
      }
      for (const auto& prompt : ids) {
        prompts.push_back(spec.is_seq2seq() ? Prompt{.encoder_ids = prompt}
                                            : Prompt{.decoder_ids = prompt});
      }
      for (const int beams : {1, 4}) {
        GenerationOptions options;
        options.num_beams = beams;
        options.num_return_sequences = beams;
        options.max_new_tokens = 12;
        options.min_new_tokens = 3;
        options.no_repeat_ngram_size = 2;
        options.suppress_token_ids = {6};
        options.return_scores = true;
        const auto fused = generate(*model, prompts, options);
        options.logit_bias = {{5, 0.0f}};  // changes nothing, but needs all logits
        const auto plain = generate(*model, prompts, options);
        ASSERT_EQ(fused.size(), plain.size());
        for (size_t i = 0; i < fused.size(); ++i) {
          ASSERT_EQ(fused[i].size(), plain[i].size());
          for (size_t k = 0; k < fused[i].size(); ++k) {
            EXPECT_EQ(fused[i][k].ids, plain[i][k].ids) << name << " beams " << beams;
            EXPECT_TRUE(same_bits({fused[i][k].score}, {plain[i][k].score})) << name;
            EXPECT_TRUE(same_bits(fused[i][k].token_log_probs, plain[i][k].token_log_probs));
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace fuseq::inline v0
