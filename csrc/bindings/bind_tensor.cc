// SPDX-License-Identifier: Apache-2.0
// Tensor: a strided view on elements that somebody keeps alive.
#include "fuseq/tensor.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <utility>

#include "convert.h"
#include "fuseq/copy.h"

namespace fuseq::bindings {
namespace {

template <typename T>
py::tuple to_tuple(std::span<const T> values) {
  py::tuple tuple(values.size());
  for (size_t i = 0; i < values.size(); ++i) tuple[i] = values[i];
  return tuple;
}

std::span<const int64_t> strides_of(const Array& array) {
  return {array.view.strides.data(), static_cast<size_t>(array.view.rank())};
}

std::string format_of(DType dtype) {
  switch (dtype) {
    case DType::f32: return "f";
    case DType::f64: return "d";
    case DType::f16: return "e";
    case DType::i64: return "q";
    case DType::i32: return "i";
    case DType::i16: return "h";
    case DType::i8: return "b";
    case DType::u8: return "B";
    case DType::boolean: return "?";
    case DType::bf16: break;
  }
  throw py::type_error(
      "numpy: the dtype must be one that numpy has, got bfloat16. Use .float() for a float32 copy");
}

std::vector<py::ssize_t> bytes_of_strides(const Array& array) {
  std::vector<py::ssize_t> bytes;
  for (const int64_t stride : strides_of(array)) {
    bytes.push_back(stride * static_cast<int64_t>(size_of(array.view.dtype)));
  }
  return bytes;
}

std::vector<py::ssize_t> extents_of(const Array& array) {
  const auto dims = array.view.shape.dims();
  return {dims.begin(), dims.end()};
}

py::buffer_info to_buffer(const Array& array) {
  const std::string format = format_of(array.view.dtype);
  return {array.view.data,
          static_cast<py::ssize_t>(size_of(array.view.dtype)),
          format,
          array.view.rank(),
          extents_of(array),
          bytes_of_strides(array),
          array.read_only};
}

py::array to_numpy(const py::object& self) {
  const auto& array = self.cast<const Array&>();
  py::array result(py::dtype(format_of(array.view.dtype)), extents_of(array),
                   bytes_of_strides(array), array.view.data, self);
  if (array.read_only) result.attr("setflags")(py::arg("write") = false);
  return result;
}

int checked_axis(const Array& array, int axis) {
  if (axis < -array.view.rank() || axis >= array.view.rank()) {
    throw py::value_error("axis: must be an axis of " + array.view.shape.to_string() + ", got " +
                          std::to_string(axis));
  }
  return axis < 0 ? axis + array.view.rank() : axis;
}

Array transpose(const Array& array) {
  Array result = array;
  std::vector<int64_t> dims(array.view.shape.dims().rbegin(), array.view.shape.dims().rend());
  result.view.shape = Shape(std::span<const int64_t>(dims));
  std::reverse(result.view.strides.begin(), result.view.strides.begin() + array.view.rank());
  return result;
}

Array narrow(const Array& array, int axis, int64_t start, int64_t length) {
  const int at = checked_axis(array, axis);
  const int64_t extent = array.view.dim(at);
  if (start < 0 || length < 0 || start > extent || length > extent - start) {
    throw py::value_error("narrow: start and length must lie in 0 ... " + std::to_string(extent) +
                          ", got " + std::to_string(start) + " and " + std::to_string(length));
  }
  Array result = array;
  std::vector<int64_t> dims(array.view.shape.dims().begin(), array.view.shape.dims().end());
  dims.at(static_cast<size_t>(at)) = length;
  result.view.shape = Shape(std::span<const int64_t>(dims));
  if (result.view.shape.num_elements() == 0) return result;  // whose strides may be of any size
  result.view.data =
      static_cast<char*>(array.view.data) +
      start * array.view.stride(at) * static_cast<int64_t>(size_of(array.view.dtype));
  return result;
}

Array reshape(const Array& array, const std::vector<int64_t>& dims) {
  const Shape shape{std::span<const int64_t>(dims)};
  if (!array.view.is_dense() || shape.num_elements() != array.view.shape.num_elements()) {
    throw py::value_error("reshape: the tensor must be dense and have " + shape.to_string() +
                          "'s number of elements, got " + array.view.shape.to_string() +
                          (array.view.is_dense() ? "" : " with strides"));
  }
  Array result = array;
  result.view.shape = shape;
  result.view.strides = dense_strides(shape);
  return result;
}

Array to_float(const Array& array) {
  const py::gil_scoped_release no_gil;
  Tensor result(DType::f32, array.view.shape);
  copy(array.view, result.view());
  return own(std::move(result));
}

std::string describe(const Array& array) {
  return "Tensor(shape=" + array.view.shape.to_string() +
         ", dtype=" + std::string(name(array.view.dtype)) + ")";
}

}  // namespace

Array own(Tensor tensor) {
  auto owner = std::make_shared<Tensor>(std::move(tensor));
  const View view = owner->view();
  return {.view = view, .owner = std::move(owner)};
}

void bind_tensor(py::module_& module) {
  py::class_<Array>(module, "Tensor", py::buffer_protocol(),
                    "A strided view on elements in main memory, and what keeps them alive.")
      .def(py::init([](const py::object& array) { return borrow(array, "array"); }),
           py::arg("array"), "Borrows an array or a tensor with `__dlpack__`, without a copy.")
      .def_static(
          "empty",
          [](const std::vector<int64_t>& shape, const std::string& dtype) {
            return own(Tensor(to_dtype(dtype), Shape(std::span<const int64_t>(shape))));
          },
          py::arg("shape"), py::arg("dtype") = "float32", "A new tensor with undefined elements.")
      .def_property_readonly(
          "shape", [](const Array& self) { return to_tuple(self.view.shape.dims()); },
          "Extents, a tuple.")
      .def_property_readonly(
          "strides", [](const Array& self) { return to_tuple(strides_of(self)); },
          "Distances between neighbours along each axis, in elements.")
      .def_property_readonly(
          "dtype", [](const Array& self) { return std::string(name(self.view.dtype)); },
          "\"float32\", \"bfloat16\", ...")
      .def_property_readonly(
          "read_only", [](const Array& self) { return self.read_only; },
          "Whether the elements may not be written, as those of a mapped file.")
      .def("transpose", &transpose, "A view with its axes reversed.")
      .def("narrow", &narrow, py::arg("axis"), py::arg("start"), py::arg("length"),
           "A view on `length` neighbours from `start` on along one axis.")
      .def("reshape", &reshape, py::arg("shape"), "A view of a dense tensor with another shape.")
      .def("float", &to_float, "A dense float32 copy.")
      .def(
          "copy_from",
          [](const Array& self, const Array& source) {
            const View to = writable(self, "copy_from");
            const py::gil_scoped_release no_gil;
            copy(source.view, to);
          },
          py::arg("source"),
          "Copies the elements of a tensor of this shape, converting to float32 or bfloat16.")
      .def("numpy", &to_numpy, "A numpy array on the same elements.")
      .def(
          "__dlpack__",
          [](const Array& self, const py::object& stream, const py::object& max_version,
             const py::object& dl_device, const py::object& copy) {
            if (!copy.is_none() && copy.cast<bool>()) {
              throw py::buffer_error("__dlpack__: copy must not be True, got True");
            }
            if (!dl_device.is_none() && !dl_device.equal(py::make_tuple(1, 0))) {
              throw py::buffer_error("__dlpack__: dl_device must be (1, 0), the CPU");
            }
            (void)stream;  // only devices have streams
            const bool versioned =
                !max_version.is_none() && max_version.cast<py::tuple>()[0].cast<int>() >= 1;
            return to_dlpack(self, versioned);
          },
          py::kw_only(), py::arg("stream") = py::none(), py::arg("max_version") = py::none(),
          py::arg("dl_device") = py::none(), py::arg("copy") = py::none())
      .def("__dlpack_device__", [](const Array&) { return py::make_tuple(1, 0); })
      .def("__repr__", &describe)
      .def_buffer(&to_buffer);
}

}  // namespace fuseq::bindings
