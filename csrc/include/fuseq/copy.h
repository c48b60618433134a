// SPDX-License-Identifier: Apache-2.0
// Copies elements between views of any strides.
#pragma once

#include "fuseq/export.h"
#include "fuseq/tensor.h"

namespace fuseq::inline v0 {

/// to[...] = from[...] for views of one shape. Any of float32, float16 and bfloat16 is converted to
/// float32 or bfloat16 (to nearest, ties to even); other dtypes must be equal. The views must not
/// overlap. Throws Error(value) for different shapes, Error(type) for dtypes that do not convert.
FUSEQ_API void copy(ConstView from, View to);

}  // namespace fuseq::inline v0
