// SPDX-License-Identifier: Apache-2.0
// Reads many damaged JSON and safetensors files and checks that each is read or refused in time and
// without large blocks.
//
//   mutate_files [count = 10000] [seed = 1]
//
// Build with -fsanitize=address,undefined. Exits with 1 at the first file that throws anything but
// Error, takes over a second, or makes the reader allocate a block larger than the file and 1 MiB.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "base/json.h"
#include "fuseq/error.h"
#include "fuzz/mutations.h"
#include "io/safetensors.h"

// ---- a counting operator new --------------------------------------------------------------------

namespace {
size_t largest_block = 0;

void* counted(size_t bytes, size_t alignment) {
  largest_block = std::max(largest_block, bytes);
  void* block = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}
}  // namespace

void* operator new(size_t bytes) {
  return counted(bytes, alignof(std::max_align_t));
}
void* operator new(size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<size_t>(alignment));
}
void operator delete(void* block) noexcept {
  std::free(block);
}
void operator delete(void* block, size_t) noexcept {
  std::free(block);
}
void operator delete(void* block, std::align_val_t) noexcept {
  std::free(block);
}
void operator delete(void* block, size_t, std::align_val_t) noexcept {
  std::free(block);
}

namespace fuseq::inline v0 {
namespace {

/// A target reads one file and throws Error if it is bad.
struct Target {
  const char* name;
  std::vector<std::string> seeds;
  void (*read)(const std::string& file);
  long read_well = 0;
};

void read_json(const std::string& text) {
  const Json value = parse_json(text, "fuzz");
  const std::string written = write_json(value);  // and what was read survives a round trip
  if (write_json(parse_json(written, "again")) != written) throw std::logic_error("round trip");
}

/// Also touches the first and last byte of each tensor, where a wrong offset would show.
void read_safetensors(const std::string& file) {
  // Blocks of the exact size, so that the address sanitizer sees a read past the end.
  const std::vector<std::byte> bytes(reinterpret_cast<const std::byte*>(file.data()),
                                     reinterpret_cast<const std::byte*>(file.data()) + file.size());
  const SafeTensorsHeader header = parse_safetensors(bytes, "fuzz");
  volatile unsigned sum = 0;
  for (const auto& [name, view] : header.tensors) {
    const size_t size = static_cast<size_t>(view.shape.num_elements()) * size_of(view.dtype);
    const auto* first = static_cast<const unsigned char*>(view.data);
    if (size > 0) sum = sum + first[0] + first[size - 1];
  }
}

/// What `file` led to; empty if all is well.
std::string problem_with(Target& target, const std::string& file) {
  const auto start = std::chrono::steady_clock::now();
  largest_block = 0;
  try {
    target.read(file);
    ++target.read_well;
  } catch (const Error&) {
  } catch (const std::exception& other) {
    return std::string("threw ") + other.what();
  }
  if (largest_block > file.size() + (size_t{1} << 20)) {
    return "allocated a block of " + std::to_string(largest_block) + " bytes";
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return seconds.count() > 1 ? "took " + std::to_string(seconds.count()) + " s" : "";
}

bool large_files_are_refused() {
  Target target{.name = "large safetensors", .seeds = {}, .read = read_safetensors};
  for (const std::string& file : large_bad_safetensors()) {
    std::string problem = problem_with(target, file);
    if (target.read_well > 0) problem = "was read";
    if (problem.empty()) continue;
    std::fprintf(stderr, "%s: a file of %zu bytes that begins with %.60s %s\n", target.name,
                 file.size(), file.c_str() + 8, problem.c_str());
    return false;
  }
  return true;
}

int run(long count, unsigned long seed) {
  if (!large_files_are_refused()) return 1;
  std::array targets = {Target{"json", json_seeds(), read_json},
                        Target{"safetensors", safetensors_seeds(), read_safetensors}};
  for (Target& target : targets) {
    Mutator mutator(seed);
    double slowest = 0;
    for (long i = 0; i < count; ++i) {
      const std::string file = mutator.mutate(target.seeds);
      const auto start = std::chrono::steady_clock::now();
      const std::string problem = problem_with(target, file);
      slowest = std::max(
          slowest, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
      if (problem.empty()) continue;
      std::fprintf(stderr, "%s: file %ld of seed %lu (%zu bytes) %s\n", target.name, i, seed,
                   file.size(), problem.c_str());
      return 1;
    }
    std::printf("%s: %ld files, %ld of them read, the others refused; slowest %.1f ms\n",
                target.name, count, target.read_well, slowest * 1e3);
  }
  return 0;
}

}  // namespace
}  // namespace fuseq::inline v0

int main(int argc, char** argv) {
  const long count = argc > 1 ? std::atol(argv[1]) : 10'000;
  const unsigned long seed = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 1;
  return fuseq::run(count, seed);
}
