// SPDX-License-Identifier: Apache-2.0
// The ids that rules hide from a row: the steps of process that only make scores -inf.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/decode_state.h"

namespace fuseq::inline v0 {

/// Whether all ids but one are hidden from a row of this length.
[[nodiscard]] inline bool has_forced_id(const DecodeRules& rules, int32_t length) {
  return (rules.forced_bos_id >= 0 && length == 1) ||
         (rules.forced_eos_id >= 0 && length == rules.max_length - 1);
}

/// Calls f(id) for the ids that no_repeat_ngram and min_length hide; one may come twice.
template <typename F>
void for_each_banned(const DecodeRules& rules, const int32_t* ids, int32_t length, const F& f) {
  if (rules.no_repeat_ngram_size > 0 && rules.no_repeat_ngram_size <= length) {
    const int32_t prefix = rules.no_repeat_ngram_size - 1;
    const int32_t* last = ids + length - prefix;
    for (int32_t t = 0; t + prefix < length; ++t) {
      if (std::equal(last, last + prefix, ids + t)) f(ids[t + prefix]);
    }
  }
  if (length < rules.min_length) {
    for (int32_t i = 0; i < rules.num_stop_ids; ++i) f(rules.stop_ids[i]);
  }
}

/// Calls f(id) for the ids that are hidden always.
template <typename F>
void for_each_suppressed(const DecodeRules& rules, const F& f) {
  for (int32_t i = 0; i < rules.num_suppressed; ++i) f(rules.suppressed[i]);
}

}  // namespace fuseq::inline v0
