# SPDX-License-Identifier: Apache-2.0
"""Records two tiny models and what KerasHub's samplers do with them and with tables.

Needs keras-hub 0.32.0, torch and an installed fuseq:  python tests/golden/record_keras_hub.py
"""

import json
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import fuseq
import keras_hub
import numpy as np
import torch
from fuseq import _core

Array = np.ndarray
Ids = list[int]

FOLDER = Path(__file__).resolve().parent / "keras_hub"
VERSIONS = ", ".join(f"{name} {version(name)}" for name in ("keras-hub", "keras", "torch"))
PAD, START, EOS = 1, 0, 2
VOCAB, DIM, HEADS, FFN, LAYERS, POSITIONS = 60, 24, 2, 48, 2, 32
SEEDS = {"bart": 31, "gpt2": 41}
TABLE_SPREAD, MATRIX_SPREAD = 2.2, 1.0  # more, and BART amplifies rounding
OPTIONS = [(5, 0.6, 1.0), (4, 0.3, 1.0), (3, 0.9, 1.0), (6, 0.5, 0.7), (5, 0.0, 1.0)]
LENGTHS = [20, 20, 20, 20, 20, POSITIONS]  # one prompt each
SHOWN = ("ids", "probabilities", "similarities")  # of a step of contrastive search, best first
SMALLEST_MARGIN = 1e-4  # below it, rounding could choose
LARGEST_DIFFERENCE = 1e-5  # of logits here and there, in parts of the largest


def spec(family: str) -> dict[str, Any]:
    """The spec of a tiny model of one family."""
    is_bart = family == "bart"
    stack = {
        "layers": LAYERS,
        "dim": DIM,
        "heads": HEADS,
        "kv_heads": HEADS,
        "head_dim": DIM // HEADS,
        "ffn_dim": FFN,
        "norm": "layer",
        "norm_eps": 1e-5,
        "place": "post" if is_bart else "pre",
        "embed_norm": is_bart,
        "final_norm": not is_bart,
        "act": "gelu" if is_bart else "gelu_tanh",
        "positions": "table",
        "max_positions": POSITIONS,
        "position_offset": 0,
    }
    return {
        "family": family,
        "vocab": VOCAB,
        **({"encoder": stack} if is_bart else {}),
        "decoder": stack,
        "head": {"tied": True},
        "pad_id": PAD,
        "bos_id": START,
        **({"decoder_start_id": EOS} if is_bart else {}),
        "eos_ids": [EOS],
        "dropout": 0.0,
        "attention_dropout": 0.0,
    }


def random_weights(text: str, seed: int) -> dict[str, Array]:
    """Weights with enough spread that logits and states differ clearly, as in oracle_models.py."""
    generator = np.random.default_rng(seed)
    weights = {}
    for name, shape, _ in _core.weight_table(text):
        noise = generator.standard_normal(shape)
        if name in ("embed.tokens", "encoder.positions", "decoder.positions"):
            noise *= TABLE_SPREAD / np.sqrt(shape[1])
        elif len(shape) == 2:
            # Centred over the inputs, or the mean of gelu would be one vector in every state.
            noise -= noise.mean(1, keepdims=True)
            noise *= MATRIX_SPREAD / np.sqrt(shape[1])
        elif name.endswith("norm.weight"):
            noise = 1 + 0.1 * noise
        else:
            noise *= 0.1
        if "encoder.positions" in weights:  # rows that depend on where they are
            if name == "decoder.positions" or name.endswith("ffn.down.weight"):
                noise *= 2
            elif name.endswith("cross_attn.o.weight"):
                noise *= 0.5
        weights[name] = noise.astype(np.float32)
    return weights


def layer_variables(layer: Any) -> dict[str, Any]:
    """KerasHub's variables of one transformer layer under our names."""
    found = {}
    for ours, theirs in (("attn", "self"), ("cross_attn", "cross")):
        attention = getattr(layer, f"_{theirs}_attention_layer", None)
        if attention is None:
            continue
        for letter, part in zip("qkvo", ("query", "key", "value", "output"), strict=True):
            dense = getattr(attention, f"_{part}_dense")
            found[f"{ours}.{letter}.weight"] = dense.kernel
            found[f"{ours}.{letter}.bias"] = dense.bias
        norm = getattr(layer, f"_{theirs}_attention_layer_norm")
        found[f"{ours}_norm.weight"], found[f"{ours}_norm.bias"] = norm.gamma, norm.beta
    for ours, part in (("up", "intermediate"), ("down", "output")):
        dense = getattr(layer, f"_feedforward_{part}_dense")
        found[f"ffn.{ours}.weight"], found[f"ffn.{ours}.bias"] = dense.kernel, dense.bias
    norm = layer._feedforward_layer_norm
    found["ffn_norm.weight"], found["ffn_norm.bias"] = norm.gamma, norm.beta
    return found


def variables(backbone: Any) -> dict[str, Any]:
    """All variables of a backbone under our names."""
    found = {"embed.tokens": backbone.token_embedding.embeddings}
    if isinstance(backbone, keras_hub.models.BartBackbone):
        norms = []
        for stack in ("encoder", "decoder"):
            table = getattr(backbone, f"{stack}_position_embedding")
            found[f"{stack}.positions"] = table.position_embeddings
            norms.append(
                (f"{stack}.embed_norm", getattr(backbone, f"{stack}_embeddings_layer_norm"))
            )
        stacks = {
            "encoder": backbone.encoder_transformer_layers,
            "decoder": backbone.decoder_transformer_layers,
        }
    else:
        found["decoder.positions"] = backbone.position_embedding.position_embeddings
        norms = [("decoder.final_norm", backbone.layer_norm)]
        stacks = {"decoder": backbone.transformer_layers}
    for name, norm in norms:
        found[f"{name}.weight"], found[f"{name}.bias"] = norm.gamma, norm.beta
    for stack, layers in stacks.items():
        for index, layer in enumerate(layers):
            for name, variable in layer_variables(layer).items():
                found[f"{stack}.{index}.{name}"] = variable
    return found


def their_model(family: str, weights: dict[str, Array]) -> Any:
    """KerasHub's task with our weights."""
    is_bart = family == "bart"
    make = keras_hub.models.BartBackbone if is_bart else keras_hub.models.GPT2Backbone
    backbone = make(
        vocabulary_size=VOCAB,
        num_layers=LAYERS,
        num_heads=HEADS,
        hidden_dim=DIM,
        intermediate_dim=FFN,
        max_sequence_length=POSITIONS,
        dropout=0.0,
    )
    theirs = variables(backbone)
    if set(theirs) != set(weights) or len(theirs) != len(backbone.variables):
        raise ValueError(f"weights: the names must agree, got {set(theirs) ^ set(weights)}")
    for name, variable in theirs.items():
        is_matrix = name.endswith(".weight") and weights[name].ndim == 2
        value = weights[name].T if is_matrix else weights[name]  # theirs are [inputs, outputs]
        variable.assign(value.reshape(variable.shape))
    task = keras_hub.models.BartSeq2SeqLM if is_bart else keras_hub.models.GPT2CausalLM
    return task(backbone=backbone, preprocessor=None)


class Models:
    """The same model here and there."""

    def __init__(self, family: str, seed: int) -> None:
        text = json.dumps(spec(family))
        weights = random_weights(text, seed)
        self.is_bart = family == "bart"
        self.ours = _core.Model.build(text, weights)
        self.theirs = their_model(family, weights)
        self.table = weights["embed.tokens"]

    def inputs(self, encoder_ids: Ids, rows: Any, lengths: Ids) -> dict[str, Any]:
        """What KerasHub takes: rows of ids, each with as many true ids as `lengths` says."""
        ids = torch.tensor(rows, dtype=torch.int32)
        mask = torch.arange(ids.shape[1]) < torch.tensor(lengths)[:, None]
        if not self.is_bart:
            return {"token_ids": ids, "padding_mask": mask}
        source = torch.tensor([encoder_ids] * len(ids), dtype=torch.int32)
        return {
            "encoder_token_ids": source,
            "encoder_padding_mask": torch.ones_like(source, dtype=torch.bool),
            "decoder_token_ids": ids,
            "decoder_padding_mask": mask,
        }

    def states(self, encoder_ids: Ids, rows: list[Ids]) -> Array:
        """The vectors [B, T, D] that go into the head, from a forward pass without caches."""
        inputs = self.inputs(encoder_ids, rows, [len(row) for row in rows])
        with torch.no_grad():
            states = self.theirs.backbone(inputs)
        states = states["decoder_sequence_output"] if self.is_bart else states
        return states.numpy()

    def difference(self, encoder_ids: Ids, decoder_ids: Ids) -> float:
        """How far the logits are apart, in parts of the largest."""
        inputs = self.inputs(encoder_ids, [decoder_ids], [len(decoder_ids)])
        with torch.no_grad():
            theirs = self.theirs(inputs)[0].numpy()
        prompt = fuseq.Prompt(encoder_ids, decoder_ids)
        ours = fuseq.Session(self.ours).forward([prompt]).numpy().reshape(theirs.shape)
        return float(np.abs(ours - theirs).max() / np.abs(theirs).max())

    def generate(
        self,
        sampler: Any,
        encoder_ids: Ids,
        prompt: Ids,
        length: int,
        stop_ids: Ids,
    ) -> Ids:
        """What KerasHub's `generate` makes of one prompt, up to and with the stop id."""
        self.theirs.compile(sampler=sampler)
        row = prompt + [PAD] * (length - len(prompt))
        inputs = self.inputs(encoder_ids, [row], [len(prompt)])
        output = self.theirs.generate(inputs, stop_token_ids=stop_ids or None)
        prefix = "decoder_" if self.is_bart else ""
        return output[f"{prefix}token_ids"][0][output[f"{prefix}padding_mask"][0]].tolist()


def softmax(logits: Array) -> Array:
    """Probabilities along the last axis."""
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def contrastive_step(
    states_of: Callable[[list[Ids]], Array],
    logits_of: Callable[[Array], Array],
    row: Ids,
    options: tuple[int, float, float],
) -> dict[str, Any]:
    """The candidates of one step, best first, and how clear the choice was."""
    k, alpha, temperature = options
    seen = states_of([row])[0]
    logits = logits_of(seen[-1])
    order = np.argsort(-logits, kind="stable")
    candidates = order[:k]
    probabilities = softmax(logits / temperature)[candidates]
    states = states_of([[*row, int(candidate)] for candidate in candidates])[:, -1]
    norms = np.linalg.norm(states, axis=-1)[:, None] * np.linalg.norm(seen, axis=-1)
    similarities = (states @ seen.T / norms).max(1)
    scores = (1 - alpha) * probabilities - alpha * similarities
    best = np.argsort(-scores, kind="stable")
    margin = scores[best[0]] - scores[best[1]] if k > 1 else np.inf
    edge = logits[order[k - 1]] - logits[order[k]] if k < len(order) else np.inf
    return {
        "ids": candidates[best].tolist(),
        "probabilities": rounded(probabilities[best]),
        "similarities": rounded(similarities[best]),
        "margin": float(margin),
        "edge": float(edge),  # between the last candidate's logit and the next
    }


def rounded(values: Any) -> Any:
    """Nested lists with six digits after the point."""
    return np.round(np.asarray(values, np.float64), 6).tolist()


def contrastive_cases(name: str, models: Models, seed: int) -> tuple[list[Any], dict[str, Any]]:
    """Cases of one model, and one trace of all candidates."""
    generator = np.random.default_rng(seed)
    cases, trace = [], []
    for length in LENGTHS:
        encoder_ids, prompt = [], generator.integers(3, VOCAB, generator.integers(2, 7)).tolist()
        if models.is_bart:
            encoder_ids = generator.integers(3, VOCAB, generator.integers(3, 11)).tolist()
            prompt = [EOS, START, *prompt[: generator.integers(0, 3)]]
        greedy = models.generate(
            keras_hub.samplers.GreedySampler(), encoder_ids, prompt, length, []
        )
        for options in OPTIONS:
            k, alpha, temperature = options
            sampler = keras_hub.samplers.ContrastiveSampler(
                k=k, alpha=alpha, temperature=temperature
            )
            full = models.generate(sampler, encoder_ids, prompt, length, [])
            assert models.difference(encoder_ids, full) < LARGEST_DIFFERENCE
            steps = [
                contrastive_step(
                    lambda rows, source=encoder_ids: models.states(source, rows),
                    lambda state: models.table @ state,
                    full[:index],
                    options,
                )
                for index in range(len(prompt), length)
            ]
            trace = trace or [{key: step[key] for key in SHOWN} for step in steps]
            usable = [id for id in full[len(prompt) + 2 : -2] if id != PAD]  # or nothing would run
            middle = usable[int(generator.integers(len(usable)))]
            for stop_ids in ([], [middle, prompt[0]]):
                ids = models.generate(sampler, encoder_ids, prompt, length, stop_ids)
                taken = steps[: len(ids) - len(prompt)]
                margin = min(step["margin"] for step in taken)
                edge = min(step["edge"] for step in taken)
                if min(margin, edge) < SMALLEST_MARGIN:
                    print(f"{name}: dropped a case of {options}: {margin:.1e}, {edge:.1e}")
                    continue
                assert ids[len(prompt) :] == [step["ids"][0] for step in taken]
                cases.append(
                    {
                        "model": name,
                        "encoder_ids": encoder_ids,
                        "decoder_ids": prompt,
                        "k": k,
                        "alpha": alpha,
                        "temperature": temperature,
                        "max_length": length,
                        "stop_ids": stop_ids,
                        "ids": ids,
                        "margin": rounded(margin),
                        "is_greedy": ids == greedy[: len(ids)],
                    }
                )
    return cases, {"model": name, "case": 0, "steps": trace}


def log_table(rows: list[list[float]]) -> Array:
    """Next-id log-probabilities by last id, as they are written down."""
    return np.round(np.log(np.asarray(rows) / np.sum(rows, axis=1, keepdims=True)), 6)


# Row: the last id; column: the next. Id 1 ends a row.
TABLES = {
    # [2, 1] has probability 0.5; after an end the rows of 3 are cheap, those of 1 are not.
    "end_goes_on": log_table([[5, 7.5, 62.5, 25], [20, 22, 27, 31], [6, 80, 4, 10], [2, 3, 5, 90]]),
    # The same, but an end is followed by ends.
    "end_stays": log_table([[5, 7.5, 62.5, 25], [0.5, 97, 1, 1.5], [6, 80, 4, 10], [2, 3, 5, 90]]),
    # 2 and 3 leave much open, 4 and 5 little.
    "flat_then_sharp": log_table(
        [
            [10, 12, 15, 18, 21, 24],
            [24, 21, 18, 15, 12, 10],
            [3, 6, 14, 20, 30, 27],
            [2, 5, 16, 20, 24, 33],
            [1, 2, 5, 9, 3, 80],
            [2, 3, 5, 6, 64, 20],
        ]
    ),
}
# The hidden state of a position by its id, for contrastive search.
STATES = np.round(np.random.default_rng(5).standard_normal((6, 4)), 3)


def call(sampler: Any, case: dict[str, Any]) -> Any:
    """Calls a sampler by its protocol with a table as the model."""
    table = torch.tensor(TABLES[case["table"]], dtype=torch.float32)
    states = torch.tensor(STATES, dtype=torch.float32)

    def next_logits(prompt: Any, cache: Any, index: Any) -> Any:
        last = prompt[:, int(index) - 1].long()
        return table[last], states[last], cache

    prompt = torch.tensor(case["prompts"], dtype=torch.int32)
    mask = None if case["mask"] is None else torch.tensor(case["mask"], dtype=torch.bool)
    return sampler(
        next_logits,
        prompt,
        index=case["index"],
        mask=mask,
        stop_token_ids=case["stop_ids"],
        hidden_states=states[prompt.long()],
    )


def row_alone(case: dict[str, Any], row: int) -> dict[str, Any]:
    """One row of a case as a batch of its own, which starts where its prompt ends."""
    prompt, mask = case["prompts"][row], case["mask"][row]
    return {**case, "prompts": [prompt], "mask": [mask], "index": mask.index(False)}


def beams(case: dict[str, Any]) -> dict[str, Any]:
    """All of KerasHub's beams, best first, and the row that it returns without being asked."""
    size = case["num_beams"]
    make = keras_hub.samplers.BeamSampler
    rows, scores = call(make(num_beams=size, return_all_beams=True), case)
    top = call(make(num_beams=size), case)
    return {"beams": rows.tolist(), "scores": rounded(scores), "top": top.tolist()}


def best(table: Array, row: Ids, length: int) -> tuple[float, Ids]:
    """The likeliest way on from a row that ends with id 1 or at `length`, by trying all."""
    if len(row) == length:
        return 0.0, row
    found = []
    for token, score in enumerate(table[row[-1]]):
        more, whole = (0.0, [*row, 1]) if token == 1 else best(table, [*row, token], length)
        found.append((score + more, whole))
    return max(found)


def beam_cases() -> list[dict[str, Any]]:
    """The two faults of KerasHub's beam search, and a table with which it is right."""
    cases = []
    for table in ("end_goes_on", "end_stays"):
        for num_beams in (2, 3):
            for length in (4, 6, 8):
                case = {"fault": "end", "table": table, "prompts": [[0] * length]}
                case |= {"mask": [[True] + [False] * (length - 1)], "index": 1, "stop_ids": [1]}
                case |= {"num_beams": num_beams}
                score, ids = best(TABLES[table], [0], length)
                alone = [{"index": 1, **beams(case)}]
                cases.append(
                    {**case, **beams(case), "alone": alone}
                    | {"best": [{"ids": ids, "score": rounded(score)}]}
                )
    for num_beams in (2, 3):
        for stop_ids in (None, [1]):
            for prompts in ([[3, 2], [2, 3, 4]], [[2, 3, 2, 4], [3, 2], [3, 3, 4]]):
                case = {"fault": "ragged", "table": "flat_then_sharp", **padded(prompts, 6, 0)}
                case |= {"stop_ids": stop_ids, "num_beams": num_beams}
                alone = [row_alone(case, row) for row in range(len(prompts))]
                cases.append(
                    {**case, **beams(case)}
                    | {"alone": [{"index": one["index"], **beams(one)} for one in alone]}
                )
    return cases


def padded(prompts: list[Ids], length: int, pad: int) -> dict[str, Any]:
    """Prompts, mask and index as KerasHub's `generate` would pass them on."""
    lengths = [len(prompt) for prompt in prompts]
    return {
        "prompts": [prompt + [pad] * (length - len(prompt)) for prompt in prompts],
        "mask": [[at < size for at in range(length)] for size in lengths],
        "index": min(lengths),
    }


def protocol_inputs() -> list[dict[str, Any]]:
    """What the samplers are called with."""
    ragged = padded([[2], [2, 3, 4]], 8, 0)
    holes = [[2, 0, 0, 3, 0, 0, 0, 0], [3, 0, 5, 0, 0, 2, 0, 0]]
    rows = [
        ("ragged prompts", "flat_then_sharp", ragged, None),
        ("stop id", "flat_then_sharp", ragged, [5]),
        ("stop id that is in a prompt", "flat_then_sharp", padded([[3], [2, 3, 4]], 8, 0), [3, 5]),
        ("two stop ids", "end_goes_on", padded([[0], [3, 3], [2]], 7, 0), [1, 2]),
        ("rows that go on after their stop id", "end_goes_on", padded([[0], [3]], 6, 0), [1]),
        ("padding that is a stop id", "flat_then_sharp", padded([[2], [2, 3, 4]], 8, 5), [5]),
        ("no mask", "flat_then_sharp", {**ragged, "mask": None}, None),
        ("no mask, stop id in the prompt", "end_goes_on", {**padded([[0, 1, 3]], 6, 0)}
         | {"mask": None}, [1]),
        ("given ids further on", "flat_then_sharp",
         {"prompts": holes, "mask": [[x > 0 for x in row] for row in holes], "index": 1}, None),
        ("nothing left to fill", "flat_then_sharp", {**ragged, "index": 8}, [5]),
    ]  # fmt: skip
    return [
        {"about": about, "table": table, **inputs, "stop_ids": stop_ids}
        for about, table, inputs, stop_ids in rows
    ]


def protocol_cases() -> list[dict[str, Any]]:
    """What the samplers that leave nothing to chance return for each input."""
    makes = keras_hub.samplers
    samplers = [
        ({"name": "greedy", "temperature": 1.0}, makes.GreedySampler()),
        ({"name": "greedy", "temperature": 0.5}, makes.GreedySampler(temperature=0.5)),
        ({"name": "top_k", "k": 1, "temperature": 1.0}, makes.TopKSampler(k=1, seed=1)),
        ({"name": "top_p", "p": 1e-6, "temperature": 1.0}, makes.TopPSampler(p=1e-6, seed=1)),
        ({"name": "top_p", "p": 1e-6, "k": 2, "temperature": 1.0},
         makes.TopPSampler(p=1e-6, k=2, seed=1)),
        *(({"name": "contrastive", "k": k, "alpha": alpha, "temperature": temperature},
           makes.ContrastiveSampler(k=k, alpha=alpha, temperature=temperature))
          for k, alpha, temperature in ((3, 0.8, 1.0), (2, 0.6, 0.7))),
    ]  # fmt: skip
    cases = []
    for case in protocol_inputs():
        for options, sampler in samplers:
            if options["name"] == "contrastive" and case["index"] == len(case["prompts"][0]):
                continue
            output = call(sampler, case).tolist()
            if options["name"] == "contrastive":
                check_table_margins(case, options, output)
            cases.append({"sampler": options, **case, "output": output})
    return cases


def check_table_margins(case: dict[str, Any], options: dict[str, Any], output: list[Ids]) -> None:
    """Raises if a choice of contrastive search on a table was close, or not ours."""
    table, numbers = TABLES[case["table"]], ("k", "alpha", "temperature")
    end, pairs = len(output[0]), list(zip(output, case["prompts"], strict=True))
    if case["stop_ids"]:  # what was not reached is as it was
        while end > case["index"] and all(row[end - 1] == old[end - 1] for row, old in pairs):
            end -= 1
    for number, row in enumerate(output):
        mask = case["mask"][number] if case["mask"] else [False] * len(row)
        for index in range(case["index"], end):
            if mask[index]:
                continue
            step = contrastive_step(
                lambda rows: STATES[np.asarray(rows)],
                lambda _, last=row[index - 1]: table[last],
                row[:index],
                tuple(options[name] for name in numbers),
            )
            assert row[index] == step["ids"][0], (case, options, index)
            assert min(step["margin"], step["edge"]) > SMALLEST_MARGIN, (case, options, index)


def write(name: str, head: dict[str, Any], cases: list[dict[str, Any]]) -> None:
    """Writes a file with one case per line."""

    def line(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"))

    parts = [f"{line(key)}:{line(value)}" for key, value in head.items()]
    lines = ",\n".join(line(case) for case in cases)
    text = "{" + ",\n".join(parts) + ',\n"cases":[\n' + lines + "\n]}\n"
    (FOLDER / name).write_text(text)


def main() -> None:
    """Writes the models and all files of `keras_hub/`."""
    if version("keras-hub") != "0.32.0":
        raise SystemExit(f"keras-hub: must be 0.32.0, got {version('keras-hub')}")
    head = {"recorded_with": VERSIONS}
    cases, traces = [], []
    for name, seed in SEEDS.items():
        models = Models(name, seed)
        models.ours.save(FOLDER / name)
        more, trace = contrastive_cases(name, models, seed)
        traces.append({**trace, "case": len(cases)})
        cases += more
    write("contrastive.json", {**head, "traces": traces}, cases)
    tables = {name: table.tolist() for name, table in TABLES.items()}
    write("beam_faults.json", {**head, "tables": tables}, beam_cases())
    states = {"hidden_states": STATES.tolist()}
    write("protocol.json", {**head, "tables": tables, **states}, protocol_cases())
    differing = sum(not case["is_greedy"] for case in cases)
    print(f"{len(cases)} contrastive cases, {differing} differ from greedy")


if __name__ == "__main__":
    main()
