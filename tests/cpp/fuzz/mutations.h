// SPDX-License-Identifier: Apache-2.0
// Valid files to begin with, and random damage to them.
#pragma once

#include <random>
#include <string>
#include <vector>

namespace fuseq::inline v0 {

[[nodiscard]] std::vector<std::string> json_seeds();
[[nodiscard]] std::vector<std::string> safetensors_seeds();

/// Bad files of some megabytes that would cost much memory or time to a reader that trusts them.
[[nodiscard]] std::vector<std::string> large_bad_safetensors();

/// Damages files; the same seed gives the same files.
class Mutator {
 public:
  explicit Mutator(unsigned long seed) : random_(seed) {}

  /// One of `seeds` with up to eight changes. Half of the safetensors files get a length field that
  /// fits again, so that damage reaches beyond it.
  [[nodiscard]] std::string mutate(const std::vector<std::string>& seeds);

 private:
  [[nodiscard]] size_t below(size_t limit) {
    return limit == 0 ? 0 : std::uniform_int_distribution<size_t>(0, limit - 1)(random_);
  }
  void change(std::string& file, const std::vector<std::string>& seeds);
  void change_number(std::string& file);
  void change_length_field(std::string& file);

  std::mt19937_64 random_;
};

}  // namespace fuseq::inline v0
