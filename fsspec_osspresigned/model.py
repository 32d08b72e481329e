"""The values that cross module borders: all frozen, none of them does I/O."""

from __future__ import annotations

import enum
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from attrs import asdict, field, frozen

from .secret import SecretURL
from .units import GIB, KIB, MIB

# Limits of the service (OSS API reference, "Limits" and "Multipart upload").
MAX_SINGLE_PUT = 5 * GIB
MIN_PART = 100 * KIB
MAX_PART = 5 * GIB
MAX_PARTS = 10_000

# Bytes of a part at most, of a part of a large file, and of a file that is sent in one
# piece, where nobody says anything else: docs/performance.md has the curves.
LARGEST_PART = 8 * MIB
LARGEST_FILE_PART = 32 * MIB
THRESHOLD = 8 * MIB


class Action(enum.StrEnum):
    """One OSS API call, by its name in the API reference."""

    PutObject = "PutObject"
    UploadPart = "UploadPart"
    CopyObject = "CopyObject"
    UploadPartCopy = "UploadPartCopy"
    InitiateMultipartUpload = "InitiateMultipartUpload"
    CompleteMultipartUpload = "CompleteMultipartUpload"
    AbortMultipartUpload = "AbortMultipartUpload"
    ListParts = "ListParts"
    GetObject = "GetObject"
    HeadObject = "HeadObject"
    DeleteObject = "DeleteObject"
    ListObjectsV2 = "ListObjectsV2"

    @property
    def method(self) -> str:
        """The HTTP method of the call."""
        return _METHODS[self]

    @property
    def publishes(self) -> bool:
        """Whether the call makes an object visible, all at once."""
        return self in _PUBLISHING


_METHODS = {
    Action.PutObject: "PUT",
    Action.UploadPart: "PUT",
    Action.CopyObject: "PUT",
    Action.UploadPartCopy: "PUT",
    Action.InitiateMultipartUpload: "POST",
    Action.CompleteMultipartUpload: "POST",
    Action.AbortMultipartUpload: "DELETE",
    Action.ListParts: "GET",
    Action.GetObject: "GET",
    Action.HeadObject: "HEAD",
    Action.DeleteObject: "DELETE",
    Action.ListObjectsV2: "GET",
}
_PUBLISHING = (Action.PutObject, Action.CompleteMultipartUpload, Action.CopyObject)


def frozen_mapping(value: Mapping[str, str] | None) -> Mapping[str, str]:
    """Return a read-only copy of *value*; None means empty."""
    return MappingProxyType(dict(value or {}))


def split_path(path: str) -> tuple[str, str]:
    """Split ``bucket/key`` at the first slash; a path without one has no key."""
    bucket, _, key = path.partition("/")
    return bucket, key


@frozen(kw_only=True)
class Operation:
    """One OSS API call on one object, before it is signed.

    Attributes:
        action: the call.
        bucket: the bucket; empty where a single presigned URL decides it.
        key: the object key, not encoded; empty for ListObjectsV2.
        upload_id: the multipart upload, for the calls that name one.
        part_number: 1..10000, for UploadPart and UploadPartCopy.
        content_length: exact bytes of the body; None for calls without one.
        headers: *demanded* headers, which must come back signed with this value.
        optional_headers: *wished* headers, which a signer may drop.
        query: parameters of the closed list of the signer protocol.
        expires_in: wished life in seconds; None leaves it to the signer.
    """

    action: Action
    bucket: str = ""
    key: str = ""
    upload_id: str | None = None
    part_number: int | None = None
    content_length: int | None = None
    headers: Mapping[str, str] = field(factory=dict, converter=frozen_mapping)
    optional_headers: Mapping[str, str] = field(factory=dict, converter=frozen_mapping)
    query: Mapping[str, str] = field(factory=dict, converter=frozen_mapping)
    expires_in: int | None = None

    @property
    def path(self) -> str:
        """``bucket/key`` as the user writes it; the bucket alone without a key."""
        return f"{self.bucket}/{self.key}" if self.key else self.bucket

    def __str__(self) -> str:
        """Name the call for messages: ``UploadPart 3 of bucket/key``."""
        part = f" {self.part_number}" if self.part_number else ""
        return f"{self.action}{part} of {self.path or '(the signed object)'}"


def _secret_url(value: str | SecretURL) -> SecretURL:
    return value if isinstance(value, SecretURL) else SecretURL(value)


@frozen(kw_only=True)
class SignedRequest:
    """A permission to send one request: opaque, sent to the byte as it is.

    Attributes:
        method: the HTTP method.
        url: the presigned URL; a plain string is hidden on the way in.
        headers: exactly the headers to send with it.
        issued_at: when its life began, seconds since the epoch of *this* machine.
        expires_at: when its life ends, same clock; None if nobody knows.
    """

    method: str
    url: SecretURL = field(converter=_secret_url)
    headers: Mapping[str, str] = field(factory=dict, converter=frozen_mapping)
    issued_at: float = field(factory=time.time)
    expires_at: float | None = None

    def is_stale(self, now: float) -> bool:
        """Return whether less than min(30 s, life / 4) of its life is left."""
        if self.expires_at is None:
            return False
        life = self.expires_at - self.issued_at
        return self.expires_at - now < min(30.0, life / 4)


@frozen(eq=False, kw_only=True)
class Reply:
    """What a server answered, small enough to keep.

    Attributes:
        status: HTTP status.
        headers: names in lower case.
        body: the body as far as it was read.
        body_bytes: bytes of the request body that were handed to the socket.
        crc64: CRC-64/XZ of those bytes; None if it was not computed.
        retries: how often the request had to be sent again.
        resigns: how often it had to be signed again.
    """

    status: int
    headers: Mapping[str, str] = field(
        factory=dict, converter=frozen_mapping, repr=False
    )
    body: bytes = field(default=b"", repr=False)  # an error may repeat the token
    body_bytes: int = 0
    crc64: int | None = None
    retries: int = 0
    resigns: int = 0

    @property
    def etag(self) -> str:
        """The ETag header as it came, quotes included; empty if absent."""
        return self.headers.get("etag", "")

    @property
    def request_id(self) -> str | None:
        """``x-oss-request-id``, or S3's; None if neither came."""
        names = ("x-oss-request-id", "x-amz-request-id")
        return next((self.headers[n] for n in names if n in self.headers), None)


@frozen(kw_only=True)
class PartReceipt:
    """One stored part: its number, bytes, ETag and CRC-64 (None if not computed)."""

    part_number: int
    size: int
    etag: str
    crc64: int | None = None


@frozen(kw_only=True)
class Receipt:
    """What a finished upload proved.

    Attributes:
        path: ``bucket/key``.
        size: bytes.
        status: ``stored``; ``pending`` when the owner completes the upload; or
            ``callback_failed``: stored, but OSS could not reach the callback server.
        etag: as the server sent it, without quotes.
        crc64: CRC-64/XZ of the bytes sent; None if it was not computed.
        verified: what was compared with the reply: ``crc64``, ``md5`` or ``none``.
        version_id: version made by a versioned bucket; None otherwise.
        request_id: of the last request.
        upload_id: of a multipart upload; None for one PutObject.
        parts: the parts; empty for one PutObject.
        retries: requests sent again.
        resigns: requests signed again.
        seconds: from the first byte to the confirmed end.
        stored_at: seconds since the epoch, this machine's clock.
        content_type: as sent; None if none was.
    """

    path: str
    size: int
    status: str = "stored"
    etag: str = ""
    crc64: int | None = None
    verified: str = "none"
    version_id: str | None = None
    request_id: str | None = None
    upload_id: str | None = None
    parts: tuple[PartReceipt, ...] = ()
    retries: int = 0
    resigns: int = 0
    seconds: float = 0.0
    stored_at: float = field(factory=time.time)
    content_type: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON-able members; it never holds a URL."""
        return asdict(self)
