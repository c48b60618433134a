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
[[gnu::always_inline]] inline ScoreSum sum_of_block(f32x16 a, f32x16 b) {
  const float most = reduce_max(max(a, max(b, minus_infinity())));
  const f32x16 shift = splat(finite_shift(most));
  return {most, reduce_add(exp(a - shift) + exp(b - shift))};
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
