// SPDX-License-Identifier: Apache-2.0
// Session: a model, a thread team, caches and slots. Requests come and go while it steps.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "fuseq/export.h"
#include "fuseq/model.h"
#include "fuseq/options.h"
#include "fuseq/tensor.h"

namespace fuseq::inline v0 {

struct SessionOptions {
  int num_threads = 0;  ///< 0: the model's
  int max_rows = 32;    ///< hypotheses decoded at a time; a request takes num_beams of them
};

/// Names a request of a session. Never reused.
using RequestId = int64_t;

/// What one request starts from.
struct Prompt {
  /// The source; empty for a model without an encoder.
  std::span<const int32_t> encoder_ids = {};
  /// Empty: decoder_start_id of a sequence-to-sequence model, else bos_id.
  std::span<const int32_t> decoder_ids = {};
};

enum class StopReason : uint8_t {
  stop_id,     ///< a stop id was emitted; it is the last id
  max_length,  ///< the row is full
  canceled,
};

/// One generated row.
struct Hypothesis {
  std::vector<int32_t> ids;  ///< the whole decoder row, prompt included
  float score = 0;           ///< beam search: transformers' sequences_scores; greedy: 0
  StopReason stop_reason = StopReason::max_length;
};

/// One thread uses a session at a time; different sessions of one model may run at once.
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
  /// left to do.
  bool step();

  /// Ends a request; its result is what was generated so far.
  void cancel(RequestId request);

  /// Whether `take` would give this request's result.
  [[nodiscard]] bool is_finished(RequestId request) const;

  /// The finished request's hypotheses, best first, and forgets the request. Throws Error(value)
  /// for an unknown or unfinished one.
  [[nodiscard]] std::vector<Hypothesis> take(RequestId request);

  /// Encoder states [sum of lengths, D] float32 of the given sources, rows packed without padding.
  [[nodiscard]] Tensor encode(std::span<const std::span<const int32_t>> sources);

  /// Opens a cached sequence of at most max_length decoder positions for `extend`.
  [[nodiscard]] RequestId open(std::span<const int32_t> encoder_ids, int max_length);
  /// Appends ids to an open sequence and returns their logits [ids.size(), V] float32. Equal bits
  /// for any split of the ids over calls.
  [[nodiscard]] Tensor extend(RequestId sequence, std::span<const int32_t> ids);
  void close(RequestId sequence);

  /// Logits [sum of decoder lengths, V] float32 of whole rows; rows of all prompts are packed
  /// without padding.
  [[nodiscard]] Tensor forward(std::span<const Prompt> prompts);

  /// Gives caches and scratch memory of idle requests back to the system.
  void release_memory();
  /// Bytes held in caches, running requests included.
  [[nodiscard]] int64_t cache_bytes() const noexcept;
  [[nodiscard]] const Model& model() const noexcept;

  struct Impl;  // model/session_impl.h

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace fuseq::inline v0
