"""Context of a call: its request, body and bucket, and the headers of its object."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from attrs import evolve, frozen

from ..http.checksums import CRC_HEADER
from ..model import (
    ACLS,
    COPY_SOURCE,
    ENCRYPTION,
    FORBID_OVERWRITE,
    MAX_SINGLE_PUT,
    META,
    OBJECT_ACL,
    STORAGE_CLASS,
    STORAGE_CLASSES,
    TAGGING,
    TRAFFIC_LIMIT,
)
from .messages import (
    Call,
    EmulatorReply,
    invalid_argument,
    quoted,
    read_number,
    refused,
    too_large,
)
from .settings import EmulatorSettings
from .store import Bucket, Piece, Store, StoredObject
from .wire import IncomingBody

ID = "1000000000000001"
OWNER = {"ID": ID, "DisplayName": ID}

_MAX_CALLBACK = 5 * 1024


@frozen
class CallContext:
    """Argument of all handlers: the request, and everything else that a handler needs.

    A call on the service itself, such as ListBuckets, has a bucket with an empty name.
    """

    call: Call
    body: IncomingBody
    bucket: Bucket
    store: Store
    settings: EmulatorSettings

    @property
    def now(self) -> float:
        return self.settings.clock()

    @property
    def encoding(self) -> str | None:
        return "url" if self.call.parameters.get("encoding-type") == "url" else None

    @property
    def is_exclusive(self) -> bool:
        return self.call.headers.get(FORBID_OVERWRITE, "").lower() == "true"

    def number(
        self, name: str, default: int, *, minimum: int = 0, maximum: int | None = None
    ) -> int:
        text = self.call.parameters.get(name, "") or str(default)
        number = read_number(text)
        is_above = maximum is not None and number is not None and number > maximum
        if number is None or number < minimum or is_above:
            bounds = f"between {minimum} and {maximum}" if maximum else "a number"
            raise invalid_argument(f"{name} must be {bounds}.", name, text)
        return number

    def find_object(self) -> StoredObject:
        return self.bucket.find(self.call.key, self.call.parameters.get("versionId"))

    def check_exclusive(self) -> None:
        """Raise RefusedError if the call forbids overwriting and its object exists.

        Handlers call it before they receive the body; :meth:`put` checks again. In a
        bucket with versioning, it does nothing.
        """
        self.bucket.check_free(self.call.key, exclusive=self.is_exclusive)

    def put(self, stored: StoredObject) -> StoredObject:
        return self.store.put(self.bucket, stored, exclusive=self.is_exclusive)

    async def receive_body(self) -> Piece:
        if self.call.headers.keys().isdisjoint(("content-length", "transfer-encoding")):
            raise refused("MissingContentLength")
        piece = await self.receive(MAX_SINGLE_PUT)
        if self.call.headers.get(CRC_HEADER) not in (None, str(piece.crc64)):
            raise refused("InvalidCRC64")
        return piece

    async def receive_document(self, limit: int) -> bytes:
        segment = (await self.receive(limit)).body
        return segment.read(0, segment.size)

    async def receive(self, limit: int, ec: str = "") -> Piece:
        if (self.call.content_length or 0) > limit:
            raise too_large(limit, ec)
        with self.store.spool() as spool:
            await self.body.into(spool, limit=limit, ec=ec)
            piece = spool.finish()
        if self.call.headers.get("content-md5") not in (None, _content_md5(piece.md5)):
            raise refused("InvalidDigest")
        return piece

    def callback(self) -> Mapping[str, Any] | None:
        call = self.call
        both = call.parameters.get("callback"), call.headers.get("x-oss-callback")
        texts = [text for text in both if text is not None]
        if not texts:
            return None
        try:
            value = json.loads(base64.b64decode(texts[0], validate=True))
        except ValueError:
            value = None
        is_valid = isinstance(value, dict) and "callbackUrl" in value
        if len(texts) > 1 or len(texts[0]) > _MAX_CALLBACK or not is_valid:
            message = "The callback configuration is not valid."
            raise invalid_argument(message, "callback")
        return value  # type: ignore[no-any-return]

    def after_callback(
        self, reply: EmulatorReply, wanted: Mapping[str, Any] | None
    ) -> EmulatorReply:
        """Run the callback *wanted*, and return *reply* with its body.

        None runs no callback. If the callback fails, RefusedError is raised, but the
        object is kept.
        """
        if wanted is None:
            return reply
        headers = {n: v for n, v in reply.headers.items() if n != "Content-Type"}
        body = self.settings.callback(wanted)
        if body is None:
            raise refused("CallbackFailed", headers=headers)
        headers["Content-Type"] = "application/json"
        return evolve(reply, headers=headers, body=body)


Handler = Callable[[CallContext], Awaitable[EmulatorReply]]


def _content_md5(md5: str) -> str:
    return base64.b64encode(bytes.fromhex(md5)).decode()


def checksums(etag: str, crc64: int, md5: str | None = None) -> dict[str, str]:
    headers = {"ETag": quoted(etag), CRC_HEADER: str(crc64)}
    if md5 is not None:
        headers["Content-MD5"] = _content_md5(md5)
    return headers


def confirmation(stored: StoredObject) -> dict[str, str]:
    headers = checksums(stored.etag, stored.crc64, stored.md5)
    if stored.version_id is not None:
        headers["x-oss-version-id"] = stored.version_id
    return headers | encryption(stored.headers)


def encryption(headers: Mapping[str, str]) -> dict[str, str]:
    return {n: v for n, v in headers.items() if n.startswith(ENCRYPTION)}


HTTP_PROPERTIES = (
    *("cache-control", "content-disposition", "content-encoding"),
    *("content-language", "content-type", "expires"),
)

_ENCRYPTED = f"{ENCRYPTION}encryption"
# OSS creates one key for each account
_KMS_KEY = "00000000-0000-4000-8000-000000000001"
_TRAFFIC = range(819_200, 838_860_800 + 1)
# Header -> its permitted values, and the error for any other value.
_CHOICES = {
    STORAGE_CLASS: (STORAGE_CLASSES, "InvalidStorageClass", ""),
    OBJECT_ACL: (ACLS, "InvalidArgument", "no such object access control exists"),
    _ENCRYPTED: (("AES256", "KMS", "SM4"), "InvalidEncryptionAlgorithmError", ""),
}
_is_condition = re.compile("if-(un)?modified-since|if-(none-)?match").fullmatch


def read_properties(call: Call) -> dict[str, str]:
    """Return the headers of *call* that an object keeps; RefusedError if invalid."""
    headers = call.headers
    for name in filter(_is_condition, headers):
        if COPY_SOURCE not in headers:  # ali-oss sends x-amz-* headers beside its own
            raise refused("NotImplemented", Header=name)
    check_traffic_limit(call)
    for name, (choices, code, message) in _CHOICES.items():
        if name in headers and headers[name] not in choices:
            raise refused(code, message, ArgumentValue=headers[name])
    kept = {
        name: value
        for name, value in headers.items()
        if name in (*HTTP_PROPERTIES, OBJECT_ACL, TAGGING)
        or name.startswith((ENCRYPTION, META))
    }
    kept.setdefault("content-type", "application/octet-stream")
    if kept.get(_ENCRYPTED) == "KMS":
        kept.setdefault(f"{_ENCRYPTED}-key-id", _KMS_KEY)
    kept[STORAGE_CLASS] = headers.get(STORAGE_CLASS, "Standard")
    return kept


def check_traffic_limit(call: Call) -> None:
    """Raise RefusedError if *call* has an invalid rate limit."""
    name = TRAFFIC_LIMIT
    values = [s[name] for s in (call.headers, call.parameters) if name in s]
    if len(values) > 1:
        raise invalid_argument(f"{name} is given in the query and as header.")
    if values and read_number(values[0]) not in _TRAFFIC:
        bounds = f"between {_TRAFFIC[0]} and {_TRAFFIC[-1]}"
        raise invalid_argument(f"{name} must be {bounds}.", name, values[0])


def shown(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that GET and HEAD reply for the stored *headers*.

    The ACL is left out, and tags are only counted.
    """
    visible = {n: v for n, v in headers.items() if n not in (OBJECT_ACL, TAGGING)}
    if TAGGING in headers:
        tags = parse_qsl(headers[TAGGING], keep_blank_values=True)
        visible["x-oss-tagging-count"] = str(len(tags))
    return visible
