"""Looking at, reading and deleting objects, where the signer signs that."""

from __future__ import annotations

import io
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote

from . import xmldoc
from .checksum import CRC_HEADER, crc64
from .client import Client
from .errors import IntegrityError, ReplyError
from .model import Action, Operation, Reply, split_path

_PARTIAL = 206
_PAGE = "1000"


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

    def __init__(self, handle: io.FileIO | Any) -> None:
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
    if (start or 0) < 0 or end is None or end < 0:
        # OSS answers a range that ends behind the object with the whole object, so
        # the size must be known to ask for the right one.
        size = int(head(client, path)["size"])
        start, end, _ = slice(start, end).indices(size)
    start = start or 0
    if end <= start:
        return b""
    sink = _Memory()
    reply = client.call(
        _operation(Action.GetObject, path),
        free={"Range": f"bytes={start}-{end - 1}"},
        sink=sink,
    )
    if reply.status == _PARTIAL:
        return bytes(sink.data)
    return bytes(sink.data[start:end])


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


def delete(client: Client, path: str) -> None:
    """Delete one object (DeleteObject); one that is not there is no error to OSS."""
    client.call(_operation(Action.DeleteObject, path))


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
        try:
            root = xmldoc.parse(reply.body, "ListBucketResult")
        except ValueError as error:
            msg = f"the reply to ListObjectsV2 is bad: {error}"
            raise ReplyError(msg, path=bucket) from None
        for item in root.iter("Contents"):
            key = unquote(item.findtext("Key") or "")
            yield {
                "name": f"{bucket}/{key}",
                "size": int(item.findtext("Size") or 0),
                "type": "file",
                "ETag": (item.findtext("ETag") or "").strip('"'),
                "LastModified": item.findtext("LastModified"),
            }
        for item in root.iter("CommonPrefixes"):
            name = unquote(item.findtext("Prefix") or "").rstrip("/")
            yield {"name": f"{bucket}/{name}", "size": 0, "type": "directory"}
        token = root.findtext("NextContinuationToken") or ""
        if (root.findtext("IsTruncated") or "").lower() != "true" or not token:
            return
        query["continuation-token"] = token
