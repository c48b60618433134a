// SPDX-License-Identifier: Apache-2.0
// attention against its reference, and against itself: the bits of a row must not depend on the
// other rows, the threads, the vectors, or the lanes its keys came through.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <ostream>
#include <utility>
#include <vector>

#include "fuseq/kernels.h"
#include "kernels/ref/attention_ref.h"
#include "kv_cache_memory.h"

namespace fuseq::inline v0::op_test {
namespace {

struct AttentionCase {
  int64_t H = 3;
  int64_t G = 3;
  int64_t E = 16;
  int64_t window = 0;
  float score_cap = 0;
  int64_t bias_reach = -1;  ///< below 0: no bias
  DType dtype = DType::f32;
};

std::ostream& operator<<(std::ostream& out, const AttentionCase& c) {
  return out << "H " << c.H << " G " << c.G << " E " << c.E << " window " << c.window << " cap "
             << c.score_cap << " bias reach " << c.bias_reach << " " << name(c.dtype);
}

/// Queries and caches of several requests.
class Rows {
 public:
  explicit Rows(const AttentionCase& c) : case_(c) {
    if (c.bias_reach >= 0) bias_ = random_floats(99, c.H * (2 * c.bias_reach + 1));
  }

  /// One row for each of `counts`, the keys it sees; they share a cache that ends with the longest.
  void add_group(const std::vector<int>& counts) {
    const int length = *std::max_element(counts.begin(), counts.end());
    add_cache(length, whole_blocks(length), 1);
    for (int position = 0; position < length; ++position) append(position, 0, position);
    add_rows(counts);
  }

  /// A cache of `lanes` lanes whose positions are filled by append().
  void add_cache(int64_t length, int64_t tail_begin, int64_t lanes) {
    caches_.push_back(std::make_unique<KvCacheMemory>(case_.G, case_.E, whole_blocks(length),
                                                      tail_begin, lanes, case_.dtype));
    groups_.push_back({.first_row = std::ssize(key_counts_), .kv = caches_.back()->view()});
  }

  /// Random keys and values, the same for the same seed.
  void append(int position, int lane, int seed) {
    const auto serial = static_cast<uint32_t>(seed) * 2 + 1000;
    std::vector<float> k = random_floats(serial, case_.G * case_.E);
    std::vector<float> v = random_floats(serial + 1, case_.G * case_.E);
    KvGroup group = groups_.back();
    group.first_row = 0;
    group.num_rows = 1;
    ref::append_kv({.k = heads_of(k, 1, case_.G, case_.E),
                    .v = heads_of(v, 1, case_.G, case_.E),
                    .groups = std::span(&group, 1),
                    .positions = std::span(&position, 1),
                    .append_lanes = std::span(&lane, 1),
                    .cache_dtype = case_.dtype});
  }

  /// Rows of the last group.
  void add_rows(const std::vector<int>& counts) {
    for (size_t i = 0; i < counts.size(); ++i) add_row(counts[i], seed_of(counts[i], i));
  }
  void add_row(int count, uint32_t seed) {
    for (const float value : random_floats(seed, case_.H * case_.E)) q_.push_back(4 * value);
    key_counts_.push_back(count);
    query_positions_.push_back(count - 1);
    ++groups_.back().num_rows;
  }
  /// What the query of row `i` of a group is made from.
  [[nodiscard]] static uint32_t seed_of(int count, size_t i) {
    return static_cast<uint32_t>(count * 1024) + static_cast<uint32_t>(i);
  }
  /// Forgets the rows of the only group, not its keys and values.
  void clear_rows() {
    q_.clear();
    key_counts_.clear();
    query_positions_.clear();
    groups_.back().num_rows = 0;
  }
  void set_lanes(const std::vector<std::vector<int32_t>>& lanes) {
    lanes_.emplace_back();
    for (const auto& row : lanes) lanes_.back().insert(lanes_.back().end(), row.begin(), row.end());
    groups_.back().lane_stride = std::ssize(lanes[0]);
    groups_.back().lanes = lanes_.back().data();
  }

  [[nodiscard]] AttentionArgs args(std::vector<float>& out) const {
    const int64_t N = std::ssize(key_counts_);
    const Shape shape{N, case_.H, case_.E};
    out.assign(q_.size(), 0.0f);
    AttentionArgs args{.q = ConstView(q_.data(), DType::f32, shape),
                       .out = View(out.data(), DType::f32, shape),
                       .kv_heads = case_.G,
                       .cache_dtype = case_.dtype,
                       .groups = groups_,
                       .key_counts = key_counts_,
                       .window = case_.window,
                       .scale = 1.0f / std::sqrt(static_cast<float>(case_.E)),
                       .score_cap = case_.score_cap};
    if (!bias_.empty()) {
      args.bias = ConstView(bias_.data(), DType::f32, {case_.H, 2 * case_.bias_reach + 1});
      args.bias_reach = case_.bias_reach;
      args.query_positions = query_positions_;
    }
    return args;
  }
  [[nodiscard]] std::vector<float> run(Context& ctx) const {
    std::vector<float> out;
    attention(ctx, args(out));
    return out;
  }
  [[nodiscard]] std::vector<float> expected() const {
    std::vector<float> out;
    ref::attention(args(out));
    return out;
  }

 private:
  AttentionCase case_;
  std::vector<float> q_;
  std::vector<float> bias_;
  std::vector<int32_t> key_counts_;
  std::vector<int32_t> query_positions_;
  std::vector<std::vector<int32_t>> lanes_;
  std::vector<std::unique_ptr<KvCacheMemory>> caches_;
  std::vector<KvGroup> groups_;
};

/// Checks every instruction set against the reference, and AVX2 against AVX-512.
void expect_right(const Rows& rows) {
  const std::vector<float> expected = rows.expected();
  std::vector<std::vector<float>> vectorised;
  for (const CpuIsa isa : instruction_sets()) {
    Context ctx = context_of(isa, 1);
    const std::vector<float> out = rows.run(ctx);
    ASSERT_LE(largest_difference(expected, out), 5e-6) << name(isa);
    if (isa != CpuIsa::portable) vectorised.push_back(out);
  }
  for (const auto& out : vectorised) ASSERT_EQ(vectorised[0], out);
}

std::vector<int> causal_counts(int first, int last) {
  std::vector<int> counts;
  for (int count = first; count <= last; ++count) counts.push_back(count);
  return counts;
}

const std::vector<AttentionCase>& cases() {
  static const std::vector<AttentionCase> list = {
      {.H = 1, .G = 1, .E = 1},
      {.H = 4, .G = 2, .E = 5},
      {.H = 6, .G = 1, .E = 16, .bias_reach = 7},
      {.H = 2, .G = 2, .E = 16, .window = 20},
      {.H = 2, .G = 2, .E = 64},
      {.H = 4, .G = 2, .E = 64, .window = 300, .score_cap = 2},
      {.H = 3, .G = 3, .E = 80, .bias_reach = 128},
      {.H = 8, .G = 1, .E = 80, .window = 1},
      {.H = 2, .G = 1, .E = 128, .score_cap = 5, .bias_reach = 0},
      {.H = 2, .G = 1, .E = 144},
      {.H = 1, .G = 1, .E = 23, .window = 16, .dtype = DType::bf16},
      {.H = 4, .G = 2, .E = 64, .dtype = DType::bf16},
      {.H = 2,
       .G = 2,
       .E = 80,
       .window = 37,
       .score_cap = 3,
       .bias_reach = 20,
       .dtype = DType::bf16}};
  return list;
}

constexpr int kLengths[] = {1, 15, 16, 17, 100, 255, 256, 257, 700};

TEST(Attention, of_one_row_equals_the_reference) {
  for (const AttentionCase& c : cases()) {
    for (const int length : kLengths) {
      SCOPED_TRACE(testing::Message() << c << " length " << length);
      Rows rows(c);
      rows.add_group({length});
      expect_right(rows);
    }
  }
}

TEST(Attention, of_rows_that_see_all_equals_the_reference) {
  for (const AttentionCase& c : cases()) {
    for (const int length : {1, 15, 17, 100, 257}) {
      for (const int num_rows : {2, 3, 4, 5, 7, 16}) {
        SCOPED_TRACE(testing::Message() << c << " length " << length << " rows " << num_rows);
        Rows rows(c);
        rows.add_group(std::vector<int>(static_cast<size_t>(num_rows), length));
        expect_right(rows);
      }
    }
  }
}

TEST(Attention, of_a_causal_prompt_equals_the_reference) {
  for (const AttentionCase& c : cases()) {
    for (const auto& [first, last] : {std::pair{1, 1}, {1, 15}, {1, 40}, {90, 100}, {250, 275}}) {
      SCOPED_TRACE(testing::Message() << c << " counts " << first << " ... " << last);
      Rows rows(c);
      rows.add_group(causal_counts(first, last));
      expect_right(rows);
    }
  }
}

TEST(Attention, of_rows_far_apart_equals_the_reference) {
  for (const AttentionCase& c : cases()) {
    SCOPED_TRACE(testing::Message() << c);
    Rows rows(c);
    rows.add_group({700, 1, 256, 257, 3, 512, 511, 40});
    rows.add_group({5});
    expect_right(rows);
  }
}

// A windowed row may stand beside rows that see other positions; what lies between was never
// written.
TEST(Attention, never_reads_values_that_a_row_does_not_see) {
  for (const CpuIsa isa : instruction_sets()) {
    Context ctx = context_of(isa, 1);
    Rows rows({.H = 2, .G = 2, .E = 16, .window = 10});
    rows.add_cache(400, 400, 1);
    for (int position = 0; position < 400; ++position) {
      const bool is_seen = position < 12 || (position >= 290 && position < 300);
      if (is_seen) rows.append(position, 0, position);
    }
    rows.add_rows({10, 12, 300, 5});
    EXPECT_LE(largest_difference(rows.expected(), rows.run(ctx)), 5e-6) << name(isa);
  }
}

TEST(Attention, of_a_prompt_equals_step_by_step) {
  for (const CpuIsa isa : instruction_sets()) {
    Context ctx = context_of(isa, 2);
    for (const AttentionCase& c : cases()) {
      SCOPED_TRACE(testing::Message() << c << " " << name(isa));
      const int last = c.E == 64 ? 300 : 70;
      Rows prompt(c);
      prompt.add_group(causal_counts(1, last));
      Rows step(c);
      step.add_cache(last, whole_blocks(last), 1);
      std::vector<float> steps;
      for (int count = 1; count <= last; ++count) {
        step.append(count - 1, 0, count - 1);
        step.clear_rows();
        step.add_row(count, prompt.seed_of(count, static_cast<size_t>(count - 1)));
        const std::vector<float> out = step.run(ctx);
        steps.insert(steps.end(), out.begin(), out.end());
      }
      ASSERT_EQ(prompt.run(ctx), steps);
    }
  }
}

TEST(Attention, of_many_requests_equals_that_of_each) {
  const std::vector<std::vector<int>> requests = {{5, 6, 7}, {300},   {1, 1, 1, 1, 1, 1, 1},
                                                  {},        {64, 2}, {17}};
  for (const CpuIsa isa : instruction_sets()) {
    Context ctx = context_of(isa, 2);
    for (const AttentionCase& c : cases()) {
      Rows together(c);
      std::vector<float> apart;
      for (const std::vector<int>& counts : requests) {
        if (counts.empty()) {
          together.add_cache(16, 16, 1);
          continue;
        }
        together.add_group(counts);
        Rows alone(c);
        alone.add_group(counts);
        const std::vector<float> out = alone.run(ctx);
        apart.insert(apart.end(), out.begin(), out.end());
      }
      ASSERT_EQ(together.run(ctx), apart) << c << " " << name(isa);
    }
  }
}

TEST(Attention, has_the_same_bits_for_any_threads) {
  for (const CpuIsa isa : instruction_sets()) {
    for (const AttentionCase& c : cases()) {
      Rows rows(c);
      rows.add_group({400});
      rows.add_group(causal_counts(1, 100));
      Context one = context_of(isa, 1);
      const std::vector<float> expected = rows.run(one);
      for (const int num_threads : {2, 3, 7}) {
        Context ctx = context_of(isa, num_threads);
        ASSERT_EQ(expected, rows.run(ctx)) << c << " " << name(isa) << " threads " << num_threads;
      }
    }
  }
}

/// Beams of one request after random reorderings: the lane of each position of each beam. The
/// first `prefix` positions are shared.
std::vector<std::vector<int32_t>> beam_history(std::mt19937& random, int num_beams, int prefix,
                                               int length) {
  std::vector<std::vector<int32_t>> lanes(static_cast<size_t>(num_beams),
                                          std::vector<int32_t>(static_cast<size_t>(length), 0));
  for (int position = prefix; position < length; ++position) {
    for (int beam = 0; beam < num_beams; ++beam) {
      lanes[static_cast<size_t>(beam)][static_cast<size_t>(position)] = beam;
    }
    const auto before = lanes;
    for (auto& lane : lanes) {
      if (random_int(random, 0, 2) == 0) lane = before[random() % before.size()];
    }
  }
  return lanes;
}

TEST(Attention, of_beams_equals_that_of_copied_caches) {
  std::mt19937 random(11);
  for (AttentionCase c : cases()) {
    for (const auto& [prefix, length] :
         {std::pair{0, 1}, {0, 33}, {3, 20}, {16, 17}, {40, 100}, {250, 290}, {300, 600}}) {
      const int num_beams = random_int(random, 1, 8);
      SCOPED_TRACE(testing::Message()
                   << c << " prefix " << prefix << " length " << length << " beams " << num_beams);
      const auto lanes = beam_history(random, num_beams, prefix, length);
      Rows beams(c);
      beams.add_cache(length, prefix / kKeyBlock * kKeyBlock, num_beams);
      for (int position = 0; position < length; ++position) {
        for (int lane = 0; lane < (position < prefix ? 1 : num_beams); ++lane) {
          beams.append(position, lane, position * 16 + lane);
        }
      }
      beams.set_lanes(lanes);
      Rows copies(c);
      for (int beam = 0; beam < num_beams; ++beam) {
        const auto& own = lanes[static_cast<size_t>(beam)];
        // Beams may also see different numbers of positions.
        const int count = prefix == 3 ? length - beam % 3 : length;
        const auto seed = static_cast<uint32_t>(random());
        beams.add_row(count, seed);
        copies.add_cache(length, whole_blocks(length), 1);
        for (int position = 0; position < count; ++position) {
          copies.append(position, 0, position * 16 + own[static_cast<size_t>(position)]);
        }
        copies.add_row(count, seed);
      }
      expect_right(beams);
      for (const CpuIsa isa : instruction_sets()) {
        Context ctx = context_of(isa, 2);
        ASSERT_EQ(beams.run(ctx), copies.run(ctx)) << name(isa);
      }
    }
  }
}

TEST(Attention, keeps_rows_outside_the_groups) {
  Context ctx({.num_threads = 1});
  Rows rows({});
  rows.add_group({4, 4});
  std::vector<float> out;
  AttentionArgs args = rows.args(out);
  KvGroup group = args.groups[0];
  group.first_row = 1;
  group.num_rows = 1;
  args.groups = std::span(&group, 1);
  out.assign(out.size(), 7.0f);
  attention(ctx, args);
  EXPECT_EQ(std::count(out.begin(), out.begin() + 48, 7.0f), 48);
  EXPECT_EQ(std::count(out.begin() + 48, out.end(), 7.0f), 0);
}

TEST(Attention, survives_scores_beyond_the_range_of_exp) {
  for (const CpuIsa isa : instruction_sets()) {
    Context ctx = context_of(isa, 1);
    Rows rows({.H = 1, .G = 1, .E = 16});
    rows.add_group({300});
    std::vector<float> out;
    AttentionArgs args = rows.args(out);
    args.scale = 1e4f;
    attention(ctx, args);
    std::vector<float> expected;
    AttentionArgs plain = rows.args(expected);
    plain.scale = 1e4f;
    ref::attention(plain);
    EXPECT_LE(largest_difference(expected, out), 1e-3) << name(isa);
  }
}

TEST(Attention, names_what_is_wrong) {
  Context ctx({.num_threads = 1});
  const auto expect_wrong = [&](auto change, std::string_view message,
                                ErrorKind kind = ErrorKind::value) {
    Rows rows({.H = 4, .G = 2, .bias_reach = 3});
    rows.add_cache(40, 16, 2);
    for (int position = 0; position < 40; ++position) rows.append(position, 0, position);
    rows.add_rows({20, 40});
    rows.set_lanes({std::vector<int32_t>(40, 0), std::vector<int32_t>(40, 0)});
    std::vector<float> out;
    AttentionArgs args = rows.args(out);
    std::vector<KvGroup> groups(args.groups.begin(), args.groups.end());
    args.groups = groups;
    change(args, groups[0], const_cast<int32_t*>(groups[0].lanes));
    expect_error(kind, message, [&] { attention(ctx, args); });
  };
  expect_wrong([](auto& args, auto&, auto*) { args.cache_dtype = DType::i8; },
               "attention: cache_dtype must be float32 or bfloat16, got int8", ErrorKind::type);
  expect_wrong([](auto& args, auto&, auto*) { args.q.dtype = DType::bf16; },
               "attention: q must be float32, got bfloat16", ErrorKind::type);
  expect_wrong([](auto& args, auto&, auto*) { args.out.shape = {2, 4, 8}; },
               "attention: out must have shape [2, 4, 16] to match q [2, 4, 16], got [2, 4, 8]");
  expect_wrong([](auto& args, auto&, auto*) { args.kv_heads = 3; },
               "attention: kv_heads must divide 4 heads, got 3");
  expect_wrong([](auto& args, auto&, auto*) { args.window = -1; },
               "attention: window must not be negative, got -1");
  expect_wrong([](auto& args, auto&, auto*) { args.key_counts = args.key_counts.first(1); },
               "attention: key_counts must have 2 elements to match q [2, 4, 16], got 1");
  expect_wrong([](auto&, auto& group, auto*) { group.kv.capacity = 32; },
               "attention: key_counts[1] must be in 1 ... 32, got 40");
  expect_wrong([](auto& args, auto&, auto*) { args.bias_reach = 2; },
               "attention: bias must have shape [4, 5]");
  expect_wrong([](auto& args, auto&, auto*) { args.query_positions = {}; },
               "attention: query_positions must have 2 elements");
  expect_wrong([](auto&, auto& group, auto*) { group.lane_stride = 39; },
               "attention: lane_stride must be at least the keys of row 1 (40), got 39");
  expect_wrong(
      [](auto&, auto&, auto* lanes) { lanes[15] = 1; },
      "attention: lanes of row 0 must be 0 or a lane that holds position 15 (from 16 on), got 1");
  expect_wrong(
      [](auto&, auto&, auto* lanes) { lanes[16] = -1; },
      "attention: lanes of row 0 must be 0 or a lane that holds position 16 (from 16 on), got -1");
  expect_wrong(
      [](auto&, auto& group, auto* lanes) {
        lanes[17] = 1;
        group.kv.k_tail = nullptr;
      },
      "attention: lanes of row 0 must be 0 or a lane that holds position 17");
}

}  // namespace
}  // namespace fuseq::inline v0::op_test
