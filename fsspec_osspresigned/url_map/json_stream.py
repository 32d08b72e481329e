"""A JSON text of others that is read piece by piece, so that it is never all here."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from .. import parsing

_PIECE = 256 * 1024
# A number may go on after as many characters as ``e-``.
_AFTER = 3
_BLANKS = re.compile(r"[ \t\n\r]*")
# A name without escapes, and what stands around it: nearly every name is one.
_NAME = re.compile(r'[ \t\n\r]*"([^"\\\x00-\x1f]*)"[ \t\n\r]*:')
# The step of the decoder that says where a value ends; its stubs leave it out.
_scan: Callable[[str, int], tuple[Any, int]] = parsing.DECODER.scan_once  # type: ignore[attr-defined]


class Pieces:
    """A text, and how far it was read. All methods go on from there.

    Raises:
        ValueError: from all methods, where the text is no JSON or not UTF-8. The
            message holds a place in the text, never a piece of it.
    """

    def __init__(self, more: Callable[[], str]) -> None:
        """Read nothing yet.

        Args:
            more: returns the next characters; an empty text at the end.
        """
        self._more = more
        self._text = ""
        self._at = 0
        self._lines = 0  # that were dropped in front of the text
        self._column = 0  # characters of its first line that were dropped

    @classmethod
    def of(cls, data: bytes | str | BinaryIO) -> Pieces:
        """Return the pieces of *data*; a byte order mark is left out."""
        if isinstance(data, str):
            return cls(_Decoded(io.StringIO(data).read, lambda text, _: text))
        file = io.BytesIO(data) if isinstance(data, bytes) else data
        decoder = codecs.getincrementaldecoder("utf-8")()
        return cls(_Decoded(file.read, decoder.decode))

    @property
    def line(self) -> int:
        """The line that is read, counted from 1."""
        return self._place(self._at)[0]

    def ahead(self) -> str:
        """Skip blanks and return the next character; empty at the end."""
        while True:
            self._at = _BLANKS.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._fill():
                return ""

    def head(self) -> str:
        """Return what is here of the text after the blanks, without reading it."""
        self.ahead()
        return self._text[self._at :]

    def value(self) -> Any:
        """Read one value."""
        self.ahead()
        while True:
            try:
                value, end = _scan(self._text, self._at)
            except RecursionError:
                msg = "nested too deeply"
                raise ValueError(msg) from None
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
        """Read an object: yield each name, after which its value must be read."""
        self._at += 1
        if self.ahead() == "}":
            self._at += 1
            return
        while True:
            found = _NAME.match(self._text, self._at)
            if found:
                self._at = found.end()
                yield found[1]
            else:
                yield self._name()
            if self._is_over("}"):
                return

    def items(self) -> Iterator[Any]:
        """Read a list: yield its values."""
        self._at += 1
        if self.ahead() == "]":
            self._at += 1
            return
        while True:
            yield self.value()
            if self._is_over("]"):
                return

    def lines(self) -> Iterator[tuple[int, str]]:
        """Read the rest: yield lines that are not blank, with their numbers.

        Only LF ends a line, since keys may hold what Unicode calls a line break.
        """
        number = self.line
        while True:
            end = self._text.find("\n", self._at)
            if end < 0 and self._fill():
                continue
            stop = len(self._text) if end < 0 else end
            line = self._text[self._at : stop].strip(" \t\r")
            self._at = stop + 1
            if line:
                yield number, line
            if end < 0:
                return
            number += 1

    def end(self) -> None:
        """Read blanks up to the end."""
        if self.ahead():
            raise self._error("Extra data", self._at)

    def _name(self) -> str:
        if self.ahead() != '"':
            problem = "Expecting property name enclosed in double quotes"
            raise self._error(problem, self._at)
        name = str(self.value())
        if self.ahead() != ":":
            raise self._error("Expecting ':' delimiter", self._at)
        self._at += 1
        return name

    def _is_over(self, mark: str) -> bool:
        """Read what stands after a member or an item."""
        found = self.ahead()
        if found not in (mark, ","):
            raise self._error("Expecting ',' delimiter", self._at)
        self._at += 1
        return found == mark

    def _fill(self) -> bool:
        """Drop what was read, and take at least as much again as is left.

        Doubling bounds how often one long value is scanned. False at the end.
        """
        rest = self._text[self._at :]
        pieces, size = [rest], 0
        while size <= len(rest) and (piece := self._more()):
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
        """Return line and column of *at*, counted from 1."""
        lines = self._text.count("\n", 0, at)
        if not lines:
            return self._lines + 1, self._column + at + 1
        return self._lines + lines + 1, at - self._text.rfind("\n", 0, at)

    def _error(self, problem: str, at: int) -> ValueError:
        line, column = self._place(at)
        return ValueError(f"not JSON: {problem} at line {line} column {column}")


class _Decoded:
    """Calls for the next characters of a file."""

    def __init__(
        self, read: Callable[[int], Any], decode: Callable[[Any, bool], str]
    ) -> None:
        self._read = read
        self._decode = decode
        self._before = 0  # bytes that were decoded

    def __call__(self) -> str:
        text, is_first = "", self._before == 0
        while not text:
            data = self._read(_PIECE)
            try:
                text = self._decode(data, not data)
            except UnicodeDecodeError as error:
                # Bytes of a cut character were kept from the piece before.
                kept = len(error.object) - len(data)
                place = self._before - kept + error.start
                msg = f"not UTF-8 at byte {place}"
                raise ValueError(msg) from None
            self._before += len(data)
            if not data:
                break
            if text and is_first:
                text, is_first = text.removeprefix("\ufeff"), False
        return text
