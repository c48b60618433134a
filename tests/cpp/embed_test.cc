// SPDX-License-Identifier: Apache-2.0
// embed against the plain version, from plain and packed tables.
#include <gtest/gtest.h>

#include <vector>

#include "base/half.h"
#include "fuseq/kernels.h"
#include "kernels/ref/embed_ref.h"
#include "op_arrays.h"

namespace fuseq::inline v0::op_test {
namespace {

constexpr int64_t kVocabulary = 131, kPositions = 40, kTypes = 3;

std::vector<uint16_t> to_bf16(const std::vector<float>& values) {
  std::vector<uint16_t> bits;
  for (const float value : values) bits.push_back(float_to_bf16(value));
  return bits;
}

TEST(Embed, equals_the_reference_on_any_threads_and_instruction_set) {
  for (const int64_t D : {1, 2, 15, 16, 33, 768}) {
    const std::vector<float> table = random_floats(1, kVocabulary * D);
    const std::vector<uint16_t> halves = to_bf16(table);
    const Matrix positions(kPositions, D, D + 4, 2), types(kTypes, D, 3);
    const ConstView plain{table.data(), DType::f32, {kVocabulary, D}};
    Context packer = context_of(CpuIsa::automatic, 1);
    PackedMatrix packed(DType::f32, kVocabulary, D), packed_bf16(DType::bf16, kVocabulary, D);
    pack(packer, plain, packed);
    pack(packer, plain, packed_bf16);
    for (const int64_t N : {0, 1, 2, 7, 64}) {
      std::vector<int32_t> ids, rows, kinds;
      for (int64_t n = 0; n < N; ++n) {
        ids.push_back(static_cast<int32_t>((n * 37 + 130) % kVocabulary));  // the last id first
        rows.push_back(static_cast<int32_t>((n + kPositions - 1) % kPositions));
        kinds.push_back(static_cast<int32_t>(n % kTypes));
      }
      for (int table_kind = 0; table_kind < 4; ++table_kind) {
        for (int terms = 0; terms < 6; ++terms) {
          Matrix expected(N, D, 4), x(N, D, 5);
          EmbedArgs args{.ids = ids, .x = expected.view()};
          if (table_kind == 0) args.table = plain;
          if (table_kind == 1) args.table = {halves.data(), DType::bf16, {kVocabulary, D}};
          if (table_kind == 2) args.packed_table = &packed;
          if (table_kind == 3) args.packed_table = &packed_bf16;
          if (terms % 2) {
            args.scale = 27.7f;
            args.positions = positions.view();
            args.position_rows = rows;
          }
          if (terms / 2 > 0) args.types = types.view();
          if (terms / 2 > 1) args.type_ids = kinds;
          ref::embed(args);
          for (const CpuIsa isa : instruction_sets()) {
            for (const int threads : {1, 3}) {
              Context ctx = context_of(isa, threads);
              args.x = x.view();
              embed(ctx, args);
              // Products and sums are rounded one by one everywhere: equal bits.
              ASSERT_TRUE(same_bits(x, expected))
                  << "D " << D << " N " << N << " table " << table_kind;
            }
          }
        }
      }
    }
  }
}

TEST(Embed, names_the_first_id_out_of_range) {
  Context ctx = context_of(CpuIsa::automatic, 1);
  const Matrix table(10, 4, 1), positions(6, 4, 2);
  Matrix x(3, 4, 3);
  const std::vector<int32_t> good = {0, 9, 5};
  const auto run = [&](std::vector<int32_t> ids, std::vector<int32_t> rows,
                       std::vector<int32_t> kinds) {
    embed(ctx, {.ids = ids,
                .position_rows = rows,
                .type_ids = kinds,
                .table = table.view(),
                .positions = positions.view(),
                .types = kinds.empty() ? ConstView{} : positions.view(),
                .x = x.view()});
  };
  expect_error(ErrorKind::value, "embed: ids[1] must be in [0, 10), got 10",
               [&] { run({0, 10, -1}, {0, 1, 2}, {}); });
  expect_error(ErrorKind::value, "embed: ids[2] must be in [0, 10), got -1",
               [&] { run({0, 1, -1}, {0, 1, 2}, {}); });
  expect_error(ErrorKind::value, "embed: position_rows[0] must be in [0, 6), got 6",
               [&] { run(good, {6, 1, 2}, {}); });
  expect_error(ErrorKind::value, "embed: type_ids[2] must be in [0, 6), got 7",
               [&] { run(good, {0, 1, 2}, {0, 0, 7}); });
  expect_error(ErrorKind::value, "embed: position_rows must have one entry per id (3), got 2",
               [&] { run(good, {0, 1}, {}); });
  expect_error(ErrorKind::value, "embed: one of packed_table and table must be given, got neither",
               [&] { embed(ctx, {.ids = good, .x = x.view()}); });
  expect_error(
      ErrorKind::value, "embed: table must have shape [rows, 4] to match x, got [5, 8]", [&] {
        embed(ctx,
              {.ids = good, .table = {table.values.data(), DType::f32, {5, 8}}, .x = x.view()});
      });
  expect_error(ErrorKind::type, "embed: table must be float32 or bfloat16, got float16", [&] {
    embed(ctx, {.ids = good, .table = {table.values.data(), DType::f16, {10, 4}}, .x = x.view()});
  });
  expect_error(
      ErrorKind::value, "embed: x must have shape [2, width] to match ids, got [3, 4]",
      [&] { embed(ctx, {.ids = std::span(good).first(2), .table = table.view(), .x = x.view()}); });
}

}  // namespace
}  // namespace fuseq::inline v0::op_test
