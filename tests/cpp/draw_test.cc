// SPDX-License-Identifier: Apache-2.0
// Draws: noise against published answers and double, ids against the plain version, and their
// distribution.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "decode_arrays.h"
#include "fuseq/error.h"
#include "fuseq/ops.h"
#include "kernels/cpu/draw.h"
#include "kernels/draw.h"
#include "kernels/ref/decode_ops_ref.h"

namespace fuseq::inline v0 {
namespace {

/// Room for draws of V ids, each part an array of its own.
struct Room {
  explicit Room(int64_t V)
      : scores(static_cast<size_t>(V)), ids(scores.size()), candidates(scores.size()) {}
  DrawScratch scratch() { return {scores, ids, candidates, list_scores, list_ids}; }

  std::vector<float> scores;
  std::vector<int32_t> ids;
  std::vector<DrawCandidate> candidates;
  std::vector<float> list_scores = std::vector<float>(kMaxDrawList);
  std::vector<int64_t> list_ids = std::vector<int64_t>(kMaxDrawList);
};

// ---- noise --------------------------------------------------------------------------------------

TEST(Philox, equals_the_known_answers_of_random123) {
  // https://github.com/DEShawResearch/random123, tests/kat_vectors
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(ref::philox(0, {0, 0, 0, 0}),
            (Words{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
  EXPECT_EQ(ref::philox(~uint64_t{0}, {0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu}),
            (Words{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}));
  EXPECT_EQ(ref::philox(0x299f31d0a4093822u, {0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}),
            (Words{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}));
}

double gumbel(double v) {
  return -std::log(-std::log1p(-v));
}

TEST(Draw, noise_is_accurate_on_every_instruction_set) {
  struct Case {
    int32_t id;
    DrawKey key;
  };
  // Words 0, 1 and 0xffffffff: the largest noise there is, and the least.
  std::vector<Case> cases = {{48, {.seed = 1, .step = 1105669362}},
                             {32, {.seed = 1, .step = 758802067}},
                             {48, {.seed = 1, .step = 2249695892}},
                             {INT32_MAX, {0x299f31d0a4093822u, 7, 0x13198a2e, 0x85a308d3}}};
  ASSERT_EQ(ref::noise_word(cases[0].key, cases[0].id), 0u);
  ASSERT_EQ(ref::noise_word(cases[2].key, cases[2].id), 0xffffffffu);
  std::mt19937_64 random(1);
  for (int i = 0; i < 20000; ++i) {
    const uint64_t a = random(), b = random();
    cases.push_back({static_cast<int32_t>(a >> 33),
                     {.seed = random(),
                      .sequence = static_cast<uint32_t>(a),
                      .sample = static_cast<uint32_t>(b >> 32),
                      .step = static_cast<uint32_t>(b)}});
  }
  for (const Case& c : cases) {
    const float zero = 0;
    const int32_t id = c.id;
    const cpu::NoiseKey key{
        {static_cast<uint32_t>(c.key.seed), static_cast<uint32_t>(c.key.seed >> 32)},
        {c.key.step, c.key.sample, c.key.sequence}};
    const uint32_t word = ref::noise_word(c.key, id);
    const float v = std::min((static_cast<float>(word) + 0.5f) * 0x1p-32f, 0.99999994f);
    const double wanted = gumbel(double{v});
    float vector_noise = kNan;
    for (const CpuIsa isa : isas()) {
      cpu::Drawn drawn{-kInf, 0};
      FUSEQ_PICK(isa, draw_row)({&zero, 1, 0.0f, 1.0f}, &id, key, drawn);
      ASSERT_NEAR(drawn.score, wanted, 4e-7 + 2e-7 * std::abs(wanted)) << c.key.seed << " " << id;
      if (word < 1u << 31) {  // v has all the bits that matter
        const double exact = gumbel((static_cast<double>(word) + 0.5) * 0x1p-32);
        ASSERT_NEAR(drawn.score, exact, 6e-7 + 2e-7 * std::abs(exact));
      }
      ASSERT_LT(drawn.score, 22.9f);  // what lets draw_row pass over lanes
      if (isa == CpuIsa::portable) continue;
      if (std::isnan(vector_noise)) vector_noise = drawn.score;
      ASSERT_EQ(drawn.score, vector_noise);
    }
  }
}

// ---- the drawn id -------------------------------------------------------------------------------

std::vector<DrawFilter> filters() {
  std::vector<DrawFilter> all = {{}};
  for (const int32_t k : {1, 5, 50, 256, 257, 1000, 60000}) all.push_back({.top_k = k});
  for (const float p : {0.1f, 0.5f, 0.9f, 0.999f}) {
    for (const bool of_all : {false, true}) {
      all.push_back({.top_p = p, .top_p_of_all = of_all});
      for (const int32_t k : {5, 50, 300}) {
        all.push_back({.top_k = k, .top_p = p, .top_p_of_all = of_all});
      }
      all.push_back({.top_k = 40, .top_p = p, .min_p = 0.02f, .top_p_of_all = of_all});
      all.push_back({.top_k = 400, .top_p = p, .min_p = 0.001f, .top_p_of_all = of_all});
      all.push_back({.top_p = p, .min_p = 0.01f, .top_p_of_all = of_all});
    }
  }
  for (const float p : {0.001f, 0.2f, 1.0f}) {
    all.push_back({.min_p = p});
    all.push_back({.top_k = 20, .min_p = p});
    all.push_back({.top_k = 500, .min_p = p});
  }
  return all;
}

std::string text_of(const DrawFilter& f) {
  return "temperature " + std::to_string(f.temperature) + " top_k " + std::to_string(f.top_k) +
         " top_p " + std::to_string(f.top_p) + " min_p " + std::to_string(f.min_p) +
         (f.top_p_of_all ? " of all" : "");
}

/// Scores of one of five kinds: plain, sharp, flat, many ties, and holes.
std::vector<float> row_of(uint32_t seed, int64_t V, uint32_t kind) {
  std::vector<float> row = random_scores(seed, V);
  for (size_t i = 0; i < row.size(); ++i) {
    if (kind == 1) row[i] *= 5;
    if (kind == 2) row[i] *= 0.1f;
    if (kind == 3) row[i] = std::round(row[i] * 0.5f);
    if (kind == 4 && i % 3 == 0) row[i] = i % 2 == 0 ? -kInf : kNan;
  }
  if (kind == 4) row.back() = 0;  // not all of them holes
  return row;
}

/// Whether the reference draws `id`, or float32 may see another first where two are close or where
/// a filter's border is.
bool may_be_drawn(int32_t id, const std::vector<float>& row, DrawFilter filter,
                  const DrawKey& key) {
  const float top_p = filter.top_p;
  const float min_p = filter.min_p;
  for (const float p : {0.0f, 1e-5f, -1e-5f}) {
    for (const float m : {0.0f, 1e-5f, -1e-5f}) {
      filter.top_p = top_p < 1 ? std::min(top_p * (1 + p), 0.99999994f) : top_p;
      filter.min_p = min_p * (1 + m);
      const std::vector<ref::NoisyId> noisy = ref::draw(row, filter, key);
      for (const ref::NoisyId& one : noisy) {
        if (!(one.score > noisy[0].score - 1e-3)) break;
        if (one.id == id) return true;
      }
    }
  }
  return false;
}

TEST(Draw, equals_the_reference) {
  int64_t exact = 0;
  int64_t all = 0;
  for (const int64_t V : {1, 2, 11, 97, 1000, 50265}) {
    Room room(V);
    uint32_t n = 0;
    for (DrawFilter filter : filters()) {
      for (const float temperature : {0.1f, 1.0f, 1.7f, 1e-9f, 30.0f}) {
        ++n;
        if (V > 1000 && n % 7 != 0) continue;
        filter.temperature = temperature;
        const uint32_t kind = n / 5 % 5;
        const std::vector<float> row = row_of(n, V, kind);
        const DrawKey key{.seed = uint64_t{n} << 20, .sequence = n % 3, .sample = n, .step = n / 2};
        const int32_t expected = ref::draw(row, filter, key)[0].id;
        int32_t vector_id = -1;
        for (const CpuIsa isa : isas()) {
          const int32_t id = draw(isa, row, filter, key, room.scratch());
          ++all;
          exact += id == expected;
          ASSERT_TRUE(id == expected || may_be_drawn(id, row, filter, key))
              << "V " << V << " kind " << kind << " " << text_of(filter) << " n " << n << " got "
              << id << " expected " << expected;
          if (isa == CpuIsa::portable) continue;
          if (vector_id < 0) vector_id = id;
          ASSERT_EQ(id, vector_id) << "V " << V << " n " << n;
        }
      }
    }
  }
  EXPECT_GT(static_cast<double>(exact), 0.995 * static_cast<double>(all));
}

TEST(Draw, of_equal_scores_all_filters_keep_the_lower_ids) {
  const std::vector<float> row(600, 1.5f);
  Room room(600);
  const auto largest = [&](const DrawFilter& filter) {
    int32_t id = 0;
    for (uint32_t step = 0; step < 4000; ++step) {
      id = std::max(id, draw(isas().back(), row, filter, {.step = step}, room.scratch()));
    }
    return id;
  };
  EXPECT_EQ(largest({.top_k = 3}), 2);
  EXPECT_EQ(largest({.top_k = 300}), 299);
  EXPECT_EQ(largest({.top_p = 0.25f}), 149);
  EXPECT_EQ(largest({.top_p = 0.25f, .top_p_of_all = true}), 150);
  EXPECT_EQ(largest({.top_k = 8, .top_p = 0.5f}), 3);
  EXPECT_EQ(largest({.min_p = 1}), 599);
}

TEST(Draw, rows_without_a_finite_best_score_have_one_answer) {
  for (const CpuIsa isa : isas()) {
    for (const int64_t V : {1, 2, 11, 97}) {
      const auto size = static_cast<size_t>(V);
      Room room(V);
      for (const DrawFilter& filter : filters()) {
        const auto drawn = [&](const std::vector<float>& row) {
          return draw(isa, row, filter, {.seed = 3}, room.scratch());
        };
        EXPECT_EQ(drawn(std::vector<float>(size, -kInf)), 0);
        EXPECT_EQ(drawn(std::vector<float>(size, kNan)), 0);
        std::vector<float> row = row_of(1, V, 0);
        row.back() = kInf;
        EXPECT_EQ(drawn(row), V - 1);
        row[size / 2] = kInf;
        EXPECT_EQ(drawn(row), V / 2);
        std::vector<float> mixed(size, -kInf);
        mixed[0] = kNan;
        EXPECT_EQ(drawn(mixed), 0);
        mixed.back() = -3e38f;
        EXPECT_EQ(drawn(mixed), V - 1);
      }
    }
  }
}

/// Whether over many seeds only those ids come that the filter keeps and, with `all`, each of them.
void expect_kept(const std::vector<float>& row, const DrawFilter& filter, uint32_t seeds,
                 bool all) {
  Room room(std::ssize(row));
  std::set<int32_t> kept, drawn;
  for (const ref::NoisyId& one : ref::draw(row, filter, {})) {
    if (row[static_cast<size_t>(one.id)] > -kInf) kept.insert(one.id);
  }
  for (uint32_t seed = 0; seed < seeds; ++seed) {
    const int32_t id = draw(isas().back(), row, filter, {.seed = seed}, room.scratch());
    ASSERT_TRUE(kept.contains(id) || may_be_drawn(id, row, filter, {.seed = seed}))
        << "V " << row.size() << " " << text_of(filter) << " id " << id;
    drawn.insert(id);
  }
  if (all) {
    EXPECT_EQ(drawn, kept) << "V " << row.size() << " " << text_of(filter);
  }
}

TEST(Draw, only_kept_ids_come_and_all_of_them_do) {
  for (const int64_t V : {2, 11, 97, 1000}) {
    for (const DrawFilter& filter : filters()) {
      std::vector<float> holes = row_of(9, V, 4);
      for (float& score : holes) score *= 0.2f;
      expect_kept(holes, filter, V < 100 ? 2000 : 200, V < 20);
      expect_kept(row_of(9, V, 2), filter, V < 100 ? 2000 : 200, V < 100);
    }
  }
}

TEST(Draw, the_border_of_top_p_is_exact_among_many_ids) {
  for (const float p : {0.3f, 0.6f, 0.9f, 0.999f}) {
    for (const int32_t k : {0, 290}) {
      for (const bool of_all : {false, true}) {
        const DrawFilter filter{.top_k = k, .top_p = p, .top_p_of_all = of_all};
        expect_kept(row_of(static_cast<uint32_t>(k) + 1, 300, 2), filter, 6000, true);
      }
    }
  }
}

// ---- the op -------------------------------------------------------------------------------------

TEST(Sample, gives_the_same_ids_on_any_threads_and_vector_instruction_set) {
  const int64_t N = 37, V = 1003, stride = 1010;
  const std::vector<float> logits = random_scores(1, N * stride);
  std::vector<std::pair<CpuIsa, std::vector<Context>>> contexts;
  for (const CpuIsa isa : isas()) {
    contexts.emplace_back(isa, std::vector<Context>());
    for (const int threads : {1, 2, 3, 7}) {
      contexts.back().second.push_back(make_context(isa, threads));
    }
  }
  for (const DrawFilter& filter : filters()) {
    std::vector<int32_t> vector_ids;
    for (auto& [isa, isa_contexts] : contexts) {
      std::vector<int32_t> isa_ids;
      for (Context& ctx : isa_contexts) {
        const auto ids_of = [&](int64_t first, int64_t count) {
          std::vector<int32_t> ids(static_cast<size_t>(count), -1);
          sample(ctx,
                 {.logits = {logits.data() + first * stride, DType::f32, {count, V}, {stride, 1}},
                  .temperature = filter.temperature,
                  .top_k = filter.top_k,
                  .top_p = filter.top_p,
                  .min_p = filter.min_p,
                  .top_p_of_all = filter.top_p_of_all,
                  .seed = 5,
                  .sequence = 100 + first,
                  .sample = 2,
                  .step = 9,
                  .ids = ids});
          return ids;
        };
        const std::vector<int32_t> ids = ids_of(0, N);
        // A row does not depend on the others.
        EXPECT_EQ(ids_of(11, 1)[0], ids[11]);
        EXPECT_EQ(ids_of(30, 7), std::vector<int32_t>(ids.begin() + 30, ids.end()));
        EXPECT_EQ(ids_of(0, 0), std::vector<int32_t>());
        if (isa_ids.empty()) isa_ids = ids;
        EXPECT_EQ(ids, isa_ids) << text_of(filter);
      }
      Room room(V);
      for (size_t n = 0; n < isa_ids.size(); ++n) {
        const std::span row(logits.data() + static_cast<int64_t>(n) * stride,
                            static_cast<size_t>(V));
        const DrawKey key{
            .seed = 5, .sequence = 100 + static_cast<uint32_t>(n), .sample = 2, .step = 9};
        ASSERT_EQ(isa_ids[n], draw(isa, row, filter, key, room.scratch()));
      }
      if (isa == CpuIsa::portable) continue;
      if (vector_ids.empty()) vector_ids = isa_ids;
      EXPECT_EQ(isa_ids, vector_ids) << text_of(filter);
    }
  }
}

TEST(Sample, says_what_is_wrong_with_its_arguments) {
  Context ctx = make_context(CpuIsa::automatic, 1);
  std::vector<float> x(12);
  std::vector<int32_t> ids(3);
  const auto message = [&](auto change) -> std::string {
    SampleArgs args{.logits = {x.data(), DType::f32, {3, 4}}, .ids = ids};
    change(args);
    try {
      sample(ctx, args);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  const std::string shape =
      "sample: logits must have shape [N, V] with adjacent elements in a row, got ";
  EXPECT_EQ(message([](SampleArgs&) {}), "no error");
  EXPECT_EQ(message([&](SampleArgs& a) { a.logits = {x.data(), DType::i32, {3, 4}}; }),
            "sample: logits must be float32, got int32");
  EXPECT_EQ(message([&](SampleArgs& a) { a.logits = {x.data(), DType::f32, {12}}; }),
            shape + "[12]");
  EXPECT_EQ(message([&](SampleArgs& a) { a.logits = {x.data(), DType::f32, {3, 0}}; }),
            shape + "[3, 0]");
  EXPECT_EQ(message([&](SampleArgs& a) { a.logits = {x.data(), DType::f32, {3, 2}, {1, 3}}; }),
            shape + "[3, 2]");
  EXPECT_EQ(message([&](SampleArgs& a) { a.ids = std::span(ids).first(2); }),
            "sample: ids must have room for 3 ids, got 2");
  for (const float bad : {0.0f, -1.0f, 1e-38f, kInf, kNan}) {
    const std::string text = message([&](SampleArgs& a) { a.temperature = bad; });
    EXPECT_EQ(text.find("sample: temperature must be finite and at least 1e-37, got "), 0u) << text;
  }
  EXPECT_EQ(message([](SampleArgs& a) { a.top_k = -1; }),
            "sample: top_k must not be negative, got -1");
  EXPECT_EQ(message([](SampleArgs& a) { a.top_p = 0; }), "sample: top_p must be in (0, 1], got 0");
  EXPECT_EQ(message([](SampleArgs& a) { a.top_p = 1.5f; }),
            "sample: top_p must be in (0, 1], got 1.5");
  EXPECT_EQ(message([](SampleArgs& a) { a.top_p = kNan; }),
            "sample: top_p must be in (0, 1], got nan");
  EXPECT_EQ(message([](SampleArgs& a) { a.min_p = -0.5f; }),
            "sample: min_p must be in [0, 1], got -0.5");
  EXPECT_EQ(message([](SampleArgs& a) { a.min_p = 2; }), "sample: min_p must be in [0, 1], got 2");
}

// ---- the distribution ---------------------------------------------------------------------------

/// P(chi-square with `freedom` degrees > x): the upper incomplete gamma function by its series.
double p_value(double x, int freedom) {
  const double a = freedom / 2.0;
  double term = 1 / a;
  double sum = term;
  for (int n = 1; n < 2000; ++n) sum += term *= x / 2 / (a + n);
  return 1 - sum * std::exp(-x / 2 + a * std::log(x / 2) - std::lgamma(a));
}

TEST(Sample, draws_follow_the_filtered_distribution) {
  EXPECT_NEAR(p_value(18.307, 10), 0.05, 1e-5);  // from a table
  EXPECT_NEAR(p_value(29.588, 10), 0.001, 1e-6);
  constexpr int kDraws = 50000;
  const std::vector<float> row = {0.3f, -1, 1.2f, 0, 0.9f, -0.4f, 1.2f, -2, 0.1f, 0.5f, -0.7f};
  Context ctx = make_context(CpuIsa::automatic, 1);
  const DrawFilter kinds[] = {{},
                              {.temperature = 0.5f},
                              {.temperature = 3},
                              {.top_k = 4},
                              {.top_p = 0.6f},
                              {.min_p = 0.3f},
                              {.top_k = 6, .top_p = 0.7f, .top_p_of_all = true},
                              {.temperature = 1.5f, .top_k = 8, .top_p = 0.9f, .min_p = 0.2f}};
  for (const DrawFilter& filter : kinds) {
    std::vector<double> expected(row.size());
    double sum = 0;
    for (const ref::NoisyId& one : ref::draw(row, filter, {})) {
      const auto id = static_cast<size_t>(one.id);
      sum += expected[id] = std::exp(double{row[id]} / double{filter.temperature});
    }
    for (const int varied : {0, 1, 2, 3}) {  // sequence, sample, step or seed counts on
      std::vector<int32_t> ids(kDraws);
      SampleArgs args{.logits = {row.data(), DType::f32, {varied == 0 ? kDraws : 1, 11}, {0, 1}},
                      .temperature = filter.temperature,
                      .top_k = filter.top_k,
                      .top_p = filter.top_p,
                      .min_p = filter.min_p,
                      .top_p_of_all = filter.top_p_of_all,
                      .seed = 17,
                      .ids = ids};
      for (uint32_t n = 0; n < (varied == 0 ? 1 : kDraws); ++n) {
        if (varied == 1) args.sample = n;
        if (varied == 2) args.step = n;
        if (varied == 3) args.seed = n;
        if (varied != 0) args.ids = std::span(ids).subspan(n, 1);
        sample(ctx, args);
      }
      std::vector<int> counts(row.size());
      for (const int32_t id : ids) ++counts[static_cast<size_t>(id)];
      double chi = 0;
      int freedom = -1;
      for (size_t id = 0; id < row.size(); ++id) {
        const double wanted = expected[id] / sum * kDraws;
        if (wanted == 0) {
          EXPECT_EQ(counts[id], 0) << text_of(filter);
          continue;
        }
        ++freedom;
        chi += (counts[id] - wanted) * (counts[id] - wanted) / wanted;
      }
      EXPECT_GT(p_value(chi, freedom), 1e-4) << text_of(filter) << " varied " << varied;
    }
  }
}

}  // namespace
}  // namespace fuseq::inline v0
