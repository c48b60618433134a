// SPDX-License-Identifier: Apache-2.0
// Sizes from untrusted shapes, without overflow.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>

namespace fuseq::inline v0 {

/// The product of `dims`, none of them negative, times `element_bytes`; nothing if it does not fit
/// int64.
[[nodiscard]] inline std::optional<int64_t> checked_num_bytes(std::span<const int64_t> dims,
                                                              int64_t element_bytes) noexcept {
  if (std::ranges::find(dims, 0) != dims.end()) return 0;  // whatever the others are
  int64_t bytes = element_bytes;
  for (const int64_t dim : dims) {
    if (bytes > std::numeric_limits<int64_t>::max() / dim) return std::nullopt;
    bytes *= dim;
  }
  return bytes;
}

}  // namespace fuseq::inline v0
