"""Calls on one object: HeadObject, GetObject and DeleteObject."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from attrs import evolve

from ..client.client import Client
from ..client.small_request import SmallRequest, Steps
from ..client.written_objects import object_info
from ..concurrency.cancellation import Cancellation
from ..concurrency.job_runner import run_steps
from ..errors import (
    AccessDeniedError,
    IntegrityError,
    InvalidRequestError,
    NetworkError,
    NotSignedError,
    Refused,
    ReplyError,
)
from ..http.body import EMPTY, SMALL
from ..http.checksums import CRC_HEADER, crc64
from ..http.exchange import PLAIN, Exchange
from ..model import Action, Operation, Reply, split_path
from .ranges import (
    MemorySink,
    Range,
    Version,
    WholeError,
    changed,
    is_changed,
    is_number,
)


def operation_on(action: Action, path: str) -> Operation:
    """Return the OSS operation *action* on the object *path*."""
    bucket, key = split_path(path)
    return Operation(action=action, bucket=bucket, key=key)


def call_steps(
    client: Client,
    operation: Operation,
    exchange: Exchange = PLAIN,
    parse: Callable[[Reply], object] = lambda _: None,
) -> Steps[Reply]:
    """Do ``Client.call`` as a generator, for an express lane.

    The generator yields the request, continues with its first try, and returns the
    reply that *parse* accepted.
    """
    exchange = evolve(exchange, path=operation.path)  # also for errors of the lane

    def accepted(reply: Reply) -> Reply:
        parse(reply)
        return reply

    first = yield SmallRequest(operation, EMPTY, exchange, accepted)
    return client.call(operation, EMPTY, exchange, parse=accepted, first=first)


def head(client: Client, path: str) -> dict[str, Any]:
    """Return the ``fs.info`` of one object (HeadObject)."""
    return run_steps(head_steps(client, path))


def head_steps(client: Client, path: str) -> Steps[dict[str, Any]]:
    """Do ``head`` as a generator, like ``call_steps``."""
    reply = yield from call_steps(client, operation_on(Action.HeadObject, path))
    return described(path, reply.headers, size_of(reply.headers, path))


def means_unseen(error: PermissionError) -> bool:
    """Return whether *error* only means that HeadObject or GetObject is not granted.

    An expired URL, an archived object or a disabled account is a different error. A 403
    reply to HEAD may have no error document.
    """
    if not isinstance(error, AccessDeniedError):
        return isinstance(error, NotSignedError)
    return error.reason is Refused.DENIED or (error.code is None and not error.reason)


def headers_of(client: Client, path: str) -> Mapping[str, str]:
    """Return the headers of an object (HeadObject), with names in lower case."""
    return client.call(operation_on(Action.HeadObject, path)).headers


def size_of(headers: Mapping[str, str], path: str) -> int:
    """Return the size in bytes from headers of a HEAD reply, or raise ReplyError."""
    text = headers.get("content-length", "")
    if not is_number(text):
        raise _sizeless(Action.HeadObject, path)
    return int(text)


def _sizeless(action: Action, path: str) -> ReplyError:
    msg = f"the reply to {action} does not say how large the object is"
    return ReplyError(msg, path=path, action=action)


def described(path: str, headers: Mapping[str, str], size: int) -> dict[str, Any]:
    """Return ``info`` of an object of *size* bytes from the headers of a reply."""
    crc = headers.get(CRC_HEADER, "")
    return object_info(
        path,
        size,
        ETag=headers.get("etag", "").strip('"'),
        crc64=int(crc) if is_number(crc) else None,
        LastModified=_date(headers.get("last-modified", "")),
        ContentType=headers.get("content-type"),
        StorageClass=headers.get("x-oss-storage-class"),
        version_id=headers.get("x-oss-version-id"),
    )


def _date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except (OverflowError, ValueError):
        return None


def look(client: Client, path: str) -> dict[str, Any]:
    """Return ``info`` of an object, from HEAD, or from GET if HEAD is not granted."""
    return run_steps(look_steps(client, path))


def look_steps(client: Client, path: str) -> Steps[dict[str, Any]]:
    """Do ``look`` as a generator, like ``call_steps``."""
    try:
        return (yield from head_steps(client, path))
    except NotSignedError as error:
        refused = error
    yield None
    piece = Range(path, 0, 1, MemorySink())
    try:
        fetch(client, piece)
    except WholeError:
        pass  # an empty object, or a store without ranges: its head was seen
    except NotSignedError:
        raise refused from None
    if piece.total is None:
        raise _sizeless(Action.GetObject, path)
    return described(path, piece.headers, piece.total)


def fetch(client: Client, piece: Range, cancel: Cancellation | None = None) -> None:
    """Do ``fetch_steps`` in this thread."""
    run_steps(fetch_steps(client, piece, cancel))


def fetch_steps(
    client: Client,
    piece: Range,
    cancel: Cancellation | None = None,
    check: Callable[[Reply], object] | None = None,
) -> Steps[None]:
    """Read one range of an object into the sink of *piece* (GetObject).

    An error raised by *check* fails the try; None checks only the length.

    Raises:
        SourceChangedError: the object was replaced.
        WholeError: the range is outside the object.
    """
    exchange = Exchange(free_headers=piece.free, sink=piece, cancel=cancel)
    operation = operation_on(Action.GetObject, piece.path)
    try:
        yield from call_steps(client, operation, exchange, check or piece.check)
    except InvalidRequestError as error:
        known = piece.version or Version()
        is_beyond = error.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        if is_beyond and (known.total is None or max(piece.start, 0) >= known.total):
            piece.total = 0  # that is: there is nothing from its start on
            raise WholeError from error
        if is_beyond or (known.etag and is_changed(error)):
            raise changed(piece.path) from error
        raise


def read(
    client: Client,
    path: str,
    start: int | None = None,
    end: int | None = None,
    version: Version | None = None,
) -> bytes:
    """Return bytes *start* to *end* (exclusive) of an object (GetObject).

    None means the start or the end of the object; negative numbers count from its end.
    Only *version* is accepted; None accepts any.

    Raises:
        IntegrityError: the whole object was read and its CRC-64 differs.
        SourceChangedError: the object no longer has that *version*.
    """
    return run_steps(read_steps(client, path, start, end, version))


def read_steps(
    client: Client,
    path: str,
    start: int | None = None,
    end: int | None = None,
    version: Version | None = None,
) -> Steps[bytes]:
    """Do ``read`` as a generator, like ``call_steps``."""
    if start in (None, 0) and end is None and version is None:
        return (yield from _read_whole(client, path))
    first = start or 0
    if end is not None and min(first, end) < 0:
        yield None
        found, version = look(client, path), version or Version()
        version.check(Version.of(found).etag, found["size"], path)
        first, end, _ = slice(first, end).indices(found["size"])
    if end is not None and end <= first:
        return b""
    size = -first if first < 0 else (end or math.inf) - first
    if size > SMALL:
        yield None
    return (yield from _read_range(client, path, first, end, version))


def _read_whole(client: Client, path: str) -> Steps[bytes]:
    sink = MemorySink()

    def check(reply: Reply) -> None:
        check_whole(reply.headers.get(CRC_HEADER), crc64(sink.data), path)

    operation = operation_on(Action.GetObject, path)
    yield from call_steps(client, operation, Exchange(sink=sink), check)
    return bytes(sink.data)


def _read_range(
    client: Client, path: str, first: int, end: int | None, version: Version | None
) -> Steps[bytes]:
    sink = MemorySink()
    piece = Range(path, first, end, sink, version=version, takes_whole=first <= 0)
    try:
        yield from fetch_steps(client, piece)
    except WholeError:
        # Ask for what there is of the range.
        total = piece.total or 0
        end = total if end is None else min(end, total)
        if first >= end or not end:
            return b""
        version = version or Version(piece.etag, total)
        piece = Range(path, first, end, sink, version=version, takes_whole=True)
        yield from fetch_steps(client, piece)
    if len(sink.data) == piece.total or not piece.partial:
        check_whole(piece.headers.get(CRC_HEADER), crc64(sink.data), path)
    return bytes(sink.data if piece.partial else sink.data[first:end])


def check_whole(stated: str | int | None, crc: int, path: str) -> None:
    """Raise IntegrityError if *crc* differs from the CRC-64 that the store *stated*."""
    if stated is not None and str(stated) != str(crc):
        shown = str(stated)[:24]
        msg = f"GetObject: the store says CRC-64 {shown}, {crc} was received"
        raise IntegrityError(msg, path=path)


def delete_steps(
    client: Client, path: str, cancel: Cancellation | None = None
) -> Steps[Reply]:
    """Delete one object, as a generator; OSS does not report a missing object."""
    operation = operation_on(Action.DeleteObject, path)

    def check(reply: Reply) -> None:
        if reply.body:  # an error document after a 200, or the page of a proxy
            msg = f"{operation}: the reply to a deletion has a body, so it confirms nothing"
            raise NetworkError(msg, path=path)

    return (yield from call_steps(client, operation, Exchange(cancel=cancel), check))
