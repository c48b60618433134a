// SPDX-License-Identifier: Apache-2.0
// Stop strings: byte strings that end a row wherever token borders fall.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fuseq/token_bytes.h"

namespace fuseq::inline v0 {

/// The stop strings of one request. A row contains a stop string when the joined bytes of its new
/// tokens do; the prompt does not count.
struct StopStrings {
  std::shared_ptr<const TokenBytes> table;
  std::vector<std::string> strings;  ///< none empty

  /// Bytes of room that `is_completed_by` needs.
  [[nodiscard]] size_t room() const noexcept;
  /// Whether `next` completes a string that the tokens before it, `row`, do not hold yet: one that
  /// ends in the bytes of `next`.
  [[nodiscard]] bool is_completed_by(int32_t next, std::span<const int32_t> row,
                                     std::span<char> scratch) const noexcept;
};

}  // namespace fuseq::inline v0
