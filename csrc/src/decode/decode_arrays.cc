// SPDX-License-Identifier: Apache-2.0
// Allocation and growth of the decode arrays.
#include "decode/decode_arrays.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "base/memory.h"

namespace fuseq::inline v0 {
namespace {

/// The [N][C] arrays of a state.
constexpr int32_t* DecodeState::* kIdArrays[] = {
    &DecodeState::ids,       &DecodeState::lanes,       &DecodeState::pool_ids,
    &DecodeState::spare_ids, &DecodeState::spare_lanes, &DecodeState::spare_pool_ids};
constexpr float* DecodeState::* kLogProbArrays[] = {
    &DecodeState::log_probs, &DecodeState::pool_log_probs, &DecodeState::spare_log_probs};

/// Room for N rows of `capacity` elements instead of old_capacity, out of the bytes at `next`.
template <typename T>
void move_rows(T*& array, int64_t N, int64_t old_capacity, int64_t capacity, std::byte*& next) {
  T* const moved = reinterpret_cast<T*>(next);
  for (int64_t row = 0; row < N && old_capacity > 0; ++row) {
    std::memcpy(moved + row * capacity, array + row * old_capacity,
                static_cast<size_t>(old_capacity) * sizeof(T));
  }
  array = moved;
  next += static_cast<size_t>(N * capacity) * sizeof(T);
}

}  // namespace

template <typename T>
T* DecodeArrays::allocate(int64_t count) {
  fixed_.push_back(
      allocate_shared_zeros(static_cast<size_t>(std::max<int64_t>(count, 1)) * sizeof(T)));
  return static_cast<T*>(fixed_.back().get());
}

DecodeArrays::DecodeArrays(int32_t num_rows, int64_t vocab) {
  state_.num_requests = num_rows;  // A request takes at least one row.
  state_.num_rows = num_rows;
  state_.vocab = vocab;
  state_.rules = allocate<DecodeRules>(num_rows);
  state_.improvable = allocate<uint8_t>(num_rows);
  state_.done = allocate<uint8_t>(num_rows);
  state_.winner = allocate<int32_t>(num_rows);
  state_.has_tried = allocate<uint8_t>(num_rows);
  state_.contrast = allocate<ContrastRows>(num_rows);
  state_.logit_row = allocate<int32_t>(num_rows);
  state_.lengths = allocate<int32_t>(num_rows);
  state_.scores = allocate<float>(num_rows);
  state_.parents = allocate<int32_t>(num_rows);
  state_.stops = allocate<Stop>(num_rows);
  state_.pool_lengths = allocate<int32_t>(num_rows);
  state_.pool_scores = allocate<float>(num_rows);
  state_.pool_stops = allocate<Stop>(num_rows);
  const int64_t candidates = int64_t{num_rows} * kMaxCandidatesPerRow;
  state_.candidate_scores = allocate<float>(candidates);
  state_.candidate_log_probs = allocate<float>(candidates);
  state_.candidate_beams = allocate<int32_t>(candidates);
  state_.candidate_ids = allocate<int32_t>(candidates);
}

void DecodeArrays::reserve_capacity(int64_t capacity) {
  if (capacity <= state_.capacity) return;
  capacity = std::max<int64_t>({capacity, 2 * state_.capacity, 64});
  const int64_t N = state_.num_rows;
  static_assert(sizeof(int32_t) == sizeof(float));
  constexpr size_t kArrays = std::size(kIdArrays) + std::size(kLogProbArrays);
  const std::shared_ptr<void> grown =
      allocate_shared_zeros(static_cast<size_t>(N * capacity) * kArrays * sizeof(int32_t));
  auto* next = static_cast<std::byte*>(grown.get());
  for (auto array : kIdArrays) move_rows(state_.*array, N, state_.capacity, capacity, next);
  for (auto array : kLogProbArrays) move_rows(state_.*array, N, state_.capacity, capacity, next);
  row_arrays_ = grown;
  state_.capacity = capacity;
}

void DecodeArrays::reserve_logits(int64_t rows, bool with_model_logits) {
  const auto reserve = [&](Logits& logits, float*& data) {
    if (rows <= logits.rows) return;
    logits = {};
    logits.memory = allocate_shared_zeros(static_cast<size_t>(rows * state_.vocab) * sizeof(float));
    logits.rows = rows;
    data = static_cast<float*>(logits.memory.get());
  };
  reserve(logits_, state_.logits);
  if (with_model_logits) reserve(model_logits_, state_.model_logits);
}

void DecodeArrays::release_logits() {
  logits_ = {};
  model_logits_ = {};
  state_.logits = nullptr;
  state_.model_logits = nullptr;
}

}  // namespace fuseq::inline v0
