# SPDX-License-Identifier: Apache-2.0
"""Generation settings of transformers folders, against what transformers does with them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuseq.presets import generation_config
from fuseq.presets.generation_config import options_from_config, read_generation_config
from generation_settings import (
    BART_LARGE_CNN,
    BART_LARGE_CNN_OPTIONS,
    BEAMS,
    DEFAULT_LENGTH,
    IGNORED,
    LENGTHS,
    MAPPED,
    NEUTRAL,
    REFUSED,
    SAMPLING,
    UNKNOWN,
    WRONG,
    Fields,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # transformers' on lengths


def write(folder: Path, **files: Fields | str | None) -> Path:
    """A folder with the given JSON files; `generation_config={...}` is generation_config.json."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        if content is not None:
            (folder / f"{name}.json").write_text(text)
    return folder


@pytest.mark.parametrize(("settings", "options"), MAPPED)
def test_settings_become_options(settings: Fields, options: Fields) -> None:
    assert options_from_config(settings, is_seq2seq=False) == options | DEFAULT_LENGTH


@pytest.mark.parametrize(("settings", "options"), LENGTHS)
def test_lengths_become_options(settings: Fields, options: Fields) -> None:
    assert options_from_config(settings, is_seq2seq=False) == options


def test_every_mapped_field_has_a_case() -> None:
    cases = {name for settings, _ in (*MAPPED, *LENGTHS) for name in settings}
    assert generation_config.field_groups()["mapped"] <= cases | {"stop_strings"}


@pytest.mark.parametrize(("given", "wanted"), [("a", ["a"]), (["a", "b"], ["a", "b"]), ([], None)])
def test_stop_strings_are_one_or_several(given: object, wanted: list[str] | None) -> None:
    options = options_from_config({"stop_strings": given}, is_seq2seq=False)
    assert options.get("stop_strings") == wanted


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        ({"decoder_start_token_id": 4, "bos_token_id": 3}, 4),
        ({"decoder_start_token_id": None, "bos_token_id": 3}, 3),
        ({}, None),
    ],
)
def test_only_a_model_with_an_encoder_has_a_start_id(settings: Fields, start: int | None) -> None:
    options = options_from_config(settings, is_seq2seq=True)
    assert options.get("decoder_start_token_id") == start
    assert "decoder_start_token_id" not in options_from_config(settings, is_seq2seq=False)


def test_nothing_ends_a_row_where_only_the_model_config_names_an_end() -> None:
    options = options_from_config({}, is_seq2seq=False, model_config={"eos_token_id": 5})
    assert options == {"use_default_stop_ids": False} | DEFAULT_LENGTH


@pytest.mark.parametrize(("name", "value", "others"), REFUSED)
def test_what_fuseq_does_not_have_is_named(name: str, value: object, others: Fields) -> None:
    with pytest.raises(
        ValueError, match=rf"^generation_config.json: .* {name} = .*no such setting"
    ):
        options_from_config({**others, name: value}, is_seq2seq=True)
    kept = {k: v for k, v in others.items() if k != name}
    options_from_config({**kept, name: None}, is_seq2seq=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("forced_eos_token_id", [2, 3]),
        ("forced_eos_token_id", []),
        ("bad_words_ids", [[5], [6, 7]]),
        ("sequence_bias", [[[5], 1.0], [[6, 7], 2.0]]),
    ],
)
def test_what_fuseq_has_only_for_one_token_is_named(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"got {name} = .*no such setting"):
        options_from_config({name: value}, is_seq2seq=False)


def test_a_banned_word_that_is_forced_is_named() -> None:
    with pytest.raises(ValueError, match=r"got bad_words_ids = \[\[0\]\]"):
        options_from_config({"bad_words_ids": [[0]], "forced_bos_token_id": 0}, is_seq2seq=True)


def test_all_that_fuseq_does_not_have_is_in_one_message() -> None:
    with pytest.raises(ValueError, match=r"max_time = 3, num_beam_groups = 2, sequence_bias = "):
        options_from_config(
            {**BEAMS, "num_beam_groups": 2, "max_time": 3, "sequence_bias": [[[1, 2], 1.0]]},
            is_seq2seq=True,
        )


def test_fields_matter_only_where_transformers_looks_at_them() -> None:
    sampling = {"top_h": 0.3, "typical_p": 0.9, "epsilon_cutoff": 0.1, "eta_cutoff": 0.1}
    of_beams = {"num_beam_groups": 2, "renormalize_logits": True, "low_memory": True}
    assert options_from_config(sampling | of_beams, is_seq2seq=False) == DEFAULT_LENGTH
    of_one = {"prompt_lookup_num_tokens": 3, "use_mtp": True, "dola_layers": "low"}
    assert options_from_config(of_one | BEAMS, is_seq2seq=False) == BEAMS | DEFAULT_LENGTH


@pytest.mark.parametrize("others", [{}, BEAMS, SAMPLING | {"top_k": 0}])
def test_neutral_ignored_and_unknown_fields_change_nothing(others: Fields) -> None:
    options = options_from_config(others | NEUTRAL | IGNORED | UNKNOWN, is_seq2seq=True)
    assert options == {k: v for k, v in others.items() if v} | DEFAULT_LENGTH


def test_arguments_of_generate_are_no_settings() -> None:
    with pytest.raises(ValueError, match="got streamer = None: fuseq has no such setting"):
        options_from_config({"streamer": None}, is_seq2seq=False)
    options = options_from_config({"streamer": 1, "_from_model_config": True}, is_seq2seq=False)
    assert options == DEFAULT_LENGTH


@pytest.mark.parametrize(("settings", "message"), WRONG)
def test_wrong_values_are_named(settings: Fields, message: str) -> None:
    with pytest.raises(ValueError, match=f"^generation_config.json: {message}"):
        options_from_config(settings, is_seq2seq=True)


def test_a_folder_without_either_file_has_no_settings(tmp_path: Path) -> None:
    assert read_generation_config(tmp_path) is None
    assert read_generation_config(str(tmp_path / "none")) is None


def test_the_settings_file_wins_over_config_json(tmp_path: Path) -> None:
    config = {**BART_LARGE_CNN, "is_encoder_decoder": True}
    folder = write(tmp_path, config=config)
    assert read_generation_config(folder) == BART_LARGE_CNN_OPTIONS
    write(tmp_path, generation_config={"num_beams": 2, "bos_token_id": 0, "eos_token_id": 2})
    assert read_generation_config(folder) == DEFAULT_LENGTH | {
        "num_beams": 2,
        "use_default_stop_ids": False,
        "stop_token_ids": [2],
        "decoder_start_token_id": 0,
    }


def test_the_caller_may_say_whether_there_is_an_encoder(tmp_path: Path) -> None:
    folder = write(tmp_path, config={"decoder_start_token_id": 7})
    assert read_generation_config(folder) == DEFAULT_LENGTH
    assert read_generation_config(folder, is_seq2seq=True) == {
        **DEFAULT_LENGTH,
        "decoder_start_token_id": 7,
    }


def test_messages_name_the_file(tmp_path: Path) -> None:
    folder = write(tmp_path, config={"num_beams": -1})
    with pytest.raises(ValueError, match=r"^config\.json: num_beams must be"):
        read_generation_config(folder)
    write(tmp_path, config={"max_time": 3})
    with pytest.raises(ValueError, match=r"^config\.json: every setting must be .*max_time = 3"):
        read_generation_config(folder)
    write(tmp_path, generation_config="{")
    with pytest.raises(ValueError, match=r'generation_config\.json": must be JSON'):
        read_generation_config(folder)


# From here on: against transformers itself.


def test_every_field_of_transformers_is_in_a_table() -> None:
    transformers = pytest.importorskip("transformers")
    groups = generation_config.field_groups()
    assert set(transformers.GenerationConfig().to_dict()) == frozenset().union(*groups.values())
    assert groups["mapped"] & groups["refused"] == {"do_sample"}
    assert not groups["ignored"] & (groups["mapped"] | groups["refused"])
    assert groups["refused"] == {name for name, _, _ in REFUSED}
    assert groups["ignored"] == set(IGNORED)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny models with enough positions for any length below."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import oracle_models

    root = tmp_path_factory.mktemp("models")
    return {
        "bart": oracle_models.save(oracle_models.bart(0, max_position_embeddings=200), root / "b"),
        "gpt2": oracle_models.save(oracle_models.gpt2(0, n_positions=200), root / "g"),
    }


PROMPT = {"bart": [2], "gpt2": [5, 6, 7]}  # the decoder's, where no other start id is set
Loader = Callable[..., Any]


@pytest.fixture
def load(folders: dict[str, Path], tmp_path: Path) -> Loader:
    """Loads a model with these settings: `load("bart", generation_config={...}, config={...})`."""
    import transformers

    def make(kind: str, *, drop: tuple[str, ...] = (), **files: Fields | None) -> Any:
        folder = tmp_path / kind
        shutil.copytree(folders[kind], folder)
        (folder / "generation_config.json").unlink()
        stored = json.loads((folder / "config.json").read_text())
        config = {**stored, **(files.pop("config", None) or {})}
        write(folder, config={k: v for k, v in config.items() if k not in drop}, **files)
        auto = "AutoModelForSeq2SeqLM" if kind == "bart" else "AutoModelForCausalLM"
        return getattr(transformers, auto).from_pretrained(folder), folder

    return make


class Reached(Exception):
    """Carries what transformers had prepared when its decode loop would have begun."""


ATTRIBUTES: dict[str, str] = {
    "RepetitionPenaltyLogitsProcessor": "penalty",
    "NoRepeatNGramLogitsProcessor": "ngram_size",
    "ForcedBOSTokenLogitsProcessor": "bos_token_id",
    "ForcedEOSTokenLogitsProcessor": "eos_token_id",
    "TemperatureLogitsWarper": "temperature",
    "TopKLogitsWarper": "top_k",
    "TopPLogitsWarper": "top_p",
    "MinPLogitsWarper": "min_p",
    "SequenceBiasLogitsProcessor": "sequence_bias",
}
BANS = {"SuppressTokensLogitsProcessor": "suppress_tokens"}


def plain(value: Any) -> Any:
    """A tensor as numbers."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def bounded(min_length: int, prompt_length: int, max_length: int) -> int:
    """One number for all least lengths that ban an end id at the same steps."""
    return min(min_length, max_length) if min_length > prompt_length else 0


def effect_in_transformers(model: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> Fields:
    """What `model.generate(input)` is about to do, read where its decode loop begins."""
    import torch

    def stop(_: object, input_ids: Any, **kwargs: Any) -> None:
        raise Reached(input_ids, kwargs["logits_processor"], kwargs["generation_config"])

    for method in ("_sample", "_beam_search"):
        monkeypatch.setattr(type(model), method, stop)
    ids = torch.tensor([[5, 6, 7] if kind == "bart" else PROMPT["gpt2"]])
    with pytest.raises(Reached) as reached:
        model.generate(ids)
    input_ids, processors, config = reached.value.args
    ends = config._eos_token_tensor
    effect: Fields = {
        "prompt": input_ids[0].tolist(),
        "max_length": config.max_length,
        "stop": set() if ends is None else set(ends.tolist()),
        "do_sample": config.do_sample,
        "num_beams": config.num_beams,
        "num_return_sequences": config.num_return_sequences,
        "length_penalty": config.length_penalty,
        "early_stopping": config.early_stopping,
        "min_length": 0,
        "banned": set(),
    }  # fmt: skip
    for processor in processors:
        name = type(processor).__name__
        if name in BANS:
            effect["banned"] |= set(getattr(processor, BANS[name]).tolist())
        elif name == "NoBadWordsLogitsProcessor":
            effect["banned"] |= {word for (word,) in processor.sequence_bias}
        elif name == "MinLengthLogitsProcessor":
            effect["min_length"] = processor.min_length
        elif name == "MinPLogitsWarper" and processor.min_p == 0:
            pass  # keeps every id
        elif name == "MinNewTokensLengthLogitsProcessor":
            assert (
                processor.prompt_length_to_skip + processor.min_new_tokens == effect["min_length"]
            )
        else:
            effect[name] = plain(getattr(processor, ATTRIBUTES[name]))
    effect["min_length"] = bounded(effect["min_length"], len(effect["prompt"]), config.max_length)
    return effect


def effect_in_fuseq(options: Fields, kind: str, model_stop_ids: set[int]) -> Fields:
    """What options mean by their documentation, in the same words."""
    get = options.get
    prompt = PROMPT[kind]
    if kind == "bart" and "decoder_start_token_id" in options:
        prompt = [options["decoder_start_token_id"]]
    longest = get("max_length") or len(prompt) + options["max_new_tokens"]
    least_new = len(prompt) + options["min_new_tokens"] if "min_new_tokens" in options else 0
    stop = set(get("stop_token_ids", []))
    effect: Fields = {
        "prompt": prompt,
        "max_length": longest,
        "stop": stop | (model_stop_ids if get("use_default_stop_ids", True) else set()),
        "do_sample": get("do_sample", False),
        "num_beams": get("num_beams", 1),
        "num_return_sequences": get("num_return_sequences", 1),
        "length_penalty": get("length_penalty", 1.0),
        "early_stopping": get("early_stopping", False),
        "min_length": bounded(max(get("min_length", 0), least_new), len(prompt), longest),
        "banned": set(get("suppress_token_ids", [])),
    }
    biases = {(token,): bias for token, bias in get("logit_bias", {}).items()}
    rules = (
        ("RepetitionPenaltyLogitsProcessor", get("repetition_penalty")),
        ("NoRepeatNGramLogitsProcessor", get("no_repeat_ngram_size")),
        ("ForcedBOSTokenLogitsProcessor", get("forced_bos_token_id")),
        ("ForcedEOSTokenLogitsProcessor", get("forced_eos_token_id")),
        ("TemperatureLogitsWarper", get("temperature")),
        ("TopKLogitsWarper", get("top_k")),
        ("TopPLogitsWarper", get("top_p")),
        ("MinPLogitsWarper", get("min_p")),
        ("SequenceBiasLogitsProcessor", biases or None),
    )
    return effect | {name: value for name, value in rules if value is not None}


NAMED = {"eos_token_id": 2, "bos_token_id": 0, "decoder_start_token_id": 2}
COMPARED = [settings for settings, _ in (*MAPPED, *LENGTHS)]


@pytest.mark.parametrize("kind", ["bart", "gpt2"])
@pytest.mark.parametrize("settings", [*COMPARED, BART_LARGE_CNN, IGNORED | UNKNOWN])
def test_options_mean_what_transformers_does(
    kind: str, settings: Fields, load: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = load(kind, generation_config=NAMED | settings)
    options = read_generation_config(folder)
    assert options is not None
    expected = effect_in_transformers(model, kind, monkeypatch)
    assert effect_in_fuseq(options, kind, {2}) == expected


@pytest.mark.parametrize("kind", ["bart", "gpt2"])
@pytest.mark.parametrize(
    ("config", "drop"),
    [
        ({}, ()),
        (BART_LARGE_CNN | UNKNOWN, ()),
        ({"max_length": 20, "do_sample": None, "min_length": 3}, ()),
        ({"force_bos_token_to_be_generated": True, "forced_bos_token_id": 9}, ()),
        ({"eos_token_id": None}, ()),
        ({"max_new_tokens": 4, "max_length": 9, "num_beams": 3}, ()),
        ({}, ("decoder_start_token_id",)),
    ],
)
def test_config_json_alone_means_what_transformers_does(
    kind: str,
    config: Fields,
    drop: tuple[str, ...],
    load: Loader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, folder = load(kind, config=config, drop=drop)
    options = read_generation_config(folder)
    assert options is not None
    expected = effect_in_transformers(model, kind, monkeypatch)
    assert effect_in_fuseq(options, kind, {2}) == expected


@pytest.mark.parametrize(
    "settings", [{"bos_token_id": 0}, {"bos_token_id": 0, "eos_token_id": None}]
)
@pytest.mark.parametrize("kind", ["bart", "gpt2"])
def test_settings_without_an_end_id_never_end_a_row(
    kind: str, settings: Fields, load: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = load(kind, generation_config=settings)
    assert model.config.eos_token_id == 2
    options = read_generation_config(folder)
    assert options is not None
    expected = effect_in_transformers(model, kind, monkeypatch)
    assert expected["stop"] == set()
    assert effect_in_fuseq(options, kind, {2}) == expected


@pytest.mark.parametrize(
    "settings",
    [
        {"penalty_alpha": 0.6},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"dola_layers": "low"},
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
        {"num_beams": 4, "force_words_ids": [[5]]},
        {"num_beams": 4, "low_memory": True},
    ],
)
def test_what_transformers_does_not_run_is_refused(settings: Fields, load: Loader) -> None:
    import torch

    model, folder = load("bart", generation_config=NAMED | settings)
    with pytest.raises(ValueError, match=r"trust_remote_code|not supported"):
        model.generate(torch.tensor([[5, 6, 7]]))
    with pytest.raises(ValueError, match="fuseq has no such setting"):
        read_generation_config(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_return_sequences": 2},
        {"num_beams": 2, "num_return_sequences": 3},
        {"forced_eos_token_id": 2, "suppress_tokens": [1, 2]},
        {"early_stopping": "always"},
        {"max_new_tokens": 0},
        {"streamer": None},
    ],
)
def test_what_transformers_does_not_load_is_an_error(settings: Fields) -> None:
    transformers = pytest.importorskip("transformers")
    with pytest.raises(ValueError, match=r"must be|not support|has to be|is also in|not a valid"):
        transformers.GenerationConfig.from_dict(settings)
    with pytest.raises(ValueError, match=r"^generation_config\.json: "):
        options_from_config(settings, is_seq2seq=False)
