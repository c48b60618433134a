// SPDX-License-Identifier: Apache-2.0
// A small JSON reader and writer for files that strangers may have made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace fuseq::inline v0 {

/// A JSON value. Objects keep their order; duplicate keys are an error. Integers that fit int64
/// stay exact.
class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;

  Json() : value_(nullptr) {}
  Json(std::nullptr_t) : value_(nullptr) {}
  Json(bool value) : value_(value) {}
  Json(int value) : value_(static_cast<int64_t>(value)) {}
  Json(int64_t value) : value_(value) {}
  Json(double value) : value_(value) {}
  Json(std::string value) : value_(std::move(value)) {}
  Json(const char* value) : value_(std::string(value)) {}
  Json(Array value) : value_(std::move(value)) {}
  Json(Object value) : value_(std::move(value)) {}

  [[nodiscard]] bool is_null() const noexcept {
    return std::holds_alternative<std::nullptr_t>(value_);
  }
  /// Null when the value is of another kind.
  [[nodiscard]] const bool* if_bool() const noexcept { return std::get_if<bool>(&value_); }
  [[nodiscard]] const int64_t* if_integer() const noexcept { return std::get_if<int64_t>(&value_); }
  [[nodiscard]] const double* if_double() const noexcept { return std::get_if<double>(&value_); }
  [[nodiscard]] const std::string* if_string() const noexcept {
    return std::get_if<std::string>(&value_);
  }
  [[nodiscard]] const Array* if_array() const noexcept { return std::get_if<Array>(&value_); }
  [[nodiscard]] const Object* if_object() const noexcept { return std::get_if<Object>(&value_); }
  /// The member `key` of an object; null if there is none or this is no object.
  [[nodiscard]] const Json* find(std::string_view key) const noexcept;

 private:
  std::variant<std::nullptr_t, bool, int64_t, double, std::string, Array, Object> value_;
};

/// Limits of what is read; more is an error.
inline constexpr int kMaxJsonDepth = 64;
inline constexpr size_t kMaxJsonBytes = size_t{64} << 20;

/// Parses one document of at most `max_bytes` (RFC 8259; UTF-8 is checked). `what` names it in
/// messages. Throws Error(format) with the byte offset. Needs no more than a small multiple of the
/// text in memory.
[[nodiscard]] Json parse_json(std::string_view text, std::string_view what,
                              size_t max_bytes = kMaxJsonBytes);

/// indent 0: one line; else that many blanks per level, arrays of plain values on one line. Numbers
/// read back exactly; NaN and infinities throw Error(value).
[[nodiscard]] std::string write_json(const Json& value, int indent = 0);

}  // namespace fuseq::inline v0
