// SPDX-License-Identifier: Apache-2.0
// The element types of safetensors files.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "fuseq/dtype.h"

namespace fuseq::inline v0 {

struct StoredType {
  std::string_view name;
  int64_t bits;                ///< of one element
  std::optional<DType> dtype;  ///< nothing: we cannot compute with it
};

inline constexpr std::array kStoredTypes = {
    StoredType{"F32", 32, DType::f32},   StoredType{"F16", 16, DType::f16},
    StoredType{"BF16", 16, DType::bf16}, StoredType{"F64", 64, DType::f64},
    StoredType{"I64", 64, DType::i64},   StoredType{"I32", 32, DType::i32},
    StoredType{"I16", 16, DType::i16},   StoredType{"I8", 8, DType::i8},
    StoredType{"U8", 8, DType::u8},      StoredType{"BOOL", 8, DType::boolean},
    StoredType{"U16", 16, {}},           StoredType{"U32", 32, {}},
    StoredType{"U64", 64, {}},           StoredType{"C64", 64, {}},
    StoredType{"F8_E4M3", 8, {}},        StoredType{"F8_E5M2", 8, {}},
    StoredType{"F8_E8M0", 8, {}},        StoredType{"F8_E4M3FNUZ", 8, {}},
    StoredType{"F8_E5M2FNUZ", 8, {}},    StoredType{"F6_E2M3", 6, {}},
    StoredType{"F6_E3M2", 6, {}},        StoredType{"F4", 4, {}},
};

/// Null for a name that the format does not have.
[[nodiscard]] constexpr const StoredType* find_stored_type(std::string_view name) noexcept {
  for (const StoredType& type : kStoredTypes) {
    if (type.name == name) return &type;
  }
  return nullptr;
}

/// The name under which `dtype` is stored.
[[nodiscard]] constexpr std::string_view stored_name(DType dtype) noexcept {
  for (const StoredType& type : kStoredTypes) {
    if (type.dtype == dtype) return type.name;
  }
  return {};
}

}  // namespace fuseq::inline v0
