// SPDX-License-Identifier: Apache-2.0
// f32x16: the portable one directly, and exp, tanh and erf of every instruction set through the
// activations of linear.
#define FUSEQ_ISA_NAMESPACE simd_test_portable

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/half.h"
#include "fuseq/kernels.h"
#include "kernels/cpu/simd/portable.h"
#include "kernels/ref/linear_ref.h"
#include "op_arrays.h"

#include "kernels/cpu/simd/math.h"  // needs an f32x16 before it

namespace fuseq::inline v0::op_test {
namespace {

namespace simd = cpu::simd_test_portable;
using simd::f32x16;

/// act(values) by a product of one input, which is 1.
std::vector<float> activated(Context& ctx, Activation act, const std::vector<float>& values) {
  const int64_t O = std::ssize(values);
  PackedMatrix w(DType::f32, O, 1);
  pack(ctx, {values.data(), DType::f32, {O, 1}}, w);
  const float one = 1;
  std::vector<float> y(values.size());
  linear(
      ctx,
      {.x = {&one, DType::f32, {1, 1}}, .w = &w, .act = act, .y = {y.data(), DType::f32, {1, O}}});
  return y;
}

std::vector<float> grid() {
  std::vector<float> values;
  for (double x = -30; x < 30; x += 0.00137) values.push_back(static_cast<float>(x));
  for (double x = 1e-30; x < 1e3; x *= 1.01) {
    values.push_back(static_cast<float>(x));
    values.push_back(static_cast<float>(-x));
  }
  values.push_back(0.0f);
  values.push_back(-0.0f);
  return values;
}

struct Accuracy {
  Activation act;
  double absolute;  ///< error allowed
  double relative;  ///< and this much of the result
};

TEST(SimdMath, activations_are_accurate_on_every_instruction_set) {
  const std::vector<float> values = grid();
  for (const Accuracy& a :
       {Accuracy{Activation::relu, 0, 0}, Accuracy{Activation::tanh, 2.5e-7, 0},
        Accuracy{Activation::gelu, 3e-7, 3e-7}, Accuracy{Activation::gelu_tanh, 3e-7, 5e-7},
        Accuracy{Activation::silu, 1e-7, 5e-7}}) {
    std::vector<float> first;
    for (const CpuIsa isa : instruction_sets()) {
      Context ctx = context_of(isa, 1);
      const std::vector<float> y = activated(ctx, a.act, values);
      for (size_t i = 0; i < y.size(); ++i) {
        const double wanted = ref::activate(a.act, values[i]);
        // The error of erf and tanh is multiplied by x / 2.
        const double allowed = a.absolute * std::max(1.0, std::abs(double{values[i]}) / 2) +
                               a.relative * std::abs(wanted);
        ASSERT_NEAR(y[i], wanted, allowed)
            << name(isa) << " act " << static_cast<int>(a.act) << " of " << values[i];
      }
      if (first.empty()) first = y;
      if (isa != CpuIsa::portable) {
        ASSERT_EQ(first, y);
      }
    }
  }
}

TEST(SimdMath, large_arguments_saturate) {
  const std::vector<float> values = {88.0f, -88.0f, 1e4f, -1e4f, 3e38f, -3e38f};
  for (const CpuIsa isa : instruction_sets()) {
    Context ctx = context_of(isa, 1);
    const std::vector<float> t = activated(ctx, Activation::tanh, values);
    const std::vector<float> g = activated(ctx, Activation::gelu, values);
    const std::vector<float> s = activated(ctx, Activation::silu, values);
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_EQ(t[i], values[i] > 0 ? 1.0f : -1.0f);
      EXPECT_EQ(g[i], values[i] > 0 ? values[i] : 0.0f);
      EXPECT_NEAR(s[i], values[i] > 0 ? values[i] : 0.0f, 1e-36);
    }
  }
}

TEST(SimdPortable, exp_tanh_and_erf_are_accurate) {
  for (double x = -20; x < 20; x += 0.0037) {
    const f32x16 v = simd::splat(static_cast<float>(x)) + simd::iota() * simd::splat(1e-4f);
    const f32x16 e = simd::exp(v), t = simd::tanh(v), r = simd::erf(v);
    for (int i = 0; i < 16; ++i) {
      const double lane = v.lane[i];
      ASSERT_NEAR(e.lane[i] / std::exp(lane), 1, 4e-7) << lane;
      ASSERT_NEAR(t.lane[i], std::tanh(lane), 2.5e-7) << lane;
      ASSERT_NEAR(r.lane[i], std::erf(lane), 3.5e-7) << lane;
    }
  }
  EXPECT_EQ(simd::exp(simd::splat(-std::numeric_limits<float>::infinity())).lane[0], 0.0f);
  EXPECT_EQ(simd::exp(simd::splat(0.0f)).lane[7], 1.0f);
}

TEST(SimdPortable, part_loads_and_stores_touch_only_their_elements) {
  const std::vector<float> source = random_floats(1, 16);
  for (int64_t n = 0; n <= 16; ++n) {
    const std::vector<float> part(source.begin(), source.begin() + n);
    std::vector<float> out(16, 7.0f);
    simd::store_n(out.data(), simd::load_n(part.data(), n), n);
    for (int64_t i = 0; i < 16; ++i) {
      const auto k = static_cast<size_t>(i);
      EXPECT_EQ(out[k], i < n ? source[k] : 7.0f);
      EXPECT_EQ(simd::load_n(part.data(), n).lane[k], i < n ? source[k] : 0.0f);
    }
    EXPECT_EQ(simd::bits(simd::first(n)), (1u << n) - 1);
  }
}

TEST(SimdPortable, bfloat16_is_rounded_to_nearest_even) {
  std::vector<float> values = random_floats(2, 13);
  values.insert(values.end(),
                {1.00390625f, 1.01171875f, std::numeric_limits<float>::infinity()});  // two ties
  std::vector<uint16_t> halves(16);
  simd::store_bf16(halves.data(), simd::load(values.data()));
  const f32x16 rounded = simd::round_bf16(simd::load(values.data()));
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(halves[i], float_to_bf16(values[i]));
    EXPECT_EQ(rounded.lane[i], bf16_to_float(halves[i]));
    EXPECT_EQ(simd::load_bf16(halves.data()).lane[i], bf16_to_float(halves[i]));
  }
  EXPECT_EQ(rounded.lane[13], 1.0f);
  EXPECT_EQ(rounded.lane[14], 1.015625f);
  std::vector<uint32_t> pairs;
  for (uint32_t i = 0; i < 16; ++i)
    pairs.push_back(uint32_t{halves[i]} | uint32_t{halves[15 - i]} << 16);
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(simd::load_bf16_even(pairs.data()).lane[i], rounded.lane[i]);
    EXPECT_EQ(simd::load_bf16_odd(pairs.data()).lane[i], rounded.lane[15 - i]);
  }
}

TEST(SimdPortable, reductions_masks_and_rounding) {
  const f32x16 ramp = simd::iota();
  EXPECT_EQ(simd::reduce_add(ramp), 120.0f);
  EXPECT_EQ(simd::reduce_max(simd::splat(3.0f) - ramp), 3.0f);
  const simd::mask16 low = ramp < simd::splat(5.0f);
  EXPECT_EQ(simd::bits(low), 31u);
  EXPECT_EQ(simd::bits(low & (ramp > simd::splat(1.0f))), 28u);
  EXPECT_EQ(simd::select(low, ramp, simd::zeros()).lane[4], 4.0f);
  EXPECT_EQ(simd::select(low, ramp, simd::zeros()).lane[5], 0.0f);
  EXPECT_EQ(simd::bits(simd::mask_from_bits(0x8001u)), 0x8001u);
  EXPECT_TRUE(simd::any(simd::mask_from_bits(1)));
  EXPECT_FALSE(simd::any(simd::mask_from_bits(0)));
  EXPECT_EQ(simd::round(simd::splat(2.5f)).lane[0], 2.0f);
  EXPECT_EQ(simd::copysign(simd::splat(2.0f), simd::splat(-0.0f)).lane[0], -2.0f);
  EXPECT_EQ(simd::exp2_int(simd::splat(-126.0f)).lane[0], 0x1p-126f);
}

}  // namespace
}  // namespace fuseq::inline v0::op_test
