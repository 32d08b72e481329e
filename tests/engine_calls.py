"""Calls on the engine's loop that a test begins, cancels and waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from fsspec_osspresigned.engine.engine import current, running


class Call:
    """A call of a coroutine function, which the test may cancel.

    Attributes:
        outcome: the result, or the exception; there once ``wait`` has returned.
    """

    outcome: Any = None

    def __init__(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any):
        self._function, self._args = function, args
        self._ended = threading.Event()

    def begin(self) -> Call:
        """Begin the call."""
        current().start()
        current().post(self._begin)
        return self

    def _begin(self) -> None:
        self._task = running().spawn(self._function(*self._args))
        self._task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[Any]) -> None:
        try:
            self.outcome = task.result()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.outcome = error
        self._ended.set()

    def cancel(self) -> None:
        """Cancel the call, and return when it has begun to clean up."""
        knows = threading.Event()

        def now() -> None:
            self._task.cancel()
            asyncio.get_running_loop().call_later(0.01, knows.set)

        current().post(now)
        assert knows.wait(10)

    @property
    def has_ended(self) -> bool:
        """True once the call has ended."""
        return self._ended.is_set()

    def wait(self, seconds: float = 10.0) -> Any:
        """Wait until the call has ended, and return its outcome."""
        assert self._ended.wait(seconds), "the call does not end"
        return self.outcome
