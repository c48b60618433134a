// SPDX-License-Identifier: Apache-2.0
// Attention with an online softmax over chunks of keys. Chunks begin at multiples of kChunk
// whatever keys a row sees, so a row has the same bits in a prompt and in a single step.
#include "kernels/cpu/attention.h"

#include "kernels/cpu/attention_lanes.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

namespace {

/// Products of the tile with positions begin ... end - 1 of lane 0, into the scores of `chunk`.
template <typename T>
void score_lane_0(const Tile& tile, const Head<T>& head, int64_t E, int64_t chunk, int64_t begin,
                  int64_t end) {
  const T* blocks[kChunk / kKeyBlock];
  float* products[kTileLines];
  int64_t count = 0;
  for (int64_t position = begin; position < end; position += kKeyBlock) {
    blocks[count++] = head.block(0, position);
  }
  for (int r = 0; r < tile.count; ++r) products[r] = tile.scores[r] + (begin - chunk);
  score_blocks(tile.count, tile.q, blocks, count, E, products);
}

/// Bias of the 16 positions from `block` on.
[[gnu::always_inline]] inline f32x16 bias_of(const Line& line, int64_t block, int64_t reach) {
  const int64_t distance = block - line.query_position;
  if (distance >= -reach && distance + kKeyBlock - 1 <= reach) return load(line.bias + distance);
  float part[kKeyBlock];
  for (int64_t i = 0; i < kKeyBlock; ++i) {
    part[i] = line.bias[lesser(greater(distance + i, -reach), reach)];
  }
  return load(part);
}

/// Turns products at positions begin ... end - 1 of `chunk` into weights relative to the largest
/// score so far; brings sum and output to that.
void soften(const AttentionRows& args, Line& line, float* scores, float* out, int64_t chunk,
            int64_t begin, int64_t end) {
  const f32x16 scale = splat(args.scale);
  const f32x16 cap = splat(args.score_cap);
  const int64_t first_block = begin / kKeyBlock * kKeyBlock;
  f32x16 largest = splat(line.max);
  for (int64_t block = first_block; block < end; block += kKeyBlock) {
    float* const at = scores + (block - chunk);
    f32x16 score = load(at) * scale;
    if (args.score_cap > 0) score = cap * tanh(score / cap);
    if (line.bias) score = score + bias_of(line, block, args.bias_reach);
    if (block < begin || block + kKeyBlock > end) {
      score = select(mask_from_bits(positions_between(begin, end, block)), score, splat(kLowest));
    }
    store(at, score);
    largest = max(score, largest);
  }
  const float new_max = reduce_max(largest);
  if (new_max > line.max) {
    const f32x16 shrink = exp_of_small(splat(line.max) - splat(new_max));
    line.sum = line.sum * shrink;
    int64_t e = 0;
    for (; e + 16 <= args.E; e += 16) store(out + e, load(out + e) * shrink);
    if (e < args.E) store_n(out + e, load_n(out + e, args.E - e) * shrink, args.E - e);
    line.max = new_max;
  }
  const f32x16 top = splat(line.max);
  f32x16 sum = line.sum;
  for (int64_t block = first_block; block < end; block += kKeyBlock) {
    float* const at = scores + (block - chunk);
    const f32x16 weight = exp_of_small(load(at) - top);
    store(at, weight);
    sum = sum + weight;
  }
  line.sum = sum;
}

/// Adds what each line sees of begin ... end - 1 in lane 0: first, together and last what all see.
/// Values that a line does not see are not multiplied by zero: they may be no numbers.
template <typename T>
void add_lane_0(const Tile& tile, const Head<T>& head, int64_t E, int64_t chunk, int64_t begin,
                int64_t end) {
  int64_t all_begin = begin;
  int64_t all_end = end;
  for (int r = 0; r < tile.count; ++r) {
    all_begin = greater(all_begin, tile.line[r].begin);
    all_end = lesser(all_end, tile.line[r].end);
  }
  if (all_begin >= all_end) all_begin = all_end = end;
  const auto add_own = [&](int r, int64_t from, int64_t to) {
    from = greater(from, tile.line[r].begin);
    to = lesser(to, tile.line[r].end);
    if (from >= to) return;
    add_to_lines(tile, r, 1, EvenRows<T>{head.value(0, from), E}, E, chunk, from, to);
  };
  for (int r = 0; r < tile.count; ++r) add_own(r, begin, all_begin);
  if (all_begin < all_end) {
    add_to_lines(tile, 0, tile.count, EvenRows<T>{head.value(0, all_begin), E}, E, chunk, all_begin,
                 all_end);
  }
  for (int r = 0; r < tile.count; ++r) add_own(r, all_end, end);
}

template <typename T>
void run_tile(const AttentionRows& args, const Head<T>& head, Tile& tile) {
  const int64_t E = args.E;
  alignas(64) float scores[kTileLines * kChunk];
  const bool by_lanes = tile.line[0].lanes != nullptr;
  for (int r = 0; r < tile.count; ++r) {
    tile.scores[r] = scores + r * kChunk;
    tile.line[r].max = kLowest;
    tile.line[r].sum = zeros();
    for (int64_t e = 0; e < E; ++e) tile.out[r][e] = 0;
  }
  for (int64_t chunk = tile.begin / kChunk * kChunk; chunk < tile.end; chunk += kChunk) {
    const int64_t begin = greater(chunk, tile.begin);
    const int64_t end = lesser(chunk + kChunk, tile.end);
    ChunkLanes lanes;
    if (by_lanes) {
      find_lanes(tile, chunk, begin, end, lanes);
      score_lanes(tile, head, E, chunk, begin, end, lanes);
    } else {
      score_lane_0(tile, head, E, chunk, begin / kKeyBlock * kKeyBlock, end);
    }
    for (int r = 0; r < tile.count; ++r) {
      Line& line = tile.line[r];
      const int64_t own_begin = greater(begin, line.begin);
      const int64_t own_end = lesser(end, line.end);
      if (own_begin < own_end) {
        soften(args, line, tile.scores[r], tile.out[r], chunk, own_begin, own_end);
      }
    }
    if (by_lanes) {
      add_lanes(tile, head, E, chunk, begin, end, lanes);
    } else {
      add_lane_0(tile, head, E, chunk, begin, end);
    }
  }
  for (int r = 0; r < tile.count; ++r) {
    const f32x16 scale = splat(1.0f) / splat(reduce_add(tile.line[r].sum));
    float* const out = tile.out[r];
    int64_t e = 0;
    for (; e + 16 <= E; e += 16) store(out + e, load(out + e) * scale);
    if (e < E) store_n(out + e, load_n(out + e, E - e) * scale, E - e);
  }
}

/// Line `index` of a group and key head: its heads of one row, then those of the next.
void set_line(const AttentionRows& args, const KvGroup& group, int64_t g, int64_t index, Tile& tile,
              int r) {
  const int64_t heads = args.H / args.G;
  const int64_t row_of_group = index / heads;
  const int64_t row = group.first_row + row_of_group;
  const int64_t head = g * heads + index % heads;
  Line& line = tile.line[r];
  line.end = args.key_counts[row];
  line.begin = args.window > 0 ? greater(0, line.end - args.window) : 0;
  line.lanes = group.lanes ? group.lanes + row_of_group * group.lane_stride : nullptr;
  line.bias = args.bias ? args.bias + head * args.bias_head_stride + args.bias_reach : nullptr;
  line.query_position = args.bias ? args.query_positions[row] : 0;
  tile.q[r] = args.q + row * args.q_row_stride + head * args.q_head_stride;
  tile.out[r] = args.out + row * args.out_row_stride + head * args.out_head_stride;
}

/// Lines first ... last - 1, at most kTileLines. With a table of lanes only lines that see the same
/// positions go together.
template <typename T>
void run_lines(const AttentionRows& args, const KvGroup& group, int64_t g, int64_t first,
               int64_t last) {
  const Head<T> head(args, group.kv, g);
  Tile tile;
  for (int64_t index = first; index < last;) {
    tile.count = 0;
    for (; index < last; ++index) {
      set_line(args, group, g, index, tile, tile.count);
      const Line& line = tile.line[tile.count];
      if (tile.count == 0) {
        tile.begin = line.begin;
        tile.end = line.end;
      } else if (line.lanes && (line.begin != tile.begin || line.end != tile.end)) {
        break;
      }
      tile.begin = lesser(tile.begin, line.begin);
      tile.end = greater(tile.end, line.end);
      ++tile.count;
    }
    run_tile(args, head, tile);
  }
}

}  // namespace

void attention_items(const AttentionRows& args, int64_t thread, int64_t num_threads) {
  int64_t next = thread;  // index of this thread's next item, counted from the group's first
  for (int64_t i = 0; i < args.num_groups; ++i) {
    const KvGroup& group = args.groups[i];
    const int64_t lines = group.num_rows * (args.H / args.G);
    const int64_t tiles = (lines + kTileLines - 1) / kTileLines;
    const int64_t items = args.G * tiles;
    for (; next < items; next += num_threads) {
      const int64_t g = next / tiles;
      const int64_t tile = next % tiles;
      const int64_t first = lines * tile / tiles;
      const int64_t last = lines * (tile + 1) / tiles;
      if (args.is_bf16) {
        run_lines<uint16_t>(args, group, g, first, last);
      } else {
        run_lines<float>(args, group, g, first, last);
      }
    }
    next -= items;
  }
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
