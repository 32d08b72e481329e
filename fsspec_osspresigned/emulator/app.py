"""ASGI application of the emulator: authenticates, executes, records requests."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Mapping, MutableMapping
from http import HTTPStatus
from typing import Any

from attrs import define, evolve, field, frozen

from ..http.checksums import CRC_HEADER
from ..model import Action
from ..signing.canonical import SIGNATURES, TOKENS
from ..signing.endpoint import check_key
from ..signing.post_policy import SIGNATURE_FIELDS
from .context import CallContext, traffic_limit
from .faults import Fault, Faults, RefusedCall, wrong_region
from .forms import open_form
from .messages import (
    Call,
    EmulatorReply,
    Refusal,
    RefusedError,
    error_reply,
    http_date,
    read_call,
    refused,
)
from .settings import EmulatorSettings
from .store import Bucket, Store
from .table import HANDLERS, action_of
from .verifying import verify_call
from .wire import (
    CutError,
    DisconnectedError,
    IncomingBody,
    Receive,
    Send,
    ShapedReply,
    Wire,
    cut,
    in_order,
)

_SECRETS = {"authorization", "OSSAccessKeyId", "x-oss-credential", *SIGNATURES, *TOKENS}
# Requests that are kept: an emulator that runs for days must not fill the memory.
MAX_RECORDS = 100_000


def _without_secrets(values: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in values.items() if name not in _SECRETS}


def _without_signature(fields: Mapping[str, str]) -> Mapping[str, str]:
    return {name: v for name, v in fields.items() if name not in SIGNATURE_FIELDS}


@frozen(kw_only=True)
class RequestRecord:
    """One request and its reply.

    Names of headers and fields are in lower case. Secrets are omitted.

    Attributes:
        action: OSS API name of the call.
        path: path of the URL as received, not decoded, without the query.
        fields: fields of a form, before its file.
        status: HTTP status; None if no reply was sent.
        code: OSS error code; None for a success.
        ec: detailed error number of OSS; empty without one.
        bytes: number of bytes read of the request body, or of the file of a form.
        connection: number of the connection; requests with the same number shared it.
        fault: the fault that was applied; None without one.
    """

    action: str
    method: str
    bucket: str
    key: str
    path: str
    parameters: Mapping[str, str] = field(converter=_without_secrets)
    fields: Mapping[str, str] = field(converter=_without_signature, repr=False)
    part_number: int | None
    upload_id: str | None
    status: int | None
    code: str | None
    ec: str
    request_headers: Mapping[str, str] = field(converter=_without_secrets, repr=False)
    response_headers: Mapping[str, str] = field(repr=False)
    bytes: int
    request_id: str
    connection: int
    fault: Fault | None = field(repr=False)


WIRE = "osspresigned.wire"

_NONE = Fault()
_EXPOSED = (
    "ETag, Content-Length, Content-Range, Date, x-oss-request-id, x-oss-ec, "
    f"x-oss-version-id, x-oss-next-append-position, {CRC_HEADER}"
)
_WITHOUT_LENGTH = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


@define(kw_only=True, eq=False)
class _Visit:
    call: Call
    body: IncomingBody
    wire: Wire
    request_id: str
    fault: Fault = _NONE
    rate: float | None = None  # bytes a second
    is_recorded: bool = False


class App:
    """ASGI application that behaves like OSS."""

    def __init__(self, store: Store, settings: EmulatorSettings) -> None:
        self.faults = Faults()
        self.records: deque[RequestRecord] = deque(maxlen=MAX_RECORDS)
        self._store = store
        self._settings = settings

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send
    ) -> None:
        begun = time.perf_counter()
        call = read_call(scope, self._settings.cnames)
        visit = _Visit(
            call=evolve(call, action=action_of(call)),
            body=IncomingBody(receive, timeout=self._settings.body_timeout),
            wire=scope["extensions"][WIRE],
            request_id=uuid.uuid4().hex[:24].upper(),
        )
        try:
            reply = await self._answer(visit)
            headers = {
                "Server": "AliyunOSS",
                "Date": http_date(self._settings.clock()),
                "x-oss-request-id": visit.request_id,
                "x-oss-server-time": str(int((time.perf_counter() - begun) * 1000)),
                **reply.headers,
                **self._cors(call),
            }
            if reply.status not in _WITHOUT_LENGTH:
                headers["Content-Length"] = str(reply.content_length)
            if call.content_length and call.method in ("GET", "HEAD"):
                # The body that it announced may not come.
                headers["Connection"] = "close"
            reply = evolve(reply, headers=headers)
            self._record(visit, reply)
            if visit.fault.shapes_reply or visit.rate:
                length = 0 if call.method == "HEAD" else reply.content_length
                fault = evolve(visit.fault, bytes_per_second=visit.rate)
                send = ShapedReply(visit.wire, fault, send, length).send
            await _send(reply, send)
        except (CutError, DisconnectedError) as end:
            self._record(visit, None)
            connection = visit.wire.connection
            connection.break_off(reset=visit.fault.reset and isinstance(end, CutError))
            await connection.gone.wait()

    async def _answer(self, visit: _Visit) -> EmulatorReply:
        call = visit.call
        try:
            if call.method == "OPTIONS":
                return self._preflight(call)
            if call.bucket:  # before the signature, as OSS does
                self._store.bucket(call.bucket)
            if call.action == Action.PostObject and not call.key:
                settings = self._settings
                visit.call, form = await open_form(
                    call, visit.body, max_put=settings.max_put
                )
                call = visit.call
                visit.body = IncomingBody(
                    form.receive_file, timeout=settings.body_timeout
                )
            self.authenticate(call)
            visit.fault = self.faults.strike(call, reused=visit.wire.reused) or _NONE
            visit.rate = visit.fault.bytes_per_second or traffic_limit(call)
            await self._prepare(visit)
            reply = await self._act(visit)
        except RefusedError as error:
            if not (visit.fault.is_early or "expect" in call.headers):
                await visit.body.linger()
            reply = error_reply(error, call, visit.request_id)
        fault = visit.fault
        if fault.delay:
            await visit.wire.connection.wait(fault.delay)
        if fault.drop_reply or fault.cut_reply_after == 0:
            raise CutError
        if fault.stall_reply_after == 0:
            await self._stall(visit)
        return fault.distort(reply)

    def authenticate(self, call: Call) -> None:
        region = self._settings.region
        refusal = verify_call(
            call,
            self._settings.keys.get,
            now=self._settings.clock(),
            regions=None if region is None else {region},
        )
        if refusal is not None:
            raise RefusedError(refusal)
        if region is not None and call.region not in (None, region):
            raise RefusedError(wrong_region(call.bucket, region))

    async def _prepare(self, visit: _Visit) -> None:
        fault, body, connection = visit.fault, visit.body, visit.wire.connection
        if fault.clock_jump:
            self._settings.clock.jump(fault.clock_jump)
            self.authenticate(visit.call)
        for status in fault.interim:
            visit.wire.interim(status)
        if fault.reset and not fault.breaks_somewhere:
            raise CutError

        async def refuse() -> None:
            raise self._error(visit)

        body.effects = in_order(
            (fault.stall_after, lambda: self._stall(visit)),
            (0 if fault.early else fault.early_after, refuse),
            (fault.cut_after, cut),
        )
        if (rate := visit.rate) is not None:
            body.pace = lambda size: connection.wait(size / rate)
        is_chunked = "transfer-encoding" in visit.call.headers
        if body.effects and not visit.call.content_length and not is_chunked:
            # The handlers of calls without a body do not read it.
            await body.drain()

    async def _stall(self, visit: _Visit) -> None:
        if visit.fault.stall_for is None:  # the request has no end
            self._record(visit, None)
        await visit.wire.connection.wait(visit.fault.stall_for)

    async def _act(self, visit: _Visit) -> EmulatorReply:
        call, fault = visit.call, visit.fault
        if not (fault.refuses or fault.error_body):
            return await self._handle(call, visit.body)
        if fault.refuses and fault.acts:
            await self._handle(call, visit.body)
        await visit.body.drain()
        error = self._error(visit)
        if fault.refuses:
            raise error
        return error_reply(error, call, visit.request_id, disguised=True)

    def _error(self, visit: _Visit) -> RefusedError:
        return visit.fault.error(RefusedCall(visit.call, self._settings))

    async def _handle(self, call: Call, body: IncomingBody) -> EmulatorReply:
        handler = HANDLERS.get(call.action)
        if handler is None:
            raise RefusedError(
                Refusal(
                    status=HTTPStatus.NOT_IMPLEMENTED,
                    code="NotImplemented",
                    message=f"The emulator does not implement {call.action}.",
                )
            )
        if call.key and check_key(call.key) is not None:
            raise refused("InvalidObjectName")
        bucket = self._store.bucket(call.bucket) if call.bucket else Bucket(name="")
        context = CallContext(call, body, bucket, self._store, self._settings)
        return await handler(context)

    def _cors(self, call: Call) -> dict[str, str]:
        allowed = self._settings.allowed(call.headers.get("origin"))
        if allowed is None:
            return {}
        return {
            "Access-Control-Allow-Origin": allowed,
            "Access-Control-Expose-Headers": _EXPOSED,
            "Vary": "Origin",
        }

    def _preflight(self, call: Call) -> EmulatorReply:
        """Return the reply to a preflight request, which browsers do not sign."""
        asked = call.headers
        allowed = self._settings.allowed(asked.get("origin"))
        if allowed is None or "access-control-request-method" not in asked:
            raise refused("AccessForbidden")
        headers = {
            "Access-Control-Allow-Methods": "GET, PUT, POST, DELETE, HEAD",
            "Access-Control-Max-Age": "600",
        }
        if (names := asked.get("access-control-request-headers")) is not None:
            headers["Access-Control-Allow-Headers"] = names
        return EmulatorReply(headers=headers)

    def _record(self, visit: _Visit, reply: EmulatorReply | None) -> None:
        """Add a request to the records once, before its reply is sent."""
        if visit.is_recorded:
            return
        visit.is_recorded = True
        call = visit.call
        sent = {} if reply is None else reply.headers
        headers = {name.lower(): value for name, value in sent.items()}
        self.records.append(
            RequestRecord(
                action=call.action,
                method=call.method,
                bucket=call.bucket,
                key=call.key,
                path=call.path,
                parameters=call.parameters,
                fields={} if call.form is None else call.form.fields,
                part_number=call.part_number,
                upload_id=call.upload_id,
                status=None if reply is None else reply.status,
                code=None if reply is None else reply.code,
                ec=headers.get("x-oss-ec", ""),
                request_headers=call.headers,
                response_headers=headers,
                bytes=visit.body.received,
                request_id=visit.request_id,
                connection=visit.wire.connection.number,
                fault=None if visit.fault is _NONE else visit.fault,
            )
        )


async def _send(reply: EmulatorReply, send: Send) -> None:
    headers = [
        (name.encode(), value.encode("utf-8", "surrogateescape"))
        for name, value in reply.headers.items()
    ]
    start = {
        "type": "http.response.start",
        "status": reply.status,
        "headers": headers,
    }
    await send(start)
    if isinstance(reply.body, bytes):
        await send({"type": "http.response.body", "body": reply.body})
        return
    for chunk in reply.body:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body"})
