// SPDX-License-Identifier: Apache-2.0
// What crosses between Python and C++: arrays, ids, dtypes, names of enums.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fuseq/device.h"
#include "fuseq/dtype.h"
#include "fuseq/files.h"
#include "fuseq/tensor.h"

namespace fuseq::bindings {

namespace py = pybind11;

/// The Python class `Tensor`: a view, and what keeps its elements alive.
struct Array {
  View view;
  bool read_only = false;
  std::shared_ptr<const void> owner;
  /// The tensor of a mapped file that this is a part of, if it is.
  std::shared_ptr<const SafeTensorsFile> file;
  const NamedView* origin = nullptr;
};

/// Takes the memory over.
[[nodiscard]] Array own(Tensor tensor);

/// Borrows from a numpy array or anything else with the buffer protocol or `__dlpack__`, or copies
/// the handle of a `Tensor`. Throws TypeError naming `argument` for all else and for a dtype that
/// is not ours, ValueError for memory of another device and for elements that are not aligned.
[[nodiscard]] Array borrow(py::handle object, const char* argument);

/// Takes over what `__dlpack__` returned.
[[nodiscard]] Array from_dlpack(const py::object& object, const char* argument);
/// A DLPack capsule of the array; versioned where the taker understands it.
[[nodiscard]] py::capsule to_dlpack(const Array& array, bool versioned);

/// A view for an op: empty for None.
[[nodiscard]] ConstView view_or_empty(const std::optional<Array>& array);
/// Throws ValueError where the memory may not be written.
[[nodiscard]] View writable(const Array& array, const char* argument);

/// Whole numbers from any sequence. Throws TypeError or ValueError naming `argument`.
[[nodiscard]] std::vector<int32_t> to_ids(py::handle object, const std::string& argument);

/// A whole number in [low, high]; True and False are none. Throws TypeError or ValueError naming
/// `argument`.
[[nodiscard]] int64_t to_integer(py::handle object, const std::string& argument, int64_t low,
                                 int64_t high);

/// "float32", "bfloat16" and so on. Throws ValueError naming `argument`.
[[nodiscard]] DType to_dtype(const std::string& text, const std::string& argument = "dtype");
[[nodiscard]] CpuIsa to_cpu_isa(const std::string& text);
[[nodiscard]] std::string to_string(CpuIsa isa);

/// The name of the object's class, such as "list": for messages.
[[nodiscard]] std::string describe_type(py::handle object);

void bind_tensor(py::module_& module);
void bind_files(py::module_& module);
void bind_spec(py::module_& module);
void bind_options(py::module_& module);
void bind_model(py::module_& module);
void bind_session(py::module_& module);
void bind_search(py::module_& module);
void bind_ops(py::module_& module);

}  // namespace fuseq::bindings
