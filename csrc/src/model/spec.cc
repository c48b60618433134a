// SPDX-License-Identifier: Apache-2.0
// Which specs hold together.
#include "fuseq/spec.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/message.h"

namespace fuseq::inline v0 {
namespace {

/// Collects every fault, so that one error can name them all.
class Faults {
 public:
  template <typename... Parts>
  void check(bool holds, const Parts&... parts) {
    if (!holds) text_ += concat("\n  ", parts...);
  }
  void raise() const {
    if (!text_.empty())
      fail(ErrorKind::value, "spec: every field must be in range and agree with the others, got",
           text_);
  }

 private:
  std::string text_;
};

void check_positions(Faults& faults, const std::string& stack, const StackSpec& s) {
  faults.check(s.position_offset >= 0, stack, ".position_offset must not be negative, got ",
               s.position_offset);
  faults.check(s.max_positions >= 0, stack, ".max_positions must not be negative, got ",
               s.max_positions);
  if (s.positions == Positions::table) {
    faults.check(s.max_positions > 0, stack,
                 ".max_positions must be positive with a position table, got ", s.max_positions);
  } else {
    faults.check(s.position_offset == 0, stack, ".position_offset needs positions \"table\", got ",
                 s.position_offset);
  }
  if (s.positions == Positions::rope) {
    faults.check(!s.rope.empty(), stack,
                 ".rope must list inverse frequencies with positions \"rope\", got none");
    faults.check(s.head_dim % 2 == 0, stack, ".head_dim must be even with positions \"rope\", got ",
                 s.head_dim);
    for (const auto& frequencies : s.rope) {
      faults.check(static_cast<int>(frequencies.size()) * 2 == s.head_dim, stack,
                   ".rope rows must have head_dim / 2 entries, got ", frequencies.size());
    }
  } else {
    faults.check(s.rope.empty(), stack, ".rope needs positions \"rope\", got ", s.rope.size(),
                 " rows");
  }
  if (s.positions == Positions::relative) {
    const int smallest = s.relative.bidirectional ? 4 : 2;
    faults.check(s.relative.buckets >= smallest, stack, ".relative.buckets must be at least ",
                 smallest, ", got ", s.relative.buckets);
    const int exact = s.relative.buckets / (s.relative.bidirectional ? 4 : 2);
    faults.check(s.relative.max_distance > exact && s.relative.max_distance <= 1 << 20, stack,
                 ".relative.max_distance must be above ", exact, " and at most 1048576, got ",
                 s.relative.max_distance);
  } else {
    faults.check(s.relative.buckets == 0, stack,
                 ".relative.buckets needs positions \"relative\", got ", s.relative.buckets);
  }
}

void check_stack(Faults& faults, const std::string& stack, const StackSpec& s) {
  constexpr int kMaxExtent = 1 << 24;
  faults.check(s.layers >= 0 && s.layers <= 4096, stack, ".layers must be in 0 ... 4096, got ",
               s.layers);
  if (s.layers == 0) return;
  const auto positive = [&](const char* field, int value) {
    faults.check(value > 0 && value <= kMaxExtent, stack, ".", field, " must be in 1 ... ",
                 kMaxExtent, ", got ", value);
  };
  positive("dim", s.dim);
  positive("heads", s.heads);
  positive("kv_heads", s.kv_heads);
  positive("head_dim", s.head_dim);
  positive("ffn_dim", s.ffn_dim);
  faults.check(s.kv_heads > 0 && s.heads % s.kv_heads == 0, stack, ".kv_heads must divide heads ",
               s.heads, ", got ", s.kv_heads);
  faults.check(s.norm_eps >= 0 && std::isfinite(s.norm_eps), stack,
               ".norm_eps must not be negative, got ", s.norm_eps);
  faults.check(s.score_scale >= 0 && std::isfinite(s.score_scale), stack,
               ".score_scale must not be negative, got ", s.score_scale);
  faults.check(s.score_cap >= 0 && std::isfinite(s.score_cap), stack,
               ".score_cap must not be negative, got ", s.score_cap);
  faults.check(s.act != Activation::none, stack, ".act must be an activation, got none");
  faults.check(!s.windows.empty(), stack, ".windows must not be empty (0 stands for all keys)");
  for (const int window : s.windows) {
    faults.check(window >= 0, stack, ".windows must not be negative, got ", window);
  }
  check_positions(faults, stack, s);
}

}  // namespace

void validate(const TransformerSpec& spec) {
  Faults faults;
  check_stack(faults, "encoder", spec.encoder);
  check_stack(faults, "decoder", spec.decoder);
  const StackSpec& first = spec.encoder.layers > 0 ? spec.encoder : spec.decoder;
  faults.check(first.layers > 0, "encoder.layers and decoder.layers must not both be 0");
  faults.check(spec.vocab > 0, "vocab must be positive, got ", spec.vocab);
  faults.check(spec.embed_dim >= 0, "embed_dim must not be negative, got ", spec.embed_dim);
  if (spec.is_seq2seq()) {
    faults.check(spec.encoder.dim == spec.decoder.dim || spec.embed_dim == 0,
                 "embed_dim must be 0 where encoder and decoder differ in dim, got ",
                 spec.embed_dim);
  }
  faults.check(std::isfinite(spec.embed_scale) && spec.embed_scale != 0,
               "embed_scale must be finite and not 0, got ", spec.embed_scale);
  faults.check(spec.token_types >= 0, "token_types must not be negative, got ", spec.token_types);
  faults.check(std::isfinite(spec.head.scale) && spec.head.scale != 0,
               "head.scale must be finite and not 0, got ", spec.head.scale);
  faults.check(spec.head.cap >= 0 && std::isfinite(spec.head.cap),
               "head.cap must not be negative, got ", spec.head.cap);
  faults.check(std::ranges::all_of(spec.encoder.windows, [](int window) { return window == 0; }),
               "encoder.windows must be 0: sources are seen whole");
  const auto check_id = [&](const char* field, int id) {
    faults.check(id >= -1 && id < spec.vocab, field, " must be -1 (none) or below vocab ",
                 spec.vocab, ", got ", id);
  };
  check_id("pad_id", spec.pad_id);
  check_id("bos_id", spec.bos_id);
  check_id("decoder_start_id", spec.decoder_start_id);
  const auto check_ids = [&](const char* field, const std::vector<int>& ids) {
    for (const int id : ids) {
      faults.check(id >= 0 && id < spec.vocab, field, " must be below vocab ", spec.vocab, ", got ",
                   id);
    }
  };
  check_ids("eos_ids", spec.eos_ids);
  check_ids("never_emitted_ids", spec.never_emitted_ids);
  faults.check(!spec.pooler || spec.encoder.layers > 0, "pooler needs an encoder, got none");
  const auto check_rate = [&](const char* field, float rate) {
    faults.check(rate >= 0 && rate < 1, field, " must be in [0, 1), got ", rate);
  };
  check_rate("dropout", spec.dropout);
  check_rate("attention_dropout", spec.attention_dropout);
  check_rate("activation_dropout", spec.activation_dropout);
  faults.raise();
}

}  // namespace fuseq::inline v0
