// SPDX-License-Identifier: Apache-2.0
// Vector parts of draws and of softmax.
#include "kernels/cpu/draw.h"

#include <cstdint>

#include "kernels/cpu/simd/parts.h"
#include "kernels/cpu/simd/vec.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {
namespace {

constexpr int64_t kLanes = 16;

struct Words {
  u32x16 word[4];
};

/// The four words of Philox4x32-10 for each block.
[[gnu::always_inline]] inline Words philox(u32x16 blocks, const NoiseKey& noise) {
  u32x16 c0 = blocks;
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
  return {{c0, c1, c2, c3}};
}

/// The word of each id: 64 neighbouring ids share 16 blocks, ids 16 k + b of them word k of block
/// b.
[[gnu::always_inline]] inline u32x16 words_of(u32x16 ids, const NoiseKey& noise) {
  const u32x16 blocks = (shift_right<2>(ids) & splat_u32(0xfffffff0u)) | (ids & splat_u32(15));
  const Words words = philox(blocks, noise);
  const f32x16 which = to_float(shift_right<4>(ids) & splat_u32(3));
  const auto word = [&](int k) { return as_f32(words.word[k]); };
  const f32x16 lower = select(which < splat(0.5f), word(0), word(1));
  const f32x16 upper = select(which < splat(2.5f), word(2), word(3));
  return as_u32(select(which < splat(1.5f), lower, upper));
}

/// v in (0, 1), just below 1 at most. u = 1 - v: v near 0, where the largest noise comes from,
/// keeps all bits of the word.
[[gnu::always_inline]] inline f32x16 uniform(u32x16 words) {
  const f32x16 v = (to_float(words) + splat(0.5f)) * splat(2.3283064365386963e-10f);
  return min(v, splat(0.99999994f));
}

/// -log(-log(1 - v))
[[gnu::always_inline]] inline f32x16 gumbel(f32x16 v) {
  return zeros() - log(minus_log_of_rest(v));
}

/// Above all values of `gumbel`: v >= 2^-33.
constexpr float kLargestNoise = 22.9f;

/// NaN becomes -inf.
[[gnu::always_inline]] inline f32x16 scaled(const ScaledRow& row, int64_t i, int64_t n) {
  const f32x16 x = max(load_part(row.x + i, n), minus_infinity());
  const f32x16 s = (x - splat(row.shift)) * splat(row.scale);
  return n == kLanes ? s : select(first(n), s, minus_infinity());
}

/// Whether no lane can beat `best`, whatever its noise.
[[gnu::always_inline]] inline bool is_hopeless(f32x16 scores, const Drawn& best) {
  return !any(scores + splat(kLargestNoise) > splat(best.score));
}

/// Joins lanes whose ids are id_at(index) to `best`; lane 0 is `index`.
template <typename IdAt>
[[gnu::always_inline]] inline void join(f32x16 scores, u32x16 words, int64_t index,
                                        const IdAt& id_at, Drawn& best) {
  const f32x16 v = uniform(words);
  // Noise is at most -log v, as -log(1 - v) is at least v: most lanes need no logarithm.
  const f32x16 bound = exp(scores - splat(best.score)) * splat(1.001f);
  if (!any(v < bound)) return;
  const f32x16 noisy = scores + gumbel(v);
  // Not `>`: an equal one with a lower id wins.
  uint32_t lanes = ~bits(noisy < splat(best.score)) & bits(noisy > minus_infinity());
  if (lanes == 0) return;
  float values[kLanes];
  store(values, noisy);
  for (; lanes != 0; lanes &= lanes - 1) {
    const int lane = __builtin_ctz(lanes);
    if (values[lane] > best.score ||
        (values[lane] == best.score && id_at(index + lane) < id_at(best.index))) {
      best = {values[lane], index + lane};
    }
  }
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
  if (ids != nullptr) {
    each_vector(row.count, [&](int64_t i, int64_t n) {
      const f32x16 s = scaled(row, i, n);
      if (is_hopeless(s, best)) return;
      join(s, words_of(load_u32_n(ids + i, n), key), i, [&](int64_t at) { return ids[at]; }, best);
    });
    return;
  }
  constexpr int64_t kIdsOfBlocks = 4 * kLanes;
  for (int64_t i = 0; i < row.count; i += kIdsOfBlocks) {
    f32x16 s[4];
    bool has_hope = false;
    for (int64_t k = 0; k < 4; ++k) {
      const int64_t left = row.count - i - k * kLanes;
      s[k] =
          left > 0 ? scaled(row, i + k * kLanes, left < kLanes ? left : kLanes) : minus_infinity();
      has_hope = has_hope || !is_hopeless(s[k], best);
    }
    if (!has_hope) continue;
    const Words words = philox(iota_u32() + splat_u32(static_cast<uint32_t>(i / 4)), key);
    for (int k = 0; k < 4; ++k) {
      if (is_hopeless(s[k], best)) continue;
      join(s[k], words.word[k], i + k * kLanes, [](int64_t at) { return at; }, best);
    }
  }
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
