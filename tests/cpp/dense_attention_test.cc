// SPDX-License-Identifier: Apache-2.0
// dense_attention against its reference.
#include <gtest/gtest.h>

#include <vector>

#include "fuseq/kernels.h"
#include "kernels/ref/attention_ref.h"
#include "kv_cache_memory.h"

namespace fuseq::inline v0::op_test {
namespace {

struct DenseCase {
  int64_t B = 2;
  int64_t T = 3;
  int64_t S = 5;
  int64_t H = 4;
  int64_t G = 2;
  int64_t E = 16;
  bool causal = false;
  bool has_lengths = false;
  int64_t window = 0;
  float scale = 0;
  float score_cap = 0;
  bool heads_first = false;  ///< memory order [B, heads, rows, E]
};

class DenseArrays {
 public:
  explicit DenseArrays(const DenseCase& c)
      : case_(c),
        q_(random_floats(1, c.B * c.T * c.H * c.E)),
        k_(random_floats(2, c.B * c.S * c.G * c.E)),
        v_(random_floats(3, c.B * c.S * c.G * c.E)) {
    for (int64_t b = 0; b < c.B; ++b) {
      lengths_.push_back(static_cast<int32_t>(b % 3 == 1 ? 0 : c.S - b % (c.S + 1)));
    }
  }

  [[nodiscard]] DenseAttentionArgs args(std::vector<float>& out) {
    out.assign(q_.size(), 7.0f);
    DenseAttentionArgs args{.q = view(q_, case_.T, case_.H),
                            .k = view(k_, case_.S, case_.G),
                            .v = view(v_, case_.S, case_.G),
                            .causal = case_.causal,
                            .window = case_.window,
                            .scale = case_.scale,
                            .score_cap = case_.score_cap,
                            .out = view(out, case_.T, case_.H)};
    if (case_.has_lengths) args.lengths = ConstView(lengths_.data(), DType::i32, {case_.B});
    return args;
  }

 private:
  [[nodiscard]] View view(std::vector<float>& values, int64_t rows, int64_t heads) const {
    const int64_t E = case_.E;
    const Shape shape{case_.B, rows, heads, E};
    if (!case_.heads_first) return {values.data(), DType::f32, shape};
    return {values.data(), DType::f32, shape, {heads * rows * E, E, rows * E, 1}};
  }

  DenseCase case_;
  std::vector<float> q_;
  std::vector<float> k_;
  std::vector<float> v_;
  std::vector<int32_t> lengths_;
};

TEST(DenseAttention, equals_the_reference) {
  const std::vector<DenseCase> cases = {
      {},
      {.B = 1, .T = 1, .S = 1, .H = 1, .G = 1, .E = 1},
      {.B = 0},
      {.T = 0},
      {.S = 0},
      {.B = 3, .T = 17, .S = 17, .causal = true},
      {.B = 3, .T = 5, .S = 300, .E = 64, .causal = true, .has_lengths = true},
      {.B = 4, .T = 20, .S = 12, .causal = true, .heads_first = true},
      {.B = 5, .T = 7, .S = 40, .H = 6, .G = 6, .E = 80, .has_lengths = true, .scale = 0.5f},
      {.B = 2, .T = 70, .S = 70, .H = 2, .E = 23, .causal = true, .window = 9, .score_cap = 1},
      {.B = 3,
       .T = 33,
       .S = 260,
       .H = 2,
       .G = 1,
       .E = 128,
       .has_lengths = true,
       .heads_first = true}};
  for (size_t i = 0; i < cases.size(); ++i) {
    DenseArrays arrays(cases[i]);
    std::vector<float> expected;
    ref::dense_attention(arrays.args(expected));
    std::vector<std::vector<float>> vectorised;
    for (const CpuIsa isa : instruction_sets()) {
      for (const int num_threads : {1, 3}) {
        Context ctx = context_of(isa, num_threads);
        std::vector<float> out;
        dense_attention(ctx, arrays.args(out));
        EXPECT_LE(largest_difference(expected, out), 5e-6) << "case " << i << " " << name(isa);
        if (isa != CpuIsa::portable) vectorised.push_back(out);
      }
    }
    for (const auto& out : vectorised) EXPECT_EQ(vectorised[0], out) << "case " << i;
  }
}

TEST(DenseAttention, gives_zeros_to_a_query_that_sees_nothing) {
  Context ctx({.num_threads = 1});
  DenseArrays arrays({.B = 2, .T = 4, .S = 2, .causal = true});
  std::vector<float> out;
  dense_attention(ctx, arrays.args(out));
  const int64_t row = 4 * 16;
  for (const int64_t first : {int64_t{0}, 4 * row}) {  // two queries of each batch row
    for (int64_t i = 0; i < 2 * row; ++i) ASSERT_EQ(out[static_cast<size_t>(first + i)], 0);
    ASSERT_NE(out[static_cast<size_t>(first + 2 * row)], 0);
  }
}

TEST(DenseAttention, names_what_is_wrong) {
  Context ctx({.num_threads = 1});
  const auto expect_wrong = [&](auto change, std::string_view message,
                                ErrorKind kind = ErrorKind::value) {
    DenseArrays arrays({.has_lengths = true});
    std::vector<float> out;
    std::vector<int32_t> lengths = {5, 0};
    DenseAttentionArgs args = arrays.args(out);
    args.lengths.data = lengths.data();
    change(args, lengths);
    expect_error(kind, message, [&] { dense_attention(ctx, args); });
  };
  expect_wrong([](auto& args, auto&) { args.q.shape = {2, 3, 64}; },
               "dense_attention: q must have shape [batch, queries, heads, width], got [2, 3, 64]");
  expect_wrong([](auto& args, auto&) { args.k.shape = {2, 5, 3, 16}; },
               "dense_attention: the heads of k must divide the 4 heads of q, got 3");
  expect_wrong([](auto& args, auto&) { args.v.shape = {2, 4, 2, 16}; },
               "dense_attention: v must have shape [2, 5, 2, 16] to match k [2, 5, 2, 16], got [2, "
               "4, 2, 16]");
  expect_wrong([](auto& args, auto&) { args.out.shape = {2, 3, 4, 8}; },
               "dense_attention: out must have shape [2, 3, 4, 16]");
  expect_wrong([](auto& args, auto&) { args.q.strides[3] = 2; },
               "dense_attention: q must have the elements of a row side by side");
  expect_wrong([](auto& args, auto&) { args.k.dtype = DType::f64; },
               "dense_attention: k must be float32, got float64", ErrorKind::type);
  expect_wrong([](auto& args, auto&) { args.lengths.dtype = DType::i64; },
               "dense_attention: lengths must be int32, got int64", ErrorKind::type);
  expect_wrong([](auto& args, auto&) { args.lengths.shape = {3}; },
               "dense_attention: lengths must have shape [2]");
  expect_wrong([](auto&, auto& lengths) { lengths[1] = 6; },
               "dense_attention: lengths[1] must be in 0 ... 5, got 6");
  expect_wrong([](auto& args, auto&) { args.window = -2; },
               "dense_attention: window must not be negative, got -2");
}

}  // namespace
}  // namespace fuseq::inline v0::op_test
