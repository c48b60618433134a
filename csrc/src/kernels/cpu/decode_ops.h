// SPDX-License-Identifier: Apache-2.0
// Vector parts of log_softmax and select: passes over a slice of one row of scores.
#pragma once

#include <cstdint>

#include "kernels/cpu/per_isa.h"

namespace fuseq::inline v0::cpu {

/// The best values seen so far, largest first; equal values in the order in which they came.
struct TopList {
  float* values;     ///< [capacity]
  int64_t* indices;  ///< [capacity]
  int64_t capacity;  ///< at least 1
  int64_t count;     ///< entries in use
};

/// Puts `value` in its place behind equal ones; the caller knows that there is one. Always inlined,
/// so that no copy that was compiled for a newer CPU can be linked into other code.
[[gnu::always_inline]] inline void insert(TopList& list, float value, int64_t index) {
  int64_t place = list.count < list.capacity ? list.count++ : list.capacity - 1;
  for (; place > 0 && list.values[place - 1] < value; --place) {
    list.values[place] = list.values[place - 1];
    list.indices[place] = list.indices[place - 1];
  }
  list.values[place] = value;
  list.indices[place] = index;
}

/// Scores whose exponentials are summed together: the outputs of a panel of linear.
inline constexpr int64_t kScoreBlock = 32;

/// The largest of some scores and the sum of exp(score - largest).
struct ScoreSum {
  float max;
  float sum;
};

FUSEQ_DECLARE_PER_ISA(
    /* The largest of x[0 ... count - 1]; -inf if there is none but NaN. */
    float row_max(const float* x, int64_t count);
    /* Of each block of kScoreBlock scores: the largest (-inf if there is none but NaN), and the sum
       of exp(x[i] - largest). */
    void row_blocks(const float* x, int64_t count, float* maxima, float* sums);
    /* The same of all blocks of a row together. */
    ScoreSum join_blocks(const float* maxima, const float* sums, int64_t blocks);
    /* y[i] = (x[i] - first) - second */
    void row_subtract(const float* x, int64_t count, float first, float second, float* y);
    /* Adds those of x[i] + add to `list` that belong there, under index first_index + i. */
    void row_top(const float* x, int64_t count, float add, int64_t first_index, TopList& list))

}  // namespace fuseq::inline v0::cpu
