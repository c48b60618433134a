// SPDX-License-Identifier: Apache-2.0
// Packs random weights and multiplies.
#include "products/matrices.h"

#include "random_weights.h"
#ifdef FUSEQ_BENCH_STEP_OPS
#include "kernels/quantized_rows.h"
#endif

namespace fuseq::bench {

Matrices::Matrices(std::span<const LinearShape> shapes, DType dtype, int64_t max_rows) {
  int64_t inputs = 0;
  int64_t outputs = 0;
  int64_t largest = 0;
  for (const LinearShape& shape : shapes) {
    inputs = std::max(inputs, shape.inputs);
    outputs = std::max(outputs, shape.outputs);
    largest = std::max(largest, shape.inputs * shape.outputs);
  }
  x_.resize(static_cast<size_t>(max_rows * inputs));
  fill_normal(x_, 1.0f);
  y_.resize(static_cast<size_t>(max_rows * outputs));
  bias_.assign(static_cast<size_t>(outputs), 0.5f);
  std::vector<float> weights(static_cast<size_t>(largest));
  fill_random(weights, 0.05f);
  Context ctx;
  for (const LinearShape& shape : shapes) {
    matrices_.emplace_back(dtype, shape.outputs, shape.inputs);
    pack(ctx, ConstView(weights.data(), DType::f32, {shape.outputs, shape.inputs}),
         matrices_.back());
  }
}

int64_t Matrices::num_bytes() const noexcept {
  int64_t bytes = 0;
  for (const PackedMatrix& matrix : matrices_) bytes += matrix.num_bytes();
  return bytes;
}

void Matrices::multiply(Context& ctx, size_t index, int64_t rows) {
  const PackedMatrix& w = matrices_[index];
  linear(ctx, {.x = ConstView(x_.data(), DType::f32, {rows, w.inputs()}),
               .w = &w,
               .bias = ConstView(bias_.data(), DType::f32, {w.outputs()}),
               .y = View(y_.data(), DType::f32, {rows, w.outputs()})});
}

void Matrices::multiply_all(Context& ctx, int64_t rows) {
  for (size_t i = 0; i < size(); ++i) multiply(ctx, i, rows);
}

#ifdef FUSEQ_BENCH_STEP_OPS
namespace {

int64_t stride_of(int64_t inputs) {
  return (inputs + 3) / 4 * 4;
}

}  // namespace

bool Matrices::quantize_rows(Context& ctx, int64_t rows) {
  for (const PackedMatrix& w : matrices_) {
    if (w.dtype() != DType::i8) return false;
    Int8Rows& made = int8_rows_[w.inputs()];
    made.values.resize(static_cast<size_t>(rows * stride_of(w.inputs())));
    made.scales.resize(static_cast<size_t>(rows));
    quantize(ctx, ConstView(x_.data(), DType::f32, {rows, w.inputs()}),
             {rows, w.inputs(), made.values.data(), made.scales.data()});
  }
  return true;
}

void Matrices::multiply_quantized(Context& ctx, size_t index, int64_t rows) {
  const PackedMatrix& w = matrices_[index];
  Int8Rows& x = int8_rows_.at(w.inputs());
  linear_quantized(ctx,
                   {.x = ConstView(x_.data(), DType::f32, {rows, w.inputs()}),
                    .w = &w,
                    .bias = ConstView(bias_.data(), DType::f32, {w.outputs()}),
                    .y = View(y_.data(), DType::f32, {rows, w.outputs()})},
                   {rows, w.inputs(), x.values.data(), x.scales.data()});
}
#else
bool Matrices::quantize_rows(Context&, int64_t) {
  return false;
}

void Matrices::multiply_quantized(Context&, size_t, int64_t) {}
#endif

}  // namespace fuseq::bench
