// SPDX-License-Identifier: Apache-2.0
// The grammar of JSON, strictly.
// Source: https://www.rfc-editor.org/rfc/rfc8259
#include "base/json_reader.h"

#include <charconv>
#include <cmath>
#include <limits>

#include "base/json.h"
#include "base/message.h"
#include "base/utf8.h"

namespace fuseq::inline v0 {

namespace {

bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}

}  // namespace

void JsonReader::fail_here(std::string_view must) const {
  std::string got = "the end";
  if (at_ < text_.size()) {
    const char c = text_[at_];
    const bool plain = c > ' ' && c < 0x7f;
    got = plain ? concat("'", c, "'") : concat("byte value ", int{static_cast<unsigned char>(c)});
  }
  fail(ErrorKind::format, what_, ": ", must, " must come at byte ", at_, ", got ", got);
}

void JsonReader::skip_space() noexcept {
  while (at_ < text_.size()) {
    const char c = text_[at_];
    if (c != ' ' && c != '\n' && c != '\r' && c != '\t') return;
    ++at_;
  }
}

JsonReader::Kind JsonReader::peek() {
  skip_space();
  const char c = next();
  switch (c) {
    case 'n': return Kind::null;
    case 't':
    case 'f': return Kind::boolean;
    case '"': return Kind::string;
    case '[': return Kind::array;
    case '{': return Kind::object;
    default: break;
  }
  if (c != '-' && !is_digit(c)) fail_here("a value");
  return Kind::number;
}

void JsonReader::read_word(std::string_view word) {
  skip_space();
  if (text_.substr(at_, word.size()) != word) fail_here(word);
  at_ += word.size();
}

bool JsonReader::read_bool() {
  skip_space();
  const bool value = next() == 't';
  read_word(value ? "true" : "false");
  return value;
}

// ---- numbers ------------------------------------------------------------------------------------

void JsonReader::scan_digits() {
  if (!is_digit(next())) fail_here("a digit");
  while (is_digit(next())) ++at_;
}

std::string_view JsonReader::scan_number(bool& whole) {
  skip_space();
  const size_t start = at_;
  if (next() == '-') ++at_;
  if (next() == '0') {
    ++at_;
    if (is_digit(next())) fail_here("no digit (leading zeros are not allowed)");
  } else {
    scan_digits();
  }
  whole = true;
  if (next() == '.') {
    whole = false;
    ++at_;
    scan_digits();
  }
  if (next() == 'e' || next() == 'E') {
    whole = false;
    ++at_;
    if (next() == '+' || next() == '-') ++at_;
    scan_digits();
  }
  return text_.substr(start, at_ - start);
}

std::variant<int64_t, double> JsonReader::read_number() {
  bool whole = false;
  const std::string_view text = scan_number(whole);
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  if (int64_t integer = 0; whole && std::from_chars(begin, end, integer).ec == std::errc()) {
    return integer;
  }
  double value = 0;
  if (std::from_chars(begin, end, value).ec == std::errc() && std::isfinite(value)) return value;
  // Too large or too small, which only a wider type can tell; too small is zero.
  long double wide = std::numeric_limits<long double>::infinity();
  const bool known = std::from_chars(begin, end, wide).ec == std::errc();
  if (!known || std::abs(wide) > std::numeric_limits<double>::max()) {
    fail(ErrorKind::format, what_, ": the number that ends at byte ", at_,
         " must fit a double, got ", text.substr(0, 40));
  }
  return static_cast<double>(wide);
}

int64_t JsonReader::read_size(std::string_view name) {
  if (peek() != Kind::number) fail_here(name);
  const size_t start = at_;
  const auto number = read_number();
  if (const auto* integer = std::get_if<int64_t>(&number); integer != nullptr && *integer >= 0) {
    return *integer;
  }
  fail(ErrorKind::format, what_, ": ", name, " at byte ", start,
       " must be a whole number of at least 0, got ",
       text_.substr(start, std::min(at_ - start, size_t{40})));
}

// ---- strings ------------------------------------------------------------------------------------

void JsonReader::read_string(std::string& out) {
  const size_t start = at_;
  scan_string(nullptr);  // for its length, so that `out` does not grow by doubling
  out.clear();
  out.reserve(at_ - start);
  at_ = start;
  scan_string(&out);
}

void JsonReader::scan_string(std::string* out) {
  skip_space();
  if (next() != '"') fail_here("a string");
  ++at_;
  for (;;) {
    const size_t start = at_;
    while (at_ < text_.size()) {
      const auto c = static_cast<unsigned char>(text_[at_]);
      if (c < 0x20 || c >= 0x80 || c == '"' || c == '\\') break;
      ++at_;
    }
    if (at_ < text_.size() && static_cast<unsigned char>(text_[at_]) >= 0x80) {
      const size_t length = utf8_length(text_.substr(at_));
      if (length == 0) fail_here("well-formed UTF-8");
      at_ += length;
    }
    if (out != nullptr) out->append(text_, start, at_ - start);
    if (at_ == text_.size()) fail_here("a closing '\"'");
    if (text_[at_] == '"') break;
    if (text_[at_] == '\\') {
      scan_escape(out);
    } else if (static_cast<unsigned char>(text_[at_]) < 0x20) {
      fail_here("no control character but as an escape");
    }
  }
  ++at_;
}

void JsonReader::scan_escape(std::string* out) {
  ++at_;  // the backslash
  constexpr std::string_view kNames = "\"\\/bfnrt";
  constexpr std::string_view kValues = "\"\\/\b\f\n\r\t";
  const char c = next();
  if (const size_t index = kNames.find(c); index != kNames.npos) {
    ++at_;
    if (out != nullptr) out->push_back(kValues[index]);
    return;
  }
  if (c != 'u') fail_here("an escape, one of \" \\ / b f n r t u,");
  ++at_;
  uint32_t code = scan_hex4();
  if (code >= 0xdc00 && code < 0xe000) fail_here("a first surrogate before a second one, which");
  if (code >= 0xd800 && code < 0xdc00) {
    if (text_.substr(at_, 2) != "\\u") fail_here("the second of two surrogates");
    at_ += 2;
    const uint32_t second = scan_hex4();
    if (second < 0xdc00 || second >= 0xe000) fail_here("the second of two surrogates, which");
    code = 0x10000 + ((code - 0xd800) << 10) + (second - 0xdc00);
  }
  if (out != nullptr) append_utf8(*out, code);
}

uint32_t JsonReader::scan_hex4() {
  const std::string_view digits = text_.substr(at_, 4);
  uint32_t code = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
  if (digits.size() != 4 || error != std::errc() || end != digits.data() + 4) {
    fail_here("four hexadecimal digits");
  }
  at_ += 4;
  return code;
}

// ---- arrays and objects -------------------------------------------------------------------------

bool JsonReader::enter(char open, char close, std::string_view name) {
  skip_space();
  if (next() != open) fail_here(name);
  if (depth_ == kMaxJsonDepth) {
    fail(ErrorKind::format, what_, ": values must be nested at most ", kMaxJsonDepth,
         " deep, got more at byte ", at_);
  }
  ++at_;
  skip_space();
  if (next() == close) {
    ++at_;
    return false;
  }
  ++depth_;
  return true;
}

bool JsonReader::more(char close) {
  skip_space();
  if (next() == ',') {
    ++at_;
    return true;
  }
  if (next() != close) fail_here(close == ']' ? "',' or ']'" : "',' or '}'");
  ++at_;
  --depth_;
  return false;
}

void JsonReader::read_key(std::string& out) {
  scan_key(&out);
}

void JsonReader::scan_key(std::string* out) {
  skip_space();
  if (next() != '"') fail_here("a key");
  out != nullptr ? read_string(*out) : scan_string(nullptr);
  skip_space();
  if (next() != ':') fail_here("':'");
  ++at_;
}

void JsonReader::skip_value() {
  switch (peek()) {
    case Kind::null: return read_null();
    case Kind::boolean: return (void)read_bool();
    case Kind::number: return (void)read_number();
    case Kind::string: return scan_string(nullptr);
    case Kind::array:
      if (enter_array()) {
        do skip_value();
        while (more_elements());
      }
      return;
    case Kind::object:
      if (enter_object()) {
        do {
          scan_key(nullptr);
          skip_value();
        } while (more_members());
      }
      return;
  }
}

void JsonReader::finish() {
  skip_space();
  if (at_ != text_.size()) fail_here("the end");
}

}  // namespace fuseq::inline v0
