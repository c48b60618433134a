/* SPDX-License-Identifier: Apache-2.0 */
/* Generates ids from ids, in C. Usage: generate FOLDER MAX_LENGTH BEAMS ID... */
#include <fuseq/c_api.h>
#include <stdio.h>
#include <stdlib.h>

static int failed(void) {
  fprintf(stderr, "%s\n", fuseq_last_error());
  return 1;
}

/* Prints the best row. */
static int print_ids(const fuseq_result* result) {
  const int32_t* ids;
  size_t num_ids;
  if (fuseq_result_ids(result, 0, 0, &ids, &num_ids) != FUSEQ_OK) return failed();
  for (size_t i = 0; i < num_ids; ++i) printf("%d ", (int)ids[i]);
  printf("\n");
  return 0;
}

static int generate(const fuseq_model* model, const int32_t* ids, size_t num_ids, int max_length,
                    int num_beams) {
  fuseq_model_info info = {.struct_size = sizeof info};
  if (fuseq_model_get_info(model, &info) != FUSEQ_OK) return failed();
  fuseq_prompt prompt = {.struct_size = sizeof prompt};
  if (info.is_seq2seq) {
    prompt.encoder_ids = ids;
    prompt.num_encoder_ids = num_ids;
  } else {
    prompt.decoder_ids = ids;
    prompt.num_decoder_ids = num_ids;
  }
  fuseq_generation_options options;
  fuseq_generation_options_init(&options, sizeof options);
  options.max_length = max_length;
  options.num_beams = num_beams;
  fuseq_result* result;
  if (fuseq_generate(model, &prompt, 1, &options, &result) != FUSEQ_OK) return failed();
  const int code = print_ids(result);
  fuseq_result_free(result);
  return code;
}

int main(int argc, char** argv) {
  if (argc < 5) {
    fprintf(stderr, "usage: generate FOLDER MAX_LENGTH BEAMS ID...\n");
    return 2;
  }
  const size_t num_ids = (size_t)(argc - 4);
  int32_t* ids = malloc(num_ids * sizeof *ids);
  if (!ids) return 1;
  for (size_t i = 0; i < num_ids; ++i) ids[i] = atoi(argv[4 + i]);
  fuseq_model* model;
  int code = 1;
  if (fuseq_model_load(argv[1], NULL, &model) == FUSEQ_OK) {
    code = generate(model, ids, num_ids, atoi(argv[2]), atoi(argv[3]));
    fuseq_model_free(model);
  } else {
    failed();
  }
  free(ids);
  return code;
}
