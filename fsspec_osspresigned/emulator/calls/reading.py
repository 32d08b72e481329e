"""Calls that read an object: GetObject, HeadObject and its sub-resources."""

from __future__ import annotations

from ...model import OBJECT_ACL
from ..message.replies import EmulatorReply, http_date, xml_reply
from ..store.stored import StoredObject
from .conditions import check_conditions, wanted_range
from .context import OWNER, CallContext, checksums, confirmation, invalid_argument
from .properties import (
    HTTP_PROPERTIES,
    TAGGING,
    check_traffic_limit,
    read_tags,
    shown,
)


async def get_object(context: CallContext) -> EmulatorReply:
    """Answer an object, or a range of it."""
    call = context.call
    check_traffic_limit(call)
    stored = context.find_object()
    check_conditions(call, stored)
    headers = _headers(stored)
    for name in HTTP_PROPERTIES:
        if (value := call.parameters.get(f"response-{name}")) is not None:
            if not value.isprintable():
                raise invalid_argument("The header is not valid.", name)
            headers[name] = value
    found = wanted_range(call, stored.size)
    start, stop = found or (0, stored.size)
    if found:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
        headers.pop("Content-MD5", None)
    return EmulatorReply(
        status=206 if found else 200,
        headers=headers,
        body=stored.body.chunks(start, stop),
        length=stop - start,
    )


async def head_object(context: CallContext) -> EmulatorReply:
    """Answer the headers of an object."""
    stored = context.find_object()
    check_conditions(context.call, stored)
    return EmulatorReply(headers=_headers(stored), length=stored.size)


async def get_object_meta(context: CallContext) -> EmulatorReply:
    """Answer length, time and checksums of an object."""
    stored = context.find_object()
    check_conditions(context.call, stored)
    return EmulatorReply(
        headers={
            "Last-Modified": http_date(stored.modified),
            **checksums(stored.etag, stored.crc64),
        },
        length=stored.size if context.call.method == "HEAD" else None,
    )


async def get_object_acl(context: CallContext) -> EmulatorReply:
    """Answer the ACL that the object was stored with."""
    acl = context.find_object().headers.get(OBJECT_ACL, "default")
    return xml_reply(
        "AccessControlPolicy", OWNER, ("AccessControlList", [("Grant", acl)])
    )


async def get_object_tagging(context: CallContext) -> EmulatorReply:
    """Answer the tags that the object was stored with."""
    tags = read_tags(context.find_object().headers.get(TAGGING, ""))
    rows = [("Tag", [("Key", name), ("Value", value)]) for name, value in tags]
    return xml_reply("Tagging", ("TagSet", rows))


def _headers(stored: StoredObject) -> dict[str, str]:
    return {
        "Accept-Ranges": "bytes",
        "Last-Modified": http_date(stored.modified),
        "x-oss-object-type": stored.kind,
        **shown(stored.headers),
        **confirmation(stored),
    }
