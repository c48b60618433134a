// SPDX-License-Identifier: Apache-2.0
// What fuseq-bench is asked to run: every combination of the lists.
#pragma once

#include <string>
#include <vector>

#include "fuseq/device.h"
#include "fuseq/dtype.h"

namespace fuseq::bench {

enum class Output { markdown, csv, json };

struct Settings {
  std::vector<std::string> models = {"bart-base",
                                     "gpt2"};  ///< names of shapes.h, or folders of our own
  std::vector<DType> dtypes = {DType::f32};
  std::vector<int> threads = {0};  ///< 0: what a Context would take
  std::vector<int> batches = {1};
  std::vector<int> beams = {1};
  std::vector<int> source_lengths = {128};
  std::vector<int> prompt_lengths = {64};
  std::vector<int> new_tokens = {64};
  int repetitions = 5;
  int warm_ups = 1;
  CpuIsa isa = CpuIsa::automatic;
  Output output = Output::markdown;
  bool help = false;
};

/// Throws Error(value) for an unknown option or a value that is none.
[[nodiscard]] Settings parse_settings(const std::vector<std::string>& arguments);

/// The text of --help.
[[nodiscard]] const char* usage() noexcept;

}  // namespace fuseq::bench
