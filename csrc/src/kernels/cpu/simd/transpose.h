// SPDX-License-Identifier: Apache-2.0
// Transposes 4 x 4 blocks of 32-bit words. Needs no more than 16-byte vectors, so it is the same on
// every instruction set; `static`, so that no copy compiled for a newer CPU can serve an older one.
#pragma once

#include <cstdint>

namespace fuseq::inline v0::cpu {

using u32x4 = uint32_t __attribute__((vector_size(16)));
/// 32 bits of whatever type lies there.
using word = uint32_t __attribute__((may_alias));

/// to[i][j] = from[j][i] for i, j in 0 ... 3; strides in words.
[[gnu::always_inline]] static inline void transpose_4x4(const word* from, int64_t from_stride,
                                                        word* to, int64_t to_stride) {
  u32x4 a, b, c, d;
  __builtin_memcpy(&a, from, sizeof(a));
  __builtin_memcpy(&b, from + from_stride, sizeof(b));
  __builtin_memcpy(&c, from + 2 * from_stride, sizeof(c));
  __builtin_memcpy(&d, from + 3 * from_stride, sizeof(d));
  const u32x4 ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  const u32x4 ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const u32x4 cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const u32x4 cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  const u32x4 out0 = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
  const u32x4 out1 = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
  const u32x4 out2 = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
  const u32x4 out3 = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
  __builtin_memcpy(to, &out0, sizeof(out0));
  __builtin_memcpy(to + to_stride, &out1, sizeof(out1));
  __builtin_memcpy(to + 2 * to_stride, &out2, sizeof(out2));
  __builtin_memcpy(to + 3 * to_stride, &out3, sizeof(out3));
}

/// to[i][j] = from[j][i] for j below `rows` and i below `columns`.
[[gnu::always_inline]] static inline void transpose_words(const word* from, int64_t from_stride,
                                                          int64_t rows, int64_t columns, word* to,
                                                          int64_t to_stride) {
  if (rows < 4 || columns < 4) {
    for (int64_t j = 0; j < rows; ++j) {
      for (int64_t i = 0; i < columns; ++i) to[i * to_stride + j] = from[j * from_stride + i];
    }
    return;
  }
  // The last block of each direction is moved back onto the edge and so written twice in part.
  for (int64_t j = 0; j < rows; j += 4) {
    const int64_t row = j + 4 <= rows ? j : rows - 4;
    for (int64_t i = 0; i < columns; i += 4) {
      const int64_t column = i + 4 <= columns ? i : columns - 4;
      transpose_4x4(from + row * from_stride + column, from_stride, to + column * to_stride + row,
                    to_stride);
    }
  }
}

}  // namespace fuseq::inline v0::cpu
