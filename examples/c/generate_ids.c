/* SPDX-License-Identifier: Apache-2.0 */
/* Token ids in, token ids out, in C. */
#include <fuseq/c_api.h>
#include <stdio.h>

int main(void) {
  const int32_t source[] = {5, 17, 42, 2};
  const fuseq_prompt prompt = {
      .struct_size = sizeof prompt, .encoder_ids = source, .num_encoder_ids = 4};
  fuseq_generation_options options;
  fuseq_generation_options_init(&options, sizeof options);
  options.max_new_tokens = 12;
  fuseq_model* model = NULL;
  fuseq_result* result = NULL;
  const int32_t* ids = NULL;
  size_t num_ids = 0;
  if (fuseq_model_load("tests/golden/bart_tiny", NULL, &model) != FUSEQ_OK ||
      fuseq_generate(model, &prompt, 1, &options, &result) != FUSEQ_OK ||
      fuseq_result_ids(result, 0, 0, &ids, &num_ids) != FUSEQ_OK) {
    fprintf(stderr, "%s\n", fuseq_last_error());
    return 1;
  }
  for (size_t i = 0; i < num_ids; ++i) printf("%d ", (int)ids[i]);
  printf("\n");
  fuseq_result_free(result);
  fuseq_model_free(model);
  return 0;
}
