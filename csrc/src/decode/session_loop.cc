// SPDX-License-Identifier: Apache-2.0
// One step of a session: admission, one pass of all rows, the choice of ids, the rows that leave.
#include <algorithm>
#include <numeric>

#include "base/context_impl.h"
#include "base/message.h"
#include "decode/session_impl.h"
#include "kernels/cpu/contrast.h"

namespace fuseq::inline v0 {
namespace {

/// Prompt tokens that enter in one step, sources included, so that scratch memory is bounded. One
/// request may be larger.
constexpr int64_t kMaxAdmittedTokens = 4096;

/// Source tokens that are encoded together, if as many wait: the encoder's weights are read once
/// for all of them. Rows are packed, so sources of any lengths go well together.
constexpr int64_t kEncodedTokens = 512;

}  // namespace

bool Session::Impl::step(const OnToken& on_token) {
  const auto leave = [this](Request& request) { release(request); };
  // What a step left that ended with an exception.
  rows.tell(on_token);
  rows.release_done(leave);
  admit();
  if (rows.begin_step() > 0) {
    const Arena::Scope scope(ctx.impl().arena);
    gather_rows();
    const View hidden = run_layers_of_pass();
    keep_hidden(hidden);
    choose(hidden);
    rows.tell(on_token);
    rows.release_done(leave);
  }
  return !rows.active().empty() || !queue.empty();
}

void Session::Impl::admit() {
  int64_t tokens = 0;
  while (!queue.empty()) {
    Request& request = requests.at(queue.front());
    const DecodeRules& rules = request.rules;
    if (rules.prompt_length >= rules.max_length) {  // Nothing to generate: the prompt, cut.
      queue.pop_front();
      finish_unstarted(request, StopReason::max_length);
      release(request);
      continue;
    }
    const int64_t length = request.source_length() + rules.prompt_length;
    if (tokens > 0 && tokens + length > kMaxAdmittedTokens) return;
    if (!rows.has_room(rules.num_rows)) return;
    tokens += length;
    try {
      prepare(request);
      rows.place(request);
    } catch (const Error& error) {
      if (!rows.active().empty()) return;  // those that run may give back what it needs
      throw Error(error.kind(), concat("request ", request.id, ": ", error.what()));
    }
    queue.pop_front();
  }
}

/// All that a request needs beside rows. Whatever throws here leaves it queued: the others go on,
/// and once nothing runs any more the error says which one cannot be placed.
void Session::Impl::prepare(Request& request) {
  const DecodeRules& rules = request.rules;
  if (request.self.data == nullptr) {
    request.self = acquire_self(rules.max_length, rules.prompt_length, rules.num_rows);
  }
  if (model.spec().is_seq2seq() && !request.is_encoded) encode_ahead();
  if (rules.mode == DecodeMode::contrastive) {
    const int64_t D = model.spec().decoder.dim;
    request.history = Tensor(DType::f32, {rules.max_length, D});
    request.candidates = Tensor(DType::f32, {rules.num_rows, D});
  }
}

/// Encodes the source of the first queued request, and of others behind it.
void Session::Impl::encode_ahead() {
  sources.clear();
  encoded.clear();
  int64_t tokens = 0;
  for (const RequestId id : queue) {
    Request& request = requests.at(id);
    const int64_t length = request.source_length();
    if (tokens >= kEncodedTokens || static_cast<int32_t>(sources.size()) >= rows.limit() ||
        (tokens > 0 && tokens + length > kMaxAdmittedTokens)) {
      break;
    }
    if (request.is_encoded || request.rules.prompt_length >= request.rules.max_length) continue;
    if (request.cross.data == nullptr) request.cross = acquire_cross(length);
    tokens += length;
    encoded.push_back(&request);
    sources.push_back({request.encoder_ids,
                       request.encoder_ids.empty() ? request.encoder_states.view() : ConstView(),
                       request.cross});
  }
  fill_cross(sources);
  for (Request* request : encoded) request->is_encoded = true;
}

void Session::Impl::gather_rows() {
  pass.clear();
  logit_rows.clear();
  for (const int32_t slot : rows.active()) {
    Request& request = rows.owner(slot);
    if (request.is_prefilled) {
      add_running(request);
    } else {
      add_prompt(request);
    }
  }
}

void Session::Impl::add_prompt(Request& request) {
  pass.begin_sequence(request.self, request.cross, nullptr, 0);
  for (size_t t = 0; t < request.prompt.size(); ++t) {
    pass.add(request.prompt[t], static_cast<int32_t>(t), 0,
             static_cast<int32_t>(request.source_length()));
  }
  // All rows begin alike: the last row of the prompt, once for each that wants it.
  const DecodeRules& rules = request.rules;
  const int32_t* wanted = rows.state().logit_row + rules.first_row;
  const auto count =
      std::count_if(wanted, wanted + rules.num_rows, [](int32_t r) { return r >= 0; });
  logit_rows.insert(logit_rows.end(), static_cast<size_t>(count),
                    static_cast<int32_t>(pass.size() - 1));
}

void Session::Impl::add_running(Request& request) {
  const DecodeState& state = rows.state();
  const DecodeRules& rules = request.rules;
  const int64_t C = state.capacity;
  const bool is_contrastive = rules.mode == DecodeMode::contrastive;
  bool is_open = false;  // neighbouring rows that run make one group
  for (int32_t r = 0; r < rules.num_rows; ++r) {
    const int64_t row = rules.first_row + r;
    if (state.logit_row[row] < 0) {
      is_open = false;
      continue;
    }
    if (!is_open) {
      const int32_t* lanes = rules.num_rows == 1 ? nullptr : state.lanes + row * C;
      pass.begin_sequence(request.self, request.cross, lanes, C);
      is_open = true;
    }
    const int32_t length = state.lengths[row];
    const int32_t position = is_contrastive ? length : length - 1;
    const int64_t candidate = int64_t{rules.first_row} * kMaxCandidatesPerRow + r;
    state.lanes[row * C + position] = r;
    logit_rows.push_back(static_cast<int32_t>(pass.size()));
    pass.add(is_contrastive ? state.candidate_ids[candidate] : state.ids[row * C + position],
             position, r, static_cast<int32_t>(request.source_length()));
  }
}

void Session::Impl::keep_hidden(ConstView hidden) {
  const auto normalize_row = FUSEQ_PICK(ctx.impl().isa, normalize_row);
  const int64_t D = hidden.dim(1);
  size_t sequence = 0;
  for (const int32_t slot : rows.active()) {
    Request& request = rows.owner(slot);
    if (request.rules.mode != DecodeMode::contrastive) continue;
    while (pass.sequences[sequence].self.data != request.self.data) ++sequence;  // it has one
    const PassSequence& s = pass.sequences[sequence];
    const View to = request.is_prefilled ? request.candidates.view() : request.history.view();
    const View kept(to.data, DType::f32, {s.num_rows, D});
    apply_final_norm(ConstView(hidden.as<float>() + s.first_row * D, DType::f32, {s.num_rows, D}),
                     kept);
    for (int64_t row = 0; row < s.num_rows; ++row) {
      normalize_row(kept.as<float>() + row * D, D, kept.as<float>() + row * D);
    }
  }
}

/// Logits are computed for all ids, but kept only where the best of them do not tell what to do.
void Session::Impl::choose(ConstView hidden) {
  const auto num_rows = static_cast<int64_t>(logit_rows.size());
  const DecodeState& state = rows.state();
  const int64_t count = has_plain_head(model.impl()) ? top_count(state, rows.active()) : 0;
  if (count > 0) {
    const Arena::Scope scope(ctx.impl().arena);
    const TopOutputs top =
        take_top_outputs(ctx.impl().arena, num_rows, count, needs_log_sums(state, rows.active()));
    head_top(ctx, model.impl(), hidden, logit_rows, top);
    if (rows.choose_from_top(ctx, top)) return;
  }
  rows.reserve_logits();
  head(ctx, model.impl(), hidden, logit_rows,
       View(state.logits, DType::f32, {num_rows, model.spec().vocab}));
  rows.choose(ctx);
}

void Session::Impl::release(Request& request) {
  if (request.self.data != nullptr) pool.give_back(request.self);
  if (request.cross.data != nullptr) pool.give_back(request.cross);
  request.history = {};
  request.candidates = {};
  request.encoder_states = {};
}

void Session::Impl::cancel(RequestId id) {
  Request& request = find("cancel", id);
  if (request.state == RequestState::running) {
    rows.cancel(request);
  } else if (request.state == RequestState::queued) {
    std::erase(queue, id);
    finish_unstarted(request, StopReason::canceled);
  }
  release(request);
}

void Session::Impl::drop_all() noexcept {
  queue.clear();
  for (auto& [id, request] : requests) {
    if (request.state == RequestState::running) rows.drop(request);
    release(request);
  }
  requests.clear();
}

}  // namespace fuseq::inline v0
