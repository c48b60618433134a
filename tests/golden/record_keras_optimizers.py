# SPDX-License-Identifier: Apache-2.0
"""Records what Keras' optimizers and schedules make of fixed gradients, in float64.

Needs keras 3 and torch:  KERAS_BACKEND=torch python tests/golden/record_keras_optimizers.py
"""

import json
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

OUTPUT = Path(__file__).resolve().parent / "keras_optimizers.json"
SHAPES = [(5,), (4, 3), (1,)]
# Sizes of the gradients, step by step: epsilon matters where all are tiny, clipping where not.
SCALES = [1.0, 1e-7, 3.0, 1e-6, 0.5, 10.0, 1.0]
STEPS_SHOWN = [2, 7]
# At these steps, from 0, the last variable has no gradient in cases named "late …".
ABSENT = [0, 1, 2, 4]
RATES_SHOWN = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 20, 21, 29, 30, 31, 50, 75]

WARM_UP = {"initial_learning_rate": 0.0, "decay_steps": 20, "warmup_target": 0.2}
SCHEDULES: dict[str, tuple[str, dict[str, Any]]] = {
    "exponential": (
        "ExponentialDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.5},
    ),
    "exponential stairs": (
        "ExponentialDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.5, "staircase": True},
    ),
    "inverse time": (
        "InverseTimeDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 5, "decay_rate": 0.3},
    ),
    "inverse time stairs": (
        "InverseTimeDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 5, "decay_rate": 0.3, "staircase": True},
    ),
    "piecewise": (
        "PiecewiseConstantDecay",
        {"boundaries": [3, 9, 30], "values": [0.4, 0.3, 0.2, 0.1]},
    ),
    "linear": ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 20}),
    "polynomial": (
        "PolynomialDecay",
        {
            "initial_learning_rate": 0.1,
            "decay_steps": 10,
            "end_learning_rate": 0.01,
            "power": 2.0,
            "cycle": True,
        },
    ),
    "cosine": ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 30, "alpha": 0.1}),
    "cosine warm-up": ("CosineDecay", {**WARM_UP, "warmup_steps": 4}),
    "cosine no warm-up": ("CosineDecay", {**WARM_UP, "warmup_steps": 0}),
    "restarts": ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 10}),
    "restarts of one length": (
        "CosineDecayRestarts",
        {
            "initial_learning_rate": 0.1,
            "first_decay_steps": 7,
            "t_mul": 1.0,
            "m_mul": 0.8,
            "alpha": 0.05,
        },
    ),
}

RATE = {"learning_rate": 0.05}
OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        name.lower(): (name, RATE)
        for name in (
            *("Adadelta", "Adafactor", "Adagrad", "Adam", "Adamax", "AdamW"),
            *("Lamb", "Lion", "Nadam", "RMSprop", "SGD"),
        )
    },
    **{
        f"{name.lower()} as it is": (name, {})
        for name in ("Adam", "AdamW", "SGD", "Adafactor", "Lion")
    },
    "adadelta options": ("Adadelta", {"learning_rate": 1.0, "rho": 0.7, "epsilon": 1e-3}),
    "adafactor options": (
        "Adafactor",
        {
            "learning_rate": 0.9,
            "beta_2_decay": -0.6,
            "epsilon_1": 1e-10,
            "epsilon_2": 0.1,
            "clip_threshold": 0.5,
            "relative_step": False,
        },
    ),
    "adagrad options": (
        "Adagrad",
        {**RATE, "initial_accumulator_value": 0.5, "epsilon": 1e-2, "weight_decay": 0.1},
    ),
    "adam options": ("Adam", {**RATE, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-4}),
    "adam amsgrad": ("Adam", {**RATE, "amsgrad": True, "beta_2": 0.9, "weight_decay": 0.2}),
    "adamax options": ("Adamax", {**RATE, "beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}),
    "adamw options": ("AdamW", {**RATE, "weight_decay": 0.3}),
    "lamb options": ("Lamb", {**RATE, "beta_1": 0.7, "weight_decay": 0.1}),
    "lion options": ("Lion", {**RATE, "beta_1": 0.6, "beta_2": 0.7, "weight_decay": 0.2}),
    "nadam options": ("Nadam", {**RATE, "beta_1": 0.8, "beta_2": 0.9, "weight_decay": 0.1}),
    "rmsprop centered": (
        "RMSprop",
        {**RATE, "rho": 0.8, "momentum": 0.5, "centered": True, "epsilon": 1e-4},
    ),
    "rmsprop momentum": ("RMSprop", {**RATE, "momentum": 0.9, "weight_decay": 0.1}),
    "sgd momentum": ("SGD", {**RATE, "momentum": 0.9, "weight_decay": 0.1}),
    "sgd nesterov": ("SGD", {**RATE, "momentum": 0.9, "nesterov": True}),
    "clipnorm": ("SGD", {**RATE, "clipnorm": 0.7}),
    "clipvalue": ("Adam", {**RATE, "clipvalue": 0.3}),
    "global_clipnorm": ("SGD", {**RATE, "global_clipnorm": 0.7, "momentum": 0.5}),
    "accumulation": (
        "AdamW",
        {**RATE, "gradient_accumulation_steps": 2, "global_clipnorm": 1.5},
    ),
    "accumulation with a schedule": (
        "SGD",
        {"learning_rate": "linear", "gradient_accumulation_steps": 2},
    ),
    "late adam": ("Adam", RATE),
    "late nadam": ("Nadam", RATE),
    "late adafactor": ("Adafactor", RATE),
    "late sgd": ("SGD", {**RATE, "momentum": 0.9, "weight_decay": 0.1}),
    "scheduled adamw": ("AdamW", {"learning_rate": "cosine warm-up", "weight_decay": 0.5}),
    "scheduled adafactor": ("Adafactor", {"learning_rate": "piecewise"}),
}


def schedule(name: str) -> Any:
    """One of Keras' schedules."""
    kind, config = SCHEDULES[name]
    return getattr(keras.optimizers.schedules, kind)(**config)


def draw() -> tuple[list[Any], list[list[Any]]]:
    """Values at the start and gradients of each step; each tensor's first number stays tiny."""
    random = np.random.default_rng(5)
    values = [np.round(random.normal(size=shape), 3) for shape in SHAPES]
    gradients = []
    for scale in SCALES:
        row = [np.round(random.normal(size=shape), 3) * scale for shape in SHAPES]
        for gradient in row[:2]:
            gradient.flat[0] *= 1e-7
            gradient.flat[1] = 0.0
        gradients.append(row)
    return values, gradients


def run(name: str, values: list[Any], gradients: list[list[Any]]) -> dict[str, Any]:
    """One optimizer's choice, as Keras writes it, and the values after some steps."""
    kind, config = OPTIMIZERS[name]
    if isinstance(config.get("learning_rate"), str):
        config = {**config, "learning_rate": schedule(config["learning_rate"])}
    optimizer = getattr(keras.optimizers, kind)(**config)
    variables = [keras.Variable(value, dtype="float64") for value in values]
    shown = []
    for step, row in enumerate(gradients):
        tensors: list[Any] = [keras.ops.convert_to_tensor(each, "float64") for each in row]
        if name.startswith("late ") and step in ABSENT:
            tensors[-1] = None
        optimizer.apply(tensors, variables)
        if step + 1 in STEPS_SHOWN:
            shown.append([keras.ops.convert_to_numpy(each).tolist() for each in variables])
    return {"choice": keras.optimizers.serialize(optimizer), "values": shown}


def lines(record: dict[str, Any]) -> str:
    """JSON with a line for each entry and for each optimizer and schedule."""
    entries = [
        f"{json.dumps(key)}: "
        + (lines(value) if key in ("optimizers", "schedules") else json.dumps(value))
        for key, value in record.items()
    ]
    return "{\n" + ",\n".join(entries) + "\n}"


def main() -> None:
    """Writes keras_optimizers.json."""
    keras.config.set_floatx("float64")
    warnings.simplefilter("ignore")
    values, gradients = draw()
    record = {
        "keras": keras.__version__,
        "values": [each.tolist() for each in values],
        "gradients": [[each.tolist() for each in row] for row in gradients],
        "absent": ABSENT,
        "steps": STEPS_SHOWN,
        "optimizers": {name: run(name, values, gradients) for name in OPTIMIZERS},
        "rate_steps": RATES_SHOWN,
        "schedules": {
            name: {
                "choice": keras.optimizers.schedules.serialize(schedule(name)),
                "rates": [float(schedule(name)(step)) for step in RATES_SHOWN],
            }
            for name in SCHEDULES
        },
    }
    OUTPUT.write_text(lines(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
