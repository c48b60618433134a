// SPDX-License-Identifier: Apache-2.0
// linear of one or two rows on int8 panels with AVX2, where the stream of weights and not
// arithmetic should be the limit: |x| times w with the sign of x, in fewer instructions than
// linear_int8.cc. Sums of two products fit int16: 2 * 127 * 127.
#include <immintrin.h>

#include "kernels/cpu/linear.h"
#include "kernels/cpu/linear_tile.h"
#include "kernels/cpu/quantize.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

namespace {

struct Signs {
  using X = uint32_t;  // four |x|, or four x
  struct Value {
    __m256i magnitude, x;
  };
  struct Weights {
    __m256i lo, hi;
  };
  using Sum = i32x16;
  using Number = int32_t;
  using Unpacked = void;
  static constexpr int64_t kStepWords = kLinearPanel;
  static constexpr int kParts = 1;
  static constexpr int kValues = 2;
  static constexpr bool kPlain = false;

  template <int>
  [[gnu::always_inline]] static Weights weights(const uint32_t* p) {
    return {load_half(p), load_half(p + 8)};
  }
  [[gnu::always_inline]] static Value broadcast(const uint32_t* x, int rows) {
    return {_mm256_set1_epi32(static_cast<int>(x[0])),
            _mm256_set1_epi32(static_cast<int>(x[rows]))};
  }
  [[gnu::always_inline]] static __m256i products(__m256i w, const Value& value) {
    const __m256i pairs = _mm256_maddubs_epi16(value.magnitude, _mm256_sign_epi8(w, value.x));
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  }
  [[gnu::always_inline]] static void multiply_add(i32x16& sum, Weights w, const Value& value) {
    add_to(sum.lo, products(w.lo, value));
    add_to(sum.hi, products(w.hi, value));
  }
  static void pack_row(const LinearJob& job, int64_t row, int64_t step, int64_t steps,
                       uint32_t* to) {
    const int8_t* q = job.quantized_x + row * int8_row_bytes(job.I) + 4 * step;
    for (int64_t i = 0; i < steps; ++i) {
      uint32_t word;
      __builtin_memcpy(&word, q + 4 * i, sizeof(word));
      const uint32_t negative = (word >> 7 & 0x01010101u) * 0xffu;  // bytes of ones
      to[2 * i] = (word ^ negative) + (negative & 0x01010101u);     // no byte carries: |x| < 128
      to[2 * i + 1] = word;
    }
  }
};

}  // namespace

void linear_pack_signs(const LinearJob& job, int64_t begin, int64_t end) {
  pack_units<Signs>(job, begin, end);
}

void linear_few_signs(const LinearJob& job, int64_t begin, int64_t end) {
  multiply_few<Signs>(job, begin, end);
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
