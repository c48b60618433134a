// SPDX-License-Identifier: Apache-2.0
// What was measured in the same rounds, and what it says of one another.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "decode/report.h"

namespace fuseq::bench {

/// Speeds, one for each round: more is better.
using Rounds = std::vector<double>;

[[nodiscard]] inline double best(const Rounds& rounds) {
  return *std::max_element(rounds.begin(), rounds.end());
}

/// Two ways to compare, in percent: neither a lucky moment of one side nor a slow one of the
/// machine alters both.
struct Share {
  double of_best = 0;  ///< the best of all rounds over the best of all rounds
  double median = 0;   ///< of the ratios within a round
};

[[nodiscard]] inline Share share(const Rounds& reached, const Rounds& limit) {
  Rounds ratios;
  for (size_t i = 0; i < reached.size(); ++i) ratios.push_back(reached[i] / limit[i] * 100);
  return {best(reached) / best(limit) * 100, median(ratios)};
}

/// "yes" where both reach the target, "half" where one does.
[[nodiscard]] inline std::string is_met(const Share& reached, double target) {
  const int met = (reached.of_best >= target ? 1 : 0) + (reached.median >= target ? 1 : 0);
  return met == 2 ? "yes" : met == 1 ? "half" : "no";
}

}  // namespace fuseq::bench
