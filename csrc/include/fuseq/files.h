// SPDX-License-Identifier: Apache-2.0
// Files in and out for those who convert checkpoints: safetensors, and folders that appear whole or
// not at all.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fuseq/dtype.h"
#include "fuseq/export.h"
#include "fuseq/model.h"
#include "fuseq/shape.h"
#include "fuseq/tensor.h"

namespace fuseq::inline v0 {

/// A safetensors file, mapped and checked. Its views live as long as one of its copies.
class FUSEQ_API SafeTensorsFile {
 public:
  /// Throws Error(not_found), Error(io), or Error(format) naming the file and the tensor at fault.
  [[nodiscard]] static SafeTensorsFile open(const std::filesystem::path& path);

  /// In the order of the file.
  [[nodiscard]] const std::vector<NamedView>& tensors() const noexcept;
  /// Names of tensors whose element type has no DType.
  [[nodiscard]] const std::vector<std::string>& unsupported() const noexcept;
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept;
  /// Gives the pages of one of `tensors()` back to the system; reading it again is allowed.
  void release(const NamedView& tensor) const noexcept;

  struct Impl;

 private:
  explicit SafeTensorsFile(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

/// One tensor of a file to be written; `fill` writes its elements when its turn comes.
struct TensorSource {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  std::function<void(View destination)> fill;
};

/// Writes a safetensors file under a temporary name, then renames it. A link is followed, and the
/// permissions of an old file are kept. Throws Error(io), Error(value) for a name that comes twice,
/// or what `fill` throws.
FUSEQ_API void save_safetensors(const std::filesystem::path& path,
                                std::span<const TensorSource> tensors,
                                const std::map<std::string, std::string>& metadata = {});

/// Calls fill(temporary folder beside `folder`), then puts that in the place of `folder`; a failure
/// leaves an old one whole. What else lies in an old one moves over, in sub-folders that both have
/// as well, but for paths below it that fit one of `drop`: "config.json", "assets/tokenizer", with
/// `*`, `?` and `[]` as in a shell; a folder that fits is replaced as a whole. Throws Error(io),
/// Error(value) where `folder` is the current folder or holds it, or what `fill` throws.
FUSEQ_API void save_folder(const std::filesystem::path& folder,
                           const std::function<void(const std::filesystem::path&)>& fill,
                           const std::vector<std::string>& drop = {});

}  // namespace fuseq::inline v0
