// SPDX-License-Identifier: Apache-2.0
// log(softmax) of rows that lie anywhere, and its two parts.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

#include "base/context_impl.h"
#include "kernels/cpu/decode_ops.h"

namespace fuseq::inline v0 {

/// Scores are read in slices of this many ids, whatever the number of threads: sums are joined
/// slice by slice.
inline constexpr int64_t kScoreSlice = 8192;

/// The largest score of a row and the log of the sum of exp(score - largest).
struct LogSum {
  float max;
  float log_sum;
};

/// Calls use(row, x, count, begin, LogSum) for every slice of every row of V scores, once the row's
/// LogSum is known; x_of(row) gives the scores. Rows are shared out whole where there are enough of
/// them, else slice by slice; sums are the same either way.
template <typename XOf, typename Use>
void for_log_sums(Context& ctx, int64_t num_rows, int64_t V, const XOf& x_of, const Use& use) {
  if (num_rows == 0 || V == 0) return;
  const CpuIsa isa = ctx.impl().isa;
  const auto row_max = FUSEQ_PICK(isa, row_max);
  const auto row_sum_exp = FUSEQ_PICK(isa, row_sum_exp);
  ThreadTeam& team = ctx.impl().team;
  const Arena::Scope scope(ctx.impl().arena);
  const int64_t slices = (V + kScoreSlice - 1) / kScoreSlice;
  const std::span<float> parts = ctx.impl().arena.take<float>(num_rows * slices);
  const auto length = [&](int64_t slice) { return std::min(kScoreSlice, V - slice * kScoreSlice); };
  const auto part = [&](int64_t row, int64_t slice) -> float& {
    return parts[static_cast<size_t>(row * slices + slice)];
  };
  const auto find_max = [&](int64_t row, int64_t slice) {
    part(row, slice) = row_max(x_of(row) + slice * kScoreSlice, length(slice));
  };
  const auto max_of = [&](int64_t row) {
    return *std::max_element(&part(row, 0), &part(row, 0) + slices);
  };
  const auto add_up = [&](int64_t row, int64_t slice, float max) {
    part(row, slice) = row_sum_exp(x_of(row) + slice * kScoreSlice, length(slice), max);
  };
  const auto log_sum_of = [&](int64_t row) {
    float sum = 0;
    for (int64_t slice = 0; slice < slices; ++slice) sum += part(row, slice);
    return std::log(sum);
  };
  const auto hand_over = [&](int64_t row, int64_t slice, const LogSum& sum) {
    const int64_t begin = slice * kScoreSlice;
    use(row, x_of(row) + begin, length(slice), begin, sum);
  };

  if (team.size() == 1 || num_rows >= 2 * team.size()) {  // rows stay in their thread's cache
    team.parallel_for(num_rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        for (int64_t slice = 0; slice < slices; ++slice) find_max(row, slice);
        const float max = max_of(row);
        for (int64_t slice = 0; slice < slices; ++slice) add_up(row, slice, max);
        const LogSum sum{max, log_sum_of(row)};
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
  const auto each_row = [&](const auto& f) {
    for (int64_t row = 0; row < num_rows; ++row) f(row, sums[static_cast<size_t>(row)]);
  };
  each_slice(find_max);
  each_row([&](int64_t row, LogSum& sum) { sum.max = max_of(row); });
  each_slice(
      [&](int64_t row, int64_t slice) { add_up(row, slice, sums[static_cast<size_t>(row)].max); });
  each_row([&](int64_t row, LogSum& sum) { sum.log_sum = log_sum_of(row); });
  each_slice(
      [&](int64_t row, int64_t slice) { hand_over(row, slice, sums[static_cast<size_t>(row)]); });
}

}  // namespace fuseq::inline v0
