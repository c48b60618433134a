// SPDX-License-Identifier: Apache-2.0
// What a Context holds.
#pragma once

#include "base/memory.h"
#include "base/thread_team.h"
#include "fuseq/context.h"

namespace fuseq::inline v0 {

struct Context::Impl {
  Device device;
  CpuIsa isa;         ///< resolved: never automatic
  bool has_bf16_dot;  ///< AVX512_BF16 is there and isa is avx512
  bool has_vnni;      ///< the dot product of bytes is there for the vectors of isa
  ThreadTeam team;
  Arena arena;
};

}  // namespace fuseq::inline v0
