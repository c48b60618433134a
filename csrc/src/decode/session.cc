// SPDX-License-Identifier: Apache-2.0
// The Session that users hold.
#include "fuseq/session.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/context_impl.h"
#include "base/message.h"
#include "decode/session_impl.h"

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
      arrays(options_.max_rows, model_.spec().vocab),
      slot_owner(static_cast<size_t>(options_.max_rows)),
      row_used(static_cast<size_t>(options_.max_rows)) {}

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

KvRegion Session::Impl::acquire_self(int64_t max_length, int64_t prefix_length, int64_t lanes) {
  const StackSpec& decoder = model.spec().decoder;
  return pool.acquire(
      KvGeometry(decoder, decoder.layers, max_length, prefix_length, lanes, model.dtype()));
}

KvRegion Session::Impl::acquire_cross(int64_t source_length) {
  const StackSpec& decoder = model.spec().decoder;
  return pool.acquire(KvGeometry(decoder, decoder.layers, source_length, 0, 1, model.dtype()));
}

void Session::Impl::encode_sources(std::span<const std::span<const int32_t>> sources,
                                   std::span<const KvRegion> cross) {
  Arena& arena = ctx.impl().arena;
  const Arena::Scope scope(arena);
  const std::span<PassSequence> passes =
      arena.take<PassSequence>(static_cast<int64_t>(sources.size()));
  int64_t N = 0;
  for (size_t i = 0; i < sources.size(); ++i) {
    const auto length = static_cast<int64_t>(sources[i].size());
    passes[i] = {.first_row = N, .num_rows = length, .cross = cross[i]};
    N += length;
  }
  const int64_t D = model.spec().encoder.dim;
  const View states(arena.take<float>(N * D).data(), DType::f32, {N, D});
  encode_rows(ctx, model.impl(), sources, states);
  fill_cross_caches(ctx, model.spec().decoder, model.impl().weights.decoder, states, passes);
}

void Session::Impl::run_rows(std::span<const int32_t> wanted, View logits) {
  Arena& arena = ctx.impl().arena;
  const Arena::Scope scope(arena);
  const int64_t D = model.spec().decoder.dim;
  const View hidden(arena.take<float>(rows.size() * D).data(), DType::f32, {rows.size(), D});
  decode_rows(ctx, model.impl(), rows.ids,
              {.sequences = rows.sequences,
               .positions = rows.positions,
               .key_counts = rows.key_counts,
               .append_lanes = rows.append_lanes,
               .cross_key_counts = rows.cross_key_counts},
              hidden);
  head(ctx, model.impl(), hidden, wanted, logits);
}

Session::Session(std::shared_ptr<const Model> model, const SessionOptions& options) {
  require(model != nullptr, "Session: model must not be null");
  constexpr int kMaxRows = 4096;
  require(options.max_rows >= 1 && options.max_rows <= kMaxRows,
          "Session: max_rows must be in 1 ... ", kMaxRows, ", got ", options.max_rows);
  const Model& borrowed = *model;
  impl_ = std::make_unique<Impl>(borrowed, options, std::move(model));
}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

RequestId Session::submit(const Prompt& prompt, const GenerationOptions& options) {
  return impl_->enqueue(make_request(model().spec(), prompt, options, impl_->options.max_rows));
}

bool Session::step() {
  return impl_->step();
}
void Session::cancel(RequestId request) {
  impl_->cancel(request);
}

bool Session::is_finished(RequestId request) const {
  return impl_->find("is_finished", request).state == RequestState::finished;
}

std::vector<Hypothesis> Session::take(RequestId request) {
  Request& found = impl_->find("take", request);
  require(found.state == RequestState::finished,
          "take: request must be finished, got one that is not: ", request);
  std::vector<Hypothesis> results = std::move(found.results);
  impl_->requests.erase(request);
  return results;
}

Tensor Session::encode(std::span<const std::span<const int32_t>> sources) {
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

RequestId Session::open(std::span<const int32_t> encoder_ids, int max_length) {
  const TransformerSpec& spec = model().spec();
  require(spec.decoder.layers > 0, "open: the model must have a decoder, got an encoder alone");
  require(spec.is_seq2seq() != encoder_ids.empty(), "open: encoder_ids must be ",
          spec.is_seq2seq() ? "given" : "empty", " for this model, got ", encoder_ids.size(),
          " ids");
  const int64_t bound = max_positions(spec.decoder);
  require(max_length > 0 && (bound == 0 || max_length <= bound),
          "open: max_length must be positive", bound ? " and fit the position table" : "", ", got ",
          max_length);
  check_ids("encoder_ids", encoder_ids, spec.vocab, max_positions(spec.encoder));

  Impl::OpenSequence sequence{.source_length = static_cast<int32_t>(encoder_ids.size()),
                              .max_length = max_length};
  if (!encoder_ids.empty()) {
    sequence.cross = impl_->acquire_cross(sequence.source_length);
    impl_->encode_sources({&encoder_ids, 1}, {&sequence.cross, 1});
  }
  sequence.self = impl_->acquire_self(max_length, 0, 1);
  const RequestId id = impl_->next_id++;
  impl_->sequences.emplace(id, sequence);
  return id;
}

Tensor Session::extend(RequestId id, std::span<const int32_t> ids) {
  const auto found = impl_->sequences.find(id);
  require(found != impl_->sequences.end(), "extend: sequence must be open, got ", id);
  Impl::OpenSequence& sequence = found->second;
  const auto count = static_cast<int32_t>(ids.size());
  check_ids("extend", ids, model().spec().vocab, 0);
  require(count <= sequence.max_length - sequence.length, "extend: ids must fit max_length ",
          sequence.max_length, " after ", sequence.length, " ids, got ", count);

  DecoderRows& rows = impl_->rows;
  rows.clear();
  rows.begin_sequence(sequence.self, sequence.cross, nullptr, 0);
  for (const int32_t token : ids) rows.add(token, sequence.length++, 0, sequence.source_length);
  Tensor logits(DType::f32, {count, model().spec().vocab});
  std::vector<int32_t> wanted(ids.size());
  std::iota(wanted.begin(), wanted.end(), 0);
  impl_->run_rows(wanted, logits.view());
  return logits;
}

void Session::close(RequestId id) {
  const auto found = impl_->sequences.find(id);
  require(found != impl_->sequences.end(), "close: sequence must be open, got ", id);
  impl_->pool.give_back(found->second.self);
  if (found->second.cross.data != nullptr) impl_->pool.give_back(found->second.cross);
  impl_->sequences.erase(found);
}

Tensor Session::forward(std::span<const Prompt> prompts) {
  const TransformerSpec& spec = model().spec();
  require(spec.decoder.layers > 0, "forward: the model must have a decoder, got an encoder alone");
  std::vector<std::span<const int32_t>> sources;
  std::vector<KvRegion> cross;
  std::vector<KvRegion> self;
  for (const Prompt& prompt : prompts) {
    require(spec.is_seq2seq() != prompt.encoder_ids.empty(), "forward: encoder_ids must be ",
            spec.is_seq2seq() ? "given" : "empty", " for this model, got ",
            prompt.encoder_ids.size(), " ids");
    require(!prompt.decoder_ids.empty(), "forward: decoder_ids must not be empty, got none");
    check_ids("encoder_ids", prompt.encoder_ids, spec.vocab, max_positions(spec.encoder));
    check_ids("decoder_ids", prompt.decoder_ids, spec.vocab, max_positions(spec.decoder));
    sources.push_back(prompt.encoder_ids);
  }
  DecoderRows& rows = impl_->rows;
  rows.clear();
  for (const Prompt& prompt : prompts) {
    self.push_back(impl_->acquire_self(static_cast<int64_t>(prompt.decoder_ids.size()), 0, 1));
    cross.push_back(spec.is_seq2seq()
                        ? impl_->acquire_cross(static_cast<int64_t>(prompt.encoder_ids.size()))
                        : KvRegion());
    rows.begin_sequence(self.back(), cross.back(), nullptr, 0);
    int32_t position = 0;
    for (const int32_t token : prompt.decoder_ids) {
      rows.add(token, position++, 0, static_cast<int32_t>(prompt.encoder_ids.size()));
    }
  }
  Tensor logits(DType::f32, {rows.size(), spec.vocab});
  if (spec.is_seq2seq() && !prompts.empty()) impl_->encode_sources(sources, cross);
  std::vector<int32_t> wanted(static_cast<size_t>(rows.size()));
  std::iota(wanted.begin(), wanted.end(), 0);
  impl_->run_rows(wanted, logits.view());
  for (KvRegion& region : self) impl_->pool.give_back(region);
  for (KvRegion& region : cross) {
    if (region.data != nullptr) impl_->pool.give_back(region);
  }
  return logits;
}

void Session::release_memory() {
  impl_->pool.release_idle();
  if (impl_->active.empty()) impl_->arrays.release_logits();
  impl_->ctx.release_memory();
}

int64_t Session::cache_bytes() const noexcept {
  return impl_->pool.num_bytes();
}
const Model& Session::model() const noexcept {
  return impl_->model;
}

}  // namespace fuseq::inline v0
