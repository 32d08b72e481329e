"""Modes of an upload: one call, one call from a file on disk, or a multipart upload."""

from __future__ import annotations

import contextlib
import logging
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from ..client.small_request import FirstTry, SmallRequest
from ..concurrency.cancellation import Cancellation
from ..errors import (
    IntegrityError,
    TooLargeError,
    UploadDiscardedError,
    UploadNotFoundError,
)
from ..http.body import EMPTY, SMALL, Body, SpooledBody
from ..model import PartReceipt, Receipt, Reply
from ..signers.base import MultipartGrant, preflight
from .parts_in_flight import PartsInFlight
from .plan import UploadPlan, limit_of
from .receipt_builder import ReceiptBuilder
from .steps import UploadSteps

if TYPE_CHECKING:
    from ..checkpoint.journal import JournalPart
    from ..signers.batching import Prefetcher

_log = logging.getLogger(__name__)

# Parts of a stream that are signed first: it may end soon.
_FIRST_BATCH = 4
_SHOWN_AHEAD = 2  # parts that progress may be ahead of the journal


class NoCheckpoint:
    """Null object for an upload that cannot be resumed; its methods do nothing.

    The methods of ``Resumption`` use a journal.

    Attributes:
        upload_id: upload ID to resume; empty begins a new upload.
        kept: stored parts, which are sent again only if their bytes have changed.
        needs_crc: whether the CRC-64 of every part must be computed.
    """

    upload_id = ""
    kept: Mapping[int, JournalPart] = {}
    needs_crc = False

    def record_upload(self, upload_id: str, host: str) -> None:
        """Record the upload ID, and the store in which the upload was begun."""

    def stored_part(self, number: int, body: Body) -> JournalPart | None:  # noqa: ARG002
        """Return part *number* if it is stored with the bytes of *body*."""
        return None

    def record_part(self, part: PartReceipt, verified: str) -> None:
        """Record a stored part."""

    def remove(self) -> None:
        """Remove the journal, because the upload is published or cannot be resumed."""

    def keeps_parts(self, error: BaseException | None) -> bool:  # noqa: ARG002
        """Return whether the stored parts are kept after *error*."""
        return False

    def release(self) -> None:
        """Unlock the journal, so another process can resume the upload."""


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


class FirstFailure:
    """First failure of an upload; recording it cancels the parts in flight."""

    def __init__(self, path: str, cancel: Cancellation) -> None:
        self.error: Exception | None = None
        self.cancel = cancel
        self._path = path
        self._lock = threading.RLock()  # a signal handler may come back in here

    def keep(self, error: BaseException) -> None:
        """Record *error* if it is the first failure."""
        if not isinstance(error, Exception):
            text = f"the upload was interrupted ({type(error).__name__})"
            error = UploadDiscardedError(text, path=self._path)
        with self._lock:
            if self.error is None:
                self.error = error
        self.cancel.set()


@frozen(kw_only=True, eq=False)
class UploadJob:
    """State that all modes of one upload share; *size* None stands for a stream."""

    steps: UploadSteps
    plan: UploadPlan
    granted: MultipartGrant
    size: int | None
    expires_at: float | None
    ahead: Prefetcher | None
    receipt: ReceiptBuilder
    failure: FirstFailure


class SinglePut:
    """Upload in one call, which keeps at most one body in memory until the end."""

    def __init__(self, job: UploadJob) -> None:
        self.body: Body = EMPTY
        self.bodies = 0
        self._job = job

    def add(self, body: Body) -> None:
        """Keep *body* until ``publish``."""
        self.body = body
        self.bodies += 1

    def wait(self, seconds: float | None = None) -> None:  # noqa: ARG002 - of parts
        """Raise an error if the size is not permitted; only ``publish`` sends bytes."""
        steps, action = self._job.steps, self._job.plan.action
        if action.spec.form:
            known = steps.target.put_operation(self.body.size, action)
            preflight(steps.client.signer, known)

    def wait_for_memory(self, may: Callable[[], bool]) -> None:
        """Do nothing, because no part is in flight."""

    def request(self) -> SmallRequest | None:
        """Return the request of ``publish`` if its body is small; None otherwise."""
        job, body = self._job, self.body
        if job.plan.multipart or body.size > SMALL:
            return None
        return job.steps.request(body, job.ahead, job.plan.action)

    def publish(self, first: FirstTry | None = None) -> Receipt:
        """Send the body, or use the reply to the *first* try; return the receipt."""
        size, job = self.body.size, self._job
        action = job.plan.action
        reply, verified = job.steps.put(self.body, job.ahead, action, first)
        return self._job.receipt.build(reply, size, reply.crc64, verified)

    def close(self) -> None:
        """Release the memory of the body."""
        self.body = EMPTY


class SpooledPut(SinglePut):
    """Upload in one call of a stream that is first written to an unnamed file."""

    def __init__(self, job: UploadJob) -> None:
        super().__init__(job)
        self.body = self._spool = SpooledBody()

    def add(self, body: Body) -> None:
        """Append *body* to the file; TooLargeError if the file is too large for a call."""
        plan = self._job.plan
        if self._spool.size + body.size > plan.largest:
            limit = limit_of(plan.action, plan.largest)
            msg = f"{limit}, and no parts are granted; nothing was published"
            raise TooLargeError(msg, path=self._job.steps.target.path)
        self._spool.append(body)

    def close(self) -> None:
        """Delete the temporary file."""
        self._spool.close()


class Multipart:
    """Multipart upload, whose parts the workers of the client send.

    *resumption* has the parts that an earlier process stored.
    """

    body = EMPTY

    def __init__(self, job: UploadJob, resumption: NoCheckpoint) -> None:
        from .expiry_watch import ExpiryWatch  # noqa: PLC0415 - only for parts

        options, path = job.steps.client.options, job.steps.target.path
        self._width = job.plan.width or options.connections
        self.upload_id = ""
        self._job, self._steps, self._resumption = job, job.steps, resumption
        self._confirmed: ConfirmedProgress | None = None
        if resumption.needs_crc:
            report = job.steps.exchange.progress
            if report is not None:
                ahead = _SHOWN_AHEAD * job.plan.part_size
                self._confirmed = ConfirmedProgress(report, ahead)
            exchange = evolve(
                job.steps.exchange, with_crc=True, progress=self._confirmed
            )
            self._steps = evolve(job.steps, exchange=exchange)
        self._in_flight = PartsInFlight(self._width, options.most_memory)
        self._watch = ExpiryWatch(path, job.size, job.expires_at)
        self._ahead: Prefetcher | None = None
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Initiate the upload unless it exists; NotSignedError if not granted."""
        job, client = self._job, self._steps.client
        host = ""
        self.upload_id = job.granted.upload_id or self._resumption.upload_id
        if not self.upload_id:
            self.upload_id, host = self._steps.initiate(job.ahead)
        self._resumption.record_upload(self.upload_id, host)
        coming = (
            self._steps.target.part_operation(self.upload_id, number, size)
            for number, size in job.plan.cut(job.size)
            if number not in self._resumption.kept
        )
        first = _FIRST_BATCH if job.size is None else self._width
        self._ahead = client.prefetcher(lambda: next(coming, None), first=first)

    def add(self, body: Body) -> None:
        """Send *body* as the next part; waits while too many are in flight."""
        with self._lock:
            number = self._job.receipt.next_number()
        held = [body]  # the code that pops the body also lets it leave
        try:
            self._in_flight.enter(number, body)
            self._steps.client.requests.submit(self._send_part, number, held)
        except BaseException:
            with contextlib.suppress(IndexError):  # taken by a worker
                self._in_flight.leave(number, held.pop())
            raise

    def _send_part(self, number: int, held: list[Body]) -> None:
        """Send one part in a background thread; record a failure for the caller."""
        body = held.pop()
        try:
            if self._job.failure.cancel.is_set():
                return
            reply: Reply | None = None
            kept = self._resumption.stored_part(number, body)
            if kept is None:
                part, verified, reply = self._steps.send_part(
                    self.upload_id, number, body, self._ahead
                )
                self._resumption.record_part(part, verified)
            else:
                verified, part = kept.verified, kept.part
                if self._steps.exchange.progress is not None:
                    self._steps.exchange.progress(part.size)
            if self._confirmed is not None:
                self._confirmed.keep(part.size)
            with self._lock:
                self._job.receipt.add_part(part, verified, reply)
                self._watch.add(part.size)
        except BaseException as error:  # noqa: BLE001 - raised by the caller's next step
            # The error is kept, its frames are not: they would keep the part.
            traceback.clear_frames(error.__traceback__)
            self._job.failure.keep(error)
        finally:
            self._in_flight.leave(number, body)
            del body

    def wait(self, seconds: float | None = None) -> None:
        """Wait until no part is in flight, at most *seconds*; None is no limit."""
        self._in_flight.drain(seconds)

    def wait_for_memory(self, may: Callable[[], bool]) -> None:
        """Wait until *may* returns True, or no part is in flight."""
        self._in_flight.wait_for_memory(may)

    def request(self) -> None:
        """Return None, because a multipart upload takes several requests."""

    def publish(self, first: FirstTry | None = None) -> Receipt:  # noqa: ARG002 - of one PUT
        """Complete the upload, unless its owner does so; return the receipt."""
        granted, receipt = self._job.granted, self._job.receipt
        parts, crc = receipt.parts, receipt.crc64()
        reply, verified = None, "none"
        if granted.completes:
            try:
                reply, verified = self._steps.complete(
                    self.upload_id, parts, crc, granted
                )
            except IntegrityError:
                self._resumption.remove()  # the parts cannot become the right object
                raise
        size = sum(part.size for part in parts)
        return receipt.build(reply, size, crc, verified, self.upload_id)

    def discard(self, reason: BaseException | None, *, once: bool) -> None:
        """Abort the multipart upload, unless it is the owner's or can be resumed."""
        if not self.upload_id or self._resumption.keeps_parts(reason):
            return
        job, client = self._job, self._steps.client
        if not job.granted.is_owners or client.options.abort_map_uploads:
            self._steps.abort(self.upload_id, once=once)
            return
        if isinstance(reason, UploadNotFoundError):
            return  # nothing is kept
        numbers = job.receipt.stored_numbers
        parts = f"the parts [{numbers}]" if numbers else "no parts"
        kept = (
            f"its owner's multipart upload {self.upload_id} is kept, with {parts}: its "
            "URLs can be used again"
        )
        _log.warning("%s: %s", self._steps.target.path, kept)
        if reason is not None:
            reason.add_note(kept)

    def close(self) -> None:
        """Do nothing, because each part is freed when it has been sent."""
