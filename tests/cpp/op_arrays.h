// SPDX-License-Identifier: Apache-2.0
// Arrays, contexts and comparisons for the tests of single ops.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/context_impl.h"
#include "base/cpu_features.h"
#include "fuseq/kernels.h"

namespace fuseq::inline v0::op_test {

/// Every instruction set of this machine, the portable one last.
inline std::vector<CpuIsa> instruction_sets() {
  std::vector<CpuIsa> sets;
  if (cpu_features().avx512) sets.push_back(CpuIsa::avx512);
  if (cpu_features().avx2) sets.push_back(CpuIsa::avx2);
  sets.push_back(CpuIsa::portable);
  return sets;
}

inline Context context_of(CpuIsa isa, int num_threads) {
  return Context({.num_threads = num_threads, .cpu_isa = isa});
}

/// The same without the dot products of bytes and of bfloat16, which newer machines have.
inline Context context_without_dots(CpuIsa isa, int num_threads) {
  Context ctx = context_of(isa, num_threads);
  ctx.impl().has_vnni = false;
  ctx.impl().has_bf16_dot = false;
  return ctx;
}

/// Uniform in [-1, 1).
inline std::vector<float> random_floats(uint32_t seed, int64_t count) {
  std::mt19937 random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(random() >> 8) * 0x1p-23f - 1;
  return values;
}

/// A float32 matrix whose rows lie `stride` apart; what is between them must stay as it was.
struct Matrix {
  static constexpr float kGap = 12345;

  Matrix(int64_t rows_, int64_t columns_, int64_t stride_, uint32_t seed)
      : rows(rows_),
        columns(columns_),
        stride(stride_),
        values(random_floats(seed, rows_ * stride_)) {
    for (int64_t row = 0; row < rows; ++row) {
      std::fill(begin(row) + columns, begin(row) + stride, kGap);
    }
  }
  Matrix(int64_t rows_, int64_t columns_, uint32_t seed)
      : Matrix(rows_, columns_, columns_, seed) {}

  float* begin(int64_t row) { return values.data() + row * stride; }
  [[nodiscard]] const float* begin(int64_t row) const { return values.data() + row * stride; }
  View view() { return {values.data(), DType::f32, {rows, columns}, {stride, 1}}; }
  [[nodiscard]] ConstView view() const {
    return {values.data(), DType::f32, {rows, columns}, {stride, 1}};
  }
  [[nodiscard]] bool gaps_are_whole() const {
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t i = columns; i < stride; ++i) {
        if (begin(row)[i] != kGap) return false;
      }
    }
    return true;
  }

  int64_t rows;
  int64_t columns;
  int64_t stride;
  std::vector<float> values;
};

inline ConstView vector_view(const std::vector<float>& values) {
  return {values.data(), DType::f32, {std::ssize(values)}};
}

inline bool same_bits(const Matrix& a, const Matrix& b) {
  for (int64_t row = 0; row < a.rows; ++row) {
    for (int64_t i = 0; i < a.columns; ++i) {
      if (std::bit_cast<uint32_t>(a.begin(row)[i]) != std::bit_cast<uint32_t>(b.begin(row)[i])) {
        return false;
      }
    }
  }
  return true;
}

/// The largest |a - b|; infinity where one is NaN.
inline double largest_difference(const Matrix& a, const Matrix& b) {
  double largest = 0;
  for (int64_t row = 0; row < a.rows; ++row) {
    for (int64_t i = 0; i < a.columns; ++i) {
      const double difference = std::abs(double{a.begin(row)[i]} - double{b.begin(row)[i]});
      if (!(difference <= largest)) largest = std::isnan(difference) ? HUGE_VAL : difference;
    }
  }
  return largest;
}

/// Expects `call` to throw Error(kind) with `text` in its message.
template <typename Call>
void expect_error(ErrorKind kind, std::string_view text, Call call) {
  try {
    call();
    ADD_FAILURE() << "no error, expected \"" << text << '"';
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
  }
}

}  // namespace fuseq::inline v0::op_test
