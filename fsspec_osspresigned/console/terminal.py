"""Terminal output: lines, tables and warnings, on a stream that may be closed."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from ..secret import redact
from ..units import shown_text

_GAP = "  "
_WHOLE = "object"  # the value of this name is never broken, because users copy it
_NARROWEST = 20  # columns
_USUAL = (80, 24)  # of a terminal that does not tell its size
_CLEAR = "\r\x1b[K"
_RED, _PLAIN = "\x1b[31m", "\x1b[0m"


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield *rows* as lines of text with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield _GAP.join(cells).rstrip()


def pairs(rows: Sequence[tuple[str, str]], room: int | None) -> Iterator[str]:
    """Yield lines with names and values, wrapped to *room* columns.

    *room* None does not wrap.
    """
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        head = f"{name:<{width}}{_GAP}"
        if room is None or name == _WHOLE:
            yield f"{head}{value}".rstrip()
        else:
            yield from wrapped(value, room, head)


def table_or_pairs(
    head: Sequence[str], rows: Sequence[Sequence[str]], room: int | None
) -> Iterator[str]:
    """Yield *rows* as a table; if it is too wide, as one block of lines per row.

    *head* holds the names of the columns.
    """
    lines = list(table([head, *rows]))
    if room is None or max(map(len, lines)) <= room:
        yield from lines
        return
    for number, row in enumerate(rows):
        yield from [""] if number else []
        yield from pairs(list(zip(head, row, strict=True)), room)


def wrapped(text: str, room: int, head: str = "") -> list[str]:
    """Return *text* after *head* as lines, wrapped at spaces to *room* columns."""
    return textwrap.wrap(
        text,
        room,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


class Output:
    """Thread-safe text stream of whole lines.

    Writes nothing after its reader has exited.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.RLock()
        self._drawn = False
        self.closed = False
        self._terminal = stream.isatty()
        self.live = self._terminal and os.environ.get("TERM") != "dumb"
        self.coloured = self.live and not os.environ.get("NO_COLOR")

    @property
    def width(self) -> int:
        """Number of columns that a line may have without wrapping."""
        usual = _USUAL
        # Standard output may be a pipe while this stream is the terminal.
        with contextlib.suppress(OSError, ValueError):
            size = os.get_terminal_size(self._stream.fileno())
            usual = size if size.columns else usual
        return max(_NARROWEST, shutil.get_terminal_size(usual).columns - 1)

    @property
    def room(self) -> int | None:
        """Columns of the terminal; None for a file or a pipe, which has no limit."""
        return self.width if self._terminal else None

    def line(self, text: str) -> None:
        """Write *text* as a line; it replaces a line drawn by :meth:`draw`."""
        with self._lock:
            front = _CLEAR if self._drawn else ""
            self._drawn = False
            self._write(f"{front}{text}\n")

    def draw(self, text: str) -> None:
        """Draw a line that the next one replaces; does nothing outside a terminal."""
        with self._lock:
            if self.live:
                self._drawn = True
                self._write(f"{_CLEAR}{text}")

    def red(self, text: str) -> str:
        """Return *text* in red if the terminal supports colors."""
        return f"{_RED}{text}{_PLAIN}" if self.coloured else text

    def _write(self, text: str) -> None:
        if self.closed:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:
            self.closed = True
            silence(self._stream)


def silence(stream: TextIO) -> None:
    """Redirect *stream*, whose reader has exited, to the null device."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)


class _LogLines(logging.Handler):
    """Log handler that passes records of exactly one level to *take*."""

    def __init__(self, level: int, take: Callable[[logging.LogRecord], object]) -> None:
        super().__init__(level)
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == self.level:
            self._take(record)


def message_of(record: logging.LogRecord) -> str:
    """Return the message of *record* for a terminal, without secrets."""
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
    """Within the block, print each warning as one line on standard error."""

    def say(message: Warning | str, *_: Any, **__: Any) -> None:
        Output(sys.stderr).line(f"warning: {shown_text(redact(str(message)))}")

    with (
        warnings.catch_warnings(),
        log_taken(
            "fsspec_osspresigned", logging.WARNING, lambda one: say(message_of(one))
        ),
    ):
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = say
        yield
