// SPDX-License-Identifier: Apache-2.0
// bench_select: log_softmax, and in a static build process and select, over whole vocabularies.
#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fuseq/kernels.h"
#include "kernels/common.h"
#include "kernels/ref/decode_ops_ref.h"
#include "random_weights.h"
#if defined(FUSEQ_BENCH_STEP_OPS)
#include "kernels/step.h"
#endif

namespace fuseq::bench {
namespace {

constexpr int64_t kVocabulary = 50265;

void bench_log_softmax(const Twin& twin, int64_t N) {
  const std::string shape = std::to_string(N) + "x" + std::to_string(kVocabulary);
  register_twin("log_softmax", twin, shape, [twin, N](benchmark::State& state) {
    std::vector<float> x(static_cast<size_t>(N * kVocabulary));
    std::vector<float> y(x.size());
    fill_random(x, 8.0f);
    const ConstView from(x.data(), DType::f32, {N, kVocabulary});
    const View to(y.data(), DType::f32, {N, kVocabulary});
    const Meter meter(state);
    for (auto _ : state) {
      if (twin.context != nullptr) {
        log_softmax(*twin.context, from, to);
      } else {
        ref::log_softmax(x.data(), N, kVocabulary, y.data());
      }
      benchmark::DoNotOptimize(y.data());
    }
    const int64_t bytes = N * kVocabulary * 4;
    meter.count_bytes(2 * bytes, 2 * bytes, twin.threads);
  });
}

#if defined(FUSEQ_BENCH_STEP_OPS)  // these ops are internal: only a static library shows them
/// An op of the step on `num_rows` rows of one request.
void bench_step_op(const Twin& twin, const std::string& name, int num_rows, DecodeMode mode,
                   const DrawFilter& filter, bool is_select) {
  const std::string shape = std::to_string(num_rows) + "x" + std::to_string(kVocabulary);
  register_twin(name, twin, shape, [=](benchmark::State& state) {
    Step step(1, num_rows, kVocabulary, mode, filter);
    // Log-probabilities of log-probabilities are the same again, so that every iteration does equal
    // work.
    const std::span<const int32_t> active = step.active;
    const Meter meter(state);
    for (auto _ : state) {
      step.rules[0].seed += 1;  // another draw
      if (twin.context == nullptr) {
        is_select ? ref::select(step.state, active) : ref::process(step.state, active);
      } else {
        is_select ? select(*twin.context, step.state, active)
                  : process(*twin.context, step.state, active);
      }
      benchmark::DoNotOptimize(step.candidates.data());
      benchmark::ClobberMemory();
    }
    const int64_t bytes = num_rows * kVocabulary * 4;
    meter.count_bytes(is_select ? bytes : 2 * bytes, bytes, twin.threads);
  });
}

void bench_step_ops(const Twin& twin) {
  bench_step_op(twin, "select_greedy", 1, DecodeMode::greedy, {}, true);
  bench_step_op(twin, "select_beams", 5, DecodeMode::beams, {}, true);
  bench_step_op(twin, "process_beams", 5, DecodeMode::beams, {}, false);
  if (twin.context == nullptr) return;  // the plain draw is no part of ref::select
  const std::pair<const char*, DrawFilter> filters[] = {
      {"select_random", {}},
      {"select_top_k_50", {.top_k = 50}},
      {"select_top_k_1000", {.top_k = 1000}},
      {"select_top_p_0.9", {.top_p = 0.9f}},
      {"select_top_k_50_top_p_0.9", {.top_k = 50, .top_p = 0.9f}},
      {"select_min_p_0.05", {.min_p = 0.05f}}};
  for (const auto& [name, filter] : filters) {
    for (const int rows : {1, 8}) bench_step_op(twin, name, rows, DecodeMode::sample, filter, true);
  }
}
#endif

}  // namespace

void register_all() {
  for (const Twin& twin : twins()) {
    for (const int64_t N : {1, 8}) bench_log_softmax(twin, N);
#if defined(FUSEQ_BENCH_STEP_OPS)
    bench_step_ops(twin);
#endif
  }
}

}  // namespace fuseq::bench
