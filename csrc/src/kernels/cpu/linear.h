// SPDX-License-Identifier: Apache-2.0
// The product of rows and a packed matrix, in two phases: the rows are packed into tiles, then each
// thread multiplies all tiles with a range of panels. See fuseq/ops.h for what is computed.
#pragma once

#include <cstdint>

#include "fuseq/spec.h"
#include "kernels/cpu/per_isa.h"
#include "kernels/cpu/rows.h"

namespace fuseq::inline v0::cpu {

/// How the words of a panel are multiplied.
enum class LinearFormat : uint8_t {
  f32,       ///< a word is one float32 input
  bf16,      ///< two bfloat16 inputs, widened to float32
  bf16_dot,  ///< two bfloat16 inputs, by the dot product of AVX512_BF16
  int8,      ///< four int8 inputs, widened to int16; sums are int32, as below
  bytes2,    ///< four int8 inputs, by AVX2's products of bytes, two summed in int16
  bytes4,    ///< the same, four summed in int16: faster, but leaves out more
  vnni,      ///< four int8 inputs, by the dot product of AVX512_VNNI or AVX_VNNI
};

/// 32-bit elements of packed x for a word of a panel.
[[nodiscard]] constexpr int64_t linear_values(LinearFormat format) {
  return format == LinearFormat::bf16 || format == LinearFormat::int8 ? 2 : 1;
}

/// Whether packed x may lack a part of x, which `left_out` has.
[[nodiscard]] constexpr bool linear_leaves_out(LinearFormat format) {
  return format == LinearFormat::bytes2 || format == LinearFormat::bytes4;
}

/// Steps that packed x has room for: bytes4 multiplies two at once.
[[nodiscard]] constexpr int64_t linear_packed_steps(LinearFormat format, int64_t steps) {
  return format == LinearFormat::bytes4 ? steps + steps % 2 : steps;
}

/// Rows from which on the products of bytes pay: before, the stream of weights is the limit, which
/// stops while what was left out is multiplied.
inline constexpr int64_t kLinearBytes2Rows = 4;
inline constexpr int64_t kLinearBytes4Rows = 5;

/// Outputs of a panel.
inline constexpr int64_t kLinearPanel = 32;
/// Rows of the highest tile of any instruction set.
inline constexpr int64_t kLinearMaxTileRows = 12;
/// Tiles that `few` multiplies.
inline constexpr int64_t kLinearFewTiles = 4;
/// Steps of a row that one thread packs at a time.
inline constexpr int64_t kLinearPackSteps = 256;
/// Tiles and panels of a block of the many-row product, the floats of sums that it keeps, the words
/// of weights that it reads again and again, and all that it has memory for.
inline constexpr int64_t kLinearBlockTiles = 20;
inline constexpr int64_t kLinearBlockPanels = 4;
inline constexpr int64_t kLinearBlockSums =
    kLinearBlockTiles * kLinearBlockPanels * kLinearMaxTileRows * kLinearPanel;
inline constexpr int64_t kLinearBlockWords = 384 * kLinearPanel;
inline constexpr int64_t kLinearBlockFloats = kLinearBlockSums + kLinearBlockWords;

/// What is kept of the outputs of each row where the outputs themselves are not wanted.
struct LinearBest {
  int64_t count;  ///< entries of a list, at least 1
  float* values;  ///< [N][count] the largest outputs of one thread, largest first; -inf: no entry
  int32_t* ids;   ///< [N][count] which they are; of equal outputs the lower is the better
  float* maxima;  ///< [N][panels] the largest output of each panel; null: not wanted
  float* sums;    ///< [N][panels] the sum of exp(output - largest)

  /// Puts an output in its place in the list of a row, if it belongs there. Always inlined, so that
  /// no copy that was compiled for a newer CPU can be linked into other code.
  [[gnu::always_inline]] void rank(int64_t row, float value, int32_t id) const {
    float* const best = values + row * count;
    int32_t* const best_ids = ids + row * count;
    const auto beats = [=](int64_t place) {
      return value > best[place] || (value == best[place] && id < best_ids[place]);
    };
    int64_t place = count - 1;
    if (!beats(place)) return;
    for (; place > 0 && beats(place - 1); --place) {
      best[place] = best[place - 1];
      best_ids[place] = best_ids[place - 1];
    }
    best[place] = value;
    best_ids[place] = id;
  }
};

/// What packed x lacks of a row, of kLinearPackSteps of its steps.
struct LinearLeftOut {
  /// Four magnitudes of a step each, and of which step.
  struct List {
    int32_t count;
    uint8_t steps[kLinearPackSteps];
    uint32_t magnitudes[kLinearPackSteps];
  };

  int32_t excess;  ///< is to be taken off all sums
  List positive;   ///< is to be added to packed x
  List negative;   ///< is to be taken off
};

struct LinearJob {
  LinearFormat format = LinearFormat::f32;
  int64_t N = 0;
  int64_t I = 0;
  int64_t O = 0;
  int64_t steps = 0;      ///< words of a panel per output: I, or a half or a quarter of it
  int64_t num_tiles = 1;  ///< rows are cut into tiles of nearly equal height
  ConstRows x{};
  const uint32_t* panels = nullptr;
  /// [tile][step][values][rows of the tile], values of 32 bits: one float in f32, two in bf16, a
  /// pair of bfloat16 in bf16_dot, two pairs of int16 in int8 (inputs 0 2 and 1 3), four int8 in
  /// bytes2 and bytes4, four uint8 in vnni.
  void* packed_x = nullptr;
  /// In bytes2 and bytes4: [N][pack_units_per_tile()] what packed x lacks, and the number of
  /// entries of all lists, to which each thread adds.
  LinearLeftOut* left_out = nullptr;
  int64_t* num_left_out = nullptr;
  /// In int8, bytes2, bytes4 and vnni: rows as quantize_rows made them, and the scales and sums of
  /// the outputs.
  const int8_t* quantized_x = nullptr;
  const float* x_scales = nullptr;
  const float* w_scales = nullptr;
  const int32_t* w_sums = nullptr;
  const float* bias = nullptr;
  Activation act = Activation::none;
  ConstRows gate{};
  ConstRows residual{};
  Rows y{};                          ///< unless there is
  const LinearBest* best = nullptr;  ///< what is kept instead of y, or null

  [[nodiscard]] int64_t first_row(int64_t tile) const { return N * tile / num_tiles; }
  [[nodiscard]] int64_t num_panels() const { return (O + kLinearPanel - 1) / kLinearPanel; }
  /// The last panel may have fewer outputs than the others.
  [[nodiscard]] int64_t outputs_of(int64_t panel) const {
    const int64_t rest = O - panel * kLinearPanel;
    return rest < kLinearPanel ? rest : kLinearPanel;
  }
  [[nodiscard]] int64_t pack_units_per_tile() const {
    return (steps + kLinearPackSteps - 1) / kLinearPackSteps;
  }
  /// 32-bit elements of packed_x.
  [[nodiscard]] int64_t packed_size() const {
    return N * linear_packed_steps(format, steps) * linear_values(format);
  }
};

/// Rows of a tile at most.
[[nodiscard]] constexpr int64_t linear_tile_rows(CpuIsa isa) {
  return isa == CpuIsa::avx512 ? 12 : isa == CpuIsa::avx2 ? 6 : 4;
}

/// `pack` fills units [begin, end) of packed_x, num_tiles * pack_units_per_tile() in all. `few`
/// multiplies all tiles of a job, kLinearFewTiles at most, with a range of panels, each read once
/// from memory. `many` multiplies a range of tiles with a range of panels; `block` is
/// kLinearBlockFloats of its own.
FUSEQ_DECLARE_PER_ISA(void linear_pack(const LinearJob& job, int64_t begin, int64_t end);
                      void linear_few(const LinearJob& job, int64_t begin, int64_t end);
                      void linear_many(const LinearJob& job, int64_t first_tile, int64_t end_tile,
                                       int64_t first_panel, int64_t end_panel, float* block);
                      void linear_pack_int8(const LinearJob& job, int64_t begin, int64_t end);
                      void linear_few_int8(const LinearJob& job, int64_t begin, int64_t end);
                      void linear_many_int8(const LinearJob& job, int64_t first_tile,
                                            int64_t end_tile, int64_t first_panel,
                                            int64_t end_panel, float* block))

#if defined(FUSEQ_HAVE_X86)
/// The same for bf16_dot, which not every machine with AVX-512 has.
namespace avx512 {
void linear_pack_bf16_dot(const LinearJob& job, int64_t begin, int64_t end);
void linear_few_bf16_dot(const LinearJob& job, int64_t begin, int64_t end);
void linear_many_bf16_dot(const LinearJob& job, int64_t first_tile, int64_t end_tile,
                          int64_t first_panel, int64_t end_panel, float* block);
}  // namespace avx512

namespace avx2 {
void linear_pack_bytes(const LinearJob& job, int64_t begin, int64_t end);
void linear_few_bytes(const LinearJob& job, int64_t begin, int64_t end);
void linear_many_bytes(const LinearJob& job, int64_t first_tile, int64_t end_tile,
                       int64_t first_panel, int64_t end_panel, float* block);
}  // namespace avx2

/// The same for vnni.
#define FUSEQ_DECLARE_VNNI(isa)                                                     \
  namespace isa {                                                                   \
  void linear_pack_vnni(const LinearJob& job, int64_t begin, int64_t end);          \
  void linear_few_vnni(const LinearJob& job, int64_t begin, int64_t end);           \
  void linear_many_vnni(const LinearJob& job, int64_t first_tile, int64_t end_tile, \
                        int64_t first_panel, int64_t end_panel, float* block);      \
  }
FUSEQ_DECLARE_VNNI(avx2)
FUSEQ_DECLARE_VNNI(avx512)
#undef FUSEQ_DECLARE_VNNI
#endif

}  // namespace fuseq::inline v0::cpu
