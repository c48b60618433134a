# SPDX-License-Identifier: Apache-2.0
"""Training against transformers' Trainer: equal losses first, then times in interleaved rounds.

    python bench/training.py --model bart-base --output bench/results/cpu-training-bart-base

Both train the same random weights of a real shape on the same ragged rows of ids, in the same
order and batches, padded to the longest row, with AdamW of torch and gradients clipped to norm 1.
Each has a process of its own; a round runs both, one after the other. The losses of the first run
must agree with dropout off; the times are with the models' usual dropout.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SETTINGS = (
    "model", "batch", "steps", "rounds", "dropout", "precision", "shortest", "threads", "device",
)  # fmt: skip
RATE = 1e-4
CLIP = 1.0
AGREE = 1e-3  # relative, of losses with dropout off
SHAPES = {  # kind, width, layers, heads, feed-forward width, vocabulary, source, target
    "bart-base": ("bart", 768, 6, 12, 3072, 50265, 128, 64),
    "bart-small": ("bart", 256, 3, 4, 1024, 8000, 64, 32),
    "bart-tiny": ("bart", 32, 1, 2, 64, 300, 16, 8),
    "gpt2": ("gpt2", 768, 12, 12, 3072, 50257, 0, 128),
    "gpt2-small": ("gpt2", 256, 6, 4, 1024, 8000, 0, 64),
    "gpt2-tiny": ("gpt2", 32, 1, 2, 64, 300, 0, 16),
}


def main() -> int:
    """Run the comparison, or one of its peers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", default="bart-base", choices=SHAPES)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--shortest", type=float, default=0.5, help="shortest row / longest row")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", help="writes OUTPUT.json")
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        return serve(arguments)
    with tempfile.TemporaryDirectory() as folder:
        report = compare(arguments, Path(folder))
    print_report(report)
    if arguments.output:
        path = Path(arguments.output)
        path.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    return 0 if report["losses_agree"] else 1


# ---- the two sides ------------------------------------------------------------------------------


def rows(arguments: argparse.Namespace) -> dict[str, list[list[int]]]:
    """Rows of ids of ragged lengths: sources, if the model has an encoder, and targets."""
    _, _, _, _, _, vocabulary, source, target = SHAPES[arguments.model]
    draw = np.random.default_rng(0)

    def make(longest: int) -> list[list[int]]:
        count = arguments.batch * arguments.steps
        lengths = draw.integers(max(2, int(longest * arguments.shortest)), longest + 1, count)
        return [draw.integers(4, vocabulary, n).tolist() for n in lengths]

    return {"source": make(source) if source else [], "target": make(target)}


class Trainer:
    """transformers' Trainer."""

    def __init__(self, arguments: argparse.Namespace, dropout: float) -> None:
        """Load the model and prepare the rows."""
        import torch
        import transformers

        torch.set_num_threads(arguments.threads)
        kind = SHAPES[arguments.model][0]
        auto: Any = transformers.AutoModelForSeq2SeqLM
        names: tuple[str, ...] = ("dropout",)
        if kind == "gpt2":
            auto = transformers.AutoModelForCausalLM
            names = ("resid_pdrop", "embd_pdrop", "attn_pdrop")
        model = auto.from_pretrained(
            arguments.folder, attn_implementation="sdpa", **dict.fromkeys(names, dropout)
        )
        data = rows(arguments)
        items = []
        for index, target in enumerate(data["target"]):
            item = {"input_ids": data["source"][index] if kind == "bart" else target[:-1]}
            item["labels"] = target
            items.append(item)
        self.losses: list[float] = []
        outer = self

        def collate(batch: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
            def pad(name: str, value: int) -> torch.Tensor:
                lists = [torch.tensor(item[name]) for item in batch]
                return torch.nn.utils.rnn.pad_sequence(lists, True, value)

            ids = pad("input_ids", 1)
            mask = torch.nn.utils.rnn.pad_sequence(
                [torch.ones(len(item["input_ids"]), dtype=torch.long) for item in batch], True, 0
            )
            labels = pad("labels", -100)
            made = {"input_ids": ids, "attention_mask": mask, "labels": labels}
            if kind == "bart":
                targets = pad("labels", 1)
                made["labels"] = labels[:, 1:].contiguous()
                made["decoder_input_ids"] = targets[:, :-1].contiguous()
            else:  # the model shifts labels itself; the first one must not be counted
                made["input_ids"] = pad("labels", 1)
                made["attention_mask"] = (labels != -100).long()
                made["labels"] = labels.index_fill(1, torch.tensor([0]), -100)
            return made

        class Ordered(transformers.Trainer):  # type: ignore[misc]
            def _get_train_sampler(self, *unused: object) -> torch.utils.data.Sampler[int]:
                return torch.utils.data.SequentialSampler(self.train_dataset)

            def training_step(self, *given: object, **named: object) -> torch.Tensor:
                loss = super().training_step(*given, **named)
                outer.losses.append(float(loss))
                return loss

        settings = transformers.TrainingArguments(
            output_dir=str(Path(arguments.folder) / "trainer"),
            per_device_train_batch_size=arguments.batch,
            num_train_epochs=1,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            weight_decay=0.01,
            max_grad_norm=CLIP,
            optim="adamw_torch_fused",
            bf16=arguments.precision == "bfloat16",
            use_cpu=arguments.device == "cpu",
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        self._make = lambda: Ordered(
            model=model, args=settings, train_dataset=items, data_collator=collate
        )

    def run(self) -> list[float]:
        """Train on all rows once; the losses of the batches."""
        self.losses.clear()
        self._make().train()
        return list(self.losses)


class Fuseq:
    """fit."""

    def __init__(self, arguments: argparse.Namespace, dropout: float) -> None:
        """Load the model and prepare the rows."""
        from functools import partial

        import fuseq
        import torch
        from fuseq.callbacks import LambdaCallback

        torch.set_num_threads(arguments.threads)
        self.lm = fuseq.CausalLM.from_preset(arguments.folder, preprocessor=None)
        for part in self.lm.torch_module().modules():
            if getattr(part, "dropout", 0):
                part.dropout = dropout
        make = partial(torch.optim.AdamW, lr=RATE, weight_decay=0.01, fused=True)
        self.lm.compile(optimizer=make, weighted_metrics=[], loss_reduction="tokens")
        data = rows(arguments)

        def pad(lists: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
            width = max(map(len, lists))
            ids, mask = np.ones((len(lists), width), np.int64), np.zeros((len(lists), width), bool)
            for row, values in enumerate(lists):
                ids[row, : len(values)], mask[row, : len(values)] = values, True
            return ids, mask

        targets, weights = pad([target[1:] for target in data["target"]])
        given, given_mask = pad([target[:-1] for target in data["target"]])
        if data["source"]:
            source, mask = pad(data["source"])
            x = {"encoder_token_ids": source, "encoder_padding_mask": mask}
            x |= {"decoder_token_ids": given, "decoder_padding_mask": given_mask}
        else:
            x = {"token_ids": given, "padding_mask": given_mask}
        self.losses: list[float] = []
        self._means: tuple[float, int] = (0.0, 0)
        self._fit = lambda: self.lm.fit(
            x, targets, sample_weight=weights.astype(np.float32), batch_size=arguments.batch,
            shuffle=False, verbose=0, clip_norm=CLIP, precision=arguments.precision,
            device=arguments.device, callbacks=[LambdaCallback(on_train_batch_end=self._note)],
        )  # fmt: skip

    def _note(self, batch: int, logs: dict[str, float]) -> None:
        mean = logs["loss"] * (batch + 1)  # of all batches so far, of equal sizes
        self.losses.append(mean - self._means[0])
        self._means = (mean, batch + 1)

    def run(self) -> list[float]:
        """Train on all rows once; the losses of the batches."""
        self.losses.clear()
        self._means = (0.0, 0)
        self._fit()
        return list(self.losses)


PEERS = {"fuseq": Fuseq, "transformers": Trainer}


def serve(arguments: argparse.Namespace) -> int:
    """Train when told to on standard input, and answer with a line of JSON."""
    peer = PEERS[arguments.peer](arguments, arguments.dropout)
    output = os.dup(1)
    os.dup2(2, 1)  # whatever libraries print goes to standard error
    with os.fdopen(output, "w") as answers:
        answers.write("{}\n")
        answers.flush()
        for _ in sys.stdin:
            start = time.perf_counter()
            losses = peer.run()
            seconds = time.perf_counter() - start
            answers.write(json.dumps({"seconds": seconds, "losses": losses, "peak": peak()}) + "\n")
            answers.flush()
    return 0


def peak() -> int:
    """The most bytes of memory that this process has had."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) * 1024


# ---- the comparison -----------------------------------------------------------------------------


class Process:
    """A peer in a process of its own."""

    def __init__(self, name: str, arguments: argparse.Namespace, dropout: float) -> None:
        """Start it and wait until it is ready."""
        passed = [key for key in (*SETTINGS, "folder") if key not in ("rounds", "dropout")]
        options = [f"--{key}={getattr(arguments, key)}" for key in passed]
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--peer", name, f"--dropout={dropout}", *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(arguments.threads)},
        )  # fmt: skip
        self._answer()

    def run(self) -> dict[str, Any]:
        """Train once over all rows."""
        assert self._process.stdin is not None
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a peer ended with {self._process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def make_model(arguments: argparse.Namespace, folder: Path) -> None:
    """Save a transformers model with random weights."""
    import torch
    import transformers

    torch.manual_seed(0)
    kind, width, layers, heads, inner, vocabulary, source, target = SHAPES[arguments.model]
    if kind == "bart":
        config: Any = transformers.BartConfig(
            vocab_size=vocabulary, d_model=width, encoder_layers=layers, decoder_layers=layers,
            encoder_attention_heads=heads, decoder_attention_heads=heads, encoder_ffn_dim=inner,
            decoder_ffn_dim=inner, max_position_embeddings=max(source, target),
        )  # fmt: skip
        transformers.BartForConditionalGeneration(config).save_pretrained(folder)
    else:
        config = transformers.GPT2Config(
            vocab_size=vocabulary, n_embd=width, n_layer=layers, n_head=heads, n_inner=inner,
            n_positions=target,
        )  # fmt: skip
        transformers.GPT2LMHeadModel(config).save_pretrained(folder)


def compare(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Check losses, then time."""
    make_model(arguments, folder)
    arguments.folder = str(folder)
    losses = {}
    for name in PEERS:
        process = Process(name, arguments, 0.0)
        losses[name] = process.run()["losses"]
        process.close()
    ours, theirs = (np.array(losses[name]) for name in PEERS)
    difference = float(np.abs(ours / theirs - 1).max())
    processes = {name: Process(name, arguments, arguments.dropout) for name in PEERS}
    seconds: dict[str, list[float]] = {name: [] for name in PEERS}
    peaks = {}
    for number in range(arguments.rounds + 1):
        for name, process in processes.items():
            answer = process.run()
            peaks[name] = answer["peak"]
            if number:  # the first round warms up
                seconds[name].append(answer["seconds"])
    for process in processes.values():
        process.close()
    data = rows(arguments)
    tokens = sum(map(len, data["source"])) + sum(map(len, data["target"]))
    ratios = [b / a for a, b in zip(seconds["fuseq"], seconds["transformers"], strict=True)]
    import torch
    import transformers

    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine(arguments.device),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "settings": {key: getattr(arguments, key) for key in SETTINGS},
        "largest_difference_of_losses": difference,
        "losses_agree": difference <= (AGREE if arguments.precision == "float32" else 50 * AGREE),
        "seconds": seconds,
        "tokens_per_second": {n: tokens / statistics.median(s) for n, s in seconds.items()},
        "speed_ratio": {
            "median": statistics.median(ratios),
            "smallest": min(ratios),
            "largest": max(ratios),
        },
        "peak_bytes": peaks,
    }


def machine(device: str) -> str:
    """The processor, or the GPU."""
    if device != "cpu":
        import torch

        return str(torch.cuda.get_device_name())
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.machine()


def print_report(report: dict[str, Any]) -> None:
    """Print what matters."""
    ratio = report["speed_ratio"]
    print(f"losses differ by {report['largest_difference_of_losses']:.1e} at most")
    for name in PEERS:
        print(
            f"{name:>13}: {report['tokens_per_second'][name]:8.1f} tokens/s, peak "
            f"{report['peak_bytes'][name] / 2**20:.0f} MiB"
        )
    print(f"speed ratio {ratio['median']:.2f} ({ratio['smallest']:.2f} to {ratio['largest']:.2f})")


if __name__ == "__main__":
    sys.exit(main())
