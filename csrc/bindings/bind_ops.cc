// SPDX-License-Identifier: Apache-2.0
// The fused ops on borrowed arrays; python/fuseq/ops.py is their pleasant face.
#include "fuseq/ops.h"

#include <pybind11/stl.h>

#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "convert.h"

namespace fuseq::bindings {
namespace {

constexpr std::array<std::pair<std::string_view, Activation>, 6> kActivations{
    {{"none", Activation::none},
     {"relu", Activation::relu},
     {"gelu", Activation::gelu},
     {"gelu_tanh", Activation::gelu_tanh},
     {"silu", Activation::silu},
     {"tanh", Activation::tanh}}};

Activation to_activation(const std::string& text) {
  for (const auto& [word, activation] : kActivations) {
    if (word == text) return activation;
  }
  throw py::value_error("activation: must be none, relu, gelu, gelu_tanh, silu or tanh, got \"" +
                        text + "\"");
}

Norm to_norm(const std::string& text) {
  if (text == "layer") return Norm::layer;
  if (text == "rms") return Norm::rms;
  if (text == "rms_plus_one") return Norm::rms_plus_one;
  throw py::value_error("kind: must be layer, rms or rms_plus_one, got \"" + text + "\"");
}

void run_norm(Context& ctx, const std::string& kind, const Array& x, const Array& gamma,
              const std::optional<Array>& beta, float eps, const std::optional<Array>& residual,
              const Array& out) {
  const NormArgs args{.kind = to_norm(kind),
                      .x = x.view,
                      .residual = view_or_empty(residual),
                      .gamma = gamma.view,
                      .beta = view_or_empty(beta),
                      .eps = eps,
                      .y = writable(out, "out")};
  const py::gil_scoped_release no_gil;
  norm(ctx, args);
}

void run_linear(Context& ctx, const Array& x, const PackedMatrix& weight,
                const std::optional<Array>& bias, const std::string& activation,
                const std::optional<Array>& gate, const std::optional<Array>& residual,
                const Array& out) {
  const LinearArgs args{.x = x.view,
                        .w = &weight,
                        .bias = view_or_empty(bias),
                        .act = to_activation(activation),
                        .gate = view_or_empty(gate),
                        .residual = view_or_empty(residual),
                        .y = writable(out, "out")};
  const py::gil_scoped_release no_gil;
  linear(ctx, args);
}

void run_attention(Context& ctx, const Array& q, const Array& k, const Array& v,
                   const std::optional<Array>& lengths, bool causal, int64_t window, float scale,
                   float cap, const Array& out) {
  const DenseAttentionArgs args{.q = q.view,
                                .k = k.view,
                                .v = v.view,
                                .lengths = view_or_empty(lengths),
                                .causal = causal,
                                .window = window,
                                .scale = scale,
                                .score_cap = cap,
                                .out = writable(out, "out")};
  const py::gil_scoped_release no_gil;
  dense_attention(ctx, args);
}

PackedMatrix run_pack(Context& ctx, const Array& weight, const std::string& dtype) {
  if (weight.view.rank() != 2) {
    throw py::value_error("pack: weight must have shape [O, I], got " +
                          weight.view.shape.to_string());
  }
  const DType type = to_dtype(dtype);
  const py::gil_scoped_release no_gil;
  PackedMatrix matrix(type, weight.view.dim(0), weight.view.dim(1));
  pack(ctx, weight.view, matrix);
  return matrix;
}

std::vector<int32_t> run_sample(Context& ctx, const Array& logits, float temperature, int32_t top_k,
                                float top_p, float min_p, bool top_p_of_all, uint64_t seed,
                                int64_t sequence, uint32_t draw, uint32_t step) {
  std::vector<int32_t> ids(logits.view.rank() > 0 ? static_cast<size_t>(logits.view.dim(0)) : 0);
  const SampleArgs args{.logits = logits.view,
                        .temperature = temperature,
                        .top_k = top_k,
                        .top_p = top_p,
                        .min_p = min_p,
                        .top_p_of_all = top_p_of_all,
                        .seed = seed,
                        .sequence = sequence,
                        .sample = draw,
                        .step = step,
                        .ids = ids};
  const py::gil_scoped_release no_gil;
  sample(ctx, args);
  return ids;
}

}  // namespace

void bind_ops(py::module_& module) {
  py::class_<Context>(module, "Context",
                      "Threads and scratch memory; one thread uses it at a time.")
      .def(py::init([](const std::optional<int>& num_threads, const std::string& cpu_isa) {
             return Context(
                 {.num_threads = num_threads.value_or(0), .cpu_isa = to_cpu_isa(cpu_isa)});
           }),
           py::kw_only(), py::arg("num_threads") = py::none(), py::arg("cpu_isa") = "automatic")
      .def_property_readonly("num_threads", &Context::num_threads, "Threads, the caller included.")
      .def_property_readonly(
          "cpu_isa", [](const Context& self) { return to_string(self.cpu_isa()); },
          "\"avx512\", \"avx2\" or \"portable\".")
      .def("release_memory", &Context::release_memory, "Gives scratch memory back to the system.");
  py::class_<PackedMatrix>(module, "PackedMatrix", "A matrix [O, I] in the engine's layout.")
      .def_property_readonly(
          "shape",
          [](const PackedMatrix& self) { return py::make_tuple(self.outputs(), self.inputs()); },
          "(O, I)")
      .def_property_readonly(
          "dtype", [](const PackedMatrix& self) { return std::string(name(self.dtype())); },
          "\"float32\", \"bfloat16\" or \"int8\".");
  module.def("pack", &run_pack, py::arg("context"), py::arg("weight"), py::arg("dtype"),
             "Packs a matrix [O, I], rounding to float32, bfloat16 or int8.");
  module.def("norm", &run_norm, py::arg("context"), py::arg("kind"), py::arg("x"), py::arg("gamma"),
             py::arg("beta"), py::arg("eps"), py::arg("residual"), py::arg("out"),
             "out = norm(x + residual) * gamma + beta for rows [N, D].");
  module.def("linear", &run_linear, py::arg("context"), py::arg("x"), py::arg("weight"),
             py::arg("bias"), py::arg("activation"), py::arg("gate"), py::arg("residual"),
             py::arg("out"), "out = activation(x W^T + bias) * gate + residual for rows [N, I].");
  module.def("attention", &run_attention, py::arg("context"), py::arg("q"), py::arg("k"),
             py::arg("v"), py::arg("lengths"), py::arg("causal"), py::arg("window"),
             py::arg("scale"), py::arg("cap"), py::arg("out"),
             "out = softmax(scale * q k^T) v on dense arrays.");
  module.def(
      "log_softmax",
      [](Context& ctx, const Array& x, const Array& out) {
        const View y = writable(out, "out");
        const py::gil_scoped_release no_gil;
        log_softmax(ctx, x.view, y);
      },
      py::arg("context"), py::arg("x"), py::arg("out"), "log(softmax(x)) for rows [N, V].");
  module.def("sample", &run_sample, py::arg("context"), py::arg("logits"), py::arg("temperature"),
             py::arg("top_k"), py::arg("top_p"), py::arg("min_p"), py::arg("top_p_of_all"),
             py::arg("seed"), py::arg("sequence"), py::arg("draw"), py::arg("step"),
             "One drawn id for every row [N, V] of scores.");
}

}  // namespace fuseq::bindings
