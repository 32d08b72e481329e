"""PostObject: stores an object from an HTML form with a signed policy.

The form has fields, then the bytes of its file. This parser finds the next boundary
with one ``find``. Form libraries would deliver many small events instead.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, MutableMapping
from email.message import Message
from email.parser import HeaderParser
from email.utils import collapse_rfc2231_value
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from attrs import evolve

from ..model import FORBID_OVERWRITE, MAX_SINGLE_PUT
from ..units import MIB
from .context import (
    HTTP_PROPERTIES,
    CallContext,
    confirmation,
    read_properties,
)
from .messages import (
    Call,
    EmulatorReply,
    FormPart,
    ReceivedForm,
    invalid_argument,
    quoted,
    refused,
    too_small,
    xml_reply,
)
from .store import Piece, StoredObject
from .verifying import size_range
from .wire import IncomingBody

_FILE = "file"
_NO_FILE = "0006-00000107"
_MAX_FIELD = 2 * MIB
_LINE, _END, _BLANK = b"\r\n", b"--", b"\r\n\r\n"
_TOO_LARGE, _TOO_SMALL = "0006-00000003", "0006-00000004"


class IncomingForm:
    """Reads the form in *body* once; RefusedError if it is incomplete."""

    def __init__(self, body: IncomingBody, headers: Mapping[str, str]) -> None:
        head = Message()
        head["content-type"] = headers.get("content-type", "")
        boundary = head.get_boundary()
        if head.get_content_type() != "multipart/form-data" or not boundary:
            raise refused("RequestIsNotMultiPartContent")
        self._body = body
        self._mark = b"\r\n--" + boundary.encode("utf-8", "surrogateescape")
        self._held = _LINE  # makes the first boundary look like all others

    async def read_fields(self) -> ReceivedForm:
        await self._until(self._mark)
        fields: dict[str, str] = {}
        while await self._has_part():
            part = await self._read_head()
            if part.name == _FILE:
                return ReceivedForm(fields, part)
            if part.name in fields:
                message = "A field is given twice in the form."
                raise refused("InvalidArgument", message, ArgumentName=part.name)
            fields[part.name] = _decoded(await self._until(self._mark))
        raise refused("MalformedPOSTRequest", ec=_NO_FILE)

    async def receive_file(self) -> MutableMapping[str, Any]:
        """Return the next bytes of the file as an ASGI message.

        The last bytes are returned only after the whole form has arrived. Fields after
        the file are ignored, as by OSS.
        """
        data, more = await self._up_to_mark()
        if not more:
            while await self._has_part():
                await self._until(self._mark)
            await self._body.drain()
        return {"type": "http.request", "body": data, "more_body": more}

    async def _has_part(self) -> bool:
        while len(self._held) < len(_LINE):
            await self._fill()
        follows, self._held = self._held[:2], self._held[2:]
        if follows not in (_LINE, _END):
            raise refused("MalformedPOSTRequest")
        return follows == _LINE

    async def _read_head(self) -> FormPart:
        head = HeaderParser().parsestr(_decoded(await self._until(_BLANK)))
        name = head.get_param("name", header="content-disposition")
        if head.get_content_disposition() != "form-data" or name is None:
            raise refused("MalformedPOSTRequest")
        if "content-transfer-encoding" in head:  # OSS may decode such a part
            raise refused("NotImplemented", Header="Content-Transfer-Encoding")
        name = collapse_rfc2231_value(name).lower()
        return FormPart(name, head.get_filename(), head.get("content-type"))

    async def _until(self, mark: bytes) -> bytes:
        while (at := self._held.find(mark)) < 0:
            if len(self._held) > _MAX_FIELD:
                raise refused("MaxPOSTPreDataLengthExceededError")
            await self._fill()
        data, self._held = self._held[:at], self._held[at + len(mark) :]
        return data

    async def _up_to_mark(self) -> tuple[bytes, bool]:
        """Return bytes before the next boundary, and whether more may follow."""
        mark = self._mark
        while (at := self._held.find(mark)) < 0:
            # Bytes are kept back only if a boundary may begin with them.
            at = self._held.rfind(b"\r", -len(mark))
            if at < 0 or not mark.startswith(self._held[at:]):
                at = len(self._held)
            if at > 0:
                data, self._held = self._held[:at], self._held[at:]
                return data, True
            await self._fill()
        data, self._held = self._held[:at], self._held[at + len(mark) :]
        return data, False

    async def _fill(self) -> None:
        data = await self._body.read()
        if data is None:
            raise refused("MalformedPOSTRequest")
        self._held += data


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise refused("InvalidArgument", "The form is not in UTF-8.") from error


async def open_form(call: Call, body: IncomingBody) -> tuple[Call, IncomingForm]:
    """Return *sent* with the fields of the form in *body*, and the form itself.

    The form's file is not read yet. RefusedError if the fields are invalid.
    """
    incoming = IncomingForm(body, call.headers)
    form = await incoming.read_fields()
    if not form.fields.get("key"):
        raise invalid_argument("The form has no key in front of its file.", "key")
    # The policy is checked against the key as it was sent.
    path = PurePosixPath((form.file.filename or "").replace("\\", "/"))
    key = form.fields["key"].replace("${filename}", path.name)
    return evolve(call, key=key, form=form), incoming


async def post_object(context: CallContext) -> EmulatorReply:
    sent = context.call
    form = sent.form
    if form is None:  # the path names an object, not a bucket
        raise refused("MethodNotAllowed", Method="POST", ResourceType="PostObject")
    # From here on, the form is handled like a call whose headers are the form's fields.
    call = evolve(sent, query="", headers=_headers(form))
    context = evolve(context, call=call)
    headers = read_properties(call)
    for name, value in headers.items():
        if not f"{name}{value}".isprintable():
            raise invalid_argument("The value of a field is not valid.", name)
    callback = context.callback()
    context.check_exclusive()
    piece = await _receive(context, form)
    stored = context.put(
        StoredObject(
            key=call.key,
            etag=uuid.uuid4().hex.upper(),  # not the MD5: OSS does the same
            crc64=piece.crc64,
            headers=headers,
            modified=context.now,
            body=(piece.body,),
        )
    )
    stored_headers = confirmation(stored)
    if callback is not None:
        return context.after_callback(EmulatorReply(headers=stored_headers), callback)
    status = form.fields.get("success_action_status", "")
    if status == "201":
        content = {
            "Location": f"http://{sent.host}{sent.path.rstrip('/')}/{quote(stored.key)}",
            "Bucket": sent.bucket,
            "ETag": quoted(stored.etag),
            "Key": stored.key,
        }
        reply = xml_reply("PostResponse", content, stored_headers)
        return evolve(reply, status=HTTPStatus.CREATED)
    return EmulatorReply(status=200 if status == "200" else 204, headers=stored_headers)


def _headers(form: ReceivedForm) -> dict[str, str]:
    """Return the headers of the PutObject call that would store the same object."""
    fields = form.fields
    if fields.get(FORBID_OVERWRITE, "true").lower() not in ("true", "false"):
        message = f"{FORBID_OVERWRITE} must be true or false."
        raise invalid_argument(message, FORBID_OVERWRITE, ec="0006-00000117")
    for name in ("x-oss-process", "success_action_redirect"):
        if name in fields:
            raise refused("NotImplemented", Header=name)
    content_type = (
        fields.get("x-oss-content-type")
        or form.file.content_type
        or fields.get("content-type")
    )
    taken = {
        name: value
        for name, value in fields.items()
        if name.startswith("x-oss-") or name in HTTP_PROPERTIES
    }
    headers = {**taken, "content-type": content_type}
    headers["x-oss-callback"] = fields.get("callback")
    return {name: value for name, value in headers.items() if value is not None}


async def _receive(context: CallContext, form: ReceivedForm) -> Piece:
    limit, ec = MAX_SINGLE_PUT, ""
    minimum, maximum = size_range(form) or (0, limit)
    if maximum <= limit:
        limit, ec = maximum, _TOO_LARGE
    piece = await context.receive(limit, ec)
    if piece.size < minimum:
        raise too_small(minimum, piece.size, ec=_TOO_SMALL)
    return piece
