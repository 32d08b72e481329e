"""Streaming JSON reader, which never holds a whole text in memory.

The standard ``json`` needs 3.5 to 4.6 times the size of a map of 100,000 objects; this
reader needs 1.8 times.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeVar

from .. import parsing
from ..units import MIB

T = TypeVar("T")

PIECE = 256 * 1024
# Characters of one value: an entry of 10,000 parts has some 10 million. What is no JSON,
# such as a device that never ends, is not collected beyond it.
MAX_VALUE = 256 * MIB
# A number may continue after as many characters as ``e-``.
_AFTER = 3
_BLANKS = re.compile(r"[ \t\n\r]*")
# A name without escapes, and what stands around it: nearly every name is one.
_NAME = re.compile(r'[ \t\n\r]*"([^"\\\x00-\x1f]*)"[ \t\n\r]*:')
# The step of the decoder that says where a value ends; its stubs leave it out.
_scan: Callable[[str, int], tuple[Any, int]] = parsing.DECODER.scan_once  # type: ignore[attr-defined]


class JSONStream:
    """Reader of a JSON text or file; each method reads on from the current position.

    Methods raise ValueError if the text is not JSON or not UTF-8. The message has the
    position, but no part of the text. A byte order mark is ignored.
    """

    def __init__(
        self,
        data: bytes | str | BinaryIO,
        piece: int = PIECE,
        max_value: int = MAX_VALUE,
    ) -> None:
        self._more = _decoded(data, piece)
        self._max_value = max_value
        self._text = ""
        self._at = 0
        self._lines = 0  # that were dropped before the text
        self._column = 0  # characters of its first line that were dropped

    @property
    def line(self) -> int:
        """Number of the current line, counted from 1."""
        return self._place(self._at)[0]

    def ahead(self) -> str:
        """Skip whitespace and return the next character, without consuming it.

        At the end of the text, the result is empty.
        """
        while True:
            self._at = _BLANKS.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text) or not self._fill():
                return self._text[self._at : self._at + 1]

    def head(self) -> str:
        """Skip whitespace and return the text in memory, without consuming it."""
        self.ahead()
        return self._text[self._at :]

    def value(self) -> Any:
        """Read one JSON value and return it."""
        self.ahead()
        while True:
            try:
                value, end = _scan(self._text, self._at)
            except RecursionError:
                raise ValueError("nested too deeply") from None
            except (StopIteration, json.JSONDecodeError) as error:
                if self._fill():
                    continue
                if isinstance(error, json.JSONDecodeError):
                    raise self._error(error.msg, error.pos) from None
                raise self._error("Expecting value", error.value) from None
            if len(self._text) - end < _AFTER and self._fill():
                continue
            self._at = end
            return value

    def members(self) -> Iterator[str]:
        """Read an object: yield each name; the caller then reads its value."""
        return self._each(self._name, "}")

    def items(self) -> Iterator[Any]:
        """Read a list, and yield its values."""
        return self._each(self.value, "]")

    def _each(self, read: Callable[[], T], mark: str) -> Iterator[T]:
        self._at += 1
        is_over = self.ahead() == mark
        self._at += is_over
        while not is_over:
            yield read()
            found = self.ahead()
            if found not in (mark, ","):
                raise self._error("Expecting ',' delimiter", self._at)
            self._at += 1
            is_over = found == mark

    def lines(self) -> Iterator[tuple[int, str]]:
        """Read the rest of the text, and yield each non-blank line with its number.

        Only LF ends a line, because keys may contain other Unicode line breaks.
        """
        number = self.line
        end = 0
        while end >= 0:
            end = self._text.find("\n", self._at)
            if end < 0 and self._fill():
                end = 0
                continue
            stop = len(self._text) if end < 0 else end
            line = self._text[self._at : stop].strip(" \t\r")
            self._at = stop + 1
            if line:
                yield number, line
            number += 1

    def end(self) -> None:
        """Check that the text ends; ValueError if anything but whitespace follows."""
        if self.ahead():
            raise self._error("Extra data", self._at)

    def _name(self) -> str:
        if found := _NAME.match(self._text, self._at):
            self._at = found.end()
            return found[1]
        if self.ahead() != '"':
            problem = "Expecting property name enclosed in double quotes"
            raise self._error(problem, self._at)
        name = str(self.value())
        if self.ahead() != ":":
            raise self._error("Expecting ':' delimiter", self._at)
        self._at += 1
        return name

    def _fill(self) -> bool:
        """Drop the consumed text, and at least double the text that is left in memory.

        Doubling limits how often one long value is scanned. Returns False if the source
        has no more text.
        """
        rest = self._text[self._at :]
        if len(rest) > self._max_value:
            raise ValueError(f"not JSON: a value is longer than {self._max_value}")
        pieces, size = [rest], 0
        while size <= len(rest) and (piece := next(self._more, "")):
            pieces.append(piece)
            size += len(piece)
        if not size:
            return False
        line, column = self._place(self._at)
        self._lines, self._column = line - 1, column - 1
        self._text = "".join(pieces)
        self._at = 0
        return True

    def _place(self, at: int) -> tuple[int, int]:
        """Return line and column of the index *at*, counted from 1."""
        lines = self._text.count("\n", 0, at)
        if not lines:
            return self._lines + 1, self._column + at + 1
        return self._lines + lines + 1, at - self._text.rfind("\n", 0, at)

    def _error(self, problem: str, at: int) -> ValueError:
        line, column = self._place(at)
        return ValueError(f"not JSON: {problem} at line {line} column {column}")


def _decoded(data: bytes | str | BinaryIO, piece: int) -> Iterator[str]:
    """Yield the text of *data* in non-empty pieces."""
    if isinstance(data, str):
        yield data.removeprefix("\ufeff")
        return
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    decoder = codecs.getincrementaldecoder("utf-8")()
    before, is_first, read = 0, True, b"-"
    while read:
        read = file.read(piece)
        try:
            text = decoder.decode(read, not read)
        except UnicodeDecodeError as error:
            # Bytes of a cut character were kept from the piece before.
            place = before - (len(error.object) - len(read)) + error.start
            raise ValueError(f"not UTF-8 at byte {place}") from None
        before += len(read)
        if text and is_first:
            text, is_first = text.removeprefix("\ufeff"), False
        if text:
            yield text
