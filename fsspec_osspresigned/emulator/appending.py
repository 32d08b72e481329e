"""AppendObject."""

from __future__ import annotations

import hashlib

from attrs import evolve

from ..checksum import CRC_HEADER, combine
from .answers import Answer, RefusedError, quoted
from .bodies import Body, Piece
from .call import read_number
from .exchange import Exchange, invalid_argument
from .incoming import too_large
from .properties import read_properties
from .store import ChangedError, StoredObject

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
