// SPDX-License-Identifier: Apache-2.0
// Writes Json values as text.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "base/json.h"
#include "base/message.h"
#include "base/utf8.h"

namespace fuseq::inline v0 {

namespace {

class Writer {
 public:
  explicit Writer(int indent) : indent_(indent) {}

  void write(const Json& value, int depth) {
    if (value.is_null()) {
      out_ += "null";
    } else if (const bool* flag = value.if_bool()) {
      out_ += *flag ? "true" : "false";
    } else if (const int64_t* integer = value.if_integer()) {
      out_ += std::to_string(*integer);
    } else if (const double* number = value.if_double()) {
      write_double(*number);
    } else if (const std::string* text = value.if_string()) {
      write_string(*text);
    } else {
      require(depth < kMaxJsonDepth, "write_json: values must be nested at most ", kMaxJsonDepth,
              " deep, got more");
      if (const Json::Array* elements = value.if_array()) {
        write_array(*elements, depth + 1);
      } else {
        write_object(*value.if_object(), depth + 1);
      }
    }
  }

  [[nodiscard]] std::string take() && { return std::move(out_); }

 private:
  /// The shortest digits that read back as the same double, and as a double.
  void write_double(double number) {
    require(std::isfinite(number), "write_json: numbers must be finite, got ", number);
    std::array<char, 32> digits;
    const auto result = std::to_chars(digits.data(), digits.data() + digits.size(), number);
    const std::string_view text(digits.data(), static_cast<size_t>(result.ptr - digits.data()));
    out_ += text;
    if (text.find_first_of(".e") == text.npos) out_ += ".0";
  }

  void write_string(std::string_view text) {
    out_ += '"';
    while (!text.empty()) {
      const size_t length = utf8_length(text);
      require(length > 0, "write_json: strings must be well-formed UTF-8, got byte value ",
              int{static_cast<unsigned char>(text.front())});
      const char c = text.front();
      constexpr std::string_view kValues = "\"\\\b\f\n\r\t";
      constexpr std::string_view kNames = "\"\\bfnrt";
      if (const size_t index = kValues.find(c); index != kValues.npos) {
        out_ += '\\';
        out_ += kNames[index];
      } else if (static_cast<unsigned char>(c) < 0x20) {
        constexpr std::string_view kHex = "0123456789abcdef";
        out_ += "\\u00";
        out_ += kHex[static_cast<size_t>(c >> 4)];
        out_ += kHex[static_cast<size_t>(c & 15)];
      } else {
        out_ += text.substr(0, length);
      }
      text.remove_prefix(length);
    }
    out_ += '"';
  }

  void write_array(const Json::Array& elements, int depth) {
    const bool plain = std::ranges::none_of(elements, [](const Json& element) {
      return element.if_array() != nullptr || element.if_object() != nullptr;
    });
    out_ += '[';
    bool first = true;
    for (const Json& element : elements) {
      if (!first) out_ += ',';
      if (!plain) {
        break_line(depth);
      } else if (!first && indent_ > 0) {
        out_ += ' ';
      }
      write(element, depth);
      first = false;
    }
    if (!plain) break_line(depth - 1);
    out_ += ']';
  }

  void write_object(const Json::Object& members, int depth) {
    out_ += '{';
    bool first = true;
    for (const auto& [key, value] : members) {
      if (!first) out_ += ',';
      break_line(depth);
      write_string(key);
      out_ += indent_ > 0 ? ": " : ":";
      write(value, depth);
      first = false;
    }
    if (!first) break_line(depth - 1);
    out_ += '}';
  }

  void break_line(int depth) {
    if (indent_ == 0) return;
    out_ += '\n';
    out_.append(static_cast<size_t>(indent_) * static_cast<size_t>(depth), ' ');
  }

  int indent_;
  std::string out_;
};

}  // namespace

std::string write_json(const Json& value, int indent) {
  require(indent >= 0 && indent <= 16, "write_json: indent must be in 0 ... 16, got ", indent);
  Writer writer(indent);
  writer.write(value, 0);
  return std::move(writer).take();
}

}  // namespace fuseq::inline v0
