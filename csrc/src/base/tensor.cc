// SPDX-License-Identifier: Apache-2.0
// Tensor: memory of its own.
#include "fuseq/tensor.h"

#include "base/checked_size.h"
#include "base/memory.h"
#include "base/message.h"

namespace fuseq::inline v0 {

Tensor::Tensor(DType dtype, const Shape& shape) : dtype_(dtype), shape_(shape) {
  const auto bytes = checked_num_bytes(shape.dims(), static_cast<int64_t>(size_of(dtype)));
  if (!bytes) {
    fail(ErrorKind::value, "Tensor: the size of shape must fit int64, got ", shape.to_string());
  }
  data_.reset(allocate_aligned(static_cast<size_t>(*bytes)));
}

void Tensor::Free::operator()(void* data) const noexcept {
  free_aligned(data);
}

}  // namespace fuseq::inline v0
