// SPDX-License-Identifier: Apache-2.0
// What packing needs of its source: elements as float32, and checks.
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

#include "base/half.h"
#include "base/message.h"
#include "fuseq/ops.h"

namespace fuseq::inline v0 {

/// float16 without branches, so that loops of it become vector code.
inline float f16_to_float_flat(uint16_t bits) {
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  const uint32_t mantissa = bits & 0x3ffu;
  const uint32_t special =
      exponent == 0x1fu ? 0x7f800000u | mantissa << 13 : ((exponent + 112u) << 23) | mantissa << 13;
  const float tiny = static_cast<float>(static_cast<int32_t>(mantissa)) * 0x1p-24f;
  const uint32_t magnitude = exponent == 0 ? std::bit_cast<uint32_t>(tiny) : special;
  return std::bit_cast<float>(magnitude | static_cast<uint32_t>(bits & 0x8000u) << 16);
}

/// `count` elements of a source, `stride` apart, as float32.
inline void to_floats(const ConstView& source, int64_t offset, int64_t stride, int64_t count,
                      float* out) {
  const auto each = [=](auto* from, auto convert) {
    if (stride == 1) {
      for (int64_t i = 0; i < count; ++i) out[i] = convert(from[i]);
    } else {
      for (int64_t i = 0; i < count; ++i) out[i] = convert(from[i * stride]);
    }
  };
  if (source.dtype == DType::f32) {
    each(source.as<float>() + offset, [](float value) { return value; });
  } else if (source.dtype == DType::f16) {
    each(source.as<uint16_t>() + offset, f16_to_float_flat);
  } else {
    each(source.as<uint16_t>() + offset, bf16_to_float);
  }
}

inline void check_rows(std::string_view op, std::string_view what, const ConstView& w,
                       const PackedMatrix& matrix, int64_t first_row) {
  require(w.rank() == 2 && w.dim(1) == matrix.inputs(), op, ": ", what, " must have shape [rows, ",
          matrix.inputs(), "] to match the matrix, got ", w.shape);
  require(w.data != nullptr || w.shape.num_elements() == 0, op, ": ", what,
          " must be there, got no data in ", w.shape);
  require(first_row >= 0 && w.dim(0) <= matrix.outputs() - first_row, op, ": rows must lie in [0, ",
          matrix.outputs(), "), got ", w.dim(0), " from first_row ", first_row);
}

/// int8; the door is in pack.cc, which has checked the arguments.
void pack_int8(Context& ctx, const ConstView& w, PackedMatrix& matrix, int64_t first_row);
void unpack_int8(Context& ctx, const PackedMatrix& matrix, View w, int64_t first_row);

}  // namespace fuseq::inline v0
