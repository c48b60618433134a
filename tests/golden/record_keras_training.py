# SPDX-License-Identifier: Apache-2.0
"""Records what KerasHub computes when it trains the tiny presets of `keras_presets`.

Run it once with each version; the version decides which files are written:
    KERAS_BACKEND=torch python tests/golden/record_keras_training.py          # keras-hub 0.32.0
    KERAS_BACKEND=tensorflow python tests/golden/record_keras_training.py     # keras-hub 0.17.0

The presets have dropout 0.1, which no other library draws alike: it is set to 0 in a copy.

Where LoRA's weights lie: `lora/<i>/vars/lora_kernel_{a,b}`, where i counts the layers that have
weights in the order of Keras' `_flatten_layers`: from a queue of the backbone's layers the first is
taken, and those within it are put in front one by one, so depth first, the last part first. The
backbone's own layers come by their distance from the outputs, the farthest first: in BART the
decoder's positions and norm lie between encoder layers, farther back the deeper the model is. The
JSON lists all layers in that order (`lora.layers`), and i for models of other depths
(`lora.numbers`). The biases of layers with LoRA train too, and are in no such file.

Arguments choose families: `bart`, `gpt2`; none: both.
"""

import json
import shutil
import sys
import tempfile
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import keras
import keras_hub
import numpy as np
import record_keras_presets as presets
from record_keras_presets import MODELS, VERSION

FOLDER = Path(__file__).resolve().parent / "keras_training"
LENGTHS = {
    "bart": {"encoder_sequence_length": 16, "decoder_sequence_length": 12},
    "gpt2": {"sequence_length": 14},
}
TEXTS = [
    "the quick brown fox",
    "a fox",
    "he found the inn",
    "the fox jumped over the wall",
    "a quick inn for the fox",
    "",
    "the",
    "four quick foxes in the inn found the wall",
    "Straße, naïve!",
    "in the wall",
    "over the fox",
    "the inn",
    "a quick brown wall in the inn",
    "quick",
]
ROWS, ALL = 10, len(TEXTS)  # those after the first ten are for validation
PERPLEXITY = {"class_name": "Perplexity", "config": {"from_logits": True, "mask_token_id": 1}}
ACCURACY = {"class_name": "SparseCategoricalAccuracy", "config": {"name": "right"}}
SUM_LOSS = {
    "class_name": "SparseCategoricalCrossentropy",
    "config": {"from_logits": True, "reduction": "sum"},
}
MEAN_LOSS = {
    "class_name": "SparseCategoricalCrossentropy",
    "config": {"from_logits": True, "reduction": "mean_with_sample_weight"},
}


def optimizer(name: str, rate: float, **config: Any) -> dict[str, Any]:
    """An optimizer as Keras and fuseq take it."""
    return {"class_name": name, "config": {"learning_rate": rate, **config}}


ADAM = optimizer("Adam", 1e-2)
FIT = {"batch_size": 4, "epochs": 3, "shuffle": False}
# What is compiled, what is fitted: texts or ids, with which weights, and how it is validated.
RUNS: dict[str, dict[str, Any]] = {
    "default": {"compile": {}, "fit": FIT, "validation": True},
    "adam": {"compile": {"optimizer": ADAM}, "fit": FIT, "validation": True},
    "split": {"compile": {"optimizer": ADAM}, "fit": {**FIT, "validation_split": 0.3}},  # arrays
    "ids": {"compile": {"optimizer": ADAM}, "fit": FIT, "weights": "mask", "validation": True},
    "ids_fractions": {"compile": {"optimizer": ADAM}, "fit": FIT, "weights": "fractions"},
    "ids_rows": {"compile": {"optimizer": ADAM}, "fit": FIT, "weights": "rows"},
    "ids_unweighted": {"compile": {"optimizer": ADAM}, "fit": FIT, "weights": "none"},
    "sgd": {"compile": {"optimizer": "sgd"}, "fit": FIT},
    "adamw": {"compile": {"optimizer": optimizer("AdamW", 1e-2, weight_decay=0.1)}, "fit": FIT},
    "clipped": {"compile": {"optimizer": optimizer("SGD", 0.5, global_clipnorm=0.1)}, "fit": FIT},
    "clipped_each": {"compile": {"optimizer": optimizer("SGD", 0.5, clipnorm=0.1)}, "fit": FIT},
    "sum_loss": {"compile": {"optimizer": optimizer("SGD", 1e-2), "loss": SUM_LOSS}, "fit": FIT},
    "mean_loss": {"compile": {"optimizer": optimizer("SGD", 0.5), "loss": MEAN_LOSS}, "fit": FIT},
    "accuracy": {
        "compile": {"optimizer": "adam", "weighted_metrics": ["accuracy"]},
        "fit": FIT,
        "validation": True,
    },
    "metrics": {
        "compile": {"optimizer": "adam", "metrics": ["sparse_categorical_accuracy"]},
        "fit": FIT,
    },
    "metrics_alone": {
        "compile": {"optimizer": "adam", "metrics": ["accuracy"], "weighted_metrics": None},
        "fit": FIT,
    },
    "no_metrics": {"compile": {"optimizer": "adam", "weighted_metrics": None}, "fit": FIT},
    "named_metric": {"compile": {"optimizer": "adam", "weighted_metrics": [ACCURACY]}, "fit": FIT},
    "perplexity": {"compile": {"optimizer": "adam", "weighted_metrics": [PERPLEXITY]}, "fit": FIT},
    "steps": {"compile": {"optimizer": ADAM}, "fit": {**FIT, "steps_per_epoch": 2}},
    "initial_epoch": {"compile": {"optimizer": ADAM}, "fit": {**FIT, "initial_epoch": 1}},
}
LORA_RANK = 4
LORA_DEPTHS = (1, 2, 3, 4, 6, 12)
OF_017 = ("default", "adam", "split", "ids_fractions", "ids_unweighted", "adamw", "accuracy")


def plain(value: Any) -> Any:
    """Numbers as JSON has them, exactly."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "shape"):
        return plain(np.asarray(keras.ops.convert_to_numpy(value)).tolist())
    return value


def texts(family: str, begin: int, end: int) -> Any:
    """Rows as `fit` takes them; the source of a row is another row's text."""
    rows = TEXTS[begin:end]
    if family == "gpt2":
        return rows
    return {
        "encoder_text": [TEXTS[(3 * i + 2) % ALL] for i in range(begin, end)],
        "decoder_text": rows,
    }


def preset(family: str, folder: Path) -> Path:
    """A copy of a recorded preset with dropout 0."""
    source = Path(__file__).parent / "keras_presets" / f"{family}_{VERSION}"
    shutil.copytree(source, folder, dirs_exist_ok=True)
    for name in ("config.json", "task.json"):
        text = (folder / name).read_text("utf-8")
        assert '"dropout": 0.1' in text
        (folder / name).write_text(text.replace('"dropout": 0.1', '"dropout": 0.0'), "utf-8")
    return folder


class Recorder:
    """Loads one preset again and again and records what becomes of it."""

    def __init__(self, family: str, folder: Path) -> None:
        self.family = family
        self.folder = folder
        self.name = f"{family}_{VERSION}"
        self.task_kind = MODELS.BartSeq2SeqLM if family == "bart" else MODELS.GPT2CausalLM
        self.preprocessor_kind = self.task_kind.preprocessor_cls
        self.x, self.y, self.mask = self.ids(0, ROWS)
        self.validation = self.ids(ROWS, ALL)

    def load(self, *, reads_texts: bool = True) -> Any:
        """A fresh task; one that is compiled already would keep its metrics for `None`."""
        task = self.task_kind.from_preset(str(self.folder), compile=False)
        task.preprocessor = self.preprocessor() if reads_texts else None
        return task

    def preprocessor(self) -> Any:
        return self.preprocessor_kind.from_preset(str(self.folder), **LENGTHS[self.family])

    def ids(self, begin: int, end: int) -> tuple[Any, Any, Any]:
        """What the preprocessor makes of rows: x, y, sample_weight."""
        return tuple(
            {key: keras.ops.convert_to_numpy(item) for key, item in part.items()}
            if isinstance(part, dict)
            else keras.ops.convert_to_numpy(part)
            for part in self.preprocessor()(texts(self.family, begin, end))
        )

    def weights(self, kind: str) -> Any:
        """The sample weights of a run on ids."""
        if kind == "none":
            return None
        if kind == "rows":  # one number for a row, 0 for one of them
            return np.arange(ROWS, dtype="float32")[:, None] * 0.25 + 0 * self.mask
        draws = np.random.default_rng(7).integers(0, 9, self.y.shape) / 4
        return (
            self.mask.astype("int32") if kind == "mask" else (draws * self.mask).astype("float32")
        )

    def run(self, name: str) -> dict[str, Any]:
        """One `fit`."""
        run = RUNS[name]
        reads_texts = "weights" not in run
        task = self.load(reads_texts=reads_texts)
        task.compile(**compiled(run["compile"]))
        x, y, weights = texts(self.family, 0, ROWS), None, None
        validation: Any = (texts(self.family, ROWS, ALL),)
        if not reads_texts:
            x, y, weights = self.x, self.y, self.weights(run["weights"])
            x = {key: value.astype("int32") for key, value in x.items()}
            validation = self.validation
        options = dict(run["fit"], verbose=0)
        if "validation_split" in options:
            x = {k: np.array(v) for k, v in x.items()} if isinstance(x, dict) else np.array(x)
        if run.get("validation"):
            options["validation_data"] = validation
        history = task.fit(x, y, sample_weight=weights, **options)
        if name == "adam" and VERSION == "032":
            write_weights(FOLDER / f"{self.name}_trained.npy", task.backbone)
        return {
            **run,
            "sample_weight": plain(weights)
            if run.get("weights") in ("fractions", "rows")
            else None,
            "history": plain(history.history),
            "epochs": history.epoch,
        }

    def calls(self) -> dict[str, Any]:
        """evaluate, predict, and the calls on one batch."""
        rows = texts(self.family, 0, ROWS)
        batch = texts(self.family, 0, 4)
        task = self.load()
        task.compile(optimizer=ADAM)
        found: dict[str, Any] = {
            "evaluate": task.evaluate(rows, batch_size=4, verbose=0),
            "evaluate_dict": task.evaluate(rows, batch_size=4, verbose=0, return_dict=True),
            "evaluate_steps": task.evaluate(rows, batch_size=4, verbose=0, steps=2),
        }
        predicted = task.predict(rows, batch_size=4, verbose=0)
        found["predict"] = {
            "shape": list(predicted.shape),
            "dtype": str(predicted.dtype),
            "logits": np.round(predicted[:2, :, ::10].astype(float), 6).tolist(),
        }
        # 0.17.0 (Keras 3.7) returns means over all calls, 0.32.0 (Keras 3.15) those of each batch.
        task = self.load()
        task.compile(optimizer=ADAM)
        found["on_batch"] = [
            [call, options, kind_of(value), plain(value)]
            for call, options in (
                ("test_on_batch", {}),
                ("train_on_batch", {}),
                ("train_on_batch", {"return_dict": True}),
                ("test_on_batch", {"return_dict": True}),
            )
            for value in [getattr(task, call)(batch, **options)]
        ]
        for name, metrics in (("with_accuracy", ["accuracy"]), ("without_metrics", None)):
            task = self.load()
            task.compile(optimizer=ADAM, weighted_metrics=metrics)
            options = {"batch_size": 4, "verbose": 0}
            found[name] = {
                "evaluate": task.evaluate(rows, **options),
                "evaluate_dict": task.evaluate(rows, return_dict=True, **options),
            }
            for call in ("test_on_batch", "train_on_batch"):
                task.reset_metrics()
                found[name][call] = getattr(task, call)(batch)
            kinds = {call: kind_of(value) for call, value in found[name].items()}
            found[name]["kinds"] = kinds
        return plain(found)

    def gradients(self) -> dict[str, Any]:
        """Of the first four texts, written as if they were the weights."""
        task = self.load()
        task.compile(optimizer=ADAM)
        x = {key: value[:4] for key, value in self.x.items()}
        loss = task.compute_loss(y=self.y[:4], y_pred=task(x), sample_weight=self.mask[:4])
        loss.backward()
        for variable in task.backbone.trainable_weights:
            gradient = variable.value.grad
            variable.assign(np.zeros(variable.shape) if gradient is None else gradient.numpy())
        write_weights(FOLDER / f"{self.name}_gradients.npy", task.backbone)
        return {"loss": loss.item()}

    def lora(self) -> dict[str, Any]:
        """LoRA: its names, the logits before and after training, and the files."""
        task = self.load(reads_texts=False)
        task.backbone.enable_lora(LORA_RANK)
        found: dict[str, Any] = {
            "rank": LORA_RANK,
            "trainable": [[v.path, list(v.shape)] for v in task.backbone.trainable_weights],
            "layers": layer_names(task.backbone),
            "numbers": {depth: enabled_layers(self.family, depth) for depth in LORA_DEPTHS},
        }
        draw_lora(task.backbone)
        found["logits"] = presets.logits(task, self.family)
        path = FOLDER / f"{self.name}.lora.h5"
        path.unlink(missing_ok=True)
        task.backbone.save_lora_weights(str(path))
        found["file"] = layout(path)
        task.preprocessor = self.preprocessor()
        task.compile(optimizer=ADAM)
        rows = texts(self.family, 0, ROWS)
        found["fit"] = {**FIT, "epochs": 2}
        found["history"] = plain(task.fit(rows, **found["fit"], verbose=0).history)
        found["trained_logits"] = presets.logits(task, self.family)
        parts = [np.ravel(v.numpy()) for v in lora_variables(task.backbone)]
        np.save(FOLDER / f"{self.name}_trained_lora.npy", np.concatenate(parts))
        with tempfile.TemporaryDirectory() as folder:
            task.save_to_preset(folder)
            merged = self.task_kind.from_preset(folder)
            found["merged_logits"] = presets.logits(merged, self.family)
            layer = next(v for v in merged.backbone.weights if v.path.endswith("query/kernel"))
            found["merged_kernel"] = [layer.path, plain(layer)]
        other = self.load(reads_texts=False)
        other.backbone.enable_lora(2, target_layer_names=["query"])
        found["queries"] = [[v.path, list(v.shape)] for v in other.backbone.trainable_weights]
        return found

    def record(self) -> None:
        """Writes one file."""
        names = ("keras-hub", "keras", "tensorflow" if VERSION == "017" else "torch")
        first = {"x": self.x, "y": self.y, "sample_weight": self.mask}
        expected = {
            "versions": {name: version(name) for name in names},
            "family": self.family,
            "lengths": LENGTHS[self.family],
            "texts": texts(self.family, 0, ROWS),
            "validation_texts": texts(self.family, ROWS, ALL),
            "ids": plain(first),
            "validation_ids": plain(dict(zip(first, self.validation, strict=True))),
            "runs": {name: self.run(name) for name in (RUNS if VERSION == "032" else OF_017)},
            "calls": self.calls(),
        }
        if VERSION == "032":
            expected["gradients"] = self.gradients()
            expected["lora"] = self.lora()
        text = json.dumps(expected, ensure_ascii=False)
        (FOLDER / f"{self.name}.json").write_text(text + "\n", encoding="utf-8")


def compiled(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `compile`; what Keras does not find by name is made here."""
    arguments = dict(arguments)
    makers = {"Perplexity": keras_hub.metrics.Perplexity, **keras.metrics.__dict__}
    for key in ("metrics", "weighted_metrics"):
        if arguments.get(key):
            arguments[key] = [
                makers[item["class_name"]](**item["config"]) if isinstance(item, dict) else item
                for item in arguments[key]
            ]
    if "optimizer" in arguments:
        arguments["optimizer"] = keras.optimizers.get(arguments["optimizer"])
    if "loss" in arguments:
        arguments["loss"] = keras.losses.get(arguments["loss"])
    return arguments


def kind_of(value: Any) -> str:
    """The type that a caller sees, and the types within."""
    if isinstance(value, dict):
        return f"dict of {sorted({type(item).__name__ for item in value.values()})}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} of {sorted({type(item).__name__ for item in value})}"
    return type(value).__name__


def write_weights(path: Path, backbone: Any) -> None:
    """All datasets of `save_weights` in one row, in the order of their names.

    They fit into `model.weights.h5` of the preset; another file of that form would be twice as big.
    """
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "x.weights.h5"
        backbone.save_weights(str(whole))
        found: dict[str, Any] = {}
        with h5py.File(whole) as file:

            def visit(name: str, item: Any) -> None:
                if isinstance(item, h5py.Dataset):
                    found[name] = np.ravel(item[()])

            file.visititems(visit)
    np.save(path, np.concatenate([found[name] for name in sorted(found)]))


def lora_variables(backbone: Any) -> list[Any]:
    """A and B of each layer that has them, in the order of the file's numbers."""
    layers = layers_with_weights(backbone)
    chosen = [layers[number] for number in backbone._lora_enabled_layers]
    return [variable for layer in chosen for variable in (layer.lora_kernel_a, layer.lora_kernel_b)]


def layers_with_weights(backbone: Any) -> list[Any]:
    """In the order by which the file of LoRA counts them."""
    return [layer for layer in backbone._flatten_layers(include_self=False) if layer.weights]


def layer_names(backbone: Any) -> list[str]:
    """The path of each layer, which its first variable tells."""
    return [layer.path for layer in layers_with_weights(backbone)]


def enabled_layers(family: str, depth: int) -> list[int]:
    """The numbers of the layers that have LoRA in a model of some depth."""
    backbone = presets.make_task(family, depth).backbone
    backbone.enable_lora(1)
    return list(backbone._lora_enabled_layers)


def draw_lora(backbone: Any) -> None:
    """Numbers that depend on nothing but the names."""
    for variable in lora_variables(backbone):
        draw = np.random.default_rng(zlib.crc32(variable.path.encode()))
        variable.assign(0.3 * draw.standard_normal(variable.shape))


def layout(path: Path) -> dict[str, Any]:
    """Everything that an HDF5 file holds but the numbers."""
    found: dict[str, Any] = {}
    with h5py.File(path) as file:

        def visit(name: str, item: Any) -> None:
            is_array = isinstance(item, h5py.Dataset)
            attributes = {key: plain(value) for key, value in item.attrs.items()}
            shape = [list(item.shape), str(item.dtype)] if is_array else None
            found[name] = [shape, attributes]

        visit("/", file)
        file.visititems(visit)
    return found


def main() -> None:
    """Writes the files of the installed version."""
    FOLDER.mkdir(exist_ok=True)
    for family in sys.argv[1:] or LENGTHS:
        with tempfile.TemporaryDirectory() as folder:
            Recorder(family, preset(family, Path(folder))).record()


if __name__ == "__main__":
    main()
