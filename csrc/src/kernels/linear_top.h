// SPDX-License-Identifier: Apache-2.0
// linear for outputs of which only the best are wanted, and perhaps the sum of their exponentials:
// the outputs themselves are not written to memory. The head of a step that only looks for the best
// id is one.
#pragma once

#include "fuseq/ops.h"
#include "kernels/log_softmax.h"

namespace fuseq::inline v0 {

/// Entries of a list at most: finding a place takes longer the longer the list is.
inline constexpr int64_t kMaxTopOutputs = 64;

/// What is known of the outputs of N rows.
struct TopOutputs {
  int64_t count = 0;           ///< n, 1 ... kMaxTopOutputs
  float* values = nullptr;     ///< [N][n] the largest outputs, largest first; -inf: there is none
  int32_t* ids = nullptr;      ///< [N][n] which they are; of equal outputs the lower comes first
  LogSum* log_sums = nullptr;  ///< [N] of all outputs; null: not wanted
};

/// Lists for N rows, in scratch memory.
[[nodiscard]] TopOutputs take_top_outputs(Arena& arena, int64_t N, int64_t count,
                                          bool with_log_sums);

/// args.y is not looked at. Values have the bits that linear gives, log_sums those of log_softmax,
/// on any number of threads. NaN and -inf are in no list. Throws what linear throws, and
/// Error(value) for a count out of range.
void linear_top(Context& ctx, const LinearArgs& args, const TopOutputs& top);

}  // namespace fuseq::inline v0
