# SPDX-License-Identifier: Apache-2.0
"""Text in, text out: what the README shows first, with the preset that comes with fuseq."""

import fuseq

# It comes with fuseq. Others: "bart_base_en" and its like, kaggle:// and hf:// handles, folders.
lm = fuseq.Seq2SeqLM.from_preset("g2p_en", dtype="float32")  # it is stored in bfloat16
lm.compile(sampler="preset")  # as the preset wants: four beams

print(lm.generate("roadrunner"))
print(lm.generate(["flabbergast", "customize"]))
for generation in lm.generate("either", num_return_sequences=3, return_scores=True):
    print(f"{generation.score:.2f}  {generation.text}")
