"""The ASGI application: authenticate, act, answer, remember."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Container, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any

from attrs import define, evolve

from ..http.body import CRC_HEADER
from ..model import Action
from ..signing import Credentials, verify
from ..signing.endpoint import check_key
from .calls import listing, objects, reading, uploads
from .calls import listing as buckets
from .calls import objects as appending
from .calls.exchange import Exchange, Incoming, Receive, Settings
from .faults.apply import distorted, refusal_of
from .faults.connection import (
    CutError,
    DisconnectedError,
    Send,
    ShapedReply,
    Wire,
    shapes_reply,
)
from .faults.faults import Fault, Faults
from .faults.refusals import Case, received, wrong_region
from .message.answers import (
    Answer,
    RefusedError,
    error_answer,
    error_document,
    http_date,
)
from .message.call import Call, read_call
from .records import Record, record_of
from .store.store import Store

WIRE = "osspresigned.wire"

Scope = MutableMapping[str, Any]
Handler = Callable[[Exchange], Awaitable[Answer]]

_NONE = Fault()
_INLINE = 64 * 1024
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
    "GetObjectMeta": reading.get_object_meta,
    "AppendObject": appending.append_object,
    Action.ListObjectsV2: listing.list_objects_v2,
    "ListObjects": listing.list_objects,
    "ListMultipartUploads": listing.list_multipart_uploads,
    "GetBucketInfo": buckets.get_bucket_info,
    "GetBucketLocation": buckets.get_bucket_location,
    "GetBucketAcl": buckets.get_bucket_acl,
    "GetBucketStat": buckets.get_bucket_stat,
    Action.InitiateMultipartUpload: uploads.initiate_multipart_upload,
    Action.UploadPart: uploads.upload_part,
    Action.UploadPartCopy: uploads.upload_part_copy,
    Action.ListParts: uploads.list_parts,
    Action.CompleteMultipartUpload: uploads.complete_multipart_upload,
    Action.AbortMultipartUpload: uploads.abort_multipart_upload,
}


@define(kw_only=True, eq=False)
class _Visit:
    """One request on its way through."""

    call: Call
    incoming: Incoming
    wire: Wire
    request_id: str
    struck: Fault | None = None
    is_recorded: bool = False

    @property
    def fault(self) -> Fault:
        """What strikes it; one that does nothing if nothing does."""
        return self.struck or _NONE


class App:
    """OSS as an ASGI application.

    Args:
        store: what it holds.
        settings: what may be chosen.
        find: the credentials of an access key id; None if there are none.
        region: that a V4 signature must name; None for any.
        cnames: host name -> bucket.
        origins: those that a browser page may come from; ``*`` allows all.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        find: Callable[[str], Credentials | None],
        region: str | None = None,
        cnames: Mapping[str, str] | None = None,
        origins: Container[str] = ("*",),
    ) -> None:
        """Start without faults and without records."""
        self.faults = Faults()
        self.records: list[Record] = []
        self._store = store
        self._settings = settings
        self._find = find
        self._region = region
        self._cnames = {name.lower(): b for name, b in (cnames or {}).items()}
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        begun = time.perf_counter()
        wire: Wire = scope["extensions"][WIRE]
        visit = _Visit(
            call=read_call(scope, cnames=self._cnames),
            incoming=Incoming(receive, timeout=self._settings.body_timeout),
            wire=wire,
            request_id=uuid.uuid4().hex[:24].upper(),
        )
        try:
            answer = await self._answer(visit)
            headers = {
                "Server": "AliyunOSS",
                "Date": http_date(self._settings.clock()),
                "x-oss-request-id": visit.request_id,
                "x-oss-server-time": str(int((time.perf_counter() - begun) * 1000)),
                **answer.headers,
                **self._cors(visit.call),
            }
            if answer.status not in _WITHOUT_LENGTH:
                headers["Content-Length"] = str(answer.content_length)
            answer = evolve(answer, headers=headers)
            self._record(visit, answer)
            if shapes_reply(visit.fault):
                has_body = visit.call.method != "HEAD" and "Content-Length" in headers
                length = answer.content_length if has_body else 0
                shaped = ShapedReply(wire, visit.fault, send, body_length=length)
                send = shaped.send
            await _send(answer, send)
        except (CutError, DisconnectedError) as end:
            self._record(visit, None)
            reset = visit.fault.reset and isinstance(end, CutError)
            wire.connection.break_off(reset=reset)
            await wire.connection.gone.wait()

    async def _answer(self, visit: _Visit) -> Answer:
        call = visit.call
        try:
            if call.method == "OPTIONS":
                return self._preflight(call)
            self.authenticate(call)
            fault = self.faults.take(
                action=call.action,
                bucket=call.bucket,
                key=call.key,
                part_number=call.part_number,
                reused=visit.wire.reused,
            )
            if fault is not None:
                visit.struck = fault
                await self._prepare(visit)
            answer = await self._act(visit)
        except RefusedError as error:
            answer = error_answer(
                error, method=call.method, request_id=visit.request_id, host=call.host
            )
        if visit.fault.delay:
            await visit.wire.connection.wait(visit.fault.delay)
        if visit.fault.drop_reply or visit.fault.cut_reply_after == 0:
            raise CutError
        if visit.fault.stall_reply_after == 0:
            await self._stall(visit)
        return distorted(answer, visit.fault)

    def authenticate(self, call: Call) -> None:
        """Check the signature, wherever it stands.

        Raises:
            RefusedError: whatever OSS would refuse.
        """
        refusal = verify(
            received(call),
            find=self._find,
            now=self._settings.clock(),
            regions=None if self._region is None else {self._region},
        )
        if refusal is not None:
            raise RefusedError(
                refusal.status,
                refusal.code,
                refusal.message,
                refusal.ec,
                extras=refusal.extras,
            )
        if self._region is not None and call.region not in (None, self._region):
            raise wrong_region(call.bucket, self._region)

    async def _prepare(self, visit: _Visit) -> None:
        """Do what a fault does before the request is acted upon."""
        fault, incoming, connection = visit.fault, visit.incoming, visit.wire.connection
        if fault.clock_jump:
            self._settings.clock.jump(fault.clock_jump)
            self.authenticate(visit.call)
        for status in fault.interim:
            visit.wire.interim(status)
        if fault.reset and not fault.breaks_somewhere:
            raise CutError

        async def stall() -> None:
            await self._stall(visit)

        async def cut() -> None:
            raise CutError

        async def refuse() -> None:
            raise self._refusal(visit)

        early = 0 if fault.early else fault.early_after
        wanted = ((fault.stall_after, stall), (early, refuse), (fault.cut_after, cut))
        traps = [(at, spring) for at, spring in wanted if at is not None]
        incoming.traps = sorted(traps, key=lambda trap: trap[0])
        if (rate := fault.bytes_per_second) is not None:
            incoming.pace = lambda size: connection.wait(size / rate)
        if traps and not visit.call.content_length:
            # The handlers of calls without a body do not ask for it.
            await incoming.drain()

    async def _stall(self, visit: _Visit) -> None:
        """Hold a request; one that nobody lets go of is on record at once."""
        if visit.fault.stall_for is None:
            self._record(visit, None)
        await visit.wire.connection.wait(visit.fault.stall_for)

    async def _act(self, visit: _Visit) -> Answer:
        call, incoming, fault = visit.call, visit.incoming, visit.fault
        if fault.error_body:
            await incoming.drain()
            document = error_document(
                self._refusal(visit), request_id=visit.request_id, host=call.host
            )
            return Answer(
                headers={"Content-Type": "application/xml"},
                body=document,
                code=fault.shown_code,
            )
        if fault.refuses and not fault.acts:
            await incoming.drain()
            raise self._refusal(visit)
        answer = await self._handle(call, incoming)
        if fault.refuses:
            raise self._refusal(visit)
        return answer

    def _refusal(self, visit: _Visit) -> RefusedError:
        case = Case(
            call=visit.call,
            now=self._settings.clock(),
            region=self._region,
            find=self._find,
        )
        return refusal_of(visit.fault, case)

    async def _handle(self, call: Call, incoming: Incoming) -> Answer:
        if call.action == "ListBuckets":
            return buckets.list_buckets(call, self._store, self._settings)
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

    def _record(self, visit: _Visit, answer: Answer | None) -> None:
        """Remember a request; before its reply goes out, so that nobody waits for it."""
        if visit.is_recorded:
            return
        visit.is_recorded = True
        self.records.append(
            record_of(
                visit.call,
                answer,
                received=visit.incoming.received,
                request_id=visit.request_id,
                connection=visit.wire.connection.number,
                fault=visit.struck,
            )
        )


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
