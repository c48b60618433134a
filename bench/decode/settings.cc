// SPDX-License-Identifier: Apache-2.0
// Reads the command line of fuseq-bench.
#include "decode/settings.h"

#include "decode/arguments.h"

namespace fuseq::bench {

Settings parse_settings(const std::vector<std::string>& arguments) {
  Settings settings;
  for (const Argument& argument : read_arguments("fuseq-bench", arguments)) {
    const std::string& option = argument.option;
    if (option == "--help") {
      settings.help = true;
      return settings;
    }
    if (option == "--models") {
      settings.models = argument.words();
    } else if (option == "--dtypes") {
      settings.dtypes = argument.dtypes();
    } else if (option == "--threads") {
      settings.threads = argument.numbers(0);
    } else if (option == "--batches") {
      settings.batches = argument.numbers(1);
    } else if (option == "--beams") {
      settings.beams = argument.numbers(1);
    } else if (option == "--source-lengths") {
      settings.source_lengths = argument.numbers(1);
    } else if (option == "--prompt-lengths") {
      settings.prompt_lengths = argument.numbers(1);
    } else if (option == "--new-tokens") {
      settings.new_tokens = argument.numbers(2);
    } else if (option == "--repetitions") {
      settings.repetitions = argument.number(1);
    } else if (option == "--warm-ups") {
      settings.warm_ups = argument.number(0);
    } else if (option == "--isa") {
      settings.isa = argument.choose<CpuIsa>({{"automatic", CpuIsa::automatic},
                                              {"portable", CpuIsa::portable},
                                              {"avx2", CpuIsa::avx2},
                                              {"avx512", CpuIsa::avx512}});
    } else if (option == "--output") {
      settings.output = argument.choose<Output>(
          {{"markdown", Output::markdown}, {"csv", Output::csv}, {"json", Output::json}});
    } else {
      Argument{argument.program, "an option", option}.refuse("one of those that --help lists");
    }
  }
  return settings;
}

const char* usage() noexcept {
  return R"(fuseq-bench: tokens per second of whole generations, for every combination of the lists

  --models LIST          shapes with random weights (tiny, tiny-causal, bart-base, bart-large, marian-base, gpt2,
                         gpt2-medium, gpt2-large) or folders of fuseq's own format   [bart-base,gpt2]
  --dtypes LIST          float32, bfloat16, int8                                     [float32]
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
