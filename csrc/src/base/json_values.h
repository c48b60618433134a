// SPDX-License-Identifier: Apache-2.0
// Plain values to JSON and back, for structs whose fields are listed once.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/json.h"
#include "base/message.h"

namespace fuseq::inline v0 {

/// The shortest decimal that reads back to the same float, rather than the digits of the double
/// next to it.
[[nodiscard]] inline Json json_of(float value) {
  const double shortest = std::stod(concat(value));
  return static_cast<float>(shortest) == value ? Json(shortest) : Json(static_cast<double>(value));
}
[[nodiscard]] inline Json json_of(bool value) {
  return Json(value);
}
[[nodiscard]] inline Json json_of(int value) {
  return Json(value);
}
[[nodiscard]] inline Json json_of(const std::string& value) {
  return Json(value);
}

/// Throws Error(format): `<what>: <path> must be <wanted>, got <json>`.
[[noreturn]] inline void fail_kind(std::string_view what, const std::string& path,
                                   std::string_view wanted, const Json& json) {
  std::string text = write_json(json);
  if (text.size() > 60) text = text.substr(0, 60) + "...";
  fail(ErrorKind::format, what, ": ", path, " must be ", wanted, ", got ", text);
}

inline void read_json(const Json& json, std::string_view what, const std::string& path,
                      bool& value) {
  if (json.if_bool() == nullptr) fail_kind(what, path, "true or false", json);
  value = *json.if_bool();
}
inline void read_json(const Json& json, std::string_view what, const std::string& path,
                      int& value) {
  const int64_t* number = json.if_integer();
  if (number == nullptr || *number < std::numeric_limits<int>::min() ||
      *number > std::numeric_limits<int>::max()) {
    fail_kind(what, path, "a whole number of 32 bits", json);
  }
  value = static_cast<int>(*number);
}
inline void read_json(const Json& json, std::string_view what, const std::string& path,
                      float& value) {
  if (json.if_integer() != nullptr) {
    value = static_cast<float>(*json.if_integer());
  } else if (json.if_double() != nullptr && std::isfinite(static_cast<float>(*json.if_double()))) {
    value = static_cast<float>(*json.if_double());
  } else {
    fail_kind(what, path, "a number in the range of float32", json);
  }
}
inline void read_json(const Json& json, std::string_view what, const std::string& path,
                      std::string& value) {
  if (json.if_string() == nullptr) fail_kind(what, path, "a string", json);
  value = *json.if_string();
}

}  // namespace fuseq::inline v0
