// SPDX-License-Identifier: Apache-2.0
// Session: a model, a thread team, caches and slots. Requests come and go while it steps.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "fuseq/export.h"
#include "fuseq/model.h"
#include "fuseq/options.h"
#include "fuseq/tensor.h"

namespace fuseq::inline v0 {

struct SessionOptions {
  int num_threads = 0;  ///< 0: the model's
  /// Hypotheses decoded at a time. A request takes num_beams of them, num_return_sequences if it
  /// draws, top_k if its search is contrastive.
  int max_rows = 32;
  /// Of keys and values: float32 or bfloat16; nothing: the model's cache_dtype().
  std::optional<DType> cache_dtype;
};

/// Names a request of a session. Never reused.
using RequestId = int64_t;

/// What one request starts from.
struct Prompt {
  /// The source; empty for a model without an encoder.
  std::span<const int32_t> encoder_ids = {};
  /// Empty: decoder_start_token_id, else decoder_start_id of a sequence-to-sequence model, else
  /// bos_id.
  std::span<const int32_t> decoder_ids = {};
  /// [S, D] float32 encoder states, instead of encoder_ids.
  ConstView encoder_states = {};
  /// Instead of the options' seed.
  std::optional<uint64_t> seed = {};
  /// The prompt's place in its list, which draws depend on, in 0 ... 2^32 - 1. -1: `generate`
  /// counts from 0, and `submit` and prompts with a seed of their own take 0.
  int64_t sequence = -1;
};

enum class StopReason : uint8_t {
  stop_id,      ///< a stop id was emitted; it is the last id
  max_length,   ///< the row is full
  canceled,     ///< before it ended by itself
  stop_string,  ///< the last id completed a stop string
  callback,     ///< on_token returned true
};

/// One generated row.
struct Hypothesis {
  std::vector<int32_t> ids;  ///< the whole decoder row, prompt included
  int prompt_length = 0;     ///< ids of the prompt
  /// Beams: transformers' sequences_scores; else with return_scores the sum of token_log_probs,
  /// without it 0.
  float score = 0;
  /// With return_scores: of each new id, log softmax of the model's own logits, before the options'
  /// rules and temperature.
  std::vector<float> token_log_probs;
  StopReason stop_reason = StopReason::max_length;
};

/// A token that was just added to a row.
struct NewToken {
  RequestId request = 0;
  /// The row's place in the results: the prompt's place in the list of `generate`, its sequence
  /// where it was submitted, * num_return_sequences + the draw.
  int64_t row = 0;
  int32_t id = 0;
  /// Characters that this token completes, in UTF-8, with U+FFFD for what is none; empty without
  /// token_bytes. Valid during the call. A row that on_token ends keeps its unfinished character.
  std::string_view text;
};

/// Sees every new token of rows that are no beams; returning true ends the row. What it throws
/// reaches the caller of `step` or `generate`.
using OnToken = std::function<bool(const NewToken&)>;

/// Which cache of an open sequence.
enum class CacheKind : uint8_t { self_attention, cross_attention };

/// One thread uses a session at a time; different sessions of one model may run at once. A call
/// that changes anything, from a callback or from another thread while one runs, is Error(runtime).
class FUSEQ_API Session {
 public:
  explicit Session(std::shared_ptr<const Model> model, const SessionOptions& options = {});
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  /// Queues a request; it enters a slot at the next `step` that has room. Ids are copied. Throws
  /// Error(value) naming the option or id that is out of range, before anything is done.
  RequestId submit(const Prompt& prompt, const GenerationOptions& options = {});

  /// Admits queued requests, then adds one token to every running row. Returns whether anything is
  /// left to do. After an exception, from on_token or a TokenSampler, all requests go on with the
  /// next step, unless they are canceled.
  bool step(const OnToken& on_token = {});

  /// The row so far of a request that is queued, running or finished and no beam search; `draw` is
  /// one of its num_return_sequences.
  [[nodiscard]] std::vector<int32_t> ids(RequestId request, int draw = 0) const;

  /// Ends a request; its result is what was generated so far.
  void cancel(RequestId request);

  /// Whether `take` would give this request's result.
  [[nodiscard]] bool is_finished(RequestId request) const;

  /// The finished request's hypotheses, best first, and forgets the request. Throws Error(value)
  /// for an unknown or unfinished one.
  [[nodiscard]] std::vector<Hypothesis> take(RequestId request);

  /// Encoder states [sum of lengths, D] float32 of the given sources, rows packed without padding.
  /// Throws Error(value) for a model without an encoder, an id out of range or a source that is
  /// longer than the position table.
  [[nodiscard]] Tensor encode(std::span<const std::span<const int32_t>> sources);

  /// Opens a cached sequence of at most max_length decoder positions for `extend`. Only the source
  /// of the prompt counts. Throws Error(value) for a model without a decoder, a max_length that is
  /// not positive or beyond the position table, or a source that does not fit the model,
  /// Error(type) for encoder_states that are not float32.
  [[nodiscard]] RequestId open(const Prompt& source, int max_length);
  /// Appends ids to an open sequence and returns their logits [ids.size(), V] float32, and through
  /// `hidden` the decoder's last states [ids.size(), D], its final norm applied. Equal bits for any
  /// split of the ids over calls. Throws Error(value) for a sequence that is not open, an id out of
  /// range or more ids than max_length leaves room for; nothing is appended then.
  [[nodiscard]] Tensor extend(RequestId sequence, std::span<const int32_t> ids,
                              Tensor* hidden = nullptr);
  /// Positions filled so far.
  [[nodiscard]] int length(RequestId sequence) const;
  /// The next `extend` appends after `length` positions: fewer forgets some, more takes those that
  /// `write_cache` filled. Throws Error(value) for a length outside 0 ... max_length or a sequence
  /// that is not open, as read_cache, write_cache and close do.
  void set_length(RequestId sequence, int length);
  /// Keys and values [L, 2, S, G, E] float32 of all S positions that the cache has room for:
  /// max_length, or the source's length. Positions that were never filled are zeros. Throws
  /// Error(value) for cross_attention in a model without an encoder.
  [[nodiscard]] Tensor read_cache(RequestId sequence, CacheKind kind);
  /// The reverse, for S up to that and any strides; rounds to the dtype of the session's cache.
  /// Throws Error(value) for a wrong shape too, Error(type) for a dtype other than float32.
  void write_cache(RequestId sequence, CacheKind kind, ConstView cache);
  /// Ends an open sequence; its caches are free for others.
  void close(RequestId sequence);

  /// Logits [sum of decoder lengths, V] float32 of whole rows, and through `hidden` the decoder's
  /// last states; rows of all prompts are packed without padding. Throws Error(value) or
  /// Error(type) naming the prompt whose source or decoder_ids do not fit the model; decoder_ids
  /// must not be empty.
  [[nodiscard]] Tensor forward(std::span<const Prompt> prompts, Tensor* hidden = nullptr);

  /// Log-probabilities of given targets, for each prompt one per decoder position:
  ///
  ///   score[t] = log softmax(logits[t])[targets[t]]
  ///
  /// Their negatives are cross-entropy losses. targets[i] is as long as prompts[i].decoder_ids;
  /// without targets, a row's own next ids, one fewer. No rules, no temperature. Memory is bounded
  /// by the longest prompt, not by their number. Throws as `forward` does, and Error(value) for
  /// targets of another number or length or with an id out of range.
  [[nodiscard]] std::vector<std::vector<float>> score(
      std::span<const Prompt> prompts, std::span<const std::span<const int32_t>> targets = {});

  /// Gives caches and scratch memory of idle requests back to the system.
  void release_memory();
  /// Bytes held in caches, running requests included.
  [[nodiscard]] int64_t cache_bytes() const noexcept;
  [[nodiscard]] const Model& model() const noexcept;

  struct Impl;  // decode/session_impl.h

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace fuseq::inline v0
