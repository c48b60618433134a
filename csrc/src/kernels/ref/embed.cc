// SPDX-License-Identifier: Apache-2.0
// The truth of embed: plain loops.
#include <cstdint>

#include "base/half.h"
#include "kernels/ref/embed_ref.h"
#include "kernels/ref/linear_ref.h"

namespace fuseq::inline v0::ref {

void embed(const EmbedArgs& args) {
  const int64_t D = args.x.dim(1);
  for (size_t n = 0; n < args.ids.size(); ++n) {
    const int64_t id = args.ids[n];
    for (int64_t i = 0; i < D; ++i) {
      float value = 0;
      if (args.packed_table) {
        value = element(*args.packed_table, id, i);
      } else if (args.table.dtype == DType::f32) {
        value = args.table.as<float>()[id * D + i];
      } else {
        value = bf16_to_float(args.table.as<uint16_t>()[id * D + i]);
      }
      value *= args.scale;
      if (args.positions) {
        value += args.positions.as<float>()[args.position_rows[n] * args.positions.stride(0) + i];
      }
      if (args.types) {
        const int64_t type = args.type_ids.empty() ? 0 : args.type_ids[n];
        value += args.types.as<float>()[type * args.types.stride(0) + i];
      }
      args.x.as<float>()[static_cast<int64_t>(n) * D + i] = value;
    }
  }
}

}  // namespace fuseq::inline v0::ref
