// SPDX-License-Identifier: Apache-2.0
// safetensors in and out, and folders that appear whole.
#include "fuseq/files.h"

#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "convert.h"
#include "fuseq/copy.h"

namespace fuseq::bindings {
namespace {

namespace fs = std::filesystem;
using File = std::shared_ptr<const SafeTensorsFile>;

struct Reader {
  File file;
};

Reader open(const fs::path& path) {
  const py::gil_scoped_release no_gil;
  return {std::make_shared<const SafeTensorsFile>(SafeTensorsFile::open(path))};
}

py::dict tensors(const Reader& self) {
  py::dict result;
  for (const NamedView& tensor : self.file->tensors()) {
    const ConstView& from = tensor.view;
    // Nothing writes through a read-only Array.
    const View view(const_cast<void*>(from.data), from.dtype, from.shape, from.strides);
    result[py::str(tensor.name)] = Array{
        .view = view, .read_only = true, .owner = self.file, .file = self.file, .origin = &tensor};
  }
  return result;
}

using Entry = std::tuple<std::string, std::string, std::vector<int64_t>, py::function>;

void save(const fs::path& path, const std::vector<Entry>& entries,
          const std::map<std::string, std::string>& metadata) {
  std::vector<TensorSource> sources;
  for (const auto& [name, dtype, shape, make] : entries) {
    const auto fill = [&make = make](View destination) {
      Array made;
      {
        const py::gil_scoped_acquire gil;
        made = make().cast<Array>();
      }
      copy(made.view, destination);
      const py::gil_scoped_acquire gil;
      made = {};
    };
    sources.push_back({name, to_dtype(dtype), Shape(std::span<const int64_t>(shape)), fill});
  }
  const py::gil_scoped_release no_gil;
  save_safetensors(path, sources, metadata);
}

void save_whole_folder(const fs::path& folder, const py::function& fill,
                       const std::vector<std::string>& drop) {
  const py::gil_scoped_release no_gil;
  const auto call = [&](const fs::path& unfinished) {
    const py::gil_scoped_acquire gil;
    fill(unfinished);
  };
  save_folder(folder, call, drop);
}

}  // namespace

void bind_files(py::module_& module) {
  py::class_<Reader>(module, "SafeTensorsFile", "A safetensors file, mapped and checked.")
      .def(py::init(&open), py::arg("path"))
      .def("tensors", &tensors, "Every tensor by name, on the mapped file.")
      .def_property_readonly(
          "unsupported", [](const Reader& self) { return self.file->unsupported(); },
          "Names of tensors whose element type is not known here.")
      .def_property_readonly(
          "metadata", [](const Reader& self) { return self.file->metadata(); },
          "The texts stored in the header.");
  module.def("save_safetensors", &save, py::arg("path"), py::arg("tensors"),
             py::arg("metadata") = std::map<std::string, std::string>{},
             "Writes (name, dtype, shape, function that makes the tensor) one by one; the file "
             "appears when it is whole.");
  module.def("save_folder", &save_whole_folder, py::arg("folder"), py::arg("fill"),
             py::arg("drop") = std::vector<std::string>{},
             "Calls fill(temporary folder), then puts it in the place of `folder`; other files of "
             "an old folder are kept, but for paths below it that fit one of `drop`.");
}

}  // namespace fuseq::bindings
