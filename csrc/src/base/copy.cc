// SPDX-License-Identifier: Apache-2.0
// Strided copies with conversion.
#include "fuseq/copy.h"

#include <cstring>

#include "base/half.h"
#include "base/message.h"

namespace fuseq::inline v0 {
namespace {

[[nodiscard]] bool is_float(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16;
}

template <DType kDType>
[[nodiscard]] float read(const void* data, int64_t i) {
  if constexpr (kDType == DType::f32) return static_cast<const float*>(data)[i];
  const uint16_t bits = static_cast<const uint16_t*>(data)[i];
  return kDType == DType::f16 ? f16_to_float(bits) : bf16_to_float(bits);
}

void write(float* to, float value) {
  *to = value;
}
void write(uint16_t* to, float value) {
  *to = float_to_bf16(value);
}

template <DType kFrom, typename To>
void convert_row(const void* from, int64_t from_stride, To* to, int64_t to_stride, int64_t count) {
  for (int64_t i = 0; i < count; ++i) write(to + i * to_stride, read<kFrom>(from, i * from_stride));
}

template <typename To>
void convert_row(DType dtype, const void* from, int64_t from_stride, To* to, int64_t to_stride,
                 int64_t count) {
  switch (dtype) {
    case DType::f16: return convert_row<DType::f16>(from, from_stride, to, to_stride, count);
    case DType::bf16: return convert_row<DType::bf16>(from, from_stride, to, to_stride, count);
    default: return convert_row<DType::f32>(from, from_stride, to, to_stride, count);
  }
}

template <typename T>
void move_row(const void* from, int64_t from_stride, void* to, int64_t to_stride, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    static_cast<T*>(to)[i * to_stride] = static_cast<const T*>(from)[i * from_stride];
  }
}

/// The last axis of both views, whose first elements are at `from` and `to`.
void copy_row(const ConstView& from_view, const char* from, const View& to_view, char* to) {
  const int64_t count = from_view.rank() > 0 ? from_view.dim(-1) : 1;
  const int64_t from_stride = from_view.rank() > 0 ? from_view.stride(-1) : 1;
  const int64_t to_stride = to_view.rank() > 0 ? to_view.stride(-1) : 1;
  if (from_view.dtype != to_view.dtype) {
    if (to_view.dtype == DType::f32) {
      convert_row(from_view.dtype, from, from_stride, reinterpret_cast<float*>(to), to_stride,
                  count);
    } else {
      convert_row(from_view.dtype, from, from_stride, reinterpret_cast<uint16_t*>(to), to_stride,
                  count);
    }
    return;
  }
  const size_t size = size_of(from_view.dtype);
  if (from_stride == 1 && to_stride == 1) {
    std::memcpy(to, from, static_cast<size_t>(count) * size);
    return;
  }
  switch (size) {
    case 1: return move_row<uint8_t>(from, from_stride, to, to_stride, count);
    case 2: return move_row<uint16_t>(from, from_stride, to, to_stride, count);
    case 4: return move_row<uint32_t>(from, from_stride, to, to_stride, count);
    default: return move_row<uint64_t>(from, from_stride, to, to_stride, count);
  }
}

void copy_axis(const ConstView& from_view, const char* from, const View& to_view, char* to,
               int axis) {
  if (axis >= from_view.rank() - 1) return copy_row(from_view, from, to_view, to);
  const int64_t from_step = from_view.stride(axis) * static_cast<int64_t>(size_of(from_view.dtype));
  const int64_t to_step = to_view.stride(axis) * static_cast<int64_t>(size_of(to_view.dtype));
  for (int64_t i = 0; i < from_view.dim(axis); ++i) {
    copy_axis(from_view, from + i * from_step, to_view, to + i * to_step, axis + 1);
  }
}

}  // namespace

void copy(ConstView from, View to) {
  require(from.shape == to.shape, "copy: to must have shape ", from.shape.to_string(),
          " as from, got ", to.shape.to_string());
  const bool converts = is_float(from.dtype) && (to.dtype == DType::f32 || to.dtype == DType::bf16);
  if (from.dtype != to.dtype && !converts) {
    fail(ErrorKind::type, "copy: from must convert to ", name(to.dtype), ", got ",
         name(from.dtype));
  }
  if (from.shape.num_elements() == 0) return;
  copy_axis(from, static_cast<const char*>(from.data), to, static_cast<char*>(to.data), 0);
}

}  // namespace fuseq::inline v0
