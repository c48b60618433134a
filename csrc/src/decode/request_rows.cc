// SPDX-License-Identifier: Apache-2.0
// Rows and slots: placing, one step, telling, results.
#include "decode/request_rows.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/context_impl.h"
#include "base/message.h"

namespace fuseq::inline v0 {
namespace {

constexpr float kOutOfTheRace = -1e9f;

}  // namespace

RequestRows::RequestRows(int32_t max_rows, int64_t vocab)
    : arrays_(max_rows, vocab),
      limit_(max_rows),
      slot_owner_(static_cast<size_t>(max_rows)),
      row_used_(static_cast<size_t>(max_rows)) {
  active_.reserve(static_cast<size_t>(max_rows));
}

int32_t RequestRows::find_free_rows(int32_t count) const {
  int32_t run = 0;
  for (int32_t row = 0; row < limit_; ++row) {
    run = row_used_[static_cast<size_t>(row)] ? 0 : run + 1;
    if (run == count) return row - count + 1;
  }
  return -1;
}

void RequestRows::place(Request& request) {
  DecodeRules& rules = request.rules;
  const int32_t first_row = find_free_rows(rules.num_rows);
  arrays_.reserve_capacity(rules.max_length);
  request.told.assign(static_cast<size_t>(rules.num_rows), rules.prompt_length);
  DecodeState& state = arrays_.state();
  request.slot = first_row;  // Slots are named by first rows: as many of both.
  request.state = RequestState::running;
  rules.first_row = first_row;
  rules.suppressed = request.suppressed.data();
  rules.biased = request.biased.data();
  rules.stop_strings = request.stop_strings.strings.empty() ? nullptr : &request.stop_strings;
  slot_owner_[static_cast<size_t>(request.slot)] = &request;
  state.rules[request.slot] = rules;
  state.improvable[request.slot] = 1;
  state.done[request.slot] = 0;
  state.winner[request.slot] = 0;
  state.has_tried[request.slot] = 0;
  state.contrast[request.slot] = {request.history.as<float>(), request.candidates.as<float>(),
                                  request.history.shape().dim(-1)};
  const std::span<const int32_t> prompt(request.prompt);
  for (int32_t row = first_row; row < first_row + rules.num_rows; ++row) {
    const int64_t cell = row * state.capacity;
    row_used_[static_cast<size_t>(row)] = 1;
    state.lengths[row] = rules.prompt_length;
    state.scores[row] = row == first_row ? 0 : kOutOfTheRace;
    state.parents[row] = 0;
    state.stops[row] = Stop::none;
    state.pool_lengths[row] = rules.prompt_length;
    state.pool_scores[row] = kOutOfTheRace;
    state.pool_stops[row] = Stop::none;
    std::ranges::copy(prompt, state.ids + cell);
    std::ranges::copy(prompt, state.pool_ids + cell);
    std::fill_n(state.lanes + cell, rules.prompt_length, 0);
  }
  active_.push_back(request.slot);
}

int64_t RequestRows::begin_step() {
  DecodeState& state = arrays_.state();
  int32_t count = 0;
  for (const int32_t slot : active_) {
    const DecodeRules& rules = state.rules[slot];
    const bool is_prefilled = owner(slot).is_prefilled;
    const bool is_contrastive = rules.mode == DecodeMode::contrastive;
    state.has_tried[slot] = is_contrastive && is_prefilled;
    // Contrastive search begins with the prompt's last row, then tries a candidate in each row.
    const int32_t wanted = is_contrastive && !is_prefilled ? 1 : rules.num_rows;
    for (int32_t r = 0; r < rules.num_rows; ++r) {
      const int32_t row = rules.first_row + r;
      const bool runs = r < wanted && (!rules.has_free_rows() || state.stops[row] == Stop::none);
      state.logit_row[row] = runs ? count++ : -1;
    }
  }
  num_step_rows_ = count;
  return count;
}

void RequestRows::reserve_logits() {
  const DecodeState& state = arrays_.state();
  const bool with_model_logits =
      std::ranges::any_of(active_, [&](int32_t slot) { return state.rules[slot].return_scores; });
  arrays_.reserve_logits(num_step_rows_, with_model_logits);
}

bool RequestRows::choose_from_top(Context& ctx, const TopOutputs& top) {
  const DecodeState& state = arrays_.state();
  if (!select_top(ctx, state, active_, top)) return false;
  take_candidates(ctx);
  return true;
}

void RequestRows::choose(Context& ctx) {
  const DecodeState& state = arrays_.state();
  external_slots_.clear();
  other_slots_.clear();
  for (const int32_t slot : active_) {
    const bool is_external = state.rules[slot].mode == DecodeMode::external;
    (is_external ? external_slots_ : other_slots_).push_back(slot);
  }
  process(ctx, state, external_slots_);
  choose_externally(ctx);  // may throw: nothing but logits has changed
  contrast(ctx, state, other_slots_);
  process(ctx, state, other_slots_);
  select(ctx, state, active_);
  take_candidates(ctx);
}

void RequestRows::take_candidates(Context& ctx) {
  advance(ctx, arrays_.state(), active_);
  for (const int32_t slot : active_) owner(slot).is_prefilled = true;
}

void RequestRows::choose_externally(Context& ctx) {
  DecodeState& state = arrays_.state();
  std::vector<int32_t>& slots = external_slots_;
  std::ranges::stable_sort(slots, {}, [&](int32_t slot) { return state.rules[slot].sequence; });
  while (!slots.empty()) {  // all requests that share the first one's sampler and temperature
    const Request& first = owner(slots.front());
    const auto shares = [&](int32_t slot) {
      return owner(slot).sampler == first.sampler &&
             owner(slot).rules.filter.temperature == first.rules.filter.temperature;
    };
    external_rows_.clear();
    for (const int32_t slot : slots) {
      const DecodeRules& rules = state.rules[slot];
      for (int32_t row = rules.first_row; row < rules.first_row + rules.num_rows; ++row) {
        if (shares(slot) && state.logit_row[row] >= 0) external_rows_.push_back(row);
      }
    }
    const auto B = static_cast<int64_t>(external_rows_.size());
    const Arena::Scope scope(ctx.impl().arena);
    const std::span<float> p = ctx.impl().arena.take<float>(B * state.vocab);
    const std::span<int32_t> ids = ctx.impl().arena.take<int32_t>(B);
    std::ranges::fill(ids, -1);
    probabilities(ctx, state, external_rows_, first.rules.filter.temperature, p.data());
    first.sampler->choose({p.data(), DType::f32, {B, state.vocab}}, ids);
    for (size_t i = 0; i < ids.size(); ++i) {
      require(ids[i] >= 0 && ids[i] < state.vocab, "sampler: ids must be in 0 ... ",
              state.vocab - 1, ", got ", ids[i], " for row ", i);
      const int64_t candidate = int64_t{external_rows_[i]} * kMaxCandidatesPerRow;
      state.candidate_ids[candidate] = ids[i];
      state.candidate_beams[candidate] = 0;
    }
    std::erase_if(slots, shares);
  }
}

void RequestRows::tell(const OnToken& on_token) {
  if (!on_token) return;
  DecodeState& state = arrays_.state();
  for (const int32_t slot : active_) {
    Request& request = owner(slot);
    const DecodeRules& rules = state.rules[slot];
    if (rules.mode == DecodeMode::beams) continue;
    if (rules.mode == DecodeMode::contrastive) {
      tell_row(request, rules.first_row, on_token);
    } else {
      for (int32_t row = rules.first_row; row < rules.first_row + rules.num_rows; ++row) {
        tell_row(request, row, on_token);
      }
    }
  }
}

void RequestRows::tell_row(Request& request, int32_t row, const OnToken& on_token) {
  DecodeState& state = arrays_.state();
  const int32_t draw = row - request.rules.first_row;
  int32_t& told = request.told[static_cast<size_t>(draw)];
  if (told == state.lengths[row]) return;
  const int32_t id = state.ids[row * state.capacity + told++];  // at most one is new
  NewToken token{
      .request = request.id, .row = request.place * request.num_return_sequences + draw, .id = id};
  if (request.token_bytes != nullptr) {
    request.texts.resize(static_cast<size_t>(request.rules.num_rows));
    const bool is_last = state.stops[row] != Stop::none;
    token.text = request.texts[static_cast<size_t>(draw)].push((*request.token_bytes)[id], is_last);
  }
  if (!on_token(token) || state.stops[row] != Stop::none) return;
  state.stops[row] = Stop::callback;
  const DecodeRules& rules = request.rules;
  const Stop* stops = state.stops + rules.first_row;
  const int32_t ends = rules.has_free_rows() ? rules.num_rows : 1;
  state.done[request.slot] =
      std::none_of(stops, stops + ends, [](Stop s) { return s == Stop::none; });
}

void RequestRows::release_done(const std::function<void(Request&)>& left) {
  const DecodeState& state = arrays_.state();
  for (const int32_t slot : active_) {  // may throw: all stay
    if (state.done[slot] != 0) collect(owner(slot), false);
  }
  std::erase_if(active_, [&](int32_t slot) {
    if (state.done[slot] == 0) return false;
    Request& request = owner(slot);
    free_rows(request);
    left(request);
    return true;
  });
}

void RequestRows::cancel(Request& request) {
  collect(request, true);
  drop(request);
}

void RequestRows::drop(Request& request) noexcept {
  std::erase(active_, request.slot);
  free_rows(request);
}

void RequestRows::free_rows(Request& request) noexcept {
  const DecodeRules& rules = request.rules;
  std::fill_n(row_used_.begin() + rules.first_row, rules.num_rows, uint8_t{0});
  slot_owner_[static_cast<size_t>(request.slot)] = nullptr;
  request.state = RequestState::finished;
}

void RequestRows::collect(Request& request, bool canceled) const {
  const DecodeState& state = arrays_.state();
  const DecodeRules& rules = request.rules;
  const bool is_beams = rules.mode == DecodeMode::beams;
  const int32_t P = rules.prompt_length;
  request.results.clear();
  int32_t num_finished = is_beams ? rules.num_rows : 0;
  if (canceled) {  // finished hypotheses first, then the best that run
    const Stop* stops = state.pool_stops + rules.first_row;
    while (num_finished > 0 && stops[num_finished - 1] == Stop::none) --num_finished;
  }
  for (int32_t i = 0; i < request.num_return_sequences; ++i) {
    const bool from_pool = i < num_finished;
    const int64_t row = rules.first_row + (from_pool ? i : i - num_finished);
    const int64_t cell = row * state.capacity;
    const int32_t* ids = (from_pool ? state.pool_ids : state.ids) + cell;
    const float* log_probs = (from_pool ? state.pool_log_probs : state.log_probs) + cell;
    const int32_t length = (from_pool ? state.pool_lengths : state.lengths)[row];
    Stop stop = (from_pool ? state.pool_stops : state.stops)[row];
    // A beam that is only in the pool for lack of others is as long as it may be, or the prompt
    // where no id had a score above -inf.
    if (stop == Stop::none) stop = canceled ? Stop::canceled : Stop::max_length;

    Hypothesis& hypothesis = request.results.emplace_back();
    hypothesis.ids.assign(ids, ids + length);
    hypothesis.prompt_length = P;
    hypothesis.stop_reason = static_cast<StopReason>(stop);
    if (rules.return_scores) hypothesis.token_log_probs.assign(log_probs + P, log_probs + length);
    if (from_pool) {
      hypothesis.score = state.pool_scores[row];
    } else if (is_beams) {
      hypothesis.score = length > P ? state.scores[row] / rules.length_factor(length - P) : 0;
    } else {
      hypothesis.score = std::accumulate(hypothesis.token_log_probs.begin(),
                                         hypothesis.token_log_probs.end(), 0.0f);
    }
  }
}

std::vector<int32_t> RequestRows::ids(const Request& request, int row) const {
  const DecodeState& state = arrays_.state();
  const int64_t at = request.rules.first_row + row;
  const int32_t* ids = state.ids + at * state.capacity;
  return {ids, ids + state.lengths[at]};
}

void RequestRows::release_memory() {
  if (active_.empty()) arrays_.release_logits();
}

}  // namespace fuseq::inline v0
