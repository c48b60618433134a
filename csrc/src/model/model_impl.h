// SPDX-License-Identifier: Apache-2.0
// What a Model holds: packed weights, one struct per part of a transformer.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "fuseq/model.h"
#include "fuseq/ops.h"
#include "fuseq/spec.h"
#include "fuseq/tensor.h"

namespace fuseq::inline v0 {

/// The tensor, or an empty view where the model has none.
[[nodiscard]] inline ConstView optional_view(const Tensor& tensor) {
  return tensor.view().data != nullptr ? tensor.view() : ConstView();
}

struct NormWeights {
  Tensor weight;  ///< [D] f32
  Tensor bias;    ///< [D] f32; none for the rms kinds
};

struct LinearWeights {
  PackedMatrix matrix;
  Tensor bias;  ///< [O] f32 or none
};

struct AttentionWeights {
  LinearWeights qkv;  ///< rows q, k, v of self-attention; only q of cross-attention
  LinearWeights kv;   ///< cross-attention: rows k, v, applied once to the encoder states
  LinearWeights out;
  Tensor q_norm;  ///< [E] f32 or none
  Tensor k_norm;
};

struct LayerWeights {
  AttentionWeights attn, cross_attn;
  LinearWeights gate, up, down;
  NormWeights attn_norm, cross_attn_norm, ffn_norm;
  NormWeights attn_post_norm, cross_attn_post_norm, ffn_post_norm;  ///< NormPlace::both
};

struct StackWeights {
  Tensor positions;  ///< [offset + P, D] f32 or none
  NormWeights embed_norm, final_norm;
  Tensor relative_bias;  ///< [buckets, H] f32 or none
  Tensor distance_bias;  ///< [H, 2 * max_distance + 1] f32, made from relative_bias
  std::vector<LayerWeights> layers;
};

struct ModelWeights {
  /// [V, D] where no packed head can serve look-ups: a table, or in int8 a packed one.
  Tensor token_table;
  PackedMatrix packed_tokens;
  Tensor types;  ///< [token_types, D] f32 or none
  StackWeights encoder, decoder;
  PackedMatrix head;  ///< [V, D]; the token embedding when tied
  Tensor head_bias;
  LinearWeights pooler;
  LinearWeights head_dense;
  NormWeights head_norm;
};

struct Model::Impl {
  TransformerSpec spec;
  ModelOptions options;
  DType dtype = DType::f32;
  ModelWeights weights;

  /// The session that `generate` keeps with the model; decode/generate.cc knows its type.
  mutable std::timed_mutex session_mutex;
  mutable std::atomic<std::thread::id> session_user;  ///< who holds the mutex
  mutable std::shared_ptr<void> session;
};

/// Where one weight of the table goes.
struct WeightSlot {
  WeightInfo info;
  std::string storage_name;        ///< of the whole matrix, which may hold several weights
  PackedMatrix* matrix = nullptr;  ///< a matrix: rows first_row ... of it
  Tensor* tensor = nullptr;        ///< anything else: elements from `first` on
  int64_t first = 0;               ///< first row of the matrix or first element of the tensor
  Shape storage;                   ///< whole shape of the matrix or tensor this is a part of
};

/// The one list of weights: every name, its shape and its place in `weights` of a model of `dtype`.
[[nodiscard]] std::vector<WeightSlot> weight_slots(const TransformerSpec& spec, DType dtype,
                                                   ModelWeights& weights);

/// In which a weight is given out and stored in its natural layout: matrices of int8 as float32.
[[nodiscard]] inline DType natural_dtype(const WeightSlot& slot, DType model_dtype) {
  return slot.info.is_matrix && model_dtype == DType::bf16 ? DType::bf16 : DType::f32;
}

/// Fills distance_bias of a stack from its relative_bias.
void expand_relative_bias(const StackSpec& spec, StackWeights& weights);

}  // namespace fuseq::inline v0
