// SPDX-License-Identifier: Apache-2.0
// Plain linear and its activations.
#pragma once

#include <vector>

#include "fuseq/ops.h"

namespace fuseq::inline v0::ref {

[[nodiscard]] double activate(Activation act, double x);

/// As fuseq::linear, in double, without checks. The inputs are rounded to bfloat16 or int8 if the
/// matrix is.
void linear(const LinearArgs& args);

/// What a product with a matrix of `dtype` makes of one row of x first.
[[nodiscard]] std::vector<float> rounded_row(const float* x, int64_t count, DType dtype);

/// Element [output, input] of a packed matrix.
[[nodiscard]] float element(const PackedMatrix& matrix, int64_t output, int64_t input);

}  // namespace fuseq::inline v0::ref
