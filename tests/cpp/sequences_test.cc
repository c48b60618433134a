// SPDX-License-Identifier: Apache-2.0
// Below requests: scores, hidden states, caches in and out, given encoder states, Search.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "fuseq/error.h"
#include "fuseq/generate.h"
#include "fuseq/search.h"
#include "random_model.h"

namespace fuseq {
namespace {

using Ids = std::vector<int32_t>;

std::vector<float> values(const Tensor& tensor) {
  return {tensor.as<float>(), tensor.as<float>() + tensor.shape().num_elements()};
}

class EverySequence : public testing::TestWithParam<test::NamedSpec> {
 protected:
  const TransformerSpec& spec() const { return GetParam().spec; }
  std::shared_ptr<const Model> model(DType dtype = DType::f32) const {
    return test::build(spec(), test::random_weights(spec(), 7), {.dtype = dtype, .num_threads = 2});
  }
  Prompt prompt() const {
    return {.encoder_ids = spec().is_seq2seq() ? std::span<const int32_t>(source_)
                                               : std::span<const int32_t>(),
            .decoder_ids = row_};
  }
  const Ids source_{3, 9, 4, 8, 11, 20, 5, 6, 7, 30, 2, 1, 14, 15, 16, 17, 18, 19, 21};
  const Ids row_{5, 9, 33, 12, 40, 3, 8, 2, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 6, 1};
};

INSTANTIATE_TEST_SUITE_P(Kinds, EverySequence, testing::ValuesIn(test::all_specs()),
                         [](const auto& kind) { return kind.param.name; });

TEST_P(EverySequence, scores_are_log_softmax_of_the_logits) {
  const auto built = model();
  Session session(built);
  const std::vector<float> logits = values(session.forward({{prompt()}}));
  const auto V = static_cast<size_t>(spec().vocab);
  Ids targets(row_.rbegin(), row_.rend());
  const std::vector<std::span<const int32_t>> lists{targets};
  const std::vector<float> scores = session.score({{prompt()}}, lists)[0];
  const std::vector<float> next = session.score({{prompt()}})[0];
  ASSERT_EQ(scores.size(), row_.size());
  ASSERT_EQ(next.size(), row_.size() - 1);
  for (size_t t = 0; t < row_.size(); ++t) {
    double sum = 0;
    for (size_t v = 0; v < V; ++v) sum += std::exp(static_cast<double>(logits[t * V + v]));
    EXPECT_NEAR(scores[t], logits[t * V + static_cast<size_t>(targets[t])] - std::log(sum), 2e-5);
    if (t + 1 == row_.size()) continue;
    EXPECT_NEAR(next[t], logits[t * V + static_cast<size_t>(row_[t + 1])] - std::log(sum), 2e-5);
  }
  EXPECT_EQ(score(*built, {{prompt()}})[0], next);
}

TEST_P(EverySequence, scores_of_a_long_list_equal_those_of_each_row) {
  const auto built = model();
  std::mt19937 generator(2);
  std::vector<Ids> rows;
  std::vector<Prompt> prompts;
  for (int i = 0; i < 90; ++i) {
    rows.push_back(test::random_ids(generator, spec().vocab, 1 + (i * 7) % 60));
  }
  for (const Ids& row : rows) {
    prompts.push_back(prompt());
    prompts.back().decoder_ids = row;
  }
  const auto together = score(*built, prompts);
  for (size_t i = 0; i < prompts.size(); i += 13) {
    EXPECT_EQ(together[i], score(*built, {{prompts[i]}})[0]);
    EXPECT_EQ(together[i].size(), rows[i].size() - 1);
  }
}

TEST_P(EverySequence, caches_read_from_one_sequence_continue_in_another) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Session session(model(dtype));
    const std::span<const int32_t> ids(row_);
    const RequestId whole = session.open(prompt(), 40);
    (void)session.extend(whole, ids.first(17));
    const Tensor cache = session.read_cache(whole, CacheKind::self_attention);
    const StackSpec& d = spec().decoder;
    EXPECT_EQ(cache.shape(), (Shape{d.layers, 2, 40, d.kv_heads, d.head_dim}));
    Tensor hidden;
    const std::vector<float> expected = values(session.extend(whole, ids.subspan(17), &hidden));
    EXPECT_EQ(session.length(whole), static_cast<int>(row_.size()));

    const RequestId copy = session.open(prompt(), 50);
    session.write_cache(copy, CacheKind::self_attention, cache.view());
    session.set_length(copy, 17);
    Tensor hidden_of_copy;
    EXPECT_EQ(values(session.extend(copy, ids.subspan(17), &hidden_of_copy)), expected);
    EXPECT_EQ(values(hidden_of_copy), values(hidden));
    if (spec().is_seq2seq()) {  // other cross keys and values, then the first ones again
      const Tensor cross = session.read_cache(whole, CacheKind::cross_attention);
      const Tensor zeros(DType::f32, cross.shape());
      std::fill_n(const_cast<float*>(zeros.as<float>()), zeros.shape().num_elements(), 0.0f);
      session.write_cache(copy, CacheKind::cross_attention, zeros.view());
      session.set_length(copy, 17);
      EXPECT_NE(values(session.extend(copy, ids.subspan(17))), expected);
      session.write_cache(copy, CacheKind::cross_attention, cross.view());
      session.set_length(copy, 17);
      EXPECT_EQ(values(session.extend(copy, ids.subspan(17))), expected);
    } else {
      EXPECT_THROW((void)session.read_cache(copy, CacheKind::cross_attention), Error);
    }
    session.close(whole);
    session.close(copy);
  }
}

TEST_P(EverySequence, a_set_length_forgets) {
  Session session(model());
  const RequestId sequence = session.open(prompt(), 40);
  const std::span<const int32_t> ids(row_);
  (void)session.extend(sequence, ids.first(5));
  const std::vector<float> expected = values(session.extend(sequence, ids.subspan(5, 3)));
  (void)session.extend(sequence, ids.first(9));
  session.set_length(sequence, 5);
  EXPECT_EQ(values(session.extend(sequence, ids.subspan(5, 3))), expected);
  EXPECT_THROW(session.set_length(sequence, 41), Error);
  EXPECT_THROW(session.set_length(sequence + 1, 4), Error);
}

TEST_P(EverySequence, generation_from_given_encoder_states_equals_that_from_ids) {
  if (!spec().is_seq2seq()) {
    const float states[4] = {};
    Prompt wrong = prompt();
    wrong.encoder_states = ConstView(states, DType::f32, {1, 4});
    EXPECT_THROW((void)generate(*model(), {{wrong}}), Error);
    return;
  }
  const auto built = model();
  Session session(built);
  const std::vector<std::span<const int32_t>> sources{source_};
  const Tensor states = session.encode(sources);
  Prompt given = prompt();
  given.encoder_ids = {};
  given.encoder_states = states.view();
  for (const GenerationOptions& options :
       {GenerationOptions{.max_length = 40, .num_beams = 3, .num_return_sequences = 2},
        GenerationOptions{.max_length = 40, .do_sample = true, .seed = 4}}) {
    const auto expected = generate(*built, {{prompt(), prompt(), prompt()}}, options);
    const auto got = generate(*built, {{given, prompt(), given}}, options);
    for (size_t p = 0; p < got.size(); ++p) {
      for (size_t i = 0; i < got[p].size(); ++i) EXPECT_EQ(got[p][i].ids, expected[p][i].ids);
    }
  }
  EXPECT_EQ(values(session.forward({{given}})), values(session.forward({{prompt()}})));
  const RequestId a = session.open(given, 30);
  const RequestId b = session.open(prompt(), 30);
  EXPECT_EQ(values(session.extend(a, row_)), values(session.extend(b, row_)));
  given.encoder_ids = source_;
  EXPECT_THROW((void)generate(*built, {{given}}), Error);
  const Tensor narrow(DType::f32, {3, spec().encoder.dim - 1});
  given.encoder_ids = {};
  given.encoder_states = narrow.view();
  EXPECT_THROW((void)generate(*built, {{given}}), Error);
}

TEST(Score, says_what_is_wrong) {
  const auto built = test::build(test::gpt2_like(), test::random_weights(test::gpt2_like(), 7));
  const Ids ids{1, 2, 3};
  const Ids target{1, 2};
  const std::vector<std::span<const int32_t>> short_targets{target};
  EXPECT_THROW((void)score(*built, {{{.decoder_ids = ids}}}, short_targets), Error);
  EXPECT_THROW((void)score(*built, {{Prompt{}}}), Error);
  EXPECT_TRUE(score(*built, {}).empty());
}

// ---- Search -------------------------------------------------------------------------------------

/// Runs a model's requests through a Search, every row's logits by a whole forward pass.
std::vector<Hypothesis> search_with(Session& session, Search& search, const Prompt& prompt,
                                    const GenerationOptions& options) {
  const RequestId id = search.add(prompt.decoder_ids, options);
  const int64_t V = session.model().spec().vocab;
  std::vector<Ids> past(static_cast<size_t>(options.num_beams * options.num_return_sequences));
  while (true) {
    const std::vector<Search::Row> rows = search.rows();
    if (rows.empty()) break;
    std::vector<Ids> next = past;
    Tensor logits(DType::f32, {static_cast<int64_t>(rows.size()), V});
    for (size_t i = 0; i < rows.size(); ++i) {
      const Ids ids = search.ids(id, rows[i].index);
      // The row's past is its parent's with one more id.
      Ids& mine = next[static_cast<size_t>(rows[i].index)];
      mine = past[static_cast<size_t>(rows[i].parent)];
      if (mine.empty()) {
        mine = ids;
      } else {
        mine.push_back(rows[i].id);
      }
      EXPECT_EQ(mine, ids);
      EXPECT_EQ(rows[i].length, static_cast<int>(ids.size()));
      Prompt whole = prompt;
      whole.decoder_ids = ids;
      const Tensor all = session.forward({{whole}});
      const float* last = all.as<float>() + (static_cast<int64_t>(ids.size()) - 1) * V;
      std::copy_n(last, V, logits.as<float>() + static_cast<int64_t>(i) * V);
    }
    past = next;
    search.step(logits.view());
  }
  return search.take(id);
}

TEST(Search, chooses_as_a_session_does) {
  for (const TransformerSpec& spec : {test::gpt2_like(), test::bart_like()}) {
    TransformerSpec endless = spec;
    endless.eos_ids = {};
    const auto built = test::build(endless, test::random_weights(endless, 7));
    const Ids source{3, 9, 4};
    const Ids start{5, 6};
    const Prompt prompt{.encoder_ids = spec.is_seq2seq() ? std::span<const int32_t>(source)
                                                         : std::span<const int32_t>(),
                        .decoder_ids = start};
    Session session(built);
    Search search(spec.vocab, {.num_threads = 2});
    GenerationOptions base{.max_length = 15, .repetition_penalty = 1.3f, .return_scores = true};
    base.stop_token_ids = {7, 8, 9};
    std::vector<GenerationOptions> kinds(4, base);
    kinds[1].num_beams = 4;
    kinds[1].num_return_sequences = 3;
    kinds[2].do_sample = true;
    kinds[2].seed = 9;
    kinds[2].num_return_sequences = 3;
    kinds[3].do_sample = true;
    kinds[3].top_k = 7;
    kinds[3].seed = 1;
    for (const GenerationOptions& options : kinds) {
      const auto expected = generate(*built, {{prompt}}, options)[0];
      const auto got = search_with(session, search, prompt, options);
      ASSERT_EQ(got.size(), expected.size());
      for (size_t i = 0; i < got.size(); ++i) {
        EXPECT_EQ(got[i].ids, expected[i].ids);
        EXPECT_EQ(got[i].score, expected[i].score);
        EXPECT_EQ(got[i].token_log_probs, expected[i].token_log_probs);
        EXPECT_EQ(got[i].stop_reason, expected[i].stop_reason);
      }
    }
  }
}

TEST(Search, says_what_is_wrong) {
  EXPECT_THROW(Search(0), Error);
  Search search(10, {.num_threads = 1, .max_rows = 2});
  const Ids prompt{1, 2};
  EXPECT_THROW((void)search.add(prompt, {}), Error);  // no length
  EXPECT_THROW((void)search.add({}, {.max_length = 5}), Error);
  EXPECT_THROW((void)search.add(prompt, {.max_length = 5, .top_k = 2, .penalty_alpha = 0.5f}),
               Error);
  const RequestId id = search.add(prompt, {.max_length = 5});
  EXPECT_THROW((void)search.add(prompt, {.max_length = 5, .num_beams = 2}), Error);  // no room
  const Tensor narrow(DType::f32, {1, 9});
  EXPECT_THROW(search.step(narrow.view()), Error);
  EXPECT_THROW((void)search.take(id), Error);
  search.cancel(id);
  EXPECT_EQ(search.take(id)[0].ids, prompt);
  const RequestId full = search.add(prompt, {.max_length = 1});
  EXPECT_TRUE(search.is_finished(full));
  EXPECT_EQ(search.take(full)[0].ids, (Ids{1}));
}

}  // namespace
}  // namespace fuseq
