// SPDX-License-Identifier: Apache-2.0
// What the kernel benchmarks share: twins, names, and counters beside the machine's limits.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fuseq/context.h"
#include "fuseq/error.h"
#include "machine_limits.h"

namespace fuseq::bench {

struct Twin {
  std::string name;  ///< "ref", or "avx512/2" with the number of threads
  int threads = 1;
  std::shared_ptr<Context> context;  ///< null: the plain reference
};

/// The reference first, then every instruction set of this machine with one thread, and the best
/// one with as many threads as a Context takes.
inline std::vector<Twin> twins() {
  std::vector<Twin> found = {{"ref", 1, nullptr}};
  const auto add = [&found](const std::string& name, CpuIsa isa, int threads) {
    try {
      const auto context =
          std::make_shared<Context>(ContextOptions{.num_threads = threads, .cpu_isa = isa});
      found.push_back(
          {name + "/" + std::to_string(context->num_threads()), context->num_threads(), context});
    } catch (const Error&) {  // this machine or build has no such instruction set
    }
  };
  add("portable", CpuIsa::portable, 1);
  add("avx2", CpuIsa::avx2, 1);
  add("avx512", CpuIsa::avx512, 1);
  if (Context().num_threads() > 1) add("best", CpuIsa::automatic, 0);
  return found;
}

/// Counts from its making on; the counters are filled once the loop is over.
class Meter {
 public:
  explicit Meter(benchmark::State& state) : state_(state), start_(Clock::now()) {}

  /// GB/s, and the share of what a plain read of as many bytes reaches at this moment. `touched`
  /// counts bytes read and written in one iteration, `working_set` those that are different over
  /// all iterations.
  void count_bytes(int64_t touched, int64_t working_set, int threads) const {
    show("GB/s", static_cast<double>(touched) / seconds(), read_bandwidth(working_set, threads));
  }

  /// GFLOP/s, and the share of multiply-adds in registers.
  void count_operations(double operations, int threads) const {
    show("GFLOP/s", operations / seconds(), fma_peak(threads));
  }

 private:
  using Clock = std::chrono::steady_clock;

  /// Of one iteration.
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(Clock::now() - start_).count() /
           static_cast<double>(std::max<int64_t>(1, state_.iterations()));
  }
  void show(const char* unit, double reached, double limit) const {
    state_.counters[unit] = reached * 1e-9;
    state_.counters["limit"] = limit * 1e-9;
    state_.counters["%"] = reached / limit * 100;
  }

  benchmark::State& state_;
  Clock::time_point start_;
};

/// Each binary's own: registers its benchmarks. Called by main.cc once the command line is read.
void register_all();

/// Registers name/twin/shape, timed by the clock on the wall: threads other than the caller's do
/// most of the work.
template <typename Run>
void register_twin(const std::string& op, const Twin& twin, const std::string& shape, Run run) {
  benchmark::RegisterBenchmark((op + "/" + twin.name + "/" + shape).c_str(), run)->UseRealTime();
}

}  // namespace fuseq::bench
