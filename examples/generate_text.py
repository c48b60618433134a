# SPDX-License-Identifier: Apache-2.0
"""Text in, text out: what the README shows first, with a tiny random preset."""

import fuseq

# A name such as "bart_base_en", a kaggle:// or hf:// handle, or a folder.
lm = fuseq.models.Seq2SeqLM.from_preset("tests/golden/keras_presets/bart_032")
lm.compile(sampler="beam")

print(lm.generate("the quick brown fox", max_length=12))
print(lm.generate(["the quick brown fox", "a fox"], max_length=12, strip_prompt=True))
for generation in lm.generate("a fox", max_length=12, num_return_sequences=3, return_scores=True):
    print(f"{generation.score:.3f}", generation.text)
