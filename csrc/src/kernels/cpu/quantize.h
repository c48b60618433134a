// SPDX-License-Identifier: Apache-2.0
// Rows of floats as int8 and a scale each: q = round(x * 127 / max|x|), x = q * scale nearly.
#pragma once

#include <cstdint>

#include "kernels/cpu/per_isa.h"
#include "kernels/cpu/rows.h"

namespace fuseq::inline v0::cpu {

/// Bytes of a row of int8: inputs come in groups of 4, the last one filled up with zeros.
[[nodiscard]] constexpr int64_t int8_row_bytes(int64_t inputs) {
  return (inputs + 3) / 4 * 4;
}

struct QuantizeRows {
  int64_t I;
  ConstRows x;
  int8_t* q;      ///< [rows][int8_row_bytes(I)]
  float* scales;  ///< [rows]; NaN for a row that is not finite, whose q are zeros
};

FUSEQ_DECLARE_PER_ISA(void quantize_rows(const QuantizeRows& args, int64_t begin, int64_t end))

}  // namespace fuseq::inline v0::cpu
