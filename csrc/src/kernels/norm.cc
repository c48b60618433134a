// SPDX-License-Identifier: Apache-2.0
// The door of norm, layer_norm and rms_norm: checks, then rows split over the team.
#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/context_impl.h"
#include "base/message.h"
#include "fuseq/ops.h"
#include "kernels/check.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/quantize.h"
#include "kernels/quantized_rows.h"

namespace fuseq::inline v0 {

namespace {

/// Fewer elements than this are done sooner by the caller alone than handed to the team.
constexpr int64_t kElementsPerThread = 8192;

cpu::ConstRows rows_of(ConstView view) {
  return view ? cpu::ConstRows{view.as<float>(), view.stride(0)} : cpu::ConstRows{};
}
cpu::Rows rows_of(View view) {
  return view ? cpu::Rows{view.as<float>(), view.stride(0)} : cpu::Rows{};
}

void check(std::string_view op, const NormArgs& args) {
  require(args.x.rank() == 2, op, ": x must have shape [rows, width], got ", args.x.shape);
  const Shape shape = args.x.shape;
  const Shape row{shape.dim(1)};
  require(shape.dim(1) > 0, op, ": x must have rows of at least one element, got ", shape);
  check_floats(op, "x", args.x, shape);
  const Like like{"x", shape};
  if (args.residual) check_floats(op, "residual", args.residual, shape, like);
  if (args.bias) check_floats(op, "bias", args.bias, row, like);
  check_floats(op, "gamma", args.gamma, row, like);
  if (args.kind == Norm::layer || args.beta) check_floats(op, "beta", args.beta, row, like);
  check_floats(op, "y", args.y, shape, like);
  if (args.sum) {
    check_floats(op, "sum", args.sum, shape, like);
    require(args.sum.data != args.y.data, op, ": sum must not be y, got one buffer for both");
  }
}

/// The norm, and with `quantized` its rows as int8.
void run(Context& ctx, std::string_view op, const NormArgs& args,
         const QuantizedRows* quantized = nullptr) {
  check_cpu(op, ctx.device());
  check(op, args);
  const int64_t N = args.x.dim(0);
  const int64_t D = args.x.dim(1);
  const cpu::NormRows rows{.kind = args.kind,
                           .D = D,
                           .x = rows_of(args.x),
                           .residual = rows_of(args.residual),
                           .bias = args.bias.as<float>(),
                           .gamma = args.gamma.as<float>(),
                           .beta = args.beta.as<float>(),
                           .eps = args.eps,
                           .y = rows_of(args.y),
                           .sum = rows_of(args.sum)};
  Context::Impl& impl = ctx.impl();
  const auto kernel = FUSEQ_PICK(impl.isa, norm_rows);
  const int64_t grain = std::max<int64_t>(1, kElementsPerThread / D);
  if (quantized == nullptr) {
    impl.team.parallel_for(N, grain, [&](int64_t begin, int64_t end) { kernel(rows, begin, end); });
    return;
  }
  require(Shape({quantized->N, quantized->I}) == args.y.shape, op,
          ": quantised rows must have the shape of y, ", args.y.shape, ", got ",
          Shape({quantized->N, quantized->I}));
  const cpu::QuantizeRows bytes{
      .I = D, .x = {rows.y.data, rows.y.stride}, .q = quantized->q, .scales = quantized->scales};
  const auto quantize = FUSEQ_PICK(impl.isa, quantize_rows);
  impl.team.parallel_for(N, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      kernel(rows, row, row + 1);
      quantize(bytes, row, row + 1);
    }
  });
}

/// The view without axis 0, at its index `i`.
template <typename V>
V at(const V& view, int64_t i) {
  Strides strides{};
  for (int axis = 1; axis < view.rank(); ++axis) {
    strides[static_cast<size_t>(axis - 1)] = view.stride(axis);
  }
  auto* bytes =
      static_cast<std::conditional_t<std::is_same_v<V, View>, char, const char>*>(view.data);
  return V(bytes + i * view.stride(0) * static_cast<int64_t>(size_of(view.dtype)), view.dtype,
           Shape(view.shape.dims().subspan(1)), strides);
}

/// The view with axes 0 and 1 joined, which the caller knows to be possible.
template <typename V>
V join(const V& view) {
  std::array<int64_t, Shape::kMaxRank> dims{};
  Strides strides{};
  dims[0] = view.dim(0) * view.dim(1);
  strides[0] = view.stride(1);
  for (int axis = 2; axis < view.rank(); ++axis) {
    dims[static_cast<size_t>(axis - 1)] = view.dim(axis);
    strides[static_cast<size_t>(axis - 1)] = view.stride(axis);
  }
  return V(view.data, view.dtype,
           Shape(std::span(dims.data(), static_cast<size_t>(view.rank() - 1))), strides);
}

template <typename V>
bool can_join(const V& view) {
  return view.dim(0) == 1 || view.stride(0) == view.dim(1) * view.stride(1);
}

/// A view of one row more axis, for a vector.
template <typename V>
V as_rows(const V& view) {
  return V(view.data, view.dtype, Shape{1, view.dim(0)}, {view.dim(0), view.stride(0)});
}

/// Runs `args` on x and y of any rank.
void run_any_rank(Context& ctx, std::string_view op, NormArgs args) {
  require(args.x.rank() >= 1, op, ": x must have rows, got a scalar");
  require(args.x.shape == args.y.shape, op, ": y must have shape ", args.x.shape,
          " to match x, got ", args.y.shape);
  if (args.x.rank() == 1) {
    args.x = as_rows(args.x);
    args.y = as_rows(args.y);
  }
  while (args.x.rank() > 2 && can_join(args.x) && can_join(args.y)) {
    args.x = join(args.x);
    args.y = join(args.y);
  }
  if (args.x.rank() == 2) return run(ctx, op, args);
  for (int64_t i = 0; i < args.x.dim(0); ++i) {
    NormArgs part = args;
    part.x = at(args.x, i);
    part.y = at(args.y, i);
    run_any_rank(ctx, op, part);
  }
}

}  // namespace

void norm(Context& ctx, const NormArgs& args) {
  run(ctx, "norm", args);
}

void norm_quantized(Context& ctx, const NormArgs& args, const QuantizedRows& rows) {
  run(ctx, "norm", args, &rows);
}

void layer_norm(Context& ctx, ConstView x, ConstView gamma, ConstView beta, float eps, View y) {
  run_any_rank(ctx, "layer_norm",
               {.kind = Norm::layer, .x = x, .gamma = gamma, .beta = beta, .eps = eps, .y = y});
}

void rms_norm(Context& ctx, ConstView x, ConstView gamma, float eps, View y) {
  run_any_rank(ctx, "rms_norm", {.kind = Norm::rms, .x = x, .gamma = gamma, .eps = eps, .y = y});
}

}  // namespace fuseq::inline v0
