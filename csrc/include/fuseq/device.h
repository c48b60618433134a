// SPDX-License-Identifier: Apache-2.0
// Where tensors live and ops run.
#pragma once

#include <cstdint>

namespace fuseq::inline v0 {

enum class Device : uint8_t { cpu, cuda };

/// The CPU instruction set an engine uses. `automatic` is the best one of this machine, or what the
/// environment variable FUSEQ_CPU_ISA (`avx512`, `avx2`, `portable`) names. `avx512` and `avx2`
/// give equal bits in float32.
enum class CpuIsa : uint8_t { automatic, portable, avx2, avx512 };

}  // namespace fuseq::inline v0
