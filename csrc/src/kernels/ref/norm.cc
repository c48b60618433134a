// SPDX-License-Identifier: Apache-2.0
// The truth of norm: plain loops in double.
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/ref/norm_ref.h"

namespace fuseq::inline v0::ref {

void norm(const NormArgs& args) {
  const int64_t D = args.x.dim(1);
  std::vector<double> z(static_cast<size_t>(D));
  for (int64_t n = 0; n < args.x.dim(0); ++n) {
    double mean = 0;
    double mean_square = 0;
    for (int64_t i = 0; i < D; ++i) {
      double value = args.x.as<float>()[n * args.x.stride(0) + i];
      if (args.residual) value += args.residual.as<float>()[n * args.residual.stride(0) + i];
      if (args.bias) value += args.bias.as<float>()[i];
      z[static_cast<size_t>(i)] = value;
      mean += value / static_cast<double>(D);
      mean_square += value * value / static_cast<double>(D);
    }
    if (args.kind != Norm::layer) mean = 0;
    double variance = 0;
    for (const double value : z)
      variance += (value - mean) * (value - mean) / static_cast<double>(D);
    if (args.kind != Norm::layer) variance = mean_square;
    const double scale = 1 / std::sqrt(variance + args.eps);
    for (int64_t i = 0; i < D; ++i) {
      const double value = z[static_cast<size_t>(i)];
      const double gamma =
          args.gamma.as<float>()[i] + (args.kind == Norm::rms_plus_one ? 1.0 : 0.0);
      const double beta = args.beta ? args.beta.as<float>()[i] : 0.0;
      if (args.sum) args.sum.as<float>()[n * args.sum.stride(0) + i] = static_cast<float>(value);
      args.y.as<float>()[n * args.y.stride(0) + i] =
          static_cast<float>((value - mean) * scale * gamma + beta);
    }
  }
}

}  // namespace fuseq::inline v0::ref
