"""Service log: one line of JSON on stdout for each event, without secrets."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

from attrs import define, field

from ..units import shown_moment
from .app import AccessRecord

Say = Callable[..., None]


@define
class LineWriter:
    """Writes lines to a file descriptor.

    No file object is used, because Python would wait for its lock at exit.
    """

    descriptor: int = 1
    most: int = 10_000  # lines that wait; more are dropped and counted
    _lines: queue.SimpleQueue[str | None] | None = field(default=None, init=False)
    _dropped: int = field(default=0, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    @contextlib.contextmanager
    def in_thread(self, patience: float = 1.0) -> Iterator[None]:
        """Write lines in a thread during the block, so a slow reader delays no call.

        At the end of the block, queued lines are written for at most *patience*
        seconds.
        """
        lines = self._lines = queue.SimpleQueue()
        thread = threading.Thread(target=self._drain, args=(lines,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._lines = None
            lines.put(None)
            thread.join(patience)

    def put(self, line: str) -> None:
        """Write *line*, or in a block of ``in_thread`` queue it for the thread.

        A line that does not fit into the queue is dropped and counted.
        """
        lines = self._lines
        if lines is None:
            self._write(line)
        elif lines.qsize() < self.most:
            lines.put(line)
        else:
            with self._lock:
                self._dropped += 1

    def _drain(self, lines: queue.SimpleQueue[str | None]) -> None:
        while (line := lines.get()) is not None:
            with self._lock:
                count, self._dropped = self._dropped, 0
            if count:
                self._write(_line("log_dropped", lines=count))
            self._write(line)

    def _write(self, line: str) -> None:
        data = f"{line}\n".encode()
        # A log whose reader is gone is no reason to stop signing.
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(self.descriptor, data) :]


STDOUT = LineWriter()


class LineHandler(logging.Handler):
    """Log handler that writes warnings of libraries to the service log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log *record*, with its traceback if it has one."""
        say("warning", logger=record.name, text=self.format(record))


def say(event: str, **facts: Any) -> None:
    """Write one line of JSON with *facts* to stdout."""
    STDOUT.put(_line(event, **facts))


def _line(event: str, **facts: Any) -> str:
    return json.dumps({"time": shown_moment(time.time()), "event": event, **facts})


def log_call(record: AccessRecord, say: Say, *, log_keys: bool = False) -> None:
    """Log one call; *log_keys* adds the names of its objects."""
    facts: dict[str, Any] = {"paths": record.paths} if log_keys else {}
    if record.fault is not None:
        facts["fault"] = record.fault
    if record.status == HTTPStatus.UNAUTHORIZED:
        facts["client"] = record.client
    if record.unhashed is not None:
        problem = f"sha256 of {record.unhashed!r} is the token itself"
        facts["hint"] = f"{problem}: put there what serve --hash-token prints"
    refused = sum(record.codes.values())
    say(
        "sign",
        token=record.token,
        requests=record.requests,
        signed=record.requests - refused if record.status == HTTPStatus.OK else 0,
        status=record.status,
        codes=dict(record.codes),
        ms=record.milliseconds,
        **facts,
    )
