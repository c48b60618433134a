// SPDX-License-Identifier: Apache-2.0
// The truth of linear: plain loops in double over the elements of the packed matrix.
#include <cmath>
#include <cstdint>
#include <numbers>

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
  if (matrix.dtype() == DType::f32) {
    return static_cast<const float*>(matrix.data())[panel + input * kPanel + lane];
  }
  const int64_t pair = panel + (input / 2 * kPanel + lane) * 2;
  return bf16_to_float(static_cast<const uint16_t*>(matrix.data())[pair + input % 2]);
}

void linear(const LinearArgs& args) {
  const PackedMatrix& w = *args.w;
  const bool rounds = w.dtype() == DType::bf16;
  for (int64_t n = 0; n < args.x.dim(0); ++n) {
    const float* x = args.x.as<float>() + n * args.x.stride(0);
    for (int64_t o = 0; o < w.outputs(); ++o) {
      double sum = 0;
      for (int64_t i = 0; i < w.inputs(); ++i) {
        const double value = rounds ? bf16_to_float(float_to_bf16(x[i])) : x[i];
        sum += value * static_cast<double>(element(w, o, i));
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
