// SPDX-License-Identifier: Apache-2.0
// The weight table: every weight a spec calls for, by name, shape and place.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "base/message.h"
#include "model/model_impl.h"

namespace fuseq::inline v0 {
namespace {

class Table {
 public:
  explicit Table(std::vector<WeightSlot>& slots) : slots_(slots) {}

  void tensor(const std::string& name, const Shape& shape, Tensor& tensor) {
    part(name, shape, tensor, 0, shape);
  }

  void norm(const std::string& name, Norm kind, int64_t D, NormWeights& norm) {
    tensor(name + ".weight", {D}, norm.weight);
    if (kind == Norm::layer) tensor(name + ".bias", {D}, norm.bias);
  }

  /// Several linears of one input, packed one below the other: {name, outputs} each.
  void linears(const std::string& prefix, const std::vector<std::pair<const char*, int64_t>>& parts,
               int64_t inputs, bool bias, LinearWeights& linear) {
    int64_t outputs = 0;
    std::string joined = prefix;
    for (const auto& [name, rows] : parts) {
      if (outputs > 0) joined += '+';
      joined += name;
      outputs += rows;
    }
    int64_t first = 0;
    for (const auto& [name, rows] : parts) {
      matrix(concat(prefix, name, ".weight"), rows, inputs, linear.matrix, first, outputs);
      slots_.back().storage_name = joined + ".weight";
      if (bias) part(concat(prefix, name, ".bias"), {rows}, linear.bias, first, {outputs});
      first += rows;
    }
  }

  void matrix(const std::string& name, int64_t rows, int64_t inputs, PackedMatrix& matrix,
              int64_t first, int64_t outputs) {
    WeightSlot slot;
    slot.info = {.name = name, .shape = {rows, inputs}, .is_matrix = true};
    slot.storage_name = name;
    slot.matrix = &matrix;
    slot.first = first;
    slot.storage = {outputs, inputs};
    slots_.push_back(std::move(slot));
  }

  void part(const std::string& name, const Shape& shape, Tensor& tensor, int64_t first,
            const Shape& storage) {
    const auto dims = shape.dims();
    slots_.push_back({.info = {.name = name, .shape = {dims.begin(), dims.end()}},
                      .tensor = &tensor,
                      .first = first,
                      .storage = storage});
  }

 private:
  std::vector<WeightSlot>& slots_;
};

void list_layer(Table& table, const std::string& prefix, const StackSpec& s, int64_t encoder_dim,
                LayerWeights& layer) {
  const int64_t D = s.dim;
  const int64_t q = int64_t{s.heads} * s.head_dim;
  const int64_t kv = int64_t{s.kv_heads} * s.head_dim;
  const auto norms = [&](const char* name, NormWeights& norm, NormWeights& post_norm) {
    table.norm(prefix + name + "_norm", s.norm, D, norm);
    if (s.place == NormPlace::both) table.norm(prefix + name + "_post_norm", s.norm, D, post_norm);
  };

  table.linears(prefix + "attn.", {{"q", q}, {"k", kv}, {"v", kv}}, D, s.qkv_bias, layer.attn.qkv);
  table.linears(prefix + "attn.", {{"o", D}}, q, s.out_bias, layer.attn.out);
  if (s.qk_norm) {
    table.tensor(prefix + "attn.q_norm.weight", {s.head_dim}, layer.attn.q_norm);
    table.tensor(prefix + "attn.k_norm.weight", {s.head_dim}, layer.attn.k_norm);
  }
  norms("attn", layer.attn_norm, layer.attn_post_norm);

  if (encoder_dim > 0) {
    table.linears(prefix + "cross_attn.", {{"q", q}}, D, s.qkv_bias, layer.cross_attn.qkv);
    table.linears(prefix + "cross_attn.", {{"k", kv}, {"v", kv}}, encoder_dim, s.qkv_bias,
                  layer.cross_attn.kv);
    table.linears(prefix + "cross_attn.", {{"o", D}}, q, s.out_bias, layer.cross_attn.out);
    norms("cross_attn", layer.cross_attn_norm, layer.cross_attn_post_norm);
  }

  if (s.gated_ffn) table.linears(prefix + "ffn.", {{"gate", s.ffn_dim}}, D, s.ffn_bias, layer.gate);
  table.linears(prefix + "ffn.", {{"up", s.ffn_dim}}, D, s.ffn_bias, layer.up);
  table.linears(prefix + "ffn.", {{"down", D}}, s.ffn_dim, s.ffn_bias, layer.down);
  norms("ffn", layer.ffn_norm, layer.ffn_post_norm);
}

void list_stack(Table& table, const std::string& stack, const StackSpec& s, int64_t encoder_dim,
                StackWeights& weights) {
  if (s.layers == 0) return;
  weights.layers.resize(static_cast<size_t>(s.layers));
  if (s.positions == Positions::table) {
    table.tensor(stack + ".positions", {int64_t{s.position_offset} + s.max_positions, s.dim},
                 weights.positions);
  }
  if (s.positions == Positions::relative) {
    table.tensor(stack + ".relative_bias", {s.relative.buckets, s.heads}, weights.relative_bias);
  }
  if (s.embed_norm) table.norm(stack + ".embed_norm", s.norm, s.dim, weights.embed_norm);
  for (int i = 0; i < s.layers; ++i) {
    list_layer(table, concat(stack, ".", i, "."), s, encoder_dim,
               weights.layers[static_cast<size_t>(i)]);
  }
  if (s.final_norm) table.norm(stack + ".final_norm", s.norm, s.dim, weights.final_norm);
}

}  // namespace

std::vector<WeightSlot> weight_slots(const TransformerSpec& spec, DType dtype,
                                     ModelWeights& weights) {
  std::vector<WeightSlot> slots;
  Table table(slots);
  const bool has_head = spec.decoder.layers > 0;
  const StackSpec& first = spec.encoder.layers > 0 ? spec.encoder : spec.decoder;
  const int64_t V = spec.vocab;
  const int64_t D = spec.embed_dim > 0 ? spec.embed_dim : first.dim;

  if (has_head && spec.head.tied) {
    table.matrix("embed.tokens", V, D, weights.head, 0, V);
  } else if (dtype == DType::i8) {
    table.matrix("embed.tokens", V, D, weights.packed_tokens, 0, V);
  } else {
    table.tensor("embed.tokens", {V, D}, weights.token_table);
    slots.back().info.is_matrix = true;
  }
  if (spec.token_types > 0) table.tensor("embed.types", {spec.token_types, D}, weights.types);
  list_stack(table, "encoder", spec.encoder, 0, weights.encoder);
  list_stack(table, "decoder", spec.decoder, spec.encoder.layers > 0 ? spec.encoder.dim : 0,
             weights.decoder);
  if (spec.pooler) {
    table.linears("", {{"pooler", spec.encoder.dim}}, spec.encoder.dim, true, weights.pooler);
  }
  if (has_head) {
    if (spec.head.transform) {
      table.linears("head.", {{"dense", spec.decoder.dim}}, spec.decoder.dim, true,
                    weights.head_dense);
      table.norm("head.norm", spec.decoder.norm, spec.decoder.dim, weights.head_norm);
    }
    if (!spec.head.tied) table.matrix("head.weight", V, spec.decoder.dim, weights.head, 0, V);
    if (spec.head.bias) table.tensor("head.bias", {V}, weights.head_bias);
  }
  return slots;
}

std::vector<WeightInfo> weight_table(const TransformerSpec& spec) {
  validate(spec);
  ModelWeights unused;
  std::vector<WeightInfo> table;
  for (WeightSlot& slot : weight_slots(spec, DType::f32, unused))
    table.push_back(std::move(slot.info));
  return table;
}

// Source: Raffel et al. 2020, https://arxiv.org/abs/1910.10683, section 2.1; the buckets are those
// of transformers' T5Attention._relative_position_bucket.
void expand_relative_bias(const StackSpec& spec, StackWeights& weights) {
  const RelativeBias& relative = spec.relative;
  if (relative.buckets == 0) return;
  const int64_t reach = relative.max_distance;
  const int64_t H = spec.heads;
  weights.distance_bias = Tensor(DType::f32, {H, 2 * reach + 1});
  const int buckets = relative.bidirectional ? relative.buckets / 2 : relative.buckets;
  const int exact = buckets / 2;
  for (int64_t distance = -reach; distance <= reach; ++distance) {
    int bucket = relative.bidirectional && distance > 0 ? buckets : 0;
    const int64_t steps =
        relative.bidirectional ? std::abs(distance) : std::max<int64_t>(-distance, 0);
    if (steps < exact) {
      bucket += static_cast<int>(steps);
    } else {
      const float share =
          std::log(static_cast<float>(steps) / static_cast<float>(exact)) /
          static_cast<float>(std::log(static_cast<double>(relative.max_distance) / exact));
      const int far = exact + static_cast<int>(share * static_cast<float>(buckets - exact));
      bucket += std::min(far, buckets - 1);
    }
    for (int64_t h = 0; h < H; ++h) {
      weights.distance_bias.as<float>()[h * (2 * reach + 1) + distance + reach] =
          weights.relative_bias.as<float>()[bucket * H + h];
    }
  }
}

}  // namespace fuseq::inline v0
