"""ASGI application of the emulator: authenticates, executes and records requests."""

from __future__ import annotations

import sys
import uuid
from collections import deque
from collections.abc import Mapping, MutableMapping
from functools import partial
from http import HTTPStatus
from typing import Any

from attrs import define, evolve, field, frozen

from ..model import Action
from ..signing.canonical import SIGNATURES, TOKENS
from ..signing.endpoint import check_key
from ..signing.post_policy import SIGNATURE_FIELDS
from .context import CallContext
from .faults import Fault, Faults
from .forms import open_form
from .messages import (
    WITHOUT_BODY,
    Call,
    EmulatorReply,
    Refusal,
    RefusedError,
    error_reply,
    http_date,
    refused,
)
from .settings import EmulatorSettings
from .store import Bucket, Store
from .table import HANDLERS, read_call
from .verifying import verify
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

_SECRETS = SIGNATURE_FIELDS.union(
    ("authorization", "OSSAccessKeyId"), SIGNATURES, TOKENS
)
# Number of requests that are recorded. An emulator that runs for days must not fill the
# memory.
MAX_RECORDS = 100_000


def _without_secrets(values: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in values.items() if name not in _SECRETS}


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
        bytes: number of bytes that were read from the request body, or from a form's
            file.
        connection: number of the connection; requests with the same number shared it.
        fault: the fault that was applied; None without one.
    """

    action: str
    method: str
    bucket: str
    key: str
    path: str
    parameters: Mapping[str, str] = field(converter=_without_secrets)
    fields: Mapping[str, str] = field(converter=_without_secrets, repr=False)
    part_number: int | None
    upload_id: str | None
    status: int | None
    code: str | None
    ec: str
    request_headers: Mapping[str, str] = field(converter=_without_secrets, repr=False)
    bytes: int
    request_id: str
    connection: int
    fault: Fault | None = field(repr=False)


WIRE = "osspresigned.wire"

_NONE = Fault()


@define(kw_only=True, eq=False)
class _Visit:
    call: Call
    body: IncomingBody
    wire: Wire
    request_id: str
    fault: Fault = _NONE
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
        visit = _Visit(
            call=read_call(scope, self._settings.cnames),
            body=IncomingBody(receive),
            wire=scope["extensions"][WIRE],
            request_id=uuid.uuid4().hex[:24].upper(),
        )
        try:
            reply = await self._answer(visit)
            headers = {
                "Server": "AliyunOSS",
                "Date": http_date(self._settings.clock()),
                "x-oss-request-id": visit.request_id,
                **reply.headers,
            }
            if reply.status not in WITHOUT_BODY:
                headers["Content-Length"] = str(reply.content_length)
            reply = evolve(reply, headers=headers)
            self._record(visit, reply)
            await _send(reply, self._shaped(visit, reply, send))
        except (CutError, DisconnectedError) as end:
            self._record(visit, None)
            connection = visit.wire.connection
            connection.break_off(reset=visit.fault.reset and isinstance(end, CutError))
            await connection.gone.wait()

    def _shaped(self, visit: _Visit, reply: EmulatorReply, send: Send) -> Send:
        length = 0 if visit.call.method == "HEAD" else reply.content_length
        fault, stall = visit.fault, partial(self._stall, visit)
        effects = (
            (fault.stall_reply_after, stall),
            (fault.cut_reply_after, cut),
            (sys.maxsize if fault.hang_up else None, cut),
        )
        rate = fault.bytes_per_second
        if rate is None and all(at is None for at, _ in effects):
            return send
        return ShapedReply(visit.wire, send, length, rate, *effects).send

    async def _answer(self, visit: _Visit) -> EmulatorReply:
        try:
            if visit.call.bucket:  # OSS checks this before the signature
                self._store.bucket(visit.call.bucket)
            visit.call, visit.body = await self.opened(visit.call, visit.body)
            call = visit.call
            self.authenticate(call)
            visit.fault = self.faults.strike(call, reused=visit.wire.reused) or _NONE
            await self._prepare(visit)
            reply = await self._act(visit)
        except RefusedError as error:
            is_early = visit.fault.early_after is not None
            if not (is_early or "expect" in visit.call.headers):
                await visit.body.linger()
            reply = error_reply(error, visit.call, visit.request_id)
        fault = visit.fault
        if fault.delay:
            await visit.wire.connection.wait(fault.delay)
        if fault.drop_reply or fault.cut_reply_after == 0:
            raise CutError
        if fault.stall_reply_after == 0:
            await self._stall(visit)
        return fault.distort(reply)

    async def opened(self, call: Call, body: IncomingBody) -> tuple[Call, IncomingBody]:
        """Return *call* and *body*; for a form, with its fields and its file."""
        if call.action != Action.PostObject or call.key:
            return call, body
        call, form = await open_form(call, body)
        return call, IncomingBody(form.receive_file)

    def authenticate(self, call: Call) -> None:
        refusal = verify(
            call,
            find=self._settings.keys.get,
            now=self._settings.clock(),
            regions={self._settings.region},
        )
        if refusal is not None:
            raise RefusedError(refusal)

    async def handle(self, call: Call, body: IncomingBody) -> EmulatorReply:
        """Execute an authenticated call."""
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
            raise fault.error(visit.call, self._settings)

        body.effects = in_order(
            (fault.stall_after, partial(self._stall, visit)),
            (fault.early_after, refuse),
            (fault.cut_after, cut),
        )
        if (rate := fault.bytes_per_second) is not None:
            body.pace = lambda size: connection.wait(size / rate)
        is_chunked = "transfer-encoding" in visit.call.headers
        if body.effects and not visit.call.content_length and not is_chunked:
            # The handlers of calls without a body do not read it.
            await body.drain()

    async def _stall(self, visit: _Visit) -> None:
        if visit.fault.stall_for is None:
            # the request never ends, so it is recorded now
            self._record(visit, None)
        await visit.wire.connection.wait(visit.fault.stall_for)

    async def _act(self, visit: _Visit) -> EmulatorReply:
        call, fault = visit.call, visit.fault
        if not (fault.refuses or fault.error_body):
            return await self.handle(call, visit.body)
        if fault.refuses and fault.acts:
            await self.handle(call, visit.body)
        await visit.body.drain()
        error = fault.error(call, self._settings)
        if fault.refuses:
            raise error
        return error_reply(error, call, visit.request_id, disguised=True)

    def _record(self, visit: _Visit, reply: EmulatorReply | None) -> None:
        """Add a request to the records once, before its reply is sent."""
        if visit.is_recorded:
            return
        visit.is_recorded = True
        call = visit.call
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
                ec="" if reply is None else reply.headers.get("x-oss-ec", ""),
                request_headers=call.headers,
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
