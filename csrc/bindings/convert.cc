// SPDX-License-Identifier: Apache-2.0
// Conversions shared by the bindings.
#include "convert.h"

#include <array>
#include <limits>
#include <string_view>
#include <utility>

namespace fuseq::bindings {
namespace {

constexpr std::array kDTypes{DType::f32, DType::f16, DType::bf16, DType::f64, DType::i64,
                             DType::i32, DType::i16, DType::i8,   DType::u8,  DType::boolean};

constexpr std::array<std::pair<std::string_view, CpuIsa>, 4> kIsas{
    {{"automatic", CpuIsa::automatic},
     {"portable", CpuIsa::portable},
     {"avx2", CpuIsa::avx2},
     {"avx512", CpuIsa::avx512}}};

}  // namespace

std::string describe_type(py::handle object) {
  return py::str(py::type::handle_of(object).attr("__name__")).cast<std::string>();
}

int64_t to_integer(py::handle object, const std::string& argument, int64_t low, int64_t high) {
  const bool is_bool = PyBool_Check(object.ptr()) != 0;
  if (is_bool || PyIndex_Check(object.ptr()) == 0) {
    throw py::type_error(argument + ": must be a whole number, got " + describe_type(object));
  }
  const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(object.ptr()));
  if (!number) throw py::error_already_set();
  int overflow = 0;
  const long long value = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
  if (overflow != 0 || value < low || value > high) {
    throw py::value_error(argument + ": must be in " + std::to_string(low) + " ... " +
                          std::to_string(high) + ", got " + py::str(number).cast<std::string>());
  }
  return value;
}

std::vector<int32_t> to_ids(py::handle object, const std::string& argument) {
  if (py::isinstance<py::str>(object) || py::isinstance<py::bytes>(object) ||
      !py::isinstance<py::iterable>(object)) {
    throw py::type_error(argument + ": must be a sequence of ids, got " + describe_type(object));
  }
  std::vector<int32_t> ids;
  for (const py::handle id : py::iter(object)) {
    ids.push_back(static_cast<int32_t>(
        to_integer(id, argument + "[" + std::to_string(ids.size()) + "]",
                   std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max())));
  }
  return ids;
}

DType to_dtype(const std::string& text, const std::string& argument) {
  std::string names;
  for (const DType dtype : kDTypes) {
    if (name(dtype) == text) return dtype;
    names += (names.empty() ? "" : ", ") + std::string(name(dtype));
  }
  throw py::value_error(argument + ": must be one of " + names + ", got \"" + text + "\"");
}

CpuIsa to_cpu_isa(const std::string& text) {
  for (const auto& [word, isa] : kIsas) {
    if (word == text) return isa;
  }
  throw py::value_error("cpu_isa: must be automatic, portable, avx2 or avx512, got \"" + text +
                        "\"");
}

std::string to_string(CpuIsa isa) {
  for (const auto& [word, value] : kIsas) {
    if (value == isa) return std::string(word);
  }
  return "unknown";
}

ConstView view_or_empty(const std::optional<Array>& array) {
  return array ? ConstView(array->view) : ConstView();
}

View writable(const Array& array, const char* argument) {
  if (array.read_only) {
    throw py::value_error(std::string(argument) + ": must be writable, got a read-only array");
  }
  return array.view;
}

}  // namespace fuseq::bindings
