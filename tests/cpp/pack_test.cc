// SPDX-License-Identifier: Apache-2.0
// PackedMatrix, pack and unpack.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "base/half.h"
#include "fuseq/kernels.h"
#include "kernels/ref/linear_ref.h"
#include "op_arrays.h"

namespace fuseq::inline v0::op_test {
namespace {

constexpr int64_t kSizes[] = {1, 2, 3, 4, 5, 31, 32, 33, 64, 127, 130};

Context make() {
  return context_of(CpuIsa::automatic, 2);
}

uint32_t bits(float value) {
  return std::bit_cast<uint32_t>(value);
}

/// Elements of any dtype, so that every bit pattern of the source can be had.
struct Source {
  std::vector<uint32_t> words;
  std::vector<uint16_t> halves;

  Source(DType dtype_, int64_t count, uint32_t seed) : dtype(dtype_) {
    std::mt19937 random(seed);
    for (int64_t i = 0; i < count; ++i) {
      const auto value = static_cast<uint32_t>(random());
      words.push_back(value);
      halves.push_back(static_cast<uint16_t>(value >> 7));
    }
  }
  [[nodiscard]] ConstView view(Shape shape, Strides strides) const {
    return {dtype == DType::f32 ? static_cast<const void*>(words.data()) : halves.data(), dtype,
            shape, strides};
  }
  [[nodiscard]] float at(int64_t i) const {
    const auto index = static_cast<size_t>(i);
    if (dtype == DType::f32) return std::bit_cast<float>(words[index]);
    return dtype == DType::f16 ? f16_to_float(halves[index]) : bf16_to_float(halves[index]);
  }

  DType dtype;
};

TEST(Pack, takes_every_dtype_and_layout_of_the_source) {
  Context ctx = make();
  for (const DType from : {DType::f32, DType::f16, DType::bf16}) {
    for (const DType to : {DType::f32, DType::bf16}) {
      for (const int64_t O : kSizes) {
        for (const int64_t I : kSizes) {
          const Source source(from, O * I * 3 + 7, static_cast<uint32_t>(O * 1000 + I));
          const Strides layouts[] = {{I, 1},     {I + 5, 1}, {1, O}, {1, O + 3},
                                     {2, 2 * O}, {3 * I, 3}, {0, 1}};
          for (const Strides& strides : layouts) {
            if ((O - 1) * strides[0] + (I - 1) * strides[1] >= std::ssize(source.words)) continue;
            PackedMatrix matrix(to, O, I);
            pack(ctx, source.view({O, I}, strides), matrix);
            for (int64_t o = 0; o < O; ++o) {
              for (int64_t i = 0; i < I; ++i) {
                const float value = source.at(o * strides[0] + i * strides[1]);
                const float wanted = to == DType::f32 ? value : bf16_to_float(float_to_bf16(value));
                const float got = ref::element(matrix, o, i);
                if (std::isnan(wanted)) {
                  ASSERT_TRUE(std::isnan(got));
                } else {
                  ASSERT_EQ(bits(got), bits(wanted))
                      << name(from) << " to " << name(to) << " " << O << " x " << I;
                }
              }
            }
          }
        }
      }
    }
  }
}

TEST(Pack, pads_with_zeros_and_joins_matrices) {
  Context ctx = make();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const int64_t I : {5, 8}) {
      const Matrix q(30, I, 1), k(11, I, 2), v(40, I, 3);
      PackedMatrix joined(dtype, 81, I);
      pack(ctx, v.view(), joined, 41);
      pack(ctx, q.view(), joined, 0);
      pack(ctx, k.view(), joined, 30);
      PackedMatrix whole(dtype, 81, I);
      Matrix all(81, I, 4);
      std::memcpy(all.begin(0), q.begin(0), q.values.size() * 4);
      std::memcpy(all.begin(30), k.begin(0), k.values.size() * 4);
      std::memcpy(all.begin(41), v.begin(0), v.values.size() * 4);
      pack(ctx, all.view(), whole);
      ASSERT_EQ(joined.num_bytes(), 3 * 32 * (dtype == DType::f32 ? 4 * I : 2 * ((I + 1) / 2 * 2)));
      EXPECT_EQ(std::memcmp(joined.data(), whole.data(), static_cast<size_t>(whole.num_bytes())),
                0);
      for (int64_t o = 81; o < 96; ++o) {
        for (int64_t i = 0; i < I; ++i) EXPECT_EQ(bits(ref::element(whole, o, i)), 0u);
      }
      if (dtype == DType::bf16 && I == 5) {
        for (int64_t o = 0; o < 96; ++o) EXPECT_EQ(bits(ref::element(whole, o, 5)), 0u);
      }
    }
  }
}

TEST(Unpack, gives_back_every_bit) {
  Context ctx = make();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const int64_t O : kSizes) {
      for (const int64_t I : {1, 2, 7, 64, 129, 200}) {
        const Source source(dtype, O * I, static_cast<uint32_t>(O + I));
        PackedMatrix matrix(dtype, O, I);
        pack(ctx, source.view({O, I}, {I, 1}), matrix);
        for (const int64_t first : {int64_t{0}, O / 2, O - 1}) {
          const int64_t rows = O - first;
          Tensor out(dtype, {rows, I});
          unpack(ctx, matrix, out.view(), first);
          const size_t size = size_of(dtype);
          const auto* from = static_cast<const char*>(source.view({1}, {1}).data);
          ASSERT_EQ(std::memcmp(out.view().data, from + static_cast<size_t>(first * I) * size,
                                static_cast<size_t>(rows * I) * size),
                    0)
              << name(dtype) << " " << O << " x " << I << " from " << first;
        }
      }
    }
  }
}

TEST(Pack, one_thread_and_many_write_the_same_bytes_on_every_instruction_set) {
  const Matrix w(1000, 515, 1);
  for (const DType dtype : {DType::bf16, DType::i8}) {
    PackedMatrix first(dtype, 1000, 515);
    Context single = context_of(CpuIsa::automatic, 1);
    pack(single, w.view(), first);
    for (const CpuIsa isa : instruction_sets()) {
      PackedMatrix many(dtype, 1000, 515);
      Context team = context_of(isa, 7);
      pack(team, w.view(), many);
      EXPECT_EQ(std::memcmp(first.data(), many.data(), static_cast<size_t>(first.num_bytes())), 0);
    }
  }
}

/// int8 by the definition: each output's largest weight becomes 127.
void expect_int8(const PackedMatrix& matrix, const Matrix& w, int64_t first_row) {
  const auto* numbers = static_cast<const int8_t*>(matrix.data());
  for (int64_t row = 0; row < w.rows; ++row) {
    float most = 0;
    for (int64_t i = 0; i < w.columns; ++i) most = std::max(most, std::abs(w.begin(row)[i]));
    const int64_t output = first_row + row;
    ASSERT_EQ(matrix.scales()[output], most / 127);
    int32_t sum = 0;
    int largest = 0;
    for (int64_t i = 0; i < w.columns; ++i) {
      const int64_t at = output / 32 * matrix.panel_size() + (i / 4 * 32 + output % 32) * 4 + i % 4;
      ASSERT_EQ(numbers[at], std::nearbyint(w.begin(row)[i] * (127 / most))) << output << " " << i;
      sum += numbers[at];
      largest = std::max(largest, std::abs(int{numbers[at]}));
    }
    ASSERT_EQ(largest, 127);
    ASSERT_EQ(matrix.sums()[output], 128 * sum);
  }
}

TEST(Pack, int8_is_the_nearest_whole_number_of_127th_parts) {
  for (const CpuIsa isa : instruction_sets()) {
    Context ctx = context_of(isa, 2);
    for (const int64_t O : kSizes) {
      for (const int64_t I : kSizes) {
        const Matrix w(O, I, I + 3, 1), more(5, I, 2);
        PackedMatrix matrix(DType::i8, O + 5, I);
        pack(ctx, more.view(), matrix, O);
        pack(ctx, w.view(), matrix);
        expect_int8(matrix, w, 0);
        expect_int8(matrix, more, O);
        // The same from a matrix whose outputs lie side by side.
        Matrix turned(I, O, 3);
        for (int64_t o = 0; o < O; ++o) {
          for (int64_t i = 0; i < I; ++i) turned.begin(i)[o] = w.begin(o)[i];
        }
        PackedMatrix again(DType::i8, O + 5, I);
        pack(ctx, more.view(), again, O);
        pack(ctx, {turned.values.data(), DType::f32, {O, I}, {1, O}}, again);
        ASSERT_EQ(std::memcmp(matrix.data(), again.data(), static_cast<size_t>(matrix.num_bytes())),
                  0);
        // Numbers, scales and sums of what is not there are zeros.
        for (int64_t o = O + 5; o < matrix.num_panels() * 32; ++o) {
          ASSERT_EQ(matrix.scales()[o], 0);
          ASSERT_EQ(matrix.sums()[o], 0);
          for (int64_t i = 0; i < I; ++i) ASSERT_EQ(ref::element(matrix, o, i), 0);
        }
        for (int64_t o = 0; o < O; ++o) {
          for (int64_t i = I; i < (I + 3) / 4 * 4; ++i) ASSERT_EQ(ref::element(matrix, o, i), 0);
        }
      }
    }
  }
}

TEST(Unpack, int8_gives_floats_that_pack_into_the_same_numbers) {
  Context ctx = make();
  for (const int64_t O : kSizes) {
    for (const int64_t I : {1, 3, 64, 130}) {
      PackedMatrix matrix(DType::i8, O, I), again(DType::i8, O, I);
      pack(ctx, Matrix(O, I, 1).view(), matrix);
      Tensor out(DType::f32, {O, I});
      unpack(ctx, matrix, out.view());
      for (int64_t o = 0; o < O; ++o) {
        for (int64_t i = 0; i < I; ++i) {
          ASSERT_EQ(out.as<float>()[o * I + i], ref::element(matrix, o, i));
        }
      }
      pack(ctx, out.view(), again);
      ASSERT_EQ(std::memcmp(matrix.data(), again.data(),
                            static_cast<size_t>(matrix.num_panels() * matrix.panel_size())),
                0);
    }
  }
}

TEST(Pack, an_int8_matrix_may_lie_in_memory_of_someone_else) {
  Context ctx = make();
  PackedMatrix own(DType::i8, 40, 9);
  pack(ctx, Matrix(40, 9, 1).view(), own);
  const auto owner = std::make_shared<int>(1);
  {
    const PackedMatrix elsewhere(owner, static_cast<const int8_t*>(own.data()), own.scales(),
                                 own.sums(), 40, 9);
    EXPECT_EQ(owner.use_count(), 2);
    EXPECT_EQ(elsewhere.num_bytes(), own.num_bytes());
    EXPECT_EQ(ref::element(elsewhere, 39, 8), ref::element(own, 39, 8));
    expect_error(ErrorKind::value, "PackedMatrix: panels must be aligned to 4 bytes", [&] {
      PackedMatrix(owner, static_cast<const int8_t*>(own.data()) + 1, own.scales(), own.sums(), 40,
                   9);
    });
    expect_error(ErrorKind::value, "PackedMatrix: sums must be aligned to 4 bytes", [&] {
      const auto* sums = reinterpret_cast<const char*>(own.sums()) + 2;
      PackedMatrix(owner, static_cast<const int8_t*>(own.data()), own.scales(),
                   reinterpret_cast<const int32_t*>(sums), 40, 9);
    });
    expect_error(ErrorKind::value, "scales must be there for a matrix of 40 x 9, got null", [&] {
      PackedMatrix(owner, static_cast<const int8_t*>(own.data()), nullptr, own.sums(), 40, 9);
    });
    PackedMatrix nothing;
    expect_error(ErrorKind::value, "matrix must own its memory, got nothing",
                 [&] { pack(ctx, ConstView(nullptr, DType::f32, {0, 0}), nothing); });
    PackedMatrix copy = elsewhere;
    expect_error(ErrorKind::value, "pack: matrix must own its memory",
                 [&] { pack(ctx, Matrix(40, 9, 1).view(), copy); });
  }
  EXPECT_EQ(owner.use_count(), 1);
}

TEST(Pack, takes_empty_matrices) {
  Context ctx = make();
  PackedMatrix none(DType::f32, 0, 8), narrow(DType::bf16, 8, 0);
  float value = 0;
  pack(ctx, {&value, DType::f32, {0, 8}}, none);
  pack(ctx, {&value, DType::f32, {8, 0}}, narrow);
  EXPECT_EQ(none.num_panels(), 0);
  EXPECT_EQ(narrow.num_bytes(), 0);
}

TEST(Pack, names_what_is_wrong) {
  Context ctx = make();
  std::vector<float> data(64);
  PackedMatrix matrix(DType::f32, 6, 4);
  expect_error(ErrorKind::value,
               "pack: w must have shape [rows, 4] to match the matrix, got [6, 5]",
               [&] { pack(ctx, {data.data(), DType::f32, {6, 5}}, matrix); });
  expect_error(ErrorKind::value, "pack: rows must lie in [0, 6), got 4 from first_row 3",
               [&] { pack(ctx, {data.data(), DType::f32, {4, 4}}, matrix, 3); });
  expect_error(ErrorKind::value, "pack: rows must lie in [0, 6), got 4 from first_row -1",
               [&] { pack(ctx, {data.data(), DType::f32, {4, 4}}, matrix, -1); });
  expect_error(ErrorKind::value, "pack: w must be there, got no data in [6, 4]",
               [&] { pack(ctx, ConstView(nullptr, DType::f32, {6, 4}), matrix); });
  expect_error(ErrorKind::value, "unpack: w must be there, got no data in [6, 4]",
               [&] { unpack(ctx, matrix, View(nullptr, DType::f32, {6, 4})); });
  expect_error(ErrorKind::type, "pack: w must be float32, float16 or bfloat16, got int8",
               [&] { pack(ctx, {data.data(), DType::i8, {6, 4}}, matrix); });
  expect_error(ErrorKind::type, "unpack: w must be float32 for a matrix of float32, got bfloat16",
               [&] { unpack(ctx, matrix, {data.data(), DType::bf16, {6, 4}}); });
  expect_error(ErrorKind::value, "unpack: w must be dense",
               [&] { unpack(ctx, matrix, {data.data(), DType::f32, {6, 4}, {8, 1}}); });
  expect_error(ErrorKind::type, "PackedMatrix: dtype must be float32, bfloat16 or int8, got int64",
               [&] { PackedMatrix(DType::i64, 1, 1); });
  expect_error(ErrorKind::value, "PackedMatrix: outputs and inputs must not be negative",
               [&] { PackedMatrix(DType::f32, -1, 1); });
  expect_error(ErrorKind::value, "inputs of an int8 matrix must be at most 65536, got 65537",
               [&] { PackedMatrix(DType::i8, 1, 65537); });
  expect_error(ErrorKind::value, "at most 2^48",
               [&] { PackedMatrix(DType::f32, int64_t{1} << 40, int64_t{1} << 40); });
}

}  // namespace
}  // namespace fuseq::inline v0::op_test
