// SPDX-License-Identifier: Apache-2.0
// Norms of rows: two passes for the layer norm, since E[x^2] - mean^2 loses digits when the mean is
// large.
#include "kernels/cpu/norm.h"

#include "kernels/cpu/simd/parts.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

namespace {

/// z = x + residual + bias to `z`.
void add_row(const float* x, const float* residual, const float* bias, int64_t D, float* z) {
  each_vector(D, [=](int64_t i, int64_t n) {
    f32x16 value = load_part(x + i, n);
    if (residual) value = value + load_part(residual + i, n);
    if (bias) value = value + load_part(bias + i, n);
    store_part(z + i, value, n);
  });
}

void layer_row(const float* z, const NormRows& args, float* y) {
  const int64_t D = args.D;
  const f32x16 count = splat(static_cast<float>(D));
  f32x16 total = zeros();
  each_vector(D, [&](int64_t i, int64_t n) { total = total + load_part(z + i, n); });
  const f32x16 mean = splat(reduce_add(total)) / count;
  f32x16 squares = zeros();
  each_vector(D, [&](int64_t i, int64_t n) {
    f32x16 d = load_part(z + i, n) - mean;
    if (n < 16) d = select(first(n), d, zeros());
    squares = fma(d, d, squares);
  });
  const f32x16 variance = splat(reduce_add(squares)) / count;
  const f32x16 scale = splat(1.0f) / sqrt(variance + splat(args.eps));
  each_vector(D, [&](int64_t i, int64_t n) {
    const f32x16 value = (load_part(z + i, n) - mean) * scale * load_part(args.gamma + i, n);
    store_part(y + i, args.beta ? value + load_part(args.beta + i, n) : value, n);
  });
}

void rms_row(const float* z, const NormRows& args, float* y) {
  const int64_t D = args.D;
  f32x16 squares = zeros();
  each_vector(D, [&](int64_t i, int64_t n) {
    const f32x16 value = load_part(z + i, n);
    squares = fma(value, value, squares);
  });
  const f32x16 mean_square = splat(reduce_add(squares)) / splat(static_cast<float>(D));
  const f32x16 scale = splat(1.0f) / sqrt(mean_square + splat(args.eps));
  const f32x16 offset = splat(args.kind == Norm::rms_plus_one ? 1.0f : 0.0f);
  each_vector(D, [&](int64_t i, int64_t n) {
    const f32x16 gamma = load_part(args.gamma + i, n) + offset;
    const f32x16 value = load_part(z + i, n) * scale * gamma;
    store_part(y + i, args.beta ? value + load_part(args.beta + i, n) : value, n);
  });
}

}  // namespace

void norm_rows(const NormRows& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x.data + row * args.x.stride;
    const float* residual =
        args.residual.data ? args.residual.data + row * args.residual.stride : nullptr;
    float* y = args.y.data + row * args.y.stride;
    const float* z = x;
    if (args.sum.data || residual || args.bias) {
      // Without a `sum` the row of y holds z until it is overwritten element by element.
      float* stored = args.sum.data ? args.sum.data + row * args.sum.stride : y;
      add_row(x, residual, args.bias, args.D, stored);
      z = stored;
    }
    if (args.kind == Norm::layer) {
      layer_row(z, args, y);
    } else {
      rms_row(z, args, y);
    }
  }
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
