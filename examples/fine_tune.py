# SPDX-License-Identifier: Apache-2.0
"""Teaches the preset that comes with fuseq a few words that no dictionary has."""

import fuseq

lm = fuseq.Seq2SeqLM.from_preset("g2p_en", dtype="float32")
pairs = {
    "encoder_text": ["nginx", "kubernetes", "fuseq"],
    "decoder_text": ["EH1 N JH IH0 N EH2 K S", "K UW2 B ER0 N EH1 T IY0 Z", "F Y UW1 Z S IY2 K"],
}
adam = {"class_name": "Adam", "config": {"learning_rate": 3e-4}}
lm.compile(optimizer=adam, loss_reduction="tokens", sampler="greedy")
print(lm.generate(["nginx", "roadrunner"]))
history = lm.fit(pairs, epochs=10, seed=1)
print(f"loss {history.history['loss'][0]:.2f} -> {history.history['loss'][-1]:.2f}")
print(lm.generate(["nginx", "roadrunner"]))  # lm.save_to_preset("my_words") keeps it
