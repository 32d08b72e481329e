"""PostObject: stores an object from an HTML form with a signed policy.

The form has fields, then the bytes of its file. The package has its own parser because
reading up to the next boundary is one ``find``; libraries for forms deliver many small
events instead.
"""

from __future__ import annotations

import base64
import hashlib
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

from ..model import FORBID_OVERWRITE, OBJECT_ACL
from ..units import KIB, MIB
from .context import (
    HTTP_PROPERTIES,
    CallContext,
    check_length,
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
_MAX_NAME = 8 * KIB
_MAX_VALUE = 2 * MIB
_MAX_FIELDS = 8 * MIB
_MAX_HEAD = 2 * _MAX_NAME  # of one part
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
        self._held = _LINE  # so that the first boundary is like the others
        self._wanted = headers.get("content-md5")
        self._digest = hashlib.md5(usedforsecurity=False)

    async def read_fields(self) -> ReceivedForm:
        await self._until(self._mark, 0)
        fields: dict[str, str] = {}
        size = 0
        while await self._has_part():
            part = await self._read_head()
            if part.name == _FILE:
                return ReceivedForm(fields, part)
            if part.name in fields:
                message = "A field is given twice in the form."
                raise refused("InvalidArgument", message, ArgumentName=part.name)
            value = await self._until(self._mark, _MAX_VALUE)
            fields[part.name] = _decoded(value)
            size += len(value)
            if size > _MAX_FIELDS:
                raise refused("MaxPOSTPreDataLengthExceededError")
        raise refused("MalformedPOSTRequest", ec=_NO_FILE)

    async def receive_file(self) -> MutableMapping[str, Any]:
        """Return the next bytes of the file as an ASGI message.

        The last bytes are returned only after the whole form has arrived.
        """
        data, more = await self._up_to_mark()
        if not more:
            await self._finish()
        return {"type": "http.request", "body": data, "more_body": more}

    async def _finish(self) -> None:
        """Read the form to its end; fields after the file are ignored, as by OSS.

        RefusedError if there is a second file, or another Content-MD5.
        """
        while await self._has_part():
            if (await self._read_head()).name == _FILE:
                raise refused("IncorrectNumberOfFilesInPOSTRequest")
            while (await self._up_to_mark())[1]:
                pass
        while await self._read() is not None:
            pass
        digest = base64.b64encode(self._digest.digest()).decode()
        if self._wanted not in (None, digest):
            raise refused("InvalidDigest")

    async def _has_part(self) -> bool:
        while len(self._held) < len(_LINE):
            await self._fill()
        follows, self._held = self._held[:2], self._held[2:]
        if follows not in (_LINE, _END):
            raise refused("MalformedPOSTRequest")
        return follows == _LINE

    async def _read_head(self) -> FormPart:
        text = await self._until(_BLANK, _MAX_HEAD)
        head = HeaderParser().parsestr(_decoded(text))
        name = head.get_param("name", header="content-disposition")
        if head.get_content_disposition() != "form-data" or name is None:
            raise refused("MalformedPOSTRequest")
        if "content-transfer-encoding" in head:  # which OSS may decode
            raise refused("NotImplemented", Header="Content-Transfer-Encoding")
        name = collapse_rfc2231_value(name).lower()
        if len(name.encode("utf-8", "surrogateescape")) > _MAX_NAME:
            raise refused("FieldItemTooLong")
        return FormPart(name, head.get_filename(), head.get("content-type"))

    async def _until(self, mark: bytes, limit: int) -> bytes:
        code = "FieldItemTooLong" if limit else "MalformedPOSTRequest"
        while (at := self._held.find(mark)) < 0:
            if len(self._held) > limit + len(mark):
                raise refused(code)
            await self._fill()
        if at > limit:
            raise refused(code)
        data, self._held = self._held[:at], self._held[at + len(mark) :]
        return data

    async def _up_to_mark(self) -> tuple[bytes, bool]:
        """Return bytes before the next boundary, and whether more may follow."""
        mark = self._mark
        while (at := self._held.find(mark)) < 0:
            # Only its beginning is held back, and only a boundary begins so.
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
        data = await self._read()
        if data is None:
            raise refused("MalformedPOSTRequest")
        self._held += data

    async def _read(self) -> bytes | None:
        data = await self._body.read()
        if data is not None and self._wanted is not None:
            self._digest.update(data)
        return data


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise refused("InvalidArgument", "The form is not in UTF-8.") from error


async def open_form(
    call: Call, body: IncomingBody, *, max_put: int
) -> tuple[Call, IncomingForm]:
    """Return the call with the fields of the form in *body*, and the form.

    The form's file is not read yet. RefusedError if the fields are invalid.
    """
    check_length(call, max_put)
    incoming = IncomingForm(body, call.headers)
    form = await incoming.read_fields()
    if not form.fields.get("key"):
        raise invalid_argument("The form has no key in front of its file.", "key")
    # The policy sees the key as it was sent.
    path = PurePosixPath((form.file.filename or "").replace("\\", "/"))
    key = form.fields["key"].replace("${filename}", path.name)
    return evolve(call, key=key, form=form), incoming


async def post_object(context: CallContext) -> EmulatorReply:
    sent = context.call
    form = sent.form
    if form is None:  # the path names an object
        raise refused("MethodNotAllowed", Method="POST", ResourceType="PostObject")
    # From here on it is a call whose headers are the fields.
    call = evolve(sent, parameters={}, headers=_headers(sent, form))
    context = evolve(context, call=call)
    headers = read_properties(call)
    for name, value in headers.items():
        _check_text(name, value)
    callback = context.callback()
    success = _success(form)
    context.check_exclusive()
    piece = await _receive(context, form)
    stored = context.put(
        StoredObject(
            key=call.key,
            etag=uuid.uuid4().hex.upper(),  # not the MD5, as with OSS
            crc64=piece.crc64,
            headers=headers,
            modified=context.now,
            body=(piece.body,),
        )
    )
    stored_headers = confirmation(stored)
    if callback is not None:
        return context.after_callback(EmulatorReply(headers=stored_headers), callback)
    if success.status == HTTPStatus.CREATED:
        content = {
            "Location": f"http://{sent.host}{sent.path.rstrip('/')}/{quote(stored.key)}",
            "Bucket": sent.bucket,
            "ETag": quoted(stored.etag),
            "Key": stored.key,
        }
        document = xml_reply("PostResponse", content)
        success = evolve(document, status=HTTPStatus.CREATED)
    return evolve(success, headers={**success.headers, **stored_headers})


def _headers(call: Call, form: ReceivedForm) -> dict[str, str]:
    """Return the headers of the PutObject call that would store the same object."""
    fields = form.fields
    if fields.get(FORBID_OVERWRITE, "true").lower() not in ("true", "false"):
        message = f"{FORBID_OVERWRITE} must be true or false."
        raise invalid_argument(message, FORBID_OVERWRITE, ec="0006-00000117")
    if "x-oss-process" in fields:
        raise refused("NotImplemented", Header="x-oss-process")
    acl = fields.get("acl") or call.headers.get(OBJECT_ACL)  # the field wins
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
    headers = {OBJECT_ACL: acl, **taken, "content-type": content_type}
    headers["x-oss-callback"] = fields.get("callback")
    return {name: value for name, value in headers.items() if value is not None}


def _check_text(name: str, value: str) -> None:
    if not f"{name}{value}".isprintable():
        raise invalid_argument("The value of a field is not valid.", name)


def _success(form: ReceivedForm) -> EmulatorReply:
    if target := form.fields.get("success_action_redirect"):
        _check_text("success_action_redirect", target)
        # OSS does not document the status; this one makes a GET of the POST.
        return EmulatorReply(status=303, headers={"Location": target})
    status = form.fields.get("success_action_status", "")
    return EmulatorReply(status=int(status) if status in ("200", "201") else 204)


async def _receive(context: CallContext, form: ReceivedForm) -> Piece:
    limit, ec = context.settings.max_put, ""
    minimum, maximum = size_range(form) or (0, limit)
    if maximum <= limit:
        limit, ec = maximum, _TOO_LARGE
    piece = await context.receive(limit, ec)
    if piece.size < minimum:
        raise too_small(minimum, piece.size, ec=_TOO_SMALL)
    return piece
