// SPDX-License-Identifier: Apache-2.0
// fuseq._core: the engine as a Python module.
#include <exception>

#include "convert.h"
#include "fuseq/error.h"
#include "fuseq/version.h"

namespace fuseq::bindings {
namespace {

PyObject* exception_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::value:
    case ErrorKind::format: return PyExc_ValueError;
    case ErrorKind::type: return PyExc_TypeError;
    case ErrorKind::not_found: return PyExc_FileNotFoundError;
    case ErrorKind::io: return PyExc_OSError;
    case ErrorKind::unsupported:
    case ErrorKind::runtime: return PyExc_RuntimeError;
  }
  return PyExc_RuntimeError;
}

void translate(std::exception_ptr pointer) {
  try {
    std::rethrow_exception(pointer);
  } catch (const Error& error) {
    PyErr_SetString(exception_of(error.kind()), error.what());
  }
}

}  // namespace
}  // namespace fuseq::bindings

PYBIND11_MODULE(_core, module) {
  using namespace fuseq::bindings;
  module.doc() = "The engine of fuseq: token ids in, token ids out.";
  pybind11::register_local_exception_translator(&translate);
  module.attr("__version__") = fuseq::version();
  bind_tensor(module);
  bind_files(module);
  bind_spec(module);
  bind_model(module);
  bind_options(module);
  bind_session(module);
  bind_search(module);
  bind_ops(module);
}
