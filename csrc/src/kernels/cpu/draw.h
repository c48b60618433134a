// SPDX-License-Identifier: Apache-2.0
// Vector parts of draws and of softmax.
#pragma once

#include <cstdint>

#include "kernels/cpu/per_isa.h"

namespace fuseq::inline v0::cpu {

/// The scores of a row as a draw sees them: (x[i] - shift) * scale.
struct ScaledRow {
  const float* x;
  int64_t count;
  float shift;
  float scale;
};

/// Key and counter of Philox4x32-10 but for the block of ids.
struct NoiseKey {
  uint32_t key[2];
  uint32_t counter[3];
};

/// The best noisy score so far and where it is.
struct Drawn {
  float score;    ///< -inf: none yet
  int64_t index;  ///< of x
};

FUSEQ_DECLARE_PER_ISA(
    /* The sum of exp(scaled x[i]): 16 lanes, then across. */
    float scaled_sum_exp(const ScaledRow& row);
    /* y[i] = exp(scaled x[i]); returns their sum. y may be x. */
    float scaled_exp(const ScaledRow& row, float* y);
    /* y[i] = x[i] * factor; y may be x. */
    void scale_row(const float* x, int64_t count, float factor, float* y);
    /* Scaled scores >= lowest, which is finite, and their indices; returns how many. */
    int64_t keep_scaled(const ScaledRow& row, float lowest, float* scores, int32_t* indices);
    /* Joins the row to `best`: the largest of scaled x[i] + noise of ids[i] (i where ids is null);
       of equal ones the lower id. Scores are at most 0; -inf and NaN never win. */
    void draw_row(const ScaledRow& row, const int32_t* ids, const NoiseKey& key, Drawn& best))

}  // namespace fuseq::inline v0::cpu
