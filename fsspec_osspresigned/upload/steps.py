"""The steps of an upload, each one call and what its reply must prove."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
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
from ..model import Action, Operation, PartReceipt, Reply
from ..options.object_options import Target
from ..signers.base import MultipartGrant

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from ..signers.batching import Ahead


# After a lost reply: is the object stored, is it not, or can nobody tell?


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


_log = logging.getLogger(__name__)

CALLBACK_FAILED = 203


class _BodyCheck:
    """Compares the reply to one body with what was sent; remembers by what."""

    def __init__(self, target: Target, body: Body, what: str) -> None:
        self._target = target
        self._body = body
        self._what = what
        self.verified = "none"

    def __call__(self, reply: Reply) -> None:
        if not reply.etag and CRC_HEADER not in reply.headers:
            # An error document behind a 200, or the page of somebody in between: the
            # store has not said that it took it.
            msg = f"{self._what}: the reply has neither an ETag nor a checksum"
            raise NetworkError(msg, path=self._target.path)
        self.verified = compare(
            reply.headers,
            crc=reply.crc64,
            md5=lambda: md5_of(self._body),
            mode=self._target.checksum,
            what=self._what,
            path=self._target.path,
        )


def send_body(
    client: Client,
    target: Target,
    operation: Operation,
    body: Body,
    *,
    ahead: Ahead | None,
    cancel: threading.Event,
    progress: Callable[[int], None] | None,
    needs_crc: bool = False,
) -> tuple[Reply, str]:
    """Send PutObject or UploadPart; return the reply and what verified it.

    *ahead* signs the first try; None leaves it to the client's signer. *needs_crc* has
    the CRC-64 computed even if nothing is compared.
    """
    check = _BodyCheck(target, body, str(operation))
    reply = client.call(
        operation,
        body,
        ahead=ahead,
        cancel=cancel,
        progress=progress,
        check=check,
        with_crc=needs_crc or target.checksum != "none",
    )
    return reply, check.verified


def put_object(
    client: Client,
    target: Target,
    body: Body,
    *,
    ahead: Ahead | None,
    cancel: threading.Event,
    progress: Callable[[int], None] | None,
) -> tuple[Reply, str]:
    """Store *body* by one PutObject; return the reply and what verified it.

    Raises:
        IntegrityError: the store has other bytes, which are visible now.
        OutcomeUnknownError: an exclusive object whose first reply was lost.
        OSSPresignedError: its ``outcome`` says whether it may be stored all the same.
    """
    try:
        return send_body(
            client,
            target,
            target.put_operation(body.size),
            body,
            ahead=ahead,
            cancel=cancel,
            progress=progress,
        )
    except IntegrityError as error:
        raise _visible(error)  # noqa: B904 - it is the same error
    except OSSPresignedError as error:
        if error.outcome is not Outcome.UNKNOWN or cancel.is_set():
            raise
        return _put_after_all(client, target, body, error)


def _put_after_all(
    client: Client, target: Target, body: Body, error: OSSPresignedError
) -> tuple[Reply, str]:
    """Return the HEAD by which *body* was stored in spite of *error*."""
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
        # Whoever simply tries again does no harm: the first failure says more.
        error.add_note(unknown.message)
        raise error from None
    return evolve(reply, crc64=crc, retries=error.tries - 1), verified


def _visible(error: IntegrityError) -> IntegrityError:
    """Name the object that the store has accepted although it is wrong."""
    error.outcome = Outcome.STORED
    if error.differs:
        error.add_note("The object that is visible now is not what was sent.")
    return error


def initiate(
    client: Client,
    target: Target,
    cancel: threading.Event,
    *,
    ahead: Ahead | None = None,
) -> str:
    """Begin a multipart upload and return its upload ID.

    Raises:
        NotSignedError: the signer grants none.
        NetworkError: the reply is no InitiateMultipartUploadResult.
    """
    found: list[str] = []

    def check(reply: Reply) -> None:
        what = "InitiateMultipartUpload"
        root = _document(reply, f"{what}Result", what, target.path)
        upload_id = (root.findtext("UploadId") or "").strip()
        if not upload_id:
            msg = f"the reply to {what} has no UploadId"
            raise NetworkError(msg, path=target.path)
        found.append(upload_id)

    client.call(target.initiate_operation(), ahead=ahead, check=check, cancel=cancel)
    return found[-1]


def complete(
    client: Client,
    target: Target,
    *,
    upload_id: str,
    granted: MultipartGrant,
    parts: tuple[PartReceipt, ...],
    document: bytes,
    crc: int | None,
    cancel: threading.Event,
) -> tuple[Reply, str]:
    """Publish the parts as one object; return the reply and what verified it.

    Raises:
        IntegrityError: the object that is visible now has other bytes; or the stored
            parts are not those that were sent, and nothing was published.
        OutcomeUnknownError: the reply was lost and nothing can tell.
    """
    if granted.complete_all and granted.complete_all_proven:
        _prove_parts(client, target, upload_id, parts, cancel)
    size = sum(part.size for part in parts)
    body = EMPTY if granted.complete_all else MemoryBody.of(document)
    operation = target.operation(
        Action.CompleteMultipartUpload,
        headers=target.on_complete,
        upload_id=upload_id,
        content_length=body.size,
    )

    def check(reply: Reply) -> None:
        _check_completed(reply, target)

    try:
        reply = _with_etag(client.call(operation, body, check=check, cancel=cancel))
    except OSSPresignedError as error:
        gone = isinstance(error, UploadNotFoundError)
        if not gone and error.outcome is not Outcome.UNKNOWN:
            raise
        reply, _ = reconcile(
            client,
            target.operation(Action.HeadObject),
            error,
            size=size,
            crc=crc,
            parts=target.operation(Action.ListParts, upload_id=upload_id),
        )
    if crc is None or CRC_HEADER not in reply.headers:
        return reply, "none"
    try:
        verified = compare(
            reply.headers,
            crc=crc,
            md5=str,
            mode="crc64",
            what=str(operation),
            path=target.path,
        )
    except IntegrityError as error:
        raise _visible(error)  # noqa: B904 - it is the same error
    return reply, verified


def _check_completed(reply: Reply, target: Target) -> None:
    """Refuse a 200 that carries an error, or nothing that looks like an end."""
    action = Action.CompleteMultipartUpload
    text = reply.body.lstrip()
    is_json = text.startswith(b"{")  # a callback server answers in OSS's place
    if reply.status != CALLBACK_FAILED and not is_json and b"<Error>" in text[:512]:
        from ..client import failures  # noqa: PLC0415 - only for a failure

        # What fails behind a 200 is an internal error unless its code says more.
        raise failures.from_reply(
            500, reply.headers, reply.body, action=action, path=target.path
        )
    with_callback = any("callback" in name.lower() for name in target.headers)
    if reply.status == CALLBACK_FAILED or with_callback or is_json:
        return
    if reply.etag and not text:
        return
    _document(reply, f"{action}Result", action, target.path)


def _with_etag(reply: Reply) -> Reply:
    """Return *reply* with the ETag that stores of another kind only have in its body."""
    try:
        root = parsing.parse(reply.body, "CompleteMultipartUploadResult")
    except ValueError:
        return reply
    etag = reply.etag or root.findtext("ETag") or ""
    return evolve(reply, headers={**reply.headers, "etag": etag})


def _document(reply: Reply, root: str, what: str, path: str) -> Element:
    try:
        return parsing.parse(reply.body, root)
    except ValueError as error:
        msg = f"the reply to {what} is bad: {error}"
        raise NetworkError(msg, path=path) from None


def _prove_parts(
    client: Client,
    target: Target,
    upload_id: str,
    parts: tuple[PartReceipt, ...],
    cancel: threading.Event,
) -> None:
    """Compare ListParts with what was sent, since this Complete names no parts.

    Its first page is all that one signed request can show: 1,000 parts.
    """
    operation = target.operation(Action.ListParts, upload_id=upload_id)
    reply = client.call(operation, cancel=cancel)
    root = _document(reply, "ListPartsResult", Action.ListParts, target.path)
    listed = [
        (
            part.findtext("PartNumber"),
            part.findtext("Size"),
            _bare(part.findtext("ETag")),
        )
        for part in root.iter("Part")
    ]
    sent = [(str(p.part_number), str(p.size), _bare(p.etag)) for p in parts]
    if root.findtext("IsTruncated") == "true":
        sent = sent[: len(listed)]
    if not listed or listed != sent:
        msg = "the parts that are stored are not those that were sent"
        raise IntegrityError(msg, path=target.path)


def _bare(etag: str | None) -> str:
    return (etag or "").strip('"').lower()


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
