// SPDX-License-Identifier: Apache-2.0
// The doors of log_softmax, process and select.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

#include "base/context_impl.h"
#include "base/message.h"
#include "fuseq/ops.h"
#include "kernels/cpu/decode_ops.h"
#include "kernels/decode_state.h"

namespace fuseq::inline v0 {
namespace {

/// Scores are read in slices of this many ids, whatever the number of threads: sums are joined
/// slice by slice.
constexpr int64_t kSlice = 8192;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

void require_cpu(Context& ctx, std::string_view op) {
  if (ctx.device() != Device::cpu) {
    fail(ErrorKind::unsupported, op, ": this build runs on the CPU only");
  }
}

// ---- log_softmax --------------------------------------------------------------------------------

/// log(softmax) of one row whose maximum is known, given the sums of its slices.
float log_of_sums(const float* sums, int64_t count) {
  float sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += sums[i];
  return std::log(sum);
}

/// Turns `num_rows` rows of V scores into log-probabilities; x_of and y_of give the rows.
template <typename XOf, typename YOf>
void log_softmax_rows(Context& ctx, int64_t num_rows, int64_t V, const XOf& x_of, const YOf& y_of) {
  if (num_rows == 0 || V == 0) return;
  const CpuIsa isa = ctx.impl().isa;
  const auto row_max = FUSEQ_PICK(isa, row_max);
  const auto row_sum_exp = FUSEQ_PICK(isa, row_sum_exp);
  const auto row_subtract = FUSEQ_PICK(isa, row_subtract);
  ThreadTeam& team = ctx.impl().team;
  const Arena::Scope scope(ctx.impl().arena);
  const int64_t slices = (V + kSlice - 1) / kSlice;
  const std::span<float> parts = ctx.impl().arena.take<float>(num_rows * slices);
  const auto length = [&](int64_t slice) { return std::min(kSlice, V - slice * kSlice); };

  const auto find_max = [&](int64_t row, int64_t slice) {
    parts[row * slices + slice] = row_max(x_of(row) + slice * kSlice, length(slice));
  };
  const auto max_of = [&](int64_t row) {
    return *std::max_element(&parts[row * slices], &parts[row * slices] + slices);
  };
  const auto add_up = [&](int64_t row, int64_t slice, float max) {
    return row_sum_exp(x_of(row) + slice * kSlice, length(slice), max);
  };
  const auto subtract = [&](int64_t row, int64_t slice, float max, float log_sum) {
    const int64_t begin = slice * kSlice;
    row_subtract(x_of(row) + begin, length(slice), max, log_sum, y_of(row) + begin);
  };

  if (team.size() == 1 ||
      num_rows >= 2 * team.size()) {  // whole rows per thread: they stay in its cache
    team.parallel_for(num_rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        for (int64_t slice = 0; slice < slices; ++slice) find_max(row, slice);
        const float max = max_of(row);
        for (int64_t slice = 0; slice < slices; ++slice) {
          parts[row * slices + slice] = add_up(row, slice, max);
        }
        const float log_sum = log_of_sums(&parts[row * slices], slices);
        for (int64_t slice = 0; slice < slices; ++slice) subtract(row, slice, max, log_sum);
      }
    });
    return;
  }
  const std::span<float> maxima = ctx.impl().arena.take<float>(num_rows);
  const std::span<float> log_sums = ctx.impl().arena.take<float>(num_rows);
  const auto each_slice = [&](const auto& f) {
    team.parallel_for(num_rows * slices, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) f(i / slices, i % slices);
    });
  };
  each_slice(find_max);
  for (int64_t row = 0; row < num_rows; ++row) maxima[row] = max_of(row);
  each_slice([&](int64_t row, int64_t slice) {
    parts[row * slices + slice] = add_up(row, slice, maxima[row]);
  });
  for (int64_t row = 0; row < num_rows; ++row) {
    log_sums[row] = log_of_sums(&parts[row * slices], slices);
  }
  each_slice([&](int64_t row, int64_t slice) { subtract(row, slice, maxima[row], log_sums[row]); });
}

// ---- process ------------------------------------------------------------------------------------

/// One hypothesis of the step.
struct Row {
  const DecodeRules* rules;
  const int32_t* ids;
  int32_t length;
  float* scores;
};

bool has_forced_id(const DecodeRules& rules, int32_t length) {
  return (rules.forced_bos_id >= 0 && length == 1) ||
         (rules.forced_eos_id >= 0 && length == rules.max_length - 1);
}

bool has_rules(const DecodeRules& rules, int32_t length) {
  return rules.num_biased > 0 || rules.repetition_penalty != 1.0f ||
         (rules.no_repeat_ngram_size > 0 && length >= rules.no_repeat_ngram_size) ||
         (rules.num_stop_ids > 0 && length < rules.min_length) || rules.num_suppressed > 0 ||
         has_forced_id(rules, length);
}

/// An id that occurs twice is penalised once: all scores are read before the first is written.
void penalize_repetition(const Row& row, float* scratch) {
  const float penalty = row.rules->repetition_penalty;
  for (int32_t t = 0; t < row.length; ++t) {
    const float score = row.scores[row.ids[t]];
    scratch[t] = score < 0 ? score * penalty : score / penalty;
  }
  for (int32_t t = 0; t < row.length; ++t) row.scores[row.ids[t]] = scratch[t];
}

void ban_repeated_ngrams(const Row& row) {
  const int32_t prefix = row.rules->no_repeat_ngram_size - 1;
  if (row.length <= prefix) return;
  const int32_t* last = row.ids + row.length - prefix;
  for (int32_t t = 0; t + prefix < row.length; ++t) {
    if (std::equal(last, last + prefix, row.ids + t)) {
      row.scores[row.ids[t + prefix]] = kMinusInfinity;
    }
  }
}

void apply_rules(const Row& row, int64_t V, float* scratch) {
  const DecodeRules& rules = *row.rules;
  if (has_forced_id(rules, row.length)) {  // hides all rules before it
    const bool is_last = rules.forced_eos_id >= 0 && row.length == rules.max_length - 1;
    std::fill_n(row.scores, V, kMinusInfinity);
    row.scores[is_last ? rules.forced_eos_id : rules.forced_bos_id] = 0;
  } else {
    for (const IdBias& biased : std::span(rules.biased, static_cast<size_t>(rules.num_biased))) {
      row.scores[biased.id] += biased.bias;
    }
    if (rules.repetition_penalty != 1.0f) penalize_repetition(row, scratch);
    if (rules.no_repeat_ngram_size > 0) ban_repeated_ngrams(row);
    if (row.length < rules.min_length) {
      for (int32_t i = 0; i < rules.num_stop_ids; ++i)
        row.scores[rules.stop_ids[i]] = kMinusInfinity;
    }
  }
  for (int32_t i = 0; i < rules.num_suppressed; ++i)
    row.scores[rules.suppressed[i]] = kMinusInfinity;
}

}  // namespace

void log_softmax(Context& ctx, ConstView x, View y) {
  require_cpu(ctx, "log_softmax");
  if (x.dtype != DType::f32) {
    fail(ErrorKind::type, "log_softmax: x must be float32, got ", name(x.dtype));
  }
  if (y.dtype != DType::f32) {
    fail(ErrorKind::type, "log_softmax: y must be float32, got ", name(y.dtype));
  }
  require(x.rank() == 2, "log_softmax: x must have shape [N, V], got ", x.shape);
  require(y.shape == x.shape, "log_softmax: y must have the shape of x, ", x.shape, ", got ",
          y.shape);
  const int64_t V = x.dim(1);
  require(V <= 1 || (x.stride(1) == 1 && y.stride(1) == 1),
          "log_softmax: elements of a row must be adjacent, got strides ", x.stride(1),
          " in x and ", y.stride(1), " in y");
  log_softmax_rows(
      ctx, x.dim(0), V, [&](int64_t row) { return x.as<float>() + row * x.stride(0); },
      [&](int64_t row) { return y.as<float>() + row * y.stride(0); });
}

void process(Context& ctx, const DecodeState& state, std::span<const int32_t> active) {
  require_cpu(ctx, "process");
  const int64_t V = state.vocab;
  const Arena::Scope scope(ctx.impl().arena);
  const std::span<float*> beam_rows = ctx.impl().arena.take<float*>(state.num_rows);
  const std::span<Row> ruled_rows = ctx.impl().arena.take<Row>(state.num_rows);
  int64_t num_beam_rows = 0;
  int64_t num_ruled_rows = 0;
  for (const int32_t slot : active) {
    const DecodeRules& rules = state.rules[slot];
    for (int32_t b = 0; b < rules.num_beams; ++b) {
      const int64_t row = rules.first_row + b;
      float* scores = state.logits + (state.logit_row[slot] + b) * V;
      const int32_t length = state.lengths[row];
      if (rules.num_beams > 1) beam_rows[num_beam_rows++] = scores;
      if (has_rules(rules, length)) {
        ruled_rows[num_ruled_rows++] = {&rules, state.ids + row * state.capacity, length, scores};
      }
    }
  }
  const auto beam_row = [&](int64_t row) { return beam_rows[row]; };
  log_softmax_rows(ctx, num_beam_rows, V, beam_row, beam_row);
  if (num_ruled_rows == 0) return;

  ThreadTeam& team = ctx.impl().team;
  const std::span<float> scratch = ctx.impl().arena.take<float>(team.size() * state.capacity);
  team.run([&](int thread, int size) {
    const int64_t end = num_ruled_rows * (thread + 1) / size;
    for (int64_t i = num_ruled_rows * thread / size; i < end; ++i) {
      apply_rules(ruled_rows[i], V, &scratch[thread * state.capacity]);
    }
  });
}

// Each thread reads one contiguous run of slices and keeps a list per request that it meets. Lists
// of later threads hold later ids, so joining them in order gives the same candidates for any
// number of threads.
void select(Context& ctx, const DecodeState& state, std::span<const int32_t> active) {
  require_cpu(ctx, "select");
  const auto row_top = FUSEQ_PICK(ctx.impl().isa, row_top);
  ThreadTeam& team = ctx.impl().team;
  Arena& arena = ctx.impl().arena;
  const Arena::Scope scope(arena);
  const int64_t V = state.vocab;
  const int64_t slices = (V + kSlice - 1) / kSlice;
  const int64_t num_active = static_cast<int64_t>(active.size());

  int64_t num_tasks = 0;  // a task is one slice of one row
  int64_t num_entries = 0;
  const std::span<int64_t> first_task = arena.take<int64_t>(num_active + 1);
  const std::span<int64_t> first_entry = arena.take<int64_t>(num_active);
  for (int64_t r = 0; r < num_active; ++r) {
    const DecodeRules& rules = state.rules[active[r]];
    require(rules.num_candidates() <= rules.num_beams * V,
            "select: num_beams * vocabulary must be at least ", rules.num_candidates(), ", got ",
            rules.num_beams * V);
    first_task[r] = num_tasks;
    first_entry[r] = num_entries;
    num_tasks += rules.num_beams * slices;
    num_entries += rules.num_candidates();
  }
  first_task[num_active] = num_tasks;
  const std::span<float> values = arena.take<float>(num_entries * team.size());
  const std::span<int64_t> indices = arena.take<int64_t>(num_entries * team.size());
  const std::span<cpu::TopList> lists = arena.take<cpu::TopList>(num_active * team.size());

  const auto add_of = [&](const DecodeRules& rules, int64_t beam) {
    return rules.num_beams == 1 ? 0.0f : state.scores[rules.first_row + beam];
  };
  const auto scores_of = [&](int32_t slot, int64_t beam) {
    return state.logits + (state.logit_row[slot] + beam) * V;
  };
  team.run([&](int thread, int size) {
    const int64_t begin = num_tasks * thread / size;
    const int64_t end = num_tasks * (thread + 1) / size;
    for (int64_t r = 0; r < num_active; ++r) {
      const DecodeRules& rules = state.rules[active[r]];
      const int64_t entry = thread * num_entries + first_entry[r];
      cpu::TopList list{&values[entry], &indices[entry], rules.num_candidates(), 0};
      const int64_t last = std::min(end, first_task[r + 1]);
      for (int64_t task = std::max(begin, first_task[r]); task < last; ++task) {
        const int64_t beam = (task - first_task[r]) / slices;
        const int64_t id = (task - first_task[r]) % slices * kSlice;
        row_top(scores_of(active[r], beam) + id, std::min(kSlice, V - id), add_of(rules, beam),
                beam * V + id, list);
      }
      lists[thread * num_active + r] = list;
    }
  });

  for (int64_t r = 0; r < num_active; ++r) {
    const DecodeRules& rules = state.rules[active[r]];
    cpu::TopList& best = lists[r];
    for (int thread = 1; thread < team.size(); ++thread) {
      const cpu::TopList& other = lists[thread * num_active + r];
      for (int64_t i = 0; i < other.count; ++i) {
        if (best.count == best.capacity && !(other.values[i] > best.values[best.capacity - 1]))
          break;
        cpu::insert(best, other.values[i], other.indices[i]);
      }
    }
    for (int64_t index = 0; best.count < best.capacity; ++index) {  // too few finite scores
      const float score = scores_of(active[r], index / V)[index % V] + add_of(rules, index / V);
      if (!(score > kMinusInfinity)) cpu::insert(best, kMinusInfinity, index);
    }
    const int64_t first = int64_t{rules.first_row} * kMaxCandidatesPerRow;
    for (int64_t c = 0; c < best.count; ++c) {
      state.candidate_scores[first + c] = best.values[c];
      state.candidate_beams[first + c] = static_cast<int32_t>(best.indices[c] / V);
      state.candidate_ids[first + c] = static_cast<int32_t>(best.indices[c] % V);
    }
  }
}

}  // namespace fuseq::inline v0
