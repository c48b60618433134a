// SPDX-License-Identifier: Apache-2.0
// Matrices as the CPU kernels see them: a pointer and the distance between rows.
#pragma once

#include <cstdint>

namespace fuseq::inline v0::cpu {

/// `stride` is in elements; null data: the matrix is absent.
struct ConstRows {
  const float* data = nullptr;
  int64_t stride = 0;
};
struct Rows {
  float* data = nullptr;
  int64_t stride = 0;
};

}  // namespace fuseq::inline v0::cpu
