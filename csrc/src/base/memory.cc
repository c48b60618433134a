// SPDX-License-Identifier: Apache-2.0
// Aligned blocks, large ones straight from the system, and the arena made of them.
#include "base/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <limits>
#include <new>

#include "base/message.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace fuseq::inline v0 {

namespace {

constexpr size_t kMapped = size_t{1} << 20;  // blocks of this size and more are mapped
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kMaxBytes = std::numeric_limits<size_t>::max() / 4;

/// Lies in the 64 bytes before each block and says how to free it.
struct Header {
  void* mapping;  // null: from operator new
  size_t length;  // of the mapping
};
static_assert(sizeof(Header) <= kAlignment);

std::atomic<uint64_t>& allocation_count() noexcept {
  static std::atomic<uint64_t> count{0};
  return count;
}

size_t round_up(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

Header* header_of(void* data) noexcept {
  return reinterpret_cast<Header*>(static_cast<std::byte*>(data) - kAlignment);
}

/// Under the address sanitizer, what an arena has not handed out is poisoned, with a gap after each
/// piece.
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kGuard = kAlignment;
void poison(void* data, size_t bytes) noexcept {
  __asan_poison_memory_region(data, bytes);
}
void unpoison(void* data, size_t bytes) noexcept {
  __asan_unpoison_memory_region(data, bytes);
}
#else
constexpr size_t kGuard = 0;
void poison(void*, size_t) noexcept {}
void unpoison(void*, size_t) noexcept {}
#endif

[[noreturn]] void out_of_memory(size_t bytes) {
  fail(ErrorKind::runtime, "allocate: ", bytes, " bytes of memory must be available, got none");
}

/// One page for the header, then the block; the rest of what alignment takes is given back at once.
void* map_block(size_t bytes, Pages pages) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const bool wants_huge = pages == Pages::huge && bytes >= kHugePage;
  const size_t alignment = wants_huge ? kHugePage : page;
  const size_t length = page + round_up(bytes, page);
  const size_t reserved = length + alignment - page;
  void* base = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) out_of_memory(bytes);

  const auto first = reinterpret_cast<uintptr_t>(base);
  const uintptr_t data = round_up(first + page, alignment);
  const uintptr_t begin = data - page;
  const uintptr_t end = begin + length;
  if (begin > first) munmap(base, begin - first);
  if (first + reserved > end) munmap(reinterpret_cast<void*>(end), first + reserved - end);

  void* mapping = reinterpret_cast<void*>(begin);
#if defined(MADV_HUGEPAGE)
  // A wish: without huge pages all works as well.
  madvise(mapping, length, wants_huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
#endif
  void* block = reinterpret_cast<void*>(data);
  *header_of(block) = {.mapping = mapping, .length = length};
  return block;
}

}  // namespace

void* allocate_aligned(size_t bytes, Pages pages) {
  if (bytes > kMaxBytes) out_of_memory(bytes);
  allocation_count().fetch_add(1, std::memory_order_relaxed);
  if (bytes >= kMapped) return map_block(bytes, pages);
  void* memory = ::operator new(kAlignment + bytes, std::align_val_t{kAlignment}, std::nothrow);
  if (memory == nullptr) out_of_memory(bytes);
  void* block = static_cast<std::byte*>(memory) + kAlignment;
  *header_of(block) = {.mapping = nullptr, .length = 0};
  return block;
}

void free_aligned(void* data) noexcept {
  if (data == nullptr) return;
  const Header header = *header_of(data);
  if (header.mapping != nullptr) {
    munmap(header.mapping, header.length);
  } else {
    ::operator delete(header_of(data), std::align_val_t{kAlignment});
  }
}

std::shared_ptr<void> allocate_shared_zeros(size_t bytes) {
  void* data = allocate_aligned(bytes);
  if (bytes < kMapped) std::memset(data, 0, bytes);
  return {data, free_aligned};  // frees the block also when the count cannot be allocated
}

uint64_t num_allocations() noexcept {
  return allocation_count().load(std::memory_order_relaxed);
}

Arena::~Arena() {
  release();
}

void* Arena::take_bytes(size_t bytes) {
  if (bytes > kMaxBytes) out_of_memory(bytes);
  const size_t needed = round_up(bytes, kAlignment) + kGuard;
  // The blocks after the one in use are empty; the first that is large enough is next. The choice
  // depends only on the requests, so a second identical pass finds every block where the first one
  // left it.
  const auto fits = [&] {
    return block_ < blocks_.size() && needed <= blocks_[block_].size - used_;
  };
  while (block_ < blocks_.size() && !fits()) {
    ++block_;
    used_ = 0;
  }
  if (!fits()) {
    const size_t size = std::max({needed, kMapped, num_bytes() / 2});
    blocks_.reserve(blocks_.size() + 1);
    blocks_.push_back({allocate_aligned(size), size});
    poison(blocks_.back().data, size);
  }
  void* data = static_cast<std::byte*>(blocks_[block_].data) + used_;
  used_ += needed;
  poison(data, needed);
  unpoison(data, bytes);
  return data;
}

void Arena::release() noexcept {
  for (const Block& block : blocks_) {
    unpoison(block.data, block.size);
    free_aligned(block.data);
  }
  blocks_.clear();
  block_ = 0;
  used_ = 0;
}

size_t Arena::num_bytes() const noexcept {
  size_t bytes = 0;
  for (const Block& block : blocks_) bytes += block.size;
  return bytes;
}

}  // namespace fuseq::inline v0
