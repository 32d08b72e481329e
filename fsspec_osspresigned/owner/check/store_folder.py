"""Folder for one check of a store: requests on its objects, and cleanup.

A check stores objects only in a folder of its own with a random name.
"""

from __future__ import annotations

import contextlib
import enum
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, ClassVar, TypeAlias

from attrs import Factory, define, field, frozen

from ...client.error_codes import from_reply
from ...errors import OSSPresignedError
from ...http.body import EMPTY, Body, MemoryBody
from ...model import Action, Operation, Reply, SignedForm, SignedRequest
from ...parsing import parse
from ...secret import FormValue, Secret, SecretURL
from ...signing.canonical import Credentials
from ...signing.endpoint import Endpoint
from ...signing.presigning import PresignRequest
from ..grants import GrantTerms, sign_grant

LIFE = 600  # lifetime in seconds of the signatures of a check
_FOLDERS = "osspresigned-check-"
_REFUSED = range(400, 500)
_GONE = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND)

Send: TypeAlias = Callable[[SignedRequest, Body], Reply]


class CheckKey(enum.StrEnum):
    """All keys that a check uses, relative to its folder."""

    OBJECT = "object"
    SECOND = "second"
    COPIED = "copied"
    BLANK = "a blank+plus"
    MISSING = "missing"


@frozen
class FormCall:
    """One form of a fact."""

    key: CheckKey
    body: bytes
    # Prefix in the policy, below the directory of the check.
    below: str = field(default="", kw_only=True)
    # Further attributes of :class:`GrantTerms`.
    terms: Mapping[str, Any] = field(factory=dict, kw_only=True)
    # Form fields that no condition names. None omits a field.
    unlisted: Mapping[str, str | None] = field(factory=dict, kw_only=True)
    version: str = field(default="v4", kw_only=True)  # version of the signature
    ago: int = field(default=0, kw_only=True)  # seconds since signing
    # Replaced attributes of the credentials.
    wrong: Mapping[str, Any] = field(factory=dict, kw_only=True)
    action: ClassVar[Action] = Action.PostObject

    def sent(self, fields: Mapping[str, Secret]) -> SignedForm:
        """Return the form with *fields*, after *unlisted* has replaced some of them."""
        own = {name.lower() for name in self.unlisted}
        kept = {n: value for n, value in fields.items() if n.lower() not in own}
        more = {n: FormValue(v) for n, v in self.unlisted.items() if v is not None}
        return SignedForm(fields={**kept, **more})


@frozen(kw_only=True)
class StoreAccess:
    """Signs and sends requests to one bucket, including invalid ones."""

    send: Send  # sends one signed request and returns the reply of any status
    credentials: Credentials
    endpoint: Endpoint
    region: str
    bucket: str
    clock: Callable[[], float] = time.time  # returns seconds since the epoch

    def request(
        self,
        method: str,
        key: str = "",
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        unsigned: Mapping[str, str | None] | None = None,
        plus: bool = False,
        **changes: Any,
    ) -> Reply:
        """Sign and send one request on the object *key*, or on the bucket.

        *headers* are signed and sent; *unsigned* ones are only sent, and None omits a
        signed header of that name. *plus* writes blanks in the path as ``+``. *changes*
        are attributes of a :class:`PresignRequest`, and are signed even if invalid. The
        reply is returned with any status.
        """
        terms: dict[str, Any] = {
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
        url = PresignRequest(**terms).url()
        if plus:
            path, _, query_string = url.reveal().partition("?")
            url = SecretURL(f"{path.replace('%20', '+')}?{query_string}")
        sent = {**(headers or {}), **(unsigned or {})}
        signed = SignedRequest(
            method=method,
            url=url,
            headers={n: v for n, v in sent.items() if v is not None},
        )
        return self.send(signed, MemoryBody(body) if body else EMPTY)


@frozen
class Trace:
    """Something that a check may leave: an object, a version, or an open multipart upload.

    Without IDs, this is the object itself.
    """

    key: str
    version_id: str | None = None
    upload_id: str | None = None

    @property
    def has_id(self) -> bool:
        """True for a version or an upload, False for the object itself."""
        return (self.version_id or self.upload_id) is not None

    def __str__(self) -> str:
        if self.upload_id is not None:
            return f"{self.key} (parts of an upload)"
        return self.key if self.version_id is None else f"{self.key} (a version)"


# Query of a listing -> elements that it lists (OSS API reference: ListObjectsV2,
# ListObjectVersions, ListMultipartUploads).
_OBJECTS = {"list-type": "2", "max-keys": "1000"}, ("Contents",)
_VERSIONS = {"versions": "", "max-keys": "1000"}, ("Version", "DeleteMarker")
_UPLOADS = {"uploads": "", "max-uploads": "1000"}, ("Upload",)


@define(kw_only=True)
class CheckFolder:
    """Random folder of one check below a prefix of the bucket."""

    access: StoreAccess
    # prefix of the directory, with a final slash; empty for the whole bucket
    prefix: str
    name: str = Factory(lambda: f"{_FOLDERS}{secrets.token_hex(8)}/")
    is_versioned: bool = False  # True if replies show that the bucket has versioning
    has_version_ids: bool = False  # True if versioning is enabled, not suspended
    # what this check may have left in the bucket
    traces: set[Trace] = field(factory=set, init=False)

    @property
    def path(self) -> str:
        """Prefix of all keys of this check, with a final slash."""
        return f"{self.prefix}{self.name}"

    def call(
        self,
        action: Action,
        key: CheckKey,
        body: bytes,
        *,
        query: Mapping[str, str],
        **request: Any,
    ) -> Reply:
        """Sign and send one call on the object *key*, and record possible traces of it.

        *request* holds further arguments of :meth:`StoreAccess.request`.
        """
        spec = action.spec
        full = "" if spec.on_bucket else f"{self.path}{key}"
        before = frozenset(self.traces)
        if spec.publishes:  # recorded before sending, because the reply may be lost
            self.traces.add(Trace(full))
        query = {**spec.fixed, **query}
        reply = self.access.request(
            spec.method, full, body=body, query=query, **request
        )
        if reply.status in _REFUSED:
            self.traces.intersection_update(before)
        self._note_version(full, reply)
        if action is Action.InitiateMultipartUpload and (upload := upload_id_of(reply)):
            self.traces.add(Trace(full, upload_id=upload))
        return reply

    def post(self, form: FormCall, credentials: Credentials, now: float) -> Reply:
        """Sign *form* by *credentials* at *now*, send it, and return the reply."""
        access = self.access
        prefix = f"{self.path}{form.below}"
        terms = {"expires_in": LIFE, "prefix": prefix, **form.terms}
        grant = sign_grant(
            credentials,
            access.endpoint,
            GrantTerms(bucket=access.bucket, **terms),
            version=form.version,
            region=access.region,
            now=now,
        )
        full = f"{self.path}{form.key}"
        self.traces.add(Trace(full))
        signed = SignedRequest(
            method="POST",
            url=grant.url,
            form=form.sent({"key": FormValue(full), **grant.fields}),
        )
        reply = access.send(signed, MemoryBody(form.body))
        self._note_version(full, reply)
        return reply

    def clean_up(self) -> list[Trace]:
        """Remove everything that this check stored; return what could not be removed.

        The listing finds objects whose replies were lost. Without this permission, only
        stored objects with a reply are known.
        """
        was_versioned = self.is_versioned
        with contextlib.suppress(OSSPresignedError, ValueError):
            self.traces.update(self._listed_traces())
        if self.is_versioned:  # deleting without a version would add a delete marker
            self.traces = {trace for trace in self.traces if trace.has_id}
        traces = sorted(self.traces, key=str)
        left = [trace for trace in traces if not self._is_gone(trace)]
        self.traces.intersection_update(left)
        if self.is_versioned and not was_versioned:
            return self.clean_up()
        return left

    def _note_version(self, key: str, reply: Reply) -> None:
        version_id = reply.headers.get("x-oss-version-id")
        if version_id is not None and key and reply.status < HTTPStatus.BAD_REQUEST:
            self.is_versioned = True
            self.has_version_ids = self.has_version_ids or version_id != "null"
            self.traces.add(Trace(key, version_id))

    def _is_gone(self, trace: Trace) -> bool:
        query = {"uploadId": trace.upload_id, "versionId": trace.version_id}
        query = {name: value for name, value in query.items() if value is not None}
        try:
            reply = self.access.request("DELETE", trace.key, query=query)
        except OSSPresignedError:
            return False
        if not trace.has_id:
            self._note_version(trace.key, reply)
        return reply.status in _GONE

    def _listed_traces(self) -> Iterator[Trace]:
        """Yield everything in the folder, which has fewer than 1,000 entries."""
        for listing, tags in (_VERSIONS if self.is_versioned else _OBJECTS, _UPLOADS):
            query = {**listing, "prefix": self.path}
            reply = self.access.request("GET", query=query)
            if not reply.is_good:
                call = Operation(action=Action.ListObjectsV2, bucket=self.access.bucket)
                raise from_reply(call, reply)
            for entry in parse(reply.body).iter():
                if entry.tag in tags:
                    names = "VersionId", "UploadId"
                    yield Trace(entry.findtext("Key", ""), *map(entry.findtext, names))


def upload_id_of(reply: Reply) -> str:
    """Return the upload ID in *reply*; empty if it has none."""
    try:
        return parse(reply.body).findtext("UploadId", "")
    except ValueError:
        return ""
