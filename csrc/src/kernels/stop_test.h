// SPDX-License-Identifier: Apache-2.0
// The one test of whether a new id ends a row.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "base/memory.h"
#include "kernels/decode_state.h"

namespace fuseq::inline v0 {

class StopTest {
 public:
  /// Takes what room stop strings need; valid while the arena's scope is.
  StopTest(const DecodeState& state, const DecodeRules& rules, Arena& arena)
      : state_(state), rules_(rules) {
    if (rules.stop_strings != nullptr) {
      scratch_ = arena.take<char>(static_cast<int64_t>(rules.stop_strings->room()));
    }
  }

  /// Why `id` after the `length` tokens of a row ends it; a stop id before a stop string before
  /// the length.
  [[nodiscard]] Stop operator()(int64_t row, int32_t length, int32_t id) const {
    const int32_t* stop_ids = rules_.stop_ids;
    if (std::find(stop_ids, stop_ids + rules_.num_stop_ids, id) != stop_ids + rules_.num_stop_ids) {
      return Stop::stop_id;
    }
    if (rules_.stop_strings != nullptr) {
      const int32_t* ids = state_.ids + row * state_.capacity;
      const std::span new_ids(ids + rules_.prompt_length, ids + length);
      if (rules_.stop_strings->is_completed_by(id, new_ids, scratch_)) return Stop::stop_string;
    }
    return length + 1 >= rules_.max_length ? Stop::max_length : Stop::none;
  }

 private:
  const DecodeState& state_;
  const DecodeRules& rules_;
  std::span<char> scratch_;
};

}  // namespace fuseq::inline v0
