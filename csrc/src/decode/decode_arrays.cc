// SPDX-License-Identifier: Apache-2.0
// Allocation and growth of the decode arrays.
#include "decode/decode_arrays.h"

#include <algorithm>
#include <cstring>

#include "base/memory.h"

namespace fuseq::inline v0 {
namespace {

/// The [N][C] arrays of a state.
constexpr int32_t* DecodeState::* kRowArrays[] = {
    &DecodeState::ids,       &DecodeState::lanes,       &DecodeState::pool_ids,
    &DecodeState::spare_ids, &DecodeState::spare_lanes, &DecodeState::spare_pool_ids};

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
  state_.logit_row = allocate<int32_t>(num_rows);
  state_.improvable = allocate<uint8_t>(num_rows);
  state_.done = allocate<uint8_t>(num_rows);
  state_.lengths = allocate<int32_t>(num_rows);
  state_.scores = allocate<float>(num_rows);
  state_.pool_lengths = allocate<int32_t>(num_rows);
  state_.pool_scores = allocate<float>(num_rows);
  state_.pool_done = allocate<uint8_t>(num_rows);
  const int64_t candidates = int64_t{num_rows} * kMaxCandidatesPerRow;
  state_.candidate_scores = allocate<float>(candidates);
  state_.candidate_beams = allocate<int32_t>(candidates);
  state_.candidate_ids = allocate<int32_t>(candidates);
}

void DecodeArrays::reserve_capacity(int64_t capacity) {
  if (capacity <= state_.capacity) return;
  capacity = std::max<int64_t>({capacity, 2 * state_.capacity, 64});
  const int64_t N = state_.num_rows;
  const std::shared_ptr<void> grown = allocate_shared_zeros(
      static_cast<size_t>(N * capacity) * std::size(kRowArrays) * sizeof(int32_t));
  auto* next = static_cast<int32_t*>(grown.get());
  for (int32_t* DecodeState::* array : kRowArrays) {
    for (int64_t row = 0; row < N && state_.capacity > 0; ++row) {
      std::memcpy(next + row * capacity, state_.*array + row * state_.capacity,
                  static_cast<size_t>(state_.capacity) * sizeof(int32_t));
    }
    state_.*array = next;
    next += N * capacity;
  }
  row_arrays_ = grown;
  state_.capacity = capacity;
}

void DecodeArrays::reserve_logits(int64_t rows) {
  if (rows <= logit_rows_) return;
  logits_.reset();
  logits_ = allocate_shared_zeros(static_cast<size_t>(rows * state_.vocab) * sizeof(float));
  logit_rows_ = rows;
  state_.logits = static_cast<float*>(logits_.get());
}

void DecodeArrays::release_logits() {
  logits_.reset();
  logit_rows_ = 0;
  state_.logits = nullptr;
}

}  // namespace fuseq::inline v0
