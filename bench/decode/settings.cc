// SPDX-License-Identifier: Apache-2.0
// Reads the command line of fuseq-bench.
#include "decode/settings.h"

#include <charconv>
#include <map>
#include <sstream>
#include <utility>

#include "fuseq/error.h"

namespace fuseq::bench {
namespace {

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

[[noreturn]] void refuse(const std::string& option, const std::string& wanted,
                         const std::string& got) {
  throw Error(ErrorKind::value,
              "fuseq-bench: " + option + " must be " + wanted + ", got \"" + got + "\"");
}

int to_int(const std::string& option, const std::string& text, int lowest) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < lowest) {
    refuse(option, "a whole number from " + std::to_string(lowest) + " on", text);
  }
  return value;
}

std::vector<int> to_ints(const std::string& option, const std::string& text, int lowest) {
  std::vector<int> values;
  for (const std::string& part : split(text)) values.push_back(to_int(option, part, lowest));
  if (values.empty()) refuse(option, "a list of whole numbers", text);
  return values;
}

template <typename Value>
Value choose(const std::string& option, const std::string& text,
             const std::map<std::string, Value>& known) {
  const auto found = known.find(text);
  if (found != known.end()) return found->second;
  std::string names;
  for (const auto& [name, value] : known) names += (names.empty() ? "" : ", ") + name;
  refuse(option, "one of " + names, text);
}

}  // namespace

Settings parse_settings(const std::vector<std::string>& arguments) {
  Settings settings;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& option = arguments[i];
    if (option == "--help" || option == "-h") {
      settings.help = true;
      return settings;
    }
    if (!option.starts_with("--")) refuse("an argument", "an option", option);
    if (i + 1 == arguments.size()) refuse(option, "followed by a value", "");
    const std::string& text = arguments[++i];
    if (option == "--models") {
      settings.models = split(text);
    } else if (option == "--dtypes") {
      settings.dtypes.clear();
      for (const std::string& part : split(text)) {
        settings.dtypes.push_back(
            choose<DType>(option, part, {{"float32", DType::f32}, {"bfloat16", DType::bf16}}));
      }
    } else if (option == "--threads") {
      settings.threads = to_ints(option, text, 0);
    } else if (option == "--batches") {
      settings.batches = to_ints(option, text, 1);
    } else if (option == "--beams") {
      settings.beams = to_ints(option, text, 1);
    } else if (option == "--source-lengths") {
      settings.source_lengths = to_ints(option, text, 1);
    } else if (option == "--prompt-lengths") {
      settings.prompt_lengths = to_ints(option, text, 1);
    } else if (option == "--new-tokens") {
      settings.new_tokens = to_ints(option, text, 2);
    } else if (option == "--repetitions") {
      settings.repetitions = to_int(option, text, 1);
    } else if (option == "--warm-ups") {
      settings.warm_ups = to_int(option, text, 0);
    } else if (option == "--isa") {
      settings.isa = choose<CpuIsa>(option, text,
                                    {{"automatic", CpuIsa::automatic},
                                     {"portable", CpuIsa::portable},
                                     {"avx2", CpuIsa::avx2},
                                     {"avx512", CpuIsa::avx512}});
    } else if (option == "--output") {
      settings.output = choose<Output>(
          option, text,
          {{"markdown", Output::markdown}, {"csv", Output::csv}, {"json", Output::json}});
    } else {
      refuse("an option", "one of those that --help lists", option);
    }
  }
  return settings;
}

const char* usage() noexcept {
  return R"(fuseq-bench: tokens per second of whole generations, for every combination of the lists

  --models LIST          shapes with random weights (tiny, tiny-causal, bart-base, bart-large, marian-base, gpt2,
                         gpt2-medium, gpt2-large) or folders of fuseq's own format   [bart-base,gpt2]
  --dtypes LIST          float32, bfloat16                                           [float32]
  --threads LIST         0: the library's choice                                     [0]
  --batches LIST         prompts at a time                                           [1]
  --beams LIST           1: greedy search                                            [1]
  --source-lengths LIST  tokens of a source (sequence-to-sequence models)            [128]
  --prompt-lengths LIST  tokens of a prompt (causal models)                          [64]
  --new-tokens LIST      tokens to generate, at least 2; stop ids are banned         [64]
  --repetitions N        measured runs                                               [5]
  --warm-ups N           runs before them                                            [1]
  --isa NAME             automatic, portable, avx2, avx512                           [automatic]
  --output NAME          markdown, csv, json                                         [markdown]
)";
}

}  // namespace fuseq::bench
