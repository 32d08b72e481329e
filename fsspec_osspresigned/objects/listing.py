"""Listing of a bucket, page by page (ListObjectsV2)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from .. import parsing
from ..client.client import Client
from ..client.written_objects import object_info
from ..errors import ReplyError
from ..model import Action, Operation

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

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
    query |= {"delimiter": delimiter}
    while True:
        asked = {name: value for name, value in query.items() if value}
        operation = Operation(action=Action.ListObjectsV2, bucket=bucket, query=asked)
        reply = await client.call(operation)
        try:
            page = parsing.parse(reply.body, "ListBucketResult")
            found = list(_entries(page, bucket, prefix))
            token = _next_token(page, query.get("continuation-token"))
        except ValueError as error:
            msg = f"the reply to ListObjectsV2 is bad: {error}"
            raise ReplyError(msg, path=bucket, action=operation.action) from None
        for entry in found:
            yield entry
        if not token:
            return
        query["continuation-token"] = token


def _next_token(page: Element, last: str | None) -> str:
    """Return the token that requests the next page; empty after the last page."""
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
        found = name(item.findtext("Prefix")).rstrip("/")
        yield {"name": found, "size": 0, "type": "directory"}


def date_of(text: str | None) -> datetime | None:
    """Return the ISO 8601 date in *text*; None if it is missing or invalid."""
    try:
        return datetime.fromisoformat(text or "")
    except ValueError:
        return None
