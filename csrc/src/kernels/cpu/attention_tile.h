// SPDX-License-Identifier: Apache-2.0
// The two products of attention as register tiles; for files compiled once per instruction set.
//
// Both walk their sums in one order whatever the tile: scores over e = 0 ... E - 1, outputs over
// ascending positions. So a row's result does not depend on the rows beside it.
#pragma once

#include <cstdint>

#include "fuseq/ops.h"
#include "kernels/cpu/simd/vec.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

/// Query lines of a tile. Six lines by four vectors use 24 of the 32 registers of AVX-512; six by
/// one use 12 of the 16 of AVX2.
inline constexpr int kTileLines = 6;
/// Most vectors beside one another: one line alone needs eight to hide the latency of fma.
inline constexpr int kMaxVectors = 8;

/// Vectors beside one another for a tile of `lines`: the accumulators must stay in registers.
constexpr int tile_vectors(int lines) {
  const int accumulators = (kVectorRegisters - 4) / kRegistersPerVector;
  const int vectors = accumulators / lines;
  const int most = lines == 1 ? kMaxVectors : 4;
  return vectors < 1 ? 1 : vectors > most ? most : vectors;
}

[[gnu::always_inline]] inline f32x16 load_cached(const float* p) {
  return load(p);
}
[[gnu::always_inline]] inline f32x16 load_cached(const uint16_t* p) {
  return load_bf16(p);
}
[[gnu::always_inline]] inline f32x16 load_cached_n(const float* p, int64_t n) {
  return load_n(p, n);
}
[[gnu::always_inline]] inline f32x16 load_cached_n(const uint16_t* p, int64_t n) {
  return load_bf16_n(p, n);
}
[[gnu::always_inline]] inline void store_cached(float* p, f32x16 a) {
  store(p, a);
}
[[gnu::always_inline]] inline void store_cached(uint16_t* p, f32x16 a) {
  store_bf16(p, a);
}

/// products[r][16 * c + i] = sum over e of q[r][e] * blocks[c][16 * e + i].
template <typename T, int kLines, int kVectors>
void score_tile(const float* const* q, const T* const* blocks, int64_t E, float* const* products) {
  f32x16 sums[kLines][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kLines; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kVectors; ++c) sums[r][c] = zeros();
  }
  const float* q_row[kLines];
  const T* block[kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kLines; ++r) q_row[r] = q[r];
#pragma GCC unroll 8
  for (int c = 0; c < kVectors; ++c) block[c] = blocks[c];
  for (int64_t e = 0; e < E; ++e) {
    f32x16 keys[kVectors];
#pragma GCC unroll 8
    for (int c = 0; c < kVectors; ++c) keys[c] = load_cached(block[c] + e * kKeyBlock);
#pragma GCC unroll 8
    for (int r = 0; r < kLines; ++r) {
      const f32x16 query = splat(q_row[r][e]);
#pragma GCC unroll 8
      for (int c = 0; c < kVectors; ++c) sums[r][c] = fma(query, keys[c], sums[r][c]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kLines; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kVectors; ++c) store(products[r] + c * kKeyBlock, sums[r][c]);
  }
}

/// Values of consecutive positions of one lane.
template <typename T>
struct EvenRows {
  using Element = T;
  const T* first;
  int64_t E;
  [[gnu::always_inline]] const T* operator[](int64_t s) const { return first + s * E; }
};
/// Values of positions in several lanes.
template <typename T>
struct ScatteredRows {
  using Element = T;
  const T* const* rows;
  [[gnu::always_inline]] const T* operator[](int64_t s) const { return rows[s]; }
};

/// out[r][column + i] += sum over s < count of weights[r][s] * values[s][column + i], for
/// kVectors vectors of i.
template <typename Values, int kLines, int kVectors>
void value_tile(const float* const* weights, const Values& values, int64_t count, float* const* out,
                int64_t column) {
  f32x16 sums[kLines][kVectors];
  const float* weight[kLines];
#pragma GCC unroll 8
  for (int r = 0; r < kLines; ++r) {
    weight[r] = weights[r];
#pragma GCC unroll 8
    for (int c = 0; c < kVectors; ++c) sums[r][c] = load(out[r] + column + 16 * c);
  }
  const Values rows = values;
  for (int64_t s = 0; s < count; ++s) {
    const typename Values::Element* const row = rows[s] + column;
    f32x16 value[kVectors];
#pragma GCC unroll 8
    for (int c = 0; c < kVectors; ++c) value[c] = load_cached(row + 16 * c);
#pragma GCC unroll 8
    for (int r = 0; r < kLines; ++r) {
      const f32x16 p = splat(weight[r][s]);
#pragma GCC unroll 8
      for (int c = 0; c < kVectors; ++c) sums[r][c] = fma(p, value[c], sums[r][c]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kLines; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kVectors; ++c) store(out[r] + column + 16 * c, sums[r][c]);
  }
}

/// The same for one line's last n < 16 columns.
template <typename Values>
void value_rest(const float* weights, const Values& values, int64_t count, float* out,
                int64_t column, int64_t n) {
  f32x16 sum = load_n(out + column, n);
  for (int64_t s = 0; s < count; ++s) {
    sum = fma(splat(weights[s]), load_cached_n(values[s] + column, n), sum);
  }
  store_n(out + column, sum, n);
}

template <typename T>
using ScoreTile = void (*)(const float* const*, const T* const*, int64_t, float* const*);
template <typename Values>
using ValueTile = void (*)(const float* const*, const Values&, int64_t, float* const*, int64_t);

/// The tiles of kLines lines by 1 ... kMaxVectors vectors; wider ones than fit are never called.
constexpr int fitting(int lines, int vectors) {
  return vectors < tile_vectors(lines) ? vectors : tile_vectors(lines);
}
template <typename T, int kLines>
inline constexpr ScoreTile<T> kScoreTiles[kMaxVectors] = {
    score_tile<T, kLines, fitting(kLines, 1)>, score_tile<T, kLines, fitting(kLines, 2)>,
    score_tile<T, kLines, fitting(kLines, 3)>, score_tile<T, kLines, fitting(kLines, 4)>,
    score_tile<T, kLines, fitting(kLines, 5)>, score_tile<T, kLines, fitting(kLines, 6)>,
    score_tile<T, kLines, fitting(kLines, 7)>, score_tile<T, kLines, fitting(kLines, 8)>};
template <typename Values, int kLines>
inline constexpr ValueTile<Values> kValueTiles[kMaxVectors] = {
    value_tile<Values, kLines, fitting(kLines, 1)>, value_tile<Values, kLines, fitting(kLines, 2)>,
    value_tile<Values, kLines, fitting(kLines, 3)>, value_tile<Values, kLines, fitting(kLines, 4)>,
    value_tile<Values, kLines, fitting(kLines, 5)>, value_tile<Values, kLines, fitting(kLines, 6)>,
    value_tile<Values, kLines, fitting(kLines, 7)>, value_tile<Values, kLines, fitting(kLines, 8)>};

/// Products of `lines` queries with `count` blocks of keys, block c at blocks[c].
template <typename T>
inline void score_blocks(int lines, const float* const* q, const T* const* blocks, int64_t count,
                         int64_t E, float* const* products) {
  static constexpr const ScoreTile<T>* kTiles[kTileLines] = {kScoreTiles<T, 1>, kScoreTiles<T, 2>,
                                                             kScoreTiles<T, 3>, kScoreTiles<T, 4>,
                                                             kScoreTiles<T, 5>, kScoreTiles<T, 6>};
  const ScoreTile<T>* const tiles = kTiles[lines - 1];
  const int64_t step = tile_vectors(lines);
  float* at[kTileLines];
  for (int64_t c = 0; c < count; c += step) {
    const int64_t vectors = count - c < step ? count - c : step;
    for (int r = 0; r < lines; ++r) at[r] = products[r] + c * kKeyBlock;
    tiles[vectors - 1](q, blocks + c, E, at);
  }
}

/// out[r][e] += sum over s < count of weights[r][s] * values[s][e].
template <typename Values>
inline void add_values(int lines, const float* const* weights, const Values& values, int64_t count,
                       int64_t E, float* const* out) {
  static constexpr const ValueTile<Values>* kTiles[kTileLines] = {
      kValueTiles<Values, 1>, kValueTiles<Values, 2>, kValueTiles<Values, 3>,
      kValueTiles<Values, 4>, kValueTiles<Values, 5>, kValueTiles<Values, 6>};
  const ValueTile<Values>* const tiles = kTiles[lines - 1];
  const int64_t step = tile_vectors(lines);
  const int64_t whole = E / 16;
  for (int64_t c = 0; c < whole; c += step) {
    const int64_t vectors = whole - c < step ? whole - c : step;
    tiles[vectors - 1](weights, values, count, out, 16 * c);
  }
  if (whole * 16 == E) return;
  for (int r = 0; r < lines; ++r) {
    value_rest(weights[r], values, count, out[r], whole * 16, E - whole * 16);
  }
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
