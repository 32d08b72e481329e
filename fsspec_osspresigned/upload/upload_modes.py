"""Modes of an upload: one call, one call from a file on disk, or a multipart upload."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import traceback
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Protocol

from attrs import evolve, frozen

from ..engine.engine import (
    CarriedError,
    blocking,
    call_of_task,
    call_user,
    running,
)
from ..engine.limits import memory_budget
from ..errors import (
    IntegrityError,
    TooLargeError,
    UploadDiscardedError,
    UploadNotFoundError,
)
from ..http.body import EMPTY, Body, PartBody, SpooledBody
from ..model import PartReceipt, Receipt, Reply
from ..signers.base import MultipartGrant
from .oss_calls import OSSCalls
from .plan import UploadPlan, limit_of
from .receipt_builder import ReceiptBuilder

if TYPE_CHECKING:
    from ..checkpoint.journal import JournalPart
    from ..signers.batching import Prefetcher

_log = logging.getLogger(__name__)

# Parts of a stream that are signed first: it may end soon.
_FIRST_BATCH = 4
_SHOWN_AHEAD = 2  # parts that progress may be ahead of the journal


class Checkpoint(Protocol):
    """Protocol of what remembers the stored parts of an upload.

    ``NoCheckpoint`` remembers nothing; ``Resumption`` has a journal.

    Attributes:
        upload_id: upload ID to resume; empty begins a new upload.
        kept: stored parts, which are sent again only if their bytes have changed.
        has_journal: whether it writes a journal, so every part needs its CRC-64, and
            methods wait for a disk.
    """

    upload_id: str
    kept: Mapping[int, JournalPart]
    has_journal: bool

    def record_upload(self, upload_id: str, host: str) -> None:
        """Record the upload ID, and the store in which the upload was begun."""
        ...

    def stored_part(self, number: int, body: Body) -> JournalPart | None:
        """Return part *number* if it is stored with the bytes of *body*."""
        ...

    def record_part(self, part: PartReceipt, verified: str) -> None:
        """Record a stored part."""
        ...

    def remove(self) -> None:
        """Remove the journal, because the upload is published or cannot be resumed."""
        ...

    def keeps_parts(self, error: BaseException | None) -> bool:
        """Return whether the stored parts are kept after *error*."""
        ...

    def release(self) -> None:
        """Unlock the journal, so another process can resume the upload."""
        ...


class NoCheckpoint:
    """Checkpoint of an upload that cannot be resumed; its methods do nothing."""

    upload_id = ""
    kept: Mapping[int, JournalPart] = {}
    has_journal = False

    def record_upload(self, upload_id: str, host: str) -> None:
        """Record nothing."""

    def stored_part(self, number: int, body: Body) -> JournalPart | None:  # noqa: ARG002
        """Return None: no part is known."""
        return None

    def record_part(self, part: PartReceipt, verified: str) -> None:
        """Record nothing."""

    def remove(self) -> None:
        """Do nothing."""

    def keeps_parts(self, error: BaseException | None) -> bool:  # noqa: ARG002
        """Return False."""
        return False

    def release(self) -> None:
        """Do nothing."""


class ConfirmedProgress:
    """Progress that is at most *ahead* bytes before the parts in the journal.

    *report* is called with bytes as they are sent, and with the others when their part
    is in the journal, so that a bar does not show what a killed process would lose.
    """

    def __init__(self, report: Callable[[int], None], ahead: int) -> None:
        self._report, self._ahead = report, ahead
        self._lock = threading.Lock()
        self._sent = self._kept = self._shown = 0

    def __call__(self, count: int) -> None:
        """Count *count* sent bytes; a negative number subtracts a failed try."""
        self._move(sent=count, kept=0)

    def keep(self, size: int) -> None:
        """Count *size* sent bytes as kept, because their part is in the journal."""
        self._move(sent=-size, kept=size)

    def _move(self, sent: int, kept: int) -> None:
        with self._lock:
            self._sent += sent
            self._kept += kept
            shown = self._kept + min(self._sent, self._ahead)
            moved, self._shown = shown - self._shown, shown
        if moved:
            self._report(moved)


def as_failure(error: BaseException, path: str) -> Exception:
    """Return what an upload of *path* raises from now on, because of *error*."""
    if isinstance(error, Exception):
        return error
    cause = error.error if isinstance(error, CarriedError) else error
    text = f"the upload was interrupted ({type(cause).__name__})"
    return UploadDiscardedError(text, path=path)


@frozen(kw_only=True, eq=False)
class UploadJob:
    """State that all modes of one upload share; *size* None stands for a stream."""

    calls: OSSCalls
    plan: UploadPlan
    granted: MultipartGrant
    size: int | None
    expires_at: float | None
    prefetcher: Prefetcher | None
    receipt: ReceiptBuilder


class SinglePut:
    """Upload in one call, which keeps at most one body in memory until the end."""

    def __init__(self, job: UploadJob) -> None:
        self.body: Body = EMPTY
        self.bodies = 0
        self._job = job

    async def add(self, body: Body) -> None:
        """Keep *body* until ``publish``."""
        self.body = body
        self.bodies += 1

    async def wait(self) -> None:
        """Raise an error if the size is not permitted; only ``publish`` sends bytes."""
        calls, action = self._job.calls, self._job.plan.action
        if action.spec.form:
            known = calls.target.put_operation(self.body.size, action)
            await calls.client.preflight(known)

    async def wait_for_memory(self, may: Callable[[], bool]) -> None:
        """Do nothing, because no part is in flight."""

    async def publish(self) -> Receipt:
        """Send the body; return the receipt."""
        size, job = self.body.size, self._job
        reply, verified = await job.calls.put(
            self.body, job.prefetcher, job.plan.action
        )
        return job.receipt.build(reply, size, reply.crc64, verified)

    async def close(self) -> None:
        """Release the memory of the body."""
        if isinstance(self.body, PartBody):
            self.body.release()
        self.body = EMPTY


class SpooledPut(SinglePut):
    """Upload in one call of a stream that is first written to an unnamed file."""

    def __init__(self, job: UploadJob) -> None:
        super().__init__(job)
        self.body = self._spool = SpooledBody()

    async def add(self, body: Body) -> None:
        """Append *body* to the file; TooLargeError if the file is too large for a call."""
        plan = self._job.plan
        if self._spool.size + body.size > plan.largest:
            limit = limit_of(plan.action, plan.largest)
            msg = f"{limit}, and no parts are granted; nothing was published"
            raise TooLargeError(msg, path=self._job.calls.target.path)
        await blocking(self._spool.append, body)
        if isinstance(body, PartBody):
            body.release()

    async def close(self) -> None:
        """Delete the temporary file, to which a cancelled call may be writing."""
        await blocking(self._spool.close)


class Multipart:
    """Multipart upload, whose parts are tasks of the engine.

    *checkpoint* has the parts that an earlier process stored.

    Attributes:
        failure: the first failure of a part; it cancels the other parts.
    """

    body = EMPTY

    def __init__(self, job: UploadJob, checkpoint: Checkpoint) -> None:
        from .expiry_watch import ExpiryWatch  # noqa: PLC0415 - only for parts

        options, path = job.calls.client.options, job.calls.target.path
        self._width = job.plan.width or options.connections
        self._memory_limit = options.most_memory
        self.upload_id = ""
        self.failure: Exception | None = None
        self._job, self._calls, self._checkpoint = job, job.calls, checkpoint
        self._confirmed: ConfirmedProgress | None = None
        if checkpoint.has_journal:
            report = job.calls.exchange.progress
            if report is not None:
                ahead = _SHOWN_AHEAD * job.plan.part_size
                self._confirmed = ConfirmedProgress(report, ahead)
            exchange = evolve(
                job.calls.exchange, with_crc=True, progress=self._confirmed
            )
            self._calls = evolve(job.calls, exchange=exchange)
        self._parts: set[asyncio.Task[None]] = set()
        self._call = call_of_task.get()
        self._is_discarded = False
        self._watch = ExpiryWatch(path, job.size, job.expires_at)
        self._prefetcher: Prefetcher | None = None

    async def begin(self) -> None:
        """Initiate the upload unless it exists; NotSignedError if not granted."""
        job, client = self._job, self._calls.client
        host = ""
        self.upload_id = job.granted.upload_id or self._checkpoint.upload_id
        if not self.upload_id:
            self.upload_id, host = await self._calls.initiate(job.prefetcher)
        if self._checkpoint.has_journal:
            await blocking(self._checkpoint.record_upload, self.upload_id, host)
        coming = (
            self._calls.target.part_operation(self.upload_id, number, size)
            for number, size in job.plan.cut(job.size)
            if number not in self._checkpoint.kept
        )
        first = _FIRST_BATCH if job.size is None else self._width
        self._prefetcher = client.prefetcher(lambda: next(coming, None), first=first)

    async def add(self, body: Body) -> None:
        """Send *body* as the next part; waits while too many are in flight.

        If memory is short, parts that hold memory are sent one by one. Raises the first
        failure of any part.
        """
        memory = memory_budget()
        while self._parts and (
            len(self._parts) >= self._width
            or (isinstance(body, PartBody) and memory.used >= self._memory_limit)
        ):
            await asyncio.wait(self._parts, return_when=asyncio.FIRST_COMPLETED)
            self._check()
        self._check()
        number = self._job.receipt.next_number()
        # Parts go on when the call that added them has returned; they wait for their
        # turn as one call.
        context = contextvars.copy_context()
        context.run(call_of_task.set, self._call)
        task = running().spawn(self._send_part(number, body), context)
        self._parts.add(task)
        task.add_done_callback(self._parts.discard)

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def _send_part(self, number: int, body: Body) -> None:
        """Send one part; record a failure for the caller."""
        try:
            reply: Reply | None = None
            kept = None
            if number in self._checkpoint.kept:
                kept = await blocking(self._checkpoint.stored_part, number, body)
            if kept is None:
                part, verified, reply = await self._calls.send_part(
                    self.upload_id, number, body, self._prefetcher
                )
                if self._checkpoint.has_journal:
                    await blocking(self._checkpoint.record_part, part, verified)
            else:
                verified, part = kept.verified, kept.part
                if self._calls.exchange.progress is not None:
                    await call_user(self._calls.exchange.progress, part.size)
            if self._confirmed is not None:
                await call_user(self._confirmed.keep, part.size)
            self._job.receipt.add_part(part, verified, reply)
            self._watch.add(part.size)
        except BaseException as error:
            # The error is kept, its frames are not: they would keep the part.
            traceback.clear_frames(error.__traceback__)
            self._fail(error)  # raised by the caller's next step
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            if isinstance(body, PartBody):
                body.release()
            del body

    def _fail(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = as_failure(error, self._calls.target.path)
        self.cancel()

    @property
    def in_flight(self) -> Collection[asyncio.Task[None]]:
        """The tasks of the parts in flight."""
        return self._parts

    def cancel(self) -> None:
        """Cancel the parts in flight."""
        for task in list(self._parts):
            if not task.cancelling():  # a second time, it would leave its thread alone
                task.cancel()

    async def wait(self) -> None:
        """Wait until no part is in flight; raise the first failure of any part."""
        while self._parts:
            await asyncio.wait(self._parts)
        self._check()

    async def wait_for_memory(self, may: Callable[[], bool]) -> None:
        """Wait until *may* returns True, or no part is in flight."""
        while self._parts and not may():
            await asyncio.wait(self._parts, return_when=asyncio.FIRST_COMPLETED)
        self._check()

    async def publish(self) -> Receipt:
        """Complete the upload, unless its owner does so; return the receipt."""
        granted, receipt = self._job.granted, self._job.receipt
        parts = receipt.parts
        crc = await blocking(receipt.crc64)
        reply, verified = None, "none"
        if granted.completes:
            try:
                reply, verified = await self._calls.complete(
                    self.upload_id, parts, crc, granted
                )
            except IntegrityError:  # the parts cannot become the right object
                await blocking(self._checkpoint.remove)
                raise
        size = sum(part.size for part in parts)
        return receipt.build(reply, size, crc, verified, self.upload_id)

    async def discard(self, reason: BaseException | None, *, once: bool) -> None:
        """Abort the multipart upload, unless it is the owner's or can be resumed."""
        if not self.upload_id or self._is_discarded:
            return
        self._is_discarded = True
        if await blocking(self._checkpoint.keeps_parts, reason):
            return
        job, client = self._job, self._calls.client
        if not job.granted.is_owners or client.options.abort_map_uploads:
            await self._calls.abort(self.upload_id, once=once)
            return
        if isinstance(reason, UploadNotFoundError):
            return  # nothing is kept
        numbers = job.receipt.stored_numbers
        parts = f"the parts [{numbers}]" if numbers else "no parts"
        kept = (
            f"its owner's multipart upload {self.upload_id} is kept, with {parts}: its "
            "URLs can be used again"
        )
        _log.warning("%s: %s", self._calls.target.path, kept)
        if reason is not None:
            reason.add_note(kept)

    async def close(self) -> None:
        """Do nothing, because each part is freed when it has been sent."""
