"""Policies of the signer service: their permissions, and their TOML file."""

from __future__ import annotations

import base64
import difflib
import hashlib
import json
import logging
import math
import re
import time
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeAlias
from urllib.parse import quote, unquote

from attrs import evolve, field, frozen

from ...errors import ConfigurationError
from ...model import (
    ACLS,
    COPY_SOURCE,
    FORBID_OVERWRITE,
    MAX_SINGLE_PUT,
    OBJECT_ACL,
    REQUEST_PAYER,
    STORAGE_CLASS,
    STORAGE_CLASSES,
    STYLES,
    TRAFFIC_LIMIT,
    Action,
    HeaderKind,
    Operation,
    split_path,
)
from ...parsing import is_int
from ...signers.wire_protocol import MAX_TOKEN, is_bearer_token
from ...signing.endpoint import Endpoint, check_bucket
from ...signing.presigning import region_problem
from ...units import bytes_of, seconds_of, shown_bytes
from ..grants import GrantTerms

_log = logging.getLogger(__name__)

# Headers that a policy allows by default. The default excludes headers that lock or
# unlock an object or name a KMS key, and headers that OSS may add in the future.
_PLAIN_HEADERS = (
    *("content-type", "content-md5", "cache-control", "content-disposition"),
    *("content-encoding", "content-language", "expires"),
)
_USUAL_HEADERS = frozenset(
    (
        *(*_PLAIN_HEADERS, "x-oss-meta-*", "x-oss-tagging", "x-oss-tagging-directive"),
        *("x-oss-server-side-encryption", "x-oss-server-side-data-encryption"),
        *("x-oss-metadata-directive", STORAGE_CLASS, FORBID_OVERWRITE),
        *(TRAFFIC_LIMIT, REQUEST_PAYER),
    )
)
# These headers give others access to an object, or make it lead elsewhere. A policy
# must name them to permit them.
_CALLBACK = frozenset(("x-oss-callback", "x-oss-callback-var"))
_NAMED_ONLY = frozenset(("x-oss-acl", *_CALLBACK, "x-oss-symlink-target"))
# Calls by URL after which OSS can send a callback.
_NOTIFIED = (Action.PutObject, Action.CompleteMultipartUpload)
# Only the signer sets these parameters. As headers, they would conflict with the URL's.
_OF_SIGNATURES = (
    *("x-oss-date", "x-oss-expires", "x-oss-credential", "x-oss-security-token"),
    *("x-oss-signature", "x-oss-additional-headers", "x-oss-content-sha256"),
)


_MAX_NAMED = 6  # actions or prefixes that the text of a refusal lists


def _prefixes(value: Sequence[str]) -> tuple[str, ...]:
    bad = [f"the prefix {p!r} must be bucket/..." for p in value if "/" not in p]
    if bad:
        raise ConfigurationError(bad)
    return tuple(value)


@frozen(kw_only=True)
class Policy:
    """Permissions of one token: the requests that the service signs for its bearer."""

    name: str  # name for logs
    # ``bucket/`` or ``bucket/begin/of/key``. A path must begin with one of them.
    prefixes: tuple[str, ...] = field(converter=_prefixes)
    actions: Collection[Action]  # permitted calls
    max_expires_in: int = 3600  # seconds; a longer requested lifetime is shortened
    # Lower-case names of permitted headers; ``x-oss-meta-*`` permits all with this
    # prefix. None permits the default headers (docs/serve.md).
    headers: Collection[str] | None = None
    # Permitted values; None permits all.
    storage_classes: Collection[str] | None = None
    content_types: Sequence[str] | None = None
    acls: Collection[str] = ()
    # Like *prefixes*, for the sources of copies. None permits the objects that the
    # token may read by GetObject.
    copy_sources: tuple[str, ...] | None = None
    max_size: int | None = None  # bytes, in a signed Content-Length; None sets no limit
    # Maximum size of one part in bytes. Every part before the last counts as that
    # large, so the parts together do not exceed *max_size*. None permits one part.
    max_part_size: int | None = None
    overwrite: bool = True  # False signs writes with ``x-oss-forbid-overwrite: true``
    # URL that OSS calls after each new object, except after copies. None disables the
    # callback.
    callback: str | None = None
    # Maximum signatures per minute, counted by each process. None sets no limit.
    requests_per_minute: int | None = None
    # time when the token expires, seconds since the epoch
    expires_at: float | None = None
    # maximum number of names for which uploads are signed
    max_objects: int | None = None
    max_bytes: int | None = None  # maximum sum of bytes in all signed uploads

    @property
    def has_quota(self) -> bool:
        return self.max_objects is not None or self.max_bytes is not None

    def life(self, wish: int | None = None) -> int:
        """Return the lifetime of a signature in seconds; at most *wish*, unless it is None.

        ServiceError if the token expires within a second.
        """
        life = min(self.max_expires_in, wish or self.max_expires_in)
        if self.expires_at is not None:
            life = min(life, int(self.expires_at - time.time()))
        if life < 1:
            raise ServiceError("forbidden", "the token has expired")
        return life

    def is_outlived(self, expires_at: float | None) -> bool:
        """Return whether a signature that ends at *expires_at* outlives the token.

        The signer may have waited for its key since ``life`` was called.
        """
        return (expires_at or 0) > (self.expires_at or math.inf)

    def covers(self, path: str) -> bool:
        """Return whether *path* begins with a granted prefix, byte for byte."""
        return path.startswith(self.prefixes)

    def permissions(self) -> dict[str, Any]:
        """Return the permissions as a reply of the signer protocol."""
        reply: dict[str, Any] = {
            "prefixes": self.prefixes,
            "actions": sorted(self.actions),
            "overwrite": self.overwrite,
            "max_expires_in": self.max_expires_in,
            "max_size": self.max_size,
            "content_types": self.content_types,
        }
        if self.expires_at is not None:
            # The value is rounded up, because the call has taken a moment.
            reply["expires_in"] = max(0, math.ceil(self.expires_at - time.time()))
        return {name: value for name, value in reply.items() if value is not None}

    def reads(self, source: str) -> bool:
        """Return whether a copy may read the object *source*, ``bucket/key``."""
        if self.copy_sources is not None:
            return source.startswith(self.copy_sources)
        return Action.GetObject in self.actions and self.covers(source)


class ServiceError(Exception):
    """Refusal of one signing request: error code of the protocol, and a message."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def hash_token(token: str) -> str:
    """Return the SHA-256 of *token* in hexadecimal, the form in a policy file."""
    return hashlib.sha256(token.encode()).hexdigest()


def permitted(operation: Operation, policy: Policy) -> Operation:
    """Return *operation* with the headers and the lifetime that *policy* imposes.

    Optional headers that are not permitted are removed.

    Raises:
        ServiceError: the policy does not permit the operation.
    """
    action = operation.action
    if action not in policy.actions:
        detail = f"{action} is not granted: only {_some(sorted(policy.actions))}"
        raise ServiceError("action_not_granted", detail)
    if foreign := operation.query.keys() - action.spec.query:
        detail = f"{action} takes no parameter {min(foreign)[:40]!r}"
        raise ServiceError("invalid_request", detail)
    if "versionId" in operation.query:
        raise ServiceError("forbidden", "versions are not granted")
    if not policy.covers(operation.listed_path):
        detail = (
            f"the path is outside of the granted prefixes: {_some(policy.prefixes)}"
        )
        raise ServiceError("forbidden", detail)
    for name, value in operation.headers.items():
        if not _may_ask(name.lower(), value, action, policy):
            raise ServiceError("header_refused", f"the header {name!r} is refused")
    wished = {
        name: value
        for name, value in operation.optional_headers.items()
        if name.lower() != COPY_SOURCE and _may_ask(name.lower(), value, action, policy)
    }
    if action.spec.copies:
        _check_source(operation, policy)
    return evolve(
        operation,
        headers={**operation.headers, **_imposed(operation, policy)},
        optional_headers=wished,
        expires_in=policy.life(operation.expires_in),
    )


def _some(items: Sequence[str]) -> str:
    shown = ", ".join(items[:_MAX_NAMED])
    more = len(items) - _MAX_NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def _may_ask(name: str, value: str, action: Action, policy: Policy) -> bool:
    if name.startswith(_OF_SIGNATURES):
        return False
    if name == OBJECT_ACL:
        return value in policy.acls
    if name.startswith(COPY_SOURCE):
        return action.spec.copies
    if name == FORBID_OVERWRITE and (value == "true" or not policy.overwrite):
        return value == "true"
    if name == STORAGE_CLASS and policy.storage_classes is not None:
        return value in policy.storage_classes
    if name == "content-type" and policy.content_types is not None:
        return value in policy.content_types
    allowed = _USUAL_HEADERS if policy.headers is None else policy.headers
    if name in _NAMED_ONLY:
        return name in allowed
    begins = tuple(n[:-1] for n in allowed if n.endswith("*"))
    return name in allowed or name.startswith(begins)


def _check_source(operation: Operation, policy: Policy) -> None:
    lower = {name.lower(): value for name, value in operation.headers.items()}
    if not (source := lower.get(COPY_SOURCE)):
        # Without the header, the URL would permit an upload of any size.
        detail = f"{operation.action} needs the header {COPY_SOURCE}"
        raise ServiceError("invalid_request", detail)
    path, _, version = source.partition("?")
    if not policy.reads(unquote(path).removeprefix("/")):
        raise ServiceError(
            "forbidden", "the copy source is outside of the readable prefixes"
        )
    if version:
        raise ServiceError("forbidden", "versions are not granted")


def _imposed(operation: Operation, policy: Policy) -> dict[str, str]:
    imposed = {}
    action = operation.action
    # The policy of a form limits the size by itself.
    is_limited = action.spec.body == "data" and not action.spec.form
    is_counted = policy.max_size is not None or policy.max_bytes is not None
    if is_counted and is_limited:
        length = operation.content_length
        if length is None:
            detail = "the policy limits sizes: this needs the size of the body"
            raise ServiceError("too_large", detail)
        imposed["Content-Length"] = str(length)
    else:
        length = 0
    if policy.max_size is not None and is_limited:
        part = policy.max_part_size or policy.max_size
        before = part * ((operation.part_number or 1) - 1)
        if action.spec.part_number and length > part:
            detail = f"a part may have {shown_bytes(part)}: set part_size={part}"
            raise ServiceError("too_large", detail)
        if before + length > policy.max_size:
            detail = f"an object may have {shown_bytes(policy.max_size)}"
            if before:
                detail += f", and a part before the last counts as {shown_bytes(part)}"
            raise ServiceError("too_large", detail)
    if policy.callback and action in _NOTIFIED:
        imposed["x-oss-callback"] = callback_of(policy)
    demanded = {name.lower() for name in operation.headers}
    locks = HeaderKind.LOCK in action.spec.headers
    if not policy.overwrite and locks and FORBID_OVERWRITE not in demanded:
        imposed[FORBID_OVERWRITE] = "true"
    return imposed


def callback_of(policy: Policy) -> str:
    """Return the callback value that lets OSS notify the owner of each new object.

    The body of the callback is a form. It has a field for each fact that OSS offers
    (API reference, "Callback"), and ``token`` with the name of *policy*.
    """
    facts = ("bucket", "object", "size", "etag", "crc64", "mimeType")
    body = "&".join(f"{name}=${{{name}}}" for name in facts)
    asked = {
        "callbackUrl": policy.callback,
        "callbackBody": f"{body}&token={quote(policy.name, safe='')}",
        # without this, a server with several names may present a wrong certificate
        "callbackSNI": True,
    }
    return base64.b64encode(json.dumps(asked).encode()).decode()


def place_in(policy: Policy, wish: Mapping[str, str]) -> str:
    """Return the ``bucket/prefix`` in the parameters ``bucket`` and ``dir`` of *wish*.

    A missing parameter defaults to the policy's value, if it has only one.

    Raises:
        ServiceError: *policy* does not grant this place, or a parameter is missing.
    """
    bucket, folder = wish.get("bucket"), wish.get("dir")
    places = {path for path in policy.prefixes if bucket in (None, split_path(path)[0])}
    if folder is not None:
        if folder and not folder.endswith("/"):
            folder += "/"
        buckets = {split_path(path)[0] for path in places}
        places = {f"{name}/{folder}" for name in buckets}
        places = {path for path in places if policy.covers(path)}
    if not places:
        detail = f"bucket or dir is outside of the granted prefixes: {_some(policy.prefixes)}"
        raise ServiceError("forbidden", detail)
    if len(places) > 1:
        raise ServiceError("invalid_request", "say which: ?bucket=...&dir=...")
    return places.pop()


def object_path(policy: Policy, wish: Mapping[str, str], key: str) -> str:
    """Return ``bucket/key``, with *key* below the place that :func:`place_in` returns.

    A *key* that already begins with the prefix of this place is not changed.
    """
    place = place_in(policy, wish)
    path = f"{split_path(place)[0]}/{key}"
    return path if path.startswith(place) else place + key


def terms_of(policy: Policy, path: str) -> GrantTerms:
    """Return the terms of a grant with the permissions of *policy* below *path*."""
    bucket, prefix = split_path(path)
    max_size = min(policy.max_size or MAX_SINGLE_PUT, MAX_SINGLE_PUT)
    classes = policy.storage_classes
    # Clients must send each field that a policy names, and the sample's clients do not.
    # So the policy fixes the ACL only if the owner lists some. It takes the first one
    # by name, which is also the most restrictive. The last storage class by name is
    # Standard.
    return GrantTerms(
        bucket=bucket,
        prefix=prefix,
        expires_in=policy.life(),
        sizes=(0, max_size),
        overwrite=policy.overwrite,
        acl=min(policy.acls, default=None),
        content_types=policy.content_types or (),
        fields={
            **({STORAGE_CLASS: max(classes)} if classes else {}),
            **({"callback": callback_of(policy)} if policy.callback else {}),
        },
    )


ENVIRONMENT = "environment"
PROVIDERS = (ENVIRONMENT, "alibabacloud")
_HASH = re.compile(r"[0-9a-fA-F]{64}")
_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+(; ?[ -~]+)?")
_URL = re.compile(r"https?://[!-:<-~]{1,1000}")  # a semicolon would begin another URL
_HEADER = re.compile(r"[!#$%&'+.^_`|~0-9a-z-]+\*?")
_MIN_TOKEN = 16  # characters; a shorter token could be guessed from its hash
_MAX_SHOWN = 40
_MAX_COUNT = 1_000_000_000


@frozen(kw_only=True)
class SignerSettings:
    """Settings of the key signer in a policy file; None uses the environment."""

    region: str | None = None
    endpoint: str | None = None  # host or URL of the endpoint
    style: str | None = None
    credentials: str = ENVIRONMENT

    def problem(self, tokens: Iterable[Policy]) -> str | None:
        """Return why the signer cannot sign for *tokens*; None if it can."""
        buckets = {split_path(path)[0] for policy in tokens for path in policy.prefixes}
        if self.style == "cname" and len(buckets) > 1:
            named = ", ".join(sorted(buckets))
            return f"signer.style cname is the domain of one bucket, not of {named}"
        return None


@frozen(kw_only=True)
class Policies:
    """Content of a policy file; *tokens* maps SHA-256 hashes of tokens to policies."""

    signer: SignerSettings
    tokens: Mapping[str, Policy] = field(repr=False)


def token_problem(token: str) -> str | None:
    """Return why *token* is not a valid bearer token; None if it is."""
    if len(token) < _MIN_TOKEN:
        return f"has less than {_MIN_TOKEN} characters: make one with openssl rand"
    if len(token) > MAX_TOKEN or not is_bearer_token(token):
        return "is not what RFC 6750 allows: letters, digits and ._~+/- in one line"
    return None


def added_tokens(entries: Iterable[Mapping[str, Any]]) -> dict[str, Policy]:
    """Return the policies of tokens that ``serve token add`` made, as *entries*.

    Raises:
        ConfigurationError: an entry is invalid.
    """
    problems: list[str] = []
    tokens = dict(_policy(entry, "", problems) for entry in entries)
    if problems:
        raise ConfigurationError(problems)
    return tokens


def parse_policies(text: str) -> Policies:
    """Return the policies in the TOML *text* of a policy file.

    Raises:
        ConfigurationError: the message lists every mistake with its position, such as
            ``token 'lab': actions[0]``.
    """
    try:
        document = tomllib.loads(text)
    except RecursionError:
        msg = "the policy is not TOML that can be read: it is nested too deeply"
        raise ConfigurationError(msg) from None
    except ValueError as error:
        raise ConfigurationError(f"the policy is not TOML: {error}") from None
    problems: list[str] = []
    top = _read(document, _FILE, "", problems)
    signer = SignerSettings(
        **_read(top.get("signer", {}), _SIGNER, "signer.", problems)
    )
    tokens: dict[str, Policy] = {}
    for index, entry in enumerate(top.get("tokens", ())):
        place = f"tokens[{index}]."
        digest, policy = _policy(entry, place, problems)
        if digest and digest in tokens:
            problems.append(
                f"{place}sha256 is also the hash of {tokens[digest].name!r}"
            )
        if policy.name and policy.name in {known.name for known in tokens.values()}:
            problems.append(f"{place}name {policy.name!r} is the name of another token")
        tokens[digest] = policy
    if problem := signer.problem(tokens.values()):
        problems.append(problem)
    if problems:
        raise ConfigurationError(problems)
    return Policies(signer=signer, tokens=tokens)


class _MemberError(Exception):
    """Raised for an invalid value in the policy file; its ``args`` are the mistakes."""


Read: TypeAlias = Callable[[Any], Any]


def _read(
    table: Mapping[str, Any], keys: Mapping[str, Read], place: str, problems: list[str]
) -> dict[str, Any]:
    """Return the valid values of *table*; add each mistake to *problems*.

    *keys* are the known keys, with the function that checks and converts the value.
    """
    values = {}
    for name, value in table.items():
        if name not in keys:
            near = difflib.get_close_matches(name, keys, 1)
            hint = f": did you mean {near[0]}?" if near else ""
            problems.append(f"{place}{name[:_MAX_SHOWN]} is not known{hint}")
            continue
        try:
            values[name] = keys[name](value)
        except _MemberError as error:
            problems += (f"{place}{name}{mistake}" for mistake in error.args)
    return values


def _policy(
    entry: Mapping[str, Any], place: str, problems: list[str]
) -> tuple[str, Policy]:
    """Return hash and policy of the token *entry*; add each mistake to *problems*."""
    with suppress(_MemberError):
        place = f"token {_name(entry.get('name'))[:_MAX_SHOWN]!r}: "
    problems += (f"{place}{name} is missing" for name in _REQUIRED if name not in entry)
    values = _read(entry, _KEYS, place, problems)
    digest = values.pop("sha256", "")
    buckets, prefixes = values.pop("buckets", ()), values.pop("prefixes", ())
    values = {_FIELDS.get(name, name): value for name, value in values.items()}
    policy = Policy(
        prefixes=[f"{bucket}/{prefix}" for bucket in buckets for prefix in prefixes],
        **{"name": "", "actions": (), **values},
    )
    for prefix in prefixes:
        if prefix and not prefix.endswith("/"):
            text = "prefix %r of token %r has no slash at its end: it grants %r, too"
            _log.warning(text, prefix, policy.name, f"{prefix}-other/")
    problems += (f"{place}{text}" for is_so, text in _CONFLICTS if is_so(policy))
    return digest, policy


def _copies(policy: Policy) -> bool:
    return any(action.spec.copies for action in policy.actions)


# Contradictions in a policy, with their messages.
_CONFLICTS: tuple[tuple[Callable[[Policy], object], str], ...] = (
    (
        lambda p: p.callback and _CALLBACK.intersection(p.headers or ()),
        "callback cannot be kept: headers let the bearer name another",
    ),
    (
        lambda p: p.has_quota and Action.PostObject in p.actions,
        "actions: PostObject cannot be counted by max_objects and max_bytes",
    ),
    (
        lambda p: p.max_bytes and _copies(p),
        "max_bytes cannot be kept by copies: their size is unsigned",
    ),
    (
        lambda p: p.max_size and _copies(p),
        "max_size cannot be kept by copies: their size is unsigned",
    ),
    (
        lambda p: p.max_size and not p.max_part_size and Action.UploadPart in p.actions,
        "max_part_size is missing: max_size and UploadPart need it",
    ),
)


def _valid(test: Callable[[Any], object], what: str) -> Read:
    def converter(value: Any) -> Any:
        if not test(value):
            raise _MemberError(f" must be {what}")
        return value

    return converter


def _one_of(known: Sequence[str]) -> Read:
    return _valid(known.__contains__, f"one of {', '.join(known)}")


def _each(convert: Read, minimum: int = 1) -> Read:
    def converter(values: Any) -> tuple[Any, ...]:
        items, mistakes = [], []
        for index, value in enumerate(_list(values)):
            try:
                items.append(convert(value))
            except _MemberError as error:
                mistakes += [f"[{index}]{text}" for text in error.args]
        if len(values) < minimum:
            mistakes.append(" must not be empty")
        if mistakes:
            raise _MemberError(*mistakes)
        return tuple(items)

    return converter


def _without(problem: Callable[[str], str | None]) -> Read:
    def converter(value: Any) -> str:
        if found := problem(_text(value)):
            raise _MemberError(f" is wrong: {found}")
        return str(value)

    return converter


_text = _valid(lambda v: isinstance(v, str), "a string")
_flag = _valid(lambda v: isinstance(v, bool), "true or false")
_list = _valid(lambda v: isinstance(v, list), "a list")
_table = _valid(lambda v: isinstance(v, dict), "a table")
_name = _valid(
    lambda v: isinstance(v, str) and v.isprintable() and v.strip(),
    "a string that can be printed",
)
_type = _valid(
    lambda v: isinstance(v, str) and _TYPE.fullmatch(v), "a type such as image/png"
)
_url = _valid(
    lambda v: isinstance(v, str) and _URL.fullmatch(v),
    "one URL, percent-encoded, such as https://example.com/uploaded",
)
_count = _valid(
    lambda v: is_int(v) and 1 <= v <= _MAX_COUNT,
    f"a whole number from 1 to {_MAX_COUNT}",
)
_bucket = _without(check_bucket)


def _life(value: Any) -> int:
    try:
        return seconds_of(f"{value}s" if is_int(value) else _text(value))
    except ValueError:
        raise _MemberError(' must be seconds, or "15m", "2h", at most "7d"') from None


def _size(value: Any) -> int:
    try:
        size = bytes_of(str(value) if is_int(value) else _text(value))
    except ValueError:
        size = 0
    if size < 1:
        raise _MemberError(' must be bytes above 0, or "8MiB", "5GiB"')
    return size


def _moment(value: Any) -> float:
    with suppress(ValueError):
        value = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise _MemberError(
            " must be a time with its zone, such as 2026-12-31T18:00:00Z"
        )
    return value.timestamp()


def _hash(value: Any) -> str:
    # The value may be a token by mistake, so it is never shown.
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise _MemberError(" must be 64 hex digits: osspresigned serve --hash-token")
    if value.lower() == hash_token(""):
        raise _MemberError(" is the hash of nothing")
    return value.lower()


def _endpoint(value: Any) -> str:
    try:
        Endpoint.parse(_text(value))
    except ConfigurationError as error:
        raise _MemberError(*(f" is wrong: {text}" for text in error.problems)) from None
    return str(value)


def _prefix(value: Any) -> str:
    if _text(value)[:1] in ("/", "\\"):
        raise _MemberError(' must not begin with a slash; "" is the whole bucket')
    return str(value)


def _source(value: Any) -> str:
    bucket, slash, prefix = _text(value).partition("/")
    if not slash:
        raise _MemberError(" must be bucket/ or bucket/begin/of/key")
    return f"{_bucket(bucket)}/{_prefix(prefix)}"


def _action(value: Any) -> Action:
    try:
        return Action(_text(value))
    except ValueError:
        near = difflib.get_close_matches(value, list(Action), 1)
        hint = f": did you mean {near[0]}?" if near else f": use {', '.join(Action)}"
        raise _MemberError(f" is not an action{hint}") from None


def _header(value: Any) -> str:
    name: str = _text(value).lower()
    if name.endswith("-acl"):
        raise _MemberError(" is granted by acls")
    if name.startswith(COPY_SOURCE):
        raise _MemberError(" is set by copy actions; copy_sources limits it")
    if name not in _PLAIN_HEADERS and not (
        name.startswith("x-oss-") and _HEADER.fullmatch(name)
    ):
        known = ", ".join(sorted(_PLAIN_HEADERS))
        raise _MemberError(f" must be x-oss-..., or one of {known}")
    return name


# Keys of the policy file, with the function that checks and converts each value.
_FILE = {"signer": _table, "tokens": _each(_table, 0)}
_SIGNER = {
    "region": _without(region_problem),
    "endpoint": _endpoint,
    "style": _one_of(STYLES),
    "credentials": _one_of(PROVIDERS),
}
_REQUIRED = ("name", "sha256", "buckets", "prefixes", "actions")
_KEYS = {
    "name": _name,
    "sha256": _hash,
    "buckets": _each(_bucket),
    "prefixes": _each(_prefix),
    "actions": _each(_action),
    "max_expires": _life,
    "max_size": _size,
    "max_part_size": _size,
    "storage_classes": _each(_one_of(STORAGE_CLASSES)),
    "headers": _each(_header, 0),
    "content_types": _each(_type),
    "acls": _each(_one_of(ACLS)),
    "copy_sources": _each(_source),
    "overwrite": _flag,
    "callback": _url,
    "requests_per_minute": _count,
    "expires": _moment,
    "max_objects": _count,
    "max_bytes": _size,
}
_FIELDS = {"max_expires": "max_expires_in", "expires": "expires_at"}
