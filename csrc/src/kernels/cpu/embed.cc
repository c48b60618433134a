// SPDX-License-Identifier: Apache-2.0
// Looks up token rows, in a plain table or in the panels of a packed matrix, and adds positions and
// types.
#include "kernels/cpu/embed.h"

#include "kernels/cpu/simd/parts.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

namespace {

constexpr int64_t kPanel = 32;

/// Row `id` of panels of float32 [D][32], bfloat16 [ceil(D / 2)][32][2] or int8 [ceil(D /
/// 4)][32][4].
void gather_row(const EmbedRows& args, int64_t id, float* x) {
  const int64_t panel = id / kPanel * args.panel_size;
  const int64_t lane = id % kPanel;
  if (args.dtype == DType::f32) {
    const float* p = static_cast<const float*>(args.table) + panel + lane;
    for (int64_t i = 0; i < args.D; ++i) x[i] = p[i * kPanel];
    return;
  }
  if (args.dtype == DType::i8) {
    const int8_t* p = static_cast<const int8_t*>(args.table) + panel + 4 * lane;
    const float scale = args.scales[id];
    for (int64_t i = 0; i < args.D; ++i) {
      x[i] = static_cast<float>(p[i / 4 * 4 * kPanel + i % 4]) * scale;
    }
    return;
  }
  const uint16_t* p = static_cast<const uint16_t*>(args.table) + panel + 2 * lane;
  for (int64_t i = 0; i < args.D; ++i) {
    const uint32_t bits = uint32_t{p[i / 2 * 2 * kPanel + i % 2]} << 16;
    __builtin_memcpy(x + i, &bits, sizeof(bits));
  }
}

f32x16 load_bf16_part(const uint16_t* p, int64_t n) {
  return n == 16 ? load_bf16(p) : load_bf16_n(p, n);
}

}  // namespace

void embed_rows(const EmbedRows& args, int64_t begin, int64_t end) {
  const int64_t D = args.D;
  const f32x16 scale = splat(args.scale);
  for (int64_t n = begin; n < end; ++n) {
    const int64_t id = args.ids[n];
    float* x = args.x + n * D;
    if (args.packed) gather_row(args, id, x);
    const float* floats = args.packed ? x : static_cast<const float*>(args.table) + id * D;
    const uint16_t* halves = static_cast<const uint16_t*>(args.table) + id * D;
    const bool widen = !args.packed && args.dtype == DType::bf16;
    const float* position =
        args.positions ? args.positions + args.position_rows[n] * args.positions_stride : nullptr;
    const float* type =
        args.types ? args.types + (args.type_ids ? args.type_ids[n] : 0) * args.types_stride
                   : nullptr;
    each_vector(D, [&](int64_t i, int64_t count) {
      f32x16 value =
          (widen ? load_bf16_part(halves + i, count) : load_part(floats + i, count)) * scale;
      if (position) value = value + load_part(position + i, count);
      if (type) value = value + load_part(type + i, count);
      store_part(x + i, value, count);
    });
  }
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
