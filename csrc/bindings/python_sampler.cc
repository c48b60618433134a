// SPDX-License-Identifier: Apache-2.0
// From probabilities to ids by way of Python.
#include "python_sampler.h"

#include <pybind11/numpy.h>

#include <algorithm>
#include <string>
#include <vector>

namespace fuseq::bindings {

PythonSampler::~PythonSampler() {
  if (Py_IsInitialized() == 0) {
    (void)function_.release();  // nothing is left to give it back to
    return;
  }
  const py::gil_scoped_acquire gil;
  function_ = py::object();
}

void PythonSampler::choose(ConstView probabilities, std::span<int32_t> ids) {
  const py::gil_scoped_acquire gil;
  // A copy: the function may keep it.
  const py::array_t<float> array({probabilities.dim(0), probabilities.dim(1)},
                                 probabilities.as<float>());
  const std::vector<int32_t> chosen = to_ids(function_(array), "sampler");
  if (chosen.size() != ids.size()) {
    throw py::value_error("sampler: must return " + std::to_string(ids.size()) + " ids, got " +
                          std::to_string(chosen.size()));
  }
  std::ranges::copy(chosen, ids.begin());
}

}  // namespace fuseq::bindings
