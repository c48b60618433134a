// SPDX-License-Identifier: Apache-2.0
// The one transformer layer. Every difference between families is a field of StackSpec.
#include "model/layer.h"

#include <cmath>

#include "base/context_impl.h"
#include "kernels/quantized_rows.h"

namespace fuseq::inline v0 {
namespace {

/// Columns first ... first + heads * width - 1 of packed rows [N, *], seen as [N, heads, width].
[[nodiscard]] View heads_view(const View& rows, int64_t first, int64_t heads, int64_t width) {
  return {rows.as<float>() + first,
          DType::f32,
          {rows.dim(0), heads, width},
          {rows.stride(0), width, 1}};
}

[[nodiscard]] View take_rows(Context& ctx, int64_t rows, int64_t columns) {
  return {ctx.impl().arena.take<float>(rows * columns).data(), DType::f32, {rows, columns}};
}

void add_rows(Context& ctx, View x, ConstView y) {
  const int64_t columns = x.dim(1);
  ctx.impl().team.parallel_for(x.dim(0), 32, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * columns; i < end * columns; ++i) x.as<float>()[i] += y.as<float>()[i];
  });
}

[[nodiscard]] NormArgs norm_args(const StackSpec& spec, const NormWeights& weights, ConstView x,
                                 View y) {
  return {.kind = spec.norm,
          .x = x,
          .gamma = weights.weight.view(),
          .beta = optional_view(weights.bias),
          .eps = spec.norm_eps,
          .y = y};
}

/// The product's arguments but for what is fused with it.
[[nodiscard]] LinearArgs product(const LinearWeights& weights, ConstView x, View y) {
  return {.x = x, .w = &weights.matrix, .bias = optional_view(weights.bias), .y = y};
}

/// A stack with what stays the same over its layers.
class LayerRunner {
 public:
  LayerRunner(Context& ctx, const StackSpec& spec, const StackWeights& weights,
              const StackPass& pass)
      : ctx_(ctx),
        spec_(spec),
        weights_(weights),
        pass_(pass),
        groups_(ctx.impl().arena.take<KvGroup>(static_cast<int64_t>(pass.sequences.size()))) {
    if (spec.layers > 0 && weights.layers[0].up.matrix.dtype() == DType::i8) {
      room_ = take_quantized_rows(ctx.impl().arena, static_cast<int64_t>(pass.positions.size()),
                                  spec.dim);
    }
  }

  void run(int layer_index, View x) {
    const LayerWeights& layer = weights_.layers[static_cast<size_t>(layer_index)];
    sublayer(layer.attn_norm, layer.attn_post_norm, x,
             [&](ConstView in, ConstView residual, View out) {
               self_attention(layer_index, layer.attn, in, residual, out);
             });
    if (!layer.cross_attn.out.matrix.empty()) {
      sublayer(layer.cross_attn_norm, layer.cross_attn_post_norm, x,
               [&](ConstView in, ConstView residual, View out) {
                 cross_attention(layer_index, layer.cross_attn, in, residual, out);
               });
    }
    sublayer(layer.ffn_norm, layer.ffn_post_norm, x,
             [&](ConstView in, ConstView residual, View out) {
               feed_forward(layer, in, residual, out);
             });
  }

 private:
  /// One sub-layer around `function(input, residual, output)`, which adds the residual where it
  /// gets one. Its input is what multiply_normed takes.
  template <typename Function>
  void sublayer(const NormWeights& norm, const NormWeights& post_norm, View x, Function function) {
    const Arena::Scope scope(ctx_.impl().arena);
    switch (spec_.place) {
      case NormPlace::pre: {
        const View normed = take_rows(ctx_, x.dim(0), x.dim(1));
        norm_for_product(norm, x, normed);
        function(normed, x, x);
        break;
      }
      case NormPlace::post:
        function(x, x, x);
        norm_for_product(norm, x, x);
        break;
      case NormPlace::both: {
        const View normed = take_rows(ctx_, x.dim(0), x.dim(1));
        const View result = take_rows(ctx_, x.dim(0), x.dim(1));
        norm_for_product(norm, x, normed);
        function(normed, ConstView(), result);
        apply_norm(ctx_, spec_, post_norm, result, result);
        add_rows(ctx_, x, result);
        break;
      }
    }
  }

  /// The norm of rows that products take next; for int8 products they are quantised with it.
  void norm_for_product(const NormWeights& weights, ConstView x, View y) {
    if (room_.q == nullptr) return apply_norm(ctx_, spec_, weights, x, y);
    norm_quantized(ctx_, norm_args(spec_, weights, x, y), room_);
    normed_ = room_;
  }

  /// A product of the sub-layer's input.
  void multiply_normed(const LinearArgs& args) {
    if (normed_.q == nullptr) return linear(ctx_, args);
    linear_quantized(ctx_, args, normed_);
  }

  void self_attention(int layer_index, const AttentionWeights& w, ConstView in, ConstView residual,
                      View out) {
    const int64_t N = in.dim(0);
    const int64_t H = spec_.heads;
    const int64_t G = spec_.kv_heads;
    const int64_t E = spec_.head_dim;
    const View qkv = take_rows(ctx_, N, (H + 2 * G) * E);
    multiply_normed(product(w.qkv, in, qkv));

    const View q = heads_view(qkv, 0, H, E);
    const DType cache_dtype = point_groups(layer_index, &PassSequence::self);
    append_kv(ctx_, {.q = q,
                     .k = heads_view(qkv, H * E, G, E),
                     .v = heads_view(qkv, (H + G) * E, G, E),
                     .groups = groups_,
                     .positions = pass_.positions,
                     .append_lanes = pass_.append_lanes,
                     .cache_dtype = cache_dtype,
                     .q_norm = optional_view(w.q_norm),
                     .k_norm = optional_view(w.k_norm),
                     .norm = spec_.norm,
                     .norm_eps = spec_.norm_eps,
                     .inverse_frequencies = inverse_frequencies(layer_index)});

    const int window = spec_.windows[static_cast<size_t>(layer_index) % spec_.windows.size()];
    const View mixed = take_rows(ctx_, N, H * E);
    attention(ctx_, {.q = q,
                     .out = heads_view(mixed, 0, H, E),
                     .kv_heads = G,
                     .cache_dtype = cache_dtype,
                     .groups = groups_,
                     .key_counts = pass_.key_counts,
                     .window = window,
                     .scale = scale(),
                     .score_cap = spec_.score_cap,
                     .bias = optional_view(weights_.distance_bias),
                     .bias_reach = spec_.relative.max_distance,
                     .query_positions = pass_.positions});
    add_product(w.out, mixed, residual, out);
  }

  void cross_attention(int layer_index, const AttentionWeights& w, ConstView in, ConstView residual,
                       View out) {
    const int64_t N = in.dim(0);
    const int64_t H = spec_.heads;
    const int64_t E = spec_.head_dim;
    const View q = take_rows(ctx_, N, H * E);
    multiply_normed(product(w.qkv, in, q));
    const View mixed = take_rows(ctx_, N, H * E);
    const DType cache_dtype = point_groups(layer_index, &PassSequence::cross);
    attention(ctx_, {.q = heads_view(q, 0, H, E),
                     .out = heads_view(mixed, 0, H, E),
                     .kv_heads = spec_.kv_heads,
                     .cache_dtype = cache_dtype,
                     .groups = groups_,
                     .key_counts = pass_.cross_key_counts,
                     .scale = scale(),
                     .score_cap = spec_.score_cap});
    add_product(w.out, mixed, residual, out);
  }

  void feed_forward(const LayerWeights& layer, ConstView in, ConstView residual, View out) {
    const View hidden = take_rows(ctx_, in.dim(0), spec_.ffn_dim);
    LinearArgs up = product(layer.up, in, hidden);
    if (spec_.gated_ffn) {
      LinearArgs gate = product(layer.gate, in, take_rows(ctx_, in.dim(0), spec_.ffn_dim));
      gate.act = spec_.act;
      multiply_normed(gate);
      up.gate = gate.y;
    } else {
      up.act = spec_.act;
    }
    multiply_normed(up);
    add_product(layer.down, hidden, residual, out);
  }

  /// out = product + residual
  void add_product(const LinearWeights& weights, ConstView x, ConstView residual, View out) {
    LinearArgs args = product(weights, x, out);
    args.residual = residual;
    linear(ctx_, args);
  }

  /// Points groups_ at one layer of each sequence's region; returns the regions' dtype.
  DType point_groups(int layer_index, KvRegion PassSequence::* region) {
    const bool is_self = region == &PassSequence::self;
    const int64_t layer = is_self && pass_.one_layer_regions ? 0 : layer_index;
    for (size_t i = 0; i < groups_.size(); ++i) {
      const PassSequence& sequence = pass_.sequences[i];
      groups_[i] = {.first_row = sequence.first_row,
                    .num_rows = sequence.num_rows,
                    .kv = (sequence.*region).view(layer),
                    .lanes = is_self ? sequence.lanes : nullptr,
                    .lane_stride = is_self ? sequence.lane_stride : 0};
    }
    return groups_.empty() ? DType::f32 : (pass_.sequences[0].*region).geometry.dtype;
  }

  [[nodiscard]] float scale() const {
    return spec_.score_scale > 0 ? spec_.score_scale
                                 : 1.0f / std::sqrt(static_cast<float>(spec_.head_dim));
  }

  [[nodiscard]] std::span<const float> inverse_frequencies(int layer_index) const {
    if (spec_.rope.empty()) return {};
    return spec_.rope[static_cast<size_t>(layer_index) % spec_.rope.size()];
  }

  Context& ctx_;
  const StackSpec& spec_;
  const StackWeights& weights_;
  const StackPass& pass_;
  std::span<KvGroup> groups_;
  QuantizedRows room_;    ///< for the input of a sub-layer as int8, if products are int8
  QuantizedRows normed_;  ///< it, once a norm has made it
};

}  // namespace

void apply_norm(Context& ctx, const StackSpec& spec, const NormWeights& weights, ConstView x,
                View y) {
  norm(ctx, norm_args(spec, weights, x, y));
}

void run_layers(Context& ctx, const StackSpec& spec, const StackWeights& weights,
                const StackPass& pass, View x) {
  if (x.dim(0) == 0) return;
  const Arena::Scope scope(ctx.impl().arena);
  LayerRunner runner(ctx, spec, weights, pass);
  for (int i = 0; i < spec.layers; ++i) runner.run(i, x);
}

void fill_cross_caches(Context& ctx, const StackSpec& decoder, const StackWeights& weights,
                       ConstView states, std::span<const PassSequence> sources) {
  const int64_t N = states.dim(0);
  if (N == 0) return;
  const Arena::Scope scope(ctx.impl().arena);
  const int64_t G = decoder.kv_heads;
  const int64_t E = decoder.head_dim;
  const View kv = take_rows(ctx, N, 2 * G * E);
  const std::span<int32_t> positions = ctx.impl().arena.take<int32_t>(N);
  const std::span<KvGroup> groups =
      ctx.impl().arena.take<KvGroup>(static_cast<int64_t>(sources.size()));
  for (const PassSequence& source : sources) {
    for (int64_t i = 0; i < source.num_rows; ++i) {
      positions[static_cast<size_t>(source.first_row + i)] = static_cast<int32_t>(i);
    }
  }
  QuantizedRows quantized;  // once for the products of all layers
  for (int layer = 0; layer < decoder.layers; ++layer) {
    const LinearArgs args =
        product(weights.layers[static_cast<size_t>(layer)].cross_attn.kv, states, kv);
    if (args.w->dtype() != DType::i8) {
      linear(ctx, args);
    } else {
      if (layer == 0) {
        quantized = take_quantized_rows(ctx.impl().arena, N, states.dim(1));
        quantize(ctx, states, quantized);
      }
      linear_quantized(ctx, args, quantized);
    }
    for (size_t i = 0; i < sources.size(); ++i) {
      groups[i] = {.first_row = sources[i].first_row,
                   .num_rows = sources[i].num_rows,
                   .kv = sources[i].cross.view(layer)};
    }
    append_kv(ctx, {.k = heads_view(kv, 0, G, E),
                    .v = heads_view(kv, G * E, G, E),
                    .groups = groups,
                    .positions = positions,
                    .cache_dtype = sources[0].cross.geometry.dtype});
  }
}

}  // namespace fuseq::inline v0
