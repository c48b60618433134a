// SPDX-License-Identifier: Apache-2.0
// Reads command lines.
#include "decode/arguments.h"

#include <charconv>
#include <sstream>

#include "fuseq/error.h"

namespace fuseq::bench {

void Argument::refuse(const std::string& wanted) const {
  throw Error(ErrorKind::value,
              program + ": " + option + " must be " + wanted + ", got \"" + text + "\"");
}

std::vector<std::string> Argument::words() const {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  if (parts.empty()) refuse("a list");
  return parts;
}

int Argument::number(int lowest) const {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < lowest) {
    refuse("a whole number from " + std::to_string(lowest) + " on");
  }
  return value;
}

std::vector<int> Argument::numbers(int lowest) const {
  std::vector<int> values;
  for (const std::string& word : words()) {
    values.push_back(Argument{program, option, word}.number(lowest));
  }
  return values;
}

std::vector<DType> Argument::dtypes() const {
  std::vector<DType> values;
  for (const std::string& word : words()) {
    values.push_back(Argument{program, option, word}.choose<DType>(
        {{"float32", DType::f32}, {"bfloat16", DType::bf16}, {"int8", DType::i8}}));
  }
  return values;
}

std::vector<Argument> read_arguments(const std::string& program,
                                     const std::vector<std::string>& arguments) {
  std::vector<Argument> read;
  for (size_t i = 0; i < arguments.size(); ++i) {
    Argument argument{program, arguments[i], ""};
    if (argument.option == "-h") argument.option = "--help";
    if (argument.option != "--help") {
      if (!argument.option.starts_with("--")) {
        Argument{program, "an argument", argument.option}.refuse("an option");
      }
      if (i + 1 == arguments.size()) argument.refuse("followed by a value");
      argument.text = arguments[++i];
    }
    read.push_back(std::move(argument));
  }
  return read;
}

}  // namespace fuseq::bench
