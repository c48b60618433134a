// SPDX-License-Identifier: Apache-2.0
// log(softmax) of rows that lie anywhere, and its two parts.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

#include "base/context_impl.h"
#include "fuseq/tensor.h"
#include "kernels/cpu/decode_ops.h"

namespace fuseq::inline v0 {

/// Scores are read in slices of this many ids, a multiple of kScoreBlock.
inline constexpr int64_t kScoreSlice = 8192;

/// The largest score of a row and the log of the sum of exp(score - largest).
struct LogSum {
  float max;
  float log_sum;
};

inline LogSum log_sum_of(const cpu::ScoreSum& sum) {
  return {sum.max, std::log(sum.sum)};
}

/// Those of the rows of x [N, V] f32.
void log_sums(Context& ctx, ConstView x, LogSum* sums);

/// Calls use(row, x, count, begin, LogSum) for every slice of every row of V scores, once the row's
/// LogSum is known; x_of(row) gives the scores. Rows are shared out whole where there are enough of
/// them, else slice by slice; sums are the same either way.
template <typename XOf, typename Use>
void for_log_sums(Context& ctx, int64_t num_rows, int64_t V, const XOf& x_of, const Use& use) {
  if (num_rows == 0 || V == 0) return;
  const CpuIsa isa = ctx.impl().isa;
  const auto row_blocks = FUSEQ_PICK(isa, row_blocks);
  const auto join_blocks = FUSEQ_PICK(isa, join_blocks);
  ThreadTeam& team = ctx.impl().team;
  const Arena::Scope scope(ctx.impl().arena);
  const int64_t slices = (V + kScoreSlice - 1) / kScoreSlice;
  const int64_t blocks = (V + cpu::kScoreBlock - 1) / cpu::kScoreBlock;
  const std::span<float> maxima = ctx.impl().arena.take<float>(num_rows * blocks);
  const std::span<float> block_sums = ctx.impl().arena.take<float>(num_rows * blocks);
  const auto length = [&](int64_t slice) { return std::min(kScoreSlice, V - slice * kScoreSlice); };
  const auto add_up = [&](int64_t row, int64_t slice) {
    const auto at = static_cast<size_t>(row * blocks + slice * (kScoreSlice / cpu::kScoreBlock));
    row_blocks(x_of(row) + slice * kScoreSlice, length(slice), &maxima[at], &block_sums[at]);
  };
  const auto sum_of = [&](int64_t row) {
    const auto at = static_cast<size_t>(row * blocks);
    return log_sum_of(join_blocks(&maxima[at], &block_sums[at], blocks));
  };
  const auto hand_over = [&](int64_t row, int64_t slice, const LogSum& sum) {
    const int64_t begin = slice * kScoreSlice;
    use(row, x_of(row) + begin, length(slice), begin, sum);
  };

  if (team.size() == 1 || num_rows >= 2 * team.size()) {  // rows stay in their thread's cache
    team.parallel_for(num_rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        for (int64_t slice = 0; slice < slices; ++slice) add_up(row, slice);
        const LogSum sum = sum_of(row);
        for (int64_t slice = 0; slice < slices; ++slice) hand_over(row, slice, sum);
      }
    });
    return;
  }
  const std::span<LogSum> sums = ctx.impl().arena.take<LogSum>(num_rows);
  const auto each_slice = [&](const auto& f) {
    team.parallel_for(num_rows * slices, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) f(i / slices, i % slices);
    });
  };
  each_slice(add_up);
  for (int64_t row = 0; row < num_rows; ++row) sums[static_cast<size_t>(row)] = sum_of(row);
  each_slice(
      [&](int64_t row, int64_t slice) { hand_over(row, slice, sums[static_cast<size_t>(row)]); });
}

}  // namespace fuseq::inline v0
