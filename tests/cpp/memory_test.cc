// SPDX-License-Identifier: Apache-2.0
// Aligned blocks, the arena, and the tensors made of them.
#include "base/memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/checked_size.h"
#include "fuseq/tensor.h"

namespace fuseq::inline v0 {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

bool is_aligned(const void* data, size_t alignment) {
  return reinterpret_cast<uintptr_t>(data) % alignment == 0;
}

template <typename Call>
std::string message_of(ErrorKind kind, Call call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind);
    return error.what();
  }
  return "no error";
}

TEST(Allocate, blocks_are_aligned_and_usable_to_their_last_byte) {
  for (const size_t bytes :
       {size_t{0}, size_t{1}, size_t{63}, size_t{64}, size_t{65}, size_t{4097}, kMiB - 1, kMiB,
        kMiB + 1, 2 * kMiB - 1, 2 * kMiB, 2 * kMiB + 1, 5 * kMiB + 7}) {
    void* data = allocate_aligned(bytes);
    EXPECT_TRUE(is_aligned(data, kAlignment)) << bytes;
    if (bytes >= 2 * kMiB) {
      EXPECT_TRUE(is_aligned(data, 2 * kMiB)) << bytes;
    }
    std::memset(data, 0x5a, bytes);
    free_aligned(data);
  }
  free_aligned(nullptr);
}

TEST(Allocate, large_blocks_are_zeroed_even_when_the_address_was_used_before) {
  for (int round = 0; round < 3; ++round) {
    auto* data = static_cast<unsigned char*>(allocate_aligned(3 * kMiB));
    EXPECT_TRUE(std::all_of(data, data + 3 * kMiB, [](unsigned char byte) { return byte == 0; }));
    std::memset(data, 0xff, 3 * kMiB);
    free_aligned(data);
  }
}

TEST(Allocate, blocks_of_normal_pages_are_zeroed_and_usable) {
  for (const size_t bytes : {size_t{100}, kMiB, 3 * kMiB + 5}) {
    auto* data = static_cast<unsigned char*>(allocate_aligned(bytes, Pages::normal));
    EXPECT_TRUE(is_aligned(data, kAlignment));
    if (bytes >= kMiB) {
      EXPECT_TRUE(std::all_of(data, data + bytes, [](unsigned char byte) { return byte == 0; }));
    }
    std::memset(data, 0xff, bytes);
    free_aligned(data);
  }
}

TEST(Allocate, shared_blocks_are_zeroed_at_every_size) {
  for (const size_t bytes : {size_t{1}, size_t{1000}, kMiB - 1, kMiB}) {
    const std::shared_ptr<void> data = allocate_shared_zeros(bytes);
    const auto* begin = static_cast<unsigned char*>(data.get());
    EXPECT_TRUE(std::all_of(begin, begin + bytes, [](unsigned char byte) { return byte == 0; }));
  }
}

TEST(Allocate, an_impossible_size_is_an_error_that_names_it) {
  const size_t terabytes_500 = size_t{500} << 40;  // more than 47 bits of addresses
  EXPECT_EQ(message_of(ErrorKind::runtime, [&] { (void)allocate_aligned(terabytes_500); }),
            "allocate: 549755813888000 bytes of memory must be available, got none");
  const size_t all = std::numeric_limits<size_t>::max();
  EXPECT_EQ(message_of(ErrorKind::runtime, [&] { (void)allocate_shared_zeros(all); }),
            "allocate: 18446744073709551615 bytes of memory must be available, got none");
  Arena arena;
  EXPECT_EQ(message_of(ErrorKind::runtime, [&] { (void)arena.take_bytes(all - 3); }),
            "allocate: 18446744073709551612 bytes of memory must be available, got none");
  (void)arena.take<float>(10);  // still usable
}

TEST(Allocate, every_call_is_counted) {
  const uint64_t before = num_allocations();
  free_aligned(allocate_aligned(10));
  free_aligned(allocate_aligned(3 * kMiB));
  EXPECT_EQ(num_allocations(), before + 2);
}

TEST(Arena, pieces_are_aligned_and_do_not_overlap) {
  Arena arena;
  const Arena::Scope scope(arena);
  std::vector<std::span<unsigned char>> pieces;
  for (int i = 0; i < 200; ++i) {
    pieces.push_back(arena.take<unsigned char>(i * 997 % 50000));
    EXPECT_TRUE(is_aligned(pieces.back().data(), kAlignment));
    std::ranges::fill(pieces.back(), static_cast<unsigned char>(i));
  }
  for (size_t i = 0; i < pieces.size(); ++i) {
    EXPECT_TRUE(std::ranges::all_of(pieces[i], [&](unsigned char byte) { return byte == i; })) << i;
  }
}

/// Takes pieces of many sizes in nested scopes; returns their addresses.
std::vector<const void*> use(Arena& arena) {
  std::vector<const void*> places;
  const Arena::Scope outer(arena);
  places.push_back(arena.take<float>(1000).data());
  for (const int64_t count : {100'000, 700'000, 10, 3'000'000, 50'000}) {
    const Arena::Scope inner(arena);
    places.push_back(arena.take<float>(count).data());
    places.push_back(arena.take<int32_t>(count / 3).data());
  }
  places.push_back(arena.take<double>(500'000).data());
  return places;
}

TEST(Arena, the_second_identical_pass_allocates_nothing_and_gets_the_same_places) {
  Arena arena;
  const auto first = use(arena);
  const uint64_t allocations = num_allocations();
  const size_t bytes = arena.num_bytes();
  for (int pass = 0; pass < 3; ++pass) {
    EXPECT_EQ(use(arena), first);
  }
  EXPECT_EQ(num_allocations(), allocations);
  EXPECT_EQ(arena.num_bytes(), bytes);
}

TEST(Arena, a_scope_gives_back_what_was_taken_in_it) {
  Arena arena;
  const Arena::Scope outer(arena);
  const void* kept = arena.take<float>(16).data();
  const void* first = nullptr;
  {
    const Arena::Scope inner(arena);
    first = arena.take<float>(100).data();
  }
  const void* second = arena.take<float>(100).data();
  EXPECT_EQ(first, second);
  EXPECT_NE(kept, second);
}

TEST(Arena, a_scope_opened_before_the_first_block_gives_it_back_as_well) {
  Arena arena;
  const void* first = nullptr;
  {
    const Arena::Scope scope(arena);
    first = arena.take<float>(100).data();
  }
  const Arena::Scope scope(arena);
  EXPECT_EQ(arena.take<float>(100).data(), first);
}

TEST(Arena, nothing_may_be_taken) {
  Arena arena;
  EXPECT_NE(arena.take<float>(0).data(), nullptr);
  EXPECT_EQ(arena.take<float>(0).size(), 0u);
}

TEST(Arena, release_frees_all_blocks_and_the_arena_stays_usable) {
  Arena arena;
  (void)use(arena);
  EXPECT_GE(arena.num_bytes(), 12 * kMiB);
  arena.release();
  EXPECT_EQ(arena.num_bytes(), 0u);
  (void)use(arena);
  EXPECT_GE(arena.num_bytes(), 12 * kMiB);
}

TEST(Tensor, owns_dense_aligned_memory) {
  Tensor tensor(DType::f32, {3, 5});
  EXPECT_EQ(tensor.num_bytes(), 60);
  EXPECT_TRUE(is_aligned(tensor.view().data, kAlignment));
  EXPECT_TRUE(tensor.view().is_dense());
  std::fill_n(tensor.as<float>(), 15, 1.5f);
  const void* data = tensor.view().data;
  const Tensor moved = std::move(tensor);
  EXPECT_EQ(moved.view().data, data);
  EXPECT_EQ(moved.as<float>()[14], 1.5f);
}

TEST(Tensor, may_be_empty) {
  EXPECT_EQ(Tensor().num_bytes(), 0);
  EXPECT_EQ(Tensor(DType::i64, {4, 0, 7}).num_bytes(), 0);
}

TEST(Tensor, a_size_that_overflows_is_an_error) {
  const int64_t big = int64_t{1} << 31;
  EXPECT_EQ(message_of(ErrorKind::value, [&] { Tensor(DType::f32, {big, big}); }),
            "Tensor: the size of shape must fit int64, got [2147483648, 2147483648]");
}

TEST(Shape, a_product_that_overflows_is_an_error_beside_a_zero_too) {
  const int64_t big = int64_t{1} << 62;
  EXPECT_EQ(Shape({big, 1}).num_elements(), big);
  EXPECT_EQ(dense_strides({0, big})[0], big);
  EXPECT_EQ(message_of(ErrorKind::value, [&] { Shape({big + 1, 4}); }),
            "Shape: the product of dims, zeros left out, must fit int64, got "
            "[4611686018427387905, 4]");
  EXPECT_EQ(message_of(ErrorKind::value, [&] { Shape({0, big, 4}); }),
            "Shape: the product of dims, zeros left out, must fit int64, got "
            "[0, 4611686018427387904, 4]");
}

TEST(CheckedNumBytes, finds_overflow_and_lets_zero_extents_win) {
  const int64_t big = std::numeric_limits<int64_t>::max();
  const auto size = [](std::initializer_list<int64_t> dims, int64_t element) {
    return checked_num_bytes(std::span(dims.begin(), dims.size()), element);
  };
  EXPECT_EQ(size({}, 4), 4);
  EXPECT_EQ(size({2, 3}, 4), 24);
  EXPECT_EQ(size({big}, 1), big);
  EXPECT_EQ(size({big}, 2), std::nullopt);
  EXPECT_EQ(size({big, big, 0}, 8), 0);
  EXPECT_EQ(size({3037000500, 3037000500}, 1), std::nullopt) << "just above 2^63";
}

}  // namespace
}  // namespace fuseq::inline v0
