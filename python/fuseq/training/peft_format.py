# SPDX-License-Identifier: Apache-2.0
"""Folders of the peft library: `adapter_config.json` and `adapter_model.safetensors`."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fuseq import _core
from fuseq._core import SafeTensorsFile, Tensor
from fuseq.presets.checkpoint import read_json
from fuseq.presets.family import Family
from fuseq.training.adapters import adapters, attach, check_bare, checked_rank
from fuseq.training.peft_adapter import (
    PeftAdapter,
    PeftForm,
    PeftModule,
    checked_form,
    is_called,
    peft_modules,
)
from fuseq.training.torch_module import TransformerModule

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_TORCH_FILE = "adapter_model.bin"
_PREFIX = "base_model.model."
_FACTORS = ("lora_A", "lora_B")

# Fields that ask for another computation, or for other tensors in the file. `ensure_weight_tying`
# is none of them: it is about embeddings and what is tied to them, which have no adapters here.
_REFUSED = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "megatron_config",
    "modules_to_save",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "velora_config",
)
# The ways to draw factors that leave the weights of the model alone. After others, as "pissa",
# the factors belong to weights that peft computes anew when it loads the adapter.
_INITS = (True, False, None, "gaussian", "orthogonal", "eva")


def load_peft(folder: Path, module: TransformerModule, family: Family) -> None:
    """Adds the adapters of a folder and freezes all else.

    Args:
        folder: As peft's `save_pretrained` writes it.
        module: Gets them; it stays as it was if the folder does not fit.
        family: The model's family.

    Raises:
        FileNotFoundError: The folder, or a file in it, is not there.
        ValueError: There are adapters already, the config asks for what is not there, or the file
            does not fit; all that is missing, unexpected or misshapen is in one message.
    """
    check_bare(module, "load_peft")
    config = _Config(folder)
    known = peft_modules(module, family)
    found, faults = _factors(folder, known, family)
    for path, each in known.items():
        if path in found or config.adapts(path):
            faults += _faults(each, config.rank(path), found.get(path, {}))
    if faults or not found:
        raise ValueError(
            f'load_peft "{folder / WEIGHTS_FILE}": all factors must be there, in shape, and no '
            "others, got" + ("".join(f"\n  {fault}" for fault in faults) or " none")
        )
    made: dict[str, nn.Module] = {}
    for path, factors in found.items():
        a, b = (_float32(factors[factor]) for factor in _FACTORS)
        made |= known[path].make(a, b, config.form(path))
    attach(module, made, biases=False)


def save_peft(
    folder: Path, module: TransformerModule, family: Family, base_model: str | None = None
) -> None:
    """Writes the adapters as peft does; the folder appears when it is whole.

    Args:
        folder: Other files in it are kept.
        module: Has adapters of `enable_peft` or `load_peft`.
        family: The model's family.
        base_model: What `base_model_name_or_path` says.

    Raises:
        ValueError: There are no such adapters.
        OSError: The system refused to write; old files are left as they were.
    """
    known = peft_modules(module, family)
    found = {path: _adapter_of(module, each) for path, each in known.items()}
    adapted = {path: adapter for path, adapter in found.items() if adapter is not None}
    if not adapted:
        raise ValueError(
            "save_peft: the model must have PEFT adapters, got none. Call enable_peft or load_peft"
        )
    config = {
        **_written_config(known, adapted),
        "base_model_name_or_path": base_model,
        "fan_in_fan_out": any(
            family.weights[_table_name(each.names[0])].transpose
            for path, each in known.items()
            if path in adapted
        ),
        "task_type": "SEQ_2_SEQ_LM" if module.encoder is not None else "CAUSAL_LM",
    }

    def maker(values: torch.Tensor) -> Callable[[], Tensor]:
        return lambda: Tensor(values.detach().cpu())

    entries = []
    for path, adapter in adapted.items():
        for factor, values in zip(_FACTORS, adapter.parameters(), strict=True):
            name = f"{_PREFIX}{path}.{factor}.weight"
            entries.append((name, "float32", tuple(values.shape), maker(values)))

    def fill(unfinished: Path) -> None:
        text = json.dumps(config, indent=2, sort_keys=True) + "\n"
        (unfinished / CONFIG_FILE).write_text(text, encoding="utf-8")
        _core.save_safetensors(unfinished / WEIGHTS_FILE, sorted(entries), {"format": "pt"})

    _core.save_folder(folder, fill, (CONFIG_FILE, WEIGHTS_FILE, _TORCH_FILE))


class _Config:
    """What an `adapter_config.json` says."""

    def __init__(self, folder: Path) -> None:
        """Reads it and refuses what is not computed here."""
        self.path = folder / CONFIG_FILE
        if not folder.is_dir():
            raise FileNotFoundError(
                f'load_peft "{folder}": must be a folder with {CONFIG_FILE} and {WEIGHTS_FILE}, '
                f"got none. Give a local folder, or a handle as hf://org/name"
            )
        if not self.path.is_file():
            raise FileNotFoundError(f'load_peft "{self.path}": the file must exist, got none')
        self._values = read_json(self.path)
        self._call = f'load_peft "{self.path}"'
        for name, wanted in (("peft_type", "LORA"), ("bias", "none")):
            if self._values.get(name, "none") != wanted:
                raise self._error(name, f'must be "{wanted}"', self._values.get(name))
        for name in _REFUSED:
            if self._values.get(name):
                raise self._error(name, "must be null or false", self._values[name])
        init = self._values.get("init_lora_weights", True)
        if not any(init is known or (init == known and isinstance(init, str)) for known in _INITS):
            known = ", ".join(json.dumps(each) for each in _INITS)
            raise self._error("init_lora_weights", f"must be among {known}", init)
        self._form = checked_form(
            self._values.get("lora_alpha", 8),
            self._values.get("lora_dropout", 0.0),
            self._values.get("use_rslora", False),
            self._call,
            "lora_",
        )
        self._patterns = {key: self._pattern(key) for key in ("rank_pattern", "alpha_pattern")}

    def adapts(self, path: str) -> bool:
        """Whether a module must have an adapter; False where only the file tells it."""
        targets = self._values.get("target_modules")
        others = ("exclude_modules", "layers_to_transform")
        if not isinstance(targets, list) or any(self._values.get(o) is not None for o in others):
            return False
        return any(is_called(path, str(target)) for target in targets)

    def rank(self, path: str) -> int:
        """The rank of a module's factors."""
        found = self._find("rank_pattern", path)
        return checked_rank(self._values.get("r", 8) if found is None else found, self._call)

    def form(self, path: str) -> PeftForm:
        """What a module's factors mean."""
        alpha = self._find("alpha_pattern", path)
        if alpha is None:
            return self._form
        return checked_form(alpha, self._form.dropout, self._form.use_rslora, self._call, "lora_")

    def _pattern(self, key: str) -> Mapping[str, Any]:
        """Values by names; peft takes patterns, and here they must be plain names."""
        found = self._values.get(key) or {}
        plain = isinstance(found, dict) and all(re.fullmatch(r"\^?[\w.]+", name) for name in found)
        if not plain:
            raise self._error(key, "must be an object of plain names of modules", found)
        return dict(found)

    def _find(self, key: str, path: str) -> Any:  # noqa: ANN401
        for name, value in self._patterns[key].items():
            if path == name.removeprefix("^") or is_called(path, name):
                return value
        return None

    def _error(self, name: str, rule: str, got: object) -> ValueError:
        return ValueError(
            f"{self._call}: {name} {rule}, got {got!r}. Merge the adapter into its model with "
            "peft, and load that"
        )


def _tensors(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        hint = ""
        if (folder / _TORCH_FILE).is_file():
            hint = f". Convert {_TORCH_FILE} to safetensors: load and save it with peft"
        raise FileNotFoundError(f'load_peft "{path}": the file must exist, got none{hint}')
    file = SafeTensorsFile(path)
    if file.unsupported:
        raise ValueError(
            f'load_peft "{path}": factors must be float32, float16 or bfloat16, got another dtype '
            "for " + ", ".join(f'"{name}"' for name in file.unsupported)
        )
    return file.tensors()


def _factors(
    folder: Path, known: Mapping[str, PeftModule], family: Family
) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """Tensors by module and factor, and what belongs to no module that is known."""
    found: dict[str, dict[str, Tensor]] = {}
    faults = []
    for name, tensor in _tensors(folder).items():
        match = re.fullmatch(r"base_model\.model\.(.+)\.(lora_[AB])\.weight", name)
        short = match[1] if match else ""
        # The adapter of a bare backbone lacks the prefix.
        path = next((each for each in (short, family.prefix + short) if each in known), None)
        if match is None or path is None or match[2] in found.get(path, {}):
            faults.append(f'unexpected: "{name}"')
        else:
            found.setdefault(path, {})[match[2]] = tensor
    return found, faults


def _faults(each: PeftModule, rank: int, factors: Mapping[str, Tensor]) -> list[str]:
    """What is missing or misshapen of a module's factors."""
    faults = []
    shapes = ((rank, each.inputs), (each.outputs, rank))
    for factor, shape in zip(_FACTORS, shapes, strict=True):
        name, tensor = f"{_PREFIX}{each.path}.{factor}.weight", factors.get(factor)
        if tensor is None:
            faults.append(f'missing: "{name}" {list(shape)}')
        elif tensor.shape != shape:
            faults.append(f'misshapen: "{name}" must be {list(shape)}, got {list(tensor.shape)}')
    return faults


def _float32(tensor: Tensor) -> torch.Tensor:
    return torch.from_numpy(tensor.float().numpy().copy())


def _table_name(name: str) -> str:
    stack, _, part = name.split(".", 2)
    return f"{stack}.{{i}}.{part}.weight"


def _adapter_of(module: TransformerModule, each: PeftModule) -> PeftAdapter | None:
    found = adapters(module).get(each.names[0])
    return found if isinstance(found, PeftAdapter) else None


def _written_config(
    known: Mapping[str, PeftModule], adapted: Mapping[str, PeftAdapter]
) -> dict[str, Any]:
    """The fields that tell which modules have adapters and what their factors mean."""
    ends = sorted({path.rpartition(".")[2] for path in adapted})
    by_ends = [path for path in known if any(is_called(path, end) for end in ends)]
    rank = Counter(adapter.rank for adapter in adapted.values()).most_common(1)[0][0]
    alpha = Counter(adapter.form.alpha for adapter in adapted.values()).most_common(1)[0][0]
    form = next(iter(adapted.values())).form
    return {
        "peft_type": "LORA",
        "target_modules": ends if len(by_ends) == len(adapted) else sorted(adapted),
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": form.dropout,
        "use_rslora": form.use_rslora,
        "rank_pattern": {p: a.rank for p, a in adapted.items() if a.rank != rank},
        "alpha_pattern": {p: a.form.alpha for p, a in adapted.items() if a.form.alpha != alpha},
        "bias": "none",
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": None,
        "use_dora": False,
    }
