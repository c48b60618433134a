// SPDX-License-Identifier: Apache-2.0
// linear on int8 panels with AVX2 and no dot product of bytes, by vpmaddubsw: products of unsigned
// w + 128 and signed x, which sums two of them in int16. That has room as long as neither the
// positive nor the negative ones of two neighbouring x come to more than 128: 128 * 255 < 2^15.
// Where they do, packed x has zeros in place of a step's four inputs, and the step is multiplied
// by itself at the end, as |x| times w with the sign of x, whose sums of two always fit. Of rows
// that are spread like a normal distribution these are 2 or 3 steps of a hundred.
#include <immintrin.h>

#include "kernels/cpu/linear.h"
#include "kernels/cpu/linear_tile.h"
#include "kernels/cpu/quantize.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

namespace {

/// What two x of one sign may come to.
constexpr int kMostOfTwo = INT16_MAX / 255;

[[gnu::always_inline]] inline __m256i splat_word(const void* p) {
  int word;
  __builtin_memcpy(&word, p, sizeof(word));
  return _mm256_set1_epi32(word);
}

/// Sums of two int16.
[[gnu::always_inline]] inline __m256i add_pairs(__m256i a) {
  return _mm256_madd_epi16(a, _mm256_set1_epi16(1));
}

struct Bytes {
  using X = uint32_t;  // four int8
  struct Weights {
    __m256i lo, hi;
  };
  using Sum = i32x16;
  using Number = int32_t;
  using Unpacked = void;
  static constexpr int64_t kStepWords = kLinearPanel;
  static constexpr int kParts = 1;
  static constexpr int kValues = 1;
  static constexpr bool kPlain = false;

  template <int>
  [[gnu::always_inline]] static Weights weights(const uint32_t* p) {
    const __m256i offset = _mm256_set1_epi8(-128);
    return {_mm256_xor_si256(load_half(p), offset), _mm256_xor_si256(load_half(p + 8), offset)};
  }
  [[gnu::always_inline]] static __m256i broadcast(const uint32_t* x, int /*rows*/) {
    return splat_word(x);
  }
  [[gnu::always_inline]] static void multiply_add(i32x16& sum, const Weights& w, __m256i x) {
    add_to(sum.lo, add_pairs(_mm256_maddubs_epi16(w.lo, x)));
    add_to(sum.hi, add_pairs(_mm256_maddubs_epi16(w.hi, x)));
  }

  static void pack_row(const LinearJob& job, int64_t row, int64_t step, int64_t steps,
                       uint32_t* to) {
    const int8_t* const q = job.quantized_x + row * int8_row_bytes(job.I) + 4 * step;
    LinearLeftOut& left_out =
        job.left_out[row * job.pack_units_per_tile() + step / kLinearPackSteps];
    left_out.count = 0;
    __m256i sum = _mm256_setzero_si256();
    for (int64_t i = 0; i < steps; i += 8) {
      int8_t last[32] = {};
      const bool is_last = steps - i < 8;
      if (is_last) __builtin_memcpy(last, q + 4 * i, static_cast<size_t>(4 * (steps - i)));
      uint32_t too_large = pack_8(is_last ? last : q + 4 * i, to + i, sum);
      for (; too_large != 0; too_large &= too_large - 1) {
        left_out.steps[left_out.count++] = static_cast<uint8_t>(i + __builtin_ctz(too_large));
      }
    }
    alignas(32) int32_t parts[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(parts), sum);
    left_out.excess = 0;
    for (const int32_t part : parts) left_out.excess += 128 * part;
  }

  /// Takes off what 128 added to the sums, and adds the products of the steps that were left out.
  [[gnu::always_inline]] static void mend(const LinearJob& job, int64_t first_row, int64_t rows,
                                          int64_t panel, int32_t* sums) {
    for (int64_t m = 0; m < rows; ++m) {
      mend_row(job, first_row + m, panel_words(job, panel), sums + m * kLinearPanel);
    }
  }

 private:
  static_assert(kLinearPackSteps <= 256);  // steps are bytes

  /// 8 steps; returns a bit for each that is left out, and adds the x that are not to `sum`.
  [[gnu::always_inline]] static uint32_t pack_8(const int8_t* q, uint32_t* to, __m256i& sum) {
    const __m256i ones = _mm256_set1_epi8(1);
    const __m256i most = _mm256_set1_epi16(kMostOfTwo);
    __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(q));
    const __m256i positive = _mm256_max_epi8(x, _mm256_setzero_si256());
    const __m256i negative = _mm256_abs_epi8(_mm256_min_epi8(x, _mm256_setzero_si256()));
    const __m256i too_large =
        _mm256_or_si256(_mm256_cmpgt_epi16(_mm256_maddubs_epi16(positive, ones), most),
                        _mm256_cmpgt_epi16(_mm256_maddubs_epi16(negative, ones), most));
    const __m256i fits = _mm256_cmpeq_epi32(too_large, _mm256_setzero_si256());
    x = _mm256_and_si256(x, fits);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), x);
    add_to(sum, add_pairs(_mm256_maddubs_epi16(ones, x)));
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(fits))) ^ 0xffu;
  }

  [[gnu::noinline]] static void mend_row(const LinearJob& job, int64_t row, const uint32_t* w,
                                         int32_t* sums) {
    __m256i sum[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      sum[i] = _mm256_load_si256(reinterpret_cast<__m256i*>(sums + 8 * i));
    }
    const int8_t* q = job.quantized_x + row * int8_row_bytes(job.I);
    const int64_t units = job.pack_units_per_tile();
    for (int64_t unit = 0; unit < units; ++unit) {
      const LinearLeftOut& left_out = job.left_out[row * units + unit];
      const __m256i excess = _mm256_set1_epi32(left_out.excess);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sum[i] = _mm256_sub_epi32(sum[i], excess);
      for (int32_t k = 0; k < left_out.count; ++k) {
        const int64_t step = left_out.steps[k];
        const __m256i x = splat_word(q + 4 * step);
        const __m256i magnitude = _mm256_abs_epi8(x);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          const __m256i signed_w = _mm256_sign_epi8(load_half(w + step * kLinearPanel + 8 * i), x);
          add_to(sum[i], add_pairs(_mm256_maddubs_epi16(magnitude, signed_w)));
        }
      }
      q += 4 * kLinearPackSteps;
      w += kLinearPanel * kLinearPackSteps;
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      _mm256_store_si256(reinterpret_cast<__m256i*>(sums + 8 * i), sum[i]);
    }
  }
};

}  // namespace

void linear_pack_bytes(const LinearJob& job, int64_t begin, int64_t end) {
  pack_units<Bytes>(job, begin, end);
}

void linear_few_bytes(const LinearJob& job, int64_t begin, int64_t end) {
  multiply_few<Bytes>(job, begin, end);
}

void linear_many_bytes(const LinearJob& job, int64_t first_tile, int64_t end_tile,
                       int64_t first_panel, int64_t end_panel, float* block) {
  multiply_many<Bytes>(job, first_tile, end_tile, first_panel, end_panel, block);
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
