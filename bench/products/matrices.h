// SPDX-License-Identifier: Apache-2.0
// Packed matrices with random weights, and rows to multiply them with.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <vector>

#include "fuseq/kernels.h"
#include "shapes.h"

namespace fuseq::bench {

/// One matrix for each shape, in memory of its own, so that going through them reads every byte
/// once. Inputs, biases and outputs are shared.
class Matrices {
 public:
  Matrices(std::span<const LinearShape> shapes, DType dtype, int64_t max_rows);

  [[nodiscard]] size_t size() const noexcept { return matrices_.size(); }
  [[nodiscard]] int64_t num_bytes() const noexcept;
  /// y = x W^T + bias with one of the matrices.
  void multiply(Context& ctx, size_t index, int64_t rows);
  /// The same with all of them in turn.
  void multiply_all(Context& ctx, int64_t rows);
  /// Makes int8 rows of the rows, as a norm before a product does. False where that cannot be:
  /// matrices of another dtype, or a shared library, which does not show the ops.
  [[nodiscard]] bool quantize_rows(Context& ctx, int64_t rows);
  /// multiply without quantising; after a quantize_rows that was true.
  void multiply_quantized(Context& ctx, size_t index, int64_t rows);

 private:
  std::vector<PackedMatrix> matrices_;
  std::vector<float> x_;
  std::vector<float> bias_;
  std::vector<float> y_;
  struct Int8Rows {
    std::vector<int8_t> values;
    std::vector<float> scales;
  };
  std::map<int64_t, Int8Rows> int8_rows_;  ///< by the inputs of a matrix
};

/// The shortest of so many calls.
template <typename Call>
[[nodiscard]] double best_seconds(int calls, const Call& call) {
  double best = std::numeric_limits<double>::max();
  for (int i = 0; i < calls; ++i) {
    const auto start = std::chrono::steady_clock::now();
    call();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    best = std::min(best, time.count());
  }
  return best;
}

}  // namespace fuseq::bench
