// SPDX-License-Identifier: Apache-2.0
// Tensor owns memory; View and ConstView borrow it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "fuseq/dtype.h"
#include "fuseq/export.h"
#include "fuseq/shape.h"

namespace fuseq::inline v0 {

/// Distances between neighbours along each axis, in elements.
using Strides = std::array<int64_t, Shape::kMaxRank>;

/// Row-major strides of a dense tensor.
[[nodiscard]] inline Strides dense_strides(const Shape& shape) noexcept {
  Strides strides{};
  int64_t step = 1;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    strides[static_cast<size_t>(axis)] = step;
    step *= shape.dim(axis);
  }
  return strides;
}

/// A borrowed, possibly strided window on elements that somebody else owns. Copied by value; empty
/// when `data` is null.
template <typename Void>
struct BasicView {
  Void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;
  Strides strides{};

  BasicView() = default;
  BasicView(Void* data_, DType dtype_, const Shape& shape_)
      : BasicView(data_, dtype_, shape_, dense_strides(shape_)) {}
  BasicView(Void* data_, DType dtype_, const Shape& shape_, const Strides& strides_)
      : data(data_), dtype(dtype_), shape(shape_), strides(strides_) {}
  /// A View is a ConstView.
  template <typename Other>
    requires(std::is_const_v<Void> && !std::is_const_v<Other>)
  BasicView(const BasicView<Other>& other)
      : BasicView(other.data, other.dtype, other.shape, other.strides) {}

  [[nodiscard]] explicit operator bool() const noexcept { return data != nullptr; }
  [[nodiscard]] int rank() const noexcept { return shape.rank(); }
  [[nodiscard]] int64_t dim(int axis) const noexcept { return shape.dim(axis); }
  [[nodiscard]] int64_t stride(int axis) const noexcept {
    return strides[static_cast<size_t>(axis < 0 ? axis + rank() : axis)];
  }
  [[nodiscard]] bool is_dense() const noexcept {
    const Strides dense = dense_strides(shape);
    for (int axis = 0; axis < rank(); ++axis) {
      if (dim(axis) > 1 && stride(axis) != dense[static_cast<size_t>(axis)]) return false;
    }
    return true;
  }
  /// The elements as T; the caller knows the dtype.
  template <typename T>
  [[nodiscard]] auto* as() const noexcept {
    if constexpr (std::is_const_v<Void>) {
      return static_cast<const T*>(data);
    } else {
      return static_cast<T*>(data);
    }
  }
};

using View = BasicView<void>;
using ConstView = BasicView<const void>;

/// A dense tensor that owns its memory (64-byte aligned). Movable, not copyable.
class FUSEQ_API Tensor {
 public:
  Tensor() = default;
  /// Uninitialised elements. Throws Error(value) when their bytes do not fit int64, Error(runtime)
  /// when memory runs out.
  Tensor(DType dtype, const Shape& shape);

  [[nodiscard]] DType dtype() const noexcept { return dtype_; }
  [[nodiscard]] const Shape& shape() const noexcept { return shape_; }
  [[nodiscard]] int64_t num_bytes() const noexcept {
    return shape_.num_elements() * static_cast<int64_t>(size_of(dtype_));
  }
  [[nodiscard]] View view() noexcept { return {data_.get(), dtype_, shape_}; }
  [[nodiscard]] ConstView view() const noexcept { return {data_.get(), dtype_, shape_}; }
  template <typename T>
  [[nodiscard]] T* as() noexcept {
    return static_cast<T*>(data_.get());
  }
  template <typename T>
  [[nodiscard]] const T* as() const noexcept {
    return static_cast<const T*>(data_.get());
  }

 private:
  struct FUSEQ_API Free {
    void operator()(void* data) const noexcept;
  };
  std::unique_ptr<void, Free> data_;
  DType dtype_ = DType::f32;
  Shape shape_{0};
};

}  // namespace fuseq::inline v0
