"""Upload: sends bytes as one object.

A body of known size that one request can store is sent at once. Everything else uses
:class:`Upload`: ``add`` bodies, then ``finish`` or ``discard``. One body is sent as one
PutObject. Several bodies are the parts of a multipart upload, sent in the background
(``modes``). After the first failure, nothing more is sent, and the upload is never
completed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, cast

from attrs import evolve, frozen

from ..client.client import Client
from ..client.local_index import BODY_CAP
from ..client.operations import SHORT, OSSCalls
from ..engine import abort_at_exit
from ..engine.engine import blocking, in_background, running, unharmed
from ..engine.logs import Logger
from ..engine.warn import warn_user
from ..errors import (
    CallbackFailedWarning,
    ConfigurationError,
    NotCoveredError,
    OverwriteProtectionIgnoredError,
    PublishWarning,
    UploadDiscardedError,
)
from ..http.body import EMPTY, Body, MemoryBody, PartBody, Source, bytes_in, loaded
from ..http.transfer import PLAIN, WITH_CRC, Exchange
from ..model import Receipt, stored_note
from ..options.target import Target
from ..secret import redact
from ..signers.base import Grant, MultipartGrant, OtherPartSizeError
from .modes import (
    Multipart,
    SinglePut,
    SpooledPut,
    UploadJob,
    as_failure,
)
from .plan import UploadPlan, granted, planned, too_small

if TYPE_CHECKING:
    from ..signers.batching import Prefetcher
    from .resume import Resumption, UploadEvent

_log = Logger(__name__)

# Seconds that a discard waits for requests in flight before it aborts the upload.
_DISCARD_TIMEOUT = 30.0
# seconds between two checks whether an interrupt shortened the discard
_POLL_INTERVAL = 0.5


@frozen(kw_only=True)
class TransferContext:
    """Prefetcher and progress listeners that a caller gives to an upload."""

    # Signs the first request together with requests of other uploads. None uses the
    # client's signer.
    prefetcher: Prefetcher | None = None
    # Is called in worker threads with the number of bytes sent. A negative number
    # subtracts the bytes of a failed try.
    progress: Callable[[int], None] | None = None
    # Is called in a worker thread when the upload is resumed, or when its parts are
    # kept for a later process. It must not raise.
    on_event: Callable[[UploadEvent], object] | None = None


ALONE = TransferContext()


async def upload_source(
    client: Client,
    target: Target,
    source: Source,
    context: TransferContext = ALONE,
    *,
    is_again: bool = False,
) -> Receipt:
    """Upload *source* to *target* and return the receipt.

    The upload is atomic: afterwards, the object is either unchanged or exactly
    *source*. It takes one request, or one for each part and two more. With
    ``resume_dir``, the upload of a local file in parts is resumed from an earlier
    process.

    Raises:
        ConfigurationError, NotCoveredError: the grant does not permit this upload;
            nothing was sent.
        UploadInProgressError: another process or thread runs this upload.
        OSSPresignedError: the source changed while it was read, or could not be stored.
    """
    abort_at_exit.refuse_if_terminating(target.path)
    plan, grant = await planned(client, target, source.size)
    if plan.multipart or client.options.resume_dir is not None:
        upload = Upload(_job(client, target, source, plan, grant, context))
        try:
            return await _upload(upload, source, context)
        except _PART_SIZE_ERRORS:  # the store's minimum part size is known now
            if is_again or (await planned(client, target, source.size))[0] == plan:
                raise
            context = evolve(context, prefetcher=None)
            return await upload_source(client, target, source, context, is_again=True)
    try:
        body: Body = source
        if not isinstance(source, MemoryBody):
            body = await _readable_again(source)
        calls = _calls(client, target, context)
        receipt = await calls.put(body, context.prefetcher, plan.action)
    except OverwriteProtectionIgnoredError:  # the object was published
        raise
    except BaseException as error:
        reason = str(error) or type(error).__name__
        _log.info("the upload of %s failed: %s", target.path, reason)
        raise
    await client.note(receipt, _small_bytes(body, receipt.size))
    _warn_of(client, target, receipt)
    return receipt


class _SmallPartsError(ConfigurationError):
    """A signed URL is for an S3 store, which requires larger parts."""


_PART_SIZE_ERRORS = (_SmallPartsError, OtherPartSizeError)


async def _readable_again(source: Source) -> Body:
    if isinstance(source, MemoryBody) or source.size > BODY_CAP:
        return source
    return await blocking(loaded, source)


async def _upload(upload: Upload, source: Source, context: TransferContext) -> Receipt:
    job, client = upload.job, upload.job.calls.client
    try:
        if client.options.resume_dir is not None:
            from .resume import resumption_of  # noqa: PLC0415 - it loads the journal

            upload.resumption = await resumption_of(
                job.calls, job.plan, job.granted, source, context.on_event
            )
        await upload.add_source(source)
        return await upload.finish()
    except BaseException as error:
        await upload.discard(None if isinstance(error, _PART_SIZE_ERRORS) else error)
        raise
    finally:
        if upload.resumption is not None:
            await blocking(upload.resumption.journal.release)


def _calls(
    client: Client, target: Target, context: TransferContext, source: Body | None = None
) -> OSSCalls:
    with_crc = target.kind.checksum != "none"
    exchange = WITH_CRC if with_crc else PLAIN
    if context.progress is not None:
        exchange = Exchange(progress=context.progress, with_crc=with_crc)
    return OSSCalls(client, target, exchange, source)


def _job(
    client: Client,
    target: Target,
    source: Body | None,
    plan: UploadPlan,
    grant: Grant,
    context: TransferContext,
    size: int | None = None,
) -> UploadJob:
    return UploadJob(
        calls=_calls(client, target, context, source),
        plan=plan,
        granted=grant.multipart or MultipartGrant(),
        size=size if source is None else source.size,
        prefetcher=context.prefetcher,
    )


def _warn_of(client: Client, target: Target, receipt: Receipt) -> None:
    """Warn of a problem with a stored object."""
    if receipt.version_id and target.kind.keeps_hidden:
        client.warn_of_replacing(
            receipt.path, "has no effect in a bucket that keeps versions"
        )
    if client.signer.notice and client.written.warn_once("notice"):
        warn_user(f"{receipt.location}: {client.signer.notice}", PublishWarning)
    if receipt.status == "callback_failed":
        text = f"{receipt.path} is stored, but its callback failed"
        warn_user(text, CallbackFailedWarning)


def _small_bytes(body: Body, size: int) -> bytes | None:
    # None for a large body, or for a body that is not in memory.
    if body.size != size or size > BODY_CAP:
        return None
    if type(body) is MemoryBody:
        whole = body.view.obj
        return (
            whole if type(whole) is bytes and len(whole) == size else bytes(body.view)
        )
    return bytes_in(body) if isinstance(body, PartBody) else None


def _soon() -> float:
    return asyncio.get_running_loop().time() + SHORT


class Upload:
    """Upload of one object. One coroutine at a time may use it."""

    def __init__(self, job: UploadJob) -> None:
        self._client, self.job = job.calls.client, job
        self.path, self.plan = job.calls.target.path, job.plan
        # None if the upload cannot be resumed
        self.resumption: Resumption | None = None
        self.receipt: Receipt | None = None  # None before ``finish`` succeeds
        self.failure: Exception | None = None  # the first failure
        # replaced when parts are needed
        self.mode: SinglePut | Multipart = SinglePut(job)
        self._ended = self._over = False
        self._beginning: asyncio.Task[None] | None = None
        self._finishing: asyncio.Task[Receipt] | None = None
        self._discarding: asyncio.Task[None] | None = None
        self._pid, self._is_short = os.getpid(), False
        self._abort_limit: asyncio.Timeout | None = None  # None before the abort

    @classmethod
    async def begin(
        cls,
        client: Client,
        target: Target,
        *,
        size: int | None = None,
        context: TransferContext = ALONE,
    ) -> Self:
        """Ask the signer for its grant, and return an upload to *target*.

        Nothing is sent to the store. *size* is in bytes; None means a stream. Raises
        like ``planned``.
        """
        abort_at_exit.refuse_if_terminating(target.path)
        plan, grant = await planned(client, target, size)
        return cls(_job(client, target, None, plan, grant, context, size))

    async def add(self, body: Body, *, more: bool = False) -> None:
        """Add the next bytes of the object; waits while too many parts are in flight.

        *more* means that other bytes follow, so *body* is sent as a part at once. If no
        multipart upload is granted, all bytes are written to a local file instead,
        which ``finish`` sends in one request.

        *body* must not change until ``finish`` or ``discard`` returns. Unless it is the
        last one, it must have the planned size. Raises the first failure of any part,
        and TooLargeError if the granted requests cannot hold all bytes.
        """
        self._check_alive()
        try:
            if type(self.mode) is SinglePut:
                await self._choose_mode(self.mode, body.size if more else None)
            await self.mode.add(body)
        except BaseException as error:
            self._set_failure(error)
            raise

    async def add_source(self, source: Source) -> None:
        """Add all bytes of *source*, and wait until its parts are stored.

        Raises like ``add``, and SourceChangedError if *source* changed while it was
        read.
        """
        if not self.plan.multipart:  # the single request checks its own body
            await self.add(await _readable_again(source))
            return
        step = self.plan.part_size
        for offset in range(0, max(source.size, 1), step):
            await self.add(source.part(offset, min(step, source.size - offset)))
        await self.wait_for_parts()
        await blocking(source.check)

    async def wait_for_parts(self) -> None:
        """Wait until no part is in flight; raise the first failure of any part."""
        await self.mode.wait()
        self._check_alive()

    async def wait_for_memory(self, may: Callable[[], bool]) -> None:
        """Wait until *may* returns True or no part is in flight; raises like ``add``."""
        self._check_alive()
        await self.mode.wait_for_memory(may)
        self._check_alive()

    async def finish(self) -> Receipt:
        """Publish the object and return its receipt.

        Raises:
            OutcomeUnknownError: the last reply was lost, and no granted call can check
                whether the object is stored.
            ReceiptFailedError: the object is stored, but ``receipts=`` failed.
            OSSPresignedError: the object was not stored, or its bytes differ.
        """
        self._check_alive()
        self._finishing = running().spawn(self._finish())
        try:
            return await self._finishing
        except asyncio.CancelledError:
            if not cast("asyncio.Task[Any]", asyncio.current_task()).cancelling():
                self._check_alive()  # ``discard`` cancelled the task, not the caller
            raise
        finally:
            self._finishing = None  # the task's error would keep the data in memory

    async def _finish(self) -> Receipt:
        try:
            if self.plan.multipart and type(self.mode) is SinglePut:
                await self.add(EMPTY)
            if isinstance(self.mode, Multipart):
                await self.wait_for_parts()
            receipt, body = await self.mode.publish(), self.mode.body
        except BaseException as error:
            if isinstance(error, OverwriteProtectionIgnoredError):
                # the object was published
                await self._published()
            self._set_failure(error)
            raise
        self.receipt = receipt
        data = _small_bytes(body, receipt.size)  # read before the body is released
        try:
            await self._published()
        except asyncio.CancelledError as error:
            error.add_note(stored_note(receipt))
            raise
        await self._client.note(receipt, data)
        _warn_of(self._client, self.job.calls.target, receipt)
        return receipt

    async def _published(self) -> None:
        self._ended = self._over = True
        await self.mode.close()
        if self.resumption is not None:
            await blocking(self.resumption.journal.remove)

    async def discard(
        self, reason: BaseException | None = None, *, at_exit: bool = False
    ) -> None:
        """Discard the upload: publish nothing, and remove the parts that were sent.

        Idempotent; no effect after ``finish`` or in a forked child. A running
        ``finish`` is cancelled. Parts are kept if the owner initiated the upload, or if
        a journal lets a later process resume it. *reason* is the error that ended the
        upload; it is logged, and gets a note if parts are kept.

        If *reason* is an interrupt, or the process ends (*at_exit*), the wait for
        requests in flight takes at most 3 seconds. The abort also takes at most 3
        seconds, and is not retried. A cancellation has the same effect; a second one
        ends the wait at once.
        """
        if at_exit or not isinstance(reason, Exception | None):
            self._hurry()
        if os.getpid() != self._pid:
            return
        if self._ended:
            if self._discarding is not None and not self._discarding.done():
                await asyncio.wait((self._discarding,))
            return
        if self._finishing is None:  # a running ``finish`` knows more
            self._set_cancelled()
        if reason is not None:
            # This is no warning, because the caller gets the exception. The record
            # contains only text, because a record with the exception would keep its
            # frames and data alive. It may be an exception of the program.
            why = redact(str(reason))
            _log.info("the upload of %s was discarded: %s", self.path, why)
        self._ended = True
        self._discarding = running().spawn(self._discard(reason))
        try:
            await asyncio.wait((self._discarding,))
        except asyncio.CancelledError:
            if not self._is_short:
                self._hurry()
                await asyncio.wait((self._discarding,))
            raise
        self._discarding.result()

    def _hurry(self) -> None:
        self._is_short = True
        if self._abort_limit is not None:
            self._abort_limit.reschedule(_soon())

    async def _discard(self, reason: BaseException | None) -> None:
        try:
            if (finishing := self._finishing) is not None:
                finishing.cancel()
                await self._wait_for((finishing,))
                if finishing.done():
                    self._set_cancelled()
            if isinstance(self.mode, Multipart):
                self.mode.cancel()
                tasks = [*self.mode.in_flight]
                # A finished task may belong to an engine that has ended.
                if self._beginning is not None and not self._beginning.done():
                    tasks.append(self._beginning)
                await self._wait_for(tasks)
                await self._abort(self.mode, reason)
            await self.mode.close()
        finally:
            self._over = True

    async def _abort(self, mode: Multipart, reason: BaseException | None) -> None:
        short = self._is_short
        self._abort_limit = asyncio.timeout_at(_soon() if short else None)
        with suppress(TimeoutError):  # the log names what is left
            async with self._abort_limit:
                await mode.discard(reason, once=short)
        self._abort_limit = None

    async def _wait_for(self, tasks: Collection[asyncio.Task[Any]]) -> None:
        waited = 0.0
        while tasks and waited < (SHORT if self._is_short else _DISCARD_TIMEOUT):
            _, tasks = await asyncio.wait(tasks, timeout=_POLL_INTERVAL)
            waited += _POLL_INTERVAL

    def stop(self) -> None:
        """Begin to discard the upload within a few seconds, because the process ends."""
        in_background(lambda: self.discard(at_exit=True))

    @property
    def memory_limit(self) -> int:
        """Bytes of part buffers above which parts are sent one by one."""
        return self._client.options.max_memory

    @property
    def is_over(self) -> bool:
        """True if the upload is stored, discarded, or belongs to another process."""
        return self._over or os.getpid() != self._pid

    def abandon(self) -> None:
        """Begin to discard the upload, and do not wait; a finalizer may call it."""
        if not self._ended and os.getpid() == self._pid:
            in_background(self.discard)

    async def _choose_mode(self, single: SinglePut, first_of: int | None) -> None:
        # *first_of* is the size of the first of several bodies; None if there may be
        # only one.
        if not (self.plan.multipart or single.bodies or first_of):
            return
        if self.plan.spools or not await self._begin_multipart(first_of):
            self.mode = SpooledPut(self.job)
        if single.bodies:
            body, single.body = single.body, EMPTY
            await self.mode.add(body)

    async def _begin_multipart(self, first_of: int | None) -> bool:
        """Initiate the multipart upload; return False if only a single request is granted.

        Raises NotCoveredError if a single request cannot store the object either.
        """
        single, multipart = self.mode, Multipart(self.job, self.resumption)
        self.mode = multipart  # raises before there is anything to abort
        abort_at_exit.add(self)
        try:
            self._beginning = running().spawn(self._begin_or_discard(multipart))
            # The upload ID must not be lost, so a cancellation waits for the reply.
            await unharmed(self._beginning)
            await self._check_part_size(first_of or self.plan.part_size)
            self._check_alive()
        except NotCoveredError:
            self.mode = single
            if self.plan.multipart:
                raise
            return False
        return True

    async def _begin_or_discard(self, multipart: Multipart) -> None:
        await multipart.begin(lambda: self._ended)
        if self._over:  # the upload was discarded meanwhile
            await multipart.discard(None, once=True)

    async def _check_part_size(self, size: int) -> None:
        # After the first signed URL, it is known whether the store requires larger
        # parts.
        parts = (await granted(self._client, self.path)).multipart
        if parts is not None:
            self.plan = evolve(self.plan, min_part=parts.min_part)
            if size < parts.min_part:
                msg = too_small(size, parts.min_part)
                raise _SmallPartsError(msg, path=self.path)

    def _set_cancelled(self) -> None:
        text = f"the upload of {self.path} was cancelled"
        self._set_failure(UploadDiscardedError(text, path=self.path))

    def _set_failure(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = as_failure(error, self.path)

    def _check_alive(self) -> None:
        if os.getpid() != self._pid:
            msg = "a forked process cannot continue an upload of its parent"
            raise UploadDiscardedError(msg, path=self.path)
        if self.failure is not None:
            raise self.failure
        if self._ended:
            raise UploadDiscardedError("the upload has already ended", path=self.path)
