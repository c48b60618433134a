// SPDX-License-Identifier: Apache-2.0
// What this machine can do at this moment: the limits that benchmarks print beside their results.
#pragma once

#include <cstdint>
#include <string_view>

#include "fuseq/dtype.h"
#include "fuseq/tensor.h"

namespace fuseq::bench {

/// A buffer that is read again and again, so that a limit can be measured beside each result.
class ReadBuffer {
 public:
  explicit ReadBuffer(int64_t bytes);
  [[nodiscard]] int64_t bytes() const noexcept { return buffer_.num_bytes(); }

  /// Bytes per second, measured now, of the fastest plain read of the first `bytes` by `threads`
  /// threads: the best of `passes` passes with each of 1, 2, 4 and 8 streams per thread. Few bytes
  /// are read from the caches, as a benchmark's own would be. `bytes` is at most the buffer's.
  [[nodiscard]] double bandwidth(int64_t bytes, int threads, int passes) const;

 private:
  Tensor buffer_;
};

/// The same with a buffer of its own, measured once for each (bytes, threads), the first time that
/// it is asked for.
[[nodiscard]] double read_bandwidth(int64_t bytes, int threads);

/// Operations per second, measured now, of multiply-adds in registers: two operations each, with
/// the best instruction of this CPU that computes what a product of the dtype (float32, bfloat16 or
/// int8) computes.
[[nodiscard]] double multiply_add_peak(DType dtype, int threads);
/// That instruction; on AVX2 int8 takes three.
[[nodiscard]] std::string_view multiply_add_instruction(DType dtype);

/// multiply_add_peak of float32, measured once for each number of threads.
[[nodiscard]] double fma_peak(int threads);

}  // namespace fuseq::bench
