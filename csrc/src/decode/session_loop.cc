// SPDX-License-Identifier: Apache-2.0
// One step of a session: admission, the pass, the decode ops, the rows that leave.
#include <algorithm>
#include <numeric>

#include "base/context_impl.h"
#include "base/message.h"
#include "decode/session_impl.h"

namespace fuseq::inline v0 {
namespace {

/// Tokens that enter in one step, sources and prompts together, so that scratch memory is bounded.
/// One request may be larger.
constexpr int64_t kMaxAdmittedTokens = 4096;

constexpr float kOutOfTheRace = -1e9f;

[[nodiscard]] StopReason stop_reason(const DecodeRules& rules, int32_t last_id) {
  const std::span stop_ids(rules.stop_ids, static_cast<size_t>(rules.num_stop_ids));
  return std::ranges::find(stop_ids, last_id) != stop_ids.end() ? StopReason::stop_id
                                                                : StopReason::max_length;
}

}  // namespace

bool Session::Impl::step() {
  admit();
  DecodeState& state = arrays.state();
  int64_t running_rows = 0;
  for (const int32_t slot : active) {
    state.logit_row[slot] = static_cast<int32_t>(running_rows);
    running_rows += state.rules[slot].num_beams;
  }
  int64_t admitted_rows = 0;
  for (const Request* request : admitted) {
    state.logit_row[request->slot] = static_cast<int32_t>(running_rows + admitted_rows);
    admitted_rows += request->rules.num_beams;
  }
  if (running_rows + admitted_rows > 0) {
    arrays.reserve_logits(running_rows + admitted_rows);
    forward_running();
    prefill(running_rows);
    for (const Request* request : admitted) active.push_back(request->slot);
    admitted.clear();

    process(ctx, state, active);
    select(ctx, state, active);
    advance(ctx, state, active);
    std::erase_if(active, [&](int32_t slot) {
      if (state.done[slot] == 0) return false;
      finish(*slot_owner[static_cast<size_t>(slot)], false);
      return true;
    });
  }
  return !active.empty() || !queue.empty();
}

void Session::Impl::admit() {
  int64_t tokens = 0;
  while (!queue.empty()) {
    Request& request = requests.at(queue.front());
    if (request.rules.prompt_length >=
        request.rules.max_length) {  // Nothing to generate: the prompt, cut.
      queue.pop_front();
      request.prompt.resize(static_cast<size_t>(request.rules.max_length));
      request.results.assign(static_cast<size_t>(request.num_return_sequences),
                             {.ids = request.prompt});
      request.state = RequestState::finished;
      continue;
    }
    tokens += static_cast<int64_t>(request.encoder_ids.size() + request.prompt.size());
    if (tokens > kMaxAdmittedTokens && !admitted.empty()) return;
    const int32_t first_row = find_free_rows(request.rules.num_beams);
    if (first_row < 0) return;
    place(request, first_row);
    queue.pop_front();
    admitted.push_back(&request);
  }
}

int32_t Session::Impl::find_free_rows(int32_t count) const {
  int32_t run = 0;
  for (int32_t row = 0; row < arrays.state().num_rows; ++row) {
    run = row_used[static_cast<size_t>(row)] ? 0 : run + 1;
    if (run == count) return row - count + 1;
  }
  return -1;
}

void Session::Impl::place(Request& request, int32_t first_row) {
  DecodeRules& rules = request.rules;
  arrays.reserve_capacity(rules.max_length);
  DecodeState& state = arrays.state();
  request.self = acquire_self(rules.max_length, rules.prompt_length, rules.num_beams);
  if (!request.encoder_ids.empty())
    request.cross = acquire_cross(static_cast<int64_t>(request.encoder_ids.size()));
  request.slot = first_row;  // Slots are named by first rows: as many of both.
  request.state = RequestState::running;
  rules.first_row = first_row;
  rules.suppressed = request.suppressed.data();
  rules.biased = request.biased.data();
  slot_owner[static_cast<size_t>(request.slot)] = &request;
  state.rules[request.slot] = rules;
  state.improvable[request.slot] = 1;
  state.done[request.slot] = 0;
  for (int32_t row = first_row; row < first_row + rules.num_beams; ++row) {
    row_used[static_cast<size_t>(row)] = 1;
    state.lengths[row] = rules.prompt_length;
    state.scores[row] = row == first_row ? 0 : kOutOfTheRace;
    state.pool_lengths[row] = rules.prompt_length;
    state.pool_scores[row] = kOutOfTheRace;
    state.pool_done[row] = 0;
    std::ranges::copy(request.prompt, state.ids + row * state.capacity);
    std::ranges::copy(request.prompt, state.pool_ids + row * state.capacity);
    std::fill_n(state.lanes + row * state.capacity, rules.prompt_length, 0);
  }
}

void Session::Impl::forward_running() {
  if (active.empty()) return;
  DecodeState& state = arrays.state();
  const int64_t C = state.capacity;
  rows.clear();
  for (const int32_t slot : active) {
    const Request& request = *slot_owner[static_cast<size_t>(slot)];
    const DecodeRules& rules = state.rules[slot];
    rows.begin_sequence(request.self, request.cross,
                        rules.num_beams > 1 ? state.lanes + rules.first_row * C : nullptr, C);
    for (int32_t beam = 0; beam < rules.num_beams; ++beam) {
      const int64_t row = rules.first_row + beam;
      const int32_t position = state.lengths[row] - 1;
      state.lanes[row * C + position] = beam;
      rows.add(state.ids[row * C + position], position, beam,
               static_cast<int32_t>(request.encoder_ids.size()));
    }
  }
  logit_rows.resize(static_cast<size_t>(rows.size()));
  std::iota(logit_rows.begin(), logit_rows.end(), 0);
  run_rows(logit_rows, View(state.logits, DType::f32, {rows.size(), state.vocab}));
}

void Session::Impl::prefill(int64_t first_logit_row) {
  if (admitted.empty()) return;
  if (model.spec().is_seq2seq()) {
    std::vector<std::span<const int32_t>> sources;
    std::vector<KvRegion> cross;
    for (const Request* request : admitted) {
      sources.emplace_back(request->encoder_ids);
      cross.push_back(request->cross);
    }
    encode_sources(sources, cross);
  }
  rows.clear();
  logit_rows.clear();
  for (const Request* request : admitted) {
    rows.begin_sequence(request->self, request->cross, nullptr, 0);
    for (size_t t = 0; t < request->prompt.size(); ++t) {
      rows.add(request->prompt[t], static_cast<int32_t>(t), 0,
               static_cast<int32_t>(request->encoder_ids.size()));
    }
    // All beams begin alike: the last row of the prompt, once per beam.
    logit_rows.insert(logit_rows.end(), static_cast<size_t>(request->rules.num_beams),
                      static_cast<int32_t>(rows.size() - 1));
  }
  const DecodeState& state = arrays.state();
  run_rows(logit_rows, View(state.logits + first_logit_row * state.vocab, DType::f32,
                            {static_cast<int64_t>(logit_rows.size()), state.vocab}));
}

void Session::Impl::finish(Request& request, bool canceled) {
  const DecodeState& state = arrays.state();
  const DecodeRules& rules = request.rules;
  const auto add = [&](const int32_t* ids, int32_t length, float score) {
    Hypothesis& hypothesis = request.results.emplace_back();
    hypothesis.ids.assign(ids, ids + length);
    hypothesis.score = score;
    hypothesis.stop_reason = stop_reason(rules, hypothesis.ids.back());
    if (canceled && hypothesis.stop_reason != StopReason::stop_id)
      hypothesis.stop_reason = StopReason::canceled;
  };
  for (int32_t beam = 0; beam < request.num_return_sequences; ++beam) {
    const int64_t row = rules.first_row + beam;
    if (rules.num_beams > 1 && (state.pool_done[row] != 0 || !canceled)) {
      add(state.pool_ids + row * state.capacity, state.pool_lengths[row], state.pool_scores[row]);
    } else {
      add(state.ids + row * state.capacity, state.lengths[row],
          rules.num_beams > 1 ? state.scores[row] : 0);
    }
  }
  pool.give_back(request.self);
  if (request.cross.data != nullptr) pool.give_back(request.cross);
  std::fill_n(row_used.begin() + rules.first_row, rules.num_beams, uint8_t{0});
  slot_owner[static_cast<size_t>(request.slot)] = nullptr;
  request.state = RequestState::finished;
}

void Session::Impl::cancel(RequestId id) {
  Request& request = find("cancel", id);
  if (request.state == RequestState::running) {
    std::erase(active, request.slot);
    finish(request, true);
  } else if (request.state == RequestState::queued) {
    std::erase(queue, id);
    request.results.assign(static_cast<size_t>(request.num_return_sequences),
                           {.ids = request.prompt, .stop_reason = StopReason::canceled});
    request.state = RequestState::finished;
  }
}

}  // namespace fuseq::inline v0
