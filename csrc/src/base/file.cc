// SPDX-License-Identifier: Apache-2.0
// Mapped files, and files and folders that are renamed into place once they are complete.
#include "base/file.h"

#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

#include "base/message.h"

namespace fuseq::inline v0 {

namespace fs = std::filesystem;

namespace {

/// `<verb> "<path>": <must>, got "<what the system says>"`
[[noreturn]] void fail_io(std::string_view verb, const fs::path& path, std::string_view must,
                          int error) {
  fail(ErrorKind::io, verb, " \"", path.string(), "\": ", must, ", got \"",
       std::generic_category().message(error), "\"");
}

/// An open file, closed at the end of the scope.
class Descriptor {
 public:
  explicit Descriptor(int number) noexcept : number_(number) {}
  ~Descriptor() { (void)close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  [[nodiscard]] int number() const noexcept { return number_; }
  /// False with errno set; some systems report lost writes only here.
  bool close() noexcept { return number_ < 0 || ::close(std::exchange(number_, -1)) == 0; }

 private:
  int number_;
};

/// O_NONBLOCK: a pipe of that name must not make us wait.
int open_to_read(const fs::path& path) {
  const int number = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (number >= 0) return number;
  const int error = errno;
  if (error == ENOENT || error == ENOTDIR) {
    fail(ErrorKind::not_found, "open \"", path.string(), "\": the file must exist, got none");
  }
  fail_io("open", path, "the file must be readable", error);
}

size_t size_of_regular_file(const Descriptor& file, const fs::path& path) {
  struct stat status;
  if (fstat(file.number(), &status) != 0) fail_io("open", path, "must be readable", errno);
  if (!S_ISREG(status.st_mode)) {
    fail(ErrorKind::io, "open \"", path.string(), "\": must be a regular file, got ",
         S_ISDIR(status.st_mode) ? "a folder" : "a device or pipe");
  }
  return static_cast<size_t>(status.st_size);
}

/// Folders of some file systems cannot be synced; that is no failure.
bool sync(int descriptor) noexcept {
  return fsync(descriptor) == 0 || errno == EINVAL || errno == ENOTSUP || errno == EROFS;
}

void sync_path(const fs::path& path) {
  const Descriptor opened(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (opened.number() < 0) {
    if (errno == ELOOP) return;  // a link: its folder holds all there is of it
    fail_io("write", path, "must reach the disk", errno);
  }
  if (!sync(opened.number())) fail_io("write", path, "must reach the disk", errno);
}

fs::path parent_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

/// The file or folder that `name` means: absolute, behind links, without a last slash. Where
/// another thread is replacing it, it may be absent for a moment, so only what lies above it is
/// walked.
fs::path path_behind(const fs::path& name, std::error_code& error) {
  constexpr int kMostLinks = 40;  // as many as Linux follows
  fs::path path = fs::absolute(name, error);
  for (int link = 0; !error && link < kMostLinks; ++link) {
    if (!path.has_filename()) path = path.parent_path();
    const fs::path last = path.filename();
    if (last == "." || last == ".." || !path.has_relative_path()) {
      return fs::weakly_canonical(path, error);
    }
    const fs::path parent = fs::weakly_canonical(path.parent_path(), error);
    if (error) return {};
    path = parent / last;
    std::error_code absent;
    if (!fs::is_symlink(path, absent)) return path;
    path = parent / fs::read_symlink(path, error);
  }
  if (!error) error = std::make_error_code(std::errc::too_many_symbolic_link_levels);
  return {};
}

/// A hidden name beside `path` that nobody else uses: .<name>.tmp-<process>-<random>
fs::path temporary_beside(const fs::path& path) {
  constexpr size_t kLongestName = 200;  // of 255, so that the additions fit
  std::random_device random;
  std::ostringstream name;
  name << "." << path.filename().string().substr(0, kLongestName) << ".tmp-" << getpid() << "-"
       << std::hex << random() << random();
  return parent_of(path) / name.str();
}

/// Removes a file or folder at the end of the scope, whatever happens.
class Cleanup {
 public:
  explicit Cleanup(fs::path path) : path_(std::move(path)) {}
  ~Cleanup() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  Cleanup(const Cleanup&) = delete;
  Cleanup& operator=(const Cleanup&) = delete;
  void keep() noexcept { path_.clear(); }

 private:
  fs::path path_;
};

}  // namespace

// ---- reading ------------------------------------------------------------------------------------

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  const Descriptor file(open_to_read(path));
  size_ = size_of_regular_file(file, path);
  if (size_ == 0) return;
  void* mapping = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.number(), 0);
  if (mapping == MAP_FAILED) fail_io("open", path, "must be mapped into memory", errno);
  data_ = static_cast<const std::byte*>(mapping);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release(std::span<const std::byte> bytes) const noexcept {
  if (data_ == nullptr || bytes.data() < data_ || bytes.data() + bytes.size() > data_ + size_)
    return;
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t first = static_cast<size_t>(bytes.data() - data_);
  const size_t last = first + bytes.size();
  // The page where the bytes begin goes as well (what was before them has been read); the page
  // where they end stays, as the next tensor begins there, but at the end of the file.
  const size_t begin = first / page * page;
  const size_t end = last == size_ ? (size_ + page - 1) / page * page : last / page * page;
  if (begin < end) madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

std::string read_text_file(const fs::path& path, size_t max_bytes) {
  const Descriptor file(open_to_read(path));
  const size_t size = size_of_regular_file(file, path);
  if (size > max_bytes) {
    fail(ErrorKind::format, "open \"", path.string(), "\": the file must have at most ", max_bytes,
         " bytes, got ", size);
  }
  std::string text(size, '\0');
  size_t done = 0;
  while (done < size) {
    const ssize_t count = read(file.number(), text.data() + done, size - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_io("read", path, "must be readable to its end", errno);
    if (count == 0) break;  // it has become shorter
    done += static_cast<size_t>(count);
  }
  text.resize(done);
  return text;
}

// ---- writing ------------------------------------------------------------------------------------

void FileWriter::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count =
        ::write(descriptor_, bytes.data(), std::min(bytes.size(), size_t{1} << 30));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_io("write", path_, "all bytes must be written", errno);
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
}

void write_file_atomically(const fs::path& path, const std::function<void(FileWriter&)>& write) {
  std::error_code error;
  std::error_code absent;
  const fs::path target = fs::is_symlink(path, absent) ? path_behind(path, error) : path;
  if (error) fail_io("write", path, "must be the name of a file", error.value());
  struct stat old;
  const bool is_there = stat(target.c_str(), &old) == 0;
  if (is_there && !S_ISREG(old.st_mode)) {
    fail(ErrorKind::io, "write \"", path.string(), "\": must be a regular file or not exist, got ",
         S_ISDIR(old.st_mode) ? "a folder" : "a device or pipe");
  }
  const fs::path temporary = temporary_beside(target);
  const mode_t mode = is_there ? old.st_mode & 0777 : 0666;
  Descriptor file(open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (file.number() < 0) fail_io("write", path, "a file must be made beside it", errno);
  Cleanup cleanup(temporary);
  if (is_there)
    (void)fchmod(file.number(), mode);  // adds what the umask took, where there are modes
  FileWriter writer(file.number(), path.string());
  write(writer);
  if (!sync(file.number()) || !file.close()) fail_io("write", path, "must reach the disk", errno);
  if (rename(temporary.c_str(), target.c_str()) != 0) {
    fail_io("write", path, "the complete file must take its place", errno);
  }
  cleanup.keep();
  sync_path(parent_of(target));
}

namespace {

/// True once the two names have changed places in one step; false where the system cannot do that.
bool swap_names(const fs::path& a, const fs::path& b) noexcept {
#if defined(RENAME_EXCHANGE)
  return renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
#else
  (void)a, (void)b;
  return false;
#endif
}

/// Puts `fresh` in the place of `folder`; returns where the old folder lies now.
fs::path exchange_folders(const fs::path& fresh, const fs::path& folder, bool may_swap) {
  if (may_swap && swap_names(fresh, folder)) return fresh;
  const fs::path aside = temporary_beside(folder);
  if (rename(folder.c_str(), aside.c_str()) != 0) {
    fail_io("write", folder, "the old folder must be movable", errno);
  }
  if (rename(fresh.c_str(), folder.c_str()) != 0) {
    const int error = errno;
    rename(aside.c_str(), folder.c_str());
    fail_io("write", folder, "the complete folder must take its place", error);
  }
  return aside;
}

/// Lets one caller after the other replace folders of `parent`, where the file system has locks.
class FolderLock {
 public:
  explicit FolderLock(const fs::path& parent)
      : opened_(open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    while (opened_.number() >= 0 && flock(opened_.number(), LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  ~FolderLock() {
    if (opened_.number() >= 0) flock(opened_.number(), LOCK_UN);  // a child may have it open still
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  Descriptor opened_;
};

/// Moving the current folder away would leave the process in a folder that is removed.
void check_is_not_current(const fs::path& target, const fs::path& folder) {
  std::error_code error;
  const fs::path current = fs::canonical(".", error);
  if (error) return;
  const auto [end, ignored] =
      std::mismatch(target.begin(), target.end(), current.begin(), current.end());
  if (end == target.end()) {
    fail(ErrorKind::value, "write \"", folder.string(),
         "\": must not be the current folder or hold it, got \"", target.string(),
         "\". Name a new folder, or one beside it");
  }
}

/// Of a path below the folder, such as "assets/tokenizer".
bool fits_one(const std::string& path, const std::vector<std::string>& patterns) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return fnmatch(pattern.c_str(), path.c_str(), FNM_PATHNAME) == 0;
  });
}

bool is_real_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(fs::symlink_status(path, ignored));
}

/// What lies in `folder / below`, as paths below the folder. All of them at once: what the callers
/// do with them changes the folder.
std::vector<fs::path> paths_in(const fs::path& folder, const fs::path& below,
                               std::error_code& error) {
  std::vector<fs::path> paths;
  std::error_code unread;
  for (fs::directory_iterator entry(folder / below, unread), end; !unread && entry != end;
       entry.increment(unread)) {
    paths.push_back(below / entry->path().filename());
  }
  if (unread) error = unread;
  return paths;
}

/// Removes from `old / below` what is to be dropped.
void remove_dropped(const fs::path& old, const std::vector<std::string>& drop,
                    const fs::path& below, std::error_code& error) {
  const auto depth = [](const std::string& path) { return std::ranges::count(path, '/'); };
  const auto reaches = [&](const std::string& pattern) {
    return depth(pattern) > depth(below.string());
  };
  if (!std::ranges::any_of(drop, reaches)) return;
  for (const fs::path& path : paths_in(old, below, error)) {
    std::error_code kept;
    if (fits_one(path.string(), drop)) {
      fs::remove_all(old / path, kept);
    } else if (is_real_folder(old / path)) {
      remove_dropped(old, drop, path, error);
    }
    if (kept) error = kept;
  }
}

/// Moves into `folder / below` what lies in `old / below` under names that the former does not have
/// and that is not to be dropped. Folders that both have are merged in the same way.
void move_rest(const fs::path& old, const fs::path& folder, const std::vector<std::string>& drop,
               const fs::path& below, std::error_code& error) {
  for (const fs::path& path : paths_in(old, below, error)) {
    std::error_code ignored;
    if (fits_one(path.string(), drop)) continue;
    const bool is_folder = is_real_folder(old / path);
    if (fs::exists(fs::symlink_status(folder / path, ignored))) {
      if (is_folder && is_real_folder(folder / path)) move_rest(old, folder, drop, path, error);
      continue;
    }
    if (is_folder) remove_dropped(old, drop, path, error);
    if (rename((old / path).c_str(), (folder / path).c_str()) != 0) {
      error.assign(errno, std::generic_category());
    }
  }
  if (!below.empty()) sync_path(folder / below);
}

void move_rest(const fs::path& old, const fs::path& folder, const std::vector<std::string>& drop) {
  std::error_code error;
  move_rest(old, folder, drop, {}, error);
  if (error) {
    fail(ErrorKind::io, "write \"", folder.string(),
         "\": files of the old folder must move into it, got \"", error.message(),
         "\". The new files are in place, the rest of the old ones in \"", old.string(), "\"");
  }
}

void sync_tree(const fs::path& folder) {
  std::error_code error;
  for (fs::recursive_directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    sync_path(entry->path());
  }
  if (error) fail_io("write", folder, "must reach the disk", error.value());
  sync_path(folder);
}

}  // namespace

void write_folder_atomically(const fs::path& folder,
                             const std::function<void(const fs::path&)>& fill,
                             const std::vector<std::string>& drop, bool may_swap) {
  if (folder.empty()) fail(ErrorKind::value, "write: folder must have a name, got \"\"");
  std::error_code error;
  const fs::path target = path_behind(folder, error);
  if (error) fail_io("write", folder, "must be the name of a folder", error.value());
  const fs::file_status before = fs::status(target, error);  // asked once: others may replace it
  if (fs::exists(before) && !fs::is_directory(before)) {
    fail(ErrorKind::io, "write \"", folder.string(),
         "\": must be a folder or not exist, got a file");
  }
  check_is_not_current(target, folder);
  fs::create_directories(parent_of(target), error);
  if (error) fail_io("write", folder, "the folder above must exist or be made", error.value());

  const fs::path fresh = temporary_beside(target);
  if (mkdir(fresh.c_str(), 0777) != 0)
    fail_io("write", folder, "a folder must be made beside it", errno);
  Cleanup cleanup(fresh);
  if (fs::exists(before)) fs::permissions(fresh, before.permissions(), error);
  fill(fresh);
  sync_tree(fresh);

  const FolderLock lock(parent_of(target));
  if (!fs::exists(target, error)) {  // asked again: another thread may have made it
    if (rename(fresh.c_str(), target.c_str()) != 0) {
      fail_io("write", folder, "the complete folder must take its place", errno);
    }
    cleanup.keep();
  } else {
    const fs::path old = exchange_folders(fresh, target, may_swap);
    cleanup.keep();
    move_rest(old, target, drop);
    fs::remove_all(old, error);
    if (error) {
      fail(ErrorKind::io, "write \"", folder.string(),
           "\": the old folder must be removable, got \"", error.message(),
           "\". The new one is in place; the old one is \"", old.string(), "\"");
    }
    sync_path(target);
  }
  sync_path(parent_of(target));
}

}  // namespace fuseq::inline v0
