// SPDX-License-Identifier: Apache-2.0
// Stop strings against a plain search, wherever the borders of tokens fall.
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "decode_arrays.h"
#include "kernels/stop_strings.h"

namespace fuseq::inline v0 {
namespace {

std::shared_ptr<const TokenBytes> table_of(const std::vector<std::string>& tokens) {
  const std::vector<std::string_view> views(tokens.begin(), tokens.end());
  return std::make_shared<const TokenBytes>(views);
}

/// Whether each of `ids` completes a string.
std::vector<bool> completions(const StopStrings& stop, const std::vector<int32_t>& ids) {
  std::vector<char> scratch(stop.room());
  std::vector<bool> result;
  for (size_t i = 0; i < ids.size(); ++i) {
    result.push_back(stop.is_completed_by(ids[i], std::span(ids).first(i), scratch));
  }
  return result;
}

/// The same of a row whose tokens are `pieces`.
std::vector<bool> completions(const std::vector<std::string>& strings,
                              const std::vector<std::string>& pieces) {
  std::vector<int32_t> ids(pieces.size());
  std::iota(ids.begin(), ids.end(), 0);
  return completions(StopStrings{table_of(pieces), strings}, ids);
}

/// What they must be: some string ends in the bytes of the token.
std::vector<bool> expected_completions(const std::vector<std::string>& strings,
                                       const std::vector<std::string>& pieces) {
  std::vector<bool> result;
  std::string text;
  for (const std::string& piece : pieces) {
    const size_t before = text.size();
    text += piece;
    bool found = false;
    for (const std::string& string : strings) {
      for (size_t end = std::max(before + 1, string.size()); end <= text.size(); ++end) {
        found = found || text.compare(end - string.size(), string.size(), string) == 0;
      }
    }
    result.push_back(found);
  }
  return result;
}

/// `text` cut behind every byte whose bit is set.
std::vector<std::string> cut(const std::string& text, uint32_t borders) {
  std::vector<std::string> pieces(1);
  for (size_t i = 0; i < text.size(); ++i) {
    pieces.back() += text[i];
    if (i + 1 < text.size() && (borders >> i & 1u) != 0) pieces.emplace_back();
  }
  return pieces;
}

using Bools = std::vector<bool>;

TEST(StopStrings, a_string_is_found_however_it_is_cut) {
  for (const std::string text : {"stop", "xstop", "stopy", "xxstopyy", "ststop"}) {
    for (uint32_t borders = 0; borders < 1u << (text.size() - 1); ++borders) {
      const std::vector<std::string> pieces = cut(text, borders);
      const Bools got = completions({"stop"}, pieces);
      EXPECT_EQ(got, expected_completions({"stop"}, pieces)) << text << " " << borders;
      EXPECT_EQ(std::count(got.begin(), got.end(), true), 1) << text << " " << borders;
    }
  }
}

TEST(StopStrings, tokens_may_be_longer_than_strings_and_strings_than_tokens) {
  EXPECT_EQ(completions({"b"}, {"abc"}), (Bools{true}));
  EXPECT_EQ(completions({"abcdefghij"}, {"ab", "cdef", "g", "hi", "jk"}),
            (Bools{false, false, false, false, true}));
  EXPECT_EQ(completions({"xyz"}, {"aaaaaaaaaaaaaaaax", "yzaaaaaaaaaaaaaaaa"}),
            (Bools{false, true}));
}

TEST(StopStrings, any_of_several_ends_the_row) {
  EXPECT_EQ(completions({"end", "stop", "\n\n"}, {"a", "en", "\n", "\n", "sto", "p", "end"}),
            (Bools{false, false, false, true, false, true, true}));
  // One inside another: the shorter one comes first.
  EXPECT_EQ(completions({"abcd", "bc"}, {"a", "b", "c", "d"}), (Bools{false, false, true, true}));
  EXPECT_EQ(completions({"bc", "abcd"}, {"ab", "cd"}), (Bools{false, true}));
}

TEST(StopStrings, a_string_may_begin_in_what_looked_like_another_beginning) {
  EXPECT_EQ(completions({"aab"}, {"aaab"}), (Bools{true}));
  EXPECT_EQ(completions({"aab"}, {"a", "a", "a", "b"}), (Bools{false, false, false, true}));
  EXPECT_EQ(completions({"aab"}, {"aa", "ab"}), (Bools{false, true}));
  EXPECT_EQ(completions({"abab"}, {"ab", "ab", "ab"}), (Bools{false, true, true}));
}

TEST(StopStrings, tokens_without_bytes_complete_nothing_and_break_nothing) {
  EXPECT_EQ(completions({"ab"}, {"", "a", "", "", "b", ""}),
            (Bools{false, false, false, false, true, false}));
  EXPECT_EQ(completions({"a"}, {"", ""}), (Bools{false, false}));
}

TEST(StopStrings, a_string_in_old_tokens_does_not_count_again) {
  EXPECT_EQ(completions({"ab"}, {"ab", "c", "a", "c"}), (Bools{true, false, false, false}));
  EXPECT_EQ(completions({"ab", "longer string"}, {"xab", "y"}), (Bools{true, false}));
  EXPECT_EQ(completions({"a"}, {"a", "b"}), (Bools{true, false}));
}

TEST(StopStrings, bytes_may_be_any) {
  const std::string zero(1, '\0');
  EXPECT_EQ(completions({zero + "\xff"}, {"a" + zero, "\xff\xfe"}), (Bools{false, true}));
  EXPECT_EQ(completions({"\xe2\x82\xac"}, {"\xe2", "\x82", "\xac"}), (Bools{false, false, true}));
}

TEST(StopStrings, equal_a_plain_search_for_random_strings) {
  std::mt19937 random(1);
  const auto text = [&](uint32_t least, uint32_t most) {
    std::string s(least + random() % (most - least + 1), ' ');
    for (char& c : s) c = static_cast<char>('a' + random() % 3);
    return s;
  };
  int found = 0;
  for (int round = 0; round < 4000; ++round) {
    std::vector<std::string> tokens(8);
    for (std::string& token : tokens) token = text(0, 3);
    StopStrings stop{table_of(tokens), {}};
    for (uint32_t i = 0; i <= random() % 3; ++i) stop.strings.push_back(text(1, 6));
    std::vector<int32_t> ids(random() % 14);
    std::vector<std::string> pieces;
    for (int32_t& id : ids) {
      id = static_cast<int32_t>(random() % tokens.size());
      pieces.push_back(tokens[static_cast<size_t>(id)]);
    }
    const Bools got = completions(stop, ids);
    ASSERT_EQ(got, expected_completions(stop.strings, pieces)) << "round " << round;
    found += static_cast<int>(std::count(got.begin(), got.end(), true));
  }
  EXPECT_GT(found, 4000);
}

// ---- in the steps of a row ----------------------------------------------------------------------

/// Why each of `ids` ends a row that begins with `prompt`.
std::vector<Stop> stops_of(DecodeRules rules, const std::vector<int32_t>& prompt,
                           const std::vector<int32_t>& ids) {
  rules.prompt_length = static_cast<int32_t>(prompt.size());
  Arrays arrays({rules}, 20, 8);
  arrays.set_row(0, prompt);
  Context ctx = make_context(CpuIsa::automatic, 1);
  std::vector<Stop> stops;
  for (const int32_t id : ids) {
    arrays.candidate_ids[0] = id;
    arrays.done[0] = 0;
    advance(ctx, arrays.view(), std::vector<int32_t>{0});
    stops.push_back(arrays.stops[0]);
    EXPECT_EQ(arrays.done[0] != 0, stops.back() != Stop::none);
  }
  return stops;
}

TEST(StopStrings, the_prompt_does_not_count) {
  const StopStrings stop{table_of({"a", "b", "ab", ""}), {"ab"}};
  DecodeRules rules;
  rules.max_length = 20;
  rules.stop_strings = &stop;
  using Stops = std::vector<Stop>;
  EXPECT_EQ(stops_of(rules, {0}, {1, 0, 1}), (Stops{Stop::none, Stop::none, Stop::stop_string}));
  EXPECT_EQ(stops_of(rules, {2, 0}, {1, 2}), (Stops{Stop::none, Stop::stop_string}));
  EXPECT_EQ(stops_of(rules, {}, {0, 1}), (Stops{Stop::none, Stop::stop_string}));
  EXPECT_EQ(stops_of(rules, {2}, {3, 3}), (Stops{Stop::none, Stop::none}));
}

TEST(StopStrings, a_stop_id_counts_before_them_and_they_before_the_length) {
  const StopStrings stop{table_of({"a", "b", "ab", ""}), {"b"}};
  DecodeRules rules;
  rules.stop_strings = &stop;
  rules.max_length = 2;
  EXPECT_EQ(stops_of(rules, {0}, {0}), std::vector<Stop>{Stop::max_length});
  EXPECT_EQ(stops_of(rules, {0}, {2}), std::vector<Stop>{Stop::stop_string});
  rules.num_stop_ids = 1;
  rules.stop_ids[0] = 2;
  EXPECT_EQ(stops_of(rules, {0}, {2}), std::vector<Stop>{Stop::stop_id});
}

}  // namespace
}  // namespace fuseq::inline v0
