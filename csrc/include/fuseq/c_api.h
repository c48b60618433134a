// SPDX-License-Identifier: Apache-2.0
// The library in plain C (C99): load a folder, generate or score ids, read the results.
//
// Functions that can fail return FUSEQ_OK or one of the FUSEQ_ERROR_ codes; `fuseq_last_error` then
// tells why. Nothing aborts, prints or throws. Every struct but fuseq_bytes and fuseq_ids begins
// with `struct_size`: set it to sizeof of the struct (the `_init` functions do), so that programs
// built against an older or newer header keep working. A shorter struct takes the defaults for the
// fields it lacks; a longer one is accepted if the bytes this library does not know are zero and
// 4096 at most.
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
/// FUSEQ_DTYPE_STORED: bfloat16 or int8 if the matrices are stored so, else float32.
enum {
  FUSEQ_DTYPE_STORED = 0,
  FUSEQ_DTYPE_FLOAT32 = 1,
  FUSEQ_DTYPE_BFLOAT16 = 2,
  FUSEQ_DTYPE_INT8 = 3
};
enum {
  FUSEQ_CPU_ISA_AUTOMATIC = 0,
  FUSEQ_CPU_ISA_PORTABLE = 1,
  FUSEQ_CPU_ISA_AVX2 = 2,
  FUSEQ_CPU_ISA_AVX512 = 3
};
enum { FUSEQ_EARLY_STOPPING_NO = 0, FUSEQ_EARLY_STOPPING_YES = 1, FUSEQ_EARLY_STOPPING_NEVER = 2 };
enum {
  FUSEQ_STOP_ID = 0,          ///< a stop id was emitted; it is the last id
  FUSEQ_STOP_MAX_LENGTH = 1,  ///< the row is full
  FUSEQ_STOP_CANCELED = 2,    ///< before it ended by itself
  FUSEQ_STOP_STRING = 3,      ///< the last id completed a stop string
  FUSEQ_STOP_CALLBACK = 4     ///< on_token ended the row
};

/// A loaded model. Any number of threads may use it; calls that generate or score on one model wait
/// for each other.
typedef struct fuseq_model fuseq_model;
/// What one `fuseq_generate` or `fuseq_generate_with` call returned.
typedef struct fuseq_result fuseq_result;
/// What one `fuseq_score` call returned.
typedef struct fuseq_scores fuseq_scores;
/// What every id of a vocabulary stands for, as bytes.
typedef struct fuseq_token_bytes fuseq_token_bytes;

/// Any bytes, zeros included; NULL and 0: none.
typedef struct fuseq_bytes {
  const char* data;
  size_t size;
} fuseq_bytes;

typedef struct fuseq_ids {
  const int32_t* ids;
  size_t num_ids;
} fuseq_ids;

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
  int32_t dtype;           ///< FUSEQ_DTYPE_, never STORED
  int32_t max_positions;   ///< of the decoder's table; 0: no bound
  int32_t encoder_dim;     ///< floats of an encoder state; 0: no encoder
  int32_t decoder_dim;     ///< the decoder's width
} fuseq_model_info;

/// As fuseq::GenerationOptions; lengths are tokens.
typedef struct fuseq_generation_options {
  size_t struct_size;
  int32_t max_length;      ///< decoder row, prompt included; 0: what max_new_tokens says, else the
                           ///< position table
  int32_t max_new_tokens;  ///< 0: what max_length says; both: an error
  int32_t min_length;      ///< no stop id before the row has this many tokens
  int32_t min_new_tokens;  ///< no stop id before this many new tokens
  int32_t num_beams;       ///< 1: no beams; more: beam search
  int32_t num_return_sequences;  ///< beams: at most num_beams, best first; else so many draws
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
  int32_t do_sample;                ///< 1: draw from the distribution that the next five shape
  float temperature;                ///< > 0; divides the scores
  int32_t top_k;                    ///< only the k best ids; 0: all. Candidates with penalty_alpha
  float top_p;                      ///< (0, 1]: the fewest best ids whose probabilities reach p
  float min_p;                      ///< [0, 1]: ids at least p times as probable as the best one
  int32_t top_p_of_all;             ///< 1: top_p counts probabilities from before top_k
  float penalty_alpha;              ///< (0, 1]: contrastive search over top_k candidates; 0: off
  int32_t decoder_start_token_id;   ///< the prompt where none is given; -1: the model's own
  int32_t return_scores;            ///< 1: log-probabilities of the new ids with the results
  int32_t has_seed;                 ///< 0: the draws take a fresh seed; 1: `seed`, the last field
  const fuseq_bytes* stop_strings;  ///< end a row once the bytes of its new ids contain one of them
  size_t num_stop_strings;
  const fuseq_token_bytes* token_bytes;  ///< for stop_strings and streamed text; else may be NULL
  uint64_t seed;
} fuseq_generation_options;

/// In an array of prompts all have the same struct_size, which is also the distance of one to the
/// next.
typedef struct fuseq_prompt {
  size_t struct_size;
  const int32_t* encoder_ids;  ///< the source; NULL and 0 for a model without an encoder
  size_t num_encoder_ids;
  const int32_t* decoder_ids;  ///< NULL and 0: the start id
  size_t num_decoder_ids;
  const float* encoder_states;  ///< [num_encoder_states, encoder_dim] instead of encoder_ids
  size_t num_encoder_states;
  uint64_t seed;         ///< with has_seed: instead of that of the options
  int64_t sequence;      ///< with has_sequence: the prompt's place, which draws depend on, in
                         ///< 0 ... 2^32 - 1; else the place in the array, or 0 with has_seed
  int32_t has_seed;      ///< 0 or 1
  int32_t has_sequence;  ///< 0 or 1
} fuseq_prompt;

/// An id that was just added to a row. The library sets struct_size.
typedef struct fuseq_new_token {
  size_t struct_size;
  int64_t row;  ///< the prompt's place in the list * num_return_sequences + the draw
  int32_t id;
  int32_t reserved;  ///< 0
  const char* text;  ///< the characters that this id completes, in UTF-8, U+FFFD for what is none
  size_t text_size;  ///< bytes; no NUL follows. 0 without token_bytes
} fuseq_new_token;

/// Sees every new id, on the thread that generates; what `token` points to is valid during the
/// call. Returns 0: go on; positive: the row ends; negative: the whole call ends with
/// FUSEQ_ERROR_RUNTIME. It cannot generate or score on the same model.
typedef int (*fuseq_on_token)(void* user_data, const fuseq_new_token* token);

/// How one call runs; what it generates is in fuseq_generation_options.
typedef struct fuseq_call_options {
  size_t struct_size;
  int32_t max_batch_size;   ///< prompts decoded at a time; 0: as many as make 32 rows
  int32_t reserved;         ///< 0
  fuseq_on_token on_token;  ///< NULL: none; not with beams
  void* user_data;          ///< handed to on_token
} fuseq_call_options;

/// "0.1.0", as built into the library.
FUSEQ_API const char* fuseq_version(void);

/// Why the last call that failed on this thread failed; "" if none did. Valid until the next
/// failure on this thread.
FUSEQ_API const char* fuseq_last_error(void);

/// Sets struct_size and all defaults; struct_size is sizeof *options as the caller's header has it.
FUSEQ_API int fuseq_model_options_init(fuseq_model_options* options, size_t struct_size);
FUSEQ_API int fuseq_generation_options_init(fuseq_generation_options* options, size_t struct_size);
FUSEQ_API int fuseq_call_options_init(fuseq_call_options* options, size_t struct_size);

/// Loads a folder with spec.json and model.safetensors. `options` may be NULL. `*model` is NULL
/// after a failure, else to be given back with `fuseq_model_free`. int8 weights are used where the
/// file is mapped: replace such a file by a rename, never in place, while a model uses it.
FUSEQ_API int fuseq_model_load(const char* folder, const fuseq_model_options* options,
                               fuseq_model** model);
/// NULL is allowed. No call may be using the model.
FUSEQ_API void fuseq_model_free(fuseq_model* model);
/// Fills the fields that info->struct_size, set by the caller, has room for.
FUSEQ_API int fuseq_model_get_info(const fuseq_model* model, fuseq_model_info* info);

/// Copies the bytes of ids 0, 1, ..., at most 2 GiB in all; ids that stand for no text have none.
/// `*token_bytes` is NULL after a failure, else to be given back with `fuseq_token_bytes_free`.
FUSEQ_API int fuseq_token_bytes_create(const fuseq_bytes* tokens, size_t num_tokens,
                                       fuseq_token_bytes** token_bytes);
/// NULL is allowed. No call may be using them.
FUSEQ_API void fuseq_token_bytes_free(fuseq_token_bytes* token_bytes);

/// Generates from every prompt, num_return_sequences rows for each, in the order of the prompts.
/// `options` may be NULL. Arrays are read during the call only. `*result` is NULL after a failure,
/// else to be given back with `fuseq_result_free`.
FUSEQ_API int fuseq_generate(const fuseq_model* model, const fuseq_prompt* prompts,
                             size_t num_prompts, const fuseq_generation_options* options,
                             fuseq_result** result);
/// The same, run as `call_options` say, which may be NULL.
FUSEQ_API int fuseq_generate_with(const fuseq_model* model, const fuseq_prompt* prompts,
                                  size_t num_prompts, const fuseq_generation_options* options,
                                  const fuseq_call_options* call_options, fuseq_result** result);

FUSEQ_API int fuseq_result_num_prompts(const fuseq_result* result, size_t* num_prompts);
FUSEQ_API int fuseq_result_num_sequences(const fuseq_result* result, size_t prompt,
                                         size_t* num_sequences);
/// The whole decoder row, prompt included; `*ids` stays valid until the result is freed.
FUSEQ_API int fuseq_result_ids(const fuseq_result* result, size_t prompt, size_t sequence,
                               const int32_t** ids, size_t* num_ids);
/// Ids of the prompt, with which the row begins.
FUSEQ_API int fuseq_result_prompt_length(const fuseq_result* result, size_t prompt, size_t sequence,
                                         size_t* prompt_length);
/// Of each new id, log softmax of the model's own logits, before the options' rules and
/// temperature; 0 values without return_scores. `*values` stays valid until the result is freed.
FUSEQ_API int fuseq_result_token_log_probs(const fuseq_result* result, size_t prompt,
                                           size_t sequence, const float** values,
                                           size_t* num_values);
/// Beam search: the length-penalised score; else with return_scores the sum of the token
/// log-probabilities, without it 0.
FUSEQ_API int fuseq_result_score(const fuseq_result* result, size_t prompt, size_t sequence,
                                 float* score);
/// FUSEQ_STOP_
FUSEQ_API int fuseq_result_stop_reason(const fuseq_result* result, size_t prompt, size_t sequence,
                                       int32_t* reason);
/// NULL is allowed.
FUSEQ_API void fuseq_result_free(fuseq_result* result);

/// Log-probabilities of given targets, one per decoder position, without rules and temperature.
/// targets[i] has as many ids as prompts[i].decoder_ids; with `targets` NULL they are the row's own
/// next ids, one fewer. `*scores` is NULL after a failure, else to be given back with
/// `fuseq_scores_free`.
FUSEQ_API int fuseq_score(const fuseq_model* model, const fuseq_prompt* prompts, size_t num_prompts,
                          const fuseq_ids* targets, fuseq_scores** scores);
/// `*values` stays valid until the scores are freed.
FUSEQ_API int fuseq_scores_values(const fuseq_scores* scores, size_t prompt, const float** values,
                                  size_t* num_values);
/// NULL is allowed.
FUSEQ_API void fuseq_scores_free(fuseq_scores* scores);

#ifdef __cplusplus
}
#endif

#endif  // FUSEQ_C_API_H_
