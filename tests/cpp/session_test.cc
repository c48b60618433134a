// SPDX-License-Identifier: Apache-2.0
// Sessions and generate: against the plain reference, and against themselves in other compositions.
#include "fuseq/session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <thread>

#include "base/cpu_features.h"
#include "fuseq/error.h"
#include "fuseq/generate.h"
#include "random_model.h"
#include "reference_model.h"

namespace fuseq {
namespace {

using Ids = std::vector<int32_t>;

struct Pair {
  Ids encoder, decoder;
  [[nodiscard]] Prompt prompt() const { return {.encoder_ids = encoder, .decoder_ids = decoder}; }
};

std::vector<Pair> random_pairs(const TransformerSpec& spec, uint32_t seed,
                               std::initializer_list<int> lengths) {
  std::mt19937 generator(seed);
  std::vector<Pair> pairs;
  for (const int length : lengths) {
    Pair& pair = pairs.emplace_back();
    if (spec.is_seq2seq()) pair.encoder = test::random_ids(generator, spec.vocab, length + 3);
    pair.decoder = test::random_ids(generator, spec.vocab, length);
  }
  return pairs;
}

std::vector<Prompt> prompts_of(const std::vector<Pair>& pairs) {
  std::vector<Prompt> prompts;
  for (const Pair& pair : pairs) prompts.push_back(pair.prompt());
  return prompts;
}

std::vector<float> values(const Tensor& tensor) {
  return {tensor.as<float>(), tensor.as<float>() + tensor.shape().num_elements()};
}

std::vector<float> forward(const std::shared_ptr<const Model>& model,
                           const std::vector<Pair>& pairs, int num_threads = 1) {
  Session session(model, {.num_threads = num_threads});
  return values(session.forward(prompts_of(pairs)));
}

class EverySpec : public testing::TestWithParam<test::NamedSpec> {
 protected:
  const TransformerSpec& spec() const { return GetParam().spec; }
  std::shared_ptr<const Model> model(const ModelOptions& options = {.num_threads = 1}) const {
    return test::build(spec(), test::random_weights(spec(), 7), options);
  }
};

INSTANTIATE_TEST_SUITE_P(Kinds, EverySpec, testing::ValuesIn(test::all_specs()),
                         [](const auto& kind) { return kind.param.name; });

TEST_P(EverySpec, logits_match_the_plain_reference) {
  const test::Weights weights = test::random_weights(spec(), 7);
  for (const Pair& pair : random_pairs(spec(), 1, {1, 2, 17, 40})) {
    const std::vector<float> logits = forward(model(), {pair});
    const test::Matrix expected =
        test::reference_logits(spec(), weights, pair.encoder, pair.decoder);
    double largest = 0;
    for (const auto& row : expected) {
      for (const double value : row) largest = std::max(largest, std::abs(value));
    }
    const auto V = static_cast<size_t>(spec().vocab);
    ASSERT_EQ(logits.size(), expected.size() * V);
    for (size_t i = 0; i < logits.size(); ++i) {
      ASSERT_NEAR(logits[i], expected[i / V][i % V], 2e-4 * largest) << "element " << i;
    }
  }
}

TEST_P(EverySpec, encoder_states_match_the_plain_reference) {
  if (!spec().is_seq2seq()) GTEST_SKIP() << "the model has no encoder";
  const test::Weights weights = test::random_weights(spec(), 7);
  std::mt19937 generator(5);
  const Ids a = test::random_ids(generator, spec().vocab, 9);
  const Ids b = test::random_ids(generator, spec().vocab, 33);
  Session session(model());
  const std::vector<std::span<const int32_t>> sources{a, b};
  const Tensor states = session.encode(sources);
  test::Matrix expected = test::reference_encode(spec(), weights, a);
  for (auto& row : test::reference_encode(spec(), weights, b)) expected.push_back(row);
  const auto D = static_cast<size_t>(spec().encoder.dim);
  for (size_t i = 0; i < expected.size() * D; ++i) {
    ASSERT_NEAR(states.as<float>()[i], expected[i / D][i % D], 1e-3) << "element " << i;
  }
}

TEST_P(EverySpec, a_ragged_batch_equals_its_rows_alone) {
  const auto pairs = random_pairs(spec(), 2, {3, 1, 31, 16, 17});
  for (const DType dtype : {DType::f32, DType::i8}) {
    const auto built = model({.dtype = dtype, .num_threads = 1});
    const std::vector<float> together = forward(built, pairs);
    std::vector<float> apart;
    for (const Pair& pair : pairs) {
      for (const float value : forward(built, {pair})) apart.push_back(value);
    }
    EXPECT_TRUE(together == apart) << name(dtype);
  }
}

TEST_P(EverySpec, cached_equals_uncached) {
  for (const DType dtype : {DType::f32, DType::i8}) {
    const auto built = model({.dtype = dtype, .num_threads = 1});
    for (const Pair& pair : random_pairs(spec(), 3, {40, 23})) {
      const std::vector<float> whole = forward(built, {pair});
      for (const size_t piece : {size_t{1}, size_t{7}, size_t{16}}) {
        Session session(built);
        const RequestId sequence = session.open({.encoder_ids = pair.encoder}, 64);
        std::vector<float> pieces;
        for (size_t at = 0; at < pair.decoder.size(); at += piece) {
          const size_t count = std::min(piece, pair.decoder.size() - at);
          for (const float value :
               values(session.extend(sequence, std::span(pair.decoder).subspan(at, count)))) {
            pieces.push_back(value);
          }
        }
        session.close(sequence);
        EXPECT_TRUE(pieces == whole) << name(dtype) << " pieces of " << piece;
      }
    }
  }
}

TEST_P(EverySpec, any_number_of_threads_gives_equal_bits) {
  const auto pairs = random_pairs(spec(), 4, {12, 30, 1});
  for (const DType dtype : {DType::f32, DType::bf16, DType::i8}) {
    const auto built = model({.dtype = dtype, .num_threads = 1});
    const std::vector<float> one = forward(built, pairs);
    for (const int threads : {2, 3, 7})
      EXPECT_TRUE(forward(built, pairs, threads) == one) << threads;
  }
}

TEST_P(EverySpec, avx2_equals_avx512) {
  if (!cpu_features().avx512) GTEST_SKIP() << "this machine has no AVX-512";
  const auto pairs = random_pairs(spec(), 4, {12, 30, 1});
  for (const DType dtype : {DType::f32, DType::i8}) {
    const auto on = [&](CpuIsa isa) {
      return forward(model({.dtype = dtype, .num_threads = 1, .cpu_isa = isa}), pairs);
    };
    EXPECT_TRUE(on(CpuIsa::avx2) == on(CpuIsa::avx512)) << name(dtype);
  }
}

TEST_P(EverySpec, a_cache_in_float32_is_nearer) {
  const auto pairs = random_pairs(spec(), 4, {12, 30});
  const auto with = [&](const ModelOptions& options, std::optional<DType> cache_dtype) {
    Session session(model(options), {.num_threads = 1, .cache_dtype = cache_dtype});
    return values(session.forward(prompts_of(pairs)));
  };
  const ModelOptions floats{.num_threads = 1};
  EXPECT_TRUE(with(floats, DType::f32) == with(floats, {}));
  EXPECT_FALSE(with(floats, DType::bf16) == with(floats, {}));
  const ModelOptions int8{.dtype = DType::i8, .num_threads = 1};
  EXPECT_TRUE(with(int8, DType::bf16) == with(int8, {}));
  EXPECT_FALSE(with(int8, DType::f32) == with(int8, {}));
  EXPECT_THROW((void)with(floats, DType::i8), Error);
}

TEST_P(EverySpec, portable_code_bfloat16_and_int8_stay_close) {
  const auto pairs = random_pairs(spec(), 4, {12, 30});
  const std::vector<float> expected = forward(model(), pairs);
  const float largest =
      std::abs(*std::ranges::max_element(expected, {}, [](float v) { return std::abs(v); }));
  const auto difference = [&](const std::vector<float>& other) {
    double sum = 0;
    for (size_t i = 0; i < expected.size(); ++i) sum += std::abs(expected[i] - other[i]);
    return sum / static_cast<double>(expected.size()) / largest;
  };
  EXPECT_LT(difference(forward(model({.num_threads = 1, .cpu_isa = CpuIsa::portable}), pairs)),
            1e-5);
  EXPECT_LT(difference(forward(model({.dtype = DType::bf16, .num_threads = 1}), pairs)), 0.05);
  // The attention of T5 is sharp, since its scores are not scaled.
  EXPECT_LT(difference(forward(model({.dtype = DType::i8, .num_threads = 1}), pairs)), 0.1);
}

TEST_P(EverySpec, greedy_follows_the_largest_logit) {
  const auto pairs = random_pairs(spec(), 6, {1, 5, 12});
  const auto built = model();
  const auto results = generate(*built, prompts_of(pairs), {.max_length = 40});
  const auto V = static_cast<size_t>(spec().vocab);
  for (size_t p = 0; p < pairs.size(); ++p) {
    Pair row = pairs[p];
    while (row.decoder.size() < 40) {
      const std::vector<float> logits = forward(built, {row});
      const auto best = std::max_element(logits.end() - static_cast<int64_t>(V), logits.end());
      row.decoder.push_back(static_cast<int32_t>(best - (logits.end() - static_cast<int64_t>(V))));
      if (std::ranges::find(spec().eos_ids, row.decoder.back()) != spec().eos_ids.end()) break;
    }
    EXPECT_EQ(results[p].at(0).ids, row.decoder);
  }
}

TEST_P(EverySpec, a_row_does_not_depend_on_its_company) {
  const auto pairs = random_pairs(spec(), 8, {1, 9, 3, 20, 2, 6});
  const auto built = model({.num_threads = 2});
  for (const int beams : {1, 3}) {
    const GenerationOptions options{
        .max_new_tokens = 25, .num_beams = beams, .num_return_sequences = beams};
    const auto together = generate(*built, prompts_of(pairs), options);
    for (size_t p = 0; p < pairs.size(); ++p) {
      const auto alone = generate(*built, {{pairs[p].prompt()}}, options);
      ASSERT_EQ(alone[0].size(), together[p].size());
      for (size_t i = 0; i < alone[0].size(); ++i) {
        EXPECT_EQ(alone[0][i].ids, together[p][i].ids);
        EXPECT_EQ(alone[0][i].score, together[p][i].score);
      }
    }
  }
}

// A beam's score is the sum of its ids' log-probabilities over the length: the caches followed the
// right beams.
TEST_P(EverySpec, beam_scores_are_those_of_their_ids) {
  const auto pairs = random_pairs(spec(), 9, {4, 19});
  const auto built = model();
  const auto results = generate(*built, prompts_of(pairs),
                                {.max_new_tokens = 24, .num_beams = 4, .num_return_sequences = 4});
  const auto V = static_cast<size_t>(spec().vocab);
  for (size_t p = 0; p < pairs.size(); ++p) {
    for (const Hypothesis& hypothesis : results[p]) {
      const std::vector<float> logits = forward(built, {{pairs[p].encoder, hypothesis.ids}});
      double sum = 0;
      for (size_t t = pairs[p].decoder.size(); t < hypothesis.ids.size(); ++t) {
        const float* row = logits.data() + (t - 1) * V;
        double total = 0;
        for (size_t v = 0; v < V; ++v) total += std::exp(static_cast<double>(row[v]));
        sum += row[hypothesis.ids[t]] - std::log(total);
      }
      EXPECT_NEAR(hypothesis.score,
                  sum / static_cast<double>(hypothesis.ids.size() - pairs[p].decoder.size()), 1e-4);
    }
  }
}

std::shared_ptr<const Model> gpt2_model() {
  const TransformerSpec spec = test::gpt2_like();
  return test::build(spec, test::random_weights(spec, 7), {.num_threads = 2});
}

TEST(Session, more_requests_than_rows_flow_through) {
  const auto model = gpt2_model();
  std::mt19937 generator(1);
  Session session(model, {.max_rows = 5});
  std::vector<RequestId> ids;
  std::vector<Pair> pairs;
  for (int i = 0; i < 40; ++i) {
    pairs.push_back({{}, test::random_ids(generator, 97, 1 + i % 9)});
    ids.push_back(session.submit(pairs.back().prompt(),
                                 {.max_new_tokens = 1 + i % 13, .num_beams = 1 + i % 4}));
  }
  int64_t most_bytes = 0;
  while (session.step()) most_bytes = std::max(most_bytes, session.cache_bytes());
  EXPECT_LT(most_bytes, 5 * 3 * 2 * 70 * 48 * 4 * 4);
  for (size_t i = 0; i < ids.size(); ++i) {
    const int number = static_cast<int>(i);
    const auto expected =
        generate(*model, {{pairs[i].prompt()}},
                 {.max_new_tokens = 1 + number % 13, .num_beams = 1 + number % 4});
    ASSERT_TRUE(session.is_finished(ids[i]));
    EXPECT_EQ(session.take(ids[i]).at(0).ids, expected[0][0].ids);
  }
}

TEST(Session, cancel_keeps_what_was_generated) {
  Session session(gpt2_model());
  const Ids prompt{1, 2, 3};
  const RequestId running =
      session.submit({.decoder_ids = prompt}, {.max_length = 60, .min_length = 60});
  const RequestId beams =
      session.submit({.decoder_ids = prompt}, {.max_length = 60, .min_length = 60, .num_beams = 3});
  const RequestId other =
      session.submit({.decoder_ids = prompt}, {.max_length = 30, .min_length = 30});
  for (int i = 0; i < 5; ++i) (void)session.step();
  EXPECT_FALSE(session.is_finished(running));
  session.cancel(running);
  session.cancel(beams);
  const Hypothesis cut = session.take(running).at(0);
  EXPECT_EQ(cut.ids.size(), 8u);
  EXPECT_EQ(cut.stop_reason, StopReason::canceled);
  EXPECT_EQ(session.take(beams).at(0).ids.size(), 8u);
  while (session.step()) {
  }
  EXPECT_EQ(session.take(other).at(0).ids.size(), 30u);
  EXPECT_THROW((void)session.take(other), Error);
}

TEST(Session, a_request_that_gets_no_memory_does_not_stop_the_others) {
  const TransformerSpec spec = test::llama_like();  // no bound of lengths
  const auto model = test::build(spec, test::random_weights(spec, 7));
  const Ids prompt{1, 2, 3};
  const std::vector<Prompt> prompts = {{.encoder_ids = {}, .decoder_ids = prompt}};
  const GenerationOptions options{.max_new_tokens = 6, .min_new_tokens = 6};
  Session session(model, {.max_rows = 1024});
  const RequestId small = session.submit(prompts[0], options);
  EXPECT_TRUE(session.step());
  // Rows of so many tokens, 1024 of them, take some hundred gigabytes.
  const RequestId large = session.submit(prompts[0], {.max_new_tokens = (1 << 24) - 8});
  for (int step = 0; step < 5; ++step) (void)session.step();
  ASSERT_TRUE(session.is_finished(small));
  EXPECT_EQ(session.take(small)[0].ids, generate(*model, prompts, options)[0][0].ids);
  try {
    (void)session.step();
    session.cancel(large);
    GTEST_SKIP() << "this system promises any amount of memory";
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find("request " + std::to_string(large) + ": allocate: "),
              0u)
        << error.what();
  }
  session.cancel(large);
  EXPECT_FALSE(session.step());
}

TEST(Session, stop_reasons_are_told) {
  const auto model = gpt2_model();
  const Ids prompt{1, 2, 3};
  const auto full =
      generate(*model, {{{.decoder_ids = prompt}}}, {.max_length = 20, .min_length = 20});
  EXPECT_EQ(full[0][0].stop_reason, StopReason::max_length);
  const int third = full[0][0].ids[5];
  const auto stopped =
      generate(*model, {{{.decoder_ids = prompt}}}, {.max_length = 20, .stop_token_ids = {third}});
  EXPECT_EQ(stopped[0][0].stop_reason, StopReason::stop_id);
  EXPECT_EQ(stopped[0][0].ids.back(), third);
  EXPECT_LE(stopped[0][0].ids.size(), 6u);
}

TEST(Session, a_prompt_at_max_length_is_returned_cut) {
  const Ids prompt{1, 2, 3, 4, 5};
  const auto result = generate(*gpt2_model(), {{{.decoder_ids = prompt}}}, {.max_length = 4});
  EXPECT_EQ(result[0][0].ids, (Ids{1, 2, 3, 4}));
}

TEST(Session, ids_that_a_model_never_emits_are_suppressed) {
  TransformerSpec spec = test::gpt2_like();
  const Ids prompt{1, 2, 3};
  const test::Weights weights = test::random_weights(spec, 7);
  const GenerationOptions options{.max_length = 20, .min_length = 20};
  const auto first = [&] {
    return generate(*test::build(spec, weights), {{{.decoder_ids = prompt}}}, options)[0][0].ids;
  };
  const int32_t banned = first()[3];
  spec.never_emitted_ids = {banned};
  const Ids ids = first();
  EXPECT_EQ(std::count(ids.begin() + 3, ids.end(), banned), 0);
}

// transformers lets the last token go one past the table: it needs no position.
TEST(Session, a_row_may_end_one_past_the_position_table) {
  const auto model = gpt2_model();
  const Ids prompt{1, 2, 3};
  for (const int beams : {1, 3}) {
    const GenerationOptions options{.max_length = 71, .min_length = 71, .num_beams = beams};
    const auto result = generate(*model, {{{.decoder_ids = prompt}}}, options);
    EXPECT_EQ(result[0][0].ids.size(), 71u);
  }
}

TEST(Session, two_sessions_of_one_model_run_at_once) {
  const auto model = gpt2_model();
  const auto pairs = random_pairs(model->spec(), 12, {3, 8, 5});
  const GenerationOptions options{.max_length = 50, .num_beams = 3};
  const auto expected = generate(*model, prompts_of(pairs), options);
  const auto work = [&] {
    for (int repeat = 0; repeat < 3; ++repeat) {
      Session session(model, {.num_threads = 2});
      std::vector<RequestId> ids;
      for (const Pair& pair : pairs) ids.push_back(session.submit(pair.prompt(), options));
      while (session.step()) {
      }
      for (size_t i = 0; i < ids.size(); ++i)
        EXPECT_EQ(session.take(ids[i]).at(0).ids, expected[i][0].ids);
    }
  };
  std::thread other(work);
  work();
  other.join();
}

TEST(Generate, waits_for_another_call_on_the_same_model) {
  const auto model = gpt2_model();
  const auto pairs = random_pairs(model->spec(), 13, {3, 8});
  const auto expected = generate(*model, prompts_of(pairs), {.max_length = 40});
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      const auto results = generate(*model, prompts_of(pairs), {.max_length = 40});
      for (size_t p = 0; p < pairs.size(); ++p) EXPECT_EQ(results[p][0].ids, expected[p][0].ids);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Generate, of_nothing_is_nothing) {
  EXPECT_TRUE(generate(*gpt2_model(), {}, {}).empty());
}

TEST(Generate, can_be_interrupted_and_used_again) {
  const auto model = gpt2_model();
  const Ids prompt{1};
  const std::vector<Prompt> prompts(2000, Prompt{.decoder_ids = prompt});
  EXPECT_THROW((void)generate(*model, prompts, {.max_length = 60, .min_length = 60},
                              {.interrupted = [] { return true; }}),
               Error);
  EXPECT_EQ(generate(*model, {{prompts[0]}}, {.max_length = 9, .min_length = 9})[0][0].ids.size(),
            9u);
}

struct BadCall {
  const char* named;  // what the message must name
  GenerationOptions options;
  Ids decoder{1, 2};
  Ids encoder{};
};

TEST(Generate, bad_options_are_named_before_work_starts) {
  const auto model = gpt2_model();
  const std::vector<BadCall> calls{
      {"max_length", {.max_length = -1}},
      {"max_length", {.max_length = 72}},
      {"max_new_tokens", {.max_length = 10, .max_new_tokens = 5}},
      {"max_new_tokens", {.max_new_tokens = 70}},
      {"min_length", {.max_length = 5, .min_length = 6}},
      {"min_new_tokens", {.max_new_tokens = 5, .min_new_tokens = 6}},
      {"num_beams", {.num_beams = 0}},
      {"num_return_sequences", {.num_beams = 2, .num_return_sequences = 3}},
      {"num_return_sequences", {.num_return_sequences = 2}},
      {"length_penalty", {.num_beams = 2, .length_penalty = NAN}},
      {"repetition_penalty", {.repetition_penalty = 0}},
      {"no_repeat_ngram_size", {.no_repeat_ngram_size = -1}},
      {"forced_bos_token_id", {.forced_bos_token_id = 97}},
      {"forced_eos_token_id", {.forced_eos_token_id = -2}},
      {"stop_token_ids", {.stop_token_ids = {97}}},
      {"stop_token_ids", {.stop_token_ids = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}}},
      {"suppress_token_ids", {.suppress_token_ids = {-1}}},
      {"logit_bias", {.logit_bias = {{3, NAN}}}},
      {"decoder_ids", {}, {1, 97}},
      {"decoder_ids", {}, {-1}},
      {"decoder_ids", {}, Ids(71, 1)},
      {"encoder_ids", {}, {1}, {1}},
  };
  for (const BadCall& call : calls) {
    try {
      (void)generate(*model, {{{.encoder_ids = call.encoder, .decoder_ids = call.decoder}}},
                     call.options);
      ADD_FAILURE() << "no error for " << call.named;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::value);
      EXPECT_NE(std::string(error.what()).find(call.named), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace fuseq
