// SPDX-License-Identifier: Apache-2.0
// Rows of the norm op; see fuseq/ops.h for what they mean.
#pragma once

#include <cstdint>

#include "fuseq/spec.h"
#include "kernels/cpu/per_isa.h"
#include "kernels/cpu/rows.h"

namespace fuseq::inline v0::cpu {

struct NormRows {
  Norm kind;
  int64_t D;
  ConstRows x;
  ConstRows residual;
  const float* bias;
  const float* gamma;
  const float* beta;
  float eps;
  Rows y;
  Rows sum;
};

FUSEQ_DECLARE_PER_ISA(void norm_rows(const NormRows& args, int64_t begin, int64_t end))

}  // namespace fuseq::inline v0::cpu
