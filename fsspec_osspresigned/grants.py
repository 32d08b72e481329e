"""What the bearer of a token may have signed: the closed lists, and one policy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import unquote

from attrs import evolve, field, frozen

from .errors import ConfigurationError
from .model import Action, Operation

COPIES = frozenset((Action.CopyObject, Action.UploadPartCopy))
_VERSION = frozenset(("versionId",))
_LIMIT = frozenset(("x-oss-traffic-limit",))
_RESPONSE = frozenset(
    f"response-{name}"
    for name in (
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "expires",
    )
)
_LISTING = frozenset(
    (
        "prefix",
        "delimiter",
        "start-after",
        "continuation-token",
        "max-keys",
        "encoding-type",
        "fetch-owner",
    )
)
# The closed list of the protocol. Anything else could turn a call into another one.
_QUERY: dict[Action, frozenset[str]] = {
    Action.ListObjectsV2: _LISTING,
    Action.ListParts: frozenset(("max-parts", "part-number-marker")),
    Action.GetObject: _VERSION | _RESPONSE,
    Action.HeadObject: _VERSION,
    Action.DeleteObject: _VERSION,
    Action.PutObject: _LIMIT,
    Action.UploadPart: _LIMIT,
}
PLAIN_HEADERS = frozenset(
    (
        "content-type",
        "content-md5",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "expires",
    )
)
SOURCE_HEADER = "x-oss-copy-source"
ACL_HEADER = "x-oss-object-acl"
_CLASS_HEADER = "x-oss-storage-class"
_LOCK_HEADER = "x-oss-forbid-overwrite"
# They open an object to others, or make it lead elsewhere: only if a policy names them.
NAMED_ONLY = frozenset(
    (
        "x-oss-acl",
        "x-oss-object-acl",
        "x-oss-callback",
        "x-oss-callback-var",
        "x-oss-symlink-target",
    )
)
_SIZED = frozenset((Action.PutObject, Action.UploadPart))
# The calls that can put an object where one stands (OSS, "Prevent overwriting").
_WRITES = frozenset(
    (
        Action.PutObject,
        Action.CopyObject,
        Action.InitiateMultipartUpload,
        Action.CompleteMultipartUpload,
    )
)


def _actions(value: Iterable[Action]) -> frozenset[Action]:
    return frozenset(value)


def _prefixes(value: Sequence[str]) -> tuple[str, ...]:
    bad = [prefix for prefix in value if not prefix.partition("/")[1]]
    if bad:
        problems = (f"the prefix {prefix!r} must be bucket/..." for prefix in bad)
        raise ConfigurationError(problems)
    return tuple(value)


@frozen(kw_only=True)
class Policy:
    """What the bearer of one token may have signed.

    Attributes:
        name: for people.
        prefixes: ``bucket/`` or ``bucket/begin/of/key``; a path must begin with one.
        actions: the calls.
        max_expires_in: seconds of life at most; longer wishes are shortened.
        headers: lower-case names of ACL, callback and symlink headers that are allowed.
        allowed_headers: lower-case names of the other headers, ``x-oss-meta-*`` for
            all that begin so; None allows what the protocol allows.
        storage_classes: values of ``x-oss-storage-class``; None allows every one.
        acls: values of the ACL headers that *headers* allows; None allows every one.
        copy_sources: as *prefixes*, what copies may read; None is what the same bearer
            may read by GetObject.
        max_size: bytes of one object at most, kept by a signed Content-Length; None is
            no limit.
        max_part_size: bytes of one part at most; every part before the last counts as
            that many, so that all of them together keep to *max_size*. None allows
            one part.
        overwrite: False signs ``x-oss-forbid-overwrite: true`` with every write.
        requests_per_minute: members of ``requests`` that one worker answers; None is
            no limit.
    """

    name: str
    prefixes: tuple[str, ...] = field(converter=_prefixes)
    actions: frozenset[Action] = field(converter=_actions)
    max_expires_in: int = 3600
    headers: frozenset[str] = frozenset()
    allowed_headers: frozenset[str] | None = None
    storage_classes: frozenset[str] | None = None
    acls: frozenset[str] | None = None
    copy_sources: tuple[str, ...] | None = None
    max_size: int | None = None
    max_part_size: int | None = None
    overwrite: bool = True
    requests_per_minute: int | None = None

    def covers(self, path: str) -> bool:
        """Return whether *path* lies in what is granted; compared byte for byte."""
        return path.startswith(self.prefixes)

    def reads(self, source: str) -> bool:
        """Return whether a copy may read *source*, ``bucket/key``."""
        if self.copy_sources is not None:
            return source.startswith(self.copy_sources)
        return Action.GetObject in self.actions and self.covers(source)


class RefusedItem(Exception):  # noqa: N818 - an answer, not a fault
    """Carries the problem of one item: status, code and detail of the protocol."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code


def hash_token(token: str) -> str:
    """Return the SHA-256 of *token* in hex, by which a service knows it."""
    return hashlib.sha256(token.encode()).hexdigest()


def permitted(operation: Operation, policy: Policy) -> Operation:
    """Return *operation* as *policy* lets it be signed: shorter, fewer wishes, locked.

    Raises:
        RefusedItem: the policy does not let it be signed.
    """
    action = operation.action
    if action not in policy.actions:
        raise RefusedItem(403, "action_not_granted", f"{action} is not granted")
    if foreign := operation.query.keys() - _QUERY.get(action, frozenset()):
        detail = f"{action} takes no parameter {min(foreign)[:40]!r}"
        raise RefusedItem(400, "invalid_request", detail)
    path = operation.path
    if action is Action.ListObjectsV2:
        path = f"{operation.bucket}/{operation.query.get('prefix', '')}"
    if not policy.covers(path):
        raise RefusedItem(403, "forbidden", "the path lies outside what is granted")
    for name, value in operation.headers.items():
        if not _may_ask(name.lower(), value, action, policy):
            raise RefusedItem(403, "header_refused", f"the header {name!r} is refused")
    wished = {
        name: value
        for name, value in operation.optional_headers.items()
        if name.lower() != SOURCE_HEADER
        and _may_ask(name.lower(), value, action, policy)
    }
    if action in COPIES:
        _check_source(operation.headers, policy)
    life = min(operation.expires_in or policy.max_expires_in, policy.max_expires_in)
    return evolve(
        operation,
        headers={**operation.headers, **_imposed(operation, policy)},
        optional_headers=wished,
        expires_in=life,
    )


def _may_ask(name: str, value: str, action: Action, policy: Policy) -> bool:
    if name in NAMED_ONLY:
        return name in policy.headers and (
            not name.endswith("-acl") or policy.acls is None or value in policy.acls
        )
    if name.startswith(SOURCE_HEADER):
        return action in COPIES
    if name == _LOCK_HEADER and (value == "true" or not policy.overwrite):
        return value == "true"
    if name == _CLASS_HEADER and policy.storage_classes is not None:
        return value in policy.storage_classes
    if name not in PLAIN_HEADERS and not name.startswith("x-oss-"):
        return False
    allowed = policy.allowed_headers
    return (
        allowed is None
        or name in allowed
        or any(name.startswith(n[:-1]) for n in allowed if n.endswith("*"))
    )


def _check_source(headers: Mapping[str, str], policy: Policy) -> None:
    """Refuse a copy from where the policy does not let its bearer read."""
    lower = {name.lower(): value for name, value in headers.items()}
    source = unquote(lower.get(SOURCE_HEADER, "").partition("?")[0]).removeprefix("/")
    if not policy.reads(source):
        detail = "the copy source lies outside what may be read"
        raise RefusedItem(403, "forbidden", detail)


def _imposed(operation: Operation, policy: Policy) -> dict[str, str]:
    """Return the headers that the policy adds, and judge the size by the way."""
    imposed = {}
    action = operation.action
    if policy.max_size is not None and action in _SIZED:
        length = operation.content_length or 0
        part = policy.max_part_size or policy.max_size
        before = part * ((operation.part_number or 1) - 1)
        if action is Action.UploadPart and length > part:
            raise RefusedItem(413, "too_large", f"a part may have {part} bytes")
        if before + length > policy.max_size:
            detail = f"an object may have {policy.max_size} bytes"
            if before:
                detail += f", and a part before the last counts as {part}"
            raise RefusedItem(413, "too_large", detail)
        imposed["Content-Length"] = str(length)
    demanded = {name.lower() for name in operation.headers}
    if not policy.overwrite and action in _WRITES and _LOCK_HEADER not in demanded:
        imposed[_LOCK_HEADER] = "true"
    return imposed
