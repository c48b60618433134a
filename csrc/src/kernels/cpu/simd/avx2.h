// SPDX-License-Identifier: Apache-2.0
// f32x16 in two AVX2 registers.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

inline constexpr int kVectorRegisters = 16;
inline constexpr int kRegistersPerVector = 2;

struct f32x16 {
  __m256 lo, hi;
};

/// All bits of a lane set, or none.
struct mask16 {
  __m256 lo, hi;
};

[[gnu::always_inline]] inline f32x16 zeros() {
  return {_mm256_setzero_ps(), _mm256_setzero_ps()};
}
[[gnu::always_inline]] inline f32x16 splat(float x) {
  return {_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
[[gnu::always_inline]] inline mask16 first(int64_t n) {
  const __m256i count = _mm256_set1_epi32(static_cast<int>(n));
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))),
          _mm256_castsi256_ps(
              _mm256_cmpgt_epi32(count, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)))};
}

[[gnu::always_inline]] inline f32x16 load(const float* p) {
  return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
[[gnu::always_inline]] inline f32x16 load_n(const float* p, int64_t n) {
  const mask16 m = first(n);
  return {_mm256_maskload_ps(p, _mm256_castps_si256(m.lo)),
          _mm256_maskload_ps(p + 8, _mm256_castps_si256(m.hi))};
}
[[gnu::always_inline]] inline void store(float* p, f32x16 a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
[[gnu::always_inline]] inline void store_n(float* p, f32x16 a, int64_t n) {
  const mask16 m = first(n);
  _mm256_maskstore_ps(p, _mm256_castps_si256(m.lo), a.lo);
  _mm256_maskstore_ps(p + 8, _mm256_castps_si256(m.hi), a.hi);
}

[[gnu::always_inline]] inline __m256 widen_bf16(__m128i bits) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
[[gnu::always_inline]] inline f32x16 load_bf16(const uint16_t* p) {
  return {widen_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          widen_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
}
[[gnu::always_inline]] inline f32x16 load_bf16_n(const uint16_t* p, int64_t n) {
  alignas(32) uint16_t part[16] = {};
  for (int64_t i = 0; i < n; ++i) part[i] = p[i];
  return load_bf16(part);
}
[[gnu::always_inline]] inline __m256 even_of_pairs(const uint32_t* p) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), 16));
}
[[gnu::always_inline]] inline __m256 odd_of_pairs(const uint32_t* p) {
  return _mm256_castsi256_ps(
      _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
                       _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
}
[[gnu::always_inline]] inline f32x16 load_bf16_even(const uint32_t* p) {
  return {even_of_pairs(p), even_of_pairs(p + 8)};
}
[[gnu::always_inline]] inline f32x16 load_bf16_odd(const uint32_t* p) {
  return {odd_of_pairs(p), odd_of_pairs(p + 8)};
}
[[gnu::always_inline]] inline __m256i round_bf16_bits(__m256 a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(
      _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
  const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
  const __m256 nan = _mm256_cmp_ps(a, a, _CMP_UNORD_Q);
  return _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(nan));
}
[[gnu::always_inline]] inline void store_bf16(uint16_t* p, f32x16 a) {
  const __m256i packed = _mm256_packus_epi32(round_bf16_bits(a.lo), round_bf16_bits(a.hi));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xd8));
}
[[gnu::always_inline]] inline void store_bf16_n(uint16_t* p, f32x16 a, int64_t n) {
  alignas(32) uint16_t part[16];
  store_bf16(part, a);
  for (int64_t i = 0; i < n; ++i) p[i] = part[i];
}
[[gnu::always_inline]] inline f32x16 round_bf16(f32x16 a) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(round_bf16_bits(a.lo), 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(round_bf16_bits(a.hi), 16))};
}

[[gnu::always_inline]] inline f32x16 operator+(f32x16 a, f32x16 b) {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
[[gnu::always_inline]] inline f32x16 operator-(f32x16 a, f32x16 b) {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
[[gnu::always_inline]] inline f32x16 operator*(f32x16 a, f32x16 b) {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
[[gnu::always_inline]] inline f32x16 operator/(f32x16 a, f32x16 b) {
  return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
[[gnu::always_inline]] inline f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
[[gnu::always_inline]] inline f32x16 min(f32x16 a, f32x16 b) {
  return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}
[[gnu::always_inline]] inline f32x16 max(f32x16 a, f32x16 b) {
  return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
[[gnu::always_inline]] inline f32x16 sqrt(f32x16 a) {
  return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)};
}
[[gnu::always_inline]] inline f32x16 abs(f32x16 a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}
[[gnu::always_inline]] inline f32x16 round(f32x16 a) {
  return {_mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
          _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
[[gnu::always_inline]] inline __m256 exp2_int_half(__m256 n) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
[[gnu::always_inline]] inline f32x16 exp2_int(f32x16 n) {
  return {exp2_int_half(n.lo), exp2_int_half(n.hi)};
}

[[gnu::always_inline]] inline mask16 operator<(f32x16 a, f32x16 b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)};
}
[[gnu::always_inline]] inline mask16 operator>(f32x16 a, f32x16 b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_GT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_GT_OQ)};
}
[[gnu::always_inline]] inline mask16 operator&(mask16 a, mask16 b) {
  return {_mm256_and_ps(a.lo, b.lo), _mm256_and_ps(a.hi, b.hi)};
}
[[gnu::always_inline]] inline uint32_t bits(mask16 m) {
  return static_cast<uint32_t>(_mm256_movemask_ps(m.lo)) |
         static_cast<uint32_t>(_mm256_movemask_ps(m.hi)) << 8;
}
[[gnu::always_inline]] inline bool any(mask16 m) {
  return bits(m) != 0;
}
[[gnu::always_inline]] inline __m256 mask_half(uint32_t b) {
  const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  return _mm256_castsi256_ps(
      _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(b)), lane), lane));
}
[[gnu::always_inline]] inline mask16 mask_from_bits(uint32_t b) {
  return {mask_half(b & 0xffu), mask_half(b >> 8 & 0xffu)};
}
[[gnu::always_inline]] inline f32x16 select(mask16 m, f32x16 a, f32x16 b) {
  return {_mm256_blendv_ps(b.lo, a.lo, m.lo), _mm256_blendv_ps(b.hi, a.hi, m.hi)};
}

[[gnu::always_inline]] inline uint32_t bits_where_equal(const int32_t* p, int32_t value) {
  const __m256i x = _mm256_set1_epi32(value);
  const __m256i lo = _mm256_cmpeq_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), x);
  const __m256i hi =
      _mm256_cmpeq_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8)), x);
  return bits(mask16{_mm256_castsi256_ps(lo), _mm256_castsi256_ps(hi)});
}

[[gnu::always_inline]] inline float reduce_add(f32x16 a) {
  const __m256 s8 = _mm256_add_ps(a.lo, a.hi);
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}
[[gnu::always_inline]] inline float reduce_max(f32x16 a) {
  const __m256 s8 = _mm256_max_ps(a.lo, a.hi);
  const __m128 s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_max_ss(s2, _mm_movehdup_ps(s2)));
}

// ---- 16 unsigned integers of 32 bits ------------------------------------------------------------

struct u32x16 {
  __m256i lo, hi;
};

[[gnu::always_inline]] inline u32x16 splat_u32(uint32_t x) {
  const __m256i v = _mm256_set1_epi32(static_cast<int>(x));
  return {v, v};
}
[[gnu::always_inline]] inline u32x16 iota_u32() {
  return {_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
          _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)};
}
[[gnu::always_inline]] inline u32x16 load_u32_n(const int32_t* p, int64_t n) {
  const mask16 m = first(n);
  return {_mm256_maskload_epi32(p, _mm256_castps_si256(m.lo)),
          n > 8 ? _mm256_maskload_epi32(p + 8, _mm256_castps_si256(m.hi)) : _mm256_setzero_si256()};
}
[[gnu::always_inline]] inline u32x16 operator+(u32x16 a, u32x16 b) {
  return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)};
}
[[gnu::always_inline]] inline u32x16 operator^(u32x16 a, u32x16 b) {
  return {_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi)};
}
[[gnu::always_inline]] inline u32x16 operator&(u32x16 a, u32x16 b) {
  return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)};
}
[[gnu::always_inline]] inline u32x16 operator|(u32x16 a, u32x16 b) {
  return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)};
}
template <int kBits>
[[gnu::always_inline]] inline u32x16 shift_right(u32x16 a) {
  return {_mm256_srli_epi32(a.lo, kBits), _mm256_srli_epi32(a.hi, kBits)};
}
struct u32x16_product {
  u32x16 low, high;
};
[[gnu::always_inline]] inline void multiply_wide(__m256i a, __m256i b, __m256i& low,
                                                 __m256i& high) {
  const __m256i even = _mm256_mul_epu32(a, b);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
  low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
  high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
}
[[gnu::always_inline]] inline u32x16_product multiply_wide(u32x16 a, u32x16 b) {
  u32x16_product product;
  multiply_wide(a.lo, b.lo, product.low.lo, product.high.lo);
  multiply_wide(a.hi, b.hi, product.low.hi, product.high.hi);
  return product;
}
/// Both halves of 16 bits are exact, so that the sum is rounded once.
[[gnu::always_inline]] inline __m256 to_float(__m256i a) {
  const __m256 upper = _mm256_cvtepi32_ps(_mm256_srli_epi32(a, 16));
  const __m256 lower = _mm256_cvtepi32_ps(_mm256_and_si256(a, _mm256_set1_epi32(0xffff)));
  return _mm256_fmadd_ps(upper, _mm256_set1_ps(65536.0f), lower);
}
[[gnu::always_inline]] inline f32x16 to_float(u32x16 a) {
  return {to_float(a.lo), to_float(a.hi)};
}
[[gnu::always_inline]] inline u32x16 as_u32(f32x16 a) {
  return {_mm256_castps_si256(a.lo), _mm256_castps_si256(a.hi)};
}
[[gnu::always_inline]] inline f32x16 as_f32(u32x16 a) {
  return {_mm256_castsi256_ps(a.lo), _mm256_castsi256_ps(a.hi)};
}

// ---- signed integers ---------------------------------------------------------------------

struct i32x16 {
  __m256i lo, hi;
};

[[gnu::always_inline]] inline __m256i load_half(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
[[gnu::always_inline]] inline i32x16 load(const int32_t* p) {
  return {load_half(p), load_half(p + 8)};
}
[[gnu::always_inline]] inline void store(int32_t* p, i32x16 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.lo);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), a.hi);
}
[[gnu::always_inline]] inline i32x16 operator-(i32x16 a, i32x16 b) {
  return {_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)};
}
[[gnu::always_inline]] inline f32x16 to_float(i32x16 a) {
  return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)};
}
[[gnu::always_inline]] inline void store_int8(int8_t* p, f32x16 a) {
  // Words 0-3, 8-11, 4-7, 12-15 after the first step, which takes halves of both registers.
  const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi));
  const __m256i in_order = _mm256_permute4x64_epi64(words, 0xd8);
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm_packs_epi16(_mm256_castsi256_si128(in_order), _mm256_extracti128_si256(in_order, 1)));
}

struct i16x32 {
  __m256i lo, hi;
};

[[gnu::always_inline]] inline __m256i even_bytes(__m256i words) {
  return _mm256_srai_epi16(_mm256_slli_epi16(words, 8), 8);
}
[[gnu::always_inline]] inline i16x32 load_even_bytes(const uint32_t* p) {
  return {even_bytes(load_half(p)), even_bytes(load_half(p + 8))};
}
[[gnu::always_inline]] inline i16x32 load_odd_bytes(const uint32_t* p) {
  return {_mm256_srai_epi16(load_half(p), 8), _mm256_srai_epi16(load_half(p + 8), 8)};
}
[[gnu::always_inline]] inline i16x32 load_pairs(const uint32_t* p) {
  return {load_half(p), load_half(p + 8)};
}
[[gnu::always_inline]] inline void store_pairs(uint32_t* p, i16x32 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.lo);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), a.hi);
}
[[gnu::always_inline]] inline i16x32 splat_pair(uint32_t pair) {
  const __m256i v = _mm256_set1_epi32(static_cast<int>(pair));
  return {v, v};
}
/// In assembly, since gcc would add products first and run out of registers for the sums.
[[gnu::always_inline]] inline void add_to(__m256i& sum, __m256i a) {
  __asm__("vpaddd %1, %0, %0" : "+x"(sum) : "x"(a));
}
[[gnu::always_inline]] inline i32x16 add_products(i32x16 sum, i16x32 a, i16x32 b) {
  add_to(sum.lo, _mm256_madd_epi16(a.lo, b.lo));
  add_to(sum.hi, _mm256_madd_epi16(a.hi, b.hi));
  return sum;
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
