// SPDX-License-Identifier: Apache-2.0
// Characters out of bytes, however they are cut, as Python's bytes.decode("utf-8", "replace")
// gives them.
#include "decode/text_stream.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/utf8.h"

namespace fuseq::inline v0 {
namespace {

/// `text` with a question mark for U+FFFD.
std::string marked(std::string_view text) {
  std::string result;
  for (; !text.empty(); text.remove_prefix(1)) {
    if (text.starts_with("\xef\xbf\xbd")) {
      result += '?';
      text.remove_prefix(2);
    } else {
      result += text[0];
    }
  }
  return result;
}

/// The marked texts of `bytes` cut behind every byte whose bit is set, joined; each of them must be
/// characters.
std::string streamed(std::string_view bytes, uint32_t borders) {
  TextStream stream;
  std::string joined;
  const auto push = [&](std::string_view part, bool is_last) {
    const std::string text(stream.push(part, is_last));
    for (std::string_view rest = text; !rest.empty();) {
      const size_t length = utf8_length(rest);
      ASSERT_GT(length, 0u);
      rest.remove_prefix(length);
    }
    joined += marked(text);
  };
  size_t begin = 0;
  for (size_t i = 0; i + 1 < bytes.size(); ++i) {
    if ((borders >> i & 1u) == 0) continue;
    push(bytes.substr(begin, i + 1 - begin), false);
    begin = i + 1;
  }
  push(bytes.substr(begin), true);
  return joined;
}

void expect_streamed(std::string_view bytes, std::string_view text) {
  const uint32_t cuts = bytes.empty() ? 1 : 1u << (bytes.size() - 1);
  for (uint32_t borders = 0; borders < cuts; ++borders) {
    EXPECT_EQ(streamed(bytes, borders), text) << testing::PrintToString(bytes) << " " << borders;
  }
}

TEST(TextStream, characters_come_whole_however_they_are_cut) {
  for (const std::string_view text :
       {"", "a", "abc", "\xc3\xa9", "a\xc3\xa9z", "\xe2\x82\xac", "\xe2\x82\xac\xc3\xa9",
        "\xf0\x9f\x98\x80", "x\xf0\x9f\x98\x80y\xe2\x82\xac", "\xed\x9f\xbf\xee\x80\x80",
        "\xf4\x8f\xbf\xbf\xf0\x90\x80\x80", "\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf"}) {
    expect_streamed(text, text);
  }
  expect_streamed({"\0a\0", 3}, {"\0a\0", 3});
}

TEST(TextStream, what_can_be_no_character_is_replaced_as_in_python) {
  const struct {
    std::string_view bytes, text;
  } cases[] = {
      // Continuations without a beginning, and bytes that are never used.
      {"\x80", "?"},
      {"\xbf\x80", "??"},
      {"a\x80"
       "b",
       "a?b"},
      {"\xff\xfe", "??"},
      {"\xf5\x80\x80\x80", "????"},
      // Cut short: one replacement for the longest beginning of a character.
      {"\xc3", "?"},
      {"\xc3z", "?z"},
      {"\xc3\xc3\xa9", "?\xc3\xa9"},
      {"\xe2\x82", "?"},
      {"\xe2\x82z", "?z"},
      {"\xe2z", "?z"},
      {"\xe2\xe2\x82\xac", "?\xe2\x82\xac"},
      {"\xe2\x82\xe2\x82\xac", "?\xe2\x82\xac"},
      {"\xf0\x9f", "?"},
      {"\xf0\x9f\x98", "?"},
      {"\xf0\x9f\x98z", "?z"},
      {"\xf0\x9fz", "?z"},
      {"\xf0z", "?z"},
      {"\xf0\x9f\x98\xf0\x9f\x98\x80", "?\xf0\x9f\x98\x80"},
      {"\xf0\x9f\x98\xc3", "??"},
      // Overlong forms: the second byte cannot follow, so each byte stands alone.
      {"\xc0\x80", "??"},
      {"\xc1\xbf", "??"},
      {"\xe0\x80\x80", "???"},
      {"\xe0\x9f\xbf", "???"},
      {"\xe0\xa0", "?"},
      {"\xf0\x80\x80\x80", "????"},
      {"\xf0\x8f\xbf\xbf", "????"},
      {"\xf0\x90", "?"},
      // Surrogates.
      {"\xed\xa0\x80", "???"},
      {"\xed\xbf\xbf", "???"},
      {"\xed\x9f", "?"},
      {"\xed\xa0\x80\xed\xb0\x80", "??????"},
      // Above U+10FFFF.
      {"\xf4\x90\x80\x80", "????"},
      {"\xf4\x8f\xbf", "?"},
      {"\xf4\x8fz", "?z"},
      // Mixed.
      {"a\xe2\x82"
       "b\xf0\x9f\x98\x80\x80"
       "c",
       "a?b\xf0\x9f\x98\x80?c"},
      {"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf"
       "A",
       "????A"},
  };
  for (const auto& [bytes, text] : cases) expect_streamed(bytes, text);
}

TEST(TextStream, holds_back_only_what_may_become_a_character) {
  TextStream stream;
  EXPECT_EQ(marked(stream.push("a\xe2", false)), "a");
  EXPECT_EQ(marked(stream.push("\x82", false)), "");
  EXPECT_EQ(marked(stream.push("", false)), "");
  EXPECT_EQ(marked(stream.push("\xac"
                               "b\xf0",
                               false)),
            "\xe2\x82\xac"
            "b");
  EXPECT_EQ(marked(stream.push("\x80", false)), "??");  // decided at once
  EXPECT_EQ(marked(stream.push("\xf0\x9f\x98", false)), "");
  EXPECT_EQ(marked(stream.push("!", false)), "?!");
  EXPECT_EQ(marked(stream.push("\xed\xa0", false)), "??");
  for (const std::string byte : {"\x80", "\xbf", "\xc0", "\xc1", "\xf5", "\xff"}) {
    EXPECT_EQ(marked(stream.push(byte, false)), "?");
  }
}

TEST(TextStream, the_last_push_holds_nothing_back) {
  TextStream stream;
  EXPECT_EQ(marked(stream.push("\xf0\x9f\x98", false)), "");
  EXPECT_EQ(marked(stream.push("", true)), "?");
  EXPECT_EQ(marked(stream.push("", true)), "");
  EXPECT_EQ(marked(stream.push("\x80"
                               "a",
                               true)),
            "?a");  // nothing of the row before
  EXPECT_EQ(marked(stream.push("\xc3", true)), "?");
  EXPECT_EQ(marked(stream.push("\xc3\xa9", true)), "\xc3\xa9");
}

/// Decoding all at once, by the table of well-formed sequences in the Unicode standard (3-7).
std::string decoded(std::string_view bytes) {
  struct Range {
    int first, last, low, high, more;  ///< first byte, second byte, bytes after the second
  };
  const Range ranges[] = {{0xc2, 0xdf, 0x80, 0xbf, 0}, {0xe0, 0xe0, 0xa0, 0xbf, 1},
                          {0xe1, 0xec, 0x80, 0xbf, 1}, {0xed, 0xed, 0x80, 0x9f, 1},
                          {0xee, 0xef, 0x80, 0xbf, 1}, {0xf0, 0xf0, 0x90, 0xbf, 2},
                          {0xf1, 0xf3, 0x80, 0xbf, 2}, {0xf4, 0xf4, 0x80, 0x8f, 2}};
  std::string text;
  for (size_t i = 0; i < bytes.size();) {
    const auto byte = [&](size_t at) {
      return at < bytes.size() ? static_cast<unsigned char>(bytes[at]) : -1;
    };
    size_t length = 1;
    bool is_whole = byte(i) < 0x80;
    for (const Range& range : ranges) {
      if (byte(i) < range.first || byte(i) > range.last) continue;
      int missing = range.more + 1;
      if (byte(i + 1) >= range.low && byte(i + 1) <= range.high) {
        ++length;
        for (--missing; missing > 0 && (byte(i + length) & ~0x3f) == 0x80; --missing) ++length;
      }
      is_whole = missing == 0;
    }
    text += is_whole ? std::string(bytes.substr(i, length)) : std::string("?");
    i += length;
  }
  return text;
}

TEST(TextStream, equals_decoding_all_bytes_at_once) {
  const unsigned char interesting[] = {0x41, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2, 0xdf,
                                       0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf1, 0xf4, 0xf5, 0xff};
  std::mt19937 random(1);
  for (int round = 0; round < 40000; ++round) {
    std::string bytes(1 + random() % 12, ' ');
    for (char& byte : bytes) {
      byte = static_cast<char>(interesting[random() % std::size(interesting)]);
    }
    const std::string text = decoded(bytes);
    for (const uint32_t borders : {0u, ~0u, static_cast<uint32_t>(random())}) {
      ASSERT_EQ(streamed(bytes, borders), text) << testing::PrintToString(bytes);
    }
  }
}

}  // namespace
}  // namespace fuseq::inline v0
