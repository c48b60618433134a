// SPDX-License-Identifier: Apache-2.0
// The truth for log_softmax, process, select and advance: plain loops, one rule after the other.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <set>
#include <span>
#include <vector>

#include "kernels/ref/decode_ops_ref.h"

namespace fuseq::inline v0::ref {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

bool is_stop_id(const DecodeRules& rules, int32_t id) {
  for (int32_t i = 0; i < rules.num_stop_ids; ++i) {
    if (rules.stop_ids[i] == id) return true;
  }
  return false;
}

void process_row(const DecodeRules& rules, const std::vector<int32_t>& ids, int64_t V,
                 float* scores) {
  const int32_t T = static_cast<int32_t>(ids.size());
  for (int32_t i = 0; i < rules.num_biased; ++i) scores[rules.biased[i].id] += rules.biased[i].bias;
  if (rules.repetition_penalty != 1.0f) {
    for (const int32_t id : std::set<int32_t>(ids.begin(), ids.end())) {
      const float p = rules.repetition_penalty;
      scores[id] = scores[id] < 0 ? scores[id] * p : scores[id] / p;
    }
  }
  const int32_t n = rules.no_repeat_ngram_size;
  if (n > 0 && T >= n) {
    const std::vector<int32_t> last(ids.end() - (n - 1), ids.end());
    for (int32_t end = n - 1; end < T; ++end) {  // ids[end] followed the n - 1 ids before it
      if (std::vector<int32_t>(ids.begin() + end - (n - 1), ids.begin() + end) == last) {
        scores[ids[static_cast<size_t>(end)]] = kMinusInfinity;
      }
    }
  }
  if (T < rules.min_length) {
    for (int32_t i = 0; i < rules.num_stop_ids; ++i) scores[rules.stop_ids[i]] = kMinusInfinity;
  }
  if (rules.forced_bos_id >= 0 && T == 1) {
    std::fill_n(scores, V, kMinusInfinity);
    scores[rules.forced_bos_id] = 0;
  }
  if (rules.forced_eos_id >= 0 && T == rules.max_length - 1) {
    std::fill_n(scores, V, kMinusInfinity);
    scores[rules.forced_eos_id] = 0;
  }
  for (int32_t i = 0; i < rules.num_suppressed; ++i) scores[rules.suppressed[i]] = kMinusInfinity;
}

struct Candidate {
  float score;
  int32_t beam;
  int32_t id;
};

struct PoolEntry {
  float score;
  bool done;
  std::vector<int32_t> ids;
};

/// The `count` best, equal ones in their old order.
template <typename Entry>
std::vector<Entry> best_of(std::vector<Entry> entries, int32_t count) {
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.score > b.score; });
  entries.resize(static_cast<size_t>(count));
  return entries;
}

void advance_greedy(const DecodeState& state, int32_t slot) {
  const DecodeRules& rules = state.rules[slot];
  const int64_t row = rules.first_row;
  const int32_t id = state.candidate_ids[row * kMaxCandidatesPerRow];
  state.ids[row * state.capacity + state.lengths[row]] = id;
  state.lengths[row] += 1;
  state.done[slot] = is_stop_id(rules, id) || state.lengths[row] >= rules.max_length;
}

void advance_beams(const DecodeState& state, int32_t slot) {
  const DecodeRules& rules = state.rules[slot];
  const int32_t W = rules.num_beams;
  const int32_t K = rules.num_candidates();
  const int64_t first = rules.first_row;
  const int64_t C = state.capacity;
  const int32_t T = state.lengths[first];
  const int32_t P = rules.prompt_length;
  const auto power = [&](int32_t length) {
    return static_cast<float>(std::pow(double(length), double(rules.length_penalty)));
  };

  std::vector<std::vector<int32_t>> ids;
  std::vector<std::vector<int32_t>> lanes;
  std::vector<PoolEntry> pool;
  for (int64_t row = first; row < first + W; ++row) {
    ids.emplace_back(state.ids + row * C, state.ids + row * C + T);
    lanes.emplace_back(state.lanes + row * C, state.lanes + row * C + T);
    const int32_t* entry = state.pool_ids + row * C;
    pool.push_back({state.pool_scores[row], state.pool_done[row] != 0,
                    std::vector<int32_t>(entry, entry + state.pool_lengths[row])});
  }
  const bool was_full = std::all_of(pool.begin(), pool.end(), [](auto& e) { return e.done; });

  std::vector<Candidate> running;
  bool all_hit = true;
  for (int32_t c = 0; c < K; ++c) {
    const int64_t at = first * kMaxCandidatesPerRow + c;
    const Candidate candidate = {state.candidate_scores[at], state.candidate_beams[at],
                                 state.candidate_ids[at]};
    const bool hit = is_stop_id(rules, candidate.id) || T + 1 >= rules.max_length;
    all_hit = all_hit && hit;
    running.push_back({candidate.score + (hit ? -1e9f : 0.0f), candidate.beam, candidate.id});

    float score = candidate.score / power(T + 1 - P);
    if (rules.early_stopping == EarlyStopping::yes && was_full) score += -1e9f;
    if (state.improvable[slot] == 0) score += -1e9f;
    if (!(hit && c < W)) score += -1e9f;
    std::vector<int32_t> row = ids[static_cast<size_t>(candidate.beam)];
    row.push_back(candidate.id);
    pool.push_back({score, hit && c < W, std::move(row)});
  }
  pool = best_of(std::move(pool), W);
  running = best_of(std::move(running), W);

  float worst = std::numeric_limits<float>::infinity();
  for (int32_t b = 0; b < W; ++b) {
    const int64_t row = first + b;
    const PoolEntry& entry = pool[static_cast<size_t>(b)];
    state.pool_scores[row] = entry.score;
    state.pool_done[row] = entry.done;
    state.pool_lengths[row] = static_cast<int32_t>(entry.ids.size());
    std::copy(entry.ids.begin(), entry.ids.end(), state.pool_ids + row * C);
    worst = std::min(worst, entry.score);

    const Candidate& next = running[static_cast<size_t>(b)];
    const auto parent = static_cast<size_t>(next.beam);
    std::copy(ids[parent].begin(), ids[parent].end(), state.ids + row * C);
    std::copy(lanes[parent].begin(), lanes[parent].end(), state.lanes + row * C);
    state.ids[row * C + T] = next.id;
    state.lengths[row] = T + 1;
    state.scores[row] = next.score;
  }

  const bool looks_ahead = rules.early_stopping == EarlyStopping::never && rules.length_penalty > 0;
  const float best = running[0].score / power((looks_ahead ? rules.max_length : T + 1) - P);
  bool can_win = false;
  bool is_full = true;
  for (const PoolEntry& entry : pool) {
    can_win = can_win || best > (entry.done ? worst : -1e9f);
    is_full = is_full && entry.done;
  }
  state.improvable[slot] = state.improvable[slot] != 0 && can_win;
  state.done[slot] = state.improvable[slot] == 0 ||
                     (rules.early_stopping == EarlyStopping::yes && is_full) || all_hit;
}

}  // namespace

void log_softmax(const float* x, int64_t N, int64_t V, float* y) {
  for (int64_t n = 0; n < N; ++n) {
    double max = -std::numeric_limits<double>::infinity();
    for (int64_t v = 0; v < V; ++v) max = std::max(max, double(x[n * V + v]));
    double sum = 0;
    for (int64_t v = 0; v < V; ++v) sum += std::exp(double(x[n * V + v]) - max);
    const double log_sum = std::log(sum);
    for (int64_t v = 0; v < V; ++v) {
      y[n * V + v] = static_cast<float>(double(x[n * V + v]) - max - log_sum);
    }
  }
}

void process(const DecodeState& state, std::span<const int32_t> active) {
  for (const int32_t slot : active) {
    const DecodeRules& rules = state.rules[slot];
    for (int32_t b = 0; b < rules.num_beams; ++b) {
      const int64_t row = rules.first_row + b;
      float* scores = state.logits + (state.logit_row[slot] + b) * state.vocab;
      if (rules.num_beams > 1) log_softmax(scores, 1, state.vocab, scores);
      const int32_t* ids = state.ids + row * state.capacity;
      process_row(rules, std::vector<int32_t>(ids, ids + state.lengths[row]), state.vocab, scores);
    }
  }
}

void select(const DecodeState& state, std::span<const int32_t> active) {
  for (const int32_t slot : active) {
    const DecodeRules& rules = state.rules[slot];
    std::vector<Candidate> all;
    for (int32_t b = 0; b < rules.num_beams; ++b) {
      const float* scores = state.logits + (state.logit_row[slot] + b) * state.vocab;
      const float add = rules.num_beams == 1 ? 0.0f : state.scores[rules.first_row + b];
      for (int32_t id = 0; id < state.vocab; ++id) {
        const float score = scores[id] + add;
        all.push_back({std::isnan(score) ? kMinusInfinity : score, b, id});
      }
    }
    all = best_of(std::move(all), rules.num_candidates());
    int64_t at = int64_t{rules.first_row} * kMaxCandidatesPerRow;
    for (const Candidate& candidate : all) {
      state.candidate_scores[at] = candidate.score;
      state.candidate_beams[at] = candidate.beam;
      state.candidate_ids[at++] = candidate.id;
    }
  }
}

void advance(const DecodeState& state, std::span<const int32_t> active) {
  for (const int32_t slot : active) {
    if (state.rules[slot].num_beams == 1) {
      advance_greedy(state, slot);
    } else {
      advance_beams(state, slot);
    }
  }
}

}  // namespace fuseq::inline v0::ref
