// SPDX-License-Identifier: Apache-2.0
// RequestRows: the rows of running requests, from their first id to their results. Knows no model.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "decode/decode_arrays.h"
#include "decode/request.h"
#include "fuseq/context.h"

namespace fuseq::inline v0 {

class RequestRows {
 public:
  RequestRows(int32_t max_rows, int64_t vocab);

  /// Rows that requests may have at a time, at most max_rows.
  void set_limit(int32_t limit) noexcept { limit_ = limit; }
  [[nodiscard]] int32_t limit() const noexcept { return limit_; }
  [[nodiscard]] int32_t max_rows() const noexcept { return arrays_.state().num_rows; }

  /// Whether `count` neighbouring rows are free.
  [[nodiscard]] bool has_room(int32_t count) const { return find_free_rows(count) >= 0; }
  /// Gives a request rows and a slot; there must be room. The request must stay where it is until
  /// it is finished.
  void place(Request& request);

  /// Slots of running requests, in the order in which they were placed.
  [[nodiscard]] std::span<const int32_t> active() const noexcept { return active_; }
  [[nodiscard]] Request& owner(int32_t slot) const {
    return *slot_owner_[static_cast<size_t>(slot)];
  }
  [[nodiscard]] DecodeState& state() noexcept { return arrays_.state(); }
  [[nodiscard]] const DecodeState& state() const noexcept { return arrays_.state(); }

  /// Numbers the rows that take part in the next step; returns how many there are. Requests that
  /// are not prefilled yet get as many as they need of their prompt.
  int64_t begin_step();
  /// One more id for every row that takes part, from the best outputs of the head, of which
  /// top_count(state(), active()) are there; false where they do not tell.
  [[nodiscard]] bool choose_from_top(Context& ctx, const TopOutputs& top);
  /// Room for the logits of the step.
  void reserve_logits();
  /// The logits are there: one more id for every row that takes part. Throws what a TokenSampler
  /// throws, with nothing changed but the logits.
  void choose(Context& ctx);
  /// Tells what was added and ends the rows for which on_token returns true.
  void tell(const OnToken& on_token);
  /// Takes the results of requests that are done and frees their rows; calls left(request) for
  /// each.
  void release_done(const std::function<void(Request&)>& left);

  /// Ends a running request, whose results are then what it has.
  void cancel(Request& request);
  /// Ends a running request without results.
  void drop(Request& request) noexcept;
  /// The row so far.
  [[nodiscard]] std::vector<int32_t> ids(const Request& request, int row) const;
  void release_memory();

 private:
  [[nodiscard]] int32_t find_free_rows(int32_t count) const;
  void take_candidates(Context& ctx);
  void choose_externally(Context& ctx);
  void tell_row(Request& request, int32_t row, const OnToken& on_token);
  void collect(Request& request, bool canceled) const;
  void free_rows(Request& request) noexcept;

  DecodeArrays arrays_;
  int32_t limit_;
  int32_t num_step_rows_ = 0;  ///< rows that take part in the step
  std::vector<int32_t> active_;
  std::vector<Request*> slot_owner_;     ///< [num_rows] the request in a slot, or null
  std::vector<uint8_t> row_used_;        ///< [num_rows]
  std::vector<int32_t> external_rows_;   ///< rows that one TokenSampler chooses for
  std::vector<int32_t> external_slots_;  ///< their requests, in the order of the prompts
  std::vector<int32_t> other_slots_;     ///< all other running requests
};

}  // namespace fuseq::inline v0
