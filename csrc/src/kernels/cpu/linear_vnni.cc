// SPDX-License-Identifier: Apache-2.0
// linear on int8 panels by the dot product of AVX512_VNNI or AVX_VNNI, of unsigned x and signed w:
// x is stored with 128 added, and what that adds to a sum is taken off at the end. Called only
// where the CPU has the instruction.
#include <immintrin.h>

#include "kernels/cpu/linear.h"
#include "kernels/cpu/linear_tile.h"
#include "kernels/cpu/quantize.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

namespace {

struct Vnni {
  using X = uint32_t;  // four uint8
  using Sum = i32x16;
  using Number = int32_t;
  using Unpacked = void;
  static constexpr int64_t kStepWords = kLinearPanel;
  static constexpr int kSteps = 1;
  static constexpr int kParts = 1;
  static constexpr int kOthers = 1;
  static constexpr int kValues = 1;
  static constexpr bool kPlain = false;

  // In assembly, since gcc 12 copies the sum before and after the intrinsic; so no compiler flag is
  // needed either.
#if defined(__AVX512F__)
  using Weights = __m512i;

  template <int>
  [[gnu::always_inline]] static __m512i weights(const uint32_t* p) {
    return _mm512_loadu_si512(p);
  }
  [[gnu::always_inline]] static __m512i broadcast(const uint32_t* x, int /*rows*/) {
    return _mm512_set1_epi32(static_cast<int>(*x));
  }
  [[gnu::always_inline]] static void multiply_add(i32x16& sum, __m512i w, __m512i x) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum.v) : "v"(x), "v"(w));
  }
#else
  struct Weights {
    __m256i lo, hi;
  };

  template <int>
  [[gnu::always_inline]] static Weights weights(const uint32_t* p) {
    return {load_half(p), load_half(p + 8)};
  }
  [[gnu::always_inline]] static __m256i broadcast(const uint32_t* x, int /*rows*/) {
    return _mm256_set1_epi32(static_cast<int>(*x));
  }
  [[gnu::always_inline]] static void multiply_add(i32x16& sum, Weights w, __m256i x) {
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum.lo) : "x"(x), "x"(w.lo));
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum.hi) : "x"(x), "x"(w.hi));
  }
#endif

  static void pack_row(const LinearJob& job, int64_t row, int64_t step, int64_t steps,
                       uint32_t* to) {
    const int8_t* q = job.quantized_x + row * int8_row_bytes(job.I) + 4 * step;
    for (int64_t i = 0; i < steps; ++i) {
      uint32_t word;
      __builtin_memcpy(&word, q + 4 * i, sizeof(word));
      to[i] = word ^ 0x80808080u;
    }
  }
};

}  // namespace

void linear_pack_vnni(const LinearJob& job, int64_t begin, int64_t end) {
  pack_units<Vnni>(job, begin, end);
}

void linear_few_vnni(const LinearJob& job, int64_t begin, int64_t end) {
  multiply_few<Vnni>(job, begin, end);
}

void linear_many_vnni(const LinearJob& job, int64_t first_tile, int64_t end_tile,
                      int64_t first_panel, int64_t end_panel, float* block) {
  multiply_many<Vnni>(job, first_tile, end_tile, first_panel, end_panel, block);
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
