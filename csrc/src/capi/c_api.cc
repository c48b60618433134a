// SPDX-License-Identifier: Apache-2.0
// The plain C door: reads C structs, calls the C++ interface, turns exceptions into codes.
#include "fuseq/c_api.h"

#include <exception>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "capi/read_structs.h"
#include "fuseq/fuseq.h"

struct fuseq_model {
  std::shared_ptr<const fuseq::Model> model;
};

struct fuseq_result {
  std::vector<std::vector<fuseq::Hypothesis>> rows;
};

struct fuseq_scores {
  std::vector<std::vector<float>> values;
};

namespace fuseq::inline v0 {
namespace {

std::string& last_error() noexcept {
  thread_local std::string message;
  return message;
}

int remember(int code, const char* message) noexcept {
  try {
    last_error() = message;
  } catch (const std::exception&) {
    last_error().clear();  // no memory for the message; the code still tells the kind
  }
  return code;
}

int code_of(ErrorKind kind) noexcept {
  switch (kind) {
    case ErrorKind::value: return FUSEQ_ERROR_VALUE;
    case ErrorKind::type: return FUSEQ_ERROR_TYPE;
    case ErrorKind::not_found: return FUSEQ_ERROR_NOT_FOUND;
    case ErrorKind::format: return FUSEQ_ERROR_FORMAT;
    case ErrorKind::io: return FUSEQ_ERROR_IO;
    case ErrorKind::unsupported: return FUSEQ_ERROR_UNSUPPORTED;
    case ErrorKind::runtime: return FUSEQ_ERROR_RUNTIME;
  }
  return FUSEQ_ERROR_RUNTIME;
}

template <typename Work>
int guarded(const char* call, const Work& work) noexcept {
  try {
    work();
    return FUSEQ_OK;
  } catch (const Error& error) {
    return remember(code_of(error.kind()), error.what());
  } catch (const std::bad_alloc&) {
    return remember(FUSEQ_ERROR_RUNTIME, "out of memory");
  } catch (const std::exception& error) {
    return remember(FUSEQ_ERROR_RUNTIME, error.what());
  } catch (...) {
    return remember(FUSEQ_ERROR_RUNTIME, call);
  }
}

int generate_rows(const fuseq_model* model, const fuseq_prompt* prompts, size_t num_prompts,
                  const fuseq_generation_options* options, const fuseq_call_options* call_options,
                  fuseq_result** result, const char* call) noexcept {
  return guarded(call, [&] {
    require_pointer(result, call, "result");
    *result = nullptr;
    require_pointer(model, call, "model");
    const Model& loaded = *model->model;
    const auto read = read_prompts(prompts, num_prompts, loaded.spec(), call);
    auto rows = generate(loaded, read, read_generation_options(options, call),
                         read_call_options(call_options, call));
    *result = std::make_unique<fuseq_result>(fuseq_result{std::move(rows)}).release();
  });
}

template <typename T>
const T& element_of(const std::vector<T>& elements, size_t index, const char* call,
                    const char* name) {
  require(index < elements.size(), std::string(call) + ": " + name + " must be below " +
                                       std::to_string(elements.size()) + ", got " +
                                       std::to_string(index));
  return elements[index];
}

const std::vector<Hypothesis>& rows_of(const fuseq_result* result, size_t prompt,
                                       const char* call) {
  require_pointer(result, call, "result");
  return element_of(result->rows, prompt, call, "prompt");
}

const Hypothesis& row_of(const fuseq_result* result, size_t prompt, size_t sequence,
                         const char* call) {
  return element_of(rows_of(result, prompt, call), sequence, call, "sequence");
}

/// Lends an array to the caller.
template <typename T>
void give(const std::vector<T>& array, const char* call, const std::string& name, const T** data,
          size_t* count) {
  require_pointer(data, call, name.c_str());
  require_pointer(count, call, ("num_" + name).c_str());
  *data = array.data();
  *count = array.size();
}

template <typename Struct>
int init_struct(Struct* options, size_t size, const Struct& defaults, const char* call) noexcept {
  return guarded(call, [&] {
    require_pointer(options, call, "options");
    require_struct_size<Struct>(size, call, "options");
    write_struct(defaults, options, size);
  });
}

}  // namespace
}  // namespace fuseq::inline v0

extern "C" {

const char* fuseq_version(void) {
  return fuseq::version();
}

const char* fuseq_last_error(void) {
  return fuseq::last_error().c_str();
}

int fuseq_model_options_init(fuseq_model_options* options, size_t struct_size) {
  return fuseq::init_struct(options, struct_size, fuseq::default_model_options(),
                            "fuseq_model_options_init");
}

int fuseq_generation_options_init(fuseq_generation_options* options, size_t struct_size) {
  return fuseq::init_struct(options, struct_size, fuseq::default_generation_options(),
                            "fuseq_generation_options_init");
}

int fuseq_call_options_init(fuseq_call_options* options, size_t struct_size) {
  return fuseq::init_struct(options, struct_size, fuseq::default_call_options(),
                            "fuseq_call_options_init");
}

int fuseq_model_load(const char* folder, const fuseq_model_options* options, fuseq_model** model) {
  const char* call = "fuseq_model_load";
  return fuseq::guarded(call, [&] {
    fuseq::require_pointer(model, call, "model");
    *model = nullptr;
    fuseq::require_pointer(folder, call, "folder");
    auto loaded = fuseq::Model::load(folder, fuseq::read_model_options(options));
    *model = std::make_unique<fuseq_model>(fuseq_model{std::move(loaded)}).release();
  });
}

void fuseq_model_free(fuseq_model* model) {
  const std::unique_ptr<fuseq_model> owned(model);
}

int fuseq_model_get_info(const fuseq_model* model, fuseq_model_info* info) {
  const char* call = "fuseq_model_get_info";
  return fuseq::guarded(call, [&] {
    fuseq::require_pointer(model, call, "model");
    fuseq::require_pointer(info, call, "info");
    fuseq::require_struct_size<fuseq_model_info>(info->struct_size, call, "info");
    const fuseq::Model& loaded = *model->model;
    fuseq_model_info known{};
    const fuseq::TransformerSpec& spec = loaded.spec();
    known.num_parameters = loaded.num_parameters();
    known.num_bytes = loaded.num_bytes();
    known.vocab = spec.vocab;
    known.is_seq2seq = spec.is_seq2seq() ? 1 : 0;
    known.dtype = loaded.dtype() == fuseq::DType::bf16 ? FUSEQ_DTYPE_BFLOAT16
                  : loaded.dtype() == fuseq::DType::i8 ? FUSEQ_DTYPE_INT8
                                                       : FUSEQ_DTYPE_FLOAT32;
    known.max_positions = spec.decoder.max_positions;
    known.encoder_dim = spec.encoder.layers > 0 ? spec.encoder.dim : 0;
    known.decoder_dim = spec.decoder.layers > 0 ? spec.decoder.dim : 0;
    fuseq::write_struct(known, info, info->struct_size);
  });
}

int fuseq_token_bytes_create(const fuseq_bytes* tokens, size_t num_tokens,
                             fuseq_token_bytes** token_bytes) {
  const char* call = "fuseq_token_bytes_create";
  return fuseq::guarded(call, [&] {
    fuseq::require_pointer(token_bytes, call, "token_bytes");
    *token_bytes = nullptr;
    const auto read = fuseq::read_strings(tokens, num_tokens, call, "tokens");
    auto table = std::make_shared<const fuseq::TokenBytes>(read);
    *token_bytes =
        std::make_unique<fuseq_token_bytes>(fuseq_token_bytes{std::move(table)}).release();
  });
}

void fuseq_token_bytes_free(fuseq_token_bytes* token_bytes) {
  const std::unique_ptr<fuseq_token_bytes> owned(token_bytes);
}

int fuseq_generate(const fuseq_model* model, const fuseq_prompt* prompts, size_t num_prompts,
                   const fuseq_generation_options* options, fuseq_result** result) {
  return fuseq::generate_rows(model, prompts, num_prompts, options, nullptr, result,
                              "fuseq_generate");
}

int fuseq_generate_with(const fuseq_model* model, const fuseq_prompt* prompts, size_t num_prompts,
                        const fuseq_generation_options* options,
                        const fuseq_call_options* call_options, fuseq_result** result) {
  return fuseq::generate_rows(model, prompts, num_prompts, options, call_options, result,
                              "fuseq_generate_with");
}

int fuseq_result_num_prompts(const fuseq_result* result, size_t* num_prompts) {
  const char* call = "fuseq_result_num_prompts";
  return fuseq::guarded(call, [&] {
    fuseq::require_pointer(result, call, "result");
    fuseq::require_pointer(num_prompts, call, "num_prompts");
    *num_prompts = result->rows.size();
  });
}

int fuseq_result_num_sequences(const fuseq_result* result, size_t prompt, size_t* num_sequences) {
  const char* call = "fuseq_result_num_sequences";
  return fuseq::guarded(call, [&] {
    fuseq::require_pointer(num_sequences, call, "num_sequences");
    *num_sequences = fuseq::rows_of(result, prompt, call).size();
  });
}

int fuseq_result_ids(const fuseq_result* result, size_t prompt, size_t sequence,
                     const int32_t** ids, size_t* num_ids) {
  const char* call = "fuseq_result_ids";
  return fuseq::guarded(call, [&] {
    fuseq::give(fuseq::row_of(result, prompt, sequence, call).ids, call, "ids", ids, num_ids);
  });
}

int fuseq_result_prompt_length(const fuseq_result* result, size_t prompt, size_t sequence,
                               size_t* prompt_length) {
  const char* call = "fuseq_result_prompt_length";
  return fuseq::guarded(call, [&] {
    fuseq::require_pointer(prompt_length, call, "prompt_length");
    const fuseq::Hypothesis& row = fuseq::row_of(result, prompt, sequence, call);
    *prompt_length = static_cast<size_t>(row.prompt_length);
  });
}

int fuseq_result_token_log_probs(const fuseq_result* result, size_t prompt, size_t sequence,
                                 const float** values, size_t* num_values) {
  const char* call = "fuseq_result_token_log_probs";
  return fuseq::guarded(call, [&] {
    fuseq::give(fuseq::row_of(result, prompt, sequence, call).token_log_probs, call, "values",
                values, num_values);
  });
}

int fuseq_result_score(const fuseq_result* result, size_t prompt, size_t sequence, float* score) {
  const char* call = "fuseq_result_score";
  return fuseq::guarded(call, [&] {
    fuseq::require_pointer(score, call, "score");
    *score = fuseq::row_of(result, prompt, sequence, call).score;
  });
}

int fuseq_result_stop_reason(const fuseq_result* result, size_t prompt, size_t sequence,
                             int32_t* reason) {
  const char* call = "fuseq_result_stop_reason";
  return fuseq::guarded(call, [&] {
    fuseq::require_pointer(reason, call, "reason");
    *reason = static_cast<int32_t>(fuseq::row_of(result, prompt, sequence, call).stop_reason);
  });
}

void fuseq_result_free(fuseq_result* result) {
  const std::unique_ptr<fuseq_result> owned(result);
}

int fuseq_score(const fuseq_model* model, const fuseq_prompt* prompts, size_t num_prompts,
                const fuseq_ids* targets, fuseq_scores** scores) {
  const char* call = "fuseq_score";
  return fuseq::guarded(call, [&] {
    fuseq::require_pointer(scores, call, "scores");
    *scores = nullptr;
    fuseq::require_pointer(model, call, "model");
    const fuseq::Model& loaded = *model->model;
    const auto read = fuseq::read_prompts(prompts, num_prompts, loaded.spec(), call);
    const auto wanted = fuseq::read_targets(targets, num_prompts, call);
    auto values = fuseq::score(loaded, read, wanted);
    *scores = std::make_unique<fuseq_scores>(fuseq_scores{std::move(values)}).release();
  });
}

int fuseq_scores_values(const fuseq_scores* scores, size_t prompt, const float** values,
                        size_t* num_values) {
  const char* call = "fuseq_scores_values";
  return fuseq::guarded(call, [&] {
    fuseq::require_pointer(scores, call, "scores");
    fuseq::give(fuseq::element_of(scores->values, prompt, call, "prompt"), call, "values", values,
                num_values);
  });
}

void fuseq_scores_free(fuseq_scores* scores) {
  const std::unique_ptr<fuseq_scores> owned(scores);
}

}  // extern "C"
