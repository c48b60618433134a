// SPDX-License-Identifier: Apache-2.0
// The doors of linear and linear_top: checks, scratch memory, and the split of panels and rows over
// the team.
#include <algorithm>
#include <limits>
#include <span>
#include <string_view>

#include "base/context_impl.h"
#include "base/message.h"
#include "fuseq/ops.h"
#include "kernels/check.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/quantize.h"
#include "kernels/linear_top.h"
#include "kernels/quantized_rows.h"

namespace fuseq::inline v0 {

namespace {

/// Rows of one pass; bounds the scratch memory and keeps packed rows in the last-level cache.
constexpr int64_t kRowsPerPass = 960;
/// Fewer products, or packed elements, than this are done sooner by the caller alone.
constexpr int64_t kProductsPerThread = 32768;
constexpr int64_t kPackedPerThread = 4096;
constexpr int64_t kQuantizedPerThread = 8192;
/// With fewer panels threads share tiles too.
constexpr int64_t kPanelsPerThread = 4;
/// Panels that a thread which has nothing left takes at a time: packed rows pass over two at least.
constexpr int64_t kPanelsPerPiece = 2;

/// Packed rows may lack one of so many steps: multiplying what was left out takes as long then as
/// what products of bytes save.
constexpr int64_t kStepsPerLeftOut = 5;

/// Rows whose lists and sums one thread joins.
constexpr int64_t kRowsPerJoin = 4;

static_assert(cpu::kLinearPanel == PackedMatrix::kPanel);

struct Kernels {
  decltype(&cpu::portable::linear_pack) pack;
  decltype(&cpu::portable::linear_few) few;
  decltype(&cpu::portable::linear_many) many;
};

Kernels pick([[maybe_unused]] const Context::Impl& impl,
             [[maybe_unused]] cpu::LinearFormat format) {
#if defined(FUSEQ_HAVE_X86)
  if (format == cpu::LinearFormat::bf16_dot) {
    return {cpu::avx512::linear_pack_bf16_dot, cpu::avx512::linear_few_bf16_dot,
            cpu::avx512::linear_many_bf16_dot};
  }
  if (format == cpu::LinearFormat::vnni) {
    if (impl.isa == CpuIsa::avx512) {
      return {cpu::avx512::linear_pack_vnni, cpu::avx512::linear_few_vnni,
              cpu::avx512::linear_many_vnni};
    }
    return {cpu::avx2::linear_pack_vnni, cpu::avx2::linear_few_vnni, cpu::avx2::linear_many_vnni};
  }
  if (cpu::linear_leaves_out(format)) {
    return {cpu::avx2::linear_pack_bytes, cpu::avx2::linear_few_bytes,
            cpu::avx2::linear_many_bytes};
  }
#endif
  if (format == cpu::LinearFormat::int8) {
    return {FUSEQ_PICK(impl.isa, linear_pack_int8), FUSEQ_PICK(impl.isa, linear_few_int8),
            FUSEQ_PICK(impl.isa, linear_many_int8)};
  }
  return {FUSEQ_PICK(impl.isa, linear_pack), FUSEQ_PICK(impl.isa, linear_few),
          FUSEQ_PICK(impl.isa, linear_many)};
}

cpu::LinearFormat format_of(const Context::Impl& impl, const PackedMatrix& w, int64_t rows) {
  using cpu::LinearFormat;
  const DType dtype = w.dtype();
  if (dtype == DType::i8) {
    if (impl.has_vnni) return LinearFormat::vnni;
    if (impl.isa != CpuIsa::avx2 || rows < cpu::kLinearBytes2Rows) return LinearFormat::int8;
    // What is made narrower mostly comes from an activation, after which most numbers are small, so
    // that little is left out.
    return rows >= cpu::kLinearBytes4Rows && w.inputs() > w.outputs() ? LinearFormat::bytes4
                                                                      : LinearFormat::bytes2;
  }
  if (dtype == DType::bf16) return impl.has_bf16_dot ? LinearFormat::bf16_dot : LinearFormat::bf16;
  return LinearFormat::f32;
}

/// All but y.
void check_inputs(const LinearArgs& args) {
  require(args.w != nullptr && !args.w->empty(), "linear: w must be a packed matrix, got nothing");
  const int64_t I = args.w->inputs();
  const int64_t O = args.w->outputs();
  require(args.x.rank() == 2 && args.x.dim(1) == I, "linear: x must have shape [rows, ", I,
          "] to match w [", O, ", ", I, "], got ", args.x.shape);
  const int64_t N = args.x.dim(0);
  check_floats("linear", "x", args.x, args.x.shape);
  const Like like{"x", args.x.shape, "w", Shape{O, I}};
  if (args.bias) check_floats("linear", "bias", args.bias, Shape{O}, like);
  if (args.gate) check_floats("linear", "gate", args.gate, Shape{N, O}, like);
  if (args.residual) check_floats("linear", "residual", args.residual, Shape{N, O}, like);
  require(I > 0 || O == 0, "linear: w must have at least one input, got ", O, " x 0");
}

void check_y(const LinearArgs& args) {
  const int64_t N = args.x.dim(0);
  const int64_t I = args.w->inputs();
  const int64_t O = args.w->outputs();
  check_floats("linear", "y", args.y, Shape{N, O}, Like{"x", args.x.shape, "w", Shape{O, I}});
  require(args.y.data != args.x.data || N == 0 || I == 0 || O == 0,
          "linear: y must not be x, got one buffer for both");
}

/// How a team shares tiles and panels: `rows` times `columns` threads.
struct Grid {
  int rows = 1;
  int columns = 1;
};

/// The grid whose busiest thread has the least to do; columns first, since then fewer threads read
/// the same weights.
Grid choose_grid(int64_t tiles, int64_t panels, int threads) {
  Grid best;
  int64_t least = tiles * panels;
  for (int rows = 1; rows <= threads; ++rows) {
    const int columns = threads / rows;
    const int64_t most = ((tiles + rows - 1) / rows) * ((panels + columns - 1) / columns);
    if (most < least) {
      least = most;
      best = {rows, columns};
    }
  }
  return best;
}

void quantize(Context::Impl& impl, const cpu::QuantizeRows& rows, int64_t N) {
  const auto kernel = FUSEQ_PICK(impl.isa, quantize_rows);
  impl.team.parallel_for(N, std::max<int64_t>(1, kQuantizedPerThread / rows.I),
                         [&](int64_t begin, int64_t end) { kernel(rows, begin, end); });
}

void pack_once(Context::Impl& impl, const cpu::LinearJob& job) {
  const auto pack = pick(impl, job.format).pack;
  const int64_t units = job.num_tiles * job.pack_units_per_tile();
  const int64_t unit_size = std::max<int64_t>(1, job.packed_size() / units);
  impl.team.parallel_for(units, std::max<int64_t>(1, kPackedPerThread / unit_size),
                         [&](int64_t begin, int64_t end) { pack(job, begin, end); });
}

/// Packs x in memory of the arena. Where its format would leave out too much, it becomes one that
/// leaves out less.
void pack_rows(Context::Impl& impl, cpu::LinearJob& job) {
  using cpu::LinearFormat;
  if (!cpu::linear_leaves_out(job.format)) {
    job.packed_x = impl.arena.take<uint32_t>(job.packed_size()).data();
    pack_once(impl, job);
    return;
  }
  cpu::LinearJob largest = job;
  largest.format = LinearFormat::int8;
  job.packed_x = impl.arena.take<uint32_t>(largest.packed_size()).data();
  job.left_out = impl.arena.take<cpu::LinearLeftOut>(job.N * job.pack_units_per_tile()).data();
  int64_t num_left_out = 0;
  job.num_left_out = &num_left_out;
  pack_once(impl, job);
  while (cpu::linear_leaves_out(job.format) &&
         num_left_out * kStepsPerLeftOut > job.N * job.steps) {
    num_left_out = 0;
    job.format = job.format == LinearFormat::bytes4 ? LinearFormat::bytes2 : LinearFormat::int8;
    pack_once(impl, job);
  }
  job.num_left_out = nullptr;
}

/// One pass over at most kRowsPerPass rows. `lists` has one of each thread where the best outputs
/// are wanted.
void multiply(Context::Impl& impl, cpu::LinearJob& job, std::span<const cpu::LinearBest> lists) {
  const Arena::Scope scope(impl.arena);
  const int64_t tile_rows = cpu::linear_tile_rows(impl.isa);
  const int64_t panels = job.num_panels();
  job.num_tiles = (job.N + tile_rows - 1) / tile_rows;

  if (job.w_scales != nullptr && job.quantized_x == nullptr) {
    const QuantizedRows rows = take_quantized_rows(impl.arena, job.N, job.I);
    quantize(impl, {.I = job.I, .x = job.x, .q = rows.q, .scales = rows.scales}, job.N);
    job.quantized_x = rows.q;
    job.x_scales = rows.scales;
  }
  if (job.N == 1 && job.format == cpu::LinearFormat::f32) {
    job.packed_x = const_cast<float*>(job.x.data);  // one row is packed as it lies
  } else {
    pack_rows(impl, job);
  }
  const Kernels kernels = pick(impl, job.format);

  const auto job_of = [&](int thread) {
    cpu::LinearJob one = job;
    one.best = lists.empty() ? nullptr : &lists[static_cast<size_t>(thread)];
    return one;
  };
  // Panels alone are shared out: several tiles need enough of them.
  if (job.num_tiles == 1 ||
      (job.num_tiles <= cpu::kLinearFewTiles && panels >= kPanelsPerThread * impl.team.size())) {
    const int64_t grain =
        std::max<int64_t>(1, kProductsPerThread / (job.N * job.I * cpu::kLinearPanel));
    impl.team.parallel_balanced(panels, grain, [&](int thread, int64_t begin, int64_t end) {
      kernels.few(job_of(thread), begin, end);
    });
    return;
  }
  const Grid grid = choose_grid(job.num_tiles, panels, impl.team.size());
  const int workers = grid.rows * grid.columns;
  float* const blocks = impl.arena.take<float>(workers * cpu::kLinearBlockFloats).data();
  const auto work = [&](int thread, int row, int64_t begin, int64_t end) {
    kernels.many(job_of(thread), job.num_tiles * row / grid.rows,
                 job.num_tiles * (row + 1) / grid.rows, begin, end,
                 blocks + thread * cpu::kLinearBlockFloats);
  };
  if (grid.rows == 1 && workers == impl.team.size()) {
    impl.team.parallel_balanced(
        panels, kPanelsPerPiece,
        [&](int thread, int64_t begin, int64_t end) { work(thread, 0, begin, end); });
  } else if (workers == 1) {
    work(0, 0, 0, panels);
  } else {
    impl.team.run([&](int thread, int) {
      if (thread >= workers) return;
      const int column = thread % grid.columns;
      work(thread, thread / grid.columns, panels * column / grid.columns,
           panels * (column + 1) / grid.columns);
    });
  }
}

cpu::ConstRows rows_of(ConstView view, int64_t first) {
  if (!view) return {};
  return {view.as<float>() + first * view.stride(0), view.stride(0)};
}

/// `rows` rows from the first one on: of the outputs nothing yet.
cpu::LinearJob make_job(const Context::Impl& impl, const LinearArgs& args, int64_t first,
                        int64_t rows) {
  return {.format = format_of(impl, *args.w, args.x.dim(0)),
          .N = rows,
          .I = args.w->inputs(),
          .O = args.w->outputs(),
          .steps = args.w->steps(),
          .x = rows_of(args.x, first),
          .panels = static_cast<const uint32_t*>(args.w->data()),
          .w_scales = args.w->scales(),
          .w_sums = args.w->sums(),
          .bias = args.bias.as<float>(),
          .act = args.act,
          .gate = rows_of(args.gate, first),
          .residual = rows_of(args.residual, first)};
}

/// All rows, a few hundred at a time. `quantized` is x as int8 if there is.
void run(Context::Impl& impl, const LinearArgs& args, std::span<const cpu::LinearBest> lists = {},
         const QuantizedRows& quantized = {}) {
  const int64_t N = args.x.dim(0);
  const int64_t passes = (N + kRowsPerPass - 1) / kRowsPerPass;
  for (int64_t pass = 0; pass < passes; ++pass) {
    const Arena::Scope scope(impl.arena);
    const int64_t row = N * pass / passes;
    cpu::LinearJob job = make_job(impl, args, row, N * (pass + 1) / passes - row);
    if (quantized.q != nullptr) {
      job.quantized_x = quantized.q + row * cpu::int8_row_bytes(job.I);
      job.x_scales = quantized.scales + row;
    }
    if (lists.empty()) {
      job.y = {args.y.as<float>() + row * args.y.stride(0), args.y.stride(0)};
      multiply(impl, job, {});
      continue;
    }
    const std::span<cpu::LinearBest> part = impl.arena.take<cpu::LinearBest>(std::ssize(lists));
    std::ranges::transform(lists, part.begin(), [&](cpu::LinearBest list) {
      const int64_t panels = job.num_panels();
      list.values += row * list.count;
      list.ids += row * list.count;
      if (list.maxima) list.maxima += row * panels;
      if (list.sums) list.sums += row * panels;
      return list;
    });
    multiply(impl, job, part);
  }
}

}  // namespace

void linear(Context& ctx, const LinearArgs& args) {
  check_cpu("linear", ctx.device());
  check_inputs(args);
  check_y(args);
  if (args.w->outputs() > 0) run(ctx.impl(), args);
}

QuantizedRows take_quantized_rows(Arena& arena, int64_t N, int64_t I) {
  return {.N = N,
          .I = I,
          .q = arena.take<int8_t>(N * cpu::int8_row_bytes(I)).data(),
          .scales = arena.take<float>(N).data()};
}

void quantize(Context& ctx, ConstView x, const QuantizedRows& rows) {
  check_cpu("quantize", ctx.device());
  check_floats("quantize", "x", x, Shape{rows.N, rows.I});
  require(rows.I > 0, "quantize: rows must have at least one input, got ", x.shape);
  quantize(ctx.impl(), {.I = rows.I, .x = rows_of(x, 0), .q = rows.q, .scales = rows.scales},
           rows.N);
}

void linear_quantized(Context& ctx, const LinearArgs& args, const QuantizedRows& x) {
  check_cpu("linear", ctx.device());
  check_inputs(args);
  check_y(args);
  if (args.w->dtype() != DType::i8) {
    fail(ErrorKind::type, "linear: w must be int8 where x is, got ", name(args.w->dtype()));
  }
  require(Shape({x.N, x.I}) == args.x.shape, "linear: quantised rows must have the shape of x, ",
          args.x.shape, ", got ", Shape({x.N, x.I}));
  require(x.q != nullptr || x.N == 0, "linear: quantised rows must be there, got no data in ",
          args.x.shape);
  if (args.w->outputs() > 0) run(ctx.impl(), args, {}, x);
}

TopOutputs take_top_outputs(Arena& arena, int64_t N, int64_t count, bool with_log_sums) {
  return {.count = count,
          .values = arena.take<float>(N * count).data(),
          .ids = arena.take<int32_t>(N * count).data(),
          .log_sums = with_log_sums ? arena.take<LogSum>(N).data() : nullptr};
}

void linear_top(Context& ctx, const LinearArgs& args, const TopOutputs& top) {
  check_cpu("linear_top", ctx.device());
  check_inputs(args);
  require(top.count >= 1 && top.count <= kMaxTopOutputs, "linear_top: count must be in 1 ... ",
          kMaxTopOutputs, ", got ", top.count);
  Context::Impl& impl = ctx.impl();
  const Arena::Scope scope(impl.arena);
  const int64_t N = args.x.dim(0);
  const int64_t panels = args.w->num_panels();
  const int64_t entries = N * top.count;
  const bool with_sums = top.log_sums != nullptr;
  const std::span<float> maxima = impl.arena.take<float>(with_sums ? N * panels : 0);
  const std::span<float> sums = impl.arena.take<float>(with_sums ? N * panels : 0);
  // The first thread's lists are those of the caller, in which the others' are joined.
  const std::span<cpu::LinearBest> lists = impl.arena.take<cpu::LinearBest>(impl.team.size());
  for (size_t thread = 0; thread < lists.size(); ++thread) {
    lists[thread] = {
        .count = top.count,
        .values = thread == 0 ? top.values : impl.arena.take<float>(entries).data(),
        .ids = thread == 0 ? top.ids : impl.arena.take<int32_t>(entries).data(),
        .maxima = with_sums ? maxima.data() : nullptr,
        .sums = with_sums ? sums.data() : nullptr,
    };
    std::fill_n(lists[thread].values, entries, -std::numeric_limits<float>::infinity());
    std::fill_n(lists[thread].ids, entries, std::numeric_limits<int32_t>::max());
  }
  if (args.w->outputs() > 0) run(impl, args, lists);
  const auto join_blocks = FUSEQ_PICK(impl.isa, join_blocks);
  impl.team.parallel_for(N, kRowsPerJoin, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      for (const cpu::LinearBest& list : lists.subspan(1)) {
        for (int64_t i = row * top.count; i < (row + 1) * top.count; ++i) {
          lists[0].rank(row, list.values[i], list.ids[i]);
        }
      }
      if (!with_sums) continue;
      const auto at = static_cast<size_t>(row * panels);
      top.log_sums[row] = log_sum_of(join_blocks(maxima.data() + at, sums.data() + at, panels));
    }
  });
}

}  // namespace fuseq::inline v0
