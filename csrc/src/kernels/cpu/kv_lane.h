// SPDX-License-Identifier: Apache-2.0
// Where a lane of a KvView lies in memory; for files compiled once per instruction set.
#pragma once

#include <cstdint>

#include "fuseq/ops.h"

#if !defined(FUSEQ_ISA_NAMESPACE)
#error "compile files of kernels/cpu once per instruction set, see per_isa.h"
#endif

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

/// Keys and values of a lane that holds positions first_position ... first_position + length - 1.
template <typename T>
struct KvLane {
  T* k;
  T* v;
  int64_t first_position;
  int64_t length;
};

template <typename T>
[[gnu::always_inline]] inline KvLane<T> kv_lane(const KvView& kv, int64_t lane, int64_t G,
                                                int64_t E) {
  if (lane == 0) return {static_cast<T*>(kv.k), static_cast<T*>(kv.v), 0, kv.capacity};
  const int64_t length = kv.capacity - kv.tail_begin;
  const int64_t skipped = (lane - 1) * G * length * E;
  return {static_cast<T*>(kv.k_tail) + skipped, static_cast<T*>(kv.v_tail) + skipped, kv.tail_begin,
          length};
}

/// Elements before the values of head `g` at `position`, or, `position` being a multiple of 16,
/// before the block of keys that begins there.
template <typename T>
[[gnu::always_inline]] inline int64_t kv_offset(const KvLane<T>& lane, int64_t g, int64_t position,
                                                int64_t E) {
  return (g * lane.length + position - lane.first_position) * E;
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
