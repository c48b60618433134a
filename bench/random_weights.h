// SPDX-License-Identifier: Apache-2.0
// Models of real shapes with random weights.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numbers>
#include <span>
#include <string>
#include <vector>

#include "fuseq/model.h"
#include "fuseq/spec.h"
#include "fuseq/tensor.h"

namespace fuseq::bench {

/// Fills x with values in (-scale, scale); equal seeds give equal values. An xorshift generator:
/// std::mt19937 takes longer than packing does.
inline void fill_random(std::span<float> x, float scale, uint64_t seed = 1) {
  uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
  for (float& value : x) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    value = (static_cast<float>(state >> 40) * 0x1p-23f - 1.0f) * scale;
  }
}

/// Normally distributed, as the rows are that products see behind a norm.
inline void fill_normal(std::span<float> x, float deviation, uint64_t seed = 1) {
  fill_random(x, 1.0f, seed);
  std::vector<float> angles(x.size());
  fill_random(angles, std::numbers::pi_v<float>, seed + 1);
  for (size_t i = 0; i < x.size(); ++i) {
    const float radius = std::sqrt(-2 * std::log((1.0f - x[i]) / 2 + 0x1p-25f));
    x[i] = deviation * radius * std::cos(angles[i]);
  }
}

/// A model with random matrices, norms of one and biases of zero. All matrices are views of one
/// buffer: each is packed into memory of its own, and no benchmark looks at the values.
inline std::shared_ptr<const Model> random_model(const TransformerSpec& spec,
                                                 const ModelOptions& options) {
  const std::vector<WeightInfo> table = weight_table(spec);
  const auto count = [](const WeightInfo& info) {
    return Shape(std::span<const int64_t>(info.shape)).num_elements();
  };
  int64_t largest = 0;
  for (const WeightInfo& info : table) largest = std::max(largest, count(info));
  Tensor matrix(DType::f32, {largest});
  Tensor ones(DType::f32, {largest});
  Tensor zeros(DType::f32, {largest});
  fill_random({matrix.as<float>(), static_cast<size_t>(largest)}, 0.05f);
  std::fill_n(ones.as<float>(), largest, 1.0f);
  std::fill_n(zeros.as<float>(), largest, 0.0f);

  std::vector<NamedView> views;
  for (const WeightInfo& info : table) {
    const bool is_bias = info.name.ends_with(".bias");
    const bool is_norm = info.name.ends_with("norm.weight");
    const Tensor& source = is_bias ? zeros : is_norm ? ones : matrix;
    views.push_back({info.name, ConstView(source.as<float>(), DType::f32,
                                          Shape(std::span<const int64_t>(info.shape)))});
  }
  return Model::build(spec, views, options);
}

}  // namespace fuseq::bench
