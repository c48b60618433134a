// SPDX-License-Identifier: Apache-2.0
// The door of log_softmax.
#include "kernels/log_softmax.h"

#include "fuseq/ops.h"
#include "kernels/check.h"

namespace fuseq::inline v0 {

void log_sums(Context& ctx, ConstView x, LogSum* sums) {
  check_cpu("log_sums", ctx.device());
  check_floats("log_sums", "x", x, x.shape);
  for_log_sums(
      ctx, x.dim(0), x.dim(1), [&](int64_t row) { return x.as<float>() + row * x.stride(0); },
      [&](int64_t row, const float*, int64_t, int64_t begin, const LogSum& sum) {
        if (begin == 0) sums[row] = sum;
      });
}

void log_softmax(Context& ctx, ConstView x, View y) {
  check_cpu("log_softmax", ctx.device());
  check_dtype("log_softmax", "x", x, DType::f32);
  check_dtype("log_softmax", "y", y, DType::f32);
  require(x.rank() == 2, "log_softmax: x must have shape [N, V], got ", x.shape);
  require(y.shape == x.shape, "log_softmax: y must have the shape of x, ", x.shape, ", got ",
          y.shape);
  const int64_t V = x.dim(1);
  require(V <= 1 || (x.stride(1) == 1 && y.stride(1) == 1),
          "log_softmax: elements of a row must be adjacent, got strides ", x.stride(1),
          " in x and ", y.stride(1), " in y");
  const auto row_subtract = FUSEQ_PICK(ctx.impl().isa, row_subtract);
  for_log_sums(
      ctx, x.dim(0), V, [&](int64_t row) { return x.as<float>() + row * x.stride(0); },
      [&](int64_t row, const float* from, int64_t count, int64_t begin, const LogSum& sum) {
        row_subtract(from, count, sum.max, sum.log_sum, y.as<float>() + row * y.stride(0) + begin);
      });
}

}  // namespace fuseq::inline v0
