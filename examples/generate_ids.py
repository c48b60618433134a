# SPDX-License-Identifier: Apache-2.0
"""Token ids in, token ids out, with a tiny model of this repository."""

import fuseq

model = fuseq.load_model("tests/golden/bart_tiny")  # a folder in any of the three forms
options = fuseq.GenerationOptions(max_new_tokens=12, num_beams=4, num_return_sequences=2)

for hypotheses in fuseq.generate(model, [[5, 17, 42, 2], [9, 2]], options):
    for hypothesis in hypotheses:
        print(f"{hypothesis.score:.3f}", hypothesis.ids)
