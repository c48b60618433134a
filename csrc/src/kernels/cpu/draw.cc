// SPDX-License-Identifier: Apache-2.0
// Vector parts of draws and of softmax.
#include "kernels/cpu/draw.h"

#include <cstdint>

#include "kernels/cpu/simd/parts.h"
#include "kernels/cpu/simd/vec.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {
namespace {

constexpr int64_t kLanes = 16;

[[gnu::always_inline]] inline f32x16 minus_infinity() {
  return splat(-__builtin_inff());
}

/// One word of Philox4x32-10 for each id.
[[gnu::always_inline]] inline u32x16 philox(u32x16 ids, const NoiseKey& noise) {
  u32x16 c0 = ids;
  u32x16 c1 = splat_u32(noise.counter[0]);
  u32x16 c2 = splat_u32(noise.counter[1]);
  u32x16 c3 = splat_u32(noise.counter[2]);
  uint32_t k0 = noise.key[0];
  uint32_t k1 = noise.key[1];
  for (int round = 0; round < 10; ++round) {
    const u32x16_product a = multiply_wide(c0, splat_u32(0xd2511f53u));
    const u32x16_product b = multiply_wide(c2, splat_u32(0xcd9e8d57u));
    c0 = b.high ^ c1 ^ splat_u32(k0);
    c2 = a.high ^ c3 ^ splat_u32(k1);
    c1 = b.low;
    c3 = a.low;
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  return c0;
}

/// -log(-log u) for u = 1 - v, v = (word + 1/2) / 2^32 just below 1 at most: v near 0, where the
/// largest values come from, keeps all bits of the word.
[[gnu::always_inline]] inline f32x16 gumbel(u32x16 words) {
  const f32x16 v = (to_float(words) + splat(0.5f)) * splat(2.3283064365386963e-10f);
  return zeros() - log(minus_log_of_rest(min(v, splat(0.99999994f))));
}

/// Above all values of `gumbel`: v >= 2^-33.
constexpr float kLargestNoise = 22.9f;

/// NaN becomes -inf.
[[gnu::always_inline]] inline f32x16 scaled(const ScaledRow& row, int64_t i, int64_t n) {
  const f32x16 x = max(load_part(row.x + i, n), minus_infinity());
  const f32x16 s = (x - splat(row.shift)) * splat(row.scale);
  return n == kLanes ? s : select(first(n), s, minus_infinity());
}

}  // namespace

float scaled_sum_exp(const ScaledRow& row) {
  f32x16 sum = zeros();
  each_vector(row.count, [&](int64_t i, int64_t n) { sum = sum + exp(scaled(row, i, n)); });
  return reduce_add(sum);
}

float scaled_exp(const ScaledRow& row, float* y) {
  f32x16 sum = zeros();
  each_vector(row.count, [&](int64_t i, int64_t n) {
    const f32x16 e = exp(scaled(row, i, n));
    sum = sum + e;
    store_part(y + i, e, n);
  });
  return reduce_add(sum);
}

void scale_row(const float* x, int64_t count, float factor, float* y) {
  each_vector(count, [&](int64_t i, int64_t n) {
    store_part(y + i, load_part(x + i, n) * splat(factor), n);
  });
}

int64_t keep_scaled(const ScaledRow& row, float lowest, float* scores, int32_t* indices) {
  const f32x16 threshold = splat(lowest);
  int64_t count = 0;
  each_vector(row.count, [&](int64_t i, int64_t n) {
    const f32x16 s = scaled(row, i, n);
    uint32_t lanes = ~bits(s < threshold) & bits(first(n));
    if (lanes == 0) return;
    float values[kLanes];
    store(values, s);
    for (; lanes != 0; lanes &= lanes - 1) {
      const int lane = __builtin_ctz(lanes);
      scores[count] = values[lane];
      indices[count++] = static_cast<int32_t>(i + lane);
    }
  });
  return count;
}

void draw_row(const ScaledRow& row, const int32_t* ids, const NoiseKey& key, Drawn& best) {
  each_vector(row.count, [&](int64_t i, int64_t n) {
    const f32x16 s = scaled(row, i, n);
    // Nothing in these lanes can win: most of a row is passed over here.
    if (!any(s + splat(kLargestNoise) > splat(best.score))) return;
    const u32x16 id =
        ids != nullptr ? load_u32_n(ids + i, n) : iota_u32() + splat_u32(static_cast<uint32_t>(i));
    const f32x16 noisy = s + gumbel(philox(id, key));
    // Not `>`: an equal one with a lower id wins.
    uint32_t lanes = ~bits(noisy < splat(best.score)) & bits(noisy > minus_infinity());
    if (lanes == 0) return;
    float values[kLanes];
    store(values, noisy);
    const auto id_at = [&](int64_t index) { return ids != nullptr ? int64_t{ids[index]} : index; };
    for (; lanes != 0; lanes &= lanes - 1) {
      const int lane = __builtin_ctz(lanes);
      const int64_t index = i + lane;
      if (values[lane] > best.score ||
          (values[lane] == best.score && id_at(index) < id_at(best.index))) {
        best = {values[lane], index};
      }
    }
  });
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
