// SPDX-License-Identifier: Apache-2.0
// Memory that the engine owns: aligned blocks, and an arena for scratch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace fuseq::inline v0 {

inline constexpr size_t kAlignment = 64;

/// The pages that a large block is made of.
enum class Pages : uint8_t {
  huge,    ///< for what is read whole, as weights are
  normal,  ///< for what is filled little by little, as caches are: resident only where it was
           ///< written
};

/// `bytes` of memory aligned to 64 bytes; blocks of 1 MiB and more come straight from the system,
/// zeroed, and, with Pages::huge, aligned to and advised for huge pages. Throws Error(runtime)
/// naming the size when memory runs out. Free with free_aligned.
[[nodiscard]] void* allocate_aligned(size_t bytes, Pages pages = Pages::huge);
void free_aligned(void* data) noexcept;
/// The same in shared ownership; zeroed.
[[nodiscard]] std::shared_ptr<void> allocate_shared_zeros(size_t bytes);

/// Calls of allocate_aligned since the start, for tests that no step allocates.
[[nodiscard]] uint64_t num_allocations() noexcept;

/// A stack of scratch memory. Take it inside a Scope; everything taken is given back when the scope
/// ends. The arena keeps its blocks, so the second identical pass allocates nothing.
class Arena {
 public:
  Arena() = default;
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// Uninitialised, 64-byte aligned; valid until the innermost Scope ends.
  template <typename T>
  [[nodiscard]] std::span<T> take(int64_t count) {
    return {static_cast<T*>(take_bytes(static_cast<size_t>(count) * sizeof(T))),
            static_cast<size_t>(count)};
  }
  [[nodiscard]] void* take_bytes(size_t bytes);

  class Scope {
   public:
    explicit Scope(Arena& arena) noexcept
        : arena_(arena), block_(arena.block_), used_(arena.used_) {}
    ~Scope() {
      arena_.block_ = block_;
      arena_.used_ = used_;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    size_t block_;
    size_t used_;
  };

  /// Frees all blocks; no scope may be open.
  void release() noexcept;
  [[nodiscard]] size_t num_bytes() const noexcept;

 private:
  struct Block {
    void* data;
    size_t size;
  };
  std::vector<Block> blocks_;
  size_t block_ = 0;  ///< the block in use
  size_t used_ = 0;   ///< bytes used of it
};

}  // namespace fuseq::inline v0
