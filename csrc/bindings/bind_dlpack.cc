// SPDX-License-Identifier: Apache-2.0
// Tensors in and out by DLPack and by the buffer protocol.
#include <cstring>
#include <utility>

#include "convert.h"
#include "dlpack.h"

namespace fuseq::bindings {
namespace {

constexpr char kPlainName[] = "dltensor";
constexpr char kVersionedName[] = "dltensor_versioned";

/// Frees a capsule's memory that nobody took.
template <typename T, const char* kName>
void drop_capsule(PyObject* capsule) {
  if (!PyCapsule_IsValid(capsule, kName)) return;
  auto* managed = static_cast<T*>(PyCapsule_GetPointer(capsule, kName));
  if (managed->deleter != nullptr) managed->deleter(managed);
}

/// What an exported tensor points to.
template <typename T>
struct Export {
  T managed{};
  std::array<int64_t, Shape::kMaxRank> extents{};
  Strides strides{};
  Array array;
};

dlpack::DataType data_type(DType dtype) {
  const auto bits = static_cast<uint8_t>(8 * size_of(dtype));
  switch (dtype) {
    case DType::f32:
    case DType::f16:
    case DType::f64: return {dlpack::kFloat, bits, 1};
    case DType::bf16: return {dlpack::kBfloat, bits, 1};
    case DType::i64:
    case DType::i32:
    case DType::i16:
    case DType::i8: return {dlpack::kInt, bits, 1};
    case DType::u8: return {dlpack::kUInt, bits, 1};
    case DType::boolean: return {dlpack::kBool, bits, 1};
  }
  return {};
}

std::optional<DType> dtype_of(const dlpack::DataType& type) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::f64, DType::i64, DType::i32,
                            DType::i16, DType::i8, DType::u8, DType::boolean}) {
    const dlpack::DataType known = data_type(dtype);
    if (known.code == type.code && known.bits == type.bits && type.lanes == 1) return dtype;
  }
  return std::nullopt;
}

template <typename T>
T* make_export(const Array& array) {
  auto owned = std::make_unique<Export<T>>();
  Export<T>& record = *owned;
  record.array = array;
  const View& view = array.view;
  for (int axis = 0; axis < view.rank(); ++axis) record.extents.at(axis) = view.dim(axis);
  record.strides = view.strides;
  record.managed.tensor = {.data = view.data,
                           .device = {dlpack::kCpu, 0},
                           .ndim = view.rank(),
                           .dtype = data_type(view.dtype),
                           .shape = record.extents.data(),
                           .strides = record.strides.data(),
                           .byte_offset = 0};
  record.managed.manager = owned.release();
  record.managed.deleter = [](T* self) { delete static_cast<Export<T>*>(self->manager); };
  return &record.managed;
}

/// Ties the life of `managed` to the array.
template <typename T>
std::shared_ptr<const void> hold(T* managed) {
  return {managed, [](T* self) {
            const py::gil_scoped_acquire gil;
            if (self->deleter != nullptr) self->deleter(self);
          }};
}

Array wrap(const dlpack::TensorInfo& tensor, bool read_only, std::shared_ptr<const void> owner,
           const std::string& argument) {
  if (tensor.device.device_type != dlpack::kCpu) {
    throw py::value_error(argument + ": must be on the CPU, got DLPack device type " +
                          std::to_string(tensor.device.device_type));
  }
  const std::optional<DType> dtype = dtype_of(tensor.dtype);
  if (!dtype) {
    throw py::type_error(argument + ": must have a dtype we know, got DLPack type code " +
                         std::to_string(tensor.dtype.code) + " with " +
                         std::to_string(tensor.dtype.bits) + " bits");
  }
  const Shape shape(std::span<const int64_t>(tensor.shape, static_cast<size_t>(tensor.ndim)));
  Strides strides = dense_strides(shape);
  if (tensor.strides != nullptr) std::copy_n(tensor.strides, tensor.ndim, strides.begin());
  return {
      .view = View(static_cast<char*>(tensor.data) + tensor.byte_offset, *dtype, shape, strides),
      .read_only = read_only,
      .owner = std::move(owner)};
}

std::optional<DType> dtype_of_format(const char* format) {
  std::string_view text = format == nullptr ? "B" : format;
  if (!text.empty() && (text[0] == '@' || text[0] == '=' || text[0] == '<')) text.remove_prefix(1);
  if (text.size() != 1) return std::nullopt;
  switch (text[0]) {
    case 'f': return DType::f32;
    case 'd': return DType::f64;
    case 'e': return DType::f16;
    case 'l':
    case 'q': return DType::i64;
    case 'i': return DType::i32;
    case 'h': return DType::i16;
    case 'b': return DType::i8;
    case 'B': return DType::u8;
    case '?': return DType::boolean;
    default: return std::nullopt;
  }
}

struct HeldBuffer {
  Py_buffer buffer{};
  ~HeldBuffer() {
    const py::gil_scoped_acquire gil;
    PyBuffer_Release(&buffer);
  }
};

Array from_buffer(py::handle object, const std::string& argument) {
  auto held = std::make_shared<HeldBuffer>();
  bool read_only = false;
  if (PyObject_GetBuffer(object.ptr(), &held->buffer, PyBUF_RECORDS) != 0) {
    PyErr_Clear();
    read_only = true;
    if (PyObject_GetBuffer(object.ptr(), &held->buffer, PyBUF_RECORDS_RO) != 0) {
      throw py::error_already_set();
    }
  }
  const Py_buffer& buffer = held->buffer;
  const std::optional<DType> dtype = dtype_of_format(buffer.format);
  if (!dtype || static_cast<Py_ssize_t>(size_of(*dtype)) != buffer.itemsize) {
    throw py::type_error(argument + ": must have a dtype we know, got buffer format \"" +
                         (buffer.format == nullptr ? "" : buffer.format) + "\"");
  }
  std::vector<int64_t> extents(buffer.shape, buffer.shape + buffer.ndim);
  const Shape shape{std::span<const int64_t>(extents)};
  Strides strides{};
  for (int axis = 0; axis < buffer.ndim; ++axis) {
    if (buffer.strides[axis] % buffer.itemsize != 0) {
      throw py::value_error(argument + ": strides must be whole elements, got " +
                            std::to_string(buffer.strides[axis]) + " bytes");
    }
    strides.at(static_cast<size_t>(axis)) = buffer.strides[axis] / buffer.itemsize;
  }
  void* data = buffer.buf;
  return {
      .view = View(data, *dtype, shape, strides), .read_only = read_only, .owner = std::move(held)};
}

}  // namespace

py::capsule to_dlpack(const Array& array, bool versioned) {
  if (!versioned) {
    if (array.read_only) {
      throw py::buffer_error("__dlpack__: a read-only tensor needs max_version=(1, 0) or later");
    }
    return py::capsule(make_export<dlpack::Managed>(array), kPlainName,
                       &drop_capsule<dlpack::Managed, kPlainName>);
  }
  auto* managed = make_export<dlpack::ManagedVersioned>(array);
  managed->version = {1, 0};
  managed->flags = array.read_only ? dlpack::kReadOnly : 0;
  return py::capsule(managed, kVersionedName,
                     &drop_capsule<dlpack::ManagedVersioned, kVersionedName>);
}

Array from_dlpack(const py::object& object, const char* argument) {
  py::object capsule;
  try {
    capsule = object.attr("__dlpack__")(py::arg("max_version") = py::make_tuple(1, 0));
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) throw;
    capsule = object.attr("__dlpack__")();
  }
  if (PyCapsule_IsValid(capsule.ptr(), kVersionedName)) {
    auto* managed =
        static_cast<dlpack::ManagedVersioned*>(PyCapsule_GetPointer(capsule.ptr(), kVersionedName));
    if (managed->version.major != 1) {
      throw py::value_error(std::string(argument) + ": must be DLPack version 1, got " +
                            std::to_string(managed->version.major));
    }
    PyCapsule_SetName(capsule.ptr(), "used_dltensor_versioned");
    PyCapsule_SetDestructor(capsule.ptr(), nullptr);
    auto owner = hold(managed);
    return wrap(managed->tensor, (managed->flags & dlpack::kReadOnly) != 0, std::move(owner),
                argument);
  }
  if (!PyCapsule_IsValid(capsule.ptr(), kPlainName)) {
    throw py::type_error(std::string(argument) + ": __dlpack__ must give a DLPack capsule, got " +
                         describe_type(capsule));
  }
  auto* managed = static_cast<dlpack::Managed*>(PyCapsule_GetPointer(capsule.ptr(), kPlainName));
  PyCapsule_SetName(capsule.ptr(), "used_dltensor");
  PyCapsule_SetDestructor(capsule.ptr(), nullptr);
  auto owner = hold(managed);
  return wrap(managed->tensor, false, std::move(owner), argument);
}

Array borrow(py::handle object, const char* argument) {
  Array array;
  if (py::isinstance<Array>(object)) {
    array = object.cast<Array>();
  } else if (PyObject_CheckBuffer(object.ptr()) != 0) {
    array = from_buffer(object, argument);
  } else if (py::hasattr(object, "__dlpack__")) {
    array = from_dlpack(py::reinterpret_borrow<py::object>(object), argument);
  } else {
    throw py::type_error(std::string(argument) +
                         ": must be an array or a tensor with __dlpack__, got " +
                         describe_type(object));
  }
  if (reinterpret_cast<uintptr_t>(array.view.data) % size_of(array.view.dtype) != 0) {
    throw py::value_error(std::string(argument) + ": elements must be aligned to their size");
  }
  return array;
}

}  // namespace fuseq::bindings
