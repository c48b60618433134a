// SPDX-License-Identifier: Apache-2.0
// Session and generate: ids to ids.
#include "fuseq/session.h"

#include <pybind11/stl.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "convert.h"
#include "fuseq/generate.h"

namespace fuseq::bindings {
namespace {

using Ids = std::vector<int32_t>;

/// A prompt that owns its ids.
struct OwnedPrompt {
  Ids encoder_ids;
  Ids decoder_ids;
  [[nodiscard]] Prompt view() const { return {encoder_ids, decoder_ids}; }
};

/// A Prompt, or ids alone: the source of a model with an encoder, the prompt of one without.
OwnedPrompt to_prompt(const Model& model, py::handle object, const std::string& argument) {
  if (py::isinstance<OwnedPrompt>(object)) return object.cast<OwnedPrompt>();
  Ids ids = to_ids(object, argument);
  if (model.spec().is_seq2seq()) return {.encoder_ids = std::move(ids)};
  return {.decoder_ids = std::move(ids)};
}

std::vector<OwnedPrompt> to_prompts(const Model& model, py::handle objects) {
  if (py::isinstance<py::str>(objects) || !py::isinstance<py::iterable>(objects)) {
    throw py::type_error("prompts: must be a list of prompts, got " + describe_type(objects));
  }
  std::vector<OwnedPrompt> prompts;
  for (const py::handle object : py::iter(objects)) {
    prompts.push_back(to_prompt(model, object, "prompts[" + std::to_string(prompts.size()) + "]"));
  }
  return prompts;
}

std::vector<Prompt> views_of(const std::vector<OwnedPrompt>& prompts) {
  std::vector<Prompt> views;
  for (const OwnedPrompt& prompt : prompts) views.push_back(prompt.view());
  return views;
}

const char* name_of(StopReason reason) {
  switch (reason) {
    case StopReason::stop_id: return "stop_id";
    case StopReason::max_length: return "max_length";
    case StopReason::canceled: return "canceled";
  }
  return "unknown";
}

std::vector<std::vector<Hypothesis>> run(const Model& model, py::handle objects,
                                         const std::optional<GenerationOptions>& options) {
  const std::vector<OwnedPrompt> prompts = to_prompts(model, objects);
  const std::vector<Prompt> views = views_of(prompts);
  // Ctrl-C ends the call: the exception travels through the engine, which stays usable.
  const auto interrupted = [] {
    const py::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    return false;
  };
  const py::gil_scoped_release no_gil;
  return generate(model, views, options.value_or(GenerationOptions()), interrupted);
}

void bind_values(py::module_& module) {
  py::class_<OwnedPrompt>(module, "Prompt", "What one request starts from.")
      .def(py::init([](const py::object& encoder_ids, const py::object& decoder_ids) {
             return OwnedPrompt{to_ids(encoder_ids, "encoder_ids"),
                                to_ids(decoder_ids, "decoder_ids")};
           }),
           py::arg("encoder_ids") = py::tuple(), py::arg("decoder_ids") = py::tuple())
      .def_readonly("encoder_ids", &OwnedPrompt::encoder_ids,
                    "The source; empty for a model without an encoder.")
      .def_readonly("decoder_ids", &OwnedPrompt::decoder_ids,
                    "The decoder's prompt; empty: the model's start id.");
  py::class_<Hypothesis>(module, "Hypothesis", "One generated row.")
      .def_readonly("ids", &Hypothesis::ids, "The whole decoder row, prompt included.")
      .def_readonly("score", &Hypothesis::score, "Beam search: its score; greedy: 0.")
      .def_property_readonly(
          "stop_reason", [](const Hypothesis& self) { return name_of(self.stop_reason); },
          "\"stop_id\", \"max_length\" or \"canceled\".")
      .def("__repr__", [](const Hypothesis& self) {
        return "Hypothesis(ids=" + py::repr(py::cast(self.ids)).cast<std::string>() +
               ", score=" + py::repr(py::float_(self.score)).cast<std::string>() +
               ", stop_reason=\"" + name_of(self.stop_reason) + "\")";
      });
}

using Requests = py::class_<Session>;

void bind_requests(Requests& session) {
  session
      .def(py::init([](const std::shared_ptr<Model>& model, const std::optional<int>& num_threads,
                       int max_rows) {
             const py::gil_scoped_release no_gil;
             return std::make_unique<Session>(
                 model,
                 SessionOptions{.num_threads = num_threads.value_or(0), .max_rows = max_rows});
           }),
           py::arg("model"), py::kw_only(), py::arg("num_threads") = py::none(),
           py::arg("max_rows") = SessionOptions().max_rows)
      .def(
          "submit",
          [](Session& self, const py::object& prompt,
             const std::optional<GenerationOptions>& options) {
            const OwnedPrompt owned = to_prompt(self.model(), prompt, "prompt");
            const py::gil_scoped_release no_gil;
            return self.submit(owned.view(), options.value_or(GenerationOptions()));
          },
          py::arg("prompt"), py::arg("options") = py::none(),
          "Queues a request and returns its number.")
      .def("step", &Session::step, py::call_guard<py::gil_scoped_release>(),
           "Adds one token to every running row; returns whether anything is left to do.")
      .def("cancel", &Session::cancel, py::arg("request"), py::call_guard<py::gil_scoped_release>(),
           "Ends a request; its result is what was generated so far.")
      .def("is_finished", &Session::is_finished, py::arg("request"),
           "Whether `take` would give this request's result.")
      .def("take", &Session::take, py::arg("request"),
           "The finished request's hypotheses, best first; forgets the request.");
}

void bind_states(Requests& session) {
  session
      .def(
          "encode",
          [](Session& self, const py::iterable& sources) {
            std::vector<Ids> owned;
            for (const py::handle source : sources) {
              owned.push_back(to_ids(source, "sources[" + std::to_string(owned.size()) + "]"));
            }
            const std::vector<std::span<const int32_t>> views(owned.begin(), owned.end());
            const py::gil_scoped_release no_gil;
            return own(self.encode(views));
          },
          py::arg("sources"), "Encoder states [sum of lengths, D] of the sources, rows packed.")
      .def(
          "forward",
          [](Session& self, const py::object& prompts) {
            const std::vector<OwnedPrompt> owned = to_prompts(self.model(), prompts);
            const std::vector<Prompt> views = views_of(owned);
            const py::gil_scoped_release no_gil;
            return own(self.forward(views));
          },
          py::arg("prompts"), "Logits [sum of decoder lengths, V] of whole rows, rows packed.")
      .def(
          "open",
          [](Session& self, const py::object& encoder_ids, int max_length) {
            const Ids ids = to_ids(encoder_ids, "encoder_ids");
            const py::gil_scoped_release no_gil;
            return self.open(ids, max_length);
          },
          py::arg("encoder_ids"), py::arg("max_length"),
          "Opens a cached sequence for `extend` and returns its number.")
      .def(
          "extend",
          [](Session& self, RequestId sequence, const py::object& ids) {
            const Ids owned = to_ids(ids, "ids");
            const py::gil_scoped_release no_gil;
            return own(self.extend(sequence, owned));
          },
          py::arg("sequence"), py::arg("ids"),
          "Appends ids to an open sequence and returns their logits.")
      .def("close", &Session::close, py::arg("sequence"), "Ends an open sequence.")
      .def("release_memory", &Session::release_memory, py::call_guard<py::gil_scoped_release>(),
           "Gives caches and scratch memory of idle requests back to the system.")
      .def_property_readonly("cache_bytes", &Session::cache_bytes, "Bytes held in caches.");
}

}  // namespace

void bind_session(py::module_& module) {
  bind_values(module);
  Requests session(module, "Session",
                   "A model, threads, caches and slots; one thread uses it at a time.");
  bind_requests(session);
  bind_states(session);
  module.def(
      "generate",
      [](const std::shared_ptr<Model>& model, const py::object& prompts,
         const std::optional<GenerationOptions>& options) { return run(*model, prompts, options); },
      py::arg("model"), py::arg("prompts"), py::arg("options") = py::none(),
      "num_return_sequences hypotheses for every prompt, in the order of the prompts.");
}

}  // namespace fuseq::bindings
