// SPDX-License-Identifier: Apache-2.0
// Search: decoding for logits that Python computes.
#include "fuseq/search.h"

#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>

#include "convert.h"

namespace fuseq::bindings {

void bind_search(py::module_& module) {
  py::class_<Search::Row>(module, "SearchRow", "A row that wants logits for its next id.")
      .def_readonly("request", &Search::Row::request, "The request's number.")
      .def_readonly("index", &Search::Row::index, "Row within the request.")
      .def_readonly("parent", &Search::Row::parent,
                    "Row within the request whose past, but for the last id, this one has.")
      .def_readonly("id", &Search::Row::id, "The last id.")
      .def_readonly("length", &Search::Row::length, "Ids so far.");
  py::class_<Search>(module, "Search",
                     "Every sampler, rule and stop test for logits that come from anywhere.")
      .def(py::init([](int vocab, const std::optional<int>& num_threads, int max_rows) {
             return std::make_unique<Search>(
                 vocab,
                 SessionOptions{.num_threads = num_threads.value_or(0), .max_rows = max_rows});
           }),
           py::arg("vocab"), py::kw_only(), py::arg("num_threads") = py::none(),
           py::arg("max_rows") = SessionOptions().max_rows)
      .def(
          "add",
          [](Search& self, const py::object& prompt,
             const std::optional<GenerationOptions>& options, std::optional<uint64_t> seed,
             int64_t sequence) {
            return self.add(to_ids(prompt, "prompt"), options.value_or(GenerationOptions()), seed,
                            sequence);
          },
          py::arg("prompt"), py::arg("options") = py::none(), py::kw_only(),
          py::arg("seed") = py::none(), py::arg("sequence") = 0,
          "Starts a request and returns its number.")
      .def("rows", &Search::rows, "The rows of the next step.")
      .def(
          "step",
          [](Search& self, const py::object& logits) {
            const Array array = borrow(logits, "logits");
            const py::gil_scoped_release no_gil;
            self.step(array.view);
          },
          py::arg("logits"), "Adds one id to every row, given logits [len(rows()), V].")
      .def("ids", &Search::ids, py::arg("request"), py::arg("row") = 0,
           "A row of a running request so far.")
      .def("cancel", &Search::cancel, py::arg("request"), py::call_guard<py::gil_scoped_release>(),
           "Ends a request; its result is what was generated so far.")
      .def("is_finished", &Search::is_finished, py::arg("request"),
           "Whether `take` would give this request's result.")
      .def("take", &Search::take, py::arg("request"),
           "The finished request's hypotheses, best first; forgets the request.");
}

}  // namespace fuseq::bindings
