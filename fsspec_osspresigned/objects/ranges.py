"""Bytes of an object by range: what is asked for, and what the reply must prove.

OSS answers a range that does not lie within the object with the whole object (API
reference, GetObject), others with 416. Neither may cost the transfer of a large object,
and no two ranges of one read may come from two versions of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from attrs import frozen

from ..errors import InvalidRequestError, NetworkError, ReplyError, SourceChangedError
from ..model import Action, Operation, split_path

_PARTIAL = 206
_UNSATISFIABLE = 416
_is_range = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})").fullmatch
_is_size = re.compile(r"[0-9]{1,19}").fullmatch


class WholeError(Exception):
    """Not an error of anybody: the store answers with the whole object, of which only a part is wanted.

    Attributes:
        total: bytes of the object.
        etag: as the header has it; empty if it came without.
    """

    def __init__(self, total: int, etag: str) -> None:
        """Keep what the head of the reply told."""
        super().__init__(total)
        self.total = total
        self.etag = etag


class Output(Protocol):
    """Takes the bytes of a range, from its start at every try."""

    def begin(self) -> object:
        """Forget what was written."""
        ...

    def write(self, block: bytes, /) -> object:
        """Take the next bytes."""
        ...


class Memory:
    """Keeps bytes in memory."""

    def __init__(self) -> None:
        """Hold nothing."""
        self.data = bytearray()

    def begin(self) -> None:
        """Forget what was written."""
        self.data.clear()

    def write(self, block: bytes, /) -> None:
        """Take the next bytes."""
        self.data += block


def get_object(path: str) -> Operation:
    """Return the GetObject of *path*."""
    bucket, key = split_path(path)
    return Operation(action=Action.GetObject, bucket=bucket, key=key)


class Range:
    """One range on its way: the headers that ask for it, and the sink of the reply.

    Attributes:
        path: ``bucket/key``.
        expected: bytes that come; None before a reply, or if it did not say.
        total: bytes of the whole object; None likewise.
        etag: of the object, as the header has it; the one that is demanded, if any.
        partial: whether the range came, and not the whole object.
        headers: of the reply.
    """

    def __init__(
        self,
        path: str,
        start: int,
        stop: int | None,
        output: Output,
        *,
        etag: str = "",
        takes_whole: bool = False,
        seen: Callable[[], None] | None = None,
    ) -> None:
        """Set up.

        Args:
            path: ``bucket/key``.
            start: first byte; negative with *stop* None: so many from the end.
            stop: the byte behind the last one; None for the end of the object.
            output: takes the bytes.
            etag: the only version that is wanted, as the header has it.
            takes_whole: take the whole object too, if that is the answer.
            seen: called when a reply was judged by its head; None for nobody.
        """
        self.path = path
        self._start = start
        self._stop = stop
        self._output = output
        self._pin = etag
        self._takes_whole = takes_whole
        self._seen = seen
        self.expected: int | None = None
        self._taken = 0
        self.etag = etag
        self.total: int | None = None
        self.partial = False
        self.headers: Mapping[str, str] = {}

    @property
    def pinned(self) -> bool:
        """Whether only one version will do."""
        return bool(self._pin)

    @property
    def free(self) -> dict[str, str]:
        """The headers to send beside the signed ones."""
        last = "" if self._stop is None else self._stop - 1
        wanted = f"{self._start}" if self._start < 0 else f"{self._start}-{last}"
        pinned = {"If-Match": self._pin} if self._pin else {}
        return {"Range": f"bytes={wanted}", **pinned}

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Judge the head of a reply.

        Raises:
            SourceChangedError: it is of another version than the pinned one.
            WholeError: the whole object would come.
            ReplyError: it is not the range that was asked for.
        """
        told = headers.get("etag", "")
        if self._pin and told and told != self._pin:
            raise changed(self.path)
        self.etag, self.headers, self.partial = told, headers, status == _PARTIAL
        if status != _PARTIAL:
            size = headers.get("content-length", "")
            self.total = self.expected = int(size) if _is_size(size) else None
            if self.total is not None and not self._takes_whole:
                raise WholeError(self.total, told)
            return
        found = _is_range(headers.get("content-range", ""))
        if not found:
            raise self._bad("it names no range")
        first, behind, self.total = int(found[1]), int(found[2]) + 1, int(found[3])
        asked = self.total + self._start if self._start < 0 else self._start
        if first != asked or behind > (self._stop or self.total) or behind <= first:
            raise self._bad(f"it is the range {found[0]}")
        self.expected = behind - first

    def pin(self) -> None:
        """Want no other version any more than the one that was seen."""
        self._pin = self.etag

    def begin(self) -> None:
        """Forget what was written."""
        self._taken = 0
        self._output.begin()
        if self._seen is not None:
            self._seen()

    def write(self, block: bytes, /) -> None:
        """Pass the next bytes on."""
        self._taken += len(block)
        self._output.write(block)

    def check(self, _: Any = None) -> None:
        """Compare what came with what was announced.

        Raises:
            NetworkError: it is less or more.
        """
        if self.expected is not None and self._taken != self.expected:
            msg = f"{self._taken} bytes came, {self.expected} were announced"
            raise NetworkError(msg, path=self.path)

    def _bad(self, why: str) -> ReplyError:
        msg = f"the reply to GetObject is not the range that was asked for: {why}"
        return ReplyError(msg, path=self.path, action=Action.GetObject)


def changed(path: str) -> SourceChangedError:
    """Return the error of an object that is no longer the one that was opened."""
    msg = "the object was replaced while it was read: open it again, from the start"
    return SourceChangedError(msg, path=path)


def is_changed(error: InvalidRequestError) -> bool:
    """Return whether a pinned version is no longer there."""
    return error.code == "PreconditionFailed" or error.status == 412  # noqa: PLR2004 - HTTP status


def is_beyond(error: InvalidRequestError) -> bool:
    """Return whether a range begins behind the end of the object."""
    return error.status == _UNSATISFIABLE


@frozen
class Wanted:
    """One piece that somebody asked for: where its answer belongs, and its bytes."""

    index: int
    path: str
    start: int
    stop: int | None


@frozen
class Merged:
    """Bytes that are read at once, and the pieces in them."""

    path: str
    start: int
    stop: int | None
    pieces: tuple[Wanted, ...]


def planned(
    paths: Sequence[str], starts: Any, ends: Any, gap: int | None, most: int
) -> list[Merged]:
    """Return what to read for ``cat_ranges``; nothing for what is surely empty.

    Args:
        paths: an object for each range.
        starts: where they begin; one for all, or as many.
        ends: where they end; likewise.
        gap: bytes between two ranges that are read along; None merges none.
        most: bytes of what is merged.

    Raises:
        ValueError: the lists differ in length.
    """
    count = len(paths)
    starts = list(starts) if isinstance(starts, Iterable) else [starts] * count
    ends = list(ends) if isinstance(ends, Iterable) else [ends] * count
    if len(starts) != count or len(ends) != count:
        msg = f"{count} paths, {len(starts)} starts, {len(ends)} ends"
        raise ValueError(msg)
    alone, close = [], []
    for index, (path, start, end) in enumerate(zip(paths, starts, ends, strict=True)):
        one = Wanted(index, path, start or 0, end)
        if min(one.start, end or 0) < 0 or gap is None:
            alone.append(Merged(path, one.start, end, (one,)))
        elif end is None or end > one.start:
            close.append(one)
    return alone + merge(close, gap or 0, most)


def merge(wanted: Iterable[Wanted], gap: int, most: int) -> list[Merged]:
    """Return what to read, pieces of one object together if they lie close.

    Args:
        wanted: the pieces; none of their offsets is negative.
        gap: bytes between two pieces that are read along.
        most: bytes of what is read at once, unless a piece alone is larger.
    """
    found: list[Merged] = []
    for one in sorted(wanted, key=lambda one: (one.path, one.start)):
        last = found[-1] if found else None
        if last is None or last.path != one.path or last.stop is None:
            joins = last is not None and last.path == one.path  # it is open-ended
        else:
            end = max(last.stop, one.start if one.stop is None else one.stop)
            joins = one.start - last.stop <= gap and end - last.start <= most
        if last is None or not joins:
            found.append(Merged(one.path, one.start, one.stop, (one,)))
            continue
        open_ended = last.stop is None or one.stop is None
        stop = None if open_ended else max(last.stop or 0, one.stop or 0)
        found[-1] = Merged(last.path, last.start, stop, (*last.pieces, one))
    return found


def cut(merged: Merged, data: bytes) -> Sequence[tuple[int, bytes]]:
    """Return index and bytes of each piece of what was read."""
    view = memoryview(data)
    return [
        (
            one.index,
            bytes(
                view[
                    one.start - merged.start : None
                    if one.stop is None
                    else max(one.stop, one.start) - merged.start
                ]
            ),
        )
        for one in merged.pieces
    ]
