// SPDX-License-Identifier: Apache-2.0
// norm, layer_norm and rms_norm against the plain version.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "fuseq/kernels.h"
#include "kernels/ref/norm_ref.h"
#include "op_arrays.h"

namespace fuseq::inline v0::op_test {
namespace {

struct Case {
  Norm kind;
  bool residual, bias, beta, sum;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> list = {{Norm::layer, false, false, true, false},
                                         {Norm::layer, true, true, true, true},
                                         {Norm::layer, true, false, true, false},
                                         {Norm::rms, false, false, false, false},
                                         {Norm::rms, true, true, false, true},
                                         {Norm::rms_plus_one, false, true, false, false},
                                         {Norm::rms_plus_one, false, false, true, true}};
  return list;
}

TEST(Norm, equals_the_reference_and_itself_on_any_threads_and_instruction_set) {
  for (const Case& c : cases()) {
    for (const int64_t D : {1, 2, 15, 16, 17, 31, 64, 768, 1031}) {
      for (const int64_t N : {0, 1, 2, 13, 40}) {
        Matrix x(N, D, D + 3, 1);
        for (float& value : x.values) value = value * 3 + 5;
        const Matrix residual(N, D, D + 1, 2);
        const std::vector<float> bias = random_floats(3, D), gamma = random_floats(4, D),
                                 beta = random_floats(5, D);
        const auto args_for = [&](Matrix& y, Matrix& sum) {
          NormArgs args{.kind = c.kind, .x = x.view(), .gamma = vector_view(gamma), .y = y.view()};
          if (c.residual) args.residual = residual.view();
          if (c.bias) args.bias = vector_view(bias);
          if (c.beta) args.beta = vector_view(beta);
          if (c.sum) args.sum = sum.view();
          return args;
        };
        Matrix expected(N, D, 6), expected_sum(N, D, 7);
        ref::norm(args_for(expected, expected_sum));
        Matrix first(N, D, 6), first_sum(N, D, 7);
        bool have_first = false;
        for (const CpuIsa isa : instruction_sets()) {
          for (const int threads : {1, 2, 3, 7}) {
            if (isa == CpuIsa::portable && threads > 1) continue;
            Context ctx = context_of(isa, threads);
            Matrix y(N, D, D + 2, 6), sum(N, D, D + 5, 7);
            norm(ctx, args_for(y, sum));
            const std::string what = "D " + std::to_string(D) + " N " + std::to_string(N);
            // One element or two with a small variance lose digits in x - mean.
            ASSERT_LE(largest_difference(y, expected), D <= 2 ? 2e-3 : 2e-5) << what;
            if (c.sum) {
              ASSERT_LE(largest_difference(sum, expected_sum), 2e-6) << what;
            }
            ASSERT_TRUE(y.gaps_are_whole() && sum.gaps_are_whole());
            if (isa == CpuIsa::portable) continue;
            if (!have_first) {
              first = y;
              first_sum = sum;
              have_first = true;
            }
            ASSERT_TRUE(same_bits(first, y)) << what;
            ASSERT_TRUE(!c.sum || same_bits(first_sum, sum)) << what;
          }
        }
      }
    }
  }
}

TEST(Norm, rows_do_not_depend_on_other_rows) {
  const int64_t N = 50, D = 768;
  Context ctx = context_of(CpuIsa::automatic, 2);
  const Matrix x(N, D, 1);
  const std::vector<float> gamma = random_floats(2, D), beta = random_floats(3, D);
  Matrix together(N, D, 4), alone(N, D, 4);
  layer_norm(ctx, x.view(), vector_view(gamma), vector_view(beta), 1e-5f, together.view());
  for (int64_t n = 0; n < N; ++n) {
    layer_norm(ctx, {x.begin(n), DType::f32, {D}}, vector_view(gamma), vector_view(beta), 1e-5f,
               {alone.begin(n), DType::f32, {D}});
  }
  EXPECT_TRUE(same_bits(together, alone));
}

TEST(Norm, output_may_be_the_input_or_the_residual_and_so_may_the_sum) {
  const int64_t N = 5, D = 37;
  for (const CpuIsa isa : instruction_sets()) {
    Context ctx = context_of(isa, 1);
    const std::vector<float> bias = random_floats(3, D), gamma = random_floats(4, D),
                             beta = random_floats(5, D);
    Matrix y(N, D, 0), sum(N, D, 0);
    const Matrix x(N, D, 1), residual(N, D, 2);
    NormArgs args{.x = x.view(),
                  .residual = residual.view(),
                  .bias = vector_view(bias),
                  .gamma = vector_view(gamma),
                  .beta = vector_view(beta),
                  .y = y.view()};
    norm(ctx, args);
    for (const bool into_x : {true, false}) {
      for (const bool with_sum : {true, false}) {
        Matrix a(N, D, 1), b(N, D, 2);
        args.x = a.view();
        args.residual = b.view();
        args.y = into_x ? a.view() : b.view();
        args.sum = with_sum ? (into_x ? b.view() : a.view()) : View{};
        norm(ctx, args);
        EXPECT_TRUE(same_bits(into_x ? a : b, y));
        for (int64_t i = 0; with_sum && i < D; ++i) {
          const float z = x.begin(1)[i] + residual.begin(1)[i] + bias[static_cast<size_t>(i)];
          EXPECT_EQ((into_x ? b : a).begin(1)[i], z);
        }
      }
    }
  }
}

TEST(LayerNorm, keeps_its_digits_when_the_mean_is_large) {
  const int64_t D = 64;
  std::vector<float> x = random_floats(1, D), y(64), gamma(64, 1.0f), beta(64, 0.0f), expected(64);
  for (float& value : x) value += 4096;  // rounds to 2^-12: E[x^2] - mean^2 would be noise
  const View out{y.data(), DType::f32, {1, D}};
  ref::norm({.x = {x.data(), DType::f32, {1, D}},
             .gamma = vector_view(gamma),
             .beta = vector_view(beta),
             .y = {expected.data(), DType::f32, {1, D}}});
  for (const CpuIsa isa : instruction_sets()) {
    Context ctx = context_of(isa, 1);
    layer_norm(ctx, {x.data(), DType::f32, {1, D}}, vector_view(gamma), vector_view(beta), 1e-5f,
               out);
    for (size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(y[i], expected[i], 1e-3);
  }
}

TEST(LayerNorm, takes_any_rank_and_strided_outer_axes) {
  const int64_t D = 24;
  Context ctx = context_of(CpuIsa::automatic, 1);
  const std::vector<float> gamma = random_floats(1, D), beta = random_floats(2, D);
  const std::vector<float> x = random_floats(3, 3 * 4 * D);
  std::vector<float> plain(x.size()), turned(x.size());
  layer_norm(ctx, {x.data(), DType::f32, {3, 4, D}}, vector_view(gamma), vector_view(beta), 1e-5f,
             {plain.data(), DType::f32, {3, 4, D}});
  // The same rows with the outer axes exchanged.
  const Strides strides{D, 4 * D, 1};
  layer_norm(ctx, {x.data(), DType::f32, {4, 3, D}, strides}, vector_view(gamma), vector_view(beta),
             1e-5f, {turned.data(), DType::f32, {4, 3, D}, strides});
  EXPECT_EQ(plain, turned);
  rms_norm(ctx, {x.data(), DType::f32, {D}}, vector_view(gamma), 1e-6f,
           {plain.data(), DType::f32, {D}});
  rms_norm(ctx, {x.data(), DType::f32, {1, 1, D}}, vector_view(gamma), 1e-6f,
           {turned.data(), DType::f32, {1, 1, D}});
  EXPECT_TRUE(std::equal(plain.begin(), plain.begin() + D, turned.begin()));
}

TEST(LayerNorm, names_what_is_wrong) {
  Context ctx = context_of(CpuIsa::automatic, 1);
  std::vector<float> data(1024);
  const ConstView x{data.data(), DType::f32, {2, 17, 8}};
  const View y{data.data(), DType::f32, {2, 17, 8}};
  const ConstView eight{data.data(), DType::f32, {8}};
  const ConstView five{data.data(), DType::f32, {5}};
  expect_error(ErrorKind::value,
               "layer_norm: gamma must have shape [8] to match x [34, 8], got [5]",
               [&] { layer_norm(ctx, x, five, eight, 1e-5f, y); });
  expect_error(ErrorKind::value,
               "layer_norm: beta must have shape [8] to match x [34, 8], got nothing",
               [&] { layer_norm(ctx, x, eight, {}, 1e-5f, y); });
  expect_error(ErrorKind::value, "layer_norm: y must have shape [2, 17, 8] to match x, got [8]",
               [&] { layer_norm(ctx, x, eight, eight, 1e-5f, {data.data(), DType::f32, {8}}); });
  expect_error(ErrorKind::type, "rms_norm: x must be float32, got bfloat16", [&] {
    rms_norm(ctx, {data.data(), DType::bf16, {2, 8}}, eight, 1e-5f,
             {data.data(), DType::f32, {2, 8}});
  });
  expect_error(ErrorKind::value,
               "rms_norm: x must have the elements of a row side by side, got a distance of 2",
               [&] {
                 rms_norm(ctx, {data.data(), DType::f32, {2, 8}, {16, 2}}, eight, 1e-5f,
                          {data.data(), DType::f32, {2, 8}});
               });
  expect_error(ErrorKind::value, "norm: sum must not be y", [&] {
    norm(ctx, {.x = {data.data(), DType::f32, {2, 8}},
               .gamma = eight,
               .beta = eight,
               .y = {data.data(), DType::f32, {2, 8}},
               .sum = {data.data(), DType::f32, {2, 8}}});
  });
  expect_error(ErrorKind::value, "norm: x must have rows of at least one element, got [2, 0]", [&] {
    norm(ctx, {.x = {data.data(), DType::f32, {2, 0}},
               .gamma = {data.data(), DType::f32, {0}},
               .beta = {data.data(), DType::f32, {0}},
               .y = {data.data(), DType::f32, {2, 0}}});
  });
}

}  // namespace
}  // namespace fuseq::inline v0::op_test
