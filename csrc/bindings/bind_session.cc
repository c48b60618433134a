// SPDX-License-Identifier: Apache-2.0
// Session, generate and score: ids to ids.
#include "fuseq/session.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "convert.h"
#include "fuseq/error.h"
#include "fuseq/generate.h"

namespace fuseq::bindings {
namespace {

using Ids = std::vector<int32_t>;

/// A prompt that owns its ids.
struct OwnedPrompt {
  Ids encoder_ids;
  Ids decoder_ids;
  std::optional<Array> encoder_states;
  std::optional<uint64_t> seed;
  int64_t sequence = -1;
  [[nodiscard]] Prompt view() const {
    return {.encoder_ids = encoder_ids,
            .decoder_ids = decoder_ids,
            .encoder_states = view_or_empty(encoder_states),
            .seed = seed,
            .sequence = sequence};
  }
};

/// A Prompt, or ids alone: the source of a model with an encoder, the prompt of one without.
OwnedPrompt to_prompt(const Model& model, py::handle object, const std::string& argument) {
  if (py::isinstance<OwnedPrompt>(object)) return object.cast<OwnedPrompt>();
  OwnedPrompt prompt;
  (model.spec().is_seq2seq() ? prompt.encoder_ids : prompt.decoder_ids) = to_ids(object, argument);
  return prompt;
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

/// Ids of several rows, and spans of them.
struct IdLists {
  IdLists(py::handle objects, const std::string& argument) {
    for (const py::handle object : py::iter(objects)) {
      owned.push_back(to_ids(object, argument + "[" + std::to_string(owned.size()) + "]"));
    }
    views.assign(owned.begin(), owned.end());
  }
  std::vector<Ids> owned;
  std::vector<std::span<const int32_t>> views;
};

/// on_token(row, id, text) -> truth as an OnToken; empty for None. `function` must outlive it.
OnToken to_on_token(const py::object& function) {
  if (function.is_none()) return {};
  if (PyCallable_Check(function.ptr()) == 0) {
    throw py::type_error("on_token: must be a function of row, id and text, got " +
                         describe_type(function));
  }
  return [&function](const NewToken& token) {
    const py::gil_scoped_acquire gil;
    const auto answer =
        function(token.row, token.id, py::str(token.text.data(), token.text.size()));
    const int truth = PyObject_IsTrue(answer.ptr());
    if (truth < 0) throw py::error_already_set();
    return truth == 1;
  };
}

std::vector<std::vector<Hypothesis>> run_generate(const Model& model, py::handle objects,
                                                  const std::optional<GenerationOptions>& options,
                                                  int max_batch_size, const py::object& on_token) {
  const std::vector<OwnedPrompt> prompts = to_prompts(model, objects);
  const std::vector<Prompt> views = views_of(prompts);
  CallOptions call{.max_batch_size = max_batch_size, .on_token = to_on_token(on_token)};
  // Ctrl-C ends the call: the exception travels through the engine, which stays usable.
  call.interrupted = [] {
    const py::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    return false;
  };
  const py::gil_scoped_release no_gil;
  return generate(model, views, options.value_or(GenerationOptions()), call);
}

/// One float32 array per prompt.
py::list to_arrays(const std::vector<std::vector<float>>& rows) {
  py::list arrays;
  for (const std::vector<float>& row : rows) {
    arrays.append(py::array_t<float>(static_cast<py::ssize_t>(row.size()), row.data()));
  }
  return arrays;
}

/// score(prompts, targets) of a session or a model.
template <typename Score>
py::list run_score(const Model& model, py::handle objects, const py::object& targets,
                   const Score& score) {
  const std::vector<OwnedPrompt> prompts = to_prompts(model, objects);
  const IdLists lists(targets.is_none() ? py::object(py::tuple()) : targets, "targets");
  if (!targets.is_none() && lists.views.size() != prompts.size()) {
    throw py::value_error("score: targets must be as many as prompts, " +
                          std::to_string(prompts.size()) + ", got " +
                          std::to_string(lists.views.size()));
  }
  const std::vector<Prompt> views = views_of(prompts);
  std::vector<std::vector<float>> rows;
  {
    const py::gil_scoped_release no_gil;
    rows = score(views, lists.views);
  }
  return to_arrays(rows);
}

const char* name_of(StopReason reason) {
  switch (reason) {
    case StopReason::stop_id: return "stop_id";
    case StopReason::max_length: return "max_length";
    case StopReason::canceled: return "canceled";
    case StopReason::stop_string: return "stop_string";
    case StopReason::callback: return "callback";
  }
  return "unknown";
}

void bind_values(py::module_& module) {
  py::class_<OwnedPrompt>(module, "Prompt", "What one request starts from.")
      .def(py::init([](const py::object& encoder_ids, const py::object& decoder_ids,
                       const py::object& encoder_states, std::optional<uint64_t> seed,
                       std::optional<int64_t> sequence) {
             OwnedPrompt prompt{.encoder_ids = to_ids(encoder_ids, "encoder_ids"),
                                .decoder_ids = to_ids(decoder_ids, "decoder_ids"),
                                .seed = seed,
                                .sequence = sequence.value_or(-1)};
             if (!encoder_states.is_none()) {
               prompt.encoder_states = borrow(encoder_states, "encoder_states");
             }
             return prompt;
           }),
           py::arg("encoder_ids") = py::tuple(), py::arg("decoder_ids") = py::tuple(),
           py::kw_only(), py::arg("encoder_states") = py::none(), py::arg("seed") = py::none(),
           py::arg("sequence") = py::none())
      .def_readonly("encoder_ids", &OwnedPrompt::encoder_ids,
                    "The source; empty for a model without an encoder.")
      .def_readonly("decoder_ids", &OwnedPrompt::decoder_ids,
                    "The decoder's prompt; empty: the model's start id.")
      .def_readonly("encoder_states", &OwnedPrompt::encoder_states,
                    "Encoder states [S, D] instead of encoder_ids, or None.")
      .def_readonly("seed", &OwnedPrompt::seed, "Instead of the options' seed, or None.")
      .def_property_readonly(
          "sequence",
          [](const OwnedPrompt& self) {
            return self.sequence < 0 ? std::nullopt : std::optional(self.sequence);
          },
          "The place in the list that draws depend on, or None for the real one.");
  py::class_<Hypothesis>(module, "Hypothesis", "One generated row.")
      .def_readonly("ids", &Hypothesis::ids, "The whole decoder row, prompt included.")
      .def_readonly("prompt_length", &Hypothesis::prompt_length, "Ids of the prompt.")
      .def_readonly("score", &Hypothesis::score,
                    "Beams: transformers' sequences_scores; else with return_scores the sum of "
                    "token_log_probs, without it 0.")
      .def_readonly("token_log_probs", &Hypothesis::token_log_probs,
                    "With return_scores: the model's own log-probability of each new id.")
      .def_property_readonly(
          "stop_reason", [](const Hypothesis& self) { return name_of(self.stop_reason); },
          "\"stop_id\", \"stop_string\", \"max_length\", \"callback\" or \"canceled\".")
      .def("__repr__", [](const Hypothesis& self) {
        return "Hypothesis(ids=" + py::repr(py::cast(self.ids)).cast<std::string>() +
               ", score=" + py::repr(py::float_(self.score)).cast<std::string>() +
               ", stop_reason=\"" + name_of(self.stop_reason) + "\")";
      });
}

CacheKind to_cache_kind(const std::string& text) {
  if (text == "self_attention") return CacheKind::self_attention;
  if (text == "cross_attention") return CacheKind::cross_attention;
  throw Error(ErrorKind::value,
              "kind: must be self_attention or cross_attention, got \"" + text + "\"");
}

/// Runs `compute(hidden or null) -> logits` without the interpreter's lock.
template <typename Compute>
py::object with_hidden(bool return_hidden, const Compute& compute) {
  Tensor hidden;
  Tensor logits;
  {
    const py::gil_scoped_release no_gil;
    logits = compute(return_hidden ? &hidden : nullptr);
  }
  if (!return_hidden) return py::cast(own(std::move(logits)));
  return py::make_tuple(own(std::move(logits)), own(std::move(hidden)));
}

using Requests = py::class_<Session>;

void bind_requests(Requests& session) {
  session
      .def(py::init([](const std::shared_ptr<Model>& model, const std::optional<int>& num_threads,
                       int max_rows, const std::optional<std::string>& cache_dtype) {
             SessionOptions options{.num_threads = num_threads.value_or(0), .max_rows = max_rows};
             if (cache_dtype) options.cache_dtype = to_dtype(*cache_dtype, "cache_dtype");
             const py::gil_scoped_release no_gil;
             return std::make_unique<Session>(model, options);
           }),
           py::arg("model"), py::kw_only(), py::arg("num_threads") = py::none(),
           py::arg("max_rows") = SessionOptions().max_rows, py::arg("cache_dtype") = py::none())
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
      .def(
          "step",
          [](Session& self, const py::object& on_token) {
            const OnToken function = to_on_token(on_token);
            const py::gil_scoped_release no_gil;
            return self.step(function);
          },
          py::arg("on_token") = py::none(),
          "Adds one token to every running row; returns whether anything is left to do.")
      .def("ids", &Session::ids, py::arg("request"), py::arg("draw") = 0,
           "The row so far of a request that is no beam search.")
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
            const IdLists lists(sources, "sources");
            const py::gil_scoped_release no_gil;
            return own(self.encode(lists.views));
          },
          py::arg("sources"), "Encoder states [sum of lengths, D] of the sources, rows packed.")
      .def(
          "forward",
          [](Session& self, const py::object& prompts, bool return_hidden) {
            const std::vector<OwnedPrompt> owned = to_prompts(self.model(), prompts);
            const std::vector<Prompt> views = views_of(owned);
            return with_hidden(return_hidden,
                               [&](Tensor* hidden) { return self.forward(views, hidden); });
          },
          py::arg("prompts"), py::kw_only(), py::arg("return_hidden") = false,
          "Logits [sum of decoder lengths, V] of whole rows, rows packed; with return_hidden also "
          "the decoder's last states [sum, D].")
      .def(
          "score",
          [](Session& self, const py::object& prompts, const py::object& targets) {
            return run_score(self.model(), prompts, targets,
                             [&](auto p, auto t) { return self.score(p, t); });
          },
          py::arg("prompts"), py::arg("targets") = py::none(),
          "Log-probabilities of targets, by default each row's own next ids, one array per prompt.")
      .def(
          "open",
          [](Session& self, const py::object& source, int max_length) {
            const OwnedPrompt prompt =
                py::isinstance<OwnedPrompt>(source)
                    ? source.cast<OwnedPrompt>()
                    : OwnedPrompt{.encoder_ids = to_ids(source, "encoder_ids")};
            const py::gil_scoped_release no_gil;
            return self.open(prompt.view(), max_length);
          },
          py::arg("source"), py::arg("max_length"),
          "Opens a cached sequence for `extend` and returns its number; source: encoder ids or a "
          "Prompt, () without an encoder.")
      .def(
          "extend",
          [](Session& self, RequestId sequence, const py::object& ids, bool return_hidden) {
            const Ids owned = to_ids(ids, "ids");
            return with_hidden(return_hidden, [&](Tensor* hidden) {
              return self.extend(sequence, owned, hidden);
            });
          },
          py::arg("sequence"), py::arg("ids"), py::kw_only(), py::arg("return_hidden") = false,
          "Appends ids to an open sequence and returns their logits [T, V]; with return_hidden "
          "also the decoder's last states [T, D].")
      .def("length", &Session::length, py::arg("sequence"), "Positions filled so far.")
      .def("set_length", &Session::set_length, py::arg("sequence"), py::arg("length"),
           "Where the next `extend` appends: fewer positions forgets some.")
      .def(
          "read_cache",
          [](Session& self, RequestId sequence, const std::string& kind) {
            const py::gil_scoped_release no_gil;
            return own(self.read_cache(sequence, to_cache_kind(kind)));
          },
          py::arg("sequence"), py::arg("kind"),
          "Keys and values [L, 2, S, G, E] of \"self_attention\" or \"cross_attention\".")
      .def(
          "write_cache",
          [](Session& self, RequestId sequence, const std::string& kind, const py::object& cache) {
            const Array array = borrow(cache, "cache");
            const py::gil_scoped_release no_gil;
            self.write_cache(sequence, to_cache_kind(kind), array.view);
          },
          py::arg("sequence"), py::arg("kind"), py::arg("cache"), "The reverse of `read_cache`.")
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
         const std::optional<GenerationOptions>& options, std::optional<int> max_batch_size,
         const py::object& on_token) {
        return run_generate(*model, prompts, options, max_batch_size.value_or(0), on_token);
      },
      py::arg("model"), py::arg("prompts"), py::arg("options") = py::none(), py::kw_only(),
      py::arg("max_batch_size") = py::none(), py::arg("on_token") = py::none(),
      "num_return_sequences hypotheses for every prompt, in the order of the prompts.");
  module.def(
      "score",
      [](const std::shared_ptr<Model>& model, const py::object& prompts,
         const py::object& targets) {
        return run_score(*model, prompts, targets,
                         [&](auto p, auto t) { return score(*model, p, t); });
      },
      py::arg("model"), py::arg("prompts"), py::arg("targets") = py::none(),
      "Log-probabilities of targets, by default each row's own next ids, one array per prompt.");
}

}  // namespace fuseq::bindings
