// SPDX-License-Identifier: Apache-2.0
// The truth of linear: plain loops in double over the elements of the packed matrix.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include "base/half.h"
#include "kernels/ref/linear_ref.h"

namespace fuseq::inline v0::ref {

double activate(Activation act, double x) {
  switch (act) {
    case Activation::none: return x;
    case Activation::relu: return x < 0 ? 0 : x;
    case Activation::gelu: return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2));
    case Activation::gelu_tanh:
      return 0.5 * x *
             (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case Activation::silu: return x / (1 + std::exp(-x));
    case Activation::tanh: return std::tanh(x);
  }
  return x;
}

float element(const PackedMatrix& matrix, int64_t output, int64_t input) {
  constexpr int64_t kPanel = PackedMatrix::kPanel;
  const int64_t panel = output / kPanel * matrix.panel_size();
  const int64_t lane = output % kPanel;
  if (matrix.dtype() == DType::i8) {
    const auto* numbers = static_cast<const int8_t*>(matrix.data());
    return static_cast<float>(numbers[panel + (input / 4 * kPanel + lane) * 4 + input % 4]) *
           matrix.scales()[output];
  }
  if (matrix.dtype() == DType::f32) {
    return static_cast<const float*>(matrix.data())[panel + input * kPanel + lane];
  }
  const int64_t pair = panel + (input / 2 * kPanel + lane) * 2;
  return bf16_to_float(static_cast<const uint16_t*>(matrix.data())[pair + input % 2]);
}

std::vector<float> rounded_row(const float* x, int64_t count, DType dtype) {
  std::vector<float> row(x, x + count);
  if (dtype == DType::bf16) {
    for (float& value : row) value = bf16_to_float(float_to_bf16(value));
  }
  if (dtype == DType::i8) {
    float most = 0;
    bool is_finite = true;
    for (const float value : row) {
      most = std::max(most, std::abs(value));
      is_finite = is_finite && std::isfinite(value);
    }
    for (float& value : row) {
      value = most < 0x1p-100f ? 0 : std::nearbyint(value * (127 / most)) * (most / 127);
      if (!is_finite) value = NAN;
    }
  }
  return row;
}

void linear(const LinearArgs& args) {
  const PackedMatrix& w = *args.w;
  for (int64_t n = 0; n < args.x.dim(0); ++n) {
    const std::vector<float> x =
        rounded_row(args.x.as<float>() + n * args.x.stride(0), w.inputs(), w.dtype());
    for (int64_t o = 0; o < w.outputs(); ++o) {
      double sum = 0;
      for (int64_t i = 0; i < w.inputs(); ++i) {
        sum += double{x[static_cast<size_t>(i)]} * double{element(w, o, i)};
      }
      if (args.bias) sum += args.bias.as<float>()[o];
      sum = activate(args.act, sum);
      if (args.gate) sum *= args.gate.as<float>()[n * args.gate.stride(0) + o];
      if (args.residual) sum += args.residual.as<float>()[n * args.residual.stride(0) + o];
      args.y.as<float>()[n * args.y.stride(0) + o] = static_cast<float>(sum);
    }
  }
}

}  // namespace fuseq::inline v0::ref
