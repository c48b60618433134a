// SPDX-License-Identifier: Apache-2.0
// append_kv, attention and dense_attention, element by element, with sums in double.
#include "kernels/ref/attention_ref.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/half.h"

namespace fuseq::inline v0::ref {
namespace {

/// Element `index` of lane `lane`'s keys or values.
struct Place {
  void* data;
  int64_t index;
};

Place place(const KvView& kv, bool is_key, int64_t lane, int64_t G, int64_t E, int64_t g,
            int64_t position, int64_t e) {
  const int64_t first = lane == 0 ? 0 : kv.tail_begin;
  const int64_t length = kv.capacity - first;
  int64_t index = lane == 0 ? 0 : (lane - 1) * G * length * E;
  const int64_t p = position - first;
  index += is_key ? g * length * E + (p / kKeyBlock * E + e) * kKeyBlock + p % kKeyBlock
                  : (g * length + p) * E + e;
  if (is_key) return {lane == 0 ? kv.k : kv.k_tail, index};
  return {lane == 0 ? kv.v : kv.v_tail, index};
}

void write(const Place& to, DType dtype, float value) {
  if (dtype == DType::bf16) {
    static_cast<uint16_t*>(to.data)[to.index] = float_to_bf16(value);
  } else {
    static_cast<float*>(to.data)[to.index] = value;
  }
}

double read(const Place& from, DType dtype) {
  return dtype == DType::bf16 ? bf16_to_float(static_cast<const uint16_t*>(from.data)[from.index])
                              : static_cast<const float*>(from.data)[from.index];
}

void normalise(float* x, int64_t E, const AppendKvArgs& args, const float* gamma) {
  double mean = 0;
  if (args.norm == Norm::layer) {
    for (int64_t e = 0; e < E; ++e) mean += x[e] / static_cast<double>(E);
  }
  double variance = 0;
  for (int64_t e = 0; e < E; ++e)
    variance += (x[e] - mean) * (x[e] - mean) / static_cast<double>(E);
  for (int64_t e = 0; e < E; ++e) {
    const double scale = args.norm == Norm::rms_plus_one ? 1.0 + gamma[e] : gamma[e];
    x[e] = static_cast<float>((x[e] - mean) / std::sqrt(variance + args.norm_eps) * scale);
  }
}

void rotate(float* x, int64_t E, std::span<const float> inverse_frequencies, int32_t position) {
  for (int64_t i = 0; i < E / 2; ++i) {
    const float angle = static_cast<float>(position) * inverse_frequencies[static_cast<size_t>(i)];
    const double cosine = std::cos(static_cast<double>(angle));
    const double sine = std::sin(static_cast<double>(angle));
    const double lower = x[i];
    const double upper = x[i + E / 2];
    x[i] = static_cast<float>(lower * cosine - upper * sine);
    x[i + E / 2] = static_cast<float>(upper * cosine + lower * sine);
  }
}

}  // namespace

void append_kv(const AppendKvArgs& args) {
  const int64_t G = args.k.dim(1);
  const int64_t E = args.k.dim(2);
  for (const KvGroup& group : args.groups) {
    for (int64_t row = group.first_row; row < group.first_row + group.num_rows; ++row) {
      const int32_t position = args.positions[static_cast<size_t>(row)];
      const int64_t lane =
          args.append_lanes.empty() ? 0 : args.append_lanes[static_cast<size_t>(row)];
      const auto transform = [&](const View& heads, const ConstView& gamma) {
        for (int64_t head = 0; head < heads.dim(1); ++head) {
          float* const x = heads.as<float>() + row * heads.stride(0) + head * heads.stride(1);
          if (gamma) normalise(x, E, args, gamma.as<float>());
          if (!args.inverse_frequencies.empty()) rotate(x, E, args.inverse_frequencies, position);
        }
      };
      if (args.q) transform(args.q, args.q_norm);
      transform(args.k, args.k_norm);
      for (int64_t g = 0; g < G; ++g) {
        for (int64_t e = 0; e < E; ++e) {
          write(place(group.kv, true, lane, G, E, g, position, e), args.cache_dtype,
                args.k.as<float>()[row * args.k.stride(0) + g * args.k.stride(1) + e]);
          write(place(group.kv, false, lane, G, E, g, position, e), args.cache_dtype,
                args.v.as<float>()[row * args.v.stride(0) + g * args.v.stride(1) + e]);
        }
      }
    }
  }
}

void attention(const AttentionArgs& args) {
  const int64_t H = args.q.dim(1);
  const int64_t E = args.q.dim(2);
  const int64_t G = args.kv_heads;
  for (const KvGroup& group : args.groups) {
    for (int64_t row = group.first_row; row < group.first_row + group.num_rows; ++row) {
      const int64_t end = args.key_counts[static_cast<size_t>(row)];
      const int64_t begin = args.window > 0 ? std::max<int64_t>(0, end - args.window) : 0;
      const int32_t* const lanes =
          group.lanes ? group.lanes + (row - group.first_row) * group.lane_stride : nullptr;
      for (int64_t h = 0; h < H; ++h) {
        const int64_t g = h / (H / G);
        const float* const q = args.q.as<float>() + row * args.q.stride(0) + h * args.q.stride(1);
        float* const out = args.out.as<float>() + row * args.out.stride(0) + h * args.out.stride(1);
        std::vector<double> weights;
        for (int64_t s = begin; s < end; ++s) {
          double score = 0;
          for (int64_t e = 0; e < E; ++e) {
            score += q[e] * read(place(group.kv, true, lanes ? lanes[s] : 0, G, E, g, s, e),
                                 args.cache_dtype);
          }
          score *= args.scale;
          if (args.score_cap > 0) score = args.score_cap * std::tanh(score / args.score_cap);
          if (args.bias) {
            const int64_t distance = s - args.query_positions[static_cast<size_t>(row)];
            score += args.bias.as<float>()[h * args.bias.stride(0) + args.bias_reach +
                                           std::clamp(distance, -args.bias_reach, args.bias_reach)];
          }
          weights.push_back(score);
        }
        const double largest = *std::max_element(weights.begin(), weights.end());
        double sum = 0;
        for (double& weight : weights) sum += weight = std::exp(weight - largest);
        for (int64_t e = 0; e < E; ++e) {
          double total = 0;
          for (int64_t s = begin; s < end; ++s) {
            total +=
                weights[static_cast<size_t>(s - begin)] *
                read(place(group.kv, false, lanes ? lanes[s] : 0, G, E, g, s, e), args.cache_dtype);
          }
          out[e] = static_cast<float>(total / sum);
        }
      }
    }
  }
}

void dense_attention(const DenseAttentionArgs& args) {
  const int64_t B = args.q.dim(0);
  const int64_t T = args.q.dim(1);
  const int64_t H = args.q.dim(2);
  const int64_t E = args.q.dim(3);
  const int64_t S = args.k.dim(1);
  const int64_t G = args.k.dim(2);
  const double scale = args.scale != 0 ? args.scale : 1.0 / std::sqrt(static_cast<double>(E));
  const auto at = [](const auto& view, int64_t b, int64_t t, int64_t h) {
    return view.template as<float>() + b * view.stride(0) + t * view.stride(1) + h * view.stride(2);
  };
  for (int64_t b = 0; b < B; ++b) {
    const int64_t length =
        args.lengths ? args.lengths.as<int32_t>()[b * args.lengths.stride(0)] : S;
    for (int64_t t = 0; t < T; ++t) {
      const int64_t end = args.causal ? std::min(length, t + S - T + 1) : length;
      const int64_t begin = args.window > 0 ? std::max<int64_t>(0, end - args.window) : 0;
      for (int64_t h = 0; h < H; ++h) {
        const float* const q = at(args.q, b, t, h);
        const int64_t g = h / (H / G);
        std::vector<double> scores;
        double largest = -HUGE_VAL;
        for (int64_t s = begin; s < end; ++s) {
          double score = 0;
          for (int64_t e = 0; e < E; ++e)
            score += static_cast<double>(q[e]) * at(args.k, b, s, g)[e];
          score *= scale;
          if (args.score_cap > 0) score = args.score_cap * std::tanh(score / args.score_cap);
          scores.push_back(score);
          largest = std::max(largest, score);
        }
        std::vector<double> total(static_cast<size_t>(E), 0.0);
        double sum = 0;
        for (int64_t s = begin; s < end; ++s) {
          const double weight = std::exp(scores[static_cast<size_t>(s - begin)] - largest);
          sum += weight;
          for (int64_t e = 0; e < E; ++e)
            total[static_cast<size_t>(e)] += weight * at(args.v, b, s, g)[e];
        }
        float* const out = at(args.out, b, t, h);
        for (int64_t e = 0; e < E; ++e) {
          out[e] = sum > 0 ? static_cast<float>(total[static_cast<size_t>(e)] / sum) : 0.0f;
        }
      }
    }
  }
}

}  // namespace fuseq::inline v0::ref
