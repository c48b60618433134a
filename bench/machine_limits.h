// SPDX-License-Identifier: Apache-2.0
// What this machine can do at this moment: the limits that benchmarks print beside their results.
#pragma once

#include <cstdint>

namespace fuseq::bench {

/// Bytes per second of the fastest plain read of a buffer of `bytes` by `threads` threads: the best
/// of 1, 2, 4 and 8 streams per thread and of several passes. A small buffer is read from the
/// caches, as the benchmark's own would be. Measured once for each (bytes, threads), the first time
/// that it is asked for.
[[nodiscard]] double read_bandwidth(int64_t bytes, int threads);

/// Float32 operations per second of fused multiply-adds in registers, with the widest vectors of
/// this CPU.
[[nodiscard]] double fma_peak(int threads);

}  // namespace fuseq::bench
