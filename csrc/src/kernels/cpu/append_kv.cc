// SPDX-License-Identifier: Apache-2.0
// Norm, rope and store of the heads of packed rows.
#include "kernels/cpu/append_kv.h"

#include "kernels/cpu/kv_lane.h"
#include "kernels/cpu/simd/transpose.h"
#include "kernels/cpu/simd/vec.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

namespace {

/// Calls f(i, n) for the lanes i ... i + n - 1 of a row, n being 16 but at its end.
template <typename F>
[[gnu::always_inline]] inline void each_vector(int64_t width, F f) {
  int64_t i = 0;
  for (; i + 16 <= width; i += 16) f(i, int64_t{16});
  if (i < width) f(i, width - i);
}

void normalise(float* x, const HeadRows& args) {
  const f32x16 count = splat(static_cast<float>(args.E));
  f32x16 mean = zeros();
  if (args.norm == Norm::layer) {
    f32x16 total = zeros();
    each_vector(args.E, [&](int64_t i, int64_t n) { total = total + load_n(x + i, n); });
    mean = splat(reduce_add(total)) / count;
  }
  f32x16 squares = zeros();
  each_vector(args.E, [&](int64_t i, int64_t n) {
    const f32x16 d = select(first(n), load_n(x + i, n) - mean, zeros());
    squares = fma(d, d, squares);
  });
  const f32x16 mean_square = splat(reduce_add(squares)) / count;
  const f32x16 scale = splat(1.0f) / sqrt(mean_square + splat(args.eps));
  const f32x16 offset = splat(args.norm == Norm::rms_plus_one ? 1.0f : 0.0f);
  each_vector(args.E, [&](int64_t i, int64_t n) {
    const f32x16 gamma = load_n(args.gamma + i, n) + offset;
    store_n(x + i, (load_n(x + i, n) - mean) * scale * gamma, n);
  });
}

void rotate(float* x, const float* cos_sin, int64_t half) {
  each_vector(half, [=](int64_t i, int64_t n) {
    const f32x16 cosine = load_n(cos_sin + i, n);
    const f32x16 sine = load_n(cos_sin + half + i, n);
    const f32x16 lower = load_n(x + i, n);
    const f32x16 upper = load_n(x + half + i, n);
    store_n(x + i, lower * cosine - upper * sine, n);
    store_n(x + half + i, upper * cosine + lower * sine, n);
  });
}

void store_key(const float* k, int64_t E, float* block) {
  for (int64_t e = 0; e < E; ++e) block[e * kKeyBlock] = k[e];
}
void store_key(const float* k, int64_t E, uint16_t* block) {
  each_vector(E, [=](int64_t i, int64_t n) {
    uint16_t part[16];
    store_bf16(part, load_n(k + i, n));
    for (int64_t e = 0; e < n; ++e) block[(i + e) * kKeyBlock] = part[e];
  });
}
/// Keys of the 16 positions of a block.
void store_keys(const float* k, int64_t stride, int64_t E, float* block) {
  transpose_words(reinterpret_cast<const word*>(k), stride, kKeyBlock, E,
                  reinterpret_cast<word*>(block), kKeyBlock);
}
void store_keys(const float* k, int64_t stride, int64_t E, uint16_t* block) {
  alignas(64) float part[16 * kKeyBlock];
  each_vector(E, [&](int64_t i, int64_t n) {
    transpose_words(reinterpret_cast<const word*>(k + i), stride, kKeyBlock, n,
                    reinterpret_cast<word*>(part), kKeyBlock);
    for (int64_t e = 0; e < n; ++e) {
      store_bf16(block + (i + e) * kKeyBlock, load(part + e * kKeyBlock));
    }
  });
}
static_assert(kKeyBlock == 16, "the width of a vector");

void store_value(const float* v, int64_t E, float* row) {
  each_vector(E, [=](int64_t i, int64_t n) { store_n(row + i, load_n(v + i, n), n); });
}
void store_value(const float* v, int64_t E, uint16_t* row) {
  each_vector(E, [=](int64_t i, int64_t n) { store_bf16_n(row + i, load_n(v + i, n), n); });
}

/// The end of the rows from `first` on that continue its block of one lane.
int64_t block_end(const StoreRows& args, int64_t first, int64_t end) {
  const int64_t position = args.positions[first];
  const auto continues = [&](int64_t row) {
    return args.positions[row] == position + (row - first) &&
           (args.lanes == nullptr || args.lanes[row] == args.lanes[first]);
  };
  const int64_t left = kKeyBlock - position % kKeyBlock;
  const int64_t most = left < end - first ? left : end - first;
  int64_t row = first + 1;
  while (row < first + most && continues(row)) ++row;
  return row;
}

template <typename T>
void store_as(const StoreRows& args, int64_t begin, int64_t end) {
  // One block of one head at a time: it stays in the first cache while it fills.
  for (int64_t first_row = begin; first_row < end;) {
    const int64_t last_row = block_end(args, first_row, end);
    const int64_t position = args.positions[first_row];
    const int64_t in_block = position % kKeyBlock;
    const KvLane<T> lane =
        kv_lane<T>(args.kv, args.lanes ? args.lanes[first_row] : 0, args.G, args.E);
    for (int64_t g = 0; g < args.G; ++g) {
      const float* const k = args.k + first_row * args.k_row_stride + g * args.k_head_stride;
      const float* const v = args.v + first_row * args.v_row_stride + g * args.v_head_stride;
      T* const block = lane.k + kv_offset(lane, g, position - in_block, args.E);
      T* const values = lane.v + kv_offset(lane, g, position, args.E);
      if (last_row - first_row == kKeyBlock) store_keys(k, args.k_row_stride, args.E, block);
      for (int64_t i = 0; i < last_row - first_row; ++i) {
        if (last_row - first_row < kKeyBlock) {
          store_key(k + i * args.k_row_stride, args.E, block + in_block + i);
        }
        store_value(v + i * args.v_row_stride, args.E, values + i * args.E);
      }
    }
    first_row = last_row;
  }
}

}  // namespace

void transform_heads(const HeadRows& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t head = 0; head < args.heads; ++head) {
      float* const x = args.data + row * args.row_stride + head * args.head_stride;
      if (args.gamma) normalise(x, args);
      if (args.cos_sin) rotate(x, args.cos_sin + row * args.E, args.E / 2);
    }
  }
}

void store_rows(const StoreRows& args, int64_t begin, int64_t end) {
  if (args.is_bf16) {
    store_as<uint16_t>(args, begin, end);
  } else {
    store_as<float>(args, begin, end);
  }
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
