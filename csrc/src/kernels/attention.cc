// SPDX-License-Identifier: Apache-2.0
// The doors of attention and dense_attention: checks, then items split over the team.
#include "kernels/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/context_impl.h"
#include "kernels/cpu/append_kv.h"
#include "kernels/kv_check.h"

namespace fuseq::inline v0 {
namespace {

constexpr std::string_view kOp = "attention";
constexpr std::string_view kDenseOp = "dense_attention";

/// Fewer multiplications than this, and the caller is done before the team has begun.
constexpr int64_t kProductsPerThread = 65536;

/// First position that a row with `count` keys sees.
[[nodiscard]] int64_t first_key(int64_t count, int64_t window) {
  return window > 0 ? std::max<int64_t>(0, count - window) : 0;
}

void check_lanes(const KvGroup& group, int64_t row, int64_t begin, int64_t end) {
  require(group.lane_stride >= end, kOp, ": lane_stride must be at least the keys of row ", row,
          " (", end, "), got ", group.lane_stride);
  const int32_t* const lanes = group.lanes + (row - group.first_row) * group.lane_stride;
  const bool has_tail = group.kv.k_tail != nullptr && group.kv.v_tail != nullptr;
  const int64_t tail = has_tail ? std::clamp(group.kv.tail_begin, begin, end) : end;
  int32_t bad = 0;  // its sign bit
  for (int64_t i = begin; i < tail; ++i) bad |= -static_cast<int32_t>(lanes[i] != 0);
  for (int64_t i = tail; i < end; ++i) bad |= lanes[i];
  if (bad >= 0) return;
  for (int64_t i = begin; i < end; ++i) {
    require(is_lane_at(group.kv, lanes[i], i), kOp, ": lanes of row ", row,
            " must be 0 or a lane that holds position ", i, " (from ", group.kv.tail_begin,
            " on), got ", lanes[i]);
  }
}

void check(const AttentionArgs& args) {
  check_cache_dtype(kOp, args.cache_dtype);
  check_heads(kOp, "q", args.q);
  const Shape shape = args.q.shape;
  const int64_t N = shape.dim(0);
  const int64_t H = shape.dim(1);
  const Like like{"q", shape};
  check_floats(kOp, "out", args.out, shape, like);
  require(args.kv_heads > 0 && H % args.kv_heads == 0, kOp, ": kv_heads must divide ", H,
          " heads, got ", args.kv_heads);
  require(args.window >= 0, kOp, ": window must not be negative, got ", args.window);
  const auto check_size = [&](std::string_view what, size_t size) {
    require(static_cast<int64_t>(size) == N, kOp, ": ", what, " must have ", N, " elements", like,
            ", got ", size);
  };
  check_size("key_counts", args.key_counts.size());
  if (args.bias) {
    require(args.bias_reach >= 0, kOp, ": bias_reach must not be negative, got ", args.bias_reach);
    check_floats(kOp, "bias", args.bias, {H, 2 * args.bias_reach + 1}, like);
    check_size("query_positions", args.query_positions.size());
  }
  check_groups(kOp, args.groups, N);
  for (const KvGroup& group : args.groups) {
    for (int64_t row = group.first_row; row < group.first_row + group.num_rows; ++row) {
      const int64_t count = args.key_counts[static_cast<size_t>(row)];
      require(count >= 1 && count <= group.kv.capacity, kOp, ": key_counts[", row,
              "] must be in 1 ... ", group.kv.capacity, ", got ", count);
      if (group.lanes != nullptr) check_lanes(group, row, first_key(count, args.window), count);
    }
  }
}

/// Trusts its arguments.
void run(Context& ctx, const AttentionArgs& args) {
  const int64_t H = args.q.dim(1);
  const int64_t E = args.q.dim(2);
  const cpu::AttentionRows rows{.q = args.q.as<float>(),
                                .q_row_stride = args.q.stride(0),
                                .q_head_stride = args.q.stride(1),
                                .out = args.out.as<float>(),
                                .out_row_stride = args.out.stride(0),
                                .out_head_stride = args.out.stride(1),
                                .H = H,
                                .G = args.kv_heads,
                                .E = E,
                                .is_bf16 = args.cache_dtype == DType::bf16,
                                .groups = args.groups.data(),
                                .num_groups = static_cast<int64_t>(args.groups.size()),
                                .key_counts = args.key_counts.data(),
                                .window = args.window,
                                .scale = args.scale,
                                .score_cap = args.score_cap,
                                .bias = args.bias.as<float>(),
                                .bias_head_stride = args.bias ? args.bias.stride(0) : 0,
                                .bias_reach = args.bias_reach,
                                .query_positions = args.query_positions.data()};
  int64_t keys = 0;
  for (const KvGroup& group : args.groups) {
    for (int64_t row = group.first_row; row < group.first_row + group.num_rows; ++row) {
      const int64_t count = args.key_counts[static_cast<size_t>(row)];
      keys += count - first_key(count, args.window);
    }
  }
  Context::Impl& impl = ctx.impl();
  const auto kernel = FUSEQ_PICK(impl.isa, attention_items);
  if (2 * keys * H * E < kProductsPerThread) return kernel(rows, 0, 1);
  impl.team.run([&](int thread, int size) { kernel(rows, thread, size); });
}

/// View [A, B, ...] with axes 0 and 1 joined, which the caller knows to be possible.
template <typename V>
[[nodiscard]] V join(const V& view) {
  return V(view.data, view.dtype, {view.dim(0) * view.dim(1), view.dim(2), view.dim(3)},
           {view.stride(1), view.stride(2), view.stride(3)});
}
template <typename V>
[[nodiscard]] bool can_join(const V& view) {
  return view.dim(0) == 1 || view.stride(0) == view.dim(1) * view.stride(1);
}
/// View [A, B, ...] at index `i` of axis 0, the axis staying with one element.
template <typename V>
[[nodiscard]] V slice(const V& view, int64_t i) {
  return V(view.template as<float>() + i * view.stride(0), view.dtype,
           {1, view.dim(1), view.dim(2), view.dim(3)}, view.strides);
}

void check_dense(const DenseAttentionArgs& args) {
  const auto check_rank = [](std::string_view what, ConstView view, std::string_view letters) {
    require(view.rank() == 4 && view.dim(2) > 0 && view.dim(3) > 0, kDenseOp, ": ", what,
            " must have shape ", letters, ", got ", view.shape);
  };
  check_rank("q", args.q, "[batch, queries, heads, width]");
  check_rank("k", args.k, "[batch, keys, heads, width]");
  const int64_t B = args.q.dim(0);
  const int64_t H = args.q.dim(2);
  const int64_t S = args.k.dim(1);
  const int64_t G = args.k.dim(2);
  const Like like_q{"q", args.q.shape};
  require(H % G == 0, kDenseOp, ": the heads of k must divide the ", H, " heads of q, got ", G);
  check_floats(kDenseOp, "q", args.q, args.q.shape);
  check_floats(kDenseOp, "k", args.k, {B, S, G, args.q.dim(3)}, like_q);
  check_floats(kDenseOp, "v", args.v, args.k.shape, {"k", args.k.shape});
  check_floats(kDenseOp, "out", args.out, args.q.shape, like_q);
  require(args.window >= 0, kDenseOp, ": window must not be negative, got ", args.window);
  if (!args.lengths) return;
  check_dtype(kDenseOp, "lengths", args.lengths, DType::i32);
  require(args.lengths.shape == Shape{B}, kDenseOp, ": lengths must have shape ", Shape{B}, like_q,
          ", got ", args.lengths.shape);
  for (int64_t b = 0; b < B; ++b) {
    const int64_t length = args.lengths.as<int32_t>()[b * args.lengths.stride(0)];
    require(length >= 0 && length <= S, kDenseOp, ": lengths[", b, "] must be in 0 ... ", S,
            ", got ", length);
  }
}

/// Packs the keys and values of every batch row, fills groups and counts, and runs attention.
void run_dense(Context& ctx, const DenseAttentionArgs& args) {
  const int64_t B = args.q.dim(0);
  const int64_t T = args.q.dim(1);
  const int64_t H = args.q.dim(2);
  const int64_t E = args.q.dim(3);
  const int64_t S = args.k.dim(1);
  const int64_t G = args.k.dim(2);
  Context::Impl& impl = ctx.impl();
  const Arena::Scope scope(impl.arena);
  const int64_t capacity = std::max(kKeyBlock, (S + kKeyBlock - 1) / kKeyBlock * kKeyBlock);
  const int64_t lane = G * capacity * E;
  float* const packed_k = impl.arena.take<float>(B * lane).data();
  float* const packed_v = impl.arena.take<float>(B * lane).data();
  const std::span<int32_t> key_counts = impl.arena.take<int32_t>(B * T);
  const std::span<KvGroup> groups = impl.arena.take<KvGroup>(B);
  const std::span<int32_t> positions = impl.arena.take<int32_t>(S);
  for (int64_t s = 0; s < S; ++s) positions[static_cast<size_t>(s)] = static_cast<int32_t>(s);

  for (int64_t b = 0; b < B; ++b) {
    const int64_t length =
        args.lengths ? args.lengths.as<int32_t>()[b * args.lengths.stride(0)] : S;
    int64_t blind = 0;  // queries that see no key; they come first
    for (int64_t t = 0; t < T; ++t) {
      const int64_t count = args.causal ? std::clamp<int64_t>(t + S - T + 1, 0, length) : length;
      key_counts[static_cast<size_t>(b * T + t)] = static_cast<int32_t>(count);
      if (count > 0) continue;
      ++blind;
      float* const out = args.out.as<float>() + b * args.out.stride(0) + t * args.out.stride(1);
      for (int64_t h = 0; h < H; ++h) std::fill_n(out + h * args.out.stride(2), E, 0.0f);
    }
    groups[static_cast<size_t>(b)] = {.first_row = b * T + blind,
                                      .num_rows = T - blind,
                                      .kv = {.k = packed_k + b * lane,
                                             .v = packed_v + b * lane,
                                             .capacity = capacity,
                                             .tail_begin = capacity}};
  }

  const auto store = FUSEQ_PICK(impl.isa, store_rows);
  impl.team.parallel_for(B * S, kKeyBlock, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin / S; b * S < end; ++b) {
      const cpu::StoreRows rows{.k = args.k.as<float>() + b * args.k.stride(0),
                                .k_row_stride = args.k.stride(1),
                                .k_head_stride = args.k.stride(2),
                                .v = args.v.as<float>() + b * args.v.stride(0),
                                .v_row_stride = args.v.stride(1),
                                .v_head_stride = args.v.stride(2),
                                .G = G,
                                .E = E,
                                .is_bf16 = false,
                                .kv = groups[static_cast<size_t>(b)].kv,
                                .positions = positions.data(),
                                .lanes = nullptr};
      store(rows, std::max<int64_t>(begin - b * S, 0), std::min(end - b * S, S));
    }
  });

  AttentionArgs rows{
      .kv_heads = G,
      .groups = groups,
      .key_counts = key_counts,
      .window = args.window,
      .scale = args.scale != 0 ? args.scale : 1.0f / std::sqrt(static_cast<float>(E)),
      .score_cap = args.score_cap};
  if (can_join(args.q) && can_join(args.out)) {
    rows.q = join(args.q);
    rows.out = join(args.out);
    return run(ctx, rows);
  }
  for (int64_t b = 0; b < B; ++b) {  // strides that no one row stride describes
    KvGroup group = groups[static_cast<size_t>(b)];
    group.first_row -= b * T;
    rows.q = join(slice(args.q, b));
    rows.out = join(slice(args.out, b));
    rows.groups = std::span(&group, 1);
    rows.key_counts = key_counts.subspan(static_cast<size_t>(b * T), static_cast<size_t>(T));
    run(ctx, rows);
  }
}

}  // namespace

void attention(Context& ctx, const AttentionArgs& args) {
  check_cpu(kOp, ctx.device());
  check(args);
  run(ctx, args);
}

void dense_attention(Context& ctx, const DenseAttentionArgs& args) {
  check_cpu(kDenseOp, ctx.device());
  check_dense(args);
  if (args.q.shape.num_elements() > 0) run_dense(ctx, args);
}

}  // namespace fuseq::inline v0
