"""PutObject, CopyObject, DeleteObject, DeleteMultipleObjects and the sub-resources."""

from __future__ import annotations

import hashlib
from urllib.parse import quote, unquote

from attrs import evolve

from ... import parsing
from ...http.body import CRC_HEADER, combine
from ..message.answers import Answer, RefusedError, iso_date, quoted, xml, xml_answer
from ..message.call import read_number
from ..store.bodies import Body, Piece
from ..store.store import ChangedError, StoredObject
from .exchange import (
    OWNER,
    Exchange,
    check_body_md5,
    find_object,
    invalid_argument,
    malformed,
    stored_reply,
    too_large,
)
from .properties import ACL, HTTP_PROPERTIES, META, TAGGING, read_properties, read_tags
from .reading import check_conditions

# AppendObject.

KIND = "Appendable"

_NEXT = "x-oss-next-append-position"


async def append_object(exchange: Exchange) -> Answer:
    """Put the body behind what is there; the first append makes the object."""
    call = exchange.call
    headers = read_properties(call)
    text = call.parameters.get("position", "")
    position = read_number(text)
    if position is None:
        raise invalid_argument(
            "The argument must be an integer.",
            ArgumentName="position",
            ArgumentValue=text,
        )
    before = exchange.bucket.objects.get(call.key)
    _check(before, position)
    with exchange.store.spool() as spool:
        piece = await exchange.receive_body(spool)
    if position + piece.size > exchange.settings.max_put:
        raise too_large(exchange.settings.max_put)
    start = before or StoredObject(key=call.key, etag="", crc64=0, headers=headers)
    stored = _appended(start, piece, exchange.now)
    try:
        stored = exchange.store.replace(exchange.bucket, stored, before)
    except ChangedError as error:
        found = exchange.bucket.objects.get(call.key)
        raise _not_the_length(found.size if found else 0) from error
    return Answer(
        headers={
            "ETag": quoted(stored.etag),
            CRC_HEADER: str(stored.crc64),
            _NEXT: str(stored.size),
        }
    )


def _check(before: StoredObject | None, position: int) -> None:
    if before is not None and before.kind != KIND:
        raise RefusedError(
            409, "ObjectNotAppendable", "The object is not appendable", "0026-00000208"
        )
    size = 0 if before is None else before.size
    if position != size:
        raise _not_the_length(size)


def _not_the_length(size: int) -> RefusedError:
    return RefusedError(
        409,
        "PositionNotEqualToLength",
        "Position is not equal to file length",
        "0026-00000016",
        headers={_NEXT: str(size)},
    )


def _appended(before: StoredObject, piece: Piece, now: float) -> StoredObject:
    text = f"{before.etag}{piece.etag}".encode()
    return evolve(
        before,
        # Not the MD5 of the whole: OSS does not say of what it is.
        etag=hashlib.md5(text, usedforsecurity=False).hexdigest().upper(),
        crc64=combine(before.crc64, piece.crc64, piece.size),
        kind=KIND,
        modified=now,
        body=Body((*before.body.segments, piece.segment)),
    )


_MAX_DELETE_BODY = 2 * 1024 * 1024
_MAX_DELETE_KEYS = 1000


async def put_object(exchange: Exchange) -> Answer:
    """Store the body; after any refusal the key is as before."""
    headers = read_properties(exchange.call)
    callback = exchange.check_callback()
    exchange.check_exclusive()
    with exchange.store.spool() as spool:
        piece = await exchange.receive_body(spool)
    stored = exchange.put(
        StoredObject(
            key=exchange.call.key,
            etag=piece.etag,
            crc64=piece.crc64,
            md5=piece.md5,
            headers=headers,
            modified=exchange.now,
            body=Body((piece.segment,)),
        )
    )
    return exchange.after_callback(Answer(headers=stored_reply(stored)), callback)


async def copy_object(exchange: Exchange) -> Answer:
    """Copy an object of the same owner, without copying its bytes."""
    await exchange.incoming.drain()
    given = read_properties(exchange.call)
    exchange.check_exclusive()
    source = copy_source(exchange)
    headers = dict(given)
    if _directive(exchange, "x-oss-metadata-directive") == "COPY":
        kept = {
            name: value
            for name, value in source.headers.items()
            if name in HTTP_PROPERTIES or name.startswith(META)
        }
        headers = {n: v for n, v in given.items() if not n.startswith(META)} | kept
    if _directive(exchange, "x-oss-tagging-directive") == "COPY":
        headers.pop(TAGGING, None)
        headers |= {n: v for n, v in source.headers.items() if n == TAGGING}
    stored = exchange.put(
        evolve(
            source,
            key=exchange.call.key,
            headers=headers,
            modified=exchange.now,
            version_id=None,
        )
    )
    body = xml(
        "CopyObjectResult",
        ("ETag", quoted(stored.etag)),
        ("LastModified", iso_date(stored.modified)),
    )
    return xml_answer(body, stored_reply(stored))


def copy_source(exchange: Exchange) -> StoredObject:
    """Return the object that ``x-oss-copy-source`` names.

    Raises:
        RefusedError: unreadable, absent, or a condition of the call does not hold.
    """
    text = exchange.call.headers["x-oss-copy-source"].partition("?")[0]
    bucket, _, key = unquote(text).removeprefix("/").partition("/")
    if not bucket or not key:
        raise invalid_argument(
            "Copy Source must mention the source bucket and key: /sourcebucket/sourcekey."
        )
    found = exchange.store.buckets.get(bucket)
    if found is None:
        raise no_such_bucket(bucket)
    source = find_object(found, key)
    check_conditions(exchange.call, source, prefix="x-oss-copy-source-")
    return source


def no_such_bucket(bucket: str) -> RefusedError:
    """Return the refusal of a bucket that does not exist."""
    return RefusedError(
        404,
        "NoSuchBucket",
        "The specified bucket does not exist.",
        extras={"BucketName": bucket},
    )


def _directive(exchange: Exchange, name: str) -> str:
    value = exchange.call.headers.get(name, "COPY").upper()
    if value not in ("COPY", "REPLACE"):
        raise invalid_argument(f"Unknown {name}.", ArgumentName=name)
    return value


async def delete_object(exchange: Exchange) -> Answer:
    """Delete an object: 204 whether it existed or not."""
    exchange.store.drop(exchange.bucket, exchange.call.key)
    return Answer(status=204)


async def delete_multiple_objects(exchange: Exchange) -> Answer:
    """Delete up to 1000 objects."""
    if "content-md5" not in exchange.call.headers:
        raise RefusedError(
            400, "MissingArgument", "Missing Some Required Arguments: Content-MD5."
        )
    body = await exchange.incoming.read(_MAX_DELETE_BODY)
    check_body_md5(exchange.call, body)
    try:
        tree = parsing.parse(body, "Delete")
    except ValueError as error:
        raise malformed() from error
    keys = [element.findtext("Key") or "" for element in tree.iterfind("Object")]
    if not keys or not all(keys) or len(keys) > _MAX_DELETE_KEYS:
        raise malformed()
    for key in keys:
        exchange.store.drop(exchange.bucket, key)
    if tree.findtext("Quiet") == "true":
        return Answer()
    encodes = exchange.call.parameters.get("encoding-type") == "url"
    rows = [("Deleted", [("Key", quote(k, safe="") if encodes else k)]) for k in keys]
    if encodes:
        rows.insert(0, ("EncodingType", "url"))  # type: ignore[arg-type]
    return xml_answer(xml("DeleteResult", *rows))


async def get_object_acl(exchange: Exchange) -> Answer:
    """Answer what ``x-oss-object-acl`` said."""
    acl = exchange.found().headers.get(ACL, "default")
    body = xml(
        "AccessControlPolicy",
        ("Owner", [("ID", OWNER), ("DisplayName", OWNER)]),
        ("AccessControlList", [("Grant", acl)]),
    )
    return xml_answer(body)


async def get_object_tagging(exchange: Exchange) -> Answer:
    """Answer what ``x-oss-tagging`` said."""
    tags = read_tags(exchange.found().headers.get(TAGGING, ""))
    rows = [("Tag", [("Key", name), ("Value", value)]) for name, value in tags]
    return xml_answer(xml("Tagging", ("TagSet", rows)))
