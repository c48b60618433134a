// SPDX-License-Identifier: Apache-2.0
// Packs random weights and multiplies.
#include "products/matrices.h"

#include "random_weights.h"

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

}  // namespace fuseq::bench
