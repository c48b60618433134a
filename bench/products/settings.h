// SPDX-License-Identifier: Apache-2.0
// What fuseq-products is asked to measure.
#pragma once

#include <string>
#include <vector>

#include "decode/settings.h"
#include "fuseq/dtype.h"

namespace fuseq::bench {

struct ProductSettings {
  std::vector<std::string> models = {"bart-base", "gpt2"};  ///< names of shapes.h
  std::vector<DType> dtypes = {DType::f32, DType::bf16, DType::i8};
  std::vector<int> threads = {0};  ///< 0: what a Context would take
  std::vector<int> rows = {256, 512, 1024};
  int rounds = 8;
  Output output = Output::markdown;
  bool help = false;
};

/// Throws Error(value) for an unknown option or a value that is none.
[[nodiscard]] ProductSettings parse_product_settings(const std::vector<std::string>& arguments);

/// The text of --help.
[[nodiscard]] const char* product_usage() noexcept;

}  // namespace fuseq::bench
