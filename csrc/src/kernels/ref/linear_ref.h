// SPDX-License-Identifier: Apache-2.0
// Plain linear and its activations.
#pragma once

#include "fuseq/ops.h"

namespace fuseq::inline v0::ref {

[[nodiscard]] double activate(Activation act, double x);

/// As fuseq::linear, in double, without checks. The inputs are rounded to bfloat16 if the matrix is
/// bfloat16.
void linear(const LinearArgs& args);

/// Element [output, input] of a packed matrix.
[[nodiscard]] float element(const PackedMatrix& matrix, int64_t output, int64_t input);

}  // namespace fuseq::inline v0::ref
