# SPDX-License-Identifier: Apache-2.0
"""Writes a task as a preset folder, in one of three forms."""

import json
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuseq import _core
from fuseq._core import GenerationOptions
from fuseq.models.families import FAMILIES
from fuseq.presets import keras_format, native_format, transformers_format
from fuseq.presets.family import Spec
from fuseq.presets.generation_config_writing import config_from_options
from fuseq.presets.load import open_preset
from fuseq.presets.preset_files import PRESET_FILES
from fuseq.tokenizers import BytePairTokenizer, Tokenizer

if TYPE_CHECKING:
    from fuseq.models.task import Task

FORMATS = ("keras_hub", "transformers", "fuseq")


def save(
    task: "Task",
    folder: Path,
    form: str,
    max_shard_size: float | None,
    generation_options: GenerationOptions | None = None,
) -> None:
    """Writes a preset folder; it appears when it is whole.

    Args:
        task: What to write.
        folder: Where; old files of a preset in it go, others are kept.
        form: "keras_hub", "transformers" or "fuseq".
        max_shard_size: Gigabytes of the largest file of weights, in KerasHub's form; None: one
            file.
        generation_options: To write in place of those of the task; not in KerasHub's form.

    Raises:
        TypeError: generation_options or max_shard_size is of another type.
        ValueError: There is no such form, it cannot hold the task, or the folder holds another, is
            the current one or holds that.
        OSError: The system refused to write; an old folder is left as it was.
    """
    if form not in FORMATS:
        raise ValueError(
            f"save_to_preset: format must be None or one of {', '.join(FORMATS)}, got {form!r}"
        )
    if generation_options is not None and not isinstance(generation_options, GenerationOptions):
        raise TypeError(
            "save_to_preset: generation_options must be None or a GenerationOptions, got "
            f"{type(generation_options).__name__}"
        )
    check_target(folder, form, max_shard_size)
    if form == "fuseq":
        _fuseq(task, folder, generation_options or task.generation_settings())
    elif form == "transformers":
        _transformers(task, folder, generation_options)
    else:
        if generation_options is not None:
            raise ValueError(
                'save_to_preset: format must be "fuseq" or "transformers" with generation_options, '
                f'got "{form}", which has no place for them'
            )
        _keras_hub(task, folder, max_shard_size)


def check_target(folder: Path, form: str, max_shard_size: float | None) -> None:
    """Checks where a preset is to be written, and how large its files may be.

    Args:
        folder: As `save` takes it.
        form: As `save` takes it.
        max_shard_size: As `save` takes it.

    Raises:
        TypeError: max_shard_size is no number.
        ValueError: It is not above 0, or the folder holds another form, is the current one or holds
            that.
    """
    if max_shard_size is not None:
        if isinstance(max_shard_size, bool) or not isinstance(max_shard_size, Real):
            raise TypeError(
                "save_to_preset: max_shard_size must be None or a number of gigabytes, got "
                f"{max_shard_size!r}"
            )
        if not max_shard_size > 0:
            raise ValueError(
                f"save_to_preset: max_shard_size must be above 0, got {max_shard_size}"
            )
    _check_place(folder)
    _check_form(folder, form)


def _check_place(folder: Path) -> None:
    """A save puts a new folder in the place of the old; no process should stand in the old one."""
    target = folder.resolve()
    current = Path.cwd()
    if target == current or target in current.parents:
        raise ValueError(
            f"save_to_preset: preset_dir must not be the current folder or hold it, got "
            f'"{folder}". Name a folder below it, such as "preset"'
        )


def _check_form(folder: Path, form: str) -> None:
    """Two presets in one folder would hide each other."""
    try:
        found = open_preset(folder, FAMILIES).form
    except FileNotFoundError:
        return
    if found != form:
        raise ValueError(
            f'save_to_preset: preset_dir must be new or hold a preset of the form "{form}", got '
            f'"{folder}" with one of the form "{found}"'
        )


def _keras_hub(task: "Task", folder: Path, max_shard_size: float | None) -> None:
    preprocessor = task.preprocessor
    keras_format.save(
        folder,
        task.backbone.model,
        FAMILIES[task.family],
        tokenizer=None if preprocessor is None else preprocessor.tokenizer,
        preprocessor=(
            None
            if preprocessor is None
            else (type(preprocessor).__name__, preprocessor.get_config())
        ),
        task=(type(task).__name__, task.name),
        max_shard_size=max_shard_size,
    )


def _fuseq(task: "Task", folder: Path, settings: GenerationOptions | None) -> None:
    token_ids = _missing_token_ids(task)

    def fill(unfinished: Path) -> None:
        task.backbone.model.save(unfinished)
        if token_ids:
            native_format.write_token_ids(unfinished, token_ids)
        native_format.write_task(unfinished, type(task).__name__, task.backbone.rules)
        if settings is not None:
            native_format.save_generation_options(settings, unfinished)
        if task.preprocessor is not None:
            task.preprocessor.write_files(unfinished)

    _core.save_folder(folder, fill, PRESET_FILES)


def _transformers(task: "Task", folder: Path, settings: GenerationOptions | None) -> None:
    token_ids = _missing_token_ids(task)
    write_model = transformers_format.writer(task.backbone.model, FAMILIES, token_ids)
    config = _generation_config(task, settings)

    def fill(unfinished: Path) -> None:
        write_model(unfinished)
        text = json.dumps(config, indent=2) + "\n"
        (unfinished / transformers_format.GENERATION_FILE).write_text(text, encoding="utf-8")
        if task.preprocessor is not None:
            _write_tokenizer(task.preprocessor.tokenizer, unfinished)

    _core.save_folder(folder, fill, PRESET_FILES)


def _generation_config(task: "Task", settings: GenerationOptions | None) -> dict[str, Any]:
    """The settings, those that came with the task if None; ids that make rows start as KerasHub's.

    Transformers' own file stays as it came.
    """
    if settings is None:
        if task.generation_config is not None:
            return dict(task.generation_config)
        settings = task.generation_settings()
    spec = {**task.backbone.spec, **_missing_token_ids(task)}
    config: dict[str, Any] = {}
    for key, id in (
        ("pad_token_id", spec["pad_id"]),
        ("bos_token_id", spec["bos_id"]),
        ("decoder_start_token_id", spec["decoder_start_id"]),
    ):
        if id >= 0:
            config[key] = id
    if spec["eos_ids"]:
        ids = spec["eos_ids"]
        config["eos_token_id"] = ids[0] if len(ids) == 1 else ids
    if task.backbone.is_seq2seq and task.preprocessor is not None:
        starts: list[int] = getattr(task.preprocessor, "start_ids", list)()
        if starts:
            config["decoder_start_token_id"] = starts[0]
        if len(starts) == 2:
            config["forced_bos_token_id"] = starts[1]
    if settings is not None:
        config |= config_from_options(settings, spec["eos_ids"])
    return config


def _missing_token_ids(task: "Task") -> Spec:
    """Fields of the spec that hold no id, as in a backbone made by hand: the tokenizer's ids."""
    tables = FAMILIES[task.family].keras
    if tables is None or task.preprocessor is None:
        return {}
    spec, tokenizer = task.backbone.spec, task.preprocessor.tokenizer
    ids: Spec = {}
    for field, token in tables.special_tokens.items():
        if spec[field] not in (-1, []) or token not in tokenizer.special_tokens:
            continue
        id = tokenizer.token_to_id(token)
        ids[field] = [id] if field == "eos_ids" else id
    return ids


def _write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes a tokenizer's files under transformers' names."""
    if not isinstance(tokenizer, BytePairTokenizer) or tokenizer.vocabulary is None:
        raise ValueError(
            "save_to_preset: the form of transformers must get a byte-pair tokenizer, got "
            f'{type(tokenizer).__name__}. Use format="fuseq"'
        )
    lost = [
        name
        for name, is_lost in (
            ("sequence_length", tokenizer.sequence_length is not None),
            (
                "unsplittable_tokens",
                not set(tokenizer.special_tokens) <= set(tokenizer.unsplittable_tokens),
            ),
        )
        if is_lost
    ]
    if lost:
        raise ValueError(
            "save_to_preset: the form of transformers must hold every setting of the tokenizer, "
            f'got others in {", ".join(lost)}. Use format="fuseq" or KerasHub\'s form'
        )
    config: dict[str, Any] = {
        "tokenizer_class": type(tokenizer).__name__,
        "add_prefix_space": tokenizer.add_prefix_space,
        "bos_token": tokenizer.start_token,
        "eos_token": tokenizer.end_token,
    }
    if tokenizer.pad_token is not None:
        config["pad_token"] = tokenizer.pad_token
    if "<unk>" not in tokenizer.vocabulary:
        config["unk_token"] = tokenizer.end_token  # transformers would add a token of its own
    special = set(tokenizer.special_tokens)
    config["added_tokens_decoder"] = {
        str(tokenizer.vocabulary[token]): {
            "content": token,
            "lstrip": token in tokenizer.lstrip_tokens,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": token in special,
        }
        for token in tokenizer.unsplittable_tokens
    }
    files = {
        "vocab.json": json.dumps(tokenizer.vocabulary, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *(tokenizer.merges or []), ""]),
        "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
