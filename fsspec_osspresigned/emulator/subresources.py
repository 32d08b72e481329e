"""Calls on parts of an object other than its bytes: ACL, tags, symlink, restore."""

from __future__ import annotations

from urllib.parse import urlencode

from .. import parsing
from ..model import OBJECT_ACL, STORAGE_CLASS
from .context import (
    OWNER,
    RESTORED,
    TAGGING,
    TARGET,
    CallContext,
    check_choices,
    check_tags,
    confirmation,
    document,
    invalid_argument,
    read_properties,
    read_tags,
)
from .messages import Content, EmulatorReply, http_date, refused
from .store import SYMLINK, StoredObject

_MAX_BODY = 64 * 1024
_DAY = 86_400  # seconds


def _acl(context: CallContext) -> Content:
    acl = context.find_object().headers.get(OBJECT_ACL, "default")
    return {"Owner": OWNER, "AccessControlList": {"Grant": acl}}


def _tagging(context: CallContext) -> Content:
    tags = read_tags(context.find_object().headers.get(TAGGING, ""))
    return {"TagSet": {"Tag": [{"Key": name, "Value": value} for name, value in tags]}}


get_object_acl = document("AccessControlPolicy", _acl)
get_object_tagging = document("Tagging", _tagging)


async def put_object_acl(context: CallContext) -> EmulatorReply:
    """Set the ACL of an object to the one in the header."""
    await context.body.drain()
    check_choices(context.call.headers)
    if OBJECT_ACL not in context.call.headers:
        raise invalid_argument("The ACL is missing.", OBJECT_ACL)
    context.amend(OBJECT_ACL, context.call.headers[OBJECT_ACL])
    return EmulatorReply()


async def put_object_tagging(context: CallContext) -> EmulatorReply:
    """Replace the tags of an object by those in the XML document."""
    body = await context.receive_document(_MAX_BODY)
    try:
        rows = parsing.parse(body, "Tagging").iterfind("TagSet/Tag")
    except ValueError as error:
        raise refused("MalformedXML") from error
    text = urlencode([(r.findtext("Key", ""), r.findtext("Value", "")) for r in rows])
    check_tags(text)
    context.amend(TAGGING, text)
    return EmulatorReply()


async def delete_object_tagging(context: CallContext) -> EmulatorReply:
    """Remove all tags of an object."""
    context.amend(TAGGING, None)
    return EmulatorReply(status=204)


async def put_symlink(context: CallContext) -> EmulatorReply:
    """Store a symbolic link to another object, which need not exist."""
    await context.body.drain()
    headers = read_properties(context.call)
    if not (target := context.call.headers.get(TARGET)):
        raise invalid_argument("The target is missing.", TARGET)
    with context.store.spool() as spool:
        piece = spool.finish()
    stored = StoredObject(
        key=context.call.key,
        etag=piece.etag,
        crc64=piece.crc64,
        headers={**headers, TARGET: target},
        kind=SYMLINK,
        modified=context.now,
    )
    return EmulatorReply(headers=confirmation(context.put(stored)))


async def get_symlink(context: CallContext) -> EmulatorReply:
    """Return the target of a symbolic link."""
    stored = context.find_object()
    if stored.kind != SYMLINK:
        raise refused("NotSymlink")
    headers = confirmation(stored) | {TARGET: stored.headers[TARGET]}
    return EmulatorReply(headers=headers)


async def restore_object(context: CallContext) -> EmulatorReply:
    """Make an archived object readable immediately: 202 the first time, then 200."""
    body = await context.receive_document(_MAX_BODY)
    stored = context.find_object()
    if "Archive" not in stored.headers[STORAGE_CLASS]:
        raise refused("OperationNotSupported")
    headers = _restoring(body, is_cold=stored.headers[STORAGE_CLASS] != "Archive")
    if RESTORED in stored.headers:
        return EmulatorReply(headers=headers)
    end = http_date(context.now + _DAY)
    context.amend(RESTORED, f'ongoing-request="false", expiry-date="{end}"')
    return EmulatorReply(status=202, headers=headers)


def _restoring(body: bytes, *, is_cold: bool) -> dict[str, str]:
    """Return the header with the restore priority in the XML *body*.

    The result is empty unless *is_cold*: other objects have no priority.
    """
    tier = None
    if body:
        try:
            tier = parsing.parse(body, "RestoreRequest").findtext("JobParameters/Tier")
        except ValueError as error:
            raise refused("MalformedXML") from error
    if not is_cold:
        if tier is not None:
            raise refused("MalformedXML")
        return {}
    if (tier := tier or "Standard") not in ("Expedited", "Standard", "Bulk"):
        raise invalid_argument("The tier is not valid.", "Tier", tier)
    return {"x-oss-object-restore-priority": tier}
