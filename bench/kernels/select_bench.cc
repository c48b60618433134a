// SPDX-License-Identifier: Apache-2.0
// bench_select: log_softmax, and in a static build process and select, over whole vocabularies.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "fuseq/kernels.h"
#include "kernels/common.h"
#include "kernels/ref/decode_ops_ref.h"
#include "random_weights.h"

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
/// One request of `beams` hypotheses in the middle of a search.
struct Step {
  explicit Step(int beams) {
    rules.num_beams = beams;
    rules.max_length = kCapacity;
    rules.num_stop_ids = 1;
    rules.stop_ids[0] = 2;
    const auto rows = static_cast<size_t>(beams);
    ids.assign(rows * kCapacity, 7);
    lengths.assign(rows, kCapacity / 2);
    scores.assign(rows, -1.0f);
    candidates.resize(rows * kMaxCandidatesPerRow);
    beams_and_ids.resize(2 * candidates.size());
    logits.resize(rows * kVocabulary);
    fill_random(logits, 8.0f);
    state = {.num_requests = 1,
             .num_rows = beams,
             .capacity = kCapacity,
             .vocab = kVocabulary,
             .rules = &rules,
             .logit_row = &logit_row,
             .ids = ids.data(),
             .lengths = lengths.data(),
             .scores = scores.data(),
             .candidate_scores = candidates.data(),
             .candidate_beams = beams_and_ids.data(),
             .candidate_ids = beams_and_ids.data() + candidates.size(),
             .logits = logits.data()};
  }

  static constexpr int kCapacity = 128;
  DecodeRules rules;
  int32_t logit_row = 0;
  std::vector<int32_t> ids, lengths, beams_and_ids;
  std::vector<float> scores, candidates, logits;
  DecodeState state;
};

void bench_step_op(const Twin& twin, int beams, bool is_select) {
  const std::string shape = std::to_string(beams) + "x" + std::to_string(kVocabulary);
  register_twin(is_select ? "select" : "process", twin, shape, [=](benchmark::State& state) {
    Step step(beams);
    // Log-probabilities of log-probabilities are the same again, so that every iteration does equal
    // work.
    const int32_t active[] = {0};
    const Meter meter(state);
    for (auto _ : state) {
      if (twin.context == nullptr) {
        is_select ? ref::select(step.state, active) : ref::process(step.state, active);
      } else {
        is_select ? select(*twin.context, step.state, active)
                  : process(*twin.context, step.state, active);
      }
      benchmark::DoNotOptimize(step.candidates.data());
      benchmark::ClobberMemory();
    }
    const int64_t bytes = beams * kVocabulary * 4;
    meter.count_bytes(is_select ? bytes : 2 * bytes, bytes, twin.threads);
  });
}
#endif

}  // namespace

void register_all() {
  for (const Twin& twin : twins()) {
    for (const int64_t N : {1, 8}) bench_log_softmax(twin, N);
#if defined(FUSEQ_BENCH_STEP_OPS)
    for (const int beams : {1, 5}) bench_step_op(twin, beams, true);
    bench_step_op(twin, 5, false);
#endif
  }
}

}  // namespace fuseq::bench
