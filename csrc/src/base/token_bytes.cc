// SPDX-License-Identifier: Apache-2.0
// The bytes of all tokens, one after the other.
#include "fuseq/token_bytes.h"

#include <algorithm>

#include "base/message.h"

namespace fuseq::inline v0 {

TokenBytes::TokenBytes(std::span<const std::string_view> tokens) {
  constexpr size_t kMost = size_t{1} << 31;
  size_t total = 0;
  for (const std::string_view token : tokens) total += token.size();
  require(total <= kMost, "TokenBytes: tokens must have at most 2 GiB in all, got ", total,
          " bytes");
  bytes_.reserve(total);
  ends_.reserve(tokens.size() + 1);
  ends_.push_back(0);
  for (const std::string_view token : tokens) {
    bytes_.append(token);
    ends_.push_back(static_cast<uint32_t>(bytes_.size()));
    longest_ = std::max(longest_, token.size());
  }
}

}  // namespace fuseq::inline v0
