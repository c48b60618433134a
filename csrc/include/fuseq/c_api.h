// SPDX-License-Identifier: Apache-2.0
// The library in plain C (C99): load a folder, generate ids, read the results.
//
// Functions that can fail return FUSEQ_OK or one of the FUSEQ_ERROR_ codes; `fuseq_last_error` then
// tells why. Nothing aborts, prints or throws. Every struct begins with `struct_size`: set it to
// sizeof of the struct (the `_init` functions do), so that programs built against an older or newer
// header keep working. A shorter struct takes the defaults for the fields it lacks; a longer one is
// accepted if the bytes this library does not know are zero.
#ifndef FUSEQ_C_API_H_
#define FUSEQ_C_API_H_

#include <stddef.h>
#include <stdint.h>

#include "fuseq/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/// What a function returns; the kinds of fuseq::Error.
enum {
  FUSEQ_OK = 0,
  FUSEQ_ERROR_VALUE = 1,        ///< an argument is out of range, contradictory or misshapen
  FUSEQ_ERROR_TYPE = 2,         ///< an argument has the wrong dtype or kind
  FUSEQ_ERROR_NOT_FOUND = 3,    ///< a file or folder is not there
  FUSEQ_ERROR_FORMAT = 4,       ///< a file is there but is not what it should be
  FUSEQ_ERROR_IO = 5,           ///< the system refused to read or write
  FUSEQ_ERROR_UNSUPPORTED = 6,  ///< well formed, but this build or device cannot do it
  FUSEQ_ERROR_RUNTIME = 7       ///< all else, lack of memory included
};

enum { FUSEQ_DEVICE_CPU = 0, FUSEQ_DEVICE_CUDA = 1 };
/// FUSEQ_DTYPE_STORED: bfloat16 if the matrices are stored so, else float32.
enum { FUSEQ_DTYPE_STORED = 0, FUSEQ_DTYPE_FLOAT32 = 1, FUSEQ_DTYPE_BFLOAT16 = 2 };
enum {
  FUSEQ_CPU_ISA_AUTOMATIC = 0,
  FUSEQ_CPU_ISA_PORTABLE = 1,
  FUSEQ_CPU_ISA_AVX2 = 2,
  FUSEQ_CPU_ISA_AVX512 = 3
};
enum { FUSEQ_EARLY_STOPPING_NO = 0, FUSEQ_EARLY_STOPPING_YES = 1, FUSEQ_EARLY_STOPPING_NEVER = 2 };
enum { FUSEQ_STOP_ID = 0, FUSEQ_STOP_MAX_LENGTH = 1, FUSEQ_STOP_CANCELED = 2 };

/// A loaded model. Any number of threads may use it; calls of `fuseq_generate` on one model wait
/// for each other.
typedef struct fuseq_model fuseq_model;
/// What one `fuseq_generate` call returned.
typedef struct fuseq_result fuseq_result;

typedef struct fuseq_model_options {
  size_t struct_size;
  int32_t device;       ///< FUSEQ_DEVICE_
  int32_t dtype;        ///< FUSEQ_DTYPE_
  int32_t num_threads;  ///< 0: FUSEQ_NUM_THREADS, OMP_NUM_THREADS, else what the machine offers
  int32_t cpu_isa;      ///< FUSEQ_CPU_ISA_
} fuseq_model_options;

typedef struct fuseq_model_info {
  size_t struct_size;
  int64_t num_parameters;  ///< elements of the weights in the checkpoint's shapes
  int64_t num_bytes;       ///< bytes of packed weights in memory
  int32_t vocab;           ///< ids are 0 ... vocab - 1
  int32_t is_seq2seq;      ///< 1: encoder and decoder; 0: decoder only
  int32_t dtype;           ///< FUSEQ_DTYPE_FLOAT32 or FUSEQ_DTYPE_BFLOAT16
  int32_t max_positions;   ///< of the decoder's table; 0: no bound
} fuseq_model_info;

/// As fuseq::GenerationOptions; lengths are tokens.
typedef struct fuseq_generation_options {
  size_t struct_size;
  int32_t max_length;      ///< decoder row, prompt included; 0: what max_new_tokens says, else the
                           ///< position table
  int32_t max_new_tokens;  ///< 0: what max_length says; both: an error
  int32_t min_length;      ///< no stop id before the row has this many tokens
  int32_t min_new_tokens;  ///< no stop id before this many new tokens
  int32_t num_beams;       ///< 1: greedy search; more: beam search
  int32_t num_return_sequences;  ///< best first; at most num_beams
  float length_penalty;  ///< beams: score = sum of log-probabilities / new tokens ** length_penalty
  int32_t early_stopping;        ///< FUSEQ_EARLY_STOPPING_
  float repetition_penalty;      ///< > 0; 1: off
  int32_t no_repeat_ngram_size;  ///< 0: off
  int32_t forced_bos_token_id;   ///< -1: off
  int32_t forced_eos_token_id;   ///< -1: off
  int32_t use_default_stop_ids;  ///< 1: the model's own end ids end a row too
  int32_t reserved;              ///< 0
  const int32_t* stop_token_ids;
  size_t num_stop_token_ids;
  const int32_t* suppress_token_ids;
  size_t num_suppress_token_ids;
  const int32_t* logit_bias_ids;   ///< the scores of these ids get ...
  const float* logit_bias_values;  ///< ... these values added
  size_t num_logit_bias;
} fuseq_generation_options;

/// In an array of prompts all have the same struct_size, which is also the distance of one to the
/// next.
typedef struct fuseq_prompt {
  size_t struct_size;
  const int32_t* encoder_ids;  ///< the source; NULL and 0 for a model without an encoder
  size_t num_encoder_ids;
  const int32_t* decoder_ids;  ///< NULL and 0: the model's start id
  size_t num_decoder_ids;
} fuseq_prompt;

/// "0.1.0", as built into the library.
FUSEQ_API const char* fuseq_version(void);

/// Why the last call that failed on this thread failed; "" if none did. Valid until the next
/// failure on this thread.
FUSEQ_API const char* fuseq_last_error(void);

/// Sets struct_size and all defaults; struct_size is sizeof *options as the caller's header has it.
FUSEQ_API int fuseq_model_options_init(fuseq_model_options* options, size_t struct_size);
FUSEQ_API int fuseq_generation_options_init(fuseq_generation_options* options, size_t struct_size);

/// Loads a folder with spec.json and model.safetensors. `options` may be NULL. `*model` is NULL
/// after a failure, else to be given back with `fuseq_model_free`.
FUSEQ_API int fuseq_model_load(const char* folder, const fuseq_model_options* options,
                               fuseq_model** model);
/// NULL is allowed. No call may be using the model.
FUSEQ_API void fuseq_model_free(fuseq_model* model);
/// Fills the fields that info->struct_size, set by the caller, has room for.
FUSEQ_API int fuseq_model_get_info(const fuseq_model* model, fuseq_model_info* info);

/// Generates from every prompt, num_return_sequences rows for each, in the order of the prompts.
/// `options` may be NULL. Arrays are read during the call only. `*result` is NULL after a failure,
/// else to be given back with `fuseq_result_free`.
FUSEQ_API int fuseq_generate(const fuseq_model* model, const fuseq_prompt* prompts,
                             size_t num_prompts, const fuseq_generation_options* options,
                             fuseq_result** result);

FUSEQ_API int fuseq_result_num_prompts(const fuseq_result* result, size_t* num_prompts);
FUSEQ_API int fuseq_result_num_sequences(const fuseq_result* result, size_t prompt,
                                         size_t* num_sequences);
/// The whole decoder row, prompt included; `*ids` stays valid until the result is freed.
FUSEQ_API int fuseq_result_ids(const fuseq_result* result, size_t prompt, size_t sequence,
                               const int32_t** ids, size_t* num_ids);
/// Beam search: the length-penalised score; greedy search: 0.
FUSEQ_API int fuseq_result_score(const fuseq_result* result, size_t prompt, size_t sequence,
                                 float* score);
/// FUSEQ_STOP_
FUSEQ_API int fuseq_result_stop_reason(const fuseq_result* result, size_t prompt, size_t sequence,
                                       int32_t* reason);
/// NULL is allowed.
FUSEQ_API void fuseq_result_free(fuseq_result* result);

#ifdef __cplusplus
}
#endif

#endif  // FUSEQ_C_API_H_
