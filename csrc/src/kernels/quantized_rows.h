// SPDX-License-Identifier: Apache-2.0
// Rows as int8 that the op before an int8 product makes, while it has them at hand, or that several
// products share.
#pragma once

#include <cstdint>

#include "base/memory.h"
#include "fuseq/ops.h"

namespace fuseq::inline v0 {

/// Rows [N, I] as linear makes them of its x; see kernels/cpu/quantize.h.
struct QuantizedRows {
  int64_t N = 0;
  int64_t I = 0;
  int8_t* q = nullptr;      ///< [N][I rounded up to 4]
  float* scales = nullptr;  ///< [N]
};

/// Room for N rows, in scratch memory.
[[nodiscard]] QuantizedRows take_quantized_rows(Arena& arena, int64_t N, int64_t I);

/// The rows of x [N, I] f32 as int8. Throws Error(value) for rows of another shape, or of no
/// inputs.
void quantize(Context& ctx, ConstView x, const QuantizedRows& rows);

/// norm, and the rows of y as int8 too: each row is quantised while it is in the first-level cache.
/// Throws what norm throws, and Error(value) for a `rows` of another shape than y.
void norm_quantized(Context& ctx, const NormArgs& args, const QuantizedRows& rows);

/// linear with an int8 matrix and x that is quantised already: args.x is checked but not read.
/// Throws what linear throws, Error(type) for another matrix, Error(value) for an `x` of another
/// shape than args.x or without rows.
void linear_quantized(Context& ctx, const LinearArgs& args, const QuantizedRows& x);

}  // namespace fuseq::inline v0
