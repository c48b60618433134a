// SPDX-License-Identifier: Apache-2.0
// Checks that append_kv and attention share.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/message.h"
#include "fuseq/ops.h"
#include "kernels/check.h"

namespace fuseq::inline v0 {

inline void check_cache_dtype(std::string_view op, DType dtype) {
  if (dtype != DType::f32 && dtype != DType::bf16) {
    fail(ErrorKind::type, op, ": cache_dtype must be float32 or bfloat16, got ", name(dtype));
  }
}

/// [N, heads, E] float32, the elements of a head side by side.
inline void check_heads(std::string_view op, std::string_view what, ConstView view) {
  require(view.rank() == 3 && view.dim(1) > 0 && view.dim(2) > 0, op, ": ", what,
          " must have shape [rows, heads, width], got ", view.shape);
  check_floats(op, what, view, view.shape);
}

/// Groups lie inside N rows, one after another, and their views are whole blocks of memory.
inline void check_groups(std::string_view op, std::span<const KvGroup> groups, int64_t N) {
  int64_t row = 0;
  for (size_t i = 0; i < groups.size(); ++i) {
    const KvGroup& group = groups[i];
    require(group.first_row >= row && group.num_rows >= 0 && group.num_rows <= N - group.first_row,
            op, ": groups[", i, "] must lie in rows ", row, " ... ", N - 1, ", got ",
            group.num_rows, " rows from ", group.first_row);
    row = group.first_row + group.num_rows;
    if (group.num_rows == 0) continue;
    const KvView& kv = group.kv;
    require(kv.capacity > 0 && kv.capacity % kKeyBlock == 0 && kv.tail_begin >= 0 &&
                kv.tail_begin <= kv.capacity && kv.tail_begin % kKeyBlock == 0,
            op, ": capacity and tail_begin of groups[", i, "] must be multiples of ", kKeyBlock,
            ", tail_begin the lesser, got ", kv.capacity, " and ", kv.tail_begin);
    require(kv.k != nullptr && kv.v != nullptr, op, ": groups[", i,
            "] must have keys and values, got a null pointer");
  }
}

/// Lane `lane` may hold `position`.
[[nodiscard]] inline bool is_lane_at(const KvView& kv, int64_t lane, int64_t position) {
  return lane == 0 ||
         (lane > 0 && position >= kv.tail_begin && kv.k_tail != nullptr && kv.v_tail != nullptr);
}

}  // namespace fuseq::inline v0
