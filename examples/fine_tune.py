# SPDX-License-Identifier: Apache-2.0
"""Trains a tiny random preset on a few pairs of texts, and writes with the new weights."""

import fuseq

lm = fuseq.Seq2SeqLM.from_preset(
    "tests/golden/keras_presets/bart_032", encoder_sequence_length=32, decoder_sequence_length=32
)
pairs = {
    "encoder_text": ["the quick brown fox", "a fox", "the inn", "a quick wall"] * 8,
    "decoder_text": ["the fox", "fox", "inn", "the wall"] * 8,
}
lm.compile(optimizer={"class_name": "AdamW", "config": {"learning_rate": 1e-2}}, sampler="greedy")
history = lm.fit(pairs, batch_size=8, epochs=40, seed=1)
print(f"loss {history.history['loss'][0]:.2f} -> {history.history['loss'][-1]:.2f}")
print(lm.evaluate(pairs, generate=True, return_dict=True))
print(lm.generate(["a fox", "the inn"], max_length=12))  # lm.save_to_preset("my_fox") keeps it
