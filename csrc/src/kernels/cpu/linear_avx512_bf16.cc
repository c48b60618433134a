// SPDX-License-Identifier: Apache-2.0
// linear on bfloat16 panels by the dot product of AVX512_BF16; called only where the CPU has it.
#include <immintrin.h>

#include "kernels/cpu/linear.h"
#include "kernels/cpu/linear_tile.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

namespace {

struct Bf16Dot {
  using X = uint32_t;  // two bfloat16
  using Weights = __m512i;
  using Sum = f32x16;
  using Number = float;
  using Unpacked = void;
  static constexpr int64_t kStepWords = kLinearPanel;
  static constexpr int kSteps = 1;
  static constexpr int kParts = 1;
  static constexpr int kOthers = 1;
  static constexpr int kValues = 1;
  static constexpr bool kPlain = false;

  template <int>
  [[gnu::always_inline]] static __m512i weights(const uint32_t* p) {
    return _mm512_loadu_si512(p);
  }
  [[gnu::always_inline]] static __m512i broadcast(const uint32_t* x, int /*rows*/) {
    return _mm512_set1_epi32(static_cast<int>(*x));
  }
  /// In assembly, since gcc 12 copies the sum before and after the intrinsic.
  [[gnu::always_inline]] static void multiply_add(f32x16& sum, __m512i w, __m512i x) {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum.v) : "v"(w), "v"(x));
  }
  static void pack_row(const LinearJob& job, int64_t row, int64_t step, int64_t steps,
                       uint32_t* to) {
    const float* x = job.x.data + row * job.x.stride;
    const int64_t count = 2 * steps < job.I - 2 * step ? 2 * steps : job.I - 2 * step;
    to[steps - 1] = 0;
    each_vector(count, [&](int64_t i, int64_t n) {
      const f32x16 values = load_part(x + 2 * step + i, n);
      auto* const halves = reinterpret_cast<uint16_t*>(to) + i;
      if (n == 16) {
        store_bf16(halves, values);
      } else {
        store_bf16_n(halves, values, n);
      }
    });
  }
};

}  // namespace

void linear_pack_bf16_dot(const LinearJob& job, int64_t begin, int64_t end) {
  pack_units<Bf16Dot>(job, begin, end);
}

void linear_few_bf16_dot(const LinearJob& job, int64_t begin, int64_t end) {
  multiply_few<Bf16Dot>(job, begin, end);
}

void linear_many_bf16_dot(const LinearJob& job, int64_t first_tile, int64_t end_tile,
                          int64_t first_panel, int64_t end_panel, float* block) {
  multiply_many<Bf16Dot>(job, first_tile, end_tile, first_panel, end_panel, block);
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
