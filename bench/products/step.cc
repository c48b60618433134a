// SPDX-License-Identifier: Apache-2.0
// Reads, and multiplies one row and eight, in turn.
#include "products/step.h"

#include "products/rounds.h"

namespace fuseq::bench {
namespace {

/// Passes with each number of streams; the products have as many tries in all.
constexpr int kPasses = 3;
constexpr int kTries = 4 * kPasses;

/// Times of the time of one row that eight rows of int8 may take.
constexpr double kInt8BatchTime = 1.15;

struct Target {
  double percent;
  bool of_memory;  ///< else of the read of as many bytes
};

/// Caches make the read of a small working set faster than any product of many matrices can be: it
/// must then be faster than the memory is.
Target target_of(DType dtype, double working_set, double memory) {
  if (dtype == DType::f32) return {90, false};
  if (dtype == DType::bf16) return {88, false};
  return working_set > 1.5 * memory ? Target{105, true} : Target{80, false};
}

std::string gigabytes(double bytes_per_second) {
  return fixed(bytes_per_second * 1e-9, 1);
}

}  // namespace

StepRecords measure_step(const std::string& model, DType dtype, Matrices& matrices,
                         const ReadBuffer& buffer, Context& ctx, int rounds) {
  const int threads = ctx.num_threads();
  const int64_t bytes = matrices.num_bytes();
  const auto speed = [&](int64_t rows) {
    return static_cast<double>(bytes) /
           best_seconds(kTries, [&] { matrices.multiply_all(ctx, rows); });
  };
  matrices.multiply_all(ctx, kBatchRows);  // scratch memory and threads are there
  Rounds memory, working_set, one, eight;
  for (int round = 0; round < rounds; ++round) {
    memory.push_back(buffer.bandwidth(kDramBytes, threads, kPasses));
    working_set.push_back(buffer.bandwidth(bytes, threads, kPasses));
    one.push_back(speed(1));
    eight.push_back(speed(kBatchRows));
  }

  const Target target = target_of(dtype, best(working_set), best(memory));
  const Share of_working_set = share(one, working_set);
  const Share of_memory = share(one, memory);
  const Share time = share(one, eight);  // speed over speed is time over time, turned round
  const auto milliseconds = [&](const Rounds& speeds) {
    return fixed(static_cast<double>(bytes) / best(speeds) * 1e3, 3);
  };
  const Record name = {{"model", model, false},
                       {"dtype", std::string(fuseq::name(dtype)), false},
                       {"threads", std::to_string(threads)}};
  StepRecords records{name, name};
  const Record one_row = {
      {"MB", fixed(static_cast<double>(bytes) * 1e-6, 1)},
      {"ms", milliseconds(one)},
      {"GB/s", gigabytes(best(one))},
      {"C_ws", gigabytes(best(working_set))},
      {"C_dram", gigabytes(best(memory))},
      {"% of C_ws", fixed(of_working_set.of_best, 1)},
      {"median % of C_ws", fixed(of_working_set.median, 1)},
      {"% of C_dram", fixed(of_memory.of_best, 1)},
      {"median % of C_dram", fixed(of_memory.median, 1)},
      {"target", fixed(target.percent, 0) + (target.of_memory ? " % of C_dram" : " % of C_ws"),
       false},
      {"met", is_met(target.of_memory ? of_memory : of_working_set, target.percent), false},
  };
  records.one_row.insert(records.one_row.end(), one_row.begin(), one_row.end());

  const Share eight_of_working_set = share(eight, working_set);
  const bool has_target = dtype == DType::i8;
  const Share kept = {1e4 / time.of_best, 1e4 / time.median};
  const Record eight_rows = {
      {"ms, 1 row", milliseconds(one)},
      {"ms, 8 rows", milliseconds(eight)},
      {"time", fixed(time.of_best / 100, 3)},
      {"median time", fixed(time.median / 100, 3)},
      {"% of C_ws", fixed(eight_of_working_set.of_best, 1)},
      {"median % of C_ws", fixed(eight_of_working_set.median, 1)},
      {"target", has_target ? "time at most " + fixed(kInt8BatchTime, 2) : "", false},
      {"met", has_target ? is_met(kept, 100 / kInt8BatchTime) : "", false},
  };
  records.eight_rows.insert(records.eight_rows.end(), eight_rows.begin(), eight_rows.end());
  return records;
}

}  // namespace fuseq::bench
