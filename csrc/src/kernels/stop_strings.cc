// SPDX-License-Identifier: Apache-2.0
// Finds stop strings in the last bytes of a row. Nothing is kept between steps, so that beams may
// change their past.
#include "kernels/stop_strings.h"

#include <algorithm>
#include <string_view>

namespace fuseq::inline v0 {
namespace {

[[nodiscard]] size_t longest_of(const std::vector<std::string>& strings) noexcept {
  size_t longest = 0;
  for (const std::string& string : strings) longest = std::max(longest, string.size());
  return longest;
}

}  // namespace

size_t StopStrings::room() const noexcept {
  return longest_of(strings) - 1 + table->longest();
}

bool StopStrings::is_completed_by(int32_t next, std::span<const int32_t> row,
                                  std::span<char> scratch) const noexcept {
  const std::string_view last = (*table)[next];
  if (last.empty()) return false;
  // Before the new bytes, as many old ones as a string that ends in the new ones can reach back to.
  const size_t wanted = longest_of(strings) - 1;
  size_t begin = wanted;
  for (size_t i = row.size(); i > 0 && begin > 0; --i) {
    const std::string_view bytes = (*table)[row[i - 1]];
    const size_t count = std::min(begin, bytes.size());
    begin -= count;
    std::ranges::copy(bytes.substr(bytes.size() - count), scratch.data() + begin);
  }
  std::ranges::copy(last, scratch.data() + wanted);
  const size_t end = wanted + last.size();
  return std::ranges::any_of(strings, [&](const std::string& string) {
    const size_t from = std::max(begin, wanted - (string.size() - 1));
    return std::string_view(scratch.data() + from, end - from).find(string) !=
           std::string_view::npos;
  });
}

}  // namespace fuseq::inline v0
