// SPDX-License-Identifier: Apache-2.0
// TransformerSpec crosses as JSON text.
#include "fuseq/spec.h"

#include "convert.h"

namespace fuseq::bindings {
namespace {

py::list table(const std::string& spec) {
  py::list result;
  for (const WeightInfo& weight : weight_table(spec_from_json(spec))) {
    py::tuple shape(weight.shape.size());
    for (size_t i = 0; i < weight.shape.size(); ++i) shape[i] = weight.shape[i];
    result.append(py::make_tuple(weight.name, shape, weight.is_matrix));
  }
  return result;
}

}  // namespace

void bind_spec(py::module_& module) {
  module.def(
      "validate_spec", [](const std::string& spec) { return spec_to_json(spec_from_json(spec)); },
      py::arg("spec"),
      "The JSON text of a spec with every field, after checking it. Raises ValueError.");
  module.def(
      "weight_table", &table, py::arg("spec"),
      "(name, shape, is_matrix) of every weight that a spec, given as JSON text, calls for.");
}

}  // namespace fuseq::bindings
