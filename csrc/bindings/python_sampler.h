// SPDX-License-Identifier: Apache-2.0
// PythonSampler: a Python function as a TokenSampler.
#pragma once

#include "convert.h"
#include "fuseq/token_sampler.h"

namespace fuseq::bindings {

/// Takes the interpreter's lock for each call, and for the end of the function's life.
class PythonSampler final : public TokenSampler {
 public:
  explicit PythonSampler(py::object function) : function_(std::move(function)) {}
  ~PythonSampler() override;
  PythonSampler(const PythonSampler&) = delete;
  PythonSampler& operator=(const PythonSampler&) = delete;

  /// Calls function(probabilities as a numpy array [B, V]); it must return B ids.
  void choose(ConstView probabilities, std::span<int32_t> ids) override;
  [[nodiscard]] py::object function() const { return function_; }

 private:
  py::object function_;
};

}  // namespace fuseq::bindings
