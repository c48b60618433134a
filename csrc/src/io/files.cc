// SPDX-License-Identifier: Apache-2.0
// The public face of the readers and writers of this folder.
#include "fuseq/files.h"

#include <cstddef>
#include <utility>

#include "base/file.h"
#include "io/safetensors.h"

namespace fuseq::inline v0 {

struct SafeTensorsFile::Impl {
  SafeTensors file;
};

SafeTensorsFile::SafeTensorsFile(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

SafeTensorsFile SafeTensorsFile::open(const std::filesystem::path& path) {
  return SafeTensorsFile(std::make_shared<const Impl>(Impl{SafeTensors(path)}));
}

const std::vector<NamedView>& SafeTensorsFile::tensors() const noexcept {
  return impl_->file.tensors();
}

const std::vector<std::string>& SafeTensorsFile::unsupported() const noexcept {
  return impl_->file.unsupported();
}

const std::map<std::string, std::string>& SafeTensorsFile::metadata() const noexcept {
  return impl_->file.metadata();
}

void SafeTensorsFile::release(const NamedView& tensor) const noexcept {
  impl_->file.release(tensor);
}

void save_safetensors(const std::filesystem::path& path, std::span<const TensorSource> tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::vector<TensorToWrite> entries;
  for (const TensorSource& tensor : tensors) {
    entries.push_back({.name = tensor.name,
                       .dtype = tensor.dtype,
                       .shape = tensor.shape,
                       .fill = [&tensor](std::span<std::byte> destination) {
                         tensor.fill(View(destination.data(), tensor.dtype, tensor.shape));
                       }});
  }
  write_safetensors(path, entries, metadata);
}

void save_folder(const std::filesystem::path& folder,
                 const std::function<void(const std::filesystem::path&)>& fill,
                 const std::vector<std::string>& drop) {
  write_folder_atomically(folder, fill, drop);
}

}  // namespace fuseq::inline v0
