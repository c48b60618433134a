// SPDX-License-Identifier: Apache-2.0
// The encoding of characters as one to four bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace fuseq::inline v0 {

/// Bytes of the first character of `text`; 0 if they are no well-formed UTF-8 (the shortest form
/// only, no surrogates, at most U+10FFFF) or `text` is empty.
[[nodiscard]] inline size_t utf8_length(std::string_view text) noexcept {
  const auto byte = [&](size_t i) -> uint32_t {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
  };
  const auto follows = [&](size_t i) { return (byte(i) & 0xc0) == 0x80; };
  const uint32_t first = byte(0);
  if (first < 0x80) return text.empty() ? 0 : 1;
  if (first < 0xc2) return 0;
  if (first < 0xe0) return follows(1) ? 2 : 0;
  if (!follows(1) || !follows(2)) return 0;
  const uint32_t second = byte(1);
  if (first < 0xf0) {
    const bool overlong = first == 0xe0 && second < 0xa0;
    const bool surrogate = first == 0xed && second >= 0xa0;
    return overlong || surrogate ? 0 : 3;
  }
  if (!follows(3) || first > 0xf4) return 0;
  const bool overlong = first == 0xf0 && second < 0x90;
  const bool too_large = first == 0xf4 && second >= 0x90;
  return overlong || too_large ? 0 : 4;
}

/// Appends the character `code`, which is no surrogate and at most U+10FFFF.
inline void append_utf8(std::string& out, uint32_t code) {
  const auto lead = [&](uint32_t bits) { out.push_back(static_cast<char>(bits)); };
  const auto rest = [&](int shift) {
    out.push_back(static_cast<char>(0x80 | ((code >> shift) & 0x3f)));
  };
  if (code < 0x80) {
    lead(code);
  } else if (code < 0x800) {
    lead(0xc0 | (code >> 6));
    rest(0);
  } else if (code < 0x10000) {
    lead(0xe0 | (code >> 12));
    rest(6);
    rest(0);
  } else {
    lead(0xf0 | (code >> 18));
    rest(12);
    rest(6);
    rest(0);
  }
}

}  // namespace fuseq::inline v0
