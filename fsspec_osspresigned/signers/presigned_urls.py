"""Signers for URLs that were presigned: a URL map, or a single URL."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from attrs import define, evolve, field

from ..errors import ConfigurationError, NotCoveredError, WrongRequestSignedError
from ..model import FORBID_OVERWRITE, MIN_PART, Action, Operation, SignedRequest
from ..other_stores import S3_MIN_PART
from ..secret import Secret, SecretURL, resolve_text
from ..signing.canonical import parse_query
from ..signing.signed_url import damage, describe
from ..units import shown_moment
from ..url_checks import (
    http_problem,
    is_web,
    object_of,
    own_header_problem,
    url_problem,
    with_plus,
)
from ..url_map.source import MapSource, kind_of, load, mistaken, warn_if_exposed
from ..url_map.url_file import headers_in, split_url_file
from ..url_map.url_map import MapEntry, MapRequest
from .base import Grant, MultipartGrant, Signer
from .s3_checksums import CHECKSUMS

# Actions that begin an upload. None means that only the grant is requested.
_UPLOADING = {None, Action.PutObject, Action.InitiateMultipartUpload}
# A page size may be ignored. Every other parameter would change the meaning of the URL.
_HARMLESS_QUERY = {"max-parts"}
# Header -> its name in messages, with the option that sets it.
_OF_OPTIONS = {FORBID_OVERWRITE: f"{FORBID_OVERWRITE} (of overwrite=False)"}
# Parameters that decide what a listing shows. They must equal the signed ones.
_SHOWN = ("prefix", "delimiter", "start-after", "continuation-token")
_PAGING = {"max-keys", "encoding-type"}
# Every HTTP request has these headers.
_SENT_ANYWAY = {"host", "content-length"}


@define(eq=False, repr=False, kw_only=True)
class _PresignedSigner(Signer, ABC):
    """Base class of signers that return requests from entries of a URL map."""

    waits = False
    allow_http: bool = False
    # True: the URLs come from this machine, so they may lead to this machine
    is_local: bool = True
    clock: Callable[[], float] = time.time

    @abstractmethod
    def _entry(self, path: str, action: Action | None = None) -> MapEntry:
        """Return the map entry of *path*; raises NotCoveredError if there is none."""

    def sign(self, operations: Sequence[Operation]) -> Sequence[SignedRequest]:
        return [self._request(operation) for operation in operations]

    def _request(self, operation: Operation) -> SignedRequest:
        return request_of(
            self._entry(operation.listed_path, operation.action),
            operation,
            now=self.clock(),
            allow_http=self.allow_http,
            local=self.is_local,
        )

    def grant(self, path: str) -> Grant:
        return grant_of(self._entry(path), path)

    def preflight(self, operation: Operation) -> None:
        self.sign([operation])


@define(eq=False, repr=False)
class URLMapSigner(_PresignedSigner):
    """Signer that returns the presigned requests of a URL map."""

    source: MapSource  # source of the map; each call checks whether it has changed
    # True permits a URL for another object than the path in the map.
    allow_path_mismatch: bool = field(default=True, kw_only=True)
    # Number of unknown paths for which similar keys are searched. The search takes
    # time. If another signer follows the map, most paths are not in the map.
    guesses: int = field(default=1000, kw_only=True)

    @property
    def waits(self) -> bool:  # type: ignore[override]  # the value depends on the file
        return self.source.has_changed

    def _request(self, operation: Operation) -> SignedRequest:
        signed = super()._request(operation)
        if self.allow_path_mismatch or _names(signed.url, operation):
            return signed
        # OSS reads a plus in the path as a blank.
        literal = SecretURL(with_plus(signed.url.reveal()))
        if _names(literal, operation):
            return evolve(signed, url=literal)
        raise WrongRequestSignedError(
            f"the URL that the map has for {operation} names another object: "
            f"{signed.url.shown()}; if that is right, give allow_path_mismatch=True",
            path=operation.path,
            action=operation.action,
        )

    def _entry(self, path: str, action: Action | None = None) -> MapEntry:
        url_map = self.source.current()
        if (entry := url_map.get(path)) is not None:
            return entry
        nearest: tuple[str, ...] = ()
        if action in _UPLOADING and self.guesses > 0:
            self.guesses -= 1
            nearest = url_map.nearest(path)
        hint = f"; nearest: {', '.join(nearest)}" if nearest else ""
        msg = f"the URL map has no entry for {path!r}{hint}"
        raise NotCoveredError(msg, path=path, action=action, nearest=nearest)


@lru_cache(maxsize=16)
def _one_object(text: Secret) -> tuple[MapEntry, str | None, str]:
    """Return the map entry, bucket (None if unknown) and key for a presigned URL."""
    line, lines = split_url_file(text.reveal())
    url = SecretURL(line)
    headers = headers_in(lines) if is_web(line) else None
    if problem := url_problem(line):
        if (kind := kind_of(text.reveal().encode())) not in ("", "presigned URL"):
            raise ConfigurationError(f"presigned_url= is wrong: {mistaken(kind)}")
        msg = (
            f"the text of presigned_url= {problem}: give the URL as it was made, or "
            "where it is (file:PATH, env:NAME)"
        )
        if os.path.isfile(url.reveal()):
            msg = "presigned_url= is the name of a file: write file: before it"
        raise ConfigurationError(msg)
    shown = url.shown()
    try:
        bucket, key = object_of(url.reveal())
    except ValueError:
        raise ConfigurationError(f"the path of {shown} is not UTF-8") from None
    if not key:
        raise ConfigurationError(
            f"{shown} names no object: ask for a URL for PutObject"
        )
    if describe(url).upload_id is not None:
        msg = f"{shown} is for one step of a multipart upload: use url_map="
        raise ConfigurationError(msg)
    if problem := damage(url):
        # There is no colon after "signature", because the text after it would be hidden
        # like a value.
        msg = (
            f"{shown} {problem}; it was cut off or changed: copy the whole URL again, "
            "and quote it in a shell"
        )
        raise ConfigurationError(msg)
    request = MapRequest(url=url, headers=headers)
    return MapEntry(put=request), bucket, key


def _name(bucket: str | None, key: str) -> str:
    return key if bucket is None else f"{bucket}/{key}"


def _is_named(path: str, bucket: str | None, key: str) -> bool:
    """Return whether *path* is the object; *bucket* None compares only the key."""
    is_key = bucket is None and path.partition("/")[2] == key
    return is_key or path == _name(bucket, key)


@define(eq=False, repr=False)
class OneURLSigner(_PresignedSigner):
    """Signer that returns a single presigned URL for its object.

    The path must be empty, or the path of the object. So two different files are never
    stored as one object.
    """

    # returns the URL; is called each time, so the URL can be renewed
    read: Callable[[], Secret]
    waits: bool = field(default=False, kw_only=True)  # True if *read* reads a file

    def __attrs_post_init__(self) -> None:
        _one_object(self.read())

    @property
    def path(self) -> str:
        """``bucket/key`` of the URL's object; only the key if the bucket is unknown."""
        return _name(*_one_object(self.read())[1:])

    def _entry(self, path: str, action: Action | None = None) -> MapEntry:  # noqa: ARG002 - the URL has its own action
        text = self.read()
        entry, bucket, key = _one_object(text)
        if not path or _is_named(path, bucket, key):
            return entry
        own = _name(bucket, key)
        # OSS reads a plus in the URL's path as a blank.
        entry, bucket, key = _one_object(Secret(with_plus(text.reveal())))
        if _is_named(path, bucket, key):
            return entry
        msg = (
            f"the presigned URL is only for {own!r}, not for {path!r}: leave the path "
            "empty, or ask for a URL of that object. Several objects (a dask dataset) "
            "need a URL map, a grant or a signer"
        )
        raise NotCoveredError(msg, path=path, nearest=(own,))


def one_url_signer(options: Any, *_: object) -> OneURLSigner:
    """Return the signer for ``presigned_url``; it reads ``file:PATH`` at each call."""
    url = options.presigned_url
    if isinstance(url, Secret):
        return OneURLSigner(lambda: url, allow_http=options.allow_http)
    from_file = url.startswith("file:")
    if from_file:
        path = Path(os.path.expanduser(url.removeprefix("file:")))
        with suppress(OSError):  # ``read`` raises a better error
            warn_if_exposed(path, "presigned URL")
    return OneURLSigner(
        lambda: resolve_text(url), allow_http=options.allow_http, waits=from_file
    )


def url_map_signer(options: Any, opener: Callable[[str], bytes]) -> URLMapSigner:
    source = load(options.url_map, opener, allow_http=options.allow_http)
    return URLMapSigner(
        source,
        is_local=source.local,
        allow_http=options.allow_http,
        allow_path_mismatch=options.allow_path_mismatch,
    )


def _names(url: SecretURL, operation: Operation) -> bool:
    try:
        bucket, key = object_of(url.reveal())
    except ValueError:  # the path is not UTF-8
        return False
    if bucket is None:
        # the host belongs to one bucket, or the path begins with the bucket
        return key in (operation.key, operation.path)
    return (bucket, key) == (operation.bucket, operation.key)


def grant_of(entry: MapEntry, path: str) -> Grant:
    """Return how an object may be uploaded with the URLs of *entry*.

    Raises NotCoveredError if the entry has no URL for an upload.
    """
    multipart = _multipart(entry)
    if entry.put is None and multipart is None:
        what = "only URLs for reading"
        if entry.parts:
            what = 'part URLs but no "complete": add it, or "external" if the owner does it'
        msg = f"nothing can be uploaded to {path!r}: its entry has {what}"
        raise NotCoveredError(msg, path=path)
    requests = [entry.put, *((*entry.parts, entry.complete) if multipart else ())]
    ends = (expiry(r, entry) for r in requests if isinstance(r, MapRequest))
    return Grant(
        single=entry.put is not None,
        multipart=multipart,
        expires_at=min((end for end in ends if end is not None), default=None),
    )


def _multipart(entry: MapEntry) -> MultipartGrant | None:
    complete = entry.complete
    if not entry.parts or complete is None:
        return None
    return MultipartGrant(
        upload_id=entry.upload_id,
        part_size=entry.part_size,
        min_part=S3_MIN_PART if describe(entry.parts[0].url).is_s3 else MIN_PART,
        max_parts=len(entry.parts),
        completes=isinstance(complete, MapRequest),
        complete_all=isinstance(complete, MapRequest) and _takes_all(complete),
        complete_all_proven=entry.list is not None,
    )


def _lower(headers: Mapping[str, str] | None) -> dict[str, str]:
    return {name.lower(): value for name, value in (headers or {}).items()}


def _takes_all(complete: MapRequest) -> bool:
    return _lower(complete.headers).get("x-oss-complete-all") == "yes"


def complete_problem(complete: MapRequest) -> str | None:
    """Return why the Complete request of a map cannot succeed; None if it can.

    Some SDKs sign the Content-MD5 of an empty body, but a Complete has a part list.
    """
    if "content-md5" not in _lower(complete.headers) or _takes_all(complete):
        return None
    return (
        "was signed with a Content-MD5, which cannot match the list of parts: sign it without "
        'or with x-oss-complete-all: yes, or give "external" if the owner does it'
    )


def expiry(request: MapRequest, entry: MapEntry) -> float | None:
    """Return the expiry time of *request* in seconds since the epoch; None if unknown.

    The time of the request precedes the time of its entry, which precedes the time in
    the URL.
    """
    ends = (request.expires_at, entry.expires_at, describe(request.url).expires_at)
    return next((end for end in ends if end is not None), None)


def request_of(
    entry: MapEntry, operation: Operation, *, now: float, allow_http: bool, local: bool
) -> SignedRequest:
    """Return the request of *entry* for *operation*.

    Raises:
        NotCoveredError: the entry has no such request, or its URL has expired, or its
            headers or parameters conflict with *operation*.
        ConfigurationError: the URL is plain http, which is not permitted.
    """
    request = _find(entry, operation)
    url = request.url
    if request is entry.complete and (problem := complete_problem(request)):
        raise _refused(operation, f"its URL {problem}")
    if problem := http_problem(url.reveal(), allow_http=allow_http, local=local):
        raise ConfigurationError(
            f"the URL {url.shown()} {problem}", path=operation.path
        )
    extra = operation.query.keys() - _HARMLESS_QUERY
    if operation.action is Action.ListObjectsV2:
        _check_listing(request, operation)
        extra -= {*_SHOWN, *_PAGING}
    if extra:
        names = ", ".join(sorted(extra))
        raise _refused(operation, f"{names} cannot be added to a presigned URL")
    expires_at = expiry(request, entry)
    if expires_at is not None and expires_at <= now:
        ended = shown_moment(expires_at)
        why = f"its URL expired at {ended}: ask the owner for a new one"
        raise _refused(operation, why)
    return SignedRequest(
        method=operation.action.method,
        url=url,
        headers=_headers(request, operation),
        issued_at=now,
        expires_at=expires_at,
    )


def _check_listing(request: MapRequest, operation: Operation) -> None:
    if "continuation-token" in operation.query:
        why = "its URL shows the first page only: ask the owner for shorter listings"
        raise _refused(operation, why)
    query = parse_query(urlsplit(request.url.reveal()).query)
    signed = {name: value for name, value in query if name in _SHOWN}
    del query  # the query contains the signature, and tracebacks may show variables
    for name in _SHOWN:
        if signed.get(name, "") != operation.query.get(name, ""):
            why = f"its URL lists with another {name} than this call needs"
            raise _refused(operation, why)


def _refused(operation: Operation, why: str) -> NotCoveredError:
    # The refusal is never final, because another entry of the map may permit the
    # request.
    msg = f"{operation}: {why}"
    return NotCoveredError(msg, path=operation.path, action=operation.action)


def _find(entry: MapEntry, operation: Operation) -> MapRequest:
    upload_id = operation.upload_id
    if upload_id is not None and upload_id != entry.upload_id:
        raise _refused(operation, "the map's URLs belong to another upload")
    if operation.action is Action.UploadPart:
        number = operation.part_number or 0
        if 1 <= number <= len(entry.parts):
            return entry.parts[number - 1]
        why = f"part {number} is not among its {len(entry.parts)} part URLs"
        raise _refused(operation, why)
    request = getattr(entry, operation.action.spec.slot or "", None)
    if not isinstance(request, MapRequest):
        raise _refused(operation, "no URL for it was provided")
    return request


def _headers(request: MapRequest, operation: Operation) -> Mapping[str, str]:
    """Return the headers to send, from the map or from *operation*."""
    required = operation.headers
    sent = required if request.headers is None else request.headers
    signed = _lower(sent)
    conflicts = [n for n, v in required.items() if signed.get(n.lower()) != v.strip()]
    if conflicts:
        names = [_OF_OPTIONS.get(n.lower(), n) for n in conflicts]
        why = f"the header {', '.join(names)} is not signed with that value"
        remedy = "leave it out, or ask the owner for a URL that is signed with it"
        raise _refused(operation, f"{why}: {remedy}")
    additional = describe(request.url).additional_headers
    # The client itself adds the checksums that it can compute.
    known = _SENT_ANYWAY.union(
        CHECKSUMS if operation.action.spec.body == "data" else ()
    )
    if lacking := sorted(set(additional) - signed.keys() - known):
        why = f"its URL was signed with the header {', '.join(lacking)}, which is not given"
        remedy = "name it in the map, or give it with headers="
        raise _refused(operation, f"{why}: {remedy}")
    # Until the body of a PUT is known, its length is unknown, too.
    unknown = operation.content_length is None and operation.action.method == "PUT"
    later = {"content-length"} if unknown else set()
    checked = {n: v for n, v in sent.items() if n.lower() not in later}
    length = operation.content_length
    problem = own_header_problem(checked, request.url.reveal(), additional, length)
    if problem:
        raise _refused(operation, problem)
    return sent
