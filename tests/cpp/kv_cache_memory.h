// SPDX-License-Identifier: Apache-2.0
// What the tests of append_kv and attention share: caches whose unwritten elements are NaN.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "fuseq/ops.h"
#include "op_arrays.h"

namespace fuseq::inline v0::op_test {

inline int random_int(std::mt19937& random, int first, int last) {
  return first + static_cast<int>(random() % static_cast<uint32_t>(last - first + 1));
}

/// Keys and values of one request. All elements begin as NaN. The tail lanes follow lane 0.
class KvCacheMemory {
 public:
  KvCacheMemory(int64_t G, int64_t E, int64_t capacity, int64_t tail_begin, int64_t lanes,
                DType dtype = DType::f32)
      : element_(size_of(dtype)),
        lane_0_(G * E * capacity),
        k_(bytes(G * E * (capacity + (lanes - 1) * (capacity - tail_begin))), char(0xff)),
        v_(k_),
        capacity_(capacity),
        tail_begin_(tail_begin) {}

  [[nodiscard]] KvView view() {
    return {.k = k_.data(),
            .v = v_.data(),
            .k_tail = k_.data() + bytes(lane_0_),
            .v_tail = v_.data() + bytes(lane_0_),
            .capacity = capacity_,
            .tail_begin = tail_begin_};
  }
  friend bool operator==(const KvCacheMemory& a, const KvCacheMemory& b) {
    return a.k_ == b.k_ && a.v_ == b.v_;
  }
  /// The elements, widened; NaN where nothing was written.
  [[nodiscard]] std::vector<float> keys() const { return floats(k_); }
  [[nodiscard]] std::vector<float> values() const { return floats(v_); }

 private:
  [[nodiscard]] size_t bytes(int64_t elements) const {
    return static_cast<size_t>(elements) * element_;
  }
  [[nodiscard]] std::vector<float> floats(const std::vector<char>& memory) const {
    std::vector<float> out(memory.size() / element_);
    for (size_t i = 0; i < out.size(); ++i) {
      uint32_t bits = 0;  // a bfloat16 is the upper half of a float
      std::memcpy(reinterpret_cast<char*>(&bits) + (4 - element_), memory.data() + i * element_,
                  element_);
      std::memcpy(&out[i], &bits, sizeof(bits));
    }
    return out;
  }

  size_t element_;
  int64_t lane_0_;
  std::vector<char> k_;
  std::vector<char> v_;
  int64_t capacity_;
  int64_t tail_begin_;
};

inline int64_t whole_blocks(int64_t positions) {
  return (positions + kKeyBlock - 1) / kKeyBlock * kKeyBlock;
}

/// Dense heads [N, heads, E] in `values`.
inline View heads_of(std::vector<float>& values, int64_t N, int64_t heads, int64_t E) {
  return {values.data(), DType::f32, {N, heads, E}};
}

/// The largest difference; infinite where only one of the two is a number.
inline double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return HUGE_VAL;
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    const double difference = std::fabs(static_cast<double>(a[i]) - b[i]);
    if (!(difference <= largest)) {
      largest = std::isnan(difference) ? HUGE_VAL : difference;
    }
  }
  return largest;
}

}  // namespace fuseq::inline v0::op_test
