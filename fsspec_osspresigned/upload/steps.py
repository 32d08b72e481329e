"""Steps of an upload: one call to the store each, and what its reply must prove."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from attrs import evolve

from .. import parsing
from ..client.client import Client
from ..errors import (
    IntegrityError,
    NetworkError,
    OSSPresignedError,
    Outcome,
    OutcomeUnknownError,
    ReplyError,
    StoreUnavailableError,
    UploadNotFoundError,
)
from ..http.body import CRC_HEADER, EMPTY, Body, MemoryBody, compare, crc64, md5_of
from ..http.transport import PLAIN, Exchange
from ..model import Action, Operation, PartReceipt, Reply
from ..options.object_options import Target
from ..signers.base import MultipartGrant

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from ..signers.batching import Prefetcher

_log = logging.getLogger(__name__)

CALLBACK_FAILED = 203


def document(
    reply: Reply,
    operation: Operation,
    root: str,
    kind: type[OSSPresignedError] = NetworkError,
) -> Element:
    """Return the root element of the XML document that answers *operation*.

    Raises:
        OSSPresignedError: of *kind*; the body is no document with this *root*.
    """
    try:
        return parsing.parse(reply.body, root)
    except ValueError as error:
        action = operation.action
        msg = f"the reply to {action} is bad: {error}"
        raise kind(msg, path=operation.path, action=action) from None


# -- bodies ------------------------------------------------------------------------------


def send_body(
    client: Client,
    target: Target,
    operation: Operation,
    body: Body,
    exchange: Exchange,
    *,
    ahead: Prefetcher | None,
) -> tuple[Reply, str]:
    """Send PutObject or UploadPart; return the reply and what verified it.

    *ahead* signs the first try; None leaves it to the client's signer.
    """

    def parse(reply: Reply) -> tuple[Reply, str]:
        if not reply.etag and CRC_HEADER not in reply.headers:
            # An error document after a 200, or the page of a proxy: the store has not
            # confirmed anything.
            msg = f"{operation}: the reply has neither an ETag nor a checksum"
            raise NetworkError(msg, path=target.path)
        verified = compare(
            reply.headers,
            crc=reply.crc64,
            md5=lambda: md5_of(body),
            mode=target.checksum,
            what=str(operation),
            path=target.path,
        )
        return reply, verified

    return client.call(operation, body, exchange, parse=parse, ahead=ahead)


def put_object(
    client: Client,
    target: Target,
    body: Body,
    exchange: Exchange,
    *,
    ahead: Prefetcher | None,
) -> tuple[Reply, str]:
    """Store *body* by one PutObject; return the reply and what verified it.

    Raises:
        IntegrityError: the store has other bytes, which are visible now.
        OutcomeUnknownError: an exclusive object whose first reply was lost.
        OSSPresignedError: its ``outcome`` says whether it may be stored all the same.
    """
    operation = target.put_operation(body.size)
    try:
        return send_body(client, target, operation, body, exchange, ahead=ahead)
    except IntegrityError as error:
        raise _visible(error)  # noqa: B904 - it is the same error
    except OSSPresignedError as error:
        cancelled = exchange.cancel is not None and exchange.cancel.is_set()
        if error.outcome is not Outcome.UNKNOWN or cancelled:
            raise
        return _put_after_all(client, target, body, error)


def _put_after_all(
    client: Client, target: Target, body: Body, error: OSSPresignedError
) -> tuple[Reply, str]:
    """Return the HEAD that proves *body* was stored although the PUT raised *error*."""
    crc = None
    if target.checksum != "none":
        crc = 0
        for block in body.blocks():
            crc = crc64(block, crc)
    try:
        reply, verified = reconcile(
            client,
            target.operation(Action.HeadObject),
            error,
            size=body.size,
            crc=crc,
            md5=None if crc is None else lambda: md5_of(body),
        )
    except OutcomeUnknownError as unknown:
        if target.exclusive:
            raise
        # To run it again does no harm, so the first failure says more.
        error.add_note(unknown.message)
        raise error from None
    return evolve(reply, crc64=crc, retries=error.tries - 1), verified


def _visible(error: IntegrityError) -> IntegrityError:
    """Return *error* with the outcome of an object that is stored although wrong."""
    error.outcome = Outcome.STORED
    if error.differs:
        error.add_note("The object that is visible now is not what was sent.")
    return error


# -- multipart uploads -------------------------------------------------------------------


def initiate(
    client: Client,
    target: Target,
    exchange: Exchange = PLAIN,
    *,
    ahead: Prefetcher | None = None,
) -> str:
    """Begin a multipart upload and return its upload ID.

    Raises:
        NotSignedError: the signer grants none.
        NetworkError: the reply is no InitiateMultipartUploadResult.
    """
    operation = target.initiate_operation()

    def parse(reply: Reply) -> str:
        root = document(reply, operation, "InitiateMultipartUploadResult")
        upload_id = (root.findtext("UploadId") or "").strip()
        if not upload_id:
            msg = f"the reply to {operation.action} has no UploadId"
            raise NetworkError(msg, path=target.path)
        return upload_id

    return client.call(operation, EMPTY, exchange, parse=parse, ahead=ahead)


def part_receipt(
    number: int, size: int, etag: str, crc: int | None, path: str
) -> PartReceipt:
    """Return the receipt of a part that was sent or copied.

    Raises:
        IntegrityError: it has no ETag, so CompleteMultipartUpload cannot name it.
    """
    if not etag:
        msg = f"the reply to part {number} has no ETag, Complete needs it"
        raise IntegrityError(msg, path=path)
    return PartReceipt(part_number=number, size=size, etag=etag, crc64=crc)


def listed_parts(listing: Element) -> list[PartReceipt]:
    """Return the parts of a ListPartsResult, without CRC-64 where it states none.

    Raises:
        ValueError: a part has no number or size.
    """
    return [
        PartReceipt(
            part_number=int(part.findtext("PartNumber", "")),
            size=int(part.findtext("Size", "")),
            etag=part.findtext("ETag", ""),
            crc64=int(crc) if (crc := part.findtext("HashCrc64ecma")) else None,
        )
        for part in listing.iter("Part")
    ]


def bare(etag: str) -> str:
    """Return *etag* as two of them are compared: without quotes, in lower case."""
    return etag.strip('"').lower()


def complete(
    client: Client,
    target: Target,
    upload_id: str,
    parts: tuple[PartReceipt, ...],
    exchange: Exchange,
    *,
    crc: int | None,
    granted: MultipartGrant,
) -> tuple[Reply, str]:
    """Publish *parts* as one object; return the reply and what verified it.

    *crc* is the CRC-64 of the whole object; None compares nothing.

    Raises:
        IntegrityError: the object that is visible now has other bytes; or the stored
            parts are not those that were sent, and nothing was published.
        OutcomeUnknownError: the reply was lost and nothing can tell.
    """
    if granted.complete_all and granted.complete_all_proven:
        _prove_parts(client, target, upload_id, parts, exchange)
    body = EMPTY
    if not granted.complete_all:
        named = ((part.part_number, part.etag) for part in parts)
        body = MemoryBody.of(parsing.complete_multipart_upload(named))
    operation = target.operation(
        Action.CompleteMultipartUpload,
        headers=target.on_complete,
        upload_id=upload_id,
        content_length=body.size,
    )

    def parse(reply: Reply) -> Reply:
        return _completed(reply, operation, target)

    try:
        reply = client.call(operation, body, exchange, parse=parse)
    except OSSPresignedError as error:
        gone = isinstance(error, UploadNotFoundError)
        if not gone and error.outcome is not Outcome.UNKNOWN:
            raise
        reply, _ = reconcile(
            client,
            target.operation(Action.HeadObject),
            error,
            size=sum(part.size for part in parts),
            crc=crc,
            parts=target.operation(Action.ListParts, upload_id=upload_id),
        )
    try:
        return reply, _compared(reply, operation, crc)
    except IntegrityError as error:
        raise _visible(error)  # noqa: B904 - it is the same error


def _compared(
    reply: Reply,
    operation: Operation,
    crc: int | None,
    md5: Callable[[], str] | None = None,
) -> str:
    """Return what proves the object: ``crc64``, ``md5`` or ``none``.

    *md5* computes the MD5 of an object that was one PUT; None compares no MD5.

    Raises:
        IntegrityError: it is another one.
    """
    stated = crc is not None and CRC_HEADER in reply.headers
    return compare(
        reply.headers,
        crc=crc,
        md5=md5 or str,
        mode="auto" if md5 is not None else "crc64" if stated else "none",
        what=str(operation),
        path=operation.path,
    )


def _completed(reply: Reply, operation: Operation, target: Target) -> Reply:
    """Return *reply* with the ETag that some stores only have in its body.

    Raises:
        OSSPresignedError: a 200 that carries an error, or confirms nothing.
    """
    text = reply.body.lstrip()
    is_json = text.startswith(b"{")  # a callback server answers in OSS's place
    if reply.status != CALLBACK_FAILED and not is_json and b"<Error>" in text[:512]:
        from ..client import failures  # noqa: PLC0415 - only for a failure

        # An error in a 200 is an internal one unless its code says more.
        raise failures.from_reply(operation, evolve(reply, status=500))
    try:
        root = document(reply, operation, "CompleteMultipartUploadResult")
    except NetworkError:
        with_callback = any("callback" in name.lower() for name in target.headers)
        confirmed = with_callback or is_json or bool(reply.etag and not text)
        if reply.status == CALLBACK_FAILED or confirmed:
            return reply
        raise
    etag = reply.etag or root.findtext("ETag") or ""
    return evolve(reply, headers={**reply.headers, "etag": etag})


def _prove_parts(
    client: Client,
    target: Target,
    upload_id: str,
    parts: Iterable[PartReceipt],
    exchange: Exchange,
) -> None:
    """Compare ListParts with what was sent, since this Complete names no parts.

    Its first page is all that one signed request can show: 1,000 parts.
    """
    operation = target.operation(Action.ListParts, upload_id=upload_id)
    reply = client.call(operation, EMPTY, exchange)
    root = document(reply, operation, "ListPartsResult")
    listed: list[tuple[int, int, str]] = []
    with contextlib.suppress(ValueError):
        listed = [_shape(part) for part in listed_parts(root)]
    sent = [_shape(part) for part in parts]
    if root.findtext("IsTruncated") == "true":
        sent = sent[: len(listed)]
    if not listed or listed != sent:
        msg = "the parts that are stored are not those that were sent"
        raise IntegrityError(msg, path=target.path)


def _shape(part: PartReceipt) -> tuple[int, int, str]:
    return part.part_number, part.size, bare(part.etag)


def abort(
    client: Client, target: Target, upload_id: str, *, once: bool = False
) -> None:
    """Remove the parts of an upload; a failure is logged with the upload ID.

    *once* leaves it at one try, for a process that ends.
    """
    operation = target.operation(Action.AbortMultipartUpload, upload_id=upload_id)
    try:
        client.call(operation, once=once)
    except UploadNotFoundError:
        _log.info("%s: upload %s is gone already", target.path, upload_id)
    except OSError as error:
        _log.warning(
            "%s: the multipart upload %s could not be aborted; its parts cost storage "
            "until the owner removes them: %s",
            target.path,
            upload_id,
            error,
        )


# -- after a lost reply ------------------------------------------------------------------


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

    Costs one HeadObject, and a ListParts where that one is not signed. They are retried
    if *error* is an answer, such as NoSuchUpload after a lost reply; a store that did
    not answer until the end is asked once more.

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
            same = reply.headers.get("content-length") == str(size)
            proof = _compared(reply, head, crc, md5) if same else ""
        except IntegrityError:
            proof = ""
        if not proof:
            error.outcome = Outcome.NOT_STORED
            raise error from None
        if proof != "none":
            return reply, proof
        unsure = "an object of this size is there, but no checksum to compare"
    msg = f"whether the object is stored is unknown: {error.message}; {unsure}"
    raise OutcomeUnknownError(msg, path=head.path, action=error.action)


def _is_open(client: Client, parts: Operation, *, once: bool) -> bool:
    """Return whether the upload is surely not completed: a completed one is gone."""
    try:
        client.call(parts, once=once)
    except OSSPresignedError:
        return False
    return True
