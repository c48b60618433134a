// SPDX-License-Identifier: Apache-2.0
// What callers hand in through the plain C door, as C++ values.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fuseq/c_api.h"
#include "fuseq/fuseq.h"

struct fuseq_token_bytes {
  std::shared_ptr<const fuseq::TokenBytes> table;
};

namespace fuseq::inline v0 {

// Throw Error(value) that names the call and the argument.
void require(bool holds, const std::string& message);
void require_pointer(const void* pointer, const char* call, const char* name);
void require_struct_size(size_t size, size_t known_size, const std::string& call, const char* name,
                         const char* advice);

/// What to do about a wrong struct_size.
template <typename Struct>
inline constexpr const char* kSizeAdvice = "Was the init function called?";
template <>
inline constexpr const char* kSizeAdvice<fuseq_prompt> = "Set struct_size to its sizeof";
template <>
inline constexpr const char* kSizeAdvice<fuseq_model_info> = "Set struct_size to its sizeof";

template <typename Struct>
void require_struct_size(size_t size, const std::string& call, const char* name) {
  require_struct_size(size, sizeof(Struct), call, name, kSizeAdvice<Struct>);
}

/// `defaults` overwritten by the fields that the caller's struct has.
template <typename Struct>
Struct read_struct(const void* from, Struct defaults, const char* call, const char* name) {
  size_t size = 0;
  std::memcpy(&size, from, sizeof size);
  require_struct_size<Struct>(size, call, name);
  const auto* bytes = static_cast<const unsigned char*>(from);
  for (size_t i = sizeof(Struct); i < size; ++i) {
    require(bytes[i] == 0, std::string(call) + ": " + name + " must hold zeros after its first " +
                               std::to_string(sizeof(Struct)) + " bytes, got a field that fuseq " +
                               version() + " does not know");
  }
  std::memcpy(&defaults, from, std::min(size, sizeof(Struct)));
  return defaults;
}

/// Writes what the caller's struct has room for; zeros beyond what is known here.
template <typename Struct>
void write_struct(Struct value, void* to, size_t size) {
  value.struct_size = size;
  std::memcpy(to, &value, std::min(size, sizeof(Struct)));
  if (size > sizeof(Struct))
    std::memset(static_cast<unsigned char*>(to) + sizeof(Struct), 0, size - sizeof(Struct));
}

template <typename T>
std::span<const T> read_array(const T* data, size_t count, const char* call,
                              const std::string& name) {
  if (!data && count > 0)
    require(false, std::string(call) + ": " + name + " must not be NULL, got NULL and a count of " +
                       std::to_string(count));
  return {data, count};
}

[[nodiscard]] fuseq_model_options default_model_options();
[[nodiscard]] fuseq_generation_options default_generation_options();
[[nodiscard]] fuseq_call_options default_call_options();

// Null options are the defaults. What a struct points to stays the caller's.
[[nodiscard]] ModelOptions read_model_options(const fuseq_model_options* from);
[[nodiscard]] GenerationOptions read_generation_options(const fuseq_generation_options* from,
                                                        const char* call);
[[nodiscard]] CallOptions read_call_options(const fuseq_call_options* from, const char* call);
[[nodiscard]] std::vector<Prompt> read_prompts(const fuseq_prompt* from, size_t count,
                                               const TransformerSpec& spec, const char* call);
/// None if the caller gave none.
[[nodiscard]] std::vector<std::span<const int32_t>> read_targets(const fuseq_ids* from,
                                                                 size_t count, const char* call);
[[nodiscard]] std::vector<std::string_view> read_strings(const fuseq_bytes* data, size_t count,
                                                         const char* call, const char* name);

}  // namespace fuseq::inline v0
