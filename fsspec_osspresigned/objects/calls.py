"""Calls on one object, and the listing of a bucket, page by page.

The calls are HeadObject, GetObject, DeleteObject and ListObjectsV2.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from .. import parsing
from ..client.client import Client
from ..client.written_objects import object_info
from ..engine.engine import blocking
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
from ..http.checksums import CRC_HEADER
from ..http.transfer import Exchange
from ..model import Action, Operation, Reply, split_path
from ..units import MIB
from .ranges import (
    MemorySink,
    Range,
    Version,
    WholeError,
    changed,
    is_changed,
    is_number,
)

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


_JOINED_HERE = 4 * MIB  # bytes of blocks that the loop joins; it takes a millisecond


def operation_on(action: Action, path: str) -> Operation:
    bucket, key = split_path(path)
    return Operation(action=action, bucket=bucket, key=key)


async def head(client: Client, path: str) -> dict[str, Any]:
    headers = await headers_of(client, path)
    return described(path, headers, size_of(headers, path))


def means_unseen(error: PermissionError) -> bool:
    """Return whether *error* means that HeadObject or GetObject is not granted.

    False for other refusals, such as an expired URL, an archived object or a disabled
    account. A 403 reply to HEAD without an error document counts as not granted.
    """
    if not isinstance(error, AccessDeniedError):
        return isinstance(error, NotSignedError)
    return error.reason is Refused.DENIED or (error.code is None and not error.reason)


async def headers_of(client: Client, path: str) -> Mapping[str, str]:
    """Return the headers of the reply to HeadObject, with names in lower case."""
    return (await client.call(operation_on(Action.HeadObject, path))).headers


def size_of(headers: Mapping[str, str], path: str) -> int:
    """Return the size of an object from the *headers* of a HEAD reply; else ReplyError."""
    text = headers.get("content-length", "")
    if not is_number(text):
        raise _sizeless(Action.HeadObject, path)
    return int(text)


def _sizeless(action: Action, path: str) -> ReplyError:
    msg = f"the reply to {action} does not say how large the object is"
    return ReplyError(msg, path=path, action=action)


def described(path: str, headers: Mapping[str, str], size: int) -> dict[str, Any]:
    """Return the ``fs.info`` of an object from the headers of a reply."""
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


async def stat(client: Client, path: str) -> dict[str, Any]:
    """Return ``fs.info`` of an object from HEAD, or from GET if HEAD is not granted.

    Raises NotSignedError if neither is granted.
    """
    try:
        reply = await client.call(operation_on(Action.HeadObject, path))
    except NotSignedError as error:
        refused = error
    else:
        return described(path, reply.headers, size_of(reply.headers, path))
    piece = Range(path, 0, 1, MemorySink())
    try:
        await fetch(client, piece)
    except WholeError:
        pass  # an empty object, or a store without ranges: its head was seen
    except NotSignedError:
        raise refused from None
    if piece.total is None:
        raise _sizeless(Action.GetObject, path)
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
        if is_beyond and (known.total is None or max(piece.start, 0) >= known.total):
            piece.total = 0  # nothing exists at or after its start
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
    Only *version* is accepted; None accepts any. *in_thread* means that a worker thread
    reads, because the object may be large.

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
        # Request the part of the range that exists.
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

    *stated* None means that the store reported none; then nothing is compared.
    """
    if stated is not None and str(stated) != str(crc):
        shown = str(stated)[:24]
        msg = f"GetObject: the store says CRC-64 {shown}, {crc} was received"
        raise IntegrityError(msg, path=path)


async def delete(client: Client, path: str) -> None:
    """Delete one object; a missing object is no error.

    Raises NetworkError if the reply has a body, which confirms nothing.
    """
    operation = operation_on(Action.DeleteObject, path)

    def check(reply: Reply) -> None:
        if reply.body:  # an error document after a 200, or the page of a proxy
            msg = f"{operation}: the reply to a deletion has a body, so it confirms nothing"
            raise NetworkError(msg, path=path)

    await client.call(operation, parse=check)


PAGE_SIZE = 1_000  # entries; the most that OSS returns


async def listing(
    client: Client, bucket: str, prefix: str, *, delimiter: str = "/"
) -> AsyncIterator[dict[str, Any]]:
    """Yield ``info`` of objects and common prefixes that begin with *prefix*.

    Each request returns up to 1,000 entries; one page is in memory at a time. The name
    of an object keeps a trailing slash; that of a common prefix does not.

    Raises:
        NotSignedError: listing is not granted.
        ReplyError: a page is not a listing, has another *prefix*, or has no valid
            continuation.
    """
    query = {"prefix": prefix, "max-keys": str(PAGE_SIZE), "encoding-type": "url"}
    query["delimiter"] = delimiter
    while True:
        sent = {name: value for name, value in query.items() if value}
        operation = Operation(action=Action.ListObjectsV2, bucket=bucket, query=sent)
        reply = await client.call(operation)
        try:
            page = parsing.parse(reply.body, "ListBucketResult")
            entries = list(_entries(page, bucket, prefix))
            token = _next_token(page, query.get("continuation-token"))
        except ValueError as error:
            msg = f"the reply to ListObjectsV2 is bad: {error}"
            raise ReplyError(msg, path=bucket, action=operation.action) from None
        for entry in entries:
            yield entry
        if not token:
            return
        query["continuation-token"] = token


def _next_token(page: Element, last: str | None) -> str:
    """Return the continuation token of *page*; "" after the last page.

    Raises ValueError if the token is missing, or is *last*, that of the request.
    """
    if (page.findtext("IsTruncated") or "").lower() != "true":
        return ""
    token = page.findtext("NextContinuationToken") or ""
    if token in ("", last):
        raise ValueError("it is cut, and does not say where it goes on")
    return token


def _entries(page: Element, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    encoded = page.findtext("EncodingType") == "url"

    def name(text: str | None) -> str:
        key = unquote(text or "") if encoded else text or ""
        if not key.startswith(prefix):
            # A deletion of what is listed must not reach other objects.
            raise ValueError("it names an object that was not asked for")
        return f"{bucket}/{key}"

    for item in page.iter("Contents"):
        size = item.findtext("Size") or "0"
        if not size.isdecimal():
            raise ValueError("it names no size")
        yield object_info(
            name(item.findtext("Key")),
            int(size),
            ETag=(item.findtext("ETag") or "").strip('"'),
            LastModified=date_of(item.findtext("LastModified")),
            StorageClass=item.findtext("StorageClass"),
        )
    for item in page.iter("CommonPrefixes"):
        directory = name(item.findtext("Prefix")).rstrip("/")
        yield {"name": directory, "size": 0, "type": "directory"}


def date_of(text: str | None) -> datetime | None:
    """Return the ISO 8601 date in *text*; None if it is missing or invalid."""
    try:
        return datetime.fromisoformat(text or "")
    except ValueError:
        return None
