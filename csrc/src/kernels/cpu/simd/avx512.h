// SPDX-License-Identifier: Apache-2.0
// f32x16 in one AVX-512 register.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

inline constexpr int kVectorRegisters = 32;
/// Registers of the machine that one f32x16 takes.
inline constexpr int kRegistersPerVector = 1;

struct f32x16 {
  __m512 v;
};

/// The lanes a masked operation touches.
struct mask16 {
  __mmask16 v;
};

[[gnu::always_inline]] inline f32x16 zeros() {
  return {_mm512_setzero_ps()};
}
[[gnu::always_inline]] inline f32x16 splat(float x) {
  return {_mm512_set1_ps(x)};
}
/// The first n lanes, n in 0 ... 16.
[[gnu::always_inline]] inline mask16 first(int64_t n) {
  return {static_cast<__mmask16>((1u << static_cast<unsigned>(n)) - 1u)};
}

[[gnu::always_inline]] inline f32x16 load(const float* p) {
  return {_mm512_loadu_ps(p)};
}
/// Lanes n and up are zero, and their memory is not touched.
[[gnu::always_inline]] inline f32x16 load_n(const float* p, int64_t n) {
  return {_mm512_maskz_loadu_ps(first(n).v, p)};
}
[[gnu::always_inline]] inline void store(float* p, f32x16 a) {
  _mm512_storeu_ps(p, a.v);
}
[[gnu::always_inline]] inline void store_n(float* p, f32x16 a, int64_t n) {
  _mm512_mask_storeu_ps(p, first(n).v, a.v);
}

/// bfloat16 bit patterns.
[[gnu::always_inline]] inline f32x16 load_bf16(const uint16_t* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}
[[gnu::always_inline]] inline f32x16 load_bf16_n(const uint16_t* p, int64_t n) {
  const __m256i bits = _mm256_maskz_loadu_epi16(first(n).v, p);
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}
/// The lower and the upper elements of 16 pairs.
[[gnu::always_inline]] inline f32x16 load_bf16_even(const uint32_t* p) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16))};
}
[[gnu::always_inline]] inline f32x16 load_bf16_odd(const uint32_t* p) {
  return {_mm512_castsi512_ps(
      _mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
}
/// The upper halves of the lanes after rounding to nearest even; NaN stays NaN.
[[gnu::always_inline]] inline __m256i to_bf16_bits(f32x16 a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_srli_epi32(
      _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd), 16);
  const __m512i quiet = _mm512_or_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(0x40));
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_mask_blend_epi32(nan, rounded, quiet));
}
[[gnu::always_inline]] inline void store_bf16(uint16_t* p, f32x16 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_bf16_bits(a));
}
[[gnu::always_inline]] inline void store_bf16_n(uint16_t* p, f32x16 a, int64_t n) {
  _mm256_mask_storeu_epi16(p, first(n).v, to_bf16_bits(a));
}
/// a rounded to bfloat16 and back.
[[gnu::always_inline]] inline f32x16 round_bf16(f32x16 a) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(to_bf16_bits(a)), 16))};
}

[[gnu::always_inline]] inline f32x16 operator+(f32x16 a, f32x16 b) {
  return {_mm512_add_ps(a.v, b.v)};
}
[[gnu::always_inline]] inline f32x16 operator-(f32x16 a, f32x16 b) {
  return {_mm512_sub_ps(a.v, b.v)};
}
[[gnu::always_inline]] inline f32x16 operator*(f32x16 a, f32x16 b) {
  return {_mm512_mul_ps(a.v, b.v)};
}
[[gnu::always_inline]] inline f32x16 operator/(f32x16 a, f32x16 b) {
  return {_mm512_div_ps(a.v, b.v)};
}
/// a * b + c, rounded once
[[gnu::always_inline]] inline f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
[[gnu::always_inline]] inline f32x16 min(f32x16 a, f32x16 b) {
  return {_mm512_min_ps(a.v, b.v)};
}
/// b where a is NaN
[[gnu::always_inline]] inline f32x16 max(f32x16 a, f32x16 b) {
  return {_mm512_max_ps(a.v, b.v)};
}
[[gnu::always_inline]] inline f32x16 sqrt(f32x16 a) {
  return {_mm512_sqrt_ps(a.v)};
}
[[gnu::always_inline]] inline f32x16 abs(f32x16 a) {
  return {_mm512_abs_ps(a.v)};
}
/// To the nearest integer, ties to even.
[[gnu::always_inline]] inline f32x16 round(f32x16 a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
/// 2 ** n for whole n in -126 ... 127
[[gnu::always_inline]] inline f32x16 exp2_int(f32x16 n) {
  const __m512i bits = _mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(bits, 23))};
}

[[gnu::always_inline]] inline mask16 operator<(f32x16 a, f32x16 b) {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)};
}
[[gnu::always_inline]] inline mask16 operator>(f32x16 a, f32x16 b) {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)};
}
[[gnu::always_inline]] inline mask16 operator&(mask16 a, mask16 b) {
  return {static_cast<__mmask16>(a.v & b.v)};
}
[[gnu::always_inline]] inline bool any(mask16 m) {
  return m.v != 0;
}
/// Bit i is lane i.
[[gnu::always_inline]] inline uint32_t bits(mask16 m) {
  return m.v;
}
[[gnu::always_inline]] inline mask16 mask_from_bits(uint32_t b) {
  return {static_cast<__mmask16>(b)};
}
/// a where the mask is set, else b
[[gnu::always_inline]] inline f32x16 select(mask16 m, f32x16 a, f32x16 b) {
  return {_mm512_mask_blend_ps(m.v, b.v, a.v)};
}

/// Bit i is set where p[i] is `value`.
[[gnu::always_inline]] inline uint32_t bits_where_equal(const int32_t* p, int32_t value) {
  return _mm512_cmpeq_epi32_mask(_mm512_loadu_si512(p), _mm512_set1_epi32(value));
}

[[gnu::always_inline]] inline float reduce_add(f32x16 a) {
  const __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}
[[gnu::always_inline]] inline float reduce_max(f32x16 a) {
  const __m256 s8 = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_max_ss(s2, _mm_movehdup_ps(s2)));
}

// ---- 16 unsigned integers of 32 bits ------------------------------------------------------------

struct u32x16 {
  __m512i v;
};

[[gnu::always_inline]] inline u32x16 splat_u32(uint32_t x) {
  return {_mm512_set1_epi32(static_cast<int>(x))};
}
/// 0, 1, ... 15
[[gnu::always_inline]] inline u32x16 iota_u32() {
  return {_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)};
}
/// Lanes n and up are zero, and their memory is not touched.
[[gnu::always_inline]] inline u32x16 load_u32_n(const int32_t* p, int64_t n) {
  return {_mm512_maskz_loadu_epi32(first(n).v, p)};
}
[[gnu::always_inline]] inline u32x16 operator+(u32x16 a, u32x16 b) {
  return {_mm512_add_epi32(a.v, b.v)};
}
[[gnu::always_inline]] inline u32x16 operator^(u32x16 a, u32x16 b) {
  return {_mm512_xor_si512(a.v, b.v)};
}
[[gnu::always_inline]] inline u32x16 operator&(u32x16 a, u32x16 b) {
  return {_mm512_and_si512(a.v, b.v)};
}
[[gnu::always_inline]] inline u32x16 operator|(u32x16 a, u32x16 b) {
  return {_mm512_or_si512(a.v, b.v)};
}
template <int kBits>
[[gnu::always_inline]] inline u32x16 shift_right(u32x16 a) {
  return {_mm512_srli_epi32(a.v, kBits)};
}
/// The lower and the upper halves of the products of 64 bits.
struct u32x16_product {
  u32x16 low, high;
};
[[gnu::always_inline]] inline u32x16_product multiply_wide(u32x16 a, u32x16 b) {
  const __m512i even = _mm512_mul_epu32(a.v, b.v);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(a.v, 32), _mm512_srli_epi64(b.v, 32));
  return {{_mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32))},
          {_mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd)}};
}
/// The nearest floats.
[[gnu::always_inline]] inline f32x16 to_float(u32x16 a) {
  return {_mm512_cvtepu32_ps(a.v)};
}
/// The same bits.
[[gnu::always_inline]] inline u32x16 as_u32(f32x16 a) {
  return {_mm512_castps_si512(a.v)};
}
[[gnu::always_inline]] inline f32x16 as_f32(u32x16 a) {
  return {_mm512_castsi512_ps(a.v)};
}

// ---- signed integers ---------------------------------------------------------------------

struct i32x16 {
  __m512i v;
};

[[gnu::always_inline]] inline i32x16 load(const int32_t* p) {
  return {_mm512_loadu_si512(p)};
}
[[gnu::always_inline]] inline void store(int32_t* p, i32x16 a) {
  _mm512_storeu_si512(p, a.v);
}
[[gnu::always_inline]] inline i32x16 operator-(i32x16 a, i32x16 b) {
  return {_mm512_sub_epi32(a.v, b.v)};
}
/// The nearest floats.
[[gnu::always_inline]] inline f32x16 to_float(i32x16 a) {
  return {_mm512_cvtepi32_ps(a.v)};
}
/// The nearest whole numbers, ties to even, of values in [-127, 127].
[[gnu::always_inline]] inline void store_int8(int8_t* p, f32x16 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a.v)));
}

/// 32 signed integers of 16 bits, two for each of 16 sums.
struct i16x32 {
  __m512i v;
};

/// Bytes 0 and 2 (odd: 1 and 3) of each of 16 words.
[[gnu::always_inline]] inline i16x32 load_even_bytes(const uint32_t* p) {
  return {_mm512_srai_epi16(_mm512_slli_epi16(_mm512_loadu_si512(p), 8), 8)};
}
[[gnu::always_inline]] inline i16x32 load_odd_bytes(const uint32_t* p) {
  return {_mm512_srai_epi16(_mm512_loadu_si512(p), 8)};
}
[[gnu::always_inline]] inline i16x32 load_pairs(const uint32_t* p) {
  return {_mm512_loadu_si512(p)};
}
[[gnu::always_inline]] inline void store_pairs(uint32_t* p, i16x32 a) {
  _mm512_storeu_si512(p, a.v);
}
[[gnu::always_inline]] inline i16x32 splat_pair(uint32_t pair) {
  return {_mm512_set1_epi32(static_cast<int>(pair))};
}
/// sum + a0 * b0 + a1 * b1 in every lane. In assembly, since gcc would add products first and run
/// out of registers for the sums.
[[gnu::always_inline]] inline i32x16 add_products(i32x16 sum, i16x32 a, i16x32 b) {
  __asm__("vpaddd %1, %0, %0" : "+v"(sum.v) : "v"(_mm512_madd_epi16(a.v, b.v)));
  return sum;
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
