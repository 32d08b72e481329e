"""Multipart upload: initiate, parts, list, complete, abort."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from itertools import pairwise
from urllib.parse import quote
from xml.etree.ElementTree import Element

from ... import parsing
from ...http.body import CRC_HEADER
from ...model import MAX_PARTS
from ..message.answers import Answer, RefusedError, iso_date, quoted, xml, xml_answer
from ..message.call import read_number
from ..store.bodies import Body, Piece, combined
from ..store.store import (
    KeyTakenError,
    StoredObject,
    StoredPart,
    Upload,
    UploadGoneError,
    new_upload_id,
)
from .exchange import (
    Exchange,
    check_body_md5,
    invalid_argument,
    key_taken,
    malformed,
    md5_header,
    stored_reply,
)
from .objects import copy_source
from .properties import ACL, check_traffic_limit, read_properties

_MAX_LIST = 1000
_MAX_COMPLETE_BODY = 4 * 1024 * 1024
_COPY_RANGE = re.compile("bytes=([0-9]{1,18})-([0-9]{1,18})")
_MALFORMED_EC = "0042-00000205"


async def initiate_multipart_upload(exchange: Exchange) -> Answer:
    """Open an upload."""
    call = exchange.call
    await exchange.incoming.drain()
    headers = read_properties(call)
    exchange.check_exclusive()
    upload = Upload(
        upload_id=new_upload_id(),
        bucket=exchange.bucket.name,
        key=call.key,
        headers=headers,
        initiated=exchange.now,
        sequential="sequential" in call.parameters,
    )
    exchange.store.initiate(exchange.bucket, upload)
    body = xml(
        "InitiateMultipartUploadResult",
        *_names(exchange),
        ("UploadId", upload.upload_id),
    )
    return xml_answer(body)


async def upload_part(exchange: Exchange) -> Answer:
    """Store a part; one of the same number is replaced."""
    number = _part_number(exchange)
    upload = _find(exchange, "0042-00000104")
    _check_part_headers(exchange)
    _check_sequence(upload, number)
    with exchange.store.spool() as spool:
        piece = await exchange.receive_body(spool)
    _add(exchange, upload, number, piece, ec="0042-00000104")
    headers = {
        "ETag": quoted(piece.etag),
        "Content-MD5": md5_header(piece.md5),
        CRC_HEADER: str(piece.crc64),
    }
    return Answer(headers=headers)


async def upload_part_copy(exchange: Exchange) -> Answer:
    """Store a part from another object or a range of it."""
    await exchange.incoming.drain()
    number = _part_number(exchange)
    upload = _find(exchange, "0042-00000311")
    _check_sequence(upload, number)
    source = copy_source(exchange)
    start, stop = 0, source.size
    text = exchange.call.headers.get("x-oss-copy-source-range")
    if text is not None:
        found = _COPY_RANGE.fullmatch(text)
        if not found or not int(found[1]) <= int(found[2]) < source.size:
            raise RefusedError(
                416, "InvalidRange", "The requested range cannot be satisfied"
            )
        start, stop = int(found[1]), int(found[2]) + 1
    with exchange.store.spool() as spool:
        for chunk in source.body.chunks(start, stop):
            spool.write(chunk)
        piece = spool.finish()
    part = _add(exchange, upload, number, piece, ec="0042-00000311")
    body = xml(
        "CopyPartResult",
        ("LastModified", iso_date(part.modified)),
        ("ETag", quoted(part.etag)),
    )
    headers = {"ETag": quoted(part.etag), CRC_HEADER: str(piece.crc64)}
    return xml_answer(body, headers)


async def list_parts(exchange: Exchange) -> Answer:
    """List the parts stored so far, by number."""
    upload = _find(exchange, "0042-00000002")
    most = _number(exchange, "max-parts", _MAX_LIST)
    if most == 0 or most > _MAX_LIST:
        raise invalid_argument("max-parts must be between 1 and 1000.")
    marker = _number(exchange, "part-number-marker", 0)
    left = [upload.parts[n] for n in sorted(upload.parts) if n > marker]
    page = left[:most]
    rows = [
        (
            "Part",
            [
                ("PartNumber", part.number),
                ("LastModified", iso_date(part.modified)),
                ("ETag", quoted(part.etag)),
                ("HashCrc64ecma", part.piece.crc64),
                ("Size", part.size),
            ],
        )
        for part in page
    ]
    body = xml(
        "ListPartsResult",
        *_names(exchange),
        ("UploadId", upload.upload_id),
        ("StorageClass", "Standard"),
        ("PartNumberMarker", marker),
        ("NextPartNumberMarker", page[-1].number if page else marker),
        ("MaxParts", most),
        ("IsTruncated", len(left) > most),
        *rows,
    )
    return xml_answer(body)


async def complete_multipart_upload(exchange: Exchange) -> Answer:
    """Make the object out of its parts."""
    call = exchange.call
    body = await exchange.incoming.read(_MAX_COMPLETE_BODY)
    check_body_md5(call, body)
    callback = exchange.check_callback()
    upload = _find(exchange)
    parts = _chosen(upload, body, everything=_takes_all(exchange, body))
    for part in parts[:-1]:
        if part.size < exchange.settings.min_part:
            raise RefusedError(
                400,
                "EntityTooSmall",
                "Your proposed upload smaller than the minimum allowed size.",
                "0042-00000213",
                extras={
                    "MinSizeAllowed": str(exchange.settings.min_part),
                    "ProposedSize": str(part.size),
                    "PartNumber": str(part.number),
                },
            )
    stored = _finish(exchange, upload, parts)
    document = xml(
        "CompleteMultipartUploadResult",
        *_names(exchange)[:-2],
        ("Location", f"http://{call.host}{call.target.partition('?')[0]}"),
        *_names(exchange)[-2:],
        ("ETag", quoted(stored.etag)),
    )
    answer = xml_answer(document, stored_reply(stored))
    return exchange.after_callback(answer, callback)


async def abort_multipart_upload(exchange: Exchange) -> Answer:
    """Forget an upload and its parts."""
    exchange.store.abort(exchange.bucket, _find(exchange))
    return Answer(status=204)


def no_such_upload(upload_id: str, ec: str = "") -> RefusedError:
    """Return the refusal of an upload that is not open."""
    return RefusedError(
        404,
        "NoSuchUpload",
        "The specified upload does not exist. The upload ID may be invalid, or the "
        "upload may have been aborted or completed.",
        ec,
        extras={"UploadId": upload_id},
    )


def _names(exchange: Exchange) -> list[tuple[str, str]]:
    rows = [("Bucket", exchange.bucket.name), ("Key", exchange.call.key)]
    if exchange.call.parameters.get("encoding-type") == "url":
        rows[1] = ("Key", quote(exchange.call.key, safe=""))
        rows.insert(0, ("EncodingType", "url"))
    return rows


def _find(exchange: Exchange, ec: str = "") -> Upload:
    upload_id = exchange.call.parameters.get("uploadId", "")
    upload = exchange.bucket.uploads.get(upload_id)
    if upload is None or upload.key != exchange.call.key:
        raise no_such_upload(upload_id, ec)
    return upload


def _part_number(exchange: Exchange) -> int:
    if "partNumber" not in exchange.call.parameters:
        raise invalid_argument("Missing partNumber.", "0017-00000219")
    number = exchange.call.part_number
    if number is None or not 1 <= number <= MAX_PARTS:
        raise invalid_argument(
            "Part number must be an integer between 1 and 10000, inclusive.",
            "0017-00000220",
            ArgumentName="partNumber",
            ArgumentValue=exchange.call.parameters["partNumber"],
        )
    return number


def _check_part_headers(exchange: Exchange) -> None:
    check_traffic_limit(exchange.call)
    for name in exchange.call.headers:
        if name.startswith("x-oss-server-side-encryption"):
            raise invalid_argument(
                "The encryption method is set when the upload is initiated.",
                ArgumentName=name,
            )


def _check_sequence(upload: Upload, number: int) -> None:
    if upload.sequential and number > len(upload.parts) + 1:
        raise RefusedError(
            400,
            "PartNotSequential",
            "Part number of sequential multipart upload must be sequential.",
        )


def _add(
    exchange: Exchange, upload: Upload, number: int, piece: Piece, *, ec: str
) -> StoredPart:
    part = StoredPart(number=number, piece=piece, modified=exchange.now)
    try:
        exchange.store.add_part(exchange.bucket, upload, part)
    except UploadGoneError as error:
        raise no_such_upload(upload.upload_id, ec) from error
    return part


def _number(exchange: Exchange, name: str, default: int) -> int:
    text = exchange.call.parameters.get(name, "")
    if not text:
        return default
    number = read_number(text)
    if number is None:
        raise invalid_argument(f"{name} must be a number.", ArgumentName=name)
    return number


def _takes_all(exchange: Exchange, body: bytes) -> bool:
    value = exchange.call.headers.get("x-oss-complete-all")
    if value is None:
        return False
    if value.lower() != "yes":
        raise invalid_argument("x-oss-complete-all must be yes.", ArgumentValue=value)
    if body:
        raise invalid_argument(
            "Should not speficy both complete all header and http body.",
            "0042-00000216",
        )
    return True


def _chosen(upload: Upload, body: bytes, *, everything: bool) -> list[StoredPart]:
    if everything:
        if not upload.parts:
            raise _invalid_part(0)
        return [upload.parts[number] for number in sorted(upload.parts)]
    try:
        tree = parsing.parse(body, "CompleteMultipartUpload")
        named = [_named(element) for element in tree.iterfind("Part")]
    except ValueError as error:
        raise malformed(_MALFORMED_EC) from error
    if not named or len(named) > MAX_PARTS:
        raise malformed(_MALFORMED_EC)
    numbers = [number for number, _ in named]
    if any(a >= b for a, b in pairwise(numbers)):
        raise RefusedError(
            400,
            "InvalidPartOrder",
            "The list of parts was not in ascending order. Parts list must be specified "
            "in order by part number.",
        )
    return [_checked(upload, number, etag) for number, etag in named]


def _named(element: Element) -> tuple[int, str]:
    """Return number and ETag of a ``Part`` element.

    Raises:
        ValueError: one is missing, or the number is none.
    """
    etag = element.findtext("ETag")
    if etag is None:
        msg = "a part without an ETag"
        raise ValueError(msg)
    return int(element.findtext("PartNumber") or ""), etag.strip()


def _checked(upload: Upload, number: int, etag: str) -> StoredPart:
    part = upload.parts.get(number)
    if part is None or part.etag != etag.strip('"').upper():
        raise _invalid_part(number)
    return part


def _invalid_part(number: int) -> RefusedError:
    return RefusedError(
        400,
        "InvalidPart",
        "One or more of the specified parts could not be found or the specified "
        "entity tag might not have matched the part's entity tag.",
        extras={"PartNumber": str(number)},
    )


def _finish(
    exchange: Exchange, upload: Upload, parts: Sequence[StoredPart]
) -> StoredObject:
    digests = b"".join(bytes.fromhex(part.piece.md5) for part in parts)
    whole = hashlib.md5(digests, usedforsecurity=False).hexdigest().upper()
    acl = {n: v for n, v in exchange.call.headers.items() if n == ACL}
    stored = StoredObject(
        key=upload.key,
        etag=f"{whole}-{len(parts)}",
        crc64=combined((part.piece.crc64, part.size) for part in parts),
        headers={**upload.headers, **acl},
        kind="Multipart",
        modified=exchange.now,
        body=Body(tuple(part.piece.segment for part in parts)),
    )
    try:
        return exchange.store.complete(
            exchange.bucket, upload, stored, exclusive=exchange.is_exclusive
        )
    except KeyTakenError as error:
        raise key_taken() from error
