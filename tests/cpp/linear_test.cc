// SPDX-License-Identifier: Apache-2.0
// linear against the plain version: shapes, activations, strides, equal bits, errors.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "base/memory.h"
#include "base/message.h"
#include "fuseq/kernels.h"
#include "kernels/quantized_rows.h"
#include "kernels/ref/linear_ref.h"
#include "op_arrays.h"

namespace fuseq::inline v0::op_test {
namespace {

constexpr int64_t kInputs[] = {1, 3, 16, 17, 64, 768};
constexpr int64_t kOutputs[] = {1, 31, 32, 33, 64, 100, 768, 3072};
constexpr int64_t kRows[] = {0, 1, 2, 3, 5, 8, 11, 12, 13, 17, 32, 100};
/// Larger products are compared with each other only: the plain version would take too long.
constexpr int64_t kMostForReference = 1'500'000;

/// |x|, |w| <= 1: rounding errors of a sum of I products grow about as its square root.
double tolerance(int64_t I) {
  return 3e-7 * std::sqrt(static_cast<double>(I)) * 4 + 1e-6;
}

PackedMatrix packed(DType dtype, const Matrix& w) {
  Context ctx = context_of(CpuIsa::automatic, 1);
  PackedMatrix matrix(dtype, w.rows, w.columns);
  pack(ctx, w.view(), matrix);
  return matrix;
}

std::string describe(int64_t N, int64_t I, int64_t O, CpuIsa isa, int threads) {
  return concat("N ", N, " I ", I, " O ", O, " ", name(isa), " threads ", threads);
}

class Linear : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Dtypes, Linear, testing::Values(DType::f32, DType::bf16, DType::i8),
                         [](const auto& instance) { return std::string(name(instance.param)); });

TEST_P(Linear, equals_the_reference_and_itself_on_any_threads_and_instruction_set) {
  std::vector<Context> contexts;
  std::vector<std::pair<CpuIsa, int>> kinds;
  for (const CpuIsa isa : instruction_sets()) {
    for (const int threads : {1, 2, 3, 7}) {
      contexts.push_back(context_of(isa, threads));
      kinds.emplace_back(isa, threads);
    }
  }
  for (const int64_t I : kInputs) {
    for (const int64_t O : kOutputs) {
      const PackedMatrix w = packed(GetParam(), Matrix(O, I, 1));
      const std::vector<float> bias = random_floats(2, O);
      for (const int64_t N : kRows) {
        const Matrix x(N, I, I + 5, 3);
        Matrix expected(N, O, 4);
        LinearArgs args{.x = x.view(), .w = &w, .bias = vector_view(bias), .y = expected.view()};
        const bool compare = N * I * O <= kMostForReference;
        if (compare) ref::linear(args);
        std::vector<Matrix> firsts;  // of each instruction set
        for (size_t i = 0; i < contexts.size(); ++i) {
          const auto [isa, threads] = kinds[i];
          if (!compare && (isa == CpuIsa::portable || threads == 3)) continue;
          Matrix y(N, O, O + 2, 5);
          args.y = y.view();
          linear(contexts[i], args);
          if (compare) {
            ASSERT_LE(largest_difference(y, expected), tolerance(I))
                << describe(N, I, O, isa, threads);
          }
          ASSERT_TRUE(y.gaps_are_whole());
          // int8 has one result, float32 one for all vector sets; else each set has one for all
          // threads.
          const bool is_new =
              firsts.empty() || (threads == 1 && GetParam() != DType::i8 &&
                                 (GetParam() == DType::bf16 || isa == CpuIsa::portable));
          if (is_new) firsts.push_back(y);
          ASSERT_TRUE(same_bits(firsts.back(), y)) << describe(N, I, O, isa, threads);
        }
      }
    }
  }
}

TEST_P(Linear, rows_do_not_depend_on_other_rows_nor_on_blocks_of_inputs) {
  const int64_t I = 1537, O = 70, N = 1000;  // several blocks of inputs, two passes of rows
  const PackedMatrix w = packed(GetParam(), Matrix(O, I, 1));
  const Matrix x(N, I, 2);
  for (const CpuIsa isa : instruction_sets()) {
    if (isa == CpuIsa::portable) continue;
    Context ctx = context_of(isa, 2);
    Matrix together(N, O, 3);
    linear(ctx, {.x = x.view(), .w = &w, .y = together.view()});
    for (const int64_t height : {1, 2, 7, 12, 30}) {
      Matrix parts = together;
      std::fill(parts.values.begin(), parts.values.end(), 0.0f);
      for (int64_t n = 0; n < N; n += height) {
        const int64_t rows = std::min(height, N - n);
        linear(ctx, {.x = {x.begin(n), DType::f32, {rows, I}},
                     .w = &w,
                     .y = {parts.begin(n), DType::f32, {rows, O}}});
      }
      ASSERT_TRUE(same_bits(together, parts)) << name(isa) << " height " << height;
    }
  }
}

TEST_P(Linear, fuses_activation_gate_and_residual) {
  for (const int64_t N : {1, 4, 30}) {
    for (const int64_t O : {5, 48, 64}) {
      const int64_t I = 40;
      const PackedMatrix w = packed(GetParam(), Matrix(O, I, 1));
      const Matrix x(N, I, 2), gate(N, O, O + 1, 3), residual(N, O, O + 7, 4);
      const std::vector<float> bias = random_floats(5, O);
      for (const Activation act : {Activation::none, Activation::relu, Activation::gelu,
                                   Activation::gelu_tanh, Activation::silu, Activation::tanh}) {
        for (int terms = 0; terms < 8; ++terms) {
          Matrix expected(N, O, 6);
          LinearArgs args{.x = x.view(), .w = &w, .act = act, .y = expected.view()};
          if (terms & 1) args.bias = vector_view(bias);
          if (terms & 2) args.gate = gate.view();
          if (terms & 4) args.residual = residual.view();
          ref::linear(args);
          Matrix first = expected;
          for (const CpuIsa isa : instruction_sets()) {
            Context ctx = context_of(isa, 1);
            Matrix y(N, O, 6);
            args.y = y.view();
            linear(ctx, args);
            ASSERT_LE(largest_difference(y, expected), 2 * tolerance(I))
                << describe(N, I, O, isa, 1);
            if (isa == instruction_sets().front()) first = y;
            const bool exact = GetParam() == DType::i8 && act == Activation::none;
            if ((isa == CpuIsa::avx2 && GetParam() != DType::bf16) || exact) {
              ASSERT_TRUE(same_bits(first, y));
            }
          }
        }
      }
    }
  }
}

TEST_P(Linear, residual_may_be_the_output) {
  const int64_t I = 900, O = 64;
  const PackedMatrix w = packed(GetParam(), Matrix(O, I, 1));
  for (const int64_t N : {1, 12, 40}) {
    const Matrix x(N, I, 2), residual(N, O, O + 3, 3);
    for (const CpuIsa isa : instruction_sets()) {
      Context ctx = context_of(isa, 2);
      Matrix apart(N, O, 4), in_place = residual;
      linear(ctx, {.x = x.view(), .w = &w, .residual = residual.view(), .y = apart.view()});
      linear(ctx, {.x = x.view(), .w = &w, .residual = in_place.view(), .y = in_place.view()});
      EXPECT_TRUE(same_bits(apart, in_place)) << describe(N, I, O, isa, 2);
    }
  }
}

TEST_P(Linear, carries_infinities_and_nan) {
  const int64_t I = 6, O = 3;
  const PackedMatrix w = packed(GetParam(), Matrix(O, I, 1));
  for (const CpuIsa isa : instruction_sets()) {
    Context ctx = context_of(isa, 1);
    for (const Activation act :
         {Activation::none, Activation::relu, Activation::gelu, Activation::silu}) {
      Matrix x(2, I, 2), y(2, O, 3);
      x.begin(1)[4] = NAN;
      linear(ctx, {.x = x.view(), .w = &w, .act = act, .y = y.view()});
      for (int64_t o = 0; o < O; ++o) {
        EXPECT_FALSE(std::isnan(y.begin(0)[o]));
        EXPECT_TRUE(std::isnan(y.begin(1)[o]));
      }
    }
    Matrix x(1, I, 2), y(1, O, 3);
    x.begin(0)[0] = INFINITY;
    linear(ctx, {.x = x.view(), .w = &w, .y = y.view()});
    for (int64_t o = 0; o < O; ++o) {
      const float value = y.begin(0)[o];
      EXPECT_TRUE(GetParam() == DType::i8 ? std::isnan(value) : std::isinf(value));
    }
  }
}

TEST(LinearInt8, every_instruction_gives_the_same_bits) {
  for (const int64_t I : {5, 64, 770}) {
    for (const int64_t O : {31, 100, 768}) {
      const PackedMatrix w = packed(DType::i8, Matrix(O, I, 1));
      for (const int64_t N : {1, 2, 3, 7, 25, 60}) {
        const Matrix x(N, I, 2);
        Matrix expected(N, O, 3);
        Context portable = context_of(CpuIsa::portable, 1);
        linear(portable, {.x = x.view(), .w = &w, .y = expected.view()});
        for (const CpuIsa isa : instruction_sets()) {
          for (const int threads : {1, 3}) {
            Matrix with(N, O, 4), without(N, O, 5);
            Context dots = context_of(isa, threads);
            Context none = context_without_dots(isa, threads);
            linear(dots, {.x = x.view(), .w = &w, .y = with.view()});
            linear(none, {.x = x.view(), .w = &w, .y = without.view()});
            ASSERT_TRUE(same_bits(with, expected)) << describe(N, I, O, isa, threads);
            ASSERT_TRUE(same_bits(without, expected)) << describe(N, I, O, isa, threads);
          }
        }
      }
    }
  }
}

// Products of bytes leave out what would not fit, by how numbers are spread over a row. Where this
// is much in all rows others take over, so it must be met in single rows too.
TEST(LinearInt8, numbers_of_any_spread_give_the_same_bits) {
  using Spread = float (*)(float, int64_t);  // of a number in (-1, 1) at a place of its row
  const Spread spreads[] = {
      [](float v, int64_t) { return v; },
      [](float v, int64_t) { return v * v * v * v * v; },
      [](float v, int64_t) { return std::copysign(1.0f, v); },
      [](float v, int64_t i) { return i % 2 == 0 ? 1.0f : -std::fabs(v); },
      // Around the most that fits: 64 + 64, and two of 32 more.
      [](float v, int64_t i) { return i == 0 ? 1.0f : (63.0f + (v > 0 ? 2.0f : 0.0f)) / 127.0f; },
      [](float v, int64_t i) { return i == 0 ? 1.0f : -(31.0f + (v > 0 ? 2.0f : 0.0f)) / 127.0f; },
      // Four and more to a step, and places where none is.
      [](float v, int64_t i) { return i / 40 % 3 == 0 ? 1.0f : v * 0.01f; },
  };
  std::vector<std::pair<Spread, int64_t>> each_spread;
  for (const Spread spread : spreads) {
    for (const int64_t rows_apart : {1, 8}) each_spread.emplace_back(spread, rows_apart);
  }
  for (const auto& [I, O] : {std::pair<int64_t, int64_t>{3, 70}, {9, 5}, {770, 100}, {2310, 33}}) {
    const PackedMatrix w = packed(DType::i8, Matrix(O, I, 1));
    for (const auto& [spread, rows_apart] : each_spread) {
      for (const int64_t N : {1, 4, 5, 13, 55}) {
        Matrix x(N, I, 2);
        for (int64_t n = 0; n < N; n += rows_apart) {
          for (int64_t i = 0; i < I; ++i) x.begin(n)[i] = spread(std::tanh(x.begin(n)[i]), i);
        }
        Matrix expected(N, O, 3);
        Context portable = context_of(CpuIsa::portable, 1);
        linear(portable, {.x = x.view(), .w = &w, .y = expected.view()});
        for (const CpuIsa isa : instruction_sets()) {
          Matrix y(N, O, 4);
          Context ctx = context_without_dots(isa, 3);
          linear(ctx, {.x = x.view(), .w = &w, .y = y.view()});
          ASSERT_TRUE(same_bits(y, expected)) << describe(N, I, O, isa, 3);
        }
      }
    }
  }
}

TEST(LinearInt8, is_exact_where_sums_are_largest) {
  const int64_t I = PackedMatrix::kMaxInt8Inputs, O = 33;
  for (const float sign : {1.0f, -1.0f}) {
    Matrix w(O, I, 1);
    std::fill(w.values.begin(), w.values.end(), sign * 0.5f);
    const PackedMatrix matrix = packed(DType::i8, w);
    for (const CpuIsa isa : instruction_sets()) {
      Context ctx = context_of(isa, 1);
      for (const int64_t N : {1, 13}) {
        Matrix x(N, I, 2), y(N, O, 3);
        std::fill(x.values.begin(), x.values.end(), 2.0f);
        linear(ctx, {.x = x.view(), .w = &matrix, .y = y.view()});
        for (int64_t n = 0; n < N; ++n) {
          for (int64_t o = 0; o < O; ++o) {
            ASSERT_NEAR(y.begin(n)[o], sign * static_cast<float>(I), 0.05f) << name(isa);
          }
        }
      }
    }
  }
}

TEST(LinearInt8, rows_of_zeros_and_of_tiny_numbers_give_the_bias) {
  const int64_t I = 70, O = 40;
  const PackedMatrix w = packed(DType::i8, Matrix(O, I, 1));
  const std::vector<float> bias = random_floats(2, O);
  for (const CpuIsa isa : instruction_sets()) {
    Context ctx = context_of(isa, 1);
    Matrix x(2, I, 2), y(2, O, 3);
    std::fill(x.begin(0), x.begin(0) + I, 0.0f);
    std::fill(x.begin(1), x.begin(1) + I, 1e-38f);
    linear(ctx, {.x = x.view(), .w = &w, .bias = vector_view(bias), .y = y.view()});
    for (int64_t n = 0; n < 2; ++n) {
      for (int64_t o = 0; o < O; ++o) EXPECT_EQ(y.begin(n)[o], bias[static_cast<size_t>(o)]);
    }
  }
}

TEST(LinearInt8, rows_that_a_norm_quantised_give_the_same_bits) {
  for (const int64_t D : {1, 5, 48, 770}) {
    const int64_t O = 70;
    const PackedMatrix w = packed(DType::i8, Matrix(O, D, 1));
    const std::vector<float> gamma = random_floats(2, D), beta = random_floats(3, D);
    for (const int64_t N : {0, 1, 3, 40, 1000}) {
      for (const CpuIsa isa : instruction_sets()) {
        for (const int threads : {1, 3}) {
          Context ctx = context_of(isa, threads);
          Matrix x(N, D, D + 2, 4), normed(N, D, 5), again(N, D, D + 1, 6);
          if (N == 40) x.begin(7)[0] = NAN;
          const NormArgs norm_args{.x = x.view(),
                                   .gamma = vector_view(gamma),
                                   .beta = vector_view(beta),
                                   .y = normed.view()};
          norm(ctx, norm_args);
          Matrix expected(N, O, 7), y(N, O, 8), from_rows(N, O, 9);
          linear(ctx, {.x = normed.view(), .w = &w, .y = expected.view()});

          const Arena::Scope scope(ctx.impl().arena);
          const QuantizedRows rows = take_quantized_rows(ctx.impl().arena, N, D);
          NormArgs both = norm_args;
          both.y = again.view();
          norm_quantized(ctx, both, rows);
          ASSERT_TRUE(same_bits(again, normed));
          ASSERT_TRUE(again.gaps_are_whole());
          linear_quantized(ctx, {.x = normed.view(), .w = &w, .y = y.view()}, rows);
          ASSERT_TRUE(same_bits(y, expected)) << describe(N, D, O, isa, threads);

          const QuantizedRows copies = take_quantized_rows(ctx.impl().arena, N, D);
          quantize(ctx, normed.view(), copies);
          linear_quantized(ctx, {.x = normed.view(), .w = &w, .y = from_rows.view()}, copies);
          ASSERT_TRUE(same_bits(from_rows, expected)) << describe(N, D, O, isa, threads);
        }
      }
    }
  }
}

TEST(LinearMemory, a_second_pass_allocates_nothing) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::i8}) {
    const PackedMatrix w = packed(dtype, Matrix(96, 80, 1));
    Context ctx = context_of(CpuIsa::automatic, 2);
    for (const int64_t N : {1, 8, 64}) {
      const Matrix x(N, 80, 2);
      Matrix y(N, 96, 3);
      const LinearArgs args{.x = x.view(), .w = &w, .y = y.view()};
      linear(ctx, args);
      const uint64_t before = num_allocations();
      linear(ctx, args);
      EXPECT_EQ(num_allocations(), before);
    }
  }
}

TEST(LinearErrors, name_what_is_wrong_with_quantised_rows) {
  Context ctx = context_of(CpuIsa::automatic, 1);
  const PackedMatrix bytes = packed(DType::i8, Matrix(6, 4, 1));
  const PackedMatrix floats = packed(DType::f32, Matrix(6, 4, 1));
  const Matrix x(3, 4, 2);
  Matrix y(3, 6, 3), normed(3, 4, 4);
  const std::vector<float> ones(4, 1.0f);
  const Arena::Scope scope(ctx.impl().arena);
  const QuantizedRows good = take_quantized_rows(ctx.impl().arena, 3, 4);
  const QuantizedRows wide = take_quantized_rows(ctx.impl().arena, 3, 5);
  expect_error(ErrorKind::type, "linear: w must be int8 where x is, got float32",
               [&] { linear_quantized(ctx, {.x = x.view(), .w = &floats, .y = y.view()}, good); });
  expect_error(ErrorKind::value,
               "linear: quantised rows must have the shape of x, [3, 4], got "
               "[3, 5]",
               [&] { linear_quantized(ctx, {.x = x.view(), .w = &bytes, .y = y.view()}, wide); });
  expect_error(
      ErrorKind::value, "linear: quantised rows must be there, got no data in [3, 4]", [&] {
        linear_quantized(ctx, {.x = x.view(), .w = &bytes, .y = y.view()}, {.N = 3, .I = 4});
      });
  expect_error(ErrorKind::value, "quantize: rows must have at least one input, got [3, 0]",
               [&] { quantize(ctx, Matrix(3, 0, 1).view(), {.N = 3, .I = 0}); });
  expect_error(ErrorKind::value, "quantize: x must have shape [3, 5], got [3, 4]",
               [&] { quantize(ctx, x.view(), wide); });
  expect_error(ErrorKind::value,
               "norm: quantised rows must have the shape of y, [3, 4], got "
               "[3, 5]",
               [&] {
                 norm_quantized(ctx,
                                {.x = x.view(),
                                 .gamma = vector_view(ones),
                                 .beta = vector_view(ones),
                                 .y = normed.view()},
                                wide);
               });
}

TEST(LinearErrors, name_what_is_wrong) {
  Context ctx = context_of(CpuIsa::automatic, 1);
  std::vector<float> data(4096);
  const PackedMatrix w(DType::f32, 6, 4);
  const auto floats = [&](std::initializer_list<int64_t> shape) {
    return View(data.data() + 2048, DType::f32, Shape(shape));
  };
  const ConstView x{data.data(), DType::f32, {3, 4}};
  expect_error(ErrorKind::value, "linear: w must be a packed matrix, got nothing",
               [&] { linear(ctx, {.x = x, .y = floats({3, 6})}); });
  expect_error(ErrorKind::value,
               "linear: x must have shape [rows, 4] to match w [6, 4], got [3, 5]",
               [&] { linear(ctx, {.x = floats({3, 5}), .w = &w, .y = floats({3, 6})}); });
  expect_error(ErrorKind::value,
               "linear: y must have shape [3, 6] to match x [3, 4] and w [6, 4], got [3, 7]",
               [&] { linear(ctx, {.x = x, .w = &w, .y = floats({3, 7})}); });
  expect_error(ErrorKind::value, "linear: bias must have shape [6]",
               [&] { linear(ctx, {.x = x, .w = &w, .bias = floats({7}), .y = floats({3, 6})}); });
  expect_error(ErrorKind::value, "linear: gate must have shape [3, 6]", [&] {
    linear(ctx, {.x = x, .w = &w, .gate = floats({2, 6}), .y = floats({3, 6})});
  });
  expect_error(ErrorKind::value, "linear: residual must have shape [3, 6]", [&] {
    linear(ctx, {.x = x, .w = &w, .residual = floats({6}), .y = floats({3, 6})});
  });
  expect_error(ErrorKind::type, "linear: x must be float32, got float64", [&] {
    linear(ctx, {.x = {data.data(), DType::f64, {3, 4}}, .w = &w, .y = floats({3, 6})});
  });
  for (const DType dtype : {DType::f32, DType::bf16, DType::i8}) {
    const PackedMatrix narrow(dtype, 6, 0);
    expect_error(ErrorKind::value, "linear: w must have at least one input, got 6 x 0",
                 [&] { linear(ctx, {.x = floats({3, 0}), .w = &narrow, .y = floats({3, 6})}); });
  }
  PackedMatrix moved(DType::i8, 6, 4);
  const PackedMatrix elsewhere = std::move(moved);
  EXPECT_TRUE(moved.empty());  // NOLINT(bugprone-use-after-move)
  const PackedMatrix square(DType::f32, 4, 4);
  expect_error(ErrorKind::value, "linear: y must not be x", [&] {
    linear(ctx, {.x = x, .w = &square, .y = {data.data(), DType::f32, {3, 4}}});
  });
}

}  // namespace
}  // namespace fuseq::inline v0::op_test
