// SPDX-License-Identifier: Apache-2.0
// bench_attention: decode steps, bound by reading keys and values, and prompts, bound by
// multiplying.
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "fuseq/kernels.h"
#include "kernels/common.h"
#include "kernels/ref/attention_ref.h"
#include "random_weights.h"

namespace fuseq::bench {
namespace {

constexpr int64_t kHeads = 12;
constexpr int64_t kWidth = 64;
/// Layers, each with its keys and values, are taken in turn as in a model.
constexpr int64_t kLayers = 12;

/// Requests of one query each (decode), or one request of as many queries as keys (prompt).
struct Problem {
  Problem(DType dtype, int64_t requests, int64_t keys, bool is_prompt) {
    const int64_t capacity = (keys + kKeyBlock - 1) / kKeyBlock * kKeyBlock;
    const int64_t N = is_prompt ? keys : requests;
    const int64_t floats =
        kHeads * capacity * kWidth;  // of the keys, or the values, of one request and layer
    const auto size = static_cast<int64_t>(size_of(dtype));
    bytes = 2 * requests * floats * size;
    cache = Tensor(DType::f32, {bytes * kLayers / 4});
    fill_random({cache.as<float>(), static_cast<size_t>(cache.shape().num_elements())}, 1.0f);
    rows.resize(static_cast<size_t>(2 * N * kHeads * kWidth));
    fill_random(rows, 1.0f);

    auto* place = cache.as<std::byte>();
    for (int64_t layer = 0; layer < kLayers; ++layer) {
      std::vector<KvGroup> groups;
      for (int64_t r = 0; r < requests; ++r) {
        KvGroup group{.first_row = r, .num_rows = is_prompt ? N : 1};
        group.kv = {
            .k = place, .v = place + floats * size, .capacity = capacity, .tail_begin = capacity};
        place += 2 * floats * size;
        groups.push_back(group);
      }
      layers.push_back(std::move(groups));
    }
    counts.assign(static_cast<size_t>(N), static_cast<int32_t>(keys));
    if (is_prompt) std::iota(counts.begin(), counts.end(), 1);
    args.q = {rows.data(), DType::f32, {N, kHeads, kWidth}};
    args.out = {rows.data() + N * kHeads * kWidth, DType::f32, {N, kHeads, kWidth}};
    args.kv_heads = kHeads;
    args.cache_dtype = dtype;
    args.key_counts = counts;
    args.scale = 0.125f;
    // q k and the sum of values: two multiply-adds for each key a row sees, head and element.
    operations = 4.0 * std::accumulate(counts.begin(), counts.end(), 0.0) * kHeads * kWidth;
  }

  Tensor cache;
  std::vector<float> rows;
  std::vector<int32_t> counts;
  std::vector<std::vector<KvGroup>> layers;
  AttentionArgs args;
  int64_t bytes = 0;  ///< keys and values of one layer
  double operations = 0;
};

void bench_attention(const Twin& twin, DType dtype, int64_t requests, int64_t keys,
                     bool is_prompt) {
  const std::string shape = std::string(name(dtype)) + "/" + (is_prompt ? "prompt" : "step") + "/" +
                            std::to_string(requests) + "x" + std::to_string(keys);
  register_twin("attention", twin, shape, [=](benchmark::State& state) {
    Problem problem(dtype, requests, keys, is_prompt);
    size_t layer = 0;
    const Meter meter(state);
    for (auto _ : state) {
      problem.args.groups = problem.layers[layer++ % problem.layers.size()];
      if (twin.context != nullptr) {
        attention(*twin.context, problem.args);
      } else {
        ref::attention(problem.args);
      }
      benchmark::DoNotOptimize(problem.rows.data());
    }
    if (is_prompt) {
      meter.count_operations(problem.operations, twin.threads);
    } else {
      meter.count_bytes(problem.bytes, problem.bytes * kLayers, twin.threads);
    }
  });
}

}  // namespace

void register_all() {
  for (const Twin& twin : twins()) {
    const bool is_slow = twin.context == nullptr || twin.context->cpu_isa() == CpuIsa::portable;
    for (const DType dtype : {DType::f32, DType::bf16}) {
      bench_attention(twin, dtype, 1, 128, false);
      bench_attention(twin, dtype, 1, 128, true);
      if (is_slow) continue;
      bench_attention(twin, dtype, 1, 1024, false);
      bench_attention(twin, dtype, 8, 128, false);
      bench_attention(twin, dtype, 1, 512, true);
    }
  }
}

}  // namespace fuseq::bench
