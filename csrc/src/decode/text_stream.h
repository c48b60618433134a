// SPDX-License-Identifier: Apache-2.0
// TextStream: characters out of bytes that come token by token.
#pragma once

#include <string>
#include <string_view>

namespace fuseq::inline v0 {

/// Holds back the bytes of an unfinished character.
class TextStream {
 public:
  /// The characters that `bytes` complete, in UTF-8. What can be no character becomes U+FFFD, once
  /// for each longest beginning of one, so that all texts of a row joined are those of all its
  /// bytes decoded at once. `is_last`: nothing is held back. Valid until the next call.
  std::string_view push(std::string_view bytes, bool is_last);

 private:
  std::string held_;
  std::string text_;
};

}  // namespace fuseq::inline v0
