// SPDX-License-Identifier: Apache-2.0
// The plain C door: reads C structs, calls the C++ interface, turns exceptions into codes.
#include "fuseq/c_api.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fuseq/fuseq.h"

struct fuseq_model {
  std::shared_ptr<const fuseq::Model> model;
};

struct fuseq_result {
  std::vector<std::vector<fuseq::Hypothesis>> rows;
};

namespace fuseq::inline v0 {
namespace {

// The size of an older struct must end where a field ends, so no version may have padding at its
// end.
static_assert(offsetof(fuseq_model_options, cpu_isa) + sizeof(int32_t) ==
              sizeof(fuseq_model_options));
static_assert(offsetof(fuseq_model_info, max_positions) + sizeof(int32_t) ==
              sizeof(fuseq_model_info));
static_assert(offsetof(fuseq_generation_options, num_logit_bias) + sizeof(size_t) ==
              sizeof(fuseq_generation_options));
static_assert(offsetof(fuseq_prompt, num_decoder_ids) + sizeof(size_t) == sizeof(fuseq_prompt));

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

void require(bool holds, const std::string& message) {
  if (!holds) throw Error(ErrorKind::value, message);
}

void require_pointer(const void* pointer, const char* call, const char* name) {
  if (!pointer) require(false, std::string(call) + ": " + name + " must not be NULL");
}

void require_struct_size(size_t size, size_t alignment, const std::string& call, const char* name) {
  require(size >= sizeof(size_t) && size % alignment == 0,
          call + ": " + name + ".struct_size must be the struct's sizeof, got " +
              std::to_string(size) + ". Was the init function called?");
}

/// `defaults` overwritten by the fields that the caller's struct has.
template <typename Struct>
Struct read_struct(const void* from, Struct defaults, const char* call, const char* name) {
  size_t size = 0;
  std::memcpy(&size, from, sizeof size);
  require_struct_size(size, alignof(Struct), call, name);
  const auto* bytes = static_cast<const unsigned char*>(from);
  for (size_t i = sizeof(Struct); i < size; ++i) {
    require(bytes[i] == 0, std::string(call) + ": " + name + " must hold zeros after its first " +
                               std::to_string(sizeof(Struct)) + " bytes, got a field that fuseq " +
                               version() + " does not know");
  }
  std::memcpy(&defaults, from, std::min(size, sizeof(Struct)));
  return defaults;
}

/// Writes what the caller's struct has room for; zeros beyond what is known here.
template <typename Struct>
void write_struct(Struct value, void* to, size_t size) {
  value.struct_size = size;
  std::memcpy(to, &value, std::min(size, sizeof(Struct)));
  if (size > sizeof(Struct))
    std::memset(static_cast<unsigned char*>(to) + sizeof(Struct), 0, size - sizeof(Struct));
}

template <typename T>
std::span<const T> read_array(const T* data, size_t count, const char* call,
                              const std::string& name) {
  require(data || count == 0, std::string(call) + ": " + name +
                                  " must not be NULL, got NULL and a count of " +
                                  std::to_string(count));
  return {data, count};
}

/// The C++ enum with this number.
template <typename Enum>
Enum read_enum(int32_t number, Enum last, const char* call, const char* name) {
  require(number >= 0 && number <= static_cast<int32_t>(last),
          std::string(call) + ": " + name + " must be 0 to " +
              std::to_string(static_cast<int>(last)) + ", got " + std::to_string(number));
  return static_cast<Enum>(number);
}

static_assert(static_cast<int>(Device::cuda) == FUSEQ_DEVICE_CUDA);
static_assert(static_cast<int>(CpuIsa::portable) == FUSEQ_CPU_ISA_PORTABLE);
static_assert(static_cast<int>(CpuIsa::avx2) == FUSEQ_CPU_ISA_AVX2);
static_assert(static_cast<int>(CpuIsa::avx512) == FUSEQ_CPU_ISA_AVX512);
static_assert(static_cast<int>(EarlyStopping::yes) == FUSEQ_EARLY_STOPPING_YES);
static_assert(static_cast<int>(EarlyStopping::never) == FUSEQ_EARLY_STOPPING_NEVER);
static_assert(static_cast<int>(StopReason::stop_id) == FUSEQ_STOP_ID);
static_assert(static_cast<int>(StopReason::max_length) == FUSEQ_STOP_MAX_LENGTH);
static_assert(static_cast<int>(StopReason::canceled) == FUSEQ_STOP_CANCELED);

fuseq_model_options default_model_options() {
  return {.struct_size = sizeof(fuseq_model_options),
          .device = FUSEQ_DEVICE_CPU,
          .dtype = FUSEQ_DTYPE_STORED,
          .num_threads = 0,
          .cpu_isa = FUSEQ_CPU_ISA_AUTOMATIC};
}

fuseq_generation_options default_generation_options() {
  const GenerationOptions defaults;
  fuseq_generation_options options{};
  options.struct_size = sizeof options;
  options.max_length = defaults.max_length;
  options.max_new_tokens = defaults.max_new_tokens;
  options.min_length = defaults.min_length;
  options.min_new_tokens = defaults.min_new_tokens;
  options.num_beams = defaults.num_beams;
  options.num_return_sequences = defaults.num_return_sequences;
  options.length_penalty = defaults.length_penalty;
  options.early_stopping = static_cast<int32_t>(defaults.early_stopping);
  options.repetition_penalty = defaults.repetition_penalty;
  options.no_repeat_ngram_size = defaults.no_repeat_ngram_size;
  options.forced_bos_token_id = defaults.forced_bos_token_id;
  options.forced_eos_token_id = defaults.forced_eos_token_id;
  options.use_default_stop_ids = defaults.use_default_stop_ids ? 1 : 0;
  return options;
}

ModelOptions read_model_options(const fuseq_model_options* from) {
  const char* call = "fuseq_model_load";
  const auto c =
      from ? read_struct(from, default_model_options(), call, "options") : default_model_options();
  ModelOptions options;
  options.device = read_enum(c.device, Device::cuda, call, "options.device");
  options.num_threads = c.num_threads;
  options.cpu_isa = read_enum(c.cpu_isa, CpuIsa::avx512, call, "options.cpu_isa");
  switch (c.dtype) {
    case FUSEQ_DTYPE_STORED: break;
    case FUSEQ_DTYPE_FLOAT32: options.dtype = DType::f32; break;
    case FUSEQ_DTYPE_BFLOAT16: options.dtype = DType::bf16; break;
    default:
      require(false,
              "fuseq_model_load: options.dtype must be 0 to 2, got " + std::to_string(c.dtype));
  }
  return options;
}

GenerationOptions read_generation_options(const fuseq_generation_options* from) {
  const char* call = "fuseq_generate";
  const auto c = from ? read_struct(from, default_generation_options(), call, "options")
                      : default_generation_options();
  require(c.use_default_stop_ids == 0 || c.use_default_stop_ids == 1,
          "fuseq_generate: options.use_default_stop_ids must be 0 or 1, got " +
              std::to_string(c.use_default_stop_ids));
  require(c.reserved == 0,
          "fuseq_generate: options.reserved must be 0, got " + std::to_string(c.reserved));
  GenerationOptions options;
  options.max_length = c.max_length;
  options.max_new_tokens = c.max_new_tokens;
  options.min_length = c.min_length;
  options.min_new_tokens = c.min_new_tokens;
  options.num_beams = c.num_beams;
  options.num_return_sequences = c.num_return_sequences;
  options.length_penalty = c.length_penalty;
  options.early_stopping =
      read_enum(c.early_stopping, EarlyStopping::never, call, "options.early_stopping");
  options.repetition_penalty = c.repetition_penalty;
  options.no_repeat_ngram_size = c.no_repeat_ngram_size;
  options.forced_bos_token_id = c.forced_bos_token_id;
  options.forced_eos_token_id = c.forced_eos_token_id;
  options.use_default_stop_ids = c.use_default_stop_ids == 1;
  const auto stop =
      read_array(c.stop_token_ids, c.num_stop_token_ids, call, "options.stop_token_ids");
  options.stop_token_ids.assign(stop.begin(), stop.end());
  const auto suppress = read_array(c.suppress_token_ids, c.num_suppress_token_ids, call,
                                   "options.suppress_token_ids");
  options.suppress_token_ids.assign(suppress.begin(), suppress.end());
  const auto ids = read_array(c.logit_bias_ids, c.num_logit_bias, call, "options.logit_bias_ids");
  const auto values =
      read_array(c.logit_bias_values, c.num_logit_bias, call, "options.logit_bias_values");
  for (size_t i = 0; i < ids.size(); ++i) options.logit_bias.emplace_back(ids[i], values[i]);
  return options;
}

std::vector<Prompt> read_prompts(const fuseq_prompt* from, size_t count) {
  const char* call = "fuseq_generate";
  std::vector<Prompt> prompts;
  if (count == 0) return prompts;
  require_pointer(from, call, "prompts");
  const size_t stride = from->struct_size;
  require_struct_size(stride, alignof(fuseq_prompt), call, "prompts[0]");
  require(count <= std::numeric_limits<size_t>::max() / stride,
          "fuseq_generate: num_prompts must fit in memory, got " + std::to_string(count));
  prompts.reserve(count);
  const auto* bytes = reinterpret_cast<const unsigned char*>(from);
  for (size_t i = 0; i < count; ++i) {
    const std::string name = "prompts[" + std::to_string(i) + "]";
    const auto c = read_struct(bytes + i * stride, fuseq_prompt{}, call, name.c_str());
    require(c.struct_size == stride,
            "fuseq_generate: " + name + ".struct_size must be that of prompts[0], " +
                std::to_string(stride) + ", got " + std::to_string(c.struct_size));
    prompts.push_back(
        {.encoder_ids = read_array(c.encoder_ids, c.num_encoder_ids, call, name + ".encoder_ids"),
         .decoder_ids = read_array(c.decoder_ids, c.num_decoder_ids, call, name + ".decoder_ids")});
  }
  return prompts;
}

const std::vector<Hypothesis>& rows_of(const fuseq_result* result, size_t prompt,
                                       const char* call) {
  require_pointer(result, call, "result");
  require(prompt < result->rows.size(), std::string(call) + ": prompt must be below " +
                                            std::to_string(result->rows.size()) + ", got " +
                                            std::to_string(prompt));
  return result->rows[prompt];
}

const Hypothesis& row_of(const fuseq_result* result, size_t prompt, size_t sequence,
                         const char* call) {
  const auto& rows = rows_of(result, prompt, call);
  require(sequence < rows.size(), std::string(call) + ": sequence must be below " +
                                      std::to_string(rows.size()) + ", got " +
                                      std::to_string(sequence));
  return rows[sequence];
}

template <typename Struct>
int init_struct(Struct* options, size_t size, const Struct& defaults, const char* call) noexcept {
  return guarded(call, [&] {
    require_pointer(options, call, "options");
    require_struct_size(size, alignof(Struct), call, "options");
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
    fuseq::require_struct_size(info->struct_size, alignof(fuseq_model_info), call, "info");
    const fuseq::Model& loaded = *model->model;
    fuseq_model_info known{};
    known.num_parameters = loaded.num_parameters();
    known.num_bytes = loaded.num_bytes();
    known.vocab = loaded.spec().vocab;
    known.is_seq2seq = loaded.spec().is_seq2seq() ? 1 : 0;
    known.dtype = loaded.dtype() == fuseq::DType::bf16 ? FUSEQ_DTYPE_BFLOAT16 : FUSEQ_DTYPE_FLOAT32;
    known.max_positions = loaded.spec().decoder.max_positions;
    fuseq::write_struct(known, info, info->struct_size);
  });
}

int fuseq_generate(const fuseq_model* model, const fuseq_prompt* prompts, size_t num_prompts,
                   const fuseq_generation_options* options, fuseq_result** result) {
  const char* call = "fuseq_generate";
  return fuseq::guarded(call, [&] {
    fuseq::require_pointer(result, call, "result");
    *result = nullptr;
    fuseq::require_pointer(model, call, "model");
    const auto read = fuseq::read_prompts(prompts, num_prompts);
    auto rows = fuseq::generate(*model->model, read, fuseq::read_generation_options(options));
    *result = std::make_unique<fuseq_result>(fuseq_result{std::move(rows)}).release();
  });
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
    fuseq::require_pointer(ids, call, "ids");
    fuseq::require_pointer(num_ids, call, "num_ids");
    const fuseq::Hypothesis& row = fuseq::row_of(result, prompt, sequence, call);
    *ids = row.ids.data();
    *num_ids = row.ids.size();
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

}  // extern "C"
