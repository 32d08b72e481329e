"""A thread that calls functions in the background, such as log handlers."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from ..compat import at_fork

# maximum number of waiting functions; one blocks them, so later ones are dropped
_MOST = 10_000
_POLL_INTERVAL = 0.02  # seconds between two checks


class _Background:
    def __init__(self) -> None:
        self._functions: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._has_thread = False
        self._called = self._put = 0

    def put(self, function: Callable[[], object]) -> None:
        if self._functions.qsize() >= _MOST:
            return
        self._put += 1
        self._functions.put(function)
        if not self._has_thread:
            with suppress(RuntimeError):
                # no thread can be started: ``finish`` calls the functions
                threading.Thread(
                    target=self._main, name="osspresigned-log", daemon=True
                ).start()
                self._has_thread = True

    def _main(self) -> None:
        while True:
            self._call(self._functions.get())

    def _call(self, function: Callable[[], object]) -> None:
        with suppress(Exception):
            # an error of a log handler has no caller who could get it
            function()
        self._called += 1

    def finish(self, seconds: float) -> None:
        if not self._has_thread:
            with suppress(queue.Empty):
                while True:
                    self._call(self._functions.get_nowait())
        end = time.monotonic() + seconds
        while self._called < self._put and time.monotonic() < end:
            time.sleep(_POLL_INTERVAL)


_background = _Background()


def put(function: Callable[[], object]) -> None:
    """Let the thread call *function* after all earlier functions; never waits.

    Only the engine's thread may call it. An exception of *function* is ignored.
    """
    _background.put(function)


def finish(seconds: float) -> None:
    """Wait at most *seconds* until all functions were called."""
    _background.finish(seconds)


def _begin_anew() -> None:
    global _background  # noqa: PLW0603 - one for each process
    _background = _Background()


at_fork(after_in_child=_begin_anew)
