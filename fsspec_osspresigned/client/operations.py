"""Operations: the calls of OSS, each with the check of its reply.

``OSSCalls`` has the calls on one object, and ``listing`` lists a bucket. Only GetObject
is elsewhere, in ``objects/reading``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, unquote

from attrs import evolve, frozen

from .. import parsing
from ..engine.engine import blocking, call_user
from ..engine.logs import Logger
from ..errors import (
    AccessDeniedError,
    IntegrityError,
    NetworkError,
    NotCoveredError,
    ObjectExistsError,
    OSSPresignedError,
    Outcome,
    OutcomeUnknownError,
    OverwriteProtectionIgnoredError,
    RefusalReason,
    StoreError,
    StoreUnavailableError,
    UploadNotFoundError,
)
from ..http.body import EMPTY, Body, MemoryBody
from ..http.checksums import (
    CRC_HEADER,
    compare,
    crc64,
    digests_of,
    etag_of_google,
    md5_of,
)
from ..http.transfer import FRESH, PLAIN, Exchange
from ..model import (
    MAX_PARTS,
    Action,
    Operation,
    PartReceipt,
    Receipt,
    Reply,
    split_path,
)
from ..options.target import Target
from ..parsing import is_number, moment
from ..signers.base import MultipartGrant
from ..units import KIB
from .client import Client, never
from .local_index import Info, directory_info, object_info
from .retry import unrepeatable

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from ..signers.batching import Prefetcher

_log = Logger(__name__)

T = TypeVar("T")

PAGE_SIZE = 1_000  # entries of one listing page; OSS returns no more
_MAX_UPLOAD_ID = 8 * KIB  # characters; upload servers have long IDs

# seconds that requests get to end after an interrupt, and then the abort of an upload
SHORT = 3.0
CALLBACK_FAILED = 203
_NO_REPLY = Reply(status=0)  # reply for an upload that its owner completes
_NOT_AWAITED = Exchange(grace=0.0)  # for an abort, whose reply does not matter


@frozen
class StoredParts:
    """Replies to ListParts."""

    parts: Mapping[int, PartReceipt]  # part number -> receipt
    whole: bool  # True if the list is complete


@frozen(eq=False)
class OSSCalls:
    """Calls of OSS on one object, with the checks of their replies.

    Methods return the kind of checksum as ``crc64``, ``md5`` or ``none``. Their
    argument *prefetcher* signs the first try of a call; None uses the client's signer.
    """

    client: Client
    target: Target
    exchange: Exchange = PLAIN  # progress and CRC of the bodies
    source: Body | None = None  # body of the whole object; None for a stream

    # -- bodies --------------------------------------------------------------------------

    async def put(
        self,
        body: Body,
        prefetcher: Prefetcher | None = None,
        action: Action = Action.PutObject,
    ) -> Receipt:
        """Upload *body* by the call *action*; return the receipt.

        Raises:
            OverwriteProtectionIgnoredError: see ``receipt_of``.
            IntegrityError: the store published other bytes than were sent.
            OutcomeUnknownError: the reply about an exclusive object was lost, and no
                granted call can check whether it is stored.
            OSSPresignedError: its ``outcome`` says whether the object may be stored.
        """
        began = time.monotonic()
        operation = self.target.operation(action, content_length=body.size)
        if self.client.signer.digests:
            operation = evolve(operation, digests=await self._digests(body))
        parse = partial(self._confirmed, operation, body)
        try:
            reply, verified = await self.client.call(
                operation, body, self.exchange, parse=parse, prefetcher=prefetcher
            )
        except IntegrityError as error:
            raise _as_stored(error)  # noqa: B904 - it is the same error
        except OutcomeUnknownError:  # the body cannot be read any more
            raise
        except OSSPresignedError as error:
            if error.outcome is not Outcome.UNKNOWN:
                raise
            reply, verified = await self._put_after_all(body, error, action)
        seconds = time.monotonic() - began
        return receipt_of(
            self.target, reply, body.size, reply.crc64, verified, seconds=seconds
        )

    async def send_part(
        self,
        upload_id: str,
        number: int,
        body: Body,
        prefetcher: Prefetcher | None = None,
    ) -> tuple[PartReceipt, str, Reply]:
        """Send one part; return its receipt, the kind of checksum, and the reply."""
        operation = self.target.operation(
            Action.UploadPart,
            upload_id=upload_id,
            part_number=number,
            content_length=body.size,
        )
        parse = partial(self._confirmed, operation, body)
        reply, verified = await self.client.call(
            operation, body, self.exchange, parse=parse, prefetcher=prefetcher
        )
        part = _part_receipt(operation, body.size, reply.etag, reply.crc64)
        return part, verified, reply

    def _confirmed(
        self, operation: Operation, body: Body, reply: Reply
    ) -> tuple[Reply, str]:
        headers = reply.headers
        if "etag" not in headers and CRC_HEADER not in headers:
            # The body may be an error document after a 200, or the page of a proxy. The
            # store has not confirmed anything.
            msg = f"{operation}: the reply has neither an ETag nor a checksum"
            raise NetworkError(msg, path=operation.path)
        mode: str | None = self.target.kind.checksum
        if mode == "auto" and operation.action.spec.form:
            mode = None  # the ETag of an object from a form is never an MD5
        if reply.body:
            headers = {**headers, **etag_of_google(reply.body)}
        return reply, compare(
            headers,
            crc=reply.crc64,
            md5=partial(md5_of, body),
            mode=mode,
            what=operation,
            path=operation.path,
        )

    async def _put_after_all(
        self, body: Body, error: OSSPresignedError, action: Action
    ) -> tuple[Reply, str]:
        crc: int | None = None
        md5: Callable[[], str] | None = None
        if self.target.kind.checksum != "none":
            try:
                crc = await blocking(crc_of, body)
            except OSError as failure:
                operation = self.target.operation(action)
                raise unrepeatable(operation, failure, error.tries) from failure
            if not action.spec.form:
                md5 = partial(md5_of, body)
        try:
            reply, verified = await self._reconcile(error, body.size, crc, md5=md5)
        except OutcomeUnknownError as unknown:
            # A policy can forbid overwriting, too. The object may come from the first
            # try.
            is_locked = self.target.kind.exclusive or self.target.kind.keeps_hidden
            if is_locked or isinstance(error, ObjectExistsError):
                raise
            # The upload can safely be repeated, so the first failure is the more useful
            # one.
            error.add_note(unknown.message)
            raise error from None
        if self.exchange.progress is not None:
            # the bytes of the failed try were subtracted
            await call_user(self.exchange.progress, body.size)
        return evolve(reply, crc64=crc, retries=error.tries - 1), verified

    # -- multipart uploads ---------------------------------------------------------------

    async def _digests(self, body: Body | None) -> dict[str, str]:
        """Return the digests of the object that the signer wants; reads *body* for them."""
        if body is None or not (names := self.client.signer.digests):
            return {}
        return await blocking(digests_of, body, names)

    async def initiate(
        self,
        prefetcher: Prefetcher | None = None,
        part_count: int | None = None,
        part_size: int | None = None,
        *,
        is_over: Callable[[], bool] = never,
    ) -> tuple[str, str]:
        """Begin a multipart upload; return its ID, and host and port of its store.

        *part_count* is the number of parts that will follow, *part_size* the bytes of each
        but the last; None if they are unknown. *is_over* is as in ``Client.call``.
        """
        last = self.target.operation(Action.CompleteMultipartUpload)
        operation = evolve(
            self.target.operation(Action.InitiateMultipartUpload),
            part_count=part_count,
            final_headers=last.headers,
            object_size=None if self.source is None else self.source.size,
            part_size=part_size,
            digests=await self._digests(self.source),
        )

        def parse(reply: Reply) -> tuple[str, str]:
            root = "InitiateMultipartUploadResult"
            return _document(reply, operation, root, _upload_id), reply.host

        return await self.client.call(
            operation, parse=parse, prefetcher=prefetcher, is_over=is_over
        )

    async def complete(
        self,
        upload_id: str,
        parts: tuple[PartReceipt, ...],
        crc: int | None,
        granted: MultipartGrant,
    ) -> tuple[Reply, str]:
        """Publish *parts* as one object; return the reply and the kind of checksum.

        *crc* is the CRC-64 of the whole object; None compares nothing. If the signed
        call takes no list of parts (see *granted*), it publishes all stored parts. In
        this case, the stored parts are first compared with *parts*, if ListParts is
        signed, too.

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
            body = MemoryBody(parsing.complete_multipart_upload(named))
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
            return reply, compare(
                reply.headers, crc=crc, what=operation, path=operation.path
            )
        except IntegrityError as error:
            self.client.written.doubt(operation.path)
            raise _as_stored(error)  # noqa: B904 - it is the same error

    async def _prove_parts(
        self, upload_id: str, parts: tuple[PartReceipt, ...]
    ) -> None:
        # Complete without a part list publishes all stored parts, so check them first.
        stored = await self.list_parts(upload_id)
        listed = [_identity(part) for _, part in sorted(stored.parts.items())]
        sent = [_identity(part) for part in parts]
        if not listed or listed != (sent if stored.whole else sent[: len(listed)]):
            msg = "the stored parts differ from the sent parts"
            raise IntegrityError(msg, path=self.target.path)

    async def list_parts(
        self, upload_id: str, *, page_size: int = PAGE_SIZE
    ) -> StoredParts:
        """Return the stored parts of an upload; each request lists *page_size* of them.

        The list is incomplete if only the request for its first page is signed.

        Raises:
            NotCoveredError: ListParts is not granted.
            UploadNotFoundError: the upload was completed, aborted or expired.
        """
        parts: dict[int, PartReceipt] = {}
        marker = 0
        while True:
            query = {"max-parts": str(page_size)}
            if marker:
                query["part-number-marker"] = str(marker)
            operation = evolve(
                self.target.operation(Action.ListParts, upload_id=upload_id),
                query=query,
            )
            try:
                reply = await self.client.call(operation)
            except NotCoveredError:
                if marker:  # a presigned URL can get only the first page
                    return StoredParts(parts, whole=False)
                raise
            page, ends = _document(reply, operation, "ListPartsResult", _parts_of)
            parts |= page
            last = max(parts, default=0)
            if ends or not marker < last < MAX_PARTS:
                return StoredParts(parts, whole=ends)
            marker = last

    async def abort(
        self, upload_id: str, *, once: bool = False, host: str = ""
    ) -> bool:
        """Abort the multipart upload, which removes its parts.

        A failure is logged with the upload ID, and not raised. A cancellation is logged
        and raised. With *once*, a failed call is not retried. *host* is the host where
        the upload began; empty if unknown. Returns False if another host replies
        NoSuchUpload, and otherwise True, even after a failure.
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

    # -- copies --------------------------------------------------------------------------

    async def copy(
        self,
        source: str,
        headers: Mapping[str, str],
        optional_headers: Mapping[str, str],
    ) -> str | None:
        """Copy the object *source* to this one; return the CRC-64 that the store states.

        The CRC-64 is in decimal; None if the reply has none. *headers* are added to the
        headers of the target. *optional_headers* replace the target's optional headers.
        """
        operation = self.target.operation(
            Action.CopyObject,
            headers={**self.target.kind.headers, **_copy_source(source), **headers},
            optional_headers=optional_headers,
        )

        def parse(reply: Reply) -> str | None:
            _document(reply, operation, "CopyObjectResult", _etag_of, StoreError)
            return reply.headers.get(CRC_HEADER)

        return await self.client.call(operation, parse=parse)

    async def copy_part(
        self,
        source: str,
        span: range,
        upload_id: str,
        number: int,
        headers: Mapping[str, str],
    ) -> PartReceipt:
        """Copy the bytes *span* of the object *source* as part *number*."""
        bounds = {"x-oss-copy-source-range": f"bytes={span[0]}-{span[-1]}"}
        operation = self.target.operation(
            Action.UploadPartCopy,
            headers={**_copy_source(source), **bounds, **headers},
            upload_id=upload_id,
            part_number=number,
        )

        def parse(reply: Reply) -> PartReceipt:
            etag = _document(reply, operation, "CopyPartResult", _etag_of, StoreError)
            stated = reply.headers.get(CRC_HEADER)
            crc = int(stated) if stated is not None and is_number(stated) else None
            return _part_receipt(operation, len(span), etag or reply.etag, crc)

        return await self.client.call(operation, parse=parse)

    # -- stored object -------------------------------------------------------------------

    async def head(self) -> Mapping[str, str]:
        """Return the headers of the reply to HeadObject, with names in lower case."""
        return (
            await self.client.call(self.target.operation(Action.HeadObject))
        ).headers

    async def info(self) -> Info:
        """Return the ``info`` of the object; StoreError if its size is not stated."""
        operation = self.target.operation(Action.HeadObject)
        headers, path = (await self.client.call(operation)).headers, self.target.path
        return described(path, headers, size_of(headers, path))

    async def delete(self) -> None:
        """Delete the object; a missing one is no error.

        Raises NetworkError if the reply has a body, because such a reply confirms
        nothing.
        """
        operation = self.target.operation(Action.DeleteObject)

        def check(reply: Reply) -> None:
            if reply.body:
                # the body is an error document after a 200, or the page of a proxy
                msg = f"{operation}: the reply has a body, so it confirms no deletion"
                raise NetworkError(msg, path=operation.path)

        await self.client.call(operation, parse=check)

    # -- lost replies -------------------------------------------------------------------

    async def _reconcile(
        self,
        error: OSSPresignedError,
        size: int,
        crc: int | None,
        *,
        md5: Callable[[], str] | None = None,
        upload_id: str = "",
    ) -> tuple[Reply, str]:
        """Find out whether the object was stored although the call failed with *error*.

        Return the reply to HeadObject that proves it, and the kind of checksum. *crc*
        is None if it was not computed. *md5* computes the MD5 of a single PUT, if it is
        needed. If HeadObject fails for a multipart upload, ListParts shows whether the
        upload is still open, that is, not completed.

        Raises:
            OutcomeUnknownError: no granted call can check the object; or it is missing
                after a try that timed out, so the server may still be storing it.
            OSSPresignedError: *error*, if the bytes are certainly not stored.
        """
        # The store has just replied, for example with NoSuchUpload, so a retry may
        # succeed.
        is_reply = isinstance(error, StoreError)
        once = not is_reply or isinstance(error, StoreUnavailableError)
        head = self.target.operation(Action.HeadObject)
        unsure = "an object exists, but it has no checksum to compare"
        stored = True
        try:
            reply = await self.client.call(head, exchange=FRESH, once=once)
            # A reply in chunks states no length; then the checksum decides.
            stored = reply.headers.get("content-length", str(size)) == str(size)
            if stored:
                look = partial(
                    compare, reply.headers, crc=crc, what=head, path=head.path
                )
                if md5 is not None:
                    look = partial(look, md5=md5, mode="auto")
                proof = await blocking(look)
                if proof != "none":
                    return reply, proof
        except (FileNotFoundError, IntegrityError):
            stored = False
        except OSSPresignedError as failure:
            unsure = f"HEAD failed: {failure.message}"
            stored = not (upload_id and await self._is_open(upload_id, once=once))
        except asyncio.CancelledError as cancelled:
            cancelled.add_note(
                f"whether {head.path} is stored is unknown: {error.message}"
            )
            raise
        if not stored and not error.is_late:
            error.outcome = Outcome.NOT_STORED
            raise error from None
        if not stored:
            unsure = "the server may still be storing it"
        msg = f"whether the object is stored is unknown: {error.message}; {unsure}"
        raise OutcomeUnknownError(msg, path=head.path, action=error.action)

    async def _is_open(self, upload_id: str, *, once: bool) -> bool:
        try:
            operation = self.target.operation(Action.ListParts, upload_id=upload_id)
            await self.client.call(operation, exchange=FRESH, once=once)
        except OSSPresignedError:
            return False
        return True


def receipt_of(
    target: Target,
    reply: Reply | None,
    size: int,
    crc64: int | None,
    verified: str,
    *,
    seconds: float,
    upload_id: str = "",
    parts: tuple[PartReceipt, ...] = (),
) -> Receipt:
    """Return the receipt of *size* stored bytes, which took *seconds*.

    *reply* None means that the owner completes the upload. *verified* is the kind of
    checksum compared for the whole object.

    Raises:
        OverwriteProtectionIgnoredError: the object was stored, but the bucket has
            versioning, so an existing object may be hidden now.
    """
    if reply is None:
        reply, status = _NO_REPLY, "pending"
    else:
        status = "callback_failed" if reply.status == CALLBACK_FAILED else "stored"
    version = reply.headers.get("x-oss-version-id")
    if version and target.kind.exclusive:
        raise OverwriteProtectionIgnoredError(
            f"stored as version {version}, but a bucket that keeps versions ignores "
            "forbid-overwrite: the previous version is now hidden",
            path=target.path,
            version_id=version,
        )
    return Receipt(
        path=target.path,
        size=size,
        status=status,
        etag=reply.etag.strip('"'),
        crc64=crc64,
        verified=verified,
        version_id=version,
        request_id=reply.request_id,
        upload_id=upload_id or None,
        parts=parts,
        retries=reply.retries,
        resigns=reply.resigns,
        seconds=seconds,
        content_type=target.kind.content_type,
        location=reply.location,
    )


def operation_on(action: Action, path: str) -> Operation:
    bucket, key = split_path(path)
    return Operation(action=action, bucket=bucket, key=key)


async def listing(
    client: Client, bucket: str, prefix: str, *, delimiter: str = "/"
) -> AsyncIterator[Info]:
    """Yield ``info`` of objects and common prefixes that begin with *prefix*.

    Each request returns up to 1,000 entries; one page is in memory at a time. The name
    of an object keeps a trailing slash; the name of a common prefix does not.

    Raises:
        NotCoveredError: listing is not granted.
        StoreError: a page is not a listing, has another *prefix*, or has no valid
            continuation.
    """
    query = {"prefix": prefix, "max-keys": str(PAGE_SIZE), "encoding-type": "url"}
    query["delimiter"] = delimiter

    def read(page: Element) -> tuple[list[Info], str]:
        token = _next_token(page, query.get("continuation-token"))
        return list(_entries(page, bucket, prefix)), token

    while True:
        sent = {name: value for name, value in query.items() if value}
        operation = Operation(action=Action.ListObjectsV2, bucket=bucket, query=sent)
        reply = await client.call(operation)
        entries, token = _document(
            reply, operation, "ListBucketResult", read, StoreError
        )
        for entry in entries:
            yield entry
        if not token:
            return
        query["continuation-token"] = token


# -- replies -----------------------------------------------------------------------------


def means_unseen(error: PermissionError) -> bool:
    """Return whether *error* means that HeadObject or GetObject is not granted.

    False for other refusals, such as an expired URL, an archived object or a disabled
    account. A 403 reply to HEAD without an error document counts as not granted.
    """
    if not isinstance(error, AccessDeniedError):
        return isinstance(error, NotCoveredError)
    return error.reason is RefusalReason.DENIED or (
        error.code is None and not error.reason
    )


def size_of(headers: Mapping[str, str], path: str) -> int:
    """Return the size of an object from the *headers* of a HEAD reply; else StoreError."""
    text = headers.get("content-length", "")
    if not is_number(text):
        raise sizeless(Action.HeadObject, path)
    return int(text)


def sizeless(action: Action, path: str) -> StoreError:
    msg = f"the reply to {action} does not say how large the object is"
    return StoreError(msg, path=path, action=action)


def described(path: str, headers: Mapping[str, str], size: int) -> Info:
    """Return the ``fs.info`` of an object from the headers of a reply."""
    crc = headers.get(CRC_HEADER, "")
    return object_info(
        path,
        size,
        ETag=headers.get("etag", "").strip('"'),
        crc64=int(crc) if is_number(crc) else None,
        LastModified=date_of(headers.get("last-modified")),
        ContentType=headers.get("content-type"),
        StorageClass=headers.get("x-oss-storage-class"),
        version_id=headers.get("x-oss-version-id"),
    )


def date_of(text: str | None) -> datetime | None:
    """Return the HTTP or XML date in *text*; None if it is missing or invalid."""
    seconds = moment(text or "")
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _document(
    reply: Reply,
    operation: Operation,
    root: str,
    read: Callable[[Element], T],
    kind: type[OSSPresignedError] = NetworkError,
) -> T:
    """Return the value that *read* returns for the XML document of *reply*.

    Raises *kind* if its root is not *root*, or *read* raises ValueError.
    """
    try:
        return read(parsing.parse(reply.body, root))
    except ValueError as error:
        action = operation.action
        msg = f"the reply to {action} is bad: {error}"
        raise kind(msg, path=operation.path, action=action) from None


def _upload_id(page: Element) -> str:
    upload_id = (page.findtext("UploadId") or "").strip()
    if not (upload_id.isprintable() and 0 < len(upload_id) <= _MAX_UPLOAD_ID):
        raise ValueError("it has no UploadId")
    return upload_id


def _etag_of(page: Element) -> str:
    return page.findtext("ETag") or ""


def _part_receipt(
    operation: Operation, size: int, etag: str, crc: int | None
) -> PartReceipt:
    """Return the receipt of a stored part; raise IntegrityError without an *etag*."""
    number = operation.part_number or 0
    if not etag:
        msg = f"the reply to part {number} has no ETag, which Complete needs"
        raise IntegrityError(msg, path=operation.path)
    return PartReceipt(part_number=number, size=size, etag=etag, crc64=crc)


def _parts_of(page: Element) -> tuple[dict[int, PartReceipt], bool]:
    """Return the parts in a reply to ListParts by number, and whether it is the last page.

    Raises ValueError without a number or size.
    """
    parts = [
        PartReceipt(
            part_number=int(part.findtext("PartNumber", "")),
            size=int(part.findtext("Size", "")),
            etag=part.findtext("ETag", ""),
            crc64=int(crc) if (crc := part.findtext("HashCrc64ecma")) else None,
        )
        for part in page.iter("Part")
    ]
    ends = page.findtext("IsTruncated") != "true"
    return {part.part_number: part for part in parts}, ends


def _next_token(page: Element, last: str | None) -> str:
    """Return the continuation token of *page*; "" after the last page.

    Raises ValueError if the token is missing, or equals *last*, the token of the
    request.
    """
    if (page.findtext("IsTruncated") or "").lower() != "true":
        return ""
    token = page.findtext("NextContinuationToken") or ""
    if token in ("", last):
        raise ValueError("it is cut off, and does not say where it continues")
    return token


def _entries(page: Element, bucket: str, prefix: str) -> Iterator[Info]:
    encoded = page.findtext("EncodingType") == "url"

    def name(text: str | None) -> str:
        key = unquote(text or "") if encoded else text or ""
        if not key.startswith(prefix):
            # Deleting the listed objects must not reach any others.
            raise ValueError("it names an object that was not requested")
        return f"{bucket}/{key}"

    for item in page.iter("Contents"):
        size = item.findtext("Size") or "0"
        if not size.isdecimal():
            raise ValueError("it names no size")
        yield object_info(
            name(item.findtext("Key")),
            int(size),
            ETag=(item.findtext("ETag") or "").strip('"'),
            LastModified=date_of(item.findtext("LastModified")),
            StorageClass=item.findtext("StorageClass"),
        )
    for item in page.iter("CommonPrefixes"):
        yield directory_info(name(item.findtext("Prefix")).rstrip("/"))


def _copy_source(path: str) -> dict[str, str]:
    return {"x-oss-copy-source": f"/{quote(path)}"}


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
        error.add_note("The visible object differs from the bytes sent.")
    return error


def _completed(reply: Reply, operation: Operation, target: Target) -> Reply:
    """Check the reply to CompleteMultipartUpload, and return it with its ETag.

    Some stores send the ETag only in the body. Raises OSSPresignedError for an error
    document after a 200, and NetworkError for a reply that confirms nothing.
    """
    text = reply.body.lstrip()
    is_json = text.startswith(b"{")  # the reply comes from a callback server
    if reply.status != CALLBACK_FAILED and not is_json and b"<Error>" in text[:512]:
        from .error_codes import from_reply  # noqa: PLC0415 - needed only after a failure

        # An error after a 200 counts as a status 500, unless its code says more.
        raise from_reply(operation, evolve(reply, status=500))
    try:
        etag = _document(reply, operation, "CompleteMultipartUploadResult", _etag_of)
    except NetworkError:
        with_callback = any("callback" in name.lower() for name in target.kind.headers)
        if reply.status == CALLBACK_FAILED or with_callback or is_json:
            return reply
        raise
    return evolve(reply, headers={**reply.headers, "etag": reply.etag or etag})
