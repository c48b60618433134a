// SPDX-License-Identifier: Apache-2.0
// PackedMatrix: its memory.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "base/memory.h"
#include "base/message.h"
#include "fuseq/ops.h"

namespace fuseq::inline v0 {

namespace {

void check_size(DType dtype, int64_t outputs, int64_t inputs) {
  if (dtype != DType::f32 && dtype != DType::bf16 && dtype != DType::i8) {
    fail(ErrorKind::type, "PackedMatrix: dtype must be float32, bfloat16 or int8, got ",
         name(dtype));
  }
  constexpr int64_t kMaxElements = int64_t{1} << 48;
  require(outputs >= 0 && inputs >= 0 && outputs <= kMaxElements && inputs <= kMaxElements &&
              (outputs == 0 || inputs <= kMaxElements / outputs),
          "PackedMatrix: outputs and inputs must not be negative and have a product of at most "
          "2^48, got ",
          outputs, " and ", inputs);
  require(dtype != DType::i8 || inputs <= PackedMatrix::kMaxInt8Inputs,
          "PackedMatrix: inputs of an int8 matrix must be at most ", PackedMatrix::kMaxInt8Inputs,
          ", got ", inputs);
}

}  // namespace

PackedMatrix::PackedMatrix(DType dtype, int64_t outputs, int64_t inputs)
    : is_own_(true), dtype_(dtype), outputs_(outputs), inputs_(inputs) {
  check_size(dtype, outputs, inputs);
  panels_ = allocate_shared_zeros(static_cast<size_t>(std::max<int64_t>(num_bytes(), 1)));
  if (dtype == DType::i8) {
    scales_ = reinterpret_cast<const float*>(static_cast<const std::byte*>(panels_.get()) +
                                             num_panels() * panel_size());
    sums_ = reinterpret_cast<const int32_t*>(scales_ + num_panels() * kPanel);
  }
}

PackedMatrix::PackedMatrix(std::shared_ptr<const void> owner, const int8_t* panels,
                           const float* scales, const int32_t* sums, int64_t outputs,
                           int64_t inputs)
    : panels_(std::move(owner), panels),
      scales_(scales),
      sums_(sums),
      dtype_(DType::i8),
      outputs_(outputs),
      inputs_(inputs) {
  check_size(DType::i8, outputs, inputs);
  const auto check = [&](std::string_view what, const void* data) {
    require(data != nullptr || outputs == 0, "PackedMatrix: ", what,
            " must be there for a matrix of ", outputs, " x ", inputs, ", got null");
    require(reinterpret_cast<uintptr_t>(data) % alignof(uint32_t) == 0, "PackedMatrix: ", what,
            " must be aligned to ", alignof(uint32_t), " bytes, got address ",
            reinterpret_cast<uintptr_t>(data));
  };
  check("panels", panels);
  check("scales", scales);
  check("sums", sums);
}

int64_t PackedMatrix::num_bytes() const noexcept {
  const int64_t beside = dtype_ == DType::i8 ? num_panels() * kPanel * 8 : 0;
  return num_panels() * panel_size() * static_cast<int64_t>(size_of(dtype_)) + beside;
}

}  // namespace fuseq::inline v0
