// SPDX-License-Identifier: Apache-2.0
// JSON in and out: what is read, what is refused and why, and that what is written reads back.
#include "base/json.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "base/utf8.h"
#include "fuseq/error.h"

namespace fuseq::inline v0 {
namespace {

Json parse(std::string_view text) {
  return parse_json(text, "test");
}

std::string error_of(std::string_view text) {
  try {
    (void)parse(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::format);
    return error.what();
  }
  return "no error";
}

/// The one-line form of `text`: equal for equal values.
std::string round(std::string_view text) {
  return write_json(parse(text));
}

TEST(Json, reads_every_kind_of_value) {
  EXPECT_TRUE(parse("null").is_null());
  EXPECT_EQ(*parse("true").if_bool(), true);
  EXPECT_EQ(*parse(" false ").if_bool(), false);
  EXPECT_EQ(*parse("-12").if_integer(), -12);
  EXPECT_EQ(*parse("1.5e2").if_double(), 150.0);
  EXPECT_EQ(*parse("\"a\"").if_string(), "a");
  EXPECT_EQ(parse("[]").if_array()->size(), 0u);
  EXPECT_EQ(parse("[1, [2], {}]").if_array()->size(), 3u);
  EXPECT_EQ(parse("{}").if_object()->size(), 0u);
  EXPECT_EQ(*parse("\t\r\n{ \"b\" : 1 , \"a\" : 2 } ").find("a")->if_integer(), 2);
}

TEST(Json, values_of_another_kind_are_null) {
  const Json value = parse("{\"a\": 1}");
  EXPECT_EQ(value.if_array(), nullptr);
  EXPECT_EQ(value.if_string(), nullptr);
  EXPECT_EQ(value.find("a")->if_double(), nullptr);
  EXPECT_EQ(value.find("b"), nullptr);
  EXPECT_EQ(parse("[1]").find("a"), nullptr);
}

TEST(Json, objects_keep_their_order) {
  EXPECT_EQ(round("{\"z\":1,\"a\":2,\"m\":3}"), "{\"z\":1,\"a\":2,\"m\":3}");
}

TEST(Json, integers_that_fit_stay_exact) {
  EXPECT_EQ(*parse("9223372036854775807").if_integer(), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(*parse("-9223372036854775808").if_integer(), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(*parse("9223372036854775808").if_double(), 9223372036854775808.0);
  EXPECT_EQ(*parse("-0").if_integer(), 0);
}

TEST(Json, extreme_doubles) {
  EXPECT_EQ(*parse("1e308").if_double(), 1e308);
  EXPECT_EQ(*parse("4.9406564584124654e-324").if_double(),
            std::numeric_limits<double>::denorm_min());
  EXPECT_EQ(*parse("1e-400").if_double(), 0.0);
  EXPECT_EQ(*parse("0.1").if_double(), 0.1);
  EXPECT_EQ(error_of("[1e309]"),
            "test: the number that ends at byte 6 must fit a double, got 1e309");
  EXPECT_EQ(error_of("-1e99999"),
            "test: the number that ends at byte 8 must fit a double, got -1e99999");
}

TEST(Json, strings_with_escapes) {
  EXPECT_EQ(*parse(R"("\"\\\/\b\f\n\r\t")").if_string(), "\"\\/\b\f\n\r\t");
  EXPECT_EQ(*parse(R"("\u0041\u00e9\u20AC\ud83d\ude00")").if_string(),
            "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
  EXPECT_EQ(*parse(R"("\u0000")").if_string(), std::string(1, '\0'));
  EXPECT_EQ(*parse("\"\xf4\x8f\xbf\xbf \x7f\"").if_string(), "\xf4\x8f\xbf\xbf \x7f");
}

TEST(Json, what_the_grammar_does_not_have_is_an_error_with_its_place) {
  EXPECT_EQ(error_of(""), "test: a value must come at byte 0, got the end");
  EXPECT_EQ(error_of("[1,]"), "test: a value must come at byte 3, got ']'");
  EXPECT_EQ(error_of("{\"a\":1,}"), "test: a key must come at byte 7, got '}'");
  EXPECT_EQ(error_of("[1 2]"), "test: ',' or ']' must come at byte 3, got '2'");
  EXPECT_EQ(error_of("{\"a\" 1}"), "test: ':' must come at byte 5, got '1'");
  EXPECT_EQ(error_of("{a:1}"), "test: a key must come at byte 1, got 'a'");
  EXPECT_EQ(error_of("{\"a\":1"), "test: ',' or '}' must come at byte 6, got the end");
  EXPECT_EQ(error_of("1 // one"), "test: the end must come at byte 2, got '/'");
  EXPECT_EQ(error_of("[/**/1]"), "test: a value must come at byte 1, got '/'");
  EXPECT_EQ(error_of("NaN"), "test: a value must come at byte 0, got 'N'");
  EXPECT_EQ(error_of("-Infinity"), "test: a digit must come at byte 1, got 'I'");
  EXPECT_EQ(error_of("nul"), "test: null must come at byte 0, got 'n'");
  EXPECT_EQ(error_of("01"),
            "test: no digit (leading zeros are not allowed) must come at byte 1, got '1'");
  EXPECT_EQ(error_of("+1"), "test: a value must come at byte 0, got '+'");
  EXPECT_EQ(error_of("1."), "test: a digit must come at byte 2, got the end");
  EXPECT_EQ(error_of(".5"), "test: a value must come at byte 0, got '.'");
  EXPECT_EQ(error_of("1e"), "test: a digit must come at byte 2, got the end");
  EXPECT_EQ(error_of("{} {}"), "test: the end must come at byte 3, got '{'");
  EXPECT_EQ(error_of("\xef\xbb\xbf{}"), "test: a value must come at byte 0, got byte value 239");
  EXPECT_EQ(error_of(std::string_view("1\0", 2)),
            "test: the end must come at byte 1, got byte value 0");
}

TEST(Json, bad_strings_are_errors) {
  EXPECT_EQ(error_of("\"a"), "test: a closing '\"' must come at byte 2, got the end");
  EXPECT_EQ(error_of("\"a\nb\""),
            "test: no control character but as an escape must come at byte 2, got byte value 10");
  for (const std::string_view text :
       {R"("\x")", R"("\u12")", R"("\u12g4")", R"("\u+123")", R"("\)", R"("\u)"}) {
    EXPECT_NE(error_of(text), "no error") << text;
  }
  for (const std::string_view text :
       {R"("\ud800")", R"("\udc00")", R"("\ud800\ud800")", R"("\ud800a")", R"("\ud83d\u0041")"}) {
    EXPECT_NE(error_of(text).find("surrogate"), std::string::npos) << text;
  }
  for (const std::string_view bytes :
       {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xc3", "\xe2\x82", "\xff", "\xf0\x9f\x98"}) {
    const std::string text = "\"" + std::string(bytes) + "\"";
    EXPECT_NE(error_of(text).find("well-formed UTF-8 must come at byte 1"), std::string::npos)
        << error_of(text);
  }
}

TEST(Json, depth_is_limited) {
  const auto nested = [](int depth) {
    return std::string(static_cast<size_t>(depth), '[') +
           std::string(static_cast<size_t>(depth), ']');
  };
  EXPECT_EQ(round(nested(kMaxJsonDepth)), nested(kMaxJsonDepth));
  EXPECT_EQ(error_of(nested(kMaxJsonDepth + 1)),
            "test: values must be nested at most 64 deep, got more at byte 64");
  EXPECT_NE(error_of(std::string(10'000'000, '[')), "no error");
  Json deep;
  for (int i = 0; i <= kMaxJsonDepth; ++i) deep = Json::Array{std::move(deep)};
  EXPECT_THROW((void)write_json(deep), Error) << "it could not be read back";
}

TEST(Json, size_is_limited) {
  EXPECT_EQ(*parse_json("[1]", "test", 3).if_array()->at(0).if_integer(), 1);
  try {
    (void)parse_json("[1] ", "spec.json", 3);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "spec.json: JSON text must have at most 3 bytes, got 4");
  }
}

TEST(Json, keys_that_come_twice_are_an_error) {
  EXPECT_EQ(
      error_of(R"({"a":1,"b":2,"\u0061":3})"),
      "test: the keys of an object must differ, got \"a\" twice in the one that ends at byte 24");
  std::string many = "{";
  for (int i = 0; i < 100'000; ++i) many += "\"key" + std::to_string(i) + "\":0,";
  EXPECT_EQ(parse(many + "\"last\":0}").if_object()->size(), 100'001u);
  EXPECT_NE(error_of(many + "\"key777\":0}").find("\"key777\" twice"), std::string::npos);
}

TEST(Json, writes_one_line_or_an_indented_form) {
  const Json value =
      parse(R"({"a":[1,2.5,"x"],"b":{"c":null,"d":{}},"e":[],"f":[[1],{"g":true}]})");
  EXPECT_EQ(write_json(value),
            R"({"a":[1,2.5,"x"],"b":{"c":null,"d":{}},"e":[],"f":[[1],{"g":true}]})");
  EXPECT_EQ(write_json(value, 2), R"({
  "a": [1, 2.5, "x"],
  "b": {
    "c": null,
    "d": {}
  },
  "e": [],
  "f": [
    [1],
    {
      "g": true
    }
  ]
})");
  EXPECT_EQ(write_json(parse(write_json(value, 2))), write_json(value));
}

TEST(Json, doubles_read_back_to_the_same_bits_and_as_doubles) {
  std::mt19937_64 random(7);
  const auto check = [](double value) {
    const Json back = parse(write_json(value));
    ASSERT_NE(back.if_double(), nullptr) << write_json(value);
    EXPECT_EQ(std::bit_cast<uint64_t>(*back.if_double()), std::bit_cast<uint64_t>(value));
  };
  for (const double value :
       {0.0, -0.0, 1.0, -1.0, 1e22, 1e-5, 0.1, 1e300, 5e-324, 1.7976931348623157e308})
    check(value);
  for (int i = 0; i < 100'000; ++i) {
    const auto value = std::bit_cast<double>(random());
    if (std::isfinite(value)) check(value);
  }
}

TEST(Json, strings_read_back) {
  std::string all;
  for (int c = 0; c < 128; ++c) all.push_back(static_cast<char>(c));
  for (const uint32_t code :
       {0x80u, 0x7ffu, 0x800u, 0xd7ffu, 0xe000u, 0xffffu, 0x10000u, 0x10ffffu})
    append_utf8(all, code);
  EXPECT_EQ(*parse(write_json(all)).if_string(), all);
}

TEST(Json, what_json_cannot_hold_is_an_error) {
  const auto message = [](const Json& value) -> std::string {
    try {
      (void)write_json(value);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::value);
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(message(std::nan("")), "write_json: numbers must be finite, got nan");
  EXPECT_EQ(message(-INFINITY), "write_json: numbers must be finite, got -inf");
  EXPECT_EQ(message("a\xff"), "write_json: strings must be well-formed UTF-8, got byte value 255");
}

}  // namespace
}  // namespace fuseq::inline v0
