// SPDX-License-Identifier: Apache-2.0
// What an op needs beside its operands: device, threads, scratch memory. Passed, never global.
#pragma once

#include <memory>

#include "fuseq/device.h"
#include "fuseq/export.h"

namespace fuseq::inline v0 {

struct ContextOptions {
  Device device = Device::cpu;
  /// Threads, the caller being one of them. 0: FUSEQ_NUM_THREADS, else OMP_NUM_THREADS, else the
  /// least of the affinity mask, the cgroup quota and the physical cores.
  int num_threads = 0;
  CpuIsa cpu_isa = CpuIsa::automatic;
};

/// One thread uses a context at a time. Its worker threads start at first use, and again after a
/// fork.
class FUSEQ_API Context {
 public:
  /// Throws Error(unsupported) for a device or instruction set that this machine or build lacks,
  /// Error(value) for num_threads outside 0 ... 1024.
  explicit Context(const ContextOptions& options = {});
  ~Context();
  Context(Context&&) noexcept;
  Context& operator=(Context&&) noexcept;

  [[nodiscard]] Device device() const noexcept;
  [[nodiscard]] int num_threads() const noexcept;
  [[nodiscard]] CpuIsa cpu_isa() const noexcept;
  /// Gives scratch memory back to the system.
  void release_memory();

  struct Impl;  // base/context_impl.h
  [[nodiscard]] Impl& impl() noexcept { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace fuseq::inline v0
