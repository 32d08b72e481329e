"""Calls that write or delete: PutObject, CopyObject, AppendObject, deletes, parts."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import reduce
from itertools import pairwise
from typing import Any
from urllib.parse import quote, unquote_plus

from attrs import evolve

from .. import parsing
from ..http.checksums import combine
from ..model import (
    COPY_SOURCE,
    ENCRYPTION,
    MAX_PARTS,
    META,
    MIN_PART,
    OBJECT_ACL,
    TAGGING,
)
from ..units import oss_moment
from .context import (
    HTTP_PROPERTIES,
    CallContext,
    check_traffic_limit,
    checksums,
    confirmation,
    encryption,
    read_properties,
)
from .messages import (
    EmulatorReply,
    invalid_argument,
    quoted,
    refused,
    too_small,
    xml_reply,
)
from .reading import check_conditions, check_readable, copied_range
from .store import (
    APPENDABLE,
    DELETE_MARKER,
    NEXT_POSITION,
    Piece,
    StoredObject,
    StoredUpload,
)

_MAX_COMPLETE_BODY = 4 * 1024 * 1024
_MAX_DELETE_BODY = 2 * 1024 * 1024
_MAX_DELETE_KEYS = 1000
# Control character -> placeholder. oss2 writes control characters, although XML forbids
# them.
_CONTROLS = {code: 0xF0000 + code for code in range(0x20) if chr(code) not in "\t\n\r"}


async def put_object(context: CallContext) -> EmulatorReply:
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
    # Later appends do not change the properties.
    headers = {} if _object_to_append(context) else read_properties(context.call)
    piece = await context.receive_body()
    start = _object_to_append(context) or StoredObject(
        key=context.call.key, etag="", crc64=0, headers=headers
    )
    # OSS does not document which bytes the ETag of an appendable object is the MD5 of.
    text = f"{start.etag}{piece.etag}".encode()
    stored = evolve(
        start,
        etag=hashlib.md5(text, usedforsecurity=False).hexdigest().upper(),
        crc64=combine(start.crc64, piece.crc64, piece.size),
        kind=APPENDABLE,
        modified=context.now,
        body=(*start.body, piece.body),
    )
    context.store.put(context.bucket, stored)
    headers = checksums(stored.etag, stored.crc64) | encryption(stored.headers)
    return EmulatorReply(headers={**headers, NEXT_POSITION: str(stored.size)})


def _object_to_append(context: CallContext) -> StoredObject | None:
    before = context.bucket.objects.get(context.call.key)
    if before is not None and before.kind != APPENDABLE:
        raise refused("ObjectNotAppendable")
    size = before.size if before else 0
    if context.number("position", -1) != size:
        headers = {NEXT_POSITION: str(size)}
        raise refused("PositionNotEqualToLength", headers=headers)
    return before


async def copy_object(context: CallContext) -> EmulatorReply:
    await context.body.drain()
    headers = read_properties(context.call)
    context.check_exclusive()
    source = copy_source(context)
    if "content-type" not in context.call.headers:
        headers["content-type"] = source.headers["content-type"]
    if _copies(context, "x-oss-metadata-directive"):
        headers = _replaced(headers, source.headers, (*HTTP_PROPERTIES, META))
    if _copies(context, "x-oss-tagging-directive"):
        headers = _replaced(headers, source.headers, (TAGGING,))
    copy = evolve(source, key=context.call.key, headers=headers, version_id=None)
    stored = context.put(evolve(copy, modified=context.now))
    content = {"ETag": quoted(stored.etag), "LastModified": oss_moment(stored.modified)}
    return xml_reply("CopyObjectResult", content, confirmation(stored))


def _replaced(
    headers: Mapping[str, str], others: Mapping[str, str], names: tuple[str, ...]
) -> dict[str, str]:
    kept = {n: v for n, v in headers.items() if not n.startswith(names)}
    return kept | {n: v for n, v in others.items() if n.startswith(names)}


def _copies(context: CallContext, name: str) -> bool:
    value = context.call.headers.get(name, "COPY").upper()
    if value not in ("COPY", "REPLACE"):
        raise invalid_argument(f"Unknown {name}.", name)
    return value == "COPY"


def copy_source(context: CallContext) -> StoredObject:
    text, _, version_id = context.call.headers[COPY_SOURCE].partition("?versionId=")
    bucket, _, key = unquote_plus(text).removeprefix("/").partition("/")
    if not bucket or not key:
        raise invalid_argument(
            "Copy Source must mention the source bucket and key: /sourcebucket/sourcekey."
        )
    source = context.store.bucket(bucket).find(key, version_id or None)
    check_readable(source)
    check_conditions(context.call, source, prefix="x-oss-copy-source-")
    return source


async def delete_object(context: CallContext) -> EmulatorReply:
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
    if "content-md5" not in context.call.headers:
        raise refused("MissingArgument")
    body = await context.receive_document(_MAX_DELETE_BODY)
    try:
        text = body.decode().translate(_CONTROLS)
        tree = parsing.parse(text.encode(), "Delete")
    except ValueError as error:
        raise refused("MalformedXML") from error
    controls = {placeholder: code for code, placeholder in _CONTROLS.items()}
    keys = [
        (element.findtext("Key") or "").translate(controls)
        for element in tree.iterfind("Object")
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


async def initiate_multipart_upload(context: CallContext) -> EmulatorReply:
    await context.body.drain()
    headers = read_properties(context.call)
    context.check_exclusive()
    upload = StoredUpload(
        upload_id=uuid.uuid4().hex.upper(),
        bucket=context.bucket.name,
        key=context.call.key,
        headers=headers,
        initiated=context.now,
    )
    context.store.initiate(upload)
    content = {**names(context), "UploadId": upload.upload_id}
    return xml_reply("InitiateMultipartUploadResult", content, encryption(headers))


async def upload_part(context: CallContext) -> EmulatorReply:
    number, upload = _place(context, ec := "0042-00000104")
    check_traffic_limit(context.call)
    for name in context.call.headers:
        if name.startswith(ENCRYPTION):
            message = "The encryption method is set when the upload is initiated."
            raise invalid_argument(message, name)
    piece = await context.receive_body()
    part = evolve(piece, number=number, modified=context.now)
    context.store.add_part(upload, part, ec=ec)
    headers = checksums(piece.etag, piece.crc64, piece.md5)
    return EmulatorReply(headers=headers | encryption(upload.headers))


async def upload_part_copy(context: CallContext) -> EmulatorReply:
    await context.body.drain()
    number, upload = _place(context, ec := "0042-00000311")
    source = copy_source(context)
    with context.store.spool() as spool:
        for chunk in source.chunks(*copied_range(context.call, source.size)):
            spool.write(chunk)
        piece = spool.finish()
    part = evolve(piece, number=number, modified=context.now)
    context.store.add_part(upload, part, ec=ec)
    content = {"LastModified": oss_moment(part.modified), "ETag": quoted(piece.etag)}
    return xml_reply("CopyPartResult", content, checksums(piece.etag, piece.crc64))


async def complete_multipart_upload(context: CallContext) -> EmulatorReply:
    call = context.call
    body = await context.receive_document(_MAX_COMPLETE_BODY)
    callback = context.callback()
    upload = find_upload(context)
    wants_all = call.headers.get("x-oss-complete-all")
    if wants_all is None:
        parts = _listed_parts(upload, body)
    else:
        parts = _all_parts(upload, wants_all, body)
    for part in parts[:-1]:
        if part.size < MIN_PART:
            raise too_small(MIN_PART, part.size, PartNumber=str(part.number))
    stored = context.store.complete(
        upload, _joined(context, upload, parts), exclusive=context.is_exclusive
    )
    location = f"http://{call.host}{call.path}"
    content = {"Location": location, **names(context), "ETag": quoted(stored.etag)}
    reply = xml_reply("CompleteMultipartUploadResult", content, confirmation(stored))
    return context.after_callback(reply, callback)


async def abort_multipart_upload(context: CallContext) -> EmulatorReply:
    context.store.abort(find_upload(context))
    return EmulatorReply(status=204)


def names(context: CallContext) -> dict[str, Any]:
    key, encoding = context.call.key, context.encoding
    shown = quote(key, safe="") if encoding else key
    return {"EncodingType": encoding, "Bucket": context.bucket.name, "Key": shown}


def find_upload(context: CallContext, ec: str = "") -> StoredUpload:
    call = context.call
    return context.bucket.find_upload(call.upload_id or "", call.key, ec)


def _place(context: CallContext, ec: str) -> tuple[int, StoredUpload]:
    text = context.call.parameters.get("partNumber")
    if text is None:
        raise invalid_argument("Missing partNumber.", ec="0017-00000219")
    number = context.call.part_number
    if number is None or not 1 <= number <= MAX_PARTS:
        message = "Part number must be an integer between 1 and 10000, inclusive."
        raise invalid_argument(message, "partNumber", text, ec="0017-00000220")
    return number, find_upload(context, ec)


def _all_parts(upload: StoredUpload, value: str, body: bytes) -> list[Piece]:
    if value.lower() != "yes":
        raise invalid_argument("x-oss-complete-all must be yes.", "", value)
    if body:
        # This is OSS's spelling.
        message = "Should not speficy both complete all header and http body."
        raise invalid_argument(message, ec="0042-00000216")
    if not upload.parts:
        raise refused("InvalidPart", PartNumber="0")
    return [part for _, part in sorted(upload.parts.items())]


def _listed_parts(upload: StoredUpload, body: bytes) -> list[Piece]:
    listed: list[tuple[int, str]] = []
    with suppress(ValueError):
        rows = parsing.parse(body, "CompleteMultipartUpload").iterfind("Part")
        listed = [
            (int(row.findtext("PartNumber") or ""), row.findtext("ETag") or "")
            for row in rows
        ]
    if not all(etag for _, etag in listed) or not 0 < len(listed) <= MAX_PARTS:
        raise refused("MalformedXML", ec="0042-00000205")
    if any(a >= b for (a, _), (b, _) in pairwise(listed)):
        raise refused("InvalidPartOrder")
    parts = []
    for number, etag in listed:
        part = upload.parts.get(number)
        if part is None or part.etag != etag.strip().strip('"').upper():
            raise refused("InvalidPart", PartNumber=str(number))
        parts.append(part)
    return parts


def _joined(
    context: CallContext, upload: StoredUpload, parts: Sequence[Piece]
) -> StoredObject:
    digests = b"".join(bytes.fromhex(part.md5) for part in parts)
    whole = hashlib.md5(digests, usedforsecurity=False).hexdigest().upper()
    acl = {n: v for n, v in context.call.headers.items() if n == OBJECT_ACL}
    return StoredObject(
        key=upload.key,
        etag=f"{whole}-{len(parts)}",
        crc64=reduce(lambda crc, part: combine(crc, part.crc64, part.size), parts, 0),
        headers={**upload.headers, **acl},
        kind="Multipart",
        modified=context.now,
        body=tuple(part.body for part in parts),
    )
