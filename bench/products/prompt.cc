// SPDX-License-Identifier: Apache-2.0
// Multiplies in registers, and matrices with many rows, in turn.
#include "products/prompt.h"

#include <algorithm>
#include <string>

#include "machine_limits.h"
#include "products/matrices.h"
#include "products/rounds.h"

namespace fuseq::bench {
namespace {

/// Tries of each round; each takes another matrix, as the layers of a model are.
constexpr size_t kTries = 4;

double target_of(DType dtype) {
  return dtype == DType::i8 ? 80 : 85;
}

std::string label(const LinearShape& shape) {
  return std::to_string(shape.inputs) + " to " + std::to_string(shape.outputs);
}

}  // namespace

std::vector<Record> measure_prompt(std::span<const LinearShape> shapes, DType dtype, int64_t rows,
                                   Context& ctx, int rounds) {
  const int threads = ctx.num_threads();
  std::vector<LinearShape> layers;
  for (size_t layer = 0; layer < kTries; ++layer) {
    layers.insert(layers.end(), shapes.begin(), shapes.end());
  }
  Matrices matrices(layers, dtype, rows);
  const auto operations = [rows](const LinearShape& shape) {
    return 2.0 * static_cast<double>(rows * shape.inputs * shape.outputs);
  };
  matrices.multiply_all(ctx, rows);  // scratch memory and threads are there

  // The last of each is that of all shapes together.
  std::vector<Rounds> reached(shapes.size() + 1);
  std::vector<Rounds> peaks(shapes.size() + 1);
  for (int round = 0; round < rounds; ++round) {
    double all_operations = 0;
    double all_seconds = 0;
    double highest = 0;
    for (size_t i = 0; i < shapes.size(); ++i) {
      peaks[i].push_back(multiply_add_peak(dtype, threads));
      size_t next = i;
      const double seconds = best_seconds(static_cast<int>(kTries), [&] {
        matrices.multiply(ctx, next, rows);
        next += shapes.size();
      });
      reached[i].push_back(operations(shapes[i]) / seconds);
      all_operations += operations(shapes[i]);
      all_seconds += seconds;
      highest = std::max(highest, peaks[i].back());
    }
    peaks.back().push_back(highest);
    reached.back().push_back(all_operations / all_seconds);
  }

  std::vector<Record> records;
  for (size_t i = 0; i < reached.size(); ++i) {
    const Share of_peak = share(reached[i], peaks[i]);
    const double target = target_of(dtype);
    records.push_back({
        {"dtype", std::string(fuseq::name(dtype)), false},
        {"threads", std::to_string(threads)},
        {"rows", std::to_string(rows)},
        {"product", i < shapes.size() ? label(shapes[i]) : "all of a layer", false},
        {"Gop/s", fixed(best(reached[i]) * 1e-9, 1)},
        {"peak", fixed(best(peaks[i]) * 1e-9, 1)},
        {"peak of", std::string(multiply_add_instruction(dtype)), false},
        {"% of peak", fixed(of_peak.of_best, 1)},
        {"median % of peak", fixed(of_peak.median, 1)},
        {"target", fixed(target, 0) + " %", false},
        {"met", is_met(of_peak, target), false},
    });
  }
  return records;
}

}  // namespace fuseq::bench
