// SPDX-License-Identifier: Apache-2.0
// Draws: finding what the filters keep without sorting the vocabulary, and the op `sample`.
#include "kernels/draw.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include "base/context_impl.h"
#include "base/message.h"
#include "fuseq/ops.h"
#include "kernels/check.h"
#include "kernels/cpu/decode_ops.h"
#include "kernels/cpu/draw.h"

namespace fuseq::inline v0 {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
/// Below this exp gives 0: such an id cannot be drawn.
constexpr float kNoWeight = -87.3f;

/// The order of ids: better first.
bool is_better(const DrawCandidate& a, const DrawCandidate& b) {
  return a.score > b.score || (a.score == b.score && a.id < b.id);
}

double mass_of(std::span<const DrawCandidate> candidates) {
  double mass = 0;
  for (const DrawCandidate& candidate : candidates) mass += double{candidate.weight};
  return mass;
}

/// How many of `candidates`, which this sorts as far as it must, come before their weights sum up
/// to `target`, the one that reaches it included.
size_t count_to_mass(std::span<DrawCandidate> candidates, double target, bool beyond) {
  const auto is_reached = [&](double mass) { return beyond ? mass > target : mass >= target; };
  size_t begin = 0;
  size_t end = candidates.size();
  double before = 0;
  constexpr size_t kFew = 64;
  while (end - begin > kFew) {  // split at the median of three; go on where the target lies
    DrawCandidate pivot[3] = {candidates[begin], candidates[begin + (end - begin) / 2],
                              candidates[end - 1]};
    std::sort(pivot, pivot + 3, is_better);
    const auto split = std::partition(
        candidates.begin() + static_cast<std::ptrdiff_t>(begin),
        candidates.begin() + static_cast<std::ptrdiff_t>(end),
        [&](const DrawCandidate& candidate) { return is_better(candidate, pivot[1]); });
    const auto middle = static_cast<size_t>(split - candidates.begin());
    const double mass = mass_of(candidates.subspan(begin, middle - begin));
    if (is_reached(before + mass)) {
      end = middle;
    } else {
      before += mass;
      begin = middle;
    }
  }
  std::sort(candidates.begin() + static_cast<std::ptrdiff_t>(begin),
            candidates.begin() + static_cast<std::ptrdiff_t>(end), is_better);
  for (; begin < end; ++begin) {
    before += double{candidates[begin].weight};
    if (is_reached(before)) return begin + 1;
  }
  return end;
}

/// The draw of one row, step by step.
class RowDraw {
 public:
  RowDraw(CpuIsa isa, std::span<const float> row, float best, const DrawFilter& filter,
          const DrawScratch& scratch)
      : isa_(isa),
        scaled_{row.data(), static_cast<int64_t>(row.size()), best, 1.0f / filter.temperature},
        filter_(filter),
        scratch_(scratch) {}

  int32_t run(const DrawKey& key) {
    const cpu::NoiseKey noise{
        {static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32)},
        {key.step, key.sample, key.sequence}};
    const auto draw_row = FUSEQ_PICK(isa_, draw_row);
    cpu::Drawn drawn{kMinusInfinity, 0};
    if (!keeps_all()) {
      const std::span<DrawCandidate> kept = filter();
      for (size_t i = 0; i < kept.size(); ++i) {
        scratch_.scores[i] = kept[i].score;
        scratch_.ids[i] = kept[i].id;
      }
      draw_row({scratch_.scores.data(), static_cast<int64_t>(kept.size()), 0.0f, 1.0f},
               scratch_.ids.data(), noise, drawn);
      return scratch_.ids[static_cast<size_t>(drawn.index)];
    }
    draw_row(scaled_, nullptr, noise, drawn);
    return static_cast<int32_t>(drawn.index);
  }

 private:
  [[nodiscard]] bool has_top_k() const {
    return filter_.top_k > 0 && filter_.top_k < scaled_.count;
  }
  [[nodiscard]] bool has_top_p() const { return filter_.top_p < 1; }
  [[nodiscard]] bool keeps_all() const {
    return !has_top_k() && !has_top_p() && filter_.min_p <= 0;
  }

  std::span<DrawCandidate> filter() {
    const bool of_all = has_top_p() && (filter_.top_p_of_all || !has_top_k());
    const double total = of_all ? double{FUSEQ_PICK(isa_, scaled_sum_exp)(scaled_)} : 0;
    std::span<DrawCandidate> kept = has_top_k() && filter_.top_k <= kMaxDrawList
                                        ? top_k_by_list()
                                        : by_threshold(of_all, total);
    if (has_top_k() && kept.size() > static_cast<size_t>(filter_.top_k)) {
      std::nth_element(kept.begin(), kept.begin() + filter_.top_k, kept.end(), is_better);
      kept = kept.first(static_cast<size_t>(filter_.top_k));
    }
    if (has_top_p()) {
      const double mass = of_all ? total : mass_of(kept);
      const size_t count = count_to_mass(kept, double{filter_.top_p} * mass, filter_.top_p_of_all);
      kept = kept.first(count);
    }
    if (filter_.min_p > 0) {  // the best id's score is 0
      const float lowest = std::log(filter_.min_p);
      const auto end = std::partition(kept.begin(), kept.end(),
                                      [&](const DrawCandidate& c) { return !(c.score < lowest); });
      kept = kept.first(static_cast<size_t>(end - kept.begin()));
    }
    return kept;
  }

  /// The top_k best ids by a list that is kept while the row is read.
  std::span<DrawCandidate> top_k_by_list() {
    cpu::TopList list{scratch_.list_scores.data(), scratch_.list_ids.data(), filter_.top_k, 0};
    FUSEQ_PICK(isa_, row_top)(scaled_.x, scaled_.count, 0.0f, 0, list);
    for (int64_t i = 0; i < list.count; ++i) {
      const auto at = static_cast<size_t>(i);
      scratch_.scores[at] = (list.values[i] - scaled_.shift) * scaled_.scale;
      scratch_.ids[at] = static_cast<int32_t>(list.indices[i]);
    }
    return weighed(list.count);
  }

  /// All ids that the filters may keep, and few others.
  std::span<DrawCandidate> by_threshold(bool top_p_of_all, double total) {
    float lowest = kNoWeight;
    if (top_p_of_all) {
      // Ids lighter than an even share of the rest 1 - p, and all below them, weigh less than the
      // rest together: top_p drops them. A little lower, for rounding.
      const double share = (1 - double{filter_.top_p}) * total / static_cast<double>(scaled_.count);
      lowest = std::max(lowest, static_cast<float>(std::log(share)) - 0.01f);
    }
    if (filter_.min_p > 0 && (top_p_of_all || !has_top_p())) {
      lowest = std::max(lowest, std::log(filter_.min_p));
    }
    const int64_t count =
        FUSEQ_PICK(isa_, keep_scaled)(scaled_, lowest, scratch_.scores.data(), scratch_.ids.data());
    return weighed(count);
  }

  /// scores and ids as candidates.
  std::span<DrawCandidate> weighed(int64_t count) {
    const std::span<DrawCandidate> candidates =
        scratch_.candidates.first(static_cast<size_t>(count));
    for (size_t i = 0; i < candidates.size(); ++i) {
      candidates[i].score = scratch_.scores[i];
      candidates[i].id = scratch_.ids[i];
    }
    FUSEQ_PICK(isa_, scaled_exp)({scratch_.scores.data(), count, 0.0f, 1.0f},
                                 scratch_.scores.data());
    for (size_t i = 0; i < candidates.size(); ++i) candidates[i].weight = scratch_.scores[i];
    return candidates;
  }

  const CpuIsa isa_;
  const cpu::ScaledRow scaled_;
  const DrawFilter& filter_;
  const DrawScratch& scratch_;
};

}  // namespace

DrawScratch take_draw_scratch(Arena& arena, int64_t V) {
  return {.scores = arena.take<float>(V),
          .ids = arena.take<int32_t>(V),
          .candidates = arena.take<DrawCandidate>(V),
          .list_scores = arena.take<float>(kMaxDrawList),
          .list_ids = arena.take<int64_t>(kMaxDrawList)};
}

int32_t draw(CpuIsa isa, std::span<const float> row, const DrawFilter& filter, const DrawKey& key,
             const DrawScratch& scratch) {
  const float best = FUSEQ_PICK(isa, row_max)(row.data(), static_cast<int64_t>(row.size()));
  if (!std::isfinite(best)) {
    return best > 0 ? static_cast<int32_t>(std::ranges::find(row, best) - row.begin()) : 0;
  }
  return RowDraw(isa, row, best, filter, scratch).run(key);
}

void sample(Context& ctx, const SampleArgs& args) {
  check_cpu("sample", ctx.device());
  const ConstView& logits = args.logits;
  check_dtype("sample", "logits", logits, DType::f32);
  require(logits.rank() == 2 && logits.dim(1) > 0 && (logits.dim(1) == 1 || logits.stride(1) == 1),
          "sample: logits must have shape [N, V] with adjacent elements in a row, got ",
          logits.shape);
  require(static_cast<int64_t>(args.ids.size()) == logits.dim(0), "sample: ids must have room for ",
          logits.dim(0), " ids, got ", args.ids.size());
  const DrawFilter filter{args.temperature, args.top_k, args.top_p, args.min_p, args.top_p_of_all};
  check_draw_filter("sample: ", filter);
  ThreadTeam& team = ctx.impl().team;
  const Arena::Scope scope(ctx.impl().arena);
  const std::span<DrawScratch> scratch = ctx.impl().arena.take<DrawScratch>(team.size());
  for (DrawScratch& one : scratch) one = take_draw_scratch(ctx.impl().arena, logits.dim(1));
  const int64_t N = logits.dim(0);
  team.run([&](int thread, int size) {
    for (int64_t n = N * thread / size; n < N * (thread + 1) / size; ++n) {
      const std::span row(logits.as<float>() + n * logits.stride(0),
                          static_cast<size_t>(logits.dim(1)));
      args.ids[static_cast<size_t>(n)] = draw(ctx.impl().isa, row, filter,
                                              {.seed = args.seed,
                                               .sequence = static_cast<uint32_t>(args.sequence + n),
                                               .sample = args.sample,
                                               .step = args.step},
                                              scratch[static_cast<size_t>(thread)]);
    }
  });
}

void check_draw_filter(const char* prefix, const DrawFilter& filter) {
  require(std::isfinite(filter.temperature) && filter.temperature >= kLeastTemperature, prefix,
          "temperature must be finite and at least ", kLeastTemperature, ", got ",
          filter.temperature);
  require(filter.top_k >= 0, prefix, "top_k must not be negative, got ", filter.top_k);
  require(filter.top_p > 0 && filter.top_p <= 1, prefix, "top_p must be in (0, 1], got ",
          filter.top_p);
  require(filter.min_p >= 0 && filter.min_p <= 1, prefix, "min_p must be in [0, 1], got ",
          filter.min_p);
}

}  // namespace fuseq::inline v0
