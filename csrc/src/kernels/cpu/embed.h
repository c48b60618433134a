// SPDX-License-Identifier: Apache-2.0
// Rows of the embed op; see fuseq/ops.h for what they mean.
#pragma once

#include <cstdint>

#include "fuseq/dtype.h"
#include "kernels/cpu/per_isa.h"

namespace fuseq::inline v0::cpu {

struct EmbedRows {
  const int32_t* ids;
  const int32_t* position_rows;  ///< null without positions
  const int32_t* type_ids;       ///< null: all 0
  const void* table;             ///< rows of D elements, or panels
  DType dtype;                   ///< f32, bf16 or, packed only, int8
  bool packed;
  int64_t panel_size;   ///< elements of a panel
  const float* scales;  ///< of int8 rows
  int64_t D;
  float scale;
  const float* positions;  ///< null: none
  int64_t positions_stride;
  const float* types;  ///< null: none
  int64_t types_stride;
  float* x;
};

FUSEQ_DECLARE_PER_ISA(void embed_rows(const EmbedRows& args, int64_t begin, int64_t end))

}  // namespace fuseq::inline v0::cpu
