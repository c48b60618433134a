// SPDX-License-Identifier: Apache-2.0
// Mapped files, and files and folders that appear whole or not at all, on full disks too.
#include "base/file.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "fuseq/error.h"
#include "test_files.h"

namespace fuseq::inline v0 {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

template <typename Call>
std::string message_of(ErrorKind kind, Call call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  return "no error";
}

/// `before` + the path in quotes + `after`.
std::string about(std::string_view before, const fs::path& path, std::string_view after) {
  return std::string(before) + "\"" + path.string() + "\"" + std::string(after);
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// ---- reading ------------------------------------------------------------------------------------

TEST(MappedFile, shows_the_bytes_of_a_file) {
  const TempFolder folder;
  const MappedFile file(folder.write("a", "hello"));
  EXPECT_EQ(text_of(file.bytes()), "hello");
  EXPECT_EQ(file.path(), folder.path() / "a");
  EXPECT_TRUE(MappedFile(folder.write("empty", "")).bytes().empty());
}

TEST(MappedFile, stays_readable_after_release) {
  const TempFolder folder;
  std::string text(300'000, 'x');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i % 23);
  const MappedFile file(folder.write("a", text));
  file.release(file.bytes().subspan(5000, 100'000));
  file.release(file.bytes().subspan(10, 20));
  file.release(file.bytes());
  file.release(std::as_bytes(std::span(text)));  // not of this file: left alone
  EXPECT_EQ(text_of(file.bytes()), text);
}

TEST(MappedFile, what_is_no_readable_file_is_an_error) {
  const TempFolder folder;
  const auto open = [](const fs::path& path) { return [path] { const MappedFile file(path); }; };
  const fs::path missing = folder.path() / "missing";
  EXPECT_EQ(message_of(ErrorKind::not_found, open(missing)),
            about("open ", missing, ": the file must exist, got none"));
  const fs::path below = folder.write("file", "x") / "below";
  EXPECT_EQ(message_of(ErrorKind::not_found, open(below)),
            about("open ", below, ": the file must exist, got none"));
  EXPECT_EQ(message_of(ErrorKind::io, open(folder.path())),
            about("open ", folder.path(), ": must be a regular file, got a folder"));
  const fs::path pipe = folder.path() / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(message_of(ErrorKind::io, open(pipe)),
            about("open ", pipe, ": must be a regular file, got a device or pipe"));
}

TEST(ReadTextFile, reads_up_to_a_limit) {
  const TempFolder folder;
  const fs::path path = folder.write("a", "12345");
  EXPECT_EQ(read_text_file(path, 5), "12345");
  EXPECT_EQ(read_text_file(folder.write("empty", ""), 0), "");
  EXPECT_EQ(message_of(ErrorKind::format, [&] { (void)read_text_file(path, 4); }),
            about("open ", path, ": the file must have at most 4 bytes, got 5"));
  EXPECT_EQ(message_of(ErrorKind::not_found, [&] { (void)read_text_file(folder.path() / "b", 4); }),
            about("open ", folder.path() / "b", ": the file must exist, got none"));
}

// ---- one file -----------------------------------------------------------------------------------

TEST(WriteFile, makes_or_replaces_a_file_and_leaves_nothing_else) {
  const TempFolder folder;
  const fs::path path = folder.path() / "a";
  for (const std::string text : {"first", "second, longer", ""}) {
    write_file_atomically(path, [&](FileWriter& file) {
      file.write(text.substr(0, 3));
      file.write(text.size() > 3 ? text.substr(3) : "");
    });
    EXPECT_EQ(folder.read("a"), text);
  }
  EXPECT_EQ(folder.entries(), Names{"a"});
}

TEST(WriteFile, a_name_of_255_bytes_works) {
  const TempFolder folder;
  const std::string name(255, 'n');
  write_file_atomically(folder.path() / name, [](FileWriter& file) { file.write("x"); });
  EXPECT_EQ(folder.read(name), "x");
}

TEST(WriteFile, the_old_file_stays_when_the_writer_throws) {
  const TempFolder folder;
  folder.write("a", "old");
  EXPECT_THROW(write_file_atomically(folder.path() / "a",
                                     [](FileWriter& file) {
                                       file.write("half");
                                       throw std::runtime_error("enough");
                                     }),
               std::runtime_error);
  EXPECT_EQ(folder.read("a"), "old");
  EXPECT_EQ(folder.entries(), Names{"a"});
}

TEST(WriteFile, a_place_that_cannot_be_written_is_an_error) {
  const TempFolder folder;
  const auto write = [](FileWriter& file) { file.write("x"); };
  const fs::path nowhere = folder.path() / "no" / "a";
  EXPECT_EQ(message_of(ErrorKind::io, [&] { write_file_atomically(nowhere, write); }),
            about("write ", nowhere,
                  ": a file must be made beside it, got \"No such file or directory\""));
  const fs::path taken = folder.write("sub/x", "").parent_path();
  EXPECT_EQ(message_of(ErrorKind::io, [&] { write_file_atomically(taken, write); }),
            about("write ", taken, ": must be a regular file or not exist, got a folder"));
  EXPECT_EQ(folder.entries(), Names{"sub"});
  const fs::path pipe = folder.path() / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(message_of(ErrorKind::io, [&] { write_file_atomically(pipe, write); }),
            about("write ", pipe, ": must be a regular file or not exist, got a device or pipe"));
  const fs::path circle = folder.path() / "circle";
  fs::create_symlink("circle", circle);
  EXPECT_EQ(message_of(ErrorKind::io, [&] { write_file_atomically(circle, write); }),
            about("write ", circle,
                  ": must be the name of a file, got \"Too many levels of symbolic links\""));
  EXPECT_EQ(folder.entries(), (Names{"circle", "pipe", "sub"}));
}

TEST(WriteFile, a_link_is_followed_and_stays) {
  const TempFolder folder;
  folder.write("elsewhere/a", "old");
  fs::create_symlink("elsewhere/a", folder.path() / "first");
  fs::create_symlink(folder.path() / "first", folder.path() / "second");
  fs::create_symlink("elsewhere/absent", folder.path() / "third");
  for (const char* name : {"second", "third"}) {
    write_file_atomically(folder.path() / name, [](FileWriter& file) { file.write("new"); });
  }
  EXPECT_EQ(folder.entries(), (Names{"elsewhere", "first", "second", "third"}));
  for (const char* name : {"first", "second", "third"}) {
    EXPECT_TRUE(fs::is_symlink(folder.path() / name)) << name;
  }
  EXPECT_EQ(folder.read("elsewhere/a"), "new");
  EXPECT_EQ(folder.read("elsewhere/absent"), "new");
}

TEST(WriteFile, the_permissions_of_the_old_file_are_kept) {
  const TempFolder folder;
  const fs::path path = folder.write("a", "old");
  for (const fs::perms perms : {fs::perms(0600), fs::perms(0666), fs::perms(0440)}) {
    fs::permissions(path, perms);
    write_file_atomically(path, [&](FileWriter& file) {
      for (const auto& entry : fs::directory_iterator(folder.path())) {
        EXPECT_EQ(entry.status().permissions(), perms) << "while it is written, too";
      }
      file.write("new");
    });
    EXPECT_EQ(fs::status(path).permissions(), perms);
  }
}

// ---- a folder -----------------------------------------------------------------------------------

/// Both ways of putting a folder in place: swapping names in one step, and renaming twice.
class WriteFolder : public testing::TestWithParam<bool> {
 protected:
  void write(const fs::path& folder, const std::function<void(const fs::path&)>& fill,
             const std::vector<std::string>& drop = {}) const {
    write_folder_atomically(folder, fill, drop, GetParam());
  }
  static void fill(const fs::path& folder) {
    write_file_atomically(folder / "spec.json", [](FileWriter& file) { file.write("new spec"); });
    write_file_atomically(folder / "weights", [](FileWriter& file) { file.write("new weights"); });
  }

  const TempFolder base_;
};
INSTANTIATE_TEST_SUITE_P(MaySwap, WriteFolder, testing::Bool());

TEST_P(WriteFolder, makes_a_new_folder_and_those_above) {
  write(base_.path() / "a" / "b" / "preset", fill);
  EXPECT_EQ(base_.read("a/b/preset/spec.json"), "new spec");
  EXPECT_EQ(base_.read("a/b/preset/weights"), "new weights");
  EXPECT_FALSE(fs::exists(base_.path() / "a" / "b" / "preset" / "other"));
  EXPECT_EQ(
      std::distance(fs::directory_iterator(base_.path() / "a" / "b"), fs::directory_iterator()), 1);
}

TEST_P(WriteFolder, replaces_files_and_keeps_the_others) {
  base_.write("preset/spec.json", "old spec");
  base_.write("preset/tokenizer.json", "tokens");
  base_.write("preset/notes/today.txt", "notes");
  write(base_.path() / "preset", fill);
  EXPECT_EQ(base_.entries(), Names{"preset"});
  EXPECT_EQ(base_.read("preset/spec.json"), "new spec");
  EXPECT_EQ(base_.read("preset/weights"), "new weights");
  EXPECT_EQ(base_.read("preset/tokenizer.json"), "tokens");
  EXPECT_EQ(base_.read("preset/notes/today.txt"), "notes");
}

void fill_assets(const fs::path& folder) {
  fs::create_directories(folder / "assets" / "tokenizer");
  for (const char* name : {"assets/tokenizer/vocab", "assets/list"}) {
    write_file_atomically(folder / name, [](FileWriter& file) { file.write("new"); });
  }
}

TEST_P(WriteFolder, keeps_the_other_files_of_folders_that_are_written_again) {
  for (const char* name : {"assets/notes.txt", "assets/mine/a", "assets/tokenizer/merges",
                           "assets/tokenizer/vocab", "assets/list/inside", "elsewhere/b"}) {
    base_.write(std::string("preset/") + name, "old");
  }
  write(base_.path() / "preset", fill_assets);
  EXPECT_EQ(base_.entries(), Names{"preset"});
  for (const char* name :
       {"assets/notes.txt", "assets/mine/a", "assets/tokenizer/merges", "elsewhere/b"}) {
    EXPECT_EQ(base_.read(std::string("preset/") + name), "old") << name;
  }
  EXPECT_EQ(base_.read("preset/assets/tokenizer/vocab"), "new");
  EXPECT_EQ(base_.read("preset/assets/list"), "new") << "a file takes the place of a folder";

  write(base_.path() / "preset", fill_assets, {"assets/token*", "*.txt", "vocab", "mine/a"});
  EXPECT_FALSE(fs::exists(base_.path() / "preset/assets/tokenizer/merges"));
  EXPECT_EQ(base_.read("preset/assets/tokenizer/vocab"), "new");
  EXPECT_EQ(base_.read("preset/assets/notes.txt"), "old") << "patterns are whole paths";
  EXPECT_EQ(base_.read("preset/assets/mine/a"), "old");

  base_.write("preset/other/sub/b", "old");
  write(base_.path() / "preset", fill_assets, {"elsewhere/?", "other/*/b"});
  EXPECT_TRUE(fs::is_empty(base_.path() / "preset/elsewhere")) << "what moves as a whole, too";
  EXPECT_TRUE(fs::is_empty(base_.path() / "preset/other/sub"));

  write(base_.path() / "preset", fill_assets, {"assets"});
  EXPECT_FALSE(fs::exists(base_.path() / "preset/assets/notes.txt"));
  EXPECT_EQ(base_.read("preset/assets/list"), "new");
}

TEST_P(WriteFolder, a_link_to_a_folder_is_replaced_and_its_files_stay) {
  base_.write("mine/notes.txt", "old");
  fs::create_directory(base_.path() / "preset");
  fs::create_directory_symlink(base_.path() / "mine", base_.path() / "preset" / "assets");
  write(base_.path() / "preset", fill_assets);
  EXPECT_FALSE(fs::is_symlink(base_.path() / "preset" / "assets"));
  EXPECT_EQ(base_.read("mine/notes.txt"), "old");
  EXPECT_FALSE(fs::exists(base_.path() / "preset/assets/notes.txt"));
}

TEST_P(WriteFolder, drops_old_files_whose_names_fit) {
  for (const char* name :
       {"shard-1.bin", "shard.bin", "assets/vocab", "README.md", "sub/old.bin"}) {
    base_.write(std::string("preset/") + name, "old");
  }
  write(base_.path() / "preset", fill, {"shard-?.bin", "assets", "old.bin", "weights"});
  EXPECT_EQ(base_.entries(), Names{"preset"});
  EXPECT_FALSE(fs::exists(base_.path() / "preset" / "shard-1.bin"));
  EXPECT_FALSE(fs::exists(base_.path() / "preset" / "assets"));
  for (const char* name : {"shard.bin", "README.md", "sub/old.bin"}) {
    EXPECT_EQ(base_.read(std::string("preset/") + name), "old");
  }
  EXPECT_EQ(base_.read("preset/weights"), "new weights");  // what fill wrote is never dropped
}

TEST_P(WriteFolder, the_current_folder_is_not_moved_away) {
  const fs::path file = base_.write("preset/sub/spec.json", "old");
  const fs::path before = fs::current_path();
  fs::current_path(file.parent_path());
  for (const char* name : {".", "..", "../sub"}) {
    EXPECT_NE(message_of(ErrorKind::value, [&] { write(name, fill); })
                  .find("must not be the current folder or hold it"),
              std::string::npos);
  }
  EXPECT_EQ(message_of(ErrorKind::value, [&] { write("", fill); }),
            "write: folder must have a name, got \"\"");
  write("below", fill);
  write("../beside", fill);
  fs::current_path(before);
  EXPECT_EQ(base_.read("preset/sub/spec.json"), "old");
  EXPECT_EQ(base_.read("preset/sub/below/spec.json"), "new spec");
  EXPECT_EQ(base_.read("preset/beside/spec.json"), "new spec");
}

TEST_P(WriteFolder, many_threads_may_write_one_folder) {
  std::atomic<int> failures = 0;
  std::vector<std::thread> threads;
  for (int number = 0; number < 4; ++number) {
    threads.emplace_back([&] {
      for (int turn = 0; turn < 10; ++turn) {
        try {
          write(base_.path() / "preset", fill);
        } catch (const std::exception&) {
          ++failures;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(base_.entries(), Names{"preset"});
  EXPECT_EQ(base_.read("preset/spec.json"), "new spec");
}

TEST_P(WriteFolder, a_name_may_end_with_a_slash_be_relative_or_a_link) {
  const fs::path before = fs::current_path();
  fs::current_path(base_.path());
  write("one/", fill);
  write("two", fill);
  write("./one/../one/", fill);
  fs::create_directory_symlink("two", "link");
  fs::remove(base_.path() / "two" / "weights");
  write("link", fill);
  fs::current_path(before);
  EXPECT_EQ(base_.entries(), (Names{"link", "one", "two"}));
  EXPECT_TRUE(fs::is_symlink(base_.path() / "link"));
  EXPECT_EQ(base_.read("two/weights"), "new weights");
}

TEST_P(WriteFolder, keeps_the_permissions_of_the_old_folder) {
  base_.write("preset/spec.json", "old");
  fs::permissions(base_.path() / "preset", fs::perms(0750));
  write(base_.path() / "preset", fill);
  EXPECT_EQ(fs::status(base_.path() / "preset").permissions(), fs::perms(0750));
}

TEST_P(WriteFolder, the_old_folder_stays_when_fill_throws) {
  base_.write("preset/spec.json", "old spec");
  const auto half = [](const fs::path& folder) {
    fill(folder);
    fs::create_directory(folder / "sub");
    throw std::runtime_error("enough");
  };
  EXPECT_THROW(write(base_.path() / "preset", half), std::runtime_error);
  EXPECT_THROW(write(base_.path() / "other", half), std::runtime_error);
  EXPECT_EQ(base_.entries(), Names{"preset"});
  EXPECT_EQ(base_.read("preset/spec.json"), "old spec");
  EXPECT_FALSE(fs::exists(base_.path() / "preset" / "weights"));
}

TEST_P(WriteFolder, a_file_in_its_place_is_an_error_before_work_starts) {
  const fs::path path = base_.write("preset", "a file");
  bool started = false;
  const auto note = [&](const fs::path&) { started = true; };
  EXPECT_EQ(message_of(ErrorKind::io, [&] { write(path, note); }),
            about("write ", path, ": must be a folder or not exist, got a file"));
  const fs::path below = path / "sub" / "preset";
  EXPECT_NE(message_of(ErrorKind::io, [&] { write(below, note); }), "no error");
  EXPECT_FALSE(started);
  EXPECT_EQ(base_.read("preset"), "a file");
}

/// Runs `work` in a child; its exit code.
int exit_code_of_child(const std::function<int()>& work) {
  const pid_t child = fork();
  if (child == 0) _exit(work());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// 0 if writing 1 MiB into `folder` fails as on a full disk with Error(io).
int fails_as_when_full(
    const std::function<void(const fs::path&, const std::function<void(const fs::path&)>&)>& write,
    const fs::path& folder) {
  try {
    write(folder, [](const fs::path& fresh) {
      write_file_atomically(fresh / "spec.json", [](FileWriter& file) { file.write("new spec"); });
      write_file_atomically(fresh / "weights",
                            [](FileWriter& file) { file.write(std::string(1 << 20, 'w')); });
    });
  } catch (const Error& error) {
    const std::string_view text = error.what();
    const bool right = text.find("weights\": all bytes must be written, got \"") != text.npos;
    return right && error.kind() == ErrorKind::io ? 0 : 2;
  }
  return 1;
}

TEST_P(WriteFolder, the_old_folder_stays_when_files_may_not_grow) {
  base_.write("preset/spec.json", "old spec");
  const int code = exit_code_of_child([&] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{.rlim_cur = 100'000, .rlim_max = 100'000};
    setrlimit(RLIMIT_FSIZE, &limit);
    return fails_as_when_full(
        [&](const auto& folder, const auto& fill_it) { write(folder, fill_it); },
        base_.path() / "preset");
  });
  EXPECT_EQ(code, 0);
  EXPECT_EQ(base_.entries(), Names{"preset"});
  EXPECT_EQ(base_.read("preset/spec.json"), "old spec");
}

TEST_P(WriteFolder, the_old_folder_stays_when_the_disk_is_full) {
  const fs::path disk = base_.path() / "disk";
  fs::create_directory(disk);
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=256k") != 0) {
    GTEST_SKIP() << "mounting a small disk needs the administrator";
  }
  base_.write("disk/preset/spec.json", "old spec");
  const int code = fails_as_when_full(
      [&](const auto& folder, const auto& fill_it) { write(folder, fill_it); }, disk / "preset");
  std::vector<std::string> left;
  for (const auto& entry : fs::directory_iterator(disk))
    left.push_back(entry.path().filename().string());
  const std::string spec = base_.read("disk/preset/spec.json");
  const bool weights = fs::exists(disk / "preset" / "weights");
  umount2(disk.c_str(), MNT_DETACH);
  EXPECT_EQ(code, 0);
  EXPECT_EQ(left, Names{"preset"});
  EXPECT_EQ(spec, "old spec");
  EXPECT_FALSE(weights);
}

}  // namespace
}  // namespace fuseq::inline v0
