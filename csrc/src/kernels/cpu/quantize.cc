// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/quantize.h"

#include <cmath>
#include <cstring>

#include "kernels/cpu/simd/parts.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

namespace {

constexpr float kLargest = 127;
/// Rows below this count as zeros; far below, 127 over the largest would not be finite.
constexpr float kTiny = 0x1p-100f;

}  // namespace

void quantize_rows(const QuantizeRows& args, int64_t begin, int64_t end) {
  const int64_t stride = int8_row_bytes(args.I);
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x.data + row * args.x.stride;
    int8_t* q = args.q + row * stride;
    f32x16 largest = zeros();
    f32x16 unlike_itself = zeros();  // x - x is 0 unless x is an infinity or NaN
    each_vector(args.I, [&](int64_t i, int64_t n) {
      const f32x16 value = load_part(x + i, n);
      largest = max(abs(value), largest);
      unlike_itself = unlike_itself + (value - value);
    });
    const float most = reduce_max(largest);
    const bool is_finite = reduce_add(unlike_itself) == 0;
    const bool is_zero = most < kTiny;
    std::memset(q + stride - 4, 0, 4);
    if (!is_finite || is_zero) {
      std::memset(q, 0, static_cast<size_t>(stride));
      args.scales[row] = is_finite ? 0 : NAN;
      continue;
    }
    args.scales[row] = most / kLargest;
    const f32x16 factor = splat(kLargest / most);
    each_vector(args.I, [&](int64_t i, int64_t n) {
      store_int8_part(q + i, load_part(x + i, n) * factor, n);
    });
  }
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
