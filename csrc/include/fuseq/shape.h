// SPDX-License-Identifier: Apache-2.0
// The extents of a tensor, kept by value.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <span>
#include <string>

#include "fuseq/error.h"

namespace fuseq::inline v0 {

/// Up to `kMaxRank` extents. A scalar has rank 0 and one element.
class Shape {
 public:
  static constexpr int kMaxRank = 6;

  constexpr Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}
  /// Throws Error(value) for more than kMaxRank dims, a negative one or a product that does not
  /// `fit`.
  explicit Shape(std::span<const int64_t> dims) {
    if (dims.size() > kMaxRank)
      throw Error(ErrorKind::value,
                  "Shape: rank must be at most 6, got " + std::to_string(dims.size()));
    for (const int64_t dim : dims) {
      if (dim < 0)
        throw Error(ErrorKind::value,
                    "Shape: dims must not be negative, got " + std::to_string(dim));
      dims_[static_cast<size_t>(rank_++)] = dim;
    }
    if (!fit(dims))
      throw Error(
          ErrorKind::value,
          "Shape: the product of dims, zeros left out, must fit int64, got " + to_string(dims));
  }
  /// Whether the product of the dims that are not 0 fits int64; dense strides then fit as well.
  [[nodiscard]] static bool fit(std::span<const int64_t> dims) noexcept {
    int64_t product = 1;
    for (const int64_t dim : dims) {
      if (dim == 0) continue;
      const bool is_large = ((product | dim) >> 31) != 0;  // else there is no need to divide
      if (is_large && product > std::numeric_limits<int64_t>::max() / dim) return false;
      product *= dim;
    }
    return true;
  }

  [[nodiscard]] int rank() const noexcept { return rank_; }
  /// Extent `axis`; a negative axis counts from the end. The axis must exist.
  [[nodiscard]] int64_t dim(int axis) const noexcept {
    return dims_[static_cast<size_t>(axis < 0 ? axis + rank_ : axis)];
  }
  [[nodiscard]] int64_t num_elements() const noexcept {
    int64_t count = 1;
    for (const int64_t dim : dims()) count *= dim;
    return count;
  }
  [[nodiscard]] std::span<const int64_t> dims() const noexcept {
    return {dims_.data(), static_cast<size_t>(rank_)};
  }
  /// "[2, 17, 768]"
  [[nodiscard]] std::string to_string() const { return to_string(dims()); }
  [[nodiscard]] static std::string to_string(std::span<const int64_t> dims) {
    std::string text = "[";
    for (const int64_t dim : dims) text += (text.size() > 1 ? ", " : "") + std::to_string(dim);
    return text + "]";
  }

  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

}  // namespace fuseq::inline v0
