// SPDX-License-Identifier: Apache-2.0
// Joins parts into an error message (the compiler's library has no std::format yet).
#pragma once

#include <sstream>
#include <string>

#include "fuseq/error.h"
#include "fuseq/shape.h"

namespace fuseq::inline v0 {

/// Messages take shapes as they are: nothing is formatted unless the message is needed.
inline std::ostream& operator<<(std::ostream& stream, const Shape& shape) {
  return stream << shape.to_string();
}

template <typename... Parts>
[[nodiscard]] std::string concat(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return std::move(text).str();
}

/// Throws Error(kind, concat(parts...)).
template <typename... Parts>
[[noreturn]] void fail(ErrorKind kind, const Parts&... parts) {
  throw Error(kind, concat(parts...));
}

/// Throws Error(value, concat(parts...)) unless `condition` holds.
template <typename... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) [[unlikely]]
    fail(ErrorKind::value, parts...);
}

}  // namespace fuseq::inline v0
