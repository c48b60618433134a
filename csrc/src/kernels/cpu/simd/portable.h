// SPDX-License-Identifier: Apache-2.0
// f32x16 as an array, for any machine. fma rounds twice here: results differ from the vector twins
// in the last digits.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

inline constexpr int kVectorRegisters = 16;
inline constexpr int kRegistersPerVector = 4;

struct f32x16 {
  float lane[16];
};

struct mask16 {
  uint32_t v;
};

/// f(i) in every lane i.
template <typename F>
[[gnu::always_inline]] inline f32x16 each_lane(F f) {
  f32x16 out;
  for (int i = 0; i < 16; ++i) out.lane[i] = f(i);
  return out;
}

inline float float_of_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
inline uint32_t bits_of_float(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}
inline uint16_t bf16_bits(float value) {
  const uint32_t bits = bits_of_float(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline f32x16 zeros() {
  return each_lane([](int) { return 0.0f; });
}
inline f32x16 splat(float x) {
  return each_lane([x](int) { return x; });
}
inline mask16 first(int64_t n) {
  return {(1u << static_cast<unsigned>(n)) - 1u};
}

inline f32x16 load(const float* p) {
  return each_lane([p](int i) { return p[i]; });
}
inline f32x16 load_n(const float* p, int64_t n) {
  return each_lane([=](int i) { return i < n ? p[i] : 0.0f; });
}
inline void store_n(float* p, f32x16 a, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = a.lane[i];
}
inline void store(float* p, f32x16 a) {
  store_n(p, a, 16);
}

inline f32x16 load_bf16_n(const uint16_t* p, int64_t n) {
  return each_lane(
      [=](int i) { return i < n ? float_of_bits(static_cast<uint32_t>(p[i]) << 16) : 0.0f; });
}
inline f32x16 load_bf16(const uint16_t* p) {
  return load_bf16_n(p, 16);
}
inline f32x16 load_bf16_even(const uint32_t* p) {
  return each_lane([p](int i) { return float_of_bits(p[i] << 16); });
}
inline f32x16 load_bf16_odd(const uint32_t* p) {
  return each_lane([p](int i) { return float_of_bits(p[i] & 0xffff0000u); });
}
inline void store_bf16_n(uint16_t* p, f32x16 a, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = bf16_bits(a.lane[i]);
}
inline void store_bf16(uint16_t* p, f32x16 a) {
  store_bf16_n(p, a, 16);
}
inline f32x16 round_bf16(f32x16 a) {
  return each_lane(
      [&](int i) { return float_of_bits(static_cast<uint32_t>(bf16_bits(a.lane[i])) << 16); });
}

inline f32x16 operator+(f32x16 a, f32x16 b) {
  return each_lane([&](int i) { return a.lane[i] + b.lane[i]; });
}
inline f32x16 operator-(f32x16 a, f32x16 b) {
  return each_lane([&](int i) { return a.lane[i] - b.lane[i]; });
}
inline f32x16 operator*(f32x16 a, f32x16 b) {
  return each_lane([&](int i) { return a.lane[i] * b.lane[i]; });
}
inline f32x16 operator/(f32x16 a, f32x16 b) {
  return each_lane([&](int i) { return a.lane[i] / b.lane[i]; });
}
inline f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
  return each_lane([&](int i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
}
inline f32x16 min(f32x16 a, f32x16 b) {
  return each_lane([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline f32x16 max(f32x16 a, f32x16 b) {
  return each_lane([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline f32x16 sqrt(f32x16 a) {
  return each_lane([&](int i) { return std::sqrt(a.lane[i]); });
}
inline f32x16 abs(f32x16 a) {
  return each_lane([&](int i) { return std::fabs(a.lane[i]); });
}
inline f32x16 round(f32x16 a) {
  return each_lane([&](int i) { return std::nearbyint(a.lane[i]); });
}
inline f32x16 exp2_int(f32x16 n) {
  return each_lane([&](int i) {
    return float_of_bits(static_cast<uint32_t>(static_cast<int32_t>(n.lane[i]) + 127) << 23);
  });
}

inline mask16 operator<(f32x16 a, f32x16 b) {
  uint32_t m = 0;
  for (int i = 0; i < 16; ++i) m |= static_cast<uint32_t>(a.lane[i] < b.lane[i]) << i;
  return {m};
}
inline mask16 operator>(f32x16 a, f32x16 b) {
  return b < a;
}
inline mask16 operator&(mask16 a, mask16 b) {
  return {a.v & b.v};
}
inline bool any(mask16 m) {
  return m.v != 0;
}
inline uint32_t bits(mask16 m) {
  return m.v;
}
inline mask16 mask_from_bits(uint32_t b) {
  return {b};
}
inline f32x16 select(mask16 m, f32x16 a, f32x16 b) {
  return each_lane([&](int i) { return (m.v >> i & 1u) ? a.lane[i] : b.lane[i]; });
}

inline uint32_t bits_where_equal(const int32_t* p, int32_t value) {
  uint32_t m = 0;
  for (int i = 0; i < 16; ++i) m |= static_cast<uint32_t>(p[i] == value) << i;
  return m;
}

inline float reduce_add(f32x16 a) {
  for (int step = 8; step > 0; step /= 2) {
    for (int i = 0; i < step; ++i) a.lane[i] += a.lane[i + step];
  }
  return a.lane[0];
}
inline float reduce_max(f32x16 a) {
  for (int step = 8; step > 0; step /= 2) {
    for (int i = 0; i < step; ++i)
      a.lane[i] = a.lane[i] > a.lane[i + step] ? a.lane[i] : a.lane[i + step];
  }
  return a.lane[0];
}

// ---- 16 unsigned integers of 32 bits ------------------------------------------------------------

struct u32x16 {
  uint32_t lane[16];
};

template <typename F>
u32x16 each_u32_lane(F f) {
  u32x16 result;
  for (int i = 0; i < 16; ++i) result.lane[i] = f(i);
  return result;
}

inline u32x16 splat_u32(uint32_t x) {
  return each_u32_lane([x](int) { return x; });
}
inline u32x16 iota_u32() {
  return each_u32_lane([](int i) { return static_cast<uint32_t>(i); });
}
inline u32x16 load_u32_n(const int32_t* p, int64_t n) {
  return each_u32_lane([=](int i) { return i < n ? static_cast<uint32_t>(p[i]) : 0u; });
}
inline u32x16 operator+(u32x16 a, u32x16 b) {
  return each_u32_lane([&](int i) { return a.lane[i] + b.lane[i]; });
}
inline u32x16 operator^(u32x16 a, u32x16 b) {
  return each_u32_lane([&](int i) { return a.lane[i] ^ b.lane[i]; });
}
inline u32x16 operator&(u32x16 a, u32x16 b) {
  return each_u32_lane([&](int i) { return a.lane[i] & b.lane[i]; });
}
inline u32x16 operator|(u32x16 a, u32x16 b) {
  return each_u32_lane([&](int i) { return a.lane[i] | b.lane[i]; });
}
template <int kBits>
u32x16 shift_right(u32x16 a) {
  return each_u32_lane([&](int i) { return a.lane[i] >> kBits; });
}
struct u32x16_product {
  u32x16 low, high;
};
inline u32x16_product multiply_wide(u32x16 a, u32x16 b) {
  u32x16_product product;
  for (int i = 0; i < 16; ++i) {
    const uint64_t wide = uint64_t{a.lane[i]} * b.lane[i];
    product.low.lane[i] = static_cast<uint32_t>(wide);
    product.high.lane[i] = static_cast<uint32_t>(wide >> 32);
  }
  return product;
}
inline f32x16 to_float(u32x16 a) {
  return each_lane([&](int i) { return static_cast<float>(a.lane[i]); });
}
inline u32x16 as_u32(f32x16 a) {
  return each_u32_lane([&](int i) { return std::bit_cast<uint32_t>(a.lane[i]); });
}
inline f32x16 as_f32(u32x16 a) {
  return each_lane([&](int i) { return std::bit_cast<float>(a.lane[i]); });
}

// ---- signed integers ---------------------------------------------------------------------

struct i32x16 {
  int32_t lane[16];
};

template <typename F>
i32x16 each_i32_lane(F f) {
  i32x16 result;
  for (int i = 0; i < 16; ++i) result.lane[i] = f(i);
  return result;
}

inline i32x16 load(const int32_t* p) {
  i32x16 a;
  std::memcpy(a.lane, p, sizeof(a.lane));
  return a;
}
inline void store(int32_t* p, i32x16 a) {
  std::memcpy(p, a.lane, sizeof(a.lane));
}
inline i32x16 operator-(i32x16 a, i32x16 b) {
  return each_i32_lane([&](int i) { return a.lane[i] - b.lane[i]; });
}
inline f32x16 to_float(i32x16 a) {
  return each_lane([&](int i) { return static_cast<float>(a.lane[i]); });
}
inline void store_int8(int8_t* p, f32x16 a) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<int8_t>(std::nearbyint(a.lane[i]));
}

struct i16x32 {
  int16_t lane[32];
};

inline i16x32 load_bytes(const uint32_t* p, int first_byte) {
  i16x32 a;
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 2; ++j) {
      a.lane[2 * i + j] = static_cast<int8_t>(p[i] >> (8 * (first_byte + 2 * j)));
    }
  }
  return a;
}
inline i16x32 load_even_bytes(const uint32_t* p) {
  return load_bytes(p, 0);
}
inline i16x32 load_odd_bytes(const uint32_t* p) {
  return load_bytes(p, 1);
}
inline i16x32 load_pairs(const uint32_t* p) {
  i16x32 a;
  std::memcpy(a.lane, p, sizeof(a.lane));
  return a;
}
inline void store_pairs(uint32_t* p, i16x32 a) {
  std::memcpy(p, a.lane, sizeof(a.lane));
}
inline i16x32 splat_pair(uint32_t pair) {
  i16x32 a;
  for (int i = 0; i < 32; ++i) a.lane[i] = static_cast<int16_t>(pair >> (16 * (i % 2)));
  return a;
}
inline i32x16 add_products(i32x16 sum, i16x32 a, i16x32 b) {
  return each_i32_lane([&](int i) {
    return sum.lane[i] + a.lane[2 * i] * b.lane[2 * i] + a.lane[2 * i + 1] * b.lane[2 * i + 1];
  });
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
