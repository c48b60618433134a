// SPDX-License-Identifier: Apache-2.0
// Parts of append_kv: norm and rope of heads in place, and the store into a cache; see fuseq/ops.h.
#pragma once

#include <cstdint>

#include "fuseq/ops.h"
#include "kernels/cpu/per_isa.h"

namespace fuseq::inline v0::cpu {

/// Heads of q or k, changed in place.
struct HeadRows {
  float* data;
  int64_t row_stride;
  int64_t head_stride;
  int64_t heads;
  int64_t E;
  const float* gamma;  ///< [E] or null: no norm
  Norm norm;
  float eps;
  const float* cos_sin;  ///< [rows][E]: E / 2 cosines, then as many sines; null: no rope
};

/// Keys and values of rows of one request, and where they go.
struct StoreRows {
  const float* k;
  int64_t k_row_stride;
  int64_t k_head_stride;
  const float* v;
  int64_t v_row_stride;
  int64_t v_head_stride;
  int64_t G;
  int64_t E;
  bool is_bf16;
  KvView kv;
  const int32_t* positions;  ///< of row 0, as all the above
  const int32_t* lanes;      ///< null: lane 0
};

FUSEQ_DECLARE_PER_ISA(void transform_heads(const HeadRows& args, int64_t begin, int64_t end))
FUSEQ_DECLARE_PER_ISA(void store_rows(const StoreRows& args, int64_t begin, int64_t end))

}  // namespace fuseq::inline v0::cpu
