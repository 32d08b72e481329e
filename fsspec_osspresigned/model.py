"""Data types that several modules share, and the table of OSS operations; no I/O."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from functools import cached_property
from types import MappingProxyType
from typing import Any, NoReturn

from attrs import asdict, field, frozen

from .other_stores import S3_REQUEST_ID
from .secret import Secret, SecretURL
from .units import GIB, KIB, MIB, short_bytes

# Limits of the service (OSS API reference, "Limits" and "Multipart upload").
MAX_SINGLE_PUT = 5 * GIB
# The form's fields (at most 8 MiB) may count, too; OSS does not document this.
MAX_POST_OBJECT = MAX_SINGLE_PUT - 8 * MIB
MIN_PART = 100 * KIB
MAX_PART = 5 * GIB
MAX_MAP = 512 * MIB  # bytes of a URL map; enough for about 500,000 objects
MAX_PARTS = 10_000

# Defaults in bytes: the largest part of a file, the part of a stream (held in memory),
# and the largest object that is sent in one request. docs/decisions/0019 has the
# reasons.
LARGEST_PART = 16 * MIB
STREAM_PART = 8 * MIB
THRESHOLD = 8 * MIB
# Requests in flight by default: those of one call or object, and the large ones of the
# process.
CONNECTIONS = 16
MAX_CONNECTIONS = 32
# Small requests in flight by default, if the link can carry them (docs/performance.md).
MAX_SMALL = 128


class Action(enum.StrEnum):
    """Names of OSS API calls, as in the API reference."""

    PutObject = "PutObject"
    PostObject = "PostObject"
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

    __hash__ = str.__hash__  # the hash function of Enum takes ten times as long

    @cached_property
    def spec(self) -> Spec:
        return OPERATIONS[self]

    @property
    def method(self) -> str:
        """The HTTP method of the call."""
        return self.spec.method

    @property
    def publishes(self) -> bool:
        """True if the call makes an object visible."""
        return self.spec.publishes

    @property
    def changes(self) -> bool:
        """True if the call publishes or removes an object."""
        return self.publishes or self is Action.DeleteObject


# Headers, by the calls that accept them (OSS API reference, the pages of the calls).
COPY_SOURCE = "x-oss-copy-source"
FORBID_OVERWRITE = "x-oss-forbid-overwrite"
OBJECT_ACL = "x-oss-object-acl"
STORAGE_CLASS = "x-oss-storage-class"
TRAFFIC_LIMIT = "x-oss-traffic-limit"
TAGGING = "x-oss-tagging"
META, ENCRYPTION = "x-oss-meta-", "x-oss-server-side-"  # first parts of names
REQUEST_PAYER = "x-oss-request-payer"
_PUBLISHED = (OBJECT_ACL, "x-oss-callback", "x-oss-callback-var")

CHECKSUMS = ("auto", "crc64", "md5", "none")  # choices of the option `checksum`

# Values that OSS accepts.
STYLES = ("virtual", "path", "cname")
ACLS = ("default", "private", "public-read", "public-read-write")
STORAGE_CLASSES = ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive")


class HeaderKind(enum.Enum):
    """Groups of request headers that the same calls accept."""

    CONTENT = "what the object is stored with: type, metadata, tags, encryption"
    PUBLISHED = "what takes effect when the object appears: ACL and callback"
    LOCK = "forbid-overwrite"
    LIMIT = "traffic limit"
    PAYER = "who pays, where the bucket's owner does not: goes with every call"

    __hash__ = object.__hash__  # the hash function of Enum takes ten times as long


_KINDS = {
    **dict.fromkeys(_PUBLISHED, HeaderKind.PUBLISHED),
    FORBID_OVERWRITE: HeaderKind.LOCK,
    TRAFFIC_LIMIT: HeaderKind.LIMIT,
    REQUEST_PAYER: HeaderKind.PAYER,
}


@frozen(kw_only=True)
class Spec:
    """Specification of one OSS call, from its page in the API reference."""

    method: str
    fixed: Mapping[str, str] = field(factory=dict)  # parameter -> its only value
    upload_id: bool = False  # True if the call has the parameter uploadId
    part_number: bool = False  # True if the call has the parameter partNumber
    # Parameters that a client may request; the signer protocol permits no others.
    query: AbstractSet[str] = frozenset()
    on_bucket: bool = False  # True if the call has no object key
    copies: bool = False  # True if the call reads another object, its copy source
    body: str = ""  # "data" (the object's), "document", or empty for no body
    largest: int = MAX_SINGLE_PUT  # maximum bytes of the data
    # True if key and headers are fields of a form. The form is sent to the bucket's
    # root, with the data as its last field. Its policy is signed, not the URL.
    form: bool = False
    headers: Collection[HeaderKind] = ()  # headers that change the effect of the call
    # True if the call makes an object visible. A retry may find the object of the first
    # try, so an error is checked against the store.
    publishes: bool = False
    slot: str | None = None  # key of a URL map's entry; None if maps have no such call
    # parameters that distinguish the call from others
    parameters: frozenset[str] = field(init=False)

    @parameters.default
    def _names_of_parameters(self) -> frozenset[str]:
        named = {"uploadId": self.upload_id, "partNumber": self.part_number}
        return frozenset({n for n, has in named.items() if has} | {*self.fixed})

    def pick(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return the entries of *headers* that the call accepts."""
        if not headers:
            return {}
        return {
            name: value
            for name, value in headers.items()
            if (kind := _KINDS.get(name.lower(), HeaderKind.CONTENT)) in self.headers
            or kind is HeaderKind.PAYER
        }


_VERSION = {"versionId"}
_RESPONSE = {
    *("response-cache-control", "response-content-disposition"),
    *("response-content-encoding", "response-content-language"),
    *("response-content-type", "response-expires"),
}
_LISTING = {
    *("prefix", "delimiter", "start-after", "continuation-token"),
    *("max-keys", "encoding-type", "fetch-owner"),
}
_WHOLE = (HeaderKind.CONTENT, HeaderKind.PUBLISHED, HeaderKind.LOCK)

# A new operation needs one row here, one method that sends it, and one handler in the
# emulator.
OPERATIONS: Mapping[Action, Spec] = MappingProxyType(
    {
        Action.PutObject: Spec(
            method="PUT",
            query={TRAFFIC_LIMIT},
            body="data",
            headers=(*_WHOLE, HeaderKind.LIMIT),
            publishes=True,
            slot="put",
        ),
        Action.PostObject: Spec(
            method="POST",
            body="data",
            largest=MAX_POST_OBJECT,
            form=True,
            headers=(*_WHOLE, HeaderKind.LIMIT),
            publishes=True,
        ),
        Action.InitiateMultipartUpload: Spec(
            method="POST",
            fixed={"uploads": ""},
            headers=(HeaderKind.CONTENT, HeaderKind.LOCK),
        ),
        Action.UploadPart: Spec(
            method="PUT",
            upload_id=True,
            part_number=True,
            query={TRAFFIC_LIMIT},
            body="data",
            headers=(HeaderKind.LIMIT,),
            slot="parts",
        ),
        Action.CompleteMultipartUpload: Spec(
            method="POST",
            upload_id=True,
            body="document",
            headers=(HeaderKind.PUBLISHED, HeaderKind.LOCK),
            publishes=True,
            slot="complete",
        ),
        Action.AbortMultipartUpload: Spec(
            method="DELETE", upload_id=True, slot="abort"
        ),
        Action.ListParts: Spec(
            method="GET",
            upload_id=True,
            query={"max-parts", "part-number-marker"},
            slot="list",
        ),
        Action.HeadObject: Spec(method="HEAD", query=_VERSION, slot="head"),
        Action.GetObject: Spec(method="GET", query=_VERSION | _RESPONSE, slot="get"),
        Action.DeleteObject: Spec(method="DELETE", query=_VERSION, slot="delete"),
        Action.CopyObject: Spec(
            method="PUT", copies=True, headers=_WHOLE, publishes=True, slot="copy"
        ),
        Action.UploadPartCopy: Spec(
            method="PUT", upload_id=True, part_number=True, copies=True
        ),
        Action.ListObjectsV2: Spec(
            method="GET",
            fixed={"list-type": "2"},
            query=_LISTING,
            on_bucket=True,
            slot="ls",
        ),
    }
)
# Calls that a presigned URL can make: those of URL maps and of the signer protocol.
URL_ACTIONS = tuple(action for action, spec in OPERATIONS.items() if not spec.form)
# HTTP method -> the call that it makes on an object without parameters.
PLAIN_ACTIONS: Mapping[str, Action] = MappingProxyType(
    {
        spec.method: action
        for action, spec in OPERATIONS.items()
        if not (spec.parameters or spec.copies or spec.form)
    }
)


class FrozenDict(dict[str, str]):
    """A dictionary that cannot be changed, so several objects can share it."""

    def __refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("it cannot be changed: make a copy with dict()")

    __setitem__ = __delitem__ = __ior__ = __refuse
    pop = popitem = clear = update = setdefault = __refuse

    def __reduce__(self) -> tuple[type[FrozenDict], tuple[dict[str, str]]]:
        return FrozenDict, (dict(self),)


def frozen_mapping(value: Mapping[str, str] | None) -> Mapping[str, str]:
    """Return a read-only copy of *value*, or itself if it is read-only; None is empty."""
    if type(value) is FrozenDict:
        return value
    return FrozenDict(value) if value else NO_HEADERS


NO_HEADERS = FrozenDict()


def split_path(path: str) -> tuple[str, str]:
    """Split ``bucket/key`` at the first slash; without a slash, the key is empty."""
    bucket, _, key = path.partition("/")
    return bucket, key


_MAPPINGS = ("headers", "optional_headers", "query", "final_headers", "digests")


@frozen(kw_only=True)
class Operation:
    """One OSS API call on one object, before it is signed.

    Attributes:
        action: the call.
        bucket: the bucket; empty if a single presigned URL determines it.
        key: the object key, not encoded; empty for ListObjectsV2.
        upload_id: upload ID, for the calls of a multipart upload.
        part_number: 1 to 10,000, for UploadPart and UploadPartCopy.
        content_length: exact size of the body in bytes; None for calls without a body.
        headers: *required* headers, which the signer must sign with these values.
        optional_headers: *optional* headers, which a signer may drop.
        query: parameters, from the closed list of the signer protocol.
        expires_in: requested lifetime in seconds; None leaves it to the signer.
        part_count: for InitiateMultipartUpload, the number of parts that will follow;
            None if it is unknown. For the signer only: the store does not get it.
        final_headers: for InitiateMultipartUpload, the required headers of the call
            that will publish the object. For the signer only.
        object_size: for InitiateMultipartUpload, the bytes of the object; None for a
            stream. For the signer only.
        part_size: for InitiateMultipartUpload, the bytes of each part but the last. For
            the signer only.
        digests: hexadecimal digests of the object, by the names that the signer wants in
            its ``digests``. For the signer only.
        path: ``bucket/key`` as the user writes it; without a key, only the bucket.
    """

    action: Action
    bucket: str = ""
    key: str = ""
    upload_id: str | None = None
    part_number: int | None = None
    content_length: int | None = None
    headers: Mapping[str, str] = NO_HEADERS
    optional_headers: Mapping[str, str] = NO_HEADERS
    query: Mapping[str, str] = NO_HEADERS
    expires_in: int | None = None
    part_count: int | None = field(default=None, eq=False)
    final_headers: Mapping[str, str] = field(default=NO_HEADERS, eq=False)
    object_size: int | None = field(default=None, eq=False)
    part_size: int | None = field(default=None, eq=False)
    digests: Mapping[str, str] = field(default=NO_HEADERS, eq=False)
    path: str = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        path = f"{self.bucket}/{self.key}" if self.key else self.bucket
        object.__setattr__(self, "path", path)
        # attrs converters would take longer, because nearly all mappings are frozen
        # already.
        for name in _MAPPINGS:
            if type(value := getattr(self, name)) is not FrozenDict:
                object.__setattr__(self, name, frozen_mapping(value))

    @property
    def parameters(self) -> dict[str, str]:
        """The query parameters of the call, decoded."""
        if not self.action.spec.parameters:
            return {}
        values = {
            "partNumber": str(self.part_number),
            "uploadId": str(self.upload_id),
            **self.action.spec.fixed,
        }
        return {name: values[name] for name in self.action.spec.parameters}

    @property
    def listed_path(self) -> str:
        """``bucket/prefix`` of a listing; :attr:`path` of every other call."""
        if self.action.spec.on_bucket:
            return f"{self.bucket}/{self.query.get('prefix', '')}"
        return self.path

    def __str__(self) -> str:
        part = f" {self.part_number}" if self.part_number else ""
        return f"{self.action}{part} of {self.path or '(the signed object)'}"


def _secret_url(value: str | SecretURL) -> SecretURL:
    return value if isinstance(value, SecretURL) else SecretURL(value)


def _frozen_fields(value: Mapping[str, Secret]) -> Mapping[str, Secret]:
    return MappingProxyType(dict(value))


@frozen(kw_only=True)
class SignedForm:
    """Fields of a signed HTML form (PostObject) that permits storing one object.

    Attributes:
        fields: names and values in the order in which they are sent, before the data.
            All values are hidden in output, even a ``FormValue``, such as the key, which
            is no secret.
    """

    fields: Mapping[str, Secret] = field(converter=_frozen_fields, repr=False)


@frozen(kw_only=True)
class SignedRequest:
    """Permission to send one request, which must be sent unchanged.

    Attributes:
        method: the HTTP method.
        url: the presigned URL; a plain string is converted to a secret. With a form,
            the root of the bucket.
        headers: exactly the headers to send with the request.
        issued_at: start of the lifetime, seconds since the epoch by *this* machine's
            clock.
        expires_at: end of the lifetime, by the same clock; None if unknown.
        form: the form fields to send before the data; None for all calls but
            PostObject.
        location: name or URL that a server gave the object; None if the object is named
            like its path.
        carry_out: function that executes the call on a server with another protocol. A
            worker thread calls it with the body. It returns the reply that OSS would
            send. None sends the request to the store.
        assumed_etag: ETag of a good reply that has none, if the server itself compares
            the bytes with a digest; None if the reply must have an ETag or a checksum.
    """

    method: str
    url: SecretURL = field(converter=_secret_url)
    headers: Mapping[str, str] = field(
        default=NO_HEADERS, converter=frozen_mapping, repr=False
    )
    issued_at: float = field(factory=time.time)
    expires_at: float | None = None
    form: SignedForm | None = None
    location: str | None = None
    carry_out: Callable[[Any], Reply] | None = field(default=None, repr=False)
    assumed_etag: str | None = None

    def is_stale(self, now: float) -> bool:
        """Return True if less than a quarter of the lifetime and less than 30 s are left.

        *now* is in seconds since the epoch. Without an expiry time, return False.
        """
        if self.expires_at is None:
            return False
        life = self.expires_at - self.issued_at
        return self.expires_at - now < min(30.0, life / 4)


@frozen(eq=False, kw_only=True)
class Reply:
    """Reply of a server, with a body small enough for memory."""

    status: int
    # Header names are in lower case.
    headers: Mapping[str, str] = field(default=NO_HEADERS, repr=False)
    # the part of the body that was read; may repeat the token
    body: bytes = field(default=b"", repr=False)
    body_bytes: int = 0  # bytes of the request's body that were sent
    crc64: int | None = None  # CRC-64/XZ of the bytes sent; None if not computed
    retries: int = 0  # number of times that the request was sent again
    resigns: int = 0  # number of times that the request was signed again
    host: str = ""  # host and port that replied; empty if unknown
    location: str | None = None  # name or URL that a server has given to the object

    @property
    def is_good(self) -> bool:
        return self.status // 100 == 2  # noqa: PLR2004 - HTTP status class

    @property
    def etag(self) -> str:
        """The ETag as received, with quotes; empty if absent."""
        return self.headers.get("etag", "")

    @property
    def request_id(self) -> str | None:
        of_oss = self.headers.get("x-oss-request-id")
        return self.headers.get(S3_REQUEST_ID) if of_oss is None else of_oss


def _crc_as_text(_: object, attribute: Any, value: Any) -> Any:
    is_crc = attribute is not None and attribute.name == "crc64" and value is not None
    return str(value) if is_crc else value


@frozen(kw_only=True)
class PartReceipt:
    """One stored part: its number, bytes, ETag and CRC-64 (None if not computed)."""

    part_number: int
    size: int
    etag: str
    crc64: int | None = None


# no slots for weak references, because there may be 100,000 receipts
@frozen(kw_only=True, weakref_slot=False, repr=False)
class Receipt:
    """Proof of a finished upload.

    Attributes:
        path: ``bucket/key``.
        size: size in bytes.
        status: ``stored``; ``pending`` when the owner completes the upload; or
            ``callback_failed``: stored, but OSS could not reach the callback server.
        etag: as the server sent it, without quotes.
        crc64: CRC-64/XZ of the bytes sent; None if it was not computed.
        verified: checksum that was compared with the reply: ``crc64``, ``md5`` or
            ``none``.
        version_id: version created in a bucket with versioning; None otherwise.
        request_id: request ID of the last request.
        upload_id: upload ID of a multipart upload; None for one PutObject.
        parts: the parts; empty for one PutObject.
        retries: how often its requests were sent again, without the one that begins an
            upload in parts.
        resigns: how often these were signed again.
        seconds: duration from the first byte to the final reply.
        stored_at: seconds since the epoch, by this machine's clock.
        content_type: content type that was sent; None if none was sent.
        location: name or URL that an upload server gave the object; None if the object
            is named like its path.
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
    location: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the receipt as a JSON object; none contains a URL.

        CRC-64s are text, because JavaScript rounds numbers above 2**53.
        """
        return asdict(self, value_serializer=_crc_as_text)

    def __repr__(self) -> str:
        parts = f"{len(self.parts)} part{'s' if len(self.parts) != 1 else ''}"
        facts = (
            repr(self.path),
            short_bytes(self.size),
            self.status,
            f"verified: {self.verified}",
            parts if self.parts else "one request",
            f"{self.seconds:.1f} s",
        )
        return f"Receipt({', '.join(facts)})"


def stored_note(receipt: Receipt) -> str:
    """Return the note of an interrupted call about an object that it has stored."""
    return f"{receipt.path} is {receipt.status}"
