"""Folder of one check of a store: its name, what the check left in it, and its removal.

A check stores objects only below a random folder of its own. A later check finds what an
interrupted one left by the name of its folder and by the keys, which are fixed.
"""

from __future__ import annotations

import contextlib
import enum
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from http import HTTPStatus
from typing import Any, TypeAlias

from attrs import Factory, define, field, frozen

from ..client.error_codes import from_reply
from ..errors import InvalidRequestError, OSSPresignedError
from ..http.body import EMPTY, Body, MemoryBody
from ..model import Action, Operation, Reply, SignedRequest
from ..parsing import parse
from ..signing.canonical import Credentials
from ..signing.endpoint import Endpoint
from ..signing.presigning import PresignRequest

LIFE = 600  # seconds for which a check signs
_FOLDERS = "osspresigned-check-"
_GONE = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND)

Send: TypeAlias = Callable[[SignedRequest, Body], Reply]


class CheckKey(enum.StrEnum):
    """Names of all objects that a check stores in its folder."""

    OBJECT = "object"
    SECOND = "second"
    COPIED = "copied"
    BLANK = "a blank+plus"
    MISSING = "missing"


_OWN = rf"{_FOLDERS}[0-9a-f]{{16}}/({'|'.join(map(re.escape, CheckKey))})"


@frozen(kw_only=True)
class StoreAccess:
    """Signs and sends requests to one bucket, also invalid ones.

    Attributes:
        send: sends one signed request and returns the reply of any status.
        clock: returns seconds since the epoch.
    """

    send: Send
    credentials: Credentials
    endpoint: Endpoint
    region: str
    bucket: str
    clock: Callable[[], float] = time.time

    def request(
        self,
        method: str,
        key: str = "",
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        unsigned: Mapping[str, str | None] | None = None,
        **changes: Any,
    ) -> Reply:
        """Sign and send one request on the object *key*, or on the bucket.

        *headers* are signed and sent; *unsigned* ones are only sent, and None omits a
        signed header of that name. *changes* are attributes of a
        :class:`PresignRequest`, and are signed even if invalid.
        """
        wanted: dict[str, Any] = {
            "credentials": self.credentials,
            "endpoint": self.endpoint,
            "method": method,
            "bucket": self.bucket,
            "key": key,
            "headers": headers or {},
            "region": self.region,
            "now": self.clock(),
            "expires_in": LIFE,
            **changes,
        }
        sent = {**(headers or {}), **(unsigned or {})}
        signed = SignedRequest(
            method=method,
            url=PresignRequest(**wanted).sign(),
            headers={n: v for n, v in sent.items() if v is not None},
        )
        return self.send(signed, MemoryBody.of(body) if body else EMPTY)


@frozen
class Trace:
    """One object, version of an object or open multipart upload that a check made.

    Without IDs, the trace is the object *key* itself.
    """

    key: str
    version_id: str | None = None
    upload_id: str | None = None

    @property
    def has_id(self) -> bool:
        """True for a version or an upload, False for the object itself."""
        return (self.version_id or self.upload_id) is not None

    def __str__(self) -> str:
        """Return the key, and what of it remains."""
        if self.upload_id is not None:
            return f"{self.key} (parts of an upload)"
        return self.key if self.version_id is None else f"{self.key} (a version)"


@frozen
class _ListCall:
    """One listing call of OSS: its query, its page size, its entries and its paging.

    *limit* is the parameter for the page size. *following* maps the parameters for the
    next page to the elements that hold them.
    """

    query: Mapping[str, str]
    limit: str
    entries: tuple[str, ...]
    following: Mapping[str, str]


# OSS API reference: ListObjectsV2, ListObjectVersions, ListMultipartUploads.
_OBJECTS = _ListCall(
    {"list-type": "2"},
    "max-keys",
    ("Contents",),
    {"continuation-token": "NextContinuationToken"},
)
_VERSIONS = _ListCall(
    {"versions": ""},
    "max-keys",
    ("Version", "DeleteMarker"),
    {"key-marker": "NextKeyMarker", "version-id-marker": "NextVersionIdMarker"},
)
_UPLOADS = _ListCall(
    {"uploads": ""},
    "max-uploads",
    ("Upload",),
    {"key-marker": "NextKeyMarker", "upload-id-marker": "NextUploadIdMarker"},
)


@define(kw_only=True)
class CheckFolder:
    """Random folder of one check below a prefix of the bucket.

    Attributes:
        prefix: prefix of the folder, with a final slash; empty is the whole bucket.
        is_versioned: whether the bucket gives version IDs, as its replies show.
        page_size: number of entries that one listing requests.
        traces: what requests of this check may have left in the folder.
    """

    access: StoreAccess
    prefix: str
    name: str = Factory(lambda: f"{_FOLDERS}{secrets.token_hex(8)}/")
    is_versioned: bool = False
    page_size: int = 1000
    traces: set[Trace] = field(factory=set, init=False)

    @property
    def path(self) -> str:
        """Prefix of all keys of this check, with a final slash."""
        return f"{self.prefix}{self.name}"

    def note(self, key: str, reply: Reply) -> None:
        """Remember what *reply* says about the object *key*: the ID of its version."""
        version_id = reply.headers.get("x-oss-version-id")
        if version_id is not None:
            self.is_versioned = True
            self.traces.add(Trace(key, version_id))

    def is_free(self) -> bool:
        """Return whether the store lists nothing in the folder.

        Raises:
            ReplyError: the store does not list the bucket.
        """
        return not [*self._listed(_OBJECTS, self.path)]

    def leftovers(self) -> list[Trace]:
        """Return what earlier checks below the same prefix left, and nothing else.

        Raises:
            ReplyError: the store does not list the bucket.
        """
        found = self._found(f"{self.prefix}{_FOLDERS}")
        return [trace for trace in found if not trace.key.startswith(self.path)]

    def clean_up(self) -> list[Trace]:
        """Remove everything that this check made; return what could not be removed."""
        was_versioned = self.is_versioned
        # Without the permission to list, what its requests made is known all the same.
        with contextlib.suppress(OSSPresignedError):
            self.traces.update(self._found(self.path))
        if self.is_versioned:  # a deletion without a version would add a marker
            self.traces = {trace for trace in self.traces if trace.has_id}
        left = self.remove(self.traces)
        self.traces = set(left)
        if self.is_versioned and not was_versioned:
            return self.clean_up()
        return left

    def remove(self, traces: Collection[Trace]) -> list[Trace]:
        """Remove *traces*; return those whose removal the store did not confirm."""
        return [one for one in sorted(traces, key=str) if not self._is_gone(one)]

    def _is_gone(self, trace: Trace) -> bool:
        query = {"uploadId": trace.upload_id, "versionId": trace.version_id}
        given = {name: value for name, value in query.items() if value is not None}
        try:
            reply = self.access.request("DELETE", trace.key, query=given)
        except OSSPresignedError:
            return False
        if not trace.has_id:
            self.note(trace.key, reply)
        return reply.status in _GONE

    def _found(self, prefix: str) -> list[Trace]:
        """Return the traces of checks below *prefix*."""
        is_own = re.compile(f"{re.escape(self.prefix)}{_OWN}").fullmatch
        objects = _VERSIONS if self.is_versioned else _OBJECTS
        return [
            trace
            for listing in (objects, _UPLOADS)
            for trace in self._listed(listing, prefix)
            if is_own(trace.key)
        ]

    def _listed(self, listing: _ListCall, prefix: str) -> Iterator[Trace]:
        """Yield all entries of *listing* below *prefix*."""
        query = {**listing.query, "prefix": prefix, listing.limit: str(self.page_size)}
        while True:
            reply = self.access.request("GET", query=query)
            if reply.status != HTTPStatus.OK:
                call = Operation(action=Action.ListObjectsV2, bucket=self.access.bucket)
                raise from_reply(call, reply)
            try:
                page = parse(reply.body)
            except ValueError as error:
                raise InvalidRequestError(f"the listing is invalid: {error}") from None
            for entry in page.iter():
                if entry.tag in listing.entries:
                    yield Trace(
                        entry.findtext("Key", ""),
                        entry.findtext("VersionId"),
                        entry.findtext("UploadId"),
                    )
            if page.findtext("IsTruncated") != "true":
                return
            for name, element in listing.following.items():
                query[name] = page.findtext(element, "")
