// SPDX-License-Identifier: Apache-2.0
// TokenBytes: what every id stands for, as bytes. The engine's only view of a vocabulary.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fuseq/export.h"

namespace fuseq::inline v0 {

/// A table id -> bytes, handed over once and shared by any number of requests. Ids that stand for
/// no text (start, end, padding) have none.
class FUSEQ_API TokenBytes {
 public:
  /// Copies the bytes of ids 0, 1, ... Throws Error(value) for more than 2 GiB in all.
  explicit TokenBytes(std::span<const std::string_view> tokens);

  /// Number of ids.
  [[nodiscard]] int64_t size() const noexcept { return static_cast<int64_t>(ends_.size()) - 1; }
  /// The bytes of an id in [0, size()).
  [[nodiscard]] std::string_view operator[](int32_t id) const noexcept {
    const auto index = static_cast<size_t>(id);
    return std::string_view(bytes_).substr(ends_[index], ends_[index + 1] - ends_[index]);
  }
  /// Bytes of the longest token.
  [[nodiscard]] size_t longest() const noexcept { return longest_; }

 private:
  std::string bytes_;
  std::vector<uint32_t> ends_;  ///< of the bytes before token i
  size_t longest_ = 0;
};

}  // namespace fuseq::inline v0
