// SPDX-License-Identifier: Apache-2.0
// What a Session offers below requests: open sequences and their caches, whole rows, scores.
#include <algorithm>
#include <numeric>
#include <utility>

#include "base/context_impl.h"
#include "base/message.h"
#include "decode/session_impl.h"
#include "kernels/log_softmax.h"

namespace fuseq::inline v0 {
namespace {

void require_decoder(const char* call, const TransformerSpec& spec) {
  require(spec.decoder.layers > 0, call, ": the model must have a decoder, got an encoder alone");
}

[[nodiscard]] int64_t source_length_of(const Prompt& prompt) {
  return prompt.encoder_states ? prompt.encoder_states.dim(0)
                               : static_cast<int64_t>(prompt.encoder_ids.size());
}

/// The regions of whole rows that one pass runs; gives them back.
class PassRegions {
 public:
  explicit PassRegions(Session::Impl& session) : session_(session) {}
  ~PassRegions() {
    for (KvRegion& region : regions_) session_.pool.give_back(region);
  }
  PassRegions(const PassRegions&) = delete;
  PassRegions& operator=(const PassRegions&) = delete;
  /// Leaves them to somebody else.
  void release() noexcept { regions_.clear(); }

  KvRegion keep(const KvRegion& region) {
    regions_.push_back(region);
    return region;
  }

 private:
  Session::Impl& session_;
  std::vector<KvRegion> regions_;
};

/// Puts whole prompts into session.pass, their sources encoded.
void gather_prompts(Session::Impl& session, std::span<const Prompt> prompts, PassRegions& regions) {
  const bool is_seq2seq = session.model.spec().is_seq2seq();
  DecoderRows& pass = session.pass;
  pass.clear();
  session.sources.clear();
  for (const Prompt& prompt : prompts) {
    const auto length = static_cast<int64_t>(prompt.decoder_ids.size());
    const KvRegion self = regions.keep(session.acquire_self(length, 0, 1));
    KvRegion cross;
    int64_t source_length = 0;
    if (is_seq2seq) {
      source_length = source_length_of(prompt);
      cross = regions.keep(session.acquire_cross(source_length));
      session.sources.push_back({prompt.encoder_ids, prompt.encoder_states, cross});
    }
    pass.begin_sequence(self, cross, nullptr, 0);
    int32_t position = 0;
    for (const int32_t token : prompt.decoder_ids) {
      pass.add(token, position++, 0, static_cast<int32_t>(source_length));
    }
  }
  if (!session.sources.empty()) session.fill_cross(session.sources);
  session.sources.clear();
}

void check_prompts(const char* call, const TransformerSpec& spec, std::span<const Prompt> prompts) {
  require_decoder(call, spec);
  for (const Prompt& prompt : prompts) {
    try {
      check_source(spec, prompt);
      require(!prompt.decoder_ids.empty(), "decoder_ids: must not be empty, got none");
      check_ids("decoder_ids", prompt.decoder_ids, spec.vocab, max_positions(spec.decoder));
    } catch (const Error& error) {
      fail(error.kind(), call, ": prompts[", &prompt - prompts.data(), "]: ", error.what());
    }
  }
}

void check_targets(const TransformerSpec& spec, std::span<const Prompt> prompts,
                   std::span<const std::span<const int32_t>> targets) {
  require(targets.empty() || targets.size() == prompts.size(),
          "score: targets must be as many as prompts, ", prompts.size(), ", got ", targets.size());
  for (size_t i = 0; i < targets.size(); ++i) {
    require(targets[i].size() == prompts[i].decoder_ids.size(), "score: targets[", i,
            "] must have one id for each of ", prompts[i].decoder_ids.size(), " decoder_ids, got ",
            targets[i].size());
    check_ids("targets", targets[i], spec.vocab, 0);
  }
}

/// The region of a kind and the positions it has room for.
std::pair<KvRegion, int64_t> cache_of(const char* call, Session::Impl::OpenSequence& sequence,
                                      CacheKind kind) {
  const bool is_self = kind == CacheKind::self_attention;
  require(is_self || sequence.source_length > 0, call,
          ": kind must be self_attention for a model without an encoder, got cross_attention");
  return is_self ? std::pair(sequence.self, int64_t{sequence.max_length})
                 : std::pair(sequence.cross, int64_t{sequence.source_length});
}

}  // namespace

// ---- open sequences -----------------------------------------------------------------------------

RequestId Session::open(const Prompt& source, int max_length) {
  const InUse in_use(impl_->in_use, "open");
  const TransformerSpec& spec = model().spec();
  require_decoder("open", spec);
  check_source(spec, source);
  const int64_t bound = max_positions(spec.decoder);
  require(max_length > 0 && (bound == 0 || max_length <= bound),
          "open: max_length must be positive", bound ? " and fit the position table" : "", ", got ",
          max_length);
  Impl::OpenSequence sequence{.max_length = max_length};
  PassRegions regions(*impl_);  // gives them back if the source cannot be encoded
  if (spec.is_seq2seq()) {
    sequence.source_length = static_cast<int32_t>(source_length_of(source));
    sequence.cross = regions.keep(impl_->acquire_cross(sequence.source_length));
    clear(sequence.cross);
    const Impl::Source one{source.encoder_ids, source.encoder_states, sequence.cross};
    impl_->fill_cross({&one, 1});
  }
  sequence.self = regions.keep(impl_->acquire_self(max_length, 0, 1));
  clear(sequence.self);
  const RequestId id = impl_->next_id++;
  impl_->sequences.emplace(id, sequence);
  regions.release();
  return id;
}

Tensor Session::extend(RequestId id, std::span<const int32_t> ids, Tensor* hidden) {
  const InUse in_use(impl_->in_use, "extend");
  Impl::OpenSequence& sequence = impl_->find_sequence("extend", id);
  const auto count = static_cast<int32_t>(ids.size());
  check_ids("extend", ids, model().spec().vocab, 0);
  require(count <= sequence.max_length - sequence.length, "extend: ids must fit max_length ",
          sequence.max_length, " after ", sequence.length, " ids, got ", count);
  DecoderRows& pass = impl_->pass;
  pass.clear();
  pass.begin_sequence(sequence.self, sequence.cross, nullptr, 0);
  int32_t position = sequence.length;
  for (const int32_t token : ids) pass.add(token, position++, 0, sequence.source_length);
  Tensor logits = impl_->run_whole_pass(hidden);
  sequence.length = position;
  return logits;
}

int Session::length(RequestId sequence) const {
  return impl_->find_sequence("length", sequence).length;
}

void Session::set_length(RequestId id, int length) {
  const InUse in_use(impl_->in_use, "set_length");
  Impl::OpenSequence& sequence = impl_->find_sequence("set_length", id);
  require(length >= 0 && length <= sequence.max_length, "set_length: length must be in 0 ... ",
          sequence.max_length, ", got ", length);
  sequence.length = length;
}

Tensor Session::read_cache(RequestId id, CacheKind kind) {
  const InUse in_use(impl_->in_use, "read_cache");
  const auto [region, S] = cache_of("read_cache", impl_->find_sequence("read_cache", id), kind);
  const KvGeometry& g = region.geometry;
  Tensor cache(DType::f32, {g.layers, 2, S, g.kv_heads, g.head_dim});
  read_region(region, cache.view());
  return cache;
}

void Session::write_cache(RequestId id, CacheKind kind, ConstView cache) {
  const InUse in_use(impl_->in_use, "write_cache");
  const auto [region, S] = cache_of("write_cache", impl_->find_sequence("write_cache", id), kind);
  const KvGeometry& g = region.geometry;
  if (cache.dtype != DType::f32) {
    fail(ErrorKind::type, "write_cache: cache must be float32, got ", name(cache.dtype));
  }
  const bool fits = cache.rank() == 5 && cache.dim(0) == g.layers && cache.dim(1) == 2 &&
                    cache.dim(2) <= S && cache.dim(3) == g.kv_heads && cache.dim(4) == g.head_dim;
  require(fits, "write_cache: cache must have shape ",
          Shape{g.layers, 2, S, g.kv_heads, g.head_dim}, " or fewer positions, got ", cache.shape);
  write_region(cache, region);
}

void Session::close(RequestId id) {
  const InUse in_use(impl_->in_use, "close");
  Impl::OpenSequence& sequence = impl_->find_sequence("close", id);
  impl_->pool.give_back(sequence.self);
  if (sequence.cross.data != nullptr) impl_->pool.give_back(sequence.cross);
  impl_->sequences.erase(id);
}

// ---- whole rows ---------------------------------------------------------------------------------

Tensor Session::forward(std::span<const Prompt> prompts, Tensor* hidden) {
  const InUse in_use(impl_->in_use, "forward");
  check_prompts("forward", model().spec(), prompts);
  PassRegions regions(*impl_);
  gather_prompts(*impl_, prompts, regions);
  return impl_->run_whole_pass(hidden);
}

std::vector<std::vector<float>> Session::score(std::span<const Prompt> prompts,
                                               std::span<const std::span<const int32_t>> targets) {
  const InUse in_use(impl_->in_use, "score");
  return impl_->score(prompts, targets);
}

std::vector<std::vector<float>> Session::Impl::score(
    std::span<const Prompt> prompts, std::span<const std::span<const int32_t>> targets) {
  check_prompts("score", model.spec(), prompts);
  check_targets(model.spec(), prompts, targets);
  constexpr int64_t kMaxTokens = 2048;  // of one pass with its sources, unless one prompt has more
  std::vector<std::vector<float>> scores(prompts.size());
  for (size_t begin = 0; begin < prompts.size();) {
    size_t end = begin;
    for (int64_t tokens = 0; end < prompts.size(); ++end) {
      const auto length = static_cast<int64_t>(prompts[end].decoder_ids.size());
      tokens += length + source_length_of(prompts[end]);
      if (end > begin && tokens > kMaxTokens) break;
    }
    PassRegions regions(*this);
    gather_prompts(*this, prompts.subspan(begin, end - begin), regions);
    const Arena::Scope scope(ctx.impl().arena);
    const View hidden = run_layers_of_pass();
    std::vector<int32_t> wanted;  // the target of each row; -1: none
    for (size_t i = begin; i < end; ++i) {
      const std::span<const int32_t> ids = prompts[i].decoder_ids;
      const std::span<const int32_t> next = targets.empty() ? ids.subspan(1) : targets[i];
      wanted.insert(wanted.end(), next.begin(), next.end());
      if (targets.empty()) wanted.push_back(-1);
    }
    const std::vector<float> all = score_rows(hidden, wanted);
    size_t row = 0;
    for (size_t i = begin; i < end; ++i) {
      const size_t length = prompts[i].decoder_ids.size();
      scores[i].assign(all.begin() + static_cast<std::ptrdiff_t>(row),
                       all.begin() + static_cast<std::ptrdiff_t>(row + length - targets.empty()));
      row += length;
    }
    begin = end;
  }
  return scores;
}

std::vector<float> Session::Impl::score_rows(ConstView hidden, std::span<const int32_t> wanted) {
  constexpr int64_t kMaxLogitRows = 128;  // so that logits stay small
  const int64_t V = model.spec().vocab;
  std::vector<float> scores(wanted.size());
  const auto N = static_cast<int64_t>(wanted.size());
  for (int64_t begin = 0; begin < N; begin += kMaxLogitRows) {
    const int64_t count = std::min(kMaxLogitRows, N - begin);
    const Arena::Scope scope(ctx.impl().arena);
    const std::span<int32_t> rows_of_part = ctx.impl().arena.take<int32_t>(count);
    std::iota(rows_of_part.begin(), rows_of_part.end(), static_cast<int32_t>(begin));
    const View logits(ctx.impl().arena.take<float>(count * V).data(), DType::f32, {count, V});
    head(ctx, model.impl(), hidden, rows_of_part, logits);
    const std::span<LogSum> sums = ctx.impl().arena.take<LogSum>(count);
    log_sums(ctx, logits, sums.data());
    for (size_t row = 0; row < sums.size(); ++row) {
      const size_t at = static_cast<size_t>(begin) + row;
      if (wanted[at] < 0) continue;
      const float logit = logits.as<float>()[static_cast<int64_t>(row) * V + wanted[at]];
      scores[at] = (logit - sums[row].max) - sums[row].log_sum;
    }
  }
  return scores;
}

}  // namespace fuseq::inline v0
