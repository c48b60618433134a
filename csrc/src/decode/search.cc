// SPDX-License-Identifier: Apache-2.0
// Search: the rows of requests, and logits from elsewhere.
#include "fuseq/search.h"

#include <algorithm>
#include <atomic>
#include <unordered_map>
#include <utility>

#include "base/message.h"
#include "decode/in_use.h"
#include "decode/request.h"
#include "decode/request_rows.h"
#include "fuseq/context.h"
#include "fuseq/copy.h"

namespace fuseq::inline v0 {
namespace {

/// A model of which only the vocabulary is known.
[[nodiscard]] TransformerSpec spec_of(int vocab) {
  TransformerSpec spec;
  spec.vocab = vocab;
  spec.decoder.layers = 1;
  spec.decoder.positions = Positions::none;
  return spec;
}

}  // namespace

struct Search::Impl {
  Impl(int vocab, const SessionOptions& options)
      : spec(spec_of(vocab)),
        ctx({.num_threads = options.num_threads}),
        rows(options.max_rows, vocab) {}

  [[nodiscard]] Request& find(const char* call, RequestId id) {
    const auto found = requests.find(id);
    require(found != requests.end(), call,
            ": request must be one of this search that was not taken, got ", id);
    return found->second;
  }
  void release_done() {
    rows.release_done([](Request&) {});
  }

  std::atomic<bool> in_use = false;  ///< a public call runs
  TransformerSpec spec;
  Context ctx;
  RequestRows rows;
  RequestId next_id = 1;
  std::unordered_map<RequestId, Request> requests;
};

Search::Search(int vocab, const SessionOptions& options) {
  require(vocab >= 1, "Search: vocab must be positive, got ", vocab);
  check_session_options("Search", options);
  impl_ = std::make_unique<Impl>(vocab, options);
}
Search::~Search() = default;
Search::Search(Search&&) noexcept = default;
Search& Search::operator=(Search&&) noexcept = default;

RequestId Search::add(std::span<const int32_t> prompt, const GenerationOptions& options,
                      std::optional<uint64_t> seed, int64_t sequence) {
  const InUse in_use(impl_->in_use, "add");
  require(!prompt.empty(), "prompt: must not be empty, got none");
  check_ids("prompt", prompt, impl_->spec.vocab, 0);
  Request request =
      make_request(impl_->spec, {.decoder_ids = prompt, .seed = seed, .sequence = sequence},
                   options, impl_->rows.max_rows());
  const DecodeRules& rules = request.rules;
  if (rules.mode == DecodeMode::contrastive) {
    fail(ErrorKind::unsupported, "penalty_alpha: contrastive search needs a model's hidden states");
  }
  const RequestId id = impl_->next_id++;
  request.id = id;
  if (rules.prompt_length >= rules.max_length) {
    finish_unstarted(request, StopReason::max_length);
    impl_->requests.emplace(id, std::move(request));
    return id;
  }
  require(impl_->rows.has_room(rules.num_rows), "add: must find ", rules.num_rows,
          " free rows, got none. Raise max_rows");
  impl_->rows.place(impl_->requests.emplace(id, std::move(request)).first->second);
  return id;
}

std::vector<Search::Row> Search::rows() const {
  std::vector<Row> result;
  const DecodeState& state = impl_->rows.state();
  (void)impl_->rows.begin_step();
  for (const int32_t slot : impl_->rows.active()) {
    const DecodeRules& rules = state.rules[slot];
    for (int32_t r = 0; r < rules.num_rows; ++r) {
      const int32_t row = rules.first_row + r;
      if (state.logit_row[row] < 0) continue;
      const int32_t length = state.lengths[row];
      const bool is_beam = rules.mode == DecodeMode::beams;
      const bool is_new = length == rules.prompt_length;
      result.push_back({.request = impl_->rows.owner(slot).id,
                        .index = r,
                        .parent = is_new ? 0 : (is_beam ? state.parents[row] : r),
                        .id = state.ids[row * state.capacity + length - 1],
                        .length = length});
    }
  }
  return result;
}

void Search::step(ConstView logits) {
  const InUse in_use(impl_->in_use, "step");
  RequestRows& rows = impl_->rows;
  const int64_t count = rows.begin_step();
  const Shape wanted{count, impl_->spec.vocab};
  require(logits.shape == wanted, "step: logits must have shape ", wanted, ", got ", logits.shape);
  if (count == 0) return;
  rows.reserve_logits();
  copy(logits, View(rows.state().logits, DType::f32, wanted));
  rows.choose(impl_->ctx);
  impl_->release_done();
}

std::vector<int32_t> Search::ids(RequestId id, int row) const {
  const Request& request = impl_->find("ids", id);
  require(request.state == RequestState::running, "ids: request must be running, got ", id);
  require(row >= 0 && row < request.rules.num_rows, "ids: row must be below ",
          request.rules.num_rows, ", got ", row);
  return impl_->rows.ids(request, row);
}

void Search::cancel(RequestId id) {
  const InUse in_use(impl_->in_use, "cancel");
  Request& request = impl_->find("cancel", id);
  if (request.state == RequestState::running) impl_->rows.cancel(request);
}

bool Search::is_finished(RequestId id) const {
  return impl_->find("is_finished", id).state == RequestState::finished;
}

std::vector<Hypothesis> Search::take(RequestId id) {
  const InUse in_use(impl_->in_use, "take");
  Request& found = impl_->find("take", id);
  require(found.state == RequestState::finished,
          "take: request must be finished, got one that is not: ", id);
  std::vector<Hypothesis> results = std::move(found.results);
  impl_->requests.erase(id);
  return results;
}

}  // namespace fuseq::inline v0
