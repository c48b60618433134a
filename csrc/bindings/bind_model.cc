// SPDX-License-Identifier: Apache-2.0
// Model: built from named tensors or loaded from a folder of our own.
#include "fuseq/model.h"

#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <string>
#include <utility>
#include <vector>

#include "convert.h"

namespace fuseq::bindings {
namespace {

using ModelPointer = std::shared_ptr<const Model>;

ModelOptions options(const std::optional<std::string>& dtype, const std::optional<int>& num_threads,
                     const std::string& cpu_isa) {
  ModelOptions result{.num_threads = num_threads.value_or(0), .cpu_isa = to_cpu_isa(cpu_isa)};
  if (dtype) result.dtype = to_dtype(*dtype);
  return result;
}

ModelPointer build(const std::string& spec, const py::dict& weights,
                   const std::optional<std::string>& dtype, const std::optional<int>& num_threads,
                   const std::string& cpu_isa) {
  std::vector<NamedView> views;
  std::vector<Array> arrays;
  for (const auto& [key, value] : weights) {
    const auto name = key.cast<std::string>();
    arrays.push_back(borrow(value, name.c_str()));
    views.push_back({name, arrays.back().view});
  }
  const auto done = [&](const NamedView& view) {
    const Array& array = arrays[static_cast<size_t>(&view - views.data())];
    if (array.file != nullptr) array.file->release(*array.origin);
  };
  const py::gil_scoped_release no_gil;
  return Model::build(spec_from_json(spec), views, options(dtype, num_threads, cpu_isa), done);
}

ModelPointer load(const std::filesystem::path& folder, const std::optional<std::string>& dtype,
                  const std::optional<int>& num_threads, const std::string& cpu_isa) {
  const py::gil_scoped_release no_gil;
  return Model::load(folder, options(dtype, num_threads, cpu_isa));
}

}  // namespace

void bind_model(py::module_& module) {
  py::class_<Model, std::shared_ptr<Model>>(
      module, "Model", "A spec and its packed weights, shared by any number of sessions.")
      .def_static(
          "build",
          [](const std::string& spec, const py::dict& weights,
             const std::optional<std::string>& dtype, const std::optional<int>& num_threads,
             const std::string& cpu_isa) {
            return std::const_pointer_cast<Model>(
                build(spec, weights, dtype, num_threads, cpu_isa));
          },
          py::arg("spec"), py::arg("weights"), py::kw_only(), py::arg("dtype") = py::none(),
          py::arg("num_threads") = py::none(), py::arg("cpu_isa") = "automatic",
          "Packs named arrays under a spec given as JSON text.")
      .def_static(
          "load",
          [](const std::filesystem::path& folder, const std::optional<std::string>& dtype,
             const std::optional<int>& num_threads, const std::string& cpu_isa) {
            return std::const_pointer_cast<Model>(load(folder, dtype, num_threads, cpu_isa));
          },
          py::arg("folder"), py::kw_only(), py::arg("dtype") = py::none(),
          py::arg("num_threads") = py::none(), py::arg("cpu_isa") = "automatic",
          "Loads a folder of our own: spec.json and model.safetensors.")
      .def("save", &Model::save, py::arg("folder"), py::call_guard<py::gil_scoped_release>(),
           "Writes spec.json and model.safetensors; a failure leaves an old folder whole.")
      .def(
          "weight",
          [](const Model& self, const std::string& name) {
            const py::gil_scoped_release no_gil;
            return own(self.weight(name));
          },
          py::arg("name"), "A copy of one weight in its natural layout.")
      .def_property_readonly(
          "spec", [](const Model& self) { return spec_to_json(self.spec()); },
          "The spec as JSON text.")
      .def_property_readonly(
          "family", [](const Model& self) { return self.spec().family; },
          "The family's word in the spec.")
      .def_property_readonly(
          "is_seq2seq", [](const Model& self) { return self.spec().is_seq2seq(); },
          "Whether the model has an encoder and a decoder.")
      .def_property_readonly(
          "dtype", [](const Model& self) { return std::string(name(self.dtype())); },
          "\"float32\", \"bfloat16\" or \"int8\".")
      .def(
          "to",
          [](const std::shared_ptr<Model>& self, const std::string& dtype) {
            const DType wanted = to_dtype(dtype);
            if (wanted == self->dtype()) return self;
            py::gil_scoped_release unlocked;
            return std::const_pointer_cast<Model>(self->to(wanted));
          },
          py::arg("dtype"), "The model in another dtype; itself if it is in that already.")
      .def_property_readonly("num_bytes", &Model::num_bytes, "Bytes of packed weights in memory.")
      .def_property_readonly("num_parameters", &Model::num_parameters, "Elements of the weights.");
}

}  // namespace fuseq::bindings
