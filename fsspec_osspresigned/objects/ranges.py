"""Ranges of an object: the request, the checks of its reply, and merged ranges.

For a range outside the object, OSS returns the whole object (API reference, GetObject),
and other stores return 416. A large object must not be transferred in that case, and
all ranges of one read must come from the same version.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from attrs import define, evolve, field, frozen

from ..errors import InvalidRequestError, NetworkError, ReplyError, SourceChangedError
from ..http.checksums import crc64
from ..http.transfer import Sink
from ..model import Action
from ..parsing import is_number

_is_range = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})").fullmatch


@define(eq=False)
class Version:
    """Version of an object that all ranges of one read must have; thread-safe.

    If ETag or size is unknown, that of the first reply is taken.
    """

    etag: str = ""  # as the header has it
    total: int | None = None
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Version:
        return cls(f'"{info["ETag"]}"' if info["ETag"] else "", info["size"])

    def check(self, etag: str, total: int | None, path: str) -> None:
        with self._lock:
            self.etag = self.etag or etag
            self.total = total if self.total is None else self.total
            if etag not in ("", self.etag) or total not in (None, self.total):
                raise changed(path)


class WholeError(Exception):
    """Control flow: the store returned the whole object (200) instead of the range."""


class MemorySink:
    """Sink that keeps the received bytes in memory."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self.size = self.crc64 = 0

    def begin(self) -> None:
        self._blocks.clear()
        self.size = self.crc64 = 0

    def write(self, block: bytes, /) -> None:
        self._blocks.append(block)
        self.size += len(block)
        self.crc64 = crc64(block, self.crc64)

    def bytes(self) -> bytes:
        return b"".join(self._blocks)


@define(eq=False)
class Range:
    """One requested range of an object, and the sink of the reply.

    It checks the reply, and hands its bytes to *sink*.
    """

    path: str
    start: int  # with *stop* None, a negative number counts from the end
    stop: int | None  # exclusive; None reads to the end of the object
    sink: Sink
    version: Version | None = field(default=None, kw_only=True)  # None accepts any
    takes_whole: bool = field(default=False, kw_only=True)  # or the whole object
    on_head: Callable[[], None] = field(default=lambda: None, kw_only=True)
    expected: int | None = field(default=None, init=False)  # bytes of the reply
    total: int | None = field(default=None, init=False)  # bytes of the whole object
    etag: str = field(default="", init=False)  # as the header has it
    partial: bool = field(default=False, init=False)  # not the whole object
    headers: Mapping[str, str] = field(factory=dict, init=False)
    _taken: int = field(default=0, init=False)

    @property
    def free(self) -> dict[str, str]:
        """Unsigned headers to send with the request."""
        last = "" if self.stop is None else self.stop - 1
        span = f"{self.start}" if self.start < 0 else f"{self.start}-{last}"
        etag = self.version.etag if self.version else ""
        return {"Range": f"bytes={span}", **({"If-Match": etag} if etag else {})}

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Check that the reply has the accepted version and covers the range.

        Raises WholeError before the bytes of the whole object are received, unless
        ``takes_whole`` accepts them.
        """
        self.partial = status == HTTPStatus.PARTIAL_CONTENT
        if not self.partial:
            size = headers.get("content-length", "")
            self._see(headers, int(size) if is_number(size) else None)
            self.expected = self.total
            if self.total is not None and not self.takes_whole:
                raise WholeError
            return
        match = _is_range(headers.get("content-range", ""))
        if not match:
            raise self._bad("it names no range")
        first, last, total = map(int, match.groups())
        self._see(headers, total)
        start = self.start if self.start >= 0 else max(0, total + self.start)
        stop = total if self.stop is None else min(self.stop, total)
        if (first, last + 1) != (start, stop):
            raise self._bad(f"{match[0]} came for {self.free['Range']}")
        self.expected = stop - start

    def _see(self, headers: Mapping[str, str], total: int | None) -> None:
        self.etag, self.total, self.headers = headers.get("etag", ""), total, headers
        if self.version is not None:
            self.version.check(self.etag, total, self.path)

    def begin(self) -> None:
        self._taken = 0
        self.sink.begin()
        self.on_head()

    def write(self, block: bytes, /) -> None:
        self._taken += len(block)
        self.sink.write(block)

    def check(self, _: Any = None) -> None:
        if self.expected is not None and self._taken != self.expected:
            msg = f"{self._taken} bytes came, {self.expected} were announced"
            raise NetworkError(msg, path=self.path)

    def _bad(self, why: str) -> ReplyError:
        msg = f"the reply to GetObject is not the range that was asked for: {why}"
        return ReplyError(msg, path=self.path, action=Action.GetObject)


def changed(path: str) -> SourceChangedError:
    msg = "the object was replaced while it was read: open it again, from the start"
    return SourceChangedError(msg, path=path)


def is_changed(error: InvalidRequestError) -> bool:
    status = HTTPStatus.PRECONDITION_FAILED
    return error.code == "PreconditionFailed" or error.status == status


@frozen
class RangePiece:
    """One of many requested ranges; *index* is its position in the result."""

    index: int
    start: int
    stop: int | None


@frozen
class MergedRange:
    """A range that one request reads, with the requested ranges inside it."""

    path: str
    start: int
    stop: int | None
    pieces: tuple[RangePiece, ...]

    def joined(self, piece: RangePiece, gap: int, max_size: int) -> MergedRange | None:
        """Return this range extended by *piece*, which does not begin before it.

        Return None if more than *gap* bytes are between them, or if both together have
        more than *max_size* bytes. A range to the end of the object can always be
        extended.
        """
        if self.stop is not None:
            end = max(self.stop, piece.start if piece.stop is None else piece.stop)
            if piece.start - self.stop > gap or end - self.start > max_size:
                return None
        open_ended = self.stop is None or piece.stop is None
        stop = None if open_ended else max(self.stop or 0, piece.stop or 0)
        return evolve(self, stop=stop, pieces=(*self.pieces, piece))

    def cut(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return index and bytes of each requested range."""
        view, base, pieces = memoryview(data), self.start, []
        for piece in self.pieces:
            end = None if piece.stop is None else piece.stop - base
            pieces.append((piece.index, bytes(view[piece.start - base : end])))
        return pieces


def merged(
    paths: Sequence[str], starts: Any, ends: Any, gap: int | None, max_size: int
) -> list[MergedRange]:
    """Return the ranges to read for ``cat_ranges``.

    *starts* and *ends* are one value for all, or one for each of *paths*. Lists that
    differ in length raise ValueError.

    Ranges of an object at most *gap* bytes apart are merged, up to *max_size* bytes; a
    range to the end of the object is not counted beyond its start. Ranges with a
    negative offset are never merged. *gap* None merges none, and keeps empty ranges,
    which are otherwise left out.
    """
    count = len(paths)
    starts = list(starts) if isinstance(starts, Iterable) else [starts] * count
    ends = list(ends) if isinstance(ends, Iterable) else [ends] * count
    if len(starts) != count or len(ends) != count:
        raise ValueError(f"{count} paths, {len(starts)} starts, {len(ends)} ends")
    alone: list[MergedRange] = []
    near: list[tuple[str, RangePiece]] = []
    for index, (path, start, end) in enumerate(zip(paths, starts, ends, strict=True)):
        piece = RangePiece(index, start or 0, end)
        if min(piece.start, end or 0) < 0 or gap is None:
            alone.append(MergedRange(path, piece.start, end, (piece,)))
        elif end is None or end > piece.start:
            near.append((path, piece))
    together: list[MergedRange] = []
    for path, piece in sorted(near, key=lambda pair: (pair[0], pair[1].start)):
        last = together[-1] if together and together[-1].path == path else None
        if last is not None and (wider := last.joined(piece, gap or 0, max_size)):
            together[-1] = wider
        else:
            together.append(MergedRange(path, piece.start, piece.stop, (piece,)))
    return alone + together
