// SPDX-License-Identifier: Apache-2.0
// Generates ids from ids: the app of an embedder. Usage: generate FOLDER MAX_LENGTH BEAMS ID...
#include <fuseq/fuseq.h>

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <span>
#include <vector>

int main(int argc, char** argv) {
  if (argc < 5) {
    std::cerr << "usage: generate FOLDER MAX_LENGTH BEAMS ID...\n";
    return 2;
  }
  try {
    const auto model = fuseq::Model::load(argv[1]);
    fuseq::GenerationOptions options;
    options.max_length = std::atoi(argv[2]);
    options.num_beams = std::atoi(argv[3]);
    std::vector<int32_t> ids;
    for (int i = 4; i < argc; ++i) ids.push_back(std::atoi(argv[i]));

    fuseq::Prompt prompt;
    (model->spec().is_seq2seq() ? prompt.encoder_ids : prompt.decoder_ids) = ids;
    const auto rows = fuseq::generate(*model, std::span(&prompt, 1), options);
    for (const int32_t id : rows[0][0].ids) std::cout << id << ' ';
    std::cout << '\n';
  } catch (const fuseq::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
