// SPDX-License-Identifier: Apache-2.0
// main of the kernel benchmarks.
#include <benchmark/benchmark.h>

#include "kernels/common.h"

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  fuseq::bench::register_all();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
