// SPDX-License-Identifier: Apache-2.0
// bench_linear: the products of real models. Few rows are bound by reading the weights, many by
// multiplying.
#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "fuseq/kernels.h"
#include "kernels/common.h"
#include "kernels/ref/linear_ref.h"
#include "random_weights.h"
#include "shapes.h"

namespace fuseq::bench {
namespace {

/// Up to this many rows the weights' bytes are what counts.
constexpr int64_t kFewRows = 16;
/// A step reads each matrix once: copies are taken in turn, so that none is found in a cache.
constexpr int64_t kWorkingSet = int64_t{64} << 20;

/// Copies of one matrix, made when the first benchmark asks for them and kept for the next.
const std::vector<PackedMatrix>& matrices(const LinearShape& shape, DType dtype) {
  static std::map<std::pair<std::string_view, DType>, std::vector<PackedMatrix>> known;
  std::vector<PackedMatrix>& copies = known[{shape.what, dtype}];
  if (copies.empty()) {
    Context ctx;
    std::vector<float> w(static_cast<size_t>(shape.outputs * shape.inputs));
    fill_random(w, 0.05f);
    int64_t bytes = 0;
    do {
      copies.emplace_back(dtype, shape.outputs, shape.inputs);
      pack(ctx, ConstView(w.data(), DType::f32, {shape.outputs, shape.inputs}), copies.back());
      bytes += copies.back().num_bytes();
    } while (bytes < kWorkingSet);
  }
  return copies;
}

/// Multiply-adds in registers by the dtype's own instruction, measured once.
double peak_of(DType dtype, int threads) {
  static std::map<std::pair<DType, int>, double> known;
  double& result = known[{dtype, threads}];
  if (result == 0) result = multiply_add_peak(dtype, threads);
  return result;
}

void bench_linear(const Twin& twin, const LinearShape& shape, DType dtype, int64_t N) {
  const std::string text =
      std::string(name(dtype)) + "/" + std::string(shape.what) + "/" + std::to_string(N);
  register_twin("linear", twin, text, [=](benchmark::State& state) {
    const std::vector<PackedMatrix>& copies = matrices(shape, dtype);
    std::vector<float> x(static_cast<size_t>(N * shape.inputs));
    std::vector<float> y(static_cast<size_t>(N * shape.outputs));
    std::vector<float> bias(static_cast<size_t>(shape.outputs), 0.5f);
    fill_normal(x, 1.0f);
    LinearArgs args;
    args.x = {x.data(), DType::f32, {N, shape.inputs}};
    args.bias = {bias.data(), DType::f32, {shape.outputs}};
    args.y = {y.data(), DType::f32, {N, shape.outputs}};
    size_t next = 0;
    const Meter meter(state);
    for (auto _ : state) {
      args.w = &copies[next++ % copies.size()];
      if (twin.context != nullptr) {
        linear(*twin.context, args);
      } else {
        ref::linear(args);
      }
      benchmark::DoNotOptimize(y.data());
    }
    const int64_t bytes = copies[0].num_bytes();
    if (N <= kFewRows) {
      // One size for all that have copies: the limit is measured once.
      meter.count_bytes(bytes, std::max(bytes, kWorkingSet), twin.threads);
    } else {
      meter.count_operations(2.0 * static_cast<double>(N * shape.outputs * shape.inputs),
                             twin.threads);
      // The limit so far is float32's.
      const double peak = peak_of(dtype, twin.threads) * 1e-9;
      state.counters["limit"] = peak;
      state.counters["%"] = state.counters["GFLOP/s"].value / peak * 100;
    }
  });
}

}  // namespace

void register_all() {
  const std::vector<Twin> all = twins();
  for (const Twin& twin : all) {
    // The plain reference sums in double, element by element: one small product is enough of it.
    const bool is_slow = twin.context == nullptr || twin.context->cpu_isa() == CpuIsa::portable;
    // All shapes for the last twin, the one that models run on.
    const bool is_last = &twin == &all.back();
    for (const LinearShape& shape : kLinearShapes) {
      if (is_slow && shape.what != "base_out") continue;
      if (!is_last && !shape.what.starts_with("base")) continue;
      for (const DType dtype : {DType::f32, DType::bf16, DType::i8}) {
        for (const int64_t N : {1, 8, 128, 512}) {
          if (N > kFewRows && (is_slow || shape.what == "base_head")) continue;
          if (N == 512 && !is_last) continue;
          bench_linear(twin, shape, dtype, N);
        }
      }
    }
  }
}

}  // namespace fuseq::bench
