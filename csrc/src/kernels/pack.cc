// SPDX-License-Identifier: Apache-2.0
// The ways into the panels of a PackedMatrix and out again; int8 is in pack_int8.cc.
//
// A panel is a matrix [steps][32] of 32-bit words: a float32 input, or two bfloat16 inputs, of 32
// outputs. So packing rows is a transpose of words, done 32 rows x 64 words at a time: what is read
// are whole cache lines of 32 rows, what is written is 8 KB in one piece.
#include <algorithm>
#include <array>
#include <cstring>

#include "base/context_impl.h"
#include "base/message.h"
#include "fuseq/ops.h"
#include "kernels/check.h"
#include "kernels/cpu/simd/transpose.h"
#include "kernels/pack_source.h"

namespace fuseq::inline v0 {

namespace {

constexpr int64_t kPanel = PackedMatrix::kPanel;
constexpr int64_t kStepsPerBlock = 64;
/// Panels walked together when the outputs of an input lie side by side: 1 KB of each source row.
constexpr int64_t kPanelsPerStripe = 8;
/// Fewer elements than this are done sooner by the caller alone.
constexpr int64_t kElementsPerThread = 65536;

uint32_t pair_of(float low, float high) {
  return float_to_bf16(low) | uint32_t{float_to_bf16(high)} << 16;
}

/// One call of pack: the source, and where its rows go.
struct Packing {
  ConstView source;  ///< [rows, I]
  PackedMatrix& matrix;
  int64_t first_row;

  [[nodiscard]] bool pairs() const { return matrix.dtype() == DType::bf16; }
  /// Words of a panel per output.
  [[nodiscard]] int64_t steps() const { return matrix.steps(); }
  [[nodiscard]] uint32_t* panel(int64_t index) const {
    return static_cast<uint32_t*>(matrix.mutable_data()) + index * steps() * kPanel;
  }
};

/// Words begin ... begin + count - 1 of a source row.
void words_of_row(const Packing& job, int64_t row, int64_t begin, int64_t count, uint32_t* words) {
  const int64_t stride = job.source.stride(1);
  const int64_t offset = row * job.source.stride(0);
  if (!job.pairs()) {
    to_floats(job.source, offset + begin * stride, stride, count, reinterpret_cast<float*>(words));
    return;
  }
  const int64_t inputs = std::min(2 * count, job.matrix.inputs() - 2 * begin);
  if (job.source.dtype == DType::bf16 && stride == 1) {
    words[count - 1] = 0;
    std::memcpy(words, job.source.as<uint16_t>() + offset + 2 * begin,
                static_cast<size_t>(inputs) * 2);
    return;
  }
  float values[2 * kStepsPerBlock];
  values[2 * count - 1] = 0;
  to_floats(job.source, offset + 2 * begin * stride, stride, inputs, values);
  for (int64_t i = 0; i < count; ++i) words[i] = pair_of(values[2 * i], values[2 * i + 1]);
}

/// Rows [begin, end) of the source, all of one panel, which begin at lane `lane` of it.
void pack_rows(const Packing& job, int64_t begin, int64_t end, uint32_t* panel, int64_t lane) {
  const bool in_place = job.source.dtype == DType::f32 && !job.pairs() && job.source.stride(1) == 1;
  uint32_t words[kPanel][kStepsPerBlock];
  for (int64_t step = 0; step < job.steps(); step += kStepsPerBlock) {
    const int64_t count = std::min(kStepsPerBlock, job.steps() - step);
    const uint32_t* from = words[0];
    int64_t from_stride = kStepsPerBlock;
    if (in_place) {
      from_stride = job.source.stride(0);
      from = job.source.as<uint32_t>() + begin * from_stride + step;
    } else {
      for (int64_t row = begin; row < end; ++row) {
        words_of_row(job, row, step, count, words[row - begin]);
      }
    }
    cpu::transpose_words(from, from_stride, end - begin, count, panel + step * kPanel + lane,
                         kPanel);
  }
}

/// The same where the outputs of an input lie side by side: words of one step and `count`
/// outputs.
void pack_outputs(const Packing& job, int64_t row, int64_t count, int64_t step, uint32_t* words) {
  const int64_t stride = job.source.stride(1);
  if (!job.pairs()) {
    to_floats(job.source, row + step * stride, 1, count, reinterpret_cast<float*>(words));
    return;
  }
  float low[kPanel];
  float high[kPanel] = {};
  to_floats(job.source, row + 2 * step * stride, 1, count, low);
  if (2 * step + 1 < job.matrix.inputs()) {
    to_floats(job.source, row + (2 * step + 1) * stride, 1, count, high);
  }
  for (int64_t i = 0; i < count; ++i) words[i] = pair_of(low[i], high[i]);
}

/// Fills panels [begin, end) of the matrix as far as the source has rows for them.
void pack_panels(const Packing& job, int64_t begin, int64_t end) {
  const int64_t rows = job.source.dim(0);
  // The source rows [first, last) and the lane of the first one, for a panel.
  const auto slice = [&](int64_t panel) {
    const int64_t first = std::max<int64_t>(0, panel * kPanel - job.first_row);
    const int64_t last = std::min(rows, (panel + 1) * kPanel - job.first_row);
    return std::array<int64_t, 3>{first, last, first + job.first_row - panel * kPanel};
  };
  if (job.source.stride(0) != 1 || job.source.stride(1) == 1) {
    for (int64_t panel = begin; panel < end; ++panel) {
      const auto [first, last, lane] = slice(panel);
      pack_rows(job, first, last, job.panel(panel), lane);
    }
    return;
  }
  for (int64_t stripe = begin; stripe < end; stripe += kPanelsPerStripe) {
    const int64_t stripe_end = std::min(end, stripe + kPanelsPerStripe);
    for (int64_t step = 0; step < job.steps(); ++step) {
      for (int64_t panel = stripe; panel < stripe_end; ++panel) {
        const auto [first, last, lane] = slice(panel);
        pack_outputs(job, first, last - first, step, job.panel(panel) + step * kPanel + lane);
      }
    }
  }
}

}  // namespace

void pack(Context& ctx, ConstView w, PackedMatrix& matrix, int64_t first_row) {
  check_cpu("pack", ctx.device());
  check_rows("pack", "w", w, matrix, first_row);
  if (w.dtype != DType::f32 && w.dtype != DType::f16 && w.dtype != DType::bf16) {
    fail(ErrorKind::type, "pack: w must be float32, float16 or bfloat16, got ", name(w.dtype));
  }
  require(matrix.mutable_data() != nullptr, "pack: matrix must own its memory, got ",
          matrix.empty() ? "nothing" : "one in memory of someone else");
  if (w.shape.num_elements() == 0) return;
  if (matrix.dtype() == DType::i8) return pack_int8(ctx, w, matrix, first_row);
  const Packing job{w, matrix, first_row};
  const int64_t first_panel = first_row / kPanel;
  const int64_t end_panel = (first_row + w.dim(0) + kPanel - 1) / kPanel;
  const int64_t grain = std::max<int64_t>(1, kElementsPerThread / (kPanel * matrix.inputs()));
  ctx.impl().team.parallel_for(end_panel - first_panel, grain, [&](int64_t begin, int64_t end) {
    pack_panels(job, first_panel + begin, first_panel + end);
  });
}

void unpack(Context& ctx, const PackedMatrix& matrix, View w, int64_t first_row) {
  check_cpu("unpack", ctx.device());
  check_rows("unpack", "w", w, matrix, first_row);
  const DType natural = matrix.dtype() == DType::i8 ? DType::f32 : matrix.dtype();
  if (w.dtype != natural) {
    fail(ErrorKind::type, "unpack: w must be ", name(natural), " for a matrix of ",
         name(matrix.dtype()), ", got ", name(w.dtype));
  }
  require(w.is_dense(), "unpack: w must be dense, got strides");
  const int64_t I = matrix.inputs();
  if (w.shape.num_elements() == 0) return;
  if (matrix.dtype() == DType::i8) return unpack_int8(ctx, matrix, w, first_row);
  const bool pairs = matrix.dtype() == DType::bf16;
  const int64_t steps = matrix.steps();
  const auto* words = static_cast<const uint32_t*>(matrix.data());

  // Blocks of up to 32 rows of the result, whose first lane lies anywhere in a panel.
  const auto unpack_rows = [&](int64_t begin, int64_t end) {
    uint32_t block[kPanel][kStepsPerBlock];
    for (int64_t row = begin; row < end;) {
      const int64_t output = first_row + row;
      const int64_t lane = output % kPanel;
      const int64_t count = std::min(end - row, kPanel - lane);
      const uint32_t* panel = words + output / kPanel * steps * kPanel + lane;
      for (int64_t step = 0; step < steps; step += kStepsPerBlock) {
        const int64_t num_steps = std::min(kStepsPerBlock, steps - step);
        cpu::transpose_words(panel + step * kPanel, kPanel, num_steps, count, block[0],
                             kStepsPerBlock);
        for (int64_t i = 0; i < count; ++i) {
          if (pairs) {
            const int64_t inputs = std::min(2 * num_steps, I - 2 * step);
            std::memcpy(w.as<uint16_t>() + (row + i) * I + 2 * step, block[i],
                        static_cast<size_t>(inputs) * 2);
          } else {
            std::memcpy(w.as<float>() + (row + i) * I + step, block[i],
                        static_cast<size_t>(num_steps) * 4);
          }
        }
      }
      row += count;
    }
  };
  const int64_t grain = std::max(kPanel, kElementsPerThread / I);
  ctx.impl().team.parallel_for(w.dim(0), grain, unpack_rows);
}

}  // namespace fuseq::inline v0
