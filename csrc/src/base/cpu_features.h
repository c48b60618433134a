// SPDX-License-Identifier: Apache-2.0
// What this machine's CPU can do, and which instruction set to use.
#pragma once

#include <string_view>

#include "fuseq/device.h"

namespace fuseq::inline v0 {

struct CpuFeatures {
  bool avx2 = false;    ///< AVX2, FMA and F16C, enabled by the system
  bool avx512 = false;  ///< F, BW, VL and DQ, enabled by the system
  bool avx512_bf16 = false;
  bool avx512_vnni = false;
  bool avx_vnni = false;  ///< the same on AVX2's registers
};

[[nodiscard]] const CpuFeatures& cpu_features() noexcept;

/// `wanted`, or for `automatic` what FUSEQ_CPU_ISA names, else the best there is. Throws
/// Error(unsupported) for one that the machine or build lacks, Error(value) for a name that is
/// none.
[[nodiscard]] CpuIsa resolve_cpu_isa(CpuIsa wanted);

[[nodiscard]] std::string_view name(CpuIsa isa) noexcept;

}  // namespace fuseq::inline v0
