// SPDX-License-Identifier: Apache-2.0
// The products of a layer with the rows of a source or a prompt, beside multiply-adds in registers.
#pragma once

#include <span>
#include <vector>

#include "decode/report.h"
#include "fuseq/kernels.h"
#include "shapes.h"

namespace fuseq::bench {

/// A record for each shape and one for all of them together. What `linear` does beside multiplying
/// counts as time: rounding or quantising the rows, scales, bias and writing. In int8 a static
/// library also shows the products of rows that are int8 already ("int8 rows").
[[nodiscard]] std::vector<Record> measure_prompt(std::span<const LinearShape> shapes, DType dtype,
                                                 int64_t rows, Context& ctx, int rounds);

}  // namespace fuseq::bench
