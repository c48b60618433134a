// SPDX-License-Identifier: Apache-2.0
// Vector parts of contrastive search: rows of length 1 and their products.
#pragma once

#include <cstdint>

#include "kernels/cpu/per_isa.h"

namespace fuseq::inline v0::cpu {

FUSEQ_DECLARE_PER_ISA(
    /* y = x / |x|; zeros stay zeros. y may be x. */
    void normalize_row(const float* x, int64_t count, float* y);
    /* The largest x . rows[i] over num_rows >= 1 rows of D elements. */
    float largest_dot(const float* x, const float* rows, int64_t num_rows, int64_t D))

}  // namespace fuseq::inline v0::cpu
