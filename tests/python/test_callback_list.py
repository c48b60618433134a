# SPDX-License-Identifier: Apache-2.0
"""CallbackList: who is called, with what, in which order."""

from typing import Any

import numpy as np
import pytest
from callback_fixtures import Model, run
from fuseq import callbacks
from fuseq.callbacks import (
    Callback,
    CallbackList,
    EarlyStopping,
    History,
    LambdaCallback,
    ReduceLROnPlateau,
    TerminateOnNaN,
)


def test_any_object_with_a_hook_is_a_callback() -> None:
    seen: list[Any] = []

    class Mine:
        def on_epoch_end(self, epoch: int, logs: Any) -> None:
            seen.append((epoch, logs))

        def on_batch_end(self, batch: int, logs: Any) -> None:
            seen.append((batch, logs))

    listed = CallbackList(Mine(), model=Model(), params={"epochs": 1})
    listed.on_train_begin()
    listed.on_train_batch_begin(0)
    listed.on_train_batch_end(0, {"loss": np.float32(0.5)})
    listed.on_epoch_end(0, {"loss": np.array(0.25), "accuracy": 1})
    listed.on_train_end()
    assert seen == [(0, {"loss": 0.5}), (0, {"accuracy": 1.0, "loss": 0.25})]
    assert type(seen[1][1]["loss"]) is float


def test_every_hook_is_called_in_order() -> None:
    seen: list[str] = []

    def note(name: str, hook: str) -> Any:
        return lambda *arguments: seen.append(f"{name} {hook} {len(arguments)}")

    hooks = [hook for hook in callbacks.callback.HOOKS if not hook.startswith("on_batch")]
    both = [LambdaCallback(**{hook: note(name, hook) for hook in hooks}) for name in "ab"]
    listed = CallbackList([both[0], [both[1]]])
    for hook in hooks:
        takes_number = "epoch" in hook or "batch" in hook
        getattr(listed, hook)(*([7] if takes_number else []), {})
    expected = [
        f"{name} {hook} {2 if 'epoch' in hook or 'batch' in hook else 1}"
        for hook in hooks
        for name in "ab"
    ]
    assert seen == expected
    assert len(hooks) == 14


def test_batch_logs_are_read_only_if_a_callback_looks() -> None:
    class Unreadable:
        def __float__(self) -> float:
            raise AssertionError("read")

    listed = CallbackList([EarlyStopping(), History()])
    listed.on_train_batch_end(0, {"loss": Unreadable()})
    listed = CallbackList(TerminateOnNaN())
    with pytest.raises(AssertionError, match="read"):
        listed.on_train_batch_end(0, {"loss": Unreadable()})


def test_logs_of_the_caller_are_left_alone() -> None:
    logs = {"loss": 0.5}
    listed = CallbackList(ReduceLROnPlateau("loss"), model=Model())
    listed.on_train_begin()
    listed.on_epoch_end(0, logs)
    assert logs == {"loss": 0.5}
    assert listed.history is not None
    assert listed.history.history == {"loss": [0.5], "learning_rate": [0.01]}


def test_values_that_are_no_numbers_are_kept_and_dicts_flattened() -> None:
    seen: list[Any] = []
    vector = np.arange(2.0)
    CallbackList(LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs))).on_epoch_end(
        0, {"vector": vector, "text": {"bleu": np.float64(2)}}
    )
    assert seen[0]["vector"] is vector
    assert seen[0]["bleu"] == 2.0


def test_own_history_is_used_and_none_is_added_where_none_is_wanted() -> None:
    own = History()
    model = run(own, 0.5, 0.25)
    assert model.history is own
    assert (own.history, own.epoch) == ({"val_loss": [0.5, 0.25]}, [0, 1])
    run(own, 0.125, model=model)
    assert (own.history, own.epoch) == ({"val_loss": [0.5, 0.25, 0.125]}, [0])
    assert CallbackList(None, add_history=False).callbacks == []


def test_callback_gets_model_and_params() -> None:
    callback, model = Callback(), Model()
    CallbackList([callback], model, {"epochs": 3})
    assert callback.model is model
    assert callback.params == {"epochs": 3}


def test_class_in_the_place_of_a_callback_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"got the class EarlyStopping. Write EarlyStopping\(...\)"):
        CallbackList([EarlyStopping])


def test_object_without_hooks_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"must have some of Keras' hooks.* got str"):
        CallbackList(["early_stopping"])


def test_unknown_hook_of_a_lambda_callback_is_an_error() -> None:
    with pytest.raises(TypeError, match="LambdaCallback: must be given hooks, got on_epoch_ends"):
        LambdaCallback(on_epoch_ends=print)


def test_lambda_callback_may_have_an_older_hook() -> None:
    seen: list[int] = []
    listed = CallbackList(LambdaCallback(on_batch_end=lambda batch, logs: seen.append(batch)))
    listed.on_train_batch_end(4, {})
    assert seen == [4]


def test_terminate_on_nan_can_raise() -> None:
    with pytest.raises(RuntimeError, match="Batch 3: the loss must be finite, got nan"):
        CallbackList(TerminateOnNaN(raise_error=True)).on_train_batch_end(3, {"loss": np.nan})
