// SPDX-License-Identifier: Apache-2.0
// Plain versions of log_softmax, process, select and advance; the contracts are in decode_state.h.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/decode_state.h"

namespace fuseq::inline v0::ref {

/// x and y [N, V], dense.
void log_softmax(const float* x, int64_t N, int64_t V, float* y);
void contrast(const DecodeState& state, std::span<const int32_t> active);
void process(const DecodeState& state, std::span<const int32_t> active);
void select(const DecodeState& state, std::span<const int32_t> active);
void advance(const DecodeState& state, std::span<const int32_t> active);

/// The words of Philox4x32-10.
std::array<uint32_t, 4> philox(uint64_t seed, const uint32_t (&counter)[4]);
/// The word that an id's noise is made of.
uint32_t noise_word(const DrawKey& key, int32_t id);

/// An id that the filters keep, with its noisy score.
struct NoisyId {
  double score;
  int32_t id;
};
/// All of them, the drawn one first.
std::vector<NoisyId> draw(std::span<const float> row, const DrawFilter& filter, const DrawKey& key);

}  // namespace fuseq::inline v0::ref
