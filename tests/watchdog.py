"""Watchdog: fails a test that leaves a thread waiting for work that nothing will do.

After each test, no coroutine may be left in the engine, and no thread that runs code of
the package may wait without an end, unless another such thread still works for it.
Idle threads and servers of wider fixtures do not count.
"""

from __future__ import annotations

import linecache
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

import fsspec_osspresigned
from fsspec_osspresigned import asgi_server
from fsspec_osspresigned.emulator import server
from fsspec_osspresigned.engine import engine

_PACKAGE = str(Path(fsspec_osspresigned.__file__).parent)
_SERVERS = (asgi_server.__file__, server.__file__)
_WAITS = (threading.__file__, "/concurrent/futures/", "/queue.py")


def stuck() -> dict[object, str]:
    """Return ident -> stack of threads that wait for what no other thread will do."""
    found: dict[object, str] = {}
    for ident, frame in sys._current_frames().items():
        codes = [f.f_code for f, _ in traceback.walk_stack(frame)]
        ours = [code for code in codes if code.co_filename.startswith(_PACKAGE)]
        if (
            ident == threading.main_thread().ident
            or not ours
            or ours[-1].co_filename in _SERVERS
            or ours[0].co_qualname
            in ("_Thread._main", "Engine._main", "_Background._main")  # idle
            or codes[0].co_filename == engine.__file__  # waits for what is unfinished
        ):
            continue
        if not _is_endless(frame):
            return {}  # the others may wait for this one
        found[ident] = "".join(traceback.format_stack(frame))
    return found


def _is_endless(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    if file.startswith(_PACKAGE):  # waits for a lock
        line = linecache.getline(file, frame.f_lineno)
        return line.lstrip().startswith("with ")
    while frame.f_back is not None and any(
        part in frame.f_code.co_filename for part in _WAITS
    ):
        if frame.f_locals.get("timeout") is not None:
            return False
        # It waits until the new thread begins.
        if frame.f_code is threading.Thread.start.__code__:
            return False
        frame = frame.f_back
    return any(part in file for part in _WAITS)


def unfinished() -> dict[object, str]:
    """Return task -> text for each coroutine that is still under way in the engine."""
    tasks = list(engine.current().tasks)
    return {task: f"{task.get_coro()}" for task in tasks if not task.done()}


class Watchdog:
    """The plugin, which fails one test for each thread and coroutine.

    A thread that is only late has gone on within *grace* seconds.
    """

    def __init__(self, grace: float = 5.0) -> None:
        self._grace = grace
        self._reported: set[object] = set()

    def _unreported(self) -> dict[object, str]:
        left = {**stuck(), **unfinished()}
        # The ident of a thread that has ended is used again.
        self._reported &= {*sys._current_frames(), *engine.current().tasks}
        return {key: text for key, text in left.items() if key not in self._reported}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Iterator[None]:
        """Look at all threads once the fixtures of the test are gone."""
        yield
        end = time.monotonic() + self._grace
        while left := self._unreported():
            if time.monotonic() > end:
                self._reported.update(left)
                text = "\n".join(["left behind:", *left.values()])
                pytest.fail(text, pytrace=False)
            time.sleep(0.05)
