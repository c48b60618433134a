# SPDX-License-Identifier: Apache-2.0
"""Compares greedy and beam search with transformers over a covering set of options.

Ours runs ragged batches, transformers one prompt at a time. Ids must be equal, scores to 1e-3.
Unequal ids count as equal only where both hypotheses, rescored in float64 under the same rules,
differ by less than 1e-5.

Run in full:  python tests/python/oracle_generation.py [--json tests/python/oracle_generation.json]
"""

import argparse
import copy
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fuseq
import oracle_models
import torch
from covering import covering_rows
from transformers import GenerationConfig
from transformers.generation import logits_process as rules

SCORE_TOLERANCE = 1e-3
TIE = 1e-5
MAX_TIES = 0.01  # of all prompts
SECOND_STOPS = [17, 101]
SUPPRESSED = [5, 6, 77, 200, 301, 302, 403]
BIASES = {9: 2.5, 44: -3.0, 120: 4.0, 333: 1.5}

FACTORS: dict[str, Sequence[Any]] = {
    "model": ("bart", "gpt2", "bart_small"),
    "num_beams": (1, 2, 4, 5),
    "length_penalty": (-1.0, 0.0, 1.0, 2.0),
    "early_stopping": (False, True, "never"),
    "num_return_sequences": (1, 2, "all"),
    "no_repeat_ngram_size": (0, 2, 3),
    "repetition_penalty": (1.0, 0.8, 1.3),
    "lengths": (
        {"max_length": 20},
        {"max_new_tokens": 12},
        {"max_length": 24, "min_length": 14},
        {"max_new_tokens": 15, "min_new_tokens": 6},
        {"max_new_tokens": 3},
    ),
    "forced": (
        {},
        {"forced_bos_token_id": 33},
        {"forced_eos_token_id": oracle_models.EOS},
        {"forced_bos_token_id": 7, "forced_eos_token_id": oracle_models.EOS},
    ),
    "suppressed": ([], SUPPRESSED),
    "biases": ({}, BIASES),
    "stops": ([], SECOND_STOPS),
    "start": ("default", "one id", "several ids"),
}


@dataclass
class Tally:
    """What came out of the comparison."""

    prompts: int = 0
    hypotheses: int = 0
    ties: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    worst_score: float = 0.0
    stopped_early: int = 0

    @property
    def passed(self) -> bool:
        """Whether all is equal but for a few ties."""
        return not self.failures and len(self.ties) <= MAX_TIES * self.prompts


class Pair:
    """One random model, in transformers and in ours."""

    def __init__(self, model: Any) -> None:
        """Carries the model over through a folder."""
        self.oracle = model
        self.oracle.generation_config = GenerationConfig()
        self.exact = copy.deepcopy(model).double()
        with tempfile.TemporaryDirectory() as folder:
            self.ours = fuseq.load_model(oracle_models.save(model, Path(folder)))
        self.is_seq2seq = bool(model.config.is_encoder_decoder)


def make_pairs() -> dict[str, Pair]:
    """The models of the comparison; their end id comes early enough for beams to finish."""
    return {
        "bart": Pair(oracle_models.bart(21, gain=1.6, eos_bias=6.5)),
        "gpt2": Pair(oracle_models.gpt2(22, gain=2.0, eos_bias=2.5)),
        "bart_small": Pair(
            oracle_models.bart(
                23, gain=1.6, eos_bias=6.0, vocab_size=500, d_model=32, encoder_layers=1,
                decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=4,
                decoder_ffn_dim=64, scale_embedding=True, activation_function="relu",
            )
        ),
    }  # fmt: skip


def our_options(row: dict[str, Any]) -> dict[str, Any]:
    """GenerationOptions of a row of the covering set."""
    wanted = row["num_return_sequences"]
    beams = row["num_beams"]
    return {
        "num_beams": beams,
        "num_return_sequences": beams if wanted == "all" else min(wanted, beams),
        "length_penalty": row["length_penalty"],
        "early_stopping": row["early_stopping"],
        "no_repeat_ngram_size": row["no_repeat_ngram_size"],
        "repetition_penalty": row["repetition_penalty"],
        "stop_token_ids": row["stops"],
        "suppress_token_ids": row["suppressed"],
        "logit_bias": row["biases"],
        **row["lengths"],
        **row["forced"],
    }


def their_options(row: dict[str, Any]) -> dict[str, Any]:
    """The same for transformers."""
    options = our_options(row)
    for name in ("stop_token_ids", "suppress_token_ids", "logit_bias"):
        del options[name]
    options["eos_token_id"] = [oracle_models.EOS, *row["stops"]]
    if row["suppressed"]:
        options["suppress_tokens"] = row["suppressed"]
    if row["biases"]:
        options["sequence_bias"] = {(token,): bias for token, bias in row["biases"].items()}
    return options


def make_prompts(row: dict[str, Any], pair: Pair, count: int, seed: int) -> list[fuseq.Prompt]:
    """Ragged random prompts; a causal model's decoder ids are its prompt."""
    generator = torch.Generator().manual_seed(seed)
    vocab = pair.oracle.config.vocab_size
    bounds = {"default": (0, 0), "one id": (1, 1), "several ids": (2, 6)}[row["start"]]
    if not pair.is_seq2seq and row["start"] == "default":
        bounds = (1, 8)
    prompts = []
    for _ in range(count):
        source = oracle_models.random_ids(generator, vocab, 1, 30) if pair.is_seq2seq else []
        ids = oracle_models.random_ids(generator, vocab, *bounds)
        if pair.is_seq2seq and row["start"] != "default":
            ids[0] = oracle_models.EOS  # the start id; transformers would put it first itself
        prompts.append(fuseq.Prompt(source, ids))
    return prompts


def their_hypotheses(
    pair: Pair, prompt: fuseq.Prompt, row: dict[str, Any]
) -> tuple[list[list[int]], list[float]]:
    """Rows and scores of transformers for one prompt, what follows a stop id cut off."""
    ids = torch.tensor([prompt.encoder_ids or prompt.decoder_ids])
    config = GenerationConfig(
        do_sample=False,
        pad_token_id=oracle_models.PAD,
        bos_token_id=oracle_models.BOS,
        decoder_start_token_id=oracle_models.EOS,
        return_dict_in_generate=True,
        output_scores=True,
        **their_options(row),
    )
    inputs = {}
    if pair.is_seq2seq and prompt.decoder_ids:
        inputs["decoder_input_ids"] = torch.tensor([prompt.decoder_ids])
    with torch.no_grad():
        output = pair.oracle.generate(
            ids, attention_mask=torch.ones_like(ids), generation_config=config, **inputs
        )
    stops = {oracle_models.EOS, *row["stops"]}
    start = prompt_length(prompt)
    rows = []
    for sequence in output.sequences.tolist():
        ends = (i + 1 for i in range(start, len(sequence)) if sequence[i] in stops)
        rows.append(sequence[: next(ends, None)])
    scores = output.get("sequences_scores")
    return rows, [0.0] * len(rows) if scores is None else scores.tolist()


def prompt_length(prompt: fuseq.Prompt) -> int:
    """Tokens of the decoder row before the first new one."""
    return len(prompt.decoder_ids) or 1


def processors(row: dict[str, Any], start: int) -> list[Any]:
    """The rules of a row as transformers' own processors, in transformers' order."""
    options = our_options(row)
    stops = torch.tensor([oracle_models.EOS, *row["stops"]])
    longest = options.get("max_length") or start + options["max_new_tokens"]
    made: list[Any] = []
    if row["biases"]:
        biases = {(token,): bias for token, bias in row["biases"].items()}
        made.append(rules.SequenceBiasLogitsProcessor(biases))
    if row["repetition_penalty"] != 1:
        made.append(rules.RepetitionPenaltyLogitsProcessor(row["repetition_penalty"]))
    if row["no_repeat_ngram_size"]:
        made.append(rules.NoRepeatNGramLogitsProcessor(row["no_repeat_ngram_size"]))
    if "min_length" in options:
        made.append(rules.MinLengthLogitsProcessor(options["min_length"], stops))
    if "min_new_tokens" in options:
        made.append(
            rules.MinNewTokensLengthLogitsProcessor(start, options["min_new_tokens"], stops)
        )
    if "forced_bos_token_id" in options:
        made.append(rules.ForcedBOSTokenLogitsProcessor(options["forced_bos_token_id"]))
    if "forced_eos_token_id" in options:
        made.append(rules.ForcedEOSTokenLogitsProcessor(longest, options["forced_eos_token_id"]))
    if row["suppressed"]:
        made.append(rules.SuppressTokensLogitsProcessor(row["suppressed"]))
    return made


def exact_scores(
    pair: Pair, prompt: fuseq.Prompt, ids: list[int], row: dict[str, Any]
) -> list[float]:
    """Each new token's processed score in float64."""
    start = prompt_length(prompt)
    inputs = {"input_ids": torch.tensor([ids[:-1]])}
    if pair.is_seq2seq:
        inputs = {
            "input_ids": torch.tensor([prompt.encoder_ids]),
            "decoder_input_ids": torch.tensor([ids[:-1]]),
        }
    with torch.no_grad():
        logits = pair.exact(**inputs).logits[0]
    made = processors(row, start)
    scores = []
    for at in range(start, len(ids)):
        step = logits[at - 1][None]
        step = torch.log_softmax(step, -1) if row["num_beams"] > 1 else step.clone()
        for process in made:
            step = process(torch.tensor([ids[:at]]), step)
        scores.append(float(step[0, ids[at]]))
    return scores


def is_tie(
    pair: Pair, prompt: fuseq.Prompt, ours: list[int], theirs: list[int], row: dict[str, Any]
) -> tuple[bool, float]:
    """Whether float64 cannot tell two hypotheses apart, and by how much they differ."""
    start = prompt_length(prompt)
    mine = exact_scores(pair, prompt, ours, row)
    other = exact_scores(pair, prompt, theirs, row)
    if row["num_beams"] == 1:  # the first choice that differs
        at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
        difference = float("inf") if at is None else abs(mine[at - start] - other[at - start])
    else:
        power = row["length_penalty"]
        totals = [sum(scores) / len(scores) ** power for scores in (mine, other)]
        difference = abs(totals[0] - totals[1])
    return difference < TIE, difference


def compare(tally: Tally, pair: Pair, row: dict[str, Any], count: int, seed: int) -> None:
    """One ragged batch of ours against transformers prompt by prompt."""
    prompts = make_prompts(row, pair, count, seed)
    results = fuseq.generate(pair.ours, prompts, fuseq.GenerationOptions(**our_options(row)))
    for prompt, hypotheses in zip(prompts, results, strict=True):
        rows, scores = their_hypotheses(pair, prompt, row)
        tally.prompts += 1
        tally.hypotheses += len(rows)
        if len(rows) != len(hypotheses):
            tally.failures.append({"row": row, "counts": [len(hypotheses), len(rows)]})
            continue
        tied = False
        for ours, theirs, score in zip(hypotheses, rows, scores, strict=True):
            tally.stopped_early += ours.stop_reason == "stop_id"
            known = {
                "row": row,
                "encoder_ids": prompt.encoder_ids,
                "decoder_ids": prompt.decoder_ids,
                "ours": ours.ids,
                "theirs": theirs,
                "scores": [ours.score, score],
            }
            off = abs(ours.score - score)
            if ours.ids == theirs and off <= SCORE_TOLERANCE:
                tally.worst_score = max(tally.worst_score, off)
                continue
            if ours.ids == theirs:
                tally.failures.append(known)
                continue
            same, difference = is_tie(pair, prompt, ours.ids, theirs, row)
            known["float64_difference"] = difference
            if not same:
                tally.failures.append(known)
            elif not tied:
                tied = True
                tally.ties.append(known)


def run(count: int, rows: Sequence[dict[str, Any]], seed: int = 0) -> Tally:
    """Compares `count` prompts under each row of options."""
    tally = Tally()
    pairs = make_pairs()
    for index, row in enumerate(rows):
        compare(tally, pairs[row["model"]], row, count, seed + index)
    return tally


def main() -> int:
    """Compares at least 500 prompts; returns 1 if more than ties differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--prompts-per-row", type=int, default=18)
    parser.add_argument("--max-rows", type=int, help="only so many rows of the covering set")
    options = parser.parse_args()
    started = time.monotonic()
    rows = covering_rows(FACTORS)[: options.max_rows]
    tally = run(options.prompts_per_row, rows)
    for kind, entries in (("tie", tally.ties), ("FAILURE", tally.failures)):
        for entry in entries:
            print(f"{kind}: {json.dumps(entry)}")
    summary = {
        "rows_of_options": len(rows),
        "prompts": tally.prompts,
        "hypotheses": tally.hypotheses,
        "ended_by_a_stop_id": tally.stopped_early,
        "ties": tally.ties,
        "failures": len(tally.failures),
        "largest_score_difference": tally.worst_score,
        "seconds": round(time.monotonic() - started),
    }
    text = json.dumps(summary, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    return int(not tally.passed)


if __name__ == "__main__":
    sys.exit(main())
