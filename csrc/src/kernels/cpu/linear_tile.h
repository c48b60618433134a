// SPDX-License-Identifier: Apache-2.0
// The tile that all linear kernels are made of: up to 12 rows by one or two panels, sums in
// registers.
//
// A sum of floats is one chain of fused multiply-adds over the inputs in order, whatever the height
// of the tile, the number of panels walked at once and the blocks the inputs are cut into: so
// results do not depend on them.
//
// A Format says what a word of a panel is:
//   kSteps               steps that are multiplied together: 1, or 2 where kParts is 1
//   kParts               turns in which the words of a step are multiplied
//   kOthers              what factors take of the registers, in rows of sums
//   kValues              packed x values per step and row, the first ones of all rows first
//   X                    type of a packed x value
//   Sum, Number          16 sums, and the type of one: float, or int32_t, whose bits are then kept
//                        where the floats of a tile are
//   weights<part>(p)     16 words as factors; weights(p, q) of both steps where kSteps is 2
//   broadcast(x, rows)   one x value as factor; where a turn takes two, the other is `rows` further
//   multiply_add(sum, w, x)
//   pack_row(job, row, begin, count, to)   x values of steps begin ... begin + count - 1 of a row
//   mend(job, row, rows, panel, sums)   optional: completes the sums of a tile
//   kPlain               x is packed as it lies, by transposing alone; there is no pack_row then
//   kStepWords           words of a step of what weights() reads
//   Unpacked             the Format of panels that were unpacked for many rows by
//   unpack(p, steps, to); void where they are read as they lie
#pragma once

#include <type_traits>

#include "kernels/cpu/linear.h"
#include "kernels/cpu/simd/parts.h"
#include "kernels/cpu/simd/transpose.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

inline constexpr int64_t kTileFloats = kLinearMaxTileRows * kLinearPanel;

inline constexpr int kVectors = kVectorRegisters / kRegistersPerVector;

/// Vectors of a panel that a tile of M rows does at once. Registers allow 12 x 32 sums with
/// AVX-512, but 6 x 16 with AVX2: from 4 rows on, or fewer where factors take registers too, it
/// does a panel in two halves.
template <typename Format>
constexpr int vectors_of_tile(int64_t M) {
  return kVectors >= 32 || (kVectors >= 8 && M + Format::kOthers <= 4) ? 2 : 1;
}

/// Panels far apart that are walked at once: few rows need them to have enough sums and memory
/// streams in flight.
constexpr int streams_of_tile(int M) {
  return M <= (kVectors >= 32 ? 4 : kVectors >= 8 ? 1 : 0) ? 2 : 1;
}

/// Whether arithmetic fills the reorder window, so that the stream of weights needs hints.
template <typename Format>
constexpr bool needs_hints(int64_t M) {
  return M + Format::kOthers > 4 || Format::kParts == 2;
}

/// How often a tile of M rows passes over a panel.
template <typename Format>
constexpr int64_t passes_of_tile(int64_t M) {
  return 2 / vectors_of_tile<Format>(M);
}

/// Steps that packed x has room for.
template <typename Format>
constexpr int64_t packed_steps(int64_t steps) {
  return (steps + Format::kSteps - 1) / Format::kSteps * Format::kSteps;
}

/// Where the weights lie that come next, and how many bytes of them to fetch with each step of each
/// pass.
struct Ahead {
  const char* data;
  int64_t stride;
};

/// sums[s] [M][32] (+)= x [steps][M] times panel w[s], for S panels.
template <typename Format, int M, int S>
void multiply_tile(const uint32_t* const* w, const void* packed_x, int64_t steps, bool resume,
                   float* sums, Ahead ahead) {
  constexpr int V = vectors_of_tile<Format>(M);
  const auto* const x_begin = static_cast<const typename Format::X*>(packed_x);
  auto* const numbers = reinterpret_cast<typename Format::Number*>(sums);
  for (int half = 0; half < 2; half += V) {
    typename Format::Sum sum[S][M][V];
    const uint32_t* weights[S];
#pragma GCC unroll 2
    for (int s = 0; s < S; ++s) {
      weights[s] = w[s] + half * 16;
#pragma GCC unroll 12
      for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) {
          sum[s][m][v] = resume
                             ? load(numbers + s * kTileFloats + m * kLinearPanel + (half + v) * 16)
                             : typename Format::Sum{};
        }
      }
    }
    const typename Format::X* x = x_begin;
    const char* next[S];
#pragma GCC unroll 2
    for (int s = 0; s < S; ++s) {
      next[s] =
          ahead.data + half * steps * ahead.stride + (w[s] - w[0]) * int64_t{sizeof(uint32_t)};
    }
    // `second`: words from a step to the one that is multiplied with it.
    const auto turn = [&](int64_t second) __attribute__((always_inline)) {
      const auto part = [&]<int kPart>() __attribute__((always_inline)) {
        typename Format::Weights factor[S][V];
#pragma GCC unroll 2
        for (int s = 0; s < S; ++s) {
#pragma GCC unroll 2
          for (int v = 0; v < V; ++v) {
            const uint32_t* const p = weights[s] + v * 16;
            if constexpr (Format::kSteps == 2) {
              factor[s][v] = Format::weights(p, p + second);
            } else {
              factor[s][v] = Format::template weights<kPart>(p);
            }
          }
        }
#pragma GCC unroll 12
        for (int m = 0; m < M; ++m) {
          const auto value = Format::broadcast(x + m, M);
#pragma GCC unroll 2
          for (int s = 0; s < S; ++s) {
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) {
              Format::multiply_add(sum[s][m][v], factor[s][v], value);
            }
          }
        }
        x += M * Format::kValues * Format::kSteps / Format::kParts;
      };
      part.template operator()<0>();
      if constexpr (Format::kParts == 2) part.template operator()<1>();
#pragma GCC unroll 2
      for (int s = 0; s < S; ++s) {
        weights[s] += Format::kStepWords * Format::kSteps;
        if constexpr (needs_hints<Format>(M)) {
#pragma GCC unroll 2
          for (int i = 0; i < Format::kSteps; ++i) {
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) __builtin_prefetch(next[s] + v * 64);
            next[s] += ahead.stride;
          }
        }
      }
    };
    int64_t step = 0;
    for (; step + Format::kSteps <= steps; step += Format::kSteps) turn(Format::kStepWords);
    if (Format::kSteps == 2 && step < steps) turn(0);  // the second x are zeros
#pragma GCC unroll 2
    for (int s = 0; s < S; ++s) {
#pragma GCC unroll 12
      for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) {
          store(numbers + s * kTileFloats + m * kLinearPanel + (half + v) * 16, sum[s][m][v]);
        }
      }
    }
  }
}

/// The tile function for a number of rows known at run time; kWide: the streams that suit it, else
/// one panel.
using TileFunction = void (*)(const uint32_t* const* w, const void* x, int64_t steps, bool resume,
                              float* sums, Ahead ahead);
template <typename Format, bool kWide, int M = 1>
TileFunction tile_function(int64_t rows) {
  if constexpr (M < linear_tile_rows(CpuIsa::FUSEQ_ISA_NAMESPACE)) {
    if (rows != M) return tile_function<Format, kWide, M + 1>(rows);
  }
  constexpr int kStreams = kWide ? streams_of_tile(M) : 1;
  return multiply_tile<Format, M, kStreams>;
}

/// y = act(sums + bias) * gate + residual for a tile of finished sums, or what is kept of it;
/// defined in linear.cc.
void finish_tile(const LinearJob& job, int64_t first_row, int64_t rows, int64_t panel,
                 const float* sums);

template <typename Format>
[[gnu::always_inline]] inline void finish(const LinearJob& job, int64_t first_row, int64_t rows,
                                          int64_t panel, float* sums) {
  if constexpr (requires { Format::mend(job, first_row, rows, panel, nullptr); }) {
    Format::mend(job, first_row, rows, panel, reinterpret_cast<int32_t*>(sums));
  }
  finish_tile(job, first_row, rows, panel, sums);
}

template <typename Format>
const void* packed_tile(const LinearJob& job, int64_t tile) {
  return static_cast<const typename Format::X*>(job.packed_x) +
         job.first_row(tile) * packed_steps<Format>(job.steps) * Format::kValues;
}

[[gnu::always_inline]] inline const uint32_t* panel_words(const LinearJob& job, int64_t panel) {
  return job.panels + panel * job.steps * kLinearPanel;
}

/// Fetches bias, scales and y of a panel's outputs, which no stream leads to; of y the first `rows`
/// rows.
[[gnu::always_inline]] inline void fetch_ends(const LinearJob& job, int64_t panel, int64_t rows) {
  const int64_t output = panel * kLinearPanel;
  const int64_t outputs = job.outputs_of(panel);
  if (job.best != nullptr) rows = 0;  // there is no y
  for (int64_t i = 0; i < outputs; i += 16) {
    if (job.bias) __builtin_prefetch(job.bias + output + i);
    if (job.w_scales) __builtin_prefetch(job.w_scales + output + i);
    if (job.format == LinearFormat::vnni) __builtin_prefetch(job.w_sums + output + i);
    for (int64_t m = 0; m < rows; ++m) {
      __builtin_prefetch(job.y.data + m * job.y.stride + output + i, 1);
    }
  }
}

template <typename Format>
void pack_units(const LinearJob& job, int64_t begin, int64_t end) {
  using X = typename Format::X;
  const int64_t units_per_tile = job.pack_units_per_tile();
  X values[kLinearMaxTileRows][kLinearPackSteps * Format::kValues];
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t tile = unit / units_per_tile;
    const int64_t step = unit % units_per_tile * kLinearPackSteps;
    const int64_t steps = kLinearPackSteps < job.steps - step ? kLinearPackSteps : job.steps - step;
    const int64_t row = job.first_row(tile);
    const int64_t rows = job.first_row(tile + 1) - row;
    X* to = static_cast<X*>(job.packed_x) +
            (row * packed_steps<Format>(job.steps) + step * rows) * Format::kValues;
    const void* from = values;
    int64_t from_stride = kLinearPackSteps * Format::kValues;
    if constexpr (Format::kPlain) {
      from = job.x.data + row * job.x.stride + step;
      from_stride = job.x.stride;
    } else {
      for (int64_t m = 0; m < rows; ++m) {
        Format::pack_row(job, row + m, step, steps, values[m]);
      }
    }
    transpose_words(static_cast<const word*>(from), from_stride, rows,
                    packed_steps<Format>(steps) * Format::kValues, reinterpret_cast<word*>(to),
                    rows);
  }
}

/// Bytes of a panel per step, and how far ahead of its use a stream that is read once is fetched.
inline constexpr int64_t kLineBytes = kLinearPanel * 4;
inline constexpr int64_t kAheadBytes = 8192;

/// One tile that passes over each panel once: panels i, i + distance, ... for as many streams as
/// its function walks.
template <typename Format>
void stream_panels(const LinearJob& job, int64_t begin, int64_t end) {
  alignas(64) float sums[2 * kTileFloats];
  const int64_t rows = job.N;
  const void* x = packed_tile<Format>(job, 0);
  const auto multiply = [&](TileFunction tile, int64_t panel, int64_t distance, int64_t streams) {
    const uint32_t* w[2] = {panel_words(job, panel), panel_words(job, panel + distance)};
    const char* ahead = reinterpret_cast<const char*>(w[0]) + kAheadBytes;
    for (int64_t s = 0; s < streams; ++s) fetch_ends(job, panel + s * distance, rows);
    tile(w, x, job.steps, false, sums, {ahead, kLineBytes});
    for (int64_t s = 0; s < streams; ++s) {
      finish<Format>(job, 0, rows, panel + s * distance, sums + s * kTileFloats);
    }
  };
  const int64_t streams = streams_of_tile(static_cast<int>(rows));
  const int64_t length = (end - begin) / streams;
  const TileFunction wide = tile_function<Format, true>(rows);
  for (int64_t i = begin; i < begin + length; ++i)
    multiply(wide, i, (streams - 1) * length, streams);
  const TileFunction narrow = tile_function<Format, false>(rows);
  for (int64_t i = begin + streams * length; i < end; ++i) multiply(narrow, i, 0, 1);
}

/// Steps of a block that later passes find in the first-level cache: 8 KB.
inline constexpr int64_t kFewBlockSteps = 64;

/// Tiles that need more than one pass over a panel: block by block of it, while the next block is
/// fetched.
template <typename Format>
void reread_panels(const LinearJob& job, int64_t begin, int64_t end) {
  alignas(64) float sums[kLinearFewTiles * kTileFloats];
  int64_t passes = 0;
  for (int64_t tile = 0; tile < job.num_tiles; ++tile) {
    passes += passes_of_tile<Format>(job.first_row(tile + 1) - job.first_row(tile));
  }
  const int64_t stride = (kLineBytes + passes - 1) / passes;
  for (int64_t panel = begin; panel < end; ++panel) {
    fetch_ends(job, panel, job.N);
    for (int64_t step = 0; step < job.steps; step += kFewBlockSteps) {
      const int64_t steps = kFewBlockSteps < job.steps - step ? kFewBlockSteps : job.steps - step;
      const uint32_t* w[1] = {panel_words(job, panel) + step * kLinearPanel};
      const char* ahead = reinterpret_cast<const char*>(w[0] + steps * kLinearPanel);
      for (int64_t tile = 0; tile < job.num_tiles; ++tile) {
        const int64_t row = job.first_row(tile);
        const int64_t rows = job.first_row(tile + 1) - row;
        const auto* x = static_cast<const typename Format::X*>(packed_tile<Format>(job, tile)) +
                        step * rows * Format::kValues;
        float* const tile_sums = sums + tile * kTileFloats;
        tile_function<Format, false>(rows)(w, x, steps, step > 0, tile_sums, {ahead, stride});
        ahead += passes_of_tile<Format>(rows) * stride * steps;
        if (step + steps == job.steps) finish<Format>(job, row, rows, panel, tile_sums);
      }
    }
  }
}

template <typename Format>
void multiply_few(const LinearJob& job, int64_t begin, int64_t end) {
  if (job.num_tiles == 1 && passes_of_tile<Format>(job.N) == 1) {
    stream_panels<Format>(job, begin, end);
  } else {
    reread_panels<Format>(job, begin, end);
  }
}

/// Calls f(begin, end) for nearly equal pieces of [begin, end) of at most `piece`.
template <typename F>
[[gnu::always_inline]] inline void each_piece(int64_t begin, int64_t end, int64_t piece, F f) {
  const int64_t count = (end - begin + piece - 1) / piece;
  for (int64_t i = 0; i < count; ++i) {
    f(begin + (end - begin) * i / count, begin + (end - begin) * (i + 1) / count);
  }
}

/// Steps of a block: 48 KB of weights once they are unpacked, and half as many where packed x has
/// two values a step.
template <typename Format>
inline constexpr int64_t kBlockSteps = kLinearBlockWords / kLinearPanel / Format::kParts;

/// The tiles, panels and steps of one block.
struct LinearBlock {
  int64_t tiles, tiles_end;
  int64_t panels, panels_end;
  int64_t step, step_end;
};

/// From this many tiles on it pays to unpack weights first.
inline constexpr int64_t kUnpackTiles = 8;

/// Unpacks weights into `room` where that pays; returns the function for tiles of a number of rows
/// that reads what `words` points at afterwards.
template <typename Format>
auto block_function(int64_t tiles, int64_t steps, const uint32_t*& words,
                    [[maybe_unused]] uint32_t* room) {
  if constexpr (!std::is_void_v<typename Format::Unpacked>) {
    if (tiles >= kUnpackTiles) {
      Format::unpack(words, steps, room);
      words = room;
      return tile_function<typename Format::Unpacked, false>;
    }
  }
  return tile_function<Format, false>;
}

/// Sums are kept in `memory`, [panel][tile] of the block, from one block of steps to the next;
/// behind them is room for unpacked weights. While the tiles pass over a panel they fetch the next
/// one piece by piece.
template <typename Format>
void multiply_block(const LinearJob& job, const LinearBlock& block, float* memory) {
  const int64_t steps = block.step_end - block.step;
  const int64_t tiles = block.tiles_end - block.tiles;
  auto* const unpacked = reinterpret_cast<uint32_t*>(memory + kLinearBlockSums);
  float* sums = memory;
  for (int64_t panel = block.panels; panel < block.panels_end; ++panel) {
    if (block.step_end == job.steps) fetch_ends(job, panel, 0);
    const uint32_t* const words = panel_words(job, panel) + block.step * kLinearPanel;
    const uint32_t* w[1] = {words};
    const auto function_for = block_function<Format>(tiles, steps, w[0], unpacked);
    const uint32_t* next = panel + 1 < block.panels_end
                               ? words + job.steps * kLinearPanel
                               : panel_words(job, block.panels) + block.step_end * kLinearPanel;
    const char* ahead = reinterpret_cast<const char*>(next);
    const int64_t passes = tiles * passes_of_tile<Format>(job.first_row(1));
    const int64_t ahead_stride = (kLineBytes + passes - 1) / passes;
    for (int64_t tile = block.tiles; tile < block.tiles_end; ++tile) {
      const int64_t row = job.first_row(tile);
      const int64_t rows = job.first_row(tile + 1) - row;
      const auto* x = static_cast<const typename Format::X*>(packed_tile<Format>(job, tile)) +
                      block.step * rows * Format::kValues;
      function_for(rows)(w, x, steps, block.step > 0, sums, {ahead, ahead_stride});
      if (block.step_end == job.steps) finish<Format>(job, row, rows, panel, sums);
      ahead += ahead_stride * steps * (passes / tiles);
      sums += kTileFloats;
    }
  }
}

/// A block of packed x stays in the second-level cache while a few panels pass over it.
template <typename Format>
void multiply_many(const LinearJob& job, int64_t first_tile, int64_t end_tile, int64_t first_panel,
                   int64_t end_panel, float* memory) {
  constexpr int64_t kSteps = Format::kSteps;
  const int64_t turns = (job.steps + kSteps - 1) / kSteps;
  each_piece(first_tile, end_tile, kLinearBlockTiles, [&](int64_t tiles, int64_t tiles_end) {
    each_piece(first_panel, end_panel, kLinearBlockPanels, [&](int64_t panels, int64_t panels_end) {
      each_piece(0, turns, kBlockSteps<Format> / kSteps, [&](int64_t turn, int64_t turn_end) {
        const int64_t step_end = turn_end == turns ? job.steps : turn_end * kSteps;
        multiply_block<Format>(job, {tiles, tiles_end, panels, panels_end, turn * kSteps, step_end},
                               memory);
      });
    });
  });
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
