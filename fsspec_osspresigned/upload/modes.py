"""Modes of an upload: one request, one request from a spool file, or a multipart upload."""

from __future__ import annotations

import asyncio
import contextvars
import time
import traceback
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from ..client.operations import OSSCalls, receipt_of
from ..engine.engine import CarriedError, blocking, call_of_task, call_user, running
from ..engine.limits import memory_budget
from ..engine.logs import Logger
from ..errors import (
    IntegrityError,
    OutcomeUnknownError,
    TooLargeError,
    UploadDiscardedError,
    UploadNotFoundError,
)
from ..http.body import EMPTY, Body, PartBody, SpooledBody
from ..http.checksums import combine
from ..model import MAX_PARTS, Action, PartReceipt, Receipt, Reply
from ..options.target import Target
from ..signers.base import MultipartGrant
from .plan import UploadPlan, limit_of

if TYPE_CHECKING:
    from ..signers.batching import Prefetcher
    from .resume import Resumption

_log = Logger(__name__)

# Parts of a stream that are signed first. They are few, because the stream may end
# soon.
_FIRST_BATCH = 4


def as_failure(error: BaseException, path: str) -> Exception:
    """Return the exception that later calls of an upload of *path* raise after *error*.

    This is *error* itself. For an interrupt, it is UploadDiscardedError, or
    OutcomeUnknownError if notes of the interrupt say that a request may have acted.
    """
    if isinstance(error, Exception):
        return error
    cause = error.error if isinstance(error, CarriedError) else error
    text = f"the upload was interrupted ({type(cause).__name__})"
    notes = getattr(cause, "__notes__", ())
    if not notes:
        return UploadDiscardedError(text, path=path)
    failure = OutcomeUnknownError(
        f"whether the object is stored is unknown: {text}", path=path
    )
    for note in notes:
        failure.add_note(note)
    return failure


class PartList:
    """Numbers the parts of one upload, and records stored parts."""

    def __init__(self, target: Target, max_parts: int = MAX_PARTS) -> None:
        self._target, self._max_parts = target, max_parts
        self._numbered = self._retries = self._resigns = 0
        self._stored: dict[int, PartReceipt] = {}
        self._verified: set[str] = set()
        self._started = time.monotonic()

    def next_number(self) -> int:
        """Return the next part number, from 1; TooLargeError if all are used."""
        if self._numbered >= self._max_parts:
            raise TooLargeError(
                f"all {self._max_parts} parts are used up: more part URLs or larger "
                "parts are needed; nothing was published",
                path=self._target.path,
            )
        self._numbered += 1
        return self._numbered

    def add_part(self, part: PartReceipt, verified: str, reply: Reply | None) -> None:
        """Add a stored part; *reply* is None if an earlier process stored it."""
        self._stored[part.part_number] = part
        self._verified.add(verified)
        if reply is not None:
            self._retries += reply.retries
            self._resigns += reply.resigns

    @property
    def parts(self) -> tuple[PartReceipt, ...]:
        """The stored parts by number; AssertionError if a part is missing."""
        numbers = range(1, self._numbered + 1)
        if self._stored.keys() != set(numbers):
            msg = f"parts of {self._target.path} are missing: refusing to complete"
            raise AssertionError(msg)
        return tuple(self._stored[n] for n in numbers)

    @property
    def stored_count(self) -> int:
        return len(self._stored)

    def crc64(self) -> int | None:
        """Return the CRC-64 of the whole object; None if a part's CRC-64 is unknown."""
        total = 0
        for part in self.parts:
            if part.crc64 is None:
                return None
            total = combine(total, part.crc64, part.size)
        return total

    def receipt(
        self,
        reply: Reply | None,
        size: int,
        crc64: int | None,
        verified: str = "none",
        upload_id: str = "",
    ) -> Receipt:
        """Return the receipt of the completed object; see ``receipt_of``.

        If *verified* is ``none``, the receipt states the kind of checksum that was
        compared for the parts.
        """
        if verified == "none" and len(self._verified) == 1:
            (verified,) = self._verified
        seconds = time.monotonic() - self._started
        receipt = receipt_of(
            self._target,
            reply,
            size,
            crc64,
            verified,
            seconds=seconds,
            upload_id=upload_id,
            parts=self.parts,
        )
        retries = receipt.retries + self._retries
        return evolve(receipt, retries=retries, resigns=receipt.resigns + self._resigns)


@frozen(kw_only=True, eq=False)
class UploadJob:
    """State that all modes of one upload share."""

    calls: OSSCalls
    plan: UploadPlan
    granted: MultipartGrant
    size: int | None  # None for a stream
    prefetcher: Prefetcher | None


class SinglePut:
    """Upload in one request; at most one body is kept in memory until the end."""

    def __init__(self, job: UploadJob) -> None:
        self.body: Body = EMPTY
        self.bodies = 0
        self._job = job

    async def add(self, body: Body) -> None:
        self.body = body
        self.bodies += 1

    async def wait(self) -> None:
        """Raise the signer's error if the policy of a form does not permit the size."""
        calls, action = self._job.calls, self._job.plan.action
        if action.spec.form:
            known = calls.target.operation(action, content_length=self.body.size)
            await calls.client.preflight(known)

    async def wait_for_memory(self, may: Callable[[], bool]) -> None:
        pass  # with one request, no part is in flight

    async def publish(self) -> Receipt:
        job = self._job
        return await job.calls.put(self.body, job.prefetcher, job.plan.action)

    async def close(self) -> None:
        if isinstance(self.body, PartBody):
            self.body.release()
        self.body = EMPTY


class SpooledPut(SinglePut):
    """Upload of a stream in one request; the stream is first written to an unnamed file."""

    def __init__(self, job: UploadJob) -> None:
        super().__init__(job)
        self.body = self._spool = SpooledBody()

    async def add(self, body: Body) -> None:
        plan = self._job.plan
        if self._spool.size + body.size > plan.largest:
            limit = limit_of(plan.action, plan.largest)
            msg = f"{limit}, and no parts are granted; nothing was published"
            raise TooLargeError(msg, path=self._job.calls.target.path)
        await blocking(self._spool.append, body)
        if isinstance(body, PartBody):
            body.release()

    async def close(self) -> None:
        # a cancelled call may still write to the spool
        await blocking(self._spool.close)


class Multipart:
    """Multipart upload, whose parts are tasks of the engine.

    *resumption* has the journal of the upload; None means that there is none. The first
    failure of a part cancels the others, and becomes ``failure``.
    """

    body = EMPTY

    def __init__(self, job: UploadJob, resumption: Resumption | None) -> None:
        options = job.calls.client.options
        self._width = options.connections
        self._memory_limit = options.max_memory
        self.upload_id = ""
        self.failure: Exception | None = None
        self._job, self._calls, self._resumption = job, job.calls, resumption
        self._parts = PartList(job.calls.target, job.plan.max_parts)
        if resumption is not None:
            exchange = evolve(job.calls.exchange, with_crc=True)
            self._calls = evolve(job.calls, exchange=exchange)
        self.in_flight: set[asyncio.Task[None]] = set()
        self._call = call_of_task.get()
        self._is_discarded = False
        self._prefetcher: Prefetcher | None = None

    async def begin(self, is_over: Callable[[], bool]) -> None:
        """Initiate the upload, unless its owner or an earlier process has initiated it.

        If *is_over* returns True, the call is not retried.

        Raises NotCoveredError if a multipart upload is not granted.
        """
        job, client = self._job, self._calls.client
        host = ""
        resumption = self._resumption
        kept: Collection[int] = ()
        self.upload_id = job.granted.upload_id or ""
        if resumption is not None:
            kept = resumption.kept
            self.upload_id = self.upload_id or resumption.upload_id
        if not self.upload_id:
            count = None if job.size is None else sum(1 for _ in job.plan.cut(job.size))
            self.upload_id, host = await self._calls.initiate(
                job.prefetcher, count, job.plan.part_size, is_over=is_over
            )
        if resumption is not None:
            await blocking(resumption.record_upload, self.upload_id, host)
        operations = (
            self._calls.target.operation(
                Action.UploadPart,
                upload_id=self.upload_id,
                part_number=number,
                content_length=size,
            )
            for number, size in job.plan.cut(job.size)
            if number not in kept
        )
        first = _FIRST_BATCH if job.size is None else self._width
        self._prefetcher = client.prefetcher(
            lambda: next(operations, None), first=first
        )

    async def add(self, body: Body) -> None:
        """Begin to send *body* as the next part; first wait while too many are in flight.

        If memory is short, a part in memory waits until there is enough again, or until
        no other part is in flight. Raises the first failure of any part.
        """
        memory = memory_budget()
        while self.in_flight and (
            len(self.in_flight) >= self._width
            or (isinstance(body, PartBody) and memory.used >= self._memory_limit)
        ):
            await asyncio.wait(self.in_flight, return_when=asyncio.FIRST_COMPLETED)
            self._check()
        self._check()
        number = self._parts.next_number()
        # A part may outlive the call that added it. All parts of an upload share one
        # call, so they wait for their turn together.
        context = contextvars.copy_context()
        context.run(call_of_task.set, self._call)
        task = running().spawn(self._send_part(number, body), context)
        self.in_flight.add(task)
        task.add_done_callback(self.in_flight.discard)

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def _send_part(self, number: int, body: Body) -> None:
        try:
            reply: Reply | None = None
            kept, resumption = None, self._resumption
            if resumption is not None and number in resumption.kept:
                kept = await blocking(resumption.stored_part, number, body)
            if kept is None:
                part, verified, reply = await self._calls.send_part(
                    self.upload_id, number, body, self._prefetcher
                )
                if resumption is not None:
                    await blocking(resumption.record_part, part, verified)
            else:
                verified, part = kept.verified, kept.part
                if self._calls.exchange.progress is not None:
                    await call_user(self._calls.exchange.progress, part.size)
            self._parts.add_part(part, verified, reply)
        except BaseException as error:
            # A traceback keeps the variables of its frames alive, and so the bytes of
            # the part.
            traceback.clear_frames(error.__traceback__)
            if self.failure is None:  # the caller's next step raises it
                self.failure = as_failure(error, self._calls.target.path)
            self.cancel()
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            if isinstance(body, PartBody):
                body.release()
            del body

    def cancel(self) -> None:
        for task in list(self.in_flight):
            if not task.cancelling():
                # a second cancellation would abandon the thread of the task
                task.cancel()

    async def wait(self) -> None:
        """Wait until no part is in flight; raise the first failure."""
        while self.in_flight:
            await asyncio.wait(self.in_flight)
        self._check()

    async def wait_for_memory(self, may: Callable[[], bool]) -> None:
        """Wait until *may* returns True, or no part is in flight."""
        while self.in_flight and not may():
            await asyncio.wait(self.in_flight, return_when=asyncio.FIRST_COMPLETED)
        self._check()

    async def publish(self) -> Receipt:
        """Complete the upload, unless its owner does so; return the receipt."""
        granted, parts = self._job.granted, self._parts.parts
        crc = await blocking(self._parts.crc64)
        reply, verified = None, "none"
        if granted.completes:
            try:
                reply, verified = await self._calls.complete(
                    self.upload_id, parts, crc, granted
                )
            except IntegrityError:  # the parts cannot become the right object
                if self._resumption is not None:
                    await blocking(self._resumption.journal.remove)
                raise
        size = sum(part.size for part in parts)
        return self._parts.receipt(reply, size, crc, verified, self.upload_id)

    async def discard(self, reason: BaseException | None, *, once: bool) -> None:
        """Abort the multipart upload, unless it is the owner's or can be resumed.

        The option ``abort_owner_uploads`` aborts the owner's, too. *reason* is the
        error that ended the upload, or None; if parts are kept, it gets a note. With
        *once*, a failed abort is not retried.
        """
        if not self.upload_id or self._is_discarded:
            return
        self._is_discarded = True
        resumption = self._resumption
        if resumption is not None and await blocking(resumption.keeps_parts, reason):
            return
        job, client = self._job, self._calls.client
        if not job.granted.is_owners or client.options.abort_owner_uploads:
            await self._calls.abort(self.upload_id, once=once)
            return
        if isinstance(reason, UploadNotFoundError):
            return  # the upload no longer exists, so nothing is kept
        kept = (
            f"its owner's multipart upload {self.upload_id} is kept, with "
            f"{self._parts.stored_count} parts: its URLs can be used again"
        )
        _log.warning("%s: %s", self._calls.target.path, kept)
        if reason is not None:
            reason.add_note(kept)

    async def close(self) -> None:
        pass  # each part is freed after it was sent
