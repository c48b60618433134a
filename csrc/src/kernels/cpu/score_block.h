// SPDX-License-Identifier: Apache-2.0
// The exponentials of a block of scores, for all that sum them: whoever does it, sums have equal
// bits.
#pragma once

#include "kernels/cpu/decode_ops.h"
#include "kernels/cpu/simd/parts.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

/// What can be taken off scores of which `most` is the largest: -inf less -inf is no number.
[[gnu::always_inline]] inline float finite_shift(float most) {
  return most > -__FLT_MAX__ ? most : -__FLT_MAX__;
}

/// The scores of one block, -inf where there is none. NaN counts as -inf.
struct ScoreBlock {
  f32x16 low, high;

  /// The larger one of each two, never NaN.
  [[gnu::always_inline]] f32x16 larger() const { return max(low, max(high, minus_infinity())); }
  [[gnu::always_inline]] float most() const { return reduce_max(larger()); }
  /// Of exp(score - most), sums of two.
  [[gnu::always_inline]] f32x16 exponentials(float most) const {
    const f32x16 shift = splat(finite_shift(most));
    return exp_of_small(low - shift) + exp_of_small(high - shift);
  }
  [[gnu::always_inline]] ScoreSum sum() const {
    const float largest = most();
    return {largest, reduce_add(exponentials(largest))};
  }
};

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
