// SPDX-License-Identifier: Apache-2.0
// Vector parts of log_softmax and select.
#include "kernels/cpu/decode_ops.h"

#include <cstdint>

#include "kernels/cpu/score_block.h"
#include "kernels/cpu/simd/parts.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {
namespace {

constexpr int64_t kLanes = 16;

/// n scores; -inf in the lanes beyond them.
[[gnu::always_inline]] inline f32x16 load_scores(const float* x, int64_t n) {
  const f32x16 part = load_part(x, n);
  return n == kLanes ? part : select(first(n), part, minus_infinity());
}

/// Hands the lanes of v that are set in `lanes` to the list. Compared again: the threshold rises on
/// the way.
void take_lanes(f32x16 v, uint32_t lanes, int64_t first_index, TopList& list) {
  float values[kLanes];
  store(values, v);
  for (; lanes != 0; lanes &= lanes - 1) {
    const int lane = __builtin_ctz(lanes);
    if (list.count < list.capacity || values[lane] > list.values[list.capacity - 1]) {
      insert(list, values[lane], first_index + lane);
    }
  }
}

}  // namespace

float row_max(const float* x, int64_t count) {
  f32x16 m0 = minus_infinity();
  f32x16 m1 = m0;
  int64_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    m0 = max(load(x + i), m0);
    m1 = max(load(x + i + kLanes), m1);
  }
  for (; i < count; i += kLanes) {
    m0 = max(load_scores(x + i, count - i < kLanes ? count - i : kLanes), m0);
  }
  return reduce_max(max(m0, m1));
}

void row_blocks(const float* x, int64_t count, float* maxima, float* sums) {
  for (int64_t i = 0; i < count; i += kScoreBlock) {
    f32x16 v[2] = {minus_infinity(), minus_infinity()};
    each_vector(count - i < kScoreBlock ? count - i : kScoreBlock,
                [&](int64_t k, int64_t n) { v[k / kLanes] = load_scores(x + i + k, n); });
    const ScoreSum block = ScoreBlock{v[0], v[1]}.sum();
    maxima[i / kScoreBlock] = block.max;
    sums[i / kScoreBlock] = block.sum;
  }
}

ScoreSum join_blocks(const float* maxima, const float* sums, int64_t blocks) {
  const float most = row_max(maxima, blocks);
  const f32x16 shift = splat(finite_shift(most));
  f32x16 sum = zeros();
  each_vector(blocks, [&](int64_t i, int64_t n) {
    sum = fma(load_part(sums + i, n), exp_of_small(load_scores(maxima + i, n) - shift), sum);
  });
  return {most, reduce_add(sum)};
}

void row_subtract(const float* x, int64_t count, float first_term, float second_term, float* y) {
  const f32x16 a = splat(first_term);
  const f32x16 b = splat(second_term);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(y + i, (load(x + i) - a) - b);
  if (i < count) store_n(y + i, (load_n(x + i, count - i) - a) - b, count - i);
}

void row_top(const float* x, int64_t count, float add, int64_t first_index, TopList& list) {
  const f32x16 a = splat(add);
  const auto threshold = [&list] {
    return list.count < list.capacity ? minus_infinity() : splat(list.values[list.capacity - 1]);
  };
  f32x16 lowest = threshold();
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    const f32x16 v[4] = {load(x + i) + a, load(x + i + kLanes) + a, load(x + i + 2 * kLanes) + a,
                         load(x + i + 3 * kLanes) + a};
    const uint32_t low = bits(v[0] > lowest) | bits(v[1] > lowest) << 16;
    const uint32_t high = bits(v[2] > lowest) | bits(v[3] > lowest) << 16;
    if ((low | high) == 0) [[likely]]
      continue;
    take_lanes(v[0], low & 0xffffu, first_index + i, list);
    take_lanes(v[1], low >> 16, first_index + i + kLanes, list);
    take_lanes(v[2], high & 0xffffu, first_index + i + 2 * kLanes, list);
    take_lanes(v[3], high >> 16, first_index + i + 3 * kLanes, list);
    lowest = threshold();
  }
  for (; i < count; i += kLanes) {
    const int64_t n = count - i < kLanes ? count - i : kLanes;
    const f32x16 v = load_n(x + i, n) + a;
    const uint32_t lanes = bits(v > lowest) & bits(first(n));
    if (lanes == 0) continue;
    take_lanes(v, lanes, first_index + i, list);
    lowest = threshold();
  }
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
