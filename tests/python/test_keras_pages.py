# SPDX-License-Identifier: Apache-2.0
"""The examples of KerasHub's pages on Seq2SeqLM, CausalLM and BartSeq2SeqLM run as printed.

Small presets stand in for the named ones. Long lists are cut in two.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fuseq
import numpy as np
import pytest
import stand_in_presets

ALIASES = ("keras_hub", "keras_nlp")

EXAMPLES = {
    "seq2seq": '''
# Load a Bart backbone with pre-trained weights.
seq_2_seq_lm = keras_hub.models.Seq2SeqLM.from_preset(
    "bart_base_en",
)
seq_2_seq_lm.compile(sampler="top_k")
# Generate conditioned on the `"The quick brown fox."` as an input sequence.
seq_2_seq_lm.generate("The quick brown fox.", max_length=30)
''',
    "causal": '''
# Load a GPT2 backbone with pre-trained weights.
causal_lm = keras_hub.models.CausalLM.from_preset(
    "gpt2_base_en",
)
causal_lm.compile(sampler="top_k")
causal_lm.generate("Keras is a", max_length=64)
''',
    "mistral": '''
# Load a Mistral instruction tuned checkpoint at bfloat16 precision.
causal_lm = keras_hub.models.CausalLM.from_preset(
    "mistral_instruct_7b_en",
    dtype="bfloat16",
)
causal_lm.compile(sampler="greedy")
causal_lm.generate("Keras is a", max_length=64)
''',
    "gemma": '''
# Load a Gemma generative task.
causal_lm = keras_hub.models.CausalLM.from_preset(
    "gemma_2b_en",
)
''',
    "classifier": '''
# Load a Bert classification task.
model = keras_hub.models.TextClassifier.from_preset(
    "bert_base_en",
    num_classes=2,
)
''',
    "bart": '''
bart_lm = keras_hub.models.BartSeq2SeqLM.from_preset("bart_base_en")
bart_lm.generate("The quick brown fox", max_length=30)
# Generate with batched inputs.
bart_lm.generate(["The quick brown fox", "The whale"], max_length=30)
''',
    "bart, compiled": '''
bart_lm = keras_hub.models.BartSeq2SeqLM.from_preset("bart_base_en")
bart_lm.compile(sampler="greedy")
bart_lm.generate("The quick brown fox", max_length=30)
''',
    "bart, prompt": '''
bart_lm = keras_hub.models.BartSeq2SeqLM.from_preset("bart_base_en")
bart_lm.generate(
    {
        "encoder_text": "The quick brown fox",
        "decoder_text": "The fast"
    }
)
''',
    "bart, ids": '''
# Preprocessed inputs, with encoder inputs corresponding to
# "The quick brown fox", and the decoder inputs to "The fast". Use
# `"padding_mask"` to indicate values that should not be overridden.
prompt = {
    "encoder_token_ids": np.array([[0, 133, 2119, 6219, 23602, 2, 1, 1]]),
    "encoder_padding_mask": np.array(
        [[True, True, True, True, True, True, False, False]]
    ),
    "decoder_token_ids": np.array([[2, 0, 133, 1769, 2, 1, 1]]),
    "decoder_padding_mask": np.array([[True, True, True, True, False, False]])
}
bart_lm = keras_hub.models.BartSeq2SeqLM.from_preset(
    "bart_base_en",
    preprocessor=None,
)
bart_lm.generate(prompt)
''',
    "bart, fit": '''
features = {
    "encoder_text": ["The quick brown fox jumped.", "I forgot my homework."],
    "decoder_text": ["The fast hazel fox leapt.", "I forgot my assignment."]
}
bart_lm = keras_hub.models.BartSeq2SeqLM.from_preset("bart_base_en")
bart_lm.fit(x=features, batch_size=2)
''',
    "bart, fit on ids": '''
x = {
    "encoder_token_ids": np.array([[0, 133, 2119, 2, 1]] * 2),
    "encoder_padding_mask": np.array([[1, 1, 1, 1, 0]] * 2),
    "decoder_token_ids": np.array([[2, 0, 133, 1769, 2]] * 2),
    "decoder_padding_mask": np.array([[1, 1, 1, 1, 1]] * 2),
}
y = np.array([[0, 133, 1769, 2, 1]] * 2)
sw = np.array([[1, 1, 1, 1, 0]] * 2)
bart_lm = keras_hub.models.BartSeq2SeqLM.from_preset(
    "bart_base_en",
    preprocessor=None,
)
bart_lm.fit(x=x, y=y, sample_weight=sw, batch_size=2)
''',
    "bart, custom": '''
features = {
    "encoder_text": [" afternoon sun"],
    "decoder_text": ["noon sun"],
}
vocab = {
    "<s>": 0,
    "<pad>": 1,
    "</s>": 2,
    "\u00c4\u00a0after": 5,
    "noon": 6,
    "\u00c4\u00a0sun": 7,
}
merges = ["\u00c4\u00a0 a", "\u00c4\u00a0 s", "\u00c4\u00a0 n", "e r", "n o", "o n"]
merges += ["\u00c4\u00a0s u", "\u00c4\u00a0a f", "no on"]
merges += ["\u00c4\u00a0su n", "\u00c4\u00a0af t", "\u00c4\u00a0aft er"]
tokenizer = keras_hub.models.BartTokenizer(
    vocabulary=vocab,
    merges=merges,
)
preprocessor = keras_hub.models.BartSeq2SeqLMPreprocessor(
    tokenizer=tokenizer,
    encoder_sequence_length=128,
    decoder_sequence_length=128,
)
backbone = keras_hub.models.BartBackbone(
    vocabulary_size=50265,
    num_layers=6,
    num_heads=12,
    hidden_dim=768,
    intermediate_dim=3072,
    max_sequence_length=128,
)
bart_lm = keras_hub.models.BartSeq2SeqLM(
    backbone=backbone,
    preprocessor=preprocessor,
)
''',
    "bart, custom, fit": "bart_lm.fit(x=features, batch_size=2)",
}  # fmt: skip


@dataclass(frozen=True)
class Ran:
    """What an example left behind.

    Attributes:
        names: Its variables.
        results: The values of the statements that are calls alone, in their order.
    """

    names: dict[str, Any]
    results: list[Any]


def run(example: str, alias: str = "keras_hub", names: dict[str, Any] | None = None) -> Ran:
    """Runs an example with fuseq under KerasHub's name, or goes on with the names of another."""
    code = EXAMPLES[example].replace("keras_hub", alias)
    names = {} if names is None else names
    exec(f"import fuseq as {alias}\nimport numpy as np\n", names)
    results = []
    for statement in ast.parse(code).body:
        if isinstance(statement, ast.Expr):
            text = compile(ast.Expression(statement.value), f"<{example}>", "eval")
            results.append(eval(text, names))
        else:
            exec(compile(ast.Module([statement], []), f"<{example}>", "exec"), names)
    return Ran(names, results)


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small presets."""
    return stand_in_presets.write(tmp_path_factory.mktemp("presets"))


@pytest.fixture(autouse=True)
def offline(stand_ins: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Named presets are found among the small ones."""
    monkeypatch.setenv("FUSEQ_PRESETS", str(stand_ins))
    yield


def check_row(row: Any, longest: int, starts: list[int]) -> None:
    """A `Generation` that begins as it should and is no longer than asked."""
    assert row.token_ids[: len(starts)] == starts
    assert len(starts) < len(row.token_ids) <= longest


@pytest.mark.parametrize("alias", ALIASES)
def test_seq2seq_lm_writes_a_text_for_a_source(alias: str) -> None:
    ran = run("seq2seq", alias)
    lm = ran.names["seq_2_seq_lm"]
    assert type(lm) is fuseq.models.BartSeq2SeqLM
    assert isinstance(lm.sampler, fuseq.samplers.TopKSampler)
    assert lm.sampler.k == 5
    assert [type(result) for result in ran.results] == [type(None), str]
    assert ran.results[1]
    row = lm.generate("The quick brown fox.", max_length=30, return_scores=True)
    check_row(row, 30, [2, 0])


@pytest.mark.parametrize("alias", ALIASES)
def test_causal_lm_continues_a_text(alias: str) -> None:
    ran = run("causal", alias)
    lm = ran.names["causal_lm"]
    assert type(lm) is fuseq.models.GPT2CausalLM
    text = ran.results[1]
    assert text.startswith("Keras is a")
    assert len(text) > len("Keras is a")
    ids = lm.preprocessor.tokenizer("Keras is a").tolist()
    row = lm.generate("Keras is a", max_length=64, return_scores=True)
    check_row(row, 64, [50256, *ids])


@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize(
    ("example", "family"), [("gemma", "Gemma"), ("mistral", "Mistral"), ("classifier", "BERT")]
)
def test_a_family_that_is_not_here_is_named_in_one_error(
    example: str, family: str, alias: str
) -> None:
    kind = AttributeError if example == "classifier" else ValueError
    with pytest.raises(kind, match=rf"must be (of a family|BART).*\b{family}\b"):
        run(example, alias)


@pytest.mark.parametrize("alias", ALIASES)
def test_bart_writes_one_text_for_one_source_and_a_list_for_a_list(alias: str) -> None:
    ran = run("bart", alias)
    one, several = ran.results
    assert isinstance(one, str)
    assert one
    assert isinstance(several, list)
    assert [type(text) for text in several] == [str, str]
    lm = ran.names["bart_lm"]
    rows = lm.generate(["The quick brown fox", "The whale"], max_length=30, return_scores=True)
    for row in rows:
        check_row(row, 30, [2, 0])


@pytest.mark.parametrize("alias", ALIASES)
def test_bart_compiled_with_greedy_always_writes_the_same(alias: str) -> None:
    ran = run("bart, compiled", alias)
    text = ran.results[1]
    assert isinstance(text, str)
    assert run("bart, compiled", alias).results[1] == text
    lm = ran.names["bart_lm"]
    row = lm.generate("The quick brown fox", max_length=30, return_scores=True)
    assert row.text == text
    check_row(row, 30, [2, 0])
    other = lm.generate("The whale", max_length=30)
    assert lm.generate(["The quick brown fox", "The whale"], max_length=30) == [text, other]
    assert text != other


@pytest.mark.parametrize("alias", ALIASES)
def test_bart_goes_on_from_the_text_of_the_decoder(alias: str) -> None:
    ran = run("bart, prompt", alias)
    (text,) = ran.results
    assert text.startswith("The fast")
    assert len(text) > len("The fast")
    lm = ran.names["bart_lm"]
    inputs = {"encoder_text": "The quick brown fox", "decoder_text": "The fast"}
    row = lm.generate(inputs, max_length=30, return_scores=True)
    check_row(row, 30, [2, 0, 133, 1769])
    assert inputs == {"encoder_text": "The quick brown fox", "decoder_text": "The fast"}


@pytest.mark.parametrize("alias", ALIASES)
def test_bart_generates_from_ids_and_a_mask_that_is_one_column_short(alias: str) -> None:
    # KerasHub raises here: "auto" needs a preprocessor; and the mask must have seven columns.
    ran = run("bart, ids", alias)
    (result,) = ran.results
    assert sorted(result) == ["decoder_padding_mask", "decoder_token_ids"]
    ids, mask = result["decoder_token_ids"], result["decoder_padding_mask"]
    assert (ids.dtype, ids.shape) == (np.int32, (1, 7))
    assert (mask.dtype, mask.shape) == (np.bool_, (1, 7))
    assert ids[0, :4].tolist() == [2, 0, 133, 1769]
    assert mask[0, :5].all()


def test_the_stop_id_behind_the_mask_of_a_prompt_is_written_over() -> None:
    ran = run("bart, ids")
    lm, prompt = ran.names["bart_lm"], ran.names["prompt"]
    lm.compile(sampler="greedy")
    result = lm.generate(prompt)
    clean = dict(prompt)
    clean["decoder_token_ids"] = np.array([[2, 0, 133, 1769, 1, 1, 1]])
    clean["decoder_padding_mask"] = np.array([[True] * 4 + [False] * 3])
    for key, value in lm.generate(clean).items():
        assert np.array_equal(result[key], value)
    assert result["decoder_token_ids"][0, 4] != 2
    # The same as from texts.
    whole = fuseq.models.BartSeq2SeqLM.from_preset("bart_base_en")
    whole.compile(sampler="greedy")
    texts = {"encoder_text": "The quick brown fox", "decoder_text": "The fast"}
    row = whole.generate(texts, max_length=7, return_scores=True)
    given = result["decoder_padding_mask"][0]
    assert row.token_ids == result["decoder_token_ids"][0][given].tolist()


@pytest.mark.parametrize("alias", ALIASES)
def test_a_backbone_and_a_vocabulary_of_ones_own_make_a_task(
    alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(*arguments: object) -> None:
        raise AssertionError("138 million weights are drawn when they are needed, not before")

    with monkeypatch.context() as patch:
        patch.setattr("fuseq.models.engine_weights.random_weights", draw)
        ran = run("bart, custom", alias)
    lm = ran.names["bart_lm"]
    shorter = 2 * (1024 - 128) * 768  # than the position tables of the preset
    params = fuseq.models.BartSeq2SeqLM.presets["bart_base_en"]["metadata"]["params"]
    assert lm.backbone.count_params() == params - shorter
    assert lm.backbone.vocabulary_size == 50265
    assert lm.preprocessor.encoder_sequence_length == 128
    assert lm.preprocessor.sequence_length == 128
    # The page shows "Ä\xa0" where "Ġ" was meant, so that only "noon" is a word of text.
    assert lm.preprocessor.tokenizer("noon").tolist() == [6]
    small = fuseq.models.BartBackbone(8, 2, 2, 16, 32, max_sequence_length=128, num_threads=1)
    own = fuseq.models.BartSeq2SeqLM(backbone=small, preprocessor=lm.preprocessor)
    with pytest.warns(UserWarning, match="vocabulary"):
        text = own.generate({"encoder_text": [" afternoon sun"], "decoder_text": ["noon sun"]})
    assert isinstance(text, list)
    assert text[0].startswith("noon")
    row = own.generate("noon", return_scores=True)
    check_row(row, 128, [2, 0])


def check_trained(history: Any, lm: Any, untrained: Any) -> None:
    """`fit` has shown what KerasHub shows, and every matrix has changed."""
    assert sorted(history.history) == ["loss", "sparse_categorical_accuracy"]
    assert [len(values) for values in history.history.values()] == [1, 1]
    assert history.history["loss"][0] > 0
    pairs = zip(lm.get_weights(), untrained.get_weights(), strict=True)
    assert all((new != old).any() for new, old in pairs if new.ndim > 1)


@pytest.mark.parametrize("alias", ALIASES)
def test_bart_is_trained_on_a_batch_of_texts(alias: str) -> None:
    pytest.importorskip("torch")
    ran = run("bart, fit", alias)
    lm = ran.names["bart_lm"]
    untrained = fuseq.models.BartSeq2SeqLM.from_preset("bart_base_en")
    check_trained(ran.results[0], lm, untrained)
    assert ran.names["features"]["decoder_text"][1] == "I forgot my assignment."
    assert isinstance(lm.generate("The whale", max_length=12), str)


@pytest.mark.parametrize("alias", ALIASES)
def test_bart_is_trained_on_ids(alias: str) -> None:
    pytest.importorskip("torch")
    ran = run("bart, fit on ids", alias)
    lm, x = ran.names["bart_lm"], ran.names["x"]
    untrained = fuseq.models.BartSeq2SeqLM.from_preset("bart_base_en", preprocessor=None)
    check_trained(ran.results[0], lm, untrained)
    assert lm.predict(x, verbose=0).shape == (2, 5, 50265)


def test_a_model_of_ones_own_is_trained() -> None:
    pytest.importorskip("torch")
    names = run("bart, custom").names
    (history,) = run("bart, custom, fit", names=names).results
    assert sorted(history.history) == ["loss", "sparse_categorical_accuracy"]
    # "noon sun" is "noon" alone: of 128 positions three count, start, "noon" and end.
    assert history.history["loss"][0] == pytest.approx(np.log(50265) * 3 / 128, rel=0.1)


@pytest.mark.parametrize(
    "preset",
    ["kaggle://user/bert/keras/bert_base_en", "hf://user/bert_base_en", "./bert_base_en"],
)
def test_every_form_of_a_preset_name_loads(
    preset: str, stand_ins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stand_ins / "user")
    lm = fuseq.models.Seq2SeqLM.from_preset(preset)
    lm.compile(sampler="greedy")
    named = fuseq.models.Seq2SeqLM.from_preset("bart_base_en")
    named.compile(sampler="greedy")
    assert lm.generate("The whale", max_length=12) == named.generate("The whale", max_length=12)


@pytest.mark.parametrize("preset", ["bart_base_en", "bart_large_en_cnn"])
def test_a_name_and_the_handle_of_that_name_are_one_preset(preset: str) -> None:
    lm = fuseq.models.BartSeq2SeqLM.from_preset(preset)
    handle = fuseq.models.BartSeq2SeqLM.presets[preset]["kaggle_handle"]
    other = fuseq.models.BartSeq2SeqLM.from_preset(handle)
    for task in (lm, other):
        task.compile(sampler="greedy")
    assert lm.generate("The whale", max_length=12) == other.generate("The whale", max_length=12)


def test_presets_lists_the_names_of_a_class() -> None:
    bart = ["bart_base_en", "bart_large_en", "bart_large_en_cnn", "g2p_en"]  # the last is ours
    assert list(fuseq.models.BartSeq2SeqLM.presets.keys()) == bart
    assert list(fuseq.models.Seq2SeqLM.presets.keys()) == bart
    assert {*bart, "gpt2_base_en"} <= set(fuseq.models.CausalLM.presets.keys())
    assert not set(bart) & set(fuseq.models.GPT2CausalLM.presets.keys())


def test_without_weights_they_are_drawn_at_random() -> None:
    preset = "bart_base_en"
    drawn = [fuseq.models.Seq2SeqLM.from_preset(preset, load_weights=False) for _ in range(2)]
    stored = fuseq.models.Seq2SeqLM.from_preset(preset)
    tables = [np.asarray(lm.backbone.model.weight("embed.tokens")) for lm in (*drawn, stored)]
    assert tables[0].shape == tables[2].shape
    assert not np.array_equal(tables[0], tables[1])
    assert not np.array_equal(tables[0], tables[2])
