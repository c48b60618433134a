// SPDX-License-Identifier: Apache-2.0
// The products of one decode step, beside plain reads of as many bytes.
#pragma once

#include <string>

#include "decode/report.h"
#include "machine_limits.h"
#include "products/matrices.h"

namespace fuseq::bench {

/// Bytes that no cache holds.
inline constexpr int64_t kDramBytes = int64_t{500} * 1000 * 1000;
/// Rows of the second measurement: a batch, or the beams of a request.
inline constexpr int64_t kBatchRows = 8;

struct StepRecords {
  Record one_row;
  Record eight_rows;
};

/// `matrices` are those of the step; the buffer has kDramBytes and theirs.
[[nodiscard]] StepRecords measure_step(const std::string& model, DType dtype, Matrices& matrices,
                                       const ReadBuffer& buffer, Context& ctx, int rounds);

}  // namespace fuseq::bench
