// SPDX-License-Identifier: Apache-2.0
// linear on int8 panels with AVX2 and no dot product of bytes, by vpmaddubsw: products of unsigned
// w + 128 and signed x, which are summed by twos in int16, or by fours before they are widened.
// That fits as long as neither the positive nor the negative x of a sum come to more than 128:
// 128 * 255 < 2^15. Where they do, packed x is smaller, and what it lacks is multiplied by itself
// when a tile is done; so sums are exact. Of rows that are spread like a normal distribution this
// concerns one step of thirty where two are summed, and one of seven where four are.
#include <immintrin.h>

#include "kernels/cpu/linear.h"
#include "kernels/cpu/linear_tile.h"
#include "kernels/cpu/quantize.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

namespace {

/// What the x of one sign may come to.
constexpr int kMostOfSum = INT16_MAX / 255;

[[gnu::always_inline]] inline __m256i splat_word(const void* p) {
  int word;
  __builtin_memcpy(&word, p, sizeof(word));
  return _mm256_set1_epi32(word);
}

/// Sums of two int16.
[[gnu::always_inline]] inline __m256i add_pairs(__m256i a) {
  return _mm256_madd_epi16(a, _mm256_set1_epi16(1));
}

/// What has to be taken off eight steps of numbers of one sign, given as magnitudes, of which two
/// or four are summed.
template <int kSum>
[[gnu::always_inline]] inline __m256i surplus(__m256i magnitudes) {
  const __m256i most = _mm256_set1_epi16(kMostOfSum);
  const __m256i of_two = _mm256_maddubs_epi16(magnitudes, _mm256_set1_epi8(1));
  __m256i of_step = _mm256_subs_epu16(of_two, most);
  if constexpr (kSum == 4) {
    // The second step gives what it can, the first one the rest.
    const __m256i of_other = _mm256_shuffle_epi32(of_two, 0xb1);
    const __m256i too_much = _mm256_subs_epu16(_mm256_add_epi16(of_two, of_other), most);
    of_step = _mm256_blend_epi32(_mm256_subs_epu16(too_much, of_other),
                                 _mm256_min_epi16(of_two, too_much), 0xaa);
  }
  // So do the neighbours of a step.
  const __m256i of_left =
      _mm256_min_epi16(_mm256_and_si256(magnitudes, _mm256_set1_epi16(0xff)), of_step);
  return _mm256_or_si256(of_left, _mm256_slli_epi16(_mm256_sub_epi16(of_step, of_left), 8));
}

[[gnu::always_inline]] inline __m256i unsigned_weights(const uint32_t* p) {
  return _mm256_xor_si256(load_half(p), _mm256_set1_epi8(-128));
}

/// What of a format depends on the number of products that are summed in int16.
template <int kSum>
struct Factors;

template <>
struct Factors<2> {
  struct Weights {
    __m256i lo, hi;
  };
  static constexpr int kOthers = 1;

  template <int>
  [[gnu::always_inline]] static Weights weights(const uint32_t* p) {
    return {unsigned_weights(p), unsigned_weights(p + 8)};
  }
  [[gnu::always_inline]] static __m256i broadcast(const uint32_t* x, int /*rows*/) {
    return splat_word(x);
  }
  [[gnu::always_inline]] static void multiply_add(i32x16& sum, const Weights& w, __m256i x) {
    add_to(sum.lo, add_pairs(_mm256_maddubs_epi16(w.lo, x)));
    add_to(sum.hi, add_pairs(_mm256_maddubs_epi16(w.hi, x)));
  }
};

template <>
struct Factors<4> {
  struct Value {
    __m256i x[2];
  };
  struct Weights {
    __m256i lo[2], hi[2];
  };
  static constexpr int kOthers = 2;

  [[gnu::always_inline]] static Weights weights(const uint32_t* p, const uint32_t* q) {
    return {{unsigned_weights(p), unsigned_weights(q)},
            {unsigned_weights(p + 8), unsigned_weights(q + 8)}};
  }
  [[gnu::always_inline]] static Value broadcast(const uint32_t* x, int rows) {
    return {{splat_word(x), splat_word(x + rows)}};
  }
  [[gnu::always_inline]] static __m256i products(const __m256i* w, const Value& value) {
    return add_pairs(_mm256_add_epi16(_mm256_maddubs_epi16(w[0], value.x[0]),
                                      _mm256_maddubs_epi16(w[1], value.x[1])));
  }
  [[gnu::always_inline]] static void multiply_add(i32x16& sum, const Weights& w,
                                                  const Value& value) {
    add_to(sum.lo, products(w.lo, value));
    add_to(sum.hi, products(w.hi, value));
  }
};

template <int kSum>
struct Bytes : Factors<kSum> {
  using X = uint32_t;  // four int8
  using Sum = i32x16;
  using Number = int32_t;
  using Unpacked = void;
  static constexpr int64_t kStepWords = kLinearPanel;
  static constexpr int kSteps = kSum / 2;
  static constexpr int kParts = 1;
  static constexpr int kValues = 1;
  static constexpr bool kPlain = false;

  static void pack_row(const LinearJob& job, int64_t row, int64_t step, int64_t steps,
                       uint32_t* to) {
    const int8_t* const q = job.quantized_x + row * int8_row_bytes(job.I) + 4 * step;
    LinearLeftOut& left_out =
        job.left_out[row * job.pack_units_per_tile() + step / kLinearPackSteps];
    left_out.positive.count = left_out.negative.count = 0;
    const __m256i zero = _mm256_setzero_si256();
    __m256i sum = zero;
    for (int64_t i = 0; i < steps; i += 8) {
      int8_t last[32] = {};
      const bool is_last = steps - i < 8;
      if (is_last) __builtin_memcpy(last, q + 4 * i, static_cast<size_t>(4 * (steps - i)));
      const __m256i x =
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(is_last ? last : q + 4 * i));
      const __m256i positive = surplus<kSum>(_mm256_max_epi8(x, zero));
      const __m256i negative = surplus<kSum>(_mm256_abs_epi8(_mm256_min_epi8(x, zero)));
      const __m256i packed = _mm256_add_epi8(_mm256_sub_epi8(x, positive), negative);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), packed);
      add_to(sum, add_pairs(_mm256_maddubs_epi16(_mm256_set1_epi8(1), packed)));
      leave_out(left_out.positive, i, positive);
      leave_out(left_out.negative, i, negative);
    }
    alignas(32) int32_t parts[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(parts), sum);
    left_out.excess = 0;
    for (const int32_t part : parts) left_out.excess += 128 * part;
    const int64_t entries = left_out.positive.count + left_out.negative.count;
    __atomic_fetch_add(job.num_left_out, entries, __ATOMIC_RELAXED);
  }

  /// Takes off what 128 added to the sums, and adds the products of what packed x lacks.
  [[gnu::always_inline]] static void mend(const LinearJob& job, int64_t first_row, int64_t rows,
                                          int64_t panel, int32_t* sums) {
    for (int64_t m = 0; m < rows; ++m) {
      mend_row(job, first_row + m, panel_words(job, panel), sums + m * kLinearPanel);
    }
  }

 private:
  static_assert(kLinearPackSteps <= 256);  // steps are bytes
  static_assert(kLinearPackSteps % kSteps == 0 && kFewBlockSteps % kSteps == 0);

  /// Puts what there is of eight steps on the list.
  [[gnu::always_inline]] static void leave_out(LinearLeftOut::List& list, int64_t step,
                                               __m256i magnitudes) {
    const __m256i is_zero = _mm256_cmpeq_epi32(magnitudes, _mm256_setzero_si256());
    auto found = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(is_zero))) ^ 0xffu;
    if (found == 0) return;
    alignas(32) uint32_t words[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(words), magnitudes);
    for (; found != 0; found &= found - 1) {
      const int i = __builtin_ctz(found);
      list.steps[list.count] = static_cast<uint8_t>(step + i);
      list.magnitudes[list.count++] = words[i];
    }
  }

  /// Calls add(i, products) with the products of each entry and 8 outputs of a panel, all i.
  template <typename Add>
  [[gnu::always_inline]] static void multiply_list(const LinearLeftOut::List& list,
                                                   const uint32_t* w, Add add) {
    for (int32_t k = 0; k < list.count; ++k) {
      const uint32_t* const words = w + list.steps[k] * kLinearPanel;
      const __m256i x = splat_word(list.magnitudes + k);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        add(i, add_pairs(_mm256_maddubs_epi16(x, load_half(words + 8 * i))));
      }
    }
  }

  [[gnu::noinline]] static void mend_row(const LinearJob& job, int64_t row, const uint32_t* w,
                                         int32_t* sums) {
    __m256i sum[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      sum[i] = _mm256_load_si256(reinterpret_cast<__m256i*>(sums + 8 * i));
    }
    const int64_t units = job.pack_units_per_tile();
    for (int64_t unit = 0; unit < units; ++unit) {
      const LinearLeftOut& left_out = job.left_out[row * units + unit];
      const __m256i excess = _mm256_set1_epi32(left_out.excess);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sum[i] = _mm256_sub_epi32(sum[i], excess);
      multiply_list(left_out.positive, w,
                    [&](int i, __m256i products) { sum[i] = _mm256_add_epi32(sum[i], products); });
      multiply_list(left_out.negative, w,
                    [&](int i, __m256i products) { sum[i] = _mm256_sub_epi32(sum[i], products); });
      w += kLinearPanel * kLinearPackSteps;
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      _mm256_store_si256(reinterpret_cast<__m256i*>(sums + 8 * i), sum[i]);
    }
  }
};

static_assert(linear_packed_steps(LinearFormat::bytes2, 1) == packed_steps<Bytes<2>>(1));
static_assert(linear_packed_steps(LinearFormat::bytes4, 1) == packed_steps<Bytes<4>>(1));

}  // namespace

void linear_pack_bytes(const LinearJob& job, int64_t begin, int64_t end) {
  job.format == LinearFormat::bytes2 ? pack_units<Bytes<2>>(job, begin, end)
                                     : pack_units<Bytes<4>>(job, begin, end);
}

void linear_few_bytes(const LinearJob& job, int64_t begin, int64_t end) {
  job.format == LinearFormat::bytes2 ? multiply_few<Bytes<2>>(job, begin, end)
                                     : multiply_few<Bytes<4>>(job, begin, end);
}

void linear_many_bytes(const LinearJob& job, int64_t first_tile, int64_t end_tile,
                       int64_t first_panel, int64_t end_panel, float* block) {
  if (job.format == LinearFormat::bytes2) {
    multiply_many<Bytes<2>>(job, first_tile, end_tile, first_panel, end_panel, block);
  } else {
    multiply_many<Bytes<4>>(job, first_tile, end_tile, first_panel, end_panel, block);
  }
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
