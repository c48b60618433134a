// SPDX-License-Identifier: Apache-2.0
// Specs of many kinds, and models of them with random weights, for tests.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "fuseq/model.h"
#include "fuseq/spec.h"
#include "fuseq/tensor.h"

namespace fuseq::test {

/// Weights by name, float32, in their natural layout.
using Weights = std::map<std::string, Tensor>;

/// Random weights with a spread that keeps logits apart: matrices scaled by their inputs, norm
/// weights around one.
inline Weights random_weights(const TransformerSpec& spec, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  Weights weights;
  for (const WeightInfo& info : weight_table(spec)) {
    Tensor tensor(DType::f32, Shape(std::span<const int64_t>(info.shape)));
    const bool is_norm = info.name.ends_with("norm.weight");
    const float scale = info.name == "embed.tokens" ? 1.0f
                        : info.is_matrix ? 1.5f / std::sqrt(static_cast<float>(info.shape.back()))
                                         : 0.3f;
    for (int64_t i = 0; i < tensor.shape().num_elements(); ++i) {
      tensor.as<float>()[i] = (is_norm ? 1.0f : 0.0f) + scale * normal(generator);
    }
    weights.emplace(info.name, std::move(tensor));
  }
  return weights;
}

inline std::vector<NamedView> views(const Weights& weights) {
  std::vector<NamedView> list;
  for (const auto& [name, tensor] : weights) list.push_back({name, tensor.view()});
  return list;
}

inline std::shared_ptr<const Model> build(const TransformerSpec& spec, const Weights& weights,
                                          const ModelOptions& options = {}) {
  return Model::build(spec, views(weights), options);
}

inline std::vector<int32_t> random_ids(std::mt19937& generator, int vocab, int64_t count) {
  std::uniform_int_distribution<int32_t> id(0, vocab - 1);
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& value : ids) value = id(generator);
  return ids;
}

inline StackSpec small_stack(int layers) {
  StackSpec stack;
  stack.layers = layers;
  stack.dim = 48;
  stack.heads = 4;
  stack.kv_heads = 4;
  stack.head_dim = 12;
  stack.ffn_dim = 80;
  stack.max_positions = 70;
  return stack;
}

inline TransformerSpec bart_like() {
  TransformerSpec spec;
  spec.vocab = 101;
  spec.encoder = small_stack(2);
  spec.encoder.place = NormPlace::post;
  spec.encoder.embed_norm = true;
  spec.encoder.final_norm = false;
  spec.encoder.position_offset = 2;
  spec.decoder = spec.encoder;
  spec.decoder.layers = 3;
  spec.head.bias = true;
  spec.decoder_start_id = 2;
  spec.pad_id = 1;
  spec.eos_ids = {2};
  return spec;
}

inline TransformerSpec gpt2_like() {
  TransformerSpec spec;
  spec.vocab = 97;
  spec.decoder = small_stack(3);
  spec.decoder.act = Activation::gelu_tanh;
  spec.bos_id = 0;
  spec.eos_ids = {0};
  return spec;
}

inline TransformerSpec t5_like() {
  TransformerSpec spec = bart_like();
  for (StackSpec* stack : {&spec.encoder, &spec.decoder}) {
    stack->place = NormPlace::pre;
    stack->norm = Norm::rms;
    stack->embed_norm = false;
    stack->final_norm = true;
    stack->position_offset = 0;
    stack->max_positions = 0;
    stack->positions = Positions::relative;
    stack->relative = {.buckets = 8, .max_distance = 20, .bidirectional = stack == &spec.encoder};
    stack->qkv_bias = stack->out_bias = stack->ffn_bias = false;
    stack->gated_ffn = true;
    stack->act = Activation::gelu_tanh;
    stack->score_scale = 1;
  }
  spec.head.bias = false;
  spec.head.scale = 1.0f / std::sqrt(48.0f);
  return spec;
}

inline TransformerSpec llama_like() {
  TransformerSpec spec = gpt2_like();
  StackSpec& stack = spec.decoder;
  stack.kv_heads = 2;
  stack.norm = Norm::rms;
  stack.act = Activation::silu;
  stack.gated_ffn = true;
  stack.qkv_bias = stack.out_bias = stack.ffn_bias = false;
  stack.positions = Positions::rope;
  stack.max_positions = 0;
  stack.windows = {9, 0};
  std::vector<float> frequencies;
  for (int i = 0; i < 6; ++i)
    frequencies.push_back(static_cast<float>(std::pow(10000.0, -i / 6.0)));
  stack.rope = {frequencies};
  spec.head.tied = false;
  return spec;
}

inline TransformerSpec gemma_like() {
  TransformerSpec spec = llama_like();
  StackSpec& stack = spec.decoder;
  stack.norm = Norm::rms_plus_one;
  stack.place = NormPlace::both;
  stack.qk_norm = true;
  stack.kv_heads = 1;
  stack.score_cap = 3;
  stack.act = Activation::gelu_tanh;
  spec.embed_scale = 6.9f;
  spec.head.tied = true;
  spec.head.cap = 5;
  return spec;
}

/// BERT as a decoder with cross-attention and an LM head of its own, token types included.
inline TransformerSpec bert_decoder_like() {
  TransformerSpec spec = bart_like();
  spec.token_types = 2;
  spec.encoder.position_offset = spec.decoder.position_offset = 0;
  spec.head.transform = true;
  return spec;
}

struct NamedSpec {
  const char* name;
  TransformerSpec spec;
};

inline std::vector<NamedSpec> all_specs() {
  return {{"bart", bart_like()},   {"gpt2", gpt2_like()},   {"t5", t5_like()},
          {"llama", llama_like()}, {"gemma", gemma_like()}, {"bert_decoder", bert_decoder_like()}};
}

}  // namespace fuseq::test
