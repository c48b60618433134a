// SPDX-License-Identifier: Apache-2.0
// Shapes of real models, shared by all benchmarks.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "fuseq/spec.h"

namespace fuseq::bench {

inline StackSpec stack(int layers, int dim, int heads, int ffn_dim, int max_positions) {
  StackSpec s;
  s.layers = layers;
  s.dim = dim;
  s.heads = heads;
  s.kv_heads = heads;
  s.head_dim = dim / heads;
  s.ffn_dim = ffn_dim;
  s.max_positions = max_positions;
  return s;
}

/// BART: post-norm stacks of equal shape, a norm after the embedding, tied head with a bias.
inline TransformerSpec bart(int vocab, int layers, int dim, int heads, int ffn_dim, int positions) {
  TransformerSpec spec;
  spec.family = "bart";
  spec.vocab = vocab;
  spec.encoder = stack(layers, dim, heads, ffn_dim, positions);
  spec.encoder.place = NormPlace::post;
  spec.encoder.embed_norm = true;
  spec.encoder.final_norm = false;
  spec.encoder.position_offset = 2;
  spec.decoder = spec.encoder;
  spec.head.bias = true;
  spec.pad_id = 1;
  spec.bos_id = 0;
  spec.decoder_start_id = 2;
  spec.eos_ids = {2};
  return spec;
}

/// Marian: as BART without the embedding norm, swish, sinusoidal positions (a table like any
/// other).
inline TransformerSpec marian(int vocab, int layers, int dim, int heads, int ffn_dim) {
  TransformerSpec spec = bart(vocab, layers, dim, heads, ffn_dim, 512);
  spec.family = "marian";
  spec.embed_scale = 22.627417f;  // sqrt(512)
  for (StackSpec* s : {&spec.encoder, &spec.decoder}) {
    s->embed_norm = false;
    s->position_offset = 0;
    s->act = Activation::silu;
  }
  spec.decoder_start_id = spec.pad_id = vocab - 1;
  spec.eos_ids = {0};
  return spec;
}

inline TransformerSpec gpt2(int vocab, int layers, int dim, int heads, int positions) {
  TransformerSpec spec;
  spec.family = "gpt2";
  spec.vocab = vocab;
  spec.decoder = stack(layers, dim, heads, 4 * dim, positions);
  spec.decoder.act = Activation::gelu_tanh;
  spec.bos_id = vocab - 1;
  spec.eos_ids = {vocab - 1};
  return spec;
}

struct NamedShape {
  std::string_view name;
  TransformerSpec (*spec)();
};

/// facebook/bart-base, facebook/bart-large, Helsinki-NLP/opus-mt-en-de, gpt2, ... and two for smoke
/// runs.
inline constexpr std::array kShapes = {
    NamedShape{"tiny", [] { return bart(500, 2, 64, 4, 128, 256); }},
    NamedShape{"tiny-causal", [] { return gpt2(500, 2, 64, 4, 256); }},
    NamedShape{"bart-base", [] { return bart(50265, 6, 768, 12, 3072, 1024); }},
    NamedShape{"bart-large", [] { return bart(50265, 12, 1024, 16, 4096, 1024); }},
    NamedShape{"marian-base", [] { return marian(58101, 6, 512, 8, 2048); }},
    NamedShape{"gpt2", [] { return gpt2(50257, 12, 768, 12, 1024); }},
    NamedShape{"gpt2-medium", [] { return gpt2(50257, 24, 1024, 16, 1024); }},
    NamedShape{"gpt2-large", [] { return gpt2(50257, 36, 1280, 20, 1024); }},
};

[[nodiscard]] inline std::optional<TransformerSpec> find_shape(std::string_view name) {
  for (const NamedShape& shape : kShapes) {
    if (shape.name == name) return shape.spec();
  }
  return std::nullopt;
}

/// A matrix that a decode step of some model reads.
struct LinearShape {
  std::string_view what;
  int64_t outputs;
  int64_t inputs;
};

/// The products of bart-base and gpt2 (both 768 wide), then those of bart-large and gpt2-medium.
inline constexpr std::array kLinearShapes = {
    LinearShape{"base_qkv", 2304, 768},   LinearShape{"base_out", 768, 768},
    LinearShape{"base_up", 3072, 768},    LinearShape{"base_down", 768, 3072},
    LinearShape{"base_head", 50265, 768}, LinearShape{"large_qkv", 3072, 1024},
    LinearShape{"large_up", 4096, 1024},  LinearShape{"large_down", 1024, 4096},
};

/// The products of one layer: q, k and v of self-attention are one. Cross-attention multiplies its
/// k and v once for each source, not in a step.
[[nodiscard]] inline std::vector<LinearShape> layer_products(const StackSpec& stack,
                                                             bool has_cross_attention) {
  const int64_t dim = stack.dim;
  const int64_t width = int64_t{stack.heads} * stack.head_dim;
  const int64_t kv_width = int64_t{stack.kv_heads} * stack.head_dim;
  std::vector<LinearShape> products = {{"qkv", width + 2 * kv_width, dim}, {"out", dim, width}};
  if (has_cross_attention) {
    products.push_back({"cross_q", width, dim});
    products.push_back({"cross_out", dim, width});
  }
  if (stack.gated_ffn) products.push_back({"gate", stack.ffn_dim, dim});
  products.push_back({"up", stack.ffn_dim, dim});
  products.push_back({"down", dim, stack.ffn_dim});
  return products;
}

/// The products of a decode step in their order: the decoder's layers, then the head.
[[nodiscard]] inline std::vector<LinearShape> step_products(const TransformerSpec& spec) {
  std::vector<LinearShape> products;
  for (int layer = 0; layer < spec.decoder.layers; ++layer) {
    const auto more = layer_products(spec.decoder, spec.is_seq2seq());
    products.insert(products.end(), more.begin(), more.end());
  }
  products.push_back({"head", spec.vocab, spec.decoder.dim});
  return products;
}

/// The products of a layer that many rows pass at once: of the encoder, or of a prompt.
[[nodiscard]] inline std::vector<LinearShape> prompt_products(const TransformerSpec& spec) {
  return layer_products(spec.is_seq2seq() ? spec.encoder : spec.decoder, false);
}

}  // namespace fuseq::bench
