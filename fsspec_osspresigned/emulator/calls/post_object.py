"""PostObject: stores an object from an HTML form with a signed policy."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from pathlib import PurePosixPath
from urllib.parse import quote

from attrs import evolve

from ...model import FORBID_OVERWRITE, OBJECT_ACL
from ..message.authentication import size_range
from ..message.errors import refused
from ..message.form import IncomingForm
from ..message.replies import EmulatorReply, quoted, xml_reply
from ..message.request_body import IncomingBody, too_large
from ..message.request_head import Call, ReceivedForm
from ..store.bodies import Piece
from ..store.store import StoredObject
from .context import CallContext, confirmation, invalid_argument
from .object_headers import HTTP_PROPERTIES, read_properties

_TYPE, _FIRST_TYPE = "content-type", "x-oss-content-type"
_STATUSES = ("200", "201")
_NOT_DONE = ("x-oss-process",)
_TOO_LARGE, _TOO_SMALL = "0006-00000003", "0006-00000004"


async def open_form(
    call: Call, body: IncomingBody, *, max_put: int
) -> tuple[Call, IncomingForm]:
    """Read the fields of the form in *body*; return the call with them, and the form.

    The call gets the object key from the field ``key``.
    """
    if call.headers.keys().isdisjoint(("content-length", "transfer-encoding")):
        raise refused("MissingContentLength")
    if (call.content_length or 0) > max_put:
        raise too_large(max_put)
    incoming = IncomingForm(body, call.headers)
    form = await incoming.read_fields()
    if not form.fields.get("key"):
        raise invalid_argument("The form has no key in front of its file.", "key")
    # The policy sees the key as it was sent.
    path = PurePosixPath((form.file.filename or "").replace("\\", "/"))
    key = form.fields["key"].replace("${filename}", path.name)
    return evolve(call, key=key, form=form), incoming


async def post_object(context: CallContext) -> EmulatorReply:
    """Store the file of a form; after a refusal, the object is unchanged."""
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
    told = confirmation(stored)
    if callback is not None:
        return context.after_callback(EmulatorReply(headers=told), callback)
    if success.status == HTTPStatus.CREATED:
        success = _document(sent, stored)
    return evolve(success, headers={**success.headers, **told})


def _headers(call: Call, form: ReceivedForm) -> dict[str, str]:
    """Return the headers of the PutObject call that would store the same object."""
    fields = form.fields
    if fields.get(FORBID_OVERWRITE, "true").lower() not in ("true", "false"):
        message = f"{FORBID_OVERWRITE} must be true or false."
        raise invalid_argument(message, FORBID_OVERWRITE, ec="0006-00000117")
    for name in _NOT_DONE:
        if name in fields:
            raise refused("NotImplemented", Header=name)
    acl = fields.get("acl") or call.headers.get(OBJECT_ACL)  # the field wins
    kind = fields.get(_FIRST_TYPE) or form.file.content_type or fields.get(_TYPE)
    taken = {
        name: value
        for name, value in fields.items()
        if name.startswith("x-oss-") or name in HTTP_PROPERTIES
    }
    given = {OBJECT_ACL: acl, **taken, _TYPE: kind}
    given["x-oss-callback"] = fields.get("callback")
    return {name: value for name, value in given.items() if value is not None}


def _check_text(name: str, value: str) -> None:
    """Raise RefusedError if the text of a field is not a valid header value."""
    if not f"{name}{value}".isprintable():
        raise invalid_argument("The value of a field is not valid.", name)


def _success(form: ReceivedForm) -> EmulatorReply:
    """Return the success reply that the form requests: a status, or a redirect."""
    if target := form.fields.get("success_action_redirect"):
        _check_text("success_action_redirect", target)
        # OSS does not document the status; this one makes a GET of the POST.
        return EmulatorReply(status=303, headers={"Location": target})
    status = form.fields.get("success_action_status", "")
    return EmulatorReply(status=int(status) if status in _STATUSES else 204)


def _document(call: Call, stored: StoredObject) -> EmulatorReply:
    place = f"http://{call.host}{call.path.rstrip('/')}/{quote(stored.key)}"
    content = {"Bucket": call.bucket, "ETag": quoted(stored.etag), "Key": stored.key}
    reply = xml_reply("PostResponse", {"Location": place, **content})
    return evolve(reply, status=HTTPStatus.CREATED)


async def _receive(context: CallContext, form: ReceivedForm) -> Piece:
    """Receive the file of a form; RefusedError if the policy forbids its size."""
    limit, ec = context.settings.max_put, ""
    least, most = size_range(form) or (0, limit)
    if most <= limit:
        limit, ec = most, _TOO_LARGE
    with context.store.spool() as spool:
        await context.body.into(spool, limit=limit, ec=ec)
        piece = spool.finish()
    if piece.size < least:
        raise refused(
            "EntityTooSmall",
            ec=_TOO_SMALL,
            MinSizeAllowed=str(least),
            ProposedSize=str(piece.size),
        )
    return piece
