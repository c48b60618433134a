// SPDX-License-Identifier: Apache-2.0
// Into panels of int8 and out again. A panel is a matrix [steps][32] of words of four inputs.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/context_impl.h"
#include "kernels/cpu/quantize.h"
#include "kernels/cpu/simd/transpose.h"
#include "kernels/pack_source.h"

namespace fuseq::inline v0 {

namespace {

constexpr int64_t kPanel = PackedMatrix::kPanel;

}  // namespace

void pack_int8(Context& ctx, const ConstView& w, PackedMatrix& matrix, int64_t first_row) {
  const int64_t I = matrix.inputs();
  const int64_t row_bytes = cpu::int8_row_bytes(I);
  auto* const panels = static_cast<std::byte*>(matrix.mutable_data());
  auto* const scales = const_cast<float*>(matrix.scales());
  auto* const sums = const_cast<int32_t*>(matrix.sums());
  const auto quantize = FUSEQ_PICK(ctx.impl().isa, quantize_rows);

  Context::Impl& impl = ctx.impl();
  const Arena::Scope scope(impl.arena);
  const auto pack_panels = [&](int64_t begin, int64_t end, float* floats, int8_t* numbers) {
    for (int64_t panel = begin; panel < end; ++panel) {
      const int64_t first = std::max(first_row, panel * kPanel);
      const int64_t rows = std::min(first_row + w.dim(0), (panel + 1) * kPanel) - first;
      for (int64_t i = 0; i < rows; ++i) {
        to_floats(w, (first - first_row + i) * w.stride(0), w.stride(1), I, floats + i * I);
      }
      quantize({.I = I, .x = {floats, I}, .q = numbers, .scales = scales + first}, 0, rows);
      for (int64_t i = 0; i < rows; ++i) {
        const int8_t* q = numbers + i * row_bytes;
        sums[first + i] = 128 * std::accumulate(q, q + I, int32_t{0});
      }
      std::byte* const to = panels + panel * matrix.panel_size() + (first - panel * kPanel) * 4;
      cpu::transpose_words(reinterpret_cast<const cpu::word*>(numbers), row_bytes / 4, rows,
                           row_bytes / 4, reinterpret_cast<cpu::word*>(to), kPanel);
    }
  };
  const int64_t first_panel = first_row / kPanel;
  const int64_t end_panel = (first_row + w.dim(0) + kPanel - 1) / kPanel;
  const int64_t count = end_panel - first_panel;
  const auto floats = impl.arena.take<float>(impl.team.size() * kPanel * I);
  const auto numbers = impl.arena.take<int8_t>(impl.team.size() * kPanel * row_bytes);
  impl.team.run([&](int thread, int size) {
    pack_panels(first_panel + count * thread / size, first_panel + count * (thread + 1) / size,
                floats.data() + thread * kPanel * I, numbers.data() + thread * kPanel * row_bytes);
  });
}

void unpack_int8(Context& ctx, const PackedMatrix& matrix, View w, int64_t first_row) {
  const int64_t I = matrix.inputs();
  const auto* const panels = static_cast<const int8_t*>(matrix.data());
  ctx.impl().team.parallel_for(w.dim(0), kPanel, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t output = first_row + row;
      const float scale = matrix.scales()[output];
      const int8_t* from = panels + output / kPanel * matrix.panel_size() + output % kPanel * 4;
      float* to = w.as<float>() + row * I;
      for (int64_t i = 0; i < I; ++i) {
        to[i] = static_cast<float>(from[i / 4 * 4 * kPanel + i % 4]) * scale;
      }
    }
  });
}

}  // namespace fuseq::inline v0
