"""Loop guard: fails a test in which the engine's loop was held up, or asyncio complained.

A callback that takes long delays all requests of the process. Only processor time
counts, so a busy machine fails no test, and not that of the garbage collector, which
goes through all that pytest keeps. asyncio logs as errors what is lost otherwise:
exceptions that no task awaited, and tasks that were dropped before their end.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fsspec_osspresigned.engine.engine import EngineLoop

_TICK = 0.05  # seconds between two looks at the clock


class LoopGuard(logging.Handler):
    """The plugin; a loop may be held for *seconds* of its thread's processor time."""

    def __init__(self, seconds: float = 0.5) -> None:
        super().__init__(logging.ERROR)
        self._seconds = seconds
        self.problems: list[str] = []
        self._of_thread = threading.local()
        gc.callbacks.append(self._note_collection)
        logging.getLogger("asyncio").addHandler(self)
        make = EngineLoop.__init__

        def watched(loop: EngineLoop, *args: Any) -> None:
            make(loop, *args)
            loop.call_soon(self._tick, loop, None)

        EngineLoop.__init__ = watched  # type: ignore[method-assign]

    def _note_collection(self, phase: str, _: object) -> None:
        mine, now = self._of_thread, time.thread_time()
        if phase == "start":
            mine.began = now
        else:
            mine.collecting = getattr(mine, "collecting", 0.0) + now - mine.began

    def _tick(self, loop: EngineLoop, before: float | None) -> None:
        now = time.thread_time() - getattr(self._of_thread, "collecting", 0.0)
        if before is not None and now - before > self._seconds + _TICK:
            self.problems.append(f"the loop was held for {now - before:.2f} s")
        loop.call_later(_TICK, self._tick, loop, now)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep an error of asyncio; an interrupt comes only into a loop of the test."""
        text = record.getMessage()
        if "exception=KeyboardInterrupt()" not in text:
            self.problems.append(text)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Iterator[None]:
        """Look at what came up in a test."""
        yield
        problems, self.problems = self.problems, []
        if problems:
            pytest.fail("\n".join(problems), pytrace=False)
