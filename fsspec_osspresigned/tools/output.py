"""Output of commands: tables, lines, log records and warnings.

Lines go to a stream that may be closed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from ..secret import redact
from ..units import shown_text
from .language import translated

_GAP = "  "
_RED, _PLAIN = "\x1b[31m", "\x1b[0m"


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield *rows* as lines of text with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield _GAP.join(cells).rstrip()


class Output:
    """Thread-safe stream of whole lines; writes nothing after its reader has exited."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # While a bar is drawn, sys.stderr prints above it.
        self._is_stderr = stream is sys.stderr
        self._lock = threading.RLock()
        self.closed = False
        live = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._coloured = live and not os.environ.get("NO_COLOR")

    def line(self, text: str) -> None:
        with self._lock:
            if self.closed:
                return
            stream = sys.stderr if self._is_stderr else self._stream
            try:
                stream.write(f"{text}\n")
                stream.flush()
            except BrokenPipeError:
                self.closed = True
                silence(self._stream)

    def red(self, text: str) -> str:
        return f"{_RED}{text}{_PLAIN}" if self._coloured else text


def silence(stream: TextIO) -> None:
    """Redirect *stream*, whose reader has exited, to the null device."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)


class _LogLines(logging.Handler):
    """Log handler that passes the records of a single level to *take*."""

    def __init__(self, level: int, take: Callable[[logging.LogRecord], object]) -> None:
        super().__init__(level)
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == self.level:
            self._take(record)


def message_of(record: logging.LogRecord) -> str:
    """Return the message of *record* without secrets and control characters."""
    return shown_text(redact(record.getMessage()))


@contextlib.contextmanager
def log_taken(
    name: str, level: int, take: Callable[[logging.LogRecord], object]
) -> Iterator[None]:
    """Within the block, pass records of *level* from the logger *name* to *take*."""
    log, handler = logging.getLogger(name), _LogLines(level, take)
    before = log.level
    log.setLevel(min(level, log.getEffectiveLevel()))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


@contextlib.contextmanager
def warnings_said() -> Iterator[None]:
    """Within the block, print each warning as one line on standard error.

    This includes warnings that the package logs.
    """

    def say(message: Warning | str, *_: Any, **__: Any) -> None:
        text = f"warning: {shown_text(redact(str(message)))}"
        Output(sys.stderr).line(translated(text))

    with (
        warnings.catch_warnings(),
        log_taken(
            "fsspec_osspresigned",
            logging.WARNING,
            lambda record: say(message_of(record)),
        ),
    ):
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = say
        yield
