"""Calls that read an object, and their conditional headers and byte ranges."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

from ..model import OBJECT_ACL, STORAGE_CLASS
from .context import (
    HTTP_PROPERTIES,
    OWNER,
    CallContext,
    check_traffic_limit,
    checksums,
    confirmation,
    shown,
)
from .messages import (
    Call,
    EmulatorReply,
    http_date,
    invalid_argument,
    refused,
    xml_reply,
)
from .store import APPENDABLE, NEXT_POSITION, StoredObject

_is_range = re.compile("bytes=([0-9]{0,18})-([0-9]{0,18})").fullmatch


async def get_object(context: CallContext) -> EmulatorReply:
    call = context.call
    check_traffic_limit(call)
    stored = context.find_object()
    check_readable(stored)
    check_conditions(call, stored)
    headers = _headers(stored)
    for name in HTTP_PROPERTIES:
        if (value := call.parameters.get(f"response-{name}")) is not None:
            if not value.isprintable():
                raise invalid_argument("The header is not valid.", name)
            headers[name] = value
    span = wanted_range(call, stored.size)
    start, stop = span or (0, stored.size)
    if span:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
        headers.pop("Content-MD5", None)
    return EmulatorReply(
        status=206 if span else 200,
        headers=headers,
        body=stored.chunks(start, stop),
        length=stop - start,
    )


async def head_object(context: CallContext) -> EmulatorReply:
    stored = context.find_object()
    check_conditions(context.call, stored)
    return EmulatorReply(headers=_headers(stored), length=stored.size)


async def get_object_meta(context: CallContext) -> EmulatorReply:
    stored = context.find_object()
    check_conditions(context.call, stored)
    return EmulatorReply(
        headers={
            "Last-Modified": http_date(stored.modified),
            **checksums(stored.etag, stored.crc64),
        },
        length=stored.size,
    )


async def get_object_acl(context: CallContext) -> EmulatorReply:
    acl = context.find_object().headers.get(OBJECT_ACL, "default")
    content = {"Owner": OWNER, "AccessControlList": {"Grant": acl}}
    return xml_reply("AccessControlPolicy", content)


def check_readable(stored: StoredObject) -> None:
    if "Archive" in stored.headers[STORAGE_CLASS]:
        raise refused("InvalidObjectState")


def _headers(stored: StoredObject) -> dict[str, str]:
    return {
        "Accept-Ranges": "bytes",
        "Last-Modified": http_date(stored.modified),
        "x-oss-object-type": stored.kind,
        **shown(stored.headers),
        **confirmation(stored),
        **({NEXT_POSITION: str(stored.size)} if stored.kind == APPENDABLE else {}),
    }


def check_conditions(call: Call, stored: StoredObject, prefix: str = "") -> None:
    """Raise RefusedError if a conditional header does not hold, or is not supported.

    The names of these headers are *prefix* + ``if-...``.
    """
    for name in ("if-none-match", "if-modified-since"):
        if prefix + name in call.headers:
            raise refused("NotImplemented", Header=prefix + name)
    match = call.headers.get(f"{prefix}if-match")
    since = _seconds(call.headers.get(f"{prefix}if-unmodified-since"))
    if match is not None and not _matches(match, stored.etag):
        raise refused("PreconditionFailed", Condition="If-Match")
    if since is not None and int(stored.modified) > since:
        raise refused("PreconditionFailed", Condition="If-Unmodified-Since")


def _matches(tags: str, etag: str) -> bool:
    names = {name.strip().strip('"').upper() for name in tags.split(",")}
    return "*" in names or etag.upper() in names


def _seconds(text: str | None) -> int | None:
    """Return an HTTP date as seconds since the epoch; None if OSS would ignore it."""
    try:
        return None if text is None else int(parsedate_to_datetime(text).timestamp())
    except (OverflowError, ValueError):
        return None


def wanted_range(call: Call, size: int) -> tuple[int, int] | None:
    """Return start and end offset (exclusive) of a range; None for the whole object.

    For a range outside the object, OSS returns the whole object. If standard behavior
    is requested (API reference, GetObject, ``x-oss-range-behavior``), RefusedError is
    raised.
    """
    match = _is_range(call.headers.get("range", "").replace(" ", ""))
    if not match or not (match[1] or match[2]):
        return None
    standard = call.headers.get("x-oss-range-behavior") == "standard"
    if match[1]:
        start, end = int(match[1]), int(match[2] or max(size - 1, 0))
        if match[2] and end < start:
            return None
    else:
        start, end = size - int(match[2]), size - 1
        start = max(start, 0) if standard else start
    if 0 <= start < size and (end < size or standard):
        return start, min(end + 1, size)
    if not standard:
        return None
    raise refused("InvalidRange", headers={"Content-Range": f"bytes */{size}"})


def copied_range(call: Call, size: int) -> tuple[int, int]:
    """Return start and end offset (exclusive) of the bytes to copy.

    RefusedError for a range outside the source.
    """
    text = call.headers.get("x-oss-copy-source-range")
    if text is None:
        return 0, size
    match = _is_range(text)
    if match and match[1]:
        start, end = int(match[1]), int(match[2] or size - 1)
        if start <= end < size:
            return start, end + 1
    raise refused("InvalidRange")
