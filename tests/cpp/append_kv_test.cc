// SPDX-License-Identifier: Apache-2.0
// append_kv against its reference, on every instruction set of the machine.
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "fuseq/kernels.h"
#include "kernels/ref/attention_ref.h"
#include "kv_cache_memory.h"

namespace fuseq::inline v0::op_test {
namespace {

/// Rows of two requests, with everything append_kv may be asked for.
struct AppendCase {
  int64_t H = 0;
  int64_t G = 2;
  int64_t E = 16;
  std::vector<int64_t> rows = {3, 1};
  bool has_lanes = false;
  bool has_norm = false;
  bool has_rope = false;
  Norm norm = Norm::rms;
  DType dtype = DType::f32;
};

struct AppendResult {
  std::vector<float> q;
  std::vector<float> k;
  std::vector<KvCacheMemory> caches;
};

/// Runs `append(args)` on a copy of the same random input every time.
template <typename Append>
AppendResult run_case(const AppendCase& c, Append append) {
  std::mt19937 random(7);
  constexpr int64_t kCapacity = 64;
  constexpr int64_t kTailBegin = 16;
  int64_t N = 0;
  for (const int64_t rows : c.rows) N += rows;
  // Heads lie inside wider rows, as they do in a fused product.
  const int64_t width = (c.H + 2 * c.G) * c.E + 3;
  std::vector<float> fused = random_floats(1, N * width);
  const auto heads = [&](int64_t first, int64_t count) {
    return View(fused.data() + first * c.E, DType::f32, {N, count, c.E}, {width, c.E, 1});
  };
  AppendResult result;
  std::vector<KvGroup> groups;
  std::vector<int32_t> positions;
  std::vector<int32_t> lanes;
  result.caches.reserve(c.rows.size());
  for (const int64_t rows : c.rows) {
    result.caches.emplace_back(c.G, c.E, kCapacity, kTailBegin, 3, c.dtype);
    groups.push_back({.first_row = static_cast<int64_t>(positions.size()),
                      .num_rows = rows,
                      .kv = result.caches.back().view()});
    const int first = random_int(random, kTailBegin, static_cast<int>(kCapacity - rows));
    for (int64_t i = 0; i < rows; ++i) {
      positions.push_back(first + static_cast<int32_t>(i));
      lanes.push_back(random_int(random, 0, 2));
    }
  }
  std::vector<float> q_norm = random_floats(2, c.E);
  std::vector<float> k_norm = random_floats(3, c.E);
  std::vector<float> frequencies;
  for (int64_t i = 0; i < c.E / 2; ++i) {
    frequencies.push_back(
        std::pow(10000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(c.E)));
  }
  AppendKvArgs args{.k = heads(c.H, c.G), .v = heads(c.H + c.G, c.G)};
  args.groups = groups;
  args.positions = positions;
  args.cache_dtype = c.dtype;
  args.norm = c.norm;
  if (c.H > 0) args.q = heads(0, c.H);
  if (c.has_lanes) args.append_lanes = lanes;
  if (c.has_rope) args.inverse_frequencies = frequencies;
  if (c.has_norm) {
    if (c.H > 0) args.q_norm = ConstView(q_norm.data(), DType::f32, {c.E});
    args.k_norm = ConstView(k_norm.data(), DType::f32, {c.E});
  }
  append(args);
  result.q = fused;  // with everything around the heads, which must not change
  return result;
}

std::vector<AppendCase> all_cases() {
  std::vector<AppendCase> cases;
  for (const int64_t E : {1, 2, 5, 16, 34, 64, 80, 128}) {
    for (const auto& [H, G] : std::vector<std::pair<int64_t, int64_t>>{{0, 1}, {3, 3}, {6, 2}}) {
      for (const bool has_lanes : {false, true}) {
        cases.push_back({.H = H, .G = G, .E = E, .rows = {1, 17, 0, 31}, .has_lanes = has_lanes});
        cases.push_back({.H = H, .G = G, .E = E, .has_lanes = has_lanes, .has_norm = true});
        if (E % 2 == 0) {
          cases.push_back({.H = H, .G = G, .E = E, .has_lanes = has_lanes, .has_rope = true});
          cases.push_back({.H = H,
                           .G = G,
                           .E = E,
                           .has_lanes = has_lanes,
                           .has_norm = true,
                           .has_rope = true,
                           .norm = Norm::layer});
          cases.push_back({.H = H,
                           .G = G,
                           .E = E,
                           .has_lanes = has_lanes,
                           .has_norm = true,
                           .has_rope = true,
                           .norm = Norm::rms_plus_one});
        }
      }
    }
  }
  return cases;
}

TEST(AppendKv, equals_the_reference) {
  for (const CpuIsa isa : instruction_sets()) {
    Context ctx = context_of(isa, 2);
    for (const AppendCase& c : all_cases()) {
      SCOPED_TRACE(testing::Message() << name(isa) << " H " << c.H << " G " << c.G << " E " << c.E
                                      << " lanes " << c.has_lanes << " norm " << c.has_norm << " "
                                      << static_cast<int>(c.norm) << " rope " << c.has_rope);
      const AppendResult expected =
          run_case(c, [](const AppendKvArgs& args) { ref::append_kv(args); });
      const AppendResult got = run_case(c, [&](const AppendKvArgs& args) { append_kv(ctx, args); });
      EXPECT_LE(largest_difference(expected.q, got.q), 1e-5);
      for (size_t i = 0; i < got.caches.size(); ++i) {
        EXPECT_LE(largest_difference(expected.caches[i].keys(), got.caches[i].keys()), 1e-5);
        EXPECT_EQ(largest_difference(expected.caches[i].values(), got.caches[i].values()), 0);
      }
    }
  }
}

TEST(AppendKv, rounds_to_bfloat16_like_the_reference) {
  for (const CpuIsa isa : instruction_sets()) {
    Context ctx = context_of(isa, 1);
    for (const int64_t E : {1, 3, 5, 16, 64, 66, 80}) {
      for (const bool has_lanes : {false, true}) {
        // 31 rows without lanes hold a whole block at least.
        const AppendCase c{
            .H = 2, .E = E, .rows = {1, 20, 31}, .has_lanes = has_lanes, .dtype = DType::bf16};
        const AppendResult expected =
            run_case(c, [](const AppendKvArgs& args) { ref::append_kv(args); });
        const AppendResult got =
            run_case(c, [&](const AppendKvArgs& args) { append_kv(ctx, args); });
        for (size_t i = 0; i < got.caches.size(); ++i)
          EXPECT_TRUE(expected.caches[i] == got.caches[i]);
      }
    }
  }
}

TEST(AppendKv, has_the_same_bits_for_any_threads_and_vectors) {
  const AppendCase c{.H = 6,
                     .G = 2,
                     .E = 80,
                     .rows = {48, 20, 1},
                     .has_lanes = true,
                     .has_norm = true,
                     .has_rope = true};
  const auto run_with = [&](CpuIsa isa, int num_threads) {
    Context ctx = context_of(isa, num_threads);
    return run_case(c, [&](const AppendKvArgs& args) { append_kv(ctx, args); });
  };
  for (const CpuIsa isa : instruction_sets()) {
    const AppendResult one = run_with(isa == CpuIsa::avx512 ? CpuIsa::avx2 : isa, 1);
    for (const int num_threads : {1, 2, 3, 7}) {
      const AppendResult many = run_with(isa, num_threads);
      EXPECT_EQ(one.q, many.q) << name(isa) << " with " << num_threads << " threads";
      for (size_t i = 0; i < one.caches.size(); ++i) EXPECT_TRUE(one.caches[i] == many.caches[i]);
    }
  }
}

TEST(AppendKv, takes_no_rows) {
  Context ctx({.num_threads = 1});
  std::vector<float> none(1);
  EXPECT_NO_THROW(append_kv(ctx, {.k = heads_of(none, 0, 2, 4), .v = heads_of(none, 0, 2, 4)}));
}

TEST(AppendKv, names_what_is_wrong) {
  Context ctx({.num_threads = 1});
  const auto expect_wrong = [&](auto change, std::string_view message,
                                ErrorKind kind = ErrorKind::value) {
    const auto append = [&](AppendKvArgs args) {
      std::vector<int32_t> positions(args.positions.begin(), args.positions.end());
      std::vector<int32_t> lanes(args.append_lanes.begin(), args.append_lanes.end());
      std::vector<KvGroup> groups(args.groups.begin(), args.groups.end());
      args.groups = groups;
      args.positions = positions;
      args.append_lanes = lanes;
      change(args, groups, positions, lanes);
      append_kv(ctx, args);
    };
    const AppendCase c{.H = 2, .has_lanes = true, .has_norm = true, .has_rope = true};
    expect_error(kind, message, [&] { run_case(c, append); });
  };
  expect_wrong([](auto& args, auto&, auto&, auto&) { args.cache_dtype = DType::f16; },
               "append_kv: cache_dtype must be float32 or bfloat16, got float16", ErrorKind::type);
  expect_wrong([](auto& args, auto&, auto&, auto&) { args.k.dtype = DType::i32; },
               "append_kv: k must be float32, got int32", ErrorKind::type);
  expect_wrong([](auto& args, auto&, auto&, auto&) { args.v.shape = {4, 2, 8}; },
               "append_kv: v must have shape [4, 2, 16] to match k [4, 2, 16], got [4, 2, 8]");
  expect_wrong([](auto& args, auto&, auto&, auto&) { args.q.shape = {3, 2, 16}; },
               "append_kv: q must have shape [4, heads, 16] to match k [4, 2, 16], got [3, 2, 16]");
  expect_wrong([](auto& args, auto&, auto&, auto&) { args.positions = args.positions.first(2); },
               "append_kv: positions must have 4 elements to match k [4, 2, 16], got 2");
  expect_wrong([](auto& args, auto&, auto&, auto&) { args.k_norm.shape = {8}; },
               "append_kv: k_norm must have shape [16]");
  expect_wrong([](auto& args, auto&, auto&,
                  auto&) { args.inverse_frequencies = args.inverse_frequencies.first(3); },
               "append_kv: inverse_frequencies must have 8 elements");
  expect_wrong([](auto&, auto&, auto& positions, auto&) { positions[1] = 64; },
               "append_kv: positions[1] must be in 0 ... 63, got 64");
  expect_wrong([](auto&, auto&, auto& positions, auto&) { positions[0] = -1; },
               "append_kv: positions[0] must be in 0 ... 63, got -1");
  expect_wrong([](auto&, auto&, auto&, auto& lanes) { lanes[2] = -1; },
               "append_kv: append_lanes[2] must be 0 or a lane that holds position");
  expect_wrong(
      [](auto&, auto&, auto& positions, auto& lanes) {
        positions[2] = 15;
        lanes[2] = 1;
      },
      "append_kv: append_lanes[2] must be 0 or a lane that holds position 15 (from 16 on), got 1");
  expect_wrong([](auto&, auto& groups, auto&, auto&) { groups[1].num_rows = 2; },
               "append_kv: groups[1] must lie in rows 3 ... 3, got 2 rows from 3");
  expect_wrong([](auto&, auto& groups, auto&, auto&) { groups[0].kv.capacity = 63; },
               "append_kv: capacity and tail_begin of groups[0] must be multiples of 16");
  expect_wrong([](auto&, auto& groups, auto&, auto&) { groups[0].kv.v = nullptr; },
               "append_kv: groups[0] must have keys and values, got a null pointer");
}

}  // namespace
}  // namespace fuseq::inline v0::op_test
