"""Ranges of an object: the request, and the checks of its reply.

For a range outside the object, OSS returns the whole object (API reference, GetObject),
and other stores return 416. A large object must not be transferred in that case, and
all ranges of one read must come from the same version.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from attrs import define, field

from ..errors import InvalidRequestError, NetworkError, SourceChangedError, StoreError
from ..http.checksums import crc64
from ..http.transfer import Sink
from ..model import NO_HEADERS, Action, FrozenDict
from ..parsing import is_number

_PARTIAL_CONTENT = 206
_is_range = re.compile(r"bytes ([0-9]{1,14})-([0-9]{1,14})/([0-9]{1,14})").fullmatch


@define(eq=False)
class Version:
    """Version of an object that all ranges of one read must have; thread-safe.

    If ETag or size is unknown, the first reply determines it.
    """

    etag: str = ""  # the value of the header ETag
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


@lru_cache(maxsize=32)  # most files of one call begin with the same range
def _headers(start: int, stop: int | None, etag: str) -> Mapping[str, str]:
    last = "" if stop is None else stop - 1
    span = f"{start}" if start < 0 else f"{start}-{last}"
    return FrozenDict({"Range": f"bytes={span}"} | ({"If-Match": etag} if etag else {}))


@define(eq=False)
class Range:
    """One requested range of an object, and the sink of the reply.

    It checks the reply, and hands its bytes to *sink*.
    """

    path: str
    start: int  # if *stop* is None, a negative number counts from the end
    stop: int | None  # exclusive; None reads to the end of the object
    sink: Sink
    # None accepts any version
    version: Version | None = field(default=None, kw_only=True)
    # True accepts the whole object, too
    takes_whole: bool = field(default=False, kw_only=True)
    asks_whole: bool = field(default=False, init=False)  # True sends no Range header
    expected: int | None = field(default=None, init=False)  # bytes of the reply
    total: int | None = field(default=None, init=False)  # bytes of the whole object
    etag: str = field(default="", init=False)  # the value of the header ETag
    # True if the reply is not the whole object
    partial: bool = field(default=False, init=False)
    headers: Mapping[str, str] = field(factory=dict, init=False)
    _taken: int = field(default=0, init=False)

    @property
    def free(self) -> Mapping[str, str]:
        """Unsigned headers to send with the request."""
        if self.asks_whole:
            return NO_HEADERS
        return _headers(
            self.start, self.stop, self.version.etag if self.version else ""
        )

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Check that the reply has an accepted version and covers the range.

        Raises WholeError before the bytes of the whole object are received, unless
        ``takes_whole`` accepts them.
        """
        self.partial = status == _PARTIAL_CONTENT
        if not self.partial:
            size = headers.get("content-length", "")
            self._see(headers, int(size) if is_number(size) else None)
            self.expected = self.total
            if self.total is not None and not self.takes_whole:
                raise WholeError
            return
        match = _is_range(headers.get("content-range", ""))
        if not match:
            raise self.refused("it names no range")
        first, last, total = map(int, match.groups())
        self._see(headers, total)
        start = self.start if self.start >= 0 else max(0, total + self.start)
        stop = total if self.stop is None else min(self.stop, total)
        if (first, last + 1) != (start, stop):
            raise self.refused(f"{match[0]} came for {self.free['Range']}")
        self.expected = stop - start

    def _see(self, headers: Mapping[str, str], total: int | None) -> None:
        self.etag, self.total, self.headers = headers.get("etag", ""), total, headers
        if self.etag.startswith("W/"):
            # a weak ETag may stay the same when the bytes change (RFC 9110)
            self.etag = ""
        if self.version is not None:
            self.version.check(self.etag, total, self.path)

    def begin(self) -> None:
        self._taken = 0
        self.sink.begin()

    def write(self, block: bytes, /) -> None:
        self._taken += len(block)
        self.sink.write(block)

    def check(self, _: Any = None) -> None:
        if self.expected is not None and self._taken != self.expected:
            msg = f"{self._taken} bytes came, {self.expected} were announced"
            raise NetworkError(msg, path=self.path)

    def refused(self, why: str) -> StoreError:
        """Return the error for a reply that is not this range."""
        msg = f"the reply to GetObject is not the requested range: {why}"
        return StoreError(msg, path=self.path, action=Action.GetObject)


def changed(path: str) -> SourceChangedError:
    msg = "the object was replaced while it was read: open it again, from the start"
    return SourceChangedError(msg, path=path)


def is_changed(error: InvalidRequestError) -> bool:
    status = HTTPStatus.PRECONDITION_FAILED
    return error.code == "PreconditionFailed" or error.status == status
