// SPDX-License-Identifier: Apache-2.0
// linear on int8 panels without a dot product of bytes, and of few rows on AVX2: bytes are widened
// to int16, pairs of products summed in int32. Sums of products of bytes (vpmaddubsw) saturate in
// int16, which linear_avx2_bytes.cc has a way around.
#include "kernels/cpu/linear.h"
#include "kernels/cpu/linear_tile.h"
#include "kernels/cpu/quantize.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

namespace {

/// Panels whose bytes were widened: of each step the even bytes of all outputs, then the odd ones.
struct Int16 {
  using X = uint32_t;  // two int16
  using Weights = i16x32;
  using Sum = i32x16;
  using Number = int32_t;
  static constexpr int64_t kStepWords = 2 * kLinearPanel;
  static constexpr int kSteps = 1;
  static constexpr int kParts = 2;
  static constexpr int kOthers = 2;
  static constexpr int kValues = 2;

  template <int kPart>
  [[gnu::always_inline]] static i16x32 weights(const uint32_t* p) {
    return load_pairs(p + kPart * kLinearPanel);
  }
  [[gnu::always_inline]] static i16x32 broadcast(const uint32_t* x, int /*rows*/) {
    return splat_pair(*x);
  }
  [[gnu::always_inline]] static void multiply_add(i32x16& sum, i16x32 w, i16x32 x) {
    sum = add_products(sum, w, x);
  }
};

struct Int8 {
  using X = uint32_t;  // two int16
  using Weights = i16x32;
  using Sum = i32x16;
  using Number = int32_t;
  using Unpacked = Int16;
  static constexpr int64_t kStepWords = kLinearPanel;
  static constexpr int kSteps = 1;
  static constexpr int kParts = 2;
  static constexpr int kOthers = 2;
  static constexpr int kValues = 2;
  static constexpr bool kPlain = false;

  template <int kPart>
  [[gnu::always_inline]] static i16x32 weights(const uint32_t* p) {
    return kPart == 0 ? load_even_bytes(p) : load_odd_bytes(p);
  }
  [[gnu::always_inline]] static i16x32 broadcast(const uint32_t* x, int /*rows*/) {
    return splat_pair(*x);
  }
  [[gnu::always_inline]] static void multiply_add(i32x16& sum, i16x32 w, i16x32 x) {
    sum = add_products(sum, w, x);
  }
  static void unpack(const uint32_t* p, int64_t steps, uint32_t* to) {
    for (int64_t step = 0; step < steps; ++step) {
      for (int64_t i = 0; i < kLinearPanel; i += 16) {
        store_pairs(to + i, load_even_bytes(p + i));
        store_pairs(to + kLinearPanel + i, load_odd_bytes(p + i));
      }
      p += kLinearPanel;
      to += 2 * kLinearPanel;
    }
  }
  static void pack_row(const LinearJob& job, int64_t row, int64_t step, int64_t steps,
                       uint32_t* to) {
    const int8_t* q = job.quantized_x + row * int8_row_bytes(job.I) + 4 * step;
    for (int64_t i = 0; i < steps; ++i) {
      uint32_t word;
      __builtin_memcpy(&word, q + 4 * i, sizeof(word));
      // Bytes 0 and 2, then 1 and 3, each with its sign in the byte above.
      const uint32_t even = word & 0x00ff00ffu;
      const uint32_t odd = word >> 8 & 0x00ff00ffu;
      to[2 * i] = even | (even >> 7 & 0x00010001u) * 0xff00u;
      to[2 * i + 1] = odd | (odd >> 7 & 0x00010001u) * 0xff00u;
    }
  }
};

}  // namespace

void linear_pack_int8(const LinearJob& job, int64_t begin, int64_t end) {
  pack_units<Int8>(job, begin, end);
}

void linear_few_int8(const LinearJob& job, int64_t begin, int64_t end) {
  multiply_few<Int8>(job, begin, end);
}

void linear_many_int8(const LinearJob& job, int64_t first_tile, int64_t end_tile,
                      int64_t first_panel, int64_t end_panel, float* block) {
  multiply_many<Int8>(job, first_tile, end_tile, first_panel, end_panel, block);
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
