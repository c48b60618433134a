// SPDX-License-Identifier: Apache-2.0
// Element types of tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "fuseq/error.h"

namespace fuseq::inline v0 {

/// The type of one element. The names of `name(dtype)` are those of numpy and torch.
enum class DType : uint8_t { f32, f16, bf16, f64, i64, i32, i16, i8, u8, boolean };

/// Bytes of one element.
[[nodiscard]] constexpr size_t size_of(DType dtype) noexcept {
  switch (dtype) {
    case DType::f64:
    case DType::i64: return 8;
    case DType::f32:
    case DType::i32: return 4;
    case DType::f16:
    case DType::bf16:
    case DType::i16: return 2;
    case DType::i8:
    case DType::u8:
    case DType::boolean: return 1;
  }
  return 0;
}

/// "float32", "bfloat16", ...
[[nodiscard]] constexpr std::string_view name(DType dtype) noexcept {
  switch (dtype) {
    case DType::f32: return "float32";
    case DType::f16: return "float16";
    case DType::bf16: return "bfloat16";
    case DType::f64: return "float64";
    case DType::i64: return "int64";
    case DType::i32: return "int32";
    case DType::i16: return "int16";
    case DType::i8: return "int8";
    case DType::u8: return "uint8";
    case DType::boolean: return "bool";
  }
  return "unknown";
}

/// The dtype that holds elements of the C++ type T (bfloat16 and float16 have none).
template <typename T>
[[nodiscard]] constexpr DType dtype_of() noexcept;
template <>
constexpr DType dtype_of<float>() noexcept {
  return DType::f32;
}
template <>
constexpr DType dtype_of<double>() noexcept {
  return DType::f64;
}
template <>
constexpr DType dtype_of<int64_t>() noexcept {
  return DType::i64;
}
template <>
constexpr DType dtype_of<int32_t>() noexcept {
  return DType::i32;
}
template <>
constexpr DType dtype_of<int8_t>() noexcept {
  return DType::i8;
}
template <>
constexpr DType dtype_of<uint8_t>() noexcept {
  return DType::u8;
}
template <>
constexpr DType dtype_of<bool>() noexcept {
  return DType::boolean;
}

}  // namespace fuseq::inline v0
