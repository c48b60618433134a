// SPDX-License-Identifier: Apache-2.0
// f32x16: the portable one directly; exp, tanh and erf of every instruction set through the
// activations of linear; u32x16 and log through functions on arrays, for which this file is also
// compiled once per instruction set.
#include <cstdint>

#include "kernels/cpu/per_isa.h"

namespace fuseq::inline v0::cpu {

FUSEQ_DECLARE_PER_ISA(
    /* a + b, a ^ b, a & b, a | b, a >> 23, low and high of a * b, bits of to_float(a), 0 ... 15 */
    void test_u32(const int32_t* a, const int32_t* b, uint32_t (*results)[16]);
    /* load_u32_n(p, n) */
    void test_load_u32(const int32_t* p, int64_t n, uint32_t* lanes);
    /* bits of first(n), of mask_from_bits(mask), and of their and */
    void test_masks(int64_t n, uint32_t mask, uint32_t* results);
    /* log or minus_log_of_rest of count values, a multiple of 16 */
    void test_log(const float* x, int64_t count, bool of_rest, float* y))

}  // namespace fuseq::inline v0::cpu

#if defined(FUSEQ_ISA_NAMESPACE)

#include "kernels/cpu/simd/vec.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

void test_u32(const int32_t* a, const int32_t* b, uint32_t (*results)[16]) {
  const u32x16 x = load_u32_n(a, 16);
  const u32x16 y = load_u32_n(b, 16);
  const u32x16_product product = multiply_wide(x, y);
  const auto write = [&](u32x16 v) { store(reinterpret_cast<float*>(*results++), as_f32(v)); };
  write(x + y);
  write(x ^ y);
  write(x & y);
  write(x | y);
  write(shift_right<23>(x));
  write(product.low);
  write(product.high);
  write(as_u32(to_float(x)));
  write(iota_u32());
}

void test_load_u32(const int32_t* p, int64_t n, uint32_t* lanes) {
  store(reinterpret_cast<float*>(lanes), as_f32(load_u32_n(p, n)));
}

void test_masks(int64_t n, uint32_t mask, uint32_t* results) {
  results[0] = bits(first(n));
  results[1] = bits(mask_from_bits(mask));
  results[2] = bits(first(n) & mask_from_bits(mask));
}

void test_log(const float* x, int64_t count, bool of_rest, float* y) {
  for (int64_t i = 0; i < count; i += 16) {
    store(y + i, of_rest ? minus_log_of_rest(load(x + i)) : log(load(x + i)));
  }
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE

#else

#define FUSEQ_ISA_NAMESPACE simd_test_portable

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
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
       {Accuracy{Activation::relu, 0, 0}, Accuracy{Activation::tanh, 4e-7, 0},
        Accuracy{Activation::gelu, 4e-7, 3e-7}, Accuracy{Activation::gelu_tanh, 4e-7, 5e-7},
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

TEST(SimdMath, activations_of_no_number_are_none) {
  const std::vector<float> values = {std::numeric_limits<float>::quiet_NaN(), 1.0f};
  for (const CpuIsa isa : instruction_sets()) {
    Context ctx = context_of(isa, 1);
    for (const Activation act : {Activation::tanh, Activation::gelu, Activation::gelu_tanh}) {
      const std::vector<float> y = activated(ctx, act, values);
      EXPECT_TRUE(std::isnan(y[0])) << name(isa) << " act " << static_cast<int>(act);
      EXPECT_FALSE(std::isnan(y[1]));
    }
  }
}

f32x16 ramp() {
  float lanes[16];
  std::iota(lanes, lanes + 16, 0.0f);
  return simd::load(lanes);
}

TEST(SimdPortable, exp_tanh_and_erf_are_accurate) {
  for (double x = -20; x < 20; x += 0.0037) {
    const f32x16 v = simd::splat(static_cast<float>(x)) + ramp() * simd::splat(1e-4f);
    const f32x16 e = simd::exp(v), t = simd::tanh(v), r = simd::erf(v);
    for (int i = 0; i < 16; ++i) {
      const double lane = v.lane[i];
      ASSERT_NEAR(e.lane[i] / std::exp(lane), 1, 4e-7) << lane;
      ASSERT_NEAR(t.lane[i], std::tanh(lane), 4e-7) << lane;
      ASSERT_NEAR(r.lane[i], std::erf(lane), 4e-7) << lane;
    }
  }
  EXPECT_EQ(simd::exp(simd::splat(-std::numeric_limits<float>::infinity())).lane[0], 0.0f);
  EXPECT_EQ(simd::exp(simd::splat(0.0f)).lane[7], 1.0f);
}

TEST(SimdPortable, exp_of_small_has_the_bits_of_exp) {
  std::vector<float> values = {0.0f, 88.3f, std::numeric_limits<float>::quiet_NaN(),
                               -std::numeric_limits<float>::infinity(),
                               std::nextafter(simd::kLowestExponent, 0.0f)};
  for (float x = -100; x < 88; x += 0.37f) values.push_back(x);
  for (const float x : values) {
    EXPECT_EQ(simd::exp_of_small(simd::splat(x)).lane[3], simd::exp(simd::splat(x)).lane[3]) << x;
  }
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
  const f32x16 lanes = ramp();
  EXPECT_EQ(simd::reduce_add(lanes), 120.0f);
  EXPECT_EQ(simd::reduce_max(simd::splat(3.0f) - lanes), 3.0f);
  const simd::mask16 low = lanes < simd::splat(5.0f);
  EXPECT_EQ(simd::bits(low), 31u);
  EXPECT_EQ(simd::bits(low & (lanes > simd::splat(1.0f))), 28u);
  EXPECT_EQ(simd::select(low, lanes, simd::zeros()).lane[4], 4.0f);
  EXPECT_EQ(simd::select(low, lanes, simd::zeros()).lane[5], 0.0f);
  EXPECT_EQ(simd::bits(simd::mask_from_bits(0x8001u)), 0x8001u);
  EXPECT_TRUE(simd::any(simd::mask_from_bits(1)));
  EXPECT_FALSE(simd::any(simd::mask_from_bits(0)));
  EXPECT_EQ(simd::round(simd::splat(2.5f)).lane[0], 2.0f);
  EXPECT_EQ(simd::exp2_int(simd::splat(-126.0f)).lane[0], 0x1p-126f);
}

// ---- u32x16, log
// ----------------------------------------------------------------------------------

TEST(SimdU32, equals_integers_of_32_bits_on_every_instruction_set) {
  std::mt19937 random(1);
  const uint32_t edges[] = {0,          1,          0xffff,     0x10000,    0xffffff,
                            0x1000001,  0x7fffffff, 0x80000000, 0x80000080, 0x80000180,
                            0xfffffeff, 0xffffff7f, 0xffffff80, 0xffffffff};
  for (int round = 0; round < 500; ++round) {
    int32_t a[16], b[16];
    for (int i = 0; i < 16; ++i) {
      const auto one = [&]() -> uint32_t {
        const uint32_t word = static_cast<uint32_t>(random());
        return word % 4 == 0 ? edges[(word >> 8) % std::size(edges)] : word >> (word >> 3 & 15u);
      };
      a[i] = static_cast<int32_t>(one());
      b[i] = static_cast<int32_t>(one());
    }
    for (const CpuIsa isa : instruction_sets()) {
      uint32_t got[9][16];
      FUSEQ_PICK(isa, test_u32)(a, b, got);
      for (uint32_t i = 0; i < 16; ++i) {
        const auto x = static_cast<uint32_t>(a[i]);
        const auto y = static_cast<uint32_t>(b[i]);
        const uint64_t product = uint64_t{x} * y;
        const uint32_t wanted[] = {x + y,
                                   x ^ y,
                                   x & y,
                                   x | y,
                                   x >> 23,
                                   static_cast<uint32_t>(product),
                                   static_cast<uint32_t>(product >> 32),
                                   std::bit_cast<uint32_t>(static_cast<float>(x)),
                                   i};
        for (size_t op = 0; op < 9; ++op) {
          ASSERT_EQ(got[op][i], wanted[op]) << name(isa) << " op " << op << " " << x << " " << y;
        }
      }
    }
  }
}

TEST(SimdU32, masks_have_one_bit_for_each_lane) {
  for (const CpuIsa isa : instruction_sets()) {
    for (int64_t n = 0; n <= 16; ++n) {
      for (const uint32_t mask : {0u, 1u, 0x80u, 0x100u, 0x8000u, 0xa5c3u, 0xffffu}) {
        uint32_t got[3];
        FUSEQ_PICK(isa, test_masks)(n, mask, got);
        EXPECT_EQ(got[0], (1u << n) - 1);
        EXPECT_EQ(got[1], mask);
        EXPECT_EQ(got[2], mask & ((1u << n) - 1));
      }
    }
  }
}

TEST(SimdU32, part_loads_touch_no_memory_past_their_elements) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* const memory =
      mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto* const end = reinterpret_cast<int32_t*>(static_cast<char*>(memory) + page);
  ASSERT_EQ(mprotect(end, page, PROT_NONE), 0);
  for (int32_t i = 1; i <= 16; ++i) end[-i] = -i;
  for (const CpuIsa isa : instruction_sets()) {
    for (int64_t n = 0; n <= 16; ++n) {
      uint32_t lanes[16];
      FUSEQ_PICK(isa, test_load_u32)(end - n, n, lanes);
      for (int64_t i = 0; i < 16; ++i) {
        EXPECT_EQ(static_cast<int32_t>(lanes[i]), i < n ? i - n : 0) << name(isa) << " " << n;
      }
    }
  }
  munmap(memory, 2 * page);
}

/// log(x), or -log(1 - x), of every instruction set against double.
void expect_log(std::vector<float> x, bool of_rest, double absolute, double relative) {
  x.resize((x.size() + 15) / 16 * 16, x.back());
  std::vector<float> first;
  for (const CpuIsa isa : instruction_sets()) {
    std::vector<float> y(x.size());
    FUSEQ_PICK(isa, test_log)(x.data(), std::ssize(x), of_rest, y.data());
    for (size_t i = 0; i < x.size(); ++i) {
      const double wanted = of_rest ? -std::log1p(-double{x[i]}) : std::log(double{x[i]});
      ASSERT_NEAR(y[i], wanted, absolute + relative * std::abs(wanted))
          << name(isa) << " of " << x[i] << (of_rest ? " rest" : "");
    }
    if (isa == CpuIsa::portable) continue;
    if (first.empty()) first = y;
    EXPECT_EQ(first, y) << name(isa);
  }
}

TEST(SimdMath, log_is_accurate_on_every_instruction_set) {
  std::vector<float> small, around, large;
  for (double x = 1.1e-10; x < 0.5; x *= 1.00003) small.push_back(static_cast<float>(x));
  for (double x = 0.5; x < 2; x += 1.1e-6) around.push_back(static_cast<float>(x));
  for (float x = 0.99999f; x < 1.00001f; x = std::nextafter(x, 2.0f)) around.push_back(x);
  for (double x = 2; x < 20; x *= 1.00003) large.push_back(static_cast<float>(x));
  large.insert(large.end(), {1e30f, 3.4028235e38f, 1.17549435e-38f, 1e-30f});
  expect_log(small, false, 0, 2e-7);
  expect_log(around, false, 1e-7, 0);
  expect_log(large, false, 0, 2e-7);
}

TEST(SimdMath, minus_log_of_rest_is_accurate_on_every_instruction_set) {
  std::vector<float> values;
  for (double v = 0x1p-33; v < 0.1; v *= 1.00003) values.push_back(static_cast<float>(v));
  for (double v = 0.1; v < 1; v += 1.3e-6) values.push_back(static_cast<float>(v));
  for (float v = 0.99998f; v < 1; v = std::nextafter(v, 2.0f)) values.push_back(v);
  values.insert(values.end(),
                {0.0f, 0x1p-33f, 0x1p-32f, 0.25f, std::nextafter(0.25f, 0.0f), 1 - 0x1p-24f});
  expect_log(values, true, 0, 2.5e-7);
}

}  // namespace
}  // namespace fuseq::inline v0::op_test

#endif
