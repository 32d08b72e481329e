"""Signs from a URL map: the owner has signed everything beforehand."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from attrs import frozen

from ..errors import ConfigurationError, NotSignedError
from ..model import Action, Operation, SignedRequest
from ..secret import Secret, SecretURL, resolve_text
from ..signing.canonical import parse_query
from ..signing.signed_url import describe
from ..url_map.model import MapEntry, MapRequest, URLMap
from ..url_map.source import MapSource, load
from ..urls import http_problem, object_of, own_header_problem, url_problem
from .base import Grant, MultipartGrant

# What stands for an upload, and not for a look at what is there.
_UPLOADING = {None, Action.PutObject, Action.InitiateMultipartUpload}
_MAX_GUESSES = 1000
# A page size is a wish; every other parameter would change what the URL means.
_HARMLESS_QUERY = {"max-parts"}
# What a listing shows, beside its page: the URL must have been signed for just that.
_SHOWN = ("prefix", "delimiter", "start-after", "continuation-token")
_PAGING = {"max-keys", "encoding-type"}
# Every HTTP request has them, whoever gives them.
_SENT_ANYWAY = {"host", "content-length"}


class URLMapSigner:
    """Hands out what stands in a URL map.

    Args:
        source: the map at its place.
        allow_http: plain http may leave this machine.
        clock: seconds since the epoch.
    """

    remote = False

    def __init__(
        self,
        source: MapSource,
        *,
        allow_http: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keep the source; the map is looked up anew for each call."""
        self._source = source
        self._allow_http = allow_http
        self._clock = clock
        self._guesses = 0

    def sign(self, operations: Sequence[Operation]) -> Sequence[SignedRequest]:
        """Return the map's requests for *operations*.

        Raises:
            NotSignedError: one is not in the map, has expired, or conflicts with the
                headers that were signed.
            ConfigurationError: a URL is plain http and must not be.
        """
        return [
            request_of(
                self._entry(operation.listed_path, operation.action),
                operation,
                now=self._clock(),
                allow_http=self._allow_http,
                local=self._source.local,
            )
            for operation in operations
        ]

    def grant(self, path: str) -> Grant:
        """Return how the map lets *path* be uploaded.

        Raises:
            NotSignedError: it has no entry, or one by which nothing can be uploaded.
        """
        return grant_of(self._entry(path, None), path)

    def preflight(self, operation: Operation) -> None:
        """Raise what ``sign`` would raise; the body's length need not be known."""
        self.sign([operation])

    def _entry(self, path: str, action: Action | None) -> MapEntry:
        url_map = self._source.current()
        entry = url_map.get(path)
        if entry is not None:
            return entry
        nearest = self._guess(url_map, path) if action in _UPLOADING else ()
        msg = f"the URL map has no entry for {path!r}"
        if nearest:
            msg += f"; nearest: {', '.join(nearest)}"
        raise NotSignedError(msg, path=path, action=action, nearest=nearest)

    def _guess(self, url_map: URLMap, path: str) -> tuple[str, ...]:
        """Return what *path* may have meant, a thousand times: each takes a while.

        Where another signer is asked next, it is no typo that most paths are not here.
        """
        self._guesses += 1
        return url_map.nearest(path) if self._guesses <= _MAX_GUESSES else ()


def grant_of(entry: MapEntry, path: str) -> Grant:
    """Return how *entry* lets its object be uploaded.

    Raises:
        NotSignedError: by nothing in it.
    """
    multipart = _multipart(entry)
    if entry.put is None and multipart is None:
        what = "only URLs for reading"
        if entry.parts:
            what = (
                'part URLs but no "complete": add it, or "external" if the owner '
                "completes the upload"
            )
        msg = f"nothing can be uploaded to {path!r}: its entry has {what}"
        raise NotSignedError(msg, path=path)
    requests = [entry.put] if entry.put else []
    if multipart is not None:
        requests += entry.parts
        if isinstance(entry.complete, MapRequest):
            requests.append(entry.complete)
    ends = (expiry(request, entry) for request in requests)
    return Grant(
        single=entry.put is not None,
        multipart=multipart,
        expires_at=min((end for end in ends if end is not None), default=None),
    )


def _multipart(entry: MapEntry) -> MultipartGrant | None:
    if not entry.parts or entry.complete is None:
        return None
    headers: Mapping[str, str] = {}
    if isinstance(entry.complete, MapRequest):
        headers = entry.complete.headers or {}
    lower = {name.lower(): value for name, value in headers.items()}
    return MultipartGrant(
        upload_id=entry.upload_id,
        part_size=entry.part_size,
        max_parts=len(entry.parts),
        completes=isinstance(entry.complete, MapRequest),
        complete_all=lower.get("x-oss-complete-all") == "yes",
        complete_all_proven=entry.list is not None,
    )


def expiry(request: MapRequest, entry: MapEntry) -> float | None:
    """Return when *request* ends: by its own word, its entry's, or the URL's.

    Seconds since the epoch; None if none of them says.
    """
    for said in (request.expires_at, entry.expires_at):
        if said is not None:
            return said
    return describe(request.url).expires_at


def request_of(
    entry: MapEntry, operation: Operation, *, now: float, allow_http: bool, local: bool
) -> SignedRequest:
    """Return the request of *entry* that does *operation*.

    Args:
        entry: what the owner handed out.
        operation: what is wanted.
        now: seconds since the epoch.
        allow_http: plain http may leave this machine.
        local: the entry came from this machine.

    Raises:
        NotSignedError: there is none, it has expired, or its headers conflict.
        ConfigurationError: it is plain http and must not be.
    """
    request = _find(entry, operation)
    problem = http_problem(request.url.reveal(), allow_http=allow_http, local=local)
    if problem:
        msg = f"the URL {request.url.shown()} {problem}"
        raise ConfigurationError(msg, path=operation.path)
    extra = operation.query.keys() - _HARMLESS_QUERY
    if operation.action.spec.on_bucket:
        _check_listing(request, operation)
        extra -= {*_SHOWN, *_PAGING}
    if extra:
        names = ", ".join(sorted(extra))
        raise _refused(operation, f"{names} cannot be added to a presigned URL")
    expires_at = expiry(request, entry)
    if expires_at is not None and expires_at <= now:
        ended = datetime.fromtimestamp(expires_at, UTC).isoformat(" ", "seconds")
        why = f"its URL expired at {ended}: ask the owner for a new one"
        raise _refused(operation, why)
    return SignedRequest(
        method=operation.action.method,
        url=request.url,
        headers=_headers(request, operation),
        issued_at=now,
        expires_at=expires_at,
    )


def _check_listing(request: MapRequest, operation: Operation) -> None:
    """Refuse to list with a URL that would show something else."""
    if "continuation-token" in operation.query:
        why = "its URL shows the first page only: ask the owner for shorter listings"
        raise _refused(operation, why)
    query = parse_query(urlsplit(request.url.reveal()).query)
    signed = {name: value for name, value in query if name in _SHOWN}
    del query  # the signature is in it, and tracebacks may show variables
    for name in _SHOWN:
        if signed.get(name, "") != operation.query.get(name, ""):
            why = f"its URL lists with another {name} than the one that is needed"
            raise _refused(operation, why)


def _refused(operation: Operation, why: str) -> NotSignedError:
    # Never final: another entry of the map may well have what this one lacks.
    return NotSignedError(
        f"{operation}: {why}", path=operation.path, action=operation.action
    )


def _find(entry: MapEntry, operation: Operation) -> MapRequest:
    upload_id = operation.upload_id
    if upload_id is not None and upload_id != entry.upload_id:
        raise _refused(operation, "the map's URLs are of another upload")
    if operation.action is Action.UploadPart:
        number = operation.part_number or 0
        if 1 <= number <= len(entry.parts):
            return entry.parts[number - 1]
        given = f"part {number} is not among its {len(entry.parts)} part URLs"
        raise _refused(operation, given)
    slot = operation.action.spec.slot
    request = getattr(entry, slot) if slot else None
    if not isinstance(request, MapRequest):
        raise _refused(operation, "no URL for it was handed out")
    return request


def _headers(request: MapRequest, operation: Operation) -> Mapping[str, str]:
    """Return what is sent: the map's headers, or the user's where it names none."""
    demanded = operation.headers
    sent = demanded if request.headers is None else request.headers
    signed = {name.lower(): value for name, value in sent.items()}
    conflicts = [n for n, v in demanded.items() if signed.get(n.lower()) != v.strip()]
    if conflicts:
        why = (
            f"the header {', '.join(conflicts)} is not signed with that value: leave it "
            "out, or ask the owner for a URL that is signed with it"
        )
        raise _refused(operation, why)
    additional = describe(request.url).additional_headers
    if lacking := sorted(set(additional) - signed.keys() - _SENT_ANYWAY):
        why = (
            f"its URL was signed with the header {', '.join(lacking)}, which nobody "
            "gives: name it in the map, or give it with headers="
        )
        raise _refused(operation, why)
    problem = own_header_problem(
        {n: v for n, v in sent.items() if _is_known(n, operation)},
        request.url.reveal(),
        additional,
        operation.content_length,
    )
    if problem:
        raise _refused(operation, problem)
    return sent


def _is_known(name: str, operation: Operation) -> bool:
    """Return whether the value of the header is known before the body is."""
    unknown = operation.content_length is None and operation.action.method == "PUT"
    return not (unknown and name.lower() == "content-length")


# Signs with one presigned URL: the commonest thing that an owner hands out.


class OneURLSigner:
    """Hands out one presigned URL for the one object that it is for.

    The path may be empty, or must be that object's own, so that two different files
    never land in one object.

    Args:
        read: returns the URL; asked for each call, so that it can be renewed.
        allow_http: plain http may leave this machine.
        clock: seconds since the epoch.

    Raises:
        ConfigurationError: what *read* returns is no presigned URL of a whole object.
    """

    remote = False

    def __init__(
        self,
        read: Callable[[], Secret],
        *,
        allow_http: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Read the URL once, so that a bad one is found before the first byte."""
        self._read = read
        self._allow_http = allow_http
        self._clock = clock
        self._known = _Target.of(read())

    def sign(self, operations: Sequence[Operation]) -> Sequence[SignedRequest]:
        """Return the URL for a PutObject of its object.

        Raises:
            NotSignedError: another object or action, or the URL has expired.
            ConfigurationError: the URL is plain http and must not be, or became bad.
        """
        return [
            request_of(
                self._entry(operation.path),
                operation,
                now=self._clock(),
                allow_http=self._allow_http,
                local=True,
            )
            for operation in operations
        ]

    def grant(self, path: str) -> Grant:
        """Return that one PutObject is granted for the URL's own object.

        Raises:
            NotSignedError: *path* is another object.
        """
        return grant_of(self._entry(path), path)

    def preflight(self, operation: Operation) -> None:
        """Raise what ``sign`` would raise; the body's length need not be known."""
        self.sign([operation])

    @property
    def path(self) -> str:
        """``bucket/key`` of the URL's object; the key alone if no bucket is seen."""
        return self._target().path

    def _target(self) -> _Target:
        text = self._read()
        if text != self._known.text:
            self._known = _Target.of(text)
        return self._known

    def _entry(self, path: str) -> MapEntry:
        target = self._target()
        own = target.path
        if path in ("", own):
            return target.entry
        if target.bucket is None and path.partition("/")[2] == target.key:
            return target.entry
        msg = (
            f"the presigned URL is for {own!r}, not for {path!r}: leave the path empty, "
            "or ask for a URL of that object"
        )
        raise NotSignedError(msg, path=path, nearest=(own,))


@frozen
class _Target:
    """A URL as it was read, and the object that it is for (no bucket: not seen)."""

    text: Secret
    entry: MapEntry
    bucket: str | None
    key: str

    @property
    def path(self) -> str:
        return self.key if self.bucket is None else f"{self.bucket}/{self.key}"

    @classmethod
    def of(cls, text: Secret) -> _Target:
        url = SecretURL(text.reveal())
        if problem := url_problem(url.reveal()):
            msg = f"the text of url= {problem}: give the presigned URL as it was made"
            raise ConfigurationError(msg)
        shown = url.shown()
        try:
            bucket, key = object_of(url.reveal())
        except ValueError:
            msg = f"the path of {shown} is not UTF-8"
            raise ConfigurationError(msg) from None
        if not key:
            msg = f"{shown} names no object: ask for a URL of PutObject"
            raise ConfigurationError(msg)
        if describe(url).upload_id is not None:
            msg = f"{shown} is for one step of a multipart upload: use url_map="
            raise ConfigurationError(msg)
        return cls(text, MapEntry(put=MapRequest(url=url)), bucket, key)


def one_url_signer(options: Any, *_: object) -> OneURLSigner:
    """Return the signer of ``url=``, which may be a reference that is read anew."""
    url = options.url
    return OneURLSigner(lambda: resolve_text(url), allow_http=options.allow_http)


def url_map_signer(
    options: Any, _: object, opener: Callable[[str], bytes]
) -> URLMapSigner:
    """Return the signer of ``url_map=``."""
    source = load(options.url_map, opener, allow_http=options.allow_http)
    return URLMapSigner(source, allow_http=options.allow_http)
