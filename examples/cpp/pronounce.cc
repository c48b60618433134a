// SPDX-License-Identifier: Apache-2.0
// English words in, phonemes out, with the trained preset that comes with fuseq.
#include <fuseq/fuseq.h>

#include <cctype>
#include <cstdint>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

// The vocabulary of g2p_en: the letter '!' is id 5, phonemes begin at 261, those after a space at
// 284.
constexpr int kLetters = 5, kPhonemes = 261, kSpacedPhonemes = 284, kTokens = 323;
constexpr int32_t kStart = 0, kEnd = 2;

std::vector<int32_t> encode(const std::string& word) {
  std::vector<int32_t> ids = {kStart};
  for (const char letter : word) {
    if (letter < '!' || letter > '~')
      throw std::invalid_argument("a word must be of ASCII without spaces, got \"" + word + '"');
    ids.push_back(kLetters + std::tolower(letter) - '!');
  }
  ids.push_back(kEnd);
  return ids;
}

std::vector<std::string> make_tokens() {
  std::vector<std::string> tokens(kTokens);
  for (char letter = '!'; letter <= '~'; ++letter) tokens[kLetters + letter - '!'] = letter;
  std::istringstream names(
      "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K "
      "L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH");
  int phoneme = kPhonemes, spaced = kSpacedPhonemes;
  for (std::string name; names >> name; tokens[spaced++] = ' ' + name)
    if (name.size() == 2) tokens[phoneme++] = name;
  return tokens;
}

int main(int argc, char** argv) try {
  if (argc < 3) throw std::invalid_argument("usage: pronounce FOLDER WORD...");
  const auto model = fuseq::Model::load(argv[1]);
  const auto options = fuseq::load_generation_options(argv[1]);  // four beams
  std::vector<std::vector<int32_t>> sources;
  for (int i = 2; i < argc; ++i) sources.push_back(encode(argv[i]));
  const std::vector<int32_t> row_start = {kEnd, kStart};  // how BART's rows begin
  std::vector<fuseq::Prompt> prompts;
  for (const auto& source : sources)
    prompts.push_back({.encoder_ids = source, .decoder_ids = row_start});
  const auto results = fuseq::generate(*model, prompts, options);
  const auto tokens = make_tokens();
  for (size_t i = 0; i < results.size(); ++i) {
    std::cout << argv[2 + i] << "  ";
    for (const int32_t id : results[i].front().ids) std::cout << tokens.at(id);
    std::cout << '\n';
  }
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
