# SPDX-License-Identifier: Apache-2.0
"""CallbackList, which calls callbacks in order."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fuseq.callbacks.callback import HOOKS, Callback, Logs
from fuseq.callbacks.history import History

_OLDER_NAMES = {
    "on_train_batch_begin": "on_batch_begin",
    "on_train_batch_end": "on_batch_end",
}


class CallbackList:
    """Calls any objects that have some of Keras' hooks, in order.

    One event's logs are a fresh dict of floats, sorted by name, which its callbacks share: what a
    callback adds, as those of the learning rate do, is seen by those after it.

    Attributes:
        callbacks: The callbacks, a `History` that was added last.
        history: The `History` among them, or None.
    """

    def __init__(
        self,
        callbacks: object = None,
        model: Any = None,  # noqa: ANN401
        params: Mapping[str, Any] | None = None,
        add_history: bool = True,
    ) -> None:
        """Makes the list and gives the callbacks the model and the params.

        Args:
            callbacks: A callback, or a list, possibly nested, of them; None for none.
            model: The task that is trained.
            params: What the run was asked for: `verbose`, `epochs`, `steps`.
            add_history: Whether to add a `History` where there is none.

        Raises:
            TypeError: One of them is a class, or has no hook.
        """
        self.callbacks = list(_flattened(callbacks))
        for callback in self.callbacks:
            _check(callback)
        found = [callback for callback in self.callbacks if isinstance(callback, History)]
        if add_history and not found:
            found = [History()]
            self.callbacks += found
        self.history = found[-1] if found else None
        for callback in self.callbacks:
            for setter, value in (("set_params", params), ("set_model", model)):
                if value is not None and hasattr(callback, setter):
                    getattr(callback, setter)(value)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Calls the hook of each callback."""
        self._call("on_epoch_begin", logs, epoch)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Calls the hook of each callback."""
        self._call("on_epoch_end", logs, epoch)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Calls the hook of each callback."""
        self._call("on_train_begin", logs)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Calls the hook of each callback."""
        self._call("on_train_end", logs)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Calls the hook of each callback."""
        self._call("on_test_begin", logs)

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Calls the hook of each callback."""
        self._call("on_test_end", logs)

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Calls the hook of each callback."""
        self._call("on_predict_begin", logs)

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Calls the hook of each callback."""
        self._call("on_predict_end", logs)

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Calls the hook of each callback, or `on_batch_begin`."""
        self._call("on_train_batch_begin", logs, batch)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Calls the hook of each callback, or `on_batch_end`."""
        self._call("on_train_batch_end", logs, batch)

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Calls the hook of each callback."""
        self._call("on_test_batch_begin", logs, batch)

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Calls the hook of each callback."""
        self._call("on_test_batch_end", logs, batch)

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Calls the hook of each callback."""
        self._call("on_predict_batch_begin", logs, batch)

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Calls the hook of each callback."""
        self._call("on_predict_batch_end", logs, batch)

    def state(self) -> list[dict[str, Any]]:
        """What a training checkpoint keeps of the callbacks.

        Returns:
            For each callback that has `state_dict`, in order, its class's name and its state, which
            are plain JSON values.
        """
        return [
            {"class_name": type(callback).__name__, "state": callback.state_dict()}
            for callback in self._with_state()
        ]

    def load_state(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Goes on where a checkpoint was written; call it after `on_train_begin`, which resets.

        Args:
            state: What `state` returned.

        Raises:
            ValueError: It was written by other callbacks.
        """
        callbacks = self._with_state()
        written = [entry["class_name"] for entry in state]
        present = [type(callback).__name__ for callback in callbacks]
        if written != present:
            raise ValueError(
                "callbacks: must be those of the checkpoint that training goes on from, "
                f"{', '.join(written) or 'none'}, got {', '.join(present) or 'none'} "
                "(only those with a state_dict are compared)"
            )
        for callback, entry in zip(callbacks, state, strict=True):
            callback.load_state_dict(entry["state"])

    def _with_state(self) -> list[Any]:
        return [callback for callback in self.callbacks if hasattr(callback, "state_dict")]

    def _call(self, hook: str, logs: Mapping[str, Any] | None, *where: int) -> None:
        shared: Logs | None = (
            None  # made only if someone reads: floats of a GPU have to be waited for
        )
        for callback in self.callbacks:
            method = _find(callback, hook)
            if method is not None:
                shared = as_floats(logs) if shared is None else shared
                method(*where, shared)


def as_floats(logs: Mapping[str, Any] | None) -> Logs:
    """A new dict of logs, sorted by name.

    Args:
        logs: Numbers, or scalars of numpy or torch, by name; dicts in it are flattened.

    Returns:
        Floats; what cannot be one is kept as it is.
    """
    plain: Logs = {}
    for name, value in sorted((logs or {}).items()):
        if isinstance(value, Mapping):
            plain.update(as_floats(value))
            continue
        try:
            plain[name] = float(value)
        except (TypeError, ValueError, RuntimeError):  # torch raises the last
            plain[name] = value
    return plain


def _flattened(callbacks: object) -> Iterator[Any]:
    if isinstance(callbacks, list | tuple):
        for callback in callbacks:
            yield from _flattened(callback)
    elif callbacks is not None:
        yield callbacks


def _check(callback: object) -> None:
    if isinstance(callback, type):
        raise TypeError(
            f"callbacks: must be objects, got the class {callback.__name__}. "
            f"Write {callback.__name__}(...)"
        )
    if not any(callable(getattr(callback, hook, None)) for hook in HOOKS):
        raise TypeError(
            "callbacks: must have some of Keras' hooks, such as on_epoch_end, got "
            f"{type(callback).__name__}. Derive it from fuseq.callbacks.Callback"
        )


def _find(callback: object, hook: str) -> Callable[..., Any] | None:
    """A hook, or its older name, of a callback; None where it is absent or does nothing."""
    names = [hook, _OLDER_NAMES[hook]] if hook in _OLDER_NAMES else [hook]
    for name in names:
        method: Callable[..., Any] | None = getattr(callback, name, None)
        if callable(method) and getattr(method, "__func__", None) is not getattr(Callback, name):
            return method
    return None
