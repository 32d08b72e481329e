"""Multipart upload: initiate, upload parts, complete, abort."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from contextlib import suppress
from functools import reduce
from itertools import pairwise
from typing import Any
from urllib.parse import quote

from attrs import evolve

from ... import parsing
from ...http.checksums import combine
from ...model import MAX_PARTS, OBJECT_ACL
from ...units import oss_moment
from ..message.errors import refused
from ..message.replies import EmulatorReply, quoted, xml_reply
from ..store.bodies import Piece
from ..store.store import StoredObject, StoredUpload
from .context import (
    ENCRYPTION,
    CallContext,
    checksums,
    confirmation,
    encryption,
    invalid_argument,
)
from .object_headers import check_traffic_limit, read_properties
from .reading import copied_range
from .writing import copy_source

_MAX_COMPLETE_BODY = 4 * 1024 * 1024


async def initiate_multipart_upload(context: CallContext) -> EmulatorReply:
    """Open a multipart upload, and return its ID."""
    await context.body.drain()
    headers = read_properties(context.call)
    context.check_exclusive()
    upload = StoredUpload(
        upload_id=uuid.uuid4().hex.upper(),
        bucket=context.bucket.name,
        key=context.call.key,
        headers=headers,
        initiated=context.now,
        sequential="sequential" in context.call.parameters,
    )
    context.store.initiate(upload)
    content = {**names(context), "UploadId": upload.upload_id}
    return xml_reply("InitiateMultipartUploadResult", content, encryption(headers))


async def upload_part(context: CallContext) -> EmulatorReply:
    """Store a part; replace an earlier part of the same number."""
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
    """Store a part from the bytes of another object."""
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
    """Publish the object that consists of the listed parts."""
    call = context.call
    body = await context.receive_document(_MAX_COMPLETE_BODY)
    callback = context.callback()
    upload = find_upload(context)
    wants_all = call.headers.get("x-oss-complete-all")
    if wants_all is None:
        parts = _listed_parts(upload, body)
    else:
        parts = _all_parts(upload, wants_all, body)
    least = context.settings.min_part
    for part in parts[:-1]:
        if part.size < least:
            raise refused(
                "EntityTooSmall",
                MinSizeAllowed=str(least),
                ProposedSize=str(part.size),
                PartNumber=str(part.number),
            )
    stored = context.store.complete(
        upload, _joined(context, upload, parts), exclusive=context.is_exclusive
    )
    location = f"http://{call.host}{call.path}"
    content = {"Location": location, **names(context), "ETag": quoted(stored.etag)}
    reply = xml_reply("CompleteMultipartUploadResult", content, confirmation(stored))
    return context.after_callback(reply, callback)


async def abort_multipart_upload(context: CallContext) -> EmulatorReply:
    """Remove a multipart upload and its parts."""
    context.store.abort(find_upload(context))
    return EmulatorReply(status=204)


def names(context: CallContext) -> dict[str, Any]:
    """Return the XML elements that name the object of a multipart upload."""
    key, encoding = context.call.key, context.encoding
    shown = quote(key, safe="") if encoding else key
    return {"EncodingType": encoding, "Bucket": context.bucket.name, "Key": shown}


def find_upload(context: CallContext, ec: str = "") -> StoredUpload:
    """Return the upload that the call names; RefusedError if it is not open."""
    call = context.call
    return context.bucket.find_upload(call.upload_id or "", call.key, ec)


def _place(context: CallContext, ec: str) -> tuple[int, StoredUpload]:
    """Return the number and the upload of the part in the call."""
    text = context.call.parameters.get("partNumber")
    if text is None:
        raise invalid_argument("Missing partNumber.", ec="0017-00000219")
    number = context.call.part_number
    if number is None or not 1 <= number <= MAX_PARTS:
        message = "Part number must be an integer between 1 and 10000, inclusive."
        raise invalid_argument(message, "partNumber", text, ec="0017-00000220")
    upload = find_upload(context, ec)
    if upload.sequential and number > len(upload.parts) + 1:
        raise refused("PartNotSequential")
    return number, upload


def _all_parts(upload: StoredUpload, value: str, body: bytes) -> list[Piece]:
    """Return all stored parts, which ``x-oss-complete-all: yes`` requests."""
    if value.lower() != "yes":
        raise invalid_argument("x-oss-complete-all must be yes.", "", value)
    if body:
        # The spelling is that of OSS.
        message = "Should not speficy both complete all header and http body."
        raise invalid_argument(message, ec="0042-00000216")
    if not upload.parts:
        raise refused("InvalidPart", PartNumber="0")
    return [part for _, part in sorted(upload.parts.items())]


def _listed_parts(upload: StoredUpload, body: bytes) -> list[Piece]:
    """Return the parts that the XML document of the call lists."""
    listed: list[tuple[int, str]] = []
    with suppress(ValueError):
        rows = parsing.parse(body, "CompleteMultipartUpload").iterfind("Part")
        told = [(row.findtext("PartNumber"), row.findtext("ETag")) for row in rows]
        listed = [(int(n or ""), etag or "") for n, etag in told]
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
        crc64=reduce(lambda crc, one: combine(crc, one.crc64, one.size), parts, 0),
        headers={**upload.headers, **acl},
        kind="Multipart",
        modified=context.now,
        body=tuple(part.body for part in parts),
    )
