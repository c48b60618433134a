// SPDX-License-Identifier: Apache-2.0
// The door of embed: checks every id, then rows split over the team.
#include <algorithm>
#include <span>
#include <string>
#include <string_view>

#include "base/context_impl.h"
#include "base/message.h"
#include "fuseq/ops.h"
#include "kernels/check.h"
#include "kernels/cpu/embed.h"

namespace fuseq::inline v0 {

namespace {

/// Fewer elements than this are done sooner by the caller alone. A packed row has one element per
/// cache line or so.
constexpr int64_t kElementsPerThread = 8192;
constexpr int64_t kPackedElementsPerThread = 1024;

void check_count(std::string_view what, std::span<const int32_t> ids, int64_t N) {
  require(std::ssize(ids) == N, "embed: ", what, " must have one entry per id (", N, "), got ",
          ids.size());
}

void check_range(std::string_view what, std::span<const int32_t> ids, int64_t end) {
  for (size_t n = 0; n < ids.size(); ++n) {
    require(ids[n] >= 0 && ids[n] < end, "embed: ", what, "[", n, "] must be in [0, ", end,
            "), got ", ids[n]);
  }
}

void check_table(std::string_view what, ConstView table, int64_t D) {
  require(table.rank() == 2 && table.dim(1) == D, "embed: ", what, " must have shape [rows, ", D,
          "] to match x, got ", table.shape);
}

void check(const EmbedArgs& args, int64_t N, int64_t D) {
  require((args.packed_table != nullptr) != static_cast<bool>(args.table),
          "embed: one of packed_table and table must be given, got ",
          args.packed_table ? "both" : "neither");
  int64_t V = 0;
  if (args.packed_table) {
    V = args.packed_table->outputs();
    require(args.packed_table->inputs() == D, "embed: packed_table must have ", D,
            " inputs to match x, got ", args.packed_table->inputs());
  } else {
    V = args.table.rank() > 0 ? args.table.dim(0) : 0;
    check_table("table", args.table, D);
    require(args.table.is_dense(), "embed: table must be dense, got strides. Make a copy");
    if (args.table.dtype != DType::f32 && args.table.dtype != DType::bf16) {
      fail(ErrorKind::type, "embed: table must be float32 or bfloat16, got ",
           name(args.table.dtype));
    }
  }
  check_range("ids", args.ids, V);
  if (args.positions) {
    check_table("positions", args.positions, D);
    check_floats("embed", "positions", args.positions, args.positions.shape);
    check_count("position_rows", args.position_rows, N);
    check_range("position_rows", args.position_rows, args.positions.dim(0));
  } else {
    require(args.position_rows.empty(),
            "embed: position_rows must be empty without positions, got ",
            args.position_rows.size());
  }
  if (args.types) {
    check_table("types", args.types, D);
    check_floats("embed", "types", args.types, args.types.shape);
    require(args.types.dim(0) > 0, "embed: types must have at least one row, got 0");
    if (!args.type_ids.empty()) {
      check_count("type_ids", args.type_ids, N);
      check_range("type_ids", args.type_ids, args.types.dim(0));
    }
  } else {
    require(args.type_ids.empty(), "embed: type_ids must be empty without types, got ",
            args.type_ids.size());
  }
}

}  // namespace

void embed(Context& ctx, const EmbedArgs& args) {
  check_cpu("embed", ctx.device());
  const int64_t N = std::ssize(args.ids);
  require(args.x.rank() == 2 && args.x.dim(0) == N, "embed: x must have shape [", N,
          ", width] to match ids, got ", args.x.shape);
  const int64_t D = args.x.dim(1);
  check_floats("embed", "x", args.x, args.x.shape);
  require(args.x.is_dense(), "embed: x must be dense, got strides");
  check(args, N, D);
  if (N == 0 || D == 0) return;

  const PackedMatrix* packed = args.packed_table;
  const cpu::EmbedRows rows{.ids = args.ids.data(),
                            .position_rows = args.position_rows.data(),
                            .type_ids = args.type_ids.empty() ? nullptr : args.type_ids.data(),
                            .table = packed ? packed->data() : args.table.data,
                            .dtype = packed ? packed->dtype() : args.table.dtype,
                            .packed = packed != nullptr,
                            .panel_size = packed ? packed->panel_size() : 0,
                            .scales = packed ? packed->scales() : nullptr,
                            .D = D,
                            .scale = args.scale,
                            .positions = args.positions.as<float>(),
                            .positions_stride = args.positions ? args.positions.stride(0) : 0,
                            .types = args.types.as<float>(),
                            .types_stride = args.types ? args.types.stride(0) : 0,
                            .x = args.x.as<float>()};
  Context::Impl& impl = ctx.impl();
  const auto kernel = FUSEQ_PICK(impl.isa, embed_rows);
  const int64_t grain =
      std::max<int64_t>(1, (packed ? kPackedElementsPerThread : kElementsPerThread) / D);
  impl.team.parallel_for(N, grain, [&](int64_t begin, int64_t end) { kernel(rows, begin, end); });
}

}  // namespace fuseq::inline v0
