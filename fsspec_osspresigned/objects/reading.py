"""Reads the properties, a range or all bytes of one object (HeadObject, GetObject)."""

from __future__ import annotations

import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from ..client.client import Client
from ..client.operations import OSSCalls, described, operation_on, sizeless
from ..engine.engine import blocking
from ..errors import (
    IntegrityError,
    InvalidRequestError,
    NotCoveredError,
)
from ..http.body import EMPTY, SMALL
from ..http.checksums import CRC_HEADER
from ..http.transfer import Exchange
from ..model import Action, Reply
from ..options.target import Target
from ..units import MIB
from .ranges import (
    MemorySink,
    Range,
    Version,
    WholeError,
    changed,
    is_changed,
)

_JOINED_HERE = 4 * MIB  # bytes that the loop joins, which takes a millisecond


async def stat(client: Client, path: str) -> dict[str, Any]:
    """Return ``fs.info`` of an object from HEAD, or from GET if HEAD is not granted.

    Raises NotCoveredError if neither is granted.
    """
    try:
        return await OSSCalls(client, Target(path)).info()
    except NotCoveredError as error:
        refused = error
    piece = Range(path, 0, 1, MemorySink())
    try:
        await fetch(client, piece)
    except WholeError:
        pass  # the object is empty, or the store has no ranges; the head has arrived
    except NotCoveredError:
        raise refused from None
    if piece.total is None:
        raise sizeless(Action.GetObject, path)
    return described(path, piece.headers, piece.total)


async def fetch(
    client: Client,
    piece: Range,
    check: Callable[[Reply], object] | None = None,
    *,
    in_thread: bool = False,
) -> None:
    """Read one range of an object into the sink of *piece* (GetObject).

    *check* is called with each reply, and raises an error to make the try fail; None
    checks only the length. *in_thread* means that a worker thread reads, because the
    range is large.

    Raises:
        SourceChangedError: the object was replaced.
        WholeError: the range is outside the object, or the store ignores ranges.
    """
    exchange = Exchange(free_headers=piece.free, sink=piece, in_thread=in_thread)
    operation = operation_on(Action.GetObject, piece.path)
    try:
        await client.call(operation, EMPTY, exchange, parse=check or piece.check)
    except InvalidRequestError as error:
        known = piece.version or Version()
        is_beyond = error.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        if is_beyond and piece.start == 0 and known.total is None:
            # Some stores support no range of an empty object. An empty reply shows that
            # the object is empty.
            if piece.asks_whole:
                raise
            piece.asks_whole = True
            await fetch(client, piece, check, in_thread=in_thread)
            return
        if is_beyond and (known.total is None or max(piece.start, 0) >= known.total):
            piece.total = 0  # the object has no bytes at or after the start
            raise WholeError from error
        if is_beyond or (known.etag and is_changed(error)):
            raise changed(piece.path) from error
        raise


async def read(
    client: Client,
    path: str,
    start: int | None = None,
    end: int | None = None,
    version: Version | None = None,
    *,
    in_thread: bool = False,
) -> bytes:
    """Return bytes *start* to *end* (exclusive) of an object (GetObject).

    None means the start or the end of the object; negative numbers count from its end.
    Only *version* is accepted; None accepts any version. *in_thread* means that a
    worker thread reads, because the object may be large.

    Raises:
        IntegrityError: the whole object was read and its CRC-64 differs.
        SourceChangedError: the object no longer has that *version*.
    """
    if start in (None, 0) and end is None and version is None:
        return await _read_whole(client, path, in_thread=in_thread)
    first = start or 0
    if end is not None and min(first, end) < 0:
        info, version = await stat(client, path), version or Version()
        version.check(Version.of(info).etag, info["size"], path)
        first, end, _ = slice(first, end).indices(info["size"])
    if end is not None and end <= first:
        return b""
    size = -first if first < 0 else (end or math.inf) - first
    if size != math.inf:
        in_thread = size > SMALL
    return await _read_range(client, path, first, end, version, in_thread=in_thread)


async def _read_whole(client: Client, path: str, *, in_thread: bool) -> bytes:
    sink = MemorySink()

    def check(reply: Reply) -> None:
        check_whole(reply.headers.get(CRC_HEADER), sink.crc64, path)

    operation = operation_on(Action.GetObject, path)
    exchange = Exchange(sink=sink, in_thread=in_thread)
    await client.call(operation, EMPTY, exchange, parse=check)
    return await _bytes_of(sink)


async def _read_range(
    client: Client,
    path: str,
    first: int,
    end: int | None,
    version: Version | None,
    *,
    in_thread: bool,
) -> bytes:
    sink = MemorySink()
    piece = Range(path, first, end, sink, version=version, takes_whole=first <= 0)
    try:
        await fetch(client, piece, in_thread=in_thread)
    except WholeError:
        # Request only the part of the range that exists.
        total = piece.total or 0
        end = total if end is None else min(end, total)
        if first >= end or not end:
            return b""
        version = version or Version(piece.etag, total)
        piece = Range(path, first, end, sink, version=version, takes_whole=True)
        await fetch(client, piece, in_thread=in_thread)
    if sink.size == piece.total or not piece.partial:
        check_whole(piece.headers.get(CRC_HEADER), sink.crc64, path)
    data = await _bytes_of(sink)
    return data if piece.partial else data[first:end]


async def _bytes_of(sink: MemorySink) -> bytes:
    return await blocking(sink.bytes) if sink.size > _JOINED_HERE else sink.bytes()


def check_whole(stated: str | int | None, crc: int, path: str) -> None:
    """Raise IntegrityError if *crc* differs from the CRC-64 that the store *stated*.

    If the store reported no CRC-64, *stated* is None, and nothing is compared.
    """
    if stated is not None and str(stated) != str(crc):
        shown = str(stated)[:24]
        msg = f"GetObject: the store says CRC-64 {shown}, {crc} was received"
        raise IntegrityError(msg, path=path)
