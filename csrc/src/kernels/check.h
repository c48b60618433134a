// SPDX-License-Identifier: Apache-2.0
// Checks that the doors of several ops share.
#pragma once

#include <cstdint>
#include <ostream>
#include <string_view>

#include "base/message.h"
#include "fuseq/device.h"
#include "fuseq/tensor.h"

namespace fuseq::inline v0 {

inline void check_cpu(std::string_view op, Device device) {
  if (device != Device::cpu) {
    fail(ErrorKind::unsupported, op, ": this build runs on the CPU only");
  }
}

inline void check_dtype(std::string_view op, std::string_view what, ConstView view, DType dtype) {
  if (view.dtype != dtype) {
    fail(ErrorKind::type, op, ": ", what, " must be ", name(dtype), ", got ", name(view.dtype));
  }
}

/// The end of a message, " to match x [2, 768]", formatted only when it is printed.
struct Like {
  std::string_view what;  ///< empty: prints nothing
  Shape shape;
  std::string_view other = {};  ///< a second one: " and w [64, 768]"
  Shape other_shape = {};
};
inline std::ostream& operator<<(std::ostream& stream, const Like& like) {
  if (like.what.empty()) return stream;
  stream << " to match " << like.what << ' ' << like.shape;
  if (!like.other.empty()) stream << " and " << like.other << ' ' << like.other_shape;
  return stream;
}

/// `shape` float32 elements, those of the last axis side by side.
inline void check_floats(std::string_view op, std::string_view what, ConstView view,
                         const Shape& shape, const Like& like = {}) {
  const bool is_given = view.data != nullptr || view.shape.num_elements() == 0;
  require(is_given || view.rank() > 0, op, ": ", what, " must have shape ", shape, like,
          ", got nothing");
  require(view.shape == shape && is_given, op, ": ", what, " must have shape ", shape, like,
          ", got ", is_given ? "" : "no data in ", view.shape);
  check_dtype(op, what, view, DType::f32);
  if (shape.rank() > 0 && shape.dim(-1) > 1) {
    require(view.stride(-1) == 1, op, ": ", what,
            " must have the elements of a row side by side, got a distance of ", view.stride(-1),
            ". Make a copy");
  }
}

}  // namespace fuseq::inline v0
