// SPDX-License-Identifier: Apache-2.0
// The truth for log_softmax, contrast, process, select and advance: plain loops, one rule after the
// other.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "kernels/ref/decode_ops_ref.h"

namespace fuseq::inline v0::ref {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

Stop stop_of(const DecodeRules& rules, const std::vector<int32_t>& row, int32_t id) {
  for (int32_t i = 0; i < rules.num_stop_ids; ++i) {
    if (rules.stop_ids[i] == id) return Stop::stop_id;
  }
  if (rules.stop_strings != nullptr) {
    std::string before;
    for (size_t t = static_cast<size_t>(rules.prompt_length); t < row.size(); ++t) {
      before += (*rules.stop_strings->table)[row[t]];
    }
    const std::string after = before + std::string((*rules.stop_strings->table)[id]);
    for (const std::string& string : rules.stop_strings->strings) {
      for (size_t at = 0; (at = after.find(string, at)) != std::string::npos; ++at) {
        if (at + string.size() > before.size()) return Stop::stop_string;
      }
    }
  }
  return static_cast<int32_t>(row.size()) + 1 >= rules.max_length ? Stop::max_length : Stop::none;
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
  float log_prob;
};

struct PoolEntry {
  float score;
  Stop stop;
  std::vector<int32_t> ids;
  std::vector<float> log_probs;
};

/// The `count` best, equal ones in their old order.
template <typename Entry>
std::vector<Entry> best_of(std::vector<Entry> entries, int32_t count) {
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.score > b.score; });
  entries.resize(static_cast<size_t>(count));
  return entries;
}

std::vector<int32_t> row_of(const DecodeState& state, int64_t row) {
  const int32_t* ids = state.ids + row * state.capacity;
  return {ids, ids + state.lengths[row]};
}

void advance_free(const DecodeState& state, int32_t slot) {
  const DecodeRules& rules = state.rules[slot];
  bool all = true;
  for (int64_t row = rules.first_row; row < rules.first_row + rules.num_rows; ++row) {
    if (state.logit_row[row] < 0) continue;
    const int32_t T = state.lengths[row];
    const int32_t id = state.candidate_ids[row * kMaxCandidatesPerRow];
    state.stops[row] = stop_of(rules, row_of(state, row), id);
    state.ids[row * state.capacity + T] = id;
    if (rules.return_scores) {
      state.log_probs[row * state.capacity + T] =
          state.candidate_log_probs[row * kMaxCandidatesPerRow];
    }
    state.lengths[row] = T + 1;
    all = all && state.stops[row] != Stop::none;
  }
  state.done[slot] = all;
}

void advance_beams(const DecodeState& state, int32_t slot) {
  const DecodeRules& rules = state.rules[slot];
  const int32_t W = rules.num_rows;
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
  std::vector<std::vector<float>> log_probs;
  std::vector<PoolEntry> pool;
  for (int64_t row = first; row < first + W; ++row) {
    ids.push_back(row_of(state, row));
    lanes.emplace_back(state.lanes + row * C, state.lanes + row * C + T);
    log_probs.emplace_back(state.log_probs + row * C, state.log_probs + row * C + T);
    const int32_t length = state.pool_lengths[row];
    const int32_t* entry = state.pool_ids + row * C;
    const float* entry_log_probs = state.pool_log_probs + row * C;
    pool.push_back({state.pool_scores[row], state.pool_stops[row],
                    std::vector<int32_t>(entry, entry + length),
                    std::vector<float>(entry_log_probs, entry_log_probs + length)});
  }
  const bool was_full =
      std::all_of(pool.begin(), pool.end(), [](auto& e) { return e.stop != Stop::none; });

  std::vector<Candidate> running;
  bool all_hit = true;
  for (int32_t c = 0; c < K; ++c) {
    const int64_t at = first * kMaxCandidatesPerRow + c;
    const Candidate candidate = {state.candidate_scores[at], state.candidate_beams[at],
                                 state.candidate_ids[at], state.candidate_log_probs[at]};
    const auto parent = static_cast<size_t>(candidate.beam);
    const Stop stop = stop_of(rules, ids[parent], candidate.id);
    const bool hit = stop != Stop::none;
    all_hit = all_hit && hit;
    running.push_back({candidate.score + (hit ? -1e9f : 0.0f), candidate.beam, candidate.id,
                       state.candidate_log_probs[at]});

    float score = candidate.score / power(T + 1 - P);
    if (rules.early_stopping == EarlyStopping::yes && was_full) score += -1e9f;
    if (state.improvable[slot] == 0) score += -1e9f;
    if (!(hit && c < W)) score += -1e9f;
    PoolEntry entry{score, c < W ? stop : Stop::none, ids[parent], log_probs[parent]};
    entry.ids.push_back(candidate.id);
    entry.log_probs.push_back(state.candidate_log_probs[at]);
    pool.push_back(std::move(entry));
  }
  pool = best_of(std::move(pool), W);
  running = best_of(std::move(running), W);

  float worst = std::numeric_limits<float>::infinity();
  for (int32_t b = 0; b < W; ++b) {
    const int64_t row = first + b;
    const PoolEntry& entry = pool[static_cast<size_t>(b)];
    state.pool_scores[row] = entry.score;
    state.pool_stops[row] = entry.stop;
    state.pool_lengths[row] = static_cast<int32_t>(entry.ids.size());
    std::copy(entry.ids.begin(), entry.ids.end(), state.pool_ids + row * C);
    std::copy(entry.log_probs.begin(), entry.log_probs.end(), state.pool_log_probs + row * C);
    worst = std::min(worst, entry.score);

    const Candidate& next = running[static_cast<size_t>(b)];
    const auto parent = static_cast<size_t>(next.beam);
    std::copy(ids[parent].begin(), ids[parent].end(), state.ids + row * C);
    std::copy(lanes[parent].begin(), lanes[parent].end(), state.lanes + row * C);
    std::copy(log_probs[parent].begin(), log_probs[parent].end(), state.log_probs + row * C);
    state.ids[row * C + T] = next.id;
    state.log_probs[row * C + T] = next.log_prob;
    state.parents[row] = next.beam;
    state.lengths[row] = T + 1;
    state.scores[row] = next.score;
  }

  const bool looks_ahead = rules.early_stopping == EarlyStopping::never && rules.length_penalty > 0;
  const float best = running[0].score / power((looks_ahead ? rules.max_length : T + 1) - P);
  bool can_win = false;
  bool is_full = true;
  for (const PoolEntry& entry : pool) {
    can_win = can_win || best > (entry.stop != Stop::none ? worst : -1e9f);
    is_full = is_full && entry.stop != Stop::none;
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

void contrast(const DecodeState& state, std::span<const int32_t> active) {
  for (const int32_t slot : active) {
    const DecodeRules& rules = state.rules[slot];
    if (rules.mode != DecodeMode::contrastive || state.has_tried[slot] == 0) continue;
    const ContrastRows& hidden = state.contrast[slot];
    const int32_t T = state.lengths[rules.first_row];
    const int64_t first = int64_t{rules.first_row} * kMaxCandidatesPerRow;
    int32_t winner = 0;
    double best = -std::numeric_limits<double>::infinity();
    for (int32_t c = 0; c < rules.num_rows; ++c) {
      if (state.candidate_scores[first + c] < 0) continue;  // hidden
      double likeness = -std::numeric_limits<double>::infinity();
      for (int32_t t = 0; t < T; ++t) {
        double product = 0;
        for (int64_t d = 0; d < hidden.dim; ++d) {
          product += double(hidden.candidates[c * hidden.dim + d]) *
                     double(hidden.history[t * hidden.dim + d]);
        }
        likeness = std::max(likeness, product);
      }
      const double alpha = rules.penalty_alpha;
      const double score =
          (1 - alpha) * double(state.candidate_scores[first + c]) - alpha * likeness;
      if (score > best) {
        best = score;
        winner = c;
      }
    }
    const int32_t id = state.candidate_ids[first + winner];
    const Stop stop = stop_of(rules, row_of(state, rules.first_row), id);
    std::copy_n(hidden.candidates + winner * hidden.dim, hidden.dim,
                hidden.history + T * hidden.dim);
    for (int64_t row = rules.first_row; row < rules.first_row + rules.num_rows; ++row) {
      state.ids[row * state.capacity + T] = id;
      state.lanes[row * state.capacity + T] = winner;
      state.log_probs[row * state.capacity + T] = state.candidate_log_probs[first + winner];
      state.lengths[row] = T + 1;
      state.stops[row] = stop;
    }
    state.winner[slot] = winner;
    state.done[slot] = stop != Stop::none;
  }
}

void process(const DecodeState& state, std::span<const int32_t> active) {
  for (const int32_t slot : active) {
    const DecodeRules& rules = state.rules[slot];
    if (state.done[slot] != 0) continue;
    for (int32_t b = 0; b < rules.num_rows; ++b) {
      const int64_t row = rules.first_row + b;
      if (state.logit_row[row] < 0) continue;
      if (rules.mode == DecodeMode::contrastive && b != state.winner[slot]) continue;
      float* scores = state.logits + state.logit_row[row] * state.vocab;
      if (rules.return_scores) {
        std::copy_n(scores, state.vocab, state.model_logits + state.logit_row[row] * state.vocab);
      }
      if (rules.mode == DecodeMode::beams) {
        for (int64_t id = 0; id < state.vocab; ++id) scores[id] *= 1.0f / rules.filter.temperature;
        log_softmax(scores, 1, state.vocab, scores);
      }
      process_row(rules, row_of(state, row), state.vocab, scores);
    }
  }
}

float log_prob_of(const DecodeState& state, int64_t row, int32_t id) {
  std::vector<float> log_probs(static_cast<size_t>(state.vocab));
  log_softmax(state.model_logits + state.logit_row[row] * state.vocab, 1, state.vocab,
              log_probs.data());
  return log_probs[static_cast<size_t>(id)];
}

/// The best `count` of the listed rows' scores, `add` added, written as candidates from `first` on.
void select_best(const DecodeState& state, const DecodeRules& rules, int32_t begin, int32_t end,
                 int32_t count, int64_t first) {
  std::vector<Candidate> all;
  for (int32_t b = begin; b < end; ++b) {
    const int64_t row = rules.first_row + b;
    const float* scores = state.logits + state.logit_row[row] * state.vocab;
    const float add = rules.mode == DecodeMode::beams ? state.scores[row] : 0.0f;
    for (int32_t id = 0; id < state.vocab; ++id) {
      const float score = scores[id] + add;
      all.push_back({std::isnan(score) ? kMinusInfinity : score, b, id, 0});
    }
  }
  all = best_of(std::move(all), count);
  for (const Candidate& candidate : all) {
    state.candidate_scores[first] = candidate.score;
    state.candidate_beams[first] = candidate.beam;
    state.candidate_ids[first++] = candidate.id;
  }
}

void select(const DecodeState& state, std::span<const int32_t> active) {
  for (const int32_t slot : active) {
    const DecodeRules& rules = state.rules[slot];
    if (state.done[slot] != 0) continue;
    const int64_t first = int64_t{rules.first_row} * kMaxCandidatesPerRow;
    switch (rules.mode) {
      case DecodeMode::greedy:
      case DecodeMode::beams:
        select_best(state, rules, 0, rules.num_rows, rules.num_candidates(), first);
        break;
      case DecodeMode::contrastive: {
        const int32_t winner = state.winner[slot];
        select_best(state, rules, winner, winner + 1, rules.num_rows, first);
        const float* scores =
            state.logits + state.logit_row[rules.first_row + winner] * state.vocab;
        std::vector<double> p(scores, scores + state.vocab);
        double sum = 0;
        for (double& x : p) {
          x = std::exp((x - double(state.candidate_scores[first])) /
                       double(rules.filter.temperature));
          sum += x;
        }
        for (int64_t c = first; c < first + rules.num_rows; ++c) {
          const auto id = static_cast<size_t>(state.candidate_ids[c]);
          const bool is_hidden = c > first && std::isinf(scores[id]) && scores[id] < 0;
          state.candidate_scores[c] = is_hidden ? -1.0f : static_cast<float>(p[id] / sum);
        }
        break;
      }
      case DecodeMode::sample:
      case DecodeMode::external: break;  // draws: ref::draw
    }
    if (!rules.return_scores) continue;
    for (int64_t c = first; c < first + rules.num_candidates(); ++c) {
      state.candidate_log_probs[c] =
          log_prob_of(state, rules.first_row + state.candidate_beams[c], state.candidate_ids[c]);
    }
  }
}

void advance(const DecodeState& state, std::span<const int32_t> active) {
  for (const int32_t slot : active) {
    if (state.done[slot] != 0) continue;
    if (state.rules[slot].mode == DecodeMode::beams) {
      advance_beams(state, slot);
    } else if (state.rules[slot].mode != DecodeMode::contrastive) {
      advance_free(state, slot);
    }
  }
}

// ---- draws --------------------------------------------------------------------------------------

std::array<uint32_t, 4> philox(uint64_t seed, const uint32_t (&counter)[4]) {
  uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]};
  uint32_t k0 = static_cast<uint32_t>(seed);
  uint32_t k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xd2511f53u} * c[0];
    const uint64_t b = uint64_t{0xcd9e8d57u} * c[2];
    const uint32_t next[4] = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(b),
                              static_cast<uint32_t>(a >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(a)};
    std::copy(next, next + 4, c);
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  return {c[0], c[1], c[2], c[3]};
}

uint32_t noise_word(const DrawKey& key, int32_t id) {
  const auto block = static_cast<uint32_t>(id / 64 * 16 + id % 16);
  return philox(key.seed,
                {block, key.step, key.sample, key.sequence})[static_cast<size_t>(id / 16 % 4)];
}

std::vector<NoisyId> draw(std::span<const float> row, const DrawFilter& filter,
                          const DrawKey& key) {
  struct Entry {
    float score;
    int32_t id;
    double p;
  };
  std::vector<Entry> entries;
  for (const float x : row) {
    const auto id = static_cast<int32_t>(entries.size());
    entries.push_back({std::isnan(x) ? kMinusInfinity : x, id, 0});
  }
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.score > b.score; });
  const float best = entries[0].score;
  const auto normalize = [&] {
    double sum = 0;
    for (Entry& e : entries) {
      e.p = std::exp((double(e.score) - double(best)) / double(filter.temperature));
      sum += e.p;
    }
    for (Entry& e : entries) e.p /= sum;
  };
  normalize();
  if (filter.top_k > 0 && filter.top_k < static_cast<int32_t>(entries.size())) {
    entries.resize(static_cast<size_t>(filter.top_k));
    if (!filter.top_p_of_all) normalize();
  }
  if (filter.top_p < 1) {
    double sum = 0;
    size_t count = 0;
    while (count < entries.size()) {
      sum += entries[count++].p;
      if (filter.top_p_of_all ? sum > double(filter.top_p) : sum >= double(filter.top_p)) break;
    }
    entries.resize(count);
  }
  while (entries.back().p < double(filter.min_p) * entries[0].p) entries.pop_back();
  std::vector<NoisyId> noisy;
  for (const Entry& e : entries) {
    const double v = (double(noise_word(key, e.id)) + 0.5) / 4294967296.0;
    const double gumbel = -std::log(-std::log1p(-v));
    noisy.push_back({(double(e.score) - double(best)) / double(filter.temperature) + gumbel, e.id});
  }
  std::stable_sort(noisy.begin(), noisy.end(),
                   [](const NoisyId& a, const NoisyId& b) { return a.score > b.score; });
  return noisy;
}

}  // namespace fuseq::inline v0::ref
