// SPDX-License-Identifier: Apache-2.0
// Reads the structs of the plain C door, each field checked.
#include "capi/read_structs.h"

#include <limits>
#include <string_view>
#include <type_traits>

namespace fuseq::inline v0 {
namespace {

// The size of an older struct must end where a field ends, so no version may have padding at its
// end.
static_assert(offsetof(fuseq_model_options, cpu_isa) + sizeof(int32_t) ==
              sizeof(fuseq_model_options));
static_assert(offsetof(fuseq_model_info, decoder_dim) + sizeof(int32_t) ==
              sizeof(fuseq_model_info));
static_assert(offsetof(fuseq_generation_options, seed) + sizeof(uint64_t) ==
              sizeof(fuseq_generation_options));
static_assert(offsetof(fuseq_prompt, has_sequence) + sizeof(int32_t) == sizeof(fuseq_prompt));
static_assert(offsetof(fuseq_new_token, text_size) + sizeof(size_t) == sizeof(fuseq_new_token));
static_assert(offsetof(fuseq_call_options, user_data) + sizeof(void*) ==
              sizeof(fuseq_call_options));
static_assert(static_cast<int>(Device::cuda) == FUSEQ_DEVICE_CUDA);
static_assert(static_cast<int>(CpuIsa::portable) == FUSEQ_CPU_ISA_PORTABLE);
static_assert(static_cast<int>(CpuIsa::avx2) == FUSEQ_CPU_ISA_AVX2);
static_assert(static_cast<int>(CpuIsa::avx512) == FUSEQ_CPU_ISA_AVX512);
static_assert(static_cast<int>(EarlyStopping::yes) == FUSEQ_EARLY_STOPPING_YES);
static_assert(static_cast<int>(EarlyStopping::never) == FUSEQ_EARLY_STOPPING_NEVER);
static_assert(static_cast<int>(StopReason::stop_id) == FUSEQ_STOP_ID);
static_assert(static_cast<int>(StopReason::max_length) == FUSEQ_STOP_MAX_LENGTH);
static_assert(static_cast<int>(StopReason::canceled) == FUSEQ_STOP_CANCELED);
static_assert(static_cast<int>(StopReason::stop_string) == FUSEQ_STOP_STRING);
static_assert(static_cast<int>(StopReason::callback) == FUSEQ_STOP_CALLBACK);

bool read_bool(int32_t number, const char* call, const std::string& name) {
  require(number == 0 || number == 1,
          std::string(call) + ": " + name + " must be 0 or 1, got " + std::to_string(number));
  return number == 1;
}

void require_zero(int32_t number, const char* call, const char* name) {
  require(number == 0,
          std::string(call) + ": " + name + " must be 0, got " + std::to_string(number));
}

/// The C++ enum with this number.
template <typename Enum>
Enum read_enum(int32_t number, Enum last, const char* call, const char* name) {
  require(number >= 0 && number <= static_cast<int32_t>(last),
          std::string(call) + ": " + name + " must be 0 to " +
              std::to_string(static_cast<int>(last)) + ", got " + std::to_string(number));
  return static_cast<Enum>(number);
}

/// Calls `v(name, c_field, field)` for the numbers that mean the same in C and C++.
template <typename C, typename O, typename V>
void pair_numbers(C& c, O& o, V&& v) {
  v("max_length", c.max_length, o.max_length);
  v("max_new_tokens", c.max_new_tokens, o.max_new_tokens);
  v("min_length", c.min_length, o.min_length);
  v("min_new_tokens", c.min_new_tokens, o.min_new_tokens);
  v("do_sample", c.do_sample, o.do_sample);
  v("temperature", c.temperature, o.temperature);
  v("top_k", c.top_k, o.top_k);
  v("top_p", c.top_p, o.top_p);
  v("min_p", c.min_p, o.min_p);
  v("top_p_of_all", c.top_p_of_all, o.top_p_of_all);
  v("penalty_alpha", c.penalty_alpha, o.penalty_alpha);
  v("num_beams", c.num_beams, o.num_beams);
  v("num_return_sequences", c.num_return_sequences, o.num_return_sequences);
  v("length_penalty", c.length_penalty, o.length_penalty);
  v("repetition_penalty", c.repetition_penalty, o.repetition_penalty);
  v("no_repeat_ngram_size", c.no_repeat_ngram_size, o.no_repeat_ngram_size);
  v("decoder_start_token_id", c.decoder_start_token_id, o.decoder_start_token_id);
  v("forced_bos_token_id", c.forced_bos_token_id, o.forced_bos_token_id);
  v("forced_eos_token_id", c.forced_eos_token_id, o.forced_eos_token_id);
  v("use_default_stop_ids", c.use_default_stop_ids, o.use_default_stop_ids);
  v("return_scores", c.return_scores, o.return_scores);
}

void read_id_lists(const fuseq_generation_options& c, const char* call,
                   GenerationOptions& options) {
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
}

/// What the prompts point to stays the caller's.
Prompt read_prompt(const fuseq_prompt& c, const TransformerSpec& spec, const char* call,
                   const std::string& name) {
  Prompt prompt;
  prompt.encoder_ids = read_array(c.encoder_ids, c.num_encoder_ids, call, name + ".encoder_ids");
  prompt.decoder_ids = read_array(c.decoder_ids, c.num_decoder_ids, call, name + ".decoder_ids");
  const auto states =
      read_array(c.encoder_states, c.num_encoder_states, call, name + ".encoder_states");
  if (states.data()) {
    prompt.encoder_states = ConstView(states.data(), DType::f32,
                                      {static_cast<int64_t>(states.size()), spec.encoder.dim});
  }
  if (read_bool(c.has_seed, call, name + ".has_seed")) prompt.seed = c.seed;
  if (read_bool(c.has_sequence, call, name + ".has_sequence")) {
    require(c.sequence >= 0, std::string(call) + ": " + name +
                                 ".sequence must not be negative, got " +
                                 std::to_string(c.sequence));
    prompt.sequence = c.sequence;
  }
  return prompt;
}

/// Calls on_token, whose number becomes "end the row" or an error.
bool tell(fuseq_on_token on_token, void* user_data, const NewToken& token) {
  const fuseq_new_token c{.struct_size = sizeof(fuseq_new_token),
                          .row = token.row,
                          .id = token.id,
                          .reserved = 0,
                          .text = token.text.data(),
                          .text_size = token.text.size()};
  const int answer = on_token(user_data, &c);
  if (answer < 0) {
    throw Error(ErrorKind::runtime,
                "on_token: must return 0 or more to go on, got " + std::to_string(answer));
  }
  return answer > 0;
}

}  // namespace

void require(bool holds, const std::string& message) {
  if (!holds) throw Error(ErrorKind::value, message);
}

void require_pointer(const void* pointer, const char* call, const char* name) {
  if (!pointer) require(false, std::string(call) + ": " + name + " must not be NULL");
}

void require_struct_size(size_t size, size_t known_size, const std::string& call, const char* name,
                         const char* advice) {
  constexpr size_t kMostUnknown = 4096;  // bytes of fields to come; beyond, nobody set the size
  require(
      size >= sizeof(size_t) && size <= known_size + kMostUnknown && size % alignof(size_t) == 0,
      call + ": " + name + ".struct_size must be the struct's sizeof, got " + std::to_string(size) +
          ". " + advice);
}

fuseq_model_options default_model_options() {
  return {.struct_size = sizeof(fuseq_model_options),
          .device = FUSEQ_DEVICE_CPU,
          .dtype = FUSEQ_DTYPE_STORED,
          .num_threads = 0,
          .cpu_isa = FUSEQ_CPU_ISA_AUTOMATIC};
}

fuseq_call_options default_call_options() {
  fuseq_call_options options{};
  options.struct_size = sizeof options;
  return options;
}

fuseq_generation_options default_generation_options() {
  const GenerationOptions defaults;
  fuseq_generation_options options{};
  options.struct_size = sizeof options;
  pair_numbers(options, defaults, [](const char*, auto& to, auto from) {
    to = static_cast<std::remove_reference_t<decltype(to)>>(from);
  });
  options.early_stopping = static_cast<int32_t>(defaults.early_stopping);
  return options;
}

/// Views of the bytes that the caller holds.
std::vector<std::string_view> read_strings(const fuseq_bytes* data, size_t count, const char* call,
                                           const char* name) {
  std::vector<std::string_view> strings;
  for (const fuseq_bytes& bytes : read_array(data, count, call, name)) {
    const std::string element = std::string(name) + "[" + std::to_string(strings.size()) + "].data";
    const auto chars = read_array(bytes.data, bytes.size, call, element);
    strings.emplace_back(chars.data(), chars.size());
  }
  return strings;
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
    case FUSEQ_DTYPE_INT8: options.dtype = DType::i8; break;
    default:
      require(false,
              "fuseq_model_load: options.dtype must be 0 to 3, got " + std::to_string(c.dtype));
  }
  return options;
}

GenerationOptions read_generation_options(const fuseq_generation_options* from, const char* call) {
  const auto c = from ? read_struct(from, default_generation_options(), call, "options")
                      : default_generation_options();
  require_zero(c.reserved, call, "options.reserved");
  GenerationOptions options;
  pair_numbers(c, options, [call](const char* name, auto number, auto& field) {
    if constexpr (std::is_same_v<decltype(field), bool&>) {
      field = read_bool(number, call, std::string("options.") + name);
    } else {
      field = number;
    }
  });
  options.early_stopping =
      read_enum(c.early_stopping, EarlyStopping::never, call, "options.early_stopping");
  if (read_bool(c.has_seed, call, "options.has_seed")) options.seed = c.seed;
  read_id_lists(c, call, options);
  for (const std::string_view text :
       read_strings(c.stop_strings, c.num_stop_strings, call, "options.stop_strings"))
    options.stop_strings.emplace_back(text);
  if (c.token_bytes) options.token_bytes = c.token_bytes->table;
  return options;
}

std::vector<Prompt> read_prompts(const fuseq_prompt* from, size_t count,
                                 const TransformerSpec& spec, const char* call) {
  std::vector<Prompt> prompts;
  if (count == 0) return prompts;
  require_pointer(from, call, "prompts");
  const size_t stride = from->struct_size;
  require_struct_size<fuseq_prompt>(stride, call, "prompts[0]");
  require(count <= std::numeric_limits<size_t>::max() / stride,
          std::string(call) + ": num_prompts must fit in memory, got " + std::to_string(count));
  prompts.reserve(count);
  const auto* bytes = reinterpret_cast<const unsigned char*>(from);
  for (size_t i = 0; i < count; ++i) {
    const std::string name = "prompts[" + std::to_string(i) + "]";
    size_t size = 0;
    std::memcpy(&size, bytes + i * stride, sizeof size);
    require(size == stride, std::string(call) + ": " + name +
                                ".struct_size must be that of prompts[0], " +
                                std::to_string(stride) + ", got " + std::to_string(size));
    const auto c = read_struct(bytes + i * stride, fuseq_prompt{}, call, name.c_str());
    prompts.push_back(read_prompt(c, spec, call, name));
  }
  return prompts;
}

std::vector<std::span<const int32_t>> read_targets(const fuseq_ids* from, size_t count,
                                                   const char* call) {
  std::vector<std::span<const int32_t>> targets;
  if (!from) return targets;
  for (size_t i = 0; i < count; ++i) {
    targets.push_back(
        read_array(from[i].ids, from[i].num_ids, call, "targets[" + std::to_string(i) + "].ids"));
  }
  return targets;
}

CallOptions read_call_options(const fuseq_call_options* from, const char* call) {
  CallOptions options;
  if (!from) return options;
  const auto c = read_struct(from, default_call_options(), call, "call_options");
  require_zero(c.reserved, call, "call_options.reserved");
  options.max_batch_size = c.max_batch_size;
  if (c.on_token) {
    options.on_token = [on_token = c.on_token, user_data = c.user_data](const NewToken& token) {
      return tell(on_token, user_data, token);
    };
  }
  return options;
}

}  // namespace fuseq::inline v0
