"""Looking at, reading and deleting objects, where the signer signs that."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, unquote
from xml.etree.ElementTree import Element

from . import xmldoc
from .checksum import CRC_HEADER, crc64
from .client import Client
from .errors import IntegrityError, ReplyError
from .model import Action, Operation, Reply, split_path
from .publish import FORBID_OVERWRITE, Target

_PARTIAL = 206
_PAGE = "1000"
# Headers of a copy that leave the Content-Type and metadata of its source alone.
_KEEP = {FORBID_OVERWRITE, "x-oss-storage-class", "x-oss-object-acl"}


def _operation(action: Action, path: str) -> Operation:
    bucket, key = split_path(path)
    return Operation(action=action, bucket=bucket, key=key)


def head(client: Client, path: str) -> dict[str, Any]:
    """Return what ``fs.info`` answers for one object (HeadObject).

    Raises:
        FileNotFoundError: it is not there.
        NotSignedError: HEAD is not signed.
    """
    headers = client.call(_operation(Action.HeadObject, path)).headers
    modified = headers.get("last-modified")
    return {
        "name": path,
        "size": int(headers.get("content-length", 0)),
        "type": "file",
        "ETag": headers.get("etag", "").strip('"'),
        "crc64": int(headers[CRC_HEADER]) if CRC_HEADER in headers else None,
        "LastModified": parsedate_to_datetime(modified) if modified else None,
        "ContentType": headers.get("content-type"),
        "StorageClass": headers.get("x-oss-storage-class"),
        "version_id": headers.get("x-oss-version-id"),
    }


class _Memory:
    """Collects a reply in memory."""

    def __init__(self) -> None:
        self.data = bytearray()

    def begin(self) -> None:
        self.data.clear()

    def write(self, block: bytes, /) -> None:
        self.data += block


class _File:
    """Writes a reply into a file and sums it up."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self.crc64 = 0

    def begin(self) -> None:
        self._handle.seek(0)
        self._handle.truncate()
        self.crc64 = 0

    def write(self, block: bytes, /) -> None:
        self._handle.write(block)
        self.crc64 = crc64(block, self.crc64)


def _check_whole(reply: Reply, crc: int, path: str) -> None:
    stated = reply.headers.get(CRC_HEADER)
    if stated is not None and stated != str(crc):
        msg = f"GetObject: the store says CRC-64 {stated[:24]}, {crc} was received"
        raise IntegrityError(msg, path=path)


def read(
    client: Client, path: str, start: int | None = None, end: int | None = None
) -> bytes:
    """Return bytes *start* to *end* (exclusive) of an object (GetObject).

    Args:
        client: signs and sends.
        path: ``bucket/key``.
        start: None for 0; negative counts from the end.
        end: None for the end of the object; negative counts from it.

    Raises:
        FileNotFoundError: it is not there.
        NotSignedError: GET is not signed.
        IntegrityError: the whole object was read and its CRC-64 differs.
    """
    if start in (None, 0) and end is None:
        sink = _Memory()

        def check(reply: Reply) -> None:
            _check_whole(reply, crc64(sink.data), path)

        client.call(_operation(Action.GetObject, path), sink=sink, check=check)
        return bytes(sink.data)
    first = start or 0
    if end is None:
        wanted = str(first) if first < 0 else f"{first}-"
    else:
        if first < 0 or end < 0:
            size = int(head(client, path)["size"])
            first, end, _ = slice(first, end).indices(size)
        if end <= first:
            return b""
        wanted = f"{first}-{end - 1}"
    sink = _Memory()
    free = {"Range": f"bytes={wanted}"}
    reply = client.call(_operation(Action.GetObject, path), free=free, sink=sink)
    if reply.status == _PARTIAL:
        return bytes(sink.data)
    # OSS answers a range that ends behind the object with the whole object.
    return bytes(sink.data[first:end])


def download(client: Client, path: str, handle: Any) -> None:
    """Write the whole object into the file *handle*, its CRC-64 checked.

    Raises:
        FileNotFoundError: it is not there.
        NotSignedError: GET is not signed.
        IntegrityError: the CRC-64 differs.
    """
    sink = _File(handle)

    def check(reply: Reply) -> None:
        _check_whole(reply, sink.crc64, path)

    client.call(_operation(Action.GetObject, path), sink=sink, check=check)


def delete(client: Client, path: str) -> Reply:
    """Delete one object (DeleteObject); one that is not there is no error to OSS."""
    return client.call(_operation(Action.DeleteObject, path))


def copy(client: Client, source: str, target: Target) -> Reply:
    """Copy one object inside the store (CopyObject, up to 1 GiB).

    Content-Type and metadata are those of the source, unless *target* demands any:
    then none of the source's are taken (OSS API reference, ``x-oss-metadata-directive``).

    Raises:
        FileNotFoundError: *source* is not there.
        FileExistsError: *target* is exclusive and there.
        NotSignedError: copying is not signed.
    """
    bucket, key = split_path(source)
    headers = {**target.headers, "x-oss-copy-source": f"/{bucket}/{quote(key)}"}
    if any(name.lower() not in _KEEP for name in target.headers):
        headers["x-oss-metadata-directive"] = "REPLACE"

    def check(reply: Reply) -> None:
        _document(reply, "CopyObjectResult", Action.CopyObject, target.path)

    operation = target.operation(Action.CopyObject, headers=headers)
    return client.call(operation, check=check)


def listing(
    client: Client, bucket: str, prefix: str, *, delimiter: str = "/"
) -> Iterator[dict[str, Any]]:
    """Yield ``info`` of objects and common prefixes below *prefix* (ListObjectsV2).

    Costs one request per 1,000 entries.

    Raises:
        NotSignedError: listing is not signed.
    """
    query = {"prefix": prefix, "max-keys": _PAGE, "encoding-type": "url"}
    if delimiter:
        query["delimiter"] = delimiter
    while True:
        asked = {name: value for name, value in query.items() if value}
        operation = Operation(action=Action.ListObjectsV2, bucket=bucket, query=asked)
        reply = client.call(operation)
        root = _document(reply, "ListBucketResult", Action.ListObjectsV2, bucket)
        for item in root.iter("Contents"):
            key = unquote(item.findtext("Key") or "")
            yield {
                "name": f"{bucket}/{key}",
                "size": int(item.findtext("Size") or 0),
                "type": "file",
                "ETag": (item.findtext("ETag") or "").strip('"'),
                "LastModified": _date(item.findtext("LastModified")),
            }
        for item in root.iter("CommonPrefixes"):
            name = unquote(item.findtext("Prefix") or "").rstrip("/")
            yield {"name": f"{bucket}/{name}", "size": 0, "type": "directory"}
        token = root.findtext("NextContinuationToken") or ""
        if (root.findtext("IsTruncated") or "").lower() != "true" or not token:
            return
        query["continuation-token"] = token


def _document(reply: Reply, root: str, action: Action, path: str) -> Element:
    try:
        return xmldoc.parse(reply.body, root)
    except ValueError as error:
        msg = f"the reply to {action} is bad: {error}"
        raise ReplyError(msg, path=path) from None


def _date(text: str | None) -> datetime | None:
    """Read ISO 8601, as listings write it; None if there is none or it is unreadable."""
    try:
        return datetime.fromisoformat(text or "")
    except ValueError:
        return None
