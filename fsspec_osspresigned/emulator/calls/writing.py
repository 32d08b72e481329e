"""Calls that write or delete objects: PutObject, CopyObject, AppendObject, deletes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from urllib.parse import quote, unquote_plus

from attrs import evolve

from ... import parsing
from ...http.checksums import combine
from ...model import COPY_SOURCE
from ...units import oss_moment
from ..message.errors import refused
from ..message.replies import EmulatorReply, quoted, xml_reply
from ..message.request_body import too_large
from ..store.store import (
    APPENDABLE,
    DELETE_MARKER,
    NEXT_POSITION,
    SYMLINK,
    StoredObject,
    wrong_position,
)
from .context import CallContext, checksums, confirmation, encryption, invalid_argument
from .object_headers import HTTP_PROPERTIES, META, TAGGING, TARGET, read_properties
from .reading import check_conditions, check_readable

_MAX_DELETE_BODY = 2 * 1024 * 1024
_MAX_DELETE_KEYS = 1000
# What SDKs write into XML though it is none, and what holds its place while it is read.
_CONTROLS = {code: 0xF0000 + code for code in range(0x20) if chr(code) not in "\t\n\r"}
_REFERENCE = re.compile("&#(?:x([0-9a-fA-F]{1,2})|([0-9]{1,2}));")
# The key of an object that its client encrypted: a copy without it cannot be read.
_CLIENT_ENCRYPTION = f"{META}client-side-encryption-"


async def put_object(context: CallContext) -> EmulatorReply:
    """Store the body as an object; after a refusal, the object is unchanged."""
    headers = read_properties(context.call)
    callback = context.callback()
    context.check_exclusive()
    piece = await context.receive_body()
    stored = context.put(
        StoredObject(
            key=context.call.key,
            etag=piece.etag,
            crc64=piece.crc64,
            md5=piece.md5,
            headers=headers,
            modified=context.now,
            body=(piece.body,),
        )
    )
    reply = EmulatorReply(headers=confirmation(stored))
    return context.after_callback(reply, callback)


async def append_object(context: CallContext) -> EmulatorReply:
    """Append the body to an object; the first append creates the object."""
    key = context.call.key
    position = context.number("position", -1)
    before = context.bucket.objects.get(key)
    # Those of later appends are ignored.
    headers = read_properties(context.call) if before is None else {}
    if before is not None and before.kind != APPENDABLE:
        raise refused("ObjectNotAppendable")
    if position != (before.size if before else 0):
        raise wrong_position(before)
    piece = await context.receive_body()
    if position + piece.size > context.settings.max_put:
        raise too_large(context.settings.max_put)
    start = before or StoredObject(key=key, etag="", crc64=0, headers=headers)
    # OSS does not document of what the ETag of an appendable object is the MD5.
    text = f"{start.etag}{piece.etag}".encode()
    stored = evolve(
        start,
        etag=hashlib.md5(text, usedforsecurity=False).hexdigest().upper(),
        crc64=combine(start.crc64, piece.crc64, piece.size),
        kind=APPENDABLE,
        modified=context.now,
        body=(*start.body, piece.body),
    )
    stored = context.store.replace(context.bucket, stored, before)
    told = checksums(stored.etag, stored.crc64) | encryption(stored.headers)
    return EmulatorReply(headers={**told, NEXT_POSITION: str(stored.size)})


async def copy_object(context: CallContext) -> EmulatorReply:
    """Copy an object of the same owner, without copying its bytes."""
    await context.body.drain()
    headers = read_properties(context.call)
    context.check_exclusive()
    source = copy_source(context)
    if "content-type" not in context.call.headers:
        headers["content-type"] = source.headers["content-type"]
    keys = {n: v for n, v in source.headers.items() if n.startswith(_CLIENT_ENCRYPTION)}
    headers = {**keys, **headers}
    if source.kind == SYMLINK:  # the link is copied, not what it leads to
        headers[TARGET] = source.headers[TARGET]
    if _copies(context, "x-oss-metadata-directive"):
        headers = _replaced(headers, source.headers, (*HTTP_PROPERTIES, META))
    if _copies(context, "x-oss-tagging-directive"):
        headers = _replaced(headers, source.headers, (TAGGING,))
    copy = evolve(source, key=context.call.key, headers=headers, version_id=None)
    stored = context.put(evolve(copy, modified=context.now))
    content = {"ETag": quoted(stored.etag), "LastModified": oss_moment(stored.modified)}
    return xml_reply("CopyObjectResult", content, confirmation(stored))


def _replaced(
    mine: Mapping[str, str], theirs: Mapping[str, str], names: tuple[str, ...]
) -> dict[str, str]:
    kept = {n: v for n, v in mine.items() if not n.startswith(names)}
    return kept | {n: v for n, v in theirs.items() if n.startswith(names)}


def _copies(context: CallContext, name: str) -> bool:
    value = context.call.headers.get(name, "COPY").upper()
    if value not in ("COPY", "REPLACE"):
        raise invalid_argument(f"Unknown {name}.", name)
    return value == "COPY"


def copy_source(context: CallContext) -> StoredObject:
    """Return the object to copy; RefusedError if its conditions are not met."""
    text = context.call.headers[COPY_SOURCE].partition("?")[0]
    bucket, _, key = unquote_plus(text).removeprefix("/").partition("/")
    if not bucket or not key:
        raise invalid_argument(
            "Copy Source must mention the source bucket and key: /sourcebucket/sourcekey."
        )
    source = context.store.bucket(bucket).find(key)
    check_readable(source)
    check_conditions(context.call, source, prefix="x-oss-copy-source-")
    return source


async def delete_object(context: CallContext) -> EmulatorReply:
    """Delete an object or a version; the reply is 204 whether it existed or not."""
    version_id = context.call.parameters.get("versionId")
    bucket, key = context.bucket, context.call.key
    gone = context.store.drop(bucket, key, version_id, now=context.now)
    headers = {}
    if gone is not None and gone.version_id is not None:
        headers["x-oss-version-id"] = gone.version_id
        if gone.kind == DELETE_MARKER:
            headers["x-oss-delete-marker"] = "true"
    return EmulatorReply(status=204, headers=headers)


async def delete_multiple_objects(context: CallContext) -> EmulatorReply:
    """Delete up to 1000 objects in one call."""
    if "content-md5" not in context.call.headers:
        raise refused("MissingArgument")
    body = await context.receive_document(_MAX_DELETE_BODY)
    try:
        text = _REFERENCE.sub(_held, body.decode().translate(_CONTROLS))
        tree = parsing.parse(text.encode(), "Delete")
    except ValueError as error:
        raise refused("MalformedXML") from error
    found = [element.findtext("Key") or "" for element in tree.iterfind("Object")]
    keys = [
        key.translate({held: code for code, held in _CONTROLS.items()}) for key in found
    ]
    if not keys or not all(keys) or len(keys) > _MAX_DELETE_KEYS:
        raise refused("MalformedXML")
    for key in keys:
        context.store.drop(context.bucket, key, now=context.now)
    if tree.findtext("Quiet") == "true":
        return EmulatorReply()
    shown = [quote(key, safe="") if context.encoding else key for key in keys]
    rows = [{"Key": key} for key in shown]
    content = {"EncodingType": context.encoding, "Deleted": rows}
    return xml_reply("DeleteResult", content)


def _held(reference: re.Match[str]) -> str:
    """Return the placeholder for a character reference that XML cannot express."""
    code = int(reference[1], 16) if reference[1] else int(reference[2])
    return chr(_CONTROLS[code]) if code in _CONTROLS else reference[0]
