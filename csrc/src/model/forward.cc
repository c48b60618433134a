// SPDX-License-Identifier: Apache-2.0
// Embedding, stacks and head.
#include "model/forward.h"

#include <cmath>
#include <cstring>

#include "base/context_impl.h"

namespace fuseq::inline v0 {
namespace {

void embed_rows(Context& ctx, const Model::Impl& model, const StackSpec& spec,
                const StackWeights& stack, std::span<const int32_t> ids,
                std::span<const int32_t> positions, View x) {
  const Arena::Scope scope(ctx.impl().arena);
  std::span<int32_t> position_rows;
  if (spec.positions == Positions::table) {
    position_rows = ctx.impl().arena.take<int32_t>(static_cast<int64_t>(ids.size()));
    for (size_t i = 0; i < ids.size(); ++i) position_rows[i] = positions[i] + spec.position_offset;
  }
  const ModelWeights& w = model.weights;
  embed(ctx, {.ids = ids,
              .position_rows = position_rows,
              .packed_table = optional_view(w.token_table) ? nullptr
                              : w.packed_tokens.empty()    ? &w.head
                                                           : &w.packed_tokens,
              .table = optional_view(w.token_table),
              .scale = model.spec.embed_scale,
              .positions = optional_view(stack.positions),
              .types = optional_view(w.types),
              .x = x});
  if (spec.embed_norm) apply_norm(ctx, spec, stack.embed_norm, x, x);
}

/// The product that gives the logits of hidden rows, but for its y; its x is in scratch memory.
LinearArgs last_product(Context& ctx, const Model::Impl& model, ConstView hidden,
                        std::span<const int32_t> rows) {
  const StackSpec& spec = model.spec.decoder;
  const HeadSpec& head = model.spec.head;
  const ModelWeights& w = model.weights;
  Arena& arena = ctx.impl().arena;
  const auto M = static_cast<int64_t>(rows.size());
  const int64_t D = hidden.dim(1);
  const View x(arena.take<float>(M * D).data(), DType::f32, {M, D});
  for (int64_t m = 0; m < M; ++m) {
    std::memcpy(x.as<float>() + m * D,
                hidden.as<float>() + rows[static_cast<size_t>(m)] * hidden.stride(0),
                static_cast<size_t>(D) * sizeof(float));
  }
  if (spec.final_norm) apply_norm(ctx, spec, w.decoder.final_norm, x, x);
  View last = x;
  if (head.transform) {
    last = View(arena.take<float>(M * D).data(), DType::f32, {M, D});
    linear(ctx, {.x = x,
                 .w = &w.head_dense.matrix,
                 .bias = optional_view(w.head_dense.bias),
                 .act = head.transform_act,
                 .y = last});
    apply_norm(ctx, spec, w.head_norm, last, last);
  }
  if (head.scale != 1) {
    for (int64_t i = 0; i < M * D; ++i) last.as<float>()[i] *= head.scale;
  }
  return {.x = last, .w = &w.head, .bias = optional_view(w.head_bias)};
}

}  // namespace

void encode_rows(Context& ctx, const Model::Impl& model,
                 std::span<const std::span<const int32_t>> sources, View states) {
  const StackSpec& spec = model.spec.encoder;
  Arena& arena = ctx.impl().arena;
  const Arena::Scope scope(arena);
  const int64_t N = states.dim(0);
  if (N == 0) return;

  const std::span<int32_t> ids = arena.take<int32_t>(N);
  const std::span<int32_t> positions = arena.take<int32_t>(N);
  const std::span<int32_t> key_counts = arena.take<int32_t>(N);
  const std::span<PassSequence> sequences =
      arena.take<PassSequence>(static_cast<int64_t>(sources.size()));
  int64_t row = 0;
  for (size_t i = 0; i < sources.size(); ++i) {
    const auto length = static_cast<int64_t>(sources[i].size());
    // Keys and values of one layer at a time, in scratch memory.
    const KvGeometry geometry(spec, 1, length, 0, 1, DType::f32);
    sequences[i] = {.first_row = row,
                    .num_rows = length,
                    .self = {.geometry = geometry,
                             .data = arena.take_bytes(static_cast<size_t>(geometry.num_bytes()))}};
    for (int64_t t = 0; t < length; ++t, ++row) {
      ids[static_cast<size_t>(row)] = sources[i][static_cast<size_t>(t)];
      positions[static_cast<size_t>(row)] = static_cast<int32_t>(t);
      key_counts[static_cast<size_t>(row)] = static_cast<int32_t>(length);
    }
  }

  embed_rows(ctx, model, spec, model.weights.encoder, ids, positions, states);
  run_layers(ctx, spec, model.weights.encoder,
             {.sequences = sequences,
              .positions = positions,
              .key_counts = key_counts,
              .one_layer_regions = true},
             states);
  if (spec.final_norm) apply_norm(ctx, spec, model.weights.encoder.final_norm, states, states);
}

void decode_rows(Context& ctx, const Model::Impl& model, std::span<const int32_t> ids,
                 const StackPass& pass, View hidden) {
  embed_rows(ctx, model, model.spec.decoder, model.weights.decoder, ids, pass.positions, hidden);
  run_layers(ctx, model.spec.decoder, model.weights.decoder, pass, hidden);
}

bool has_plain_head(const Model::Impl& model) {
  return model.spec.head.cap <= 0;
}

void head(Context& ctx, const Model::Impl& model, ConstView hidden, std::span<const int32_t> rows,
          View logits) {
  const Arena::Scope scope(ctx.impl().arena);
  if (rows.empty()) return;
  LinearArgs product = last_product(ctx, model, hidden, rows);
  product.y = logits;
  linear(ctx, product);
  const float cap = model.spec.head.cap;
  if (has_plain_head(model)) return;
  ctx.impl().team.parallel_for(logits.shape.num_elements(), 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float& logit = logits.as<float>()[i];
      logit = cap * std::tanh(logit / cap);
    }
  });
}

void head_top(Context& ctx, const Model::Impl& model, ConstView hidden,
              std::span<const int32_t> rows, const TopOutputs& top) {
  const Arena::Scope scope(ctx.impl().arena);
  if (rows.empty()) return;
  linear_top(ctx, last_product(ctx, model, hidden, rows), top);
}

}  // namespace fuseq::inline v0
