"""Upload: stores bytes as one object.

Files, values, streams and sync all use :class:`Upload`: ``add`` bodies, then ``finish``
or ``discard``. One body is sent as one PutObject. Several bodies are the parts of a
multipart upload, sent in the background (``upload_modes``). After the first failure,
nothing more is sent, and the upload is never completed.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import evolve

from ..client.client import Client
from ..client.link_estimate import Link
from ..client.small_request import FirstTry, Steps
from ..client.written_objects import BODY_CAP
from ..concurrency import abort_at_exit
from ..concurrency.cancellation import Cancellation
from ..concurrency.job_runner import run_steps
from ..errors import (
    CallbackFailedWarning,
    ConfigurationError,
    ExclusiveNotEnforcedError,
    NotSignedError,
    UploadDiscardedError,
)
from ..http.body import (
    EMPTY,
    Body,
    CopiedBody,
    MemoryBody,
    PartBody,
    Source,
    bytes_in,
)
from ..http.exchange import Exchange
from ..model import Receipt, split_path
from ..options.object_options import Target
from ..signers.base import MultipartGrant, without_waiting
from ..tracebacks import warn_user
from .plan import UploadPlan, check_plan, granted, plan_for, refuse_expired, too_small
from .receipt_builder import ReceiptBuilder
from .steps import UploadSteps
from .upload_modes import (
    FirstFailure,
    Multipart,
    NoCheckpoint,
    SinglePut,
    SpooledPut,
    UploadJob,
)

if TYPE_CHECKING:
    from ..signers.batching import Prefetcher

_log = logging.getLogger(__name__)

# Seconds that a discard waits for parts in flight before it aborts the upload.
_PATIENCE, _HURRIED_PATIENCE = 30.0, 3.0
_GLANCE = 0.05


def upload_source(
    client: Client,
    target: Target,
    source: Source,
    *,
    ahead: Prefetcher | None = None,
    progress: Callable[[int], None] | None = None,
    cancel: Cancellation | None = None,
) -> Receipt:
    """Store *source* under *target* and return the receipt.

    The upload is atomic: afterwards the object is either unchanged or exactly *source*.
    It takes one request, or two requests more than the number of parts. With a
    checkpoint, the upload of a local file in parts is resumed from an earlier process.

    *progress* is called with numbers of sent bytes; a negative number subtracts the
    bytes of a failed try. Another thread can set *cancel* to stop the upload.

    Raises:
        ConfigurationError, NotSignedError: the grant does not permit this upload;
            nothing was sent.
        CheckpointInUseError: another process runs this upload.
        OSSPresignedError: the source changed while it was read, or could not be stored.
    """
    how = {"ahead": ahead, "progress": progress, "cancel": cancel}
    return run_steps(upload_steps(client, target, source, **how))


def upload_steps(
    client: Client, target: Target, source: Source, **how: Any
) -> Steps[Receipt]:
    """Do ``upload_source`` as a generator that yields where it would wait.

    *how* are the keyword arguments of ``upload_source``.
    """
    try:
        return (yield from _upload(client, target, source, **how))
    except _SmallPartsError:  # the client knows the limit by now
        again = {**how, "ahead": None}
        return (yield from _upload(client, target, source, **again))


class _SmallPartsError(ConfigurationError):
    """Raised if a signed URL is for an S3 store, which requires larger parts."""


def _upload(
    client: Client,
    target: Target,
    source: Source,
    cancel: Cancellation | None = None,
    **how: Any,
) -> Steps[Receipt]:
    size = source.size
    upload = Upload(client, target, size=size, at_hand=True, cancel=cancel, **how)
    try:
        if upload.plan.multipart or client.checkpoint is not None:
            yield None
        if client.checkpoint is not None:
            from .resume import resumption_of  # noqa: PLC0415 - loads checkpoint

            upload.resumption = resumption_of(
                client, target, source, upload.plan, upload.granted, cancel
            )
        upload.add_source(source)
        return upload.finish((yield upload.mode.request()))
    except BaseException as error:
        upload.discard(None if isinstance(error, _SmallPartsError) else error)
        raise
    finally:
        upload.resumption.release()


def _link(client: Client, target: Target) -> Link | None:
    return client.links[split_path(target.path)[0]].link


def _small(body: Body, size: int) -> bytes | None:
    """Return the bytes of a stored body that is kept in memory; None if it is large."""
    if body.size != size or size > BODY_CAP:
        return None
    if isinstance(body, CopiedBody):
        return body.copy()
    return bytes_in(body) if isinstance(body, MemoryBody | PartBody) else None


class Upload:
    """Upload of one object. Call ``add`` and ``finish`` from one thread at a time.

    Args:
        size: total size in bytes; None for a stream.
        at_hand: whether the bodies need no buffer, because they are read from a file.
        progress: called with the bytes sent, from several threads.

    Attributes:
        failure: the first failure, of this thread or of any part.
        mode: the way the object is sent; one PutObject until the plan requires parts.
        resumption: parts that an earlier process stored.
        patience: seconds that ``discard`` waits for parts in flight.

    Raises like ``plan_for`` and ``check_plan``.
    """

    def __init__(
        self,
        client: Client,
        target: Target,
        *,
        size: int | None = None,
        at_hand: bool = False,
        ahead: Prefetcher | None = None,
        progress: Callable[[int], None] | None = None,
        cancel: Cancellation | None = None,
    ) -> None:
        # A form of known size is judged where it is signed, so its grant can come later.
        signer = without_waiting(client.signer) if at_hand else None
        grant = granted(client, target.path, signer)
        refuse_expired(grant, target.path)
        options = client.options
        # Large parts are lost with the process that sends them, so not with a journal.
        large_parts = at_hand and client.checkpoint is None
        self.plan: UploadPlan = plan_for(
            grant,
            options,
            size,
            path=target.path,
            large_parts=large_parts,
            link=_link(client, target) if large_parts else None,
        )
        check_plan(options, client.signer, target, grant, self.plan, size)
        self._client, self.path = client, target.path
        self.granted = grant.multipart or MultipartGrant()
        self.resumption = NoCheckpoint()
        self.receipt: Receipt | None = None
        self.patience = _PATIENCE
        self.failure = FirstFailure(target.path, Cancellation(cancel))
        exchange = Exchange(
            path=target.path,
            cancel=self.failure.cancel,
            progress=progress,
            with_crc=target.checksum != "none",
        )
        self._job = UploadJob(
            steps=UploadSteps(client, target, exchange),
            plan=self.plan,
            granted=self.granted,
            size=size,
            expires_at=grant.expires_at,
            ahead=ahead,
            receipt=ReceiptBuilder(target, self.plan.max_parts),
            failure=self.failure,
        )
        self.mode: SinglePut | Multipart = SinglePut(self._job)
        self._ended = self._over = False
        self._beginner = 0  # the thread that begins a multipart upload
        self._pid = os.getpid()

    def add(self, body: Body, *, more: bool = False) -> None:
        """Add the next bytes of the object; waits while too many parts are in flight.

        *more* means that other bytes follow, so *body* is sent as a part at once.
        *body* must not change until ``finish`` or ``discard`` returns, and must have
        the size of the plan unless it is the last. Raises the first failure of any
        part, and TooLargeError if the granted requests cannot hold all bytes.
        """
        self._check_alive()
        try:
            if type(self.mode) is SinglePut:
                self._choose_mode(self.mode, body.size if more else None)
            self.mode.add(body)
        except BaseException as error:
            self.failure.keep(error)
            raise

    def add_source(self, source: Source) -> None:
        """Add all bytes of *source*, and wait until its parts are stored.

        Raises like ``add``, and SourceChangedError if *source* changed while it was
        read.
        """
        if not self.plan.multipart:  # one body proves itself while it is sent
            is_small = not isinstance(source, MemoryBody) and source.size <= BODY_CAP
            self.add(CopiedBody(source) if is_small else source)
            return
        step = self.plan.part_size
        for offset in range(0, max(source.size, 1), step):
            self.add(source.part(offset, min(step, source.size - offset)))
        self.wait_for_parts()
        source.check()

    def wait_for_parts(self) -> None:
        """Wait until no part is in flight; raise the first failure of any part."""
        self.mode.wait()
        self._check_alive()

    def wait_for_memory(self, may: Callable[[], bool]) -> None:
        """Wait until *may* returns True or no part is in flight; raises like ``add``."""
        self._check_alive()
        self.mode.wait_for_memory(may)
        self._check_alive()

    def finish(self, first: FirstTry | None = None) -> Receipt:
        """Publish the object and return its receipt.

        *first* is the first try of a small PutObject that was made elsewhere; None
        sends the request here.

        Raises:
            OutcomeUnknownError: the last reply was lost, and no granted call can check
                whether the object is stored.
            ReceiptFailedError: the object is stored, but ``receipts=`` failed.
            OSSPresignedError: the object was not stored, or its bytes differ.
        """
        self._check_alive()
        try:
            if self.plan.multipart and type(self.mode) is SinglePut:
                self.add(EMPTY)
            if isinstance(self.mode, Multipart):
                self.wait_for_parts()
            receipt, body = self.mode.publish(first), self.mode.body
        except BaseException as error:
            if isinstance(error, ExclusiveNotEnforcedError):  # published all the same
                self._end()
                self._over = True
                self.resumption.remove()
            self.failure.keep(error)
            raise
        self.receipt = receipt
        self._end()
        self._over = True
        self.resumption.remove()
        self._client.note(receipt, _small(body, receipt.size))
        if receipt.version_id and self._job.steps.target.keeps_hidden:
            self._client.warn_of_replacing(
                receipt.path, "has no effect in a bucket that keeps versions"
            )
        if receipt.status == "callback_failed":
            text = f"{receipt.path} is stored, but its callback failed"
            warn_user(text, CallbackFailedWarning)
        return receipt

    commit = finish  # as a transaction calls it

    def discard(
        self, reason: BaseException | None = None, *, hurry: bool = False
    ) -> None:
        """Discard the upload: publish nothing, and remove the parts that were sent.

        Idempotent, and without effect after ``finish`` or in a forked child. Parts are
        kept if the owner began the upload, or with a checkpoint. *reason* is the logged
        cause. *hurry* is for a process that ends: it limits the wait for parts to
        3 seconds, and the abort is not retried.
        """
        if self._ended or os.getpid() != self._pid:
            return
        text = f"the upload of {self.path} was cancelled"
        self.failure.keep(UploadDiscardedError(text, path=self.path))
        if reason is not None:
            # The caller gets it raised: a second time on the screen is no news.
            # As text: a record that keeps the exception keeps its frames, and the data.
            _log.info("%s: %s", text, str(reason))
        self._end()
        try:
            patience = _HURRIED_PATIENCE if hurry else self.patience
            self._wait_for_beginner(patience)
            if isinstance(self.mode, Multipart):
                self.mode.wait(patience)
        finally:  # an interrupt ends the wait, and leaves no parts either
            if isinstance(self.mode, Multipart):
                self.mode.discard(reason, once=hurry)
            self._over = True

    def _wait_for_beginner(self, seconds: float) -> None:
        limit = time.monotonic() + seconds
        while self._is_begun_elsewhere and time.monotonic() < limit:
            time.sleep(_GLANCE)

    @property
    def _is_begun_elsewhere(self) -> bool:
        return self._beginner not in (0, threading.get_ident())

    @property
    def memory_limit(self) -> int:
        """Bytes of part buffers above which parts are sent one by one."""
        return self._client.options.most_memory

    def early_size(self, number: int) -> int | None:
        """Return the smallest size of part *number*, like ``UploadPlan.early_size``."""
        return self.plan.early_size(number)

    @property
    def is_over(self) -> bool:
        """True if the upload is stored, discarded, or belongs to another process."""
        return self._over or os.getpid() != self._pid

    def stop(self) -> None:
        """Stop sending, from any thread; a later ``discard`` waits only briefly."""
        if os.getpid() == self._pid:
            self.failure.cancel.set()

    def abandon(self) -> None:
        """Discard the upload from a finalizer, in a background thread."""
        if not self._ended and os.getpid() == self._pid:
            self._client.files.queue(self.discard)

    def _choose_mode(self, single: SinglePut, first_of: int | None) -> None:
        """Change from a single PutObject to parts if another body is added.

        *first_of* is the size of the first of several bodies; None if this is not known.
        """
        if not (self.plan.multipart or single.bodies or first_of):
            return
        if self.plan.spools or not self._begin_multipart(first_of):
            self.mode = SpooledPut(self._job)
        if single.bodies:
            body = single.body
            single.close()
            self.mode.add(body)

    def _begin_multipart(self, first_of: int | None) -> bool:
        """Begin the multipart upload; return False if that failed."""
        single, multipart = self.mode, Multipart(self._job, self.resumption)
        self.mode = multipart  # before there is anything to abort
        abort_at_exit.add(self)
        try:
            self._beginner = threading.get_ident()
            multipart.begin()
            self._check_part_size(first_of or self.plan.part_size)
            if self._ended:  # by SIGTERM, when there was nothing to abort
                multipart.discard(None, once=True)
                self._check_alive()
        except NotSignedError:
            self.mode = single
            if self.plan.multipart:
                raise
            return False
        finally:
            self._beginner = 0
        return True

    def _check_part_size(self, size: int) -> None:
        """Raise an error if the store of the first signed URL requires larger parts.

        *size* is the number of bytes of the first part.
        """
        parts = granted(self._client, self.path).multipart
        if parts is not None:
            self.plan = evolve(self.plan, least_part=parts.least_part)
            if size < parts.least_part:
                msg = too_small(size, parts.least_part)
                raise _SmallPartsError(msg, path=self.path)

    def _check_alive(self) -> None:
        if os.getpid() != self._pid:
            msg = "a forked process cannot continue an upload of its parent"
            raise UploadDiscardedError(msg, path=self.path)
        if self.failure.error is not None:
            raise self.failure.error
        if self.failure.cancel.is_set() or self._ended:
            raise UploadDiscardedError("the upload has already ended", path=self.path)

    def _end(self) -> None:
        self._ended = True
        self.mode.close()
