"""The ASGI application: authenticate, act, answer, remember."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Container, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any

from attrs import evolve, field, frozen

from ..checksum import CRC_HEADER
from ..model import Action
from ..signing import Credentials, Received, check_key, verify
from . import listing, objects, reading, uploads
from .answers import Answer, RefusedError, error_answer, error_document, http_date
from .call import Call, read_call
from .exchange import Exchange, Settings
from .faults import Fault, Faults
from .incoming import CutError, DisconnectedError, Incoming, Receive
from .store import Store

TRANSPORT = "osspresigned.transport"

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Handler = Callable[[Exchange], Awaitable[Answer]]

_INLINE = 64 * 1024
_SECRET_PARAMETERS = frozenset(
    {
        "OSSAccessKeyId",
        "Signature",
        "security-token",
        "x-oss-credential",
        "x-oss-security-token",
        "x-oss-signature",
    }
)
_EXPOSED = (
    "ETag, Content-Length, Content-Range, Date, x-oss-request-id, x-oss-ec, "
    f"x-oss-version-id, x-oss-next-append-position, {CRC_HEADER}"
)
_WITHOUT_LENGTH = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
HANDLERS: Mapping[str, Handler] = {
    Action.PutObject: objects.put_object,
    Action.CopyObject: objects.copy_object,
    Action.DeleteObject: objects.delete_object,
    "DeleteMultipleObjects": objects.delete_multiple_objects,
    "GetObjectAcl": objects.get_object_acl,
    "GetObjectTagging": objects.get_object_tagging,
    Action.GetObject: reading.get_object,
    Action.HeadObject: reading.head_object,
    Action.ListObjectsV2: listing.list_objects_v2,
    Action.InitiateMultipartUpload: uploads.initiate_multipart_upload,
    Action.UploadPart: uploads.upload_part,
    Action.UploadPartCopy: uploads.upload_part_copy,
    Action.ListParts: uploads.list_parts,
    Action.CompleteMultipartUpload: uploads.complete_multipart_upload,
    Action.AbortMultipartUpload: uploads.abort_multipart_upload,
}


@frozen(kw_only=True)
class Record:
    """One request that came, and what was answered.

    Attributes:
        action: OSS API name of the call.
        method: HTTP method.
        bucket: empty for the service itself.
        key: decoded.
        path: as it came, not decoded, without the query.
        parameters: of the query, without its secrets.
        part_number: of UploadPart and UploadPartCopy.
        upload_id: of the calls that name one.
        status: HTTP status; None if no reply was sent.
        code: OSS error code; None for a success.
        ec: OSS's finer error number; empty without one.
        request_headers: names in lower case.
        response_headers: names in lower case.
        bytes: of the request body that were read.
        request_id: as answered.
    """

    action: str
    method: str
    bucket: str
    key: str
    path: str
    parameters: Mapping[str, str]
    part_number: int | None
    upload_id: str | None
    status: int | None
    code: str | None
    ec: str
    request_headers: Mapping[str, str] = field(repr=False)
    response_headers: Mapping[str, str] = field(repr=False)
    bytes: int
    request_id: str


class App:
    """OSS as an ASGI application.

    Args:
        store: what it holds.
        settings: what may be chosen.
        find: the credentials of an access key id; None if there are none.
        regions: those that a V4 signature may name; None for all.
        cnames: host name -> bucket.
        origins: those that a browser page may come from; ``*`` allows all.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        find: Callable[[str], Credentials | None],
        regions: Container[str] | None = None,
        cnames: Mapping[str, str] | None = None,
        origins: Container[str] = ("*",),
    ) -> None:
        """Start without faults and without records."""
        self.faults = Faults()
        self.records: list[Record] = []
        self._store = store
        self._settings = settings
        self._find = find
        self._regions = regions
        self._cnames = {name.lower(): b for name, b in (cnames or {}).items()}
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        begun = time.perf_counter()
        request_id = uuid.uuid4().hex[:24].upper()
        call = read_call(scope, cnames=self._cnames)
        incoming = Incoming(receive, timeout=self._settings.body_timeout)
        try:
            answer = await self._answer(call, incoming, request_id)
        except (CutError, DisconnectedError, asyncio.CancelledError):
            self._record(call, incoming, None, request_id)
            await _break(scope, receive)
            return
        headers = {
            "Server": "AliyunOSS",
            "Date": http_date(self._settings.clock()),
            "x-oss-request-id": request_id,
            "x-oss-server-time": str(int((time.perf_counter() - begun) * 1000)),
            **answer.headers,
            **self._cors(call),
        }
        if answer.status not in _WITHOUT_LENGTH:
            headers["Content-Length"] = str(answer.content_length)
        answer = evolve(answer, headers=headers)
        self._record(call, incoming, answer, request_id)
        await _send(answer, send)

    async def _answer(self, call: Call, incoming: Incoming, request_id: str) -> Answer:
        fault: Fault | None = None
        try:
            if call.method == "OPTIONS":
                return self._preflight(call)
            self.authenticate(call)
            fault = self.faults.take(
                action=call.action,
                bucket=call.bucket,
                key=call.key,
                part_number=call.part_number,
            )
            answer = await self._act(call, incoming, fault or Fault(), request_id)
        except RefusedError as error:
            answer = error_answer(
                error, method=call.method, request_id=request_id, host=call.host
            )
        if fault is not None:
            await asyncio.sleep(fault.delay)
            if fault.drop_reply:
                raise CutError
            answer = _distorted(answer, fault)
        return answer

    def authenticate(self, call: Call) -> None:
        """Check the signature: the place for further ways to sign.

        Raises:
            RefusedError: whatever OSS would refuse.
        """
        refusal = verify(
            Received(
                method=call.method,
                bucket=call.bucket,
                key=call.key,
                query=call.query,
                headers=call.headers,
            ),
            find=self._find,
            now=self._settings.clock(),
            regions=self._regions,
        )
        if refusal is not None:
            raise RefusedError(
                refusal.status,
                refusal.code,
                refusal.message,
                refusal.ec,
                extras=refusal.extras,
            )

    async def _act(
        self, call: Call, incoming: Incoming, fault: Fault, request_id: str
    ) -> Answer:
        incoming.cut_after = fault.cut_after
        if fault.error_body:
            await incoming.drain()
            document = error_document(
                _refusal(fault), request_id=request_id, host=call.host
            )
            return Answer(
                headers={"Content-Type": "application/xml"},
                body=document,
                code=fault.shown_code,
            )
        if fault.status is not None and not fault.acts:
            if not fault.early:
                await incoming.drain()
            raise _refusal(fault)
        answer = await self._handle(call, incoming)
        if fault.status is not None:
            raise _refusal(fault)
        return answer

    async def _handle(self, call: Call, incoming: Incoming) -> Answer:
        handler = HANDLERS.get(call.action)
        if handler is None:
            raise RefusedError(
                405,
                "MethodNotAllowed",
                "The specified method is not allowed against this resource.",
                extras={"Method": call.method, "ResourceType": call.action},
            )
        if call.key and check_key(call.key) is not None:
            raise RefusedError(
                400, "InvalidObjectName", "The specified object is not valid."
            )
        bucket = self._store.buckets.get(call.bucket)
        if bucket is None:
            raise objects.no_such_bucket(call.bucket)
        exchange = Exchange(
            call=call,
            bucket=bucket,
            store=self._store,
            incoming=incoming,
            settings=self._settings,
        )
        return await handler(exchange)

    def _allows(self, origin: str) -> bool:
        return "*" in self._origins or origin in self._origins

    def _cors(self, call: Call) -> dict[str, str]:
        origin = call.headers.get("origin")
        if origin is None or not self._allows(origin):
            return {}
        return {
            "Access-Control-Allow-Origin": "*" if "*" in self._origins else origin,
            "Access-Control-Expose-Headers": _EXPOSED,
            "Vary": "Origin",
        }

    def _preflight(self, call: Call) -> Answer:
        """Answer a browser that asks before it sends; such a request is not signed."""
        origin = call.headers.get("origin")
        method = call.headers.get("access-control-request-method")
        if origin is None or method is None or not self._allows(origin):
            raise RefusedError(
                403,
                "AccessForbidden",
                "CORSResponse: This CORS request is not allowed.",
            )
        wanted = call.headers.get("access-control-request-headers")
        headers = {
            "Access-Control-Allow-Methods": "GET, PUT, POST, DELETE, HEAD",
            "Access-Control-Max-Age": "600",
        }
        if wanted is not None:
            headers["Access-Control-Allow-Headers"] = wanted
        return Answer(headers=headers)

    def _record(
        self, call: Call, incoming: Incoming, answer: Answer | None, request_id: str
    ) -> None:
        """Remember a request; before its reply goes out, so that nobody waits for it."""
        sent = {} if answer is None else answer.headers
        response = {name.lower(): value for name, value in sent.items()}
        self.records.append(
            Record(
                action=call.action,
                method=call.method,
                bucket=call.bucket,
                key=call.key,
                path=call.target.partition("?")[0],
                parameters={
                    name: value
                    for name, value in call.parameters.items()
                    if name not in _SECRET_PARAMETERS
                },
                part_number=call.part_number,
                upload_id=call.upload_id,
                status=None if answer is None else answer.status,
                code=None if answer is None else answer.code,
                ec=response.get("x-oss-ec", ""),
                request_headers=call.headers,
                response_headers=response,
                bytes=incoming.received,
                request_id=request_id,
            )
        )


def _refusal(fault: Fault) -> RefusedError:
    return RefusedError(
        fault.status or 500,
        fault.shown_code,
        fault.shown_message,
        fault.ec,
        extras=fault.extras,
    )


def _distorted(answer: Answer, fault: Fault) -> Answer:
    """Return *answer* with what the fault changes in it."""
    headers = dict(answer.headers)
    body = answer.body
    etag = headers.get("ETag")
    if fault.wrong_crc and CRC_HEADER in headers:
        headers[CRC_HEADER] = str(int(headers[CRC_HEADER]) ^ 1)
    if fault.wrong_etag and etag is not None:
        headers["ETag"] = wrong = f'"{"0" * 32}{etag.strip(chr(34))[32:]}"'
        if isinstance(body, bytes):
            body = body.replace(etag.encode(), wrong.encode())
    if fault.no_crc:
        headers.pop(CRC_HEADER, None)
    if fault.no_etag:
        headers.pop("ETag", None)
    if fault.retry_after is not None:
        headers["Retry-After"] = str(fault.retry_after)
    return evolve(answer, headers=headers, body=body)


async def _send(answer: Answer, send: Send) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [
                (name.encode(), value.encode("utf-8", "surrogateescape"))
                for name, value in answer.headers.items()
            ],
        }
    )
    if not isinstance(answer.body, bytes):
        loop = asyncio.get_running_loop()
        small = answer.content_length <= _INLINE
        while True:
            if small:
                chunk = next(answer.body, b"")
            else:
                chunk = await loop.run_in_executor(None, next, answer.body, b"")
            if not chunk:
                break
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})
    else:
        await send({"type": "http.response.body", "body": answer.body})


async def _break(scope: Scope, receive: Receive) -> None:
    """Break the connection, and wait until the server has noticed."""
    scope["extensions"][TRANSPORT].abort()
    message: MutableMapping[str, Any] = {}
    while message.get("type") != "http.disconnect":
        message = await receive()
