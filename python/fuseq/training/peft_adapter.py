# SPDX-License-Identifier: Apache-2.0
"""LoRA as the peft library has it, and fresh adapters of that form."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import torch
from torch import Tensor, nn
from torch.nn import functional

from fuseq.presets.family import Family
from fuseq.training.adapters import attach, check_bare, checked_names, checked_rank, linears
from fuseq.training.torch_module import TransformerModule

_DEFAULT_MODULES = {"bart": ("q_proj", "v_proj"), "gpt2": ("c_attn",)}  # as peft has them


@dataclass(frozen=True)
class PeftForm:
    """What the factors of an adapter mean.

    Attributes:
        alpha: `lora_alpha`: what the product is multiplied by, before the rank divides it.
        use_rslora: Whether the root of the rank divides it instead.
        dropout: Of the inputs, in training.
    """

    alpha: float = 8
    use_rslora: bool = False
    dropout: float = 0.0


class PeftAdapter(nn.Module):
    """scale x A^T B^T, of one matrix or of a part of several that a checkpoint keeps as one.

    Where q, k and v are one matrix in the checkpoint they have the same A, and the rows of one B.

    Args:
        a: [r, I].
        b: [O', r], of all parts.
        form: What they mean.
        part: Which of the equal parts of b.
        parts: Their number.
    """

    def __init__(
        self, a: nn.Parameter, b: nn.Parameter, form: PeftForm, part: int = 0, parts: int = 1
    ) -> None:
        """Keeps the factors."""
        super().__init__()
        self.lora_kernel_a, self.lora_kernel_b = a, b
        self.form, self.rank = form, a.shape[0]
        self.part, self.parts = part, parts
        self.scale = form.alpha / (math.sqrt(self.rank) if form.use_rslora else self.rank)

    def forward(self, x: Tensor) -> Tensor:
        """What is added to the layer's outputs [..., O], of its inputs x [..., I]."""
        x = functional.dropout(x, self.form.dropout, self.training)
        return (
            functional.linear(functional.linear(x, self.lora_kernel_a), self._rows()) * self.scale
        )

    def delta(self) -> Tensor:
        """What is added to the layer's weight [O, I]."""
        return self._rows() @ self.lora_kernel_a * self.scale

    def _rows(self) -> Tensor:
        length = self.lora_kernel_b.shape[0] // self.parts
        return self.lora_kernel_b[self.part * length : (self.part + 1) * length]


@dataclass(frozen=True)
class PeftModule:
    """A module of transformers that can have an adapter.

    Attributes:
        path: Its name in transformers' model, as "model.decoder.layers.0.self_attn.q_proj".
        names: Ours, in the order of the checkpoint's parts.
        inputs: I.
        outputs: O, of all parts.
    """

    path: str
    names: tuple[str, ...]
    inputs: int
    outputs: int

    def make(self, a: Tensor, b: Tensor, form: PeftForm) -> dict[str, nn.Module]:
        """Adapters by our names, with factors [r, I] and [O, r]."""
        factors = nn.Parameter(a), nn.Parameter(b)
        count = len(self.names)
        return {
            name: PeftAdapter(*factors, form, part, count) for part, name in enumerate(self.names)
        }


def enable_peft(
    module: TransformerModule,
    family: Family,
    rank: int,
    target_modules: object = None,
    *,
    alpha: float = 8,
    dropout: float = 0.0,
    use_rslora: bool = False,
) -> None:
    """Adds fresh adapters in PEFT's form and freezes all else.

    Args:
        module: Gets them.
        family: The model's family.
        rank: Of all factors.
        target_modules: Names of transformers' modules, or the ends of names; "all-linear": all;
            None: those that peft takes.
        alpha: As `PeftForm`; the others likewise.
        dropout: As `PeftForm`.
        use_rslora: As `PeftForm`.

    Raises:
        ValueError: There are adapters already, an argument is out of its range, or no module has
            one of the names.
    """
    call = "enable_peft"
    check_bare(module, call)
    rank = checked_rank(rank, call)
    form = checked_form(alpha, dropout, use_rslora, call)
    known = peft_modules(module, family)
    if target_modules is None:
        target_modules = _DEFAULT_MODULES.get(family.model_type)
    elif target_modules == "all-linear":
        target_modules = list(known)
    chosen = matching(known, checked_names(target_modules, call, "target_modules"), call)
    made: dict[str, nn.Module] = {}
    for each in chosen:
        a = nn.init.kaiming_uniform_(torch.empty(rank, each.inputs), a=math.sqrt(5))
        made |= each.make(a, torch.zeros(each.outputs, rank), form)
    attach(module, made, biases=False)


def peft_modules(module: TransformerModule, family: Family) -> dict[str, PeftModule]:
    """The modules of transformers that can have adapters, by their names."""
    found: dict[str, list[tuple[int, str]]] = {}
    layers = linears(module)
    for name in layers:
        stack, index, part = name.split(".", 2)
        source = family.weights.get(f"{stack}.{{i}}.{part}.weight")
        if source is not None:
            path = source.name.replace("{i}", index).removesuffix(".weight")
            found.setdefault(path, []).append((source.part, name))
    result = {}
    for path, parts in found.items():
        names = tuple(name for _, name in sorted(parts))
        outputs = sum(layers[name].weight.shape[0] for name in names)
        result[path] = PeftModule(path, names, layers[names[0]].weight.shape[1], outputs)
    return result


def matching(
    known: Mapping[str, PeftModule], targets: Sequence[str], call: str
) -> list[PeftModule]:
    """The modules that are called as one of the targets, or whose names end so.

    Raises:
        ValueError: A target is no module's name.
    """
    unknown = [t for t in targets if not any(is_called(path, t) for path in known)]
    if unknown:
        ends = ", ".join(sorted({path.rpartition(".")[2] for path in known}))
        raise ValueError(
            f"{call}: target_modules must be among {ends}, or whole names of such modules, got "
            f"{', '.join(unknown)}"
        )
    return [each for path, each in known.items() if any(is_called(path, t) for t in targets)]


def is_called(path: str, name: str) -> bool:
    """Whether a module's name is, or ends in, another."""
    return path == name or path.endswith(f".{name}")


def checked_form(
    alpha: object, dropout: object, use_rslora: object, call: str, prefix: str = ""
) -> PeftForm:
    """The three as a form; the prefix stands before alpha and dropout in an error.

    Raises:
        ValueError: One is out of its range, or of another type.
    """
    if isinstance(alpha, bool) or not isinstance(alpha, Real) or not math.isfinite(alpha):
        raise ValueError(f"{call}: {prefix}alpha must be a number, got {alpha!r}")
    if isinstance(dropout, bool) or not isinstance(dropout, Real) or not 0 <= float(dropout) < 1:
        raise ValueError(f"{call}: {prefix}dropout must be from 0 up to 1, got {dropout!r}")
    if not isinstance(use_rslora, bool):
        raise ValueError(f"{call}: use_rslora must be true or false, got {use_rslora!r}")
    number = int(alpha) if isinstance(alpha, Integral) else float(alpha)
    return PeftForm(number, use_rslora, float(dropout))
