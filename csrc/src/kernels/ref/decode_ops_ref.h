// SPDX-License-Identifier: Apache-2.0
// Plain versions of log_softmax, process, select and advance; the contracts are in decode_state.h.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/decode_state.h"

namespace fuseq::inline v0::ref {

/// x and y [N, V], dense.
void log_softmax(const float* x, int64_t N, int64_t V, float* y);
void process(const DecodeState& state, std::span<const int32_t> active);
void select(const DecodeState& state, std::span<const int32_t> active);
void advance(const DecodeState& state, std::span<const int32_t> active);

}  // namespace fuseq::inline v0::ref
