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
constexpr const char* kAllOfALayer = "all of a layer";

/// Percent of the multiply-adds; a product alone, of rows that are int8 already, quantises nothing.
double target_of(DType dtype, bool is_alone) {
  if (dtype != DType::i8) return 85;
  return is_alone ? 87 : 80;
}

std::string label(const LinearShape& shape) {
  return std::to_string(shape.inputs) + " to " + std::to_string(shape.outputs);
}

/// One way to multiply the rows, timed for each shape; the last of each is that of all together.
struct Reached {
  explicit Reached(size_t num_shapes) : speeds(num_shapes + 1), peaks(num_shapes + 1) {}

  std::vector<Rounds> speeds;
  std::vector<Rounds> peaks;
};

/// Adds a round: the peak before each shape. `multiply` takes the index of a matrix.
template <typename Multiply>
void add_round(Reached& reached, std::span<const LinearShape> shapes, DType dtype, int64_t rows,
               int threads, const Multiply& multiply) {
  double all_operations = 0;
  double all_seconds = 0;
  double highest = 0;
  for (size_t i = 0; i < shapes.size(); ++i) {
    const double operations =
        2.0 * static_cast<double>(rows * shapes[i].inputs * shapes[i].outputs);
    reached.peaks[i].push_back(multiply_add_peak(dtype, threads));
    size_t next = i;
    const double seconds = best_seconds(static_cast<int>(kTries), [&] {
      multiply(next);
      next += shapes.size();
    });
    reached.speeds[i].push_back(operations / seconds);
    all_operations += operations;
    all_seconds += seconds;
    highest = std::max(highest, reached.peaks[i].back());
  }
  reached.peaks.back().push_back(highest);
  reached.speeds.back().push_back(all_operations / all_seconds);
}

Record describe(const Reached& reached, size_t index, const std::string& product, DType dtype,
                int64_t rows, int threads, bool is_alone) {
  const Rounds& speeds = reached.speeds[index];
  const Rounds& peaks = reached.peaks[index];
  const Share of_peak = share(speeds, peaks);
  const double target = target_of(dtype, is_alone);
  return {
      {"dtype", std::string(fuseq::name(dtype)), false},
      {"threads", std::to_string(threads)},
      {"rows", std::to_string(rows)},
      {"product", product + (is_alone ? ", int8 rows" : ""), false},
      {"Gop/s", fixed(best(speeds) * 1e-9, 1)},
      {"peak", fixed(best(peaks) * 1e-9, 1)},
      {"peak of", std::string(multiply_add_instruction(dtype)), false},
      {"% of peak", fixed(of_peak.of_best, 1)},
      {"median % of peak", fixed(of_peak.median, 1)},
      {"target", fixed(target, 0) + " %", false},
      {"met", is_met(of_peak, target), false},
  };
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
  matrices.multiply_all(ctx, rows);  // scratch memory and threads are there

  Reached reached(shapes.size());
  Reached alone(shapes.size());
  const bool has_int8_rows = matrices.quantize_rows(ctx, rows);
  for (int round = 0; round < rounds; ++round) {
    add_round(reached, shapes, dtype, rows, threads,
              [&](size_t index) { matrices.multiply(ctx, index, rows); });
    if (!has_int8_rows) continue;
    add_round(alone, shapes, dtype, rows, threads,
              [&](size_t index) { matrices.multiply_quantized(ctx, index, rows); });
  }

  std::vector<Record> records;
  const auto add = [&](const Reached& found, bool is_alone) {
    for (size_t i = 0; i <= shapes.size(); ++i) {
      const std::string product = i < shapes.size() ? label(shapes[i]) : kAllOfALayer;
      records.push_back(describe(found, i, product, dtype, rows, threads, is_alone));
    }
  };
  add(reached, false);
  if (has_int8_rows) add(alone, true);
  return records;
}

}  // namespace fuseq::bench
