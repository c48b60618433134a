// SPDX-License-Identifier: Apache-2.0
// safetensors files, read by mapping and written atomically.
// Source: https://github.com/huggingface/safetensors#format
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "fuseq/model.h"
#include "fuseq/tensor.h"

namespace fuseq::inline v0 {

/// What the header of a safetensors file says. Views point into the bytes that were parsed and may
/// be misaligned.
struct SafeTensorsHeader {
  std::vector<NamedView> tensors;        ///< in the order of their bytes
  std::vector<std::string> unsupported;  ///< names of those of an element type without a DType
  std::map<std::string, std::string> metadata;
};

/// Checks a whole file in memory; `what` names it in messages. The header is checked to its end
/// before anything is built from it; until then memory stays below the size of `file`. Throws
/// Error(format).
[[nodiscard]] SafeTensorsHeader parse_safetensors(std::span<const std::byte> file,
                                                  std::string_view what);

/// The tensors of one file. Views point into the mapping and live as long as this object.
class SafeTensors {
 public:
  static constexpr int64_t kMaxHeaderBytes = 100'000'000;

  /// Maps and checks the whole header: size, JSON, dtypes, shapes, offsets inside the file, no
  /// overlap, no holes. Throws Error(not_found), Error(io), or Error(format) naming the file, the
  /// tensor, what must hold and what came.
  explicit SafeTensors(const std::filesystem::path& path);

  /// In the order of the file's offsets. A tensor of an element type we have no DType for (F8_E4M3
  /// …) is listed in `unsupported` by name instead. Elements are aligned: tensors that lie askew in
  /// the file, which the format allows, are copied.
  [[nodiscard]] const std::vector<NamedView>& tensors() const noexcept { return header_.tensors; }
  [[nodiscard]] const std::vector<std::string>& unsupported() const noexcept {
    return header_.unsupported;
  }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept {
    return header_.metadata;
  }
  /// Null if there is no such tensor.
  [[nodiscard]] const NamedView* find(std::string_view name) const noexcept;
  /// Gives the pages of a tensor back.
  void release(const NamedView& tensor) const noexcept;
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return file_->path(); }

 private:
  std::shared_ptr<MappedFile> file_;
  SafeTensorsHeader header_;
  std::vector<uint32_t> by_name_;              ///< indices of tensors, in the order of their names
  std::vector<std::shared_ptr<void>> copies_;  ///< of misaligned tensors
};

/// A tensor to be written; `fill(destination)` produces its dense bytes when its turn comes, so
/// that a large model needs no second copy in memory.
struct TensorToWrite {
  std::string name;
  DType dtype;
  Shape shape;
  std::function<void(std::span<std::byte> destination)> fill;
};

/// Writes one safetensors file atomically. Data begins at a multiple of 64 bytes. Throws Error(io),
/// or Error(value) for a name that comes twice.
void write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace fuseq::inline v0
