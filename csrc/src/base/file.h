// SPDX-License-Identifier: Apache-2.0
// Mapped files for reading, and files and folders that appear whole or not at all.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fuseq::inline v0 {

/// A file mapped read-only. The bytes stay valid as long as the object lives.
class MappedFile {
 public:
  /// Throws Error(not_found) or Error(io) with the path; a folder is an Error(io).
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  /// Tells the system that these bytes will not be read again soon: their pages leave this process.
  void release(std::span<const std::byte> bytes) const noexcept;

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// The whole file as text. Throws Error(not_found), Error(io), or Error(format) when it is larger
/// than max_bytes.
[[nodiscard]] std::string read_text_file(const std::filesystem::path& path, size_t max_bytes);

/// Writes `path` under a temporary name beside it, with `write(file)` called to fill it, then syncs
/// and renames. A link is followed, and the permissions of an old file are kept. On any failure the
/// temporary file is removed, an old file stays as it was, and Error(io) or write's own exception
/// is thrown; what is there and no regular file is an Error(io).
class FileWriter {
 public:
  explicit FileWriter(int descriptor, std::string path)
      : descriptor_(descriptor), path_(std::move(path)) {}
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

 private:
  int descriptor_;
  std::string path_;
};
void write_file_atomically(const std::filesystem::path& path,
                           const std::function<void(FileWriter&)>& write);

/// Fills a new folder beside `folder` by calling fill(temporary path), then puts it in the place of
/// `folder`, whose missing parents are made. A failure removes the temporary folder and leaves an
/// old `folder` whole. Entries of an old folder that fill did not write (tokenizer files, a README)
/// move into the new one, those in sub-folders that both have as well, but for those whose path
/// below the folder fits one of `drop`: paths, with `*`, `?` and `[]` as in a shell; a folder that
/// fits goes with all that fill did not write into it. Throws Error(io), Error(value) where the
/// folder is the current one or holds it, or what fill throws. `may_swap` false takes the way of
/// file systems that cannot swap two names in one step; for tests.
void write_folder_atomically(const std::filesystem::path& folder,
                             const std::function<void(const std::filesystem::path&)>& fill,
                             const std::vector<std::string>& drop = {}, bool may_swap = true);

}  // namespace fuseq::inline v0
