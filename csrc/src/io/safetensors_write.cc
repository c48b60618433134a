// SPDX-License-Identifier: Apache-2.0
// Writes safetensors files tensor by tensor.
#include <algorithm>
#include <array>
#include <limits>
#include <set>

#include "base/checked_size.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/message.h"
#include "io/safetensors.h"
#include "io/safetensors_types.h"

namespace fuseq::inline v0 {

namespace {

constexpr const char* kMetadata = "__metadata__";

int64_t num_bytes(const TensorToWrite& tensor) {
  const auto bytes =
      checked_num_bytes(tensor.shape.dims(), static_cast<int64_t>(size_of(tensor.dtype)));
  require(bytes.has_value(), "write_safetensors: the size of \"", tensor.name,
          "\" must fit int64, got shape ", tensor.shape.to_string());
  return *bytes;
}

/// The JSON header, without the length before it and the blanks after it.
std::string make_header(std::span<const TensorToWrite> tensors,
                        const std::map<std::string, std::string>& metadata) {
  Json::Object header;
  if (!metadata.empty()) {
    Json::Object pairs;
    for (const auto& [key, value] : metadata) pairs.emplace_back(key, value);
    header.emplace_back(kMetadata, std::move(pairs));
  }
  std::set<std::string_view> names;
  int64_t begin = 0;
  for (const TensorToWrite& tensor : tensors) {
    require(tensor.name != kMetadata, "write_safetensors: a tensor must not be called \"",
            kMetadata, "\", got one that is");
    require(names.insert(tensor.name).second,
            "write_safetensors: the names of tensors must differ, got \"", tensor.name, "\" twice");
    const int64_t bytes = num_bytes(tensor);
    require(bytes <= std::numeric_limits<int64_t>::max() - begin,
            "write_safetensors: the size of all tensors must fit int64, got more at \"",
            tensor.name, "\"");
    Json::Array shape(tensor.shape.dims().begin(), tensor.shape.dims().end());
    header.emplace_back(tensor.name,
                        Json::Object{{"dtype", std::string(stored_name(tensor.dtype))},
                                     {"shape", std::move(shape)},
                                     {"data_offsets", Json::Array{begin, begin + bytes}}});
    begin += bytes;
  }
  return write_json(header);
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata) {
  constexpr size_t kLengthBytes = 8;
  std::string header = make_header(tensors, metadata);
  header.resize(
      (kLengthBytes + header.size() + kAlignment - 1) / kAlignment * kAlignment - kLengthBytes,
      ' ');
  require(header.size() <= static_cast<size_t>(SafeTensors::kMaxHeaderBytes),
          "write_safetensors: the header must have at most ", SafeTensors::kMaxHeaderBytes,
          " bytes, got ", header.size());
  std::array<std::byte, kLengthBytes> length;
  for (size_t i = 0; i < kLengthBytes; ++i)
    length[i] = static_cast<std::byte>(header.size() >> (8 * i));

  size_t largest = 0;
  for (const TensorToWrite& tensor : tensors)
    largest = std::max(largest, static_cast<size_t>(num_bytes(tensor)));
  const std::shared_ptr<void> buffer = allocate_shared_zeros(largest);  // one for all
  write_file_atomically(path, [&](FileWriter& file) {
    file.write(length);
    file.write(header);
    for (const TensorToWrite& tensor : tensors) {
      const std::span<std::byte> bytes(static_cast<std::byte*>(buffer.get()),
                                       static_cast<size_t>(num_bytes(tensor)));
      if (bytes.empty()) continue;
      tensor.fill(bytes);
      file.write(bytes);
    }
  });
}

}  // namespace fuseq::inline v0
