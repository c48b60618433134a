// SPDX-License-Identifier: Apache-2.0
// Walks through JSON text value by value without building anything, for headers too large to trust.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

namespace fuseq::inline v0 {

/// Reads one document front to back. The caller asks for what it expects; anything else throws
/// Error(format) with the byte offset. Duplicate keys are the caller's business. `what` names the
/// text in messages.
///
///   if (reader.enter_object()) do {
///     reader.read_key(key);
///     reader.skip_value();
///   } while (reader.more_members());
class JsonReader {
 public:
  JsonReader(std::string_view text, std::string_view what) : text_(text), what_(what) {}

  enum class Kind { null, boolean, number, string, array, object };
  /// What comes next, told by its first character.
  [[nodiscard]] Kind peek();

  void read_null() { read_word("null"); }
  [[nodiscard]] bool read_bool();
  /// Whole numbers that fit are int64, all others double; beyond the range of double is an error.
  [[nodiscard]] std::variant<int64_t, double> read_number();
  /// Replaces `out`.
  void read_string(std::string& out);
  /// The whole number >= 0 that must come next; `name` says in messages what it is.
  [[nodiscard]] int64_t read_size(std::string_view name);

  /// False if the array is empty, and then it is already left.
  [[nodiscard]] bool enter_array() { return enter('[', ']', "an array"); }
  /// After an element: whether another follows; if not, the array is left.
  [[nodiscard]] bool more_elements() { return more(']'); }
  [[nodiscard]] bool enter_object() { return enter('{', '}', "an object"); }
  void read_key(std::string& out);
  [[nodiscard]] bool more_members() { return more('}'); }

  /// Checks a value of any kind and forgets it.
  void skip_value();
  /// Only white space may be left.
  void finish();

  /// Where reading goes on.
  [[nodiscard]] size_t offset() const noexcept { return at_; }
  /// The same after white space: where the next key or value begins.
  [[nodiscard]] size_t offset_of_next() noexcept {
    skip_space();
    return at_;
  }
  /// Throws: `what`: `must` must come at byte ..., got ...
  [[noreturn]] void fail_here(std::string_view must) const;

 private:
  void skip_space() noexcept;
  void read_word(std::string_view word);
  bool enter(char open, char close, std::string_view name);
  bool more(char close);
  void scan_string(std::string* out);
  void scan_escape(std::string* out);
  uint32_t scan_hex4();
  void scan_key(std::string* out);
  void scan_digits();
  std::string_view scan_number(bool& whole);
  [[nodiscard]] char next() const noexcept { return at_ < text_.size() ? text_[at_] : '\0'; }

  std::string_view text_;
  std::string_view what_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace fuseq::inline v0
