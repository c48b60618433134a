// SPDX-License-Identifier: Apache-2.0
// Reads command lines of the form --option value.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "fuseq/dtype.h"

namespace fuseq::bench {

/// An option and its value as typed. What reads the value throws Error(value) for a wrong one.
struct Argument {
  std::string program;
  std::string option;
  std::string text;

  [[noreturn]] void refuse(const std::string& wanted) const;
  /// The parts of a list between commas.
  [[nodiscard]] std::vector<std::string> words() const;
  [[nodiscard]] int number(int lowest) const;
  [[nodiscard]] std::vector<int> numbers(int lowest) const;
  [[nodiscard]] std::vector<DType> dtypes() const;

  template <typename Value>
  [[nodiscard]] Value choose(const std::map<std::string, Value>& known) const {
    const auto found = known.find(text);
    if (found != known.end()) return found->second;
    std::string names;
    for (const auto& [name, value] : known) names += (names.empty() ? "" : ", ") + name;
    refuse("one of " + names);
  }
};

/// All options with their values, in order; --help and -h have none. Throws Error(value) for
/// anything else.
[[nodiscard]] std::vector<Argument> read_arguments(const std::string& program,
                                                   const std::vector<std::string>& arguments);

}  // namespace fuseq::bench
