// SPDX-License-Identifier: Apache-2.0
// The Session that users hold.
#include "fuseq/session.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/context_impl.h"
#include "base/message.h"
#include "decode/session_impl.h"
#include "fuseq/copy.h"

namespace fuseq::inline v0 {

void DecoderRows::clear() {
  for (std::vector<int32_t>* column :
       {&ids, &positions, &key_counts, &append_lanes, &cross_key_counts})
    column->clear();
  sequences.clear();
}

void DecoderRows::begin_sequence(const KvRegion& self, const KvRegion& cross, const int32_t* lanes,
                                 int64_t lane_stride) {
  sequences.push_back({.first_row = size(),
                       .num_rows = 0,
                       .self = self,
                       .cross = cross,
                       .lanes = lanes,
                       .lane_stride = lane_stride});
}

void DecoderRows::add(int32_t id, int32_t position, int32_t lane, int32_t source_length) {
  ids.push_back(id);
  positions.push_back(position);
  key_counts.push_back(position + 1);
  append_lanes.push_back(lane);
  cross_key_counts.push_back(source_length);
  ++sequences.back().num_rows;
}

Session::Impl::Impl(const Model& model_, const SessionOptions& options_,
                    std::shared_ptr<const Model> owner_)
    : owner(std::move(owner_)),
      model(model_),
      options(options_),
      ctx({.device = model_.options().device,
           .num_threads =
               options_.num_threads > 0 ? options_.num_threads : model_.options().num_threads,
           .cpu_isa = model_.options().cpu_isa}),
      rows(options_.max_rows, model_.spec().vocab) {}

RequestId Session::Impl::enqueue(Request request) {
  const RequestId id = next_id++;
  request.id = id;
  requests.emplace(id, std::move(request));
  queue.push_back(id);
  return id;
}

Request& Session::Impl::find(const char* call, RequestId id) {
  const auto found = requests.find(id);
  require(found != requests.end(), call,
          ": request must be one of this session that was not taken, got ", id);
  return found->second;
}

Session::Impl::OpenSequence& Session::Impl::find_sequence(const char* call, RequestId id) {
  const auto found = sequences.find(id);
  require(found != sequences.end(), call, ": sequence must be open, got ", id);
  return found->second;
}

KvRegion Session::Impl::acquire_self(int64_t max_length, int64_t prefix_length, int64_t lanes) {
  const StackSpec& decoder = model.spec().decoder;
  return pool.acquire(
      KvGeometry(decoder, decoder.layers, max_length, prefix_length, lanes, cache_dtype()));
}

KvRegion Session::Impl::acquire_cross(int64_t source_length) {
  const StackSpec& decoder = model.spec().decoder;
  return pool.acquire(KvGeometry(decoder, decoder.layers, source_length, 0, 1, cache_dtype()));
}

void Session::Impl::fill_cross(std::span<const Source> all) {
  Arena& arena = ctx.impl().arena;
  const Arena::Scope scope(arena);
  const auto count = static_cast<int64_t>(all.size());
  const std::span<PassSequence> passes = arena.take<PassSequence>(count);
  const std::span<std::span<const int32_t>> texts = arena.take<std::span<const int32_t>>(count);
  int64_t N = 0;
  size_t num_texts = 0;
  size_t num_passes = 0;
  const auto add = [&](const Source& source, int64_t length) {
    passes[num_passes++] = {.first_row = N, .num_rows = length, .cross = source.cross};
    N += length;
  };
  for (const Source& source : all) {
    if (source.states) continue;
    texts[num_texts++] = source.ids;
    add(source, static_cast<int64_t>(source.ids.size()));
  }
  const int64_t num_encoded = N;
  for (const Source& source : all) {
    if (source.states) add(source, source.states.dim(0));
  }
  const int64_t D = model.spec().encoder.dim;
  const View states(arena.take<float>(N * D).data(), DType::f32, {N, D});
  encode_rows(ctx, model.impl(), texts.first(num_texts),
              {states.data, DType::f32, {num_encoded, D}});
  int64_t at = num_encoded;
  for (const Source& source : all) {
    if (!source.states) continue;
    const int64_t length = source.states.dim(0);
    copy(source.states, {states.as<float>() + at * D, DType::f32, {length, D}});
    at += length;
  }
  fill_cross_caches(ctx, model.spec().decoder, model.impl().weights.decoder, states, passes);
}

View Session::Impl::run_layers_of_pass() {
  const int64_t N = pass.size();
  const int64_t D = model.spec().decoder.dim;
  const View hidden(ctx.impl().arena.take<float>(N * D).data(), DType::f32, {N, D});
  decode_rows(ctx, model.impl(), pass.ids,
              {.sequences = pass.sequences,
               .positions = pass.positions,
               .key_counts = pass.key_counts,
               .append_lanes = pass.append_lanes,
               .cross_key_counts = pass.cross_key_counts},
              hidden);
  return hidden;
}

Tensor Session::Impl::run_whole_pass(Tensor* hidden) {
  const Arena::Scope scope(ctx.impl().arena);
  const View states = run_layers_of_pass();
  std::vector<int32_t> all(static_cast<size_t>(pass.size()));
  std::iota(all.begin(), all.end(), 0);
  Tensor logits(DType::f32, {pass.size(), model.spec().vocab});
  head(ctx, model.impl(), states, all, logits.view());
  if (hidden != nullptr) {
    *hidden = Tensor(DType::f32, states.shape);
    apply_final_norm(states, hidden->view());
  }
  return logits;
}

void Session::Impl::apply_final_norm(ConstView from, View to) {
  const StackSpec& decoder = model.spec().decoder;
  if (decoder.final_norm) {
    apply_norm(ctx, decoder, model.impl().weights.decoder.final_norm, from, to);
  } else {
    copy(from, to);
  }
}

Session::Session(std::shared_ptr<const Model> model, const SessionOptions& options) {
  require(model != nullptr, "Session: model must not be null");
  check_session_options("Session", options);
  const Model& borrowed = *model;
  impl_ = std::make_unique<Impl>(borrowed, options, std::move(model));
}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

RequestId Session::submit(const Prompt& prompt, const GenerationOptions& options) {
  const InUse in_use(impl_->in_use, "submit");
  return impl_->enqueue(make_request(model().spec(), prompt, options, impl_->options.max_rows));
}

bool Session::step(const OnToken& on_token) {
  const InUse in_use(impl_->in_use, "step");
  return impl_->step(on_token);
}
void Session::cancel(RequestId request) {
  const InUse in_use(impl_->in_use, "cancel");
  impl_->cancel(request);
}

bool Session::is_finished(RequestId request) const {
  return impl_->find("is_finished", request).state == RequestState::finished;
}

std::vector<int32_t> Session::ids(RequestId id, int draw) const {
  const Request& request = impl_->find("ids", id);
  require(request.rules.mode != DecodeMode::beams, "ids: request must be no beam search, got ", id);
  require(draw >= 0 && draw < request.num_return_sequences, "ids: draw must be below ",
          request.num_return_sequences, ", got ", draw);
  switch (request.state) {
    case RequestState::queued: return request.prompt;
    case RequestState::running: return impl_->rows.ids(request, draw);
    case RequestState::finished: break;
  }
  return request.results[static_cast<size_t>(draw)].ids;
}

std::vector<Hypothesis> Session::take(RequestId request) {
  const InUse in_use(impl_->in_use, "take");
  Request& found = impl_->find("take", request);
  require(found.state == RequestState::finished,
          "take: request must be finished, got one that is not: ", request);
  std::vector<Hypothesis> results = std::move(found.results);
  impl_->requests.erase(request);
  return results;
}

Tensor Session::encode(std::span<const std::span<const int32_t>> sources) {
  const InUse in_use(impl_->in_use, "encode");
  const TransformerSpec& spec = model().spec();
  require(spec.encoder.layers > 0, "encode: the model must have an encoder, got none");
  int64_t N = 0;
  for (const std::span<const int32_t> source : sources) {
    check_ids("encode", source, spec.vocab, max_positions(spec.encoder));
    N += static_cast<int64_t>(source.size());
  }
  Tensor states(DType::f32, {N, spec.encoder.dim});
  encode_rows(impl_->ctx, model().impl(), sources, states.view());
  return states;
}

void Session::release_memory() {
  const InUse in_use(impl_->in_use, "release_memory");
  impl_->pool.release_idle();
  impl_->rows.release_memory();
  impl_->ctx.release_memory();
}

int64_t Session::cache_bytes() const noexcept {
  return impl_->pool.num_bytes();
}
const Model& Session::model() const noexcept {
  return impl_->model;
}

}  // namespace fuseq::inline v0
