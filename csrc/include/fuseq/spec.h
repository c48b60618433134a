// SPDX-License-Identifier: Apache-2.0
// TransformerSpec: a model as data. No family name steers anything in the engine.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fuseq/export.h"

namespace fuseq::inline v0 {

enum class Norm : uint8_t {
  layer,         ///< (x - mean) / sqrt(var + eps) * weight + bias
  rms,           ///< x / sqrt(mean(x^2) + eps) * weight
  rms_plus_one,  ///< as rms, with 1 + weight (Gemma)
};
enum class NormPlace : uint8_t {
  pre,   ///< x + f(norm(x))
  post,  ///< norm(x + f(x)) (BART, Marian, BERT)
  both,  ///< x + norm(f(norm(x))) (Gemma 2)
};
enum class Activation : uint8_t { none, relu, gelu, gelu_tanh, silu, tanh };
enum class Positions : uint8_t {
  none,
  table,     ///< learned or sinusoidal rows added to the embedding
  rope,      ///< rotary, rotated halves
  relative,  ///< T5 buckets added to the attention scores
};

/// T5's relative position buckets; one table for all layers of a stack.
struct RelativeBias {
  int buckets = 0;       ///< 0: the stack has none
  int max_distance = 0;  ///< distances from here on share the last bucket
  bool bidirectional = false;
};

/// Encoder or decoder; layers == 0: the model has none.
struct StackSpec {
  int layers = 0;
  int dim = 0;       ///< D, model width
  int heads = 0;     ///< H, query heads
  int kv_heads = 0;  ///< G, key and value heads; divides heads
  int head_dim = 0;  ///< E, width of a head
  int ffn_dim = 0;   ///< F, feed-forward width
  Norm norm = Norm::layer;
  float norm_eps = 1e-5f;
  NormPlace place = NormPlace::pre;
  bool embed_norm = false;  ///< norm after the embedding sum
  bool final_norm = true;   ///< norm after the last layer
  bool qk_norm = false;     ///< norm of each query and key head before rope (Gemma 3)
  bool qkv_bias = true;
  bool out_bias = true;
  bool ffn_bias = true;
  bool gated_ffn = false;  ///< down(act(gate(x)) * up(x))
  Activation act = Activation::gelu;
  float score_scale = 0;  ///< factor of q k; 0: 1/sqrt(head_dim)
  float score_cap = 0;    ///< c: scores become c tanh(score / c); 0: no cap
  Positions positions = Positions::table;
  int max_positions =
      0;  ///< rows of the position table that tokens may use; 0 with other kinds: no bound
  int position_offset = 0;         ///< rows skipped in the table: BART, OPT 2; RoBERTa pad + 1
  std::vector<int> windows = {0};  ///< keys a layer may see, repeated over layers; 0: all
  std::vector<std::vector<float>>
      rope;  ///< head_dim / 2 inverse frequencies, scaling applied; repeated over layers
  RelativeBias relative;
};

/// From the last hidden rows to logits.
struct HeadSpec {
  bool tied = true;        ///< the token embedding is the output matrix
  bool bias = false;       ///< "head.bias" is added to the logits
  float scale = 1;         ///< factor of the hidden rows (T5 v1.0: dim ** -0.5)
  float cap = 0;           ///< c: logits become c tanh(logit / c); 0: no cap
  bool transform = false;  ///< dense + act + layer norm before the output matrix (BERT)
  Activation transform_act = Activation::gelu;
};

struct TransformerSpec {
  std::string family;  ///< carried for Python; C++ never reads it
  int vocab = 0;       ///< V
  int embed_dim = 0;   ///< width of a token row; 0: dim of the stack
  float embed_scale = 1;
  int token_types = 0;
  bool pooler = false;  ///< a dense layer and tanh on the encoder's first row (BERT)
  StackSpec encoder;
  StackSpec decoder;
  HeadSpec head;
  int pad_id = -1;  ///< -1 for each id: the model has none
  int bos_id = -1;
  int decoder_start_id = -1;
  std::vector<int> eos_ids;            ///< any of them ends a row
  std::vector<int> never_emitted_ids;  ///< suppressed in every generation (Marian: the pad)
  float dropout = 0;                   ///< training only, as the two below
  float attention_dropout = 0;
  float activation_dropout = 0;

  [[nodiscard]] bool is_seq2seq() const noexcept {
    return encoder.layers > 0 && decoder.layers > 0;
  }
};

/// Calls `v(name, field)` for every field, in the order of declaration. JSON, the Python binding,
/// error messages and the documentation are all made from these lists.
template <typename S, typename V>
void visit_relative_fields(S& s, V&& v) {
  v("buckets", s.buckets);
  v("max_distance", s.max_distance);
  v("bidirectional", s.bidirectional);
}

template <typename S, typename V>
void visit_stack_fields(S& s, V&& v) {
  v("layers", s.layers);
  v("dim", s.dim);
  v("heads", s.heads);
  v("kv_heads", s.kv_heads);
  v("head_dim", s.head_dim);
  v("ffn_dim", s.ffn_dim);
  v("norm", s.norm);
  v("norm_eps", s.norm_eps);
  v("place", s.place);
  v("embed_norm", s.embed_norm);
  v("final_norm", s.final_norm);
  v("qk_norm", s.qk_norm);
  v("qkv_bias", s.qkv_bias);
  v("out_bias", s.out_bias);
  v("ffn_bias", s.ffn_bias);
  v("gated_ffn", s.gated_ffn);
  v("act", s.act);
  v("score_scale", s.score_scale);
  v("score_cap", s.score_cap);
  v("positions", s.positions);
  v("max_positions", s.max_positions);
  v("position_offset", s.position_offset);
  v("windows", s.windows);
  v("rope", s.rope);
  v("relative", s.relative);
}

template <typename S, typename V>
void visit_head_fields(S& s, V&& v) {
  v("tied", s.tied);
  v("bias", s.bias);
  v("scale", s.scale);
  v("cap", s.cap);
  v("transform", s.transform);
  v("transform_act", s.transform_act);
}

template <typename S, typename V>
void visit_fields(S& s, V&& v) {
  v("family", s.family);
  v("vocab", s.vocab);
  v("embed_dim", s.embed_dim);
  v("embed_scale", s.embed_scale);
  v("token_types", s.token_types);
  v("pooler", s.pooler);
  v("encoder", s.encoder);
  v("decoder", s.decoder);
  v("head", s.head);
  v("pad_id", s.pad_id);
  v("bos_id", s.bos_id);
  v("decoder_start_id", s.decoder_start_id);
  v("eos_ids", s.eos_ids);
  v("never_emitted_ids", s.never_emitted_ids);
  v("dropout", s.dropout);
  v("attention_dropout", s.attention_dropout);
  v("activation_dropout", s.activation_dropout);
}

/// Throws Error(value) that lists every field that is out of range or contradicts another.
FUSEQ_API void validate(const TransformerSpec& spec);

/// Reads a spec from JSON text. Throws Error(format) for bad JSON, an unknown or misspelt field or
/// a wrong type, and what `validate` throws.
FUSEQ_API TransformerSpec spec_from_json(std::string_view json);

/// The spec as JSON that `spec_from_json` reads back to an equal spec.
FUSEQ_API std::string spec_to_json(const TransformerSpec& spec);

/// A weight that a spec calls for.
struct WeightInfo {
  std::string name;            ///< "decoder.3.cross_attn.k.weight"
  std::vector<int64_t> shape;  ///< matrices are [outputs, inputs]
  bool is_matrix = false;      ///< stored in the model's dtype; all others stay float32
};

/// Every weight of a model, in the order in which a folder of our own stores them.
FUSEQ_API std::vector<WeightInfo> weight_table(const TransformerSpec& spec);

}  // namespace fuseq::inline v0
