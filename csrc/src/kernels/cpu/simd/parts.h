// SPDX-License-Identifier: Apache-2.0
// Whole vectors and the shorter one at the end of a row.
#pragma once

#include "kernels/cpu/simd/vec.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

[[gnu::always_inline]] inline f32x16 minus_infinity() {
  return splat(-__builtin_inff());
}

/// n elements, 1 ... 16; the other lanes are zero and their memory is not touched.
[[gnu::always_inline]] inline f32x16 load_part(const float* p, int64_t n) {
  return n == 16 ? load(p) : load_n(p, n);
}
[[gnu::always_inline]] inline void store_part(float* p, f32x16 a, int64_t n) {
  if (n == 16) {
    store(p, a);
  } else {
    store_n(p, a, n);
  }
}

/// The n elements, 1 ... 16, as the nearest whole numbers; they are in [-127, 127].
[[gnu::always_inline]] inline void store_int8_part(int8_t* p, f32x16 a, int64_t n) {
  if (n == 16) {
    store_int8(p, a);
  } else {
    int8_t bytes[16];
    store_int8(bytes, a);
    __builtin_memcpy(p, bytes, static_cast<size_t>(n));
  }
}

/// Calls f(i, n) for the elements i ... i + n - 1 of a row, n being 16 but at its end.
template <typename F>
[[gnu::always_inline]] inline void each_vector(int64_t count, F f) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) f(i, int64_t{16});
  if (i < count) f(i, count - i);
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
