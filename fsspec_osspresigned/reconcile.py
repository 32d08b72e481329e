"""After a lost reply: is the object stored, is it not, or can nobody tell?

==================================  ===========================================
what is seen                        what is said
==================================  ===========================================
HEAD: our size, our CRC-64 or MD5   stored: the upload succeeded
HEAD: nothing, or other bytes       not stored: the first failure is raised
HEAD: our size, nothing to compare  unknown
no HEAD; ListParts finds the parts  not stored: it was not completed
no HEAD, no parts to be seen        unknown
==================================  ===========================================
"""

from __future__ import annotations

from collections.abc import Callable

from .checksum import CRC_HEADER, compare
from .client import Client
from .errors import (
    IntegrityError,
    OSSPresignedError,
    OutcomeUnknownError,
    ReplyError,
    StoreUnavailableError,
)
from .model import Operation, Reply
from .outcome import Outcome


def reconcile(
    client: Client,
    head: Operation,
    error: OSSPresignedError,
    *,
    size: int,
    crc: int | None,
    md5: Callable[[], str] | None = None,
    parts: Operation | None = None,
) -> tuple[Reply, str]:
    """Return the HEAD that shows our object after *error*, and what proves it.

    Costs one HeadObject, and a ListParts where that one is not signed. They are tried
    again if *error* is an answer, such as NoSuchUpload after a lost reply; a store that
    did not answer until the end is asked once more, no longer.

    Args:
        client: signs and sends.
        head: the HeadObject of the object.
        error: how the last step failed.
        size: bytes of the object.
        crc: CRC-64 of all of it; None if it was not computed.
        md5: returns the MD5 in hex of an object that was one PUT.
        parts: the ListParts of its multipart upload; None without one.

    Raises:
        OutcomeUnknownError: nothing that is signed can tell.
        OSSPresignedError: *error*, if what is there is surely not ours.
    """
    once = not isinstance(error, ReplyError) or isinstance(error, StoreUnavailableError)
    try:
        reply = client.call(head, once=once)
    except FileNotFoundError:
        error.outcome = Outcome.NOT_STORED
        raise error from None
    except OSSPresignedError as blind:
        unsure = f"HEAD cannot tell: {blind.message}"
        if parts is not None and _is_open(client, parts, once=once):
            error.outcome = Outcome.NOT_STORED
            raise error from None
    else:
        try:
            proof = _proof(reply, size, crc, md5, head)
        except IntegrityError:
            error.outcome = Outcome.NOT_STORED
            raise error from None
        if proof != "none":
            return reply, proof
        unsure = "an object of this size is there, but no checksum to compare"
    msg = f"whether the object is stored is unknown: {error.message}; {unsure}"
    raise OutcomeUnknownError(msg, path=head.path, action=error.action)


def _proof(
    reply: Reply,
    size: int,
    crc: int | None,
    md5: Callable[[], str] | None,
    head: Operation,
) -> str:
    """Return what shows that the object is ours: ``crc64``, ``md5`` or ``none``.

    Raises:
        IntegrityError: it is another one.
    """
    if reply.headers.get("content-length") != str(size):
        msg = f"{head}: the object has another size"
        raise IntegrityError(msg, path=head.path)
    by_crc = "crc64" if crc is not None and CRC_HEADER in reply.headers else "none"
    return compare(
        reply.headers,
        crc=crc,
        md5=md5 or str,
        mode="auto" if md5 is not None else by_crc,
        what=str(head),
        path=head.path,
    )


def _is_open(client: Client, parts: Operation, *, once: bool) -> bool:
    """Return whether the upload is surely not completed; a completed one is gone."""
    try:
        client.call(parts, once=once)
    except OSSPresignedError:
        return False
    return True
