"""Where a command says something: a terminal, a file or a pipe that may close."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import textwrap
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from ..secret import redact
from ..units import shown_text

# Rows of text: in columns, or below each other where columns would not fit.

_GAP = "  "
_WHOLE = "object"  # a name that is not broken at its blanks: people copy it


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield *rows* in columns; the last one keeps its own length."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield _GAP.join(cells).rstrip()


def pairs(rows: Sequence[tuple[str, str]], room: int | None) -> Iterator[str]:
    """Yield names and values; long values go on below themselves, but for objects.

    Args:
        rows: pairs of a name and its value.
        room: columns of a line; None for lines of any length.
    """
    if room is None:
        yield from table(rows)
        return
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        head = f"{name:<{width}}{_GAP}"
        if name == _WHOLE:
            yield f"{head}{value}"
        else:
            yield from wrapped(value, room, head)


def table_or_pairs(
    head: Sequence[str], rows: Sequence[Sequence[str]], room: int | None
) -> Iterator[str]:
    """Yield *rows* below *head*; as a block for each of them if that would not fit.

    Args:
        head: the names of the columns.
        rows: what is below each of them.
        room: columns of a line; None for lines of any length.
    """
    lines = list(table([head, *rows]))
    if room is None or max(map(len, lines)) <= room:
        yield from lines
        return
    for number, row in enumerate(rows):
        if number:
            yield ""
        yield from pairs(list(zip(head, row, strict=True)), room)


def wrapped(text: str, room: int, head: str = "") -> list[str]:
    """Return *text* in lines that are broken at blanks only.

    Args:
        text: of one line.
        room: columns of a line; a longer word has a line for itself.
        head: before the first line; the others are indented as far.
    """
    return textwrap.wrap(
        text,
        room,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


_NARROW = 20  # columns that are never undercut
_USUAL = (80, 24)  # of a terminal that does not tell
_CLEAR = "\r\x1b[K"
_RED, _PLAIN = "\x1b[31m", "\x1b[0m"


class Output:
    """A stream for whole lines, from many threads. Is silent once nobody reads it.

    Args:
        stream: standard output or standard error.
    """

    def __init__(self, stream: TextIO) -> None:
        """Look at the stream, and write nothing."""
        self._stream = stream
        self._lock = threading.RLock()
        self._drawn = False
        self.closed = False
        self._terminal = stream.isatty()
        self.live = self._terminal and os.environ.get("TERM") != "dumb"
        self.coloured = self.live and not os.environ.get("NO_COLOR")

    @property
    def width(self) -> int:
        """Columns that a line may have without wrapping."""
        return max(_NARROW, shutil.get_terminal_size(self._size()).columns - 1)

    @property
    def room(self) -> int | None:
        """The same; None if it is no terminal, where lines may have any length."""
        return self.width if self._terminal else None

    def _size(self) -> tuple[int, int]:
        """Return columns and rows; standard output may be no terminal, and this one."""
        with contextlib.suppress(OSError, ValueError):
            size = os.get_terminal_size(self._stream.fileno())
            if size.columns:
                return size
        return _USUAL

    def line(self, text: str) -> None:
        """Write a line, over one that was drawn."""
        with self._lock:
            front = _CLEAR if self._drawn else ""
            self._drawn = False
            self._write(f"{front}{text}\n")

    def draw(self, text: str) -> None:
        """Draw a line that the next one replaces; on a terminal only."""
        with self._lock:
            if self.live:
                self._drawn = True
                self._write(f"{_CLEAR}{text}")

    def red(self, text: str) -> str:
        """Return *text* in red, where colours are wanted."""
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
    """Let *stream*, whose reader is gone, end without a word."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


@contextlib.contextmanager
def warnings_said() -> Iterator[None]:
    """Say warnings in one line each, on standard error, as everything else here."""

    def say(message: Warning | str, *_: Any, **__: Any) -> None:
        Output(sys.stderr).line(f"warning: {shown_text(redact(str(message)))}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = say
        yield
