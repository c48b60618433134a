// SPDX-License-Identifier: Apache-2.0
// Token ids in, token ids out, with a tiny model of this repository.
#include <fuseq/fuseq.h>

#include <cstdint>
#include <iostream>
#include <vector>

int main() {
  const auto model = fuseq::Model::load("tests/golden/bart_tiny");
  const std::vector<int32_t> source = {5, 17, 42, 2};
  const std::vector<fuseq::Prompt> prompts = {{.encoder_ids = source, .decoder_ids = {}}};
  fuseq::GenerationOptions options;
  options.max_new_tokens = 12;
  const auto results = fuseq::generate(*model, prompts, options);
  for (const int32_t id : results[0][0].ids) std::cout << id << ' ';
  std::cout << '\n';
}
