// SPDX-License-Identifier: Apache-2.0
// Splits bytes into characters, incomplete ones and errors.
#include "decode/text_stream.h"

#include <algorithm>
#include <cstddef>

#include "base/utf8.h"

namespace fuseq::inline v0 {
namespace {

/// Bytes that a character which begins with `first` has; 1 for what begins none.
[[nodiscard]] size_t whole_length(unsigned char first) noexcept {
  if (first < 0xc2 || first > 0xf4) return 1;
  if (first < 0xe0) return 2;
  return first < 0xf0 ? 3 : 4;
}

/// Bytes at the start of `text`, which begins with no whole character, that could begin one; at
/// least 1.
[[nodiscard]] size_t beginning_length(std::string_view text) noexcept {
  const size_t whole = whole_length(static_cast<unsigned char>(text[0]));
  for (size_t count = std::min(whole - 1, text.size()); count > 1; --count) {
    std::string filled(text.substr(0, count));
    filled.resize(whole, '\x80');  // may follow any second byte
    if (utf8_length(filled) == whole) return count;
  }
  return 1;
}

}  // namespace

std::string_view TextStream::push(std::string_view bytes, bool is_last) {
  held_.append(bytes);
  text_.clear();
  std::string_view rest = held_;
  while (!rest.empty()) {
    if (const size_t length = utf8_length(rest); length > 0) {
      text_.append(rest.substr(0, length));
      rest.remove_prefix(length);
      continue;
    }
    const size_t length = beginning_length(rest);
    const bool is_unfinished =
        length == rest.size() && length < whole_length(static_cast<unsigned char>(rest[0]));
    if (is_unfinished && !is_last) break;
    text_.append("\xef\xbf\xbd");
    rest.remove_prefix(length);
  }
  held_.erase(0, held_.size() - rest.size());
  return text_;
}

}  // namespace fuseq::inline v0
