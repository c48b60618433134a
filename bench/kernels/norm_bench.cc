// SPDX-License-Identifier: Apache-2.0
// bench_norm: the norms of a post-norm layer (residual and bias joined in) and of a pre-norm one.
#include <cstdint>
#include <string>
#include <vector>

#include "fuseq/kernels.h"
#include "kernels/common.h"
#include "kernels/ref/norm_ref.h"
#include "random_weights.h"

namespace fuseq::bench {
namespace {

void bench_norm(const Twin& twin, const std::string& op, Norm kind, bool has_residual, int64_t N,
                int64_t D) {
  const std::string shape = std::to_string(N) + "x" + std::to_string(D);
  register_twin(op, twin, shape, [=](benchmark::State& state) {
    std::vector<float> rows(static_cast<size_t>(3 * N * D));
    std::vector<float> parameters(static_cast<size_t>(3 * D), 1.0f);
    fill_random(rows, 1.0f);
    NormArgs args;
    args.kind = kind;
    args.x = {rows.data(), DType::f32, {N, D}};
    args.gamma = {parameters.data(), DType::f32, {D}};
    if (kind == Norm::layer) args.beta = {parameters.data() + D, DType::f32, {D}};
    if (has_residual) {
      args.residual = {rows.data() + N * D, DType::f32, {N, D}};
      args.bias = {parameters.data() + 2 * D, DType::f32, {D}};
    }
    args.y = {rows.data() + 2 * N * D, DType::f32, {N, D}};
    const Meter meter(state);
    for (auto _ : state) {
      if (twin.context != nullptr) {
        norm(*twin.context, args);
      } else {
        ref::norm(args);
      }
      benchmark::DoNotOptimize(rows.data());
    }
    const int64_t bytes = (has_residual ? 3 : 2) * N * D * 4;
    meter.count_bytes(bytes, bytes, twin.threads);
  });
}

}  // namespace

void register_all() {
  for (const Twin& twin : twins()) {
    for (const int64_t N : {1, 8, 1024}) {
      bench_norm(twin, "layer_norm_residual", Norm::layer, true, N, 768);
      bench_norm(twin, "layer_norm", Norm::layer, false, N, 1024);
      bench_norm(twin, "rms_norm", Norm::rms, false, N, 1024);
    }
  }
}

}  // namespace fuseq::bench
