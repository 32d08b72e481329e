"""OSS calls of an upload, each with the check of its reply."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from .. import parsing
from ..client.client import Client
from ..engine.engine import blocking
from ..engine.logs import Logger
from ..errors import (
    IntegrityError,
    NetworkError,
    ObjectExistsError,
    OSSPresignedError,
    Outcome,
    OutcomeUnknownError,
    ReplyError,
    StoreUnavailableError,
    UploadNotFoundError,
)
from ..http.body import EMPTY, Body, MemoryBody
from ..http.checksums import CRC_HEADER, compare, crc64, md5_of
from ..http.transfer import FRESH, PLAIN, Exchange
from ..model import Action, Operation, PartReceipt, Reply
from ..options.target import Target
from ..signers.base import MultipartGrant
from ..units import KIB

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from ..signers.batching import Prefetcher

_log = Logger(__name__)

_MAX_UPLOAD_ID = 8 * KIB  # characters; that of a server of uploads can be long

CALLBACK_FAILED = 203
_NOT_AWAITED = Exchange(grace=0.0)  # of an abort, which can only come too late


@frozen(eq=False)
class OSSCalls:
    """Calls to the store for one object, with the checks of their replies.

    The kind of checksum that methods return is ``crc64``, ``md5`` or ``none``. Their
    argument *prefetcher* signs the first try of a call; None uses the client's signer.
    """

    client: Client
    target: Target
    exchange: Exchange = PLAIN  # progress and CRC of bodies

    # -- bodies --------------------------------------------------------------------------

    async def put(
        self,
        body: Body,
        prefetcher: Prefetcher | None = None,
        action: Action = Action.PutObject,
    ) -> tuple[Reply, str]:
        """Store *body* by the call *action*; return the reply and the kind of checksum.

        Raises:
            IntegrityError: the store published other bytes than were sent.
            OutcomeUnknownError: the reply about an exclusive object was lost, and no
                granted call can check whether it is stored.
            OSSPresignedError: its ``outcome`` says whether the object may be stored.
        """
        operation = self.target.put_operation(body.size, action)
        parse = partial(self._confirmed, operation, body)
        try:
            return await self.client.call(
                operation, body, self.exchange, parse=parse, prefetcher=prefetcher
            )
        except IntegrityError as error:
            raise _as_stored(error)  # noqa: B904 - it is the same error
        except OSSPresignedError as error:
            if error.outcome is not Outcome.UNKNOWN:
                raise
            return await self._put_after_all(body, error, action)

    async def send_part(
        self,
        upload_id: str,
        number: int,
        body: Body,
        prefetcher: Prefetcher | None = None,
    ) -> tuple[PartReceipt, str, Reply]:
        """Send one part; return its receipt, the kind of checksum, and the reply."""
        operation = self.target.part_operation(upload_id, number, body.size)
        parse = partial(self._confirmed, operation, body)
        reply, verified = await self.client.call(
            operation, body, self.exchange, parse=parse, prefetcher=prefetcher
        )
        part = part_receipt(operation, body.size, reply.etag, reply.crc64)
        return part, verified, reply

    def _confirmed(
        self, operation: Operation, body: Body, reply: Reply
    ) -> tuple[Reply, str]:
        if not reply.etag and CRC_HEADER not in reply.headers:
            # An error document after a 200, or the page of a proxy: the store has
            # not confirmed anything.
            msg = f"{operation}: the reply has neither an ETag nor a checksum"
            raise NetworkError(msg, path=operation.path)
        mode: str | None = self.target.checksum
        if mode == "auto" and operation.action.spec.form:
            mode = None  # the ETag of an object of a form is never an MD5
        md5 = partial(md5_of, body)
        return reply, _compared(reply, operation, reply.crc64, md5, mode)

    async def _put_after_all(
        self, body: Body, error: OSSPresignedError, action: Action
    ) -> tuple[Reply, str]:
        crc: int | None = None
        md5: Callable[[], str] | None = None
        if self.target.checksum != "none":
            crc = await blocking(crc_of, body)
            if not action.spec.form:
                md5 = partial(md5_of, body)
        try:
            reply, verified = await self._reconcile(error, body.size, crc, md5=md5)
        except OutcomeUnknownError as unknown:
            # A policy can forbid overwriting, too; the object may come from the first try.
            is_locked = self.target.exclusive or self.target.keeps_hidden
            if is_locked or isinstance(error, ObjectExistsError):
                raise
            # To run it again does no harm, so the first failure says more.
            error.add_note(unknown.message)
            raise error from None
        return evolve(reply, crc64=crc, retries=error.tries - 1), verified

    # -- multipart uploads ---------------------------------------------------------------

    async def initiate(
        self, prefetcher: Prefetcher | None = None, part_count: int | None = None
    ) -> tuple[str, str]:
        """Begin a multipart upload; return its ID, and host and port of its store.

        *part_count* is the number of parts that will follow; None if it is unknown.
        """
        last = self.target.operation(Action.CompleteMultipartUpload)
        operation = evolve(
            self.target.initiate_operation(),
            part_count=part_count,
            final_headers=last.headers,
        )

        def parse(reply: Reply) -> tuple[str, str]:
            root = document(reply, operation, "InitiateMultipartUploadResult")
            upload_id = (root.findtext("UploadId") or "").strip()
            is_name = upload_id.isprintable() and len(upload_id) <= _MAX_UPLOAD_ID
            if not (upload_id and is_name):
                msg = f"the reply to {operation.action} has no UploadId"
                raise NetworkError(msg, path=operation.path)
            return upload_id, reply.host

        return await self.client.call(operation, parse=parse, prefetcher=prefetcher)

    async def complete(
        self,
        upload_id: str,
        parts: tuple[PartReceipt, ...],
        crc: int | None,
        granted: MultipartGrant,
    ) -> tuple[Reply, str]:
        """Publish *parts* as one object; return the reply and the kind of checksum.

        *crc* is the CRC-64 of the whole object; None compares nothing. If *granted* says
        that the signed call takes no list of parts, it publishes all stored parts. They
        are then first compared with *parts*, if ListParts is signed, too.

        Raises:
            IntegrityError: the published object has other bytes; or the stored parts
                differ from those sent, and nothing was published.
            OutcomeUnknownError: the reply was lost, and no granted call can check
                whether the object is stored.
        """
        if granted.complete_all and granted.complete_all_proven:
            await self._prove_parts(upload_id, parts)
        body = EMPTY
        if not granted.complete_all:
            named = ((part.part_number, part.etag) for part in parts)
            body = MemoryBody.of(parsing.complete_multipart_upload(named))
        operation = self.target.operation(
            Action.CompleteMultipartUpload,
            upload_id=upload_id,
            content_length=body.size,
        )
        try:
            reply = await self.client.call(
                operation,
                body,
                parse=lambda reply: _completed(reply, operation, self.target),
            )
        except OSSPresignedError as error:
            gone = isinstance(error, UploadNotFoundError)
            if not gone and error.outcome is not Outcome.UNKNOWN:
                raise
            size = sum(part.size for part in parts)
            reply, _ = await self._reconcile(error, size, crc, upload_id=upload_id)
        try:
            return reply, _compared(reply, operation, crc)
        except IntegrityError as error:
            raise _as_stored(error)  # noqa: B904 - it is the same error

    async def _prove_parts(
        self, upload_id: str, parts: tuple[PartReceipt, ...]
    ) -> None:
        # Complete without a part list publishes all stored parts.
        operation = self.target.operation(Action.ListParts, upload_id=upload_id)
        reply = await self.client.call(operation)
        root = document(reply, operation, "ListPartsResult")
        listed: list[tuple[int, int, str]] = []
        with contextlib.suppress(ValueError):
            listed = [_identity(part) for part in listed_parts(root)]
        sent = [_identity(part) for part in parts]
        if root.findtext("IsTruncated") == "true":
            sent = sent[: len(listed)]  # one signed request shows 1,000 parts
        if not listed or listed != sent:
            msg = "the parts that are stored are not those that were sent"
            raise IntegrityError(msg, path=operation.path)

    async def abort(
        self, upload_id: str, *, once: bool = False, host: str = ""
    ) -> bool:
        """Abort the multipart upload, which removes its parts.

        A failure is logged with the upload ID, and not raised; so is a cancellation, which
        is raised. With *once*, a failed call is not retried. *host* is where the upload was
        begun, empty if unknown: if another host replies NoSuchUpload, False is returned.
        In all other cases True is returned, even after a failure.
        """
        path = self.target.path
        operation = self.target.operation(
            Action.AbortMultipartUpload, upload_id=upload_id
        )
        try:
            await self.client.call(operation, exchange=_NOT_AWAITED, once=once)
        except UploadNotFoundError as error:
            if is_elsewhere(error, host):
                return False
            _log.info("%s: upload %s no longer exists", path, upload_id)
        except (OSError, asyncio.CancelledError) as error:
            _log.warning(
                "%s: the multipart upload %s could not be aborted; its parts cost "
                "storage until the owner removes them: %s",
                path,
                upload_id,
                str(error) or "the store took too long",
            )
            if isinstance(error, asyncio.CancelledError):
                raise
        return True

    # -- after a lost reply --------------------------------------------------------------

    async def _reconcile(
        self,
        error: OSSPresignedError,
        size: int,
        crc: int | None,
        *,
        md5: Callable[[], str] | None = None,
        upload_id: str = "",
    ) -> tuple[Reply, str]:
        """Find out whether the object was stored in spite of *error*.

        Return the reply to HeadObject that proves it, and the kind of checksum. *crc* is
        None if it was not computed. *md5* computes the MD5 of a single PUT, if it is
        needed. If HeadObject fails for a multipart upload, ListParts tells whether the
        upload is still open, so not completed.

        Raises:
            OutcomeUnknownError: no granted call can check the object.
            OSSPresignedError: *error*, if the bytes are certainly not stored.
        """
        # A store that has just replied, as with NoSuchUpload, is worth retries.
        is_reply = isinstance(error, ReplyError)
        once = not is_reply or isinstance(error, StoreUnavailableError)
        head = self.target.operation(Action.HeadObject)
        unsure = "an object of this size exists, but it has no checksum to compare"
        stored = True
        try:
            reply = await self.client.call(head, exchange=FRESH, once=once)
            stored = reply.headers.get("content-length") == str(size)
            if stored:
                mode = "auto" if md5 is not None else None
                proof = await blocking(_compared, reply, head, crc, md5, mode)
                if proof != "none":
                    return reply, proof
        except (FileNotFoundError, IntegrityError):
            stored = False
        except OSSPresignedError as failure:
            unsure = f"HEAD failed: {failure.message}"
            stored = not (upload_id and await self._is_open(upload_id, once=once))
        if not stored:
            error.outcome = Outcome.NOT_STORED
            raise error from None
        msg = f"whether the object is stored is unknown: {error.message}; {unsure}"
        raise OutcomeUnknownError(msg, path=head.path, action=error.action)

    async def _is_open(self, upload_id: str, *, once: bool) -> bool:
        try:
            operation = self.target.operation(Action.ListParts, upload_id=upload_id)
            await self.client.call(operation, exchange=FRESH, once=once)
        except OSSPresignedError:
            return False
        return True


# -- replies -----------------------------------------------------------------------------


def document(
    reply: Reply,
    operation: Operation,
    root: str,
    kind: type[OSSPresignedError] = NetworkError,
) -> Element:
    """Return the XML document in *reply*; raise *kind* if its root is not *root*."""
    try:
        return parsing.parse(reply.body, root)
    except ValueError as error:
        action = operation.action
        msg = f"the reply to {action} is bad: {error}"
        raise kind(msg, path=operation.path, action=action) from None


def part_receipt(
    operation: Operation, size: int, etag: str, crc: int | None
) -> PartReceipt:
    """Return the receipt of a stored part; raise IntegrityError without an *etag*."""
    number = operation.part_number or 0
    if not etag:
        msg = f"the reply to part {number} has no ETag, which Complete needs"
        raise IntegrityError(msg, path=operation.path)
    return PartReceipt(part_number=number, size=size, etag=etag, crc64=crc)


def listed_parts(listing: Element) -> list[PartReceipt]:
    """Return the parts in a reply to ListParts; ValueError without a number or size."""
    return [
        PartReceipt(
            part_number=int(part.findtext("PartNumber", "")),
            size=int(part.findtext("Size", "")),
            etag=part.findtext("ETag", ""),
            crc64=int(crc) if (crc := part.findtext("HashCrc64ecma")) else None,
        )
        for part in listing.iter("Part")
    ]


def is_elsewhere(error: UploadNotFoundError, host: str) -> bool:
    """Return whether *error* is from another host than *host*; False if one is unknown."""
    return bool(host and error.host) and error.host != host


def bare(etag: str) -> str:
    return etag.strip('"').lower()


def crc_of(body: Body) -> int:
    crc = 0
    for block in body.blocks():
        crc = crc64(block, crc)
    return crc


def _identity(part: PartReceipt) -> tuple[int, int, str]:
    return part.part_number, part.size, bare(part.etag)


def _as_stored(error: IntegrityError) -> IntegrityError:
    error.outcome = Outcome.STORED
    if error.differs:
        error.add_note("The object that is visible now is not what was sent.")
    return error


def _compared(
    reply: Reply,
    operation: Operation,
    crc: int | None,
    md5: Callable[[], str] | None = None,
    mode: str | None = None,
) -> str:
    # *mode* is as in the option ``checksum``; None compares only CRC-64s.
    stated = crc is not None and CRC_HEADER in reply.headers
    return compare(
        reply.headers,
        crc=crc,
        md5=md5 or str,
        mode=mode or ("crc64" if stated else "none"),
        what=operation,
        path=operation.path,
    )


def _completed(reply: Reply, operation: Operation, target: Target) -> Reply:
    """Check the reply to CompleteMultipartUpload, and return it with its ETag.

    Some stores send the ETag only in the body. Raises OSSPresignedError for an error
    document after a 200, and NetworkError for a reply that confirms nothing.
    """
    text = reply.body.lstrip()
    is_json = text.startswith(b"{")  # a callback server answers in OSS's place
    if reply.status != CALLBACK_FAILED and not is_json and b"<Error>" in text[:512]:
        from ..client.error_codes import from_reply  # noqa: PLC0415 - only for a failure

        # An error in a 200 is an internal one unless its code says more.
        raise from_reply(operation, evolve(reply, status=500))
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
