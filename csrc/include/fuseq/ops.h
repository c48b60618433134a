// SPDX-License-Identifier: Apache-2.0
// The fused ops as free functions. Every op checks its arguments once, here at the door, then runs
// on ctx.device().
//
// Letters: B batch, T query length, S key length, D model width, H query heads, G key/value heads,
// E width of a head, F feed-forward width, V vocabulary, N rows (packed tokens of all sequences), I
// inputs and O outputs of a linear. Activations are float32. Sums, norms and softmax are kept in
// float32, and each output element is summed in one fixed order: in float32 the result does not
// depend on the threads, on the other rows, or on AVX2 against AVX-512.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "fuseq/context.h"
#include "fuseq/export.h"
#include "fuseq/spec.h"
#include "fuseq/tensor.h"

namespace fuseq::inline v0 {

// ---- norm
// -----------------------------------------------------------------------------------------------------------

/// z = x + residual + bias, absent terms left out; y = norm(z) * gamma + beta.
struct NormArgs {
  Norm kind = Norm::layer;
  ConstView x{};         ///< [N, D] f32; rows may be strided, elements of a row may not
  ConstView residual{};  ///< [N, D] f32 or empty
  ConstView bias{};      ///< [D] f32 or empty
  ConstView gamma{};     ///< [D] f32; rms_plus_one multiplies by 1 + gamma
  ConstView beta{};      ///< [D] f32; empty for the rms kinds
  float eps = 1e-5f;
  View y{};    ///< [N, D] f32; may be x or residual itself
  View sum{};  ///< [N, D] f32 or empty: receives z; may be x or residual itself, not y
};

/// Normalises every row. Throws Error(value) for a wrong shape, Error(type) for a wrong dtype.
/// Sources: Ba et al. 2016, https://arxiv.org/abs/1607.06450; Zhang and Sennrich 2019,
/// https://arxiv.org/abs/1910.07467
FUSEQ_API void norm(Context& ctx, const NormArgs& args);

/// y = (x - mean(x)) / sqrt(var(x) + eps) * gamma + beta for every row of x [..., D]; gamma and
/// beta [D]; all float32. y may be x; rows may be strided, elements of a row may not. Throws
/// Error(value) for a wrong shape, Error(type) for a wrong dtype.
FUSEQ_API void layer_norm(Context& ctx, ConstView x, ConstView gamma, ConstView beta, float eps,
                          View y);

/// y = x / sqrt(mean(x^2) + eps) * gamma for every row of x [..., D]; the rest as in layer_norm.
FUSEQ_API void rms_norm(Context& ctx, ConstView x, ConstView gamma, float eps, View y);

// ---- linear
// ---------------------------------------------------------------------------------------------------------

/// A matrix [O, I] in the engine's one packed layout: panels of 32 outputs, inputs outermost inside
/// a panel, so that a product streams the weights once and needs no horizontal sums. float32 panels
/// are [I][32]; bfloat16 panels are [ceil(I / 2)][32][2]; int8 panels are [ceil(I / 4)][32][4],
/// with a float32 scale for each output: weight = number * scale, numbers in [-127, 127]. Outputs
/// past O and inputs past I are zeros.
class FUSEQ_API PackedMatrix {
 public:
  static constexpr int64_t kPanel = 32;
  /// Inputs of an int8 matrix at most: sums of more products might not fit int32.
  static constexpr int64_t kMaxInt8Inputs = 65536;

  PackedMatrix() = default;
  /// Zeros of shape [outputs, inputs]. dtype is f32, bf16 or i8, else Error(type).
  PackedMatrix(DType dtype, int64_t outputs, int64_t inputs);
  /// An int8 matrix that lies somewhere else, in a mapped file for instance; `owner` keeps it
  /// there. `panels` has num_panels() * panel_size() bytes and is aligned to 4; `scales` and `sums`
  /// have one entry for each of num_panels() * 32 outputs, a sum being 128 times the sum of the
  /// output's numbers. The numbers are not looked at.
  PackedMatrix(std::shared_ptr<const void> owner, const int8_t* panels, const float* scales,
               const int32_t* sums, int64_t outputs, int64_t inputs);

  [[nodiscard]] DType dtype() const noexcept { return dtype_; }
  [[nodiscard]] int64_t outputs() const noexcept { return outputs_; }
  [[nodiscard]] int64_t inputs() const noexcept { return inputs_; }
  [[nodiscard]] int64_t num_panels() const noexcept { return (outputs_ + kPanel - 1) / kPanel; }
  /// Inputs that share a 32-bit word of a panel.
  [[nodiscard]] int64_t word_inputs() const noexcept {
    return dtype_ == DType::i8 ? 4 : dtype_ == DType::bf16 ? 2 : 1;
  }
  /// Words of a panel for each output.
  [[nodiscard]] int64_t steps() const noexcept {
    return (inputs_ + word_inputs() - 1) / word_inputs();
  }
  /// Elements of one panel.
  [[nodiscard]] int64_t panel_size() const noexcept { return kPanel * steps() * word_inputs(); }
  /// Bytes of the panels, and of the scales and sums of int8.
  [[nodiscard]] int64_t num_bytes() const noexcept;
  [[nodiscard]] const void* data() const noexcept { return panels_.get(); }
  /// Null where the matrix lies in memory of someone else.
  [[nodiscard]] void* mutable_data() noexcept {
    return is_own_ ? const_cast<void*>(panels_.get()) : nullptr;
  }
  /// [num_panels() * 32] of int8; null otherwise.
  [[nodiscard]] const float* scales() const noexcept { return scales_; }
  [[nodiscard]] const int32_t* sums() const noexcept { return sums_; }
  [[nodiscard]] bool empty() const noexcept { return panels_ == nullptr; }

 private:
  std::shared_ptr<const void> panels_;  ///< shares what owns them
  const float* scales_ = nullptr;
  const int32_t* sums_ = nullptr;
  bool is_own_ = false;
  DType dtype_ = DType::f32;
  int64_t outputs_ = 0;
  int64_t inputs_ = 0;
};

/// Packs w [rows, I] (f32, f16 or bf16; any strides) into rows first_row ... of `matrix`, rounding
/// to its dtype; in int8 the largest weight of an output becomes 127 or -127, unless it is below
/// 2^-100. Several matrices of one input are packed into one so that one product serves them all (q
/// k v). Throws Error(value) for a matrix in memory of someone else.
FUSEQ_API void pack(Context& ctx, ConstView w, PackedMatrix& matrix, int64_t first_row = 0);

/// The natural layout again: rows first_row ... of `matrix` into w [rows, I], dense, of the
/// matrix's dtype; of int8 the float32 products of numbers and scales. Throws Error(value) for a
/// wrong shape, strides or rows that the matrix does not have, Error(type) for another dtype.
FUSEQ_API void unpack(Context& ctx, const PackedMatrix& matrix, View w, int64_t first_row = 0);

/// y = act(x W^T + bias) * gate + residual, absent terms left out.
struct LinearArgs {
  ConstView x{};  ///< [N, I] f32; rows may be strided
  const PackedMatrix* w = nullptr;
  ConstView bias{};  ///< [O] f32 or empty
  Activation act = Activation::none;
  ConstView gate{};      ///< [N, O] f32 or empty
  ConstView residual{};  ///< [N, O] f32 or empty; may be y itself
  View y{};              ///< [N, O] f32; rows may be strided; must not overlap x
};

/// With a bfloat16 matrix the inputs are rounded to bfloat16; sums stay in float32. With an int8
/// matrix each row of x becomes whole numbers in [-127, 127] and one scale; sums are exact. A row
/// that holds an infinity or NaN then gives NaN, one of nothing from 2^-100 on counts as zeros.
/// Throws Error(value) for a wrong shape, Error(type) for a wrong dtype.
FUSEQ_API void linear(Context& ctx, const LinearArgs& args);

// ---- embed
// ----------------------------------------------------------------------------------------------------------

/// x = table[id] * scale + positions[position] + types[type], absent terms left out.
struct EmbedArgs {
  std::span<const int32_t> ids{};  ///< [N], each in [0, V)
  std::span<const int32_t>
      position_rows{};  ///< [N] rows of `positions`, offset applied; empty without positions
  std::span<const int32_t> type_ids{};         ///< [N] or empty: all 0 if `types` is given
  const PackedMatrix* packed_table = nullptr;  ///< [V, D], or
  ConstView table{};                           ///< [V, D] f32 or bf16, dense
  float scale = 1;
  ConstView positions{};  ///< [P, D] f32 or empty
  ConstView types{};      ///< [K, D] f32 or empty
  View x{};               ///< [N, D] f32, dense
};

/// Throws Error(value) naming the first id, position or type out of range. A norm after it is an op
/// of its own.
FUSEQ_API void embed(Context& ctx, const EmbedArgs& args);

// ---- keys and values
// ------------------------------------------------------------------------------------------------

/// Where one request's keys and values of one layer lie. A lane is a place for one hypothesis: lane
/// 0 holds positions 0 ... capacity - 1 and with them the shared prefix; lanes 1, 2, ... hold
/// tail_begin ... capacity - 1 only. Keys of a lane are [G][blocks of 16 positions][E][16], so that
/// the scores of 16 positions are vertical sums; values are [G][positions][E]. tail_begin and
/// capacity are multiples of 16. float32 or bfloat16.
struct KvView {
  void* k = nullptr;  ///< lane 0
  void* v = nullptr;
  void* k_tail =
      nullptr;  ///< lane 1; the next lanes follow, each G * (capacity - tail_begin) * E elements on
  void* v_tail = nullptr;
  int64_t capacity = 0;  ///< positions of lane 0
  int64_t tail_begin = 0;
};

/// Positions of a block of keys.
inline constexpr int64_t kKeyBlock = 16;

/// Query rows first_row ... first_row + num_rows - 1 belong to one request and read its keys and
/// values.
struct KvGroup {
  int64_t first_row = 0;
  int64_t num_rows = 0;
  KvView kv{};
  /// [num_rows][lane_stride] lane of each position below the row's length; null: lane 0 for all.
  const int32_t* lanes = nullptr;
  int64_t lane_stride = 0;
};

/// Rotates and normalises heads, then stores each row's keys and values at its position.
struct AppendKvArgs {
  View q{};  ///< [N, H, E] f32, rows strided, changed in place; may be empty
  View k{};  ///< [N, G, E] f32, rows strided, changed in place where rope or a norm asks for it
  ConstView v{};  ///< [N, G, E] f32, rows strided
  std::span<const KvGroup> groups{};
  std::span<const int32_t> positions{};     ///< [N] position of each row
  std::span<const int32_t> append_lanes{};  ///< [N] lane each row is stored in; empty: 0
  DType cache_dtype = DType::f32;           ///< f32 or bf16
  ConstView q_norm{};                       ///< [E] f32 or empty
  ConstView k_norm{};                       ///< [E] f32 or empty
  Norm norm = Norm::rms;
  float norm_eps = 1e-6f;
  std::span<const float> inverse_frequencies{};  ///< [E / 2]: rope on rotated halves; empty: none
};

/// Each head of q and k is first normalised, then rotated by position * inverse_frequencies; keys
/// and values are rounded to cache_dtype. No two of q, k and v may share elements. Throws
/// Error(value) for a wrong shape, group, position or lane, Error(type) for a wrong dtype, before
/// anything is changed.
FUSEQ_API void append_kv(Context& ctx, const AppendKvArgs& args);

// ---- attention
// ------------------------------------------------------------------------------------------------------

/// out = softmax(cap(scale * q k^T) + bias) v for every head, over the keys a row may see.
struct AttentionArgs {
  ConstView q{};         ///< [N, H, E] f32, rows strided
  View out{};            ///< [N, H, E] f32, rows strided; must not overlap q
  int64_t kv_heads = 0;  ///< G, divides H; head h reads key head h / (H / G)
  DType cache_dtype = DType::f32;
  std::span<const KvGroup> groups{};
  std::span<const int32_t>
      key_counts{};    ///< [N] row n sees positions below key_counts[n]; at least 1
  int64_t window = 0;  ///< w: only the last w of those; 0: all
  float scale = 1;
  float score_cap = 0;  ///< c: c tanh(score / c); 0: none
  /// [H][2 * bias_reach + 1] f32, added to the score of a key at distance d = key - query position,
  /// at column clamp(d, -reach, reach) + reach. Empty: none.
  ConstView bias{};
  int64_t bias_reach = 0;
  std::span<const int32_t> query_positions{};  ///< [N], needed with a bias only
};

/// Online softmax in chunks at fixed positions; no score matrix is stored. Throws Error(value) for
/// a wrong shape, group, count or lane, Error(type) for a wrong dtype.
FUSEQ_API void attention(Context& ctx, const AttentionArgs& args);

/// The same on plain arrays, for research and tests: q [B, T, H, E], k and v [B, S, G, E], out [B,
/// T, H, E], all float32, the elements of a head side by side. lengths [B] int32 or empty: keys of
/// each batch row. causal: query t sees keys up to t + S - T; one that sees none gives zeros.
struct DenseAttentionArgs {
  ConstView q{};
  ConstView k{};
  ConstView v{};
  ConstView lengths{};
  bool causal = false;
  int64_t window = 0;
  float scale = 0;  ///< 0: 1 / sqrt(E)
  float score_cap = 0;
  View out{};  ///< must not overlap q, k or v
};
/// Throws Error(value) for a wrong shape or length, Error(type) for a wrong dtype.
FUSEQ_API void dense_attention(Context& ctx, const DenseAttentionArgs& args);

// ---- scores
// ---------------------------------------------------------------------------------------------------------

/// y = log(softmax(x)) for every row of x [N, V] f32; y may be x; rows may be strided, elements of
/// a row may not. Throws Error(value) for a wrong shape or strides, Error(type) for a wrong dtype.
FUSEQ_API void log_softmax(Context& ctx, ConstView x, View y);

/// One draw from softmax(logits / temperature) of every row, filtered by top_k, top_p and min_p in
/// this order; the fields mean what they mean in GenerationOptions.
struct SampleArgs {
  ConstView logits{};  ///< [N, V] f32; rows may be strided
  float temperature = 1;
  int32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  bool top_p_of_all = false;
  uint64_t seed = 0;
  int64_t sequence = 0;  ///< of row 0; row n draws with sequence + n
  uint32_t sample = 0;
  uint32_t step = 0;
  std::span<int32_t> ids{};  ///< [N]
};

/// Equal arguments give equal ids, for any number of threads; a row does not depend on the others.
/// Throws Error(value) or Error(type) naming the argument.
FUSEQ_API void sample(Context& ctx, const SampleArgs& args);

}  // namespace fuseq::inline v0
