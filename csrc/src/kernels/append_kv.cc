// SPDX-License-Identifier: Apache-2.0
// The door of append_kv: checks, angles of rope, then rows split over the team.
#include <algorithm>
#include <cmath>
#include <string>

#include "base/context_impl.h"
#include "kernels/cpu/append_kv.h"
#include "kernels/kv_check.h"

namespace fuseq::inline v0 {
namespace {

constexpr std::string_view kOp = "append_kv";

/// Fewer elements than this are done sooner by the caller alone than handed to the team.
constexpr int64_t kElementsPerThread = 16384;

void check(const AppendKvArgs& args) {
  check_cache_dtype(kOp, args.cache_dtype);
  check_heads(kOp, "k", args.k);
  const Shape shape = args.k.shape;
  const int64_t N = shape.dim(0);
  const int64_t E = shape.dim(2);
  const Like like{"k", shape};
  check_floats(kOp, "v", args.v, shape, like);
  if (args.q) {
    check_heads(kOp, "q", args.q);
    require(args.q.dim(0) == N && args.q.dim(2) == E, kOp, ": q must have shape [", N, ", heads, ",
            E, "]", like, ", got ", args.q.shape);
  }
  const auto check_size = [&](std::string_view what, size_t size) {
    require(static_cast<int64_t>(size) == N, kOp, ": ", what, " must have ", N, " elements", like,
            ", got ", size);
  };
  check_size("positions", args.positions.size());
  if (!args.append_lanes.empty()) check_size("append_lanes", args.append_lanes.size());
  if (args.q_norm) check_floats(kOp, "q_norm", args.q_norm, {E}, like);
  if (args.k_norm) check_floats(kOp, "k_norm", args.k_norm, {E}, like);
  if (!args.inverse_frequencies.empty()) {
    require(E % 2 == 0 && static_cast<int64_t>(args.inverse_frequencies.size()) == E / 2, kOp,
            ": inverse_frequencies must have ", E / 2, " elements and heads an even width", like,
            ", got ", args.inverse_frequencies.size());
  }
  check_groups(kOp, args.groups, N);
  for (const KvGroup& group : args.groups) {
    for (int64_t row = group.first_row; row < group.first_row + group.num_rows; ++row) {
      const int64_t position = args.positions[static_cast<size_t>(row)];
      require(position >= 0 && position < group.kv.capacity, kOp, ": positions[", row,
              "] must be in 0 ... ", group.kv.capacity - 1, ", got ", position);
      if (args.append_lanes.empty()) continue;
      const int64_t lane = args.append_lanes[static_cast<size_t>(row)];
      require(is_lane_at(group.kv, lane, position), kOp, ": append_lanes[", row,
              "] must be 0 or a lane that holds position ", position, " (from ",
              group.kv.tail_begin, " on), got ", lane);
    }
  }
}

/// Cosines, then sines, of one position. The library's own functions, the same for every
/// instruction set; the angle is a float32 product, as in transformers.
void fill_angles(std::span<const float> inverse_frequencies, int32_t position, float* cos_sin) {
  const size_t half = inverse_frequencies.size();
  for (size_t i = 0; i < half; ++i) {
    const float angle = static_cast<float>(position) * inverse_frequencies[i];
    cos_sin[i] = std::cos(angle);
    cos_sin[half + i] = std::sin(angle);
  }
}

cpu::HeadRows head_rows(const View& heads, const ConstView& gamma, const AppendKvArgs& args,
                        const float* cos_sin) {
  return {.data = heads.as<float>(),
          .row_stride = heads.stride(0),
          .head_stride = heads.stride(1),
          .heads = heads.dim(1),
          .E = heads.dim(2),
          .gamma = gamma.as<float>(),
          .norm = args.norm,
          .eps = args.norm_eps,
          .cos_sin = cos_sin};
}

}  // namespace

void append_kv(Context& ctx, const AppendKvArgs& args) {
  check_cpu(kOp, ctx.device());
  check(args);
  const int64_t N = args.k.dim(0);
  const int64_t G = args.k.dim(1);
  const int64_t E = args.k.dim(2);
  Context::Impl& impl = ctx.impl();
  const Arena::Scope scope(impl.arena);
  float* const cos_sin =
      args.inverse_frequencies.empty() ? nullptr : impl.arena.take<float>(N * E).data();
  const bool has_work_on_q = args.q && (args.q_norm || cos_sin != nullptr);
  const cpu::HeadRows q =
      has_work_on_q ? head_rows(args.q, args.q_norm, args, cos_sin) : cpu::HeadRows{};
  const cpu::HeadRows k = head_rows(args.k, args.k_norm, args, cos_sin);
  const cpu::StoreRows store{
      .k = args.k.as<float>(),
      .k_row_stride = args.k.stride(0),
      .k_head_stride = args.k.stride(1),
      .v = args.v.as<float>(),
      .v_row_stride = args.v.stride(0),
      .v_head_stride = args.v.stride(1),
      .G = G,
      .E = E,
      .is_bf16 = args.cache_dtype == DType::bf16,
      .kv = {},
      .positions = args.positions.data(),
      .lanes = args.append_lanes.empty() ? nullptr : args.append_lanes.data()};
  const auto transform = FUSEQ_PICK(impl.isa, transform_heads);
  const auto store_some = FUSEQ_PICK(impl.isa, store_rows);

  const int64_t elements = (G * 2 + (has_work_on_q ? args.q.dim(1) : 0)) * E;
  const int64_t grain = std::max<int64_t>(1, kElementsPerThread / elements);
  impl.team.parallel_for(N, grain, [&](int64_t slice_begin, int64_t slice_end) {
    for (const KvGroup& group : args.groups) {
      const int64_t begin = std::max(slice_begin, group.first_row);
      const int64_t end = std::min(slice_end, group.first_row + group.num_rows);
      if (begin >= end) continue;
      if (cos_sin != nullptr) {
        for (int64_t row = begin; row < end; ++row) {
          fill_angles(args.inverse_frequencies, args.positions[static_cast<size_t>(row)],
                      cos_sin + row * E);
        }
      }
      if (has_work_on_q) transform(q, begin, end);
      if (k.gamma != nullptr || cos_sin != nullptr) transform(k, begin, end);
      cpu::StoreRows rows = store;
      rows.kv = group.kv;
      store_some(rows, begin, end);
    }
  });
}

}  // namespace fuseq::inline v0
