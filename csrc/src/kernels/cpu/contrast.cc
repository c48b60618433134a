// SPDX-License-Identifier: Apache-2.0
// Vector parts of contrastive search.
#include "kernels/cpu/contrast.h"

#include <cstdint>

#include "kernels/cpu/simd/parts.h"
#include "kernels/cpu/simd/vec.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {
namespace {

[[gnu::always_inline]] inline float dot(const float* a, const float* b, int64_t count) {
  f32x16 sum = zeros();
  each_vector(count, [&](int64_t i, int64_t n) {
    sum = fma(load_part(a + i, n), load_part(b + i, n), sum);
  });
  return reduce_add(sum);
}

}  // namespace

void normalize_row(const float* x, int64_t count, float* y) {
  const float square = dot(x, x, count);
  const f32x16 factor = splat(square > 0 ? 1.0f / __builtin_sqrtf(square) : 0.0f);
  each_vector(count,
              [&](int64_t i, int64_t n) { store_part(y + i, load_part(x + i, n) * factor, n); });
}

float largest_dot(const float* x, const float* rows, int64_t num_rows, int64_t D) {
  float largest = dot(x, rows, D);
  for (int64_t row = 1; row < num_rows; ++row) {
    const float product = dot(x, rows + row * D, D);
    largest = product > largest ? product : largest;
  }
  return largest;
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
