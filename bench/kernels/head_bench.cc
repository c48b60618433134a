// SPDX-License-Identifier: Apache-2.0
// bench_head: the head of a step and the choice of ids, with logits that are kept ("logits") and
// without ("top"). Both choose the same. Needs a static build.
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "fuseq/kernels.h"
#include "kernels/common.h"
#include "kernels/ref/linear_ref.h"
#include "kernels/step.h"

namespace fuseq::bench {
namespace {

struct HeadShape {
  std::string_view name;
  int64_t vocab;
  int64_t inputs;
  int num_requests;
  int num_beams;  ///< 1: greedy
};

constexpr HeadShape kHeads[] = {{"bart-base", 50265, 768, 1, 1},
                                {"bart-base", 50265, 768, 8, 1},
                                {"bart-base", 50265, 768, 1, 4},
                                {"marian-base", 58101, 512, 16, 4}};

const PackedMatrix& head_of(const HeadShape& shape, DType dtype) {
  static std::map<std::pair<std::string_view, DType>, PackedMatrix> known;
  PackedMatrix& matrix = known[{shape.name, dtype}];
  if (matrix.empty()) {
    Context ctx;
    std::vector<float> w(static_cast<size_t>(shape.vocab * shape.inputs));
    fill_random(w, 0.05f);
    matrix = PackedMatrix(dtype, shape.vocab, shape.inputs);
    pack(ctx, ConstView(w.data(), DType::f32, {shape.vocab, shape.inputs}), matrix);
  }
  return matrix;
}

void choose_from_logits(const Twin& twin, const LinearArgs& args, Step& step) {
  if (twin.context == nullptr) {
    ref::linear(args);
    ref::process(step.state, step.active);
    ref::select(step.state, step.active);
    return;
  }
  linear(*twin.context, args);
  process(*twin.context, step.state, step.active);
  select(*twin.context, step.state, step.active);
}

/// Room for the best outputs of N rows.
struct TopRoom {
  explicit TopRoom(int64_t N)
      : values(static_cast<size_t>(N * kMaxTopOutputs)),
        ids(values.size()),
        log_sums(static_cast<size_t>(N)) {}

  std::vector<float> values;
  std::vector<int32_t> ids;
  std::vector<LogSum> log_sums;
};

bool choose_from_top(Context& ctx, const LinearArgs& args, Step& step, TopRoom& room) {
  const bool with_sums = needs_log_sums(step.state, step.active);
  const TopOutputs top{.count = top_count(step.state, step.active),
                       .values = room.values.data(),
                       .ids = room.ids.data(),
                       .log_sums = with_sums ? room.log_sums.data() : nullptr};
  linear_top(ctx, args, top);
  return select_top(ctx, step.state, step.active, top);
}

void bench_head(const Twin& twin, const HeadShape& shape, DType dtype, bool keep_logits) {
  const int64_t N = int64_t{shape.num_requests} * shape.num_beams;
  const std::string text = std::string(name(dtype)) + "/" + std::string(shape.name) + "/" +
                           std::to_string(shape.num_requests) + "x" +
                           std::to_string(shape.num_beams);
  register_twin(keep_logits ? "logits" : "top", twin, text, [=](benchmark::State& state) {
    const PackedMatrix& w = head_of(shape, dtype);
    const DecodeMode mode = shape.num_beams > 1 ? DecodeMode::beams : DecodeMode::greedy;
    Step step(shape.num_requests, shape.num_beams, shape.vocab, mode, {});
    std::vector<float> x(static_cast<size_t>(N * shape.inputs));
    std::vector<float> bias(static_cast<size_t>(shape.vocab), 0.5f);
    fill_normal(x, 1.0f);
    const LinearArgs args{.x = {x.data(), DType::f32, {N, shape.inputs}},
                          .w = &w,
                          .bias = {bias.data(), DType::f32, {shape.vocab}},
                          .y = {step.logits.data(), DType::f32, {N, shape.vocab}}};
    TopRoom room(N);
    const Meter meter(state);
    for (auto _ : state) {
      if (keep_logits) {
        choose_from_logits(twin, args, step);
      } else if (!choose_from_top(*twin.context, args, step, room)) {
        state.SkipWithError("scores tie");
        return;
      }
      benchmark::DoNotOptimize(step.candidates.data());
      benchmark::ClobberMemory();
    }
    meter.count_bytes(w.num_bytes(), w.num_bytes(), twin.threads);
  });
}

}  // namespace

void register_all() {
  for (const HeadShape& shape : kHeads) {
    for (const DType dtype : {DType::f32, DType::i8}) {
      for (const Twin& twin : twins()) {
        bench_head(twin, shape, dtype, true);
        if (twin.context != nullptr) bench_head(twin, shape, dtype, false);
      }
    }
  }
}

}  // namespace fuseq::bench
