// SPDX-License-Identifier: Apache-2.0
// Owns the arrays of a DecodeState.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/decode_state.h"

namespace fuseq::inline v0 {

/// The fixed arrays of a session. They grow when a request with longer rows is admitted, and when a
/// step needs logits, or more rows of them, for the first time.
class DecodeArrays {
 public:
  DecodeArrays(int32_t num_rows, int64_t vocab);

  [[nodiscard]] DecodeState& state() noexcept { return state_; }
  [[nodiscard]] const DecodeState& state() const noexcept { return state_; }
  /// Room for rows of `capacity` tokens; what rows hold stays.
  void reserve_capacity(int64_t capacity);
  /// Room for the logits of `rows` rows, and for a copy of them; what they hold is lost.
  void reserve_logits(int64_t rows, bool with_model_logits);
  /// Gives the logits back to the system.
  void release_logits();

 private:
  template <typename T>
  T* allocate(int64_t count);

  DecodeState state_;
  std::vector<std::shared_ptr<void>> fixed_;  ///< arrays that never change size
  std::shared_ptr<void> row_arrays_;          ///< the [N][C] arrays, one after another
  struct Logits {
    std::shared_ptr<void> memory;
    int64_t rows = 0;
  };
  Logits logits_, model_logits_;
};

}  // namespace fuseq::inline v0
